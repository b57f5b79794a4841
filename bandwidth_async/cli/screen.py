"""The terminal of standard error: whether something can be redrawn there, and a console that never fails."""

from __future__ import annotations

import os
import sys
from typing import IO, Any, cast

from rich.console import Console

# The width of a terminal that says it has none.
_COLUMNS = 80
# A bar and its figures need this many columns.
_NARROWEST = 40


class Screen:
    """The stream of a display. When its terminal goes away, what is written is lost and ``gone`` is True."""

    def __init__(self, stream: IO[str]) -> None:
        self.gone: bool = False
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write if that is possible."""
        try:
            return self._stream.write(text)
        except OSError:
            self.gone = True
            return len(text)

    def flush(self) -> None:
        """Flush if that is possible."""
        try:
            self._stream.flush()
        except OSError:
            self.gone = True


def can_redraw() -> bool:
    """Return whether standard error is a terminal on which lines can be redrawn.

    TERM is empty or dumb where the cursor cannot move, for instance in Emacs and in some CI systems.
    """
    if not sys.stderr.isatty():
        return False
    terminal_has_name = sys.platform == "win32" or os.environ.get("TERM")
    made = console()
    return bool(terminal_has_name) and made.is_interactive and made.width >= _NARROWEST


def console() -> Console:
    """Return a console on standard error that changes no text and never fails, whatever the terminal."""
    made = Console(file=cast("IO[str]", Screen(sys.stderr)), emoji=False, markup=False, highlight=False)
    # In no columns at all, rich shows nothing.
    if made.width < 1:
        made.width = _COLUMNS
    return made
