"""What the command line tells its user, with nothing that a terminal would obey."""

from __future__ import annotations

import io
import os
import sys
from typing import IO


class Closed(io.StringIO):
    """Stands for a standard stream that the shell has closed (``>&-``). What is written is lost.

    ``lost_rows`` says that rows of a command's result were among it.
    """

    lost_rows = False

    def write(self, text: str) -> int:
        """Lose a text."""
        return len(text)


def shown(text: str) -> str:
    """Return ``text`` with every character escaped that does not print. Its lines stay lines."""
    return "\n".join(map(one_line, text.split("\n")))


def one_line(text: str) -> str:
    """Return ``text`` with every character escaped that does not print, line breaks too."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def occupy_closed_streams() -> None:
    """Open the null device wherever a standard stream is closed.

    Otherwise the next file or socket would get its number: uvloop aborts then, and whatever a library writes
    to standard error would go into that file. `sys.stdin` and the others stay None.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The system gives out the lowest number that is free.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def say(sentence: str) -> bool:
    """Print a sentence on standard error. Return False if nobody can read it any more."""
    try:
        print(shown(sentence), file=sys.stderr, flush=True)
    except OSError:
        return False
    return True


def complain(sentence: str) -> None:
    """Say what went wrong, under the program's name."""
    say(f"bandwidth-async: {sentence}")


class Ending:
    """How a command that exits with a code other than 0 says so: in words, or as one JSON object.

    ``because`` is the reason that the command gave on its way.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.because: str = ""
        self._as_json = as_json

    def fail(self, sentence: str, code: int) -> None:
        """Say why the command ends with an exit code."""
        if self._as_json:
            import json  # noqa: PLC0415 - not for a Tab

            say(json.dumps({"error": sentence, "exit_code": int(code)}))
        else:
            complain(sentence)

    def explain(self, sentence: str) -> None:
        """Say why the command will end with a code other than 0."""
        self.because = sentence
        if not self._as_json:
            complain(sentence)

    def conclude(self, code: int) -> None:
        """Say once more, to a program, what a command has said in its own words."""
        if code and self._as_json:
            self.fail(self.because or "see the records and the lines before this one", code)


# Of the command that this process is.
ending: Ending = Ending()


def begin(*, as_json: bool) -> None:
    """Begin a command."""
    global ending  # noqa: PLW0603 - a process is one command, and so are its streams
    ending = Ending(as_json=as_json)


def abandon(stream: IO[str]) -> None:
    """Send the rest of a stream nowhere.

    Closing it would otherwise flush its buffer into a pipe without a reader or onto a full disk, and fail.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
