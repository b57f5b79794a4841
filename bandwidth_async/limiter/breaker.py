"""Decides from responses and failures whether the server is down, and how many retries are allowed.

Theory of operation
    A failure is a 5xx or no response at all. A 429 is no failure: the server is up. Retries help against a
    server that fails now and then. A server that always fails must be left alone, since more requests keep
    it down.

    *Breaker.* `IN_A_ROW` failures in a row open it, if they span half a second at least. While it is open
    nothing is sent for a random half to whole of 1, 2, 4, 5 … seconds, then one request: the probe. A failed
    probe opens the breaker again. A good one closes it, and requests then start at a quarter of the rate,
    which doubles each second, so that the server is not overloaded as it recovers.

    The breaker counts failures in a row, not a share of the last seconds. So it opens soon after the server
    dies, however many responses came before. A server that fails half of the requests opens it once in a
    million requests. The half second is there for a burst of requests that meets one bad moment, such as
    all connections cut at once: that is one event. A gap between two failures adds a tenth of a second at
    most. So a burst, a pause that the server asked for and one failure after it do not open the breaker.
    Requests that were sent before the breaker opened tell nothing about the server now, so their results do
    not count, whenever they come. Nor do failures that are minutes old.

    After a minute of outage the pauses grow to a tenth of the outage, and to 30 seconds at most. So a run
    continues within seconds after a short outage, and seldom probes a server that is down for hours.

    *Silence.* A request that its caller gives up is a failure if it had waited longer than a response
    usually takes, and longer than `LEAST_SILENCE`. Otherwise callers with deadlines shorter than the limit of
    an attempt would never hear that the server hangs. Given up sooner, it says nothing about the server.

    *Closure.* A server that turns requests away, by a 429 or with a time at which it will be back, is neither
    down nor the fault of an id. `Closure` knows since when it has let nothing in at all. While the breaker is
    open, a time that the server named is waited for, as far as the longest pause goes.

    *Budget.* Retries of the last ten seconds may be half as many as its first attempts. Runs may retry until
    they are as many. Fifty retries more are always allowed.

All times are the caller's clock, in seconds.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

# The failures in a row that open the breaker, the seconds that they must span at least, the most that one gap
# adds to them, and the failures that open it again while the server recovers.
IN_A_ROW = 20
_LEAST_SPAN, _MOST_OF_A_GAP = 0.5, 0.1
_IN_A_ROW_RECOVERING = 3

# Seconds. Before the first response nobody knows how long one takes.
LEAST_SILENCE = 0.25

# Attempts without any response since the beginning. That is no outage: the address is wrong.
_UNREACHABLE = 5

# Seconds that a run waits at most for a server which never gave a good response.
_NEVER_UP = 60.0

# The longest pauses before a probe in seconds: the first, the usual ones, and those of long outages. In a
# long outage, a pause is this share of the outage so far.
_SHORTEST, _USUAL, _LONGEST = 1.0, 5.0, 30.0
_OUTAGE_SHARE = 0.1

# Seconds after which a failure says nothing about the server as it is now.
_STALE = 300.0

# The share of the rate that recovery begins with.
_FIRST_SHARE = 0.25

# More doublings than this would only overflow.
_MOST_DOUBLINGS = 64

# The seconds that the budget looks back, and the retries it allows for each first attempt. Single calls come
# as fast as the application makes them. The rate of runs is limited, and a retry takes the place of a first
# attempt there, so runs may retry more.
_WINDOW = 10
_RETRIES_PER_TRY = 0.5
_RETRIES_PER_TRY_IN_RUNS = 1.0
_RETRIES_PER_SECOND = 5.0


class Breaker:
    """Stops the requests while the server is down, except for one probe at a time.

    Each request has a serial: the numbers rise in the order of sending. ``last_sent`` is the newest. While
    the breaker ``is_calm``, a request that is sent and a success change nothing else.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        # Failures since the last success, when the first and the last of them came, and what they span.
        self._failures = 0
        self._failing_since: float | None = None
        self._span = 0.0
        self._failed_at = -math.inf
        # Since the beginning. Any response shows that the address is right; only a success, that it works.
        self._ever_responded = False
        self._ever_succeeded = False
        # Openings since the server last worked at the full rate.
        self._openings = 0
        # When the next probe may be sent, None while the breaker is closed; and the serial of the probe.
        self._probe_at: float | None = None
        self._probe: int | None = None
        self.last_sent: int = 0
        self.is_calm: bool = False
        # The serial of the request that was sent last before the breaker opened.
        self._last_before_open = 0
        # While the server recovers: since when, from what rate, to what rate; and when the next is due.
        self._recovery: tuple[float, float, float] | None = None
        self._due = -math.inf

    def __repr__(self) -> str:
        return f"<Breaker {'open' if self.is_open else 'closed'}, {self._failures} failures in a row>"

    @property
    def is_open(self) -> bool:
        """Whether the server is believed to be down."""
        return self._probe_at is not None

    @property
    def is_doubtful(self) -> bool:
        """Whether it is open, or so many requests failed in a row that no single one is the cause."""
        return self.is_open or self._failures >= IN_A_ROW

    @property
    def in_a_row(self) -> int:
        """How many requests failed since the last that did not."""
        return self._failures

    @property
    def unreachable(self) -> bool:
        """Whether several requests were sent and the server never responded to any."""
        return not self._ever_responded and self._failures >= _UNREACHABLE

    @property
    def ever_answered(self) -> bool:
        """Whether the server ever sent a response that is not a failure."""
        return self._ever_succeeded

    def down_for(self, now: float) -> float:
        """Return the seconds since the first failure in a row, 0 while the breaker is closed."""
        return 0.0 if self._probe_at is None or self._failing_since is None else now - self._failing_since

    def patience(self, outage: float) -> float:
        """Return the seconds that a run waits for a server that fails, given those for one that worked."""
        if self._ever_succeeded:
            return outage
        return 0.0 if self.unreachable else min(outage, _NEVER_UP)

    def paused_for(self, now: float) -> float:
        """Return the seconds until the next probe; while a probe is in flight, the shortest pause."""
        if self._probe_at is None:
            return 0.0
        return _SHORTEST if self._probe is not None else max(0.0, self._probe_at - now)

    def next_time(self, now: float) -> float:
        """Return when the next request may be sent; infinity while the probe is in flight."""
        if self._probe_at is not None:
            return math.inf if self._probe is not None else self._probe_at
        return -math.inf if self._recovery is None else self._due

    def on_send(self, serial: int, now: float) -> None:
        """Note that a request is sent."""
        self.last_sent = serial
        if now - self._failed_at > _STALE:
            self._failures, self._failing_since = 0, None
        if self._probe_at is not None:
            self._probe = serial
        elif self._recovery is not None:
            since, low, high = self._recovery
            rate = low * 2 ** min(now - since, _MOST_DOUBLINGS)
            self._due = max(self._due, now) + 1 / rate
            if rate >= high:
                self._recovery, self._openings = None, 0

    def on_success(self, serial: int, now: float, rate: float) -> None:
        """Learn from a response that is no failure. Recovery leads back to ``rate``, that of the pace."""
        self._ever_responded = self._ever_succeeded = True
        if serial <= self._last_before_open:
            return
        self._failures, self._failing_since = 0, None
        if self._probe_at is not None:
            self._probe_at = self._probe = None
            self._recovery = (now, max(1.0, _FIRST_SHARE * rate), rate)
            self._due = now
        self.is_calm = self._recovery is None

    def on_failure(self, serial: int, now: float, *, answered: bool, hint: float | None = None) -> bool:
        """Learn from a failure, ``answered`` with a 5xx or not at all. Return True if that opened it.

        ``hint`` is the seconds after which the server says that it will be back.
        """
        self._ever_responded |= answered
        if serial <= self._last_before_open:
            return False
        self.is_calm = False
        self._failures += 1
        if self._failing_since is None:
            self._failing_since, self._span = now, 0.0
        else:
            self._span += min(now - self._failed_at, _MOST_OF_A_GAP)
        self._failed_at = now
        if self._probe_at is None and not self._must_open():
            return False
        usual = max(_USUAL, _OUTAGE_SHARE * (now - self._failing_since))
        longest = min(_LONGEST, usual, _SHORTEST * 2 ** min(self._openings, _MOST_DOUBLINGS))
        self._openings += 1
        pause = self._random.uniform(0.5, 1.0) * longest
        self._probe_at = now + max(pause, min(hint or 0.0, _LONGEST))
        self._probe = self._recovery = None
        self._last_before_open = self.last_sent
        return True

    def _must_open(self) -> bool:
        if self._recovery is not None:
            return self._failures >= _IN_A_ROW_RECOVERING
        return self._failures >= IN_A_ROW and self._span >= _LEAST_SPAN

    def on_abandoned(self, serial: int) -> None:
        """Note that a request ended without a result, such as by cancellation."""
        if serial == self._probe:
            self._probe = None


