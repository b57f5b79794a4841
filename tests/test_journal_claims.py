"""A run with a journal claims an id before its request, and settles it before it reports the outcome."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from multidict import CIMultiDict

from bandwidth_async import BasicCredentials, Outcome, OutcomeKind, RateLimit, Stop, VoiceClient, wire
from bandwidth_async.errors import (
    ClientStateError,
    ConfigurationError,
    DeadlineExceededError,
    JournalError,
    ServerError,
)
from bandwidth_async.journal import Journal, read_outcomes
from bandwidth_async.journal.claims import Claims
from bandwidth_async.outcome import Report
from bandwidth_async.run import Target, run

CREATED = 1_795_344_312.5
FULL = JournalError("no space left on the disk under the journal")

virtual_time = pytest.mark.looptime


@define
class Notes:
    """A journal in memory that logs its changes, and fails from a given change on."""

    log: list[str] = field(factory=list)
    # For each kind of change, the number of the first one that fails.
    fails: dict[str, int] = field(factory=dict)
    asked: Counter[str] = field(factory=Counter)

    targets: list[Target] = field(factory=list)
    lent: bool = False

    def unsettled(self) -> Iterator[Target]:
        """Return all targets."""
        return iter(self.targets)

    def claim(self, *targets: Target) -> asyncio.Future[None]:
        """Log a claim."""
        return asyncio.ensure_future(self._note("claim", " ".join(one.conference_id for one in targets)))

    async def release(self, targets: Iterable[Target]) -> None:
        """Log each released target."""
        self.log.extend(f"release {target.conference_id}" for target in targets)

    async def settle(self, target: Target, outcome: Outcome) -> None:
        """Log an outcome."""
        await self._note("settle", f"{target.conference_id} {outcome.kind}")

    async def _note(self, what: str, of: str) -> None:
        await asyncio.sleep(0.01)
        self.asked[what] += 1
        if self.asked[what] >= self.fails.get(what, 10**9):
            raise JournalError(FULL.message)
        self.log.append(f"{what} {of}")


@define
class World:
    """The parts of a run, with all its steps in one log."""

    notes: Notes = field(factory=Notes)
    stop: Stop = field(factory=Stop)
    errors: dict[str, list[Exception]] = field(factory=dict)
    outcomes: list[Outcome] = field(factory=list)

    async def end(self, target: Target, stop: Stop) -> Outcome:
        """End a conference, unless the run stops."""
        if stop.requested:
            raise DeadlineExceededError("the run was stopped")
        self.notes.log.append(f"send {target.conference_id}")
        await asyncio.sleep(0.1)
        if self.errors.get(target.conference_id):
            raise self.errors[target.conference_id].pop(0)
        return Outcome(target.conference_id, OutcomeKind.ENDED, 1)

    def keep(self, outcome: Outcome) -> None:
        """Log and keep an outcome."""
        self.notes.log.append(f"tell {outcome.conference_id} {outcome.kind}")
        self.outcomes.append(outcome)

    async def run(self, count: int, concurrency: int = 1) -> Report:
        """End ``count`` conferences."""
        self.notes.targets = [Target(f"c{number}", number=number) for number in range(1, count + 1)]
        claims = Claims(self.notes)  # type: ignore[arg-type]  # a fake
        return await run(claims, self.end, self.keep, concurrency=concurrency, stop=self.stop)


@virtual_time
async def test_claimed_sent_settled_told() -> None:
    """Each id goes through these four steps in order, before the next id starts."""
    world = World()
    await world.run(2)
    steps = [[f"claim c{n}", f"send c{n}", f"settle c{n} ended", f"tell c{n} ended"] for n in (1, 2)]
    assert world.notes.log == steps[0] + steps[1]


@pytest.mark.parametrize("concurrency", [1, 3])
@virtual_time
async def test_a_claim_that_cannot_be_written(concurrency: int) -> None:
    """No request is sent for it. Requests in flight are settled and reported. The rest is not attempted."""
    world = World(Notes(fails={"claim": 5}))
    report = await world.run(20, concurrency)
    claimed = [one for line in world.notes.log if line.startswith("claim") for one in line.split()[1:]]
    sent = [line.split()[1] for line in world.notes.log if line.startswith("send")]
    assert set(sent) <= set(claimed)
    assert 4 <= len(sent) == len(set(sent)) < 20
    assert report.counts == {OutcomeKind.ENDED: len(sent), OutcomeKind.NOT_ATTEMPTED: 20 - len(sent)}
    assert isinstance(report.stopped, JournalError)
    assert report.stopped.message == FULL.message
    settled = [line.split()[1] for line in world.notes.log if line.endswith("ended") and "settle" in line]
    assert sorted(settled) == sorted(sent)
    assert Counter(outcome.conference_id for outcome in world.outcomes) == Counter(
        f"c{number}" for number in range(1, 21)
    )


@pytest.mark.parametrize("concurrency", [1, 3])
@virtual_time
async def test_an_outcome_that_cannot_be_written(concurrency: int) -> None:
    """The outcome is reported unchanged, no new request is sent, and the report says why the run stopped."""
    world = World(Notes(fails={"settle": 3}))
    report = await world.run(20, concurrency)
    sent = sum(line.startswith("send") for line in world.notes.log)
    assert 3 <= sent <= 2 + concurrency
    assert report.counts == {OutcomeKind.ENDED: sent, OutcomeKind.NOT_ATTEMPTED: 20 - sent}
    assert len(world.outcomes) == 20
    assert isinstance(report.stopped, JournalError)


@virtual_time
async def test_many_are_claimed_by_one_write_when_they_are_begun_soon_after_each_other() -> None:
    """One write claims twice as many ids each time, in order. Each claim comes before its request."""
    world = World()
    await world.run(11, concurrency=4)
    log = world.notes.log
    claims = [line.split()[1:] for line in log if line.startswith("claim")]
    assert claims == [["c1"], ["c2"], ["c3"], ["c4", "c5"], ["c6", "c7", "c8", "c9"], ["c10", "c11"]]
    for batch in claims:
        for one in batch:
            assert log.index("claim " + " ".join(batch)) < log.index(f"send {one}")
    assert sorted(world.outcomes, key=lambda one: int(one.conference_id[1:])) == [
        Outcome(f"c{number}", OutcomeKind.ENDED, 1) for number in range(1, 12)
    ]


@virtual_time
async def test_what_was_claimed_ahead_is_given_back_when_a_run_breaks_off() -> None:
    """Ids without a request are released. Ids with a request stay claimed."""
    world = World()
    task = asyncio.create_task(world.run(100, concurrency=4))
    await asyncio.sleep(0.45)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    claimed = {one for line in world.notes.log if line.startswith("claim") for one in line.split()[1:]}
    sent = {line.split()[1] for line in world.notes.log if line.startswith("send")}
    released = [line.split()[1] for line in world.notes.log if line.startswith("release")]
    assert released
    assert set(released) == claimed - sent


@virtual_time
async def test_a_worker_that_is_cancelled_takes_no_claim_of_others_with_it() -> None:
    """The write goes on for the other workers that have a claim in it."""
    world = World()
    world.notes.targets = [Target(f"c{number}", number=number) for number in range(1, 4)]
    claims = Claims(world.notes)  # type: ignore[arg-type]  # a fake
    targets = claims.targets()
    await claims.begin(next(targets))
    claims._size = 2
    second = asyncio.create_task(claims.begin(next(targets)))
    await asyncio.sleep(0)
    third = asyncio.create_task(claims.begin(next(targets)))
    await asyncio.sleep(0)
    second.cancel()
    await third
    assert second.cancelled()
    assert [line for line in world.notes.log if line.startswith("claim")] == ["claim c1", "claim c2 c3"]


@virtual_time
async def test_a_claim_that_fails_at_once_loses_no_id() -> None:
    """A claim fails at once if another worker has met the failure before. Each id still has an outcome."""

    class Failing(Notes):
        def claim(self, *targets: Target) -> asyncio.Future[None]:
            if len(targets) > 2:
                raise JournalError(FULL.message)
            return super().claim(*targets)

    world = World(Failing())
    report = await world.run(100, concurrency=4)
    assert isinstance(report.stopped, JournalError)
    assert report.counts[OutcomeKind.NOT_ATTEMPTED] > 80
    assert Counter(outcome.conference_id for outcome in world.outcomes) == Counter(
        f"c{number}" for number in range(1, 101)
    )


@virtual_time
async def test_a_first_id_that_is_tried_twice_is_claimed_once() -> None:
    """A second claim would mean that an earlier run had left the id claimed."""
    world = World(errors={"c1": [ServerError("answered 503", status=503, attempts=5)] * 2})
    await world.run(2)
    assert [line for line in world.notes.log if "c1" in line] == [
        "claim c1",
        "send c1",
        "send c1",
        "settle c1 failed",
        "tell c1 failed",
    ]


@virtual_time
async def test_a_client_that_is_closed_does_not_forget_what_may_have_been_ended() -> None:
    """An id that an earlier run left unknown stays unknown if no request can be sent for it."""
    world = World()

    async def end(_: Target, __: Stop) -> Outcome:
        raise ClientStateError("closed")

    report = await run(
        [Target("c1", ambiguous=True, number=1)], end, world.keep, concurrency=1, stop=world.stop
    )
    assert report.counts == {OutcomeKind.UNKNOWN: 1}


# The real journal, and the real client


@define
class Upstream:
    """Answers 204 or the script of an id, and records if the journal had the id as unknown at that time."""

    path: Path
    answers: dict[str, list[int]] = field(factory=dict)
    sent: list[str] = field(factory=list)
    claimed: list[bool] = field(factory=list)

    async def exchange(
        self, _: Any, __: Any, request: wire.Request[Any], *___: Any, **how: Any
    ) -> wire.Response:
        """Answer one request."""
        conference_id = request.path.rpartition("/")[2]
        self.sent.append(conference_id)
        known = {one.conference_id: one.kind for one in read_outcomes(self.path)}
        self.claimed.append(known[conference_id] == OutcomeKind.UNKNOWN)
        await asyncio.sleep(0)
        script = self.answers.get(conference_id, [204])
        status = script.pop(0) if len(script) > 1 else script[0]
        how["on_status"](status, CIMultiDict())
        if status >= 300:
            raise wire.error_from(request, status, CIMultiDict(), b"", 0.0)
        return wire.Response(status=status, headers=CIMultiDict())


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Upstream:
    """Replace aiohttp."""
    fake = Upstream(tmp_path / "run.journal")
    monkeypatch.setattr("bandwidth_async.operation.exchange", fake.exchange)
    return fake


def client_of(account_id: str = "9900000") -> VoiceClient:
    """Return a client that never waits for its limiter."""
    return VoiceClient(
        account_id=account_id,
        credentials=BasicCredentials("user", "password"),
        rate_limit=RateLimit.fixed(10_000, 1000),
    )


async def journal_of(path: Path, count: int) -> Journal:
    """Return a journal of ``count`` ids."""
    journal = Journal.create(path, account_id="9900000", created=CREATED)
    await journal.record(f"c{number}" for number in range(1, count + 1))
    return journal


def kinds(path: Path) -> dict[str, str]:
    """Return the outcome of each id in the journal."""
    return {outcome.conference_id: str(outcome.kind) for outcome in read_outcomes(path)}


async def test_a_durable_run(upstream: Upstream) -> None:
    """In the journal an id is unknown when its request is sent, and has its outcome when that is reported."""
    told: list[bool] = []

    def on_outcome(outcome: Outcome) -> None:
        told.append(kinds(upstream.path)[outcome.conference_id] == outcome.kind)

    upstream.answers = {"c3": [404], "c4": [403]}
    async with await journal_of(upstream.path, 8) as journal, client_of() as client:
        report = await client.end_conferences(journal, on_outcome=on_outcome, concurrency=3)
    assert upstream.claimed == [True] * 8
    assert told == [True] * 8
    expected = {f"c{number}": "ended" for number in range(1, 9)} | {"c3": "not_found", "c4": "refused"}
    assert kinds(upstream.path) == expected
    assert report.total == 8


async def test_a_resume_ends_only_what_is_unsettled(upstream: Upstream) -> None:
    """Failed ids are tried again, settled ids are not, and attempts add up."""
    upstream.answers = {"c2": [503] * 5 + [204]}
    async with await journal_of(upstream.path, 3) as journal, client_of() as client:
        await client.end_conferences(journal, concurrency=1)
    assert kinds(upstream.path) == {"c1": "ended", "c2": "failed", "c3": "ended"}
    upstream.sent.clear()
    async with Journal.open(upstream.path) as journal, client_of() as client:
        report = await client.end_conferences(journal)
        assert journal.report().counts == {OutcomeKind.ENDED: 3}
    assert upstream.sent == ["c2"]
    assert report.counts == {OutcomeKind.ENDED: 1}
    assert [outcome.attempts for outcome in read_outcomes(upstream.path)] == [1, 6, 1]


async def test_a_first_id_that_fails_twice_is_failed_in_the_journal_too(upstream: Upstream) -> None:
    """The report and the journal have the same outcome."""
    upstream.answers = {"c1": [503]}
    async with await journal_of(upstream.path, 2) as journal, client_of() as client:
        report = await client.end_conferences(journal)
    assert report.counts == {OutcomeKind.FAILED: 1, OutcomeKind.ENDED: 1}
    assert kinds(upstream.path) == {"c1": "failed", "c2": "ended"}


async def test_a_404_after_an_interrupted_run(upstream: Upstream) -> None:
    """If the id was claimed but never settled, the earlier run has ended it."""
    async with await journal_of(upstream.path, 2) as journal:
        await journal.claim(next(journal.unsettled()))
    upstream.answers = {"c1": [404], "c2": [404]}
    async with Journal.open(upstream.path) as journal, client_of() as client:
        await client.end_conferences(journal)
    assert kinds(upstream.path) == {"c1": "already_ended", "c2": "not_found"}


async def test_a_run_that_broke_off_goes_on_in_the_same_journal(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids that were claimed ahead were released before the run raised. So a 404 means not found."""
    monkeypatch.setattr("bandwidth_async.journal.claims._AHEAD", 60.0)
    upstream.answers = {f"c{number}": [404] for number in range(1, 201)}
    left = 40

    def on_outcome(_: Outcome) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise LookupError("the application's own")

    async with await journal_of(upstream.path, 200) as journal, client_of() as client:
        with pytest.raises(LookupError):
            await client.end_conferences(journal, on_outcome=on_outcome, concurrency=4)
        assert len(upstream.sent) < 60
        assert Counter(kinds(upstream.path).values())["unknown"] <= 4
        report = await client.end_conferences(journal, concurrency=4)
    assert report.counts[OutcomeKind.ALREADY_ENDED] <= 4
    assert report.counts[OutcomeKind.NOT_FOUND] >= 140


