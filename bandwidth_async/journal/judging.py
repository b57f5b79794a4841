"""Judging what is found: whether it is a journal, whole, and what an error of SQLite means for it.

Each refusal is one sentence that names the file.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from bandwidth_async.errors import JournalError
from bandwidth_async.journal import schema

if TYPE_CHECKING:
    from collections.abc import Iterator

_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


@frozen(kw_only=True)
class Run:
    """What a journal says of its run. ``created`` is epoch seconds; ``given`` and ``total`` are the ids of
    the input with and without duplicates, None until all of them are recorded. ``verify`` and ``hang_up``
    are how it ends a conference.
    """

    account_id: str
    created: float
    given: int | None = None
    total: int | None = None
    verify: bool
    hang_up: bool


def admit(path: Path, *, writing: bool = False) -> None:
    """Refuse what needs no look inside: what is missing, not a file, empty, or not ours to read."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise JournalError(f"there is no journal {path}") from None
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        what = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise JournalError(f"{path} is {what}, not a journal")
    if not os.access(path, os.R_OK):
        raise JournalError(f"{path} cannot be read: permission denied")
    if status.st_size == 0:
        raise JournalError(f"{path} is not a journal: it is empty")
    if writing and not os.access(path, os.W_OK):
        raise JournalError(f"{path} cannot be written: permission denied")


def inspect(connection: sqlite3.Connection, path: Path) -> Run:
    """Return what a journal says of its run. Raises `JournalError` when it is none, or another version."""
    with reported(path):
        try:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
        except sqlite3.DatabaseError as error:
            if _name(error) == "SQLITE_NOTADB":
                raise JournalError(f"{path} is not a journal") from error
            raise
        if application != schema.APPLICATION_ID:
            raise JournalError(f"{path} is not a journal: it is another SQLite database")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != schema.VERSION:
            raise JournalError(
                f"{path} is a journal of version {version}, and this program knows version {schema.VERSION}"
            )
        found = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
        rows = connection.execute(schema.READ_RUN).fetchall()
        if found != schema.TABLES or len(rows) != 1 or not isinstance(rows[0][0], str):
            raise JournalError(f"{path} is damaged: it does not have the tables of a journal")
        account_id, created, given, total, verify, hang_up = rows[0]
        return Run(
            account_id=account_id,
            created=created,
            given=given,
            total=total,
            verify=bool(verify),
            hang_up=bool(hang_up),
        )


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Have SQLite check the whole file (a million ids: 3 s). Raises `JournalError` when it is damaged.

    The quick form of the check would miss an id that is not the one of the index any more.
    """
    with reported(path):
        (word,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if word != "ok":
            first = str(word).splitlines()[-1]
            raise JournalError(f"{path} is damaged: {first}")
        (counted,) = connection.execute("SELECT count(*) FROM conferences").fetchone()
        (total,) = connection.execute("SELECT total FROM run").fetchone()
        if total not in {None, counted}:
            raise JournalError(f"{path} is damaged: it has {counted} ids of {total}")


@contextmanager
def reported(path: Path, *, writing: bool = False) -> Iterator[None]:
    """Raise SQLite's errors as ours. Python fails to decode those that quote damaged bytes."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise (cannot_write if writing else cannot_read)(path, error) from error


def cannot_read(path: Path, error: Exception) -> JournalError:
    """Return what a failed reading means."""
    if isinstance(error, sqlite3.ProgrammingError):
        return JournalError(f"{path} is closed")
    if "decode" in str(error):  # Python has no name for this one
        return JournalError(f"{path} is damaged: there are bytes in it that are no text")
    if _name(error).startswith(_DAMAGE):
        return JournalError(f"{path} is damaged: {error}")
    return JournalError(f"{path} cannot be read: {error}")


def cannot_write(path: Path, error: Exception) -> JournalError:
    """Return what a failed writing means."""
    reason = "the disk is full" if _name(error) == "SQLITE_FULL" else str(error)
    return JournalError(f"{path} cannot be written: {reason}; what it holds so far is safe")


def _name(error: Exception) -> str:
    return str(getattr(error, "sqlite_errorname", ""))
