"""The journal in use: a change is on disk before it is reported. A settled row is never lost or changed."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, cast

import pytest
from attrs import evolve

from bandwidth_async.errors import ClientStateError, ConfigurationError, JournalError
from bandwidth_async.journal import Journal, JournalInfo, Recorded, describe, read_outcomes, schema
from bandwidth_async.journal.writer import Writer, in_order
from bandwidth_async.models import Conference
from bandwidth_async.outcome import Outcome, OutcomeKind, Report
from bandwidth_async.run import Target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

ENDED, ALREADY_ENDED, NOT_FOUND = OutcomeKind.ENDED, OutcomeKind.ALREADY_ENDED, OutcomeKind.NOT_FOUND
REFUSED, FAILED, UNKNOWN = OutcomeKind.REFUSED, OutcomeKind.FAILED, OutcomeKind.UNKNOWN
NOT_ATTEMPTED = OutcomeKind.NOT_ATTEMPTED
SETTLED = [kind for kind in OutcomeKind if kind.settled]
CREATED = 1_795_344_312.5
INTERRUPTED = "interrupted before its answer was recorded"


def create(path: Path) -> Journal:
    return Journal.create(path, account_id="9900000", created=CREATED)


async def recorded(path: Path, count: int) -> Journal:
    """Return an open journal of the ids conf-1, conf-2 and so on."""
    journal = create(path)
    assert await journal.record(f"conf-{number}" for number in range(1, count + 1)) == Recorded(count, 0)
    return journal


async def claim(journal: Journal, target: Target) -> None:
    await journal.claim(target)


def outcome(target: Target, kind: OutcomeKind, attempts: int = 1, error: str | None = None) -> Outcome:
    return Outcome(target.conference_id, kind, attempts, error, 0.25)


def kinds(path: Path) -> list[OutcomeKind]:
    return [outcome.kind for outcome in read_outcomes(path)]


def copied(path: Path, to: Path) -> Path:
    """Copy what is on disk now, the file and its log, and return the path of the copy."""
    shutil.copy(path, to)
    if os.path.exists(f"{path}-wal"):
        shutil.copy(f"{path}-wal", f"{to}-wal")
    return to


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a path where no file exists yet."""
    return tmp_path / "run.journal"


async def test_the_way_of_a_run(path: Path) -> None:
    """A journal is recorded, claimed, settled and closed, and every way to read it returns the same."""
    async with create(path) as journal:
        assert await journal.record(["conf-1", Conference(id="conf-2"), "conf-3"]) == Recorded(3, 0)
        first, second, third = journal.unsettled()
        assert (first, second, third) == (
            Target("conf-1", number=1),
            Target("conf-2", existed=True, number=2),
            Target("conf-3", number=3),
        )
        await journal.claim(first)
        await journal.settle(first, outcome(first, ENDED))
        await journal.claim(second)
        await journal.settle(second, outcome(second, FAILED, 5, "answered 503"))
        report = Report(counts=Counter({ENDED: 1, FAILED: 1, NOT_ATTEMPTED: 1}), attempts=6)
        assert journal.report() == report
        assert list(journal.unsettled()) == [second, third]
    assert list(read_outcomes(path)) == [
        Outcome("conf-1", ENDED, 1, None, 0.25),
        Outcome("conf-2", FAILED, 5, "answered 503", 0.25),
        Outcome("conf-3", NOT_ATTEMPTED),
    ]
    info = describe(path)
    assert info == JournalInfo(
        path=path,
        account_id="9900000",
        created=info.created,
        total=3,
        counts=report.counts,
        complete=True,
        in_use=False,
        size=info.size,
    )
    assert info.created.isoformat() == "2026-11-22T10:45:12.500000+00:00"
    quick = describe(path, count=False)
    assert (quick.total, quick.counts) == (3, {})
    async with Journal.open(path) as journal:
        assert list(journal.unsettled()) == [second, third]
        assert journal.report() == report


