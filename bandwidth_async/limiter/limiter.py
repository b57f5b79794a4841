"""Decides when each request may be sent: a queue and a timer, driven by the pace and the breaker.

What always holds
    Requests that wait are admitted in the order of `RequestQueue`. When a request is cancelled, even in the
    same turn of the event loop in which it was admitted, the next one is admitted instead. When a pause
    becomes longer than a request may wait, the request fails at once and not at its deadline.

    The pace hears exactly one result of every request that it admitted: accepted, refused, lost or unsent.
    After each result the limiter looks for requests to admit, since the next may be due sooner now. When it
    is due later, the timer finds that out as it fires. So a timer is set whenever the next request is due at
    a known moment. While the pace waits for a response there is none, and the response admits the next.

    While the breaker is open, requests of runs wait and requests of single calls fail at once.

    Where the rate is found out, `BusyServer` tells which 503s the pace hears of as refusals, and `DelayLimit`
    how many requests may be in flight at a server that queues.

Each admitted request has a serial, which the pace gives out: the numbers rise in the order of sending. A
refusal is a 429 or the like, and a hint is the time that the server asks for with it.
"""

from __future__ import annotations

import asyncio
import math
from heapq import heappushpop
from random import Random
from typing import TYPE_CHECKING, Self

from bandwidth_async.errors import (
    BandwidthError,
    ClientStateError,
    DeadlineExceededError,
    RateLimitError,
    UnavailableError,
)
from bandwidth_async.limiter.breaker import LEAST_SILENCE, Breaker, Closure, RetryBudget
from bandwidth_async.limiter.busy import BusyServer
from bandwidth_async.limiter.delay import DelayLimit
from bandwidth_async.limiter.events import EventEmitter, LimiterSnapshot, Unavailable, pause_of
from bandwidth_async.limiter.knowledge import Knowledge
from bandwidth_async.limiter.pace import RateLimit, pace_for
from bandwidth_async.limiter.queue import AnswerTime, QueuedRequest, RequestQueue
from bandwidth_async.limiter.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import TracebackType

    from bandwidth_async.limiter.events import PaceEvent
    from bandwidth_async.limiter.pace import Pace

# Seconds added to a hint at most, so that several processes do not resume at the same moment.
_HINT_JITTER = 0.02

# Requests that were sent after a refused one and let in. If it is refused again, it alone is the cause.
_WITNESSES = 3

# Refused requests that are remembered at most: who gives up is never heard of again.
_REMEMBERED = 10_000


class Admission:
    """Permission to send one request, as a context.

    Call `sending` when the request is sent, then `accepted`, `refused` or `failed`. Only the first of them
    counts. Without `sending`, another request is admitted instead. Without a result, nothing is learned,
    unless the request was given up after a longer silence than is usual: that is a failure.

    ``place`` is the place in the queue to come back to with the next attempt: the serial of the first one.
    """

    __slots__ = ("_limiter", "_sent_at", "_serial", "_settled", "place")

    def __init__(self, limiter: Limiter, serial: int, place: int | None) -> None:
        self.place: int = serial if place is None else place
        self._limiter = limiter
        self._serial = serial
        self._sent_at: float | None = None
        self._settled = False

    def sending(self) -> float:
        """Note that the request is sent now, and return the time of the loop."""
        self._sent_at = now = self._limiter._clock()
        return now

    def accepted(self) -> None:
        """Report a response other than a refusal and a 5xx."""
        if not self._settled:
            self._settled = True
            self._limiter._on_accepted(self._serial, self.place, self._sent_at)

    def refused(self, hint: float | None, *, coarse: bool = False) -> float:
        """Report a refusal that asks for ``hint`` seconds, or None when it names no time.

        If the hint is ``coarse``, a second of it may be rounding. Returns the seconds that this request rests
        before it asks to be admitted again.
        """
        if self._settled:
            return 0.0
        self._settled = True
        return self._limiter._on_refused(self._serial, hint, self.place, coarse=coarse)

    def failed(self, *, answered: bool, hint: float | None = None) -> None:
        """Report a failure: ``answered`` with a 5xx, which may name a time, or not at all."""
        if not self._settled:
            self._settled = True
            self._limiter._on_failed(self._serial, answered=answered, hint=hint)

    def busy(self) -> float | None:
        """Report a 503 that names no time.

        Returns the same as `refused` if it is a refusal, and None if it is a failure.
        """
        if self._settled:
            return None
        self._settled = True
        return self._limiter._on_busy(self._serial, self.place, self._sent_at)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        sent_at = self._sent_at
        if not self._settled and sent_at is not None and self._limiter._is_silence(sent_at):
            self.failed(answered=False)
        if self._settled:
            self._limiter._disconnect()
        else:
            self._settled = True
            self._limiter._release(self._serial, sent=sent_at is not None)


