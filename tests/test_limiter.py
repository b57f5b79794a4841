"""The limiter: requests keep their order and exact times, and a cancellation loses no admission."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest
from attrs import define, field

from bandwidth_async.errors import (
    BandwidthError,
    ClientStateError,
    ConfigurationError,
    DeadlineExceededError,
    RateLimitError,
    UnavailableError,
)
from bandwidth_async.limiter.events import LimiterSnapshot, PaceEvent, Paused, RateChanged, Unavailable
from bandwidth_async.limiter.knowledge import Knowledge
from bandwidth_async.limiter.limiter import Admission, Limiter
from bandwidth_async.limiter.pace import RateLimit
from bandwidth_async.limiter.refusal import Refusal

HINT_JITTER = 0.02  # seconds at most, added to a hint
TICK = 1e-5  # seconds within which two moments of virtual time are the same

virtual_time = pytest.mark.looptime(noop_cycles=5)


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


def about(moment: float) -> Any:
    """Return a value that equals any number near ``moment``."""
    return pytest.approx(moment, abs=TICK)


def limiter_of(rate: float | None = None, burst: int = 1) -> Limiter:
    """Return a limiter with a fixed random generator."""
    return Limiter(RateLimit(rate, burst) if rate else None, Random(7))


@define
class FakePace:
    """A pace with set values, which checks that the limiter follows the protocol."""

    rate: float = 10.0
    quota: float | None = None
    paused_until: float = -math.inf
    pause_hinted: bool = False
    due: float = -math.inf
    asked: int = 0
    out: set[int] = field(factory=set)
    settled: list[tuple[str, int]] = field(factory=list)
    sent: int = 0
    knowledge: None = None

    def next_time(self, now: float, in_flight: int) -> float:
        """Return the time that was set."""
        self.asked += 1
        assert in_flight == len(self.out)
        return max(self.due, self.paused_until)

    def earliest(self, ahead: int) -> float:
        """Promise nothing."""
        return -math.inf

    def on_send(self, now: float, in_flight: int) -> int:
        """Return the next serial, and space the requests evenly."""
        assert self.next_time(now, in_flight) <= now
        self.sent += 1
        self.out.add(self.sent)
        self.due = max(self.due, now) + 1 / self.rate
        return self.sent

    def on_unsent(self, serial: int) -> None:
        """Make the next request due sooner."""
        self._settle("unsent", serial)
        self.due -= 1 / self.rate

    def on_accepted(self, serial: int, now: float, *, wanted: bool) -> None:
        """Record the result."""
        self._settle("accepted, others wait" if wanted else "accepted", serial)

    def on_refused(self, serial: int, now: float, refusal: Refusal) -> float:
        """Pause for the hint."""
        self._settle("refused", serial)
        self.paused_until = max(self.paused_until, now + (refusal.hint or 0.1))
        self.pause_hinted = refusal.hint is not None
        return 0.0

    def resume(self, now: float, rate: float) -> None:
        """Set the rate."""
        self.rate = rate

    def on_lost(self, serial: int, now: float) -> None:
        """Record the result."""
        self._settle("lost", serial)

    def _settle(self, how: str, serial: int) -> None:
        self.out.remove(serial)  # raises a KeyError if it was settled before
        self.settled.append((how, serial))


def limiter_with(pace: FakePace, **settings: Any) -> Limiter:
    """Return a limiter that uses ``pace`` instead of the pace of a `RateLimit`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bandwidth_async.limiter.limiter.pace_for", lambda _: pace)
        return Limiter(**settings)


class Queue:
    """Tasks that wait at one limiter, and when each was admitted or rejected."""

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        self.admitted: dict[str, float] = {}
        self.rejected: dict[str, tuple[float, BandwidthError]] = {}
        self.admissions: list[Admission] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.on_admission: Callable[[str], None] = lambda _: None

    async def join(self, *names: str, **how: Any) -> None:
        """Start a task for each name, and return when all wait."""
        for name in names:
            self.tasks[name] = asyncio.create_task(self._wait(name, **how))
        await asyncio.sleep(0)

    async def _wait(self, name: str, **how: Any) -> None:
        try:
            admission = await self.limiter.admit(**how)
        except BandwidthError as error:
            self.rejected[name] = now(), error
            return
        self.admitted[name] = now()
        self.admissions.append(admission)
        self.on_admission(name)

    async def finish(self) -> None:
        """Wait until all are admitted, rejected or cancelled."""
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        assert not [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]

    @property
    def order(self) -> list[str]:
        """The names that were admitted, in order."""
        return list(self.admitted)


def evenly(count: int, rate: float, burst: int = 1) -> list[float]:
    """Return when ``count`` requests that arrive together at 0 are admitted."""
    return [max(0.0, (number + 1 - burst) / rate) for number in range(count)]


@virtual_time
async def test_first_come_first_served() -> None:
    """Requests are admitted in the order of arrival."""
    queue = Queue(limiter_of(10))
    names = [f"w{number}" for number in range(20)]
    await queue.join(*names)
    await queue.finish()
    assert queue.order == names


