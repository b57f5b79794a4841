"""The breaker and the retry budget: no requests to a server that is down, and no request waits for ever."""

from __future__ import annotations

import math
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bandwidth_async.limiter.breaker import Breaker, RetryBudget

LONGEST = 30.0  # seconds between probes
RATE = 80.0


class Sender:
    """Sends through a breaker as the limiter does: when it may, with serials that rise."""

    def __init__(self, seed: int = 1) -> None:
        self.breaker = Breaker(Random(seed))
        self.now = 1000.0
        self.serials = 0

    def send(self) -> int:
        """Send one now."""
        assert self.breaker.next_time(self.now) <= self.now
        self.serials += 1
        self.breaker.on_send(self.serials, self.now)
        return self.serials

    def wait(self) -> float:
        """Wait until the next may be sent, and return for how long."""
        seconds = max(0.0, self.breaker.next_time(self.now) - self.now)
        assert seconds <= LONGEST
        self.now += seconds
        return seconds

    def fail(self, count: int = 1, apart: float = 0.0, *, answered: bool = True) -> bool:
        """Send requests that fail at once, each when it may, and say whether the last one opened it."""
        opened = False
        for number in range(count):
            self.now += apart if number else 0.0
            self.wait()
            opened = self.breaker.on_failure(self.send(), self.now, answered=answered)
        return opened

    def answer(self) -> None:
        """Send one that succeeds at once."""
        self.breaker.on_success(self.send(), self.now, RATE)

    def opened(self) -> Sender:
        """Have it opened."""
        assert self.fail(20, 0.03)
        return self

    def recovering(self) -> Sender:
        """Have it opened and closed again by a good probe."""
        self.opened().wait()
        self.answer()
        assert not self.breaker.is_open
        return self


def sent_within(sender: Sender, seconds: float) -> int:
    """Return how many leave in ``seconds`` when as many as may do, all answered well."""
    end, count = sender.now + seconds, 0
    while True:
        sender.now = max(sender.now, sender.breaker.next_time(sender.now))
        if sender.now >= end:
            return count
        sender.answer()
        count += 1
        if sender.breaker.next_time(sender.now) == -math.inf:
            return count + math.floor((end - sender.now) * RATE)  # only the pace holds it now


@pytest.mark.parametrize(
    ("count", "apart", "opens"),
    [(19, 0.1, False), (20, 0.1, True), (20, 0.5 / 19 + 1e-6, True), (20, 0.026, False), (200, 0.0, False)],
)
def test_it_opens_after_twenty_failures_in_half_a_second(count: int, apart: float, opens: bool) -> None:
    """Fewer are no death, and a volley that fails in one moment is one event."""
    sender = Sender()
    assert sender.fail(count, apart) is opens
    assert sender.breaker.is_open is opens
    assert (sender.breaker.paused_for(sender.now) > 0) is opens


def test_a_volley_counts_when_it_goes_on() -> None:
    """A pause of any length and one failure after it are little. Failures that go on open it."""
    sender = Sender()
    assert not sender.fail(200)
    for seconds in (0.1, 1.0, 20.0, 0.1):
        sender.now += seconds
        assert not sender.fail()
    sender.now += 0.1001
    assert sender.fail()


def test_one_answer_breaks_the_row() -> None:
    """Nineteen, an answer, nineteen: that server is alive."""
    sender = Sender()
    for _ in range(10):
        assert not sender.fail(19, 0.1)
        sender.answer()
    assert not sender.breaker.is_open


def test_a_row_from_long_ago_is_none() -> None:
    """After five minutes in which nothing failed because nothing was sent, it counts from one again."""
    sender = Sender()
    sender.fail(19, 0.1)
    sender.now += 301
    assert not sender.fail(19, 0.1)
    assert sender.fail()
    assert sender.breaker.down_for(sender.now) == pytest.approx(1.8)


def test_time_without_requests_is_no_outage() -> None:
    """Down an hour ago, and not asked since: how long it has failed counts from the next probe."""
    sender = Sender().opened()
    sender.now += 3600
    assert sender.fail()
    assert sender.breaker.down_for(sender.now) == 0.0
    sender.wait()
    sender.fail()
    assert 0.5 <= sender.breaker.down_for(sender.now) <= 2.0


