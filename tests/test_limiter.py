"""The door all requests wait at: order, exact times, and no place lost to a cancellation."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest

from bandwidth_async.errors import BandwidthError, DeadlineExceededError, RateLimitError
from bandwidth_async.limiter import Admission, Limiter
from bandwidth_async.pacing import RateLimit

LATENESS = 0.004  # seconds that an even pacer may be early
HINT_JITTER = 0.02  # seconds, at most, on top of a hint
TICK = 1e-5  # seconds within which two moments of virtual time are the same

virtual_time = pytest.mark.looptime(noop_cycles=2)  # no sockets here, so the clock need not wait for any


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


def limiter_of(rate: float | None = None, burst: int = 1) -> Limiter:
    """Return a limiter with a fixed random."""
    return Limiter(RateLimit(rate, burst) if rate else None, Random(7))


class Queue:
    """Tasks that wait at one limiter, and when each was let in or sent away."""

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        self.entered: dict[str, float] = {}
        self.sent_away: dict[str, tuple[float, BandwidthError]] = {}
        self.admissions: list[Admission] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.on_entry: Callable[[str], None] = lambda _: None

    async def join(self, *names: str, **how: Any) -> None:
        """Have tasks of these names wait, and return when they do."""
        for name in names:
            self.tasks[name] = asyncio.create_task(self._wait(name, **how))
        await asyncio.sleep(0)

    async def _wait(self, name: str, **how: Any) -> None:
        try:
            admission = await self.limiter.admit(**how)
        except BandwidthError as error:
            self.sent_away[name] = now(), error
            return
        self.entered[name] = now()
        self.admissions.append(admission)
        self.on_entry(name)

    async def finish(self) -> None:
        """Wait until everybody is in, sent away or cancelled."""
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        assert not [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]

    @property
    def order(self) -> list[str]:
        """Who was let in, in order."""
        return list(self.entered)


def evenly(count: int, rate: float, burst: int = 1) -> list[float]:
    """Return when ``count`` requests that arrive together at 0 are let in."""
    early = max((burst - 1) / rate, LATENESS)
    return [max(0.0, number / rate - early) for number in range(count)]


@virtual_time
async def test_first_come_first_served() -> None:
    """Whoever waits is let in in the order of arrival."""
    queue = Queue(limiter_of(10))
    names = [f"w{number}" for number in range(20)]
    await queue.join(*names)
    await queue.finish()
    assert queue.order == names


@virtual_time
async def test_a_rate_is_held_exactly_over_a_thousand_grants() -> None:
    """The n-th request leaves at n / rate, neither drifting late nor creeping early."""
    queue = Queue(limiter_of(50))
    await queue.join(*map(str, range(1000)))
    await queue.finish()
    assert list(queue.entered.values()) == pytest.approx(evenly(1000, 50), abs=TICK)


@virtual_time
async def test_a_burst_leaves_at_once_and_then_the_rate_holds() -> None:
    """After a rest ``burst`` requests leave at once, and no more."""
    queue = Queue(limiter_of(10, burst=5))
    await queue.join(*map(str, range(12)))
    await queue.finish()
    assert list(queue.entered.values()) == pytest.approx(evenly(12, 10, burst=5), abs=TICK)
    assert list(queue.entered.values()).count(0.0) == 5


@virtual_time
async def test_who_comes_to_an_open_door_need_not_wait() -> None:
    """Requests that come more slowly than the rate are never held up."""
    limiter = limiter_of(10)
    for _ in range(20):
        before = now()
        await limiter.admit()
        assert now() == before
        await asyncio.sleep(0.11)


@virtual_time
async def test_nobody_overtakes_those_who_wait() -> None:
    """A newcomer queues even when the door is open in the moment of its arrival."""
    queue = Queue(limiter_of(10))
    await queue.join("first", "second", "third")
    await asyncio.sleep(0.2)
    await queue.join("late")
    await queue.finish()
    assert queue.order == ["first", "second", "third", "late"]


@virtual_time
async def test_who_was_refused_comes_first_again() -> None:
    """A returning request goes before all that were never refused, behind those that returned before."""
    queue = Queue(limiter_of(10))
    await queue.join("a", "b", "c", "d")
    await queue.join("back1", returning=True)
    await queue.join("back2", returning=True)
    await queue.finish()
    assert queue.order == ["a", "back1", "back2", "b", "c", "d"]


@virtual_time
async def test_a_refusal_stops_everybody_until_the_hint_has_passed() -> None:
    """A 429 concerns the account: nobody is let in before its time, and then the rate holds again."""
    limiter = limiter_of(10)
    (await limiter.admit()).refused(30.0)
    queue = Queue(limiter)
    await queue.join(*"abcde")
    await asyncio.sleep(1)
    await queue.join(*"fg")
    await queue.finish()
    moments = list(queue.entered.values())
    assert queue.order == list("abcdefg")
    assert 30.0 <= moments[0] <= 30.0 + HINT_JITTER + TICK
    assert [moment - moments[0] for moment in moments] == pytest.approx(evenly(7, 10), abs=TICK)


@virtual_time
async def test_a_refusal_also_stops_those_who_wait_already() -> None:
    """A timer that was set before the refusal lets nobody in after it."""
    limiter = limiter_of(10)
    admission = await limiter.admit()
    queue = Queue(limiter)
    await queue.join(*"abc")
    await asyncio.sleep(0.05)
    admission.refused(5.0)
    await queue.finish()
    assert min(queue.entered.values()) >= 5.05


@virtual_time
async def test_a_hint_is_jittered_so_that_processes_do_not_come_back_in_step() -> None:
    """Two limiters that got the same hint open at different moments, both after it."""
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
    """A refusal that does not say how long shuts the door for a tenth of a second at first."""
    limiter = limiter_of(1000)
    (await limiter.admit()).refused(None)
    await limiter.admit()
    assert now() == pytest.approx(0.1, abs=TICK)


@pytest.mark.parametrize("queued", [False, True])
@virtual_time
async def test_who_cannot_wait_that_long_is_told_at_once(queued: bool) -> None:
    """A deadline or a patience that ends before the door opens is known at once, in the queue too."""
    limiter = limiter_of(10)
    admission = await limiter.admit()
    queue = Queue(limiter)

    async def all_join() -> None:
        await queue.join("hurried", deadline=5.0)
        await queue.join("impatient", patience=20.0)
        await queue.join("back in a hurry", returning=True, deadline=29.9)
        await queue.join("patient", deadline=31.0, patience=31.0)
        await queue.join("endless")

    if queued:
        await all_join()
        admission.refused(30.0)
    else:
        admission.refused(30.0)
        await all_join()
    await queue.finish()
    told = {name: (moment, type(error)) for name, (moment, error) in queue.sent_away.items()}
    assert told == {
        "hurried": (0.0, DeadlineExceededError),
        "impatient": (0.0, RateLimitError),
        "back in a hurry": (0.0, DeadlineExceededError),
    }
    for _, error in queue.sent_away.values():
        assert error.retry_after == pytest.approx(30.0, abs=HINT_JITTER)
    assert queue.order == ["patient", "endless"]


@virtual_time
async def test_the_error_of_the_impatient_is_one_of_429() -> None:
    """It can be told apart and waited for like an answer of the server."""
    limiter = limiter_of(10)
    (await limiter.admit()).refused(3600.0)
    with pytest.raises(RateLimitError, match="longer than the 900 s") as caught:
        await limiter.admit(patience=900.0)
    assert (caught.value.status, caught.value.attempts) == (429, 0)


@virtual_time
async def test_a_pause_that_grows_sends_away_those_it_makes_hopeless() -> None:
    """A later and longer hint of the same burst counts too."""
    limiter = limiter_of(100)
    first, second = await limiter.admit(), await limiter.admit()
    first.refused(1.0)
    queue = Queue(limiter)
    await queue.join("a", deadline=10.0)
    assert queue.sent_away == {}
    second.refused(60.0)
    await queue.finish()
    assert list(queue.sent_away) == ["a"]


@virtual_time
async def test_one_who_is_told_and_cancelled_in_the_same_tick() -> None:
    """The cancellation wins, and the error that nobody reads is not reported as forgotten."""
    limiter = limiter_of(10)
    admission = await limiter.admit()
    queue = Queue(limiter)
    await queue.join("a", deadline=5.0)
    admission.refused(30.0)
    queue.tasks["a"].cancel()
    await queue.finish()
    assert queue.tasks["a"].cancelled()
    assert queue.sent_away == {}


CANCEL_STEPS = [0.0, 0.01, 0.05, 0.096, 0.0961, 0.1, 0.15, 0.196, 0.2, 0.296, 0.396, 0.45, 0.496, 0.5]


@pytest.mark.parametrize("who", range(6))
@pytest.mark.parametrize("moment", CANCEL_STEPS)
@virtual_time
async def test_a_cancelled_waiter_leaves_no_gap(who: int, moment: float) -> None:
    """Cancel waiter ``who`` at every step: the others get in at the times of a queue without it."""
    queue = Queue(limiter_of(10))
    names = [str(number) for number in range(6)]
    await queue.join(*names)
    asyncio.get_running_loop().call_at(moment, queue.tasks[str(who)].cancel)
    await queue.finish()
    left = [name for name in names if name in queue.entered]
    assert queue.order == left
    assert len(left) >= 5
    assert list(queue.entered.values()) == pytest.approx(evenly(len(left), 10), abs=TICK)


@pytest.mark.parametrize("burst", [1, 2, 3, 7])
@pytest.mark.parametrize("who", range(1, 9))
@pytest.mark.parametrize("canceller", range(8))
@virtual_time
async def test_a_place_granted_to_a_cancelled_waiter_goes_to_the_next(
    canceller: int, who: int, burst: int
) -> None:
    """One that is let in cancels another, also one let in in the very same tick: no place is lost."""
    queue = Queue(limiter_of(10, burst))
    names = [str(number) for number in range(9)]

    def cancel_other(name: str) -> None:
        if name == str(canceller):
            queue.tasks[str(who)].cancel()

    queue.on_entry = cancel_other
    await queue.join(*names)
    await queue.finish()
    expected = [name for name in names if name != str(who) or who <= canceller]
    assert queue.order == expected
    times = evenly(len(expected), 10, burst)
    assert list(queue.entered.values()) == pytest.approx(times, abs=TICK)


@virtual_time
async def test_the_timer_outlives_the_waiter_it_was_set_for() -> None:
    """When all who wait are cancelled, those who come later are let in all the same."""
    queue = Queue(limiter_of(1))
    await queue.join("in", "x", "y")
    for name in "xy":
        queue.tasks[name].cancel()
    await asyncio.sleep(0.5)
    await queue.join("late")
    await queue.finish()
    assert queue.entered == {"in": 0.0, "late": pytest.approx(1.0 - LATENESS, abs=TICK)}


@virtual_time
async def test_everybody_is_cancelled_at_once() -> None:
    """The door works on after a whole queue has gone."""
    queue = Queue(limiter_of(1))
    await queue.join(*map(str, range(50)))
    for task in queue.tasks.values():
        task.cancel()
    await queue.finish()
    await queue.limiter.admit()
    assert now() == pytest.approx(1.0 - LATENESS, abs=TICK)


@virtual_time
async def test_ten_thousand_waiters() -> None:
    """A long queue is served in order and on time; a shut door sends the hopeless ones away in one go."""
    limiter = limiter_of(20_000, burst=2000)
    queue = Queue(limiter)
    names = [str(number) for number in range(10_000)]
    await queue.join(*names[:5000], deadline=1000.0)
    await queue.join(*names[5000:])
    await asyncio.sleep(0.1)
    assert len(queue.entered) < 5000
    queue.admissions[-1].refused(2000.0)
    await queue.finish()
    assert len(queue.entered) + len(queue.sent_away) == 10_000
    assert {moment for moment, _ in queue.sent_away.values()} == {0.1}
    assert queue.order == [name for name in names if name not in queue.sent_away]
    assert max(queue.entered.values()) < 2001.0


@virtual_time
async def test_the_rate_is_sought_by_the_answers() -> None:
    """Accepted requests raise a rate that was not given, as long as others wait; a refusal cuts it."""
    limiter = limiter_of()
    queue = Queue(limiter)
    assert limiter.rate == 20.0
    await queue.join(*map(str, range(40)))
    await asyncio.sleep(1.0)
    for admission in list(queue.admissions):
        admission.accepted()
    assert limiter.rate == pytest.approx(40.0)
    await queue.limiter.admit()
    queue.admissions[-1].refused(None)
    await queue.finish()
    assert limiter.rate == pytest.approx(30.0)


@virtual_time
async def test_silence_teaches_nothing() -> None:
    """A request without an answer changes neither rate nor door, but it was in flight while it lasted."""
    limiter = limiter_of()
    with await limiter.admit():
        assert repr(limiter) == "<Limiter 20/s, 0 waiting, 1 in flight>"
    assert repr(limiter) == "<Limiter 20/s, 0 waiting, 0 in flight>"
    await asyncio.sleep(1)
    await limiter.admit()
    assert now() == 1.0


@virtual_time
async def test_an_error_inside_ends_the_flight() -> None:
    """A connection comes free however its request ends: one is enough for three."""
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
    assert repr(limiter) == "<Limiter 10/s, 0 waiting, 0 in flight>"
    with await limiter.admit() as admission:
        admission.sending()
        assert repr(limiter) == "<Limiter 10/s, 0 waiting, 1 in flight>"


@virtual_time
async def test_more_than_the_connections_wait_at_the_door() -> None:
    """Not in aiohttp's pool, where the time for an attempt would run already."""
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
async def test_a_place_that_is_not_used_goes_to_the_next() -> None:
    """Whoever finds at the door that nothing is to be sent costs the others nothing."""
    limiter, loop = limiter_of(1), asyncio.get_running_loop()

    async def request(*, sends: bool) -> float:
        with await limiter.admit() as admission:
            if sends:
                admission.sending()
            return loop.time()

    moments = await asyncio.gather(*(request(sends=number % 5 == 0) for number in range(11)))
    assert moments[::5] == pytest.approx([0.0, 1.0, 2.0], abs=0.005)


@virtual_time
async def test_a_turn_after_the_deadline_is_refused_at_once() -> None:
    """With a given rate the place in the line says when the turn comes."""
    limiter, loop = limiter_of(1), asyncio.get_running_loop()
    crowd = [asyncio.create_task(limiter.admit()) for _ in range(20)]
    await asyncio.sleep(0)
    with pytest.raises(DeadlineExceededError, match="with 19 requests before it"):
        await limiter.admit(deadline=loop.time() + 10.0)
    assert loop.time() < 0.1
    await asyncio.gather(*crowd)


@virtual_time
async def test_the_longest_allowed_hint_is_obeyed() -> None:
    """The jitter that is added does not turn what is allowed into too long."""
    limiter = limiter_of(10)
    with await limiter.admit() as admission:
        admission.sending()
        admission.refused(900.0)
    with await limiter.admit(patience=900.0) as admission:
        admission.sending()
    assert asyncio.get_running_loop().time() == pytest.approx(900.0, abs=0.03)
