"""The journal of a run: the whole input first, then each outcome, on disk before the run goes on.

What always holds
    Nothing is sent for an id before its claim is on disk. A worker takes its next id only after the outcome
    of the last one is on disk. So a journal may forget a success, but it never invents one. An id that was
    claimed and has no outcome is ``unknown``, whatever ended the run.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

from attrs import frozen

from bandwidth_async.errors import ClientStateError, ConfigurationError, JournalError
from bandwidth_async.journal import file, reading, schema
from bandwidth_async.journal.place import located
from bandwidth_async.journal.refusals import refusal, translated, write_error
from bandwidth_async.journal.schema import Row
from bandwidth_async.journal.timeline import Timeline, retrieve
from bandwidth_async.journal.writer import Writer
from bandwidth_async.models import Conference
from bandwidth_async.outcome import Outcome, OutcomeKind, Report
from bandwidth_async.run import Item, Source, Target, close_generator
from bandwidth_async.wire import path_segment

if TYPE_CHECKING:
    from os import PathLike
    from types import TracebackType
    from typing import Self

    from bandwidth_async.journal.shard import Shard
    from bandwidth_async.journal.timeline import Watched

# Ids that are recorded at a time. They take a few milliseconds of the event loop's time.
_CHUNK = 2000

# The attempts, error, elapsed time and calls of a change that is not an outcome.
_NO_FACTS = (0, None, 0.0, None)

_EARLIER = "an earlier run may have ended it"


@frozen
class Recorded:
    """How many ids of its input a journal kept, and how many were duplicates."""

    kept: int
    duplicates: int


class Journal:
    """The durable record of one run. Make one with `create` or `open`, and use it from one event loop.

    ::

        async with Journal.create(path, account_id=client.account_id) as journal:
            await journal.record(ids)
            report = await client.end_conferences(journal)

    To resume the run later, use `open` and the last line again. The run itself calls the other methods.

    Every method raises `JournalError` if the journal is closed, and from the first failed write on. What is
    on disk by then can be resumed.
    """

    def __init__(self, opened: file.OpenFile) -> None:
        self._file = opened
        # Whether the whole input is on disk.
        self.recorded: bool = opened.run.total is not None
        self._given = 0
        # Whether no more of the input is taken, because it was to be whole or some of it failed.
        self._shut = self.recorded
        # Whether a run has the journal. Only the ledger of a run changes it.
        self.lent = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Future[None] | None = None
        # The rows that we have claimed and not settled.
        self._claimed: set[int] = set()
        explain = partial(write_error, opened.path)
        self._writer = Writer(opened.writer, explain, opened.shut, opened.carry_over, opened.after_commit)

    @classmethod
    def create(
        cls,
        path: str | PathLike[str],
        *,
        account_id: str,
        created: float | None = None,
        verify: bool = False,
        hang_up: bool = False,
        shard: Shard | None = None,
        digest: str | None = None,
    ) -> Self:
        """Make a new journal. Only its owner can read it.

        ``created`` is seconds since the epoch, by default the present. ``verify`` and ``hang_up`` are stored,
        so that every resume ends conferences in the same way, even if nobody asks for it again. ``shard`` is
        the part of the input that `record` keeps, by default all of it. ``digest`` is any text that another
        input would not have: `open_or_create` compares it.

        Raises `JournalError` if the file exists or cannot be made.
        """
        given = Path(path)
        run = _run_row(account_id, created, shard, digest, verify=verify, hang_up=hang_up)
        return cls(file.create(located(given.parent) / given.name, run))

    @classmethod
    def open_or_create(
        cls,
        path: str | PathLike[str],
        *,
        account_id: str,
        created: float | None = None,
        verify: bool = False,
        hang_up: bool = False,
        shard: Shard | None = None,
        digest: str | None = None,
    ) -> Self:
        """`open` the journal of an earlier start of the same run, or `create` it.

        A journal whose input is incomplete starts over. `record` the input if ``recorded`` is False.

        Raises `JournalError` as `open` and `create` do, and for a journal of another shard or digest.
        """
        run = _run_row(account_id, created, shard, digest, verify=verify, hang_up=hang_up)
        return cls(file.create_or_reopen(located(path), run))

    @classmethod
    def open(cls, path: str | PathLike[str], *, account_id: str | None = None) -> Self:
        """Open the journal of an earlier run, after checking the whole file (a million ids: 3 s).

        Raises `JournalError` if it is missing, not a journal, damaged, in use, of another version or of
        another account than ``account_id``, or if its input is incomplete.
        """
        return cls(file.reopen(located(path), account_id))

    def __repr__(self) -> str:
        state = "closed" if self._closing else "failed" if self._writer.failure else "open"
        return f"<Journal {self.path} {state}, {len(self._claimed)} claimed, {self._writer.commits} commits>"

    @property
    def path(self) -> Path:
        """The absolute path of the file."""
        return self._file.path

    @property
    def account_id(self) -> str:
        """The account whose conferences the run ends."""
        return self._file.run.account_id

    @property
    def created(self) -> datetime:
        """When the run began."""
        return datetime.fromtimestamp(self._file.run.created, UTC)

    @property
    def shard(self) -> Shard | None:
        """The part of the input that the journal holds, None for all of it."""
        return self._file.run.shard

    @property
    def verify(self) -> bool:
        """Whether the run, and each resume of it, reads an ended conference back."""
        return self._file.run.verify

    @property
    def hang_up(self) -> bool:
        """Whether the run, and each resume of it, hangs up the calls of the members."""
        return self._file.run.hang_up

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def record(self, items: Source, *, whole: bool = True) -> Recorded:
        """Record the input, in its order, each id once. Do this before the run. Return the totals so far.

        The journal of a shard leaves out the ids of the others. Record an input that comes in parts with
        ``whole=False``, and call `complete` after the last part.

        Raises `ConfigurationError` for what cannot be an id. After any failure the journal stays incomplete:
        remove it and start again.
        """
        self._check()
        if self._shut:
            raise refusal(f"the input of {self.path} has been recorded: a journal has only one")
        self._shut = True
        async with aclosing(_chunks(items, self.shard)) as chunks:
            async for rows in chunks:
                self._given += len(rows)
                await self._write(schema.RECORD, rows)
        if whole:
            await self.complete()
        self._shut = whole
        with translated(self.path):
            # The thread that writes has nothing to do until the next part comes.
            (kept,) = self._file.writer.execute(schema.KEPT).fetchone()
        return Recorded(kept, self._given - kept)

    async def complete(self) -> None:
        """Complete an input that came in parts. From then on a run can begin, and be resumed."""
        await self._write(schema.COMPLETE, [[self._given]])
        self._shut = self.recorded = True

    def unsettled(self) -> Iterator[Target]:
        """Return an iterator over the conferences that are still to be ended, in the order of the input.

        It reads page by page, so memory stays flat. Finding the next page behind a million settled ids takes
        about 100 ms.
        """
        self._check()
        if not self.recorded:
            raise refusal(f"the input of {self.path} is not recorded yet")
        return self._targets()

    def claim(self, *targets: Target) -> asyncio.Future[None]:
        """Record that requests for these may be out: they are unknown until they are settled.

        The claims are on disk when the future is done.
        """
        numbers = [_row_number(target) for target in targets]
        written = self._write(schema.CHANGE, [(number, schema.CLAIMED, *_NO_FACTS) for number in numbers])
        written.add_done_callback(retrieve)
        self._claimed.update(numbers)
        return written

    async def release(self, targets: Iterable[Target]) -> None:
        """Take back the claims of targets that nothing was sent for.

        Never raises. In a journal that cannot be written, the targets stay unknown.
        """
        numbers = [_row_number(target) for target in targets]
        if numbers:
            rows = [(number, OutcomeKind.NOT_ATTEMPTED.value, *_NO_FACTS) for number in numbers]
            with suppress(JournalError):
                await self._write(schema.CHANGE, rows)
                self._claimed.difference_update(numbers)

    async def note_calls(self, target: Target, calls: Sequence[str]) -> None:
        """Record which calls are to be hung up, because an ended conference does not list its members.

        The calls are on disk when this returns.
        """
        self._check()
        await self._write(schema.NOTE_CALLS, [(_row_number(target), json.dumps(calls))])

    async def settle(self, target: Target, outcome: Outcome) -> None:
        """Record an outcome. It is on disk when this returns. A settled row stays as it was.

        Attempts add up over resumes. ``not_attempted`` takes a claim back, because no request was sent.
        """
        self._check()
        number = _row_number(target)
        if outcome.kind is not OutcomeKind.NOT_ATTEMPTED or number in self._claimed:
            error = None if outcome.error is None else _storable(outcome.error)
            calls = json.dumps(outcome.calls_ended) if outcome.calls_ended else None
            row = (number, outcome.kind.value, outcome.attempts, error, outcome.elapsed, calls)
            await self._write(schema.CHANGE, (row,))
        self._claimed.discard(number)

    @property
    def host(self) -> str | None:
        """The host at which the run was begun, None if the journal does not know it."""
        self._check()
        if self._file.run.version < schema.WITH_TIMELINE:
            return None
        with translated(self.path):
            found = self._file.reader.execute(schema.FIRST_HOST).fetchone()
        return str(found[0]) if found and found[0] else None

    def timeline(self, facts: Mapping[str, object], limiter: Watched | None) -> Timeline | None:
        """Return a new part of the time line, for the next run over this journal (see `Timeline`).

        A journal of an earlier version has none, and stays as it is.
        """
        self._check()
        if self._file.run.version < schema.WITH_TIMELINE:
            return None
        return Timeline(self._write, self._next_part, facts, limiter)

    def _next_part(self) -> int:
        with translated(self.path):
            (last,) = self._file.reader.execute(schema.LAST_PART).fetchone()
        return int(last) + 1

    def report(self) -> Report:
        """Return the report of the whole run, with the parts before a resume. ``elapsed`` is not known."""
        self._check()
        counts, attempts = reading.counted(self._file.reader, self.path)
        return Report(counts=counts, attempts=attempts)

    async def aclose(self) -> None:
        """Write what waits and close the file. May be called again, and never raises.

        A failed write has been raised where it was awaited.
        """
        if self._file.lock.forked:
            return
        if self._closing is None:
            self._file.reader.close()
            self._closing = self._writer.close()
        await asyncio.shield(self._closing)

    def _targets(self) -> Iterator[Target]:
        rows = reading.pages(self._file.reader, self.path, schema.UNSETTLED_PAGE)
        for number, conference_id, existed, ambiguous, cell in rows:
            calls = reading.calls_in(cell)
            # Calls were recorded when the conference was read. So it did exist.
            yield Target(conference_id, bool(existed or calls), bool(ambiguous), number, calls)

    def _write(self, statement: schema.Statement, rows: Sequence[Row]) -> asyncio.Future[None]:
        self._check()
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise ClientStateError(f"{self.path} is in use by another event loop: use one journal in each")
        return self._writer.write(statement, rows)

    def _check(self) -> None:
        if self._file.lock.forked:
            raise refusal(f"{self.path} is open in the process that this one was forked from: use it there")
        if self._closing is not None:
            raise refusal(f"{self.path} is closed")
        if self._writer.failure is not None:
            raise refusal(self._writer.failure.message) from self._writer.failure


def _run_row(
    account_id: str,
    created: float | None,
    shard: Shard | None,
    digest: str | None,
    *,
    verify: bool,
    hang_up: bool,
) -> file.RunRow:
    return file.RunRow(
        account_id=account_id,
        created=time() if created is None else created,
        verify=verify,
        hang_up=hang_up,
        shard=shard,
        digest=digest,
    )


async def _chunks(items: Source, shard: Shard | None) -> AsyncGenerator[list[Row], None]:
    """Check each id of the input, and yield the rows of a shard in lists. Close a generator."""
    if isinstance(items, str | bytes | Conference | Target):
        raise ConfigurationError("a journal records a list of ids, or any other iterable of ids")
    rest = aiter(items) if isinstance(items, AsyncIterable) else iter(items)
    try:
        while taken := await _next(rest):
            rows = [_row_of(item) for item in taken]
            yield rows if shard is None else [row for row in rows if shard.holds(row[0])]
            # Some sources must not be asked again behind their end.
            if len(taken) < _CHUNK:
                return
    finally:
        await close_generator(rest)


async def _next(rest: Iterator[Item] | AsyncIterator[Item]) -> list[Item]:
    if isinstance(rest, Iterator):
        return list(islice(rest, _CHUNK))
    taken: list[Item] = []
    async for item in rest:
        taken.append(item)
        if len(taken) == _CHUNK:
            break
    return taken


def _row_of(item: Item) -> Row:
    """Return what `schema.RECORD` needs of an item. Raises `ConfigurationError` for what cannot be an id."""
    target = Target.of(item)
    path_segment(target.conference_id)
    if target.ambiguous:
        return (target.conference_id, int(target.existed), OutcomeKind.UNKNOWN.value, _EARLIER)
    return (target.conference_id, int(target.existed), None, None)


def _row_number(target: Target) -> int:
    if target.number < 1:
        raise ConfigurationError(f"{target.conference_id} has no row: pass a target that unsettled() yields")
    return target.number


def _storable(text: str) -> str:
    """Replace what SQLite cannot store in a text: half of a surrogate pair, and NUL."""
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")
