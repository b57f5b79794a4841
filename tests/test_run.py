"""The run: every id from the source gets exactly one outcome, whatever happens and whenever it stops."""

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
from bandwidth_async.run import Ledger, Source, Stop, Target, _Firsts, iterate, run

TICK = 1e-5
FIRST_ALONE = 1.0

virtual_time = pytest.mark.looptime(noop_cycles=2)
pytestmark = pytest.mark.timeout(10)  # fail, not hang, if a run does not end


def about(moment: float, abs: float = TICK) -> Any:  # noqa: A002  # the name that pytest uses
    """Return a value that equals any number near ``moment``."""
    return pytest.approx(moment, abs=abs)


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


@frozen
class Behaviour:
    """How long the end of a conference takes, and its error."""

    latency: float = 0.1
    error: BandwidthError | None = None


@mutable
class Ender:
    """Ends conferences as their behaviour says, sends nothing after a stop, and checks the run's rules."""

    behaviours: dict[str, Behaviour] = field(factory=dict)
    usual: Behaviour = Behaviour()
    sent: list[tuple[float, str]] = field(factory=list)
    in_flight: Counter[str] = field(factory=Counter)
    most: int = 0

    async def __call__(self, target: Target, stop: Stop) -> Outcome:
        """End one conference."""
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
    """The outcomes that were delivered, and when."""

    outcomes: list[Outcome] = field(factory=list)
    moments: list[float] = field(factory=list)

    async def __call__(self, outcome: Outcome) -> None:
        """Receive an outcome."""
        self.outcomes.append(outcome)
        self.moments.append(now())

    @property
    def kinds(self) -> list[tuple[str, str]]:
        """The ids and their kinds of outcome, in order of delivery."""
        return [(outcome.conference_id, str(outcome.kind)) for outcome in self.outcomes]


def assert_attempts(attempted: list[str], ender: Ender) -> None:
    """Check that each id was tried once. Only the first may be tried twice, if it failed alone."""
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
    """Run, and check that no task is left."""
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
    """Each id has one outcome, with any duplicates, errors, stops at any time, and from either source."""
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
    assert_attempts(list(dict.fromkeys(attempted)), ender)
    counts: Counter[str] = Counter(outcome.kind for outcome in heard.outcomes)
    elapsed = now() - started
    attempts = sum(outcome.attempts for outcome in heard.outcomes)
    assert report.stopped in {None, stop.reason}
    if report.unsettled and stop.requested:
        assert report.stopped is stop.reason
    assert report == Report(
        counts=counts,
        attempts=attempts,
        elapsed=elapsed,
        stopped=report.stopped,
        complete=report.complete,
    )
    # A report is about the whole input, or says that it is not.
    assert report.complete or (gap is not None and report.stopped is stop.reason)
    kinds = {outcome.conference_id: outcome.kind for outcome in heard.outcomes}
    assert all(outcome.kind is kinds[outcome.conference_id] for outcome in heard.outcomes)
    if not stop.requested:
        assert len(attempted) == len(items)


@virtual_time
async def test_a_report_of_a_plain_run() -> None:
    """A run accepts ids and Conference objects. Its report has all counts and attempts."""
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
    """A run with an empty source ends at once, with an empty report."""
    sources: list[Source] = [[], slowly([], 0)]
    for source in sources:
        heard = Heard()
        assert await carry_out(source, Ender(), heard) == Report()
        assert heard.outcomes == []


@pytest.mark.parametrize("concurrency", [0, -1])
async def test_no_concurrency_is_no_run(concurrency: int) -> None:
    """``concurrency`` is checked before the run takes an id."""
    pulled = iter(["a"])
    with pytest.raises(ConfigurationError, match=f"at least 1, not {concurrency}"):
        await carry_out(pulled, Ender(), Heard(), concurrency=concurrency)
    assert list(pulled) == ["a"]


@virtual_time
async def test_a_million_ids_are_not_held() -> None:
    """The run takes one id for each free worker, never more."""
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
    """A None among the ids does not stop the run: the ids after it are ended too."""
    heard = Heard()
    source: list[str] = ["a", None, "b"]  # type: ignore[list-item]  # as from a table with an empty cell
    report = await carry_out(source, Ender(), heard, concurrency=1)
    assert report.total == 3
    assert ("b", "ended") in heard.kinds


@pytest.mark.parametrize("source", ["conf-1", b"conf-1", Conference(id="conf-1")])
async def test_one_id_is_no_list_of_ids(source: Source) -> None:
    """A single id as the source is an error. Otherwise each letter would be an id."""
    with pytest.raises(ConfigurationError, match="a list of ids"):
        await carry_out(source, Ender(), Heard())


# The first id


@virtual_time
async def test_the_first_id_goes_ahead() -> None:
    """No other id starts before the first one has its outcome."""
    ender = Ender({"a": Behaviour(0.4)})
    await carry_out(list("abcd"), ender, Heard(), concurrency=10)
    assert ender.sent == [(0.0, "a"), *((about(0.4), name) for name in "bcd")]


