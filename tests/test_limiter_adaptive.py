"""The pace that finds the quota: rules that always hold, and its speed against simulated servers."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

import pytest
from attrs import define, frozen
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bandwidth_async.limiter.adaptive import AdaptivePace
from bandwidth_async.limiter.refusal import Refusal

LATENESS = 0.02  # seconds of timer overshoot that may be paid back
SHORTEST_PROBE_WAIT = 0.03  # seconds without another request after a probe, at least
LONGEST_PROBE_GAP = 8.0  # seconds between two probes at most
RESTART = 0.98  # of the refused rate, at most

# ------------------------------------------------------------------------------------------- a small world

# Takes the time and the number of requests in service. Returns the seconds until one is admitted, 0 for now.
Admit = Callable[[float, int], float]
Hint = Callable[[float], float | None]


def bucket(burst: float, *rates: tuple[float, float]) -> Admit:
    """Return a token bucket. ``rates`` are pairs of a start time and the tokens a second from then on."""
    tokens, filled = burst, 0.0

    def admit(now: float, _: int) -> float:
        nonlocal tokens, filled
        ends = [start for start, _ in rates[1:]] + [math.inf]
        total, rate = 0.0, 0.0
        for (start, each), end in zip(rates, ends, strict=True):
            if now >= start:
                total, rate = total + each * (min(now, end) - start), each
        tokens, filled = min(burst, tokens + total - filled), total
        if tokens < 1 - 1e-9:
            return (1 - tokens) / rate
        tokens -= 1
        return 0.0

    return admit


def fixed_window(limit: int, seconds: float = 1.0, phase: float = 0.4) -> Admit:
    """Return a server that admits ``limit`` in each window of ``seconds``."""
    window, used = -1, 0

    def admit(now: float, _: int) -> float:
        nonlocal window, used
        if int((now + phase) // seconds) != window:
            window, used = int((now + phase) // seconds), 0
        used += 1
        return 0.0 if used <= limit else (window + 1) * seconds - now - phase

    return admit


def sliding_window(limit: int, seconds: float = 1.0) -> Admit:
    """Return a server that admits ``limit`` in any ``seconds``."""
    admitted: deque[float] = deque(maxlen=limit)

    def admit(now: float, _: int) -> float:
        if len(admitted) == limit and admitted[0] > now - seconds:
            return admitted[0] + seconds - now
        admitted.append(now)
        return 0.0

    return admit


def slots(limit: int) -> Admit:
    """Return a server that limits the number of requests in service."""
    return lambda _, busy: 0.05 if busy >= limit else 0.0


def unlimited(_: float, __: int) -> float:
    """Admit everything."""
    return 0.0


def no_hint(_: float) -> None:
    """Answer 429 without a hint."""


def whole_seconds(wait: float) -> float:
    """Answer with ``Retry-After`` in whole seconds, as most servers do."""
    return float(max(1, math.ceil(wait)))


def exact(wait: float) -> float:
    """Answer with a hint in milliseconds."""
    return math.ceil(wait * 1000) / 1000


@frozen
class Run:
    """The result of a simulated run."""

    seconds: float
    accepted: int
    refused: int
    sent: tuple[float, ...]

    @property
    def share(self) -> float:
        """The number of refusals for each accepted request."""
        return self.refused / max(self.accepted, 1)


def simulate(
    admit: Admit,
    hint: Hint = no_hint,
    *,
    items: float = math.inf,
    until: float = math.inf,
    pace: AdaptivePace | None = None,
    seed: int = 1,
    slow: float = 0.0,
    connections: float = math.inf,
    idle: tuple[float, float] = (math.inf, math.inf),
) -> Run:
    """Send ``items`` with ``pace``. Each arrives after 4-20 ms, and is answered after 20-200 ms.

    A share ``slow`` of the accepted ones is answered after 3 s. No request is sent during ``idle``.
    """
    random, order = Random(seed), count()
    pace = pace or AdaptivePace()
    events: list[tuple[float, int, str, int, float]] = []
    now, busy, in_flight, accepted, refused = 0.0, 0, 0, 0, 0
    sent: list[float] = []

    def happen(at: float, what: str, serial: int, value: float = 0.0) -> None:
        heapq.heappush(events, (at, next(order), what, serial, value))

    def due() -> float:
        if accepted + in_flight >= items or in_flight >= connections:
            return math.inf
        at = pace.next_time(now, in_flight)
        return max(at, idle[1]) if max(at, now) >= idle[0] else at

    while accepted < items:
        coming = due()
        while coming <= now:
            serial = pace.on_send(now, in_flight)
            sent.append(now)
            in_flight += 1
            happen(now + random.uniform(0.004, 0.02), "arrive", serial, now)
            coming = due()
        following = min(coming, events[0][0] if events else math.inf)
        if following > until:
            break
        assert following < math.inf, "nothing is due and nothing is on its way"
        now = max(now, following)
        while events and events[0][0] <= now:
            _, _, what, serial, value = heapq.heappop(events)
            if what == "arrive":
                wait = admit(now, busy)
                if wait:
                    happen(now + random.uniform(0.004, 0.02), "refuse", serial, wait)
                else:
                    busy += 1
                    latency = 3.0 if random.random() < slow else random.uniform(0.02, 0.2)
                    happen(max(now, value + latency), "accept", serial)
                continue
            in_flight -= 1
            if what == "accept":
                busy, accepted = busy - 1, accepted + 1
                wanted = accepted + in_flight < items and not idle[0] <= now < idle[1]
                pace.on_accepted(serial, now, wanted=wanted)
            else:
                refused += 1
                asked = hint(value)
                jitter = random.uniform(0, 0.02) if asked else 0.0
                pace.on_refused(serial, now, Refusal(asked, jitter, coarse=hint is whole_seconds))
    return Run(now, accepted, refused, tuple(sent))


# ------------------------------------------------------------------------------------- what always holds


@define
class Out:
    """A request in flight."""

    serial: int
    at: float
    probe: bool


def is_closed(pace: AdaptivePace) -> bool:
    """Return True if the pace is closed, by its repr."""
    return "closed" in repr(pace)


class AdaptiveTraffic(RuleBasedStateMachine):
    """Any traffic with a pace. Only allowed requests are sent. At the end the same steps are repeated."""

    def __init__(self) -> None:
        super().__init__()
        self.pace = AdaptivePace()
        self.floor, self.ceiling = 0.1, math.inf
        self.settings: dict[str, Any] = {}
        self.now = 0.0
        self.out: list[Out] = []
        self.hinted_until = -math.inf
        self.opened_at = -math.inf
        self.refused_rate = math.inf
        self.calls: list[tuple[str, tuple[object, ...], dict[str, object]]] = []
        self.trace: list[tuple[float, float]] = []

    @initialize(
        start=st.none() | st.floats(0.05, 5000),
        floor=st.sampled_from([0.1, 1.0, 20.0]),
        ceiling=st.sampled_from([20.0, 300.0, math.inf]),
    )
    def begin(self, start: float | None, floor: float, ceiling: float) -> None:
        """Start with any bounds, also equal ones and a start rate outside of them."""
        self.floor, self.ceiling = floor, ceiling
        self.pace = AdaptivePace(start=start, floor=floor, ceiling=ceiling)
        self.settings = {"floor": floor, "ceiling": ceiling} | ({} if start is None else {"start": start})

    def call(self, name: str, *args: object, **kwargs: object) -> object:
        """Report to the pace, and check the rules for the beginning and the end of a closure."""
        was_closed, rate = is_closed(self.pace), self.pace.rate
        given: object = getattr(self.pace, name)(*args, **kwargs)
        self.calls.append((name, args, kwargs))
        self.trace.append((self.pace.rate, self.pace.next_time(self.now, len(self.out))))
        if is_closed(self.pace) and not was_closed:
            # After a hint that was too short, the closure before goes on.
            assert self.pace._closure is not None
            self.refused_rate = max(rate, self.pace._closure.rate)
        if was_closed and not is_closed(self.pace):
            self.opened_at, self.hinted_until = self.now, -math.inf
            # This rule does not apply if slots are the limit, or if the rate was found not to be the cause.
            if self.pace._belief.slots == math.inf and not self.pace._belief.noise:
                assert self.pace.rate <= max(RESTART * self.refused_rate, self.floor)
        return given

    def take(self, which: int) -> Out:
        """Remove and return a request in flight."""
        return self.out.pop(which % len(self.out))

    @rule(seconds=st.floats(0, 0.05) | st.floats(0, 4) | st.sampled_from([0.0, 60.0, 3600.0]))
    def passes(self, seconds: float) -> None:
        """Time passes, also hours."""
        self.now += seconds

    @rule(which=st.integers(1, 12))
    def send(self, which: int) -> None:
        """Send some requests, each as soon as the pace allows it."""
        for _ in range(which):
            due = self.pace.next_time(self.now, len(self.out))
            if due == math.inf:
                return
            self.now = max(self.now, due)
            assert self.now >= self.hinted_until
            probes = is_closed(self.pace) and not self.pace.pause_hinted
            alone = not any(one.probe for one in self.out)
            patient = all(self.now >= one.at + SHORTEST_PROBE_WAIT for one in self.out if one.probe)
            serial = self.call("on_send", self.now, len(self.out))
            assert isinstance(serial, int)
            if probes:
                assert alone or (patient and not is_closed(self.pace))
            for one in self.out:
                one.probe = one.probe and is_closed(self.pace)
            self.out.append(Out(serial, self.now, is_closed(self.pace)))

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0, 20), wanted=st.booleans())
    def accept(self, which: int, wanted: bool) -> None:
        """Accept a request. The rate does not rise if no other request waits."""
        was_open, rate = not is_closed(self.pace), self.pace.rate
        self.call("on_accepted", self.take(which).serial, self.now, wanted=wanted)
        if was_open and not wanted:
            assert self.pace.rate == rate

    @precondition(lambda self: self.out)
    @rule(
        which=st.integers(0, 20),
        hint=st.none() | st.sampled_from([0.0, 1.0, 5.0, 86_400.0]) | st.floats(1e-9, 30),
        jitter=st.floats(0, 0.02),
    )
    def refuse(self, which: int, hint: float | None, jitter: float) -> None:
        """Refuse a request. If it was sent before the last closure ended, only a long hint begins another."""
        was_open, one, noise = not is_closed(self.pace), self.take(which), self.pace._belief.noise
        self.call("on_refused", one.serial, self.now, Refusal(hint, jitter))
        # A late hint is obeyed only if it is long enough.
        late_word = hint is not None and hint >= 1.0
        closes = not was_open or one.at >= self.opened_at or late_word
        # Where the rate does not cause refusals, a lone one closes nothing.
        assert is_closed(self.pace) == closes or (noise and was_open)
        if is_closed(self.pace) and hint:
            self.hinted_until = max(self.hinted_until, self.now + hint)

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0, 20))
    def lose(self, which: int) -> None:
        """A request gets no response."""
        self.call("on_lost", self.take(which).serial, self.now)

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0, 20))
    def unsend(self, which: int) -> None:
        """An admitted request is not sent."""
        self.call("on_unsent", self.take(which).serial)

    @rule(times=st.integers(5, 60), latency=st.floats(0, 0.3))
    def quiet(self, times: int, latency: float) -> None:
        """Send and accept some requests without a refusal."""
        for _ in range(times):
            self.send(1)
            self.now += latency / 10
            if self.out:
                self.accept(0, wanted=True)

    @invariant()
    def the_rate_is_a_rate(self) -> None:
        """The rate is a finite number within its bounds."""
        assert min(self.floor, self.ceiling) <= self.pace.rate <= self.ceiling
        assert self.pace.rate < math.inf

    @invariant()
    def it_never_waits_for_nothing(self) -> None:
        """The pace waits for a response only if a request is in flight."""
        due = self.pace.next_time(self.now, len(self.out))
        assert not math.isnan(due)
        assert due < math.inf or self.out

    @invariant()
    def nothing_piles_up(self) -> None:
        """The pace stores only requests in flight and a bounded past."""
        assert set(self.pace._unsettled) == {one.serial for one in self.out}
        assert len(self.pace._belief.suspects) <= 3
        assert len(self.pace._belief.loners) <= 5
        assert len(self.pace._accepted) <= 20_000

    def teardown(self) -> None:
        """If all are accepted, the next request may be sent soon. The same steps have the same result."""
        while self.out:
            self.accept(0, wanted=True)
        longest = max(LONGEST_PROBE_GAP, 1.5 / min(self.floor, self.ceiling))
        until = max(self.now + longest, self.hinted_until)
        assert self.pace.next_time(self.now, 0) <= until + 0.02 + 1e-9
        again = AdaptivePace(**self.settings)
        for name, args, kwargs in self.calls:
            getattr(again, name)(*args, **kwargs)
        assert (again.rate, again.paused_until) == (self.pace.rate, self.pace.paused_until)


TestAdaptiveTraffic = AdaptiveTraffic.TestCase
TestAdaptiveTraffic.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

# --------------------------------------------------------------------------------- how near to the quota

SEEDS = (1, 2, 3)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("server", "hint", "items", "ideal", "longest", "refused"),
    [
        pytest.param(lambda: bucket(50, (0, 50)), no_hint, 6000, 119, 1.12, 0.02, id="bucket"),
        pytest.param(lambda: bucket(50, (0, 50)), whole_seconds, 6000, 119, 1.2, 0.02, id="bucket-seconds"),
        pytest.param(lambda: bucket(50, (0, 50)), exact, 6000, 119, 1.12, 0.03, id="bucket-exact"),
        pytest.param(lambda: bucket(100, (0, 1000)), no_hint, 20_000, 20, 1.2, 0.015, id="1000/s"),
        pytest.param(lambda: bucket(5, (0, 5)), no_hint, 300, 59, 1.08, 0.06, id="5/s"),
        pytest.param(lambda: fixed_window(100), no_hint, 3000, 29.6, 1.25, 0.025, id="fixed"),
        pytest.param(lambda: fixed_window(100), whole_seconds, 3000, 29.6, 1.3, 0.015, id="fixed-seconds"),
        pytest.param(lambda: sliding_window(100), no_hint, 3000, 29, 1.25, 0.03, id="sliding"),
        pytest.param(lambda: sliding_window(100), whole_seconds, 3000, 29, 1.45, 0.015, id="sliding-seconds"),
        pytest.param(lambda: slots(25), no_hint, 10_000, 44, 1.3, 0.015, id="slots"),
        pytest.param(
            lambda: bucket(20, (0, 200), (10, 40), (30, 200)), no_hint, 6000, 46, 1.25, 0.03, id="dip"
        ),
    ],
)
def test_it_comes_near_the_quota(
    server: Callable[[], Admit],
    hint: Hint,
    items: int,
    ideal: float,
    longest: float,
    refused: float,
    seed: int,
) -> None:
    """A run takes little longer than with a known quota, and is seldom refused. This includes the search."""
    run = simulate(server(), hint, items=items, seed=seed)
    assert (run.seconds / ideal <= longest, run.share <= refused) == (True, True), run.seconds / ideal


@pytest.mark.parametrize(("before", "after"), [(50, 500), (500, 50)])
@pytest.mark.parametrize("hint", [no_hint, exact])
def test_a_quota_that_changes_is_followed(before: int, after: int, hint: Hint) -> None:
    """Within half a minute of a change, the rate is near the new quota."""
    pace = AdaptivePace()
    simulate(bucket(20, (0, before), (20, after)), hint, until=50, pace=pace)
    assert 0.7 * after <= pace.rate <= 1.4 * after


def test_a_server_that_never_refuses_is_asked_ever_faster() -> None:
    """The rate doubles again and again while it is used."""
    pace = AdaptivePace()
    run = simulate(unlimited, items=20_000, pace=pace)
    assert run.refused == 0
    assert pace.rate > 5000


def test_a_ceiling_is_reached_and_kept() -> None:
    """Without refusals the rate rises to the ceiling and stays there."""
    pace = AdaptivePace(ceiling=100)
    run = simulate(unlimited, until=20, pace=pace)
    assert pace.rate == 100
    assert 1700 <= len(run.sent) <= 2000


@pytest.mark.parametrize(
    ("start", "floor", "ceiling", "rate"),
    [(400, 0.1, math.inf, 400), (400, 0.1, 50, 50), (1, 5, 50, 5), (None, 0.1, math.inf, 20), (7, 7, 7, 7)],
)
def test_a_warm_start_begins_there(start: float | None, floor: float, ceiling: float, rate: float) -> None:
    """The pace starts with the given rate, within the bounds."""
    assert AdaptivePace(start=start, floor=floor, ceiling=ceiling).rate == rate


@pytest.mark.parametrize(
    ("hint", "wait", "fewest", "most"),
    [(no_hint, 1.0, 440, 470), (whole_seconds, 1.0, 3300, 3600), (whole_seconds, 30.0, 115, 125)],
)
def test_an_hour_of_refusals(hint: Hint, wait: float, fewest: int, most: int) -> None:
    """A server that refuses everything gets a probe every 8 s, or as often as its hints say, and no more."""
    run = simulate(lambda _, __: wait, hint, until=3600)
    assert fewest <= len(run.sent) <= most
    assert (
        max(b - a for a, b in zip(run.sent, run.sent[1:], strict=False)) <= max(LONGEST_PROBE_GAP, wait) + 0.1
    )


# ----------------------------------------------------------------------------------------- single cases


def closed_pace(hint: float | None = None, **bounds: Any) -> tuple[AdaptivePace, int]:
    """Return a pace that was refused at 0.1 s, and the serial of a request that is still in flight."""
    pace = AdaptivePace(**bounds)
    first, second = pace.on_send(0.0, 0), pace.on_send(0.05, 1)
    pace.on_refused(first, 0.1, Refusal(hint))
    return pace, second


def test_a_burst_of_refusals_is_one_event() -> None:
    """Refusals of requests that were in flight at the first one do not lengthen the pause or cut the rate."""
    pace, late = closed_pace()
    seen = pace.rate, pace.paused_until
    pace.on_refused(late, 0.12, Refusal(None))
    assert (pace.rate, pace.paused_until) == seen


def test_the_longest_hint_of_a_burst_wins() -> None:
    """The longest hint counts, also if a shorter one comes after it."""
    pace, late = closed_pace(3.0)
    pace.on_refused(late, 0.2, Refusal(1.0))
    assert pace.next_time(0.2, 0) == 3.1


def test_a_hint_that_comes_while_a_probe_is_out_is_obeyed() -> None:
    """A server may send a hint only with some responses. It applies to all requests."""
    pace, late = closed_pace()
    probed_at = pace.next_time(0.1, 1)
    pace.on_send(probed_at, 1)
    pace.on_refused(late, probed_at + 0.01, Refusal(5.0))
    assert pace.next_time(probed_at + 0.01, 1) == probed_at + 5.01


def test_a_lost_probe_is_sent_again_at_the_pace() -> None:
    """Without a connection every probe is lost at once. That does not cause a thousand probes."""
    pace, late = closed_pace()
    pace.on_lost(late, 0.1)
    now, probes = 0.1, 0
    while now < 10:
        now = max(now, pace.next_time(now, 0))
        serial = pace.on_send(now, 0)
        now += 0.001
        pace.on_lost(serial, now)
        probes += 1
    assert probes <= pace.rate * 10 + 2


def test_a_probe_that_was_not_sent_is_replaced_by_the_next_request() -> None:
    """The next request may be sent at once."""
    pace, _ = closed_pace()
    probed_at = pace.next_time(0.1, 1)
    pace.on_unsent(pace.on_send(probed_at, 1))
    assert pace.next_time(probed_at, 1) <= probed_at


def test_there_is_no_pause_after_a_closure() -> None:
    """The pause is over as soon as a response ends the closure."""
    pace = AdaptivePace(start=0.5)
    first, second = pace.on_send(0.0, 0), pace.on_send(2.0, 1)
    pace.on_refused(first, 2.1, Refusal(None))
    pace.on_accepted(second, 2.2, wanted=True)
    assert not is_closed(pace)
    assert pace.paused_until <= 2.2


def test_one_answer_after_an_hour_does_not_make_it_wait_for_hours() -> None:
    """If a laptop sleeps, a refusal may take an hour. The pace waits 15 s at most for the next probe."""
    pace = AdaptivePace()
    pace.on_refused(pace.on_send(0.0, 0), 3600.0, Refusal(None))
    probed_at = pace.next_time(3600.0, 0)
    pace.on_send(probed_at, 0)
    assert pace.next_time(probed_at, 1) <= probed_at + LONGEST_PROBE_GAP


def test_a_rate_that_connections_do_not_use_does_not_rise() -> None:
    """If ten connections are the limit, the rate stays near what they can use. It follows a lower quota."""
    pace = AdaptivePace()
    run = simulate(bucket(50, (0, 1e6), (60, 50)), until=120, pace=pace, connections=10)
    assert run.refused <= 0.03 * run.accepted
    pace = AdaptivePace()
    simulate(unlimited, until=330, pace=pace, connections=10)
    assert pace.rate < 1000


@pytest.mark.parametrize("hint", [no_hint, whole_seconds, exact])
def test_an_idle_hour_is_no_measure_of_the_quota(hint: Hint) -> None:
    """If the quota falls by a fifth in an idle hour, the rate is near the new quota afterwards."""
    busy, rest = simulate(bucket(50, (0, 50)), hint, until=60), 3660.0
    pace = AdaptivePace()
    run = simulate(bucket(50, (0, 50), (rest, 40)), hint, until=rest + 60, idle=(60, rest), pace=pace)
    assert len(run.sent) - len(busy.sent) >= 0.85 * 40 * 60


def test_an_idle_hour_in_a_closure_is_no_measure_of_the_quota() -> None:
    """A closure of one second counts as one second, even if no request comes for an hour."""
    pace = AdaptivePace()
    now = simulate(bucket(50, (0, 50)), whole_seconds, items=3000, pace=pace).seconds
    rate = pace.rate
    pace.on_refused(pace.on_send(now, 0), now + 0.05, Refusal(1.0))
    pace.on_send(now + 3600, 0)
    assert pace.rate >= 0.45 * rate


def test_slow_answers_do_not_hide_the_others() -> None:
    """If one of a hundred responses takes 3 s, the measured rate hardly falls."""
    runs = [simulate(bucket(50, (0, 50)), items=3000, slow=0.01, seed=seed) for seed in SEEDS]
    assert sum(run.seconds for run in runs) / len(runs) <= 1.06 * 59


def test_unanswered_requests_count_as_let_in() -> None:
    """If every response takes 3 s, the measured quota is as high as with fast responses."""
    for seed in SEEDS:
        assert simulate(bucket(50, (0, 50)), items=3000, slow=1.0, seed=seed).seconds <= 1.1 * 59


def test_growth_that_finds_only_the_burst_returns_to_the_known_quota() -> None:
    """If each closure costs a second, a try to grow costs one or two closures, and no low rate after it."""
    runs = [simulate(sliding_window(100), whole_seconds, items=6000, seed=seed) for seed in SEEDS]
    assert sum(run.seconds for run in runs) / len(runs) <= 1.22 * 59


@pytest.mark.parametrize(("hint", "slowest", "fastest"), [(1.0, 110, 118), (0.95, 110, 122)])
def test_after_growth_a_dear_closure_is_not_risked(hint: float, slowest: float, fastest: float) -> None:
    """It is refused at 134/s, and 118 were accepted in the last second. A hint of 1 s keeps it below 118."""
    pace, now, highest = AdaptivePace(start=100), 0.0, 0.0
    refused: list[float] = []
    while len(refused) < 3 or now < refused[2] + 30:
        now = max(now, pace.next_time(now, 0))
        serial = pace.on_send(now, 0)
        later = bool(refused) and now >= refused[0] + 10
        # The first and the third refusal come while the rate grows. The second one comes later.
        if (pace.rate >= 110, later, pace.rate >= 125, False)[len(refused)]:
            refused.append(now)
            pace.on_refused(serial, now + 0.001, Refusal(hint, coarse=hint == 1.0))
            continue
        now += 0.001
        pace.on_accepted(serial, now, wanted=True)
        highest = max(highest, pace.rate) if len(refused) == 3 else 0.0
    assert slowest <= highest < fastest


def test_refusals_in_no_time_are_survived() -> None:
    """The clock may stand still between a request and its refusal, and a hint may be too small to count."""
    pace = AdaptivePace()
    for _ in range(5):
        pace.on_refused(pace.on_send(0.0, 0), 0.0, Refusal(1e-20))
    assert 0.1 <= pace.rate <= 20


def test_slots_grow_without_an_end() -> None:
    """A limit of slots that no longer applies is dropped. Otherwise its number would grow without end."""
    pace = AdaptivePace()
    pace._belief.slots, pace._belief.next_raise, now = 5, 1.0, 0.0
    for _ in range(1200):
        now += 1.1
        pace.on_accepted(pace.on_send(now, 0), now, wanted=True)
    assert pace.next_time(now, 0) < math.inf


def test_slots_that_are_too_few_grow_though_they_leave_the_rate_unused() -> None:
    """A wrong limit of one slot, far below the rate, is not kept forever."""
    pace = AdaptivePace()
    pace._belief.slots, pace.rate, now = 2, 100.0, 0.0
    for _ in range(100):
        serial = pace.on_send(now, 1)
        now += 0.5
        pace.on_accepted(serial, now, wanted=True)
    assert pace.next_time(now, 2) < math.inf


def test_two_refusals_at_unlike_counts_in_flight_are_no_limit_of_slots() -> None:
    """When the quota rises from 40/s to 200/s, refusals with 6 and 34 in flight must not set 5 slots."""
    quota = bucket(20, (0, 200), (15, 40), (40, 200))
    assert simulate(quota, whole_seconds, items=8000, seed=18).seconds <= 1.5 * 60


@pytest.mark.parametrize(("answer", "least"), [(0.001, 10_000), (0.1, 160)])
def test_the_start_is_as_fast_as_answers_are(answer: float, least: int) -> None:
    """Fast responses let the rate grow faster. A new rate counts once a refusal would have arrived."""
    pace, now, out = AdaptivePace(), 0.0, deque[tuple[float, int]]()
    while now < 1.0:
        now = max(now, min(pace.next_time(now, len(out)), out[0][0] if out else math.inf))
        while out and out[0][0] <= now:
            answered, serial = out.popleft()
            pace.on_accepted(serial, answered, wanted=True)
        if pace.next_time(now, len(out)) <= now:
            out.append((now + answer, pace.on_send(now, len(out))))
    assert least <= pace.rate <= 40 * least


def test_the_request_after_a_probe_keeps_the_pace() -> None:
    """A bucket with one token accepts the probe, and would refuse a request that is sent at once."""
    pace, _ = closed_pace(ceiling=1.0)
    probed_at = pace.next_time(0.1, 1)
    pace.on_send(probed_at, 1)
    assert pace.next_time(probed_at, 2) >= probed_at + 1 / pace.rate


def test_it_shows_its_state() -> None:
    """The repr shows the rate, the quota and whether the pace is closed."""
    assert repr(AdaptivePace()) == "<AdaptivePace 20/s, quota nan/s, open>"
    assert repr(closed_pace()[0]) == "<AdaptivePace 20/s, quota nan/s, closed>"


@pytest.mark.parametrize("hint", [None, 1.0, 3.0, 60.0])
def test_a_closure_at_the_start_is_no_measure(hint: float | None) -> None:
    """Others may have used up the quota. Once the server accepts requests, the search starts as usual."""
    pace, now, opens = AdaptivePace(), 0.0, hint or 3.0
    admitted: list[float] = []
    while len(admitted) < 100 and now < 1000.0:
        now = max(now, pace.next_time(now, 0))
        serial = pace.on_send(now, 0)
        sent = now
        now += 0.02
        if sent < opens - 0.1:
            pace.on_refused(serial, now, Refusal(hint))
        else:
            pace.on_accepted(serial, now, wanted=True)
            admitted.append(now)
    assert len(admitted) == 100
    assert now < opens + 30.0
    assert pace.quota is None


@pytest.mark.parametrize("seed", SEEDS)
def test_refused_probes_show_a_quota_too_low_to_be_measured(seed: int) -> None:
    """If a second has one accepted and four refused probes, the quota is near 1/s, not half the start."""
    run = simulate(bucket(1, (0, 1)), items=60, seed=seed)
    assert (run.refused <= 10, run.seconds <= 1.25 * 59) == (True, True), run


@pytest.mark.parametrize(("left", "longest"), [(0, 1.12), (1, 1.25), (2, 1.75)])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_quota_that_others_used_up_is_sought_as_at_the_start(left: int, longest: float, seed: int) -> None:
    """If others have used up most of a window, the few requests left do not keep the rate low for long."""
    window = fixed_window(100, phase=0.1)
    for _ in range(100 - left):
        window(0.0, 0)
    assert simulate(window, items=3000, seed=seed).seconds <= longest * 30


def test_a_late_answer_s_hint_is_obeyed() -> None:
    """A hint counts, also from a request that was sent before the closure ended."""
    pace = AdaptivePace()
    serials = [pace.on_send(0.05 * number, number) for number in range(20)]
    pace.on_refused(serials[1], 1.0, Refusal(0.1))
    probe = pace.on_send(1.2, 19)
    pace.on_accepted(probe, 1.25, wanted=True)
    pace.on_refused(serials[2], 1.3, Refusal(60.0))
    assert pace.next_time(1.4, 17) == pytest.approx(61.3)


# --------------------------------------------------------------- refusals that the rate did not cause


def with_chance(share: float, inner: Admit, seed: int, wait: float = 0.05) -> Admit:
    """Return a server that also refuses a share of the requests, whatever the rate."""
    random = Random(seed)
    return lambda now, busy: wait if random.random() < share else inner(now, busy)


def banning(seconds: float, inner: Admit) -> Admit:
    """Return a server that refuses everything for ``seconds`` after a request over the quota."""
    until = -math.inf

    def admit(now: float, busy: int) -> float:
        nonlocal until
        if now >= until and inner(now, busy):
            until = now + seconds
        return max(until - now, 0.0)

    return admit


def shut(begin: float, end: float, inner: Admit) -> Admit:
    """Return a server that refuses everything from ``begin`` to ``end``."""
    return lambda now, busy: end - now if begin <= now < end else inner(now, busy)


def mean_seconds(server: Callable[[int], Admit], hint: Hint = no_hint, items: int = 4000) -> float:
    """Return the mean seconds that ``items`` take."""
    return sum(simulate(server(seed), hint, items=items, seed=seed).seconds for seed in SEEDS) / len(SEEDS)


def test_refusals_by_chance_do_not_bring_the_rate_down() -> None:
    """One request of a hundred is refused at any rate. At 100/s that costs little time."""
    assert mean_seconds(lambda seed: with_chance(0.01, bucket(20, (0, 100)), seed)) <= 1.3 * 40


@pytest.mark.parametrize("seconds", [5.0, 30.0])
def test_a_ban_is_no_window(seconds: float) -> None:
    """A ban costs its own length, and is not taken for the quota."""
    longest = 1.4 * 120 + 2 * seconds
    assert mean_seconds(lambda _: banning(seconds, bucket(10, (0, 50))), items=6000) <= longest


@pytest.mark.parametrize("seconds", [1.0, 30.0, 600.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_way_back_is_quick(seconds: float, seed: int) -> None:
    """Half a minute after a closure of any length, nearly as much is accepted as before."""
    opens = 20 + seconds
    run = simulate(shut(20, opens, bucket(20, (0, 100))), until=opens + 45, seed=seed)
    assert sum(at > opens + 30 for at in run.sent) >= 0.8 * 15 * 100


def test_a_constant_hint_costs_its_own_length() -> None:
    """A server that always asks for 60 s is not taken for one with windows of a minute."""
    assert mean_seconds(lambda _: bucket(10, (0, 50)), lambda _: 60.0, items=6000) <= 1.15 * 120 + 2 * 60


def test_after_a_hint_that_was_too_short_the_same_closure_goes_on() -> None:
    """A server asks for half of what it needs. That is not measured as a lower and lower quota."""
    assert mean_seconds(lambda _: fixed_window(100), lambda wait: wait / 2) <= 1.2 * 40


def test_a_request_s_own_refusal_is_no_answer_to_the_probe() -> None:
    """While its conference is locked, each probe with it would make the closure twice as long for all."""
    pace, now = AdaptivePace(start=100), 0.0
    first = pace.on_send(now, 0)
    pace.on_refused(first, now + 0.02, Refusal(None))
    for _ in range(5):
        now = pace.next_time(now + 0.02, 0)
        rest = pace.on_refused(pace.on_send(now, 0), now + 0.02, Refusal(None, own=first))
        assert pace.next_time(now + 0.02, 0) <= now + 0.02
        assert rest > 0
    pace.on_accepted(pace.on_send(now + 0.02, 0), now + 0.04, wanted=True)
    assert not is_closed(pace)


def test_a_request_s_own_refusal_begins_no_closure() -> None:
    """Others pass meanwhile, so its hint concerns this request only."""
    pace = AdaptivePace(start=100)
    pace.on_refused(pace.on_send(0.0, 0), 0.02, Refusal(5.0, own=1))
    assert not is_closed(pace)
    assert pace.rate == 100
