"""Finds out the quota: a pace that measures how many requests the server accepts.

Theory of operation
    The server accepts a request or refuses it with a 429. All that can be learned is how many requests it
    accepted between two moments. So this is an estimator and a throttle.

    *Pace.* While the server accepts, requests are sent evenly at ``rate``. Evenly spaced requests make every
    kind of limiter behave alike: below the quota it refuses nothing, above it a few requests a second.

    *Closure and probe.* A refusal begins a closure: nothing is sent until the time of the hint has passed.
    Without a hint, one request at a time is sent as a probe. Refusals come quickly, as the server does no
    work for them. So a probe that was not refused within twice the time of a refusal was accepted, and the
    closure ends. The next request then follows at the even pace. Sent at once, it would be refused by a
    bucket without depth. After a refused probe, the next waits as long again as the closure has lasted. Thus
    many refusals at once are one event, and a closed window costs the logarithm of its length in probes.

    *Measure.* A cycle runs from the end of one closure to the end of the next. The requests that were sent in
    it and not refused, divided by its length, are the quota. That is exact for a bucket that was empty at
    both ends, and for a window. Requests without a response yet count as accepted. To count responses would
    measure less the slower they are. Four cases differ:

    - The rate was growing. Then the cycle averages over lower rates of the past. The quota lies between two
      other measures: the last second before the refusal, which is exact for a window, and the last moments
      before it, which are nearly exact for a bucket.
    - Growth was refused near the quota that was known before. Then it has mostly found the depth of a bucket,
      and the quota lies between the known one and the measure. After a hint in whole seconds, where closures
      are dear, the lower of the two measures is used.
    - The cycle is too short to count. Then the last second is measured instead, closures included.
    - The closure was much longer than the sample. Then the server counts in a long window, and the cycle is
      the measure even so. Its length is remembered: after a raise, a whole window passes before the next.

    A part of a closure may be rounding: a hint in whole seconds, or the time between probes. Then the quota
    lies in a bracket.

    *Converge.* Restart inside the bracket, at least 2 % below the refused rate, and rise slowly to the top of
    the bracket, fast at first.

    *Grow.* After a quiet time, raise the rate by 2, 3, 4.5 … 100 % a step until a refusal, but never while no
    request waits. The start follows the same rule. It begins with 100 %, in steps as short as responses are
    quick. A closure before three requests were accepted is no measure. Then continue as at the start, at half
    the rate. But if any request was accepted, each refused probe shows that no more are accepted in that much
    time. Then do not send faster than that. Do not send slower than 1/s either, since other clients may have
    used most of the window.

    *Pay.* Growth causes refusals, and pays for them. A closure is followed by a quiet time, so long that the
    closure took 2.5 % of the time and its refusals were 0.5 % of the requests. The quiet lasts at most ten
    times as long as what was measured, since a few requests measure roughly. Below the highest rate that was
    measured, the peak, the quiet is shorter in proportion, as quotas that drop often come back. Each growth
    that does not reach the peak again takes 30 % off it.

    *Slots.* A server that limits how many requests are in service refuses when many are in flight, whatever
    the rate. Two closures in a row are taken for that when they began with alike numbers in flight, which
    hardly any accepted request had. From then on fewer are in flight, and the rate may rise. Before the
    second of these closures the quiet is short. A refusal below that number, or right after a closure,
    disproves it.

Why it converges, for a quota r: above r a refusal comes after at most burst / (rate - r) seconds, and each
restart is lower by at least 2 %. Below r nothing is refused, so growth resumes with ever larger steps. A
whole cycle measures r to within (burst + 1) / its length, so brackets shrink as cycles grow longer.
"""

from __future__ import annotations

import math
from collections import deque

from attrs import define

# Requests per second at the start. Two or three requests are sent before the first response.
_START = 20.0

# Seconds and requests between two raises before any refusal.
_FIRST_STEP, _FIRST_STEP_REQUESTS = 0.24, 6

# Before any refusal, a step is as short as this many responses take, but no shorter than these seconds.
_FIRST_STEP_ANSWERS, _LEAST_FIRST_STEP = 3.0, 0.05

# Seconds and requests between two raises after the first refusal.
_STEP, _STEP_REQUESTS = 0.5, 16

# The first raise of a growth, and the factor from one raise to the next.
_FIRST_RAISE, _RAISE_FACTOR = 0.02, 1.5

# The highest restart, as a share of the refused rate.
_RESTART = 0.98

