"""When the next request may leave: the deciding part of the limiter, without clock, tasks or sockets.

Theory of operation
    Requests leave evenly, at ``rate`` per second, and up to ``burst`` at once after a rest: even spacing is
    accepted by token buckets, fixed windows and sliding windows alike. Timers come late, so whatever was
    due in the last 4 ms may leave together; at 1,000 a second these are four. A 429 concerns the whole
    account, so it shuts the door for every request: until the server's hint has passed, or without one
    for a time that doubles with each refusal in a row.

    What is out already when the door shuts will be refused too. Those refusals are the same event: only a
    request that was sent after the door opened again can shut it once more. So a burst of refusals costs
    one pause and, where the rate is ours to find, one cut.

    Without a rate given, it is sought: doubled every half second until the first refusal, cut by a
    quarter at each refusal, and raised by a few percent a second in between.

Every ``now`` is the caller's clock, in seconds.
"""

from __future__ import annotations

import math

from attrs import field, frozen

from bandwidth_async.checks import above_zero, at_least

_START_RATE = 20.0  # requests/s before anything is known: two or three are out before the first answer
_FIRST_GROWTH = 4.0  # of the rate, a second, until the first refusal: doubles every half second
_LATER_GROWTH = 1.04
_CUT = 0.75
_FLOOR = 0.5  # requests/s
_CEILING = 1e5
_SHORTEST_PAUSE = 0.1  # seconds, without a hint; doubles with each refusal in a row
_LONGEST_PAUSE = 15.0
_LATENESS = 0.004  # seconds of timer overshoot that are paid back; else an even pacer runs 20 % slow


@frozen
class RateLimit:
    """How fast to send: ``rate`` requests per second, and up to ``burst`` at once after a rest.

    A server that counts in windows refuses what exceeds its count: keep ``rate`` below the quota and
    ``burst`` at 1 unless you know that it is a token bucket of that depth.
    """

    rate: float = field(validator=above_zero("requests per second"))
    burst: int = field(default=1, validator=at_least(1, "requests that may leave at once"))


class Pacer:
    """Says when the next request may leave, and learns from the answers."""

    def __init__(self, limit: RateLimit | None = None) -> None:
        self.rate = limit.rate if limit else _START_RATE
        self.paused_until = -math.inf
        self._seeks = limit is None
        self._burst = limit.burst if limit else 1
        self._due = -math.inf  # when the next request is due at an even pace
        self._shut_at = -math.inf  # the last time the door was shut
        self._refusals = 0  # in a row
        self._grown_at = -math.inf

    def next_time(self) -> float:
        """Return when the next request may leave; a moment that has passed means at once."""
        early = max((self._burst - 1) / self.rate, _LATENESS)
        return max(self.paused_until, self._due - early)

    def earliest(self, ahead: int) -> float:
        """Return a moment before which a request with ``ahead`` others before it surely does not leave."""
        return -math.inf if self._seeks else self.next_time() + ahead / self.rate

    def on_send(self, now: float) -> None:
        """Take note of a request that leaves now."""
        self._due = max(self._due, now) + 1 / self.rate

    def on_unsent(self) -> None:
        """Take back the last `on_send`: its request was cancelled before it left."""
        self._due -= 1 / self.rate

    def on_accepted(self, sent_at: float, now: float, *, wanted: bool) -> None:
        """Learn from an answer other than 429; ``wanted`` says that more requests are waiting."""
        if sent_at >= self._shut_at:
            self._refusals = 0
        if not self._seeks or not wanted or sent_at < self._shut_at:
            self._grown_at = now
            return
        elapsed = min(max(0.0, now - self._grown_at), 0.5)
        growth = _FIRST_GROWTH if self._shut_at == -math.inf else _LATER_GROWTH
        self.rate = min(self.rate * growth**elapsed, _CEILING)
        self._grown_at = now

    def on_refused(self, sent_at: float, now: float, hint: float | None) -> None:
        """Learn from a 429 that asks for ``hint`` seconds.

        None means that it does not say. 0 means that the door is open again, which is believed once: when
        the next request is refused as well, it counts as None.
        """
        if sent_at >= max(self._shut_at, self.paused_until):
            self._shut_at = now
            self._refusals += 1
            if self._seeks:
                self.rate = max(_FLOOR, self.rate * _CUT)
            pause = min(_SHORTEST_PAUSE * 2 ** min(self._refusals - 1, 16), _LONGEST_PAUSE)
            if hint is not None and (hint > 0 or self._refusals == 1):
                pause = max(hint, _LATENESS)
            self.paused_until = max(self.paused_until, now + pause)
        elif hint:
            self.paused_until = max(self.paused_until, now + hint)