@virtual_time
async def test_the_first_id_has_a_second_for_itself() -> None:
    """The others wait at most a second for a slow first id."""
    ender = Ender({"a": Behaviour(30.0)})
    await carry_out(list("abcd"), ender, Heard(), concurrency=10)
    assert ender.sent == [(0.0, "a"), *((about(FIRST_ALONE), name) for name in "bcd")]


@pytest.mark.parametrize(("ambiguous", "kind"), [(False, "failed"), (True, "unknown")])
@virtual_time
async def test_a_first_id_that_fails_alone_is_tried_once_more(ambiguous: bool, kind: str) -> None:
    """A first id that failed alone is tried again, together with the others. Its attempts add up."""
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
    """The first id has a second try only if it failed alone. No other id has one."""
    error = ServerError("answered 503", status=503, attempts=5)
    ender = Ender({"a": Behaviour(3.0, error), "b": Behaviour(0.1, error)})
    await carry_out(list("abc"), ender, Heard(), concurrency=3)
    assert ender.ids == ["a", "b", "c"]


@virtual_time
async def test_a_first_id_that_recovers() -> None:
    """The outcome of the first id is that of its second try, with the attempts of both."""
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
    """The first id has no second try if it was refused, or if its error stops the run."""
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
    """After a stop, an id that an earlier run may have ended is ``unknown``, not ``not_attempted``."""
    heard, stop = Heard(), Stop()
    stop.request()
    ids = [Target("a"), Target("b", ambiguous=True)]
    report = await run(ids, Ender(), heard, concurrency=3, stop=stop)
    assert report.counts == {OutcomeKind.NOT_ATTEMPTED: 1, OutcomeKind.UNKNOWN: 1}


@virtual_time
async def test_wrong_credentials_cost_one_request() -> None:
    """Wrong credentials stop the run at the first id. The others are not attempted."""

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
    """A duplicate waits for the same id in flight, and each has an outcome. Other ids do not wait."""
    ender = Ender({"x": Behaviour(5.0)})
    heard = Heard()
    report = await carry_out(["pilot", "x", "x", "x", "y"], ender, heard, concurrency=5)
    assert heard.kinds == [("pilot", "ended"), ("y", "ended"), *[("x", "ended")] * 3]
    assert heard.moments[-1] == about(5.1)
    assert (sorted(ender.ids), report.attempts) == (["pilot", "x", "y"], 3)


ERRORS = {
    "not_found": NotFoundError("404", status=404, attempts=1),
    "failed": ServerError("500", status=500, attempts=5),
    "unknown": ServerError("500", status=500, attempts=5, ambiguous=True),
    "refused": APIError("400", status=400, attempts=1),
}


@pytest.mark.parametrize("concurrency", [1, 5])
@pytest.mark.parametrize("kind", [*ERRORS, "ended"])
@pytest.mark.parametrize("source", [list, iter, lambda ids: slowly(ids, 0)])
@virtual_time
async def test_a_duplicate_has_the_outcome_of_its_first(
    source: Callable[[list[str]], Source], kind: str, concurrency: int
) -> None:
    """Whatever that is, from any source, while the first is in flight and long after: one request for it."""
    ender, heard = Ender({"x": Behaviour(0.1, ERRORS.get(kind))}), Heard()
    ids = ["pilot", "x", "x", *map(str, range(50)), "x"]
    report = await carry_out(source(ids), ender, heard, concurrency=concurrency)
    told = [outcome for outcome in heard.outcomes if outcome.conference_id == "x"]
    assert [outcome.kind for outcome in told] == [kind] * 3
    assert [bool(outcome.attempts) for outcome in told] == [True, False, False]
    assert [outcome.error is None for outcome in told] == [kind == "ended"] * 3
    assert ender.ids.count("x") == 1
    assert report.total == len(ids)


@virtual_time
async def test_duplicates_in_the_rest_of_a_stopped_run() -> None:
    """An id that was ended before the stop is not told as not attempted behind it."""
    heard, stop = Heard(), Stop()
    asyncio.get_running_loop().call_later(0.15, stop.request)
    report = await carry_out(["a", "b", "a", "c", "c", "b"], Ender(), heard, concurrency=1, stop=stop)
    assert heard.kinds[2:] == [
        ("a", "ended"),
        ("c", "not_attempted"),
        ("c", "not_attempted"),
        ("b", "ended"),
    ]
    assert report.stopped is stop.reason


@pytest.mark.parametrize(("known", "distance"), [(True, 25_000), (False, 9_999)])
async def test_how_far_apart_duplicates_are_known(known: bool, distance: int) -> None:
    """In a list at any distance, in a generator within 10,000 ids; and memory does not grow with those."""

    async def at_once(target: Target, _: Stop) -> Outcome:
        sent[target.conference_id] += 1
        return Outcome(target.conference_id, OutcomeKind.ENDED, 1)

    sent, heard = Counter[str](), Heard()
    ids = ["x", *map(str, range(distance)), "x"]
    await run(ids if known else (one for one in ids), at_once, heard, concurrency=2, stop=Stop())
    assert sent["x"] == 1
    assert heard.kinds[-1] == ("x", "ended")


