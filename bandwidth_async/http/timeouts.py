"""The timeouts of attempts and operations, all kept by one timer.

A timer for each, which is what aiohttp's ``total`` and `asyncio.timeout` use, takes 7 µs of the 60 µs of an
end, and nearly all of them are set only to be cancelled.
"""

from __future__ import annotations

import asyncio
from functools import cached_property
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import TYPE_CHECKING

from attrs import field, frozen

from bandwidth_async.validators import above_zero

if TYPE_CHECKING:
    from types import TracebackType


@frozen(kw_only=True)
class Timeouts:
    """Limits of one attempt, in seconds.

    ``connect``
        Seconds to open a connection: name look-up, TCP and TLS together, for all addresses of the host.
    ``attempt``
        Seconds from there to the end of the response. The body of an error has 2 s more once its status is
        known. A recording may take longer: there, the limit is for the time to its first byte, and for each
        silence after that.

    Raises `ConfigurationError` for a value that is not above 0.
    """

    connect: float = field(default=3.0, validator=above_zero("seconds"))
    attempt: float = field(default=15.0, validator=above_zero("seconds"))


# Outdated entries that the timer keeps, before it counts them.
_FEW = 64


class TimeoutTimer:
    """Cancels every task that exceeds its timeout. Belongs to the event loop of its first timeout."""

    def __init__(self) -> None:
        # A heap of deadlines, each with a number that makes it unique and its timeout. An entry is outdated
        # when its timeout has ended, or has another deadline. It stays until it is due, or until most entries
        # are outdated. So a timeout costs the same however many others are running.
        self._entries: list[tuple[float, int, Timeout]] = []
        self._numbers = count()
        # Timeouts that were entered and have not ended.
        self.running: int = 0
        # The time of the next check, never later than the first deadline.
        self._next_check = inf
        self.closed: bool = False
        self._handle: asyncio.TimerHandle | None = None

    @cached_property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that the timer belongs to."""
        return asyncio.get_running_loop()

    def timeout_at(self, deadline: float) -> Timeout:
        """Return a context that raises `TimeoutError` at a loop time, as `asyncio.timeout_at` does.

        Infinity is no limit yet.
        """
        return Timeout(self, deadline)

    def watch(self, timeout: Timeout) -> None:
        """Watch the deadline of a running timeout, also after it has moved."""
        deadline, entries = timeout.deadline, self._entries
        heappush(entries, (deadline, next(self._numbers), timeout))
        if len(entries) > 2 * self.running + _FEW:
            entries[:] = filter(_is_current, entries)
            heapify(entries)
        if deadline < self._next_check:
            self._check_at(deadline)

    def close(self) -> None:
        """Cancel the timer once the last running timeout has ended."""
        self.closed = True
        if self._handle is not None and not self.running:
            self._handle.cancel()

    def _check_at(self, when: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle, self._next_check = self.loop.call_at(when, self._check), when

    def _check(self) -> None:
        self._handle, self._next_check = None, inf
        now = self.loop.time()
        while self._entries and (self._entries[0][0] <= now or not _is_current(self._entries[0])):
            entry = heappop(self._entries)
            if _is_current(entry):
                entry[2].expire()
        if self._entries:
            self._check_at(self._entries[0][0])


def _is_current(entry: tuple[float, int, Timeout]) -> bool:
    deadline, _, timeout = entry
    return timeout.is_running and timeout.deadline == deadline


class Timeout:
    """Like `asyncio.Timeout`, without a timer of its own. ``deadline`` is loop time."""

    _expired = False
    # Whether it can still expire.
    is_running: bool = False

    def __init__(self, timer: TimeoutTimer, deadline: float) -> None:
        self._timer = timer
        self.deadline: float = deadline

    def __enter__(self) -> None:
        timer = self._timer
        task = asyncio.current_task(timer.loop)
        if task is None:
            raise RuntimeError("a timeout can only be used inside a task")
        self._task, self._cancelling, self.is_running = task, task.cancelling(), True
        timer.running += 1
        if self.deadline < inf:
            timer.watch(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.is_running, timer = False, self._timer
        # The timer stays as it is set: the next timeouts will need it.
        timer.running -= 1
        if timer.closed:
            timer.close()
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def when(self) -> float:
        """Return the deadline in loop time; infinity is none."""
        return self.deadline

    def expired(self) -> bool:
        """Return True once the deadline has passed."""
        return self._expired

    def is_the_only_cause(self) -> bool:
        """Return True if this timeout has cancelled its task, and nothing else has since it was entered."""
        return self._expired and self._task.cancelling() <= self._cancelling + 1

    def reschedule(self, when: float | None) -> None:
        """Move the deadline, or remove it with None; does nothing once the timeout has expired or ended."""
        deadline = inf if when is None else when
        if self.is_running and deadline != self.deadline:
            self.deadline = deadline
            if deadline < inf:
                self._timer.watch(self)

    def expire(self) -> None:
        """Cancel the task; `__exit__` turns that into a `TimeoutError`."""
        self.is_running, self._expired = False, True
        self._task.cancel()
