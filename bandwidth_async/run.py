"""The run: workers end the conferences of one source, and each id gets exactly one outcome.

What always holds
    Memory grows with the number of workers, not with the number of ids. An id is never in flight twice at
    the same time. A worker takes its next id only after the outcome of the last one is on record and the
    caller has been told of it. The outcomes add up to the ids: after a stop, the ids that a plain iterable
    still holds become ``not_attempted``. An async source is not asked for more after a stop, because
    asking it may cost work.

The first id is sent ahead of the others, for at most one second. Wrong credentials or a dead host then cost
one request, instead of one for each worker. If the first id fails while it is alone, the run tries it once
more beside the others: only their outcomes can tell a short disturbance from a server that is down.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Protocol, runtime_checkable

from attrs import define, evolve

from bandwidth_async.errors import (
    BandwidthError,
    ConfigurationError,
    DeadlineExceededError,
    HangUpError,
    PermissionDeniedError,
)
from bandwidth_async.models import Conference
from bandwidth_async.outcome import Outcome, OutcomeKind, Report, kind_of

# Seconds that requests in flight have to finish after a stop.
GRACE = 10.0

# Seconds that the first id has before the other workers start.
_FIRST_ALONE = 1.0

# The run stops when this many ids in a row were answered 403: at its beginning, and later.
_MOST_DENIED, _MOST_DENIED_LATER = 3, 20

# After this many outcomes the run lets the other tasks of the event loop run. Without that, a run whose
# ids are all answered at once would never yield.
_YIELD_EVERY = 100


# Not frozen, as `wire.Request` is not: that would double what it costs to make one.
@define
class Target:
    """One id of a run, with what is known of its conference beforehand.

    ``existed`` says that a list of conferences contained it. ``ambiguous`` says that an earlier run may have
    ended it without learning the outcome. In both cases a 404 means that the conference has ended.
    ``number`` is its row in the journal, 0 without a journal. ``calls`` are the calls that an earlier run
    was going to hang up with it.
    """

    conference_id: str
    existed: bool = False
    ambiguous: bool = False
    number: int = 0
    calls: tuple[str, ...] = ()

    @classmethod
    def of(cls, item: str | Conference | Target) -> Target:
        """Return an item of a source as a target. Raises `ConfigurationError` for what cannot be an id."""
        if type(item) is str:
            return cls(item)
        if isinstance(item, Target):
            return item
        if isinstance(item, Conference):
            return cls(item.id, existed=True)
        if isinstance(item, str):
            return cls(str(item))
        raise ConfigurationError(f"a conference id is a string, not {item!r}")


class Stop:
    """A request to stop a run: the run sends nothing more, and requests in flight may finish.

    Pass one to `VoiceClient.end_conferences`. Call `request` from a signal handler, or from another task of
    the same event loop.
    """

    def __init__(self) -> None:
        self.reason: BandwidthError | None = None
        self._listeners: set[Callable[[float], None]] = set()

    def __repr__(self) -> str:
        return f"<Stop {self.reason or 'not requested'}, {len(self._listeners)} listening>"

    @property
    def requested(self) -> bool:
        """Whether a stop was requested."""
        return self.reason is not None

    @property
    def why(self) -> str | None:
        """The reason as a sentence: the error of an id that was not attempted because of the stop."""
        if self.reason is None:
            return None
        if isinstance(self.reason, DeadlineExceededError):
            return self.reason.message
        return f"the run was stopped: {self.reason.message}"

    def request(self, reason: BandwidthError | None = None, *, grace: float = GRACE) -> None:
        """Stop the run. Requests in flight have ``grace`` seconds. Only the first reason is kept."""
        if self.reason is None:
            self.reason = reason or DeadlineExceededError("the run was stopped")
        for tell in tuple(self._listeners):
            tell(grace)

    def listen(self, tell: Callable[[float], None]) -> None:
        """Call ``tell(grace)`` at each request to stop, and at once if there was one already."""
        if self.reason is not None:
            tell(0.0)
        self._listeners.add(tell)

    def forget(self, tell: Callable[[float], None]) -> None:
        """Do not call ``tell`` any more."""
        self._listeners.discard(tell)

    @contextmanager
    def listening(self, tell: Callable[[float], None]) -> Iterator[None]:
        """`listen` for as long as the context lasts."""
        self.listen(tell)
        try:
            yield
        finally:
            self.forget(tell)


Item = str | Conference | Target
Source = Iterable[Item] | AsyncIterable[Item]

# Ends one conference: returns its outcome, or raises what went wrong. When every other id would meet the
# same error (refused credentials, for example), it also requests the stop.
End = Callable[[Target, Stop], Awaitable[Outcome]]

# Is called with each outcome, and awaited if it is async.
OnOutcome = Callable[[Outcome], Awaitable[None] | None]

# The outcomes of a run, and behind the last one the error of the run or None.
_Queue = asyncio.Queue[Outcome | Exception | None]


@runtime_checkable
class Ledger(Protocol):
    """Where a run takes its targets from, and where it records what becomes of them.

    A ledger that raises a `BandwidthError` (a `JournalError`, for example) stops the run. Anything else that
    it raises is raised by the run.
    """

    def targets(self) -> Source:
        """Return the targets of the run. The run iterates over them once."""

    async def begin(self, target: Target) -> None:
        """Record that requests for a target may be out. The run awaits this before it sends the first.

        If this raises a `BandwidthError`, nothing is sent for the target.
        """

    async def settle(self, target: Target, outcome: Outcome) -> None:
        """Record the outcome of a target, which may never have been begun: ``not_attempted``, for example.

        The run awaits this before it tells anyone of the outcome. If this raises a `BandwidthError`, the
        outcome is told all the same, because it is true.
        """

    async def close(self) -> None:
        """Finish. The run awaits this last, however it ends, and once."""


async def run(
    source: Source | Ledger,
    end: End,
    on_outcome: OnOutcome | None = None,
    *,
    concurrency: int,
    stop: Stop,
    deadline: float | None = None,
) -> Report:
    """End every conference of ``source`` and return the report.

    ``on_outcome`` is called with each outcome. ``deadline`` (seconds) stops the run, as ``stop`` does. What
    ``source`` or ``on_outcome`` raise ends the run and is raised here. No task is left behind, neither then
    nor after a cancellation.
    """
    return await _Run(source, end, on_outcome, stop).complete(concurrency, deadline)


@asynccontextmanager
async def iterate(
    source: Source | Ledger,
    end: End,
    *,
    concurrency: int,
    stop: Stop,
    deadline: float | None = None,
) -> AsyncIterator[Outcomes]:
    """`run` as an async iterator over the outcomes. Leaving the context ends the run at once."""
    queue: _Queue = asyncio.Queue(maxsize=concurrency)
    one_run = _Run(source, end, queue.put, stop)
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(_complete_into(queue, one_run, concurrency, deadline))
            outcomes = Outcomes(one_run.report, queue)
            try:
                yield outcomes
            finally:
                outcomes.close()
                task.cancel()
    except BaseExceptionGroup as errors:
        # The only error in the group is the one that the body of the context raised: an error of the run
        # went into the queue.
        raise errors.exceptions[0] from None


async def _complete_into(queue: _Queue, one_run: _Run, concurrency: int, deadline: float | None) -> None:
    """Do a run whose outcomes go into a queue, and put its error or None behind them."""
    last: Exception | None = None
    try:
        await one_run.complete(concurrency, deadline)
    except Exception as error:
        last = error
    await queue.put(last)


class Outcomes:
    """The outcomes of a run as they arrive. Iterate over it once. ``report`` is their sum so far."""

    def __init__(self, report: Report, queue: _Queue) -> None:
        self.report = report
        self._queue = queue
        self._closed = False

    def __repr__(self) -> str:
        return f"<Outcomes {dict(self.report.counts)}>"

    def __aiter__(self) -> AsyncIterator[Outcome]:
        return self

    async def __anext__(self) -> Outcome:
        if self._closed:
            raise StopAsyncIteration
        outcome = await self._queue.get()
        if isinstance(outcome, Outcome):
            return outcome
        self._closed = True
        raise outcome or StopAsyncIteration

    def close(self) -> None:
        """End the iteration."""
        self._closed = True


class _Unrecorded:
    """The ledger of a plain source: it records nothing."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def targets(self) -> Source:
        return self._source

    async def begin(self, target: Target) -> None:
        pass

    async def settle(self, target: Target, outcome: Outcome) -> None:
        pass

    async def close(self) -> None:
        pass