async def test_duplicates_are_kept_once_with_all_that_is_known(path: Path) -> None:
    """A duplicate adds to the row of the first: that the conference existed, or may have been ended."""
    items: list[str | Conference | Target] = [
        "conf-1",
        "conf-2",
        "conf-1",
        Conference(id="conf-2"),
        Target("conf-1", ambiguous=True),
    ]
    async with create(path) as journal:
        assert await journal.record(items) == Recorded(2, 3)
        assert list(journal.unsettled()) == [
            Target("conf-1", ambiguous=True, number=1),
            Target("conf-2", existed=True, number=2),
        ]
    assert [(row.kind, row.error) for row in read_outcomes(path)] == [
        (UNKNOWN, "an earlier run may have ended it"),
        (NOT_ATTEMPTED, None),
    ]


@pytest.mark.parametrize("count", [0, 1, 2000, 4001])
@pytest.mark.parametrize("awaited", [False, True])
async def test_an_input_of_any_length(path: Path, count: int, *, awaited: bool) -> None:
    """A plain or an async source of any length is recorded in order, over several chunks and pages."""
    ids = [f"conf-{number}" for number in range(count)]

    async def source() -> AsyncIterator[str]:
        for conference_id in ids:
            yield conference_id

    async with create(path) as journal:
        assert await journal.record(source() if awaited else iter(ids)) == Recorded(count, 0)
        assert [target.conference_id for target in journal.unsettled()] == ids
        assert journal.report().counts.total() == count
    assert [row.conference_id for row in read_outcomes(path)] == ids


@pytest.mark.parametrize("bad", ["../x", "", "a b", "conf\n1"])
async def test_what_cannot_be_an_id_leaves_the_input_incomplete(path: Path, bad: str) -> None:
    """No run can use an input with an invalid id."""
    async with create(path) as journal:
        with pytest.raises(ConfigurationError, match="is no conference id"):
            await journal.record(["conf-1", bad])
        with pytest.raises(JournalError, match="is not recorded yet"):
            journal.unsettled()
        with pytest.raises(JournalError, match="has been recorded: a journal has only one"):
            await journal.record(["conf-1"])
    with pytest.raises(JournalError, match="is incomplete"):
        Journal.open(path)


@pytest.mark.parametrize("one", ["conf-1", b"conf-1", Conference(id="conf-1"), Target("conf-1")])
async def test_one_id_is_no_list(path: Path, one: Any) -> None:
    """One id is rejected, because a string would be recorded letter by letter."""
    async with create(path) as journal:
        with pytest.raises(ConfigurationError, match="records a list of ids"):
            await journal.record(one)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the bytes that a process writes")
async def test_recording_writes_little_more_than_the_journal(path: Path) -> None:
    """Random ids change pages all over the index: copies of them were 34 times a journal."""
    random = Random(1)

    def written() -> int:
        """Return the bytes that this process has written, to whatever file."""
        lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
        return int(lines["wchar"])

    before = written()
    async with create(path) as journal:
        await journal.record(f"conf-{random.getrandbits(200):050x}" for _ in range(30_000))
        during = written() - before
    assert during < 2 * path.stat().st_size  # noqa: ASYNC240  # a test waits for nobody


async def test_an_input_is_recorded_once(path: Path) -> None:
    """A journal rejects a second input, also after it has been opened again."""
    async with await recorded(path, 1) as journal:
        with pytest.raises(JournalError, match="has been recorded: a journal has only one"):
            await journal.record(["conf-2"])
    async with Journal.open(path) as journal:
        with pytest.raises(JournalError, match="has been recorded: a journal has only one"):
            await journal.record(["conf-2"])


async def test_a_claim_is_on_disk_before_it_returns(path: Path, tmp_path: Path) -> None:
    """If the run is killed now, the row is unknown, and a resume knows that it may have been ended."""
    async with await recorded(path, 2) as journal:
        target = next(journal.unsettled())
        await journal.claim(target)
        copy = copied(path, tmp_path / "copy")
    assert list(read_outcomes(copy)) == [
        Outcome("conf-1", UNKNOWN, 0, INTERRUPTED),
        Outcome("conf-2", NOT_ATTEMPTED),
    ]
    async with Journal.open(copy) as journal:
        assert list(journal.unsettled()) == [evolve(target, ambiguous=True), Target("conf-2", number=2)]


