"""The door every request waits at: one queue and one timer around the decisions of pace and breaker.

What always holds
    Whoever waits is served in the order of `Waiting`. A waiter that is cancelled, even in the very tick in
    which it was let in, gives its place to the next. One whose pause has become longer than it may wait
    is told at once instead of at its deadline.

    Every ticket of the pace is settled exactly once: accepted, refused, lost or unsent. After each the
    door is looked at again, since the next one's moment may have come nearer; when it has gone further
    away, the timer finds that out when it rings. So there is a timer whenever somebody waits for a
    moment, and none is needed where the pace waits for an answer.

    While the server is down, runs wait for it here; single calls are told so at once.
"""

from __future__ import annotations

import asyncio
import math
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Self

from bandwidth_async.errors import (
    BandwidthError,
    ClientStateError,
    DeadlineExceededError,
    RateLimitError,
    UnavailableError,
)
from bandwidth_async.limiter.breaker import Breaker, RetryBudget
from bandwidth_async.limiter.events import Gauge, LimiterSnapshot, Unavailable, pause_of
from bandwidth_async.limiter.pace import RateLimit, pace_for
from bandwidth_async.limiter.queue import Waiter, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import TracebackType

    from bandwidth_async.limiter.events import PaceEvent
    from bandwidth_async.limiter.pace import Pace

_HINT_JITTER = 0.02  # seconds added to a hint, so that processes do not come back in step


class Admission:
    """Leave to send one request, as a context: a place that is not used goes to the next in line.

    After `sending` it learns what became of the request; silence teaches nothing. ``place`` is the number
    of the request in the order of arrival: whoever is refused comes back with it.
    """

    __slots__ = ("_limiter", "_sent", "_settled", "_ticket", "place")

    def __init__(self, limiter: Limiter, ticket: int, place: int) -> None:
        self.place: int = place
        self._limiter = limiter
        self._ticket = ticket
        self._sent = False
        self._settled = False

    def sending(self) -> None:
        """Use the place: the request leaves now."""
        self._sent = True

    def accepted(self) -> None:
        """The server let the request pass and did not fail: any answer but 429 and 5xx."""
        if not self._settled:
            self._settled = True
            self._limiter._accepted(self._ticket)

    def refused(self, hint: float | None) -> None:
        """The server answered 429 and asks for ``hint`` seconds, or does not say."""
        if not self._settled:
            self._settled = True
            self._limiter._refused(self._ticket, hint)

    def failed(self, *, answered: bool) -> None:
        """The server failed: ``answered`` with a 5xx, or not at all."""
        if not self._settled:
            self._settled = True
            self._limiter._failed(self._ticket, answered=answered)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._limiter._left(None if self._settled else self._ticket, sent=self._sent)
        self._settled = True


