"""Finds out the quota: a pace that models how many requests the server lets in.

Theory of operation
    The server accepts a request or refuses it. All that can be learned is how many it accepted between two
    moments, its delivery rate. So the pace keeps a model of the quota, a bracket from ``low`` to ``top``,
    and sends evenly inside it. Evenly spaced requests make every kind of limiter behave alike: below the
    quota it refuses nothing, above it a few requests a second.

    *Closure and probe.* A refusal begins a closure: nothing is sent until the time of the hint has passed.
    Without a hint, one request at a time is sent as a probe. A probe that was not refused within twice the
    time of a refusal was accepted, and the closure ends. After a refused probe, the next waits as long again
    as the closure has lasted. So many refusals at once are one event, and a closed window costs the logarithm
    of its length in probes.

    *Measure.* A cycle runs from the end of one closure to the end of the next. Accepted requests ÷ length is
    the quota: exact for a bucket that was empty at both ends, and for a window. Requests without a response
    yet count as accepted. Part of a closure may be rounding, as that of a hint in whole seconds is. Then the
    quota lies in a bracket. A cycle too short to count uses the last second. After growth the rate before
    the last raise is low, and the known quota, that of the last cycle without growth, is lower.

    *A closure is a window only if it repeats.* After a long closure the pace goes on near the rate of the
    last second before it. Only if the next long cycle accepts as many, or if a short closure follows at once
    (a sliding window), is the first cycle believed, and its length remembered. A ban, a constant hint or an
    outage does neither, so it costs its own length and nothing more.

    *Converge.* Restart inside the bracket, below the refused rate, and rise to its top in the quiet time.

    *Grow.* After the quiet time, raise the rate by 2, 3, 4.5 … 100 % a step until a refusal, but never while
    no request waits. The start doubles once in the time of a response, as slow start does. Below the best
    rate that *stood* for seconds, growth is a way back: half as much again each half second. Each way back
    that is refused takes that memory half the way to the refused rate, and doubles the wait before the next.

    *Pay.* Growth causes refusals, and pays for them with a quiet time, so long that closures take 2.5 % of
    the time and refusals are 0.5 % of the requests. Where much may be gained, the quiet is short: it shrinks
    with the square of the gap up to the top of the bracket, or to the rate that stood.

    *Refusals that the rate did not cause.* A dose-response test: refusals that come alone, at the same
    distance though each cut the rate by 2, 4, 8 … %, are not caused by the rate. Then the rate returns to
    where it was, and lone refusals are ignored while they come about as often. A request's own refusal, as
    when its conference is locked, is known by its repetition while others, sent later, pass.

    *Slots.* A server that limits how many requests are in service refuses when many are in flight, whatever
    the rate. Two closures in a row are taken for that when they began with alike numbers in flight, which
    hardly any accepted request had. From then on fewer are in flight, and the rate may rise.

Assumptions, and what happens when they do not hold
    Refusals are rarer at lower rates. Where they are not, the dose-response test finds out; it needs five
    refusals. The quota changes slower than the pace finds it; where not, the rate lags by some closures. A
    refusal comes sooner than other responses; where not, closures last as long as a response takes. A server
    that queues instead of refusing is filled until it refuses.

Why it converges, for a quota r: above r a refusal comes after at most burst / (rate - r) seconds, and each
restart is lower by at least 2 %. Below r nothing is refused, so growth resumes with ever larger steps. A
whole cycle measures r to within (burst + 1) / its length, so brackets shrink as cycles grow longer.
"""

from __future__ import annotations

import math
from itertools import islice
from statistics import fmean

from attrs import define

from bandwidth_async.limiter.knowledge import START, Knowledge

# Start: a step takes so many requests, so many times as long as a response, and so many seconds, within which
# a refusal would have arrived.
_START_STEP, _START_RESPONSES, _LEAST_START_STEP = 4, 1.5, 0.08

