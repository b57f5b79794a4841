"""A journal that is moved, linked, removed, parted from its log, or held by a forked child keeps its word."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from bandwidth_async.errors import JournalError
from bandwidth_async.journal import Journal, describe, file, journals, read_outcomes, remove, schema
from bandwidth_async.journal.refusals import refusal
from bandwidth_async.outcome import Outcome, OutcomeKind

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bandwidth_async.run import Target

IDS = [f"conf-{number}" for number in range(1, 6)]
LOOKS: list[Callable[[Path], object]] = [Journal.open, describe, lambda path: list(read_outcomes(path))]

# A process that ends two of five conferences, says so, and then waits.
_TWO_OF_FIVE = """
import asyncio, sys
from bandwidth_async.journal import Journal
from bandwidth_async.outcome import Outcome, OutcomeKind

async def main(path):
    journal = Journal.create(path, account_id="1")
    await journal.record(f"conf-{number}" for number in range(1, 6))
    for target in list(journal.unsettled())[:2]:
        await journal.claim(target)
        await journal.settle(target, Outcome(target.conference_id, OutcomeKind.ENDED, 1))
    %s
    print("two", flush=True)
    sys.stdin.read()

asyncio.run(main(sys.argv[1]))
"""


async def begun(path: Path) -> tuple[Journal, list[Target]]:
    """Return an open journal of five ids, of which one is ended, and the other targets."""
    journal = Journal.create(path, account_id="1")
    await journal.record(IDS)
    first, *rest = journal.unsettled()
    await end(journal, first)
    return journal, rest


async def end(journal: Journal, target: Target) -> None:
    await journal.claim(target)
    await journal.settle(target, Outcome(target.conference_id, OutcomeKind.ENDED, 1))


def kinds(path: Path) -> list[str]:
    return [outcome.kind.value for outcome in read_outcomes(path)]


def killed(path: Path, more: str = "pass") -> Path:
    """Return the path of the journal of a process that was killed after two of five."""
    with subprocess.Popen(
        [sys.executable, "-c", _TWO_OF_FIVE % more, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"two\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a path where nothing is yet."""
    return tmp_path / "run.journal"


def move(path: Path) -> Path:
    return path.rename(path.with_name("other"))


def move_all(path: Path) -> Path:
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).rename(path.with_name("other" + suffix))
    return move(path)


def move_folder(path: Path) -> Path:
    return path.parent.rename(path.parent.with_name("elsewhere")) / path.name


def replace(path: Path) -> Path:
    other = move(path)
    path.write_text("something else")
    return other


@pytest.mark.parametrize("how", [move, move_all, move_folder, replace])
async def test_a_journal_that_is_moved_while_its_run_goes_on(
    tmp_path: Path, how: Callable[[Path], Path]
) -> None:
    """The run stops as for a full disk. Its new name has all that was told, and resumes it."""
    (tmp_path / "folder").mkdir()
    journal, (second, third, *_) = await begun(tmp_path / "folder" / "run.journal")
    await end(journal, second)
    other = how(journal.path)
    with pytest.raises(JournalError, match=r"was moved while its run was at work; resume the run by the jou"):
        await end(journal, third)
    with pytest.raises(JournalError, match="is in use"):
        Journal.open(other)
    await journal.aclose()
    assert kinds(other) == ["ended", "ended", "unknown", "not_attempted", "not_attempted"]
    async with Journal.open(other) as resumed:
        assert [target.conference_id for target in resumed.unsettled()] == IDS[2:]


async def test_a_journal_that_is_removed_while_its_run_goes_on(path: Path) -> None:
    """The run does not end as if all were on record, and leaves no files with ids."""
    journal, (second, *_) = await begun(path)
    path.unlink()  # noqa: ASYNC240  # one small file
    with pytest.raises(
        JournalError, match=r"was removed while its run was at work, so the run cannot be res"
    ):
        await end(journal, second)
    await journal.aclose()
    assert os.listdir(path.parent) == []


async def test_a_log_that_is_removed_while_the_run_goes_on(path: Path) -> None:
    """What is in the log is not lost: it is carried over when the run closes its journal."""
    journal, (second, third, *_) = await begun(path)
    await end(journal, second)
    path.with_name("run.journal-wal").unlink()  # one small file
    with pytest.raises(JournalError, match=r"its log run\.journal-wal was moved or removed"):
        await end(journal, third)
    await journal.aclose()
    assert kinds(path) == ["ended", "ended", "unknown", "not_attempted", "not_attempted"]


