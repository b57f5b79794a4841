"""Where journals are kept: the user's directory, their names, and on which file systems."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from attrs import frozen

from bandwidth_async.directories import JOURNAL_SUFFIX
from bandwidth_async.errors import ConfigurationError
from bandwidth_async.journal.refusals import refusal

if TYPE_CHECKING:
    from os import PathLike

# The most runs that an error lists.
_MOST_LISTED = 20

# SQLite's log needs memory that all its processes share, and locks that all of them see. So it does not work
# over a network (https://sqlite.org/wal.html), nor where a virtual machine sees folders of its host. New file
# systems of that kind appear all the time, so these are the others, as the kernel names them: on a disk or in
# the memory of this machine, or layered on those. A file system in user space is named fuse.<program>, or
# fuseblk if it is on a disk.
_LOCAL = re.compile(
    "aufs|bcachefs|btrfs|ecryptfs|exfat|ext[234]|f2fs|fuseblk|hfsplus|jfs|nilfs2|ntfs3?|overlay|ramfs|reiserfs"
    r"|rootfs|tmpfs|ubifs|vfat|xfs|zfs|fuse\.fuse-overlayfs"
)
_MOUNTS = Path("/proc/self/mountinfo")


def new_journal_path(directory: Path, now: datetime, random: Random) -> Path:
    """Return a path for a new journal, named after the time (aware) and a random number.

    Makes the directory if it is missing, for its owner only. Raises `JournalError` if that fails.
    """
    if now.tzinfo is None:
        raise ConfigurationError(f"{now} has no time zone: give an aware datetime")
    try:
        make_private(directory)
    except OSError as error:
        raise refusal(f"the directory {directory} cannot be made: {error.strerror}") from error
    return directory / f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{random.getrandbits(24):06x}{JOURNAL_SUFFIX}"


def journals(directory: Path) -> list[Path]:
    """Return the journals of a directory, the oldest first. There are none if the directory is missing.

    Raises `JournalError` if it cannot be read.
    """
    try:
        return sorted(path for path in directory.iterdir() if path.suffix == JOURNAL_SUFFIX)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise refusal(f"the directory {directory} cannot be read: {error.strerror}") from error


def find(directory: Path, run: str) -> Path:
    """Return the journal of a run by its name, as in ``20261122T104512Z-3fa9c1``, or by its beginning.

    Raises `JournalError` if there is none, and if several runs begin so.
    """
    known = journals(directory)
    found = [path for path in known if run in {path.stem, path.name}]
    found = found or [path for path in known if run and path.stem.startswith(run)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise refusal(f"there is no run {run!r} in {directory}")
    listed = ", ".join(path.stem for path in found[:_MOST_LISTED])
    more = ", …" if len(found) > _MOST_LISTED else ""
    raise refusal(f"{len(found):,} runs begin with {run!r}: {listed}{more}")


def located(path: str | PathLike[str]) -> Path:
    """Return the one absolute path of a file. SQLite names the side files after it too."""
    return Path(os.path.realpath(path))


def shared_file_system(path: Path) -> str | None:
    """Return the kind of file system that an absolute path is on, or None if other machines do not share it.

    Only Linux lists its mounts. Elsewhere nothing is known, and this returns None.
    """
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    kind = file_system_of(path, mounts)
    return kind if kind and not _LOCAL.fullmatch(kind) else None


def file_system_of(path: Path, mounts: str) -> str | None:
    """Return the kind of file system of an absolute path, given the text of ``/proc/self/mountinfo``.

    This walks down the path as the kernel does: from the mount it is in, to a mount that is in that one. So a
    mount that a later one hides is never met.
    """
    listed = [mount for line in mounts.splitlines() if (mount := _mount(line))]
    numbers = {mount.number for mount in listed}
    at: _Mount | None = None
    for place in reversed([path, *path.parents]):
        here = [mount for mount in listed if mount.place == place]
        # What is mounted last at one place lies on top.
        while found := [
            one for one in here if (one.within == at.number if at else one.within not in numbers)
        ]:
            at = found[-1]
            here.remove(at)
    return at.kind if at else None


@frozen
class _Mount:
    """A mount: its number, the number of the mount that it is in, where it is, and its file system."""

    number: str
    within: str
    place: Path
    kind: str


def _mount(line: str) -> _Mount | None:
    """Return what a line says, or None if it is cut."""
    mount, _, source = line.partition(" - ")
    words, described = mount.split(), source.split()
    if len(words) < 5 or not described:
        return None
    return _Mount(words[0], words[1], Path(_unescaped(words[4])), described[0])


def _unescaped(text: str) -> str:
    """Undo the kernel's escapes: it writes blanks and backslashes as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def make_private(directory: Path) -> None:
    """Make a directory and those above it with mode 0700. Path.mkdir gives that to the last one only."""
    if not directory.is_dir():
        make_private(directory.parent)
        directory.mkdir(0o700, exist_ok=True)