@virtual_time
async def test_a_rate_is_held_exactly_over_a_thousand_grants() -> None:
    """The n-th request is sent at n / rate, without a drift."""
    queue = Queue(limiter_of(50))
    await queue.join(*map(str, range(1000)))
    await queue.finish()
    assert list(queue.admitted.values()) == pytest.approx(evenly(1000, 50), abs=TICK)


@virtual_time
async def test_a_burst_leaves_at_once_and_then_the_rate_holds() -> None:
    """After a pause ``burst`` requests are sent at once, and no more."""
    queue = Queue(limiter_of(10, burst=5))
    await queue.join(*map(str, range(12)))
    await queue.finish()
    assert list(queue.admitted.values()) == pytest.approx(evenly(12, 10, burst=5), abs=TICK)
    assert list(queue.admitted.values()).count(0.0) == 5


@virtual_time
async def test_requests_slower_than_the_rate_do_not_wait() -> None:
    """Requests that come more slowly than the rate are sent at once."""
    limiter = limiter_of(10)
    for _ in range(20):
        before = now()
        await limiter.admit()
        assert now() == before
        await asyncio.sleep(0.11)


@virtual_time
async def test_a_new_request_goes_behind_those_that_wait() -> None:
    """A new request waits behind the others, even if a request is due when it arrives."""
    queue = Queue(limiter_of(10))
    await queue.join("first", "second", "third")
    await asyncio.sleep(0.2)
    await queue.join("late")
    await queue.finish()
    assert queue.order == ["first", "second", "third", "late"]


@virtual_time
async def test_a_refused_request_keeps_its_place() -> None:
    """It goes before all requests that were never refused. Refused ones keep their order of arrival."""
    limiter = limiter_of(10)
    first, second = await limiter.admit(), await limiter.admit(bulk=True)
    queue = Queue(limiter)
    await queue.join("a", "b", "c", "d")
    await queue.join("back2", place=second.place)
    await queue.join("back1", place=first.place)
    await queue.finish()
    assert queue.order == ["back1", "back2", "a", "b", "c", "d"]


@virtual_time
async def test_a_refusal_pauses_all_until_the_hint_has_passed() -> None:
    """A 429 concerns the account: no request is sent before its time. Then the rate holds again."""
    limiter = limiter_of(10)
    (await limiter.admit()).refused(30.0)
    queue = Queue(limiter)
    await queue.join(*"abcde")
    await asyncio.sleep(1)
    await queue.join(*"fg")
    await queue.finish()
    moments = list(queue.admitted.values())
    assert queue.order == list("abcdefg")
    assert 30.0 <= moments[0] <= 30.0 + HINT_JITTER + TICK
    assert [moment - moments[0] for moment in moments] == pytest.approx(evenly(7, 10), abs=TICK)


@virtual_time
async def test_a_refusal_also_pauses_requests_that_wait_already() -> None:
    """A timer that was set before the refusal admits nothing after it."""
    limiter = limiter_of(10)
    admission = await limiter.admit()
    queue = Queue(limiter)
    await queue.join(*"abc")
    await asyncio.sleep(0.05)
    admission.refused(5.0)
    await queue.finish()
    assert min(queue.admitted.values()) >= 5.05


@virtual_time
async def test_a_hint_is_jittered_so_that_processes_do_not_come_back_in_step() -> None:
    """Two limiters with the same hint resume at different moments, both after it."""
    moments = []
    for seed in (1, 2):
        limiter = Limiter(RateLimit(10), Random(seed))
        started = now()
        (await limiter.admit()).refused(2.0)
        await limiter.admit()
        moments.append(now() - started)
    assert moments[0] != moments[1]
    assert all(2.0 <= moment <= 2.0 + HINT_JITTER + TICK for moment in moments)


@virtual_time
async def test_without_a_hint_the_pause_is_short() -> None:
    """A refusal without a hint pauses for a tenth of a second at first."""
    limiter = limiter_of(1000)
    (await limiter.admit()).refused(None)
    await limiter.admit()
    assert now() == pytest.approx(0.1, abs=TICK)


@pytest.mark.parametrize("queued", [False, True])
@virtual_time
async def test_a_request_that_cannot_wait_that_long_fails_at_once(queued: bool) -> None:
    """It fails at once if its deadline or patience is shorter than the pause, in the queue too."""
    limiter = limiter_of(10)
    admission = await limiter.admit()
    queue = Queue(limiter)

    async def all_join() -> None:
        await queue.join("hurried", deadline=5.0)
        await queue.join("impatient", patience=20.0)
        await queue.join("back in a hurry", place=admission.place, deadline=29.9)
        await queue.join("patient", deadline=31.0, patience=31.0)
        await queue.join("endless")

    if queued:
        await all_join()
        admission.refused(30.0)
    else:
        admission.refused(30.0)
        await all_join()
    await queue.finish()
    told = {name: (moment, type(error)) for name, (moment, error) in queue.rejected.items()}
    assert told == {
        "hurried": (0.0, DeadlineExceededError),
        "impatient": (0.0, RateLimitError),
        "back in a hurry": (0.0, DeadlineExceededError),
    }
    for _, error in queue.rejected.values():
        assert error.retry_after == pytest.approx(30.0, abs=HINT_JITTER)
    assert queue.order == ["patient", "endless"]