@pytest.mark.parametrize("log", ["none", "empty", "cut"])
def test_a_journal_without_its_log_is_recognised(path: Path, log: str) -> None:
    """Nothing is said of its ids, nothing is to be removed, and with the log it is whole again."""
    killed(path)
    other = path.with_name("other")
    shutil.copy(path, other)
    if log != "none":
        content = path.with_name("run.journal-wal").read_bytes()
        other.with_name("other-wal").write_bytes(content[: 0 if log == "empty" else 4000])
    for look in LOOKS:
        with pytest.raises(JournalError, match="other was parted from its log other-wal") as caught:
            look(other)
        assert "remove" not in str(caught.value)
        assert "before any end" not in str(caught.value)
    shutil.copy(path.with_name("run.journal-wal"), other.with_name("other-wal"))
    assert kinds(other) == ["ended"] * 2 + ["not_attempted"] * 3


async def test_a_copy_without_its_log_is_recognised_however_often_the_log_is_carried_over(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal says at each moment that its log has more. With its log a copy has all that was told."""
    monkeypatch.setattr(file, "_LOG_BYTES", 0)
    journal, rest = await begun(path)
    for number, target in enumerate(rest, 2):
        await end(journal, target)
        copy = path.with_name(f"copy-{number}")
        shutil.copy(path, copy)
        with pytest.raises(JournalError, match="was parted from its log"):
            describe(copy)
        shutil.copy(f"{path}-wal", f"{copy}-wal")
        assert kinds(copy) == ["ended"] * number + ["not_attempted"] * (5 - number)
    await journal.aclose()
    assert kinds(path) == ["ended"] * 5


def test_looking_at_a_killed_run_leaves_its_log_where_it_is(path: Path) -> None:
    """It can be looked at, resumed, and looked at again, and none of them parts the two."""
    killed(path)
    before = path.read_bytes(), path.with_name("run.journal-wal").read_bytes()
    for _ in range(2):
        assert describe(path).counts == {"ended": 2, "not_attempted": 3}
        assert kinds(path) == ["ended"] * 2 + ["not_attempted"] * 3
        with pytest.raises(JournalError, match="is of account 1, not of 2"):
            Journal.open(path, account_id="2")
    assert before == (path.read_bytes(), path.with_name("run.journal-wal").read_bytes())


def test_another_program_may_carry_the_log_over(path: Path) -> None:
    """SQLite's own shell does that to a killed run's journal. It is whole then, and not parted."""
    killed(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM conferences").fetchone() == (5,)
    assert os.listdir(path.parent) == ["run.journal"]
    assert kinds(path) == ["ended"] * 2 + ["not_attempted"] * 3
    asyncio.run(Journal.open(path).aclose())
    assert os.listdir(path.parent) == ["run.journal"]


async def test_a_new_journal_where_a_moved_one_has_left_its_log(path: Path) -> None:
    """The new one is whole, and the log of the other is kept."""
    killed(path)
    log = path.with_name("run.journal-wal").read_bytes()  # a small file
    other = move(path)
    async with Journal.create(path, account_id="2") as journal:
        await journal.record(["new-1"])
    assert [outcome.conference_id for outcome in read_outcomes(path)] == ["new-1"]
    (kept,) = [name for name in os.listdir(path.parent) if name.startswith("run.journal-wal")]
    assert path.with_name(kept).read_bytes() == log  # a small file
    path.with_name(kept).rename(other.with_name("other-wal"))  # a small file
    assert kinds(other) == ["ended"] * 2 + ["not_attempted"] * 3


def test_a_forked_child_does_not_hold_a_journal(path: Path) -> None:
    """Its parent was killed. The child lives on and keeps nobody from resuming the run."""
    child = path.with_name("child")
    killed(
        path,
        "import os, pathlib, signal, time\n"
        f"    told = pathlib.Path({str(child)!r})\n"
        "    if not os.fork():\n"
        "        told.with_suffix('.part').write_text(str(os.getpid()))\n"
        "        told.with_suffix('.part').rename(told)\n"
        "        signal.pause()\n"
        # The child has let go of the journal once its own code runs.
        "    while not told.exists():\n"
        "        time.sleep(0.01)",
    )
    try:
        asyncio.run(Journal.open(path).aclose())
    finally:
        os.kill(int(child.read_text()), signal.SIGKILL)


async def test_a_forked_child_leaves_the_journal_of_its_parent_alone(path: Path) -> None:
    """It is told so at each use, closing does nothing there, and the parent's run goes on."""
    journal, (second, *_) = await begun(path)
    code = 0
    child = os.fork()
    if not child:
        try:
            uses = [journal.report, lambda: journal.claim(second), journal.unsettled]
            for use in uses:
                try:
                    use()
                except JournalError as error:
                    code += "was forked from" in str(error)
            with pytest.raises(StopIteration):
                journal.aclose().__await__().send(None)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3  # noqa: ASYNC222  # it ends at once
    await end(journal, second)
    with pytest.raises(JournalError, match="is in use"):
        Journal.open(path)
    await journal.aclose()
    assert kinds(path)[:2] == ["ended"] * 2


@pytest.mark.parametrize("stage", ["_make_tables", "_locked", "_open"])
def test_a_journal_that_could_not_be_made_leaves_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Under none of its names. A list of journals never shows one that is just being made."""
    real = getattr(file, stage)

    def full(*arguments: object) -> None:
        assert journals(path.parent) == ([path] if stage == "_open" else [])
        made = real(*arguments)
        if stage == "_open":
            made.reader.close()
            made.writer.close()
        raise JournalError("the disk is full")

    monkeypatch.setattr(file, stage, full)
    with pytest.raises(JournalError, match="the disk is full"):
        Journal.create(path, account_id="1")
    assert os.listdir(path.parent) == []


def test_removing_takes_all_names(path: Path) -> None:
    """The ids are in the side files too."""
    remove(killed(path))
    assert os.listdir(path.parent) == []


async def test_a_place_without_links(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems have none, and never is a file written over."""

    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    async with Journal.create(path, account_id="1") as journal:
        await journal.record(IDS)
    assert os.listdir(path.parent) == ["run.journal"]
    assert kinds(path) == ["not_attempted"] * 5


async def test_the_input_is_one_transaction(path: Path) -> None:
    """A reader sees all of it or nothing, and nothing is damaged in between."""
    seen: list[int] = []

    def source() -> object:
        for number in range(6001):
            yield f"conf-{number}"
            if number % 2000 == 0:
                seen.append(len(list(read_outcomes(path))))
                assert not describe(path).complete

    async with Journal.create(path, account_id="1") as journal:
        await journal.record(source())  # type: ignore[arg-type]
        assert seen == [0] * 4
        assert describe(path).total == 6001
        assert "1 commits" in repr(journal)


async def test_a_look_compares_what_is_of_one_commit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that records its input between two questions of a look is not damage."""
    # The checkpoint after the input waits so long for the look, which waits for the input.
    monkeypatch.setattr(file, "_BUSY_TIME", 0.1)
    journal = Journal.create(path, account_id="1")
    loop = asyncio.get_running_loop()
    real = file.connect

    def connect(path: Path, options: str = "mode=rw") -> sqlite3.Connection:
        connection = real(path, options)

        def trace(sql: str) -> None:
            if sql.startswith("SELECT total FROM run"):
                asyncio.run_coroutine_threadsafe(journal.record(IDS), loop).result()

        connection.set_trace_callback(trace)
        return connection

    monkeypatch.setattr(file, "connect", connect)
    assert len(await asyncio.to_thread(lambda: list(read_outcomes(path)))) == 5
    monkeypatch.undo()
    assert kinds(path) == ["not_attempted"] * 5
    await journal.aclose()


@pytest.mark.parametrize("kind", [kind for kind in OutcomeKind if kind.settled])
async def test_what_was_in_flight_is_settled_by_what_is_known_later(path: Path, kind: OutcomeKind) -> None:
    """The server's lasting no too: otherwise each resume would ask again for ever."""
    killed(path, "await journal.claim(list(journal.unsettled())[0])")
    async with Journal.open(path) as journal:
        first, *_ = journal.unsettled()
        assert first.ambiguous
        await journal.claim(first)
        await journal.settle(first, Outcome(first.conference_id, kind, 1))
    assert kinds(path) == ["ended", "ended", kind.value, "not_attempted", "not_attempted"]


def old_journal(path: Path) -> None:
    """Make the journal of a program before the lock and the mark: its run was killed after one of three."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for table in schema.TABLES.values():
            connection.execute(table)
        connection.execute(schema.BEGIN_RUN, ("1", 1.0, False, False))
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "INSERT INTO conferences (conference_id, existed) VALUES ('a', 0), ('b', 0), ('c', 0)"
        )
        connection.execute("UPDATE run SET given = 3, total = 3")
        connection.execute("UPDATE conferences SET kind = 'ended', attempts = 1 WHERE conference_id = 'a'")
        connection.execute("UPDATE conferences SET claimed = 1 WHERE conference_id = 'b'")
        copy = path.with_name("old.journal")
        shutil.copy(path, copy)
        shutil.copy(f"{path}-wal", f"{copy}-wal")
    copy.with_name("old.journal-lock").touch()


async def test_a_journal_of_the_first_program_is_resumed(path: Path) -> None:
    """As it was left by a kill: with its log and the lock file of that time."""
    old_journal(path)
    old = path.with_name("old.journal")
    assert kinds(old) == ["ended", "unknown", "not_attempted"]
    async with Journal.open(old, account_id="1") as journal:
        assert [(one.conference_id, one.ambiguous) for one in journal.unsettled()] == [
            ("b", True),
            ("c", False),
        ]
        for target in list(journal.unsettled()):
            await end(journal, target)
    assert kinds(old) == ["ended"] * 3
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


@pytest.mark.parametrize("where", ["account", "schema", "name"])
def test_what_a_foreign_journal_says_does_not_reach_the_terminal_raw(tmp_path: Path, where: str) -> None:
    """Control characters in its account, its tables and its name are escaped; blanks stay."""
    path = tmp_path / ("a  b\x1b[31m" if where == "name" else "run.journal")
    asyncio.run(Journal.create(path, account_id="9\x1b]0;pwn\x07" if where == "account" else "1").aclose())
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE run SET given = 0, total = 0")
        if where == "schema":
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute("UPDATE sqlite_master SET name = 'x\x1b]0;pwn', sql = 'x' WHERE name = 'run'")
    with pytest.raises(JournalError) as caught:
        Journal.open(path, account_id="2")
    assert str(caught.value).isprintable()
    assert "\\x1b" in str(caught.value)
    assert str(refusal("a  b\u202e\n")) == "a  b\\u202e\\n"


def test_an_id_that_is_no_text_is_damage(path: Path) -> None:
    """SQLite keeps a value of any type, and a foreign journal may have one."""
    asyncio.run(Journal.create(path, account_id="1").aclose())
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO conferences (conference_id, existed) VALUES (x'0102', 0)")
        connection.execute("UPDATE run SET given = 1, total = 1")
    for look in (LOOKS[0], LOOKS[2]):
        with pytest.raises(JournalError, match="is damaged: some of its ids are not texts"):
            look(path)


async def test_a_copy_without_its_log_is_recognised_after_a_reader_was_in_the_way(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader keeps the first change of a resume out of the journal until the reader ends."""
    journal, _ = await begun(path)
    await journal.aclose()
    monkeypatch.setattr(file, "_BUSY_TIME", 0.0)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM run").fetchone()
        journal = Journal.open(path)
        second, third, *_ = journal.unsettled()
        await end(journal, second)
    await end(journal, third)
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    with pytest.raises(JournalError, match="was parted from its log"):
        describe(copy)
    await journal.aclose()
    assert kinds(path) == ["ended"] * 3 + ["not_attempted"] * 2


async def test_a_copy_with_its_log_of_a_later_moment_is_recognised(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup of the directory copies one file after the other, while the run carries its log over."""
    monkeypatch.setattr(file, "_LOG_BYTES", 0)
    journal, (second, third, *_) = await begun(path)
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    await end(journal, second)
    await end(journal, third)
    shutil.copy(f"{path}-wal", f"{copy}-wal")
    for look in LOOKS:
        with pytest.raises(JournalError, match="copy was parted from its log copy-wal"):
            look(copy)
    shutil.copy(path, copy)
    assert kinds(copy) == ["ended"] * 3 + ["not_attempted"] * 2
    await journal.aclose()
