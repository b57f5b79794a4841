"""Whether the server is alive, and how much may be repeated: decided from answers and failures alone.

Theory of operation
    A failure is a 5xx or no answer at all; a 429 is an answer, for who refuses is alive. A server that fails
    now and then is met with retries. One that fails always must not be: what does not help it holds it down.

    *Breaker.* `IN_A_ROW` failures without one answer between them, over half a second at least, open it:
    nothing leaves for a random half to whole of 1, 2, 4, 5 … seconds, then one request, the probe. A failed
    probe opens it again, a good one closes it, and what waited goes at a quarter of the rate, doubling each
    second, so that nobody is run over in the moment of getting up. Counting in a row, and not a share of the
    last seconds, makes it open soon after a server's death, however many answers there were before; a server
    that fails half of the time opens it once in a million requests. The half second is for a volley that
    meets one bad moment: all its connections cut at once are one event. What left before it opened tells of
    a server that was, so it counts for nothing, whenever it comes back; nor does what is minutes old.

    After a minute's outage the pauses grow to a tenth of it and to 30 seconds at most, so that a run comes
    back within seconds of a short one and does not pester a server that is down for the morning.

    *Budget.* Retries in the last ten seconds may be half as many as first tries (of runs: as many), and a few
    a second more.

All times are the caller's clock, in seconds.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

IN_A_ROW = 20
_ROW_SPAN = 0.5  # seconds
_IN_A_ROW_AGAIN = 3  # while it is getting up
_UNREACHABLE = 5  # attempts without any answer since the beginning: that is no outage, it is a wrong address
_SHORTEST, _USUAL, _LONGEST = 1.0, 5.0, 30.0  # seconds between probes: first, soon, and after long outages
_OUTAGE_SHARE = 0.1  # of the outage so far
_STALE = 300.0  # seconds after which a failure tells nothing of the server as it is now
_FIRST_SHARE = 0.25  # of the rate, after a good probe
_MOST_DOUBLINGS = 64  # more would only overflow
_WINDOW = 10  # seconds that the budget looks back
_RETRIES_PER_TRY = 0.5  # of single calls, which come as fast as others send them
_RETRIES_PER_TRY_IN_RUNS = 1.0  # whose rate the limiter holds: a retry takes the place of a first try
_RETRIES_PER_SECOND = 5.0


class Breaker:
    """Lets requests leave, one at a time or none while the server is down."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._row = 0  # failures since the last answer
        self._answers = 0  # that are no failures, since the beginning
        self._heard = False  # an answer of any kind
        self._trips = 0  # since the server was last well
        self._opens_at: float | None = None  # when the next probe may leave; None while closed
        self._probe: int | None = None
        self._latest = self._before = 0  # tickets: sent last, and sent last before it opened
        self._since: float | None = None  # of the first failure in the row
        self._failed_at = -math.inf  # the last failure in the row
        self._ramp: tuple[float, float, float] | None = None  # since when, from what rate, to what rate
        self._due = -math.inf  # in the ramp

    def __repr__(self) -> str:
        return f"<Breaker {'open' if self.is_open else 'closed'}, {self._row} failures in a row>"

    @property
    def is_open(self) -> bool:
        """Whether the server is taken to be down."""
        return self._opens_at is not None

    @property
    def is_doubtful(self) -> bool:
        """Whether so many requests failed in a row that no single one is to blame, open or not yet."""
        return self.is_open or self._row >= IN_A_ROW

    @property
    def unreachable(self) -> bool:
        """Whether several requests were sent and not one was ever answered."""
        return not self._heard and self._row >= _UNREACHABLE

    @property
    def ever_answered(self) -> bool:
        """Whether there was any answer that is not a failure."""
        return self._answers > 0

    def down_for(self, now: float) -> float:
        """Return for how long there have been failures only, 0 while it is closed."""
        return 0.0 if self._opens_at is None or self._since is None else now - self._since

    def shut_for(self, now: float) -> float:
        """Return the seconds in which no request leaves; a probe that is out counts as the shortest pause."""
        if self._opens_at is None:
            return 0.0
        return _SHORTEST if self._probe is not None else max(0.0, self._opens_at - now)

    def next_time(self, now: float) -> float:
        """Return when the next request may leave; inf when the probe has to be answered first."""
        if self._opens_at is not None:
            return math.inf if self._probe is not None else self._opens_at
        return -math.inf if self._ramp is None else self._due

    def on_send(self, ticket: int, now: float) -> None:
        """Take note of a request that leaves."""
        self._latest = ticket
        if now - self._failed_at > _STALE:
            self._row, self._since = 0, None
        if self._opens_at is not None:
            self._probe = ticket
        elif self._ramp is not None:
            since, low, high = self._ramp
            rate = low * 2 ** min(now - since, _MOST_DOUBLINGS)
            self._due = max(self._due, now) + 1 / rate
            if rate >= high:
                self._ramp, self._trips = None, 0

    def on_answer(self, ticket: int, now: float, rate: float) -> None:
        """Learn that the server is alive; ``rate``, the pace's own, is what getting up leads back to."""
        self._answers += 1
        self._heard = True
        if ticket <= self._before:
            return
        self._row, self._since = 0, None
        if self._opens_at is not None:
            self._opens_at = self._probe = None
            self._ramp = (now, max(1.0, _FIRST_SHARE * rate), rate)
            self._due = now

    def on_failure(self, ticket: int, now: float, *, answered: bool) -> bool:
        """Learn that a request failed, ``answered`` with a 5xx or not at all; say whether that opened it."""
        self._heard |= answered
        if ticket <= self._before:
            return False
        self._row += 1
        self._failed_at = now
        if self._since is None:
            self._since = now
        if self._opens_at is None and not self._is_enough(now - self._since):
            return False
        usual = max(_USUAL, _OUTAGE_SHARE * (now - self._since))
        longest = min(_LONGEST, usual, _SHORTEST * 2 ** min(self._trips, _MOST_DOUBLINGS))
        self._trips += 1
        self._opens_at = now + self._random.uniform(0.5, 1.0) * longest
        self._probe = self._ramp = None
        self._before = self._latest
        return True

    def _is_enough(self, span: float) -> bool:
        if self._ramp is not None:
            return self._row >= _IN_A_ROW_AGAIN
        return self._row >= IN_A_ROW and span >= _ROW_SPAN

    def on_gone(self, ticket: int) -> None:
        """Learn that a request was given up before it could tell anything."""
        if ticket == self._probe:
            self._probe = None