@pytest.mark.parametrize("kind", SETTLED)
@pytest.mark.parametrize("later", list(OutcomeKind))
async def test_a_settled_row_stays(path: Path, kind: OutcomeKind, later: OutcomeKind) -> None:
    """Neither a claim nor a later outcome changes a settled row."""
    async with await recorded(path, 1) as journal:
        target = next(journal.unsettled())
        await journal.settle(target, outcome(target, kind))
        await journal.claim(target)
        await journal.settle(target, outcome(target, later, 7, "later"))
        assert list(journal.unsettled()) == []
    assert list(read_outcomes(path)) == [Outcome("conf-1", kind, 1, None, 0.25)]


@pytest.mark.parametrize("before", [None, FAILED, UNKNOWN])
async def test_a_claim_that_was_for_nothing_is_taken_back(path: Path, before: OutcomeKind | None) -> None:
    """If a claimed id was not attempted, its row is as it was before, with its error and attempts."""
    async with await recorded(path, 1) as journal:
        target = next(journal.unsettled())
        if before:
            await journal.settle(target, outcome(target, before, 3, "why"))
        (target,) = journal.unsettled()
        await journal.claim(target)
        await journal.settle(target, Outcome("conf-1", NOT_ATTEMPTED, error="stopped"))
        assert list(journal.unsettled()) == [target]
    kept = Outcome("conf-1", before, 3, "why", 0.25) if before else Outcome("conf-1", NOT_ATTEMPTED)
    assert list(read_outcomes(path)) == [kept]


async def test_a_claim_that_was_left_behind_stays_unknown(path: Path) -> None:
    """A claim without an outcome makes a row unknown. Withdrawing a second claim does not change that."""
    async with await recorded(path, 1) as journal:
        await journal.claim(next(journal.unsettled()))
    async with Journal.open(path) as journal:
        target = next(journal.unsettled())
        await journal.claim(target)
        await journal.settle(target, Outcome("conf-1", NOT_ATTEMPTED))
        assert list(journal.unsettled()) == [Target("conf-1", ambiguous=True, number=1)]
    assert list(read_outcomes(path)) == [Outcome("conf-1", UNKNOWN, 0, INTERRUPTED)]


async def test_many_are_claimed_at_once_and_what_is_not_used_is_released(path: Path, tmp_path: Path) -> None:
    """One commit claims many rows. Released rows are as before, also those that were unknown."""
    async with await recorded(path, 4) as journal:
        targets = list(journal.unsettled())
        await journal.settle(targets[2], outcome(targets[2], UNKNOWN, 2, "cut"))
        commits = int(repr(journal).split()[-2])
        await journal.claim(*targets)
        assert repr(journal) == f"<Journal {path} open, 4 claimed, {commits + 1} commits>"
        assert kinds(copied(path, tmp_path / "killed")) == [UNKNOWN] * 4
        await journal.release(targets[1:])
        assert "1 claimed" in repr(journal)
    assert kinds(path) == [UNKNOWN, NOT_ATTEMPTED, UNKNOWN, NOT_ATTEMPTED]
    assert next(row for row in read_outcomes(path) if row.conference_id == "conf-3").error == "cut"


async def test_releasing_never_raises(path: Path) -> None:
    """`release` accepts an empty list, a failed journal and a closed one. There the rows stay unknown."""
    journal = await recorded(path, 2)
    targets = list(journal.unsettled())
    await journal.claim(*targets)
    await journal.release([])
    journal._file.writer.execute("PRAGMA query_only = ON")
    await journal.release(targets[:1])
    with pytest.raises(JournalError):
        await journal.claim(targets[1])
    await journal.release(targets)
    await journal.aclose()
    await journal.release(targets)
    assert kinds(path) == [UNKNOWN] * 2


async def test_what_may_have_ended_is_not_called_failed(path: Path) -> None:
    """An earlier attempt may have ended it, even if a later one certainly did not. Attempts add up."""
    async with await recorded(path, 1) as journal:
        target = next(journal.unsettled())
        await journal.settle(target, outcome(target, UNKNOWN, 2, "cut"))
        await journal.settle(target, outcome(target, FAILED, 5, "answered 503"))
        assert journal.report() == Report(counts=Counter({UNKNOWN: 1}), attempts=7)
    assert list(read_outcomes(path)) == [Outcome("conf-1", UNKNOWN, 7, "answered 503", 0.25)]


