"""What a command logs, to standard error and to a file, and the warnings of the library that it says."""

from __future__ import annotations

import logging
import math
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import click

from bandwidth_async.cli import terminal
from bandwidth_async.cli.log_options import ASKED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# The key of the context under which a command notes that retries are not to be said.
_HUSHED = "bandwidth_async.hushed"

# The key of the context under which a function is kept that hears of retries.
_LISTENER = "bandwidth_async.retries"

_RETRY = "bandwidth_async.retry"

# With one -v a record of these is shown whatever its level: retries, and pauses of the limiter.
_RETRIES_AND_PAUSES = (_RETRY, "bandwidth_async.limiter", "bandwidth_async.events")

# What a record of a retry has beside its sentence.
_TOLD = ("met", "took", "pause", "failures", "most")

# Seconds of a pause that a person wants to be told of.
_LONG = 1.0


def apply(context: click.Context, asked: dict[str, Any]) -> None:
    """Log from now on as the options say that were ``asked`` for."""
    handlers: list[logging.Handler] = []
    verbose, file = asked.get("verbose", 0), asked.get("log_file")
    if verbose:
        shown = _ToStandardError()
        if verbose == 1:
            shown.addFilter(_is_of_retries_or_pauses)
        handlers.append(shown)
    if file:
        try:
            handlers.append(logging.FileHandler(file, encoding="utf-8", errors="backslashreplace"))
        except OSError as error:
            raise click.UsageError(f"cannot write to {file}: {error.strerror}") from error
    if before := asked.pop("handlers", None):
        before.close()
    asked["handlers"] = added = _Added(handlers)
    context.call_on_close(added.close)


class _ToStandardError(logging.StreamHandler[IO[str]]):
    """Writes to what standard error is at the moment: a live view has its own."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _Added:
    """Handlers of the root logger, for as long as a command takes."""

    def __init__(self, handlers: list[logging.Handler]) -> None:
        self._handlers = handlers
        ours, root = logging.getLogger("bandwidth_async"), logging.getLogger()
        self._level = ours.level
        ours.setLevel(logging.DEBUG)
        for handler in handlers:
            handler.setFormatter(_Shown("%(asctime)s %(name)s: %(message)s"))
            root.addHandler(handler)

    def close(self) -> None:
        logging.getLogger("bandwidth_async").setLevel(self._level)
        for handler in self._handlers:
            logging.getLogger().removeHandler(handler)
            handler.close()
        self._handlers = []


def _is_of_retries_or_pauses(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG or record.name in _RETRIES_AND_PAUSES


class _Shown(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return terminal.shown(super().format(record))


@contextmanager
def spoken() -> Iterator[None]:
    """Say warnings of the library, and retries, for as long as a command takes."""
    ours, retries = logging.getLogger("bandwidth_async"), logging.getLogger(_RETRY)
    level, speaker = retries.level, _Speaker(click.get_current_context().meta)
    retries.setLevel(logging.DEBUG)
    ours.addHandler(speaker)
    try:
        yield
    finally:
        ours.removeHandler(speaker)
        retries.setLevel(level)


def hush() -> None:
    """Say no retries from now on: nobody wants to hear of them, or the progress of a run shows them."""
    context = click.get_current_context(silent=True)
    if context is not None:
        context.meta[_HUSHED] = True
        logging.getLogger(_RETRY).setLevel(logging.NOTSET)


@contextmanager
def heard_retries(listener: Callable[[str], object]) -> Iterator[None]:
    """Tell ``listener`` what each attempt met that is followed by another, while the context lasts."""
    context = click.get_current_context(silent=True)
    if context is None:
        yield
        return
    logger = logging.getLogger(_RETRY)
    before = logger.level
    context.meta[_LISTENER] = listener
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(before)
        del context.meta[_LISTENER]


class _Speaker(logging.Handler):
    """Says each warning once, and as the command says everything. A log on standard error has it already."""

    def __init__(self, meta: dict[str, Any]) -> None:
        super().__init__()
        self._meta = meta
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == _RETRY and _LISTENER in self._meta:
            self._meta[_LISTENER](record.met)  # type: ignore[attr-defined]  # `_TOLD`
        if self._meta.get(ASKED, {}).get("verbose"):
            return
        hushed = self._meta.get(_HUSHED)
        # A run shows an outage itself, with how long it will wait.
        if hushed and record.name == "bandwidth_async.limiter":
            return
        sentence = record.getMessage()
        if record.levelno >= logging.WARNING:
            if sentence not in self._said:
                self._said.add(sentence)
                terminal.complain(sentence)
        elif record.name == _RETRY and not hushed:
            _say_retry(**{name: getattr(record, name) for name in _TOLD})


def _say_retry(met: str, took: float | None, pause: float, failures: int, most: int) -> None:
    """Say that an attempt is followed by another, unless that takes no time and is nobody's failure."""
    if not failures and pause < _LONG:
        return
    after = f", after {took:.0f} s" if took is not None and took >= _LONG else ""
    wait = f" in {math.ceil(pause)} s" if pause >= _LONG else ""
    turn = f" ({failures + 1} of {most})" if failures else ""
    terminal.say(f"{met}{after}; trying again{wait}{turn}")