class _Input:
    """Iterates over a plain or an async source, until its end or until the stop."""

    def __init__(self, source: Source, stop: Stop) -> None:
        self._stop = stop
        # What a plain source still holds.
        self.rest: Iterator[Item] = iter(())
        # Whether an async source was left before its end.
        self.left_early = False
        self._async_source: AsyncIterator[Item] | None = None
        if isinstance(source, str | bytes | Conference):
            raise ConfigurationError(
                "a run takes a list of ids, or any other iterable of ids; for one use end_conference"
            )
        if isinstance(source, AsyncIterable):
            self._async_source = aiter(source)
        else:
            self.rest = iter(source)
        # Python forbids two concurrent anext() of one async generator.
        self._turn = asyncio.Lock()

    def __aiter__(self) -> AsyncIterator[Item]:
        return self

    async def __anext__(self) -> Item:
        if self._async_source is not None:
            async with self._turn:
                return await self._next_of(self._async_source)
        if not self._stop.requested:
            for item in self.rest:
                return item
        raise StopAsyncIteration

    async def _next_of(self, source: AsyncIterator[Item]) -> Item:
        """Return the next item of an async source. A stop interrupts a source that keeps us waiting."""
        limit = asyncio.timeout(None)

        def interrupt(_: float) -> None:
            if not limit.expired():
                limit.reschedule(asyncio.get_running_loop().time())

        if self._stop.requested:
            self.left_early = True
            raise StopAsyncIteration
        try:
            async with limit:
                with self._stop.listening(interrupt):
                    return await anext(source)
        except TimeoutError:
            if limit.expired():
                self.left_early = True
                raise StopAsyncIteration from None
            raise


