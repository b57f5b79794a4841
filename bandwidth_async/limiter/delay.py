"""Keeps a server that queues before it refuses from being filled: a limit of the requests in flight.

Theory
    A server that queues answers every request, only later: each request beyond what it can do waits behind
    the others. So the time of an answer grows with the requests in flight, while the answers a second stay
    as they are. By Little's law, requests in flight = answers a second * seconds of an answer. The most that
    does any good is the best rate of answers * the seconds of an answer without a queue; more of them only
    wait at the server. As in BBR's congestion control, nearly twice that number may be in flight. Then an
    answer takes twice as long at most, and nothing is held back while the server keeps up: a rate that nearly
    doubles with each answer is let through.

    Answers are counted in batches, whose means are smoothed, so that answers which vary do not matter. The
    lowest mean is taken for the time without a queue.

    *Is it our queue?* When the limit holds requests back and answers take more than twice as long all the
    same, the limit is halved for one batch. If as many answers come a second, they had waited in a queue, and
    the server has become slower: its rate is learned anew. If half as many come, answers take longer for
    another reason, and that is the time without a queue from now on.

    *Are there several kinds of answers?* In one queue, answers that come one after the other have waited for
    about the same time. If the longest of a batch took many times as long as the quickest, they were not in
    one queue, and nothing is held back. The quick ones are answered first, so a mean would be too low.

Assumptions, and what happens when they do not hold
    The first batch meets no queue. Otherwise answers may take twice as long as that. Answers keep coming:
    when none comes for several times the usual time, the server hangs, and that is not judged here. Our own
    event loop takes in an answer within 50 ms. Where it is later, that looks like a queue.
"""

from __future__ import annotations

import math

# Answers of a batch at least, and the gain with which means of batches are smoothed.
_BATCH, _GAIN = 16, 0.25

# So many times the quickest answer of a batch is of another kind, and batches that are not judged then.
_OTHER_KIND, _UNJUDGED = 20.0, 64

# Requests in flight, as a share of those that keep the server busy; and how many are always allowed.
_MOST, _LEAST = 1.7, 10

# Answers that take longer than so many times the time without a queue are looked into; and the share of the
# answers a second that half of the requests still get, if they had waited in a queue.
_LONG, _AS_MANY = 2.2, 0.75

# Seconds. A shorter time of an answer is no longer than what a busy event loop adds to it.
_LEAST_FLOOR = 0.05

# Without an answer for so many seconds, or so many times an answer's time, the limit does not hold.
_SILENCE, _SILENT = 0.25, 4.0


class DelayLimit:
    """Limits the requests in flight to those that keep the server busy."""

    def __init__(self) -> None:
        self.limit: float = math.inf
        # Of the batch: answers, the sum of their seconds, when it began, whether the limit held any back.
        self._count, self._sum, self._began, self._held = 0, 0.0, -math.inf, False
        # Seconds of the quickest and of the longest answer of the batch, and batches that are not judged.
        self._quickest, self._longest, self._unjudged = math.inf, 0.0, 0
        # Seconds of an answer, smoothed, and without a queue; and the best answers a second.
        self._mean = self._floor = self._best = 0.0
        # Answers a second before the limit was halved, 0 while it is not; and when it was.
        self._before, self._since = 0.0, -math.inf
        self._answered_at = -math.inf

    def __repr__(self) -> str:
        return f"<DelayLimit {self.limit:.4g} in flight, {self._floor:.3g} s without a queue>"

    def next_time(self, in_flight: int) -> float:
        """Return when another request may be sent beside ``in_flight``, if no answer comes before."""
        if in_flight < self.limit:
            return -math.inf
        self._held = True
        return self._answered_at + max(_SILENCE, _SILENT * self._mean)

    def on_answer(self, seconds: float, now: float) -> None:
        """Learn from a good answer, which took ``seconds``."""
        self._answered_at = now
        if now - seconds < self._since:
            return
        if not self._count:
            self._began, self._sum, self._held = now, 0.0, False
            self._quickest, self._longest = math.inf, 0.0
        self._count += 1
        self._sum += seconds
        self._quickest, self._longest = min(self._quickest, seconds), max(self._longest, seconds)
        if self._count > _BATCH and now - self._began >= self._mean / 2:
            span = max(now - self._began, 1e-6)
            self._learn(self._sum / self._count, (self._count - 1) / span, now)
            self._count = 0

    def _learn(self, mean: float, rate: float, now: float) -> None:
        """Learn from a batch: the mean seconds of its answers, and the answers a second."""
        if self._longest > _OTHER_KIND * self._quickest:
            self._unjudged = _UNJUDGED
        if self._unjudged:
            self._unjudged -= 1
            self.limit, self._mean, self._floor, self._best, self._before = math.inf, mean, 0.0, 0.0, 0.0
            return
        if self._before:
            self._conclude(mean, rate)
        self._mean += (mean - self._mean) * _GAIN if self._mean else mean
        self._floor = max(min(self._floor or self._mean, self._mean), _LEAST_FLOOR)
        self._best = max(self._best, rate)
        self.limit = max(_LEAST, _MOST * self._best * self._floor)
        if self._held and mean > _LONG * self._floor:
            self._before, self._since = rate, now
            self.limit = max(1.0, self.limit / 2)

    def _conclude(self, mean: float, rate: float) -> None:
        """Decide from a batch at half of the limit why answers had taken long."""
        if rate > _AS_MANY * self._before:
            self._best = rate
        else:
            self._floor = self._mean = mean
        self._before = 0.0