# Requests per second that are sent at least while nothing is measured.
_LEAST_BLIND = 1.0

# A short sample never cuts the rate to less than this share of the refused rate.
_LEAST_CUT = 0.5

# Seconds and requests that are counted at least.
_SAMPLE = 1.0
_LEAST = 8

# Fewer accepted requests than this make no first measure.
_LEAST_MEASURED = 3

# Seconds or requests that show what the server accepts just before a refusal.
_BRIEF, _BRIEF_REQUESTS = 0.2, 50

# The longest window in seconds that is remembered. A longer closure is an outage.
_LONGEST_WINDOW = 60.0

# The share of the remembered window that is kept with each cycle.
_FADE = 0.8

# Where in the bracket to restart: after a hint, and after probes.
_COARSE_SHARE, _PROBED_SHARE = 0.7, 0.6

# The shares of the time and of the requests that closures and their refusals may cost.
_TIME_PRICE, _REFUSAL_PRICE = 0.025, 0.005

# Seconds of quiet after a closure.
_SHORTEST_QUIET, _LONGEST_QUIET = 0.5, 300.0

# The quiet lasts at most this many times as long as the cycle that was measured.
_TRUST = 10.0

# The share of the peak that is kept when growth did not reach it again.
_PEAK_FADE = 0.7

# Growth to more than this many times the known quota has found another quota.
_RISE = 1.5

# Where to restart between the known quota and what growth seemed to find.
_GROWTH_SHARE = 0.35

# Seconds between probes at most.
_LONGEST_PROBE_GAP = 15.0

# Timers fire late by some milliseconds. A request may be sent this many seconds before it is due.
_LATENESS = 0.004

# Closures in a row that must look like a limit of slots.
_SUSPICIONS = 2

# The share by which the numbers in flight at these closures may differ.
_ALIKE = 0.25

# Seconds of quiet at most before the last of these closures.
_SUSPENSE = 5.0

# With more slots than this, the server is taken to have no limit of slots.
_MOST_SLOTS = 10_000

# Seconds between two raises of the slots.
_SLOT_STEP = 1.0

# Accepted requests that are remembered one by one.
_MEMORY = 20_000


# A named tuple would take twice as long to make.
@define(eq=False)
class _Sent:
    at: float
    in_flight: int