# Growth: the seconds and requests of a step; the first raise, the factor from one to the next, and the raise
# on a way back, which leads to the last share of the rate that stood.
_STEP, _LONGEST_STEP, _STEP_REQUESTS = 0.5, 2.0, 16
_RAISE, _RAISE_FACTOR, _BACK_RAISE, _BACK = 0.02, 1.5, 0.5, 0.9

# Measure: the seconds and requests that are counted at least, and the requests of a first measure. A short
# sample never cuts the rate by more than half. Windows are alike within a share of what they accept. After a
# closure that may be none, restart at the last share of the rate before it.
_SAMPLE, _LEAST, _LEAST_FIRST = 1.0, 8, 3
_LEAST_CUT, _ALIKE, _LONGEST_WINDOW, _DOUBTED = 0.5, 0.15, 60.0, 0.9

# Converge: where to restart in the bracket, and between the known quota and what growth found; growth to more
# than so many times the known quota found another; the least cut, and how often it doubles.
_SHARE, _GROWTH_SHARE, _RISE = 0.65, 0.35, 1.5
_CUT, _CUT_DOUBLINGS = 0.02, 3

# Pay: the shares of the time and of the requests that closures and refusals may cost; the gap below which
# the quiet is not shortened; the seconds of quiet; and at most so many times the cycle that was measured.
_TIME_PRICE, _REFUSAL_PRICE, _GAP = 0.025, 0.005, 0.1
_SHORTEST_QUIET, _LONGEST_QUIET, _TRUST = 0.5, 300.0, 10.0

# Dose-response: lone refusals in a row; the requests between them at least; the rate at the last, as a share
# of the highest; for how many such distances the finding holds; and how many refusals may come in excess.
_LONERS, _SPARSE, _LOWER, _HOLDS, _EXCESS = 5, 20, 0.75, 60, 4

# Slots: how much two levels may differ, and beyond which number there is no limit.
_ALIKE_SLOTS, _MOST_SLOTS = 0.25, 10_000

# Seconds between probes at most.
_LONGEST_PROBE_GAP = 8.0

# Accepted requests that teach something for the next run: a few may have met others' use.
_TAUGHT_BY = 100

# Timers fire late. A request may be sent this many seconds before it is due at an even rate.
LATENESS = 0.02

# Requests that are remembered one by one.
_MEMORY = 20_000


# A named tuple would take twice as long to make.
@define(eq=False)
class _Sent:
    at: float
    in_flight: int
    rate: float


@define
class _Closure:
    """The refusals from the first one until a request is accepted. ``rate`` is that of the first."""

    since: float
    refused: _Sent
    rate: float
    # Whether requests waited for the rate then.
    wanted: bool
    refusals: int = 0
    hinted: bool = False
    coarse: bool = False


@define
class _Bracket:
    """The bounds of the quota, and whether they were measured over a whole stretch."""

    low: float
    top: float
    whole: bool = False


