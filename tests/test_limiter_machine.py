"""The limiter under random traffic: no request is lost, and each class keeps its order."""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Coroutine
from random import Random
from typing import Any

from attrs import define
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bandwidth_async.errors import DeadlineExceededError, RateLimitError
from bandwidth_async.limiter.limiter import Admission, Limiter
from bandwidth_async.limiter.pace import RateLimit
from bandwidth_async.limiter.queue import BULK_EVERY, QueuedRequest

TICK = 1e-4  # seconds within which two moments of virtual time are the same
LONGEST_PAUSE = 15.0  # seconds without a hint
LONGEST_HINT = 20.0  # seconds, in these tests


class _Leap(selectors.SelectSelector):
    """Never waits, but adds the timeout to the virtual time."""

    now = 100.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Add the timeout to the time, and return at once."""
        self.now += max(timeout or 0.0, 1e-8)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer. It runs for one step of the machine at a time."""

    def __init__(self) -> None:
        self._leap = _Leap()
        super().__init__(self._leap)

    def time(self) -> float:
        """Return the virtual time."""
        return self._leap.now


@define(eq=False, kw_only=True)
class One:
    """A request: waiting, admitted, rejected or cancelled."""

    number: int  # in the order of joining
    bulk: bool
    deadline: float
    patience: float
    joined_at: float
    place: int | None
    task: asyncio.Task[None] | None = None
    admission: Admission | None = None
    admitted_at: float = math.nan
    rejected: Exception | None = None
    cancelled: bool = False

    @property
    def waits(self) -> bool:
        """Return True if the request waits."""
        return self.admission is None and self.rejected is None and not self.cancelled


@define
class Books:
    """Counts of admissions and results."""

    granted: int = 0
    sent: int = 0  # accepted, refused or lost
    returned: int = 0  # not used
    refused: int = 0
    hinted_until: float = -math.inf
    passed_over: int = 0  # admissions in a row that others got while bulk waited


