"""Who is at work on a journal: a lock of the file itself, whatever it is called.

The lock is on a byte of the journal, far behind its content and away from the bytes that SQLite locks. So a
journal that is moved or linked keeps its lock. The system releases it when its process dies, however it
dies. A look asks for the lock without taking it.

SQLite guards its files with POSIX locks, and a process loses those as soon as it closes any descriptor of the
same file. So a process has one descriptor of a journal for all its connections. It is opened before the first
of them and closed after the last one. Nothing else but SQLite ever opens a journal.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

# A file, whatever it is called: its device and its inode.
Identity = tuple[int, int]

# Where the header of a file says `PRAGMA user_version`, as four bytes. https://sqlite.org/fileformat.html
_USER_VERSION = 60

# SQLite locks some bytes from 2**30 on.
_LOCKED_BYTE = 1 << 62

# Where Linux shows the open files of each process, and the locks that belong to them.
_PROCESSES = Path("/proc")

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]  # Windows has none

# Whether this system has the locks. Without them no journal is made or opened for a run.
CAN_LOCK = fcntl is not None

# Linux has locks that belong to a descriptor and not to a process. Elsewhere a process has to hold them.
_SET, _GET = (getattr(fcntl, f"F_OFD_{name}", getattr(fcntl, f"F_{name}", 0)) for name in ("SETLK", "GETLK"))

# The order in which the system's header declares a lock: its kind (and whence) is first or last.
_KIND_FIRST = sys.platform == "linux"


def _lock(descriptor: int, command: int, kind: int) -> int:
    """Ask for a kind of lock. Return the kind that `_GET` finds in the way."""
    if _KIND_FIRST:
        asked = struct.pack("hhqqi", kind, os.SEEK_SET, _LOCKED_BYTE, 1, 0)
        return int(struct.unpack("hhqqi", fcntl.fcntl(descriptor, command, asked))[0])
    asked = struct.pack("qqihh", _LOCKED_BYTE, 1, 0, kind, os.SEEK_SET)
    return int(struct.unpack("qqihh", fcntl.fcntl(descriptor, command, asked))[3])


def _try_lock(descriptor: int) -> bool:
    try:
        _lock(descriptor, _SET, fcntl.F_WRLCK)
    # The two errors with which systems say that somebody has the lock: EAGAIN and EACCES.
    except (BlockingIOError, PermissionError):
        return False
    return True


def _unlock(descriptor: int) -> None:
    _lock(descriptor, _SET, fcntl.F_UNLCK)


def _is_locked(descriptor: int) -> bool:
    return CAN_LOCK and _lock(descriptor, _GET, fcntl.F_RDLCK) != fcntl.F_UNLCK


@define(eq=False)
class Opened:
    """A file that this process has open: its descriptors, who uses them, and who holds the lock."""

    identity: Identity
    # More than one only if the file was replaced between a look at its name and opening it.
    descriptors: list[int] = field(factory=list)
    users: int = 0
    holder: Lock | None = None


# The journals that this process has open.
_opened: dict[Identity, Opened] = {}
_guard = threading.Lock()


class Lock:
    """The lock of a journal that is in use. A forked child does not have it."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        # The connections of the run, which a forked child must not close.
        self.connections: list[sqlite3.Connection] = []
        # Whether the process that took the lock is another one, which forked this one.
        self.forked = False

    @classmethod
    def take(cls, journal: Path) -> Lock | None:
        """Take the lock, or return None if somebody has it. Raises `OSError` where there can be none."""
        opened = _enter(journal)
        try:
            with _guard:
                if opened.holder is None and _try_lock(opened.descriptors[0]):
                    opened.holder = cls(opened)
                    return opened.holder
        except BaseException:
            _leave(opened)
            raise
        _leave(opened)
        return None

    def release(self) -> None:
        """Release the lock."""
        if self.forked:
            return
        with _guard, suppress(OSError):
            self._opened.holder = None
            _unlock(self._opened.descriptors[0])
        _leave(self._opened)

    def is_at(self, journal: Path) -> bool:
        """Return True if the locked file is the one of this name."""
        return identity(journal) == self._opened.identity

    def is_removed(self) -> bool:
        """Return True if the locked file has no name any more."""
        return os.fstat(self._opened.descriptors[0]).st_nlink == 0


def is_in_use(journal: Path) -> bool:
    """Return True if a living process holds the lock of a journal."""
    try:
        with opened_for_a_look(journal) as opened, _guard:
            return opened.holder is not None or _is_locked(opened.descriptors[0])
    except OSError:
        return False


def process_of(journal: Path) -> int | None:
    """Return the process that holds the lock of a journal. None if that is not known.

    Only Linux tells it, and of the processes of other users only to root.
    """
    wanted = identity(journal)
    for descriptor in _PROCESSES.glob("[0-9]*/fd/[0-9]*"):
        # A process may have ended, or belong to somebody else.
        with suppress(OSError):
            if wanted is not None and identity(descriptor) == wanted:
                process = descriptor.parents[1]
                if "OFDLCK" in (process / "fdinfo" / descriptor.name).read_text():
                    return int(process.name)
    return None


@contextmanager
def opened_for_a_look(journal: Path) -> Iterator[Opened]:
    """Keep the descriptor of a journal for as long as the context lasts. Raises `OSError`."""
    opened = _enter(journal)
    try:
        yield opened
    finally:
        _leave(opened)


def version_in_header(opened: Opened) -> int:
    """Return what the file alone, without its log, has as `PRAGMA user_version`."""
    with _guard:
        os.lseek(opened.descriptors[0], _USER_VERSION, os.SEEK_SET)
        return int.from_bytes(os.read(opened.descriptors[0], 4))


def identity(path: Path) -> Identity | None:
    """Return which file has this name, or None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _enter(path: Path) -> Opened:
    """Return the open file of a path, for one user more. Raises `OSError`."""
    with _guard:
        opened = _opened.get(identity(path) or (0, 0))
        if opened is None:
            descriptor = _descriptor(path)
            status = os.fstat(descriptor)
            found = (status.st_dev, status.st_ino)
            opened = _opened.setdefault(found, Opened(found))
            opened.descriptors.append(descriptor)
        opened.users += 1
        return opened


def _leave(opened: Opened) -> None:
    with _guard:
        opened.users -= 1
        # A forked child has closed them already.
        if not opened.users and _opened.get(opened.identity) is opened:
            del _opened[opened.identity]
            for descriptor in opened.descriptors:
                os.close(descriptor)


def _descriptor(path: Path) -> int:
    """Open a file, for writing if that is allowed. Never waits, not even for a pipe. Raises `OSError`."""
    flags = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        return os.open(path, os.O_RDWR | flags)
    except OSError:
        return os.open(path, os.O_RDONLY | flags)


def _let_go() -> None:
    """Leave the journals of the parent process alone. This runs in each forked child."""
    global _guard  # noqa: PLW0603 - a thread of the parent may hold it
    _guard = threading.Lock()
    for opened in _opened.values():
        # The lock itself stays the parent's: it belongs to the descriptor that both have.
        for descriptor in opened.descriptors:
            os.close(descriptor)
        if opened.holder is not None:
            opened.holder.forked = True
            # Closing a connection would write to the parent's files. So they stay open until this process
            # ends, and also while it ends.
            for connection in opened.holder.connections:
                _keep_for_ever(connection)
    _opened.clear()


def _keep_for_ever(kept: object) -> None:
    # Only a forked child needs it, and some Pythons are built without it.
    with suppress(ImportError):
        import ctypes  # noqa: PLC0415 - as the line above says

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
