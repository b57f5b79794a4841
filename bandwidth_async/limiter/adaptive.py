"""Finds out the quota: a pace that models how many requests the server lets in.

Theory of operation
    The server accepts a request or refuses it. All that can be learned is how many it accepted between two
    moments, its delivery rate. As in BBR's congestion control, the pace keeps a model of the best delivery
    rate and sends evenly at that rate. Evenly spaced requests make every kind of limiter behave alike: below
    the quota it refuses nothing, above it a few requests a second.

    *Closure and probe.* A refusal begins a closure: nothing is sent until the time of the hint has passed.
    Without a hint, one request at a time is sent as a probe. A probe that was not refused within twice the
    time of a refusal was accepted, and the closure ends. After a refused probe, the next waits as long again
    as the closure has lasted. So many refusals at once are one event, and a closed window costs the logarithm
    of its length in probes. A server that counts the requests it refuses, too, closes again at once. The
    fourth such closure in a row goes on from the one before, so that its probes get rarer.

    *Measure.* A cycle runs from the end of one closure to the end of the next. Accepted requests ÷ length is
    the quota: exact for a bucket that was empty at both ends, and for a window. Requests without a response
    yet count as accepted. Part of a closure may be rounding, that of a hint in whole seconds or the time
    between probes; then the quota lies in a bracket. While the rate grew, the last second and the last
    moments before the refusal bound the quota. A cycle too short to count uses the last second.

    *A closure is a window only if it repeats.* After a long closure the pace goes on near the rate of the
    last second before it. Only if the next long cycle accepts as many, or if a short closure follows at once
    (a sliding window), is the first cycle believed, and its length remembered. A ban, a constant hint or an
    outage does neither, so it costs its own length and nothing more.

    *Converge.* Restart inside the bracket, below the refused rate, and rise to its top in the quiet time.

    *Grow.* After the quiet time, raise the rate by 2, 3, 4.5 … 100 % a step until a refusal, but never while
    no request waits. The start follows the same rule and begins with 100 %. Below the best rate that *stood*
    for seconds, growth is a way back: half as much again each half second. A way back that is refused takes
    30 % off that memory and doubles the wait before the next.

    *Pay.* Growth causes refusals, and pays for them with a quiet time, so long that closures take 2.5 % of
    the time and refusals are 0.5 % of the requests. Far below the rate that stood, and after a refusal at a
    rate that had stood for seconds, which growth did not cause, the quiet is short.

    *Refusals that the rate did not cause.* A dose-response test: refusals that come alone, on average as far
    apart though each cut the rate by 2, 4, 8 … %, are not caused by the rate, unless always so many requests
    lie between them: a window counts those. Then the rate returns to where it was, and lone refusals are
    ignored while they come about as often. A request's own refusal, as when its conference is locked, is
    known by its repetition while others, sent later, pass.

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
from typing import TYPE_CHECKING

from attrs import define

from bandwidth_async.limiter.knowledge import START, Knowledge

if TYPE_CHECKING:
    from bandwidth_async.limiter.refusal import Refusal

# A step of growth: seconds and requests at the start, and later; and how long the requests may make it last.
# At the start it is as short as three responses take, but no shorter than these seconds.
_FIRST_STEP, _FIRST_STEP_REQUESTS, _LEAST_FIRST_STEP = 0.18, 6, 0.05
_STEP, _STEP_REQUESTS, _LONGEST_STEP = 0.5, 16, 2.0

# The factor from one raise to the next, whose first is the least cut, and the raise on a way back.
_RAISE_FACTOR, _BACK_RAISE = 1.5, 0.5

# A way back leads to this share of the rate that stood. One that is refused leaves so much of that rate.
_BACK, _BACK_FADE = 0.9, 0.7

# The least cut; and how often it doubles with refusals that come alone, and the quiet with failed ways back.
_CUT, _DOUBLINGS = 0.02, 3

# A short sample never cuts the rate to less than this share of the refused rate.
_LEAST_CUT = 0.5

# Seconds and requests that are counted at least, and the requests of a first measure.
_SAMPLE, _LEAST, _LEAST_FIRST = 1.0, 8, 3

# Seconds or requests that show what the server accepts just before a refusal.
_BRIEF, _BRIEF_REQUESTS = 0.2, 50

# Cycles are alike if their counts differ by no more than this share. No window is longer than these seconds.
_ALIKE, _LONGEST_WINDOW = 0.15, 60.0

# Where to restart after a closure that may be no window, as a share of the rate in the last second before it.
_DOUBTED = 0.95

# Where in the bracket to restart: after a hint, and after probes.
_HINTED_SHARE, _PROBED_SHARE = 0.7, 0.6

# Growth to more than this many times the known quota found another. Else it restarts between the two.
_RISE, _GROWTH_SHARE = 1.5, 0.35

# The shares of the time and of the requests that closures and their refusals may cost.
_TIME_PRICE, _REFUSAL_PRICE = 0.025, 0.005

# Seconds of quiet after a closure at most; and at most so many times the cycle that was measured.
_LONGEST_QUIET, _TRUST = 300.0, 10.0

# Seconds after which a rate has stood. If a refusal comes then that growth did not cause, the quiet lasts so
# many times as long as the rate stood at most.
_STOOD, _STOOD_QUIET = 5.0, 0.6

# Below this share of the rate that stood the quiet shrinks, with this power of the ratio.
_NEAR, _POWER = 0.85, 6

# Lone refusals that show that the rate is no cause; the rate at the last, as a share of the highest; the
# least requests between two; and for how many such distances the finding holds.
_LONERS, _LOWER, _SPARSE, _HOLDS = 5, 0.75, 20, 60

# Refusals that are ignored while they come alone; and how fast they are forgotten, by their share.
_EXCESS, _DRAIN = 4, 1.5

# Requests that passed since and show that a refusal came alone; those sent before a refused one comes again.
_PASSED, _WITNESSES = 10, 4

# A closure that is the fourth in a row to begin before so many requests passed goes on from the last one.
_FEW, _IN_A_ROW = 2, 4

# Seconds between probes at most.
_LONGEST_PROBE_GAP = 8.0

# Timers fire late. A request may be sent this many seconds before it is due at an even rate.
LATENESS = 0.02

# Closures in a row that look like a limit of slots, and how much they may differ.
_SUSPICIONS, _ALIKE_SLOTS = 2, 0.25

# Accepted requests that teach something for the next run: a few may have met others' use.
_TAUGHT_BY = 100

# Requests that are remembered one by one, and slots that are none any more.
_MEMORY = 20_000


# A named tuple would take twice as long to make.
@define(eq=False)
class _Sent:
    at: float
    in_flight: int


@define
class _Belief:
    """What the pace believes about the server."""

    # The rates from which and to which the pace rises until the quiet time ends.
    base: float
    top: float
    # When the last closure ended, the quiet time ends, and the next raise is due; and that raise.
    opened_at: float = math.nan
    quiet_until: float = -math.inf
    raise_at: float = -math.inf
    next_raise: float = 1.0
    # Whether nothing was measured yet, the rate grew, it was on its way back, and ways back that failed.
    first: bool = True
    growing: bool = True
    going_back: bool = False
    failed: int = 0
    # The best rate that stood, the quota by a cycle without growth, the window, and a cycle not believed yet.
    stood: float = 0.0
    known: float = 0.0
    window: float = 0.0
    doubtful: tuple[int, float] | None = None
    # Rates of lone refusals and requests before each; the share of them that is ignored, until which serial.
    loners: tuple[tuple[float, int], ...] = ()
    noise: float = 0.0
    noise_until: int = 0
    # How many requests may be in flight, and the numbers in flight at closures that look like slots.
    slots: float = math.inf
    suspects: tuple[int, ...] = ()
    # When the cycle began; seconds of its closures that may be rounding, and that were spent on probes.
    mark: float = -math.inf
    slack: float = 0.0
    probed: float = 0.0


@define
class _Closure:
    """The refusals from the first one until a request is accepted. ``since`` is when the first came."""

    since: float
    # The first refused request, and the rate then.
    refused: _Sent
    rate: float
    # Whether requests waited for the rate then.
    wanted: bool
    refusals: int = 0
    hinted: bool = False
    coarse: bool = False


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
        self._belief = _Belief(self.rate, self.rate)
        if start is not None or knowledge is not None:
            self._belief.next_raise = _CUT
        self._given = knowledge
        if knowledge is not None:
            self._belief.stood, self._belief.window = knowledge.stood, knowledge.window
        self._due = -math.inf
        self._serial = 0
        # Requests without a response yet, and those of the last time that were not refused, by serial.
        self._unsettled: dict[int, _Sent] = {}
        self._accepted: dict[int, _Sent] = {}
        self._closure: _Closure | None = None
        # Since when it was closed, and how many times in a row it was open for hardly any request.
        self._closed_since, self._brief = -math.inf, 0
        self._latest_refused = -math.inf
        self._refusal_time = 0.0
        # The serial of the probe in flight, and when the last two probes were sent.
        self._probe: int | None = None
        self._probed_at = self._probed_before = -math.inf
        # When requests began to come after the last idle time.
        self._busy_since = -math.inf
        # When a raise was last decided on, and the serial sent last then.
        self._raised_at, self._raised_serial = -math.inf, 0
        # Refusals that were ignored and are not forgotten.
        self._excess = 0.0
        # Whether requests waited when the last one was accepted.
        self._wanted = True

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
        belief, given = self._belief, self._given
        if self.quota is None and belief.stood <= (given.stood if given else 0.0):
            return given
        if len(self._accepted) < _TAUGHT_BY:
            return given
        rate = self.quota or belief.stood
        # A low rate that did not stand may be what others left.
        return Knowledge(
            rate=rate if belief.stood else max(rate, START), stood=belief.stood, window=belief.window
        )

    def next_time(self, now: float, in_flight: int) -> float:
        """Return when the next request may be sent; infinity when a response has to come first."""
        if self._closure is None:
            return math.inf if in_flight >= self._belief.slots else self._due - LATENESS
        if self._probe is None or self._closure.hinted:
            return self.paused_until
        return self._probed_at + self._probe_wait()

    def earliest(self, ahead: int) -> float:
        """Return minus infinity, since this rate may rise at any time."""
        return -math.inf

    def on_send(self, now: float, in_flight: int) -> int:
        """Note that a request is sent, and return its serial."""
        self._serial += 1
        if math.isnan(self._belief.opened_at):
            self._belief.opened_at = self._raised_at = now
            self._belief.raise_at = now + _FIRST_STEP
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
        self._unsettled[self._serial] = self._accepted[self._serial] = _Sent(now, in_flight)
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
        belief, sent = self._belief, self._settle(serial)
        self._wanted = wanted
        if belief.noise:
            self._excess = max(0.0, self._excess - _DRAIN * belief.noise)
            if self._serial > belief.noise_until:
                belief.noise = 0.0
        if self._closure is not None:
            if sent.at > self._latest_refused and not self._closure.hinted:
                self._open(now)
        elif not wanted:
            # A rate that is not used proves nothing.
            belief.raise_at = max(belief.raise_at, now + _STEP)
        elif now < belief.quiet_until and self.rate < belief.top:
            share = (now - belief.opened_at) / (belief.quiet_until - belief.opened_at)
            self._set_rate(max(self.rate, belief.base + (belief.top - belief.base) * math.sqrt(share)))
        elif now >= belief.raise_at:
            if self._is_used(now, sent.in_flight):
                self._grow(now)
            self._raised_at, self._raised_serial = now, self._serial

    def on_refused(self, serial: int, now: float, refusal: Refusal) -> float:
        """Begin a closure, or learn that it still lasts.

        A refusal that concerns its request only begins no closure, and the next request is the probe instead.

        Returns the seconds after which the request may come again, so that others knock before it.
        """
        probed, sent, hint = serial == self._probe, self._uncount(serial), refusal.hint
        # So many others go first that they are witnesses if this request is refused again.
        rest = min(max(0.05, (_WITNESSES + 2.5 * len(self._unsettled)) / self.rate), _LONGEST_PROBE_GAP)
        if refusal.own is not None and not self.pause_hinted:
            self.paused_until = min(self.paused_until, now) if probed else self.paused_until
            return 2 * rest
        self._latest_refused = max(self._latest_refused, sent.at)
        took = now - sent.at
        self._refusal_time = 0.8 * self._refusal_time + 0.2 * took if self._refusal_time else took
        if self._closure is None and self._is_noise(sent):
            return rest
        late = self._closure is None and sent.at < self._belief.opened_at
        if late and not (hint and hint >= _SAMPLE):
            return rest
        closure = self._closure
        if closure is None:
            closure = self._closure = self._close(now, sent)
        elif probed and not closure.hinted:
            self._wait_longer(now, closure)
        closure.refusals += 1
        if hint:
            until = now + hint + refusal.jitter
            self.paused_until = max(until, self.paused_until if closure.hinted else until)
            closure.hinted, closure.coarse = True, refusal.coarse
        return rest

    def resume(self, now: float, rate: float) -> None:
        """Return to an earlier rate, as the refusals since then had another cause."""
        belief = self._belief
        self._closure, self._probe = None, None
        self.paused_until = min(self.paused_until, now)
        self._set_rate(rate)
        belief.base = belief.top = self.rate
        belief.opened_at, belief.quiet_until, belief.raise_at = now, -math.inf, now + _STEP
        belief.stood = max(belief.stood, self.rate)
        self._begin_cycle(now)

    def _is_noise(self, sent: _Sent) -> bool:
        """Return whether this refusal is one of those that the rate does not cause."""
        if not self._belief.noise or sent.at < self._belief.opened_at:
            return False
        self._excess += 1
        if self._excess < _EXCESS:
            return True
        self._excess = 0.0
        return False

    def _close(self, now: float, sent: _Sent) -> _Closure:
        # A server that counts what it refuses stays closed as long as it is asked.
        brief = self._count(self._belief.opened_at, sent.at) < _FEW
        self._brief = self._brief + 1 if brief else 0
        if self._brief < _IN_A_ROW:
            self._closed_since = now
        pause = min(now - self._closed_since, _LONGEST_PROBE_GAP)
        self.paused_until = now + max(pause, 1.5 / self.rate, 0.02)
        return _Closure(self._closed_since, sent, self.rate, self._wanted)

    def _wait_longer(self, now: float, closure: _Closure) -> None:
        """Wait as long again as the closure has lasted. Few accepted at first show how low the quota is."""
        closed_for = max(now - closure.since, 1 / self.rate)
        self.paused_until = now + min(closed_for, _LONGEST_PROBE_GAP)
        count = self._count(self._belief.mark, now)
        if self._belief.first and 0 < count < _LEAST_FIRST:
            # Not slower than 1/s, since others may have used most of the window.
            self._set_rate(min(self.rate, max(count / (now - self._belief.mark), 1.0)))

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
        full = in_flight >= self._belief.slots - 1
        used = full or self._serial - self._raised_serial >= 0.5 * self.rate * (now - self._raised_at)
        if not used:
            self._belief.raise_at = now + _STEP
        return used

    def _grow(self, now: float) -> None:
        belief = self._belief
        if belief.slots < math.inf:
            belief.slots += max(1, int(belief.slots * belief.next_raise))
            belief.slots = math.inf if belief.slots > _MEMORY else belief.slots
            belief.raise_at = now + _SAMPLE
            belief.next_raise = min(1.0, _RAISE_FACTOR * belief.next_raise)
            return
        belief.growing = True
        if (self._given or not belief.first) and now - belief.opened_at >= _SAMPLE:
            belief.stood = max(belief.stood, self.rate)
        if self.rate < 0.999 * _BACK * belief.stood:
            belief.going_back = True
            self._set_rate(min(self.rate * (1 + _BACK_RAISE), _BACK * belief.stood))
            belief.raise_at = now + _STEP
            return
        if belief.going_back:
            belief.going_back, belief.failed = False, 0
        # Little's law gives the time of a response.
        answers = len(self._unsettled) / self.rate
        self._set_rate(self.rate * (1 + belief.next_raise))
        step = min(max(_STEP, _STEP_REQUESTS / self.rate), _LONGEST_STEP)
        if belief.first:
            step = min(max(3 * answers, _LEAST_FIRST_STEP), _FIRST_STEP)
            step = max(step, _FIRST_STEP_REQUESTS / self.rate)
        belief.raise_at = now + max(step, belief.window)
        belief.next_raise = min(1.0, _RAISE_FACTOR * belief.next_raise)

    def _open(self, now: float) -> None:
        """End the closure and its cycle. Begin the next at a rate that was measured or, at first, guessed."""
        belief, closure = self._belief, self._closure
        assert closure is not None  # noqa: S101  # only a closure can end
        if belief.first and self._count(belief.mark, now) < _LEAST_FIRST:
            self._begin_blind(now, closure)
        elif not self._goes_on(now, closure):
            self._begin_measured(now, closure)
        self._due = max(now, self._due if closure.hinted else self._probed_at + 1 / self.rate)
        belief.opened_at, self._closure, self._probe = now, None, None
        self.paused_until = min(self.paused_until, now)
        self._raised_at, self._raised_serial = now, self._serial

    def _begin_blind(self, now: float, closure: _Closure) -> None:
        """Continue as at the start, as the closure began before enough was accepted to measure."""
        belief = self._belief
        most = min(self.rate, _LEAST_CUT * closure.rate)
        self._set_rate(max(most, min((1 - _CUT) * closure.rate, 1.0)))
        belief.base = belief.top = self.rate
        belief.quiet_until = belief.raise_at = now + _STEP
        self._begin_cycle(now)
        self._busy_since = now

    def _goes_on(self, now: float, closure: _Closure) -> bool:
        """Return True, with the rate set, if the rate did not cause the refusals of this closure."""
        belief = self._belief
        passed = self._count(closure.refused.at, closure.since)
        lone = closure.refusals <= max(1, 0.2 * passed)
        if self._is_no_cause(closure, lone=lone):
            requests = sum(distance for _, distance in belief.loners)
            belief.noise = len(belief.loners) / (requests + len(belief.loners))
            belief.noise_until = self._serial + int(_HOLDS / belief.noise)
            self._excess = 0.0
            rate = (1 - _CUT) * sorted(rate for rate, _ in belief.loners)[-2]
            belief.stood = max(belief.stood, rate)
            belief.loners, belief.growing, belief.next_raise = (), False, _BACK_RAISE
            belief.going_back, belief.failed = False, 0
            belief.raise_at = now + _STEP
        elif belief.first and closure.refusals == 1 and passed >= _PASSED:
            rate = (1 - _CUT) * closure.rate
            belief.raise_at = now + _FIRST_STEP
        else:
            return False
        self._set_rate(rate)
        belief.base = belief.top = self.rate
        belief.quiet_until = -math.inf
        self._begin_cycle(now)
        return True

    def _is_no_cause(self, closure: _Closure, *, lone: bool) -> bool:
        """Return whether lone refusals come as often although each has cut the rate."""
        belief = self._belief
        distance = max(self._count(belief.opened_at, closure.since), 1)
        rates = [rate for rate, _ in belief.loners]
        mean = fmean(each for _, each in belief.loners) if rates else math.inf
        # Growth causes its refusals, and a cut that brought a long rest was right.
        if rates and (distance > 4 * mean or (belief.growing and closure.rate > _BACK * max(rates))):
            belief.loners = ()
        if belief.noise or not lone:
            belief.loners = ()
            return False
        belief.loners = (*belief.loners, (closure.rate, distance))[-_LONERS:]
        distances = [each for _, each in belief.loners]
        # A window lets in the same number each time, and chance does not.
        regular = max(distances) < _RISE * min(distances)
        if len(distances) < _LONERS or fmean(distances) < _SPARSE or regular:
            return False
        return closure.rate <= _LOWER * max(rate for rate, _ in belief.loners)

    def _begin_measured(self, now: float, closure: _Closure) -> None:
        """Measure the cycle, restart below the refused rate, and stay quiet as long as the closure costs."""
        belief, closed = self._belief, now - closure.since
        slack = min(1.0, 0.9 * closed) if closure.hinted and closure.coarse else 0.0
        belief.slack += slack
        belief.probed += 0.0 if closure.hinted else closed
        doublings = min(max(len(belief.loners), 1) - 1, _DOUBLINGS)
        limit = closure.rate * (1 - _CUT * 2**doublings)
        self._judge_slots(closure)
        low, top, whole = self._measure(now, closure, closed - slack)
        share = _HINTED_SHARE if closure.hinted else _PROBED_SHARE
        if not belief.growing:
            belief.known = low + share * (top - low)
        elif low < _RISE * belief.known:
            # The last moments are believed only where a closure is cheap.
            top = low if slack else top
            low, share = min(belief.known, top), 0.0 if belief.going_back else _GROWTH_SHARE
        self.quota = low + share * (top - low)
        belief.base = min(self.quota, limit)
        belief.top = max(belief.base, min(top, limit))
        if belief.slots < math.inf:
            belief.base = belief.top = max(belief.base, closure.rate)
        self._set_rate(belief.base)
        self._remember(whole=whole)
        belief.quiet_until = belief.raise_at = now + self._quiet(now, closure, closed)
        belief.growing = belief.first = False
        belief.next_raise = _CUT

    def _remember(self, *, whole: bool) -> None:
        """Keep the best rate that stood, and let it fade when growth did not reach it again."""
        belief = self._belief
        if belief.going_back:
            belief.failed += 1
            belief.stood *= _BACK_FADE
            belief.going_back = False
        if whole:
            belief.stood = max(belief.stood, self.rate)

    def _quiet(self, now: float, closure: _Closure, closed: float) -> float:
        """Return the seconds of quiet that a closure of ``closed`` seconds costs."""
        belief = self._belief
        quiet = max(closed / _TIME_PRICE, closure.refusals / (_REFUSAL_PRICE * self.rate))
        quiet = min(quiet, _LONGEST_QUIET)
        if belief.stood:
            quiet *= min(1.0, self.rate / (_NEAR * belief.stood)) ** _POWER
        if len(belief.suspects) == _SUSPICIONS - 1 and belief.slots == math.inf:
            quiet = min(quiet, _STOOD)
        lasted = closure.since - belief.opened_at
        if not belief.growing and lasted >= _STOOD:
            quiet = min(quiet, _STOOD_QUIET * lasted)
        # A cut to the least was not measured.
        if closed < 2 * _SAMPLE and belief.top <= 1.001 * _LEAST_CUT * closure.rate:
            quiet = min(quiet, _LONGEST_STEP)
        quiet = min(quiet, _TRUST * (now - belief.opened_at))
        return max(quiet, _STEP * 2.0 ** min(belief.failed, _DOUBLINGS))

    def _measure(self, now: float, closure: _Closure, closed: float) -> tuple[float, float, bool]:
        """Return the bracket of the quota after a closure of ``closed`` seconds without its rounding.

        The last item says whether it was measured over a whole stretch.
        """
        belief = self._belief
        need = max(_SAMPLE, _LEAST / closure.rate)
        span, count = now - belief.mark, self._count(belief.mark, now)
        doubtful, belief.doubtful = belief.doubtful, None
        if closed >= 2 * need and count >= _LEAST:
            return self._measure_long(now, closure, doubtful)
        if doubtful and closure.since - belief.opened_at < need:
            count, span = doubtful
            belief.window = min(span, _LONGEST_WINDOW)
            self._begin_cycle(now)
            return count / span, count / span, False
        least = _LEAST_CUT * closure.rate
        if not belief.growing and span >= max(need, belief.window):
            low, top = count / span, count / max(span - belief.slack, 0.3 * span)
            belief.window = 0.8 * belief.window if belief.window > 1 else 0.0
            self._begin_cycle(now)
            return max(low, least), max(top, least), span >= 3 * need
        if belief.growing:
            rates = self._rates_before(closure, need)
            self._begin_cycle(now)
            return max(min(rates), least), max(*rates, least), False
        width = max(min(max(need, belief.window), now - self._busy_since), 1e-3)
        admitted, idle = self._count(now - width, now), min(belief.slack + belief.probed, 0.7 * width)
        return max(admitted / width, least), max(admitted / (width - idle), least), False

    def _measure_long(
        self, now: float, closure: _Closure, doubtful: tuple[int, float] | None
    ) -> tuple[float, float, bool]:
        """Do as `_measure` after a closure that may be a closed window. It is one only if it repeats."""
        belief = self._belief
        span, count, slack = now - belief.mark, self._count(belief.mark, now), belief.slack
        belief.doubtful = (count, span)
        if not doubtful or abs(count - doubtful[0]) > _ALIKE * doubtful[0]:
            rate = _DOUBTED * self._rates_before(closure, max(_SAMPLE, _LEAST / closure.rate))[0]
            # A rate that is not used proves nothing.
            rate = rate if closure.wanted else closure.rate
            self._begin_cycle(now)
            return rate, rate, False
        # The last pause between probes may be lateness.
        if not closure.hinted and self._probed_before > closure.since:
            slack += now - self._probed_before
        belief.window = min(span, _LONGEST_WINDOW)
        self._begin_cycle(now)
        return count / span, count / max(span - slack, 0.7 * span), True

    def _rates_before(self, closure: _Closure, need: float) -> tuple[float, float]:
        """Return the delivery rates of the last second, and of the last moments, before the refusal."""
        end = closure.refused.at
        width = max(min(need, end - self._belief.mark), 1e-3)
        brief = max(min(width / 2, max(_BRIEF, _BRIEF_REQUESTS / closure.rate)), 1e-3)
        return self._count(end - width, end) / width, self._count(end - brief, end) / brief

    def _begin_cycle(self, now: float) -> None:
        self._belief.mark, self._belief.slack, self._belief.probed = now, 0.0, 0.0

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
        belief, level = self._belief, closure.refused.in_flight
        if belief.slots < math.inf:
            # A refusal below the slots, or right after a closure, shows that there is no limit of slots.
            lasted = closure.since - belief.opened_at >= _SAMPLE
            belief.slots = max(1, belief.slots - 1) if lasted and level >= belief.slots - 2 else math.inf
            belief.suspects = ()
            return
        if belief.growing and closure.rate >= 1.3 * belief.stood:
            return
        levels = self._levels_since(belief.opened_at - 0.5)
        above = sum(one >= level for one in levels)
        rare = level >= 2 and len(levels) >= 20 and above <= 0.1 * len(levels)
        if not rare or any(abs(level - one) > max(1, _ALIKE_SLOTS * one) for one in belief.suspects):
            belief.suspects = ()
        if rare:
            belief.suspects = (*belief.suspects, level)
        if len(belief.suspects) >= _SUSPICIONS:
            belief.slots = max(1, min(belief.suspects) - 1)
            # The slots limit now, so the rate gets room to rise.
            closure.rate *= 1.5

    def _levels_since(self, start: float) -> list[int]:
        """Return the numbers in flight at the requests since ``start`` that were answered."""
        recent = islice(reversed(self._accepted.items()), 1000)
        return [s.in_flight for serial, s in recent if s.at >= start and serial not in self._unsettled][:400]