@virtual_time
async def test_the_error_of_the_impatient_is_one_of_429() -> None:
    """The caller can handle it like a 429 from the server."""
    limiter = limiter_of(10)
    (await limiter.admit()).refused(3600.0)
    with pytest.raises(RateLimitError, match="longer than the 900 s") as caught:
        await limiter.admit(patience=900.0)
    assert (caught.value.status, caught.value.attempts) == (429, 0)


@virtual_time
async def test_a_longer_pause_rejects_those_that_cannot_wait_for_it() -> None:
    """A later and longer hint of the same burst rejects them too."""
    limiter = limiter_of(100)
    first, second = await limiter.admit(), await limiter.admit()
    first.refused(1.0)
    queue = Queue(limiter)
    await queue.join("a", deadline=10.0)
    assert queue.rejected == {}
    second.refused(60.0)
    await queue.finish()
    assert list(queue.rejected) == ["a"]


@virtual_time
async def test_a_request_rejected_and_cancelled_in_the_same_tick() -> None:
    """The cancellation wins, and asyncio does not report the unread error."""
    limiter = limiter_of(10)
    admission = await limiter.admit()
    queue = Queue(limiter)
    await queue.join("a", deadline=5.0)
    admission.refused(30.0)
    queue.tasks["a"].cancel()
    await queue.finish()
    assert queue.tasks["a"].cancelled()
    assert queue.rejected == {}


CANCEL_STEPS = [0.0, 0.01, 0.05, 0.096, 0.0961, 0.1, 0.15, 0.196, 0.2, 0.296, 0.396, 0.45, 0.496, 0.5]


@pytest.mark.parametrize("who", range(6))
@pytest.mark.parametrize("moment", CANCEL_STEPS)
@virtual_time
async def test_a_cancelled_waiter_leaves_no_gap(who: int, moment: float) -> None:
    """After a cancellation at any time, the others are admitted at the times of a queue without it."""
    queue = Queue(limiter_of(10))
    names = [str(number) for number in range(6)]
    await queue.join(*names)
    asyncio.get_running_loop().call_at(moment, queue.tasks[str(who)].cancel)
    await queue.finish()
    left = [name for name in names if name in queue.admitted]
    assert queue.order == left
    assert len(left) >= 5
    assert list(queue.admitted.values()) == pytest.approx(evenly(len(left), 10), abs=TICK)


@pytest.mark.parametrize("burst", [1, 2, 3, 7])
@pytest.mark.parametrize("who", range(1, 9))
@pytest.mark.parametrize("canceller", range(8))
@virtual_time
async def test_the_admission_of_a_cancelled_waiter_goes_to_the_next(
    canceller: int, who: int, burst: int
) -> None:
    """An admitted task cancels another, also one admitted in the same tick. No admission is lost."""
    queue = Queue(limiter_of(10, burst))
    names = [str(number) for number in range(9)]

    def cancel_other(name: str) -> None:
        if name == str(canceller):
            queue.tasks[str(who)].cancel()

    queue.on_admission = cancel_other
    await queue.join(*names)
    await queue.finish()
    expected = [name for name in names if name != str(who) or who <= canceller]
    assert queue.order == expected
    times = evenly(len(expected), 10, burst)
    assert list(queue.admitted.values()) == pytest.approx(times, abs=TICK)


@virtual_time
async def test_the_timer_outlives_the_waiter_it_was_set_for() -> None:
    """If all waiting requests are cancelled, later requests are still admitted."""
    queue = Queue(limiter_of(1))
    await queue.join("in", "x", "y")
    for name in "xy":
        queue.tasks[name].cancel()
    await asyncio.sleep(0.5)
    await queue.join("late")
    await queue.finish()
    assert queue.admitted == {"in": 0.0, "late": pytest.approx(1.0, abs=TICK)}


@virtual_time
async def test_all_are_cancelled_at_once() -> None:
    """The limiter still works after a whole queue was cancelled."""
    queue = Queue(limiter_of(1))
    await queue.join(*map(str, range(50)))
    for task in queue.tasks.values():
        task.cancel()
    await queue.finish()
    await queue.limiter.admit()
    assert now() == pytest.approx(1.0, abs=TICK)


@virtual_time
async def test_ten_thousand_waiters() -> None:
    """A long queue is served in order and on time. A pause rejects at once those that cannot wait."""
    limiter = limiter_of(20_000, burst=2000)
    queue = Queue(limiter)
    names = [str(number) for number in range(10_000)]
    await queue.join(*names[:5000], deadline=1000.0)
    await queue.join(*names[5000:])
    await asyncio.sleep(0.1)
    assert len(queue.admitted) < 5000
    queue.admissions[-1].refused(2000.0)
    await queue.finish()
    assert len(queue.admitted) + len(queue.rejected) == 10_000
    assert {moment for moment, _ in queue.rejected.values()} == {0.1}
    assert queue.order == [name for name in names if name not in queue.rejected]
    assert max(queue.admitted.values()) < 2001.0


@virtual_time
async def test_a_request_without_a_result_changes_nothing() -> None:
    """It changes neither rate nor pause, but it counts as in flight until it ends."""
    limiter = limiter_of()
    before = limiter.rate
    with await limiter.admit() as admission:
        admission.sending()
        assert limiter.snapshot().in_flight == 1
    assert limiter.snapshot().in_flight == 0
    assert limiter.rate == before
    await asyncio.sleep(1)
    await limiter.admit()
    assert now() == 1.0


