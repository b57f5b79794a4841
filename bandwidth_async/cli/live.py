"""The live view of a run on a terminal: a few lines that are redrawn in place four times a second."""

from __future__ import annotations

import asyncio
import io
from contextlib import ExitStack, redirect_stderr
from itertools import islice
from typing import TYPE_CHECKING, Self, cast

from rich.cells import cell_len, set_cell_size

from bandwidth_async.cli import logs
from bandwidth_async.cli.run_state import duration, figure
from bandwidth_async.cli.screen import Frame, Row, Screen, console, is_plain, reflows
from bandwidth_async.cli.terminal import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bandwidth_async.cli.run_state import RunState
    from bandwidth_async.limiter import PaceEvent
    from bandwidth_async.outcome import Outcome, Report

    # The parts of a line, with their colours.
    Line = tuple[tuple[str, str], ...]

_REDRAWS_EVERY = 0.25
# Distinct reasons of failures that are shown.
_REASONS = 2
# Columns of the chart beside its figures, at most, of the names in front of the lines, and of the least bar.
_CHART, _NAMES, _LEAST_BAR = 120, 8, 8
_BLOCKS, _ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.-=+*#@"
# ECMA-48: the colours of the texts of a line.
_COLOURS = {"dim": "2", "red": "31", "green": "32", "yellow": "33"}
_BAR, _ASCII_BAR = ("━", "─"), ("=", "-")


class LiveView:
    """Shows the state of a run on the terminal of standard error, in lines that never wrap.

    It redraws itself while the event loop runs, so that a pause counts down. What others write to
    `sys.stderr` meanwhile appears above it.
    """

    def __init__(self, state: RunState) -> None:
        self._state = state
        self._console = console()
        self._screen = cast("Screen", self._console.file)
        self._plain = is_plain(self._console.encoding)
        self._coloured = not self._console.no_color
        self._frame = Frame(self._screen, reflows=reflows())
        self._timer: asyncio.TimerHandle | None = None
        self._held = ExitStack()

    @property
    def redraws(self) -> bool:
        """Whether there is still a view to be redrawn."""
        return not self._screen.gone

    def __enter__(self) -> Self:
        with ExitStack() as held:
            held.enter_context(logs.heard_retries(self._state.on_retry))
            held.enter_context(redirect_stderr(_Lines(self.print_line)))
            self._draw()
            self._redraw_later()
            self._held = held.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with self._held:
            if self._timer:
                self._timer.cancel()
            self._draw(ended=True)
            self._frame.leave()

    def _redraw_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_REDRAWS_EVERY, self._redraw)

    def _redraw(self) -> None:
        self._state.observe()
        self._draw()
        self._redraw_later()

    def _draw(self, *, ended: bool = False) -> None:
        columns, lines = self._console.size
        # A terminal wraps a full line at the next character, some at once. And the last line is the cursor's.
        width, height = columns - 1, max(1, lines - 1)
        lines_of_view = islice(_lines(self._state, width, plain=self._plain, ended=ended), height)
        self._frame.draw([self._row(parts, width) for parts in lines_of_view], columns, lines)

    def _row(self, parts: Line, width: int) -> Row:
        """Return a line with its colours, and what is too long for the terminal cut off."""
        text, left = "", width
        for part, style in parts:
            columns = min(cell_len(part), left)
            shown = part if columns < left else self._cut(part, left)
            code = _COLOURS.get(style, "") if self._coloured or style == "dim" else ""
            text += f"\x1b[{code}m{shown}\x1b[0m" if code else shown
            left -= columns
            if not left:
                break
        return Row(text, width - left)

    def _cut(self, text: str, columns: int) -> str:
        """Return a text of so many columns or more, cut off at its end."""
        if cell_len(text) == columns:
            return text
        return set_cell_size(text, columns) if self._plain else f"{set_cell_size(text, columns - 1)}\u2026"

    def update(self, outcome: Outcome, report: Report) -> None:
        """Count an outcome for the next redraw."""
        self._state.on_outcome(outcome, report)

    def on_event(self, event: PaceEvent) -> None:
        """Count an event for the next redraw."""
        self._state.on_event(event)

    def print_line(self, line: str) -> bool:
        """Print above the view. Return whether somebody could see it."""
        self._frame.print_above(f"{line}\n", *self._console.size)
        return self.redraws


