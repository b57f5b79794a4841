"""Which journals a command line means: files, runs by the beginning of their names, or the last run."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bandwidth_async import journal as stored
from bandwidth_async.cli import account, formats, terminal
from bandwidth_async.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Sequence


def paths_of(names: Sequence[str]) -> list[Path]:
    """Return the paths of journals, each once."""
    return list({path.resolve(): path for path in map(path_of, names)}.values())


def path_of(name: str) -> Path:
    """Return the path of the journal with this file name, or of the run whose name begins so."""
    path = Path(name)
    if path.exists():
        return path
    try:
        return stored.find(stored.state_directory(os.environ), name)
    except JournalError as error:
        raise click.UsageError(f"there is no file {name}; {error}") from error


def last_run(*, unfinished: bool = False) -> Path:
    """Return the journal of the run that this account has begun last, and say which that is.

    Of those that are ``unfinished`` and not in use, the last one, if there is any.

    Raises `MissingCredentialsError` if no account is set, and `click.UsageError` if it has no run.
    """
    account_id, directory = account.in_force().account_id(), stored.state_directory(os.environ)
    found = {}
    for path in stored.journals(directory):
        # What cannot be read is told by the command runs.
        with suppress(JournalError):
            whose, created = stored.begun(path)
            if whose == account_id:
                found[created] = path
    if not found:
        raise click.UsageError(f"account {account_id} has no run in {directory}: name a run or a journal")
    latest = sorted(found, reverse=True)
    left = next((one for one in latest if unfinished and _can_go_on(found[one])), None)
    created = left or latest[0]
    what = "last unfinished run" if left else "last run"
    terminal.say(f"the {what} of account {account_id}: {found[created].stem}, begun {formats.iso(created)}")
    return found[created]


def _can_go_on(path: Path) -> bool:
    with suppress(JournalError):
        info = stored.describe(path)
        return info.complete and not info.finished and not info.in_use
    return False