def test_a_generator_is_remembered_in_part() -> None:
    """At most twice the last ids that are kept for certain."""

    firsts = _Firsts(100)
    for number in range(1_000):
        assert firsts.kind_of(str(number)) is None
        firsts.add(Outcome(str(number), OutcomeKind.ENDED))
        assert firsts.kind_of(str(max(number - 99, 0))) is OutcomeKind.ENDED
    known = [number for number in range(1_000) if firsts.kind_of(str(number))]
    assert 100 <= len(known) <= 200


@virtual_time
async def test_a_conference_object_and_its_id_are_the_same() -> None:
    """An id and a Conference object with that id are duplicates."""
    ender = Ender(usual=Behaviour(1.0))
    await carry_out(["p", "x", Conference(id="x"), "x"], ender, Heard(), concurrency=5)
    assert [round(moment, 3) for moment, _ in ender.sent] == [0.0, 1.0]


# Stops


@virtual_time
async def test_a_stop_lets_what_is_in_flight_finish() -> None:
    """After a stop, responses to requests in flight still count. The other ids are not attempted."""
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
    """A run that is stopped before it begins sends nothing, and every id has an outcome."""
    ender, heard, stop = Ender(), Heard(), Stop()
    stop.request()
    report = await carry_out(list("abc"), ender, heard, stop=stop)
    assert (ender.sent, report.counts) == ([], {OutcomeKind.NOT_ATTEMPTED: 3})


@virtual_time
async def test_an_async_source_is_left_alone_after_a_stop() -> None:
    """After a stop the run takes nothing more from an async source. Its other ids have no outcome."""
    ender, heard, stop, pulled = Ender(usual=Behaviour(1.0)), Heard(), Stop(), list[str]()
    asyncio.get_running_loop().call_later(1.5, stop.request)
    await carry_out(slowly(list("abcdefg"), 0.0, pulled), ender, heard, concurrency=2, stop=stop)
    assert pulled == list("abc")
    assert heard.kinds == [(name, "ended") for name in "abc"]


@virtual_time
async def test_a_stop_does_not_wait_for_a_blocked_source() -> None:
    """A stop cancels the wait for the next id, and the source can clean up."""
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
    """A second stop, such as a second Ctrl-C, has no effect while the source cleans up."""
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
    """A TimeoutError of the source itself is raised."""

    async def fails() -> AsyncIterator[str]:
        yield "a"
        async with asyncio.timeout(1):
            await asyncio.sleep(math.inf)

    with pytest.raises(TimeoutError):
        await carry_out(fails(), Ender(), Heard())


@virtual_time
async def test_the_deadline_stops_the_run() -> None:
    """The deadline works like a stop, and the report has it as the reason."""
    ender, heard = Ender(usual=Behaviour(1.0)), Heard()
    report = await carry_out(list("abcdef"), ender, heard, concurrency=2, deadline=2.5)
    assert ender.ids == list("abcde")
    assert report.counts == {OutcomeKind.ENDED: 5, OutcomeKind.NOT_ATTEMPTED: 1}
    assert isinstance(report.stopped, DeadlineExceededError)
    assert "the run's deadline" in str(report.stopped)


@virtual_time
async def test_a_deadline_that_is_not_reached_leaves_no_timer() -> None:
    """The deadline of a finished run does not stop a Stop that is used again."""
    stop = Stop()
    await carry_out(list("ab"), Ender(), Heard(), stop=stop, deadline=10.0)
    await asyncio.sleep(20)
    assert not stop.requested


@virtual_time
async def test_the_first_reason_stays() -> None:
    """Later requests reach the listeners, but the first reason stays."""
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


# Errors around the run


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("kind", ["plain", "async"])
@virtual_time
async def test_what_the_source_raises_is_raised(kind: str, after: int) -> None:
    """An error of the source ends the run and is raised unchanged, not in an exception group."""

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
    """An error of the source cancels the ids in flight. No coroutine is left without an await."""

    def plain() -> Iterator[str]:
        yield from list("abc")[:after]
        raise LookupError("no such table")

    with pytest.raises(LookupError):
        await carry_out(plain(), Ender(usual=Behaviour(5.0)), Heard(), concurrency=concurrency)


@virtual_time
async def test_what_on_outcome_raises_is_raised() -> None:
    """An error of ``on_outcome`` ends the run, also while a stopped run delivers its outcomes."""

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
    """A slow ``on_outcome`` slows the run down, so that outcomes do not accumulate."""
    ender = Ender()

    async def deliver(_: Outcome) -> None:
        await asyncio.sleep(1.0)

    await run(list("abcdef"), ender, deliver, concurrency=2, stop=Stop())
    assert [round(moment, 1) for moment, _ in ender.sent] == [0.0, 1.0, 1.1, 2.1, 2.2, 3.2]


@virtual_time
async def test_a_bug_is_not_an_outcome() -> None:
    """An exception that is not a BandwidthError ends the run."""

    async def broken(_: Target, stop: Stop) -> Outcome:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run(list("abc"), broken, Heard(), concurrency=2, stop=Stop())