@pytest.mark.parametrize(("silence", "opens"), [(0.2, False), (0.4, True)])
@virtual_time
async def test_requests_that_are_given_up(silence: float, opens: bool) -> None:
    """After a longer silence than usual they are failures. Given up sooner, they say nothing."""
    limiter = limiter_of(1000)
    for _ in range(25):
        with await limiter.admit(bulk=True) as admission:
            admission.sending()
            await asyncio.sleep(silence)
        if limiter.breaker.is_open:
            break
    assert limiter.breaker.is_open == opens


@virtual_time
async def test_what_is_a_long_silence_depends_on_the_responses() -> None:
    """A server that usually takes 2 s does not fail when callers give up after one."""
    limiter = limiter_of(1000)
    for number in range(50):
        with await limiter.admit() as admission:
            admission.sending()
            await asyncio.sleep(1.0 if number else 2.0)
            if not number:
                admission.accepted()
    assert limiter.breaker.in_a_row == 0


@virtual_time
async def test_a_request_without_time_for_its_response_is_not_sent() -> None:
    """It is told at its turn, with nothing sent, and the next one is sent in its place."""
    limiter = limiter_of(1)
    with await limiter.admit() as admission:
        admission.sending()
        await asyncio.sleep(0.2)
        admission.accepted()
    queue = Queue(limiter)
    await queue.join("hurried", deadline=1.2)
    await queue.join("patient", deadline=3.0)
    await queue.finish()
    assert queue.admitted == {"patient": about(1)}
    moment, error = queue.rejected["hurried"]
    assert moment == about(1)
    assert isinstance(error, DeadlineExceededError)
    assert (error.attempts, error.ambiguous) == (0, False)


@virtual_time
async def test_an_error_inside_ends_the_flight() -> None:
    """A connection is free again however its request ends. One connection is enough for three requests."""
    limiter = Limiter(RateLimit(10), Random(1), connections=1)

    async def fail() -> None:
        with await limiter.admit() as admission:
            admission.sending()
            raise RuntimeError("lost")

    async def hang() -> None:
        with await limiter.admit() as admission:
            admission.sending()
            await asyncio.sleep(math.inf)

    ways: list[Coroutine[Any, Any, None]] = [fail(), asyncio.wait_for(hang(), 1.0)]
    results = await asyncio.gather(*ways, return_exceptions=True)
    assert [type(result) for result in results] == [RuntimeError, TimeoutError]
    assert limiter.snapshot().in_flight == 0
    with await limiter.admit() as admission:
        admission.sending()
        assert limiter.snapshot().in_flight == 1


@virtual_time
async def test_more_requests_than_connections_wait_at_the_limiter() -> None:
    """They do not wait in aiohttp's pool, where the timeout of the attempt would already run."""
    limiter, loop = Limiter(RateLimit(1000), Random(1), connections=2), asyncio.get_running_loop()

    async def request() -> float:
        with await limiter.admit() as admission:
            admission.sending()
            admitted_at = loop.time()
            await asyncio.sleep(1.0)
            return admitted_at

    moments = await asyncio.gather(*(request() for _ in range(6)))
    assert [int(moment) for moment in moments] == [0, 0, 1, 1, 2, 2]


@virtual_time
async def test_an_admission_that_is_not_used_goes_to_the_next() -> None:
    """An admitted request that is not sent costs the others nothing."""
    limiter, loop = limiter_of(1), asyncio.get_running_loop()

    async def request(*, sends: bool) -> float:
        with await limiter.admit() as admission:
            if sends:
                admission.sending()
            return loop.time()

    moments = await asyncio.gather(*(request(sends=number % 5 == 0) for number in range(11)))
    assert moments[::5] == pytest.approx([0.0, 1.0, 2.0], abs=TICK)


@virtual_time
async def test_a_request_due_after_its_deadline_fails_at_once() -> None:
    """With a fixed rate, the limiter knows from the place in the queue when a request is due."""
    limiter, loop = limiter_of(1), asyncio.get_running_loop()
    crowd = [asyncio.create_task(limiter.admit()) for _ in range(20)]
    await asyncio.sleep(0)
    with pytest.raises(DeadlineExceededError, match="with 19 requests ahead of it"):
        await limiter.admit(deadline=loop.time() + 10.0)
    assert loop.time() < 0.1
    await asyncio.gather(*crowd)


@virtual_time
async def test_the_longest_allowed_hint_is_obeyed() -> None:
    """The jitter does not make an allowed hint too long."""
    limiter = limiter_of(10)
    with await limiter.admit() as admission:
        admission.sending()
        admission.refused(900.0)
    with await limiter.admit(patience=900.0) as admission:
        admission.sending()
    assert asyncio.get_running_loop().time() == pytest.approx(900.0, abs=0.03)


# Two classes


@virtual_time
async def test_single_calls_go_first_and_runs_have_their_share() -> None:
    """While both wait, three interactive requests go before each bulk one. Alone, each has the whole rate."""
    queue = Queue(limiter_of(10))
    await queue.join(*(f"b{number}" for number in range(5)), bulk=True)
    await queue.join(*(f"i{number}" for number in range(8)))
    await queue.finish()
    assert " ".join(queue.order) == "b0 i0 i1 i2 b1 i3 i4 i5 b2 i6 i7 b3 b4"


