"""Whether a file lies on a network file system: SQLite's log needs memory shared by all its processes."""

from __future__ import annotations

import re
from pathlib import Path

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
