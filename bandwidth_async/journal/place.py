"""Where journals are kept when nobody says where, and what they are called.

Whether a file lies on a network file system: SQLite's log needs memory shared by all its processes.

Who is at work on a journal: a lock that the system takes back when its process dies, however it dies.

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
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from bandwidth_async.errors import ConfigurationError, JournalError

SUFFIX = ".journal"


def state_directory(environ: Mapping[str, str]) -> Path:
    """Return the user's directory for journals.

    https://specifications.freedesktop.org/basedir-spec/latest/: ``$XDG_STATE_HOME``, where that is not set
    or relative ``~/.local/state``. Raises `JournalError` when there is no home directory either.
    """
    stated = Path(environ.get("XDG_STATE_HOME", ""))
    if not stated.is_absolute():
        home = environ.get("HOME", "")
        try:
            stated = (Path(home) if home else Path.home()) / ".local" / "state"
        except RuntimeError:
            raise JournalError("there is no home directory to keep journals in: set XDG_STATE_HOME") from None
    return stated / "bandwidth-async"


def new_journal_path(directory: Path, now: datetime, random: Random) -> Path:
    """Return a path for a new journal, named after the time (aware) and a random number.

    The directory is made where it is missing, for its owner alone. Raises `JournalError` when it cannot be.
    """
    if now.tzinfo is None:
        raise ConfigurationError(f"{now} has no time zone: give an aware datetime")
    try:
        _make(directory)
    except OSError as error:
        raise JournalError(f"the directory {directory} cannot be made: {error.strerror}") from error
    return directory / f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{random.getrandbits(24):06x}{SUFFIX}"


def journals(directory: Path) -> list[Path]:
    """Return the journals of a directory, the oldest first; none where there is no directory.

    Raises `JournalError` when it cannot be read.
    """
    try:
        return sorted(path for path in directory.iterdir() if path.suffix == SUFFIX)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise JournalError(f"the directory {directory} cannot be read: {error.strerror}") from error


def find(directory: Path, run: str) -> Path:
    """Return the journal of a run by its name, as in ``20261122T104512Z-3fa9c1``. Raises `JournalError`."""
    for path in journals(directory):
        if run in {path.stem, path.name}:
            return path
    raise JournalError(f"there is no run {run!r} in {directory}")


def _make(directory: Path) -> None:
    """Make a directory and those above it, all with mode 0700; mkdir gives that to the last one only."""
    if not directory.is_dir():
        _make(directory.parent)
        directory.mkdir(0o700, exist_ok=True)


# https://sqlite.org/wal.html: "WAL does not work over a network filesystem". Names as the kernel spells
# them; a file system in user space is named fuse.<program>.
_NETWORK = frozenset(
    {
        *(
            "9p",
            "afs",
            "beegfs",
            "ceph",
            "cifs",
            "coda",
            "gfs2",
            "glusterfs",
            "gpfs",
            "lustre",
            "ncpfs",
            "nfs",
            "nfs4",
        ),
        *("ocfs2", "orangefs", "smb3", "smbfs"),
        *("fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
    }
)
_MOUNTS = Path("/proc/self/mountinfo")


def network_file_system(path: Path) -> str | None:
    """Return the kind of network file system that ``path`` (absolute) lies on, None when there is none.

    Where the system does not list its mounts (anything but Linux) nothing can be said: None.
    """
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    kind = file_system_of(path, mounts)
    return kind if kind in _NETWORK else None


def file_system_of(path: Path, mounts: str) -> str | None:
    """Return the kind of file system of an absolute path, out of the text of ``/proc/self/mountinfo``."""
    best, kind = -1, None
    for line in mounts.splitlines():
        place, _, source = line.partition(" - ")
        words, described = place.split(), source.split()
        if len(words) < 5 or not described:
            continue
        mounted = Path(_unescaped(words[4]))
        if path.is_relative_to(mounted) and len(mounted.parts) >= best:  # a later mount hides an earlier one
            best, kind = len(mounted.parts), described[0]
    return kind


def _unescaped(text: str) -> str:
    """Undo how the kernel writes blanks and backslashes: as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


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


def is_in_use(journal: Path) -> bool:
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