@virtual_time
async def test_a_steady_stream_of_single_calls_does_not_starve_a_run() -> None:
    """If interactive requests come at twice the rate, the run still gets one of four admissions."""
    queue = Queue(limiter_of(10))
    await queue.join(*(f"b{number}" for number in range(100)), bulk=True)
    for number in range(200):
        await queue.join(f"i{number}")
        await asyncio.sleep(0.05)
    first = queue.order[:100]
    shares = [sum(name.startswith("b") for name in first[at : at + 4]) for at in range(4, 96, 4)]
    assert shares == [1] * 23
    for task in queue.tasks.values():
        task.cancel()
    await queue.finish()


@virtual_time
async def test_a_single_call_overtakes_ten_thousand() -> None:
    """It is admitted within three send intervals, whenever it comes."""
    limiter = limiter_of(50)
    run = Queue(limiter)
    await run.join(*map(str, range(10_000)), bulk=True)
    waits = []
    for number in range(50):
        await asyncio.sleep(0.1 + number / 997)
        came = now()
        await limiter.admit()
        waits.append(now() - came)
    assert max(waits) <= 3 / 50
    for task in run.tasks.values():
        task.cancel()
    await run.finish()


@virtual_time
async def test_a_refused_request_stays_in_its_class() -> None:
    """A refused request of a run is first among the runs, not among all."""
    limiter = limiter_of(10)
    refused = await limiter.admit(bulk=True)
    queue = Queue(limiter)
    await queue.join("b0", "b1", bulk=True)
    await queue.join("back", bulk=True, place=refused.place)
    await queue.join("i0", "i1")
    await queue.finish()
    assert queue.order == ["i0", "i1", "back", "b0", "b1"]


@virtual_time
async def test_ten_thousand_waiters_cost_no_more_than_ten() -> None:
    """The pace is asked a few times for each admission, however many requests wait or are cancelled."""
    asked = []
    for size in (10, 10_000):
        fake = FakePace(rate=1000.0)
        queue = Queue(limiter_with(fake))
        await queue.join(*map(str, range(size)))
        for number in range(0, size, 2):
            queue.tasks[str(number)].cancel()
        await queue.finish()
        assert fake.sent == len(queue.admitted) == size // 2 + 1
        asked.append(fake.asked / size)
    assert asked[1] <= asked[0] + 1 <= 5


# The protocol of the pace


async def one_request(limiter: Limiter, answer: str, latency: float) -> None:
    """Send a request with the result ``answer``."""
    with await limiter.admit() as admission:
        if answer == "unsent":
            return
        admission.sending()
        await asyncio.sleep(latency)
        if answer == "accepted":
            admission.accepted()
        elif answer == "refused":
            admission.refused(None)


@pytest.mark.parametrize("answer", ["accepted", "refused", "lost", "unsent"])
@virtual_time
async def test_every_request_is_settled_once(answer: str) -> None:
    """The pace gets each result once, and the request is no longer in flight."""
    fake = FakePace(rate=1000)
    limiter = limiter_with(fake)
    for serial in range(1, 4):
        await one_request(limiter, answer, 0.01)
        assert fake.settled[-1] == (answer, serial)
    assert fake.out == set()


@virtual_time
async def test_what_comes_after_the_answer_changes_nothing() -> None:
    """Only the first result counts."""
    fake = FakePace()
    with await limiter_with(fake).admit() as admission:
        admission.sending()
        admission.accepted()
        admission.refused(3.0)
        admission.accepted()
    assert fake.settled == [("accepted", 1)]


@pytest.mark.parametrize("answer", ["accepted", "refused", "lost", "unsent"])
@virtual_time
async def test_a_pace_that_waits_for_an_answer_is_asked_when_it_comes(answer: str) -> None:
    """Without a due time there is no timer, so the result of a request wakes the queue."""

    class OneAtATime(FakePace):
        def next_time(self, now: float, in_flight: int) -> float:
            return math.inf if in_flight else super().next_time(now, in_flight)

    limiter = limiter_with(OneAtATime(rate=1000))
    await asyncio.gather(one_request(limiter, answer, 2.0), *(one_request(limiter, "lost", 1) for _ in "ab"))
    assert now() == pytest.approx(
        2.0 + (0 if answer == "unsent" else 2.0) + (0.1 if answer == "refused" else 0), abs=0.01
    )


@virtual_time
async def test_a_moment_that_comes_nearer_is_kept() -> None:
    """A response that raises the rate wakes requests that wait for a later timer."""
    fake = FakePace(rate=0.01)
    queue = Queue(limiter_with(fake))
    await queue.join("a", "b")
    assert fake.due == 100.0
    await asyncio.sleep(3)
    fake.due = 5.0
    queue.admissions[0].accepted()
    await queue.finish()
    assert queue.admitted == {"a": 0.0, "b": pytest.approx(5.0, abs=TICK)}


