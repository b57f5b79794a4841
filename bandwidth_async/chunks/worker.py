"""The worker's side: ends the ids of a chunk, and renews its lease of them."""

from __future__ import annotations

import asyncio
import logging
import platform
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from attrs import define

from bandwidth_async.chunks.engine import VERSION, Chunk, account_mark, packed_error, packed_outcome
from bandwidth_async.errors import BandwidthError, ConfigurationError, DeadlineExceededError
from bandwidth_async.run import Stop, Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from bandwidth_async.chunks.engine import Engine, Record
    from bandwidth_async.client import VoiceClient
    from bandwidth_async.outcome import Outcome

_log = logging.getLogger("bandwidth_async.chunks")

# Parts of a lease: between renewals, for one step at the store, without news until the worker stops, and for
# requests in flight then. Together a worker that is cut off is silent before its lease has lapsed.
_RENEWAL, _STEP, _PATIENCE, _GRACE = 1 / 15, 1 / 6, 1 / 2, 1 / 5

# Outcomes that a worker that dies takes with it: at most so many, or those of the time between renewals.
_MOST_UNTOLD = 20

# Leases that a worker tries to deliver its outcomes for.
_DELIVERY = 40

# Coordinators that a worker remembers.
_MOST_PULSES = 1000


@define
class _Pulse:
    """What a worker saw of a coordinator: its last beat, and when that changed."""

    changed_at: float
    beat: int | None = None
    alive: bool = False


class ChunkWorker:
    """Ends the chunks that come to this process. It has one client, and belongs to one event loop.

    ``client`` is called when the first chunk comes. ``concurrency`` is how many conferences of a chunk are
    ended at once.
    """

    def __init__(self, engine: Engine, client: Callable[[], VoiceClient], *, concurrency: int = 100) -> None:
        self._engine = engine
        self._make_client = client
        self._client: VoiceClient | None = None
        self._concurrency = concurrency
        self._pulses: dict[str, _Pulse] = {}

    async def end(self, chunk: Record, *, redelivered: bool = False) -> None:
        """End the ids of a chunk. Its outcomes go into the chunk's record.

        ``redelivered`` says that the engine delivered it before. A chunk that was begun before is dropped.
        Raises what the engine raises if it cannot be reached at the beginning, or for very long at the end.
        """
        given = Chunk.of(chunk)
        if await self._engine.read(given.chunk_id) is not None:
            return
        if len(self._pulses) > _MOST_PULSES:
            self._pulses.clear()
        lease = _Lease(self._engine, given, self._pulses)
        await lease.write()
        renewing = asyncio.create_task(lease.keep())
        try:
            if await lease.is_wanted():
                await self._end_all(given, lease, redelivered=redelivered)
        finally:
            renewing.cancel()
            await asyncio.wait([renewing])
        if not lease.taken:
            await lease.deliver()

    async def aclose(self) -> None:
        """Close the client."""
        if self._client is not None:
            await self._client.aclose()

    async def _end_all(self, chunk: Chunk, lease: _Lease, *, redelivered: bool) -> None:
        try:
            if chunk.version != VERSION:
                raise ConfigurationError("the worker has another release of bandwidth_async than the run")
            self._client = self._client or self._make_client()
            if account_mark(self._client.account_id, chunk.run_id) != chunk.account:
                raise ConfigurationError("the worker's BW_ACCOUNT_ID is not the account of the run")
            report = await self._client.end_conferences(
                [Target(id_, existed, ambiguous or redelivered) for id_, existed, ambiguous in chunk.targets],
                concurrency=self._concurrency,
                on_outcome=lease.note,
                stop=lease.stop,
                verify=chunk.verify,
            )
            why = report.stopped
        except BandwidthError as error:
            why = error
        if why is not None and why is not lease.stopped_by:
            lease.record["why"] = packed_error(why, platform.node())


