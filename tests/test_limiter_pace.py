"""`RateLimit`, and the pace of a given rate: never faster, and never during a pause."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

import pytest
from attrs import define, field, frozen
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.limiter.adaptive import AdaptivePace
from bandwidth_async.limiter.pace import FixedPace, RateLimit, pace_for
from bandwidth_async.limiter.refusal import Refusal

LATENESS = 0.02  # seconds of timer overshoot that may be paid back
LONGEST_PAUSE = 8.0  # seconds, without a hint


@frozen
class Step:
    """Something that happens ``after`` seconds: a send when it may leave, or an end of a sent request."""

    after: float
    what: str = "send"
    which: int = 0
    hint: float | None = None


@define
class Traffic:
    """A pace that is driven by steps, and the record of what it let happen."""

    pace: FixedPace
    now: float = 0.0
    sent: list[float] = field(factory=list)
    out: list[int] = field(factory=list)

    def play(self, steps: Iterable[Step]) -> Traffic:
        """Let all steps happen, one after the other."""
        for step in steps:
            self.now += step.after
            if step.what == "send":
                self.send()
            elif self.out:
                serial = self.out.pop(step.which % len(self.out))
                if step.what == "refuse":
                    self.pace.on_refused(serial, self.now, Refusal(step.hint))
                elif step.what == "lose":
                    self.pace.on_lost(serial, self.now)
                else:
                    self.pace.on_accepted(serial, self.now, wanted=True)
        return self

    def send(self) -> None:
        """Send now if the pace lets it, as the limiter does."""
        if self.pace.next_time(self.now, len(self.out)) <= self.now:
            self.out.append(self.pace.on_send(self.now, len(self.out)))
            self.sent.append(self.now)


hints = st.none() | st.just(0.0) | st.floats(0.001, 100)
steps = st.lists(
    st.builds(
        Step,
        after=st.floats(0, 0.02) | st.floats(0, 3),
        what=st.sampled_from(["send", "send", "send", "accept", "refuse", "lose"]),
        which=st.integers(0, 50),
        hint=hints,
    ),
    max_size=120,
)
limits = st.builds(RateLimit, st.floats(0.05, 5000), st.integers(1, 50))


def traffic(limit: RateLimit) -> Traffic:
    """Return traffic that keeps to ``limit``."""
    pace = pace_for(limit)
    assert isinstance(pace, FixedPace)
    return Traffic(pace)


def refuse_next(pace: FixedPace, now: float, hint: float | None) -> float:
    """Send as soon as it may be, have it refused at once, and return the moment."""
    now = max(now, pace.next_time(now, 0))
    pace.on_refused(pace.on_send(now, 0), now, Refusal(hint))
    return now


@pytest.mark.parametrize("rate", [0, -1, math.inf, math.nan, True])
def test_a_rate_that_is_no_rate_is_refused(rate: float) -> None:
    """A rate is a finite number above 0, and so is where to begin."""
    with pytest.raises(ConfigurationError, match=f"rate is .* above 0, not {rate}"):
        RateLimit(rate)
    with pytest.raises(ConfigurationError, match=f"start is .* above 0, not {rate}"):
        RateLimit(start=rate)
    with pytest.raises(ConfigurationError, match=f"floor is .* above 0, not {rate}"):
        RateLimit(floor=rate)


@pytest.mark.parametrize("ceiling", [0, -1, math.nan])
def test_a_ceiling_that_is_none_is_refused(ceiling: float) -> None:
    """A ceiling is a number above 0, or infinity for none."""
    with pytest.raises(ConfigurationError, match=f"ceiling is .* above 0, .*, not {ceiling}"):
        RateLimit(ceiling=ceiling)
    assert RateLimit(ceiling=math.inf) == RateLimit()


@pytest.mark.parametrize("burst", [0, -3])
def test_a_burst_below_one_is_refused(burst: int) -> None:
    """At least one request may leave at once."""
    with pytest.raises(ConfigurationError, match=f"at least 1, not {burst}"):
        RateLimit(10, burst)


def test_a_limit_is_a_value() -> None:
    """Both kinds have a constructor that says which one is meant."""
    assert RateLimit.fixed(10.0) == RateLimit(10.0, 1) == RateLimit(10.0)
    assert RateLimit.fixed(10.0, 5) == RateLimit(10.0, burst=5)
    assert RateLimit.adaptive() == RateLimit()
    assert RateLimit.adaptive(start=5, floor=1, ceiling=9) == RateLimit(start=5, floor=1, ceiling=9)


def test_each_limit_has_its_pace() -> None:
    """A given rate is kept, any other is found out from where it may begin."""
    assert isinstance(pace_for(RateLimit(10.0)), FixedPace)
    seeking = pace_for(RateLimit.adaptive(start=400, ceiling=50))
    assert isinstance(seeking, AdaptivePace)
    assert (pace_for(RateLimit(10.0)).rate, seeking.rate) == (10.0, 50)


@given(limits, steps)
def test_never_faster_than_the_rate(limit: RateLimit, what_happens: list[Step]) -> None:
    """In any interval leave at most rate * length + burst requests, and what timer lateness pays back."""
    assert limit.rate is not None
    seen = traffic(limit).play(what_happens)
    at_once = max(limit.burst, limit.rate * LATENESS + 1)
    for first, begin in enumerate(seen.sent):
        for number, end in enumerate(seen.sent[first:], 1):
            assert number <= limit.rate * (end - begin) + at_once + 1e-6
    assert seen.pace.rate == limit.rate


@given(st.floats(0.5, 5000), st.integers(1, 50))
def test_exactly_the_rate_and_the_burst(rate: float, burst: int) -> None:
    """A timer that is on time gets the burst at once, and then one request each 1/rate seconds."""
    pace, now, sent = FixedPace(rate, burst), 0.0, []
    for _ in range(burst + 200):
        now = max(now, pace.next_time(now, 0))
        pace.on_send(now, 0)
        sent.append(now)
    early = (burst - 1) / rate
    assert sent == pytest.approx([max(0.0, n / rate - early) for n in range(burst + 200)])


def test_no_request_is_early_after_an_idle_time() -> None:
    """A server that lets in nothing above the rate refuses the second of two that leave together."""
    pace, now, sent = FixedPace(40.0, 1), 100.0, list[float]()
    for _ in range(5):
        now = max(now, pace.next_time(now, 0))
        sent.append(now)
        pace.on_accepted(pace.on_send(now, 0), now, wanted=False)
    assert min(after - before for before, after in pairwise(sent)) == pytest.approx(1 / 40)


def test_a_timer_that_rings_late_is_made_up_for() -> None:
    """With timers that are 3 ms late each second still gets its hundred requests."""
    pace, now = FixedPace(100, 1), 0.0
    for _ in range(1000):
        now = max(now, pace.next_time(now, 0)) + 0.003
        pace.on_send(now, 0)
    assert now == pytest.approx(10, abs=LATENESS + 0.01)


@given(limits, steps)
def test_nothing_is_sent_during_a_pause(limit: RateLimit, what_happens: list[Step]) -> None:
    """A hint, or the pause that stands in for one, holds for every request sent after it came."""
    seen = traffic(limit)
    for step in what_happens:
        paused_until, sent = seen.pace.paused_until, len(seen.sent)
        seen.play([step])
        assert all(moment >= paused_until for moment in seen.sent[sent:])


@given(limits, steps, hints)
def test_a_hint_is_obeyed_in_full(limit: RateLimit, what_happens: list[Step], hint: float | None) -> None:
    """Whatever happened before, a refusal pauses for at least the hint."""
    seen = traffic(limit).play(what_happens)
    paused_until = seen.pace.paused_until
    for serial in (*seen.out, seen.pace.on_send(seen.now, len(seen.out))):
        seen.pace.on_refused(serial, seen.now, Refusal(hint, 0.01))
    assert seen.pace.paused_until >= max(paused_until, seen.now + (hint + 0.01 if hint else 0.0)) - 1e-9


@given(limits, steps)
def test_it_is_never_stuck(limit: RateLimit, what_happens: list[Step]) -> None:
    """Whatever happened, the next send is at most the longest hint, 8 s or one even step away."""
    assert limit.rate is not None
    seen = traffic(limit).play(what_happens)
    longest_hint = max((step.hint or 0.0 for step in what_happens), default=0.0)
    wait = seen.pace.next_time(seen.now, len(seen.out)) - seen.now
    assert wait <= max(longest_hint, LONGEST_PAUSE, 1 / limit.rate) + LATENESS


@given(limits, steps)
def test_every_request_gets_its_result(limit: RateLimit, what_happens: list[Step]) -> None:
    """Only what is out is remembered, and nothing can be settled twice."""
    seen = traffic(limit).play(what_happens)
    assert list(seen.pace._sent) == sorted(seen.out)
    for serial in seen.out:
        seen.pace.on_lost(serial, seen.now)
        with pytest.raises(KeyError):
            seen.pace.on_unsent(serial)
    assert not seen.pace._sent


@given(limits, steps, st.floats(0, 10))
def test_a_send_that_is_taken_back_leaves_no_trace(
    limit: RateLimit, what_happens: list[Step], rest: float
) -> None:
    """When a request was not sent, another may be sent at once."""
    seen = traffic(limit).play(what_happens)
    now = max(seen.now + rest, seen.pace.next_time(seen.now, 0))
    seen.pace.on_unsent(seen.pace.on_send(now, 0))
    assert seen.pace.next_time(now, 0) <= now + 1e-9


@given(limits, steps, st.integers(0, 60))
def test_nothing_is_sent_before_its_earliest(limit: RateLimit, what_happens: list[Step], ahead: int) -> None:
    """With so many before it, a request leaves at that moment when nothing is refused, and not before."""
    seen = traffic(limit).play(what_happens)
    earliest, now = seen.pace.earliest(ahead), -math.inf
    for _ in range(ahead + 1):
        now = max(now, seen.pace.next_time(now, 0))
        if now > -math.inf:
            seen.pace.on_send(now, 0)
    assert now >= earliest - 1e-6


@given(st.integers(1, 200))
def test_a_burst_of_refusals_is_one_event(burst: int) -> None:
    """However many requests were in flight at the first refusal, their refusals pause once."""
    pace = FixedPace(100, 1000)
    serials = [pace.on_send(0.0, n) for n in range(burst)]
    for number, serial in enumerate(serials):
        pace.on_refused(serial, 0.05 + number / 10_000, Refusal(None))
    assert pace.paused_until == pytest.approx(0.15)


def test_the_pause_doubles_with_refusals_in_a_row_up_to_its_limit() -> None:
    """A server that keeps refusing without a hint is asked less and less often, at last every 8 s."""
    pace, now, pauses = FixedPace(1000, 1), 0.0, []
    for _ in range(12):
        now = refuse_next(pace, now, None)
        pauses.append(round(pace.paused_until - now, 6))
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 8.0, 8.0, 8.0, 8.0, 8.0]
    assert not pace.pause_hinted


def test_an_acceptance_starts_the_pauses_anew() -> None:
    """Refusals count as in a row only while nothing that was sent since is accepted."""
    pace, now = FixedPace(1000, 1), 0.0
    late = pace.on_send(now, 0)
    for _ in range(6):
        now = refuse_next(pace, now, None)
    pace.on_accepted(late, now, wanted=True)
    now = refuse_next(pace, now, None)
    assert pace.paused_until - now == pytest.approx(6.4)
    now = max(now, pace.next_time(now, 0))
    pace.on_accepted(pace.on_send(now, 0), now, wanted=True)
    now = refuse_next(pace, now, None)
    assert pace.paused_until - now == pytest.approx(0.1)


def test_a_hint_of_zero_is_believed_once() -> None:
    """Who refuses and says "open now" is asked again at once; who refuses again, as without a hint."""
    pace = FixedPace(1000, 1)
    pace.on_refused(pace.on_send(0.0, 0), 0.5, Refusal(0.0))
    assert pace.paused_until == pytest.approx(0.504)
    pace.on_refused(pace.on_send(0.6, 0), 1.0, Refusal(0.0))
    assert pace.paused_until == pytest.approx(1.2)


def test_a_late_refusal_may_lengthen_the_pause() -> None:
    """The longest hint of one burst wins; a shorter one and none change nothing."""
    pace = FixedPace(1000, 10)
    serials = [pace.on_send(0.0, n) for n in range(4)]
    for serial, now, hint in zip(serials, (0.1, 0.2, 0.3, 0.4), (1.0, 5.0, 2.0, None), strict=True):
        pace.on_refused(serial, now, Refusal(hint))
    assert pace.paused_until == pytest.approx(5.2)
    assert pace.pause_hinted


@pytest.mark.parametrize("hint", [None, 1.0])
def test_a_server_that_refuses_for_hours_is_still_asked(hint: float | None) -> None:
    """Thousands of refusals in a row are an ordinary evening of a quota that somebody else uses up."""
    pace, now = FixedPace(10, 1), 0.0
    for _ in range(3000):
        now = refuse_next(pace, now, hint)
    assert pace.paused_until - now == pytest.approx(hint or LONGEST_PAUSE)
