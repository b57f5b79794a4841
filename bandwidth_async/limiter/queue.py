"""Who waits at the door and who is next: two classes, first come first served in each.

Single calls (interactive) go before those of runs (bulk), but while bulk waits, at least one of every
`BULK_EVERY` admissions is its own. Who was refused comes first again in its class: its ``place`` is the
number of its first arrival, which is lower than that of anybody who has not been let in yet.

Whoever gave up stays in line until it is its turn and is passed over then, so nothing here takes longer
the more wait, except `tell`.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from bandwidth_async.errors import BandwidthError

BULK_EVERY = 4


@define(eq=False, kw_only=True)
class Waiter:
    """One that waits; its future gets the ticket of its request, or the reason why it cannot wait."""

    future: asyncio.Future[int]
    place: int
    bulk: bool
    deadline: float  # loop time
    patience: float  # seconds that the door may be shut

    def __lt__(self, other: Waiter) -> bool:
        return self.place < other.place


@define(eq=False)
class _Class:
    """The line of one class."""

    waiting: int = 0
    _fresh: deque[Waiter] = field(factory=deque)
    _refused: list[Waiter] = field(factory=list)  # a heap

    def add(self, waiter: Waiter, *, refused: bool) -> None:
        self.waiting += 1
        if refused:
            heapq.heappush(self._refused, waiter)
        else:
            self._fresh.append(waiter)

    def first(self) -> Waiter | None:
        while self._refused and self._refused[0].future.done():
            heapq.heappop(self._refused)
        if self._refused:
            return self._refused[0]
        while self._fresh and self._fresh[0].future.done():
            self._fresh.popleft()
        return self._fresh[0] if self._fresh else None

    def all(self) -> list[Waiter]:
        return [waiter for waiter in (*self._refused, *self._fresh) if not waiter.future.done()]


class Waiting:
    """All that wait."""

    def __init__(self) -> None:
        self._interactive = _Class()
        self._bulk = _Class()
        self._passed_over = 0  # admissions in a row that others got while bulk waited
        self._deadline = math.inf  # no one that waits has an earlier one
        self._patience = math.inf  # nor a shorter one

    def __len__(self) -> int:
        return self._interactive.waiting + self._bulk.waiting

    def count(self, *, bulk: bool) -> int:
        """Return how many of a class wait."""
        return self._class(bulk).waiting

    def add(self, waiter: Waiter, *, refused: bool) -> None:
        """Let one join: at the end of its class, or where its ``place`` puts it when it was refused."""
        if not len(self):
            self._deadline = self._patience = math.inf
        self._class(waiter.bulk).add(waiter, refused=refused)
        self._note(waiter)

    def first(self) -> Waiter | None:
        """Return who is next, without taking it out."""
        bulk = self._bulk.first()
        if bulk is not None and self._passed_over >= BULK_EVERY - 1:
            return bulk
        return self._interactive.first() or bulk

    def admit(self, waiter: Waiter, ticket: int) -> None:
        """Give the first one its ticket."""
        self._passed_over = 0 if waiter.bulk or not self._bulk.waiting else self._passed_over + 1
        waiter.future.set_result(ticket)
        self.forget(waiter)

    def forget(self, waiter: Waiter) -> None:
        """Do not count one that waits no longer."""
        self._class(waiter.bulk).waiting -= 1

    def tell(self, now: float, opens: float, hopeless: Callable[[Waiter], BandwidthError | None]) -> None:
        """Send away who cannot wait until the door ``opens``, with the error that ``hopeless`` gives.

        Looks at each of them only when there may be such a one.
        """
        if opens <= self._deadline and opens - now <= self._patience:
            return
        self._deadline = self._patience = math.inf
        for waiter in (*self._interactive.all(), *self._bulk.all()):
            error = hopeless(waiter)
            if error is None:
                self._note(waiter)
            else:
                waiter.future.set_exception(error)
                self.forget(waiter)

    def dismiss_interactive(self, reason: Callable[[], BandwidthError | None]) -> None:
        """Send all single calls away, each with an error of its own from ``reason``."""
        for waiter in self._interactive.all():
            error = reason()
            if error is not None:
                waiter.future.set_exception(error)
                self.forget(waiter)

    def _note(self, waiter: Waiter) -> None:
        self._deadline = min(self._deadline, waiter.deadline)
        self._patience = min(self._patience, waiter.patience)

    def _class(self, bulk: bool) -> _Class:
        return self._bulk if bulk else self._interactive
