"""Which 503s without a time are refusals: those that are quick, beside requests that pass, above a rate."""

from __future__ import annotations

import pytest

from bandwidth_async.limiter.busy import BusyServer

USUAL = 0.1
QUICK, SLOW = 0.02, 0.5


class Results:
    """Gives results to a `BusyServer`, at a rate."""

    def __init__(self) -> None:
        self.busy = BusyServer()
        self.now = 100.0
        self.serial = 0

    def passed(self, count: int, rate: float = 100.0) -> None:
        """Let requests in."""
        for _ in range(count):
            self._go_on(rate)
            self.busy.on_passed(self.serial, self.now, rate)

    def failed(
        self, count: int, rate: float = 100.0, *, took: float = QUICK, place: int | None = None
    ) -> list[bool]:
        """Answer requests with 503, and return which are refusals."""
        told = []
        for _ in range(count):
            self._go_on(rate)
            told.append(
                self.busy.is_refusal(
                    self.serial,
                    self.now,
                    place=self.serial if place is None else place,
                    took=took,
                    usual=USUAL,
                    rate=rate,
                )
            )
        return told

    def suspected(self, rate: float = 100.0) -> Results:
        """Raise the suspicion."""
        self.failed(5, rate)
        self.passed(1, rate)
        return self

    def _go_on(self, rate: float) -> None:
        self.serial += 1
        self.now += 1 / rate


def test_many_quick_503s_beside_a_request_that_passed() -> None:
    """From then on each is a refusal, also a single one."""
    results = Results()
    assert results.failed(5) == [False] * 5
    results.passed(1)
    assert results.failed(1) == [True]
    results.passed(100)
    assert results.failed(1) == [True]


def test_an_outage_is_never_suspected() -> None:
    """Nothing passes that was sent after the first of them. What was sent before may still come."""
    results = Results()
    results.passed(100)
    early = results.serial
    assert not any(results.failed(5))
    results.busy.on_passed(early, results.now, 100.0)
    assert not any(results.failed(200))


def test_slow_503s_are_failures() -> None:
    """A gateway that waited for a server behind it is not one that refuses."""
    results = Results()
    results.failed(5, took=SLOW)
    results.passed(1)
    assert not any(results.failed(5, took=SLOW))
    results.suspected()
    assert results.failed(2, took=SLOW) == [False, False]


def test_one_request_that_always_gets_503_is_no_refusal() -> None:
    """Five attempts of one id say nothing about the quota."""
    results = Results()
    results.failed(9, place=1)
    results.passed(1)
    assert not any(results.failed(3, place=1))


def test_now_and_then_a_503_is_a_failure() -> None:
    """One in five is not enough for a suspicion."""
    results = Results()
    for _ in range(100):
        assert results.failed(1) == [False]
        results.passed(4)


def test_a_suspicion_ends_where_the_rate_does_not_help() -> None:
    """At half of the rate as many get a 503, and at half of that. It is not raised again for a minute."""
    results = Results().suspected(100)
    told = []
    for rate in (100, 25, 12):
        for _ in range(20):
            told += results.failed(1, rate)
            results.passed(1, rate)
    assert told[:30] == [True] * 30
    assert not any(told[-8:])
    assert (results.busy.mistakes, results.busy.rate) == (1, 100)
    results.suspected(100)
    assert results.failed(1) == [False]
    results.now += 60
    results.suspected(100)
    assert results.failed(1) == [True]


def test_a_suspicion_lasts_where_the_rate_helps() -> None:
    """Many refusals at a rate that is still too high prove nothing against it."""
    results = Results().suspected(320)
    for rate, refused in ((160, 30), (80, 10)):
        for _ in range(refused):
            assert results.failed(1, rate) == [True]
            results.passed(1, rate)
    results.passed(500, 40)
    assert results.failed(1, 40) == [True]
    assert results.busy.mistakes == 0


def test_a_503_far_below_the_rate_ends_the_suspicion_at_once() -> None:
    """A server that always fails most requests would otherwise be asked more and more seldom, for hours."""
    results = Results().suspected(100)
    results.passed(1, 5)
    assert results.failed(2, 5) == [False, False]
    assert (results.busy.mistakes, results.busy.rate) == (1, 100)


@pytest.mark.parametrize("seconds", [1.0, 6.0])
def test_when_nothing_passes_for_five_seconds_it_is_an_outage(seconds: float) -> None:
    """The breaker hears of it then. A closed window may be as long as that."""
    results = Results().suspected(20)
    told = [results.failed(1, 2)[0] for _ in range(int(2 * seconds))]
    assert all(told[: int(2 * min(seconds, 5))])
    assert all(told) is (seconds < 5)
    assert results.busy.refuses is (seconds < 5)
    assert repr(results.busy) == f"<BusyServer, 503 is a {'refusal' if seconds < 5 else 'failure'}>"