@pytest.mark.parametrize("moment", [0.0, 0.05, 0.1, 0.15, 0.5, 0.95, 1.0, 1.05, 2.0])
@pytest.mark.parametrize("gap", [None, 0.0, 0.3])
@virtual_time
async def test_a_cancelled_run_leaves_nothing_behind(moment: float, gap: float | None) -> None:
    """A cancelled run leaves no task and nothing in flight, and delivers no outcome twice."""
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
    """A run can be cancelled in the very tick in which its first outcome arrives."""
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
    """Iterate over a run until ``until`` is true, and check that no task is left."""
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
    """A stream yields all outcomes, one by one, and has the report at the end."""
    names = [str(number) for number in range(50)]
    outcomes, report = await stream(names, Ender())
    assert sorted(o.conference_id for o in outcomes) == sorted(names)
    assert report.counts == {OutcomeKind.ENDED: 50}
    assert report.elapsed == about(1.8)


@pytest.mark.parametrize("last", ["0", "1", "5"])
@virtual_time
async def test_breaking_off_ends_the_run_at_once(last: str) -> None:
    """After a break nothing is sent and nothing is in flight."""
    ender = Ender()
    outcomes, _ = await stream(map(str, itertools.count()), ender, until=lambda o: o.conference_id == last)
    sent = len(ender.sent)
    await asyncio.sleep(10)
    assert len(ender.sent) == sent
    assert ender.in_flight.total() == 0
    assert outcomes[-1].conference_id == last


@virtual_time
async def test_a_slow_consumer_holds_the_run_back() -> None:
    """A run is at most twice the concurrency ahead of the loop: ids in flight, and waiting outcomes."""
    ender, taken = Ender(), 0
    async with iterate(map(str, range(60)), ender, concurrency=3, stop=Stop()) as outcomes:
        async for _ in outcomes:
            taken += 1
            await asyncio.sleep(5.0)
            assert len(ender.sent) <= taken + 2 * 3
    assert taken == 60


@virtual_time
async def test_a_stream_after_its_end_stays_at_its_end() -> None:
    """A second iteration over a finished stream ends at once."""
    async with iterate(list("ab"), Ender(), concurrency=2, stop=Stop()) as outcomes:
        assert [o.conference_id async for o in outcomes] == ["a", "b"]
        assert [o async for o in outcomes] == []
        assert repr(outcomes) == "<Outcomes {<OutcomeKind.ENDED: 'ended'>: 2}>"


@virtual_time
async def test_what_the_source_raises_reaches_who_iterates() -> None:
    """An error of the source is raised unchanged in the loop, after the outcomes before it."""

    def plain() -> Iterator[str]:
        yield from "abc"
        raise LookupError("no such table")

    got = []
    async with iterate(plain(), Ender(), concurrency=1, stop=Stop()) as outcomes:
        with pytest.raises(LookupError, match="no such table"):  # noqa: PT012  # the loop is one statement
            async for outcome in outcomes:
                got.append(outcome.conference_id)  # noqa: PERF401  # a comprehension would lose them
        assert [o async for o in outcomes] == []
    assert got == list("abc")


@virtual_time
async def test_what_the_source_raises_leaves_the_context_as_it_is() -> None:
    """``except LookupError`` around the block catches the error, because it is not in an exception group."""

    def plain() -> Iterator[str]:
        yield "a"
        raise LookupError("no such table")

    with pytest.raises(LookupError, match="no such table"):
        await stream(plain(), Ender())


@virtual_time
async def test_what_the_body_raises_leaves_the_context_as_it_is() -> None:
    """An error in the body of the block is raised unchanged, and the run has ended."""
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
    """After a stop the stream yields the other ids as ``not_attempted``. The report has the reason."""
    stop = Stop()
    asyncio.get_running_loop().call_later(0.25, stop.request)
    outcomes, report = await stream([str(n) for n in range(10)], Ender(), stop=stop)
    assert len(outcomes) == 10
    assert report.counts == {OutcomeKind.ENDED: 7, OutcomeKind.NOT_ATTEMPTED: 3}
    assert report.stopped is stop.reason


@pytest.mark.parametrize("moment", [0.0, 0.05, 0.5, 1.0])
@virtual_time
async def test_a_cancelled_consumer_leaves_nothing_behind(moment: float) -> None:
    """If the task that iterates is cancelled, the run ends and leaves nothing in flight."""
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
    """A wrong ``concurrency`` of a stream raises a ConfigurationError."""
    with pytest.raises(ConfigurationError, match="at least 1, not 0"):
        await stream(list("ab"), Ender(), concurrency=0)


@virtual_time
async def test_a_stream_that_was_left_has_ended() -> None:
    """An iteration after a break ends at once."""
    async with iterate(map(str, itertools.count()), Ender(), concurrency=3, stop=Stop()) as outcomes:
        async for _ in outcomes:
            break
    assert [outcome async for outcome in outcomes] == []


# Reasons to stop a run


@virtual_time
async def test_a_stop_that_stopped_nothing_is_no_reason() -> None:
    """A run that finishes all ids within the grace period counts as complete, not as stopped."""
    report = await carry_out(["a"], Ender(usual=Behaviour(1.5)), Heard(), deadline=1.0)
    assert (report.counts, report.stopped, report.ok) == ({OutcomeKind.ENDED: 1}, None, True)