class Traffic(RuleBasedStateMachine):
    """Any number of tasks at one limiter, in virtual time."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = _Loop()
        self.limiter = Limiter(RateLimit(20.0), Random(1))
        self.books = Books()
        self.ones: list[One] = []
        self.out: list[One] = []
        self.numbers = 0
        self.turned: dict[int, bool] = {}  # by serial: whether the newest single call went first then

    @initialize(
        limit=st.sampled_from(
            [RateLimit(20.0), RateLimit(5.0, 3), RateLimit(), RateLimit.adaptive(start=3.0)]
        ),
        connections=st.sampled_from([math.inf, 1, 3]),
    )
    def begin(self, limit: RateLimit, connections: float) -> None:
        """Start with any pace and any number of connections."""
        self.limiter = Limiter(limit, Random(1), connections=connections)
        queue = self.limiter._queue
        admit = queue.admit

        def noted(request: QueuedRequest, serial: int) -> None:
            self.turned[serial] = queue._interactive.newest_first
            admit(request, serial)

        queue.admit = noted  # type: ignore[method-assign]  # the order may turn before the task wakes up

    # ------------------------------------------------------------------------------------------ the shell

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the event loop until it is done."""
        self.loop.run_until_complete(work)

    @property
    def now(self) -> float:
        """The loop's time."""
        return self.loop.time()

    async def _wait(self, one: One) -> None:
        try:
            admission = await self.limiter.admit(
                bulk=one.bulk, place=one.place, deadline=one.deadline, patience=one.patience
            )
        except (DeadlineExceededError, RateLimitError) as error:
            one.rejected = error
            if "waited so long" in str(error):
                assert self.now >= one.deadline
            return
        one.admission, one.admitted_at = admission, asyncio.get_running_loop().time()
        self._check_admitted(one)

    def _check_admitted(self, one: One) -> None:
        """Check the admission against the rules of the queue."""
        self.books.granted += 1
        self.out.append(one)
        assert one.admitted_at >= self.books.hinted_until - TICK, "admitted during a hinted pause"
        before = [other for other in self.ones if other.waits and other.bulk == one.bulk]
        assert one.admission is not None
        newest_first = self.turned.get(one.admission._serial, False) and not one.bulk
        mine = self._rank(one, newest_first=newest_first)
        ahead = [other for other in before if self._rank(other, newest_first=newest_first) < mine]
        assert not ahead, "overtaken in its class"
        bulk_waits = any(other.waits and other.bulk for other in self.ones)
        self.books.passed_over = self.books.passed_over + 1 if bulk_waits and not one.bulk else 0
        assert self.books.passed_over < BULK_EVERY, "bulk did not get its share"

    @staticmethod
    def _rank(one: One, *, newest_first: bool) -> tuple[int, int]:
        """Return the rank of a request in its class. Refused ones come first, by place, then the others."""
        if one.place is not None:
            return 0, one.place
        return 1, -one.number if newest_first else one.number

    async def _joined(self, one: One) -> None:
        one.task = asyncio.create_task(self._wait(one))
        await self._settled()

    @staticmethod
    async def _settled() -> None:
        for _ in range(4):  # admitted, woken, done
            await asyncio.sleep(0)

    def join(self, *, bulk: bool, within: float, patience: float, place: int | None = None) -> None:
        """Ask for an admission."""
        self.numbers += 1
        one = One(
            number=self.numbers,
            bulk=bulk,
            deadline=self.now + within,
            patience=patience,
            joined_at=self.now,
            place=place,
        )
        self.ones.append(one)
        self.run(self._joined(one))

    def take(self, which: int) -> tuple[One, Admission]:
        """Remove and return a request that is in flight."""
        one = self.out.pop(which % len(self.out))
        assert one.admission is not None
        return one, one.admission

    async def _answered(self, admission: Admission, how: str, hint: float | None = None) -> None:
        with admission:
            if how != "unsent":
                admission.sending()
            if how == "accepted":
                admission.accepted()
            elif how == "refused":
                admission.refused(hint)
        await self._settled()

    # ------------------------------------------------------------------------------------------- the rules

    @rule(
        bulk=st.booleans(),
        within=st.sampled_from([math.inf, math.inf, 0.5, 5.0]),
        patience=st.sampled_from([math.inf, math.inf, 2.0]),
    )
    def admit(self, bulk: bool, within: float, patience: float) -> None:
        """One request comes."""
        self.join(bulk=bulk, within=within, patience=patience)

    @rule(bulk=st.lists(st.booleans(), min_size=4, max_size=16), within=st.sampled_from([math.inf, 0.5, 1.0]))
    def crowd(self, bulk: list[bool], within: float) -> None:
        """Many requests come at once."""
        for each in bulk:
            self.join(bulk=each, within=within, patience=math.inf)

    @precondition(lambda self: any(one.waits for one in self.ones))
    @rule(which=st.integers(0, 50))
    def cancel(self, which: int) -> None:
        """A waiting request is cancelled."""
        waiting = [one for one in self.ones if one.waits]
        one = waiting[which % len(waiting)]

        async def _give_up() -> None:
            assert one.task is not None
            one.cancelled = True
            one.task.cancel()
            await self._settled()

        self.run(_give_up())

    @precondition(lambda self: self.out and any(one.waits for one in self.ones))
    @rule(which=st.integers(0, 50), last=st.booleans())
    def cancel_as_it_is_admitted(self, which: int, last: bool) -> None:
        """A response lets the next be admitted, and that one is cancelled in the same tick."""
        _, admission = self.take(which)
        waiting = [other for other in self.ones if other.waits]
        loser = waiting[-1 if last else 0]

        async def _race() -> None:
            assert loser.task is not None
            loser.cancelled = True
            with admission:
                admission.sending()
                admission.accepted()
            loser.task.cancel()
            # An admission that a bulk request gives up counts for bulk.
            if loser.bulk:
                self.books.passed_over = 0
            await self._settled()

        self.books.sent += 1
        self.run(_race())

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0, 50), how=st.sampled_from(["accepted", "accepted", "lost", "unsent"]))
    def answer(self, which: int, how: str) -> None:
        """An admitted request gets its result."""
        _, admission = self.take(which)
        self.books.returned += how == "unsent"
        self.books.sent += how != "unsent"
        self.run(self._answered(admission, how))
        # These tests are not about the breaker. A success in between keeps it closed.
        if how == "lost":
            self.limiter.breaker.on_success(10**9, self.now, self.limiter.rate)

    @precondition(lambda self: self.out)
    @rule(
        which=st.integers(0, 50),
        hint=st.sampled_from([None, None, 0.3, 1.0, LONGEST_HINT]),
        again=st.booleans(),
    )
    def refuse(self, which: int, hint: float | None, again: bool) -> None:
        """A request is refused. It returns to its place in the queue or does not."""
        one, admission = self.take(which)
        self.books.sent += 1
        self.books.refused += 1
        self.run(self._answered(admission, "refused", hint))
        seen = self.limiter.snapshot()
        if hint and seen.pause_reason == "hint":
            self.books.hinted_until = max(self.books.hinted_until, self.now + min(hint, seen.paused_for))
        if again:
            self.join(bulk=one.bulk, within=math.inf, patience=math.inf, place=admission.place)

    @rule(seconds=st.sampled_from([0.001, 0.05, 0.3, 1.0, 5.0, 25.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""

        async def _sleep() -> None:
            await asyncio.sleep(seconds)
            await self._settled()

        self.run(_sleep())

    # -------------------------------------------------------------------------------------- what always holds

    @invariant()
    def the_counts_agree(self) -> None:
        """Admitted requests without a result are in flight. Those that wait are counted in their class."""
        seen = self.limiter.snapshot()
        assert seen.in_flight == len(self.out)
        assert self.books.granted == self.books.sent + self.books.returned + len(self.out)
        assert seen.refusals == self.books.refused
        waiting = [one for one in self.ones if one.waits]
        assert seen.waiting_bulk == sum(one.bulk for one in waiting)
        assert seen.waiting_interactive == sum(not one.bulk for one in waiting)

    @invariant()
    def no_task_is_left_undone(self) -> None:
        """The tasks of admitted, rejected and cancelled requests have ended."""
        for one in self.ones:
            assert one.task is not None
            assert one.task.done() == (not one.waits)
            if one.task.done() and not one.task.cancelled():
                assert one.task.exception() is None

    @invariant()
    def a_timer_is_set_for_the_next(self) -> None:
        """While requests wait, a timer fires when the next is due, or a response is still to come."""
        if not any(one.waits for one in self.ones):
            return
        due = self.limiter._due(self.now)
        if due == math.inf:
            assert self.out
        else:
            assert self.limiter._timer is not None
            assert self.limiter._timer.when() <= max(due, self.now) + TICK

    def teardown(self) -> None:
        """When all have their response, the rest is admitted within the longest pause. No timer is left."""
        try:
            self._finish()
        finally:
            self.run(self._leave())
            self.loop.close()

    @staticmethod
    async def _leave() -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _finish(self) -> None:
        granted, until = -1, 0.0
        while self.out or any(one.waits for one in self.ones):
            while self.out:
                self.answer(0, "accepted")
            if self.books.granted > granted:
                granted = self.books.granted
                until = max(self.now, self.books.hinted_until) + LONGEST_PAUSE + 1
            assert self.now < until, f"it stalls: {self.limiter}"
            self.wait(0.3)
        self.the_counts_agree()
        self.wait(60.0)
        assert self.limiter._timer is None, "a timer is left"


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
