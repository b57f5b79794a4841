"""The event loop of a command: uvloop where it is installed, and a setting of the garbage collector.

A library must not change either for its program. A command is the program, so it may.
"""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

# Requests leave many objects behind, but hardly any reference cycles. With Python's threshold of 700 the
# collector takes a tenth of a run's time, and up to a third with 1,000 conferences in progress at once.
_GARBAGE_THRESHOLD = 50_000


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine to its end and return its result."""
    before = gc.get_threshold()
    gc.set_threshold(_GARBAGE_THRESHOLD, *before[1:])
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(work)
    finally:
        gc.set_threshold(*before)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    return uvloop.new_event_loop