async def test_as_a_stream(upstream: Upstream) -> None:
    """Each outcome is in the journal when the stream returns it."""
    async with (
        await journal_of(upstream.path, 5) as journal,
        client_of() as client,
        client.ending_conferences(journal) as outcomes,
    ):
        async for outcome in outcomes:
            assert kinds(upstream.path)[outcome.conference_id] == outcome.kind
    assert set(kinds(upstream.path).values()) == {"ended"}


async def test_a_journal_of_another_account(upstream: Upstream) -> None:
    """It is rejected before any request is sent."""
    async with await journal_of(upstream.path, 1) as journal, client_of("1") as client:
        with pytest.raises(ConfigurationError, match="of account 9900000, this client of 1"):
            await client.end_conferences(journal)
        with pytest.raises(ConfigurationError, match="of account 9900000, this client of 1"):
            client.ending_conferences(journal)
    assert upstream.sent == []


async def test_a_stopped_run_leaves_the_rest_as_it_was(upstream: Upstream) -> None:
    """Ids that were not attempted stay so in the journal, and a resume can end them."""
    stop = Stop()

    def on_outcome(_: Outcome) -> None:
        stop.request()

    async with await journal_of(upstream.path, 5) as journal, client_of() as client:
        report = await client.end_conferences(journal, concurrency=1, stop=stop, on_outcome=on_outcome)
    assert report.counts == {OutcomeKind.ENDED: 1, OutcomeKind.NOT_ATTEMPTED: 4}
    assert Counter(kinds(upstream.path).values()) == {"ended": 1, "not_attempted": 4}


