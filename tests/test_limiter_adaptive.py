"""The pace that finds out the quota: what always holds, and how it does against simulated servers."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from itertools import count
from random import Random

import pytest
from attrs import define, frozen
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bandwidth_async.limiter.adaptive import AdaptivePace

LATENESS = 0.004  # seconds of timer overshoot that may be paid back
SHORTEST_PROBE_WAIT = 0.03  # seconds without another request after a probe, at least
LONGEST_PROBE_GAP = 15.0  # seconds between two probes at most
RESTART = 0.98  # of the refused rate, at most

# ------------------------------------------------------------------------------------------- a small world

Admit = Callable[[float, int], float]  # moment, requests in service → seconds until there is room, 0 is now
Hint = Callable[[float], float | None]


def bucket(burst: float, *rates: tuple[float, float]) -> Admit:
    """Return a token bucket; ``rates`` are pairs: from which second, and how many tokens a second."""
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
    """Return a server that counts from zero again every so many ``seconds``."""
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
    """Return a server that limits how many are in service."""
    return lambda _, busy: 0.05 if busy >= limit else 0.0


def unlimited(_: float, __: int) -> float:
    """Admit everything."""
    return 0.0


def no_hint(_: float) -> None:
    """Answer 429 and nothing else."""


def whole_seconds(wait: float) -> float:
    """Answer with ``Retry-After`` as most servers do."""
    return float(max(1, math.ceil(wait)))


def exact(wait: float) -> float:
    """Answer with milliseconds."""
    return math.ceil(wait * 1000) / 1000


@frozen
class Run:
    """What became of a simulated run."""

    seconds: float
    accepted: int
    refused: int
    sent: tuple[float, ...]

    @property
    def share(self) -> float:
        """How many refusals an accepted request cost."""
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
    """Send ``items`` through ``pace``: each arrives 4-20 ms after it left, and is answered after 20-200 ms.

    Of the accepted a share ``slow`` is answered after 3 s; nothing is wanted during ``idle``.
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
                pace.on_refused(serial, now, asked, random.uniform(0, 0.02) if asked else 0.0)
    return Run(now, accepted, refused, tuple(sent))


# ------------------------------------------------------------------------------------- what always holds


@define
class Out:
    """A request that is out."""

    serial: int
    at: float
    probe: bool


def is_closed(pace: AdaptivePace) -> bool:
    """Return whether a closure lasts, as a debugger shows it."""
    return "closed" in repr(pace)


