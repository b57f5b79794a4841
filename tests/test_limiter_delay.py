"""Servers that queue are not filled; servers that are slow, or vary, are not held back."""

from __future__ import annotations

import math
from heapq import heappop, heappush
from random import Random
from typing import TYPE_CHECKING

import pytest

from bandwidth_async.limiter.delay import DelayLimit

if TYPE_CHECKING:
    from collections.abc import Callable


class Ran:
    """Requests at an even rate, as far as the limit lets them out, at a server that may queue."""

    def __init__(self, answer: Callable[[float], float], *, capacity: Callable[[float], float]) -> None:
        self.limit = DelayLimit()
        self._answer, self._capacity = answer, capacity
        self._free_at = self._now = 0.0
        self._out: list[tuple[float, float]] = []
        # When each answer came, and the seconds it took.
        self.answers: list[tuple[float, float]] = []

    def send(self, rate: float, seconds: float) -> Ran:
        """Send for some seconds."""
        end = self._now + seconds
        while self._now < end:
            opens = self.limit.next_time(len(self._out))
            if self._out and self._out[0][0] <= max(self._now, opens):
                at, sent = heappop(self._out)
                self.answers.append((at, at - sent))
                self.limit.on_answer(at - sent, at)
                self._now = max(self._now, at if opens > self._now else 0.0)
                continue
            self._now = max(self._now, opens)
            self._free_at = max(self._free_at, self._now) + 1 / self._capacity(self._now)
            heappush(self._out, (self._free_at + self._answer(self._now), self._now))
            self._now += 1 / rate
        return self

    def since(self, begin: float) -> tuple[float, float]:
        """Return the answers a second, and the mean seconds of an answer, since then."""
        late = [seconds for at, seconds in self.answers if at >= begin]
        return len(late) / (self._now - begin), sum(late) / len(late)


def test_a_server_that_queues_is_not_filled() -> None:
    """Twice what it can do is asked for. It does all that it can, and answers within twice the time."""
    ran = Ran(lambda _: 0.1, capacity=lambda _: 50).send(25, 2).send(100, 30)
    rate, seconds = ran.since(5)
    assert rate == pytest.approx(50, rel=0.03)
    assert seconds < 2 * (0.1 + 1 / 50)


def test_a_server_without_a_queue_is_not_held_back() -> None:
    """However fast the rate grows."""
    ran = Ran(lambda _: 0.1, capacity=lambda _: math.inf)
    rate = 20.0
    while rate < 3000:
        ran.send(rate, 0.24)
        rate *= 1.6
    ran.send(3000, 2)
    assert ran.since(ran.answers[-1][0] - 1)[0] > 2800


@pytest.mark.parametrize("seed", range(3))
def test_answers_that_vary_are_no_queue(seed: int) -> None:
    """Most take 0.25 s and one of a hundred a second. The rate stays."""
    random = Random(seed)
    ran = Ran(lambda _: random.lognormvariate(math.log(0.25), 0.6), capacity=lambda _: math.inf)
    ran.send(100, 60)
    assert ran.since(5)[0] > 97


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_some_long_answers_among_quick_ones_are_no_queue(share: float) -> None:
    """The long ones of the first requests come last, so the first answers are all quick."""
    random = Random(5)
    ran = Ran(lambda _: 2.0 if random.random() < share else 0.02, capacity=lambda _: math.inf)
    ran.send(50, 1).send(200, 1).send(500, 10)
    assert ran.since(6)[0] > 475


def test_a_server_that_becomes_slow_for_another_reason() -> None:
    """Half of the requests do not make it quicker, so the time without a queue is learned anew."""
    ran = Ran(lambda now: 0.1 if now < 10 else 0.5, capacity=lambda _: math.inf)
    ran.send(100, 40)
    assert ran.since(20)[0] > 95


def test_a_server_that_can_do_less_than_before() -> None:
    """Its queue is as short as before, within seconds."""
    ran = Ran(lambda _: 0.1, capacity=lambda now: 200 if now < 10 else 40)
    ran.send(50, 2).send(400, 40)
    rate, seconds = ran.since(20)
    assert rate == pytest.approx(40, rel=0.05)
    assert seconds < 0.3


def test_a_server_that_hangs_is_not_judged() -> None:
    """Without answers the limit does not hold, so that the breaker hears of it as soon as ever."""
    ran = Ran(lambda _: 0.1, capacity=lambda _: 50).send(100, 5)
    limit = ran.limit
    last = ran.answers[-1][0]
    assert last < limit.next_time(int(limit.limit) + 1) < last + 1.5
    assert limit.next_time(0) == -math.inf
    assert repr(limit).startswith("<DelayLimit ")


def test_few_requests_are_always_allowed() -> None:
    """A slow rate is no reason for one request at a time."""
    ran = Ran(lambda _: 0.02, capacity=lambda _: math.inf).send(2, 60)
    assert ran.limit.limit >= 10