class _Lines(io.StringIO):
    """A stream that passes each line on when it is whole."""

    def __init__(self, print_line: Callable[[str], object]) -> None:
        super().__init__()
        self._print_line = print_line
        self._begun = ""

    def write(self, text: str) -> int:
        *lines, self._begun = f"{self._begun}{text}".split("\n")
        for line in lines:
            self._print_line(line)
        return len(text)


def _lines(state: RunState, width: int, *, plain: bool, ended: bool) -> Iterator[Line]:
    """Yield the lines of the view, the most important ones first."""
    wait = "" if ended or (state.stop and state.stop.requested) else state.wait()
    style = "yellow" if wait else ""
    yield _bar(state, width, style or "green", plain=plain)
    yield _line("now", state.ended() if ended else wait or state.doing(), style, plain=plain)
    yield _line("rate", _pace(state, width - _NAMES, plain=plain), plain=plain)
    yield _line("ids", state.outcomes() or "no outcome yet", plain=plain)
    requests, retries = state.sent(ended=ended)
    sent = f"{requests:,} requests, {retries:,} retries, {state.refusals:,} times 429"
    yield _line("sent", f"{sent}, {duration(state.paused)} paused", plain=plain)
    if state.title:
        yield _line("run", ", ".join(state.title), "dim", plain=plain)
    for number, (reason, count) in enumerate(state.latest_reasons(_REASONS)):
        name = "" if number else "errors"
        yield _line(name, f"{count:,} x {one_line(reason)}", "red", plain=plain)


def _line(name: str, text: str, style: str = "", *, plain: bool) -> Line:
    if plain:
        text = text.encode("ascii", "replace").decode()
    return ((f"{name:<{_NAMES}}", "dim"), (text, style))


def _bar(state: RunState, width: int, style: str, *, plain: bool) -> Line:
    """Return how far the run is. The bar keeps its width while the figures grow."""
    left = state.seconds_left()
    share = min(1.0, state.tried / state.total) if state.total else 1.0
    remaining = "" if share == 1.0 else f"{'--:--' if left is None else duration(left)} left"
    total = f"{state.total:,}"
    figures = f"  {state.tried:>{len(total)},} of {total}  {share:4.0%}  {remaining:>10}"
    columns = width - _NAMES - len(figures)
    if columns < _LEAST_BAR:
        return _line("ending", figures.strip(), plain=plain)
    done = int(share * columns)
    full, rest = _ASCII_BAR if plain else _BAR
    bar = ((full * done, style), (rest * (columns - done), "dim"), (figures, ""))
    return ((f"{'ending':<{_NAMES}}", "dim"), *bar)


def _pace(state: RunState, width: int, *, plain: bool) -> str:
    """Return the rate, what bounds it, and a chart of it that says what it shows."""
    rate = state.rate()
    words = ", ".join(filter(None, [f"{'-' if rate is None else figure(rate)}/s", state.limit()]))
    most = width - max(len(words), 23) - 2
    values = state.chart(max(0, min(_CHART, most - len("  240 s, highest 12,345/s"))))
    if not values or not max(values):
        return words
    legend = f"{len(values)} s, highest {figure(max(values))}/s"
    return f"{words:<23}  {spark_line(values, plain=plain)}  {legend}"


def spark_line(values: Sequence[float], *, plain: bool = False) -> str:
    """Return a character for each value, as high as its share of the highest."""
    blocks = _ASCII_BLOCKS if plain else _BLOCKS
    highest = max(values, default=0.0)
    if not highest:
        return blocks[0] * len(values)
    return "".join(blocks[min(7, int(8 * value / highest))] for value in values)
