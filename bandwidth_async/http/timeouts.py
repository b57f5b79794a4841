"""The timeout of every request in flight and of every call, by one timer for all of them.

A timer for each, which is aiohttp's ``total`` or `asyncio.timeout`, takes 7 µs, where an end takes 60 in all:
nearly all are set only to be cancelled.
"""

from __future__ import annotations

import asyncio
import math
from functools import cached_property
from typing import TYPE_CHECKING

from attrs import field, frozen

from bandwidth_async.validators import above_zero

if TYPE_CHECKING:
    from types import TracebackType


@frozen(kw_only=True)
class Timeouts:
    """Limits of one attempt, in seconds.

    ``connect`` is for the TCP connection, ``attempt`` for everything from there to the end of the answer.
    What an error says after its status has 2 s of its own. A recording may take longer: there ``attempt`` is
    for everything up to its first byte, and for each silence after that.
    """

    connect: float = field(default=3.0, validator=above_zero("seconds"))
    attempt: float = field(default=15.0, validator=above_zero("seconds"))


class Watchdog:
    """Cancels what takes too long. Belongs to the event loop of its first guard."""

    def __init__(self) -> None:
        self.guards: set[Guard] = set()  # changed by the guards
        self._timer: asyncio.TimerHandle | None = None
        self.rings_at: float = math.inf  # at the first deadline that there was, or before
        self.closed: bool = False

    @cached_property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that it belongs to."""
        return asyncio.get_running_loop()

    def guard(self, seconds: float) -> Guard:
        """Bound what is done in this context, by the task that enters it; it ends with `TimeoutError`."""
        return Guard(self, self.loop.time() + seconds)

    def guard_until(self, deadline: float) -> Guard:
        """Bound it by a moment of the loop's time; infinity is no bound, until one is set."""
        return Guard(self, deadline)

    def ring_at(self, when: float) -> None:
        """Look after the guards at that moment, in loop time."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self.rings_at = self.loop.call_at(when, self._ring), when

    def close(self) -> None:
        """Leave no timer behind, as soon as what is still bounded is over."""
        self.closed = True
        if self._timer is not None and not self.guards:
            self._timer.cancel()

    def _ring(self) -> None:
        self._timer, self.rings_at = None, math.inf
        now = self.loop.time()
        for guard in [guard for guard in self.guards if guard.deadline <= now]:
            self.guards.discard(guard)
            guard.expire()
        first = min((guard.deadline for guard in self.guards), default=math.inf)
        if first < math.inf:
            self.ring_at(first)


class Guard:
    """What `asyncio.timeout` is, without a timer of its own. ``deadline`` is loop time."""

    __slots__ = ("_bounds", "_cancelling", "_dog", "_expired", "_task", "deadline")

    def __init__(self, dog: Watchdog, deadline: float) -> None:
        self._dog = dog
        self._bounds = False  # from entering to leaving it, or to the limit
        self._expired = False
        self.deadline: float = deadline

    def __enter__(self) -> None:
        task = asyncio.current_task(self._dog.loop)
        if task is None:
            raise RuntimeError("a timeout needs a task")
        self._task = task
        self._cancelling = task.cancelling()
        self._bounds = True
        self._dog.guards.add(self)
        if self.deadline < self._dog.rings_at:
            self._dog.ring_at(self.deadline)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._bounds = False
        self._dog.guards.discard(self)  # the timer stays: the next ones will need it
        if self._dog.closed:
            self._dog.close()
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def when(self) -> float:
        """Return the limit, in loop time; infinity is none."""
        return self.deadline

    def expired(self) -> bool:
        """Say whether it has come to the limit."""
        return self._expired

    def reschedule(self, when: float | None) -> None:
        """Move the limit, or take it away; what has come to it, or is over, stays as it is."""
        if self._bounds:
            self.deadline = math.inf if when is None else when
            if self.deadline < self._dog.rings_at:
                self._dog.ring_at(self.deadline)

    def expire(self) -> None:
        """Cancel the task; `__exit__` makes a timeout of it."""
        self._bounds, self._expired = False, True
        self._task.cancel()
