"""The journal of a run: the whole input first, then each outcome, durable before the run goes on.

What always holds
    Nothing is sent for an id before its claim is on disk, and its worker takes no other before its outcome
    is; so a journal may forget a success, and never invents one. An id that was claimed and never heard of
    again is ``unknown``, whatever ended the run.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Sequence
from contextlib import aclosing, suppress
from itertools import islice
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

from attrs import frozen

from bandwidth_async.errors import ClientStateError, ConfigurationError, JournalError
from bandwidth_async.journal import file, reading, schema
from bandwidth_async.journal.schema import Row
from bandwidth_async.journal.writer import Writer
from bandwidth_async.models import Conference
from bandwidth_async.outcome import Outcome, OutcomeKind, Report
from bandwidth_async.run import Target
from bandwidth_async.wire import path_segment

if TYPE_CHECKING:
    from os import PathLike
    from types import TracebackType
    from typing import Self

Item = str | Conference | Target
Items = Iterable[Item] | AsyncIterable[Item]

_CHUNK = 2000  # ids recorded at a time: a few milliseconds of the event loop's time
_NO_FACTS = (0, None, 0.0, None)  # attempts, error, elapsed, calls
_EARLIER = "an earlier run may have ended it"


@frozen
class Recorded:
    """How many ids a journal kept of its input, and how many of it were duplicates."""

    kept: int
    duplicates: int


class Journal:
    """The durable record of one run; used from one event loop. Make one with `create` or `open`.

    ::

        async with Journal.create(path, account_id=client.account_id) as journal:
            await journal.record(ids)
            report = await client.end_conferences(journal)

    and later `open` and the last line again. The other methods are what such a run does with each id.

    Every method raises `JournalError` when the journal is closed or could not be written; once it could
    not, it stays so, and what it holds can be resumed.
    """

    def __init__(self, held: file.Held, *, recorded: bool) -> None:
        self._held = held
        self._recorded = recorded
        self._recording = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Future[None] | None = None
        self._claimed: set[int] = set()  # rows that are claimed by us and not settled
        self._writer = Writer(held.writer, self._explain, held.lock.release)

    @classmethod
    def create(
        cls,
        path: str | PathLike[str],
        *,
        account_id: str,
        created: float | None = None,
        verify: bool = False,
        hang_up: bool = False,
    ) -> Self:
        """Make a new journal, readable for its owner alone.

        ``created`` is seconds since the epoch, without it the present.

        ``verify`` and ``hang_up`` are kept with it, so that whoever goes on with the run ends conferences as
        it was meant to, whether told so again or not.

        Raises `JournalError` when there is such a file, or where none can be made.
        """
        given = Path(path)
        return cls(
            file.create(
                reading.located(given.parent) / given.name,
                file.Run(
                    account_id=account_id,
                    created=time() if created is None else created,
                    verify=verify,
                    hang_up=hang_up,
                ),
            ),
            recorded=False,
        )

    @classmethod
    def open(cls, path: str | PathLike[str], *, account_id: str | None = None) -> Self:
        """Go on with the journal of an earlier run, after checking it whole (a million ids: 3 s).

        Raises `JournalError` when it is missing, not a journal, damaged, of another version or another
        account than ``account_id``, in use, or when its input is incomplete.
        """
        return cls(file.go_on(reading.located(path), account_id), recorded=True)

    def __repr__(self) -> str:
        state = "closed" if self._closing else "failed" if self._writer.failure else "open"
        return f"<Journal {self.path} {state}, {len(self._claimed)} claimed, {self._writer.commits} commits>"

    @property
    def path(self) -> Path:
        """The file, by its absolute path."""
        return self._held.path

    @property
    def account_id(self) -> str:
        """The account whose conferences the run ends."""
        return self._held.run.account_id

    @property
    def verify(self) -> bool:
        """Whether the run reads each ended conference back, in its first part and in each that goes on."""
        return self._held.run.verify

    @property
    def hang_up(self) -> bool:
        """Whether the run ends the members' calls too, in its first part and in each that goes on."""
        return self._held.run.hang_up

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def record(self, items: Items) -> Recorded:
        """Record the whole input, in its order, each id once; only then may the first be claimed.

        Raises `ConfigurationError` for what cannot be an id. After any failure the journal is incomplete for
        good: remove it and start again.
        """
        if self._recording or self._recorded:
            raise JournalError(f"the input of {self.path} has been recorded: a journal has one")
        self._recording = True
        given = 0
        async with aclosing(_chunks(items)) as chunks:
            async for rows in chunks:
                given += len(rows)
                await self._write(schema.RECORD, rows)
        await self._write(schema.COMPLETE, [[given]])
        self._recorded = True
        self._check()
        with file.reported(self.path):
            kept = file.inspect(self._held.reader, self.path).total or 0
        return Recorded(kept, given - kept)

    def unsettled(self) -> Iterator[Target]:
        """Give what is still to be ended, in the order of the input, each id once.

        Read page by page, so memory stays flat; finding the next page past a million settled ids takes
        some 100 ms.
        """
        self._check()
        if not self._recorded:
            raise JournalError(f"the input of {self.path} is not recorded yet")
        return self._targets()

    def claim(self, *targets: Target) -> asyncio.Future[None]:
        """Note that requests for these may be out, once this is awaited: they are unknown until settled."""
        numbers = [_row_number(target) for target in targets]
        written = self._write(schema.CHANGE, [(number, schema.CLAIMED, *_NO_FACTS) for number in numbers])
        written.add_done_callback(_heard)
        self._claimed.update(numbers)
        return written

    async def release(self, targets: Iterable[Target]) -> None:
        """Take back the claims of what no request was sent for.

        Never raises: a journal that cannot be written goes on calling these unknown.
        """
        numbers = [_row_number(target) for target in targets]
        if numbers:
            rows = [(number, OutcomeKind.NOT_ATTEMPTED.value, *_NO_FACTS) for number in numbers]
            with suppress(JournalError):
                await self._write(schema.CHANGE, rows)
                self._claimed.difference_update(numbers)

    async def note_calls(self, target: Target, calls: Sequence[str]) -> None:
        """Note, on disk, which calls are to be hung up: an ended conference names its members no more."""
        self._check()
        await self._write(schema.NOTE_CALLS, [(_row_number(target), json.dumps(calls))])

    async def settle(self, target: Target, outcome: Outcome) -> None:
        """Record an outcome; it is on disk when this returns. What was settled before stays as it was.

        Attempts add up over resumes. ``not_attempted`` takes a claim back: no request was out after all.
        """
        self._check()
        number = _row_number(target)
        if outcome.kind is not OutcomeKind.NOT_ATTEMPTED or number in self._claimed:
            error = None if outcome.error is None else _storable(outcome.error)
            calls = json.dumps(outcome.calls_ended) if outcome.calls_ended else None
            row = (number, outcome.kind.value, outcome.attempts, error, outcome.elapsed, calls)
            await self._write(schema.CHANGE, (row,))
        self._claimed.discard(number)

    def report(self) -> Report:
        """Return the sum over the whole run, earlier parts included; its ``elapsed`` is not known here."""
        self._check()
        counts, attempts = reading.counted(self._held.reader, self.path)
        return Report(counts=counts, attempts=attempts)

    async def aclose(self) -> None:
        """Write what waits, and leave one whole file behind. May be called again; never raises.

        What could not be written has been told to those who waited for it.
        """
        if self._closing is None:
            self._held.reader.close()
            self._closing = self._writer.close()
        await asyncio.shield(self._closing)

    def _targets(self) -> Iterator[Target]:
        rows = reading.pages(self._held.reader, self.path, schema.UNSETTLED_PAGE)
        for number, conference_id, existed, ambiguous, cell in rows:
            calls = reading.calls_in(cell)  # noted when the conference was read, so it did exist
            yield Target(conference_id, bool(existed or calls), bool(ambiguous), number, calls)

    def _write(self, statement: schema.Statement, rows: Sequence[Row]) -> asyncio.Future[None]:
        self._check()
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise ClientStateError(f"{self.path} is in use by another event loop: open a journal for each")
        return self._writer.write(statement, rows)

    def _check(self) -> None:
        if self._closing is not None:
            raise JournalError(f"{self.path} is closed")
        if self._writer.failure is not None:
            raise JournalError(self._writer.failure.message) from self._writer.failure

    def _explain(self, error: Exception) -> JournalError:
        return file.cannot_write(self.path, error)


