"""Decides whether a 503 that names no time is a refusal of the quota's, or a failure.

Theory
    nginx and others answer 503 to what is over the quota. A server that is down answers 503 too. They differ
    in three ways. A refusal is as quick as any response; others pass at the same time; and there is hardly
    any below a rate. The first two can be seen, so they raise a suspicion: half of the last ten results are
    quick 503s, of several requests, and a request passed that was sent after some of them. The third takes
    an experiment: from then on each quick 503 is told to the pace, which slows down. If a tenth of the
    requests still get one at half of the rate that passed before, and again at half of that, the rate is not
    the cause. Then the pace returns to its rate, and all are failures again for a minute, and after each such
    error for twice as long.

    While nothing at all passes, a 503 is a failure, so that the breaker sees an outage: from the beginning if
    none was suspected to be a refusal, else after five seconds.

Assumptions, and what happens when they do not hold
    A quota is not much coarser than half a second. A window that stays closed for longer looks like an
    outage, and the breaker opens until it ends. A share of the servers that is down is no cause of the rate:
    then the suspicion is false, and costs what the pace loses until its rate was halved twice or three times.
"""

from __future__ import annotations

import math

# The last results that are looked at, and how many are 503s, of how many requests, when they are suspected.
_RECENT, _MANY, _SEVERAL = 10, 5, 3

# A 503 is quick within so many times a usual response, and later so many times the refusals before it.
_QUICK, _ALIKE = 2.0, 3.0

# Results at half of the rate that show whether it was the cause, and the 503s among them if it was not. And
# how often it is halved.
_TRIAL, _TOO_MANY, _HALVINGS = 50, 6, 2

# A 503 behind a request that passed, at less than this share of the rate at the suspicion, has another cause.
_FAR_BELOW = 1 / 16

# Seconds in which nothing passed although it was asked for, and the 503s in a row that show it.
_SHUT, _ROW = 5.0, 3

# Seconds for which a suspicion that was false is not raised again.
_DISTRUST, _LONGEST_DISTRUST = 60.0, 3600.0


class BusyServer:
    """Looks at every result, and tells which 503s without a time are refusals."""

    def __init__(self) -> None:
        # One bit for each of the last results, 1 for a quick 503, and 503s in a row.
        self._recent = self._row = 0
        # Of the latest 503s: the requests, by their place, and the serial of the last one that counts.
        self._places: set[int] = set()
        self._witness = 0
        # The rate at the suspicion, and what passed of it, None without one; results at half of that, the
        # 503s among them, and how often there were too many.
        self.rate: float = 0.0
        self._rate: float | None = None
        self._results = self._refused = self._halvings = 0
        # How long refusals take.
        self._took = 0.0
        self._passed_at = -math.inf
        # Suspicions that were false.
        self.mistakes: int = 0
        self._distrust, self._trusted_at = _DISTRUST, -math.inf

    def __repr__(self) -> str:
        return f"<BusyServer, 503 {'is a refusal' if self.refuses else 'is a failure'}>"

    @property
    def refuses(self) -> bool:
        """Whether a quick 503 is believed to be a refusal."""
        return self._rate is not None

    def on_passed(self, serial: int, now: float, rate: float) -> None:
        """Learn that a request was let in."""
        self._row, self._passed_at = 0, now
        self._recent = self._recent << 1 & (1 << _RECENT) - 1
        if self._rate is not None:
            self._judge(self._rate, now, rate, refused=False)
        elif self._recent:
            self._suspect(serial, rate)
        elif self._places:
            self._places.clear()

    def is_refusal(
        self, serial: int, now: float, *, place: int, took: float, usual: float, rate: float
    ) -> bool:
        """Return whether this 503 is a refusal. It ``took`` seconds; a good response takes ``usual``."""
        limit = _QUICK * usual if self._rate is None else min(_QUICK * usual, _ALIKE * self._took)
        if now < self._trusted_at or took > limit:
            return False
        self._took += (took - self._took) / 8 if self._took else took
        self._row += 1
        self._recent = (self._recent << 1 | 1) & (1 << _RECENT) - 1
        if len(self._places) < _SEVERAL:
            self._places.add(place)
            self._witness = serial
        if self._rate is not None:
            if self._row >= _ROW and now - self._passed_at > _SHUT:
                self.forget()
                return False
            self._judge(self._rate, now, rate, refused=True)
        return self._rate is not None

    def forget(self) -> None:
        """Take no 503 for a refusal until it is suspected anew."""
        self._recent, self._rate = 0, None
        self._places.clear()

    def _suspect(self, passed: int, rate: float) -> None:
        several = len(self._places) >= _SEVERAL and passed > self._witness
        if several and self._recent.bit_count() >= _MANY:
            self.rate, self._rate = rate, rate * (1 - self._recent.bit_count() / _RECENT)
            self._results = self._refused = self._halvings = 0

    def _judge(self, suspected: float, now: float, rate: float, *, refused: bool) -> None:
        """Count a result at half of the rate that passed. Too many refusals, twice, end the suspicion."""
        if rate > suspected / 2:
            return
        self._results += 1
        self._refused += refused
        if refused and self._row == 1 and rate < _FAR_BELOW * self.rate:
            self._end_mistake(now)
        elif self._refused >= _TOO_MANY:
            self._halvings += 1
            self._rate, self._results, self._refused = rate, 0, 0
        elif self._results >= _TRIAL:
            self._results = self._refused = self._halvings = 0
        if self._halvings >= _HALVINGS:
            self._end_mistake(now)

    def _end_mistake(self, now: float) -> None:
        """Take 503s for failures for some time: the suspicion was false."""
        self.forget()
        self._halvings = 0
        self.mistakes += 1
        self._trusted_at = now + self._distrust
        self._distrust = min(2 * self._distrust, _LONGEST_DISTRUST)
