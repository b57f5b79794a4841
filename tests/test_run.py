"""The run: every id pulled gets exactly one outcome, whatever happens and whenever it stops."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from attrs import field, frozen, mutable
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.errors import (
    APIError,
    AuthenticationError,
    BandwidthError,
    ConfigurationError,
    DeadlineExceededError,
    JournalError,
    NotFoundError,
    PermissionDeniedError,
    ServerError,
)
from bandwidth_async.models import Conference
from bandwidth_async.outcome import Outcome, OutcomeKind, Report
from bandwidth_async.run import Ledger, Source, Stop, Target, iterate, run

TICK = 1e-5
FIRST_ALONE = 1.0

virtual_time = pytest.mark.looptime(noop_cycles=2)
pytestmark = pytest.mark.timeout(10)  # a run that does not end would hang the suite


def about(moment: float, abs: float = TICK) -> Any:  # noqa: A002  # pytest's own word
    """Return what equals any number near ``moment``."""
    return pytest.approx(moment, abs=abs)


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


@frozen
class Behaviour:
    """How ending one conference goes."""

    latency: float = 0.1
    error: BandwidthError | None = None


@mutable
class Ender:
    """Ends conferences as their behaviour says, sends nothing after a stop, and watches the run's rules."""

    behaviours: dict[str, Behaviour] = field(factory=dict)
    usual: Behaviour = Behaviour()
    sent: list[tuple[float, str]] = field(factory=list)
    in_flight: Counter[str] = field(factory=Counter)
    most: int = 0

    async def __call__(self, target: Target, stop: Stop) -> Outcome:
        """End one."""
        conference_id = target.conference_id
        if stop.requested:
            raise DeadlineExceededError("the run was stopped")
        behaviour = self.behaviours.get(conference_id, self.usual)
        self.sent.append((now(), conference_id))
        self.in_flight[conference_id] += 1
        self.most = max(self.most, self.in_flight.total())
        assert self.in_flight[conference_id] == 1, "an id is in flight twice"
        try:
            await asyncio.sleep(behaviour.latency)
        finally:
            self.in_flight[conference_id] -= 1
        if behaviour.error:
            raise behaviour.error
        return Outcome(conference_id, OutcomeKind.ENDED, 1)

    @property
    def ids(self) -> list[str]:
        """The ids in the order they were sent."""
        return [conference_id for _, conference_id in self.sent]


@mutable
class Heard:
    """What was delivered, and when."""

    outcomes: list[Outcome] = field(factory=list)
    moments: list[float] = field(factory=list)

    async def __call__(self, outcome: Outcome) -> None:
        """Take one."""
        self.outcomes.append(outcome)
        self.moments.append(now())

    @property
    def kinds(self) -> list[tuple[str, str]]:
        """Which id became what, in order of delivery."""
        return [(outcome.conference_id, str(outcome.kind)) for outcome in self.outcomes]


def assert_attempts(attempted: list[str], ender: Ender) -> None:
    """Each was tried once, but for the first, which is tried again when it failed alone."""
    again = Counter(ender.ids) - Counter(attempted)
    assert Counter(attempted) + again == Counter(ender.ids)
    assert again in (Counter(), Counter(ender.ids[:1]))


async def slowly(items: list[str], gap: float, pulled: list[str] | None = None) -> AsyncIterator[str]:
    """Yield the items with a pause before each."""
    for item in items:
        if gap:
            await asyncio.sleep(gap)
        if pulled is not None:
            pulled.append(item)
        yield item


async def carry_out(
    source: Source,
    ender: Ender,
    heard: Heard,
    *,
    concurrency: int = 3,
    stop: Stop | None = None,
    deadline: float | None = None,
) -> Report:
    """Run, and see that no task is left."""
    before = asyncio.all_tasks()
    try:
        return await run(
            source, ender, heard, concurrency=concurrency, stop=stop or Stop(), deadline=deadline
        )
    finally:
        assert asyncio.all_tasks() == before


IDS = st.sampled_from("abcdefgh")
BEHAVIOURS = st.builds(
    Behaviour,
    st.sampled_from([0.0, 0.1, 0.7, 2.5]),
    st.sampled_from(
        [None, None, NotFoundError("404", status=404), ServerError("500", status=500, attempts=5)]
    ),
)


