"""Making a journal's file, opening it, and holding it.

Only SQLite opens the file itself (why: see `lock`). It is made by us beforehand, so that nobody else's
file is ever taken over and its mode is 0600 from the first moment; SQLite gives its side files the mode of
the file they belong to.

Judging what is found: whether it is a journal, whole, and what an error of SQLite means for it.

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
from bandwidth_async.journal.place import Lock, network_file_system

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_OLDEST_SQLITE = (3, 33, 0)  # UPDATE … FROM
_BUSY_TIME = 10.0  # seconds that SQLite waits for another process that reads or tidies up
_WRITER_CACHE = 64 * 1024  # KiB; a million random ids are recorded in half the time of SQLite's 2 MiB
_LOG_PAGES = 10_000  # of 4 KiB, after which SQLite carries its log over into the file


@frozen(kw_only=True)
class Held:
    """A journal of ours: the connection that writes, the one that reads, and the lock.

    They are closed in this order: reader, writer (the last connection removes the side files), lock.
    """

    path: Path
    run: Run
    writer: sqlite3.Connection
    reader: sqlite3.Connection
    lock: Lock


def create(path: Path, run: Run) -> Held:
    """Make a new journal and hold it. Raises `JournalError`."""

    def begin(connection: sqlite3.Connection) -> Run:
        with reported(path, writing=True):
            connection.execute("BEGIN IMMEDIATE")
            for table in schema.TABLES.values():
                connection.execute(table)
            connection.execute(schema.BEGIN_RUN, (run.account_id, run.created, run.verify, run.hang_up))
            connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {schema.VERSION}")
            connection.execute("COMMIT")
        return run

    _refuse_network(path)
    _make_file(path)
    try:
        return _hold(path, begin)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def go_on(path: Path, account_id: str | None) -> Held:
    """Hold a journal that is there. Raises `JournalError`, with the reason why it cannot be gone on with."""

    def begin(connection: sqlite3.Connection) -> Run:
        run = inspect(connection, path)
        if account_id is not None and run.account_id != account_id:
            raise JournalError(f"{path} is of account {run.account_id}, not of {account_id}")
        if run.total is None:
            raise JournalError(
                f"{path} is incomplete: its run was cut off while the input was being recorded, before any"
                " end was sent (or this is a copy without its -wal file); remove it and start again with end"
            )
        check(connection, path)
        return run

    admit(path, writing=True)
    _refuse_network(path)
    return _hold(path, begin)


def connect(path: Path, options: str = "mode=rw") -> sqlite3.Connection:
    """Open a connection that begins transactions only when told to. Raises `sqlite3.Error`."""
    return sqlite3.connect(
        f"{path.as_uri()}?{options}",
        uri=True,
        isolation_level=None,
        timeout=_BUSY_TIME,
        check_same_thread=False,  # one is handed to the writer's thread; none is ever used by two at once
    )


def _hold(path: Path, begin: Callable[[sqlite3.Connection], Run]) -> Held:
    """Lock and open. ``begin`` makes or judges the content, before anything else, and returns the run."""
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
        with reported(path):
            writer = undo.enter_context(closing(connect(path)))
            run = begin(writer)
            _prepare(writer, path)
            reader = undo.enter_context(closing(connect(path)))
            reader.execute("PRAGMA query_only = ON")
        undo.pop_all()
    return Held(path=path, run=run, writer=writer, reader=reader, lock=lock)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise JournalError(f"{path} cannot be written as a journal is: SQLite keeps to its {mode} mode")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")  # macOS: on the disk, and not only on its way there
    connection.execute(f"PRAGMA cache_size = -{_WRITER_CACHE}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")


def _make_file(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise JournalError(
            f"{path} exists: go on with it by resume, or choose another name for the new journal"
        ) from None
    except FileNotFoundError:
        raise JournalError(f"there is no directory {path.parent} to put a journal in") from None
    except OSError as error:
        raise JournalError(f"{path} cannot be written: {error.strerror}") from error
    try:
        if sys.platform != "win32":
            os.fchmod(descriptor, 0o600)  # the umask may have taken bits away
    finally:
        os.close(descriptor)


def _refuse_network(path: Path) -> None:
    kind = network_file_system(path)
    if kind is not None:
        raise JournalError(
            f"{path} is on a network file system ({kind}), where SQLite cannot keep it whole:"
            " put the journal on a disk of this machine"
        )


_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


@frozen(kw_only=True)
class Run:
    """What a journal says of its run. ``created`` is epoch seconds; ``given`` and ``total`` are the ids of
    the input with and without duplicates, None until all of them are recorded. ``verify`` and ``hang_up``
    are how it ends a conference.
    """

    account_id: str
    created: float
    given: int | None = None
    total: int | None = None
    verify: bool
    hang_up: bool


def admit(path: Path, *, writing: bool = False) -> None:
    """Refuse what needs no look inside: what is missing, not a file, empty, or not ours to read."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise JournalError(f"there is no journal {path}") from None
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        what = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise JournalError(f"{path} is {what}, not a journal")
    if not os.access(path, os.R_OK):
        raise JournalError(f"{path} cannot be read: permission denied")
    if status.st_size == 0:
        raise JournalError(f"{path} is not a journal: it is empty")
    if writing and not os.access(path, os.W_OK):
        raise JournalError(f"{path} cannot be written: permission denied")


def inspect(connection: sqlite3.Connection, path: Path) -> Run:
    """Return what a journal says of its run. Raises `JournalError` when it is none, or another version."""
    with reported(path):
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
        return Run(
            account_id=account_id,
            created=created,
            given=given,
            total=total,
            verify=bool(verify),
            hang_up=bool(hang_up),
        )


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Have SQLite check the whole file (a million ids: 3 s). Raises `JournalError` when it is damaged.

    The quick form of the check would miss an id that is not the one of the index any more.
    """
    with reported(path):
        (word,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if word != "ok":
            first = str(word).splitlines()[-1]
            raise JournalError(f"{path} is damaged: {first}")
        (counted,) = connection.execute("SELECT count(*) FROM conferences").fetchone()
        (total,) = connection.execute("SELECT total FROM run").fetchone()
        if total not in {None, counted}:
            raise JournalError(f"{path} is damaged: it has {counted} ids of {total}")


@contextmanager
def reported(path: Path, *, writing: bool = False) -> Iterator[None]:
    """Raise SQLite's errors as ours. Python fails to decode those that quote damaged bytes."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise (cannot_write if writing else cannot_read)(path, error) from error


def cannot_read(path: Path, error: Exception) -> JournalError:
    """Return what a failed reading means."""
    if isinstance(error, sqlite3.ProgrammingError):
        return JournalError(f"{path} is closed")
    if "decode" in str(error):  # Python has no name for this one
        return JournalError(f"{path} is damaged: there are bytes in it that are no text")
    if _name(error).startswith(_DAMAGE):
        return JournalError(f"{path} is damaged: {error}")
    return JournalError(f"{path} cannot be read: {error}")


def cannot_write(path: Path, error: Exception) -> JournalError:
    """Return what a failed writing means."""
    reason = "the disk is full" if _name(error) == "SQLITE_FULL" else str(error)
    return JournalError(f"{path} cannot be written: {reason}; what it holds so far is safe")


def _name(error: Exception) -> str:
    return str(getattr(error, "sqlite_errorname", ""))
