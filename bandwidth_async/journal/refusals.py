"""The sentences of the errors of a journal.

A journal may come from elsewhere. So its account id, the text of its tables and its name are not printed as
they are.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bandwidth_async.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# How the names of SQLite's errors begin that mean a damaged file.
_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


def refusal(sentence: str) -> JournalError:
    """Return an error to raise, with what a terminal would obey written as escapes."""
    return JournalError("".join(c if c.isprintable() else ascii(c)[1:-1] for c in sentence))


@contextmanager
def translated(path: Path, *, writing: bool = False) -> Iterator[None]:
    """Raise SQLite's errors as `JournalError`."""
    try:
        yield
    # Python cannot decode an error message of SQLite that quotes damaged bytes.
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise (write_error if writing else _read_error)(path, error) from error


def write_error(path: Path, error: Exception) -> JournalError:
    """Return what a failed write means, as an error to raise."""
    if isinstance(error, JournalError):
        return error
    reason = "the disk is full" if error_name(error) == "SQLITE_FULL" else str(error)
    return refusal(f"{path} cannot be written: {reason}; what it holds so far is safe")


def error_name(error: Exception) -> str:
    """Return the name of an SQLite error, as in ``SQLITE_FULL``."""
    return str(getattr(error, "sqlite_errorname", ""))


def _read_error(path: Path, error: Exception) -> JournalError:
    if isinstance(error, sqlite3.ProgrammingError):
        return refusal(f"{path} is closed")
    # SQLite's error for a text that is not UTF-8 has no name of its own.
    if "decode" in str(error):
        return refusal(f"{path} is damaged: some of its bytes are not text")
    if error_name(error).startswith(_DAMAGE):
        return refusal(f"{path} is damaged: {error}")
    return refusal(f"{path} cannot be read: {error}")
