"""How far a run is: a bar with rate and time left on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
import time
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

from bandwidth_async.teardown import OutcomeKind

if TYPE_CHECKING:
    from types import TracebackType

    from bandwidth_async.teardown import Report

_LINE_EVERY = 5.0  # seconds between plain lines
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

    def say(self, line: str) -> None:
        """Print a line for a person without disturbing the display."""


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


class Bar:
    """A bar on the terminal of standard error."""

    moves = True

    def __init__(self, total: int) -> None:
        self._progress = Progress(
            TextColumn("ending"),
            BarColumn(),
            MofNCompleteColumn(),
            TaskProgressColumn(),
            _Speed(),
            TimeRemainingColumn(compact=True),
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

    def say(self, line: str) -> None:
        """Print above the bar."""
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


class Lines:
    """A line on standard error now and then."""

    moves = False

    def __init__(self, total: int) -> None:
        self._total = total
        self._told_at = time.monotonic()
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
            _trouble(report),
        )
        self.say(", ".join(filter(None, words)))
        self._told_at, self._told = now, done

    def say(self, line: str) -> None:
        """Print a line."""
        print(line, file=sys.stderr, flush=True)


def display(total: int) -> Display:
    """Return the display that suits standard error."""
    return Bar(total) if sys.stderr.isatty() else Lines(total)


def _tried(report: Report) -> int:
    return report.total - report.counts[OutcomeKind.NOT_ATTEMPTED]


def _trouble(report: Report) -> str:
    return ", ".join(f"{report.counts[kind]:,} {kind.value}" for kind in _TROUBLES if report.counts[kind])
