"""The file of a journal: made, locked, opened for a run, and checked.

Only SQLite opens the file itself (`Lock` says why). We make it beforehand, so that we never take over a
file of somebody else, and so that its mode is 0600 from the first moment. SQLite gives its side files the
mode of the file that they belong to.

Each refusal is one sentence that names the file.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from bandwidth_async.errors import JournalError
from bandwidth_async.journal import schema
from bandwidth_async.journal.place import network_file_system

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# UPDATE … FROM came with this version.
_OLDEST_SQLITE = (3, 33, 0)

# Seconds that SQLite waits for another process that reads or tidies up.
_BUSY_TIME = 10.0

# KiB. With it a million random ids are recorded in half the time that SQLite's own 2 MiB take.
_WRITER_CACHE = 64 * 1024

# Pages of 4 KiB that SQLite's log holds before SQLite copies it into the file.
_LOG_PAGES = 10_000

# How the names of SQLite's errors begin that mean a damaged file.
_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


@frozen(kw_only=True)
class RunRow:
    """What a journal says of its run.

    ``created`` is seconds since the epoch. ``given`` and ``total`` are the number of ids in the input with
    and without duplicates, None until all of them are recorded. ``verify`` and ``hang_up`` say how the run
    ends a conference.
    """

    account_id: str
    created: float
    given: int | None = None
    total: int | None = None
    verify: bool
    hang_up: bool


@frozen(kw_only=True)
class OpenFile:
    """A journal that is open for a run: the connection that writes, the one that reads, and the lock.

    Close them in this order: reader, writer (the last connection removes the side files), lock.
    """

    path: Path
    run: RunRow
    writer: sqlite3.Connection
    reader: sqlite3.Connection
    lock: Lock


def create(path: Path, run: RunRow) -> OpenFile:
    """Make a new journal and open it. Raises `JournalError`."""

    def make_tables(connection: sqlite3.Connection) -> RunRow:
        with translated(path, writing=True):
            connection.execute("BEGIN IMMEDIATE")
            for table in schema.TABLES.values():
                connection.execute(table)
            connection.execute(schema.BEGIN_RUN, (run.account_id, run.created, run.verify, run.hang_up))
            connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {schema.VERSION}")
            connection.execute("COMMIT")
        return run

    _refuse_network(path)
    _make_empty(path)
    try:
        return _lock_and_open(path, make_tables)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def reopen(path: Path, account_id: str | None) -> OpenFile:
    """Check an existing journal and open it. Raises `JournalError` if it cannot be resumed."""

    def check_all(connection: sqlite3.Connection) -> RunRow:
        run = read_run(connection, path)
        if account_id is not None and run.account_id != account_id:
            raise JournalError(f"{path} is of account {run.account_id}, not of {account_id}")
        if run.total is None:
            raise JournalError(
                f"{path} is incomplete: its run was cut off while the input was being recorded, before any"
                " end was sent (or this is a copy without its -wal file); remove it and start again with end"
            )
        check_content(connection, path)
        return run

    check_access(path, writing=True)
    _refuse_network(path)
    return _lock_and_open(path, check_all)


def connect(path: Path, options: str = "mode=rw") -> sqlite3.Connection:
    """Open a connection that begins a transaction only when told to. Raises `sqlite3.Error`."""
    return sqlite3.connect(
        f"{path.as_uri()}?{options}",
        uri=True,
        isolation_level=None,
        timeout=_BUSY_TIME,
        # One connection is handed to the writer's thread. No two threads ever use one at the same time.
        check_same_thread=False,
    )


def _lock_and_open(path: Path, begin: Callable[[sqlite3.Connection], RunRow]) -> OpenFile:
    """Lock and open. ``begin`` first makes the content or checks it, and returns the run."""
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise JournalError(
            f"a journal needs SQLite 3.33 or newer, and this Python comes with {sqlite3.sqlite_version}"
        )
    try:
        lock = Lock.take(path)
    except OSError as error:
        raise JournalError(f"the lock file of {path} cannot be made: {error.strerror}") from error
    if lock is None:
        raise JournalError(f"{path} is in use: another process is at work on it")
    with ExitStack() as undo:
        undo.callback(lock.release)
        with translated(path):
            writer = undo.enter_context(closing(connect(path)))
            run = begin(writer)
            _prepare(writer, path)
            reader = undo.enter_context(closing(connect(path)))
            reader.execute("PRAGMA query_only = ON")
        undo.pop_all()
    return OpenFile(path=path, run=run, writer=writer, reader=reader, lock=lock)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Have SQLite keep its log beside the file, and put every commit on the disk."""
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise JournalError(f"{path} cannot be used as a journal: SQLite stays in {mode} mode instead of WAL")
    connection.execute("PRAGMA synchronous = FULL")
    # macOS only: without it a commit may still be in the disk's own cache.
    connection.execute("PRAGMA fullfsync = ON")
    connection.execute(f"PRAGMA cache_size = -{_WRITER_CACHE}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")


