"""How far a run is: a bar with rate, limit and time left on a terminal, plain lines anywhere else."""

from __future__ import annotations

import math
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, Self

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
from rich.text import Text

from bandwidth_async.limiter import Paused, RateChanged, Unavailable
from bandwidth_async.outcome import OutcomeKind

if TYPE_CHECKING:
    from types import TracebackType

    from bandwidth_async.limiter import PaceEvent
    from bandwidth_async.outcome import Report

_LINE_EVERY = 5.0  # seconds between plain lines
_WORTH_SAYING = 1.0  # seconds; shorter pauses are how the rate is found out
_TROUBLES = (OutcomeKind.REFUSED, OutcomeKind.FAILED, OutcomeKind.UNKNOWN)


class Display(Protocol):
    """Shows a run while it goes on. ``moves`` says that it redraws, so lines must go through `say`."""

    moves: bool

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def update(self, report: Report) -> None:
        """Show what ``report`` says so far."""

    def hear(self, event: PaceEvent) -> None:
        """Show the limit that was found and the pauses, as the limiter tells them."""

    def say(self, line: str) -> None:
        """Print a line for a person without disturbing the display."""


class _Door:
    """What was heard of the limiter last, in words."""

    def __init__(self) -> None:
        self._limit = ""
        self._opens = 0.0
        self._why = ""

    def hear(self, event: PaceEvent) -> None:
        if isinstance(event, RateChanged):
            self._limit = "" if event.quota is None else f"limit {figure(event.quota)}/s"
        elif isinstance(event, Unavailable) or event.seconds >= _WORTH_SAYING:
            self._opens = time.monotonic() + event.seconds
            self._why = _reason(event)

    def words(self, now: float) -> str:
        """Return the limit, and the pause that is on."""
        left = self._opens - now
        return ", ".join(filter(None, (self._limit, _pause(left, self._why) if left > 0 else "")))


class _Live(ProgressColumn):
    """Asked anew at every redraw, so that a pause counts down while nothing else moves."""

    def __init__(self, door: _Door) -> None:
        super().__init__()
        self._door = door

    def render(self, task: Task) -> Text:
        return Text(self._door.words(time.monotonic()))


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


class Bar:
    """A bar on the terminal of standard error."""

    moves = True

    def __init__(self, total: int) -> None:
        self._door = _Door()
        self._progress = Progress(
            TextColumn("ending"),
            BarColumn(),
            MofNCompleteColumn(),
            TaskProgressColumn(),
            _Speed(),
            TimeRemainingColumn(compact=True),
            _Live(self._door),
            TextColumn("{task.fields[trouble]}"),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("", total=total, trouble="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, report: Report) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=_tried(report), trouble=_trouble(report))

    def hear(self, event: PaceEvent) -> None:
        """Remember it for the next redraw."""
        self._door.hear(event)

    def say(self, line: str) -> None:
        """Print above the bar."""
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


class Lines:
    """A line on standard error now and then."""

    moves = False

    def __init__(self, total: int) -> None:
        self._total = total
        self._door = _Door()
        self._told_at = time.monotonic()
        self._outage_told_at = -math.inf
        self._told = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, report: Report) -> None:
        """Print a line when one is due."""
        now, done = time.monotonic(), _tried(report)
        elapsed = now - self._told_at
        if elapsed < _LINE_EVERY or done == self._told:
            return
        rate = (done - self._told) / elapsed
        words = (
            f"{done:,} of {self._total:,} ({done / self._total:.0%})",
            f"{rate:,.0f}/s",
            self._door.words(now),
            _trouble(report),
        )
        self.say(", ".join(filter(None, words)))
        self._told_at, self._told = now, done

    def hear(self, event: PaceEvent) -> None:
        """Remember it for the next line; a pause in which there is none gets its own, and an outage some."""
        self._door.hear(event)
        if isinstance(event, RateChanged):
            return
        if event.seconds >= _LINE_EVERY or (isinstance(event, Unavailable) and self._is_news()):
            self.say(_pause(event.seconds, _reason(event)))

    def _is_news(self) -> bool:
        """Say whether nothing was said of an outage for a while; short pauses follow each other in one."""
        now = time.monotonic()
        news = now - self._outage_told_at >= _LINE_EVERY
        if news:
            self._outage_told_at = now
        return news

    def say(self, line: str) -> None:
        """Print a line, unless nobody listens any more."""
        with suppress(OSError):
            print(line, file=sys.stderr, flush=True)


def display(total: int) -> Display:
    """Return the display that suits standard error."""
    return Bar(total) if sys.stderr.isatty() else Lines(total)


def figure(rate: float) -> str:
    """Return requests per second as a person reads them: 0.52, 4.8, 198, 1,000."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _reason(event: Paused | Unavailable) -> str:
    if isinstance(event, Unavailable):
        return "since the server fails or does not answer"
    return "by the server" if event.hinted else "after a refusal"


def _pause(seconds: float, why: str) -> str:
    return f"paused {math.ceil(seconds)} s {why}"


def _tried(report: Report) -> int:
    return report.total - report.counts[OutcomeKind.NOT_ATTEMPTED]


def _trouble(report: Report) -> str:
    return ", ".join(f"{report.counts[kind]:,} {kind.value}" for kind in _TROUBLES if report.counts[kind])
