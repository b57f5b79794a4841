"""Reading a journal without its lock: while its run goes on, after it was killed, and in a copy.

A reader sees the last commit and holds nobody up. Each page of rows is a query of its own, so that a slow
reader does not keep SQLite from tidying its log.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from bandwidth_async.journal import file, schema
from bandwidth_async.journal.lock import is_in_use, process_of
from bandwidth_async.journal.place import located
from bandwidth_async.journal.refusals import refusal, translated
from bandwidth_async.journal.shard import Shard
from bandwidth_async.outcome import Outcome, OutcomeKind

if TYPE_CHECKING:
    from os import PathLike

_PAGE_ROWS = 500

# The error of an id that may have been sent, while its run goes on.
_IN_WORK = "its answer is not recorded yet: the run goes on"


@frozen(kw_only=True)
class JournalInfo:
    """What a journal is about.

    ``total`` is how many ids were recorded, and ``counts`` how many of them have which outcome. ``complete``
    says that the whole input was recorded, without which the run cannot be resumed. ``in_use`` says that a
    process is using the journal, and ``process`` which one, if that is known. ``size`` is in bytes, with what
    SQLite keeps beside the file. ``shard`` is the part of the input that it holds, None for all of it.
    ``digest`` is a hash of the input, None if it is not known.
    """

    path: Path
    account_id: str
    created: datetime
    total: int
    counts: Counter[str]
    complete: bool
    in_use: bool
    process: int | None = None
    size: int = 0
    shard: Shard | None = None
    digest: str | None = None

    @property
    def finished(self) -> bool:
        """Whether the whole input is settled, and nobody is at work on it. False if nothing was counted."""
        settled = sum(self.counts[kind] for kind in OutcomeKind if kind.settled)
        return self.complete and not self.in_use and settled == self.total


def describe(path: str | PathLike[str], *, count: bool = True) -> JournalInfo:
    """Return what a journal is about. This does not check the whole file. Raises `JournalError`.

    To ``count`` the outcomes takes most of the time. Without that, ``counts`` is empty.
    """
    path = located(path)
    # SQLite keeps more beside the file while it is read.
    size = file.size(path)
    with file.look(path) as connection:
        _begin(connection, path)
        return evolve(described(connection, path, count=count), size=size)


def described(connection: sqlite3.Connection, path: Path, *, count: bool = True) -> JournalInfo:
    """Do as `describe` in a transaction that has begun."""
    in_use = is_in_use(path)
    run = file.read_run(connection, path)
    counts = counted(connection, path)[0] if count else Counter()
    created = _time(run.created, path)
    return JournalInfo(
        path=path,
        account_id=run.account_id,
        created=created,
        # That of the run is the same, and is known once the whole input is recorded.
        total=counts.total() if count else run.total or 0,
        counts=counts,
        complete=run.total is not None,
        in_use=in_use,
        process=process_of(path) if in_use else None,
        shard=run.shard,
        digest=run.digest,
    )


def begun(path: str | PathLike[str]) -> tuple[str, datetime]:
    """Return the account of a journal, and when its run was begun. Raises `JournalError`."""
    path = located(path)
    with file.look(path) as connection:
        run = file.read_run(connection, path)
    return run.account_id, _time(run.created, path)


def last_settings(path: str | PathLike[str]) -> dict[str, Any]:
    """Return the settings with which a run was begun or resumed last, as far as its journal knows them.

    Raises `JournalError`.
    """
    path = located(path)
    with file.look(path) as connection:
        if file.read_run(connection, path).version < schema.WITH_TIMELINE:
            return {}
        with translated(path):
            found = connection.execute(schema.LAST_SETTINGS).fetchone()
    try:
        settings = json.loads(found[0]) if found and isinstance(found[0], str) else None
    except (ValueError, RecursionError):
        settings = None
    return settings if isinstance(settings, dict) else {}


def _time(seconds: float, path: Path) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise refusal(f"{path} is damaged: {seconds!r} is not a time") from error


def read_outcomes(path: str | PathLike[str]) -> Iterator[Outcome]:
    """Yield the outcome of each id in the order of the input, as far as the journal knows it.

    The whole file is checked before the first. Raises `JournalError` when you ask for the first outcome, or
    for a later one if damage shows only there.
    """
    path = located(path)
    with file.look(path) as connection:
        _begin(connection, path)
        file.read_run(connection, path)
        file.check_content(connection, path)
        connection.execute("COMMIT")
        going_on = is_in_use(path)
        for row in pages(connection, path, schema.OUTCOMES_PAGE):
            outcome = outcome_of(path, row)
            if going_on and outcome.error == schema.INTERRUPTED:
                outcome = evolve(outcome, error=_IN_WORK)
            yield outcome


def outcome_of(path: Path, row: tuple[Any, ...]) -> Outcome:
    """Return the outcome in a row of `schema.OUTCOMES_PAGE` or the like. Raises `JournalError`."""
    number, conference_id, word, attempts, error, elapsed, calls = row
    return Outcome(conference_id, _kind(path, number, word), attempts, error, elapsed, calls_in(calls))


def calls_in(text: str | None) -> tuple[str, ...]:
    """Return the call ids of a cell. A cell that is not a list of texts has none."""
    try:
        found = json.loads(text) if text else []
    except RecursionError:  # SQLite accepts lists nested 1,000 deep.
        return ()
    return tuple(found) if isinstance(found, list) and all(isinstance(one, str) for one in found) else ()


def pages(connection: sqlite3.Connection, path: Path, query: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query, page by page.

    Its first column is the row's number. Its parameters are the last number seen and the size of a page.
    """
    last = 0
    while True:
        with translated(path):
            rows = connection.execute(query, (last, _PAGE_ROWS)).fetchall()
        if not rows:
            return
        yield from rows
        last = rows[-1][0]


def counted(connection: sqlite3.Connection, path: Path) -> tuple[Counter[str], int]:
    """Return how many ids have which outcome, and the attempts made for all of them."""
    with translated(path):
        rows = connection.execute(schema.COUNTS).fetchall()
    counts: Counter[str] = Counter({_kind(path, 0, kind): count for kind, count, _ in rows})
    return counts, sum(attempts for _, _, attempts in rows)


def _begin(connection: sqlite3.Connection, path: Path) -> None:
    """Have all that is compared read from one commit. Otherwise a run that goes on looks like damage."""
    with translated(path):
        connection.execute("BEGIN")


def _kind(path: Path, number: int, word: str) -> OutcomeKind:
    try:
        return OutcomeKind(word)
    except ValueError as error:
        raise refusal(f"{path} is damaged: {word!r} is not an outcome (row {number})") from error
