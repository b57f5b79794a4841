"""The progress of a run: a bar with rate, limit and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import os
import sys
import time
from typing import IO, TYPE_CHECKING, Any, Protocol, Self, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment, Segments
from rich.text import Text

from bandwidth_async.cli import terminal
from bandwidth_async.limiter import Paused, RateChanged, Unavailable
from bandwidth_async.outcome import OutcomeKind

if TYPE_CHECKING:
    from types import TracebackType

    from bandwidth_async.limiter import PaceEvent
    from bandwidth_async.outcome import Report

# The width of a terminal that says it has none.
_COLUMNS = 80
# A bar and its figures need this many columns.
_NARROWEST = 40
# Seconds between two lines.
_LINE_EVERY = 5.0
# Pauses of fewer seconds are not shown: the limiter finds out the rate by them.
_SHORTEST_SHOWN = 1.0
_TROUBLES = tuple(kind for kind in OutcomeKind if kind.trouble)


class Display(Protocol):
    """Shows the progress of a run. If it ``redraws``, other lines must go through `print_line`."""

    @property
    def redraws(self) -> bool: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def update(self, report: Report) -> None:
        """Show the counts of ``report``."""

    def on_event(self, event: PaceEvent) -> None:
        """Show what the limiter reports: the server's limit and pauses."""

    def print_line(self, line: str) -> bool:
        """Print a line as it is, without disturbing the display. Return whether somebody could see it."""


class _Screen:
    """The stream of a display. When its terminal goes away, what is written is lost and ``gone`` is True."""

    def __init__(self, stream: IO[str]) -> None:
        self.gone = False
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


def has_bar() -> bool:
    """Return whether standard error is a terminal on which a bar can be redrawn.

    TERM is empty or dumb where the cursor cannot move, for instance in Emacs and in some CI systems.
    """
    if not sys.stderr.isatty():
        return False
    terminal_has_name = sys.platform == "win32" or os.environ.get("TERM")
    made = console()
    return bool(terminal_has_name) and made.is_interactive and made.width >= _NARROWEST


def console() -> Console:
    """Return a console on standard error that changes no text and never fails, whatever the terminal."""
    made = Console(file=cast("IO[str]", _Screen(sys.stderr)), emoji=False, markup=False, highlight=False)
    # In no columns at all, rich shows nothing.
    if made.width < 1:
        made.width = _COLUMNS
    return made


class _LimiterState:
    """The last news of the limiter, in words."""

    def __init__(self) -> None:
        self._limit = ""
        self._pause_ends = 0.0
        self._why = ""

    def on_event(self, event: PaceEvent) -> None:
        if isinstance(event, RateChanged):
            self._limit = "" if event.quota is None else f"limit {figure(event.quota)}/s"
        elif isinstance(event, Unavailable) or event.seconds >= _SHORTEST_SHOWN:
            self._pause_ends = time.monotonic() + event.seconds
            self._why = _reason(event)

    def describe(self, now: float) -> str:
        """Return the limit, and the pause if there is one now."""
        left = self._pause_ends - now
        return ", ".join(filter(None, (self._limit, _pause(left, self._why) if left > 0 else "")))


class _Live(ProgressColumn):
    """The limiter's column. It is rendered at every redraw, so a pause counts down meanwhile."""

    def __init__(self, limiter: _LimiterState) -> None:
        super().__init__()
        self._limiter = limiter

    def render(self, task: Task) -> Text:
        return Text(self._limiter.describe(time.monotonic()))


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


class Bar:
    """A bar on the terminal of standard error."""

    def __init__(self, total: int) -> None:
        self._limiter = _LimiterState()
        self._console = console()
        self._progress = Progress(
            TextColumn("ending"),
            BarColumn(),
            MofNCompleteColumn(),
            TaskProgressColumn(),
            _Speed(),
            TimeRemainingColumn(compact=True),
            _Live(self._limiter),
            TextColumn("{task.fields[trouble]}"),
            console=self._console,
        )
        self._task = self._progress.add_task("", total=total, trouble="")

    @property
    def redraws(self) -> bool:
        """Whether there is still a bar to be redrawn."""
        return not cast("_Screen", self._console.file).gone

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, report: Report) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=_tried(report), trouble=_trouble(report))

    def on_event(self, event: PaceEvent) -> None:
        """Show the event at the next redraw."""
        self._limiter.on_event(event)

    def print_line(self, line: str) -> bool:
        """Print above the bar."""
        self._console.print(Segments([Segment(line), Segment.line()]), soft_wrap=True)
        return self.redraws


class Lines:
    """A line with the time of day on standard error every few seconds."""

    redraws = False

    def __init__(self, total: int) -> None:
        self._total = total
        self._limiter = _LimiterState()
        self._printed_at = time.monotonic()
        self._outage_printed_at = -math.inf
        self._printed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, report: Report) -> None:
        """Print a line when one is due."""
        now, done = time.monotonic(), _tried(report)
        elapsed = now - self._printed_at
        if elapsed < _LINE_EVERY or done == self._printed:
            return
        rate = (done - self._printed) / elapsed
        words = (
            f"{done:,} of {self._total:,} ({done / self._total:.0%})",
            f"{rate:,.0f}/s",
            f"{_minutes((self._total - done) / rate)} left",
            self._limiter.describe(now),
            _trouble(report),
        )
        self.print_line(_at_this_time(", ".join(filter(None, words))))
        self._printed_at, self._printed = now, done

    def on_event(self, event: PaceEvent) -> None:
        """Show the event in the next line. A long pause gets its own line, and an outage one now and then."""
        self._limiter.on_event(event)
        if isinstance(event, RateChanged):
            return
        if event.seconds >= _LINE_EVERY or (isinstance(event, Unavailable) and self._outage_is_due()):
            self.print_line(_at_this_time(_pause(event.seconds, _reason(event))))

    def _outage_is_due(self) -> bool:
        """Return whether an outage needs a line now. One outage brings many short pauses."""
        now = time.monotonic()
        due = now - self._outage_printed_at >= _LINE_EVERY
        if due:
            self._outage_printed_at = now
        return due

    def print_line(self, line: str) -> bool:
        """Print a line. If standard error is closed, it is lost."""
        return terminal.say(line)


def display(total: int) -> Display:
    """Return a bar where it can be redrawn, otherwise lines."""
    return Bar(total) if has_bar() else Lines(total)


def _at_this_time(line: str) -> str:
    return f"{time.strftime('%H:%M:%S')} {line}"


def _minutes(seconds: float) -> str:
    """Return a time as 0:07 or 75:20, in minutes and seconds."""
    minutes, seconds = divmod(math.ceil(seconds), 60)
    return f"{minutes}:{seconds:02}"


def figure(rate: float) -> str:
    """Return requests per second with two digits or more: 0.52, 4.8, 198, 1,000."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _reason(event: Paused | Unavailable) -> str:
    if isinstance(event, Unavailable):
        return "because the server fails or does not answer"
    return "as the server asked" if event.hinted else "after a 429"


def _pause(seconds: float, why: str) -> str:
    return f"paused {math.ceil(seconds)} s {why}"


def _tried(report: Report) -> int:
    return report.total - report.counts[OutcomeKind.NOT_ATTEMPTED]


def _trouble(report: Report) -> str:
    return ", ".join(f"{report.counts[kind]:,} {kind.value}" for kind in _TROUBLES if report.counts[kind])
