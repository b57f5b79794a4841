"""The door every request waits at: one queue and one timer around the pacing decisions.

Three rules keep it honest. Whoever waits is served in order, and who was refused comes first again. A
waiter that is cancelled, even in the very tick in which it was let in, gives its place to the next. And a
waiter whose pause has become longer than it may wait is told at once instead of at its deadline.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING, Self

from attrs import define, field

from bandwidth_async.errors import BandwidthError, DeadlineExceededError, RateLimitError
from bandwidth_async.pacing import Pacer

if TYPE_CHECKING:
    from random import Random
    from types import TracebackType

    from bandwidth_async.pacing import RateLimit

_HINT_JITTER = 0.02  # seconds added to a hint, so that processes do not come back in step


class Admission:
    """Leave to send one request, as a context: a place that is not used goes to the next in line.

    After `sending` it learns what became of the request; silence teaches nothing.
    """

    __slots__ = ("_limiter", "_sent", "_sent_at")

    def __init__(self, limiter: Limiter, sent_at: float) -> None:
        self._limiter = limiter
        self._sent_at = sent_at
        self._sent = False

    def sending(self) -> None:
        """Use the place: the request leaves now."""
        self._sent = True

    def accepted(self) -> None:
        """The server let the request pass: any answer but 429."""
        self._limiter.on_accepted(self._sent_at)

    def refused(self, hint: float | None) -> None:
        """The server answered 429 and asks for ``hint`` seconds, or does not say."""
        self._limiter.on_refused(self._sent_at, hint)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._limiter.leave(sent=self._sent)


@define(eq=False)
class _Waiter:
    future: asyncio.Future[Admission]
    deadline: float = field(kw_only=True)
    patience: float = field(kw_only=True)


class Limiter:
    """Paces all requests of one account. Belongs to one event loop.

    ``connections`` is how many requests may be out at once: one that would wait for a free connection
    waits here instead, where its timeout has not begun.
    """

    def __init__(self, limit: RateLimit | None, random: Random, *, connections: float = math.inf) -> None:
        self._pacer = Pacer(limit)
        self._random = random
        self._connections = connections
        self._in_flight = 0
        self._waiting = 0
        self._arrived: deque[_Waiter] = deque()
        self._returned: deque[_Waiter] = deque()  # refused once, so first in line
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Limiter {self.rate:.4g}/s, {self._waiting} waiting, {self._in_flight} in flight>"

    @property
    def rate(self) -> float:
        """Requests per second that it lets through at present."""
        return self._pacer.rate

    async def admit(
        self, *, returning: bool = False, deadline: float = math.inf, patience: float = math.inf
    ) -> Admission:
        """Wait for this request's turn.

        ``returning`` puts it before all that were never refused. Raises `DeadlineExceededError` as soon
        as it is known that the turn cannot come before ``deadline`` (loop time), and `RateLimitError` when
        the server has shut the door for more than ``patience`` seconds.
        """
        now = _now()
        ahead = len(self._returned) if returning else self._waiting
        hopeless = self._hopeless(now, deadline, patience, ahead)
        if hopeless:
            raise hopeless
        if self._next_in_line() is None and self._is_open(now):
            return self._let_in(now)
        waiter = _Waiter(asyncio.get_running_loop().create_future(), deadline=deadline, patience=patience)
        (self._returned if returning else self._arrived).append(waiter)
        self._waiting += 1
        self._wake_later()
        try:
            return await waiter.future
        except asyncio.CancelledError:
            if waiter.future.done() and not waiter.future.cancelled() and not waiter.future.exception():
                self.leave(sent=False)
            raise
        finally:
            self._waiting -= 1

    def leave(self, *, sent: bool) -> None:
        """Take back an admission: its request was answered or lost, or never left."""
        self._in_flight -= 1
        if not sent:
            self._pacer.on_unsent()
        if self._waiting:
            self._wake()

    def on_accepted(self, sent_at: float) -> None:
        """Pass on what `Admission.accepted` says."""
        self._pacer.on_accepted(sent_at, _now(), wanted=self._waiting > 0)

    def on_refused(self, sent_at: float, hint: float | None) -> None:
        """Pass on what `Admission.refused` says, and send away who cannot wait that long."""
        now, before = _now(), self._pacer.paused_until
        jittered = hint + self._random.uniform(0, _HINT_JITTER) if hint else hint
        self._pacer.on_refused(sent_at, now, jittered)
        if self._pacer.paused_until == before:
            return
        for waiter in (*self._returned, *self._arrived):
            hopeless = self._hopeless(now, waiter.deadline, waiter.patience)
            if hopeless and not waiter.future.done():
                waiter.future.set_exception(hopeless)

    def _hopeless(
        self, now: float, deadline: float, patience: float, ahead: int = 0
    ) -> BandwidthError | None:
        paused = self._pacer.paused_until - now
        if paused > patience + _HINT_JITTER:
            return RateLimitError(
                f"Bandwidth has closed this account's door for longer than the {patience:g} s "
                "that are waited for at most",
                status=429,
                retry_after=paused,
            )
        if now + paused > deadline:
            return DeadlineExceededError(
                "Bandwidth has closed this account's door until after the deadline", retry_after=paused
            )
        if self._pacer.earliest(ahead) > deadline:
            return DeadlineExceededError(
                f"with {ahead} requests before it, its turn comes after the deadline"
            )
        return None

    def _is_open(self, now: float) -> bool:
        return self._in_flight < self._connections and self._pacer.next_time() <= now

    def _next_in_line(self) -> _Waiter | None:
        for queue in (self._returned, self._arrived):
            while queue and queue[0].future.done():
                queue.popleft()
            if queue:
                return queue[0]
        return None

    def _let_in(self, now: float) -> Admission:
        self._in_flight += 1
        self._pacer.on_send(now)
        return Admission(self, now)

    def _wake(self) -> None:
        """Let in whoever is due, then set the timer for the next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = _now()
        while (waiter := self._next_in_line()) is not None and self._is_open(now):
            waiter.future.set_result(self._let_in(now))
        if waiter is not None:
            self._wake_later()

    def _wake_later(self) -> None:
        if self._timer is None and self._in_flight < self._connections:
            self._timer = asyncio.get_running_loop().call_at(self._pacer.next_time(), self._wake)


def _now() -> float:
    return asyncio.get_running_loop().time()
