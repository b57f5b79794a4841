"""Group commit: one thread owns the writing connection, and all that waits goes into one statement.

The thread takes what waits, writes it by one statement that commits itself (on disk:
``synchronous=FULL``), and then tells everybody with one wake-up of the event loop. While it commits, the
next group gathers; so 200 workers cost about as many commits as one. Changes also gather while each turn
of the event loop brings more of them, since a commit costs as much as 40 rows.

What always holds
    Whoever is told "written" reads it again after a power cut. Of two changes to the same row the later one
    is made later. After the first failure nothing is written any more: a later success would hide the gap.
    A cancelled wait changes nothing in the file: its change is made or is not.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread

from attrs import frozen

from bandwidth_async.errors import JournalError
from bandwidth_async.journal.schema import MOST_ROWS, Row, Statement

_ENOUGH = 64  # changes that wait for no more


@frozen
class _Job:
    """Rows for one statement, and who waits for them."""

    statement: Statement
    rows: Sequence[Row]
    future: asyncio.Future[None]


class Writer:
    """The thread and its queue. ``failure`` is why nothing is written any more, None while all is well."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        explain: Callable[[Exception], JournalError],
        closed: Callable[[], None],
    ) -> None:
        self.failure: JournalError | None = None  # set by the thread, once
        self.commits = 0
        self._connection = connection
        self._explain = explain
        self._closed = closed
        self._gathered: list[_Job] = []
        self._waiting: SimpleQueue[list[_Job] | asyncio.Future[None]] = SimpleQueue()  # a future: close
        # A daemon: a program that forgets to close its journal still ends, and what is committed stays.
        Thread(target=self._work, name="journal", daemon=True).start()

    def write(self, statement: Statement, rows: Sequence[Row]) -> asyncio.Future[None]:
        """Have rows written; the future tells when they are on disk, or raises `JournalError`."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._gathered.append(_Job(statement, rows, future))
        if len(self._gathered) == 1:
            loop.call_soon(self._hand_over, loop, 0)
        return future

    def close(self) -> asyncio.Future[None]:
        """Write what waits, then close the connection. Nothing may be written after this."""
        future = asyncio.get_running_loop().create_future()
        self._flush()
        self._waiting.put(future)
        return future

    def _hand_over(self, loop: asyncio.AbstractEventLoop, before: int) -> None:
        """Give the thread what has gathered, unless this turn of the loop has brought more of it."""
        count = len(self._gathered)
        if before < count < _ENOUGH:
            loop.call_soon(self._hand_over, loop, count)
        else:
            self._flush()

    def _flush(self) -> None:
        if self._gathered:
            self._waiting.put(self._gathered)
            self._gathered = []

    def _work(self) -> None:
        while True:
            taken = [self._waiting.get()]
            while not self._waiting.empty():
                taken.append(self._waiting.get())
            jobs = [job for group in taken if isinstance(group, list) for job in group]
            if jobs:
                self._write(jobs)
                _tell([job.future for job in jobs], self.failure)
            closing = [future for future in taken if not isinstance(future, list)]
            if closing:
                with suppress(sqlite3.Error):  # what was told to be written is; the rest has been told too
                    self._connection.close()
                self._closed()
                _tell(closing, None)
                return

    def _write(self, jobs: list[_Job]) -> None:
        if self.failure is not None:
            return
        try:
            for statement, rows in in_order((job.statement, job.rows) for job in jobs):
                for start in range(0, len(rows), MOST_ROWS):
                    self._connection.execute(*statement.of(rows[start : start + MOST_ROWS]))
                    self.commits += 1
        except Exception as error:  # whatever it is: a thread that ends leaves everybody waiting
            self.failure = self._explain(error)
            self.failure.__cause__ = error


def in_order(
    changes: Iterable[tuple[Statement, Sequence[Row]]],
) -> Iterator[tuple[Statement, Sequence[Row]]]:
    """Put the rows of each statement together, never past an earlier change of the same row."""
    gathered: dict[Statement, list[Row]] = {}
    touched: set[object] = set()
    for statement, rows in changes:
        keys = {row[0] for row in rows}
        if not touched.isdisjoint(keys):
            yield from gathered.items()
            gathered, touched = {}, set()
        touched |= keys
        gathered.setdefault(statement, []).extend(rows)
    yield from gathered.items()


def _tell(futures: list[asyncio.Future[None]], failure: JournalError | None) -> None:
    def settle() -> None:
        for future in futures:
            if future.done():  # cancelled
                continue
            if failure is None:
                future.set_result(None)
            else:
                error = JournalError(failure.message)  # each its own: a traceback belongs to one
                error.__cause__ = failure.__cause__
                future.set_exception(error)

    with suppress(RuntimeError):  # the event loop is closed, so nobody waits
        futures[0].get_loop().call_soon_threadsafe(settle)