@virtual_time
async def test_a_moment_that_goes_away_is_waited_for_in_one_sleep() -> None:
    """A timer that fires too early is set again once. No request is admitted early, and nothing spins."""
    fake = FakePace(rate=1.0)
    queue = Queue(limiter_with(fake))
    await queue.join("a", "b")
    fake.due = 1000.0
    queue.admissions[0].accepted()
    before = fake.asked
    await queue.finish()
    assert queue.admitted == {"a": 0.0, "b": pytest.approx(1000.0, abs=TICK)}
    assert fake.asked - before <= 5


@pytest.mark.parametrize("bulk", [False, True])
@pytest.mark.parametrize("answer", ["accepted", "refused", "lost", "unsent"])
@pytest.mark.parametrize("step", range(14))
@virtual_time
async def test_a_cancellation_at_every_step(step: int, answer: str, bulk: bool) -> None:
    """If one of six is cancelled after ``step`` turns of the loop, five finish and all are settled."""
    fake = FakePace(rate=1e9)
    limiter = limiter_with(fake, connections=2)
    done = []

    async def request(number: int) -> None:
        with await limiter.admit(bulk=bulk) as admission:
            await asyncio.sleep(0)
            if answer == "unsent":
                done.append(number)
                return
            admission.sending()
            await asyncio.sleep(0)
            if answer == "accepted":
                admission.accepted()
            elif answer == "refused":
                admission.refused(1e-9)
            done.append(number)
            await asyncio.sleep(0)

    for who in range(6):
        done.clear()
        tasks = [asyncio.create_task(request(number)) for number in range(6)]
        for _ in range(step):
            await asyncio.sleep(0)
        tasks[who].cancel()
        async with asyncio.timeout(10):
            await asyncio.gather(*tasks, return_exceptions=True)
        assert set(range(6)) - {who} <= set(done)
        assert fake.out == set()
        seen = limiter.snapshot()
        assert (seen.in_flight, seen.waiting_interactive, seen.waiting_bulk) == (0, 0, 0)


def test_another_event_loop() -> None:
    """The limiter raises an error, because its timer would never fire in another event loop."""
    limiter = limiter_of(10)

    async def use() -> None:
        await limiter.admit()

    asyncio.run(use())
    with pytest.raises(ClientStateError, match="another event loop"):
        asyncio.run(use())


# A server that is down


async def open_breaker(limiter: Limiter) -> None:
    """Let twenty requests of a run fail over more than half a second."""
    for number in range(20):
        await asyncio.sleep(0.03 if number else 0.0)
        with await limiter.admit(bulk=True) as admission:
            admission.sending()
            admission.failed(answered=True)
    assert limiter.breaker.is_open


either_pace = pytest.mark.parametrize("pace", [RateLimit.fixed(100), RateLimit.adaptive(start=100)])


@either_pace
@virtual_time
async def test_single_calls_fail_at_once_while_the_breaker_is_open(pace: RateLimit) -> None:
    """The error says when to try again, and no request is sent. A run waits instead."""
    limiter = Limiter(pace, Random(7))
    await open_breaker(limiter)
    queue, started = Queue(limiter), now()
    await queue.join("run", bulk=True)
    await queue.join("single")
    moment, error = queue.rejected["single"]
    assert (type(error), moment, error.attempts) == (UnavailableError, started, 0)
    assert error.retry_after is not None
    assert 0.5 <= error.retry_after <= 1.0
    assert limiter.snapshot() == LimiterSnapshot(
        rate=limiter.rate,
        quota=limiter.snapshot().quota,
        paused_for=about(error.retry_after),
        pause_reason="unavailable",
        waiting_interactive=0,
        waiting_bulk=1,
        in_flight=0,
        refusals=0,
    )
    await queue.finish()
    assert queue.admitted["run"] == about(started + error.retry_after)


@either_pace
@virtual_time
async def test_single_calls_that_wait_fail_when_the_breaker_opens(pace: RateLimit) -> None:
    """Each has an error of its own. Requests of runs stay, and listeners get an event."""
    heard: list[PaceEvent] = []
    limiter = Limiter(pace, Random(7), on_pace=heard.append, connections=20)
    admissions = []
    for _ in range(20):
        admissions.append(await limiter.admit(bulk=True))
        admissions[-1].sending()
    queue = Queue(limiter)
    await queue.join("a", "b", "c")
    await queue.join("run", bulk=True)
    for admission in admissions[:19]:
        admission.failed(answered=False)
        await asyncio.sleep(0.03)
    assert queue.rejected == {}
    admissions[19].failed(answered=False)
    at = now()
    for admission in admissions:
        admission.__exit__()
    assert limiter.breaker.is_open
    await queue.finish()
    errors = [queue.rejected[name] for name in "abc"]
    assert [moment for moment, _ in errors] == [at] * 3
    assert len({id(error) for _, error in errors}) == 3
    (pause,) = {error.retry_after for _, error in errors}
    assert pause is not None
    assert [event for event in heard if isinstance(event, Unavailable)] == [Unavailable(about(pause))]
    assert queue.order == ["run"]


@either_pace
@virtual_time
async def test_a_single_call_may_be_the_probe(pace: RateLimit) -> None:
    """After the pause one is sent as the probe. Until it succeeds, others fail and may retry in a second."""
    limiter = Limiter(pace, Random(7))
    await open_breaker(limiter)
    await asyncio.sleep(1.0)
    assert limiter.snapshot().paused_for == 0.0
    with await limiter.admit() as probe:
        probe.sending()
        with pytest.raises(UnavailableError) as caught:
            await limiter.admit()
        assert caught.value.retry_after == 1.0
        probe.accepted()
    assert not limiter.breaker.is_open
    assert limiter.snapshot().pause_reason is None
    await limiter.admit()


