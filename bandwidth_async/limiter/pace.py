"""The rate limit that a user asks for, what every pace does, and the pace of a fixed rate.

A pace decides when the next request may be sent. A refusal is a 429. A hint is the time in seconds that the
server asks for with it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol, Self

from attrs import field, frozen, validators

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.limiter.adaptive import LATENESS, AdaptivePace
from bandwidth_async.limiter.knowledge import Knowledge
from bandwidth_async.limiter.refusal import Refusal
from bandwidth_async.validators import above_zero, at_least

if TYPE_CHECKING:
    from collections.abc import Iterable

# Seconds of a pause after a hint of 0, once.
_LEAST_PAUSE = 0.004

# Seconds of a pause after a refusal without a hint. The pause doubles with each refusal in a row, but single
# calls are served again within 10 s after a closure.
_SHORTEST_PAUSE = 0.1
_LONGEST_PAUSE = 8.0

# Seconds that a request rests after a refusal of its own.
_OWN_REST = 0.25


def _statuses(given: Iterable[int]) -> frozenset[int]:
    return frozenset(given)


@frozen
class RateLimit:
    """How fast the client sends requests.

    ``rate``
        Requests per second. The client does not change it, whatever the server says. None makes the client
        find out what the server allows.
    ``burst``
        With a given rate, how many requests may be sent at once after a rest. Leave it at 1 unless you know
        that the server uses a token bucket of that depth: one that counts in windows refuses the excess.
    ``start``
        Requests per second to begin with, such as a rate learned before, if you give no ``rate``.
    ``floor``
        Requests per second that a rate which the client finds out never falls below.
    ``ceiling``
        Requests per second that a rate which the client finds out never exceeds.
    ``knowledge``
        What an earlier limiter learned (`Limiter.knowledge`), to begin with. A ``start`` overrules its rate.
    ``within_second``
        Read a hint that cannot tell parts of a second as rounded up: 1 as "within a second". So are most
        dates and epoch times. By default a hint is obeyed to the letter, which costs up to a second for each.
    ``refusal_statuses``
        Statuses that mean "over the quota", whatever else they may mean. A 403 or 503 with a time always
        does. Where the client finds out the rate, it also finds out whether other 503s do.

    Raises `ConfigurationError` for a rate that is not above 0, for a floor above the ceiling, and for both a
    rate and a start.
    """

    rate: float | None = field(default=None, validator=validators.optional(above_zero("requests per second")))
    burst: int = field(default=1, validator=at_least(1, "requests that may be sent at once"))
    start: float | None = field(
        default=None, validator=validators.optional(above_zero("requests per second")), kw_only=True
    )
    floor: float = field(default=0.1, validator=above_zero("requests per second"), kw_only=True)
    ceiling: float = field(
        default=math.inf, validator=above_zero("requests per second", endless=True), kw_only=True
    )
    knowledge: Knowledge | None = field(default=None, kw_only=True)
    within_second: bool = field(default=False, kw_only=True)
    refusal_statuses: frozenset[int] = field(default=frozenset({429}), converter=_statuses, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.floor > self.ceiling:
            raise ConfigurationError(f"floor {self.floor:g} is above ceiling {self.ceiling:g}: swap them")
        if self.rate is not None and self.start is not None:
            raise ConfigurationError(
                "start is for a rate that the client finds out: leave out rate, or start"
            )

    @classmethod
    def fixed(cls, rate: float, burst: int = 1) -> Self:
        """Return a limit of exactly ``rate`` requests per second. Raises what `RateLimit` raises."""
        return cls(rate, burst)

    @classmethod
    def adaptive(
        cls,
        *,
        start: float | None = None,
        floor: float = 0.1,
        ceiling: float = math.inf,
        knowledge: Knowledge | None = None,
        within_second: bool = False,
    ) -> Self:
        """Return a limit whose rate the client finds out, between ``floor`` and ``ceiling``.

        The three are in requests per second. Raises what `RateLimit` raises.
        """
        return cls(
            start=start, floor=floor, ceiling=ceiling, knowledge=knowledge, within_second=within_second
        )


class Pace(Protocol):
    """Decides when the next request may be sent, and learns from the responses.

    All times are the caller's clock. `on_send` gives each request a serial: the numbers rise in the order of
    sending. The caller then reports one result with that serial, by one of the other four methods.
    """

    @property
    def rate(self) -> float:
        """Requests per second that it sends at most at present."""

    @property
    def quota(self) -> float | None:
        """Requests per second that the server is believed to allow, None until something is known."""

    @property
    def paused_until(self) -> float:
        """When the pause ends. The past means that there is none."""

    @property
    def knowledge(self) -> Knowledge | None:
        """What was learned so far; None at a fixed rate."""

    @property
    def pause_hinted(self) -> bool:
        """Whether the server named the time of the pause."""

    def next_time(self, now: float, in_flight: int) -> float:
        """Return when the next request may be sent. Infinity means after a response, the past means now."""

    def earliest(self, ahead: int) -> float:
        """Return a moment before which a request behind ``ahead`` others is certainly not sent."""

    def on_send(self, now: float, in_flight: int) -> int:
        """Note that a request is sent, beside ``in_flight`` others, and return its serial."""

    def on_unsent(self, serial: int) -> None:
        """Note that a request was not sent after all."""

    def on_accepted(self, serial: int, now: float, *, wanted: bool) -> None:
        """Learn from a response other than 429. ``wanted`` says that more requests wait."""

    def on_refused(self, serial: int, now: float, refusal: Refusal) -> float:
        """Learn from a refusal. Returns the seconds that the request rests, so that others go before it."""

    def resume(self, now: float, rate: float) -> None:
        """Return to an earlier rate, as the refusals since then had another cause."""

    def on_lost(self, serial: int, now: float) -> None:
        """Note that a request gets no response, which says nothing about the quota."""


class FixedPace:
    """Sends at a given rate, and pauses after refusals.

    A refusal pauses all requests for the time of the hint. Without a hint, the pause doubles with each
    refusal in a row. Requests that were in flight at the first refusal are refused too. They belong to the
    same pause, so only a refusal of a request that was sent after the pause begins another.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self.rate = rate
        self.quota: float | None = None
        self.knowledge: Knowledge | None = None
        self.paused_until: float = -math.inf
        self.pause_hinted: bool = False
        self._early = (burst - 1) / rate
        # When the next request is due at an even rate.
        self._due = -math.inf
        self._resumed_at = -math.inf
        self._refusals_in_a_row = 0
        # When each request in flight was sent, by serial.
        self._sent: dict[int, float] = {}
        self._serial = 0

    def next_time(self, now: float, in_flight: int) -> float:
        """Return when the next request may be sent."""
        return max(self.paused_until, self._due - self._early)

    def earliest(self, ahead: int) -> float:
        """Return when a request behind ``ahead`` others is sent if none is refused."""
        due = max(self._due, self.paused_until - LATENESS)
        return max(self.paused_until, due - self._early + ahead / self.rate)

    def on_send(self, now: float, in_flight: int) -> int:
        """Note that a request is sent, and return its serial."""
        # What a timer was late is made up for. But no request leaves sooner for an idle time: two that leave
        # together are refused where nothing is let in above the rate.
        self._due = (self._due if now - self._due <= LATENESS else now) + 1 / self.rate
        self._serial += 1
        self._sent[self._serial] = now
        return self._serial

    def on_unsent(self, serial: int) -> None:
        """Note that a request was not sent after all."""
        del self._sent[serial]
        self._due -= 1 / self.rate

    def on_accepted(self, serial: int, now: float, *, wanted: bool) -> None:
        """Learn that the pause is over, if the request was sent after it."""
        if self._sent.pop(serial) >= self._resumed_at:
            self._refusals_in_a_row = 0

    def on_refused(self, serial: int, now: float, refusal: Refusal) -> float:
        """Pause all requests, except for a refusal that is one request's own.

        A hint of 0 allows the next request at once. If that is refused too, a further hint of 0 counts as
        no hint.
        """
        sent, hint = self._sent.pop(serial), refusal.hint
        if refusal.own is not None:
            return _OWN_REST
        if sent >= self._resumed_at:
            self._refusals_in_a_row += 1
            pause = min(_SHORTEST_PAUSE * 2 ** min(self._refusals_in_a_row - 1, 16), _LONGEST_PAUSE)
            if hint is not None and (hint > 0 or self._refusals_in_a_row == 1):
                pause = max(hint, _LEAST_PAUSE)
            self._pause(now + pause + refusal.jitter, hinted=bool(hint))
        elif hint:
            self._pause(now + hint + refusal.jitter, hinted=True)
        return 0.0

    def resume(self, now: float, rate: float) -> None:
        """End the pause."""
        self.paused_until = min(self.paused_until, now)
        self._refusals_in_a_row = 0

    def on_lost(self, serial: int, now: float) -> None:
        """Forget a request that gets no response."""
        del self._sent[serial]

    def _pause(self, until: float, *, hinted: bool) -> None:
        if until > self.paused_until:
            self.paused_until = self._resumed_at = until
            self.pause_hinted = hinted


def pace_for(limit: RateLimit) -> Pace:
    """Return the pace that keeps to ``limit``."""
    if limit.rate is not None:
        return FixedPace(limit.rate, limit.burst)
    return AdaptivePace(
        start=limit.start, floor=limit.floor, ceiling=limit.ceiling, knowledge=limit.knowledge
    )