@given(
    items=st.lists(IDS, max_size=25),
    behaviours=st.dictionaries(IDS, BEHAVIOURS),
    concurrency=st.integers(1, 8),
    stop_after=st.none() | st.floats(0, 6),
    deadline=st.none() | st.floats(0, 6),
    gap=st.sampled_from([None, 0.0, 0.3]),
)
@virtual_time
async def test_every_id_gets_exactly_one_outcome(
    items: list[str],
    behaviours: dict[str, Behaviour],
    concurrency: int,
    stop_after: float | None,
    deadline: float | None,
    gap: float | None,
) -> None:
    """The outcomes add up to the ids, with duplicates, errors and stops at any moment, from either source."""
    ender, heard, stop, pulled = Ender(behaviours), Heard(), Stop(), list[str]()
    started = now()
    timer = (
        asyncio.get_running_loop().call_later(stop_after, stop.request) if stop_after is not None else None
    )
    source: Source = iter(items) if gap is None else slowly(items, gap, pulled)
    report = await carry_out(source, ender, heard, concurrency=concurrency, stop=stop, deadline=deadline)
    if timer:
        timer.cancel()

    expected = items if gap is None else pulled
    assert Counter(outcome.conference_id for outcome in heard.outcomes) == Counter(expected)
    assert ender.most <= concurrency
    end = min((moment for moment in (stop_after, deadline) if moment is not None), default=math.inf)
    assert all(moment <= started + end + TICK for moment, _ in ender.sent)
    for outcome in heard.outcomes:
        error = behaviours.get(outcome.conference_id, Behaviour()).error
        real = "ended" if error is None else "not_found" if isinstance(error, NotFoundError) else "failed"
        assert outcome.kind in {real, "not_attempted"}
    attempted = [o.conference_id for o in heard.outcomes if o.kind != "not_attempted"]
    assert_attempts(attempted, ender)
    counts: Counter[str] = Counter(outcome.kind for outcome in heard.outcomes)
    elapsed = now() - started
    attempts = sum(outcome.attempts for outcome in heard.outcomes)
    assert report.stopped in {None, stop.reason}
    if report.unsettled and stop.requested:
        assert report.stopped is stop.reason
    assert report == Report(counts=counts, attempts=attempts, elapsed=elapsed, stopped=report.stopped)
    if not stop.requested:
        assert len(attempted) == len(items)


@virtual_time
async def test_a_report_of_a_plain_run() -> None:
    """Ids and Conference objects, a success, a miss and a failure: the whole report."""
    ender = Ender(
        {
            "b": Behaviour(0.1, NotFoundError("404 to: end b", status=404, attempts=1)),
            "c": Behaviour(0.3, ServerError("500", status=500, attempts=5, ambiguous=True)),
        }
    )
    heard = Heard()
    report = await carry_out([Conference(id="a"), "b", "c"], ender, heard)
    assert heard.outcomes == [
        Outcome("a", OutcomeKind.ENDED, 1),
        Outcome("b", OutcomeKind.NOT_FOUND, 1, "404 to: end b", about(0.1)),
        Outcome("c", OutcomeKind.UNKNOWN, 5, "500 (after 5 attempts)", about(0.3)),
    ]
    assert report == Report(
        counts=Counter({OutcomeKind.ENDED: 1, OutcomeKind.NOT_FOUND: 1, OutcomeKind.UNKNOWN: 1}),
        attempts=7,
        elapsed=about(0.4),
    )


@virtual_time
async def test_nothing_to_do() -> None:
    """An empty source is a finished run."""
    sources: list[Source] = [[], slowly([], 0)]
    for source in sources:
        heard = Heard()
        assert await carry_out(source, Ender(), heard) == Report()
        assert heard.outcomes == []


@pytest.mark.parametrize("concurrency", [0, -1])
async def test_no_concurrency_is_no_run(concurrency: int) -> None:
    """The setting is checked before anything is pulled."""
    pulled = iter(["a"])
    with pytest.raises(ConfigurationError, match=f"at least 1, not {concurrency}"):
        await carry_out(pulled, Ender(), Heard(), concurrency=concurrency)
    assert list(pulled) == ["a"]


@virtual_time
async def test_a_million_ids_are_not_held() -> None:
    """The source is pulled one id for each free worker, never ahead."""
    pulled = 0

    def many() -> Iterator[str]:
        nonlocal pulled
        for number in itertools.count():
            pulled = number + 1
            assert pulled <= len(heard.outcomes) + 10
            if number == 500:
                return
            yield str(number)

    heard = Heard()
    report = await carry_out(many(), Ender(), heard, concurrency=10)
    assert report.counts == {OutcomeKind.ENDED: 500}


@virtual_time
async def test_a_missing_id_in_a_list_does_not_end_the_run() -> None:
    """A None that slipped into the ids costs its own place only: the ids behind it are ended too."""
    heard = Heard()
    source: list[str] = ["a", None, "b"]  # type: ignore[list-item]  # as a table with an empty cell gives it
    report = await carry_out(source, Ender(), heard, concurrency=1)
    assert report.total == 3
    assert ("b", "ended") in heard.kinds


@pytest.mark.parametrize("source", ["conf-1", b"conf-1", Conference(id="conf-1")])
async def test_one_id_is_no_list_of_ids(source: Source) -> None:
    """A text is an iterable of letters; ending a conference of each would be a surprise."""
    with pytest.raises(ConfigurationError, match="a list of ids"):
        await carry_out(source, Ender(), Heard())


# The first id