async def _chunks(items: Items) -> AsyncGenerator[list[Row], None]:
    """Cut the input into lists of rows, each id checked."""
    if isinstance(items, str | bytes | Conference | Target):
        raise ConfigurationError("a journal records a list of ids, or any other iterable of them")
    if isinstance(items, AsyncIterable):
        rows: list[Row] = []
        async for item in items:
            rows.append(_row(item))
            if len(rows) == _CHUNK:
                yield rows
                rows = []
        if rows:
            yield rows
        return
    rest = iter(items)
    while rows := [_row(item) for item in islice(rest, _CHUNK)]:
        yield rows


def _row(item: Item) -> Row:
    target = Target.of(item)
    path_segment(target.conference_id)
    if target.ambiguous:
        return (target.conference_id, int(target.existed), OutcomeKind.UNKNOWN.value, _EARLIER)
    return (target.conference_id, int(target.existed), None, None)


def _heard(written: asyncio.Future[None]) -> None:
    if not written.cancelled():
        written.exception()  # the journal keeps it for whoever asks next


def _row_number(target: Target) -> int:
    if target.number < 1:
        raise ConfigurationError(f"{target.conference_id} has no row: a journal takes what unsettled() gave")
    return target.number


def _storable(text: str) -> str:
    """Replace what SQLite cannot keep as text: half a character, and the zero that would end it."""
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")
