"""Virtual time: an event loop that jumps to its next timer, and a wall clock that follows it."""

from __future__ import annotations

import asyncio
import selectors
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
    """An event loop without sockets and threads. Its time passes only when nothing is left to do."""

    def __init__(self) -> None:
        self._leaper = _Leaper()
        super().__init__(self._leaper)

    def time(self) -> float:
        return self._leaper.now


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` from second 0 of a new event loop. ``time.time()`` follows the loop meanwhile."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()

        def wall() -> float:
            return _EPOCH + loop.time()

        with mock.patch("time.time", wall):
            return runner.run(main)
