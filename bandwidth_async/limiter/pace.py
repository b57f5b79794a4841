"""What the user asks for, what every pace answers, and the pace of a user who knows the quota."""

from __future__ import annotations

import math
from typing import Protocol, Self

from attrs import field, frozen, validators

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.limiter.adaptive import AdaptivePace
from bandwidth_async.validators import above_zero, at_least

_LATENESS = 0.004  # seconds of timer overshoot that are paid back; else an even pacer runs 20 % slow
_SHORTEST_PAUSE = 0.1  # seconds, without a hint; doubles with each refusal in a row
_LONGEST_PAUSE = 15.0


@frozen
class RateLimit:
    """How fast to send.

    ``rate``
        Requests per second, kept to whatever the server says; None finds out what it allows.
    ``burst``
        How many may leave at once after a rest, with a given rate. A server that counts in windows refuses
        what exceeds its count: leave it at 1 unless you know that it is a token bucket of that depth.
    ``start``, ``floor``, ``ceiling``
        Of a rate that is found out: where to begin (a rate learned before), and its bounds.
    """

    rate: float | None = field(default=None, validator=validators.optional(above_zero("requests per second")))
    burst: int = field(default=1, validator=at_least(1, "requests that may leave at once"))
    start: float | None = field(
        default=None, validator=validators.optional(above_zero("requests per second")), kw_only=True
    )
    floor: float = field(default=0.1, validator=above_zero("requests per second"), kw_only=True)
    ceiling: float = field(
        default=math.inf, validator=above_zero("requests per second", endless=True), kw_only=True
    )

    def __attrs_post_init__(self) -> None:
        if self.floor > self.ceiling:
            raise ConfigurationError(f"floor {self.floor:g} is above ceiling {self.ceiling:g}: swap them")
        if self.rate is not None and self.start is not None:
            raise ConfigurationError("start begins a rate that is found out: leave out rate, or start")

    @classmethod
    def fixed(cls, rate: float, burst: int = 1) -> Self:
        """Return a limit of exactly ``rate`` requests per second."""
        return cls(rate, burst)

    @classmethod
    def adaptive(cls, *, start: float | None = None, floor: float = 0.1, ceiling: float = math.inf) -> Self:
        """Return a limit that is found out, between ``floor`` and ``ceiling``."""
        return cls(start=start, floor=floor, ceiling=ceiling)


class Pace(Protocol):
    """Says when the next request may leave, and learns from the answers. All times are the caller's clock.

    Each `on_send` gives a ticket, which one of the other four takes back.
    """

    rate: float
    quota: float | None
    paused_until: float
    pause_hinted: bool

    def next_time(self, now: float, in_flight: int) -> float:
        """Return when the next request may leave: a past moment is at once, inf not before an answer."""

    def earliest(self, ahead: int) -> float:
        """Return a moment before which a request with ``ahead`` others before it surely does not leave."""

    def on_send(self, now: float, in_flight: int) -> int:
        """Take note of a request that leaves now, beside ``in_flight`` others, and return its ticket."""

    def on_unsent(self, ticket: int) -> None:
        """Take back a request that did not leave after all."""

    def on_accepted(self, ticket: int, now: float, *, wanted: bool) -> None:
        """Learn from an answer other than 429; ``wanted`` says that more requests are waiting."""

    def on_refused(self, ticket: int, now: float, hint: float | None, jitter: float = 0.0) -> None:
        """Learn from a 429 that asks for ``hint`` seconds (None: does not say); wait ``jitter`` more."""

    def on_lost(self, ticket: int, now: float) -> None:
        """Take note that no answer will come: that is no evidence of anything."""


class FixedPace:
    """A given rate, and pauses where the server asks for them.

    A 429 shuts the door for everybody: until the hint has passed, or without one for a time that doubles
    with each refusal in a row. What is out already will be refused too; that is the same event, so only a
    request that was sent through the open door can shut it once more.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self.rate = rate
        self.quota: float | None = None
        self.paused_until: float = -math.inf
        self.pause_hinted: bool = False
        self._early = max((burst - 1) / rate, _LATENESS)
        self._due = -math.inf  # when the next request is due at an even pace
        self._opened_at = -math.inf
        self._refusals = 0  # in a row
        self._sent: dict[int, float] = {}
        self._count = 0

    def next_time(self, now: float, in_flight: int) -> float:
        """Return when the next request may leave."""
        return max(self.paused_until, self._due - self._early)

    def earliest(self, ahead: int) -> float:
        """Return when a request with ``ahead`` others before it leaves, when nothing is refused."""
        due = max(self._due, self.paused_until)
        return max(self.paused_until, due - self._early + ahead / self.rate)

    def on_send(self, now: float, in_flight: int) -> int:
        """Take note of a request that leaves now."""
        self._due = max(self._due, now) + 1 / self.rate
        self._count += 1
        self._sent[self._count] = now
        return self._count

    def on_unsent(self, ticket: int) -> None:
        """Take back a request that did not leave after all."""
        del self._sent[ticket]
        self._due -= 1 / self.rate

    def on_accepted(self, ticket: int, now: float, *, wanted: bool) -> None:
        """Learn that the door is open."""
        if self._sent.pop(ticket) >= self._opened_at:
            self._refusals = 0

    def on_refused(self, ticket: int, now: float, hint: float | None, jitter: float = 0.0) -> None:
        """Shut the door.

        A hint of 0 says that it is open again, which is believed once: when the next request is refused
        as well, it counts as none.
        """
        if self._sent.pop(ticket) >= self._opened_at:
            self._refusals += 1
            pause = min(_SHORTEST_PAUSE * 2 ** min(self._refusals - 1, 16), _LONGEST_PAUSE)
            if hint is not None and (hint > 0 or self._refusals == 1):
                pause = max(hint, _LATENESS)
            self._pause(now + pause + jitter, hinted=bool(hint))
        elif hint:
            self._pause(now + hint + jitter, hinted=True)

    def on_lost(self, ticket: int, now: float) -> None:
        """Forget a request without an answer."""
        del self._sent[ticket]

    def _pause(self, until: float, *, hinted: bool) -> None:
        if until > self.paused_until:
            self.paused_until = self._opened_at = until
            self.pause_hinted = hinted


def pace_for(limit: RateLimit) -> Pace:
    """Return the pace that keeps to ``limit``."""
    if limit.rate is not None:
        return FixedPace(limit.rate, limit.burst)
    return AdaptivePace(start=limit.start, floor=limit.floor, ceiling=limit.ceiling)
