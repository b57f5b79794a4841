"""The directory and the names of journals, and the file systems that other machines share."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from random import Random

import pytest

from bandwidth_async.errors import ConfigurationError, JournalError
from bandwidth_async.journal import find, journals, new_journal_path, place, state_directory
from bandwidth_async.journal.place import file_system_of, shared_file_system

NOW = datetime(2026, 11, 22, 10, 45, 12, tzinfo=UTC)

MOUNTS = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
31 22 0:25 / /home rw,nosuid shared:7 master:2 - nfs4 server:/home rw,vers=4.2
32 31 0:26 / /home/ann/local rw - xfs /dev/sdb rw
33 22 0:27 / /mnt/my\040share\134s rw - cifs //host/share rw
34 22 0:28 / /srv rw - ext4 /dev/sdc rw
35 22 0:29 / /srv rw - fuse.sshfs host: rw
a line that is cut
36 22 0:30 / /cut rw -
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/tmp/x.journal", "ext4"),  # noqa: S108  # only a name
        ("/home/x.journal", "nfs4"),
        ("/home/ann/x.journal", "nfs4"),
        ("/home/ann/local/deep/x.journal", "xfs"),
        ("/homes/x.journal", "ext4"),
        ("/mnt/my share\\s/x.journal", "cifs"),
        ("/srv/x.journal", "fuse.sshfs"),
        ("/cut/x.journal", "ext4"),
    ],
)
def test_a_path_belongs_to_the_nearest_mount(path: str, kind: str) -> None:
    """The longest mount point above it counts, and the later of two at one place. Blanks are octal."""
    assert file_system_of(Path(path), MOUNTS) == kind


def test_a_mount_that_a_later_one_hides_is_not_met() -> None:
    """An NFS mount below /srv, over which another disk was mounted. The root itself is not listed."""
    mounts = """
34 22 0:28 / /srv rw - ext4 /dev/sdc rw
36 34 0:30 / /srv/deep rw - nfs4 server:/ rw
37 34 0:31 / /srv rw - xfs /dev/sdd rw
"""
    assert file_system_of(Path("/srv/deep/x.journal"), mounts) == "xfs"
    assert file_system_of(Path("/srv/deep/x.journal"), mounts.replace("37 34", "37 99")) == "xfs"
    assert file_system_of(Path("/x.journal"), mounts) is None


def test_without_mounts_nothing_is_known() -> None:
    """Without a list of mounts the file system is unknown."""
    assert file_system_of(Path("/x"), "") is None


SHARED = """
9p afs beegfs ceph cifs davfs drvfs fakeowner gfs2 gpfs jffs2 lustre nfs nfs4 ocfs2 panfs prl_fs pvfs2 smb3
vboxsf virtiofs vmhgfs wekafs
fuse fuse.blobfuse2 fuse.gcsfuse fuse.goofys fuse.grpcfuse fuse.juicefs fuse.mergerfs fuse.mount-s3 fuse.osxfs
fuse.rclone fuse.s3fs fuse.seaweedfs fuse.sshfs fuse.vmhgfs-fuse
made-next-year fuse.made-next-year
"""
LOCAL = (
    "btrfs ext2 ext3 ext4 exfat f2fs fuse.fuse-overlayfs fuseblk ntfs ntfs3 overlay tmpfs ubifs vfat xfs zfs"
)


@pytest.mark.parametrize("kind", [*SHARED.split(), *LOCAL.split()])
def test_a_file_system_that_is_not_known_as_local_may_be_shared(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual machine's view of its host, a bucket, a cluster; and what nobody has heard of yet."""
    listing = tmp_path / "mountinfo"
    listing.write_text(f"22 1 254:0 / / rw - ext4 /dev/vda rw\n31 22 0:25 / /work rw - {kind} share rw\n")
    monkeypatch.setattr(place, "_MOUNTS", listing)
    assert shared_file_system(Path("/work/x.journal")) == (kind if kind in SHARED.split() else None)
    assert shared_file_system(Path("/home/x.journal")) is None


@pytest.mark.parametrize(
    ("environ", "directory"),
    [
        ({"XDG_STATE_HOME": "/state", "HOME": "/home/ann"}, "/state/bandwidth-async"),
        ({"XDG_STATE_HOME": "", "HOME": "/home/ann"}, "/home/ann/.local/state/bandwidth-async"),
        ({"XDG_STATE_HOME": "state", "HOME": "/home/ann"}, "/home/ann/.local/state/bandwidth-async"),
        ({"HOME": "/home/ann"}, "/home/ann/.local/state/bandwidth-async"),
        ({}, f"{Path.home()}/.local/state/bandwidth-async"),
    ],
)
def test_the_state_directory(environ: dict[str, str], directory: str) -> None:
    """XDG_STATE_HOME is used if it is an absolute path."""
    assert state_directory(environ) == Path(directory)


def test_a_new_journal_is_named_after_its_time_in_utc(tmp_path: Path) -> None:
    """Names sort by time, whatever zone the time has. Two names of the same second differ."""
    random = Random(7)
    first = new_journal_path(tmp_path, NOW, random)
    second = new_journal_path(tmp_path, NOW.astimezone(timezone(timedelta(hours=5))), random)
    assert first.name == f"20261122T104512Z-{Random(7).getrandbits(24):06x}.journal"
    assert second.name.startswith("20261122T104512Z-")
    assert first != second


def test_a_time_without_zone_is_refused(tmp_path: Path) -> None:
    """A time without a zone means another hour on another machine."""
    with pytest.raises(ConfigurationError, match="has no time zone"):
        new_journal_path(tmp_path, NOW.replace(tzinfo=None), Random(7))


def test_every_directory_that_is_made_is_private(tmp_path: Path) -> None:
    """Each new directory has mode 0700. An existing directory is not changed."""
    tmp_path.chmod(0o755)
    new_journal_path(tmp_path / "a" / "b" / "c", NOW, Random(7))
    made = [tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "c"]
    assert [path.stat().st_mode & 0o777 for path in [tmp_path, *made]] == [0o755, 0o700, 0o700, 0o700]


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    """The error says what is wrong if a file has the name of the directory."""
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match=r"the directory .*/file/deep cannot be made: File exists"):
        new_journal_path(tmp_path / "file" / "deep", NOW, Random(7))
    with pytest.raises(JournalError, match=r"the directory .*/file cannot be read: Not a directory"):
        journals(tmp_path / "file")


def test_runs_are_found_by_name(tmp_path: Path) -> None:
    """A run is found by its name, with or without the ending. Side files and other folders do not count."""
    for name in ("b.journal", "a.journal", "a.journal-wal", "a.journal-lock", "notes.txt"):
        (tmp_path / name).touch()
    assert journals(tmp_path) == [tmp_path / "a.journal", tmp_path / "b.journal"]
    assert find(tmp_path, "b") == find(tmp_path, "b.journal") == tmp_path / "b.journal"
    for run in ("c", "", "notes", f"..{os.sep}{tmp_path.name}{os.sep}a"):
        with pytest.raises(JournalError, match=r"there is no run '.*' in "):
            find(tmp_path, run)


def test_no_directory_holds_no_runs(tmp_path: Path) -> None:
    """Before the first run there is no directory."""
    assert journals(tmp_path / "none") == []
