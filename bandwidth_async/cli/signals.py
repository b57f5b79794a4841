"""The signals that stop a command: Ctrl-C, SIGTERM, and SIGHUP, which a closed terminal sends.

Each has a handler from the first moment to the last. The process 1 of a container would otherwise ignore
SIGTERM and SIGHUP, and wherever else it runs, no sentence would say why a command ended.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Action = Callable[[signal.Signals], object]

# Windows has none.
_HANG_UP: signal.Signals | None = getattr(signal, "SIGHUP", None)
# Seconds for which a command may go on after the signal: something blocks it that hears no signals, such as a
# pipe that nobody reads.
_PATIENCE = 3.0
# The signal that wakes a thread. Nobody who ignores it misses anything.
_NUDGE: int = getattr(signal, "SIGURG", 0)
_INTERRUPTED = b"bandwidth-async: interrupted\n"
# The alarm belongs to the process. A program that calls the command line from its own code keeps it.
_IS_A_COMMAND = threading.Event()


class Interrupted(SystemExit):
    """A signal stops the command. ``code`` is the exit code: 128 and the number of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


def leave_at_once() -> None:
    """Leave the process at the first signal from now on, as long as nobody else handles it.

    This is for the process of a command, before the command begins and after it has ended. There, an
    exception could come up within an import or the end of Python, which would only print it.
    """
    for number in _numbers():
        signal.signal(number, lambda number, _: _leave(128 + number))
    # Windows has no alarm.
    if hasattr(signal, "setitimer"):
        _IS_A_COMMAND.set()
        signal.signal(_NUDGE, lambda *_: None)
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        threading.Thread(target=_nudge, args=(reading,), daemon=True).start()


def _nudge(arrived: int) -> None:
    """Wake the first thread after each signal.

    Python calls a handler late if the signal came just before a call that blocks, such as the reading of an
    answer whose question has just been written.
    """
    first = threading.main_thread().ident
    while numbers := os.read(arrived, 64):
        if first is not None and set(numbers) != {_NUDGE}:
            time.sleep(0.05)
            signal.pthread_kill(first, _NUDGE)


@contextmanager
def handled(action: Action) -> Iterator[None]:
    """Call ``action`` with each signal, in the midst of whatever Python's first thread does.

    A SIGHUP that is ignored when the command starts stays ignored: this is how nohup works. After the first
    SIGHUP the others are ignored: a closed terminal sends it twice, from the kernel and from the shell.
    """

    def handle(number: int, _: object) -> None:
        # Python may call a handler again before the first line of it.
        if number == _HANG_UP and signal.signal(number, signal.SIG_IGN) == signal.SIG_IGN:
            return
        action(signal.Signals(number))

    # Python lets only its first thread handle signals.
    ours = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handle) for number in (_numbers() if ours else ())}
    try:
        yield
    finally:
        for number, handler in before.items():
            # None stands for a handler that was not set by Python, and that Python cannot set again.
            if signal.getsignal(number) is handle and handler is not None:
                signal.signal(number, handler)


def hang_up_is_ignored() -> bool:
    """Return whether the command goes on when its terminal is lost, as with nohup."""
    return _HANG_UP is not None and signal.getsignal(_HANG_UP) == signal.SIG_IGN


@contextmanager
def hang_up_ignored() -> Iterator[None]:
    """Ignore SIGHUP while the context lasts, as nohup does."""
    if _HANG_UP is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(_HANG_UP, signal.SIG_IGN)
    try:
        yield
    finally:
        # None stands for a handler that was not set by Python, and that Python cannot set again.
        if before is not None:
            signal.signal(_HANG_UP, before)


def interrupt(number: signal.Signals) -> None:
    """Raise `Interrupted`, and leave the process if what is left to be done takes too long."""
    insist(number)
    raise Interrupted(number)


def insist(number: signal.Signals) -> None:
    """Leave the process in a few seconds, unless it has ended by then or `relent` is called."""
    _alarm(_PATIENCE, lambda: _leave(128 + number))


def relent() -> None:
    """Take back what `insist` said."""
    _alarm(0.0, lambda: None)


def _numbers() -> list[signal.Signals]:
    numbers = [signal.SIGINT, signal.SIGTERM]
    if _HANG_UP is not None and not hang_up_is_ignored():
        numbers.append(_HANG_UP)
    return numbers


def _leave(code: int) -> None:
    # A terminal that is stopped takes no sentence, and must not keep the process.
    _alarm(1.0, lambda: os._exit(code))
    try:
        os.write(2, _INTERRUPTED)
    finally:
        os._exit(code)


def _alarm(seconds: float, action: Callable[[], object]) -> None:
    """Call ``action`` in some seconds instead of what was to be called. With 0 s it is never called."""
    if _IS_A_COMMAND.is_set():
        signal.signal(signal.SIGALRM, lambda *_: action())
        signal.setitimer(signal.ITIMER_REAL, seconds)
