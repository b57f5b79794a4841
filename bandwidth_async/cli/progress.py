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
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from types import TracebackType

    from bandwidth_async.teardown import Report

_LINE_EVERY = 5.0  # seconds between plain lines


class Display(Protocol):
    """Shows a run while it goes on."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def update(self, report: Report, rate: float) -> None:
        """Show what ``report`` says so far, and the ``rate`` that is sent at."""

    def say(self, line: str) -> None:
        """Print a line for a person without disturbing the display."""


class Bar:
    """A bar on the terminal of standard error."""

    def __init__(self, total: int) -> None:
        self._progress = Progress(
            TextColumn("ending"),
            BarColumn(),
            MofNCompleteColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[trouble]}"),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("", total=total, rate="", trouble="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, report: Report, rate: float) -> None:
        """Move the bar."""
        self._progress.update(
            self._task, completed=report.total, rate=f"{rate:,.0f}/s", trouble=trouble(report)
        )

    def say(self, line: str) -> None:
        """Print above the bar."""
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


class Lines:
    """A line on standard error now and then."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._next = time.monotonic() + _LINE_EVERY

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, report: Report, rate: float) -> None:
        """Print a line when one is due."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _LINE_EVERY
            share = report.total / self._total
            self.say(f"{report.total:,} of {self._total:,} ({share:.0%}), {rate:,.0f}/s{trouble(report)}")

    def say(self, line: str) -> None:
        """Print a line."""
        print(line, file=sys.stderr, flush=True)


def display(total: int) -> Display:
    """Return the display that suits standard error."""
    return Bar(total) if sys.stderr.isatty() else Lines(total)


def trouble(report: Report) -> str:
    """Return the unhappy counts, or nothing."""
    counts = [(kind.value, count) for kind, count in report.counts.items() if count and not kind.settled]
    return "".join(f", {count:,} {kind}" for kind, count in counts)