@virtual_time
async def test_the_first_id_goes_ahead() -> None:
    """Nobody follows before the first id has its outcome."""
    ender = Ender({"a": Behaviour(0.4)})
    await carry_out(list("abcd"), ender, Heard(), concurrency=10)
    assert ender.sent == [(0.0, "a"), *((about(0.4), name) for name in "bcd")]


@virtual_time
async def test_the_first_id_has_a_second_for_itself() -> None:
    """A slow first id does not hold the others up for longer."""
    ender = Ender({"a": Behaviour(30.0)})
    await carry_out(list("abcd"), ender, Heard(), concurrency=10)
    assert ender.sent == [(0.0, "a"), *((about(FIRST_ALONE), name) for name in "bcd")]


@pytest.mark.parametrize(("ambiguous", "kind"), [(False, "failed"), (True, "unknown")])
@virtual_time
async def test_a_first_id_that_fails_alone_is_tried_once_more(ambiguous: bool, kind: str) -> None:
    """Beside the others, as they tell a bad moment from a dead server; its attempts add up."""
    tried: list[tuple[float, Target]] = []
    heard = Heard()

    async def end(target: Target, _: Stop) -> Outcome:
        tried.append((now(), target))
        await asyncio.sleep(0.1)
        if target.conference_id == "a":
            raise ServerError("answered 503", status=503, attempts=5, ambiguous=ambiguous)
        return Outcome(target.conference_id, OutcomeKind.ENDED, 1)

    report = await run(list("abc"), end, heard, concurrency=3, stop=Stop())
    assert tried == [
        (0.0, Target("a")),
        (about(0.1), Target("a", ambiguous=ambiguous)),
        (about(0.1), Target("b")),
        (about(0.1), Target("c")),
    ]
    assert (report.counts[OutcomeKind(kind)], report.total, report.attempts) == (1, 3, 12)


@virtual_time
async def test_only_the_first_id_has_a_second_try() -> None:
    """Not one that fails beside a first id which takes its time, nor that one once it is not alone."""
    error = ServerError("answered 503", status=503, attempts=5)
    ender = Ender({"a": Behaviour(3.0, error), "b": Behaviour(0.1, error)})
    await carry_out(list("abc"), ender, Heard(), concurrency=3)
    assert ender.ids == ["a", "b", "c"]


@virtual_time
async def test_a_first_id_that_recovers() -> None:
    """Its outcome is that of the second try, with the attempts of both."""
    errors = [ServerError("answered 503", status=503, attempts=5)]
    heard = Heard()

    async def end(target: Target, _: Stop) -> Outcome:
        if errors:
            raise errors.pop()
        return Outcome(target.conference_id, OutcomeKind.ENDED, 1)

    await run(["a"], end, heard, concurrency=3, stop=Stop())
    assert heard.outcomes == [Outcome("a", OutcomeKind.ENDED, 6)]


@virtual_time
async def test_a_first_id_that_stops_the_run_has_no_second_try() -> None:
    """Nor has one that was refused: that is an answer."""
    for stops, error in (
        (True, ServerError("503", status=503, attempts=5)),
        (False, APIError("", status=400)),
    ):
        ender, heard, stop = Ender({"a": Behaviour(0.1, error)}), Heard(), Stop()

        async def end(
            target: Target, stop: Stop, ender: Ender = ender, stops: bool = stops, error: APIError = error
        ) -> Outcome:
            if stops:
                stop.request(error)
            return await Ender.__call__(ender, target, Stop())

        await run(["a"], end, heard, concurrency=3, stop=stop)
        assert ender.ids == ["a"]


@virtual_time
async def test_ids_that_may_have_been_ended_are_unknown_when_the_run_stops() -> None:
    """Not attempted is only what no earlier run has touched."""
    heard, stop = Heard(), Stop()
    stop.request()
    ids = [Target("a"), Target("b", ambiguous=True)]
    report = await run(ids, Ender(), heard, concurrency=3, stop=stop)
    assert report.counts == {OutcomeKind.NOT_ATTEMPTED: 1, OutcomeKind.UNKNOWN: 1}


@virtual_time
async def test_wrong_credentials_cost_one_request() -> None:
    """The first id finds out; with its stop the others are never tried."""

    async def refuse(_: Target, stop: Stop) -> Outcome:
        await asyncio.sleep(0.1)
        stop.request(AuthenticationError("401", status=401))
        raise AuthenticationError("401", status=401, attempts=2)

    heard = Heard()
    report = await run(map(str, range(1000)), refuse, heard, concurrency=100, stop=Stop())
    assert report.counts == {OutcomeKind.FAILED: 1, OutcomeKind.NOT_ATTEMPTED: 999}
    assert isinstance(report.stopped, AuthenticationError)
    assert heard.outcomes[1:] == [
        Outcome(str(number), OutcomeKind.NOT_ATTEMPTED, error="the run was stopped: 401")
        for number in range(1, 1000)
    ]


# Duplicates


