"""The live view of a run on a terminal: a few lines that are redrawn in place four times a second."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self, cast

from rich.console import Group
from rich.control import Control
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from bandwidth_async.cli.run_state import duration, figure
from bandwidth_async.cli.screen import Screen, console
from bandwidth_async.cli.terminal import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType

    from bandwidth_async.cli.run_state import RunState
    from bandwidth_async.limiter import PaceEvent
    from bandwidth_async.outcome import Outcome, Report

_REDRAWS_EVERY = 0.25
# Distinct reasons of failures that are shown.
_REASONS = 2
# Columns of the chart beside its figures, at most.
_CHART = 120
_BLOCKS, _ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.-=+*#@"


class LiveView:
    """Shows the state of a run on the terminal of standard error, in lines that never wrap.

    It redraws itself while the event loop runs, so that a pause counts down.
    """

    def __init__(self, state: RunState) -> None:
        self._state = state
        self._console = console()
        self._live = Live(self, console=self._console, auto_refresh=False, vertical_overflow="crop")
        self._timer: asyncio.TimerHandle | None = None
        self._width = self._console.width

    @property
    def redraws(self) -> bool:
        """Whether there is still a view to be redrawn."""
        return not cast("Screen", self._console.file).gone

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        self._redraw_later()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer:
            self._timer.cancel()
        self._live.refresh()
        self._live.stop()

    def _redraw_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_REDRAWS_EVERY, self._redraw)

    def _redraw(self) -> None:
        self._state.observe()
        # A terminal wraps the old lines when it gets narrower, and nobody can tell how many they are then.
        if self._console.width < self._width:
            self._console.control(Control.clear(), Control.home())
        self._width = self._console.width
        self._live.refresh()
        self._redraw_later()

    def update(self, outcome: Outcome, report: Report) -> None:
        """Count an outcome for the next redraw."""
        self._state.on_outcome(outcome, report)

    def on_event(self, event: PaceEvent) -> None:
        """Count an event for the next redraw."""
        self._state.on_event(event)

    def print_line(self, line: str) -> bool:
        """Print above the view. Return whether somebody could see it."""
        self._console.print(Segments([Segment(line), Segment.line()]), soft_wrap=True)
        return self.redraws

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Render at the present width and height."""
        plain = options.ascii_only
        lines = list(_lines(self._state, options.max_width, plain=plain))
        # The last line of a terminal is the cursor's.
        yield Group(*lines[: max(1, console.height - 1)])


def _lines(state: RunState, width: int, *, plain: bool) -> Iterator[RenderableType]:
    """Yield the lines of the view, the most important ones first."""
    wait = state.wait()
    yield _bar(state, width, waits=bool(wait), plain=plain)
    yield _line(_pace(state, width, plain=plain), plain=plain)
    if wait:
        yield _line(wait, style="yellow", plain=plain)
    else:
        yield _line(f"sending; {state.in_flight:,} in flight", plain=plain)
    yield _line(state.outcomes() or "no outcome yet", plain=plain)
    sent = f"{state.attempts:,} requests, {state.retries:,} retries, {state.refusals:,} times 429"
    yield _line(f"{sent}, {duration(state.paused)} paused", plain=plain)
    if state.title:
        yield _line(", ".join(state.title), style="dim", plain=plain)
    for reason, count in state.latest_reasons(_REASONS):
        yield _line(f"{count:,} x {one_line(reason)}", style="red", plain=plain)


def _line(text: str, *, plain: bool, style: str = "") -> Text:
    if plain:
        text = text.encode("ascii", "replace").decode()
    return Text(text, style=style, no_wrap=True, overflow="crop" if plain else "ellipsis")


def _bar(state: RunState, width: int, *, waits: bool, plain: bool) -> RenderableType:
    left = state.seconds_left()
    share = state.tried / state.total if state.total else 1.0
    remaining = "" if state.tried >= state.total else f"  {'--:--' if left is None else duration(left)} left"
    figures = f"{state.tried:,} of {state.total:,}  {share:4.0%}{remaining}"
    grid = Table.grid(padding=(0, 1))
    # Columns are left for the name of the bar, the gaps and the figures.
    bar = ProgressBar(
        state.total or 1,
        state.tried if state.total else 1,
        width=max(8, width - len(figures) - len("ending") - 3),
        complete_style="yellow" if waits else "green",
        finished_style="green",
    )
    grid.add_row(Text("ending", no_wrap=True), bar, _line(figures, plain=plain))
    return grid


def _pace(state: RunState, width: int, *, plain: bool) -> str:
    rate = state.rate()
    words = f"{'-' if rate is None else figure(rate)}/s"
    limit = state.limit()
    if limit:
        words += f", {limit}"
    words = f"{words:<24}"
    return words + spark_line(state.chart(min(_CHART, width - len(words))), plain=plain)


def spark_line(values: Sequence[float], *, plain: bool = False) -> str:
    """Return a character for each value, as high as its share of the highest."""
    blocks = _ASCII_BLOCKS if plain else _BLOCKS
    highest = max(values, default=0.0)
    if not highest:
        return blocks[0] * len(values)
    return "".join(blocks[min(7, int(8 * value / highest))] for value in values)
