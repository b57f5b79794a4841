"""The display of a run: a live view on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Protocol, Self

from bandwidth_async.cli import terminal
from bandwidth_async.cli.live import LiveView
from bandwidth_async.cli.run_state import PAUSES, duration, figure
from bandwidth_async.cli.screen import can_redraw
from bandwidth_async.limiter import RateChanged, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from bandwidth_async.cli.run_state import RunState
    from bandwidth_async.limiter import PaceEvent
    from bandwidth_async.outcome import Outcome, Report

# Seconds between two lines.
_LINE_EVERY = 5.0


class Display(Protocol):
    """Shows the progress of a run. If it ``redraws``, other lines must go through `print_line`."""

    @property
    def redraws(self) -> bool: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def update(self, outcome: Outcome, report: Report) -> None:
        """Show an outcome, and the counts of ``report``."""

    def on_event(self, event: PaceEvent) -> None:
        """Show what the limiter reports: the server's limit and pauses."""

    def print_line(self, line: str) -> bool:
        """Print a line as it is, without disturbing the display. Return whether somebody could see it."""


class Silence:
    """Shows no progress. Only what somebody has to know gets a line on standard error."""

    redraws = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, outcome: Outcome, report: Report) -> None:
        """Show nothing."""

    def on_event(self, event: PaceEvent) -> None:
        """Show nothing."""

    def print_line(self, line: str) -> bool:
        """Print a line. If standard error is closed, it is lost."""
        return terminal.say(line)


class Lines(Silence):
    """A line with the time of day on standard error every few seconds."""

    def __init__(self, state: RunState, clock: Callable[[], float] = time.monotonic) -> None:
        self._state = state
        self._clock = clock
        self._printed_at = clock()
        self._outage_printed_at = -math.inf
        self._printed = 0

    def update(self, outcome: Outcome, report: Report) -> None:
        """Print a line when one is due."""
        state, now = self._state, self._clock()
        state.on_outcome(outcome, report)
        state.observe()
        elapsed = now - self._printed_at
        if elapsed < _LINE_EVERY or state.tried == self._printed:
            return
        rate, left = (state.tried - self._printed) / elapsed, state.seconds_left()
        words = (
            f"{state.tried:,} of {state.total:,} ({state.tried / state.total:.0%})",
            f"{figure(rate)}/s",
            "" if left is None else f"{duration(left)} left",
            state.limit(),
            state.wait(),
            state.trouble(),
        )
        self.print_line(_at_this_time(", ".join(filter(None, words))))
        self._printed_at, self._printed = now, state.tried

    def on_event(self, event: PaceEvent) -> None:
        """Give a long pause its own line, and an outage one now and then."""
        self._state.on_event(event)
        if isinstance(event, RateChanged):
            return
        if isinstance(event, Unavailable):
            if event.seconds >= _LINE_EVERY or self._outage_is_due():
                self.print_line(_at_this_time(self._state.outage(event.seconds)))
        elif event.seconds >= _LINE_EVERY:
            left = self._state.seconds_left()
            words = f"paused {math.ceil(event.seconds)} s {PAUSES['hint' if event.hinted else 'refused']}"
            self.print_line(_at_this_time(words + ("" if left is None else f", {duration(left)} left")))

    def _outage_is_due(self) -> bool:
        """Return whether an outage needs a line now. One outage brings many short pauses."""
        now = self._clock()
        due = now - self._outage_printed_at >= _LINE_EVERY
        if due:
            self._outage_printed_at = now
        return due


def display(state: RunState, *, quiet: bool = False) -> Display:
    """Return a live view where lines can be redrawn, otherwise lines, and nothing if ``quiet``."""
    if quiet:
        return Silence()
    return LiveView(state) if can_redraw() else Lines(state)


def _at_this_time(line: str) -> str:
    return f"{time.strftime('%H:%M:%S')} {line}"