@virtual_time
async def test_an_id_is_never_in_flight_twice() -> None:
    """Its second turn waits for the first, and both have an outcome; other ids are not held up."""
    ender = Ender({"x": Behaviour(5.0)})
    heard = Heard()
    await carry_out(["pilot", "x", "x", "x", "y"], ender, heard, concurrency=5)
    assert heard.kinds == [("pilot", "ended"), ("y", "ended"), *[("x", "ended")] * 3]
    assert heard.moments[-1] == about(15.1)


@virtual_time
async def test_a_conference_object_and_its_id_are_the_same() -> None:
    """A duplicate is recognised in either form."""
    ender = Ender(usual=Behaviour(1.0))
    await carry_out(["p", "x", Conference(id="x"), "x"], ender, Heard(), concurrency=5)
    assert [round(moment, 3) for moment, _ in ender.sent] == [0.0, 1.0, 2.0, 3.0]


# Stops


@virtual_time
async def test_a_stop_lets_what_is_in_flight_finish() -> None:
    """Nothing more is sent, the answers that are due still count, and the rest is not attempted."""
    ender, heard, stop = Ender(usual=Behaviour(1.0)), Heard(), Stop()
    asyncio.get_running_loop().call_later(1.5, stop.request)
    report = await carry_out(list("abcdefg"), ender, heard, concurrency=3, stop=stop)
    assert sorted(ender.ids) == list("abcd")
    assert sorted(heard.kinds[:4]) == [(name, "ended") for name in "abcd"]
    assert heard.kinds[4:] == [(name, "not_attempted") for name in "efg"]
    assert (report.elapsed, report.stopped) == (about(2.0), stop.reason)
    assert str(report.stopped) == "the run was stopped"


@virtual_time
async def test_a_run_that_is_stopped_before_it_begins() -> None:
    """Nothing is sent at all; every id has its outcome."""
    ender, heard, stop = Ender(), Heard(), Stop()
    stop.request()
    report = await carry_out(list("abc"), ender, heard, stop=stop)
    assert (ender.sent, report.counts) == ([], {OutcomeKind.NOT_ATTEMPTED: 3})


@virtual_time
async def test_an_async_source_is_left_alone_after_a_stop() -> None:
    """Asking it for more may be work; what it still holds is not pulled and has no outcome."""
    ender, heard, stop, pulled = Ender(usual=Behaviour(1.0)), Heard(), Stop(), list[str]()
    asyncio.get_running_loop().call_later(1.5, stop.request)
    await carry_out(slowly(list("abcdefg"), 0.0, pulled), ender, heard, concurrency=2, stop=stop)
    assert pulled == list("abc")
    assert heard.kinds == [(name, "ended") for name in "abc"]


@virtual_time
async def test_a_stop_does_not_wait_for_a_blocked_source() -> None:
    """A source that is waited for is interrupted, and may clean up."""
    closed = []

    async def blocked() -> AsyncIterator[str]:
        try:
            yield "a"
            await asyncio.sleep(math.inf)
        finally:
            await asyncio.sleep(0.5)
            closed.append(now())

    stop = Stop()
    asyncio.get_running_loop().call_later(10.0, stop.request)
    report = await carry_out(blocked(), Ender(), Heard(), concurrency=4, stop=stop)
    assert (report.counts, closed) == ({OutcomeKind.ENDED: 1}, [about(10.5)])


@pytest.mark.parametrize("gap", [0.0, 0.1, 0.5, 2.0])
@virtual_time
async def test_a_second_stop_while_the_source_still_cleans_up(gap: float) -> None:
    """Pressing Ctrl-C twice, or a deadline after a stop, changes nothing and breaks nothing."""
    failures: list[dict[str, object]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(context))

    async def blocked() -> AsyncIterator[str]:
        try:
            yield "a"
            await asyncio.sleep(math.inf)
        finally:
            await asyncio.sleep(1.0)

    stop = Stop()
    loop.call_later(10.0, stop.request)
    loop.call_later(10.0 + gap, stop.request)
    report = await carry_out(blocked(), Ender(), Heard(), concurrency=4, stop=stop)
    await asyncio.sleep(5)
    assert failures == []
    assert report.counts == {OutcomeKind.ENDED: 1}


@virtual_time
async def test_a_source_may_run_into_a_timeout_of_its_own() -> None:
    """A TimeoutError that the stop did not cause is the source's, and is raised."""

    async def fails() -> AsyncIterator[str]:
        yield "a"
        async with asyncio.timeout(1):
            await asyncio.sleep(math.inf)

    with pytest.raises(TimeoutError):
        await carry_out(fails(), Ender(), Heard())


@virtual_time
async def test_the_deadline_stops_the_run() -> None:
    """It works as a stop does and is named as the reason."""
    ender, heard = Ender(usual=Behaviour(1.0)), Heard()
    report = await carry_out(list("abcdef"), ender, heard, concurrency=2, deadline=2.5)
    assert ender.ids == list("abcde")
    assert report.counts == {OutcomeKind.ENDED: 5, OutcomeKind.NOT_ATTEMPTED: 1}
    assert isinstance(report.stopped, DeadlineExceededError)
    assert "the run's deadline" in str(report.stopped)