@define
class _Noise:
    """The dose-response test: refusals that the rate does not cause, and how often they come."""

    # Rates of lone refusals, and requests accepted before each.
    loners: tuple[tuple[float, int], ...] = ()
    # The share of the requests whose refusal is ignored, until which serial, and refusals above that share.
    share: float = 0.0
    until: int = 0
    excess: float = 0.0

    def on_accepted(self, serial: int) -> None:
        """Forget refusals as fast as they are expected, and the finding when it is old."""
        self.excess = max(0.0, self.excess - 1.5 * self.share)
        if serial > self.until:
            self.share = 0.0

    def ignores(self) -> bool:
        """Return whether one more lone refusal is no more than was expected."""
        self.excess = (self.excess + 1) % _EXCESS
        return self.excess >= 1

    @property
    def cut(self) -> float:
        """The share of the rate that the next closure takes at least: the dose doubles."""
        return float(_CUT * 2 ** min(max(len(self.loners) - 1, 0), _CUT_DOUBLINGS))

    def find(self, rate: float, distance: int, *, lone: bool, growing: bool, serial: int) -> float | None:
        """Add a refusal. Return the rate to go back to if refusals come as often though each cut the rate."""
        before = self.loners
        # Growth causes its refusals, and a cut that brought a long rest was right.
        far = before and distance > 4 * fmean(each for _, each in before)
        if far or (before and growing and rate > _BACK * max(before)[0]):
            before = ()
        if self.share or not lone:
            self.loners = ()
            return None
        self.loners = (*before, (rate, distance))[-_LONERS:]
        distances = sum(each for _, each in self.loners)
        rates = sorted(each for each, _ in self.loners)
        if len(rates) < _LONERS or distances < _SPARSE * _LONERS or rate > _LOWER * rates[-1]:
            return None
        self.share, self.loners, self.excess = _LONERS / (distances + _LONERS), (), 0.0
        self.until = serial + int(_HOLDS / self.share)
        return (1 - _CUT) * rates[-2]


@define
class _Slots:
    """How many requests may be in flight, and the number at a closure that looks like such a limit."""

    limit: float = math.inf
    suspect: int | None = None

    def grow(self, share: float) -> None:
        """Raise the limit by a share of it."""
        self.limit += max(1, int(self.limit * share))
        if self.limit > _MOST_SLOTS:
            self.limit = math.inf

    def adjust(self, level: int, *, lasted: bool) -> None:
        """Lower the limit. A refusal below it, or right after a closure, shows that there is none."""
        self.limit = max(1, self.limit - 1) if lasted and level >= self.limit - 2 else math.inf

    def judge(self, level: int, others: list[int]) -> None:
        """Compare the number in flight at a refusal with those at accepted requests and the last suspect."""
        above = sum(one >= level for one in others)
        if level < 2 or len(others) < 20 or above > 0.1 * len(others):
            self.suspect = None
        elif self.suspect is None or abs(level - self.suspect) > max(1, _ALIKE_SLOTS * self.suspect):
            self.suspect = level
        else:
            self.limit, self.suspect = max(1, min(level, self.suspect) - 1), None