async def test_not_attempted_costs_no_write(path: Path) -> None:
    """A stopped run settles all remaining ids as not attempted. That writes nothing."""
    async with await recorded(path, 3) as journal:
        before = repr(journal)
        for target in journal.unsettled():
            await journal.settle(target, Outcome(target.conference_id, NOT_ATTEMPTED, error="stopped"))
        assert repr(journal) == before
    assert kinds(path) == [NOT_ATTEMPTED] * 3


async def test_an_error_of_any_text_can_be_kept(path: Path) -> None:
    """Lone surrogates and null characters are replaced, because SQLite could not return them."""
    async with await recorded(path, 1) as journal:
        target = next(journal.unsettled())
        await journal.settle(target, outcome(target, REFUSED, error="\ud800 ' \" \0 ü 🙂 \n"))
    assert [row.error for row in read_outcomes(path)] == ["? ' \" \ufffd ü 🙂 \n"]


async def test_a_target_from_elsewhere_is_refused(path: Path) -> None:
    """A target without a row is rejected. Otherwise nothing would be written, without any error."""
    async with await recorded(path, 1) as journal:
        with pytest.raises(ConfigurationError, match="conf-1 has no row"):
            await journal.claim(Target("conf-1"))
        with pytest.raises(ConfigurationError, match="conf-1 has no row"):
            await journal.settle(Target("conf-1"), Outcome("conf-1", ENDED))


async def test_many_settle_with_few_commits_and_each_is_on_disk(path: Path, tmp_path: Path) -> None:
    """Changes that arrive during a write share the next commit. Each is on disk when `settle` returns."""
    async with await recorded(path, 400) as journal:
        commits = int(repr(journal).split()[-2])
        targets = list(journal.unsettled())
        told = 0

        async def settle(target: Target) -> None:
            nonlocal told
            await journal.settle(target, outcome(target, ENDED))
            told += 1
            if told % 100 == 1:
                copy = copied(path, tmp_path / f"copy-{told}")
                assert kinds(copy)[target.number - 1] is ENDED
                assert kinds(copy).count(ENDED) >= told

        await asyncio.gather(*map(settle, targets))
        assert int(repr(journal).split()[-2]) - commits < 20
    assert kinds(path) == [ENDED] * 400


async def test_a_group_of_more_rows_than_a_statement_takes(path: Path) -> None:
    """A large group needs three commits here, and no row is left out."""
    count = schema.MOST_ROWS * 2 + 5
    async with await recorded(path, count) as journal:
        commits = int(repr(journal).split()[-2])
        await journal.claim(*journal.unsettled())
        assert int(repr(journal).split()[-2]) - commits == 3
        assert journal.report().counts == {UNKNOWN: count}


def test_changes_of_a_row_keep_their_order() -> None:
    """Rows with the same statement are grouped, unless a group would then change one row twice."""
    a, b = schema.CHANGE, schema.NOTE_CALLS
    assert list(in_order([(a, [[1]]), (a, [[2], [3]]), (b, [[4]]), (a, [[5]])])) == [
        (a, [[1], [2], [3], [5]]),
        (b, [[4]]),
    ]
    assert list(in_order([(a, [[1]]), (a, [[2]]), (a, [[1, "later"]]), (b, [[2]])])) == [
        (a, [[1], [2]]),
        (a, [[1, "later"]]),
        (b, [[2]]),
    ]
    assert list(in_order([])) == []


async def test_changes_of_a_row_in_one_group_are_made_in_order(path: Path) -> None:
    """The last change of a row counts, even if nothing waited between the changes."""
    async with await recorded(path, 1) as journal:
        target = next(journal.unsettled())
        await asyncio.gather(
            claim(journal, target),
            journal.settle(target, outcome(target, FAILED)),
            claim(journal, target),
            journal.settle(target, outcome(target, FAILED)),
            claim(journal, target),
        )
    assert list(read_outcomes(path)) == [Outcome("conf-1", UNKNOWN, 2, INTERRUPTED, 0.25)]


