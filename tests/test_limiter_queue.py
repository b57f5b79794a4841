"""The queue under overload: who is late is not sent, and the newest goes first once overload lasts."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator

import pytest

from bandwidth_async.errors import DeadlineExceededError
from bandwidth_async.limiter.queue import AnswerTime, QueuedRequest, RequestQueue

RESERVE = 0.5  # seconds of each request in these tests
PATIENCE = 2.0


class Line:
    """A queue whose requests have names, and a clock that is set."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.queue = RequestQueue()
        self.now = 0.0
        self.waiting: dict[str, QueuedRequest] = {}

    def join(
        self, *names: str, within: float = PATIENCE, bulk: bool = False, place: float = math.inf
    ) -> None:
        """Add a request for each name, with ``within`` seconds to its deadline."""
        for name in names:
            self.waiting[name] = QueuedRequest(
                future=self.loop.create_future(),
                place=place,
                bulk=bulk,
                came=self.now,
                deadline=self.now + within,
                latest=self.now + within - RESERVE,
                patience=math.inf,
            )
            self.queue.add(self.waiting[name])

    def admit(self, count: int) -> list[str]:
        """Admit so many requests, and return their names."""
        admitted = []
        for _ in range(count):
            first = self.queue.first(self.now)
            if first is None:
                break
            self.queue.admit(first, serial=1)
            admitted += [name for name, request in self.waiting.items() if request is first]
        return admitted

    def give_up(self, *names: str) -> None:
        """Cancel these requests."""
        for name in names:
            self.waiting[name].future.cancel()
            self.queue.discard(self.waiting[name])

    def rejected(self) -> list[str]:
        """Return the names of the requests that were told that they are late."""
        done = {name: one.future for name, one in self.waiting.items() if one.future.done()}
        return [name for name, future in done.items() if not future.cancelled() and future.exception()]

    def overloaded(self) -> None:
        """Let one be late, then another that came after that was found. "patient" waits on."""
        self.join("late")
        self.now += PATIENCE
        self.join("in time", "late too")
        assert self.admit(1) == ["in time"]
        self.now += 0.1
        self.join("late again")
        self.join("patient", within=math.inf)
        self.now += PATIENCE
        self.join("newest")
        assert self.admit(1) == ["newest"]
        assert self.rejected() == ["late", "late too", "late again"]


@pytest.fixture
def line() -> Iterator[Line]:
    """Return an empty line."""
    line = Line()
    yield line
    line.loop.close()


def test_who_is_late_gets_no_turn(line: Line) -> None:
    """A request with less than its reserve left is told so, and the turn goes to the next."""
    line.join("hurried", within=1.0)
    line.join("patient", within=9.0)
    line.now = 0.6
    assert line.admit(2) == ["patient"]
    assert line.rejected() == ["hurried"]
    with pytest.raises(DeadlineExceededError, match=r"the 0\.4 s left are less than"):
        line.waiting["hurried"].future.result()
    assert len(line.queue) == 0


def test_who_has_just_its_reserve_left_is_sent(line: Line) -> None:
    """The last moment is still in time."""
    line.join("a", within=1.0)
    line.now = 0.5
    assert line.admit(1) == ["a"]


def test_a_surge_that_ends_is_served_in_order(line: Line) -> None:
    """Of those that came together some are late. The others leave in order of arrival."""
    line.join("a", "b", within=1.0)
    line.join("c", "d", "e", within=9.0)
    line.now = 0.6
    assert line.admit(5) == ["c", "d", "e"]


def test_overload_that_lasts_turns_the_order(line: Line) -> None:
    """One that came after others were found late is late too: from then on the newest goes first."""
    line.overloaded()
    line.join("a", "b", "c")
    assert line.queue.ahead(bulk=False) == 0
    assert line.admit(2) == ["c", "b"]
    line.join("d")
    assert line.admit(3) == ["d", "a", "patient"]


def test_the_order_is_kept_again_once_nobody_waits(line: Line) -> None:
    """The next surge begins in order of arrival."""
    line.overloaded()
    line.join("a", "b")
    assert line.admit(3) == ["b", "a", "patient"]
    line.join("c", "d", "e")
    assert line.queue.ahead(bulk=False) == 3
    assert line.admit(3) == ["c", "d", "e"]


def test_those_that_gave_up_in_time_turn_nothing(line: Line) -> None:
    """A caller that cancels early says nothing about the load."""
    for name in "abcd":
        line.join(name)
        line.give_up(name)
        line.join(name.upper())
        assert line.admit(1) == [name.upper()]
        line.now += 0.1
    line.join("x", "y")
    assert line.admit(2) == ["x", "y"]


def test_those_whose_deadline_came_in_the_queue_count_as_late(line: Line) -> None:
    """At a slow rate none is found late at the front, as each has given up by then."""
    line.join("gone")
    line.join("a", "b", within=math.inf)
    line.now += PATIENCE
    line.give_up("gone")
    assert line.admit(1) == ["a"]
    line.now += 0.1
    line.join("gone too")
    line.join("c", within=math.inf)
    line.now += PATIENCE
    line.give_up("gone too")
    line.join("newest")
    assert line.admit(3) == ["b", "newest", "c"]


def test_runs_are_always_in_order(line: Line) -> None:
    """Requests of runs that are late are dropped, but their order never turns."""
    for _ in range(3):
        line.join("a", "b", bulk=True)
        line.now += PATIENCE
        line.join("c", "d", bulk=True)
        assert line.admit(1) == ["c"]
    assert line.admit(1) == ["d"]


def test_who_was_sent_before_goes_first_in_both_orders(line: Line) -> None:
    """Its place is before all new requests, also while the newest goes first."""
    line.overloaded()
    line.join("a", "b")
    line.join("back", place=7.0)
    line.join("c")
    assert line.admit(4) == ["back", "c", "b", "a"]


def test_a_run_keeps_its_share_while_the_newest_goes_first(line: Line) -> None:
    """One of four is for the run."""
    line.overloaded()
    line.join(*"abcdef")
    line.join("run", within=math.inf, bulk=True)
    assert "run" in line.admit(4)


def test_those_that_gave_up_are_forgotten(line: Line) -> None:
    """In overload that lasts for hours, the oldest never come to the front. They take no memory."""
    line.overloaded()
    for number in range(2000):
        line.join(f"call-{number}")
        line.give_up(f"call-{number}")
    assert len(line.queue._interactive._new) < 200
    assert line.admit(1) == ["patient"]


def test_the_usual_time_follows_the_responses() -> None:
    """It is above the mean, and follows a server that becomes slower within some responses."""
    time = AnswerTime()
    assert time.usual == 0
    time.add(0.1)
    assert time.usual == pytest.approx(0.3)
    for _ in range(100):
        time.add(0.1)
    assert time.usual == pytest.approx(0.1, rel=0.01)
    for _ in range(8):
        time.add(1.0)
    assert 1.0 < time.usual < 3


@pytest.mark.parametrize(
    ("usual", "within", "repeated", "latest"),
    [
        (0.2, 1.0, False, 0.8),
        (10.0, 1.0, False, 0.5),
        (10.0, 30.0, True, 20.0),
        (0.2, math.inf, False, math.inf),
    ],
)
def test_the_reserve_is_half_of_its_time_at_most(
    usual: float, within: float, repeated: bool, latest: float
) -> None:
    """An estimate that is far too high shuts nobody out for good."""
    time = AnswerTime()
    time.usual = usual
    assert time.latest(within, 0.0, repeated=repeated) == pytest.approx(latest)
