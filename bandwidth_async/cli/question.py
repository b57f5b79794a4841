"""A question before something that cannot be undone."""

from __future__ import annotations

import sys
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bandwidth_async.cli import signals, terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

# The terminal of a session, also where standard input is a pipe.
_TERMINAL = Path("/dev/tty")


@contextmanager
def answers(*, is_taken: bool = False) -> Iterator[bool]:
    """Yield whether somebody can be asked. While the context lasts, `ask` reads the answer there.

    ``is_taken`` says that standard input has something else, such as ids. Then the terminal itself is asked,
    if the question can be seen there.
    """
    before = sys.stdin
    if isinstance(sys.stderr, terminal.Closed):
        yield False
    elif before is not None and not is_taken and before.isatty():
        yield True
    else:
        opened = None
        with suppress(OSError):
            if sys.stderr.isatty():
                opened = _TERMINAL.open(encoding="utf-8", errors="replace")
        if opened is None:
            yield False
            return
        with opened:
            sys.stdin = opened
            try:
                yield True
            finally:
                sys.stdin = before


def ask(sentence: str) -> bool | None:
    """Ask for a yes. Return None if the input ends without an answer."""
    try:
        # The question is no part of the output.
        with redirect_stdout(sys.stderr):
            return click.confirm(sentence, err=True)
    except signals.Interrupted:
        terminal.say("")
        raise
    except click.Abort:
        terminal.say("")
        return None