@given(seed=st.integers())
def test_pauses_double_up_to_half_a_minute(seed: int) -> None:
    """Each is a random half to whole of 1, 2, 4, 5 … seconds, or of a tenth of the outage, 30 at most."""
    sender = Sender(seed).opened()
    for doublings in range(60):
        longest = min(LONGEST, 2.0**doublings, max(5.0, 0.1 * sender.breaker.down_for(sender.now)))
        assert 0.5 * longest <= sender.breaker.paused_for(sender.now) <= longest
        sender.wait()
        assert sender.fail()


def test_pauses_are_random() -> None:
    """So that processes do not probe in step."""
    assert len({Sender(seed).opened().wait() for seed in range(50)}) == 50


def test_after_a_good_time_pauses_begin_anew() -> None:
    """Two seconds of recovery up to the full rate end the outage. Less does not."""
    sender = Sender().opened()
    for _ in range(5):
        sender.wait()
        sender.fail()
    sender.wait()
    sender.answer()
    sent_within(sender, 1.0)
    assert sender.fail(3)
    assert 2.5 <= sender.breaker.paused_for(sender.now) <= 5.0
    sender.wait()
    sender.answer()
    sent_within(sender, 3.0)
    sender.fail(20, 0.03)
    assert 0.5 <= sender.breaker.paused_for(sender.now) <= 1.0


def test_one_probe_at_a_time() -> None:
    """Nothing is sent before the probe or beside it, and its failure opens the breaker again."""
    sender = Sender().opened()
    assert sender.breaker.next_time(sender.now) > sender.now
    assert sender.wait() > 0
    assert sender.breaker.paused_for(sender.now) == 0.0
    probe = sender.send()
    assert sender.breaker.next_time(sender.now) == math.inf
    assert sender.breaker.paused_for(sender.now) == 1.0
    assert sender.breaker.on_failure(probe, sender.now + 15, answered=False)
    assert sender.breaker.paused_for(sender.now + 15) >= 1.0


def test_a_probe_that_is_given_up_is_replaced() -> None:
    """Cancelled, lost or not sent after all: the next one may leave at once."""
    sender = Sender().opened()
    sender.wait()
    for _ in range(3):
        sender.breaker.on_abandoned(sender.send())
        assert sender.breaker.is_open
        assert sender.breaker.next_time(sender.now) <= sender.now
    sender.answer()
    assert not sender.breaker.is_open


def test_what_was_sent_before_it_opened_changes_nothing() -> None:
    """Late results do not count, neither while it is open nor while the server recovers."""
    sender = Sender()
    late = [sender.send() for _ in range(30)]
    sender.opened()
    paused_for, down_for = sender.breaker.paused_for(sender.now), sender.breaker.down_for(sender.now)
    sender.breaker.on_success(late.pop(), sender.now, RATE)
    assert not sender.breaker.on_failure(late.pop(), sender.now, answered=False)
    sender.breaker.on_abandoned(late.pop())
    assert (sender.breaker.paused_for(sender.now), sender.breaker.down_for(sender.now)) == (
        paused_for,
        down_for,
    )
    sender.wait()
    probe = sender.send()
    sender.breaker.on_abandoned(late.pop())
    sender.breaker.on_failure(late.pop(), sender.now, answered=False)
    assert sender.breaker.next_time(sender.now) == math.inf
    sender.breaker.on_success(probe, sender.now, RATE)
    assert not sender.breaker.is_open
    while late:
        assert not sender.breaker.on_failure(late.pop(), sender.now, answered=False)
    assert not sender.breaker.is_open


def test_three_failures_are_enough_during_the_recovery() -> None:
    """Three failures open it during the recovery. After the recovery it takes twenty again."""
    sender = Sender().recovering()
    assert sender.fail(2) is False
    assert sender.fail() is True
    sender.wait()
    sender.answer()
    sent_within(sender, 3.0)
    assert not sender.fail(19, 0.1)


def test_after_a_good_probe_a_quarter_of_the_rate_leaves_and_doubles() -> None:
    """20, 40, then the pace's own 80 a second: the first second sees less than half the rate."""
    sender = Sender().recovering()
    counts = [sent_within(sender, 1.0) for _ in range(3)]
    assert RATE / 4 <= counts[0] <= RATE / 2
    assert RATE / 2 <= counts[1] <= RATE
    assert counts[2] == pytest.approx(RATE, abs=1)


