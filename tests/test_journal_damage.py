"""Damaged files and random operations: a journal never reports a success that did not happen."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bandwidth_async.errors import JournalError
from bandwidth_async.journal import Journal, Recorded, describe, read_outcomes
from bandwidth_async.outcome import Outcome, OutcomeKind
from bandwidth_async.run import Target

CREATED = 1_795_344_312.5
INTERRUPTED = "interrupted before its answer was recorded"
IN_WORK = "its answer is not recorded yet: the run goes on"
COUNT = 40
IDS = [f"conf-{number}" for number in range(1, COUNT + 1)]
KINDS = list(OutcomeKind)
# The bytes of a log up to the end of its first page.
FIRST_PAGE = 32 + 24 + 4096


def ending(number: int) -> OutcomeKind:
    """Return the outcome of a row in these tests: each kind in turn."""
    return KINDS[number % len(KINDS)]


def shown(path: Path) -> list[tuple[str, OutcomeKind]]:
    return [(row.conference_id, row.kind) for row in read_outcomes(path)]


def copy_of(path: Path, to: Path) -> None:
    shutil.copy(path, to)
    with suppress(FileNotFoundError):
        shutil.copy(f"{path}-wal", f"{to}-wal")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """Return the files of a run in progress, and every state that it has shown so far."""
    folder = tmp_path_factory.mktemp("live")
    states: list[Any] = [[]]

    async def work() -> None:
        async with Journal.create(folder / "run", account_id="1", created=CREATED) as journal:
            assert await journal.record(IDS) == Recorded(COUNT, 0)
            states.append(shown(folder / "run"))
            for target in journal.unsettled():
                await journal.claim(target)
                states.append(shown(folder / "run"))
                kind = ending(target.number)
                await journal.settle(target, Outcome(target.conference_id, kind, 1, "why", 0.5))
                states.append(shown(folder / "run"))
            copy_of(folder / "run", folder / "copy")

    asyncio.run(work())
    return folder / "copy", states


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a closed journal."""
    path = tmp_path_factory.mktemp("whole") / "run"

    async def work() -> None:
        async with Journal.create(path, account_id="1", created=CREATED) as journal:
            await journal.record(IDS)
            for target in journal.unsettled():
                outcome = Outcome(target.conference_id, ending(target.number), 1, "why", 0.5)
                await journal.settle(target, outcome)

    asyncio.run(work())
    return path


@settings(max_examples=150)
@given(data=st.data())
def test_a_log_cut_at_any_byte_shows_an_earlier_state(
    live: tuple[Path, list[Any]], data: st.DataObject
) -> None:
    """A cut log shows an earlier state, and the run can be resumed from it. Without a log it is refused."""
    source, states = live
    log = Path(f"{source}-wal").read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        copy_of(source, path)
        size = data.draw(st.integers(0, len(log)))
        Path(f"{path}-wal").write_bytes(log[:size])
        if size < FIRST_PAGE:
            for look in (shown, describe, Journal.open):
                with pytest.raises(JournalError, match=r"was parted from its log run-wal"):
                    look(path)
            return
        found = shown(path)
        assert found in states
        if describe(path).complete:

            async def resume() -> list[str]:
                async with Journal.open(path) as journal:
                    return [target.conference_id for target in journal.unsettled()]

            assert asyncio.run(resume()) == [id_ for id_, kind in found if not kind.settled]
        else:
            with pytest.raises(JournalError, match="is incomplete"):
                Journal.open(path)


@settings(max_examples=300)
@given(place=st.integers(0, 2**16), used=st.booleans(), value=st.integers(0, 255))
def test_a_byte_changed_anywhere_invents_nothing(whole: Path, place: int, used: bool, value: int) -> None:
    """The journal is rejected, or it has every id, and each settled id has its true outcome."""
    truth = [(id_, ending(number)) for number, id_ in enumerate(IDS, 1)]
    content = bytearray(whole.read_bytes())
    places = [at for at, byte in enumerate(content) if byte or not used]  # most of a small file is empty
    content[places[place % len(places)]] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        path.write_bytes(content)
        with suppress(JournalError):
            describe(path)
        try:
            found = shown(path)
        except JournalError:
            return
        assert [id_ for id_, _ in found] == IDS
        assert [row for row in found if row[1].settled and row not in truth] == []


