"""One conference that a run is to end, with what is known of it beforehand.

Bringing a run to its end before its input ends.

The run: bounded workers pull ids from one source, and every id pulled gets exactly one outcome.

What always holds
    Memory is the number of workers, not the number of ids. An id is never in flight twice at once. The
    outcome of an id is delivered before its worker pulls the next one. After a stop the ids that a plain
    iterable still holds are delivered as ``not_attempted``, so the outcomes add up to the ids; a source
    that has to be awaited is left alone, as asking it for more may be work.

The first id goes ahead of the others, by at most a second: wrong credentials or a dead host then cost one
request, and not one for each worker. When it fails, alone as it was, it is tried once more beside the
others: only they tell a bad moment from a dead server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@define  # not frozen, as `wire.Request` is not
class Target:
    """One id of a run.

    ``existed`` says that a listing showed it, ``ambiguous`` that an earlier run may have ended it without
    hearing so: a 404 then means that it has ended. ``number`` is its row in the journal, 0 without one.
    ``calls`` are those that an earlier run meant to hang up with it.
    """

    conference_id: str
    existed: bool = False
    ambiguous: bool = False
    number: int = 0
    calls: tuple[str, ...] = ()

    @classmethod
    def of(cls, item: str | Conference | Target) -> Target:
        """Return what was given to a run as a target. Raises `ConfigurationError` when it cannot be one."""
        if type(item) is str:
            return cls(item)
        if isinstance(item, Target):
            return item
        if isinstance(item, Conference):
            return cls(item.id, existed=True)
        if isinstance(item, str):
            return cls(str(item))
        raise ConfigurationError(f"a conference id is text, not {item!r}")


GRACE = 10.0  # seconds that what is in flight has after a stop


class Stop:
    """A request to stop a run: nothing more is sent, what is in flight may finish.

    Give one to `VoiceClient.end_conferences` and call `request` from a signal handler or another task of
    the same event loop.
    """

    def __init__(self) -> None:
        self.reason: BandwidthError | None = None
        self._listeners: set[Callable[[float], None]] = set()

    def __repr__(self) -> str:
        return f"<Stop {self.reason or 'not requested'}, {len(self._listeners)} listening>"

    @property
    def requested(self) -> bool:
        """Whether the run is to end."""
        return self.reason is not None

    @property
    def why(self) -> str | None:
        """The reason as a sentence, fit for an id that it kept from being tried."""
        if self.reason is None:
            return None
        if isinstance(self.reason, DeadlineExceededError):
            return self.reason.message
        return f"the run was stopped: {self.reason.message}"

    def request(self, reason: BandwidthError | None = None, *, grace: float = GRACE) -> None:
        """Ask for the end; what is in flight has ``grace`` seconds. The first reason stays."""
        if self.reason is None:
            self.reason = reason or DeadlineExceededError("the run was stopped")
        for tell in tuple(self._listeners):
            tell(grace)

    def listen(self, tell: Callable[[float], None]) -> None:
        """Have ``tell(grace)`` called when the end is requested; at once when it has been already."""
        if self.reason is not None:
            tell(0.0)
        self._listeners.add(tell)

    def forget(self, tell: Callable[[float], None]) -> None:
        """Call ``tell`` no more."""
        self._listeners.discard(tell)

    @contextmanager
    def listening(self, tell: Callable[[float], None]) -> Iterator[None]:
        """Have ``tell(grace)`` called while the context lasts."""
        self.listen(tell)
        try:
            yield
        finally:
            self.forget(tell)


Item = str | Conference | Target
Source = Iterable[Item] | AsyncIterable[Item]
Deliver = Callable[[Target, Outcome], Awaitable[None]]

# Ends one conference: returns its outcome, or raises what went wrong. When it meets what every further id
# would meet too (refused credentials), it requests the stop.
End = Callable[[Target, Stop], Awaitable[Outcome]]

_PILOT_TIME = 1.0  # seconds the first id has for itself
_DENIED = 3  # ids that are answered 403, and nothing else, before the run ends
_BREATH = 100  # outcomes between two chances for the rest of the event loop


class _Ids:
    """One way to pull from either kind of source."""

    def __init__(self, source: Source, stop: Stop) -> None:
        self._stop = stop
        self.rest: Iterator[Item] = iter(())  # what a plain source still holds
        self.left_over = False  # whether a source that has to be awaited was left before its end
        self._awaited: AsyncIterator[Item] | None = None
        if isinstance(source, str | bytes | Conference):
            raise ConfigurationError(
                "a run takes a list of ids, or any other iterable; for one use end_conference"
            )
        if isinstance(source, AsyncIterable):
            self._awaited = aiter(source)
        else:
            self.rest = iter(source)
        self._turn = asyncio.Lock()  # an async generator cannot be asked twice at once

    def __aiter__(self) -> AsyncIterator[Item]:
        return self

    async def __anext__(self) -> Item:
        """Return the next id, unless there is none or the run is to stop."""
        if self._awaited is not None:
            async with self._turn:
                return await self._next_awaited(self._awaited)
        if not self._stop.requested:
            for item in self.rest:
                return item
        raise StopAsyncIteration

    async def _next_awaited(self, source: AsyncIterator[Item]) -> Item:
        limit = asyncio.timeout(None)

        def interrupt(_: float) -> None:
            if not limit.expired():
                limit.reschedule(asyncio.get_running_loop().time())

        if self._stop.requested:
            self.left_over = True
            raise StopAsyncIteration
        try:
            async with limit:
                with self._stop.listening(interrupt):
                    return await anext(source)
        except TimeoutError:
            if limit.expired():
                self.left_over = True
                raise StopAsyncIteration from None
            raise


class _Run:
    """The workers' common state; changed by them alone, on one event loop."""

    def __init__(self, source: Source, end: End, deliver: Deliver, report: Report, stop: Stop) -> None:
        self._ids = _Ids(source, stop)
        self._end = end
        self._deliver = deliver
        self._report = report
        self._stop = stop
        self._busy: dict[str, asyncio.Event | None] = {}  # ids in flight, and who waits for one
        self._piloted = asyncio.Event()
        self._denied = 0
        self._settled = 0
        self._now = asyncio.get_running_loop().time

    async def go(self, concurrency: int) -> None:
        try:
            async with asyncio.TaskGroup() as workers:
                workers.create_task(self._work())
                with suppress(TimeoutError):
                    async with asyncio.timeout(_PILOT_TIME):  # wait_for may swallow a cancellation here
                        await self._piloted.wait()
                self._piloted.set()  # from now on no id is alone, so none has a second try
                for _ in range(concurrency - 1):
                    workers.create_task(self._work())
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        if self._stop.requested:
            await self._drain()
            if self._ids.left_over or self._report.unsettled:
                self._report.stopped = self._stop.reason

    async def _work(self) -> None:
        try:
            async for item in self._ids:
                target, outcome = _taken_up(item)
                await self._settle(target, outcome or await self._outcome(target))
                self._piloted.set()
        finally:
            self._piloted.set()

    async def _drain(self) -> None:
        for item in self._ids.rest:
            target, _ = _taken_up(item)
            kind = OutcomeKind.UNKNOWN if target.ambiguous else OutcomeKind.NOT_ATTEMPTED
            await self._settle(target, Outcome(target.conference_id, kind, error=self._stop.why))

    async def _settle(self, target: Target, outcome: Outcome) -> None:
        self._report.add(outcome)
        await self._deliver(target, outcome)
        self._settled += 1
        if self._settled % _BREATH == 0:
            await asyncio.sleep(0)

    async def _outcome(self, target: Target) -> Outcome:
        started = self._now()
        try:
            return await self._tried(target)
        except BandwidthError as error:
            self._watch_for_403(error)
            # What an earlier try may have ended is unknown also when nothing could be sent this time.
            kind = OutcomeKind.UNKNOWN if target.ambiguous else kind_of(error)
            elapsed = self._now() - started
            sentence = self._stop.why if kind is OutcomeKind.NOT_ATTEMPTED else None
            calls_ended = error.calls_ended if isinstance(error, HangUpError) else ()
            return Outcome(
                target.conference_id, kind, error.attempts, sentence or str(error), elapsed, calls_ended
            )

    async def _tried(self, target: Target) -> Outcome:
        try:
            return await self._end_alone(target)
        except BandwidthError as error:
            down = kind_of(error) in {OutcomeKind.FAILED, OutcomeKind.UNKNOWN}
            if self._piloted.is_set() or self._stop.requested or not down or isinstance(error, HangUpError):
                raise
            first = error
        self._piloted.set()
        try:
            second = await self._end_alone(evolve(target, ambiguous=target.ambiguous or first.ambiguous))
        except BandwidthError as error:
            if not error.attempts:
                raise first from None
            error.attempts += first.attempts
            raise
        return evolve(second, attempts=first.attempts + second.attempts)

    async def _end_alone(self, target: Target) -> Outcome:
        """End one, while no other worker has the same id in flight."""
        conference_id = target.conference_id
        while conference_id in self._busy:
            waited = self._busy[conference_id] = self._busy[conference_id] or asyncio.Event()
            await waited.wait()
        self._busy[conference_id] = None
        try:
            return await self._end(target, self._stop)
        finally:
            waited_for = self._busy.pop(conference_id)
            if waited_for is not None:
                waited_for.set()

    def _watch_for_403(self, error: BandwidthError) -> None:
        """Stop when every id so far was denied: the account is not ours, and the others would be too."""
        if isinstance(error, PermissionDeniedError):
            self._denied += 1
            if self._denied >= _DENIED and self._report.total == self._report.counts[OutcomeKind.REFUSED]:
                self._stop.request(error)