class _Lease:
    """A chunk in work: its record, and the stop of its run if the coordinator is not to be seen."""

    def __init__(self, engine: Engine, chunk: Chunk, pulses: dict[str, _Pulse]) -> None:
        self.record: Record = {
            "by": secrets.token_hex(8),
            "beat": 0,
            "outcomes": [],
            "done": False,
            # Whether this worker stopped by itself, so that others have to end what it is unsure of.
            "cut": False,
            "why": None,
        }
        # Whether another worker has begun the chunk at the same moment, and has it now.
        self.taken = False
        self.stop = Stop()
        self.stopped_by = DeadlineExceededError("the coordinator of the run is gone, or has stopped it")
        self._engine = engine
        self._chunk = chunk
        self._now = asyncio.get_running_loop().time
        self._renewed_at = self._now()
        self._pulse = pulses.setdefault(chunk.epoch, _Pulse(self._now()))
        # Whether the coordinator's record was read. Set when it is known whether the coordinator is alive.
        self._looked = False
        self._known = asyncio.Event()
        # Set when there are outcomes that cannot wait for the next renewal.
        self._due = asyncio.Event()

    def note(self, outcome: Outcome) -> None:
        """Put an outcome into the record, which the next renewal writes."""
        self.record["outcomes"].append(packed_outcome(outcome))
        if len(self.record["outcomes"]) % _MOST_UNTOLD == 0:
            self._due.set()

    async def is_wanted(self) -> bool:
        """Wait until the coordinator shows that it is alive, and return whether it does."""
        await self._known.wait()
        return not self.stop.requested

    async def keep(self) -> None:
        """Renew the lease until cancelled, and stop the run when that has failed for too long."""
        while True:
            # An engine raises errors of its own while it cannot be reached. Time tells what they mean.
            with suppress(Exception):
                async with asyncio.timeout(self._chunk.lease * _STEP):
                    await self._look()
                    if not self.taken:
                        await self.write()
            self._judge()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._chunk.lease * _RENEWAL):
                    await self._due.wait()
            self._due.clear()

    async def write(self) -> None:
        """Write the record, which renews the lease."""
        begun = self._now()
        self.record["beat"] += 1
        # The run goes on while a slow store has the record.
        await self._engine.write(
            self._chunk.chunk_id, {**self.record, "outcomes": [*self.record["outcomes"]]}
        )
        self._renewed_at = begun

    async def deliver(self) -> None:
        """Write the record for the last time, for as long as it takes to reach the store."""
        self.record["done"] = True
        pause, warned = self._chunk.lease * _RENEWAL, False
        async with asyncio.timeout(self._chunk.lease * _DELIVERY):
            while True:
                try:
                    return await self.write()
                except Exception as error:
                    if not warned:
                        _log.warning("the outcomes of a chunk wait for the queue: %s", error)
                    warned = True
                await asyncio.sleep(pause)

    async def _look(self) -> None:
        """Read the own record, which may be another's by now, and that of the coordinator.

        Of workers that begin a chunk at the same moment, the last one that writes its record has it.
        """
        own = await self._engine.read(self._chunk.chunk_id)
        if own is not None and own["by"] != self.record["by"]:
            self.taken = True
            self._stop(0.0)
            return
        found = await self._engine.read(self._chunk.run_id)
        if found is None:
            return
        pulse = self._pulse
        if found["epoch"] != self._chunk.epoch:
            self._stop(None)
        elif found["stopped"] is not None:
            self._stop(found["stopped"])
        elif found["beat"] != pulse.beat:
            # The first beat that is seen may be the last one of a coordinator that is gone.
            pulse.alive = pulse.beat is not None
            pulse.beat, pulse.changed_at = found["beat"], self._now()
        self._looked = True

    def _judge(self) -> None:
        """Stop if nothing new was seen of the coordinator, or it sees nothing of us, for too long."""
        last_news = min(self._pulse.changed_at, self._renewed_at)
        if self._now() - last_news > self._chunk.lease * _PATIENCE:
            self._pulse.alive = False
            self._stop(None)
        # Whoever stops the run writes that before he looks who has begun, and we begin before we look.
        if self.stop.requested or (self._looked and self._pulse.alive):
            self._known.set()

    def _stop(self, grace: float | None) -> None:
        if not self.stop.requested:
            self.record["cut"] = grace is None
            self.stop.request(self.stopped_by, grace=self._chunk.lease * _GRACE if grace is None else grace)
