"""The file of a journal: made, locked, opened for a run or for a look, checked, and removed.

A journal and SQLite's log of it (``….journal-wal``) are two files while a run is at work, and the newest
outcomes are in the log. So before its first change a run has the journal itself say so (`schema.APART`), and
takes it back when it is closed. A journal that says so without its log was parted from it, and is refused.

Each refusal is one sentence that names the file.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import stat
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import define, frozen

from bandwidth_async.errors import ConfigurationError, JournalError
from bandwidth_async.journal import schema
from bandwidth_async.journal.lock import (
    CAN_LOCK,
    Identity,
    Lock,
    Opened,
    identity,
    is_in_use,
    opened_for_a_look,
    version_in_header,
)
from bandwidth_async.journal.place import shared_file_system
from bandwidth_async.journal.refusals import error_name, refusal, translated
from bandwidth_async.journal.shard import Shard

if TYPE_CHECKING:
    from collections.abc import Iterator

# UPDATE … FROM came with this version.
_OLDEST_SQLITE = (3, 33, 0)

# Seconds that SQLite waits for another process that reads or tidies up.
_BUSY_TIME = 10.0

# KiB. With it a million random ids are recorded in half the time that SQLite's own 2 MiB take.
_WRITER_CACHE = 64 * 1024

# Bytes that SQLite's log holds before it is copied into the file.
_LOG_BYTES = 40_000_000

# The bytes of a log that holds one page: two headers and the page. https://sqlite.org/fileformat2.html
_SMALLEST_LOG = 32 + 24 + 4096

# What SQLite adds to the name of a database for its log, for the index of the log, and for a rollback.
_LOG = "-wal"
_SIDE_FILES = (_LOG, "-shm", "-journal")


@frozen(kw_only=True)
class RunRow:
    """What a journal says of its run.

    ``created`` is seconds since the epoch. ``given`` and ``total`` are the number of ids in the input with
    and without duplicates, None until all of them are recorded. ``verify`` and ``hang_up`` say how the run
    ends a conference. ``version`` is that of its journal.
    """

    account_id: str
    created: float
    given: int | None = None
    total: int | None = None
    verify: bool
    hang_up: bool
    shard: Shard | None = None
    digest: str | None = None
    version: int = schema.WITH_TIMELINE


@define(kw_only=True, eq=False)
class OpenFile:
    """A journal that is open for a run: the connection that writes, the one that reads, and the lock.

    Close the reader, then call `shut`.
    """

    path: Path
    run: RunRow
    writer: sqlite3.Connection
    reader: sqlite3.Connection
    lock: Lock
    # The log, which there is from the first change on, and the bytes from which on it is carried over.
    log: Identity | None = None
    most: int = 0

    def carry_over(self) -> None:
        """Copy the log into the journal, and have the journal say that the log has more.

        The log is never cut, so whatever ends this process leaves a journal and its log. Raises
        `sqlite3.Error`.
        """
        begun = (secrets.randbelow(0x7FFF) + 1) << 16
        self.writer.execute(f"PRAGMA user_version = {self.run.version | schema.APART | begun}")
        if self.log is not None:
            # In the midst of a run nobody waits for who reads.
            self.writer.execute("PRAGMA busy_timeout = 0")
        (busy, _, _) = self.writer.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
        self.writer.execute(f"PRAGMA busy_timeout = {_BUSY_TIME * 1000:.0f}")
        header = self._header()
        begun = header & schema.BEGUN
        self.writer.execute(f"PRAGMA user_version = {self.run.version | schema.OPEN | begun}")
        status = _beside(self.path, _LOG).stat()
        self.log = self.log or (status.st_dev, status.st_ino)
        if not header & schema.APART:
            # A reader was in the way. Until the journal says that the log has more, each commit tries again.
            self.most = 0
            return
        self.most = status.st_size + (_LOG_BYTES if not busy else _LOG_BYTES // 40)

    def _header(self) -> int:
        """Return the version in the header of the file alone, without its log. Raises `OSError`."""
        with opened_for_a_look(self.path) as opened:
            return version_in_header(opened)

    def after_commit(self) -> None:
        """Check the place, and keep the log short. Raises `JournalError`, `sqlite3.Error` or `OSError`."""
        self.check_place()
        if not self.writer.in_transaction and _beside(self.path, _LOG).stat().st_size > self.most:
            self.carry_over()

    def check_place(self) -> None:
        """Raise `JournalError` if the journal or its log is not where it was opened.

        What would be written then is on no record that a resume finds.
        """
        if not self.lock.is_at(self.path):
            if self.lock.is_removed():
                raise refusal(
                    f"{self.path} cannot be written: it was removed while its run was at work, so the run"
                    " cannot be resumed; end the conferences that are left with a new run"
                )
            raise refusal(
                f"{self.path} cannot be written: it was moved while its run was at work; resume the run by"
                " the journal's new name"
            )
        if self.log and identity(_beside(self.path, _LOG)) != self.log:
            raise refusal(
                f"{self.path} cannot be written: its log {self.path.name}{_LOG} was moved or removed while"
                " the run was at work; resume the run"
            )

    def shut(self) -> None:
        """Close the connection that writes, and release the lock. Never raises."""
        try:
            _shut(self.writer, self.path)
            # SQLite leaves an empty log where a file was moved away from.
            if not os.path.lexists(self.path) and not _has_log(self.path):
                _try_remove(self.path)
        finally:
            self.lock.release()


def create(path: Path, run: RunRow) -> OpenFile:
    """Make a new journal and open it. Raises `JournalError`.

    It is made and locked under another name, and gets its own when it is a journal. So a process that is
    killed meanwhile leaves nothing under the name.
    """
    _refuse_this_python()
    _refuse_shared(path)
    draft = path.with_name(f".{secrets.token_hex(8)}.new")
    _make_empty(draft, path)
    try:
        _make_tables(draft, path, run)
        lock = _locked(draft)
        with ExitStack() as undo:
            undo.callback(lock.release)
            _give_name(draft, path)
            undo.callback(_try_remove, path)
            opened = _open(path, run, lock)
            undo.pop_all()
    finally:
        _try_remove(draft)
    return opened


def create_or_reopen(path: Path, run: RunRow) -> OpenFile:
    """Open the journal of this run, and make it if there is none. Raises `JournalError`.

    Its ``total`` is None if the input is still to be recorded.
    """
    if path.is_file() and not path.stat().st_size:
        # `_give_name` leaves it on some file systems if the process is killed.
        path.unlink(missing_ok=True)
    if not os.path.lexists(path):
        try:
            return create(path, run)
        except JournalError:
            # Another process may have made it meanwhile.
            if not os.path.lexists(path):
                raise
    return reopen(path, run.account_id, run)


def reopen(path: Path, account_id: str | None, anew: RunRow | None = None) -> OpenFile:
    """Check an existing journal and open it. Raises `JournalError` if it cannot be resumed.

    With ``anew`` it has to be of the same part of the same input, and starts over as this run if its input is
    incomplete.
    """
    _refuse_this_python()
    check_access(path, writing=True)
    _refuse_shared(path)
    lock = _locked(path)
    with ExitStack() as undo:
        undo.callback(lock.release)
        with look(path, locked=True) as connection:
            run = read_run(connection, path)
            if account_id is not None and run.account_id != account_id:
                raise refusal(f"{path} is of account {run.account_id}, not of {account_id}")
            if run.total is not None:
                _check_origin(path, run, anew)
                check_content(connection, path)
            elif anew is None:
                raise refusal(
                    f"{path} is incomplete: its run was cut off while the input was being recorded, before"
                    " any end was sent; remove it and start again with end"
                )
        opened = _open(path, run, lock)
        undo.pop_all()
    if run.total is None and anew is not None:
        _start_over(opened, anew)
    return opened


def _check_origin(path: Path, run: RunRow, expected: RunRow | None) -> None:
    """Raise `JournalError` if a journal holds other ids than expected."""
    if expected is None:
        return
    if run.shard != expected.shard:
        has, wanted = (f"shard {one.shard}" if one.shard else "the whole input" for one in (run, expected))
        raise refusal(f"{path} is of {has}, not of {wanted}: go on with it as it was begun, or name another")
    if run.digest and expected.digest and run.digest != expected.digest:
        raise refusal(
            f"{path} is of another input: the ids have changed since it was made; name another journal for"
            " them, or go on with this one by resume"
        )


def _start_over(opened: OpenFile, run: RunRow) -> None:
    """Have a journal whose input is incomplete begin as a new one."""
    with ExitStack() as undo, translated(opened.path, writing=True):
        undo.callback(opened.shut)
        undo.enter_context(closing(opened.reader))
        _write_tables(opened.writer, run)
        opened.run = run
        undo.pop_all()


def remove(path: Path) -> None:
    """Remove a journal and everything that SQLite keeps beside it. Raises `OSError`."""
    # The journal first: the other way round, a kill in between would leave a journal without its log.
    for name in (path, *(_beside(path, suffix) for suffix in _SIDE_FILES)):
        name.unlink(missing_ok=True)


def remove_unused(path: Path) -> int:
    """Remove a journal that no process uses, and return how many bytes it had.

    Raises `JournalError` if it is in use, and `OSError`.
    """
    lock = _locked(path)
    try:
        freed = size(path)
        remove(path)
    finally:
        lock.release()
    return freed


def size(path: Path) -> int:
    """Return how many bytes a journal has, with all that SQLite keeps beside it."""
    found = 0
    for name in (path, *(_beside(path, suffix) for suffix in _SIDE_FILES)):
        with suppress(OSError):
            found += name.stat().st_size
    return found


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


def _locked(path: Path) -> Lock:
    """Take the lock. Raises `JournalError`."""
    try:
        lock = Lock.take(path)
    except OSError as error:
        raise refusal(f"{path} cannot be locked: {error.strerror}") from error
    if lock is None:
        in_use = refusal(f"{path} is in use: another process is at work on it")
        in_use.in_use = True
        raise in_use
    return lock


def _open(path: Path, run: RunRow, lock: Lock) -> OpenFile:
    """Open the connections of a run."""
    with ExitStack() as undo, translated(path, writing=True):
        writer = connect(path)
        undo.callback(_shut, writer, path)
        _prepare(writer, path)
        reader = undo.enter_context(closing(connect(path)))
        reader.execute("PRAGMA query_only = ON")
        opened = OpenFile(path=path, run=run, writer=writer, reader=reader, lock=lock)
        opened.check_place()
        lock.connections = [writer, reader]
        undo.pop_all()
    return opened


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Have SQLite keep its log beside the file, and put every commit on the disk."""
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise refusal(f"{path} cannot be used as a journal: SQLite stays in {mode} mode instead of WAL")
    connection.execute("PRAGMA synchronous = FULL")
    # macOS only: without it a commit may still be in the disk's own cache.
    connection.execute("PRAGMA fullfsync = ON")
    connection.execute(f"PRAGMA cache_size = -{_WRITER_CACHE}")
    # SQLite keeps each page as it was before a statement, and a statement of random ids changes a page for
    # each of them. In a temporary file these pages are 16 times what a million ids take.
    connection.execute("PRAGMA temp_store = MEMORY")
    # `OpenFile.carry_over` does it.
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    # A log that was carried over becomes short with the next commit.
    connection.execute("PRAGMA journal_size_limit = 0")