class Limiter:
    """Paces all requests of one account. Belongs to one event loop.

    A `VoiceClient` has one of its own; give ``client.limiter`` to another client of the same account and
    host, and both share its rate.

    ``connections`` is how many requests may be out at once: one that would wait for a free connection
    waits here instead, where its timeout has not begun. ``pace`` is a law of your own in place of the one
    that ``limit`` asks for.
    """

    def __init__(
        self,
        limit: RateLimit | None = None,
        random: Random | None = None,
        *,
        connections: float = math.inf,
        on_pace: Callable[[PaceEvent], object] | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._pace = pace or pace_for(limit or RateLimit())
        self._gauge = Gauge(self._pace)
        if on_pace is not None:
            self._gauge.listen(on_pace)
        self._random = random or Random()
        self._breaker = Breaker(self._random)
        self.budget: RetryBudget = RetryBudget()
        self._connections = connections
        self._waiting = Waiting()
        self._places = count()
        self._connected = 0  # admitted, and not through with their connection
        self._in_flight = 0  # admitted, and not settled
        self._refusals = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._clock: Callable[[], float] = self._now  # that of the loop, once it is known
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = math.inf  # kept here, since uvloop's handle for a past moment does not tell

    def __repr__(self) -> str:
        seen = self.snapshot()
        quota = "" if seen.quota is None else f" of about {seen.quota:.4g}/s"
        pause = f", paused {seen.paused_for:.3g} s ({seen.pause_reason})" if seen.pause_reason else ""
        return (
            f"<Limiter {seen.rate:.4g}/s{quota}{pause}, {seen.waiting_interactive} interactive and "
            f"{seen.waiting_bulk} bulk waiting, {seen.in_flight} in flight, {seen.refusals} refused>"
        )

    @property
    def rate(self) -> float:
        """Requests per second that it lets through at present."""
        return self._pace.rate

    def snapshot(self) -> LimiterSnapshot:
        """Return what it does at this moment."""
        now = self._loop.time() if self._loop else -math.inf
        paused_for, reason = pause_of(self._pace, self._breaker, now)
        return LimiterSnapshot(
            rate=self._pace.rate,
            quota=self._pace.quota,
            paused_for=paused_for,
            pause_reason=reason,
            waiting_interactive=self._waiting.count(bulk=False),
            waiting_bulk=self._waiting.count(bulk=True),
            in_flight=self._in_flight,
            refusals=self._refusals,
        )

    @property
    def is_down(self) -> bool:
        """Whether the server fails so steadily that only a probe is sent now and then."""
        return self._breaker.is_open

    @property
    def is_doubtful(self) -> bool:
        """Whether the server `is_down`, or fails so often in a row that this will be known in a moment."""
        return self._breaker.is_doubtful

    @property
    def unreachable(self) -> bool:
        """Whether several requests were sent and not one was ever answered."""
        return self._breaker.unreachable

    @property
    def down_for(self) -> float:
        """Seconds in which there have been failures only, 0 unless it `is_down`."""
        return self._breaker.down_for(self._now())

    @property
    def ever_up(self) -> bool:
        """Whether the server ever gave an answer that is no failure."""
        return self._breaker.ever_answered

    def listening(self, tell: Callable[[PaceEvent], object]) -> AbstractContextManager[None]:
        """Have ``tell`` called with each `RateChanged` and `Paused`, while the context lasts.

        It is a plain function that returns soon: requests wait for it. What it raises is logged.
        """
        return self._gauge.listening(tell)

    def bind(self) -> asyncio.AbstractEventLoop:
        """Return the event loop that it belongs to from its first use on.

        Raises `ClientStateError` in another one.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise ClientStateError("this limiter belongs to another event loop; make one for each")
            self._loop, self._clock = loop, loop.time
        return loop

    async def admit(
        self,
        *,
        bulk: bool = False,
        place: int | None = None,
        deadline: float = math.inf,
        patience: float = math.inf,
    ) -> Admission:
        """Wait for this request's turn; ``bulk`` ones let others go first.

        ``place`` is that of an earlier `Admission` which was refused: it puts the request before all of its
        class that came later. Raises `DeadlineExceededError` as soon as it is known that the turn cannot
        come before ``deadline`` (loop time), `RateLimitError` when the server has shut the door for more
        than ``patience`` seconds, `UnavailableError` for a single call while the server is down, and
        `ClientStateError` when the event loop of its first use runs no more.
        """
        loop = self._loop
        if loop is None or not loop.is_running():  # cheaper than to ask which loop runs
            loop = self.bind()
        now = self._clock()
        due = self._due(now)
        if due <= now <= deadline and not len(self._waiting):  # as it is nearly always
            return Admission(self, self._let_in(now), next(self._places) if place is None else place)
        ahead = self._waiting.count(bulk=bulk) if place is None else 0
        down = None if bulk else self._unavailable(now)
        hopeless = down or self._hopeless(now, deadline, patience, ahead)
        if hopeless:
            raise hopeless
        refused, place = place is not None, next(self._places) if place is None else place
        if due <= now and self._waiting.first() is None:
            return Admission(self, self._let_in(now), place)
        waiter = Waiter(
            future=loop.create_future(), place=place, bulk=bulk, deadline=deadline, patience=patience
        )
        self._waiting.add(waiter, refused=refused)
        self._wake_later(due)
        try:
            return Admission(self, await waiter.future, place)
        except asyncio.CancelledError:
            if waiter.future.cancelled():
                self._waiting.forget(waiter)
            elif not waiter.future.exception():
                self._left(waiter.future.result(), sent=False)
            raise

    def _accepted(self, ticket: int) -> None:
        now = self._clock()
        self._in_flight -= 1
        wanted = len(self._waiting) > 0
        self._pace.on_accepted(ticket, now, wanted=wanted)
        self._breaker.on_answer(ticket, now, self._pace.rate)
        if wanted:
            self._look(now)
        else:
            self._gauge.look(now)

    def _refused(self, ticket: int, hint: float | None) -> None:
        now = self._clock()
        self._in_flight -= 1
        self._refusals += 1
        jitter = self._random.uniform(0, _HINT_JITTER) if hint else 0.0
        self._pace.on_refused(ticket, now, hint, jitter)
        opens = self._pace.paused_until
        self._breaker.on_answer(ticket, now, self._pace.rate)
        self._waiting.tell(now, opens, lambda one: self._hopeless(now, one.deadline, one.patience))
        self._look(now)

    def _failed(self, ticket: int, *, answered: bool) -> None:
        now = self._clock()
        self._in_flight -= 1
        if answered:
            self._pace.on_accepted(ticket, now, wanted=len(self._waiting) > 0)
        else:
            self._pace.on_lost(ticket, now)
        if self._breaker.on_failure(ticket, now, answered=answered):
            self._waiting.dismiss_interactive(lambda: self._unavailable(now))
            self._gauge.tell(Unavailable(self._breaker.shut_for(now)))
        self._look(now)

    def _left(self, ticket: int | None, *, sent: bool) -> None:
        """Take back an admission, with the ticket that is not settled yet."""
        full = self._connected >= self._connections
        self._connected -= 1
        if ticket is None and not full:  # nobody has waited for this
            return
        now = self._clock()
        if ticket is not None:
            self._in_flight -= 1
            self._breaker.on_gone(ticket)
            if sent:
                self._pace.on_lost(ticket, now)
            else:
                self._pace.on_unsent(ticket)
        self._look(now)

    def _unavailable(self, now: float) -> UnavailableError | None:
        shut_for = self._breaker.shut_for(now)
        if not shut_for:
            return None
        return UnavailableError(
            "Bandwidth fails at present, so the request was not sent", retry_after=shut_for
        )

    def _hopeless(
        self, now: float, deadline: float, patience: float, ahead: int = 0
    ) -> BandwidthError | None:
        paused = self._pace.paused_until - now
        if self._pace.pause_hinted and paused > patience + _HINT_JITTER:
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
        if self._pace.earliest(ahead) > deadline:
            return DeadlineExceededError(
                f"with {ahead} requests before it, its turn comes after the deadline"
            )
        return None

    def _due(self, now: float) -> float:
        """Return when the next one may be let in; infinity is after an answer that is still out."""
        if self._connected >= self._connections:
            return math.inf
        paced, allowed = self._pace.next_time(now, self._in_flight), self._breaker.next_time(now)
        return paced if paced > allowed else allowed

    def _let_in(self, now: float) -> int:
        ticket = self._pace.on_send(now, self._in_flight)
        self._breaker.on_send(ticket, now)
        self._in_flight += 1
        self._connected += 1
        return ticket

    def _look(self, now: float) -> None:
        """Let in whoever is due, set the timer for the next, and tell who listens."""
        while len(self._waiting) and (waiter := self._waiting.first()) is not None:
            due = self._due(now)
            if due > now:
                self._wake_later(due)
                break
            self._waiting.admit(waiter, self._let_in(now))
            if self._breaker.is_open:  # that was the probe; only runs wait for what becomes of it
                self._waiting.dismiss_interactive(lambda: self._unavailable(now))
        self._gauge.look(now)

    def _wake_later(self, due: float) -> None:
        if due == math.inf or (self._timer is not None and self._rings_at <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._rings_at = self.bind().call_at(due, self._ring), due

    def _ring(self) -> None:
        self._timer = None
        self._look(self._clock())

    def _now(self) -> float:
        return self.bind().time()