@define
class Row:
    """The expected state of a row."""

    kind: OutcomeKind | None = None
    claimed: bool = False
    attempts: int = 0
    error: str | None = None
    elapsed: float = 0.0

    @property
    def settled(self) -> bool:
        return self.kind is not None and self.kind.settled

    def claim(self) -> None:
        if self.settled:
            return
        if self.claimed:
            self.kind, self.error = OutcomeKind.UNKNOWN, INTERRUPTED
        self.claimed = True

    def settle(self, outcome: Outcome) -> None:
        if self.settled:
            return
        self.claimed = False
        if outcome.kind is OutcomeKind.NOT_ATTEMPTED:
            return
        if (self.kind, outcome.kind) != (OutcomeKind.UNKNOWN, OutcomeKind.FAILED):
            self.kind = outcome.kind
        self.attempts += outcome.attempts
        self.error, self.elapsed = outcome.error, outcome.elapsed

    def shown(self, conference_id: str) -> Outcome:
        kind = OutcomeKind.UNKNOWN if self.claimed else self.kind or OutcomeKind.NOT_ATTEMPTED
        error = IN_WORK if self.claimed or self.error == INTERRUPTED else self.error
        return Outcome(conference_id, kind, self.attempts, error, self.elapsed)


class JournalMachine(RuleBasedStateMachine):
    """Compares a journal with a dictionary while it is claimed, settled, closed, killed and opened."""

    numbers = st.integers(1, 4)

    @initialize()
    def create(self) -> None:
        """Create a journal of four ids."""
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.lives = 0
        self.rows = {number: Row() for number in range(1, 5)}
        self.journal = Journal.create(self.path, account_id="1", created=CREATED)
        self.runner.run(self.journal.record(IDS[:4]))

    @property
    def path(self) -> Path:
        return Path(self.folder.name) / f"run-{self.lives}"

    @rule(number=numbers)
    def claim(self, number: int) -> None:
        """Claim any row, also one that is claimed already."""
        target = Target(IDS[number - 1], number=number)

        async def claim() -> None:
            await self.journal.claim(target)

        self.runner.run(claim())
        self.rows[number].claim()

    @rule(
        number=numbers, kind=st.sampled_from(KINDS), attempts=st.integers(0, 9), error=st.none() | st.text()
    )
    def settle(self, number: int, kind: OutcomeKind, attempts: int, error: str | None) -> None:
        """Settle a row, claimed or not. A row is claimed first if it is settled as not attempted."""
        if kind is OutcomeKind.NOT_ATTEMPTED:
            self.claim(number)
            attempts = 0
        outcome = Outcome(IDS[number - 1], kind, attempts, error and error.replace("\0", "0"), 0.5)
        self.runner.run(self.journal.settle(Target(IDS[number - 1], number=number), outcome))
        self.rows[number].settle(outcome)

    @rule()
    def close_and_open(self) -> None:
        """Close the journal and open it again."""
        self.runner.run(self.journal.aclose())
        self.journal = Journal.open(self.path, account_id="1")

    @rule()
    def kill_and_open(self) -> None:
        """Open a copy of what is on disk now, as after a power cut."""
        before = self.path
        self.lives += 1
        copy_of(before, self.path)
        self.runner.run(self.journal.aclose())
        self.journal = Journal.open(self.path, account_id="1")

    @invariant()
    def agrees(self) -> None:
        """Check that outcomes, unsettled targets and report agree with the dictionary."""
        wanted = [row.shown(IDS[number - 1]) for number, row in self.rows.items()]
        assert list(read_outcomes(self.path)) == wanted
        assert list(self.journal.unsettled()) == [
            Target(
                IDS[number - 1],
                ambiguous=row.claimed or row.kind is OutcomeKind.UNKNOWN,
                number=number,
            )
            for number, row in self.rows.items()
            if not row.settled
        ]
        report = self.journal.report()
        assert (report.total, report.attempts) == (4, sum(row.attempts for row in self.rows.values()))

    def teardown(self) -> None:
        """Close everything."""
        self.runner.run(self.journal.aclose())
        self.runner.close()
        self.folder.cleanup()


TestJournalMachine = JournalMachine.TestCase
TestJournalMachine.settings = settings(max_examples=30, stateful_step_count=15)
