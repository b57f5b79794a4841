"""The event loop of a command: uvloop where it is installed, the signals, and the garbage collector.

A library must not change them for its program. A command is the program, so it may.
"""

from __future__ import annotations

import asyncio
import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from signal import Signals

from bandwidth_async.cli import signals

T = TypeVar("T")

# Requests leave many objects behind, but hardly any reference cycles. With Python's threshold of 700 the
# collector takes a tenth of a run's time, and up to a third with 1,000 conferences in progress at once.
_GARBAGE_THRESHOLD = 50_000


class Loop:
    """An event loop that a command leaves for what blocks, such as reading its input, and comes back to."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=_loop_factory())
        self._threshold = gc.get_threshold()

    def __enter__(self) -> Self:
        gc.set_threshold(_GARBAGE_THRESHOLD, *self._threshold[1:])
        self._runner.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._runner.close()
        finally:
            gc.set_threshold(*self._threshold)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end and return its result. A signal cancels it.

        Raises `signals.Interrupted` then.
        """
        received: list[Signals] = []
        try:
            return self._runner.run(_cancelled_by_signals(work, received))
        except asyncio.CancelledError:
            if not received:
                raise
            raise signals.Interrupted(received[0]) from None


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine in a loop of its own: see `Loop.run`."""
    with Loop() as loop:
        return loop.run(work)


async def _cancelled_by_signals(work: Coroutine[Any, Any, T], received: list[Signals]) -> T:
    task = cast("asyncio.Task[T]", asyncio.current_task())

    def cancel(number: Signals) -> None:
        received.append(number)
        task.cancel()
        signals.insist(number)

    with on_signals(cancel):
        return await work


@contextmanager
def on_signals(action: Callable[[Signals], object]) -> Iterator[None]:
    """Call ``action`` in the running event loop with each signal, and leave a process whose loop is stuck."""
    loop = asyncio.get_running_loop()

    def heard(number: Signals) -> None:
        signals.relent()
        action(number)

    def tell(number: Signals) -> None:
        signals.insist(number)
        loop.call_soon_threadsafe(heard, number)

    # Not the loop's own handlers: Windows has none, and a loop that is stuck does not call them.
    with signals.handled(tell):
        yield


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    return uvloop.new_event_loop