class AdaptivePace:
    """Seeks the highest rate that the server accepts. The module explains the theory."""

    def __init__(
        self,
        *,
        start: float | None = None,
        floor: float = 0.1,
        ceiling: float = math.inf,
        knowledge: Knowledge | None = None,
    ) -> None:
        begin = start or (knowledge.rate if knowledge else START)
        self.rate: float = min(max(begin, floor), ceiling)
        self.quota: float | None = None
        self.paused_until: float = -math.inf
        self._floor, self._ceiling = floor, ceiling
        self._serial = 0
        # When the next request is due at an even rate, and when requests began to come after an idle time.
        self._due = self._busy_since = -math.inf
        # Requests without a response yet, and those of the last time that were not refused, by serial.
        self._unsettled: dict[int, _Sent] = {}
        self._accepted: dict[int, _Sent] = {}
        # The closure, when the last one ended, and the serial of the probe in flight.
        self._closure: _Closure | None = None
        self._opened_at = math.nan
        self._latest_refused = -math.inf
        self._refusal_time = 0.0
        self._probe: int | None = None
        self._probed_at = self._probed_before = -math.inf
        # Whether requests waited when the last one was accepted.
        self._wanted = True
        # When the cycle began, and seconds of its closures that may be rounding.
        self._mark = -math.inf
        self._slack = 0.0
        # The quota by a cycle without growth, the window, and a long cycle that is not believed yet.
        self._known = 0.0
        self._window = knowledge.window if knowledge else 0.0
        self._doubtful: tuple[int, float] | None = None
        # The rates from which and to which the pace rises until the quiet time ends.
        self._base = self._top = self.rate
        self._quiet_until = -math.inf
        # When the next raise is due, and that raise; when the last was decided on, and the serial then.
        self._raise_at = self._raised_at = -math.inf
        self._next_raise = 1.0 if start is None and knowledge is None else _RAISE
        self._raised_serial = 0
        # Whether nothing was measured yet; whether the rate grew, and from which rate.
        self._first = start is None
        self._given = knowledge
        self._growing, self._grown_from = True, self.rate
        # The best rate that stood; whether growth leads back there, and how often that failed in a row.
        self._stood = knowledge.stood if knowledge else 0.0
        self._going_back, self._failed = False, 0
        self._noise = _Noise()
        self._slots = _Slots()

    def __repr__(self) -> str:
        state = "open" if self._closure is None else "closed"
        return f"<AdaptivePace {self.rate:.4g}/s, quota {self.quota or math.nan:.4g}/s, {state}>"

    @property
    def pause_hinted(self) -> bool:
        """Whether the server named the time of the pause."""
        return self._closure is not None and self._closure.hinted

    @property
    def knowledge(self) -> Knowledge | None:
        """What was measured, or stood, over enough requests. Else what was given at the start."""
        given, stood = self._given, self._stood
        if len(self._accepted) < _TAUGHT_BY or (
            self.quota is None and stood <= (given.stood if given else 0.0)
        ):
            return given
        rate = self.quota or stood
        # A low rate that did not stand may be what others left.
        return Knowledge(rate=rate if stood else max(rate, START), stood=stood, window=self._window)

    def next_time(self, now: float, in_flight: int) -> float:
        """Return when the next request may be sent; infinity when a response has to come first."""
        if self._closure is None:
            return math.inf if in_flight >= self._slots.limit else self._due - LATENESS
        if self._probe is None or self._closure.hinted:
            return self.paused_until
        return self._probed_at + self._probe_wait()

    def earliest(self, ahead: int) -> float:
        """Return minus infinity, since this rate may rise at any time."""
        return -math.inf

    def on_send(self, now: float, in_flight: int) -> int:
        """Note that a request is sent, and return its serial."""
        self._serial += 1
        if math.isnan(self._opened_at):
            self._opened_at = self._raised_at = now
        # Idle time is no measure of the server.
        if self._closure is None and now - self._due > _SAMPLE:
            self._busy_since = now
            self._begin_cycle(now)
        if self._closure is not None:
            if self._closure.hinted or self._probe is not None:
                self._open(now)
            else:
                self._probe, self._probed_before, self._probed_at = self._serial, self._probed_at, now
        self._due = max(self._due, now) + 1 / self.rate
        self._unsettled[self._serial] = self._accepted[self._serial] = _Sent(now, in_flight, self.rate)
        if len(self._accepted) > _MEMORY:
            del self._accepted[next(iter(self._accepted))]
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
        sent, self._wanted = self._settle(serial), wanted
        if self._noise.share:
            self._noise.on_accepted(self._serial)
        if self._closure is not None:
            if sent.at > self._latest_refused and not self._closure.hinted:
                self._open(now)
        elif not wanted:
            # A rate that is not used proves nothing.
            self._raise_at = max(self._raise_at, now + _STEP)
        elif now < self._quiet_until and self.rate < self._top:
            share = (now - self._opened_at) / (self._quiet_until - self._opened_at)
            self._set_rate(max(self.rate, self._base + (self._top - self._base) * math.sqrt(share)))
        elif now >= self._raise_at and (not self._first or serial >= self._raised_serial + _START_STEP):
            if self._is_used(now, sent.in_flight):
                self._grow(now)
            self._raised_at, self._raised_serial = now, self._serial

    def on_refused(
        self,
        serial: int,
        now: float,
        hint: float | None,
        jitter: float = 0.0,
        *,
        own: int | None = None,
        coarse: bool = False,
    ) -> float:
        """Begin a closure, or learn that it still lasts.

        ``own`` is the serial of an earlier refusal of the same request, if others passed since: then this
        refusal says nothing about the server, and the next request is the probe.

        Returns the seconds after which the request may come again, so that others knock before it.
        """
        probed, sent = serial == self._probe, self._uncount(serial)
        rest = min(max(0.05, 2.5 * len(self._unsettled) / self.rate), _LONGEST_STEP)
        if own is not None and not self.pause_hinted:
            self.paused_until = min(self.paused_until, now) if probed else self.paused_until
            return 2 * rest
        self._latest_refused = max(self._latest_refused, sent.at)
        took = now - sent.at
        self._refusal_time = 0.8 * self._refusal_time + 0.2 * took if self._refusal_time else took
        if self._closure is None:
            late = sent.at < self._opened_at
            if late and not (hint and hint >= _SAMPLE):
                return rest
            if not late and self._noise.share and self._noise.ignores():
                return rest
            self._closure = _Closure(now, sent, sent.rate, self._wanted)
            self.paused_until = now + max(1.5 / self.rate, 0.02)
        elif probed and not self._closure.hinted:
            self._wait_longer(now, self._closure)
        self._closure.refusals += 1
        if hint:
            until = now + hint + jitter
            self.paused_until = max(until, self.paused_until if self._closure.hinted else until)
            self._closure.hinted, self._closure.coarse = True, coarse
        return rest

    def resume(self, now: float, rate: float) -> None:
        """Return to an earlier rate, as the refusals since then had another cause."""
        self._go_on(now, rate)
        self._opened_at, self._closure, self._probe = now, None, None
        self.paused_until = min(self.paused_until, now)

    def _wait_longer(self, now: float, closure: _Closure) -> None:
        """Wait as long again as the closure has lasted. Few accepted at first show how low the quota is."""
        self.paused_until = now + min(max(now - closure.since, 1 / self.rate), _LONGEST_PROBE_GAP)
        count = self._count(self._mark, now)
        if self._first and 0 < count < _LEAST_FIRST:
            # Not slower than 1/s, since others may have used most of the window.
            most = max(count / (now - self._mark), 1.0)
            closure.rate = min(closure.rate, most / _LEAST_CUT)
            self._set_rate(min(self.rate, most))

    def _settle(self, serial: int) -> _Sent:
        if serial == self._probe:
            self._probe = None
        return self._unsettled.pop(serial)

    def _uncount(self, serial: int) -> _Sent:
        self._accepted.pop(serial, None)
        return self._settle(serial)

    def _probe_wait(self) -> float:
        """Return how long a probe may get no response before it counts as accepted and the next is due."""
        return min(max(2 * self._refusal_time, 0.03, 1 / self.rate), _LONGEST_PROBE_GAP)

    def _set_rate(self, rate: float) -> None:
        self.rate = min(max(rate, self._floor), self._ceiling)

    def _is_used(self, now: float, in_flight: int) -> bool:
        """Return whether the slots, or the rate since the last raise, held requests back."""
        # A request does not count itself.
        full = in_flight >= self._slots.limit - 1
        used = full or self._serial - self._raised_serial >= 0.5 * self.rate * (now - self._raised_at)
        if not used:
            self._raise_at = now + _STEP
        return used

    def _grow(self, now: float) -> None:
        step = max(_STEP, self._window, min(_STEP_REQUESTS / self.rate, _LONGEST_STEP))
        if self._slots.limit < math.inf:
            self._slots.grow(self._next_raise)
            step = _SAMPLE
        else:
            self._growing, self._grown_from = True, self.rate
            if (self._given or not self._first) and now - self._opened_at >= _SAMPLE:
                self._stood = max(self._stood, self.rate)
            if self.rate < 0.999 * _BACK * self._stood:
                self._going_back = True
                self._set_rate(min(self.rate * (1 + _BACK_RAISE), _BACK * self._stood))
                self._raise_at = now + _STEP
                return
            if self._going_back:
                self._going_back, self._failed = False, 0
            if self._first:
                # Little's law gives the time of a response.
                step = max(_START_RESPONSES * len(self._unsettled) / self.rate, _LEAST_START_STEP)
            self._set_rate(self.rate * (1 + self._next_raise))
        self._raise_at = now + step
        self._next_raise = min(1.0, _RAISE_FACTOR * self._next_raise)

    def _open(self, now: float) -> None:
        """End the closure and its cycle. Begin the next at the old rate, or at one that was measured."""
        closure = self._closure
        assert closure is not None  # noqa: S101  # only a closure can end
        passed = self._count(closure.refused.at, closure.since)
        innocent = self._noise.find(
            closure.rate,
            max(self._count(self._opened_at, closure.since), 1),
            lone=closure.refusals <= max(1, 0.2 * passed),
            growing=self._growing,
            serial=self._serial,
        )
        if innocent is None:
            self._restart(now, closure)
        else:
            self._go_on(now, innocent)
        self._due = max(now, self._due if closure.hinted else self._probed_at + 1 / self.rate)
        self._opened_at, self._closure, self._probe = now, None, None
        self.paused_until = min(self.paused_until, now)
        self._raised_at, self._raised_serial = now, self._serial

    def _go_on(self, now: float, rate: float) -> None:
        """Go back to ``rate``, as no rate caused the refusals."""
        self._set_rate(rate)
        self._base = self._top = self.rate
        self._stood = max(self._stood, self.rate)
        self._growing, self._going_back, self._failed = False, False, 0
        self._next_raise, self._quiet_until, self._raise_at = _BACK_RAISE, -math.inf, now + _STEP
        self._begin_cycle(now)

    def _restart(self, now: float, closure: _Closure) -> None:
        """Measure the cycle, restart below the refused rate, and stay quiet as long as the closure costs."""
        closed = now - closure.since
        self._slack += min(1.0, 0.9 * closed) if closure.hinted and closure.coarse else 0.0
        limit = (1 - self._noise.cut) * closure.rate
        self._judge_slots(closure)
        bracket = self._measure(now, closure, closed)
        share = _SHARE if closure.hinted or not self._first else 0.0
        if not self._growing:
            self._known = bracket.low + share * (bracket.top - bracket.low)
        elif not self._first and bracket.top < _RISE * self._known:
            bracket.low, share = min(self._known, bracket.top), _GROWTH_SHARE
        quota = bracket.low + share * (bracket.top - bracket.low)
        self._base = min(quota, limit)
        self._top = max(self._base, min(bracket.top, limit))
        if self._slots.limit < math.inf:
            # The slots limit now, so the rate gets room to rise.
            self._base = self._top = max(self._base, closure.rate)
        self._set_rate(self._base)
        if self._going_back:
            self._failed, self._going_back = self._failed + 1, False
            self._stood = math.sqrt(self._stood * max(closure.refused.rate, self.rate))
        if bracket.whole:
            self._stood = max(self._stood, self.rate)
        self._quiet_until = self._raise_at = now + self._quiet(now, closure, closed)
        self._growing = False
        if not self._is_blind():
            self._first, self._next_raise, self.quota = False, _RAISE, quota

    def _is_blind(self) -> bool:
        """Return whether too few were accepted to measure. Then the start goes on."""
        return self._first and len(self._accepted) < _LEAST_FIRST

    def _quiet(self, now: float, closure: _Closure, closed: float) -> float:
        """Return the seconds of quiet that a closure of ``closed`` seconds costs."""
        if self._is_blind():
            return _SHORTEST_QUIET
        quiet = max(closed / _TIME_PRICE, closure.refusals / (_REFUSAL_PRICE * self.rate))
        # So few requests measure the quota no better than to within one or two of them.
        error = 2 / max(self._count(self._opened_at, closure.since), 2)
        gap = max(_GAP, error, 1 - self.rate / max(_BACK * self._stood, self._top, self.rate))
        quiet = min(quiet, _LONGEST_QUIET) * (_GAP / gap) ** 2
        if self._slots.suspect is not None:
            # The next closure decides.
            quiet = min(quiet, 5.0)
        doublings = min(self._failed, _CUT_DOUBLINGS)
        return max(min(quiet, _TRUST * (now - self._opened_at)), _SHORTEST_QUIET * 2.0**doublings)

    def _measure(self, now: float, closure: _Closure, closed: float) -> _Bracket:
        """Return the bracket of the quota after a closure of ``closed`` seconds."""
        need = max(_SAMPLE, _LEAST / closure.rate)
        span, count, slack = now - self._mark, self._count(self._mark, now), self._slack
        least = _LEAST_CUT * closure.rate
        doubtful, self._doubtful = self._doubtful, None
        if closed - slack >= 2 * need and count >= _LEAST:
            bracket = self._measure_long(now, closure, doubtful)
        elif doubtful and closure.since - self._opened_at < need:
            count, span = doubtful
            self._window = min(span, _LONGEST_WINDOW)
            bracket = _Bracket(count / span, count / span)
        elif self._growing:
            low = max(min(self._grown_from, closure.rate), least)
            bracket = _Bracket(low, closure.rate if self._first else low)
        elif span >= max(need, self._window):
            self._window = 0.8 * self._window if self._window > 1 else 0.0
            top = max(count / max(span - slack, 0.3 * span), least)
            bracket = _Bracket(count / span, top, whole=span >= 3 * need)
        else:
            # The cycle goes on, as it is too short to count.
            width = max(min(max(need, self._window), now - self._busy_since), 1e-3)
            low = self._count(now - width, now) / width
            return _Bracket(max(low, least), max(low / (1 - min(slack / width, 0.7)), least))
        self._begin_cycle(now)
        return bracket

    def _measure_long(self, now: float, closure: _Closure, doubtful: tuple[int, float] | None) -> _Bracket:
        """Do as `_measure` after a closure that may be a closed window. It is one only if it repeats."""
        span, count, slack = now - self._mark, self._count(self._mark, now), self._slack
        self._doubtful = (count, span)
        if not doubtful or abs(count - doubtful[0]) > _ALIKE * doubtful[0]:
            end = closure.refused.at
            width = max(min(max(_SAMPLE, _LEAST / closure.rate), end - self._mark), 1e-3)
            # A rate that is not used proves nothing.
            rate = _DOUBTED * self._count(end - width, end) / width if closure.wanted else closure.rate
            return _Bracket(rate, rate)
        # The last pause between probes may be lateness.
        if not closure.hinted and self._probed_before > closure.since:
            slack += now - self._probed_before
        self._window = min(span, _LONGEST_WINDOW)
        return _Bracket(count / span, count / max(span - slack, 0.7 * span), whole=True)

    def _begin_cycle(self, now: float) -> None:
        self._mark, self._slack = now, 0.0

    def _count(self, start: float, end: float) -> int:
        """Return how many were sent from ``start`` until before ``end``, and not refused."""
        count = 0
        for sent in reversed(self._accepted.values()):
            if sent.at < start:
                break
            count += sent.at < end
        return count

    def _judge_slots(self, closure: _Closure) -> None:
        """Decide whether the server limits how many requests are in service, and to how many."""
        level, slots = closure.refused.in_flight, self._slots
        if slots.limit < math.inf:
            slots.adjust(level, lasted=closure.since - self._opened_at >= _SAMPLE)
        elif not self._growing or closure.rate < 1.3 * self._stood:
            recent = islice(reversed(self._accepted.items()), 400)
            start = self._opened_at - 0.5
            others = [s.in_flight for one, s in recent if s.at >= start and one not in self._unsettled]
            slots.judge(level, others)
            if slots.limit < math.inf:
                closure.rate *= 1.5