@virtual_time
async def test_403_for_all_stops_the_run() -> None:
    """If the first three ids all get a 403, the run stops, because the account is probably wrong."""
    denied = PermissionDeniedError("no", status=403, attempts=1)
    ender = Ender(usual=Behaviour(0.1, denied))
    report = await carry_out([str(number) for number in range(50)], ender, Heard(), concurrency=1)
    assert len(ender.sent) == 3
    assert report.counts == {OutcomeKind.REFUSED: 3, OutcomeKind.NOT_ATTEMPTED: 47}
    assert report.stopped is denied


@pytest.mark.parametrize("status", [402, 403])
@virtual_time
async def test_a_run_that_was_denied_every_id_says_so(status: int) -> None:
    """Of two ids too: both were refused, and the reason is no id's. With one other outcome it is an id's."""
    denied = APIError("no", status=status, attempts=1)
    report = await carry_out(["a", "b"], Ender(usual=Behaviour(0.1, denied)), Heard(), concurrency=2)
    assert (report.counts, report.stopped, report.complete) == ({OutcomeKind.REFUSED: 2}, denied, True)
    other = APIError("no", status=400, attempts=1)
    for first in (Behaviour(0.1), Behaviour(0.1, other)):
        ender = Ender({"a": first}, Behaviour(0.1, denied))
        report = await carry_out(["a", "b"], ender, Heard(), concurrency=2)
        assert (report.total, report.stopped) == (2, None)
    assert (await carry_out([], ender, Heard(), concurrency=2)).stopped is None


@virtual_time
async def test_402_for_all_stops_the_run() -> None:
    """Nothing that the account cannot pay for is asked for a thousand times."""
    ender = Ender(usual=Behaviour(0.1, APIError("no", status=402, attempts=1)))
    report = await carry_out([str(number) for number in range(50)], ender, Heard(), concurrency=1)
    assert report.counts == {OutcomeKind.REFUSED: 3, OutcomeKind.NOT_ATTEMPTED: 47}


@virtual_time
async def test_403_for_some_is_an_outcome() -> None:
    """After any other outcome, a 403 concerns only its own id and does not stop the run."""
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
    """A run whose outcomes are all immediate does not block the event loop."""
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
    """An id that is not a string is ``refused``. A null of a database is no conference named "None"."""
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
    """A ledger in memory that logs its calls and raises the given errors."""

    ids: list[str]
    fails: dict[str, Exception] = field(factory=dict)
    log: list[str] = field(factory=list)

    def targets(self) -> Iterator[Target]:
        """Return the targets."""
        return map(Target, self.ids)

    async def begin(self, target: Target) -> None:
        """Log the begin of a target."""
        await self._note(f"begin {target.conference_id}")

    async def settle(self, target: Target, outcome: Outcome) -> None:
        """Log the outcome of a target."""
        await self._note(f"settle {target.conference_id} {outcome.kind}")

    async def close(self) -> None:
        """Log the close."""
        await self._note("close")

    def hear(self, outcome: Outcome) -> None:
        """Log the delivery of an outcome."""
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