class _Run:
    """What the workers of a run share. Only the workers change it, all on one event loop."""

    def __init__(self, source: Source | Ledger, end: End, on_outcome: OnOutcome | None, stop: Stop) -> None:
        self.report = Report()
        self._ledger = source if isinstance(source, Ledger) else _Unrecorded(source)
        self._end = end
        self._on_outcome = on_outcome
        self._stop = stop
        # The ids in flight. A worker that has to wait for one puts an event here.
        self._in_flight: dict[str, asyncio.Event | None] = {}
        # Set when the first id has its outcome, or is no longer alone.
        self._first_done = asyncio.Event()
        # Ids answered 403 since an id had another outcome, and the other outcomes until then.
        self._denied = self._others = 0
        self._settled = 0
        self._loop = asyncio.get_running_loop()

    async def complete(self, concurrency: int, deadline: float | None) -> Report:
        """Do the whole run and return its report."""
        if concurrency < 1:
            raise ConfigurationError(
                f"concurrency is how many conferences are in progress at once: at least 1, not {concurrency}"
            )
        started = self._loop.time()
        late = DeadlineExceededError("the run's deadline came")
        timer = self._loop.call_later(deadline, self._stop.request, late) if deadline is not None else None
        try:
            await self._end_all(_Input(self._ledger.targets(), self._stop), concurrency)
        finally:
            self.report.elapsed = self._loop.time() - started
            if timer is not None:
                timer.cancel()
            await asyncio.shield(self._ledger.close())
        return self.report

    async def _end_all(self, ids: _Input, concurrency: int) -> None:
        """Start the workers, and wait until all ids have their outcome."""
        try:
            async with asyncio.TaskGroup() as workers:
                workers.create_task(self._work(ids))
                with suppress(TimeoutError):
                    # Not asyncio.wait_for, which may lose a cancellation here.
                    async with asyncio.timeout(_FIRST_ALONE):
                        await self._first_done.wait()
                # From now on no id is alone, so none is tried a second time.
                self._first_done.set()
                for _ in range(concurrency - 1):
                    workers.create_task(self._work(ids))
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        if self._stop.requested:
            for item in ids.rest:
                await self._settle_unsent(item)
            if ids.left_early or self.report.unsettled:
                self.report.stopped = self._stop.reason

    async def _work(self, ids: _Input) -> None:
        """Be one worker: end ids one after the other."""
        try:
            async for item in ids:
                target, outcome = _target_of(item)
                await self._settle(target, outcome or await self._outcome_of(target))
                self._first_done.set()
        finally:
            self._first_done.set()

    async def _settle_unsent(self, item: Item) -> None:
        """Settle an id that a stop kept from being sent."""
        target, _ = _target_of(item)
        kind = OutcomeKind.UNKNOWN if target.ambiguous else OutcomeKind.NOT_ATTEMPTED
        await self._settle(target, Outcome(target.conference_id, kind, error=self._stop.why))

    async def _settle(self, target: Target, outcome: Outcome) -> None:
        """Count an outcome, record it, then tell it."""
        self.report.add(outcome)
        try:
            await self._ledger.settle(target, outcome)
        except BandwidthError as error:
            self._stop.request(error)
        if self._on_outcome is not None:
            told = self._on_outcome(outcome)
            if inspect.isawaitable(told):
                await told
        self._settled += 1
        if self._settled % _YIELD_EVERY == 0:
            await asyncio.sleep(0)

    async def _outcome_of(self, target: Target) -> Outcome:
        """End one conference. An error becomes an outcome here."""
        started = self._loop.time()
        try:
            await self._begin(target)
            return await self._end_or_retry_first(target)
        except BandwidthError as error:
            self._stop_if_all_are_denied(error)
            # An earlier run may have ended an ambiguous target. Then it stays unknown, even if nothing
            # could be sent for it this time.
            unknown, stopped = target.ambiguous, self._stop.requested
            kind = OutcomeKind.UNKNOWN if unknown else kind_of(error, stopped=stopped)
            elapsed = self._loop.time() - started
            sentence = self._stop.why if kind is OutcomeKind.NOT_ATTEMPTED else None
            calls_ended = error.calls_ended if isinstance(error, HangUpError) else ()
            return Outcome(
                target.conference_id, kind, error.attempts, sentence or str(error), elapsed, calls_ended
            )

    async def _begin(self, target: Target) -> None:
        try:
            await self._ledger.begin(target)
        except BandwidthError as error:
            self._stop.request(error)
            raise

    async def _end_or_retry_first(self, target: Target) -> Outcome:
        """End one conference. If the first of the run fails while it is alone, try it once more."""
        try:
            return await self._end_when_free(target)
        except BandwidthError as error:
            gave_up = kind_of(error) in {OutcomeKind.FAILED, OutcomeKind.UNKNOWN}
            alone = not self._first_done.is_set()
            if not (alone and gave_up) or self._stop.requested or isinstance(error, HangUpError):
                raise
            first = error
        self._first_done.set()
        try:
            second = await self._end_when_free(evolve(target, ambiguous=target.ambiguous or first.ambiguous))
        except BandwidthError as error:
            if not error.attempts:
                raise first from None
            error.attempts += first.attempts
            raise
        return evolve(second, attempts=first.attempts + second.attempts)

    async def _end_when_free(self, target: Target) -> Outcome:
        """End one conference, once no other worker has the same id in flight."""
        conference_id = target.conference_id
        while conference_id in self._in_flight:
            free = self._in_flight[conference_id] = self._in_flight[conference_id] or asyncio.Event()
            await free.wait()
        self._in_flight[conference_id] = None
        try:
            return await self._end(target, self._stop)
        finally:
            waited_for = self._in_flight.pop(conference_id)
            if waited_for is not None:
                waited_for.set()

    def _stop_if_all_are_denied(self, error: BandwidthError) -> None:
        """Stop when ids are denied one after the other: then the account is not ours, or no longer."""
        if isinstance(error, PermissionDeniedError):
            others = self.report.total - self.report.counts[OutcomeKind.REFUSED]
            if others != self._others:
                self._denied, self._others = 0, others
            self._denied += 1
            if self._denied >= (_MOST_DENIED_LATER if others else _MOST_DENIED):
                self._stop.request(error)


def _target_of(item: Item) -> tuple[Target, Outcome | None]:
    """Return an item as a target. If it cannot be an id, return its outcome too."""
    try:
        return Target.of(item), None
    except ConfigurationError as error:
        return Target(str(item)), Outcome(str(item), OutcomeKind.REFUSED, error=str(error))