class Closure:
    """The time in which the server turns every request away.

    It does so by a 429, or by a failure that says when to come again. Other failures neither begin nor end
    it. ``in_a_row`` is how many requests it turned away in that time.
    """

    def __init__(self) -> None:
        self.in_a_row: int = 0
        self._since = self._until = -math.inf

    def __repr__(self) -> str:
        return f"<Closure, {self.in_a_row} turned away>"

    def on_turned_away(self, now: float, until: float) -> None:
        """Note a request that was turned away, with the moment at which the next may be sent."""
        # As with failures: who was not asked for minutes after that moment may have been open since.
        if not self.in_a_row or now - self._until > _STALE:
            self.in_a_row, self._since, self._until = 0, now, now
        self.in_a_row += 1
        self._until = max(self._until, until)

    def on_success(self) -> None:
        """Note that a request was let in."""
        self.in_a_row = 0

    @property
    def is_doubtful(self) -> bool:
        """Whether so many requests were turned away in a row that no single one is the cause."""
        return self.in_a_row >= IN_A_ROW

    def lasted(self, now: float) -> float:
        """Return the seconds since the first request that was turned away, 0 if one was let in since."""
        return now - self._since if self.in_a_row else 0.0


class RetryBudget:
    """Allows retries in proportion to the first attempts of the last seconds."""

    def __init__(self) -> None:
        # One list for each second: the second, its first attempts, its retries.
        self._seconds: deque[list[float]] = deque()

    def __repr__(self) -> str:
        tries, retries = self._sums()
        return f"<RetryBudget {retries:g} retries of {tries:g} tries in {_WINDOW} s>"

    def on_try(self, now: float) -> None:
        """Count a first attempt."""
        self._at(now)[1] += 1

    def withdraw(self, now: float, *, bulk: bool) -> bool:
        """Return True and count a retry if the budget allows one."""
        second = self._at(now)
        tries, retries = self._sums()
        share = _RETRIES_PER_TRY_IN_RUNS if bulk else _RETRIES_PER_TRY
        if retries >= share * tries + _RETRIES_PER_SECOND * _WINDOW:
            return False
        second[2] += 1
        return True

    def _at(self, now: float) -> list[float]:
        if self._seconds and now < self._seconds[-1][0] + 1:
            return self._seconds[-1]
        second = math.floor(now)
        while self._seconds and self._seconds[0][0] <= second - _WINDOW:
            self._seconds.popleft()
        self._seconds.append([second, 0, 0])
        return self._seconds[-1]

    def _sums(self) -> tuple[float, float]:
        return sum(tries for _, tries, _ in self._seconds), sum(retries for *_, retries in self._seconds)