def _shut(writer: sqlite3.Connection, path: Path) -> None:
    """Close the connection that writes. Never raises."""
    with ExitStack() as guard:
        try:
            if writer.in_transaction:
                writer.execute("ROLLBACK")
            (version,) = writer.execute("PRAGMA user_version").fetchone()
            if version & schema.FLAGS:
                writer.execute(f"PRAGMA user_version = {version & ~schema.FLAGS}")
                # SQLite does this at the end too, but not if the file was moved or somebody else reads it.
                writer.execute("PRAGMA busy_timeout = 0")
                writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error:
            # The journal still says that its log has more. While another connection is open, SQLite keeps it.
            with suppress(sqlite3.Error):
                reader = guard.enter_context(closing(connect(path, "mode=ro")))
                reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
        with suppress(sqlite3.Error):
            writer.close()


# Making one


def _make_tables(draft: Path, path: Path, run: RunRow) -> None:
    with translated(path, writing=True), closing(connect(draft)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        _write_tables(connection, run)


def _write_tables(connection: sqlite3.Connection, run: RunRow) -> None:
    """Write the tables of a new journal, in place of what there is."""
    connection.execute("BEGIN IMMEDIATE")
    for name in schema.tables(schema.WITH_TIMELINE):
        connection.execute(f"DROP TABLE IF EXISTS {name}")
    for table in schema.tables(run.version).values():
        connection.execute(table)
    connection.execute(schema.BEGIN_RUN, (run.account_id, run.created, run.verify, run.hang_up))
    if run.version >= schema.WITH_ORIGIN:
        shard = (run.shard.number, run.shard.count) if run.shard else (None, None)
        connection.execute(schema.SET_ORIGIN, (*shard, run.digest))
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {run.version}")
    connection.execute("COMMIT")


def _make_empty(draft: Path, path: Path) -> None:
    """Make an empty file of mode 0600, where there is no file yet."""
    if os.path.lexists(path):
        raise _exists(path)
    try:
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileNotFoundError:
        raise refusal(f"there is no directory {path.parent} to put a journal in") from None
    except OSError as error:
        raise refusal(f"{path} cannot be written: {error.strerror}") from error
    try:
        # The umask may have removed some of the mode's bits.
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _give_name(draft: Path, path: Path) -> None:
    """Call the draft by its name, unless there is a file of this name. Raises `JournalError`."""
    try:
        _put_aside(path)
        try:
            os.link(draft, path)
        except FileExistsError:
            raise
        except OSError:
            # Some file systems have no links. There an empty file keeps the name for a moment.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            draft.replace(path)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise refusal(f"{path} cannot be written: {error.strerror}") from error


def _put_aside(path: Path) -> None:
    """Keep SQLite from taking the side files of an earlier journal for those of a new one.

    The earlier one may have been moved without its log, and then the log is all that is known of its run.
    """
    if _has_log(path) and not path.exists():
        log = _beside(path, _LOG)
        log.rename(_beside(path, f"{_LOG}.{secrets.token_hex(4)}"))
    if not path.exists():
        for suffix in _SIDE_FILES:
            _beside(path, suffix).unlink(missing_ok=True)


def _try_remove(path: Path) -> None:
    with suppress(OSError):
        remove(path)


def _exists(path: Path) -> JournalError:
    return refusal(f"{path} exists: continue its run with resume, or choose another name for the new journal")


def _refuse_this_python() -> None:
    if not CAN_LOCK:
        raise refusal("a journal needs file locks, which Python has on Linux and macOS, but not on Windows")
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise refusal(
            f"a journal needs SQLite 3.33 or newer, and this Python comes with {sqlite3.sqlite_version}"
        )


def _refuse_shared(path: Path) -> None:
    kind = shared_file_system(path)
    if kind is not None:
        raise refusal(
            f"{path} is on {kind}, which may be a shared or network file system, where SQLite cannot protect"
            " it from damage: put the journal on a disk of this machine"
        )


# Looking at one


@contextmanager
def look(path: Path, *, locked: bool = False) -> Iterator[sqlite3.Connection]:
    """Open a connection that only reads, for as long as the context lasts. Raises `JournalError`.

    It never takes the lock, and leaves the files as they are. ``locked`` says that the caller has the lock.
    """
    check_access(path)
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(opened_for_a_look(path))
        except OSError as error:
            raise refusal(f"{path} cannot be read: {error.strerror}") from error
        # A run that begins or ends meanwhile changes the two one after the other. So it is asked again.
        if all(not _has_log(path) and version_in_header(opened) & schema.APART for _ in range(3)):
            raise _parted(path, in_use=not locked and is_in_use(path))
        with translated(path):
            connection = _connected(path, stack)
            if all(not _belongs(opened, connection) for _ in range(3)):
                raise _parted(path, in_use=not locked and is_in_use(path))
        yield connection


def _belongs(opened: Opened, connection: sqlite3.Connection) -> bool:
    """Return False if the log beside a journal was not begun with it. Both may change meanwhile."""
    before = version_in_header(opened)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except (sqlite3.Error, UnicodeDecodeError):
        # The caller's first query says what it is.
        return True
    begun = {header & schema.BEGUN for header in (before, version_in_header(opened))}
    return not version & schema.OPEN or version & schema.BEGUN in begun


def _parted(path: Path, *, in_use: bool) -> JournalError:
    log = path.name + _LOG
    if in_use:
        return refusal(
            f"{path} is in use, but its log {log} is not beside it: use the name that its run was begun with,"
            " or wait for the end of the run"
        )
    return refusal(
        f"{path} was parted from its log {log}, which has the newest outcomes of its run: put the log back"
        " beside it, under this name. If the log is lost, start again with end and the same ids: to end a"
        " conference twice does no harm"
    )


def _connected(path: Path, stack: ExitStack) -> sqlite3.Connection:
    """Return a connection for reading, which the stack closes. Even for that SQLite writes beside the file.

    Where it may not, the file alone is the whole journal, if there is no log beside it. Of somebody else's
    journal it must not: side files of ours would keep the owner out.
    """
    ours, index = _is_ours(path), _beside(path, "-shm").exists()
    if (ours or (_has_log(path) and index)) and (guard := _ordinary(path)):
        stack.callback(_tidy, path, guard)
        if not ours:
            return guard
        # SQLite checks constraints only where it might write. The guard is closed after this connection, and
        # so SQLite leaves the log where it is.
        connection = stack.enter_context(closing(connect(path)))
        connection.execute("PRAGMA query_only = ON")
        return connection
    if _has_log(path):
        raise refusal(
            f"{path} cannot be read here, because SQLite may not write into its directory: copy it and"
            " its -wal file to another directory"
        )
    return stack.enter_context(closing(connect(path, "mode=ro&immutable=1")))


def _ordinary(path: Path) -> sqlite3.Connection | None:
    """Open a connection that can read while a run writes, or return None if SQLite cannot."""
    connection = connect(path, "mode=ro")
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        return None
    except sqlite3.DatabaseError:
        # Not an SQLite database. The caller's first query says so.
        pass
    except BaseException:
        connection.close()
        raise
    return connection


def _tidy(path: Path, connection: sqlite3.Connection) -> None:
    """Close a look, and let SQLite remove the log that it has made for it, or that a closed run has left."""
    with closing(connection), suppress(sqlite3.Error, UnicodeDecodeError, OSError):
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        connection.close()
        closed = application == schema.APPLICATION_ID and not version & schema.FLAGS
        if _beside(path, _LOG).exists() and _is_ours(path) and (closed or not _has_log(path)):
            with closing(connect(path)) as last:
                last.execute("SELECT count(*) FROM sqlite_master").fetchone()


def _is_ours(path: Path) -> bool:
    if not CAN_LOCK:
        return True
    try:
        return os.geteuid() in {0, path.stat().st_uid} and os.access(path, os.W_OK)
    except OSError:  # it was removed
        return False


def _has_log(path: Path) -> bool:
    try:
        return _beside(path, _LOG).stat().st_size >= _SMALLEST_LOG
    except OSError:
        return False


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


# Whether a file is a journal, and whole


def check_access(path: Path, *, writing: bool = False) -> None:
    """Refuse a path without looking into the file: missing, not a file, empty, or not ours to use."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise refusal(f"there is no journal {path}") from None
    except OSError as error:
        raise refusal(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        what = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise refusal(f"{path} is {what} and cannot be a journal")
    if not os.access(path, os.R_OK):
        raise refusal(f"{path} cannot be read: permission denied")
    if status.st_size == 0:
        raise refusal(f"{path} is not a journal: it is empty")
    if writing and not os.access(path, os.W_OK):
        raise refusal(f"{path} cannot be written: permission denied")


def read_run(connection: sqlite3.Connection, path: Path) -> RunRow:
    """Return what a journal says of its run. Raises `JournalError` if it is none, or of another version."""
    with translated(path):
        try:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
        except sqlite3.DatabaseError as error:
            if error_name(error) == "SQLITE_NOTADB":
                raise refusal(f"{path} is not a journal") from error
            raise
        if application != schema.APPLICATION_ID:
            raise refusal(f"{path} is not a journal: it is another SQLite database")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        known = version & ~schema.FLAGS
        if not schema.VERSION <= known <= schema.WITH_TIMELINE:
            raise refusal(f"{path} is a journal of version {version}, and this program knows versions 1 to 3")
        found = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
        rows = connection.execute(schema.READ_RUN).fetchall()
        if found != schema.tables(known) or len(rows) != 1 or not isinstance(rows[0][0], str):
            raise refusal(f"{path} is damaged: it does not have the tables of a journal")
        shard, digest = _read_origin(connection, path) if known >= schema.WITH_ORIGIN else (None, None)
        account_id, created, given, total, verify, hang_up = rows[0]
        return RunRow(
            account_id=account_id,
            created=created,
            given=given,
            total=total,
            verify=bool(verify),
            hang_up=bool(hang_up),
            shard=shard,
            digest=digest,
            version=known,
        )


def _read_origin(connection: sqlite3.Connection, path: Path) -> tuple[Shard | None, str | None]:
    try:
        ((number, count, digest),) = connection.execute(schema.READ_ORIGIN)
        return None if count is None else Shard(number, count), digest
    except (ValueError, TypeError, ConfigurationError) as error:
        raise refusal(f"{path} is damaged: it does not say which part of its input it has") from error


def check_content(connection: sqlite3.Connection, path: Path) -> None:
    """Have SQLite check the whole file (a million ids: 3 s). Raises `JournalError` if it is damaged.

    SQLite's quick check would miss an id that differs from the one in the index.
    """
    with translated(path):
        (word,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if word != "ok":
            first = str(word).splitlines()[-1]
            raise refusal(f"{path} is damaged: {first}")
        counted, texts = connection.execute(
            "SELECT count(*), coalesce(sum(typeof(conference_id) = 'text'), 0) FROM conferences"
        ).fetchone()
        (total,) = connection.execute("SELECT total FROM run").fetchone()
        if total not in {None, counted}:
            raise refusal(f"{path} is damaged: it has {counted} of its {total} ids")
        if texts != counted:
            raise refusal(f"{path} is damaged: some of its ids are not texts")
