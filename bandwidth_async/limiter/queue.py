"""The requests that wait to be sent: one queue for single calls and one for runs.

Requests of single calls are interactive and go first. Requests of runs are bulk, and while they wait at
least one of every `BULK_EVERY` admissions is for them. Within a queue, requests leave in order of arrival. A
request that was sent before keeps its place, so it is ahead of all that were never sent.

Theory of overload
    When more calls come than may be sent, some cannot be served. Served in order of arrival, each would be
    sent at the edge of its deadline. The server would work for callers who had gone, and nobody would be
    served. The rule that prevents this has two parts.

    *Reserve.* A request that reaches the front with less time left than a response usually takes is
    rejected and takes no turn. The usual time is the smoothed mean plus four times the smoothed deviation,
    which is TCP's timeout (RFC 6298). The reserve of a new request is at most half of the time that it
    had when it came. Without this limit, an estimate that is too high would reject every request, and no
    response could correct it.

    *Turn.* Dropping the late ones is not enough: in order of arrival all are still sent at the edge, so an
    estimate that is too low serves nobody. The newest request has all its time left, so sending it first
    needs no estimate. This is adaptive LIFO (Maurer, "Fail at Scale", ACM Queue 13(8), 2015). But newest
    first is unfair in a surge that would soon be over. So the order turns once overload has lasted as long as
    a request can wait: when a request is late that came after an earlier one was found late. It turns back
    when no single call waits.

What always holds
    - No request is admitted that waited and has less than its reserve left. None is rejected as late with
      more.
    - A request that comes when none waits and one is due is sent at once, whatever the estimate says.
    - Single calls are in order of arrival until the order turns. Runs are always in order of arrival.
    - A request that was sent before goes before all new ones of its class, in both orders.
    - While newest goes first, a call without a deadline may wait as long as the overload lasts.

CoDel and earliest deadline first were tried too. Both served less under overload.

A request that gave up stays in its queue until it is first, or until most have given up. So every step takes
the same time however many wait, except `reject_late`.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from typing import TYPE_CHECKING

from attrs import define, field

from bandwidth_async.errors import DeadlineExceededError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from bandwidth_async.errors import BandwidthError

BULK_EVERY = 4

# Requests that gave up and that a queue keeps, before it counts them.
_FEW = 64


class AnswerTime:
    """The seconds within which a response usually comes, learned from good ones; 0 before the first."""

    def __init__(self) -> None:
        self.usual: float = 0.0
        self.mean: float = 0.0
        self._deviation = 0.0

    def add(self, seconds: float) -> None:
        """Learn from a good response. The gains are those of RFC 6298."""
        if not self.usual:
            self.mean, self._deviation = seconds, seconds / 2
        else:
            self._deviation += (abs(seconds - self.mean) - self._deviation) / 4
            self.mean += (seconds - self.mean) / 8
        self.usual = self.mean + 4 * self._deviation

    def latest(self, deadline: float, now: float, *, repeated: bool) -> float:
        """Return the last moment to send a request that comes now, so that its response is in time."""
        return deadline - (self.usual if repeated else min(self.usual, (deadline - now) / 2))


@define(eq=False, kw_only=True)
class QueuedRequest:
    """A request that waits. Its future gets the serial of its admission, or the error that ends the wait.

    ``place`` is the serial of its first attempt, or infinity when it was never sent. ``deadline`` is loop
    time, and after ``latest`` it is too late to be sent. It came at ``came``. ``patience`` is the longest
    pause in seconds that it waits for.
    """

    future: asyncio.Future[int]
    place: float
    bulk: bool
    came: float
    deadline: float
    latest: float
    patience: float

    def can_be_sent(self, now: float) -> bool:
        """Return whether it still waits and is not too late."""
        return now <= self.latest and not self.future.done()

    def __lt__(self, other: QueuedRequest) -> bool:
        return self.place < other.place


@define(eq=False)
class _ClassQueue:
    """The requests of one class, interactive or bulk."""

    length: int = 0
    newest_first: bool = False
    # When a request was first found late, since the queue was last empty.
    _late_at: float = math.inf
    _new: deque[QueuedRequest] = field(factory=deque)
    # A heap by place. One heap for all requests was tried: each admission took 10 % longer.
    _repeated: list[QueuedRequest] = field(factory=list)

    def add(self, request: QueuedRequest) -> None:
        if not self.length:
            self._new.clear()
            self.newest_first, self._late_at = False, math.inf
        self.length += 1
        if request.place == math.inf:
            self._new.append(request)
        else:
            heapq.heappush(self._repeated, request)

    def first(self, now: float) -> QueuedRequest | None:
        """Return the request that is next. Rejects the late ones that were before it."""
        while self._repeated:
            if self._repeated[0].can_be_sent(now):
                return self._repeated[0]
            self._reject(heapq.heappop(self._repeated), now)
        while self._new:
            end = -1 if self.newest_first else 0
            request = self._new[end]
            if request.can_be_sent(now):
                return request
            del self._new[end]
            self._reject(request, now)
            # Runs are always in order of arrival.
            if request.latest < now and not request.bulk:
                self.newest_first |= request.came > self._late_at
                self._late_at = min(self._late_at, now)
        return None

    def discard(self) -> None:
        """Stop counting a request that no longer waits, and forget those that gave up if they are many."""
        self.length -= 1
        if len(self._new) > 2 * self.length + _FEW:
            self._new = deque(request for request in self._new if not request.future.done())

    def waiting(self) -> list[QueuedRequest]:
        return [request for request in (*self._repeated, *self._new) if not request.future.done()]

    def _reject(self, request: QueuedRequest, now: float) -> None:
        if request.future.done():
            return
        self.length -= 1
        request.future.set_exception(
            DeadlineExceededError(
                f"the request waited so long that the {max(request.deadline - now, 0.0):.2g} s left are less "
                "than a response takes"
            )
        )


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

    def ahead(self, *, bulk: bool) -> int:
        """Return how many requests of its class go before a new one."""
        queue = self._class(bulk)
        return 0 if queue.newest_first else queue.length

    def add(self, request: QueuedRequest) -> None:
        """Add a request at the end of its class, or at its ``place`` when it was sent before."""
        if not len(self):
            self._deadline = self._patience = math.inf
        self._class(request.bulk).add(request)
        self._keep_bounds(request)

    def first(self, now: float) -> QueuedRequest | None:
        """Return the request that is next, and leave it in the queue. Rejects those that are late."""
        bulk = self._bulk.first(now)
        if bulk is not None and self._bulk_skipped >= BULK_EVERY - 1:
            return bulk
        return self._interactive.first(now) or bulk

    def admit(self, request: QueuedRequest, serial: int) -> None:
        """Give the first request its serial, which ends its wait."""
        self._bulk_skipped = 0 if request.bulk or not self._bulk.length else self._bulk_skipped + 1
        request.future.set_result(serial)
        self.discard(request)

    def discard(self, request: QueuedRequest) -> None:
        """Stop counting a request that no longer waits."""
        self._class(request.bulk).discard()

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
