"""Virtual time: an event loop that jumps to its next timer, and a wall clock that follows it."""

from __future__ import annotations

import asyncio
import selectors
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar
from unittest import mock

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

_EPOCH = 1_795_000_000.25  # the wall clock's time when the loop's time is 0
# The seconds that a turn of the loop takes. Without them, timers set by rounded sums, as aiolimiter does it,
# would spin forever.
_TURN = 1e-8


class _Leaper(selectors.SelectSelector):
    """Never waits, but adds the timeout to the virtual time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing is due and nothing is on its way: the run hangs")
        self.now += max(timeout, _TURN)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop without sockets and threads. Its time passes only when nothing is left to do.

    Each timer fires ``late`` seconds after it is due, on average.
    """

    def __init__(self, late: float = 0.0) -> None:
        self._leaper = _Leaper()
        self._late = late
        self._random = Random(1)
        super().__init__(self._leaper)

    # The stub of the base class counts the arguments by a type variable.
    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, **kwargs: Any
    ) -> asyncio.TimerHandle:
        if self._late:
            when += self._random.expovariate(1 / self._late)
        return super().call_at(when, callback, *args, **kwargs)

    def time(self) -> float:
        return self._leaper.now


def run_virtually(main: Coroutine[Any, Any, T], late: float = 0.0) -> T:
    """Run ``main`` from second 0 of a new event loop. ``time.time()`` follows the loop meanwhile."""
    with asyncio.Runner(loop_factory=partial(VirtualLoop, late)) as runner:
        loop = runner.get_loop()

        def wall() -> float:
            return _EPOCH + loop.time()

        with mock.patch("time.time", wall):
            return runner.run(main)
