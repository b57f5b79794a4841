"""Creating and opening a journal: each error is one sentence, and only the owner can read the file."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from bandwidth_async.errors import JournalError
from bandwidth_async.journal import Journal, Recorded, describe, place, read_outcomes
from bandwidth_async.journal.file import _prepare
from bandwidth_async.journal.lock import is_in_use

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CREATED = 1_795_344_312.5
IDS = [f"conf-{number}" for number in range(1, 6)]


async def made(path: Path, ids: list[str] = IDS) -> Path:
    """Return the path of a closed journal."""
    async with Journal.create(path, account_id="9900000", created=CREATED) as journal:
        await journal.record(ids)
    return path


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """Return a closed journal of five ids."""
    return await made(tmp_path / "run.journal")


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def error_text(act: Callable[[], object], path: Path) -> str:
    """Check that the error names the path, and return its text with FILE instead of the path."""
    with pytest.raises(JournalError) as caught:
        act()
    assert str(path) in str(caught.value)
    return str(caught.value).replace(str(path), "FILE")


def check_error(path: Path, sentence: str) -> None:
    """Check that open, describe and read_outcomes raise the same error and change nothing."""
    before = path.read_bytes() if path.is_file() else None
    assert error_text(lambda: Journal.open(path), path) == sentence
    assert error_text(lambda: describe(path), path) == sentence
    assert error_text(lambda: list(read_outcomes(path)), path) == sentence
    assert before == (path.read_bytes() if path.is_file() else None)
    assert [name for name in os.listdir(path.parent) if name.startswith(path.name + "-")] == []


def test_a_missing_file(tmp_path: Path) -> None:
    """A missing file is an error, and no file is created."""
    check_error(tmp_path / "none", "there is no journal FILE")


def test_a_directory(tmp_path: Path) -> None:
    """A directory is not a journal."""
    check_error(tmp_path, "FILE is a directory and cannot be a journal")


def test_a_pipe(tmp_path: Path) -> None:
    """Opening a pipe does not wait for its writer."""
    os.mkfifo(tmp_path / "pipe")
    check_error(tmp_path / "pipe", "FILE is not a regular file and cannot be a journal")


def test_a_path_through_a_file(path: Path) -> None:
    """The error has the system's own reason."""
    deep = path / "deep"
    assert error_text(lambda: Journal.open(deep), deep) == "FILE cannot be read: Not a directory"


def test_an_empty_file(tmp_path: Path) -> None:
    """A run that was killed while it created its journal leaves an empty file."""
    (tmp_path / "empty").touch()
    check_error(tmp_path / "empty", "FILE is not a journal: it is empty")


@pytest.mark.parametrize("text", ["conf-1\n", "conf-1\n" * 10_000])
def test_a_text_file(tmp_path: Path, text: str) -> None:
    """A list of ids is not a journal."""
    (tmp_path / "ids.txt").write_text(text)
    check_error(tmp_path / "ids.txt", "FILE is not a journal")


def test_another_database(tmp_path: Path) -> None:
    """The SQLite database of another program is not changed."""
    execute(tmp_path / "other.db", "CREATE TABLE conferences (number)")
    check_error(tmp_path / "other.db", "FILE is not a journal: it is another SQLite database")


def test_another_version(path: Path) -> None:
    """A journal of a later version is not changed."""
    execute(path, "PRAGMA user_version = 4")
    check_error(path, "FILE is a journal of version 4, and this program knows versions 1 to 3")


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE conferences",
        "CREATE TRIGGER lie AFTER UPDATE ON conferences BEGIN DELETE FROM conferences; END",
        "ALTER TABLE run ADD COLUMN more",
        "DELETE FROM run",
    ],
)
def test_other_tables(path: Path, statement: str) -> None:
    """Only tables exactly as they were created are trusted."""
    execute(path, statement)
    check_error(path, "FILE is damaged: it does not have the tables of a journal")


def test_another_account(path: Path) -> None:
    """The error names both accounts."""
    assert error_text(lambda: Journal.open(path, account_id="9900001"), path) == (
        "FILE is of account 9900000, not of 9900001"
    )


@pytest.mark.parametrize("account_id", [None, "9900000"])
async def test_the_same_account(path: Path, account_id: str | None) -> None:
    """With the same account, or without one, the journal opens."""
    async with Journal.open(path, account_id=account_id) as journal:
        assert (journal.account_id, journal.path) == ("9900000", path)
        assert [target.conference_id for target in journal.unsettled()] == IDS


