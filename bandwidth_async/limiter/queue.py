"""The requests that wait to be sent: one queue for single calls and one for runs.

Requests of single calls are interactive and go first. Requests of runs are bulk, and while they wait at
least one of every `BULK_EVERY` admissions is for them. Within a queue, requests leave in order of arrival. A
request that was sent before keeps its place, so it is ahead of all that were never sent.

A request that gave up stays in its queue until it is first, and is skipped then. So every step takes the same
time however many wait, except `reject_late`.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from bandwidth_async.errors import BandwidthError

BULK_EVERY = 4


@define(eq=False, kw_only=True)
class QueuedRequest:
    """A request that waits. Its future gets the serial of its admission, or the error that ends the wait.

    ``place`` is the serial of its first attempt, or infinity when it was never sent. ``deadline`` is loop
    time. ``patience`` is the longest pause in seconds that it waits for.
    """

    future: asyncio.Future[int]
    place: float
    bulk: bool
    deadline: float
    patience: float

    def __lt__(self, other: QueuedRequest) -> bool:
        return self.place < other.place


@define(eq=False)
class _ClassQueue:
    """The requests of one class, interactive or bulk."""

    length: int = 0
    _new: deque[QueuedRequest] = field(factory=deque)
    # A heap by place. One heap for all requests was tried: each admission took 10 % longer.
    _repeated: list[QueuedRequest] = field(factory=list)

    def add(self, request: QueuedRequest) -> None:
        self.length += 1
        if request.place == math.inf:
            self._new.append(request)
        else:
            heapq.heappush(self._repeated, request)

    def first(self) -> QueuedRequest | None:
        while self._repeated and self._repeated[0].future.done():
            heapq.heappop(self._repeated)
        if self._repeated:
            return self._repeated[0]
        while self._new and self._new[0].future.done():
            self._new.popleft()
        return self._new[0] if self._new else None

    def waiting(self) -> list[QueuedRequest]:
        return [request for request in (*self._repeated, *self._new) if not request.future.done()]


class RequestQueue:
    """All requests that wait."""

    def __init__(self) -> None:
        self._interactive = _ClassQueue()
        self._bulk = _ClassQueue()
        self._bulk_skipped = 0
        # Bounds for `reject_late`: no request that waits has an earlier deadline or a shorter patience.
        self._deadline = self._patience = math.inf

    def __len__(self) -> int:
        return self._interactive.length + self._bulk.length

    def count(self, *, bulk: bool) -> int:
        """Return how many requests of a class wait."""
        return self._class(bulk).length

    def add(self, request: QueuedRequest) -> None:
        """Add a request at the end of its class, or at its ``place`` when it was sent before."""
        if not len(self):
            self._deadline = self._patience = math.inf
        self._class(request.bulk).add(request)
        self._keep_bounds(request)

    def first(self) -> QueuedRequest | None:
        """Return the request that is next, and leave it in the queue."""
        bulk = self._bulk.first()
        if bulk is not None and self._bulk_skipped >= BULK_EVERY - 1:
            return bulk
        return self._interactive.first() or bulk

    def admit(self, request: QueuedRequest, serial: int) -> None:
        """Give the first request its serial, which ends its wait."""
        self._bulk_skipped = 0 if request.bulk or not self._bulk.length else self._bulk_skipped + 1
        request.future.set_result(serial)
        self.discard(request)

    def discard(self, request: QueuedRequest) -> None:
        """Stop counting a request that no longer waits."""
        self._class(request.bulk).length -= 1

    def reject_late(
        self, now: float, paused_until: float, error_for: Callable[[QueuedRequest], BandwidthError | None]
    ) -> None:
        """Reject the requests that cannot wait for the end of a pause, with the error of ``error_for``.

        Looks at each request only when there may be one to reject.
        """
        if paused_until <= self._deadline and paused_until - now <= self._patience:
            return
        self._deadline = self._patience = math.inf
        for request in (*self._interactive.waiting(), *self._bulk.waiting()):
            error = error_for(request)
            if error is None:
                self._keep_bounds(request)
            else:
                request.future.set_exception(error)
                self.discard(request)

    def reject_interactive(self, error: Callable[[], BandwidthError | None]) -> None:
        """Reject all requests of single calls, each with an ``error`` of its own."""
        for request in self._interactive.waiting():
            reason = error()
            if reason is not None:
                request.future.set_exception(reason)
                self.discard(request)

    def _keep_bounds(self, request: QueuedRequest) -> None:
        self._deadline = min(self._deadline, request.deadline)
        self._patience = min(self._patience, request.patience)

    def _class(self, bulk: bool) -> _ClassQueue:
        return self._bulk if bulk else self._interactive
