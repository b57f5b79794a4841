"""The coordinator's side: hands out chunks, takes their outcomes back, and notices what got lost."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import platform
import secrets
from collections import deque
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from typing import TYPE_CHECKING, TypeVar

from attrs import asdict, define, evolve

from bandwidth_async._version import __version__
from bandwidth_async.chunks.engine import Chunk, account_mark, error_in, outcome_in
from bandwidth_async.errors import (
    APIError,
    BandwidthError,
    ConfigurationError,
    MissingCredentialsError,
    TransportError,
)
from bandwidth_async.journal import Journal
from bandwidth_async.journal.claims import Claims
from bandwidth_async.outcome import Outcome, OutcomeKind
from bandwidth_async.run import DENIALS, Stop, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from bandwidth_async.chunks.engine import Engine, Record
    from bandwidth_async.outcome import Report
    from bandwidth_async.run import OnOutcome, Source, Target

T = TypeVar("T")

_log = logging.getLogger("bandwidth_async.chunks")

# Parts of a lease: between two looks at all records, for one step at the store, and for the workers to write
# again what the store has forgotten.
_LOOK, _STEP, _REWRITE = 1 / 30, 1 / 6, 1 / 5

# A chunk that nobody has begun after so many leases is offered again, then after twice as many, and so on.
_FIRST_OFFER, _LAST_OFFER = 2, 64

# Seconds that a step at the store has at least at the beginning, when the engine connects.
_CONNECT = 10.0


async def run_on(
    engine: Engine,
    conferences: Source | Journal,
    *,
    account_id: str | None = None,
    chunk_size: int = 100,
    chunks: int = 32,
    on_outcome: OnOutcome | None = None,
    deadline: float | None = None,
    stop: Stop | None = None,
    verify: bool = False,
    lease: float = 15.0,
) -> Report:
    """End many conferences as `VoiceClient.end_conferences` does, by the workers of a queue.

    Give a `Journal` to make the run durable: if this process dies, open the journal again and call this
    again. What the workers did meanwhile is taken over. ``account_id`` is by default that of the journal,
    or ``BW_ACCOUNT_ID``. Credentials are not needed here.

    ``chunk_size`` is the ids in a chunk, and ``chunks`` how many are out at a time: at least twice as many
    as there are worker processes. ``lease`` is seconds: so long after the last sign of life of a worker, what
    it left goes to others.

    Raises `ConfigurationError` for a queue or a journal that cannot be used so, and `TransportError` if the
    queue cannot be reached at the beginning. Later the run waits for it.
    """
    if chunk_size < 1 or chunks < 1 or lease <= 0:
        raise ConfigurationError("chunk_size and chunks are at least 1, and lease is more than 0 seconds")
    engine.check(lease)
    chunk = _chunk_of(conferences, account_id, lease, verify=verify)
    source = _recorded(conferences) if isinstance(conferences, Journal) else conferences
    stop = stop or Stop()
    coordinator = _Coordinator(engine, chunk, chunk_size, stop)
    concurrency = chunk_size * chunks
    async with coordinator.at_work():
        return await run(
            source, coordinator.end, on_outcome, concurrency=concurrency, stop=stop, deadline=deadline
        )


def _recorded(journal: Journal) -> Claims:
    # The workers send the requests, so the time line has nothing but outcomes.
    facts = {"program": __version__, "python": platform.python_version()}
    return Claims(journal, journal.timeline(facts, None))


def _chunk_of(conferences: Source | Journal, account_id: str | None, lease: float, *, verify: bool) -> Chunk:
    """Return what all chunks of a run have in common. Its ``run_id`` is that of each resume too."""
    run_id = secrets.token_hex(16)
    if isinstance(conferences, Journal):
        if conferences.hang_up:
            raise ConfigurationError(
                f"the run of {conferences.path} hangs up calls, which a queue cannot: a call has to be in the"
                " journal before its conference is ended; resume it with the command line"
            )
        account_id, verify = conferences.account_id, verify or conferences.verify
        made = f"{account_id} {conferences.created.isoformat()} {conferences.path.name}"
        run_id = sha256(made.encode()).hexdigest()[:32]
    account_id = account_id or os.environ.get("BW_ACCOUNT_ID")
    if not account_id:
        raise MissingCredentialsError("BW_ACCOUNT_ID is not set; set it, or pass account_id")
    mark = account_mark(account_id, run_id)
    return Chunk(run_id=run_id, epoch=secrets.token_hex(4), account=mark, lease=lease, verify=verify)


@define(eq=False)
class _Waiting:
    """A target that a worker of the run waits for. ``attempts`` are those that brought no outcome."""

    target: Target
    outcome: asyncio.Future[Outcome]
    ambiguous: bool
    attempts: int = 0

    def settle(self, outcome: Outcome | BandwidthError) -> None:
        """Tell the outcome, unless the run has ended meanwhile."""
        if self.outcome.done():
            return
        if isinstance(outcome, BandwidthError):
            outcome.attempts = self.attempts
            self.outcome.set_exception(outcome)
        else:
            self.outcome.set_result(evolve(outcome, attempts=self.attempts))


@define(eq=False)
class _Out:
    """A chunk that is out: who waits for it, by id, and what was seen of its record."""

    waiting: dict[str, _Waiting]
    offer_at: float
    offers: int = 0
    beat: int | None = None
    renewed_at: float = 0.0


class _UnreachableError(Exception):
    """The engine raised something, or took too long."""


class _Coordinator:
    """Ends the targets of one run by means of an engine."""

    def __init__(self, engine: Engine, chunk: Chunk, size: int, stop: Stop) -> None:
        self._engine = engine
        # What all chunks have in common.
        self._chunk = chunk
        self._size = size
        self._stop = stop
        self._now = asyncio.get_running_loop().time
        self._pending: deque[_Waiting] = deque()
        self._out: dict[int, _Out] = {}
        self._number = 0
        self._sending: set[asyncio.Task[None]] = set()
        # Outcomes that workers left for the coordinator before this one.
        self._left: dict[str, Outcome] = {}
        # The last beat, and the last one that is known to be in the record.
        self._beat = self._kept_beat = 0
        self._reachable = True
        # After a stop: the grace, whether the workers can see it, and when nothing is waited for any more.
        self._grace: float | None = None
        self._stop_kept = False
        self._give_up_at = math.inf
        # Set when there is something to do before the next look.
        self._wake = asyncio.Event()

    async def end(self, target: Target, stop: Stop) -> Outcome:
        """Have a worker end a target, and return its outcome."""
        left = self._left.pop(target.conference_id, None)
        if left is not None:
            return left
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._pending.append(_Waiting(target, outcome, target.ambiguous))
        if stop.requested or not self._out or len(self._pending) >= self._size:
            self._wake.set()
        return await outcome

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Hand out what `end` is asked for, for as long as the context lasts."""
        try:
            await self._take_over()
        except _UnreachableError as error:
            raise TransportError(f"the queue cannot be reached: {error}") from error
        try:
            async with asyncio.TaskGroup() as group:
                serving = group.create_task(self._serve())
                with self._stop.listening(self._on_stop):
                    yield
                serving.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            for sending in self._sending:
                sending.cancel()
            self._grace = self._grace or 0.0
            with suppress(_UnreachableError):
                await self._show()

    # --- the beginning -------------------------------------------------------------------------------------

    async def _take_over(self) -> None:
        """Show that this is the coordinator now, and collect what the one before it has left."""
        before = await self._reach(self._engine.read(self._chunk.run_id))
        await self._show()
        found = await self._reach(self._engine.read(self._chunk.run_id))
        if found is None or found["epoch"] != self._chunk.epoch:
            raise ConfigurationError(
                "the queue does not keep records by their key: give it a store, such as Redis, as the result"
                " backend"
            )
        if before is not None:
            old = evolve(self._chunk, epoch=before["epoch"])
            numbers = range(before["first"], before["last"] + 1)
            await self._collect({evolve(old, number=number).chunk_id for number in numbers})

    async def _collect(self, chunk_ids: set[str]) -> None:
        """Keep the outcomes of chunks of the coordinator before, whose workers stop now and tell them."""
        seen: dict[str, tuple[int, float]] = {}
        while chunk_ids:
            for chunk_id in tuple(chunk_ids):
                record = await self._reach(self._engine.read(chunk_id))
                if record is not None:
                    self._keep(record)
                    beat, since = seen.get(chunk_id, (None, 0.0))
                    if beat != record["beat"]:
                        since = self._now()
                    seen[chunk_id] = record["beat"], since
                if record is None or record["done"] or self._now() - since > self._chunk.lease:
                    chunk_ids.discard(chunk_id)
            await asyncio.sleep(self._chunk.lease * _LOOK)

    def _keep(self, record: Record) -> None:
        for outcome in map(outcome_in, record["outcomes"]):
            if outcome.kind.settled:
                self._left[outcome.conference_id] = outcome

    # --- round after round ---------------------------------------------------------------------------------

    async def _serve(self) -> None:
        while True:
            only_full = self._wake.is_set()
            self._wake.clear()
            if not self._stop.requested:
                self._form_chunks(only_full=only_full)
            try:
                await self._show()
                await self._look()
            except _UnreachableError as error:
                if self._reachable:
                    _log.warning("the queue cannot be reached, so the run waits: %s", error)
                self._reachable = False
            else:
                self._offer_what_is_due()
            self._end_what_is_stopped()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._chunk.lease * _LOOK):
                    await self._wake.wait()

    async def _reach(self, step: Awaitable[T]) -> T:
        """Await one step at the engine. Raises `_UnreachableError`, which tells what went wrong."""
        try:
            async with asyncio.timeout(max(self._chunk.lease * _STEP, 0 if self._out else _CONNECT)):
                done = await step
        except Exception as error:
            raise _UnreachableError(f"{type(error).__name__}: {error}") from error
        if not self._reachable:
            # The workers could not be seen meanwhile, and they could not reach the store either.
            _log.warning("the queue can be reached again")
            self._reachable = True
            for out in self._out.values():
                out.renewed_at = self._now()
        return done

    def _form_chunks(self, *, only_full: bool) -> None:
        """Put what is pending into chunks. A small chunk has time while another waits for a worker."""
        only_full = (only_full and bool(self._out)) or any(out.beat is None for out in self._out.values())
        while self._pending and (len(self._pending) >= self._size or not only_full):
            waiting: dict[str, _Waiting] = {}
            while self._pending and len(waiting) < self._size:
                one = self._pending.popleft()
                # A run that was cancelled does not wait any more.
                if not one.outcome.done():
                    waiting[one.target.conference_id] = one
            if waiting:
                self._number += 1
                self._out[self._number] = _Out(waiting, self._now())

    async def _show(self) -> None:
        """Write the coordinator's record: it is alive, what is out, and whether the run is stopped."""
        chunk = self._chunk
        if self._kept_beat:
            found = await self._reach(self._engine.read(chunk.run_id))
            if found is None or found["epoch"] != chunk.epoch or found["beat"] < self._kept_beat:
                self._on_amnesia()
        self._beat += 1
        record = {
            "epoch": chunk.epoch,
            "beat": self._beat,
            "stopped": self._grace,
            "first": min(self._out, default=1),
            "last": max(self._out, default=0),
        }
        await self._reach(self._engine.write(chunk.run_id, record))
        self._kept_beat = self._beat
        self._stop_kept = record["stopped"] is not None

    def _on_amnesia(self) -> None:
        """Offer every chunk again that may be lost, after the store has forgotten what was in it.

        A worker that is alive writes its record again, soon. A chunk without one may have been begun before.
        """
        _log.warning("the queue has lost its content: what was in it is sent again")
        for out in self._out.values():
            for one in out.waiting.values():
                one.ambiguous = True
            out.offer_at = min(out.offer_at, self._now() + _REWRITE * self._chunk.lease)

    async def _look(self) -> None:
        """Read the record of each chunk that is out."""
        for number, out in tuple(self._out.items()):
            chunk_id = evolve(self._chunk, number=number).chunk_id
            record = await self._reach(self._engine.read(chunk_id))
            if record is not None and record["beat"] != out.beat:
                out.beat, out.renewed_at = record["beat"], self._now()
                self._take(out, record)
                if record["done"]:
                    del self._out[number]
                    self._pending.extendleft(out.waiting.values())
                    # It stays as the mark that the chunk was begun.
                    await self._reach(self._engine.write(chunk_id, {**record, "outcomes": []}))
            elif out.beat is None and self._stop_kept:
                # Whoever takes it from the queue later sees the stop.
                del self._out[number]
                self._pending.extend(out.waiting.values())
            elif out.beat is not None and self._now() - out.renewed_at > self._chunk.lease:
                del self._out[number]
                self._lose(out)

    def _take(self, out: _Out, record: Record) -> None:
        """Tell the outcomes in a record, and take back what was not sent."""
        why = error_in(record["why"]) if record["why"] else None
        denied = isinstance(why, APIError) and why.status in DENIALS and not why.transient
        for packed in record["outcomes"]:
            one = out.waiting.pop(packed["conference_id"], None)
            if one is None:
                continue
            outcome = outcome_in(packed)
            one.attempts += outcome.attempts
            unknown = outcome.kind is OutcomeKind.UNKNOWN
            # A worker of an earlier program does not say whether it was cut off.
            resent = unknown and (record.get("cut") or not outcome.attempts)
            if outcome.kind is OutcomeKind.NOT_ATTEMPTED or resent:
                one.ambiguous = one.ambiguous or unknown
                self._pending.append(one)
            elif denied and outcome.kind is OutcomeKind.REFUSED:
                # The run counts how many are denied in a row, over all workers.
                one.settle(error_in({**record["why"], "message": outcome.error}))
            else:
                one.settle(outcome)
        if why is not None and not denied:
            self._stop.request(why)

    def _lose(self, out: _Out) -> None:
        """Have others end what a worker has left that is not heard of any more."""
        _log.warning("a worker is not heard of any more: %d ids go to others", len(out.waiting))
        for one in out.waiting.values():
            one.ambiguous = True
        self._pending.extend(out.waiting.values())

    def _offer_what_is_due(self) -> None:
        for number, out in self._out.items():
            if out.beat is not None or out.offer_at > self._now():
                continue
            if out.offers == 1 and number == min(self._out):
                _log.warning("no worker has begun a chunk yet, so it is offered again: is one up?")
            pause = min(_FIRST_OFFER * 2**out.offers, _LAST_OFFER)
            out.offers += 1
            out.offer_at = self._now() + pause * self._chunk.lease
            sending = asyncio.create_task(self._send(number, out))
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)

    async def _send(self, number: int, out: _Out) -> None:
        targets = [(id_, one.target.existed, one.ambiguous) for id_, one in out.waiting.items()]
        try:
            await self._engine.send(asdict(evolve(self._chunk, number=number, targets=targets)))
        except Exception as error:
            _log.warning("a chunk could not be sent, and is sent again: %s: %s", type(error).__name__, error)
            out.offer_at = self._now()

    # --- the end -------------------------------------------------------------------------------------------

    def _on_stop(self, grace: float) -> None:
        self._grace = grace
        self._give_up_at = self._now() + grace + self._chunk.lease
        self._wake.set()

    def _end_what_is_stopped(self) -> None:
        """After a stop: settle what is not sent, and after some time also what no worker tells of."""
        if not self._stop.requested:
            return
        for number, out in tuple(self._out.items()):
            if out.offers and self._now() <= self._give_up_at:
                continue
            for one in out.waiting.values():
                one.ambiguous = one.ambiguous or out.offers > 0
            self._pending.extend(self._out.pop(number).waiting.values())
        for one in self._pending:
            kind = OutcomeKind.UNKNOWN if one.ambiguous else OutcomeKind.NOT_ATTEMPTED
            one.settle(Outcome(one.target.conference_id, kind, error=self._stop.why))
        self._pending.clear()
