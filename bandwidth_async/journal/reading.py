"""Reading a journal without holding it: while its run goes on, after it was killed, and in a copy.

Whoever reads sees the last commit and stops nobody. The pages are read one by one, each for itself, so
that a slow reader does not hold up SQLite's log.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from bandwidth_async.errors import JournalError
from bandwidth_async.journal import file, schema
from bandwidth_async.journal.place import is_in_use
from bandwidth_async.outcome import Outcome, OutcomeKind

if TYPE_CHECKING:
    from os import PathLike

_PAGE = 500  # rows


@frozen(kw_only=True)
class JournalInfo:
    """What a journal is about.

    ``total`` is how many ids were recorded, ``counts`` what became of them. ``complete`` says that the
    whole input was recorded, without which it cannot be resumed; ``in_use`` that a process is at work on it.
    """

    path: Path
    account_id: str
    created: datetime
    total: int
    counts: Counter[OutcomeKind]
    complete: bool
    in_use: bool


def describe(path: str | PathLike[str]) -> JournalInfo:
    """Return what a journal is about, without checking it to the last byte. Raises `JournalError`."""
    place = located(path)
    in_use = is_in_use(place)
    with _reader(place) as connection:
        run = file.inspect(connection, place)
        counts, _ = counted(connection, place)
        try:
            created = datetime.fromtimestamp(run.created, UTC)
        except (TypeError, ValueError, OverflowError, OSError) as error:
            raise JournalError(f"{place} is damaged: {run.created!r} is no time") from error
    return JournalInfo(
        path=place,
        account_id=run.account_id,
        created=created,
        total=counts.total(),
        counts=counts,
        complete=run.total is not None,
        in_use=in_use,
    )


def read_outcomes(path: str | PathLike[str]) -> Iterator[Outcome]:
    """Give the outcome of each id, in the order of the input, as far as the journal knows it.

    The file is checked whole before the first. Raises `JournalError` when it is asked for the first, or
    for a later one where damage shows only then.
    """
    place = located(path)
    with _reader(place) as connection:
        file.inspect(connection, place)
        file.check(connection, place)
        for number, *facts in pages(connection, place, schema.OUTCOMES_PAGE):
            conference_id, word, attempts, error, elapsed, calls = facts
            kind = _kind(place, number, word)
            yield Outcome(conference_id, kind, attempts, error, elapsed, calls_in(calls))


def located(path: str | PathLike[str]) -> Path:
    """Return the one absolute path of a file; SQLite names the side files after it too."""
    return Path(os.path.realpath(path))


def calls_in(text: str | None) -> tuple[str, ...]:
    """Return the call ids of a cell; what is no list of texts names none."""
    try:
        found = json.loads(text) if text else []
    except RecursionError:  # SQLite lets lists in lists pass down to a depth of 1,000
        return ()
    return tuple(found) if isinstance(found, list) and all(isinstance(one, str) for one in found) else ()


def pages(connection: sqlite3.Connection, path: Path, query: str) -> Iterator[tuple[Any, ...]]:
    """Give the rows of a query whose first column is the row's number, ``?`` the last one seen."""
    last = 0
    while True:
        with file.reported(path):
            rows = connection.execute(query, (last, _PAGE)).fetchall()
        if not rows:
            return
        yield from rows
        last = rows[-1][0]


def counted(connection: sqlite3.Connection, path: Path) -> tuple[Counter[OutcomeKind], int]:
    """Return how many ids have which outcome, and the attempts made for all of them."""
    with file.reported(path):
        rows = connection.execute(schema.COUNTS).fetchall()
    counts = Counter({_kind(path, 0, kind): count for kind, count, _ in rows})
    return counts, sum(attempts for _, _, attempts in rows)


@contextmanager
def _reader(path: Path) -> Iterator[sqlite3.Connection]:
    file.admit(path)
    with file.reported(path):
        connection = _connected(path)
    with closing(connection):
        yield connection


def _connected(path: Path) -> sqlite3.Connection:
    """Open for reading. SQLite wants to write beside the file even then.

    Where it may not, the file alone is the whole journal if there is no log beside it.
    """
    connection = file.connect(path)
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        if path.with_name(path.name + "-wal").exists():
            raise JournalError(
                f"{path} cannot be read here, as nothing may be written beside it: copy it and its -wal file"
                " to another directory"
            ) from error
        return file.connect(path, "mode=ro&immutable=1")
    except sqlite3.DatabaseError:
        pass  # no SQLite database: the look inside says so
    except BaseException:
        connection.close()
        raise
    return connection


def _kind(path: Path, number: int, word: str) -> OutcomeKind:
    try:
        return OutcomeKind(word)
    except ValueError as error:
        raise JournalError(f"{path} is damaged: {word!r} is no outcome (row {number})") from error
