"""The timeout of every request in flight, by one timer for all of them.

A timer for each, which is aiohttp's ``total``, takes 7 µs of the 150 that an end takes: nearly all are set
only to be cancelled.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


class Watchdog:
    """Cancels what takes too long. Belongs to one event loop."""

    def __init__(self) -> None:
        self._guards: set[_Guard] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = math.inf  # at the first deadline that there was, or before

    def guard(self, seconds: float) -> _Guard:
        """Bound what is done in this context, by the task that entered it; it ends with `TimeoutError`."""
        return _Guard(self, seconds)

    def add(self, guard: _Guard, loop: asyncio.AbstractEventLoop) -> None:
        """Watch one more."""
        self._guards.add(guard)
        if self._timer is None or guard.deadline < self._rings_at:
            self._ring_at(guard.deadline, loop)

    def discard(self, guard: _Guard) -> None:
        """Watch one less. The timer stays: the next ones will need it."""
        self._guards.discard(guard)

    def close(self) -> None:
        """Leave no timer behind."""
        if self._timer is not None:
            self._timer.cancel()

    def _ring_at(self, when: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._rings_at = loop.call_at(when, self._ring, loop), when

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for guard in [guard for guard in self._guards if guard.deadline <= now]:
            self._guards.discard(guard)
            guard.expire()
        if self._guards:
            self._ring_at(min(guard.deadline for guard in self._guards), loop)


class _Guard:
    """What `asyncio.timeout` is, without a timer of its own."""

    __slots__ = ("_cancelling", "_dog", "_expired", "_task", "deadline")

    def __init__(self, dog: Watchdog, seconds: float) -> None:
        self._dog = dog
        self.deadline = seconds
        self._expired = False

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a timeout needs a task")
        self._task = task
        self._cancelling = task.cancelling()
        self.deadline += loop.time()
        self._dog.add(self, loop)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._dog.discard(self)
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        """Cancel the task; `__exit__` makes a timeout of it."""
        self._expired = True
        self._task.cancel()