@pytest.mark.parametrize("rate", [0.1, 1.0, 3.0, 8.0, 1e4])
def test_any_rate_recovers_within_its_time(rate: float) -> None:
    """A slow pace is not held up by the ramp for more than a second a request."""
    sender = Sender().opened()
    sender.wait()
    sender.breaker.on_success(sender.send(), sender.now, rate)
    started, count = sender.now, 0
    while sender.breaker.next_time(sender.now) > -math.inf:
        sender.now = max(sender.now, sender.breaker.next_time(sender.now))
        if sender.now < started + 1:
            count += 1
        sender.breaker.on_success(sender.send(), sender.now, rate)
    assert count <= max(2.0, rate / 2)
    assert sender.now - started <= 4.0


def test_it_recovers_however_long_no_request_comes() -> None:
    """A good probe, then a quiet night, then a request."""
    sender = Sender().recovering()
    sender.now += 1e6
    sender.answer()
    assert sender.breaker.next_time(sender.now) == -math.inf


def test_unreachable_is_what_never_answered() -> None:
    """Five attempts and no answer at all, a 5xx included; one answer ever, and it is an outage."""
    sender = Sender()
    sender.fail(4, answered=False)
    assert not sender.breaker.unreachable
    sender.fail(answered=False)
    assert sender.breaker.unreachable
    sender.fail(answered=True)
    assert not sender.breaker.unreachable
    sender.fail(10, 0.1, answered=False)
    assert not sender.breaker.unreachable
    assert not sender.breaker.ever_answered


def test_an_answer_that_is_no_failure_makes_it_one_that_was_well() -> None:
    """Then it is worth waiting for."""
    sender = Sender()
    sender.answer()
    sender.fail(10, answered=False)
    assert (sender.breaker.unreachable, sender.breaker.ever_answered) == (False, True)


def test_how_long_it_has_been_down() -> None:
    """From the first failure of the row, as long as it is open, and over all its probes."""
    sender = Sender()
    sender.answer()
    first = sender.now
    sender.fail(19, 0.1)
    assert sender.breaker.down_for(sender.now) == 0.0
    assert sender.fail()
    for _ in range(6):
        sender.wait()
        sender.fail()
    assert sender.breaker.down_for(sender.now) == sender.now - first
    sender.wait()
    sender.answer()
    assert sender.breaker.down_for(sender.now) == 0.0


def test_it_shows_its_state() -> None:
    """In a debugger."""
    sender = Sender()
    sender.fail(2)
    assert repr(sender.breaker) == "<Breaker closed, 2 failures in a row>"
    assert repr(Sender().opened().breaker) == "<Breaker open, 20 failures in a row>"