async def test_an_incomplete_input(tmp_path: Path) -> None:
    """The run was interrupted while its input was recorded."""
    path = tmp_path / "run.journal"
    await Journal.create(path, account_id="9900000", created=CREATED).aclose()
    assert error_text(lambda: Journal.open(path), path) == (
        "FILE is incomplete: its run was cut off while the input was being recorded, before any end was sent;"
        " remove it and start again with end"
    )
    assert (describe(path).complete, describe(path).total, list(read_outcomes(path))) == (False, 0, [])


@pytest.mark.parametrize("size", [1, 100, 4096, 8192])
async def test_a_file_that_is_cut(tmp_path: Path, size: int) -> None:
    """A file without its end is never read as a whole journal."""
    path = await made(tmp_path / "run.journal", [f"conf-{number}" for number in range(2000)])
    os.truncate(path, size)
    for act in (lambda: Journal.open(path), lambda: list(read_outcomes(path))):
        assert error_text(act, path).startswith(("FILE is damaged: ", "FILE is not a journal"))


def test_an_id_that_is_not_the_one_of_the_index(path: Path) -> None:
    """A flipped bit in an id is damage, even if the file is still a valid database."""
    content = path.read_bytes()
    assert content.count(b"conf-4") == 2
    path.write_bytes(content.replace(b"conf-4", b"conf-6", 1))
    for act in (lambda: Journal.open(path), lambda: list(read_outcomes(path))):
        assert error_text(act, path).startswith("FILE is damaged: ")


def test_rows_that_are_gone(path: Path) -> None:
    """The journal knows how many ids it must have."""
    execute(path, "DELETE FROM conferences WHERE number = 5")
    assert error_text(lambda: Journal.open(path), path) == "FILE is damaged: it has 4 of its 5 ids"


def test_a_time_that_is_none(path: Path) -> None:
    """A created time out of range is damage, not a traceback."""
    execute(path, "UPDATE run SET created = 1e300")
    assert error_text(lambda: describe(path), path) == "FILE is damaged: 1e+300 is not a time"


async def test_in_use(path: Path) -> None:
    """Only one run can use a journal at a time, also within a process. Others can read it meanwhile."""
    async with Journal.open(path):
        assert (
            error_text(lambda: Journal.open(path), path) == "FILE is in use: another process is at work on it"
        )
        assert describe(path).in_use
        assert len(list(read_outcomes(path))) == 5
    assert not describe(path).in_use
    await Journal.open(path).aclose()


async def test_in_use_under_another_name(path: Path) -> None:
    """A symbolic link leads to the same journal."""
    link = path.with_name("link")
    os.symlink(path, link)
    async with Journal.open(link) as journal:
        assert journal.path == path
        assert (
            error_text(lambda: Journal.open(path), path) == "FILE is in use: another process is at work on it"
        )


def test_a_process_that_dies_lets_go(path: Path) -> None:
    """A journal is in use only while the other process lives, even if that process could not clean up."""
    code = (
        "import sys, asyncio; from bandwidth_async.journal import Journal\n"
        "async def main():\n"
        "    journal = Journal.open(sys.argv[1]); print('open', flush=True); sys.stdin.read()\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        assert (
            error_text(lambda: Journal.open(path), path) == "FILE is in use: another process is at work on it"
        )
        assert describe(path).in_use
        process.kill()
        process.wait()
    assert not describe(path).in_use
    assert os.listdir(path.parent) == ["run.journal"]


@pytest.mark.parametrize("how", ["moved", "linked", "moved elsewhere"])
async def test_the_lock_is_of_the_file_and_not_of_its_name(path: Path, how: str) -> None:
    """Under every name it has, a journal is in use, and no look takes it."""
    (path.parent / "deep").mkdir()
    other = path.parent / ("deep/other" if how == "moved elsewhere" else "other")
    async with Journal.open(path):
        (os.link if how == "linked" else os.rename)(path, other)
        assert (
            error_text(lambda: Journal.open(other), other)
            == "FILE is in use: another process is at work on it"
        )
        assert is_in_use(other)
    assert not is_in_use(other)
    await Journal.open(other).aclose()