class Limiter:
    """Limits the rate of all requests of one account. Belongs to one event loop.

    A `VoiceClient` makes its own. To share the rate, give ``client.limiter`` to another client of the same
    account and host.

    ``connections`` is how many requests may use a connection at once. Further requests wait in the queue,
    where their timeout has not begun, and not for a free connection.
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
        limit = limit or RateLimit()
        self.refusal_statuses: frozenset[int] = limit.refusal_statuses | {429}
        self._within_second = limit.within_second
        # Whether the rate follows the responses.
        self._seeks = limit.rate is None
        self._pace = pace or pace_for(limit)
        self._events = EventEmitter(self._pace)
        if on_pace is not None:
            self._events.add_listener(on_pace)
        self._random = random or Random()
        self.breaker: Breaker = Breaker(self._random)
        self.closure: Closure = Closure()
        self.budget: RetryBudget = RetryBudget()
        self._answer_time = AnswerTime()
        self._busy = BusyServer()
        self._delay = DelayLimit()
        self._queue = RequestQueue()
        # Admissions that were not released yet, and how many there may be.
        self._connected = 0
        self._connections = connections
        # Admissions without a result yet.
        self._in_flight = 0
        self._refusals = 0
        # The last serial of each request that was refused, by its place; the latest serials that were let in.
        self._turned_away: dict[int, int] = {}
        self._let_in = [0] * _WITNESSES
        self._loop: asyncio.AbstractEventLoop | None = None
        self._clock: Callable[[], float] = self._now
        # The moment is kept beside the timer, as uvloop's handle does not give one that has passed.
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

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
        """The requests per second that it sends at most at present."""
        return self._pace.rate

    @property
    def knowledge(self) -> Knowledge | None:
        """What is known, for `RateLimit.adaptive` of the next run.

        It is None at a fixed rate, and as long as nothing was learned and nothing was known before.
        """
        return self._pace.knowledge

    def snapshot(self) -> LimiterSnapshot:
        """Return the state at this moment."""
        now = self._loop.time() if self._loop else -math.inf
        paused_for, reason = pause_of(self._pace, self.breaker, now)
        return LimiterSnapshot(
            rate=self._pace.rate,
            quota=self._pace.quota,
            paused_for=paused_for,
            pause_reason=reason,
            waiting_interactive=self._queue.count(bulk=False),
            waiting_bulk=self._queue.count(bulk=True),
            in_flight=self._in_flight,
            refusals=self._refusals,
        )

    def wanted(self) -> tuple[int, int]:
        """Return how many requests of single calls and of runs could be sent now if the pace let them.

        While the breaker is open or the server recovers, that is one at most.
        """
        allowed = self.breaker.next_time(self._clock())
        most = self._connections - self._connected if allowed == -math.inf else 1
        if allowed > self._clock():
            most = 0
        interactive = min(self._queue.count(bulk=False), most)
        return int(interactive), int(min(self._queue.count(bulk=True), most - interactive))

    def look_again(self) -> None:
        """Admit or reject the requests that wait, when the pace has changed without any of them."""
        now = self._clock()
        self._reject_late(now)
        self._admit_due(now)

    def listening(self, listener: Callable[[PaceEvent], object]) -> AbstractContextManager[None]:
        """Call ``listener`` with each `RateChanged`, `Paused` and `Unavailable` while the context lasts.

        The listener is a plain function that returns soon, since requests wait for it. What it raises is
        logged. Raises `ConfigurationError` for a coroutine function.
        """
        return self._events.listening(listener)

    def serve(self, account_id: str, host: str, connections: float) -> None:
        """Note that a client uses it: for whom, and how many requests that one can send at once."""

    async def leave(self) -> None:
        """Note that a client that used it was closed."""

    def bind(self) -> asyncio.AbstractEventLoop:
        """Bind it to the running event loop on first use, and return that loop.

        Raises `ClientStateError` in another event loop.
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
        """Wait until a request may be sent. Requests of runs are ``bulk``, and let others go first.

        ``place`` is the `Admission.place` of a request that was sent before: it goes before all requests of
        its class that arrived later. ``deadline`` is loop time, ``patience`` the longest pause in seconds
        that the request waits for when the server asks for it.

        Raises `DeadlineExceededError` as soon as it is known that the request cannot be sent before its
        deadline, and at its turn when less time is left than a response takes; `RateLimitError` when the
        server asks for a longer pause, `UnavailableError` for a single call while the breaker is open, and
        `ClientStateError` in another event loop.
        """
        loop = self._loop
        # To ask the known loop whether it runs is cheaper than to ask which loop runs.
        if loop is None or not loop.is_running():
            loop = self.bind()
        now = self._clock()
        due = self._due(now)
        if due <= now <= deadline and not len(self._queue):
            return Admission(self, self._grant(now), place)
        ahead = self._queue.ahead(bulk=bulk) if place is None else 0
        error = self._wait_error(now, deadline, patience, ahead)
        if not bulk:
            error = self._outage_error(now) or error
        if error is not None:
            raise error
        if due <= now and self._queue.first(now) is None:
            return Admission(self, self._grant(now), place)
        request = QueuedRequest(
            future=loop.create_future(),
            place=math.inf if place is None else place,
            bulk=bulk,
            came=now,
            deadline=deadline,
            latest=self._answer_time.latest(deadline, now, repeated=place is not None),
            patience=patience,
        )
        self._queue.add(request)
        self._set_timer(due)
        try:
            return Admission(self, await request.future, place)
        except asyncio.CancelledError:
            self._withdraw(request)
            raise

    def _withdraw(self, request: QueuedRequest) -> None:
        """Take out a request whose task was cancelled, also one that was admitted in the same turn."""
        if request.future.cancelled():
            self._queue.discard(request)
        elif not request.future.exception():
            self._release(request.future.result(), sent=False)

    def _on_accepted(self, serial: int, place: int, sent_at: float | None) -> None:
        now = self._clock()
        if sent_at is not None:
            self._answer_time.add(now - sent_at)
            self._busy.on_passed(serial, now, self._pace.rate)
            if self._seeks:
                self._delay.on_answer(now - sent_at, now)
        self._in_flight -= 1
        heappushpop(self._let_in, serial)
        if self._turned_away:
            self._turned_away.pop(place, None)
        wanted = len(self._queue) > 0
        self._pace.on_accepted(serial, now, wanted=wanted)
        if not self.breaker.is_calm:
            self.breaker.on_success(serial, now, self._pace.rate)
        self.closure.on_success()
        if wanted:
            self._admit_due(now)
        else:
            self._events.emit_changes(now)

    def _on_refused(self, serial: int, hint: float | None, place: int, *, coarse: bool) -> float:
        now = self._clock()
        self._in_flight -= 1
        self._refusals += 1
        if self._within_second and hint and coarse:
            hint = hint - 1 if hint > 1 else None
        jitter = self._random.uniform(0, _HINT_JITTER) if hint else 0.0
        # Refused again, while others that were sent later were let in: that concerns this request only.
        own = self._turned_away.get(place)
        if own is not None and self._let_in[0] <= own:
            own = None
        self._turned_away[place] = serial
        if len(self._turned_away) > _REMEMBERED:
            del self._turned_away[next(iter(self._turned_away))]
        rest = self._pace.on_refused(serial, now, Refusal(hint, jitter, own, coarse))
        self.closure.on_turned_away(now, self._pace.paused_until)
        self.breaker.on_success(serial, now, self._pace.rate)
        self._reject_late(now)
        waiting = len(self._queue)
        self._admit_due(now)
        # A hint that pauses nobody else is kept by this request.
        alone = hint if hint and self._pace.paused_until <= now else 0.0
        return max(alone, rest if waiting or own is not None else 0.0)

    def _reject_late(self, now: float) -> None:
        self._queue.reject_late(
            now, self._pace.paused_until, lambda one: self._wait_error(now, one.deadline, one.patience)
        )

    def _on_busy(self, serial: int, place: int, sent_at: float | None) -> float | None:
        now = self._clock()
        if sent_at is not None and self._is_refusal(serial, place, sent_at, now):
            return self._on_refused(serial, None, place, coarse=False)
        self._on_failed(serial, answered=True, hint=None)
        return None

    def _is_refusal(self, serial: int, place: int, sent_at: float, now: float) -> bool:
        """Return whether this 503 is a refusal. The pace is freed of those that were not.

        A fixed rate does not fall, so nothing would show that it is none.
        """
        if not self._seeks or self.breaker.is_open:
            return False
        mistakes = self._busy.mistakes
        refused = self._busy.is_refusal(
            serial,
            now,
            place=place,
            took=now - sent_at,
            usual=self._answer_time.mean,
            rate=self._pace.rate,
        )
        if self._busy.mistakes > mistakes:
            self._pace.resume(now, self._busy.rate)
        return refused

    def _on_failed(self, serial: int, *, answered: bool, hint: float | None) -> None:
        now = self._clock()
        if hint is not None:
            self.closure.on_turned_away(now, now + hint)
        self._in_flight -= 1
        if answered:
            self._pace.on_accepted(serial, now, wanted=len(self._queue) > 0)
        else:
            self._pace.on_lost(serial, now)
        if self.breaker.on_failure(serial, now, answered=answered, hint=hint):
            self._busy.forget()
            self._queue.reject_interactive(lambda: self._outage_error(now))
            self._events.emit(Unavailable(self.breaker.paused_for(now)))
        self._admit_due(now)

    def _disconnect(self) -> None:
        """End an admission whose result was reported."""
        full = self._connected >= self._connections
        self._connected -= 1
        # Otherwise no request was waiting for this one to end.
        if full:
            self._admit_due(self._clock())

    def _release(self, serial: int, *, sent: bool) -> None:
        """End an admission without a result."""
        now = self._clock()
        self._connected -= 1
        self._in_flight -= 1
        self.breaker.on_abandoned(serial)
        if sent:
            self._pace.on_lost(serial, now)
        else:
            self._pace.on_unsent(serial)
        self._admit_due(now)

    def _is_silence(self, sent_at: float) -> bool:
        """Return whether the server should have responded by now."""
        return self._clock() - sent_at > max(self._answer_time.usual, LEAST_SILENCE)

    def _outage_error(self, now: float) -> UnavailableError | None:
        """Return the error for a single call while the breaker is open."""
        pause = self.breaker.paused_for(now)
        if not pause:
            return None
        return UnavailableError(
            "Bandwidth is failing, so the client did not send the request", retry_after=pause
        )

    def _wait_error(
        self, now: float, deadline: float, patience: float, ahead: int = 0
    ) -> BandwidthError | None:
        """Return the error for a request that cannot wait until it is due, behind ``ahead`` others."""
        paused = self._pace.paused_until - now
        if self._pace.pause_hinted and paused > patience + _HINT_JITTER:
            return RateLimitError(
                f"Bandwidth asks for a pause of {paused:.1f} s, longer than the {patience:g} s "
                "that this request may wait",
                status=429,
                retry_after=paused,
            )
        if now + paused > deadline:
            sentence = "after a 429 of Bandwidth all requests pause until after the deadline"
            refusal = RateLimitError(sentence, status=429, retry_after=paused)
            return DeadlineExceededError(sentence, last_error=refusal, retry_after=paused)
        if self._pace.earliest(ahead) > deadline:
            return DeadlineExceededError(
                f"with {ahead} requests ahead of it, this one would be sent after the deadline"
            )
        return None

    def _due(self, now: float) -> float:
        """Return when the next request may be sent; infinity when a response has to come first."""
        if self._connected >= self._connections:
            return math.inf
        due = self._pace.next_time(now, self._in_flight)
        if not self.breaker.is_calm:
            due = max(due, self.breaker.next_time(now))
        return (
            due if self._in_flight < self._delay.limit else max(due, self._delay.next_time(self._in_flight))
        )

    def _grant(self, now: float) -> int:
        """Count one more request as sent, and return its serial."""
        serial = self._pace.on_send(now, self._in_flight)
        self.breaker.last_sent = serial
        if not self.breaker.is_calm:
            self.breaker.on_send(serial, now)
        self._in_flight += 1
        self._connected += 1
        return serial

    def _admit_due(self, now: float) -> None:
        """Admit the requests that are due, set the timer for the next, and emit what has changed."""
        while len(self._queue) and (request := self._queue.first(now)) is not None:
            due = self._due(now)
            if due > now:
                self._set_timer(due)
                break
            self._queue.admit(request, self._grant(now))
            # Then this request is the probe. Only runs wait for its result.
            if self.breaker.is_open:
                self._queue.reject_interactive(lambda: self._outage_error(now))
        self._events.emit_changes(now)

    def _set_timer(self, due: float) -> None:
        if due == math.inf or (self._timer is not None and self._timer_at <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = self.bind().call_at(due, self._on_timer), due

    def _on_timer(self) -> None:
        self._timer = None
        self._admit_due(self._clock())

    def _now(self) -> float:
        return self.bind().time()