class Traffic(RuleBasedStateMachine):
    """Requests that leave when they may and come back as they like."""

    def __init__(self) -> None:
        super().__init__()
        self.sender = Sender(seed=5)
        self.out: list[int] = []
        self.first = 0  # serial that left after the breaker opened last
        self.row: list[float] = []  # failures since the last answer that counts

    @property
    def breaker(self) -> Breaker:
        return self.sender.breaker

    def is_late(self, serial: int) -> bool:
        """Whether a request left before the breaker opened last."""
        return serial < self.first

    def state(self) -> tuple[object, ...]:
        now = self.sender.now
        return self.breaker.is_open, self.breaker.next_time(now), self.breaker.down_for(now), self.row

    @rule(seconds=st.sampled_from([0.001, 0.05, 0.3, 1.0, 7.0, 40.0, 2000.0]))
    def wait(self, seconds: float) -> None:
        self.sender.now += seconds

    @precondition(lambda self: self.breaker.next_time(self.sender.now) < math.inf)
    @rule(count=st.integers(1, 12))
    def send(self, count: int) -> None:
        for _ in range(count):
            if self.breaker.next_time(self.sender.now) == math.inf:
                break
            self.sender.wait()
            self.out.append(self.sender.send())

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0), rate=st.sampled_from([0.2, 5.0, 300.0]))
    def answer(self, which: int, rate: float) -> None:
        serial = self.out.pop(which % len(self.out))
        before, was_open = self.state(), self.breaker.is_open
        self.breaker.on_success(serial, self.sender.now, rate)
        if self.is_late(serial):
            assert self.state() == before
        else:
            assert not self.breaker.is_open
            if was_open:
                assert self.breaker.next_time(self.sender.now) == self.sender.now
            self.row = []

    @precondition(lambda self: self.out)
    @rule(count=st.integers(1, 25), apart=st.sampled_from([0.0, 0.02, 0.1]), answered=st.booleans())
    def fail(self, count: int, apart: float, answered: bool) -> None:
        for _ in range(min(count, len(self.out))):
            self._fail(self.out.pop(0), answered=answered)
            self.sender.now += apart

    def _fail(self, serial: int, *, answered: bool) -> None:
        before, was_open = self.state(), self.breaker.is_open
        recovering = self.breaker.next_time(self.sender.now) > -math.inf
        opened = self.breaker.on_failure(serial, self.sender.now, answered=answered)
        if self.is_late(serial):
            assert not opened
            assert self.state() == before
            return
        self.row.append(self.sender.now)
        if opened:
            enough = len(self.row) >= 20 and self.row[-1] - self.row[0] >= 0.5
            assert was_open or enough or (recovering and len(self.row) >= 3)
            assert 0.5 <= self.breaker.next_time(self.sender.now) - self.sender.now <= LONGEST
            self.first = self.sender.serials + 1
        else:
            assert not was_open
            assert recovering is False or len(self.row) < 3

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0))
    def give_up(self, which: int) -> None:
        serial = self.out.pop(which % len(self.out))
        self.breaker.on_abandoned(serial)
        if self.breaker.is_open:
            assert self.breaker.next_time(self.sender.now) < math.inf or self.probes()

    @rule(serial=st.integers(-5, 10**9))
    def give_up_what_is_unknown(self, serial: int) -> None:
        if serial not in self.out:
            before = self.state()
            self.breaker.on_abandoned(serial)
            assert self.state() == before

    def probes(self) -> list[int]:
        """Return which left while it was open, and are out."""
        return [serial for serial in self.out if serial >= self.first]

    @invariant()
    def at_most_one_probe_is_out(self) -> None:
        if self.breaker.is_open:
            assert len(self.probes()) <= 1

    @invariant()
    def nothing_stalls(self) -> None:
        next_time = self.breaker.next_time(self.sender.now)
        if next_time == math.inf:
            assert len(self.probes()) == 1
        else:
            assert next_time - self.sender.now <= LONGEST
        assert 0 <= self.breaker.paused_for(self.sender.now) <= LONGEST


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# Budget


def test_a_few_retries_are_always_affordable() -> None:
    """Fifty in ten seconds, without a single first try."""
    budget = RetryBudget()
    assert [budget.withdraw(3.0, bulk=False) for _ in range(52)] == [True] * 50 + [False] * 2
    assert repr(budget) == "<RetryBudget 50 retries of 0 tries in 10 s>"


def test_two_tries_afford_a_retry() -> None:
    """Half as many retries as first tries, on top of the few."""
    budget = RetryBudget()
    for _ in range(200):
        budget.on_try(3.0)
    assert sum(budget.withdraw(4.0, bulk=False) for _ in range(1000)) == 150


def test_time_frees_it() -> None:
    """What is ten seconds old is forgotten, retries and tries alike."""
    budget = RetryBudget()
    for _ in range(100):
        budget.on_try(0.5)
        budget.withdraw(0.5, bulk=False)
    assert not budget.withdraw(9.9, bulk=False)
    assert [budget.withdraw(10.0, bulk=False) for _ in range(51)] == [True] * 50 + [False]


@given(
    steps=st.lists(
        st.tuples(st.sampled_from([0.0, 0.0, 0.01, 0.7, 3.0, 11.0]), st.booleans(), st.integers(1, 60)),
        max_size=60,
    )
)
def test_retries_stay_a_share_of_first_tries(steps: list[tuple[float, bool, int]]) -> None:
    """In any ten whole seconds at most half of the first tries and fifty; what is affordable is granted."""
    budget, now = RetryBudget(), 5.0
    tries, retries = Counter[int](), Counter[int]()

    def last_ten(counts: Counter[int]) -> int:
        return sum(count for second, count in counts.items() if second > math.floor(now) - 10)

    for seconds, is_try, count in steps:
        now += seconds
        for _ in range(count):
            if is_try:
                budget.on_try(now)
                tries[math.floor(now)] += 1
                continue
            affordable = last_ten(retries) < 0.5 * last_ten(tries) + 50
            assert budget.withdraw(now, bulk=False) is affordable
            retries[math.floor(now)] += affordable
    now += 10.0
    assert [budget.withdraw(now, bulk=False) for _ in range(51)] == [True] * 50 + [False]