@virtual_time
async def test_a_deadline_that_is_not_reached_leaves_no_timer() -> None:
    """A Stop that is used again is not stopped by the deadline of a finished run."""
    stop = Stop()
    await carry_out(list("ab"), Ender(), Heard(), stop=stop, deadline=10.0)
    await asyncio.sleep(20)
    assert not stop.requested


@virtual_time
async def test_the_first_reason_stays() -> None:
    """Later requests are heard by who is listening, but do not rewrite history."""
    stop, heard = Stop(), list[float]()
    first = AuthenticationError("401", status=401)
    with stop.listening(heard.append):
        stop.request(first, grace=3.0)
        stop.request(DeadlineExceededError("late"), grace=0.0)
    with stop.listening(heard.append):
        pass
    stop.request()
    assert (stop.reason, heard) == (first, [3.0, 0.0, 0.0])
    assert repr(stop) == "<Stop 401, 0 listening>"
    assert repr(Stop()) == "<Stop not requested, 0 listening>"


# What goes wrong around it


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("kind", ["plain", "async"])
@virtual_time
async def test_what_the_source_raises_is_raised(kind: str, after: int) -> None:
    """It ends the run as it is, not in a group, at the first id too, and leaves no task."""

    def plain() -> Iterator[str]:
        yield from list("abc")[:after]
        raise LookupError("no such table")

    async def awaited() -> AsyncIterator[str]:
        for item in plain():
            yield item

    heard = Heard()
    with pytest.raises(LookupError, match="no such table"):
        await carry_out(plain() if kind == "plain" else awaited(), Ender(), heard, concurrency=1)
    assert heard.kinds == [(name, "ended") for name in list("abc")[:after]]


@pytest.mark.parametrize("concurrency", [1, 2, 20])
@pytest.mark.parametrize("after", [0, 1, 3])
@virtual_time
async def test_a_raising_source_takes_its_workers_along(concurrency: int, after: int) -> None:
    """What is in flight is cancelled, and no warning speaks of coroutines that were never awaited."""

    def plain() -> Iterator[str]:
        yield from list("abc")[:after]
        raise LookupError("no such table")

    with pytest.raises(LookupError):
        await carry_out(plain(), Ender(usual=Behaviour(5.0)), Heard(), concurrency=concurrency)


@virtual_time
async def test_what_on_outcome_raises_is_raised() -> None:
    """Whoever listens may end the run by an error, also while outcomes of a stopped run are delivered."""

    async def deliver(outcome: Outcome) -> None:
        if outcome.conference_id == "c":
            raise OSError("disk full")

    before = asyncio.all_tasks()
    stopped = Stop()
    stopped.request()
    for stop in (Stop(), stopped):
        with pytest.raises(OSError, match="disk full"):
            await run(list("abcdefg"), Ender(), deliver, concurrency=3, stop=stop)
    assert asyncio.all_tasks() == before


@virtual_time
async def test_an_outcome_is_delivered_before_its_worker_goes_on() -> None:
    """A slow listener slows the run down; nothing piles up."""
    ender = Ender()

    async def deliver(_: Outcome) -> None:
        await asyncio.sleep(1.0)

    await run(list("abcdef"), ender, deliver, concurrency=2, stop=Stop())
    assert [round(moment, 1) for moment, _ in ender.sent] == [0.0, 1.0, 1.1, 2.1, 2.2, 3.2]


@virtual_time
async def test_a_bug_is_not_an_outcome() -> None:
    """What is not ours ends the run."""

    async def broken(_: Target, stop: Stop) -> Outcome:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run(list("abc"), broken, Heard(), concurrency=2, stop=Stop())


@pytest.mark.parametrize("moment", [0.0, 0.05, 0.1, 0.15, 0.5, 0.95, 1.0, 1.05, 2.0])
@pytest.mark.parametrize("gap", [None, 0.0, 0.3])
@virtual_time
async def test_a_cancelled_run_leaves_nothing_behind(moment: float, gap: float | None) -> None:
    """Cancelled at any moment: no task, nothing in flight, no id counted twice."""
    ender, heard = Ender(usual=Behaviour(0.1)), Heard()
    items = [str(number) for number in range(100)]
    source: Source = items if gap is None else slowly(items, gap)
    before = asyncio.all_tasks()
    task = asyncio.create_task(run(source, ender, heard, concurrency=4, stop=Stop(), deadline=50.0))
    await asyncio.sleep(moment)
    task.cancel("mine")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == before
    assert ender.in_flight.total() == 0
    assert max(Counter(heard.kinds).values(), default=0) <= 1
    sent = len(ender.sent)
    await asyncio.sleep(100)
    assert len(ender.sent) == sent


