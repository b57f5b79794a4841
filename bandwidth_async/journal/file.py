"""Making a journal's file, opening it, and holding it.

Only SQLite opens the file itself (why: see `lock`). It is made by us beforehand, so that nobody else's
file is ever taken over and its mode is 0600 from the first moment; SQLite gives its side files the mode of
the file they belong to.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from bandwidth_async.errors import JournalError
from bandwidth_async.journal import schema
from bandwidth_async.journal.judging import Run, admit, check, inspect, reported
from bandwidth_async.journal.lock import Lock
from bandwidth_async.journal.mounts import network_file_system

if TYPE_CHECKING:
    from collections.abc import Callable

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