def test_a_look_does_not_take_the_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens a journal while others look at it is not told that it is in use."""
    commands: list[int] = []
    real = fcntl.fcntl

    def noted(descriptor: int, command: int, *rest: bytes) -> object:
        commands.append(command)
        return real(descriptor, command, *rest)

    monkeypatch.setattr(fcntl, "fcntl", noted)
    assert not describe(path).in_use
    assert commands == [fcntl.F_OFD_GETLK]


async def test_a_reader_in_the_same_process_keeps_the_lock(path: Path) -> None:
    """A look that ends closes nothing that the lock, or another reader, needs."""
    rows = read_outcomes(path)
    next(rows)
    async with Journal.open(path):
        describe(path)
        assert len(list(rows)) == 4
        code = "import sys; from bandwidth_async.journal import describe; print(describe(sys.argv[1]).in_use)"
        done = subprocess.run(  # noqa: ASYNC221  # a test waits for nobody
            [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
        )
        assert done.stdout == "True\n"


@pytest.mark.parametrize("plant", ["pipe", "link", "folder"])
async def test_what_others_put_where_a_lock_file_might_be(path: Path, tmp_path: Path, plant: str) -> None:
    """There is no lock file, so nothing waits for it and nothing is written through it."""
    place, target = path.with_name("run.journal-lock"), tmp_path / "target"
    if plant == "pipe":
        os.mkfifo(place)
    elif plant == "link":
        place.symlink_to(target)
    else:
        place.mkdir()
    assert not describe(path).in_use
    async with Journal.open(path):
        assert describe(path).in_use
    assert not target.exists()


def test_a_system_without_locks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the system's own reason, and no descriptor stays open."""

    descriptors: list[int] = []

    def no_locks(descriptor: int, command: int, argument: bytes) -> None:
        descriptors.append(descriptor)
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "fcntl", no_locks)
    assert error_text(lambda: Journal.open(path), path) == "FILE cannot be locked: No locks available"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(*descriptors)


def test_a_database_without_a_log(tmp_path: Path) -> None:
    """Without its log, SQLite could not keep commits as safe as the journal promises."""
    with closing(sqlite3.connect(":memory:")) as connection:
        sentence = "FILE cannot be used as a journal: SQLite stays in memory mode instead of WAL"
        assert error_text(lambda: _prepare(connection, tmp_path), tmp_path) == sentence


def test_creating_over_a_file(path: Path) -> None:
    """No journal and no other file is ever overwritten."""
    before = path.read_bytes()
    assert error_text(lambda: Journal.create(path, account_id="1", created=CREATED), path) == (
        "FILE exists: continue its run with resume, or choose another name for the new journal"
    )
    assert path.read_bytes() == before


def test_creating_over_a_dangling_link(tmp_path: Path) -> None:
    """A link counts as an existing file. Its target is not created."""
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "target")
    assert "FILE exists" in error_text(lambda: Journal.create(link, account_id="1", created=CREATED), link)
    assert not (tmp_path / "target").exists()


def test_creating_without_directory(tmp_path: Path) -> None:
    """`create` does not create a directory."""
    with pytest.raises(JournalError, match=r"^there is no directory .*/none to put a journal in$"):
        Journal.create(tmp_path / "none" / "run.journal", account_id="1", created=CREATED)


def test_creating_below_a_file(path: Path) -> None:
    """The error has the system's own reason."""
    with pytest.raises(JournalError, match=r"cannot be written: Not a directory$"):
        Journal.create(path / "deep", account_id="1", created=CREATED)


def test_an_old_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names both versions, and no file is left."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 26, 0))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.26.0")
    with pytest.raises(
        JournalError,
        match=r"^a journal needs SQLite 3\.33 or newer, and this Python comes with 3\.26\.0$",
    ):
        Journal.create(tmp_path / "run.journal", account_id="1", created=CREATED)
    assert list(tmp_path.iterdir()) == []