async def test_who_does_not_count_does_not_know_that_a_run_is_finished(path: Path) -> None:
    """An untouched journal is not, and of one that is finished only the counts tell it."""
    async with await recorded(path, 1) as journal:
        assert not describe(path, count=False).finished
        for target in journal.unsettled():
            await journal.settle(target, outcome(target, ENDED))
    assert describe(path).finished
    assert not describe(path, count=False).finished


async def test_what_is_settled_meanwhile_is_left_out(path: Path) -> None:
    """Each page of `unsettled` shows the state at the moment when the page is read."""
    async with await recorded(path, 1200) as journal:
        targets = list(journal.unsettled())
        rest = journal.unsettled()
        first = next(rest)
        await asyncio.gather(*(journal.settle(one, outcome(one, ENDED)) for one in targets[1:1100]))
        assert [first, *rest] == [*targets[:500], *targets[1100:]]


async def test_a_run_that_goes_on_can_be_read(path: Path) -> None:
    """Readers see the last commit and do not block the run."""
    async with await recorded(path, 3) as journal:
        rows = read_outcomes(path)
        assert next(rows) == Outcome("conf-1", NOT_ATTEMPTED)
        for target in journal.unsettled():
            await journal.settle(target, outcome(target, ENDED))
        assert kinds(path) == [ENDED] * 3
        assert describe(path).counts == {ENDED: 3}
        assert [row.conference_id for row in rows] == ["conf-2", "conf-3"]


async def test_a_closed_journal_says_so(path: Path) -> None:
    """Every method raises an error, and so does a running iteration. Closing again does nothing."""
    journal = await recorded(path, 1)
    targets, (target,) = journal.unsettled(), journal.unsettled()
    assert repr(journal) == f"<Journal {path} open, 0 claimed, 1 commits>"
    await journal.aclose()
    await journal.aclose()
    assert repr(journal) == f"<Journal {path} closed, 0 claimed, 1 commits>"
    for waiting in (
        claim(journal, target),
        journal.settle(target, outcome(target, ENDED)),
        journal.settle(target, Outcome("conf-1", NOT_ATTEMPTED)),
    ):
        with pytest.raises(JournalError, match=f"^{path} is closed$"):
            await waiting
    looks: list[Callable[[], object]] = [journal.report, journal.unsettled, lambda: next(targets)]
    for look in looks:
        with pytest.raises(JournalError, match=f"^{path} is closed$"):
            look()


def test_another_event_loop_is_refused(path: Path) -> None:
    """The futures of one event loop cannot be used in another."""
    journal = asyncio.run(recorded(path, 1))
    with pytest.raises(ClientStateError, match="in use by another event loop"):
        asyncio.run(claim(journal, next(journal.unsettled())))
    asyncio.run(journal.aclose())


async def test_closing_writes_what_waits(path: Path) -> None:
    """`aclose` writes pending changes and completes their waiters. Two tasks may close at once."""
    journal = await recorded(path, 50)
    targets = list(journal.unsettled())
    waiting = [asyncio.ensure_future(journal.settle(one, outcome(one, ENDED))) for one in targets[:25]]
    waiting += [asyncio.ensure_future(journal.claim(one)) for one in targets[25:]]
    await asyncio.sleep(0)
    await asyncio.gather(journal.aclose(), journal.aclose())
    assert await asyncio.gather(*waiting) == [None] * 50
    assert kinds(path) == [ENDED] * 25 + [UNKNOWN] * 25
    assert sorted(os.listdir(path.parent)) == ["run.journal"]


