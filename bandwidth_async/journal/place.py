"""Where journals are kept when nobody says where, and what they are called."""

from __future__ import annotations

from collections.abc import Mapping
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