@virtual_time
async def test_single_calls_behind_the_probe_fail_when_it_is_sent() -> None:
    """They came between the pause and the probe. Only runs wait for its result."""
    limiter = limiter_of(100)
    late = await limiter.admit(bulk=True)
    await open_breaker(limiter)
    # This pause is longer than that of the breaker.
    late.refused(5.0)
    assert limiter.breaker.is_open
    await asyncio.sleep(2.0)
    queue = Queue(limiter)
    await queue.join("first", "second", "third")
    await queue.join("run", bulk=True)
    await asyncio.sleep(6.0)
    assert queue.order == ["first"]
    assert {name: type(error) for name, (_, error) in queue.rejected.items()} == {
        "second": UnavailableError,
        "third": UnavailableError,
    }
    queue.admissions[0].sending()
    queue.admissions[0].accepted()
    await queue.finish()
    assert queue.order == ["first", "run"]


@either_pace
@virtual_time
async def test_a_run_probes_until_the_server_is_back(pace: RateLimit) -> None:
    """It sends one probe after each longer pause. After a good one the others follow, slowly at first."""
    limiter = Limiter(pace, Random(7))
    await open_breaker(limiter)
    queue = Queue(limiter)
    admitted = asyncio.Semaphore(0)
    queue.on_admission = lambda _: admitted.release()
    await queue.join(*map(str, range(40)), bulk=True)
    for probes in range(1, 5):
        await admitted.acquire()
        before = now()
        await asyncio.sleep(60.0)  # the time until the probe fails
        assert len(queue.admissions) == probes
        with queue.admissions[-1] as probe:
            probe.failed(answered=False)
        assert limiter.breaker.is_open
        assert before + 60.0 == about(now())
    await admitted.acquire()
    at = now()
    queue.admissions[-1].accepted()
    await asyncio.sleep(0.999)
    first_second = len(queue.admissions) - 5
    assert 0 < first_second <= limiter.rate / 2 + 1
    await queue.finish()
    assert len(queue.admissions) == 40
    assert now() - at < 10.0


@virtual_time
async def test_a_probe_that_is_cancelled_is_replaced() -> None:
    """The next request becomes the probe, also if the first probe was never sent."""
    limiter = limiter_of(100)
    await open_breaker(limiter)
    await asyncio.sleep(1.0)
    for sent in (True, False):
        with await limiter.admit(bulk=True) as admission:
            if sent:
                admission.sending()
    with await limiter.admit(bulk=True) as admission:
        admission.sending()
        admission.accepted()
    assert not limiter.breaker.is_open


@virtual_time
async def test_what_is_known_of_the_server() -> None:
    """The breaker knows if the server ever responded or worked, if it may be down, and for how long."""
    limiter = limiter_of(100)

    def known() -> tuple[bool, bool, bool, bool]:
        breaker = limiter.breaker
        return breaker.unreachable, breaker.ever_answered, breaker.is_doubtful, breaker.is_open

    assert known() == (False, False, False, False)
    for _ in range(23):
        await asyncio.sleep(0.02)
        with await limiter.admit() as admission:
            admission.sending()
            admission.failed(answered=False)
    assert known() == (True, False, True, False)
    assert limiter.breaker.down_for(now()) == 0.0
    await asyncio.sleep(0.1)
    with await limiter.admit() as admission:
        admission.sending()
        admission.failed(answered=True)
    assert known() == (False, False, True, True)
    assert limiter.breaker.down_for(now()) == pytest.approx(0.54, abs=0.05)
    await asyncio.sleep(1.0)
    with await limiter.admit() as admission:
        admission.sending()
        admission.refused(None)
    assert known() == (False, True, False, False)


# Snapshots and events


@virtual_time
async def test_a_snapshot() -> None:
    """A snapshot has the rate, the pause and the counts of one moment."""
    fake = FakePace(rate=2.0, quota=2.1)
    limiter = limiter_with(fake)
    unused = limiter.snapshot()
    assert unused == LimiterSnapshot(
        rate=2.0,
        quota=2.1,
        paused_for=0.0,
        pause_reason=None,
        waiting_interactive=0,
        waiting_bulk=0,
        in_flight=0,
        refusals=0,
    )
    queue = Queue(limiter)
    await queue.join("in", "i")
    await queue.join("b0", "b1", bulk=True)
    queue.admissions[0].refused(12.0)
    await asyncio.sleep(2)
    assert limiter.snapshot() == LimiterSnapshot(
        rate=2.0,
        quota=2.1,
        paused_for=about(10.0),
        pause_reason="hint",
        waiting_interactive=1,
        waiting_bulk=2,
        in_flight=0,
        refusals=1,
    )
    assert repr(limiter) == (
        "<Limiter 2/s of about 2.1/s, paused 10 s (hint), 1 interactive and 2 bulk waiting, "
        "0 in flight, 1 refused>"
    )
    await queue.finish()
    queue.admissions[1].refused(None)
    assert limiter.snapshot().pause_reason == "refused"