class AdaptivePace:
    """Seeks the highest rate that the server accepts. The module explains the theory."""

    def __init__(self, *, start: float | None = None, floor: float = 0.1, ceiling: float = math.inf) -> None:
        self.rate: float = min(max(start or _START, floor), ceiling)
        self.quota: float | None = None
        self.paused_until: float = -math.inf
        self.pause_hinted: bool = False
        self._floor, self._ceiling = floor, ceiling
        self._due = -math.inf
        self._unsettled: dict[int, _Sent] = {}
        self._admitted: deque[_Sent] = deque(maxlen=_MEMORY)
        self._serial = 0
        # When the last closure ended, and when the present one began. None without a closure.
        self._opened_at = math.nan
        self._closed_at: float | None = None
        # The refused request that began the closure, and the rate then.
        self._refused = _Sent(-math.inf, 0)
        self._refused_rate = self.rate
        # When the latest of all refused requests was sent, and the refusals since the last closure ended.
        self._latest_refused = -math.inf
        self._refusals = 0
        # Whether the last hint was in whole seconds, and the seconds that a refusal takes, smoothed.
        self._coarse = False
        self._refusal_time: float | None = None
        # The serial of the probe in flight, and when the last probe was sent.
        self._probe: int | None = None
        self._probed_at = -math.inf
        # When the cycle began, and the requests sent since and not refused.
        self._mark = -math.inf
        self._since_mark = 0
        # Seconds of the closures of this cycle that may be rounding, and that were spent on probes.
        self._slack = 0.0
        self._closures = 0.0
        # Seconds of the present closure in which no request wanted to end it.
        self._unwanted = 0.0
        # When requests began to come after the last idle time.
        self._busy_since = -math.inf
        # The window of the server when it is long, the quota by a cycle without growth, and the peak.
        self._window = 0.0
        self._known = 0.0
        self._peak = 0.0
        # The next raise, and when it is due.
        self._growing = True
        self._raise = 1.0 if start is None else _FIRST_RAISE
        self._raise_at = -math.inf
        # When a raise was last decided on, and the serial sent last then.
        self._raised_at, self._raised_serial = -math.inf, 0
        # The end of the quiet time, and the rates from which and to which the pace rises in it.
        self._quiet_until = -math.inf
        self._base = self._top = self.rate
        # How many requests may be in flight, and the numbers in flight at closures that look like slots.
        self._slots = math.inf
        self._suspects: list[int] = []

    def __repr__(self) -> str:
        state = "open" if self._closed_at is None else "closed"
        return f"<AdaptivePace {self.rate:.4g}/s, quota {self.quota or math.nan:.4g}/s, {state}>"

    def next_time(self, now: float, in_flight: int) -> float:
        """Return when the next request may be sent; infinity when a response has to come first."""
        if self._closed_at is None:
            return math.inf if in_flight >= self._slots else self._due - _LATENESS
        if self._probe is None or self.pause_hinted:
            return self.paused_until
        return self._probed_at + self._probe_wait()

    def earliest(self, ahead: int) -> float:
        """Return minus infinity, since this rate may rise at any time."""
        return -math.inf

    def on_send(self, now: float, in_flight: int) -> int:
        """Note that a request is sent, and return its serial."""
        self._serial += 1
        if math.isnan(self._opened_at):
            self._opened_at = now
            self._raise_at = now + _FIRST_STEP
            self._raised_at = now
        # Idle time is no measure of the server.
        if self._closed_at is None and now - self._due > _SAMPLE:
            self._busy_since = now
            self._begin_cycle(now)
        if self._closed_at is not None:
            # No request wanted to be sent sooner.
            if self._probe is None and now - self.paused_until > _SAMPLE:
                self._unwanted += now - self.paused_until
            if self.pause_hinted or self._probe is not None:
                self._open(now)
            else:
                self._probe, self._probed_at = self._serial, now
        self._due = max(self._due, now) + 1 / self.rate
        self._unsettled[self._serial] = _Sent(now, in_flight)
        self._since_mark += 1
        return self._serial

    def on_unsent(self, serial: int) -> None:
        """Note that a request was not sent after all."""
        self._uncount(serial)
        self._due -= 1 / self.rate

    def on_lost(self, serial: int, now: float) -> None:
        """Forget a request that gets no response. A lost probe is sent again at the pace."""
        if serial == self._probe and not self.pause_hinted:
            self.paused_until = max(self.paused_until, self._probed_at + 1 / self.rate)
        self._uncount(serial)

    def on_accepted(self, serial: int, now: float, *, wanted: bool) -> None:
        """Learn that a request was accepted, and raise the rate when a raise is due."""
        sent = self._settle(serial)
        self._admitted.append(sent)
        if self._closed_at is not None:
            if sent.at > self._latest_refused and not self.pause_hinted:
                self._open(now)
        elif not wanted:
            # A rate that is not used proves nothing.
            self._raise_at = max(self._raise_at, now + _STEP)
        elif now < self._quiet_until:
            share = (now - self._opened_at) / (self._quiet_until - self._opened_at)
            self._set_rate(max(self.rate, self._base + (self._top - self._base) * math.sqrt(share)))
        elif now >= self._raise_at:
            if self._is_used(now, sent.in_flight):
                self._grow(now)
            self._raised_at, self._raised_serial = now, self._serial

    def on_refused(self, serial: int, now: float, hint: float | None, jitter: float = 0.0) -> None:
        """Begin a closure, or learn that it still lasts."""
        probed = serial == self._probe
        sent = self._uncount(serial)
        self._refusals += 1
        self._latest_refused = max(self._latest_refused, sent.at)
        took = now - sent.at
        self._refusal_time = took if self._refusal_time is None else 0.8 * self._refusal_time + 0.2 * took
        if self._closed_at is None and sent.at >= self._opened_at:
            self._closed_at, self._refused, self._refused_rate = now, sent, self.rate
            self.pause_hinted = False
            self.paused_until = now + max(1.5 / self.rate, 0.02)
        # A late response, but the server asks for the time.
        elif self._closed_at is None and hint and hint >= _SAMPLE:
            self._closed_at, self._refused, self._refused_rate = now, sent, self.rate
            self.pause_hinted = False
        elif self._closed_at is not None and probed and not self.pause_hinted:
            closed_for = max(now - self._closed_at, 1 / self.rate)
            self.paused_until = now + min(closed_for, _LONGEST_PROBE_GAP)
            if self._peak == 0 and 0 < self._since_mark < _LEAST_MEASURED:
                self._set_rate(min(self.rate, max(self._since_mark / (now - self._mark), _LEAST_BLIND)))
        if hint:
            self._obey(now + hint + jitter, coarse=float(hint).is_integer())

    def _obey(self, until: float, *, coarse: bool) -> None:
        """Keep to the hint while the closure lasts, also to that of a late response."""
        if self._closed_at is None:
            return
        self.paused_until = max(until, self.paused_until if self.pause_hinted else until)
        self.pause_hinted = True
        self._coarse = coarse

    def _settle(self, serial: int) -> _Sent:
        if serial == self._probe:
            self._probe = None
        return self._unsettled.pop(serial)

    def _uncount(self, serial: int) -> _Sent:
        sent = self._settle(serial)
        self._since_mark -= sent.at >= self._mark
        return sent

    def _probe_wait(self) -> float:
        """Return how long a probe may get no response before it counts as accepted and the next is due."""
        return min(max(2 * (self._refusal_time or 0.0), 0.03, 1 / self.rate), _LONGEST_PROBE_GAP)

    def _set_rate(self, rate: float) -> None:
        self.rate = min(max(rate, self._floor), self._ceiling)

    def _is_used(self, now: float, in_flight: int) -> bool:
        """Return whether the slots, or the rate since the last raise, held requests back."""
        # A request does not count itself.
        full = in_flight >= self._slots - 1
        used = full or self._serial - self._raised_serial >= 0.5 * self.rate * (now - self._raised_at)
        if not used:
            self._raise_at = now + _STEP
        return used

    def _grow(self, now: float) -> None:
        if self._slots < math.inf:
            self._slots += max(1, int(self._slots * self._raise))
            self._raise_at = now + _SLOT_STEP
            if self._slots > _MOST_SLOTS:
                self._slots = math.inf
        else:
            self._growing = True
            first = self._peak == 0
            step, requests = (self._first_step(), _FIRST_STEP_REQUESTS) if first else (_STEP, _STEP_REQUESTS)
            self._set_rate(self.rate * (1 + self._raise))
            self._raise_at = now + max(step, requests / self.rate, self._window)
        self._raise = min(1.0, _RAISE_FACTOR * self._raise)

    def _first_step(self) -> float:
        """Return the seconds until the next raise before any refusal: the time of some responses."""
        # Little's law gives the time of one.
        answers = len(self._unsettled) / self.rate
        return min(max(_FIRST_STEP_ANSWERS * answers, _LEAST_FIRST_STEP), _FIRST_STEP)

    def _open(self, now: float) -> None:
        """End the closure and its cycle. Begin the next at a rate that was measured or, at first, guessed."""
        hinted = self.pause_hinted
        if self._peak == 0 and self._since_mark < _LEAST_MEASURED:
            self._begin_blind(now)
        else:
            self._begin_measured(now, hinted=hinted)
        self._due = max(now, self._due if hinted else self._probed_at + 1 / self.rate)
        self._opened_at, self._closed_at, self._probe, self._refusals = now, None, None, 0
        self.paused_until = min(self.paused_until, now)
        self._raised_at, self._raised_serial = now, self._serial

    def _begin_blind(self, now: float) -> None:
        """Continue as at the start, as the closure began before enough was accepted to measure."""
        most = min(self.rate, _LEAST_CUT * self._refused_rate)
        self._set_rate(max(most, min(_RESTART * self._refused_rate, _LEAST_BLIND)))
        self._base = self._top = self.rate
        self._quiet_until = self._raise_at = now + _SHORTEST_QUIET
        self._begin_cycle(now)
        self._busy_since, self._unwanted = now, 0.0

    def _begin_measured(self, now: float, *, hinted: bool) -> None:
        """Measure the cycle, restart below the refused rate, and stay quiet as long as the closure costs."""
        assert self._closed_at is not None  # noqa: S101  # only a closure can end
        closed = max(now - self._closed_at - self._unwanted, 0.0)
        slack = min(1.0, 0.9 * closed) if hinted and self._coarse else 0.0
        self._slack += slack
        self._closures += 0.0 if hinted else closed
        limit = _RESTART * self._refused_rate
        self._judge_slots()
        low, top = self._measure(now - self._unwanted, closed - slack)
        if self._unwanted:
            self._begin_cycle(now)
            self._busy_since, self._unwanted = now, 0.0
        share = _COARSE_SHARE if hinted else _PROBED_SHARE
        if not self._growing:
            self._known = low + share * (top - low)
        elif low < _RISE * self._known:
            # The last moments are believed only where a closure is cheap.
            top = low if slack else top
            low, share = min(self._known, top), _GROWTH_SHARE
        self.quota = low + share * (top - low)
        self._base = min(self.quota, limit)
        self._top = max(self._base, min(top, limit))
        if self._slots < math.inf:
            self._base = self._top = max(self._base, self._refused_rate)
        self._set_rate(self._base)
        self._peak = max(self._peak * (_PEAK_FADE if self._growing else 1.0), self.rate)
        self._quiet_until = self._raise_at = now + self._quiet(now, closed)
        self._growing, self._raise = False, _FIRST_RAISE

    def _quiet(self, now: float, closed: float) -> float:
        """Return the seconds of quiet that a closure of ``closed`` seconds costs."""
        price = max(closed / _TIME_PRICE, self._refusals / (_REFUSAL_PRICE * self.rate))
        quiet = min(price, _LONGEST_QUIET) * min(1.0, self.rate / self._peak)
        if len(self._suspects) == _SUSPICIONS - 1 and self._slots == math.inf:
            quiet = min(quiet, _SUSPENSE)
        return max(min(quiet, _TRUST * (now - self._opened_at)), _SHORTEST_QUIET)

    def _measure(self, now: float, closed: float) -> tuple[float, float]:
        """Return the bracket of the quota, after a closure of ``closed`` seconds without its rounding."""
        need = max(_SAMPLE, _LEAST / self._refused_rate)
        span = now - self._mark
        long = closed >= 2 * need and self._since_mark >= _LEAST
        if long or (not self._growing and span >= max(need, self._window)):
            low = self._since_mark / span
            top = self._since_mark / max(span - self._slack, 0.3 * span)
            self._window = min(span, _LONGEST_WINDOW) if long else _FADE * self._window
            self._begin_cycle(now)
        elif self._growing:
            end = self._refused.at
            width = max(min(need, end - self._mark), 1e-3)
            brief = max(min(width / 2, max(_BRIEF, _BRIEF_REQUESTS / self._refused_rate)), 1e-3)
            rates = (self._count(end - width, end) / width, self._count(end - brief, end) / brief)
            low, top = min(rates), max(rates)
            self._begin_cycle(now)
        else:
            width = max(min(max(need, self._window), now - self._busy_since), 1e-3)
            admitted = self._count(now - width, now)
            idle = min(self._slack + self._closures, 0.7 * width)
            low, top = admitted / width, admitted / (width - idle)
        if long:
            return low, top
        least = _LEAST_CUT * self._refused_rate
        return max(low, least), max(top, least)

    def _begin_cycle(self, now: float) -> None:
        self._mark, self._since_mark, self._slack, self._closures = now, 0, 0.0, 0.0

    def _count(self, start: float, end: float) -> int:
        """Return how many were sent from ``start`` until before ``end``, and not refused."""
        count = sum(start <= sent.at < end for sent in self._unsettled.values())
        for sent in reversed(self._admitted):
            # Responses overtake each other by less than that.
            if sent.at < start - 15.0:
                break
            count += start <= sent.at < end
        return count

    def _judge_slots(self) -> None:
        """Decide whether the server limits how many requests are in service, and to how many."""
        level = self._refused.in_flight
        if self._slots < math.inf:
            # A refusal below the slots, or right after a closure, shows that there is no limit of slots.
            lasted = self._closed_at is not None and self._closed_at - self._opened_at >= _SAMPLE
            self._slots = max(1, self._slots - 1) if lasted and level >= self._slots - 2 else math.inf
            self._suspects.clear()
            return
        if self._growing and self._refused_rate >= 1.3 * self._peak:
            return
        levels = [sent.in_flight for sent in self._since(self._opened_at - 0.5)]
        above = sum(one >= level for one in levels)
        rare = level >= 2 and len(levels) >= 20 and above <= 0.1 * len(levels)
        if not rare or any(abs(level - one) > max(1, _ALIKE * one) for one in self._suspects):
            self._suspects.clear()
        if rare:
            self._suspects.append(level)
        if len(self._suspects) >= _SUSPICIONS:
            self._slots = max(1, min(self._suspects) - 1)
            # The slots limit now, so the rate gets room to rise.
            self._refused_rate *= 1.5

    def _since(self, start: float) -> list[_Sent]:
        found: list[_Sent] = []
        for sent in reversed(self._admitted):
            if sent.at < start - 1.0 or len(found) == 400:
                break
            if sent.at >= start:
                found.append(sent)
        return found