@pytest.mark.parametrize("act", ["record", "claim", "settle", "aclose"])
async def test_a_cancelled_wait_leaves_the_journal_valid(path: Path, act: str) -> None:
    """If a waiter is cancelled, the change is made or not made, and the journal can still be used."""
    journal = create(path) if act == "record" else await recorded(path, 2)
    targets = [] if act == "record" else list(journal.unsettled())
    doing: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
        "record": lambda: journal.record(["conf-1", "conf-2"]),
        "claim": lambda: claim(journal, targets[0]),
        "settle": lambda: journal.settle(targets[0], outcome(targets[0], ENDED)),
        "aclose": journal.aclose,
    }
    task = asyncio.ensure_future(doing[act]())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if targets and act != "aclose":
        await journal.settle(targets[1], outcome(targets[1], ENDED))
    await journal.aclose()
    if act == "record":
        assert not describe(path).complete
    else:
        first, second = kinds(path)
        assert second is (NOT_ATTEMPTED if act == "aclose" else ENDED)
        assert first in {"claim": {NOT_ATTEMPTED, UNKNOWN}, "settle": {NOT_ATTEMPTED, ENDED}}.get(
            act, {NOT_ATTEMPTED}
        )
        await Journal.open(path).aclose()


async def test_a_source_that_fails_is_told(path: Path) -> None:
    """The error of the source is raised, and the input is incomplete."""

    def source() -> Iterator[str]:
        yield "conf-1"
        raise ZeroDivisionError

    async with create(path) as journal:
        with pytest.raises(ZeroDivisionError):
            await journal.record(source())
    assert not describe(path).complete


async def test_a_write_that_fails_is_told_to_all_and_for_good(path: Path) -> None:
    """After a failed write all others fail, or the gap would be hidden. Earlier changes can be resumed."""
    journal = await recorded(path, 4)
    first, second, third, fourth = journal.unsettled()
    await journal.settle(first, outcome(first, ENDED))
    journal._file.writer.execute("PRAGMA query_only = ON")  # every write fails from now on
    errors = await asyncio.gather(
        journal.settle(second, outcome(second, ENDED)), journal.claim(third), return_exceptions=True
    )
    journal._file.writer.execute("PRAGMA query_only = OFF")
    sentence = f"{path} cannot be written: attempt to write a readonly database; what it holds so far is safe"
    assert [(type(error), str(error)) for error in errors] == [(JournalError, sentence)] * 2
    assert errors[0] is not errors[1]
    assert repr(journal) == f"<Journal {path} failed, 1 claimed, 2 commits>"
    with pytest.raises(JournalError, match="attempt to write a readonly database"):
        await journal.settle(fourth, outcome(fourth, ENDED))
    with pytest.raises(JournalError, match="attempt to write a readonly database"):
        journal.report()
    await journal.aclose()
    assert kinds(path) == [ENDED, NOT_ATTEMPTED, NOT_ATTEMPTED, NOT_ATTEMPTED]
    await Journal.open(path).aclose()


async def test_nothing_is_written_after_a_failure(path: Path) -> None:
    """A later write fails too, even if the database would accept it."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    closed: list[str] = []
    insert = schema.Statement(("row",), "INSERT INTO rows SELECT * FROM new")
    writer = Writer(
        connection,
        lambda error: JournalError(f"no: {error}"),
        lambda: closed.append("closed"),
        lambda: None,
        lambda: None,
    )
    for _ in range(2):
        with pytest.raises(JournalError, match=r"^no: no such table: rows$"):
            await writer.write(insert, [(1,)])
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE IF NOT EXISTS rows (row)")
    await writer.close()
    connection.close()
    assert (closed, writer.commits) == (["closed"], 0)
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT * FROM rows").fetchall() == []


async def test_what_sqlite_cannot_keep_is_told_too(path: Path) -> None:
    """The error is raised to the caller. If the thread ended instead, all waiters would wait forever."""
    async with await recorded(path, 1) as journal:
        target = next(journal.unsettled())
        with pytest.raises(JournalError, match="cannot be written: Error binding parameter 5"):
            await journal.settle(target, Outcome("conf-1", ENDED, elapsed=cast("float", object())))
    assert kinds(path) == [NOT_ATTEMPTED]


# Settles conf-1, conf-2, … with eight workers. Prints a line when a claim or an outcome has been written.
_SETTLE_ALL = """
import asyncio, resource, signal, sys
from bandwidth_async.errors import JournalError
from bandwidth_async.journal import Journal
from bandwidth_async.outcome import Outcome, OutcomeKind
path, limit = sys.argv[1], int(sys.argv[2])