@pytest.mark.parametrize("concurrency", [1, 5])
@virtual_time
async def test_a_run_that_is_cancelled_as_the_first_outcome_comes(concurrency: int) -> None:
    """The very tick in which the pilot is back is a moment like any other."""
    ender = Ender()

    async def deliver(_: Outcome) -> None:
        task.cancel()

    before = asyncio.all_tasks()
    endless = map(str, itertools.count())
    task = asyncio.create_task(run(endless, ender, deliver, concurrency=concurrency, stop=Stop()))
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 100)
    assert asyncio.all_tasks() == before
    assert len(ender.sent) <= concurrency + 1


# As a stream


async def stream(
    source: Source,
    ender: Ender,
    *,
    concurrency: int = 3,
    stop: Stop | None = None,
    until: Callable[[Outcome], bool] = lambda _: False,
) -> tuple[list[Outcome], Report]:
    """Iterate over a run until ``until``, and see that no task is left."""
    before, outcomes = asyncio.all_tasks(), []
    async with iterate(source, ender, concurrency=concurrency, stop=stop or Stop()) as stream_of:
        async for outcome in stream_of:
            outcomes.append(outcome)
            if until(outcome):
                break
    assert asyncio.all_tasks() == before
    return outcomes, stream_of.report


@virtual_time
async def test_a_stream_gives_every_outcome() -> None:
    """The same as a run, one after the other, with the report at the end."""
    names = [str(number) for number in range(50)]
    outcomes, report = await stream(names, Ender())
    assert sorted(o.conference_id for o in outcomes) == sorted(names)
    assert report.counts == {OutcomeKind.ENDED: 50}
    assert report.elapsed == about(1.8)


@pytest.mark.parametrize("last", ["0", "1", "5"])
@virtual_time
async def test_breaking_off_ends_the_run_at_once(last: str) -> None:
    """Leaving early sends nothing more and leaves no task."""
    ender = Ender()
    outcomes, _ = await stream(map(str, itertools.count()), ender, until=lambda o: o.conference_id == last)
    sent = len(ender.sent)
    await asyncio.sleep(10)
    assert len(ender.sent) == sent
    assert ender.in_flight.total() == 0
    assert outcomes[-1].conference_id == last


@virtual_time
async def test_a_slow_consumer_holds_the_run_back() -> None:
    """At most twice the concurrency is ahead of who iterates: in flight, and waiting to be taken."""
    ender, taken = Ender(), 0
    async with iterate(map(str, range(60)), ender, concurrency=3, stop=Stop()) as outcomes:
        async for _ in outcomes:
            taken += 1
            await asyncio.sleep(5.0)
            assert len(ender.sent) <= taken + 2 * 3
    assert taken == 60


@virtual_time
async def test_a_stream_after_its_end_stays_at_its_end() -> None:
    """Asking again does not hang."""
    async with iterate(list("ab"), Ender(), concurrency=2, stop=Stop()) as outcomes:
        assert [o.conference_id async for o in outcomes] == ["a", "b"]
        assert [o async for o in outcomes] == []
        assert repr(outcomes) == "<Outcomes {<OutcomeKind.ENDED: 'ended'>: 2}>"


@virtual_time
async def test_what_the_source_raises_reaches_who_iterates() -> None:
    """At the place of the loop, after the outcomes that were there, as it is."""

    def plain() -> Iterator[str]:
        yield from "abc"
        raise LookupError("no such table")

    got = []
    async with iterate(plain(), Ender(), concurrency=1, stop=Stop()) as outcomes:
        with pytest.raises(LookupError, match="no such table"):  # noqa: PT012  # a loop is one statement
            async for outcome in outcomes:
                got.append(outcome.conference_id)  # noqa: PERF401  # a comprehension would lose them
        assert [o async for o in outcomes] == []
    assert got == list("abc")


@virtual_time
async def test_what_the_source_raises_leaves_the_context_as_it_is() -> None:
    """``except LookupError`` around the whole block catches it: it does not come in a group."""

    def plain() -> Iterator[str]:
        yield "a"
        raise LookupError("no such table")

    with pytest.raises(LookupError, match="no such table"):
        await stream(plain(), Ender())


@virtual_time
async def test_what_the_body_raises_leaves_the_context_as_it_is() -> None:
    """The caller's own error comes out as it went in, and the run has ended."""
    ender, before = Ender(), asyncio.all_tasks()

    async def body() -> None:
        async with iterate(map(str, itertools.count()), ender, concurrency=3, stop=Stop()) as outcomes:
            async for _ in outcomes:
                raise ServerError("mine", status=500)

    with pytest.raises(ServerError, match="mine"):
        await body()
    assert asyncio.all_tasks() == before


@virtual_time
async def test_a_stream_that_is_stopped_ends_with_the_rest() -> None:
    """Plain ids come out as not attempted; the report names the reason."""
    stop = Stop()
    asyncio.get_running_loop().call_later(0.25, stop.request)
    outcomes, report = await stream([str(n) for n in range(10)], Ender(), stop=stop)
    assert len(outcomes) == 10
    assert report.counts == {OutcomeKind.ENDED: 7, OutcomeKind.NOT_ATTEMPTED: 3}
    assert report.stopped is stop.reason