@virtual_time
async def test_an_outcome_whose_writing_is_cut_off_is_told_all_the_same() -> None:
    """It is true, and whoever counts operations has seen its begin."""
    book, told = Book(["a"]), list[Outcome]()
    task = asyncio.create_task(run(book, book.end, concurrency=1, stop=Stop(), tell=told.append))
    await asyncio.sleep(0.115)
    assert book.log == ["begin a", "send a"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [one.kind for one in told] == [OutcomeKind.ENDED]


def test_what_a_ledger_is() -> None:
    """A run recognises a ledger by its four methods."""
    assert isinstance(Book([]), Ledger)
    sources: list[Source] = [[], iter(()), {}, slowly([], 0), map(str, ())]
    assert [source for source in sources if isinstance(source, Ledger)] == []


@virtual_time
async def test_a_run_with_a_ledger() -> None:
    """The ledger records an id before it is sent, its outcome before delivery, and is closed at the end."""
    book = Book(["a", "b"])
    report = await run(book, book.end, book.hear, concurrency=1, stop=Stop())
    steps = [[f"begin {one}", f"send {one}", f"settle {one} ended", f"tell {one}"] for one in "ab"]
    assert book.log == [*steps[0], *steps[1], "close"]
    assert report.counts == {OutcomeKind.ENDED: 2}


@virtual_time
async def test_what_cannot_be_begun_is_not_sent() -> None:
    """If the ledger cannot begin an id, the run stops. The other ids are neither begun nor attempted."""
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
    """If an outcome cannot be recorded, it is still delivered. The run stops after the ids in flight."""
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
    """An unexpected error of the ledger is raised, and the ledger is closed."""
    book = Book(list("abc"), {where: ZeroDivisionError()})
    with pytest.raises(ZeroDivisionError):
        await run(book, book.end, book.hear, concurrency=1, stop=Stop())
    assert book.log[-2:] == [where, "close"]


@pytest.mark.parametrize("moment", [0.005, 0.05, 0.115, 0.2])
@virtual_time
async def test_a_cancelled_run_closes_its_ledger(moment: float) -> None:
    """A run or a stream that is cancelled at any time closes its ledger exactly once."""
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
    """An async ``on_outcome`` is awaited. A plain one may return anything."""
    heard: list[str] = []

    async def slow(outcome: Outcome) -> None:
        await asyncio.sleep(1.0)
        heard.append(outcome.conference_id)

    await run(list("ab"), Ender(), slow, concurrency=1, stop=Stop())
    numbers: Any = lambda outcome: len(outcome.conference_id)  # noqa: E731  # a callback may be a lambda
    await run(list("ab"), Ender(), numbers, concurrency=1, stop=Stop())
    assert heard == ["a", "b"]


# Sources and callbacks that end a run, or that would go on for ever


def dead() -> asyncio.Future[None]:
    """Return what somebody else has cancelled."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.cancel()
    return future


class Counting:
    """A source class, plain and async, that raises after some ids."""

    def __init__(self, error: BaseException, after: int = 3) -> None:
        self.given, self._after, self._error = 0, after, error

    def __iter__(self) -> Counting:
        """Be a plain iterator."""
        return self

    def __next__(self) -> str:
        """Give the next id."""
        self.given += 1
        if self.given > self._after:
            raise self._error
        return str(self.given)


class AsyncCounting:
    """The same as an async source."""

    def __init__(self, error: BaseException, after: int = 3) -> None:
        self._plain = Counting(error, after)

    def __aiter__(self) -> AsyncCounting:
        """Be an async iterator."""
        return self

    async def __anext__(self) -> str:
        """Give the next id."""
        await asyncio.sleep(0)
        return next(self._plain)


async def collect(source: Source, stop: Stop | None = None) -> Report:
    """Iterate over a run as a stream, to its end."""
    return (await stream(source, Ender(), stop=stop))[1]


async def plainly(source: Source, stop: Stop | None = None) -> Report:
    """Do a run that nobody listens to."""
    return await carry_out(source, Ender(), Heard(), stop=stop)


@pytest.mark.parametrize("doing", [plainly, collect])
@pytest.mark.parametrize("source", [Counting, AsyncCounting])
@pytest.mark.parametrize(
    "error", [asyncio.CancelledError("mine"), GeneratorExit("mine"), TimeoutError("mine"), ValueError("mine")]
)
@virtual_time
async def test_whatever_a_source_raises_is_raised(
    doing: Callable[[Source], Any], source: type[Counting], error: BaseException
) -> None:
    """`CancelledError` too: a producer that is shut down is not the end of the ids."""
    with pytest.raises(type(error), match="mine"):
        await doing(source(error))
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.parametrize("doing", [plainly, collect])
@virtual_time
async def test_a_plain_source_that_raises_what_ends_an_async_one(doing: Callable[[Source], Any]) -> None:
    """StopAsyncIteration of a plain iterator is an error, as it is in a generator."""
    with pytest.raises(RuntimeError, match="raised StopAsyncIteration"):
        await doing(Counting(StopAsyncIteration("mine")))


@pytest.mark.parametrize("doing", [plainly, collect])
@virtual_time
async def test_a_producer_that_was_cancelled_is_not_the_end_of_the_ids(
    doing: Callable[[Source], Any],
) -> None:
    """A generator that awaits it raises, and the run says so; nobody reports ok with ids missing."""

    async def source() -> AsyncIterator[str]:
        for number in range(20):
            yield str(number)
        await dead()
        yield "20"

    with pytest.raises(asyncio.CancelledError):
        await doing(source())


@pytest.mark.parametrize("at", [1, 3, 20])
@pytest.mark.parametrize("stopped", [False, True])
@virtual_time
async def test_a_callback_that_awaits_what_was_cancelled(at: int, *, stopped: bool) -> None:
    """Its `CancelledError` ends the run at once and is raised, also while the rest is told after a stop."""
    heard, ender, stop = list[Outcome](), Ender(), Stop()

    async def hear(outcome: Outcome) -> None:
        heard.append(outcome)
        if len(heard) == at:
            await dead()

    if stopped:
        stop.request()
    with pytest.raises(asyncio.CancelledError):
        await run([str(number) for number in range(100)], ender, hear, concurrency=5, stop=stop)
    assert at <= len(heard) < at + 5


@virtual_time
async def test_a_callback_that_cancels_its_own_task() -> None:
    """The worker it was called by is not the run, and does not go in silence."""

    def hear(_: Outcome) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await run([str(number) for number in range(50)], Ender(), hear, concurrency=4, stop=Stop())


@virtual_time
async def test_an_end_that_is_cancelled_from_inside() -> None:
    """A trace hook or a resolver that awaits what was cancelled is no silent end either."""

    async def end(target: Target, _: Stop) -> Outcome:
        if target.conference_id == "7":
            await dead()
        return Outcome(target.conference_id, OutcomeKind.ENDED, 1)

    with pytest.raises(asyncio.CancelledError):
        await run([str(number) for number in range(50)], end, concurrency=4, stop=Stop())


@pytest.mark.parametrize("concurrency", [1, 3])
@virtual_time
async def test_a_raised_error_leaves_no_cancellation_behind(concurrency: int) -> None:
    """The caller's task counts no request to cancel it, so its next timeout works."""
    task = asyncio.current_task()
    assert task is not None

    async def hear(outcome: Outcome) -> None:
        if outcome.conference_id == "5":
            raise LookupError

    with pytest.raises(LookupError):
        await run([str(number) for number in range(50)], Ender(), hear, concurrency=concurrency, stop=Stop())
    assert task.cancelling() == 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await asyncio.sleep(2)


@virtual_time
async def test_an_async_source_is_not_asked_behind_its_end() -> None:
    """A queue with a mark at its end would wait for ever the second time."""

    class Marked:
        def __init__(self) -> None:
            self.items: list[str | None] = ["a", "b", None]

        def __aiter__(self) -> Marked:
            return self

        async def __anext__(self) -> str:
            if not self.items:
                await asyncio.sleep(math.inf)
            item = self.items.pop(0)
            if item is None:
                raise StopAsyncIteration
            return item

    async with asyncio.timeout(10):
        report = await carry_out(Marked(), Ender(), Heard(), concurrency=5)
    assert (report.total, report.ok) == (2, True)


# The ways in which a run over an endless source comes to an end
ENDS = ["stop", "deadline", "error", "cancellation", "break", "body"]


async def end_by(how: str, source: Source) -> Report | None:
    """Do a run over an endless source that ends in this way."""
    stop, ender = Stop(), Ender()
    if how == "stop":
        asyncio.get_running_loop().call_later(1.05, stop.request)
        return await carry_out(source, ender, Heard(), stop=stop)
    if how == "deadline":
        return await carry_out(source, ender, Heard(), deadline=1.05)
    if how == "break":
        return (await stream(source, ender, until=lambda outcome: outcome.conference_id == "3"))[1]
    if how == "body":

        def fail(_: Outcome) -> bool:
            raise LookupError

        with pytest.raises(LookupError):
            await stream(source, ender, until=fail)
        return None
    if how == "error":
        with pytest.raises(ServerError):
            await run(source, ender, _raise, concurrency=3, stop=stop)
        return None
    task = asyncio.create_task(run(source, ender, concurrency=3, stop=stop))
    await asyncio.sleep(1.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return None


def _raise(_: Outcome) -> None:
    raise ServerError("mine", status=500)


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("kind", ["plain", "async", "async and slow", "iterable", "async iterable"])
@virtual_time
async def test_an_endless_source_ends_with_its_run(how: str, kind: str) -> None:
    """It is not drained for ever, its generator is closed, and the report is not about the whole of it."""
    closed, given = [], itertools.count()

    def plain(_: object = None) -> Iterator[str]:
        try:
            for number in given:
                yield str(number)
        finally:
            closed.append(kind)

    async def awaited(_: object = None) -> AsyncIterator[str]:
        try:
            for number in given:
                await asyncio.sleep(0.3 if kind == "async and slow" else 0)
                yield str(number)
        finally:
            await asyncio.sleep(0.01)
            closed.append(kind)

    method: Any = plain if kind == "iterable" else awaited
    name = "__iter__" if kind == "iterable" else "__aiter__"
    source = type("Some", (), {name: method})() if "iterable" in kind else None
    source = source or (plain() if kind == "plain" else awaited())
    report = await end_by(how, source)
    assert closed == [kind]
    assert next(given) < 10_100
    if report is not None:
        assert (report.ok, report.complete) == (False, False)
        assert how == "break" or report.stopped


@virtual_time
async def test_an_iterator_without_a_length_is_not_drained_for_ever() -> None:
    """It need not be a generator, and it may be slow where each id costs time."""
    numbers, heard, stop = itertools.count(), Heard(), Stop()
    stop.request()

    async def slow(outcome: Outcome) -> None:
        await heard(outcome)
        await asyncio.sleep(0.25)

    report = await run(map(str, numbers), Ender(), slow, concurrency=3, stop=stop)
    assert (report.total, report.complete, report.stopped) == (5, False, stop.reason)
    report = await run([str(number) for number in range(20)], Ender(), slow, concurrency=3, stop=stop)
    assert (report.total, report.complete, report.stopped) == (20, True, stop.reason)


@virtual_time
async def test_a_source_that_fails_to_clean_up_says_so() -> None:
    """What its closing raises is raised."""

    async def source() -> AsyncIterator[str]:
        try:
            for number in itertools.count():
                yield str(number)
        finally:
            raise LookupError("the connection was gone")

    with pytest.raises(LookupError, match="was gone"):
        await carry_out(source(), Ender(), Heard(), deadline=1.05)


@pytest.mark.parametrize("how", ["run", "stream"])
@virtual_time
async def test_a_report_is_ok_only_at_the_end(how: str) -> None:
    """While the run goes on nobody knows."""
    seen = []
    if how == "stream":
        async with iterate(list("abc"), Ender(), concurrency=1, stop=Stop()) as outcomes:
            seen = [outcomes.report.ok async for _ in outcomes]
        assert outcomes.report.ok
    else:
        assert (await plainly(list("abc"))).ok
    assert not any(seen)


@virtual_time
async def test_several_tasks_share_a_stream() -> None:
    """Each outcome goes to one of them, and all of them end; an error of the source reaches one."""

    def source(*, fails: bool) -> Iterator[str]:
        yield from map(str, range(50))
        if fails:
            raise LookupError

    for fails in (False, True):
        got: list[Outcome] = []
        async with iterate(source(fails=fails), Ender(), concurrency=5, stop=Stop()) as outcomes:

            async def consume(outcomes: Any = outcomes, got: list[Outcome] = got) -> None:
                got.extend([outcome async for outcome in outcomes])

            tasks = [asyncio.create_task(consume()) for _ in range(4)]
            done, waiting = await asyncio.wait(tasks, timeout=100)
        assert not waiting
        errors = [task.exception() for task in done if task.exception()]
        assert [type(error) for error in errors] == [LookupError] * fails
        if not fails:
            assert len({outcome.conference_id for outcome in got}) == 50


@pytest.mark.parametrize("consumers", [1, 3])
@pytest.mark.parametrize("latency", [0.1, 5.0])
@virtual_time
async def test_leaving_a_stream_ends_the_tasks_that_wait_for_it(consumers: int, latency: float) -> None:
    """They iterate over nothing more, whether outcomes were there or not."""

    async def consume(outcomes: AsyncIterator[Outcome]) -> None:
        async for _ in outcomes:
            await asyncio.sleep(0.07)

    ender = Ender(usual=Behaviour(latency))
    async with iterate(map(str, itertools.count()), ender, concurrency=2, stop=Stop()) as outcomes:
        tasks = [asyncio.create_task(consume(outcomes)) for _ in range(consumers)]
        await asyncio.sleep(2.0)
    _, waiting = await asyncio.wait(tasks, timeout=100)
    assert not waiting


@virtual_time
async def test_a_worker_is_made_when_there_is_an_id_for_it() -> None:
    """Two ids need three workers at most, of a million that are allowed."""
    most, before = 0, len(asyncio.all_tasks())

    async def end(target: Target, _: Stop) -> Outcome:
        nonlocal most
        await asyncio.sleep(3.0)
        most = max(most, len(asyncio.all_tasks()) - before)
        return Outcome(target.conference_id, OutcomeKind.ENDED, 1)

    report = await run(["a", "b"], end, concurrency=1_000_000, stop=Stop())
    assert (report.total, report.elapsed) == (2, about(4.0))
    assert most <= 3


@virtual_time
async def test_the_last_outcome_that_cannot_be_settled() -> None:
    """The ledger says unknown of it, so the report is not ok although nothing was left to be stopped."""
    full = JournalError("full")
    book = Book(list("ab"), {"settle b ended": full})
    report = await run(book, book.end, book.hear, concurrency=1, stop=Stop())
    assert (report.stopped, report.ok) == (full, False)
    assert report.counts == {OutcomeKind.ENDED: 2}


@virtual_time
async def test_a_stream_that_is_left_at_once() -> None:
    """Nothing is sent, and no warning speaks of a coroutine that was never awaited."""
    ender = Ender()
    async with iterate(list("ab"), ender, concurrency=3, stop=Stop()) as outcomes:
        pass
    assert (ender.sent, [outcome async for outcome in outcomes]) == ([], [])


@virtual_time
async def test_an_end_of_iteration_that_comes_from_inside_a_stream() -> None:
    """It is an error there, not the end of the outcomes."""

    async def end(_: Target, __: Stop) -> Outcome:
        raise StopAsyncIteration

    async with iterate(list("ab"), end, concurrency=1, stop=Stop()) as outcomes:
        with pytest.raises(RuntimeError, match="raised StopAsyncIteration"):
            await anext(outcomes)


@virtual_time
async def test_a_ledger_comes_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that it holds is settled after a stop, although its targets have no length."""
    monkeypatch.setattr("bandwidth_async.run._MOST_UNSENT", 5)
    stop = Stop()
    stop.request()
    book = Book([str(number) for number in range(300)])
    report = await run(book, book.end, book.hear, concurrency=1, stop=stop)
    assert (report.counts, report.complete) == ({OutcomeKind.NOT_ATTEMPTED: 300}, True)


@virtual_time
async def test_a_generator_that_two_runs_share_is_closed_by_the_last() -> None:
    """One run that fails must not look to the other like the end of the ids."""
    closed: list[bool] = []

    def ids() -> Iterator[str]:
        try:
            yield from (f"conf-{number}" for number in range(50))
        finally:
            closed.append(True)

    def fail(_: Outcome) -> None:
        raise ValueError("full")

    shared = ids()
    fine, failed = await asyncio.gather(
        run(shared, Ender(), concurrency=2, stop=Stop()),
        run(shared, Ender(), fail, concurrency=2, stop=Stop()),
        return_exceptions=True,
    )
    assert isinstance(failed, ValueError)
    assert isinstance(fine, Report)
    assert fine.ok
    # The other run had one id.
    assert fine.total == 49
    assert closed == [True]