async def work(journal, targets):
    for target in targets:
        await journal.claim(target)
        print("claimed", target.number, flush=True)
        await journal.settle(target, Outcome(target.conference_id, OutcomeKind.ENDED, 1, None, 0.25))
        print("ended", target.number, flush=True)

async def main():
    journal = Journal.open(path)
    if limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    targets = journal.unsettled()
    told = await asyncio.gather(*(work(journal, targets) for _ in range(8)), return_exceptions=True)
    print(*{f"{type(error).__name__}: {error}" for error in told if error is not None}, sep="\\n")
    await journal.aclose()
    if limit:
        # What measures coverage writes a file at the end.
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

asyncio.run(main())
"""


def last_printed(lines: list[str]) -> dict[int, str]:
    """Return the last change that was printed for each row."""
    return {int(number): word for word, _, number in (line.partition(" ") for line in lines)}


def check_journal(path: Path, said: dict[int, str]) -> None:
    """Check that each printed change is in the journal, and that no row is more than one step ahead."""
    for number, kind in enumerate(kinds(path), 1):
        word = said.get(number, "nothing")
        allowed = {"ended": {ENDED}, "claimed": {UNKNOWN, ENDED}, "nothing": {NOT_ATTEMPTED, UNKNOWN}}
        assert kind in allowed[word], (number, word)


@pytest.mark.parametrize("lines", [1, 50, 333])
async def test_killed_in_the_middle_nothing_told_is_lost(path: Path, lines: int) -> None:
    """After SIGKILL each printed change is in the journal, and the run can be resumed to its end."""
    await (await recorded(path, 5000)).aclose()
    with subprocess.Popen(  # noqa: ASYNC220  # a test waits for nobody
        [sys.executable, "-c", _SETTLE_ALL, path, "0"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = [process.stdout.readline().rstrip() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
        said += rest[: rest.rfind("\n") + 1].splitlines()
    assert len(said) < 10_000
    check_journal(path, last_printed(said))
    async with Journal.open(path) as journal:
        for target in journal.unsettled():
            assert target.ambiguous or last_printed(said).get(target.number) is None
        await asyncio.gather(*(journal.settle(one, outcome(one, ENDED)) for one in journal.unsettled()))
    assert kinds(path) == [ENDED] * 5000


async def test_a_full_disk_is_said_and_can_be_resumed(path: Path) -> None:
    """If the log cannot grow, all waiters get one error. The journal stays valid.

    A limit on file sizes simulates the full disk.
    """
    await (await recorded(path, 2000)).aclose()
    limit = path.stat().st_size + 20_000  # noqa: ASYNC240  # a test waits for nobody
    done = subprocess.run(  # noqa: ASYNC221
        [sys.executable, "-c", _SETTLE_ALL, path, str(limit)], capture_output=True, text=True, check=True
    )
    *said, error = done.stdout.splitlines()
    assert error.startswith(f"JournalError: {path} cannot be written: ")
    assert error.endswith("; what it holds so far is safe")
    assert done.stderr == ""
    check_journal(path, last_printed(said))
    assert 0 < kinds(path).count(ENDED) < 2000
    async with Journal.open(path) as journal:
        await asyncio.gather(*(journal.settle(one, outcome(one, ENDED)) for one in journal.unsettled()))
    assert kinds(path) == [ENDED] * 2000


async def test_a_full_database_says_that_the_disk_is_full(path: Path) -> None:
    """SQLite reports a full database. The error says that the disk is full."""
    journal = create(path)
    journal._file.writer.execute("PRAGMA max_page_count = 8")
    with pytest.raises(JournalError, match=f"^{path} cannot be written: the disk is full; what it holds"):
        await journal.record(f"conf-{number}" for number in range(10_000))
    await journal.aclose()
    assert not describe(path).complete


async def test_a_kind_that_there_is_not_is_damage(path: Path) -> None:
    """`describe` does not check the whole file, but it reports an unknown kind as damage."""
    await (await recorded(path, 1)).aclose()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("UPDATE conferences SET kind = 'enden'")
    with pytest.raises(JournalError, match="is damaged: 'enden' is not an outcome"):
        describe(path)
    with pytest.raises(JournalError, match="is damaged: CHECK constraint failed in conferences"):
        Journal.open(path)