@pytest.mark.parametrize("moment", [0.0, 0.05, 0.5, 1.0])
@virtual_time
async def test_a_cancelled_consumer_leaves_nothing_behind(moment: float) -> None:
    """Cancelling the task that iterates ends the run."""
    ender, before = Ender(), asyncio.all_tasks()
    task = asyncio.create_task(stream(map(str, itertools.count()), ender))
    await asyncio.sleep(moment)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == before
    assert ender.in_flight.total() == 0


@virtual_time
async def test_a_wrong_concurrency_of_a_stream() -> None:
    """The setting's error comes out as it is."""
    with pytest.raises(ConfigurationError, match="at least 1, not 0"):
        await stream(list("ab"), Ender(), concurrency=0)


@virtual_time
async def test_a_stream_that_was_left_has_ended() -> None:
    """Asking it for more does not wait for a run that is gone."""
    async with iterate(map(str, itertools.count()), Ender(), concurrency=3, stop=Stop()) as outcomes:
        async for _ in outcomes:
            break
    assert [outcome async for outcome in outcomes] == []


# What stops a run, and what does not


@virtual_time
async def test_a_stop_that_stopped_nothing_is_no_reason() -> None:
    """When the last in flight is ended within the grace, the run is whole."""
    report = await carry_out(["a"], Ender(usual=Behaviour(1.5)), Heard(), deadline=1.0)
    assert (report.counts, report.stopped, report.ok) == ({OutcomeKind.ENDED: 1}, None, True)


@virtual_time
async def test_403_for_all_stops_the_run() -> None:
    """Three ids denied and nothing else: the account is not ours."""
    denied = PermissionDeniedError("no", status=403, attempts=1)
    ender = Ender(usual=Behaviour(0.1, denied))
    report = await carry_out([str(number) for number in range(50)], ender, Heard(), concurrency=1)
    assert len(ender.sent) == 3
    assert report.counts == {OutcomeKind.REFUSED: 3, OutcomeKind.NOT_ATTEMPTED: 47}
    assert report.stopped is denied


@virtual_time
async def test_403_for_some_is_an_outcome() -> None:
    """After anything else than a denial, denials are each their own."""
    denied = Behaviour(0.1, PermissionDeniedError("no", status=403, attempts=1))
    ender = Ender({str(number): denied for number in range(1, 20)})
    report = await carry_out([str(number) for number in range(20)], ender, Heard(), concurrency=2)
    assert report.counts == {OutcomeKind.ENDED: 1, OutcomeKind.REFUSED: 19}
    assert report.stopped is None


@virtual_time
async def test_403_for_all_from_some_moment_on_stops_the_run() -> None:
    """Twenty in a row: a role was taken away, and thousands of ids are not to be settled as refused."""
    denied = PermissionDeniedError("no", status=403, attempts=1)
    ender = Ender({str(number): Behaviour(0.1, denied) for number in range(30, 500)})
    report = await carry_out([str(number) for number in range(500)], ender, Heard(), concurrency=2)
    assert report.stopped is denied
    assert (report.counts["ended"], report.counts["refused"]) == (30, 21)  # one was in flight


@virtual_time
async def test_every_second_id_is_denied() -> None:
    """However many there are, what comes between shows that the account is ours."""
    denied = Behaviour(0.1, PermissionDeniedError("no", status=403, attempts=1))
    ender = Ender({str(number): denied for number in range(0, 200, 2)}, Behaviour(0.1))
    report = await carry_out([str(number) for number in range(200)], ender, Heard(), concurrency=2)
    assert (report.counts["ended"], report.counts["refused"], report.stopped) == (100, 100, None)


async def test_the_rest_of_the_loop_gets_its_turn() -> None:
    """A million ids that are all answered on the spot do not freeze the application."""
    stop, turns = Stop(), 0

    async def at_once(target: Target, _: Stop) -> Outcome:
        return Outcome(target.conference_id, OutcomeKind.ENDED)

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            if turns == 20:
                stop.request()
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    report = await run(map(str, range(10_000)), at_once, Heard(), concurrency=2, stop=stop)
    counting.cancel()
    assert report.total == 10_000
    assert turns >= 50


@virtual_time
async def test_what_is_no_text_is_refused() -> None:
    """A null out of somebody's database is no conference called None."""
    heard = Heard()
    ender = Ender()
    items: Any = ["a", None, 5]
    await carry_out(items, ender, heard, concurrency=1)
    assert heard.kinds == [("a", "ended"), ("None", "refused"), ("5", "refused")]
    assert ender.ids == ["a"]
    assert heard.outcomes[1].error == "a conference id is a string, not None"


# With a ledger