class RetryBudget:
    """How many retries are affordable, from the first tries of the last seconds."""

    def __init__(self) -> None:
        self._seconds: deque[list[float]] = deque()  # second, tries, retries

    def __repr__(self) -> str:
        tries, retries = self._sums()
        return f"<RetryBudget {retries:g} retries of {tries:g} tries in {_WINDOW} s>"

    def on_try(self, now: float) -> None:
        """Count a first try."""
        self._at(now)[1] += 1

    def withdraw(self, now: float, *, bulk: bool) -> bool:
        """Say whether a retry is affordable, and count it when it is."""
        second = self._at(now)
        tries, retries = self._sums()
        share = _RETRIES_PER_TRY_IN_RUNS if bulk else _RETRIES_PER_TRY
        if retries >= share * tries + _RETRIES_PER_SECOND * _WINDOW:
            return False
        second[2] += 1
        return True

    def _at(self, now: float) -> list[float]:
        second = math.floor(now)
        while self._seconds and self._seconds[0][0] <= second - _WINDOW:
            self._seconds.popleft()
        if not self._seconds or self._seconds[-1][0] < second:
            self._seconds.append([second, 0, 0])
        return self._seconds[-1]

    def _sums(self) -> tuple[float, float]:
        return sum(tries for _, tries, _ in self._seconds), sum(retries for *_, retries in self._seconds)
