"""Who is at work on a journal: a lock that the system takes back when its process dies, however it dies.

The lock is on a file of its own, ``….journal-lock``, and not on the journal. SQLite guards its files by
POSIX locks, and those are lost as soon as the process closes any descriptor of the same file: to look
whether a journal is in use would take SQLite's own guard from it, and the next process to close the
journal would delete the log under the first one's hands. So nothing but SQLite ever opens a journal.

The file is removed by who held it. That is why, once locked, it is compared with what is there now:
it may have been removed between its opening and its locking.

On Windows there is no such lock here: two processes are not kept apart there.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

if sys.platform == "win32":

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
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # given back by the close that follows
        except BlockingIOError:
            return True
        return False


class Lock:
    """The lock of one journal, held from its making until `release`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def take(cls, journal: Path) -> Lock | None:
        """Take the lock, or return None when another has it. Raises `OSError` where it cannot be made."""
        path = _path_of(journal)
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
        """Let others have it."""
        with suppress(OSError):  # it cannot be removed: an empty file stays, which harms nobody
            self._path.unlink()
        os.close(self._descriptor)


def in_use(journal: Path) -> bool:
    """Say whether a living process is at work on a journal."""
    try:
        descriptor = os.open(_path_of(journal), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return _is_locked(descriptor)
    finally:
        os.close(descriptor)


def _path_of(journal: Path) -> Path:
    return journal.with_name(journal.name + "-lock")


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