@virtual_time
async def test_events_come_when_something_changes() -> None:
    """There is no event if the rate changes by 1 %, or if another refusal makes a pause a bit longer."""
    fake, heard = FakePace(rate=1000.0), list[PaceEvent]()
    limiter = limiter_with(fake, on_pace=heard.append)
    admissions = [await limiter.admit() for _ in range(6)]
    fake.rate = 1009.0
    admissions[0].accepted()
    assert heard == []
    fake.rate = 1011.0
    admissions[1].accepted()
    fake.quota = 1500.0
    admissions[2].accepted()
    admissions[3].refused(10.0)
    came = now()
    await asyncio.sleep(0.5)
    admissions[4].refused(10.0)
    admissions[5].refused(60.0)
    assert heard == [
        RateChanged(1011.0, None),
        RateChanged(1011.0, 1500.0),
        Paused(about(10.0), hinted=True),
        Paused(about(60.0), hinted=True),
    ]
    assert now() == pytest.approx(came + 0.5)


@virtual_time
async def test_a_pause_that_was_shortened_may_grow_again() -> None:
    """A new pause is compared with the present one, not with the longest of all events."""
    fake, heard = FakePace(rate=1000.0), list[PaceEvent]()
    limiter = limiter_with(fake, on_pace=heard.append)
    admissions = [await limiter.admit() for _ in range(3)]
    admissions[0].refused(60.0)
    fake.paused_until = now() + 5.0
    admissions[1].accepted()
    admissions[2].refused(30.0)
    assert heard == [Paused(about(60.0), hinted=True), Paused(about(30.0), hinted=True)]


@virtual_time
async def test_a_listener_gets_events_while_its_context_lasts() -> None:
    """It gets none from before or after."""
    heard: list[PaceEvent] = []
    limiter = limiter_with(FakePace(rate=1000.0))
    with limiter.listening(heard.append):
        (await limiter.admit()).refused(5.0)
    (await limiter.admit()).refused(7.0)
    assert heard == [Paused(about(5.0), hinted=True)]


@virtual_time
async def test_a_listener_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The other listeners still get the event, and requests are still admitted."""
    heard: list[PaceEvent] = []

    def fail(event: PaceEvent) -> None:
        raise RuntimeError(f"no time for {event}")

    limiter = limiter_with(FakePace(), on_pace=fail)
    with limiter.listening(heard.append):
        (await limiter.admit()).refused(5.0)
        await limiter.admit()
    assert now() == pytest.approx(5.0, abs=TICK)
    assert len(heard) == 1
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_listener_is_a_plain_function() -> None:
    """A coroutine function raises at once. It would never be awaited."""

    async def hear(_: PaceEvent) -> None: ...

    with pytest.raises(ConfigurationError, match="a plain function"):
        Limiter(on_pace=hear)


@virtual_time
async def test_a_request_that_is_refused_again_while_others_pass_keeps_its_hint_to_itself() -> None:
    """One locked conference does not hold up the account."""
    limiter, loop = Limiter(RateLimit.fixed(100), Random(1)), asyncio.get_running_loop()
    locked = await limiter.admit(bulk=True)
    locked.sending()
    locked.refused(None)
    locked.__exit__()
    for _ in range(3):
        with await limiter.admit(bulk=True) as admission:
            admission.sending()
            admission.accepted()
    with await limiter.admit(bulk=True, place=locked.place) as again:
        again.sending()
        rest = again.refused(2.0)
    assert rest >= 2.0
    before = loop.time()
    with await limiter.admit(bulk=True) as admission:
        admission.accepted()
    assert loop.time() < before + 0.1


@virtual_time
async def test_a_refused_request_rests_only_if_others_wait() -> None:
    """The knock goes with another request than the one that was refused."""
    limiter = Limiter(RateLimit.adaptive(), Random(1))
    first = await limiter.admit()
    first.sending()
    assert first.refused(None) == 0.0
    second = await limiter.admit()
    second.sending()
    other = asyncio.create_task(limiter.admit())
    await asyncio.sleep(0)
    assert second.refused(None) > 0.0
    other.cancel()


@virtual_time
async def test_a_whole_second_may_be_read_as_within_a_second() -> None:
    """By default the hint is obeyed to the letter."""
    waits = []
    for limit in (RateLimit.adaptive(), RateLimit.adaptive(within_second=True)):
        limiter, loop = Limiter(limit, Random(1)), asyncio.get_running_loop()
        before = loop.time()
        with await limiter.admit() as admission:
            admission.sending()
            admission.refused(1.0, coarse=True)
        await limiter.admit()
        waits.append(loop.time() - before)
    assert waits[0] >= 1.0
    assert waits[1] < 0.2


@virtual_time
async def test_what_a_limiter_has_learned_is_given_to_the_next() -> None:
    """The next run begins with it. Nothing is known at first, and at a fixed rate."""
    known = Knowledge(rate=70, stood=70)
    limiter = Limiter(RateLimit.adaptive(knowledge=known))
    assert limiter.rate == 70
    assert limiter.knowledge is known
    assert Limiter(RateLimit.adaptive(start=70)).knowledge is None
    assert Limiter(RateLimit.fixed(5)).knowledge is None
