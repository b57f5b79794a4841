"""Where the files of a user are kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bandwidth_async.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Mapping

JOURNAL_SUFFIX = ".journal"


def state_directory(environ: Mapping[str, str]) -> Path:
    """Return the user's directory for journals and rates.

    It is below ``$XDG_STATE_HOME``, or below ``~/.local/state``.

    A relative ``$XDG_STATE_HOME`` is ignored. Raises `JournalError` if there is no home directory either.
    Source: https://specifications.freedesktop.org/basedir-spec/latest/
    """
    stated = Path(environ.get("XDG_STATE_HOME", ""))
    if not stated.is_absolute():
        home = environ.get("HOME", "")
        try:
            stated = (Path(home) if home else Path.home()) / ".local" / "state"
        except RuntimeError:
            raise JournalError("there is no home directory to keep journals in: set XDG_STATE_HOME") from None
    return stated / "bandwidth-async"
