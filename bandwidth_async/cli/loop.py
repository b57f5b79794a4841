"""The event loop that a command runs in. What a library must not touch, a command of its own may."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

# Requests leave many objects behind, and hardly any in a circle: Python's 700 has the collector look through
# them all the time, for a tenth of a run's time and up to a third at 1,000 conferences in work at once.
_GARBAGE_THRESHOLD = 50_000


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine to its end, on uvloop where that is installed."""
    usual = gc.get_threshold()
    gc.set_threshold(_GARBAGE_THRESHOLD, *usual[1:])
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(work)
    finally:
        gc.set_threshold(*usual)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    return uvloop.new_event_loop