def _taken_up(item: Item) -> tuple[Target, Outcome | None]:
    """Return what is to end, and its outcome already when it cannot be an id."""
    try:
        return Target.of(item), None
    except ConfigurationError as error:
        return Target(str(item)), Outcome(str(item), OutcomeKind.REFUSED, error=str(error))


class Outcomes:
    """The outcomes of a run as they come, to be iterated over once. ``report`` is their sum so far."""

    def __init__(self, report: Report, queue: asyncio.Queue[Outcome | BaseException | None]) -> None:
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
        """Have the iteration end: nothing comes any more."""
        self._closed = True


async def run(
    source: Source,
    end: End,
    deliver: Deliver,
    close: Callable[[], Awaitable[None]] | None = None,
    *,
    concurrency: int,
    stop: Stop,
    deadline: float | None = None,
    report: Report | None = None,
) -> Report:
    """End every id of ``source`` with ``end``, hand each outcome to ``deliver``, and return the sum.

    ``close`` is awaited last, however the run ends. ``deadline`` (seconds) stops it as ``stop`` does.
    Whatever ``source`` or ``deliver`` raise ends the run and is raised here; no task is left behind then, nor
    after a cancellation.
    """
    if concurrency < 1:
        raise ConfigurationError(
            f"concurrency is how many ids are in work at once, at least 1, not {concurrency}"
        )
    report = report or Report()
    loop = asyncio.get_running_loop()
    started = loop.time()
    late = DeadlineExceededError("the run's deadline came")
    timer = loop.call_later(deadline, stop.request, late) if deadline is not None else None
    try:
        await _Run(source, end, deliver, report, stop).go(concurrency)
    finally:
        report.elapsed = loop.time() - started
        if timer is not None:
            timer.cancel()
        if close is not None:
            await asyncio.shield(close())
    return report


@asynccontextmanager
async def iterate(
    source: Source,
    end: End,
    record: Deliver,
    close: Callable[[], Awaitable[None]] | None = None,
    *,
    concurrency: int,
    stop: Stop,
    deadline: float | None = None,
) -> AsyncIterator[Outcomes]:
    """Give the outcomes of a run as an iterator; leaving the context ends the run at once.

    ``record`` is awaited with each outcome before it is given out, ``close`` last.
    """
    queue: asyncio.Queue[Outcome | BaseException | None] = asyncio.Queue(maxsize=concurrency)
    report = Report()

    async def deliver(target: Target, outcome: Outcome) -> None:
        await record(target, outcome)
        await queue.put(outcome)

    async def drive() -> None:
        last: BaseException | None = None
        try:
            await run(
                source,
                end,
                deliver,
                close,
                concurrency=concurrency,
                stop=stop,
                deadline=deadline,
                report=report,
            )
        except Exception as error:  # it belongs to whoever iterates
            last = error
        await queue.put(last)

    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(drive())
            outcomes = Outcomes(report, queue)
            try:
                yield outcomes
            finally:
                outcomes.close()
                task.cancel()
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None  # the body's own: drive() hands on what it meets
