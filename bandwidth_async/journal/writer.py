"""Group commit: one thread writes to the journal, and writes all that waits with one statement.

The thread takes the changes that wait and writes them with one statement that commits itself (to disk:
``synchronous=FULL``). Then it wakes the event loop once, for all of them. The next group gathers while it
commits, so 200 workers cost about as many commits as one. Changes also gather for as long as each turn of
the event loop brings more of them, because a commit costs as much as 40 rows.

What always holds
    A change that was reported as written is still there after a power cut. Of two changes of one row, the
    later one is made later. After the first failure nothing is written any more, because a later success
    would hide the gap. Cancelling a wait never breaks the file: its change is made or it is not.
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
from bandwidth_async.journal.schema import COMPLETE, MOST_ROWS, RECORD, Row, Statement

# A group of this many changes is written without waiting for more.
_FULL_GROUP = 64


@frozen
class _Change:
    """Rows for one statement, and the future of who waits for them."""

    statement: Statement
    rows: Sequence[Row]
    future: asyncio.Future[None]


class Writer:
    """The thread and its queue. ``failure`` is why nothing can be written any more, or None.

    ``shut`` closes the connection, ``before_first`` is called before the first change, and ``after_commit``
    after each group of changes. What they raise is a failed write.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        explain: Callable[[Exception], JournalError],
        shut: Callable[[], None],
        before_first: Callable[[], None],
        after_commit: Callable[[], None],
    ) -> None:
        # The thread sets this, once.
        self.failure: JournalError | None = None
        self.commits: int = 0
        self._connection = connection
        self._explain = explain
        self._after_commit = after_commit
        self._shut = shut
        self._before_first: Callable[[], None] | None = before_first
        self._gathered: list[_Change] = []
        # What the thread has to do: write a group of changes, or close the connection and resolve a future.
        self._queue: SimpleQueue[list[_Change] | asyncio.Future[None]] = SimpleQueue()
        # The thread is a daemon: a program that forgets to close its journal still ends, and what is
        # committed is kept.
        Thread(target=self._work, name="journal", daemon=True).start()

    def write(self, statement: Statement, rows: Sequence[Row]) -> asyncio.Future[None]:
        """Write rows. The future is done when they are on disk, or raises `JournalError`."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._gathered.append(_Change(statement, rows, future))
        if len(self._gathered) == 1:
            loop.call_soon(self._hand_over, loop, 0)
        return future

    def close(self) -> asyncio.Future[None]:
        """Write what waits, then close the connection. Do not write after this."""
        future = asyncio.get_running_loop().create_future()
        self._flush()
        self._queue.put(future)
        return future

    def _hand_over(self, loop: asyncio.AbstractEventLoop, before: int) -> None:
        """Give the group to the thread, unless it has grown in this turn of the event loop."""
        count = len(self._gathered)
        if before < count < _FULL_GROUP:
            loop.call_soon(self._hand_over, loop, count)
        else:
            self._flush()

    def _flush(self) -> None:
        if self._gathered:
            self._queue.put(self._gathered)
            self._gathered = []

    def _work(self) -> None:
        """Do what is in the queue, until the connection is closed. This is the thread."""
        while True:
            taken = [self._queue.get()]
            while not self._queue.empty():
                taken.append(self._queue.get())
            changes = [change for group in taken if isinstance(group, list) for change in group]
            if changes:
                self._write(changes)
                _resolve([change.future for change in changes], self.failure)
            closing = [future for future in taken if not isinstance(future, list)]
            if closing:
                # An error here loses nothing: every change before it was reported as written or as failed.
                with suppress(Exception):
                    self._shut()
                _resolve(closing, None)
                return

    def _write(self, changes: list[_Change]) -> None:
        if self.failure is not None:
            return
        try:
            if self._before_first is not None:
                self._before_first()
                self._before_first = None
            for statement, rows in in_order((change.statement, change.rows) for change in changes):
                for start in range(0, len(rows), MOST_ROWS):
                    self._execute(statement, rows[start : start + MOST_ROWS])
            self._after_commit()
        # Any error at all: if the thread ended here, everybody would wait for ever.
        except Exception as error:
            self.failure = self._explain(error)
            self.failure.__cause__ = error

    def _execute(self, statement: Statement, rows: Sequence[Row]) -> None:
        """Make one change. The whole input is one transaction: an input that is cut off is worth nothing."""
        if statement is RECORD and not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute(*statement.of(rows))
        if statement is COMPLETE and self._connection.in_transaction:
            self._connection.execute("COMMIT")
        self.commits += not self._connection.in_transaction


def in_order(
    changes: Iterable[tuple[Statement, Sequence[Row]]],
) -> Iterator[tuple[Statement, Sequence[Row]]]:
    """Join the rows of each statement, but never move a row past an earlier change of the same row."""
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


def _resolve(futures: list[asyncio.Future[None]], failure: JournalError | None) -> None:
    """Resolve futures in their event loop. Each gets an error of its own, as a traceback belongs to one."""

    def resolve() -> None:
        for future in futures:
            if future.done():  # its wait was cancelled
                continue
            if failure is None:
                future.set_result(None)
            else:
                error = JournalError(failure.message)
                error.__cause__ = failure.__cause__
                future.set_exception(error)

    # RuntimeError: the event loop is closed, so nobody waits.
    with suppress(RuntimeError):
        futures[0].get_loop().call_soon_threadsafe(resolve)
