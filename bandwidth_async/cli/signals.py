"""The signals that stop a command."""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# A terminal that is closed sends a hang-up. Windows has none.
HANG_UP: signal.Signals | None = getattr(signal, "SIGHUP", None)
_ENDING = tuple(filter(None, (signal.SIGTERM, HANG_UP)))


@contextmanager
def handled(on_signal: Callable[[signal.Signals], object], *, interrupt: bool = True) -> Iterator[None]:
    """Call ``on_signal`` in the running event loop with each SIGTERM and SIGHUP, and to ``interrupt`` SIGINT.

    A SIGHUP that is ignored when the command starts stays ignored: this is how nohup works.
    """
    loop = asyncio.get_running_loop()
    numbers = [
        number for number in _ENDING if number != HANG_UP or signal.getsignal(number) != signal.SIG_IGN
    ]
    if interrupt:
        numbers.append(signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            # None stands for a handler that was not set by Python, and that Python cannot set again.
            if handler is not None:
                signal.signal(number, handler)


@contextmanager
def before_ending(action: Callable[[], object]) -> Iterator[None]:
    """Call ``action`` before a SIGTERM or SIGHUP ends the process as it always does."""

    def end(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        try:
            action()
        finally:
            signal.raise_signal(number)

    # A signal that somebody else handles or ignores does not end the process. Python lets only its first
    # thread handle signals.
    ours = threading.current_thread() is threading.main_thread()
    numbers = [number for number in _ENDING if ours and signal.getsignal(number) == signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