def test_a_network_file_system(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal is rejected before any file is created or opened."""
    listing = tmp_path / "mountinfo"
    listing.write_text("22 1 254:0 / / rw shared:1 - nfs4 server:/ rw\n")
    monkeypatch.setattr(place, "_MOUNTS", listing)
    sentence = (
        "FILE is on nfs4, which may be a shared or network file system, where SQLite cannot protect it from"
        " damage: put the journal on a disk of this machine"
    )
    new = tmp_path / "new.journal"
    assert error_text(lambda: Journal.create(new, account_id="1", created=CREATED), new) == sentence
    assert error_text(lambda: Journal.open(path), path) == sentence
    assert not new.exists()


async def test_a_system_without_a_list_of_mounts(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the system does not list its mounts, the journal is accepted."""
    monkeypatch.setattr(place, "_MOUNTS", tmp_path / "none")
    await Journal.open(path).aclose()
    monkeypatch.setattr(place, "_MOUNTS", tmp_path)  # not to be read as text
    await Journal.open(path).aclose()


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
async def test_only_the_owner_can_read_any_of_its_files(tmp_path: Path, umask: int) -> None:
    """The journal and its side files have at most mode 0600, with any umask. One file is left."""
    path = tmp_path / "run.journal"
    before = os.umask(umask)
    try:
        async with Journal.create(path, account_id="1", created=CREATED) as journal:
            await journal.record(IDS)
            modes = {name: os.stat(tmp_path / name).st_mode & 0o777 for name in os.listdir(tmp_path)}
    finally:
        os.umask(before)
    assert modes == {
        "run.journal": 0o600,
        "run.journal-wal": 0o600,
        "run.journal-shm": 0o600,
    }
    assert os.listdir(tmp_path) == ["run.journal"]


# The superuser may read and write everything, so this program runs as the user "nobody".
_AS_NOBODY = """
import os, sys
from bandwidth_async.errors import JournalError
from bandwidth_async.journal import Journal, describe, read_outcomes
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
path = sys.argv[1]
acts = {
    "create": lambda: Journal.create(path + ".new", account_id="1", created=0.0),
    "open": lambda: Journal.open(path),
    "describe": lambda: describe(path).total,
    "outcomes": lambda: len(list(read_outcomes(path))),
}
for name, act in acts.items():
    try:
        print(name, act())
    except JournalError as error:
        print(name, str(error).replace(path, "FILE"))
"""


@pytest.fixture
def open_directory() -> Iterator[str]:
    """Create a directory that another user can reach. The directories of pytest are private."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)  # noqa: S103  # for another user
        yield name
        os.chmod(name, 0o755)  # noqa: S103  # for another user


def as_nobody(path: str) -> dict[str, str]:
    """Return the result or error of each function for a user without rights."""
    printed = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, path], capture_output=True, text=True, check=True, cwd=os.getcwd()
    ).stdout
    return dict(line.split(" ", 1) for line in printed.splitlines())


def test_a_copy_that_may_only_be_read(path: Path, open_directory: str) -> None:
    """Its outcomes can be read. It cannot be resumed, and no journal can be created beside it."""
    copy = f"{open_directory}/copy"
    shutil.copy(path, copy)
    os.chmod(copy, 0o444)
    os.chmod(open_directory, 0o555)  # noqa: S103  # for another user
    assert as_nobody(copy) == {
        "create": "FILE.new cannot be written: Permission denied",
        "open": "FILE cannot be written: permission denied",
        "describe": "5",
        "outcomes": "5",
    }


def test_a_file_that_may_not_be_read(path: Path, open_directory: str) -> None:
    """The journal of another user cannot be read."""
    copy = f"{open_directory}/copy"
    shutil.copy(path, copy)
    os.chmod(copy, 0o000)
    os.chmod(open_directory, 0o555)  # noqa: S103  # for another user
    sentence = "FILE cannot be read: permission denied"
    said = as_nobody(copy)
    assert {said[name] for name in ("open", "describe", "outcomes")} == {sentence}


def test_a_file_with_nothing_to_be_written_beside(path: Path, open_directory: str) -> None:
    """The file is writable, but its directory is not, so no lock and no log can be created there."""
    copy = f"{open_directory}/copy"
    shutil.copy(path, copy)
    os.chmod(copy, 0o666)  # noqa: S103  # for another user
    os.chmod(open_directory, 0o555)  # noqa: S103  # for another user
    said = as_nobody(copy)
    assert said["open"] == (
        "FILE cannot be written: attempt to write a readonly database; what it holds so far is safe"
    )
    assert (said["describe"], said["outcomes"]) == ("5", "5")


async def test_a_copy_with_its_log_where_nothing_may_be_written(tmp_path: Path, open_directory: str) -> None:
    """Without the log the journal is not whole, so the error says which files to copy."""
    path = tmp_path / "run.journal"
    copy = f"{open_directory}/copy"
    async with Journal.create(path, account_id="9900000", created=CREATED) as journal:
        assert await journal.record(IDS) == Recorded(5, 0)
        shutil.copy(path, copy)
        shutil.copy(f"{path}-wal", f"{copy}-wal")
    for name in (copy, f"{copy}-wal"):
        os.chmod(name, 0o444)
    os.chmod(open_directory, 0o555)  # noqa: S103  # for another user
    sentence = (
        "FILE cannot be read here, because SQLite may not write into its directory: copy it and its -wal file"
        " to another directory"
    )
    said = as_nobody(copy)
    assert (said["describe"], said["outcomes"]) == (sentence, sentence)
