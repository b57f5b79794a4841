"""The terminal of standard error: what it can show, and lines at its bottom that are replaced in place."""

from __future__ import annotations

import os
import sys
from itertools import zip_longest
from threading import RLock
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Sequence

# The width of a terminal that says it has none.
_COLUMNS = 80
# A bar and its figures need this many columns.
_NARROWEST = 40

# ECMA-48: erase from the cursor to the end of the line, and of the screen.
_ERASE_LINE, _ERASE_BELOW = "\x1b[K", "\x1b[J"

# Python sets LC_CTYPE to one of these where the user has asked for the C locale (PEP 538).
_COERCED = frozenset({"C.UTF-8", "C.utf8", "UTF-8"})


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


class Row(NamedTuple):
    """A row of a terminal, with its escape sequences, and how many columns it takes."""

    text: str
    width: int


class Frame:
    """Rows at the bottom of a terminal that are replaced in place. Other lines scroll by above them.

    Each row must be narrower than the terminal. Between two calls the cursor is in the first column of the
    last row. When a terminal gets narrower it wraps the rows, so that they take more lines than before: the
    next call counts them and replaces them all. A terminal that wraps nothing has ``reflows`` False.
    """

    def __init__(self, screen: Screen, *, reflows: bool) -> None:
        self._screen = screen
        self._reflows = reflows
        self._rows: list[Row] = []
        self._columns = 0
        self._lock = RLock()

    def draw(self, rows: Sequence[Row], columns: int, lines: int) -> None:
        """Replace the rows on a terminal of so many ``columns`` and ``lines``. What is the same stays."""
        with self._lock:
            parts = [self._top(columns, lines)]
            if columns != self._columns:
                parts.append(_ERASE_BELOW)
                self._rows = []
            for number, (row, before) in enumerate(zip_longest(rows, self._rows[: len(rows)])):
                parts += ["\n"] * bool(number)
                if row != before:
                    parts.append(f"{row.text}{_ERASE_LINE}")
            if len(rows) < len(self._rows):
                parts += ["\r", f"\x1b[{rows[-1].width}C", _ERASE_BELOW]
            if rows != self._rows:
                self._write(f"{''.join(parts)}\r")
            self._rows, self._columns = list(rows), columns

    def print_above(self, text: str, columns: int, lines: int) -> None:
        """Print whole lines above the rows."""
        with self._lock:
            rows, top = self._rows, self._top(columns, lines)
            below = "\n".join(row.text for row in rows) if columns == self._columns else ""
            self._write(f"{top}{_ERASE_BELOW}{text}{below}\r")
            if not below:
                self._rows = []

    def leave(self) -> None:
        """Leave the rows where they are, and the cursor below them."""
        if self._rows:
            self._write("\n")
        self._rows = []

    def _top(self, columns: int, lines: int) -> str:
        """Return what moves the cursor to the first row."""
        above = self._rows[:-1]
        up = sum(-(-max(1, row.width) // columns) for row in above) if self._reflows else len(above)
        up = min(up, lines - 1)
        return f"\r\x1b[{up}A" if up else "\r"

    def _write(self, text: str) -> None:
        self._screen.write(text)
        self._screen.flush()


def can_redraw() -> bool:
    """Return whether standard error is a terminal on which lines can be redrawn.

    TERM is empty or dumb where the cursor cannot move, for instance in Emacs and in some CI systems.
    """
    if not sys.stderr.isatty():
        return False
    terminal_has_name = sys.platform == "win32" or os.environ.get("TERM")
    made = console()
    moves = made.is_interactive and not made.legacy_windows
    return bool(terminal_has_name) and moves and made.width >= _NARROWEST


def console() -> Console:
    """Return a console on standard error that changes no text and never fails, whatever the terminal."""
    made = Console(file=cast("IO[str]", Screen(sys.stderr)), emoji=False, markup=False, highlight=False)
    # In no columns at all, rich shows nothing.
    if made.width < 1:
        made.width = _COLUMNS
    return made


def is_plain(encoding: str) -> bool:
    """Return whether a terminal shows ASCII only: by its encoding, the user's locale, or its kind.

    The font of the Linux console lacks most of the blocks of a chart.
    """
    environ = os.environ
    kind = environ.get("LC_CTYPE", "")
    locale = environ.get("LC_ALL") or (kind if kind not in _COERCED else "") or environ.get("LANG")
    return not encoding.startswith("utf") or locale in {"C", "POSIX"} or environ.get("TERM") == "linux"


def reflows() -> bool:
    """Return whether the terminal wraps lines anew when it gets narrower. xterm and a few others cut them."""
    kind = os.environ.get("TERM", "")
    return "XTERM_VERSION" not in os.environ and not kind.startswith(("linux", "rxvt", "putty"))