@pytest.mark.parametrize("as_stream", [False, True])
async def test_two_runs_over_one_journal_at_once(upstream: Upstream, *, as_stream: bool) -> None:
    """The second is refused and changes nothing; when the first is over, the journal takes another."""

    async def second(client: VoiceClient, journal: Journal) -> None:
        if not as_stream:
            await client.end_conferences(journal)
        else:
            async with client.ending_conferences(journal) as outcomes:
                assert [outcome async for outcome in outcomes] == []

    async def on_outcome(_: Outcome) -> None:
        with pytest.raises(ClientStateError, match=r"another run over .* is going on"):
            await second(client, journal)

    async with await journal_of(upstream.path, 20) as journal, client_of() as client:
        first = await client.end_conferences(journal, on_outcome=on_outcome, concurrency=3)
        assert (first.counts, journal.report().counts) == ({OutcomeKind.ENDED: 20},) * 2
        assert len(upstream.sent) == 20
        assert (await client.end_conferences(journal)).total == 0


@pytest.mark.parametrize("how", ["raises", "is cancelled", "is left", "is never entered"])
async def test_a_journal_is_given_back_by_a_run_that(upstream: Upstream, how: str) -> None:
    """However it ends, another run over the same journal may follow."""

    def fail(_: Outcome) -> None:
        raise LookupError

    async with await journal_of(upstream.path, 20) as journal, client_of() as client:
        if how == "raises":
            with pytest.raises(LookupError):
                await client.end_conferences(journal, on_outcome=fail)
        elif how == "is cancelled":
            task = asyncio.create_task(client.end_conferences(journal))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        elif how == "is left":
            async with client.ending_conferences(journal, concurrency=1) as outcomes:
                await anext(outcomes)
        else:
            client.ending_conferences(journal)
        await client.end_conferences(journal)
        assert journal.report().total == 20
        assert not journal.report().unsettled


@pytest.mark.parametrize("item", ["a/b", None])
@pytest.mark.parametrize("plain", [False, True])
async def test_an_input_that_cannot_be_recorded_is_closed(tmp_path: Path, item: Any, *, plain: bool) -> None:
    """A generator that was begun is closed before the error is raised."""
    closed = []

    def given() -> Iterator[Any]:
        try:
            yield from ["a", item, "b"]
        finally:
            closed.append("plain")

    async def awaited() -> AsyncIterator[Any]:
        try:
            for one in ["a", item, "b"]:
                yield one
        finally:
            closed.append("async")

    source = given() if plain else awaited()
    async with Journal.create(tmp_path / "run.journal", account_id="9900000") as journal:
        with pytest.raises(ConfigurationError):
            await journal.record(source)
        assert closed == ["plain" if plain else "async"]
