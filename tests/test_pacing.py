"""The pacing decisions: never faster than the rate, never through a shut door, never stuck."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest
from attrs import define, field, frozen
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.pacing import Pacer, RateLimit

FLOOR = 0.5  # requests/s, the slowest rate that is sought
LATENESS = 0.004  # seconds of timer overshoot that may be paid back
LONGEST_PAUSE = 15.0  # seconds, without a hint


@frozen
class Step:
    """Something that happens ``after`` seconds: a send when it may leave, or an answer to a sent request."""

    after: float
    what: str = "send"
    which: int = 0
    hint: float | None = None
    wanted: bool = True


@define
class Traffic:
    """A pacer that is driven by steps, and the record of what it let happen."""

    pacer: Pacer
    now: float = 0.0
    sent: list[float] = field(factory=list)
    rates: list[float] = field(factory=list)  # at each send
    open_requests: list[float] = field(factory=list)
    cuts: list[float] = field(factory=list)

    def play(self, steps: Iterable[Step]) -> Traffic:
        """Let all steps happen, one after the other."""
        for step in steps:
            self.now += step.after
            self.rates.append(self.pacer.rate)
            if step.what == "send":
                self.send()
            elif self.open_requests:
                sent_at = self.open_requests.pop(step.which % len(self.open_requests))
                self.answer(sent_at, step)
        return self

    def send(self) -> None:
        """Send now if the pacer lets it, as the limiter does."""
        if self.pacer.next_time() <= self.now:
            self.pacer.on_send(self.now)
            self.sent.append(self.now)
            self.open_requests.append(self.now)

    def answer(self, sent_at: float, step: Step) -> None:
        """Answer a request that was sent at ``sent_at``."""
        before = self.pacer.rate
        if step.what == "refuse":
            self.pacer.on_refused(sent_at, self.now, step.hint)
        else:
            self.pacer.on_accepted(sent_at, self.now, wanted=step.wanted)
        if self.pacer.rate < before:
            self.cuts.append(self.now)


hints = st.none() | st.just(0.0) | st.floats(0.001, 100)
steps = st.lists(
    st.builds(
        Step,
        after=st.floats(0, 0.02) | st.floats(0, 3),
        what=st.sampled_from(["send", "send", "send", "accept", "refuse"]),
        which=st.integers(0, 50),
        hint=hints,
        wanted=st.booleans(),
    ),
    max_size=120,
)
limits = st.none() | st.builds(RateLimit, st.floats(0.05, 5000), st.integers(1, 50))


def seeking() -> Traffic:
    """Return traffic whose rate is sought."""
    return Traffic(Pacer())


def refused_bursts(count: int, *, hint: float | None) -> Pacer:
    """Return a pacer that was refused ``count`` times in a row, each time as soon as it sent again."""
    pacer, now = Pacer(), 0.0
    for _ in range(count):
        now = max(now, pacer.next_time())
        pacer.on_send(now)
        pacer.on_refused(now, now, hint)
    return pacer


@pytest.mark.parametrize("rate", [0, -1, math.inf, math.nan])
def test_a_rate_that_is_no_rate_is_refused(rate: float) -> None:
    """A rate is a finite number above 0."""
    with pytest.raises(ConfigurationError, match=f"above 0, not {rate}"):
        RateLimit(rate)


@pytest.mark.parametrize("burst", [0, -3])
def test_a_burst_below_one_is_refused(burst: int) -> None:
    """At least one request may leave at once."""
    with pytest.raises(ConfigurationError, match=f"at least 1, not {burst}"):
        RateLimit(10, burst)


def test_a_limit_is_a_value() -> None:
    """A burst of 1 is what is meant when none is named."""
    assert RateLimit(10.0) == RateLimit(10.0, 1)


@given(limits, steps)
def test_never_faster_than_the_rate(limit: RateLimit | None, what_happens: list[Step]) -> None:
    """In any interval leave at most rate * length + burst requests, and what timer lateness pays back."""
    traffic = Traffic(Pacer(limit)).play(what_happens)
    fastest = max(traffic.rates, default=0.0)
    at_once = max(limit.burst if limit else 1, fastest * LATENESS + 1)
    for first, begin in enumerate(traffic.sent):
        for number, end in enumerate(traffic.sent[first:], 1):
            assert number <= fastest * (end - begin) + at_once + 1e-6


@given(limits, steps)
def test_nothing_leaves_while_the_door_is_shut(limit: RateLimit | None, what_happens: list[Step]) -> None:
    """A hint, or the pause that stands in for one, holds for every request sent after it came."""
    traffic = Traffic(Pacer(limit))
    for step in what_happens:
        shut_until, sent = traffic.pacer.paused_until, len(traffic.sent)
        traffic.play([step])
        assert all(moment >= shut_until for moment in traffic.sent[sent:])


@given(limits, steps, hints)
def test_a_hint_is_obeyed_in_full(
    limit: RateLimit | None, what_happens: list[Step], hint: float | None
) -> None:
    """Whatever went before, after a refusal the door is shut for at least the hint, and never for less."""
    traffic = Traffic(Pacer(limit)).play(what_happens)
    shut_until = traffic.pacer.paused_until
    for sent_at in (*traffic.open_requests, traffic.now):
        traffic.pacer.on_refused(sent_at, traffic.now, hint)
    assert traffic.pacer.paused_until >= max(shut_until, traffic.now + (hint or 0.0))


@given(limits, steps)
def test_the_rate_stays_a_rate(limit: RateLimit | None, what_happens: list[Step]) -> None:
    """A rate that was given never changes; one that is sought is finite and never under its floor."""
    traffic = Traffic(Pacer(limit)).play(what_happens)
    for rate in (*traffic.rates, traffic.pacer.rate):
        assert rate == limit.rate if limit else FLOOR <= rate < math.inf


@given(limits, steps)
def test_it_is_never_stuck(limit: RateLimit | None, what_happens: list[Step]) -> None:
    """Whatever happened, the next send is at most the longest hint, 15 s or one even step away."""
    traffic = Traffic(Pacer(limit)).play(what_happens)
    slowest = limit.rate if limit else FLOOR
    longest_hint = max((step.hint or 0.0 for step in what_happens), default=0.0)
    wait = traffic.pacer.next_time() - traffic.now
    assert wait <= max(longest_hint, LONGEST_PAUSE, 1 / slowest) + LATENESS


@given(steps, st.integers(1, 200), st.data())
def test_a_burst_of_refusals_is_one_event(what_happens: list[Step], burst: int, data: st.DataObject) -> None:
    """However many requests were out when the door shut, their refusals cut the rate and pause it once."""
    traffic = seeking().play(what_happens)
    traffic.now = max(traffic.now, traffic.pacer.next_time())
    sent_at = [traffic.now - data.draw(st.floats(0, 1)) for _ in range(burst)]
    traffic.pacer.on_refused(traffic.now, traffic.now, None)
    rate, paused_until = traffic.pacer.rate, traffic.pacer.paused_until
    for moment in sent_at:
        traffic.pacer.on_refused(moment, traffic.now + 0.05, None)
    assert (traffic.pacer.rate, traffic.pacer.paused_until) == (rate, paused_until)


@given(steps)
def test_only_what_was_sent_through_the_open_door_can_shut_it(what_happens: list[Step]) -> None:
    """Between two cuts at least one request was sent and refused."""
    traffic = seeking().play(what_happens)
    for earlier, later in zip(traffic.cuts, traffic.cuts[1:], strict=False):
        assert any(earlier < moment <= later for moment in traffic.sent)


@given(steps, st.floats(0, 10))
def test_a_send_that_is_taken_back_leaves_no_trace(what_happens: list[Step], rest: float) -> None:
    """The place of a request that never left is free again at once."""
    traffic = seeking().play(what_happens)
    now = max(traffic.now + rest, traffic.pacer.next_time())
    traffic.pacer.on_send(now)
    traffic.pacer.on_unsent()
    assert traffic.pacer.next_time() <= now + 1e-9


def test_the_first_refusal_ends_the_fast_growth() -> None:
    """Doubled every half second until the first refusal, a quarter off then, and slow from there."""
    pacer = Pacer()
    for now in (0.5, 1.0, 1.5):
        pacer.on_send(now)
        pacer.on_accepted(now, now, wanted=True)
    assert pacer.rate == pytest.approx(160.0)
    pacer.on_send(1.6)
    pacer.on_refused(1.6, 1.7, None)
    assert [pacer.rate, pacer.paused_until] == pytest.approx([120.0, 1.8])
    pacer.on_accepted(1.9, 1.9, wanted=True)
    pacer.on_accepted(2.4, 2.4, wanted=True)
    assert 120.0 < pacer.rate < 130.0


def test_no_growth_while_nobody_waits() -> None:
    """A rate that is not used up is not known to be too low."""
    pacer = Pacer()
    for second in range(100):
        pacer.on_send(second)
        pacer.on_accepted(second, second, wanted=False)
    assert pacer.rate == 20.0


def test_no_growth_from_what_was_sent_before_the_door_shut() -> None:
    """Late answers say nothing about the rate after the cut."""
    pacer = Pacer()
    pacer.on_refused(1.0, 2.0, None)
    for now in (2.0, 3.0, 4.0):
        pacer.on_accepted(1.5, now, wanted=True)
    assert pacer.rate == 15.0


def test_the_pause_doubles_with_refusals_in_a_row_up_to_its_limit() -> None:
    """A server that keeps refusing without a hint is asked less and less often, at last every 15 s."""
    pauses = []
    pacer, now = Pacer(), 0.0
    for _ in range(12):
        now = max(now, pacer.next_time())
        pacer.on_send(now)
        pacer.on_refused(now, now, None)
        pauses.append(round(pacer.paused_until - now, 6))
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 15.0, 15.0, 15.0, 15.0]


def test_an_acceptance_starts_the_pauses_anew() -> None:
    """Refusals count as in a row only while nothing is accepted in between."""
    pacer = refused_bursts(6, hint=None)
    now = pacer.next_time()
    pacer.on_send(now)
    pacer.on_accepted(now, now, wanted=True)
    pacer.on_refused(now, now, None)
    assert pacer.paused_until - now == pytest.approx(0.1)


def test_a_hint_of_zero_is_believed_once() -> None:
    """Who refuses and says "open now" is asked again at once; who refuses again, as without a hint."""
    pacer = Pacer()
    pacer.on_refused(0.0, 0.5, 0.0)
    assert pacer.paused_until == pytest.approx(0.504)
    pacer.on_refused(0.6, 1.0, 0.0)
    assert pacer.paused_until == pytest.approx(1.2)


def test_a_late_refusal_may_lengthen_the_pause_but_not_cut_again() -> None:
    """The longest hint of one burst wins; a shorter one changes nothing."""
    pacer = Pacer()
    pacer.on_refused(0.0, 0.1, 1.0)
    pacer.on_refused(0.0, 0.2, 5.0)
    pacer.on_refused(0.0, 0.3, 2.0)
    assert [pacer.rate, pacer.paused_until] == pytest.approx([15.0, 5.2])


@pytest.mark.parametrize("hint", [None, 1.0])
def test_a_server_that_refuses_for_hours_is_still_asked(hint: float | None) -> None:
    """A thousand refusals in a row are an ordinary evening of a quota that somebody else uses up."""
    pacer = refused_bursts(3000, hint=hint)
    assert pacer.rate == FLOOR


def test_a_server_that_never_refuses_does_not_make_the_rate_infinite() -> None:
    """After twenty minutes of acceptance the rate is large, and still a number that a refusal can cut."""
    pacer = Pacer()
    for step in range(2400):
        now = step / 2
        pacer.on_send(now)
        pacer.on_accepted(now, now, wanted=True)
    assert pacer.rate < math.inf