def _make_empty(path: Path) -> None:
    """Make an empty file of mode 0600, where there is no file yet."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise JournalError(
            f"{path} exists: continue its run with resume, or choose another name for the new journal"
        ) from None
    except FileNotFoundError:
        raise JournalError(f"there is no directory {path.parent} to put a journal in") from None
    except OSError as error:
        raise JournalError(f"{path} cannot be written: {error.strerror}") from error
    try:
        # The umask may have removed some of the mode's bits.
        if sys.platform != "win32":
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _refuse_network(path: Path) -> None:
    kind = network_file_system(path)
    if kind is not None:
        raise JournalError(
            f"{path} is on a network file system ({kind}), where SQLite cannot protect it from damage:"
            " put the journal on a disk of this machine"
        )


# Who is using a journal

if sys.platform == "win32":
    # There is no such lock here: on Windows two processes are not kept apart.

    def _try_lock(descriptor: int) -> bool:
        return True

    def _is_locked(descriptor: int) -> bool:
        return False

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _is_locked(descriptor: int) -> bool:
        try:
            # The caller closes the descriptor, which releases this lock again.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


class Lock:
    """The lock of a journal that is in use. The system releases it when its process dies, however it dies.

    The lock is on a file of its own, ``….journal-lock``, and not on the journal. SQLite guards its files
    with POSIX locks, and a process loses those as soon as it closes any descriptor of the same file. So
    opening a journal to see whether it is in use would take SQLite's own guard from it, and the next
    process that closes the journal would delete the log that the first one is using. That is why nothing
    but SQLite ever opens a journal.

    The holder removes the lock file. Another process may have opened the file before that and locked it
    afterwards. So a lock counts only if the file that was locked is still the one at its path.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def take(cls, journal: Path) -> Lock | None:
        """Take the lock, or return None if somebody has it. Raises `OSError` where there can be none."""
        path = _lock_path(journal)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if not _try_lock(descriptor):
                    os.close(descriptor)
                    return None
                if _is_at(path, descriptor):
                    return cls(path, descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def release(self) -> None:
        """Remove the lock file and release the lock."""
        # If it cannot be removed, an empty file stays, which does no harm.
        with suppress(OSError):
            self._path.unlink()
        os.close(self._descriptor)


def is_in_use(journal: Path) -> bool:
    """Return True if a living process holds the lock of a journal."""
    try:
        descriptor = os.open(_lock_path(journal), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return _is_locked(descriptor)
    finally:
        os.close(descriptor)


def _lock_path(journal: Path) -> Path:
    return journal.with_name(journal.name + "-lock")


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


# Whether a file is a journal, and whole


def check_access(path: Path, *, writing: bool = False) -> None:
    """Refuse a path without looking into the file: missing, not a file, empty, or not ours to use."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise JournalError(f"there is no journal {path}") from None
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        what = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise JournalError(f"{path} is {what} and cannot be a journal")
    if not os.access(path, os.R_OK):
        raise JournalError(f"{path} cannot be read: permission denied")
    if status.st_size == 0:
        raise JournalError(f"{path} is not a journal: it is empty")
    if writing and not os.access(path, os.W_OK):
        raise JournalError(f"{path} cannot be written: permission denied")


def read_run(connection: sqlite3.Connection, path: Path) -> RunRow:
    """Return what a journal says of its run. Raises `JournalError` if it is none, or of another version."""
    with translated(path):
        try:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
        except sqlite3.DatabaseError as error:
            if _name(error) == "SQLITE_NOTADB":
                raise JournalError(f"{path} is not a journal") from error
            raise
        if application != schema.APPLICATION_ID:
            raise JournalError(f"{path} is not a journal: it is another SQLite database")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != schema.VERSION:
            raise JournalError(
                f"{path} is a journal of version {version}, and this program knows version {schema.VERSION}"
            )
        found = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
        rows = connection.execute(schema.READ_RUN).fetchall()
        if found != schema.TABLES or len(rows) != 1 or not isinstance(rows[0][0], str):
            raise JournalError(f"{path} is damaged: it does not have the tables of a journal")
        account_id, created, given, total, verify, hang_up = rows[0]
        return RunRow(
            account_id=account_id,
            created=created,
            given=given,
            total=total,
            verify=bool(verify),
            hang_up=bool(hang_up),
        )


def check_content(connection: sqlite3.Connection, path: Path) -> None:
    """Have SQLite check the whole file (a million ids: 3 s). Raises `JournalError` if it is damaged.

    SQLite's quick check would miss an id that differs from the one in the index.
    """
    with translated(path):
        (word,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if word != "ok":
            first = str(word).splitlines()[-1]
            raise JournalError(f"{path} is damaged: {first}")
        (counted,) = connection.execute("SELECT count(*) FROM conferences").fetchone()
        (total,) = connection.execute("SELECT total FROM run").fetchone()
        if total not in {None, counted}:
            raise JournalError(f"{path} is damaged: it has {counted} of its {total} ids")


@contextmanager
def translated(path: Path, *, writing: bool = False) -> Iterator[None]:
    """Raise SQLite's errors as `JournalError`."""
    try:
        yield
    # Python cannot decode an error message of SQLite that quotes damaged bytes.
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise (write_error if writing else _read_error)(path, error) from error


def write_error(path: Path, error: Exception) -> JournalError:
    """Return what a failed write means, as an error to raise."""
    reason = "the disk is full" if _name(error) == "SQLITE_FULL" else str(error)
    return JournalError(f"{path} cannot be written: {reason}; what it holds so far is safe")


def _read_error(path: Path, error: Exception) -> JournalError:
    if isinstance(error, sqlite3.ProgrammingError):
        return JournalError(f"{path} is closed")
    # SQLite's error for a text that is not UTF-8 has no name of its own.
    if "decode" in str(error):
        return JournalError(f"{path} is damaged: some of its bytes are not text")
    if _name(error).startswith(_DAMAGE):
        return JournalError(f"{path} is damaged: {error}")
    return JournalError(f"{path} cannot be read: {error}")


def _name(error: Exception) -> str:
    """Return the name of an SQLite error, as in ``SQLITE_FULL``."""
    return str(getattr(error, "sqlite_errorname", ""))
