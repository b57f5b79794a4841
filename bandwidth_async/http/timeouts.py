"""The timeouts of attempts and operations, all kept by one timer.

A timer for each, which is what aiohttp's ``total`` and `asyncio.timeout` use, takes 7 µs of the 60 µs of an
end, and nearly all of them are set only to be cancelled.
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

    ``connect`` limits the TCP connection, ``attempt`` everything from there to the end of the response. The
    body of an error has 2 s more once its status is known. A recording may take longer: there, ``attempt``
    limits the time to its first byte, and each silence after that.
    """

    connect: float = field(default=3.0, validator=above_zero("seconds"))
    attempt: float = field(default=15.0, validator=above_zero("seconds"))


class TimeoutTimer:
    """Cancels every task that exceeds its timeout. Belongs to the event loop of its first timeout."""

    def __init__(self) -> None:
        # The timeouts that can still expire. They add and remove themselves.
        self.running: set[Timeout] = set()
        # The time of the next check, never later than the first deadline.
        self.next_check: float = math.inf
        self.closed: bool = False
        self._handle: asyncio.TimerHandle | None = None

    @cached_property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that the timer belongs to."""
        return asyncio.get_running_loop()

    def timeout(self, seconds: float) -> Timeout:
        """Return a context that raises `TimeoutError` after so many seconds, as `asyncio.timeout` does."""
        return Timeout(self, self.loop.time() + seconds)

    def timeout_at(self, deadline: float) -> Timeout:
        """Return a context that raises `TimeoutError` at a loop time; infinity is no limit yet."""
        return Timeout(self, deadline)

    def check_at(self, when: float) -> None:
        """Check all running timeouts at that loop time."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle, self.next_check = self.loop.call_at(when, self._check), when

    def close(self) -> None:
        """Cancel the timer once the last running timeout has ended."""
        self.closed = True
        if self._handle is not None and not self.running:
            self._handle.cancel()

    def _check(self) -> None:
        self._handle, self.next_check = None, math.inf
        now = self.loop.time()
        for timeout in [timeout for timeout in self.running if timeout.deadline <= now]:
            self.running.discard(timeout)
            timeout.expire()
        first = min((timeout.deadline for timeout in self.running), default=math.inf)
        if first < math.inf:
            self.check_at(first)


class Timeout:
    """Like `asyncio.Timeout`, without a timer of its own. ``deadline`` is loop time."""

    __slots__ = ("_cancelling", "_expired", "_is_running", "_task", "_timer", "deadline")

    def __init__(self, timer: TimeoutTimer, deadline: float) -> None:
        self._timer = timer
        self._is_running = False
        self._expired = False
        self.deadline: float = deadline

    def __enter__(self) -> None:
        task = asyncio.current_task(self._timer.loop)
        if task is None:
            raise RuntimeError("a timeout can only be used inside a task")
        self._task = task
        self._cancelling = task.cancelling()
        self._is_running = True
        self._timer.running.add(self)
        if self.deadline < self._timer.next_check:
            self._timer.check_at(self.deadline)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._is_running = False
        # The timer stays as it is set: the next timeouts will need it.
        self._timer.running.discard(self)
        if self._timer.closed:
            self._timer.close()
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def when(self) -> float:
        """Return the deadline in loop time; infinity is none."""
        return self.deadline

    def expired(self) -> bool:
        """Return True once the deadline has passed."""
        return self._expired

    def reschedule(self, when: float | None) -> None:
        """Move the deadline, or remove it with None; does nothing once the timeout has expired or ended."""
        if self._is_running:
            self.deadline = math.inf if when is None else when
            if self.deadline < self._timer.next_check:
                self._timer.check_at(self.deadline)

    def expire(self) -> None:
        """Cancel the task; `__exit__` turns that into a `TimeoutError`."""
        self._is_running, self._expired = False, True
        self._task.cancel()
