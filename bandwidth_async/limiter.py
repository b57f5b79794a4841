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
    """Leave to send one request. As a context it learns what became of it; silence teaches nothing."""

    __slots__ = ("_limiter", "_sent_at")

    def __init__(self, limiter: Limiter, sent_at: float) -> None:
        self._limiter = limiter
        self._sent_at = sent_at

    def accepted(self) -> None:
        """The server let the request pass: any answer but 429."""
        self._limiter.on_accepted(self._sent_at)

    def refused(self, hint: float | None) -> None:
        """The server answered 429 and asks for ``hint`` seconds, or does not say."""
        self._limiter.on_refused(self._sent_at, hint)

    def __enter__(self) -> Self:
        self._limiter.in_flight += 1
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._limiter.in_flight -= 1


@define(eq=False)
class _Waiter:
    future: asyncio.Future[Admission]
    deadline: float = field(kw_only=True)
    patience: float = field(kw_only=True)


class Limiter:
    """Paces all requests of one account. Belongs to one event loop."""

    def __init__(self, limit: RateLimit | None, random: Random) -> None:
        self.in_flight = 0
        self._pacer = Pacer(limit)
        self._random = random
        self._arrived: deque[_Waiter] = deque()
        self._returned: deque[_Waiter] = deque()  # refused once, so first in line
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        waiting = len(self._arrived) + len(self._returned)
        return f"<Limiter {self.rate:.4g}/s, {waiting} waiting, {self.in_flight} in flight>"

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
        now = asyncio.get_running_loop().time()
        hopeless = self._hopeless(now, deadline, patience)
        if hopeless:
            raise hopeless
        if self._next_in_line() is None and self._pacer.next_time() <= now:
            return self._let_in(now)
        waiter = _Waiter(asyncio.get_running_loop().create_future(), deadline=deadline, patience=patience)
        (self._returned if returning else self._arrived).append(waiter)
        self._wake_later()
        try:
            return await waiter.future
        except asyncio.CancelledError:
            if waiter.future.done() and not waiter.future.cancelled() and not waiter.future.exception():
                self._pacer.on_unsent()
                self._wake()
            raise

    def on_accepted(self, sent_at: float) -> None:
        """Pass on what `Admission.accepted` says."""
        self._pacer.on_accepted(sent_at, self._now(), wanted=self._next_in_line() is not None)

    def on_refused(self, sent_at: float, hint: float | None) -> None:
        """Pass on what `Admission.refused` says, and send away who cannot wait that long."""
        now = self._now()
        jittered = hint + self._random.uniform(0, _HINT_JITTER) if hint else hint
        self._pacer.on_refused(sent_at, now, jittered)
        for waiter in (*self._returned, *self._arrived):
            hopeless = self._hopeless(now, waiter.deadline, waiter.patience)
            if hopeless and not waiter.future.done():
                waiter.future.set_exception(hopeless)

    def _hopeless(self, now: float, deadline: float, patience: float) -> BandwidthError | None:
        paused = self._pacer.paused_until - now
        if paused > patience:
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
        return None

    def _next_in_line(self) -> _Waiter | None:
        for queue in (self._returned, self._arrived):
            while queue and queue[0].future.done():
                queue.popleft()
            if queue:
                return queue[0]
        return None

    def _let_in(self, now: float) -> Admission:
        self._pacer.on_send(now)
        return Admission(self, now)

    def _wake(self) -> None:
        """Let in whoever is due, then set the timer for the next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._now()
        while (waiter := self._next_in_line()) is not None and self._pacer.next_time() <= now:
            waiter.future.set_result(self._let_in(now))
        if waiter is not None:
            self._wake_later()

    def _wake_later(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._pacer.next_time(), self._wake)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