@mutable
class Book:
    """A ledger in memory that notes what it is asked, and fails where it is told to."""

    ids: list[str]
    fails: dict[str, Exception] = field(factory=dict)
    log: list[str] = field(factory=list)

    def targets(self) -> Iterator[Target]:
        """Yield them."""
        return map(Target, self.ids)

    async def begin(self, target: Target) -> None:
        """Note it."""
        await self._note(f"begin {target.conference_id}")

    async def settle(self, target: Target, outcome: Outcome) -> None:
        """Note it."""
        await self._note(f"settle {target.conference_id} {outcome.kind}")

    async def close(self) -> None:
        """Note it."""
        await self._note("close")

    def hear(self, outcome: Outcome) -> None:
        """Note that an outcome was told."""
        self.log.append(f"tell {outcome.conference_id}")

    async def end(self, target: Target, stop: Stop) -> Outcome:
        """End one conference, unless the run stops."""
        if stop.requested:
            raise DeadlineExceededError("the run was stopped")
        self.log.append(f"send {target.conference_id}")
        await asyncio.sleep(0.1)
        return Outcome(target.conference_id, OutcomeKind.ENDED, 1)

    async def _note(self, what: str) -> None:
        await asyncio.sleep(0.01)
        self.log.append(what)
        if what in self.fails:
            raise self.fails[what]


def test_what_a_ledger_is() -> None:
    """A run tells it from a source by its four methods."""
    assert isinstance(Book([]), Ledger)
    sources: list[Source] = [[], iter(()), {}, slowly([], 0), map(str, ())]
    assert [source for source in sources if isinstance(source, Ledger)] == []


@virtual_time
async def test_a_run_with_a_ledger() -> None:
    """Begun before it is sent, settled before it is told, and closed at the end."""
    book = Book(["a", "b"])
    report = await run(book, book.end, book.hear, concurrency=1, stop=Stop())
    steps = [[f"begin {one}", f"send {one}", f"settle {one} ended", f"tell {one}"] for one in "ab"]
    assert book.log == [*steps[0], *steps[1], "close"]
    assert report.counts == {OutcomeKind.ENDED: 2}


@virtual_time
async def test_what_cannot_be_begun_is_not_sent() -> None:
    """The run stops, and the rest is not attempted and never begun."""
    full = JournalError("full")
    book = Book(["a", "b", "c"], {"begin b": full})
    report = await run(book, book.end, book.hear, concurrency=1, stop=Stop())
    assert book.log == [
        *("begin a", "send a", "settle a ended", "tell a"),
        *("begin b", "settle b not_attempted", "tell b", "settle c not_attempted", "tell c", "close"),
    ]
    assert report.stopped is full


@virtual_time
async def test_what_cannot_be_settled_is_told_all_the_same() -> None:
    """The run stops: what is in flight may finish, and nothing more is sent."""
    full = JournalError("full")
    book = Book(list("abcd"), {"settle b ended": full})
    report = await run(book, book.end, book.hear, concurrency=2, stop=Stop())
    assert [line for line in book.log if line.startswith("send")] == ["send a", "send b", "send c"]
    assert [line for line in book.log if line.startswith("tell")] == [f"tell {one}" for one in "abcd"]
    assert report.counts == {OutcomeKind.ENDED: 3, OutcomeKind.NOT_ATTEMPTED: 1}
    assert report.stopped is full


@pytest.mark.parametrize("where", ["begin b", "settle b ended"])
@virtual_time
async def test_a_bug_of_a_ledger_is_raised(where: str) -> None:
    """It ends the run, and the ledger is closed."""
    book = Book(list("abc"), {where: ZeroDivisionError()})
    with pytest.raises(ZeroDivisionError):
        await run(book, book.end, book.hear, concurrency=1, stop=Stop())
    assert book.log[-2:] == [where, "close"]


@pytest.mark.parametrize("moment", [0.005, 0.05, 0.115, 0.2])
@virtual_time
async def test_a_cancelled_run_closes_its_ledger(moment: float) -> None:
    """Cancelled at any moment, once, and to its end; as a stream too."""
    for as_stream in (False, True):
        book = Book(list("abcdefgh"))

        async def consume(book: Book = book) -> None:
            async with iterate(book, book.end, concurrency=2, stop=Stop()) as outcomes:
                async for _ in outcomes:
                    pass

        doing = consume() if as_stream else run(book, book.end, concurrency=2, stop=Stop())
        task: asyncio.Task[Any] = asyncio.ensure_future(doing)
        await asyncio.sleep(moment)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert book.log.count("close") == 1
        assert book.log[-1] == "close"


@virtual_time
async def test_what_hears_outcomes_may_be_async() -> None:
    """It is awaited, whatever it returns; what is not async may return anything."""
    heard: list[str] = []

    async def slow(outcome: Outcome) -> None:
        await asyncio.sleep(1.0)
        heard.append(outcome.conference_id)

    await run(list("ab"), Ender(), slow, concurrency=1, stop=Stop())
    numbers: Any = lambda outcome: len(outcome.conference_id)  # noqa: E731  # as somebody's callback
    await run(list("ab"), Ender(), numbers, concurrency=1, stop=Stop())
    assert heard == ["a", "b"]