class AdaptiveTraffic(RuleBasedStateMachine):
    """Any traffic through a pace; only what it allows is sent. The steps are played again at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.pace = AdaptivePace()
        self.floor, self.ceiling = 0.1, math.inf
        self.settings: dict[str, float] = {}
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
        """Begin with any bounds, also equal ones and a start outside of them."""
        self.floor, self.ceiling = floor, ceiling
        self.pace = AdaptivePace(start=start, floor=floor, ceiling=ceiling)
        self.settings = {"floor": floor, "ceiling": ceiling} | ({} if start is None else {"start": start})

    def call(self, name: str, *args: object, **kwargs: object) -> object:
        """Report to the pace, and check that closures begin and end as they may."""
        was_closed, rate = is_closed(self.pace), self.pace.rate
        given: object = getattr(self.pace, name)(*args, **kwargs)
        self.calls.append((name, args, kwargs))
        self.trace.append((self.pace.rate, self.pace.next_time(self.now, len(self.out))))
        if is_closed(self.pace) and not was_closed:
            self.refused_rate = rate
        if was_closed and not is_closed(self.pace):
            self.opened_at, self.hinted_until = self.now, -math.inf
            # The exception: when slots are what limits, the rate makes room for them.
            if self.pace._slots == math.inf:
                assert self.pace.rate <= max(RESTART * self.refused_rate, self.floor)
        return given

    def take(self, which: int) -> Out:
        """Take one out of those that are out."""
        return self.out.pop(which % len(self.out))

    @rule(seconds=st.floats(0, 0.05) | st.floats(0, 4) | st.sampled_from([0.0, 60.0, 3600.0]))
    def passes(self, seconds: float) -> None:
        """Time passes, also hours."""
        self.now += seconds

    @rule(which=st.integers(1, 12))
    def send(self, which: int) -> None:
        """Send some, each as soon as it may leave."""
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
        """Let one in; a rate that is not wanted does not rise."""
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
        """Refuse one. If it was sent before the last closure ended, only a long hint begins another."""
        was_open, one = not is_closed(self.pace), self.take(which)
        self.call("on_refused", one.serial, self.now, hint, jitter)
        late_word = hint is not None and hint >= 1.0  # the server's, and worth obeying
        assert is_closed(self.pace) == (not was_open or one.at >= self.opened_at or late_word)
        if is_closed(self.pace) and hint:
            self.hinted_until = max(self.hinted_until, self.now + hint)

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0, 20))
    def lose(self, which: int) -> None:
        """No answer will come."""
        self.call("on_lost", self.take(which).serial, self.now)

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0, 20))
    def unsend(self, which: int) -> None:
        """It did not leave after all."""
        self.call("on_unsent", self.take(which).serial)

    @rule(times=st.integers(5, 60), latency=st.floats(0, 0.3))
    def quiet(self, times: int, latency: float) -> None:
        """Let a stretch of traffic pass without a refusal."""
        for _ in range(times):
            self.send(1)
            self.now += latency / 10
            if self.out:
                self.accept(0, wanted=True)

    @invariant()
    def the_rate_is_a_rate(self) -> None:
        """It is a finite number within its bounds."""
        assert min(self.floor, self.ceiling) <= self.pace.rate <= self.ceiling
        assert self.pace.rate < math.inf

    @invariant()
    def it_never_waits_for_nothing(self) -> None:
        """An answer is waited for only when one is to come."""
        due = self.pace.next_time(self.now, len(self.out))
        assert not math.isnan(due)
        assert due < math.inf or self.out

    @invariant()
    def nothing_piles_up(self) -> None:
        """What is remembered is what is out, and a bounded past."""
        assert set(self.pace._unsettled) == {one.serial for one in self.out}
        assert len(self.pace._suspects) <= 3
        assert len(self.pace._admitted) <= (self.pace._admitted.maxlen or 0)

    def teardown(self) -> None:
        """Quiet acceptance lets the next one leave soon; the same steps give the same trace."""
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
        pytest.param(lambda: bucket(50, (0, 50)), whole_seconds, 6000, 119, 1.2, 0.015, id="bucket-seconds"),
        pytest.param(lambda: bucket(50, (0, 50)), exact, 6000, 119, 1.12, 0.03, id="bucket-exact"),
        pytest.param(lambda: bucket(100, (0, 1000)), no_hint, 20_000, 20, 1.2, 0.01, id="1000/s"),
        pytest.param(lambda: bucket(5, (0, 5)), no_hint, 300, 59, 1.08, 0.06, id="5/s"),
        pytest.param(lambda: fixed_window(100), no_hint, 3000, 29.6, 1.25, 0.025, id="fixed"),
        pytest.param(lambda: fixed_window(100), whole_seconds, 3000, 29.6, 1.3, 0.015, id="fixed-seconds"),
        pytest.param(lambda: sliding_window(100), no_hint, 3000, 29, 1.25, 0.02, id="sliding"),
        pytest.param(lambda: sliding_window(100), whole_seconds, 3000, 29, 1.45, 0.015, id="sliding-seconds"),
        pytest.param(lambda: slots(25), no_hint, 10_000, 44, 1.3, 0.015, id="slots"),
        pytest.param(
            lambda: bucket(20, (0, 200), (10, 40), (30, 200)), no_hint, 6000, 46, 1.25, 0.02, id="dip"
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
    """A run takes little longer than with a known quota, its discovery included, and is seldom refused."""
    run = simulate(server(), hint, items=items, seed=seed)
    assert (run.seconds / ideal <= longest, run.share <= refused) == (True, True), run.seconds / ideal


@pytest.mark.parametrize(("before", "after"), [(50, 500), (500, 50)])
@pytest.mark.parametrize("hint", [no_hint, exact])
def test_a_quota_that_changes_is_followed(before: int, after: int, hint: Hint) -> None:
    """Within half a minute of a rise or a fall most of the new quota is used."""
    pace = AdaptivePace()
    simulate(bucket(20, (0, before), (20, after)), hint, until=50, pace=pace)
    assert 0.7 * after <= pace.rate <= 1.4 * after


def test_a_server_that_never_refuses_is_asked_ever_faster() -> None:
    """The rate doubles as long as it is used."""
    pace = AdaptivePace()
    run = simulate(unlimited, items=20_000, pace=pace)
    assert run.refused == 0
    assert pace.rate > 5000


def test_a_ceiling_is_reached_and_kept() -> None:
    """Without refusals the rate ends where the user wants it to."""
    pace = AdaptivePace(ceiling=100)
    run = simulate(unlimited, until=20, pace=pace)
    assert pace.rate == 100
    assert 1700 <= len(run.sent) <= 2000


@pytest.mark.parametrize(
    ("start", "floor", "ceiling", "rate"),
    [(400, 0.1, math.inf, 400), (400, 0.1, 50, 50), (1, 5, 50, 5), (None, 0.1, math.inf, 20), (7, 7, 7, 7)],
)
def test_a_warm_start_begins_there(start: float | None, floor: float, ceiling: float, rate: float) -> None:
    """A rate learned before is where it begins, within the bounds."""
    assert AdaptivePace(start=start, floor=floor, ceiling=ceiling).rate == rate


@pytest.mark.parametrize(
    ("hint", "wait", "fewest", "most"),
    [(no_hint, 1.0, 240, 270), (whole_seconds, 1.0, 3300, 3600), (whole_seconds, 30.0, 115, 125)],
)
def test_an_hour_of_refusals(hint: Hint, wait: float, fewest: int, most: int) -> None:
    """A server that refuses everything is asked every 15 s, or as often as it says, and not more."""
    run = simulate(lambda _, __: wait, hint, until=3600)
    assert fewest <= len(run.sent) <= most
    assert (
        max(b - a for a, b in zip(run.sent, run.sent[1:], strict=False)) <= max(LONGEST_PROBE_GAP, wait) + 0.1
    )


# ----------------------------------------------------------------------------------------- single cases


def closed_pace(hint: float | None = None, **bounds: float) -> tuple[AdaptivePace, int]:
    """Return a pace that was refused at 0.1 s, and the serial of a request that is still out."""
    pace = AdaptivePace(**bounds)
    first, second = pace.on_send(0.0, 0), pace.on_send(0.05, 1)
    pace.on_refused(first, 0.1, hint)
    return pace, second


def test_a_burst_of_refusals_is_one_event() -> None:
    """Refusals of requests that were in flight at the first one do not lengthen the pause or cut the rate."""
    pace, late = closed_pace()
    seen = pace.rate, pace.paused_until
    pace.on_refused(late, 0.12, None)
    assert (pace.rate, pace.paused_until) == seen


def test_the_longest_hint_of_a_burst_wins() -> None:
    """Also when a shorter one comes after it."""
    pace, late = closed_pace(3.0)
    pace.on_refused(late, 0.2, 1.0)
    assert pace.next_time(0.2, 0) == 3.1


def test_a_hint_that_comes_while_a_probe_is_out_is_obeyed() -> None:
    """A server that names its moment in some answers only means it for all."""
    pace, late = closed_pace()
    probed_at = pace.next_time(0.1, 1)
    pace.on_send(probed_at, 1)
    pace.on_refused(late, probed_at + 0.01, 5.0)
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
    pace.on_refused(first, 2.1, None)
    pace.on_accepted(second, 2.2, wanted=True)
    assert not is_closed(pace)
    assert pace.paused_until <= 2.2


def test_one_answer_after_an_hour_does_not_make_it_wait_for_hours() -> None:
    """A laptop that slept saw one refusal take an hour; the probe after it is waited for 15 s at most."""
    pace = AdaptivePace()
    pace.on_refused(pace.on_send(0.0, 0), 3600.0, None)
    probed_at = pace.next_time(3600.0, 0)
    pace.on_send(probed_at, 0)
    assert pace.next_time(probed_at, 1) <= probed_at + LONGEST_PROBE_GAP


def test_a_rate_that_connections_do_not_use_does_not_rise() -> None:
    """Where ten connections are what limits, the rate stays near what they carry, and a fall is followed."""
    pace = AdaptivePace()
    run = simulate(bucket(50, (0, 1e6), (60, 50)), until=120, pace=pace, connections=10)
    assert run.refused <= 0.03 * run.accepted
    pace = AdaptivePace()
    simulate(unlimited, until=330, pace=pace, connections=10)
    assert pace.rate < 1000


@pytest.mark.parametrize("hint", [no_hint, whole_seconds, exact])
def test_an_idle_hour_is_no_measure_of_the_quota(hint: Hint) -> None:
    """When nothing was wanted for an hour and the quota is a fifth lower then, the rate is so too."""
    busy, rest = simulate(bucket(50, (0, 50)), hint, until=60), 3660.0
    pace = AdaptivePace()
    run = simulate(bucket(50, (0, 50), (rest, 40)), hint, until=rest + 60, idle=(60, rest), pace=pace)
    assert len(run.sent) - len(busy.sent) >= 0.85 * 40 * 60


def test_an_idle_hour_in_a_closure_is_no_measure_of_the_quota() -> None:
    """A closure of a second counts as a second, also when no request comes for an hour."""
    pace = AdaptivePace()
    now = simulate(bucket(50, (0, 50)), whole_seconds, items=3000, pace=pace).seconds
    rate = pace.rate
    pace.on_refused(pace.on_send(now, 0), now + 0.05, 1.0)
    pace.on_send(now + 3600, 0)
    assert pace.rate >= 0.45 * rate


def test_slow_answers_do_not_hide_the_others() -> None:
    """One of a hundred answers takes 3 s; the rate does not suffer from being counted behind it."""
    runs = [simulate(bucket(50, (0, 50)), items=3000, slow=0.01, seed=seed) for seed in SEEDS]
    assert sum(run.seconds for run in runs) / len(runs) <= 1.06 * 59


def test_unanswered_requests_count_as_let_in() -> None:
    """Where every answer takes 3 s, the quota is measured no lower than where they are quick."""
    for seed in SEEDS:
        assert simulate(bucket(50, (0, 50)), items=3000, slow=1.0, seed=seed).seconds <= 1.1 * 59


def test_growth_that_finds_only_the_burst_returns_to_the_known_quota() -> None:
    """Where each closure costs a second, a try to grow costs one or two of them, not a long way down."""
    runs = [simulate(sliding_window(100), whole_seconds, items=6000, seed=seed) for seed in SEEDS]
    assert sum(run.seconds for run in runs) / len(runs) <= 1.22 * 59


@pytest.mark.parametrize(("hint", "slowest", "fastest"), [(1.0, 110, 114), (0.95, 115, 122)])
def test_after_growth_a_dear_closure_is_not_risked(hint: float, slowest: float, fastest: float) -> None:
    """Refused at 125/s when the last second accepted 114: after a hint in whole seconds it stays below."""
    pace, now, highest = AdaptivePace(start=100), 0.0, 0.0
    refused: list[float] = []
    while len(refused) < 3 or now < refused[2] + 30:
        now = max(now, pace.next_time(now, 0))
        serial = pace.on_send(now, 0)
        later = bool(refused) and now >= refused[0] + 10
        if (pace.rate >= 110, later, pace.rate >= 125, False)[len(refused)]:  # in growth, in quiet, in growth
            refused.append(now)
            pace.on_refused(serial, now + 0.001, hint)
            continue
        now += 0.001
        pace.on_accepted(serial, now, wanted=True)
        highest = max(highest, pace.rate) if len(refused) == 3 else 0.0
    assert slowest <= highest < fastest


def test_refusals_in_no_time_are_survived() -> None:
    """A clock may stand still between sending and refusal, and a hint may be too small to move it."""
    pace = AdaptivePace()
    for _ in range(5):
        pace.on_refused(pace.on_send(0.0, 0), 0.0, 1e-20)
    assert 0.1 <= pace.rate <= 20


def test_slots_grow_without_an_end() -> None:
    """A limit of slots that is gone is forgotten, not counted up to a number that is none."""
    pace = AdaptivePace()
    pace._slots, pace._raise, now = 5, 1.0, 0.0
    for _ in range(1200):
        now += 1.1
        pace.on_accepted(pace.on_send(now, 0), now, wanted=True)
    assert pace.next_time(now, 0) < math.inf


def test_slots_that_are_too_few_grow_though_they_leave_the_rate_unused() -> None:
    """A wrong limit of one slot, far below the rate, is not kept forever."""
    pace = AdaptivePace()
    pace._slots, pace.rate, now = 2, 100.0, 0.0
    for _ in range(100):
        serial = pace.on_send(now, 1)
        now += 0.5
        pace.on_accepted(serial, now, wanted=True)
    assert pace.next_time(now, 2) < math.inf


def test_two_refusals_at_unlike_counts_in_flight_are_no_limit_of_slots() -> None:
    """In the climb from 40/s back to 200/s it was refused with 6 and with 34 in flight, and kept to 5."""
    quota = bucket(20, (0, 200), (15, 40), (40, 200))
    assert simulate(quota, whole_seconds, items=8000, seed=18).seconds <= 1.5 * 60


@pytest.mark.parametrize(("answer", "least"), [(0.001, 10_000), (0.1, 160)])
def test_the_start_is_as_fast_as_answers_are(answer: float, least: int) -> None:
    """After a second without a refusal; a raise is judged when a refusal would have been heard."""
    pace, now, out = AdaptivePace(), 0.0, deque[tuple[float, int]]()
    while now < 1.0:
        now = max(now, min(pace.next_time(now, len(out)), out[0][0] if out else math.inf))
        while out and out[0][0] <= now:
            answered, serial = out.popleft()
            pace.on_accepted(serial, answered, wanted=True)
        if pace.next_time(now, len(out)) <= now:
            out.append((now + answer, pace.on_send(now, len(out))))
    assert least <= pace.rate <= 20 * least


def test_the_request_after_a_probe_keeps_the_pace() -> None:
    """A bucket of depth 1 that accepted the probe would refuse a request sent at once."""
    pace, _ = closed_pace(ceiling=1.0)
    probed_at = pace.next_time(0.1, 1)
    pace.on_send(probed_at, 1)
    assert pace.next_time(probed_at, 2) >= probed_at + 1 / pace.rate


def test_it_shows_its_state() -> None:
    """What a debugger sees."""
    assert repr(AdaptivePace()) == "<AdaptivePace 20/s, quota nan/s, open>"
    assert repr(closed_pace()[0]) == "<AdaptivePace 20/s, quota nan/s, closed>"


@pytest.mark.parametrize("hint", [None, 1.0, 3.0, 60.0])
def test_a_closure_at_the_start_is_no_measure(hint: float | None) -> None:
    """A quota that somebody else had used up: once the server admits, the pace seeks as at any start."""
    pace, now, opens = AdaptivePace(), 0.0, hint or 3.0
    admitted: list[float] = []
    while len(admitted) < 100 and now < 1000.0:
        now = max(now, pace.next_time(now, 0))
        serial = pace.on_send(now, 0)
        sent = now
        now += 0.02
        if sent < opens - 0.1:
            pace.on_refused(serial, now, hint)
        else:
            pace.on_accepted(serial, now, wanted=True)
            admitted.append(now)
    assert len(admitted) == 100
    assert now < opens + 30.0
    assert pace.quota is None


@pytest.mark.parametrize("seed", SEEDS)
def test_refused_probes_show_a_quota_too_low_to_be_measured(seed: int) -> None:
    """One accepted and four probes refused in a second: the quota is near 1/s, not half the first rate."""
    run = simulate(bucket(1, (0, 1)), items=60, seed=seed)
    assert (run.refused <= 10, run.seconds <= 1.25 * 59) == (True, True), run


@pytest.mark.parametrize(("left", "longest"), [(0, 1.12), (1, 1.25), (2, 1.75)])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_quota_that_others_used_up_is_sought_as_at_the_start(left: int, longest: float, seed: int) -> None:
    """What was left of a window is no measure, or not for long; nothing is no reason to be slow."""
    window = fixed_window(100, phase=0.1)
    for _ in range(100 - left):
        window(0.0, 0)
    assert simulate(window, items=3000, seed=seed).seconds <= longest * 30


def test_a_late_answer_s_hint_is_obeyed() -> None:
    """A hint counts, also from a request that was sent before the closure ended."""
    pace = AdaptivePace()
    serials = [pace.on_send(0.05 * number, number) for number in range(20)]
    pace.on_refused(serials[1], 1.0, 0.1)
    probe = pace.on_send(1.2, 19)
    pace.on_accepted(probe, 1.25, wanted=True)
    pace.on_refused(serials[2], 1.3, 60.0)
    assert pace.next_time(1.4, 17) == pytest.approx(61.3)
