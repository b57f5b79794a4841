"""What runs have learned about the rate of each account and host, kept in the state directory."""

from __future__ import annotations

import json
import logging
import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkstemp
from typing import TYPE_CHECKING

import click
from attrs import evolve

from bandwidth_async.cli import formats, terminal
from bandwidth_async.cli.account import in_force
from bandwidth_async.environment import read_environment
from bandwidth_async.errors import JournalError
from bandwidth_async.http import origin
from bandwidth_async.journal import state_directory
from bandwidth_async.journal.place import make_private
from bandwidth_async.limiter import Knowledge, RateLimit
from bandwidth_async.sharing import share_name

if TYPE_CHECKING:
    from bandwidth_async.limiter import Limiter

# The key of the context under which a command keeps what was known when it began.
_KNOWN = "bandwidth_async.known"

# What reading raises where nothing was kept yet.
_NOTHING_THERE = (FileNotFoundError, NotADirectoryError)

# The most files that are kept, and the seconds that each is. Every sandbox has a port of its own.
_MOST_FILES = 100
_KEPT_FOR = 30 * 24 * 3600.0

_log = logging.getLogger("bandwidth_async.cli")


def begun_with_known(limit: RateLimit) -> RateLimit:
    """Return a limit that begins with what is known of the account, unless it says itself where to begin."""
    if limit.rate is not None or limit.start is not None:
        return limit
    meta = click.get_current_context().meta
    if _KNOWN not in meta:
        meta[_KNOWN] = _known()
    return evolve(limit, knowledge=meta[_KNOWN])


def keep(limiter: Limiter) -> None:
    """Keep what a run has learned for the next one. A failure is said, and is none of the run."""
    learned = limiter.knowledge
    if learned is None:
        return
    try:
        path = _path()
    except JournalError as error:
        terminal.complain(f"the next run has to find out the rate again: {error}")
        return
    try:
        with suppress(*_NOTHING_THERE, ValueError):
            # Either the run has learned nothing, or another one has learned something since.
            if learned.at <= _read(path).at <= time.time():
                return
        _write(path, learned)
        _tidy(path.parent)
    except OSError as error:
        terminal.complain(f"the next run has to find out the rate again: {path}: {_reason(error)}")


def _known() -> Knowledge | None:
    """Return what is known. A file that is not usable is said, and ignored."""
    try:
        path = _path()
    except JournalError:
        return None
    try:
        found = _read(path)
        learned = formats.iso(datetime.fromtimestamp(found.at, UTC))
    except _NOTHING_THERE:
        return None
    except (OSError, OverflowError, ValueError) as error:
        terminal.complain(f"the run has to find out the rate again: {path}: {_reason(error)}")
        return None
    _log.info("begins at %.1f requests a second, learned at %s (%s)", found.rate, learned, path)
    return found


def _path() -> Path:
    """Return the file of the account and host in force. Its name tells neither.

    Raises `JournalError` if there is no home directory.
    """
    settings = in_force()
    settings.account_id()
    found = read_environment(settings.variables, settings.named)
    host = origin(found.voice_url, settings.named("BW_VOICE_URL"), allow_http=False)
    return state_directory(os.environ) / "rates" / f"{share_name(found.account_id, str(host))}.json"


def _read(path: Path) -> Knowledge:
    try:
        return Knowledge.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _write(path: Path, learned: Knowledge) -> None:
    """Write a whole file or none. Only its owner can read it."""
    make_private(path.parent)
    descriptor, draft = mkstemp(dir=path.parent)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(learned.to_dict(), file)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink()
        raise


def _tidy(directory: Path) -> None:
    """Remove old files, and the oldest of too many."""
    written = {}
    for path in directory.iterdir():
        # Another command line may tidy up too.
        with suppress(FileNotFoundError):
            written[path] = path.stat().st_mtime
    for place, path in enumerate(sorted(written, key=written.__getitem__, reverse=True)):
        if place >= _MOST_FILES or written[path] < time.time() - _KEPT_FOR:
            with suppress(OSError):
                path.unlink()


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
