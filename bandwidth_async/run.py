"""The run: workers end the conferences of one source, and each id gets exactly one outcome.

What always holds
    Memory grows with the number of workers, not with the number of ids (but see `_Firsts`). An id that comes
    again has the outcome of its first, and nothing is sent for it. A worker takes its next id only after
    the outcome of the last one is on record and the caller has been told of it. The outcomes add up to the
    ids: after a stop, the ids that a list still holds become ``not_attempted``. A generator may be endless,
    so it is asked for a bounded number more, and an async source for none, because asking it may cost work.
    A generator that was begun is closed, however the run ends. A report is ``ok`` only if the run has seen
    the end of its source.

The first id is sent ahead of the others, for at most one second. Wrong credentials or a dead host then cost
one request, instead of one for each worker. If the first id fails while it is alone, the run tries it once
more beside the others: only their outcomes can tell a short disturbance from a server that is down.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Sized,
)
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import partial
from operator import length_hint
from typing import NoReturn, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

from attrs import define, evolve

from bandwidth_async.errors import (
    APIError,
    BandwidthError,
    ConfigurationError,
    DeadlineExceededError,
    HangUpError,
)
from bandwidth_async.models import Conference
from bandwidth_async.outcome import Outcome, OutcomeKind, Report, kind_of

_log = logging.getLogger("bandwidth_async.run")

# Seconds that requests in flight have to finish after a stop.
GRACE = 10.0

# Seconds that the first id has before the other workers start.
_FIRST_ALONE = 1.0

# These are about the account or its user, and not about a conference.
DENIALS = frozenset({402, 403})

# The run stops when this many ids in a row were answered so: at its beginning, and later.
_MOST_DENIED, _MOST_DENIED_LATER = 3, 20

# After a stop, a plain source that may be endless is asked for this many ids more, and for so many seconds:
# enough for a generator over some pages of a database.
_MOST_UNSENT = 10_000
_UNSENT_SECONDS = 1.0

# Of a source that may be endless, the run knows at least this many of the last ids again: some 3 MB.
_REMEMBERED = 10_000

# The error of an id that came before with an outcome that has an error.
_DUPLICATE = "this id came before in the run: see its first outcome"

# After this many outcomes the run lets the other tasks of the event loop run. Without that, a run whose
# ids are all answered at once would never yield.
_YIELD_EVERY = 100


# Not frozen, as `wire.Request` is not: that would double what it costs to make one.
@define
class Target:
    """One id of a run, with what is known of its conference beforehand.

    ``existed`` says that a list of conferences contained it. ``ambiguous`` says that an earlier run may have
    ended it without learning the outcome. In both cases a 404 means that the conference has ended.
    ``number`` is its row in the journal, 0 without a journal. ``calls`` are the calls to hang up with it that
    are known so far, also from an earlier run.
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

# Hears of each outcome before the caller does.
Tell = Callable[[Outcome], None]

# How many runs take their ids from a generator. One of them must not close it while another goes on, which
# would take that for the end of its ids.
_takers: WeakKeyDictionary[object, int] = WeakKeyDictionary()

# The outcomes of a run, and behind the last one the error of the run or None.
_Queue = asyncio.Queue[Outcome | BaseException | None]


@runtime_checkable
class Ledger(Protocol):
    """Where a run takes its targets from, and where it records what becomes of them.

    Its targets come to an end, and each id is among them once.

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
    tell: Tell | None = None,
) -> Report:
    """End every conference of ``source`` and return the report.

    ``on_outcome`` is called with each outcome. ``deadline`` (seconds) stops the run, as ``stop`` does. What
    ``source`` or ``on_outcome`` raise ends the run and is raised here, `asyncio.CancelledError` included. No
    task is left behind, neither then nor after a cancellation, and no open generator.
    """
    return await _Run(source, end, on_outcome, stop, tell).complete(concurrency, deadline)


@asynccontextmanager
async def iterate(
    source: Source | Ledger,
    end: End,
    *,
    concurrency: int,
    stop: Stop,
    deadline: float | None = None,
    tell: Tell | None = None,
) -> AsyncIterator[Outcomes]:
    """`run` as an async iterator over the outcomes. Leaving the context ends the run at once."""
    queue: _Queue = asyncio.Queue(maxsize=concurrency)
    one_run = _Run(source, end, queue.put, stop, tell)
    try:
        async with asyncio.TaskGroup() as group:
            outcomes = Outcomes(one_run.report, queue)
            task = group.create_task(
                _complete_into(outcomes, partial(one_run.complete, concurrency, deadline))
            )
            try:
                yield outcomes
            finally:
                outcomes.close()
                task.cancel()
    except BaseExceptionGroup as errors:
        # The only error in the group is the one that the body of the context raised: an error of the run
        # went into the queue.
        raise errors.exceptions[0] from None


async def _complete_into(outcomes: Outcomes, complete: Callable[[], Awaitable[Report]]) -> None:
    """Do the run of these outcomes, and put its error or None behind them."""
    last: BaseException | None = None
    try:
        await complete()
    except (Exception, asyncio.CancelledError, GeneratorExit) as error:
        if outcomes.closed:
            raise
        last = error
    if isinstance(last, StopAsyncIteration):
        # Raised as it is, it would end the iteration in silence.
        last = RuntimeError("the run raised StopAsyncIteration")
    await outcomes.end(last)


class Outcomes:
    """The outcomes of a run as they arrive. ``report`` is their sum so far.

    Several tasks may iterate over them: each outcome goes to one of them, an error of the run to one, and
    the iteration of all of them ends.
    """

    def __init__(self, report: Report, queue: _Queue) -> None:
        self.report = report
        self.closed: bool = False
        self._queue = queue

    def __repr__(self) -> str:
        return f"<Outcomes {dict(self.report.counts)}>"

    def __aiter__(self) -> AsyncIterator[Outcome]:
        return self

    async def __anext__(self) -> Outcome:
        if self.closed:
            raise StopAsyncIteration
        outcome = await self._queue.get()
        if isinstance(outcome, Outcome) and not self.closed:
            return outcome
        self.close()
        if isinstance(outcome, BaseException):
            raise outcome
        raise StopAsyncIteration

    async def end(self, error: BaseException | None) -> None:
        """End the iteration behind the outcomes that were told, with this error if there is one."""
        await self._queue.put(error)

    def close(self) -> None:
        """End the iteration, also for the tasks that wait for the next outcome."""
        self.closed = True
        # Each task that wakes up wakes the next one here. In a full queue, who waits is being woken already.
        if not self._queue.full():
            self._queue.put_nowait(None)


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
    """Iterates over a plain or an async source, until its end or until the stop.

    ``is_finite`` says that a source ends although it has no length.
    """

    def __init__(self, source: Source, stop: Stop, *, is_finite: bool) -> None:
        self._stop = stop
        # Whether the source has come to its end.
        self.exhausted = False
        self._rest: Iterator[Item] = iter(())
        self._async_source: AsyncIterator[Item] | None = None
        if isinstance(source, str | bytes | Conference):
            raise ConfigurationError(
                "a run takes a list of ids, or any other iterable of ids; for one use end_conference"
            )
        if isinstance(source, AsyncIterable):
            self._async_source = aiter(source)
        else:
            self._rest = iter(source)
        self.is_finite = is_finite or _has_length(source)
        items = self._async_source or self._rest
        if isinstance(items, AsyncGenerator | Generator):
            _takers[items] = _takers.get(items, 0) + 1
        # Python forbids two concurrent anext() of one async generator.
        self._turn = asyncio.Lock()

    def __aiter__(self) -> AsyncIterator[Item]:
        return self

    async def __anext__(self) -> Item:
        if self._async_source is not None:
            async with self._turn:
                return await self._next_of(self._async_source)
        if not self._stop.requested and not self.exhausted:
            return self._next_plain()
        raise StopAsyncIteration

    def unsent(self) -> Iterator[Item]:
        """Yield what a plain source still holds after a stop, or a part of it if it may be endless."""
        if self._async_source is not None or self.exhausted:
            return
        now = asyncio.get_running_loop().time
        until = now() + _UNSENT_SECONDS
        for count, item in enumerate(self._rest, 1):
            yield item
            if not self.is_finite and (count >= _MOST_UNSENT or now() > until):
                return
        self.exhausted = True

    async def aclose(self) -> None:
        """Close the source if it is a generator and no other run takes its ids from it.

        Raises what its own cleaning up raises.
        """
        items = self._async_source or self._rest
        if isinstance(items, AsyncGenerator | Generator):
            _takers[items] -= 1
            if _takers[items]:
                return
        await close_generator(items)

    def _next_plain(self) -> Item:
        try:
            for item in self._rest:
                return item
        except StopAsyncIteration as error:
            # It would be taken for the end of the source.
            raise RuntimeError("the source raised StopAsyncIteration") from error
        self.exhausted = True
        raise StopAsyncIteration

    async def _next_of(self, source: AsyncIterator[Item]) -> Item:
        """Return the next item of an async source. A stop interrupts a source that keeps us waiting."""
        if self._stop.requested or self.exhausted:
            raise StopAsyncIteration
        limit = asyncio.timeout(None)

        def interrupt(_: float) -> None:
            if not limit.expired():
                limit.reschedule(asyncio.get_running_loop().time())

        try:
            async with limit:
                with self._stop.listening(interrupt):
                    return await anext(source)
        except TimeoutError:
            if limit.expired():
                raise StopAsyncIteration from None
            raise
        except StopAsyncIteration:
            self.exhausted = True
            raise


class _Firsts:
    """What became of the ids of a run, so that an id that comes again has the outcome of its first.

    It remembers the ids of a source that has a length: some 50 bytes each, beside what the caller keeps of
    them. Of a source that may be endless it remembers the last ``most`` at least, and at most twice as many.
    The unique index of a journal makes sure of the rest.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._new: dict[str, OutcomeKind] = {}
        self._old: dict[str, OutcomeKind] = {}
        # The ids in flight. A worker that has to wait for one puts an event here.
        self.in_flight: dict[str, asyncio.Event | None] = {}

    async def wait_for(self, conference_id: str) -> None:
        """Wait until the outcome of an id in flight is there."""
        free = self.in_flight[conference_id] = self.in_flight[conference_id] or asyncio.Event()
        await free.wait()

    def kind_of(self, conference_id: str) -> OutcomeKind | None:
        """Return what became of an id, or None if it is the first: then it is in flight from now on."""
        kind = self._new.get(conference_id) or self._old.get(conference_id)
        if kind is None:
            self.in_flight[conference_id] = None
        return kind

    def add(self, outcome: Outcome) -> None:
        """Remember the outcome of an id that was in flight."""
        if len(self._new) >= self._most:
            self._old, self._new = self._new, {}
        self._new[outcome.conference_id] = outcome.kind
        waited_for = self.in_flight.pop(outcome.conference_id)
        if waited_for is not None:
            waited_for.set()


class _Run:
    """What the workers of a run share. Only the workers change it, all on one event loop."""

    def __init__(
        self,
        source: Source | Ledger,
        end: End,
        on_outcome: OnOutcome | None,
        stop: Stop,
        tell: Tell | None = None,
    ) -> None:
        self.report = Report(complete=False)
        self._is_finite = isinstance(source, Ledger)
        self._ledger = source if isinstance(source, Ledger) else _Unrecorded(source)
        self._end = end
        self._on_outcome = on_outcome
        self._tell = tell
        self._stop = stop
        self._firsts = _Firsts(_REMEMBERED)
        self._workers: set[asyncio.Task[None]] = set()
        # Set when the worker that was made last has an id or has found none. For the first worker: when its
        # id has its outcome, or is no longer alone.
        self._room = asyncio.Event()
        self._first_done = False
        # What ended a worker: an error of the source, of the caller, or of ours.
        self._error: BaseException | None = None
        self._unrecorded = False
        # Ids that were denied since an id had another outcome, the other outcomes until then, and the denial.
        self._denied = self._others = 0
        self._denial: APIError | None = None
        self._settled = 0
        self._loop = asyncio.get_running_loop()

    async def complete(self, concurrency: int, deadline: float | None) -> Report:
        """Do the whole run and return its report."""
        if concurrency < 1:
            raise ConfigurationError(
                f"concurrency is how many conferences are in progress at once: at least 1, not {concurrency}"
            )
        started = self._loop.time()
        _log.info("a run begins", extra={"concurrency": concurrency})
        late = DeadlineExceededError("the run's deadline came")
        timer = self._loop.call_later(deadline, self._stop.request, late) if deadline is not None else None
        try:
            async with aclosing(_Input(self._ledger.targets(), self._stop, is_finite=self._is_finite)) as ids:
                if ids.is_finite and not self._is_finite:
                    self._firsts = _Firsts(math.inf)
                await self._end_all(ids, concurrency)
        finally:
            self.report.elapsed = self._loop.time() - started
            self._log_end()
            if timer is not None:
                timer.cancel()
            await asyncio.shield(self._ledger.close())
        return self.report

    def _log_end(self) -> None:
        report = self.report
        counts = {str(kind): count for kind, count in report.counts.items()}
        told = ", ".join(f"{kind} {count:,}" for kind, count in counts.items()) or "no ids"
        extra = {"outcomes": counts, "attempts": report.attempts, "elapsed": report.elapsed}
        _log.info("a run ended after %.1f s: %s", report.elapsed, told, extra=extra)

    async def _end_all(self, ids: _Input, concurrency: int) -> None:
        """Let the workers end all ids, and settle what a stop has left of them."""
        try:
            async with asyncio.TaskGroup() as group:
                await self._start(group, ids, concurrency)
        except asyncio.CancelledError:
            # The run is being cancelled, which the workers have heard as `CancelledError`.
            if isinstance(self._error, asyncio.CancelledError):
                self._error = None
            if self._error is None:
                raise
        if self._error is not None:
            self._raise_error(self._error)
        if self._stop.requested:
            for item in ids.unsent():
                await self._take(item, self._outcome_of_unsent)
            if not ids.exhausted or self.report.unsettled or self._unrecorded:
                self.report.stopped = self._stop.reason
        if self._denied == self.report.total:
            self.report.stopped = self.report.stopped or self._denial
        self.report.complete = ids.exhausted

    async def _start(self, group: asyncio.TaskGroup, ids: _Input, concurrency: int) -> None:
        """Make the workers, each when the last one that was made has an id."""
        alone = self._loop.call_later(_FIRST_ALONE, self._no_longer_alone)
        try:
            while len(self._workers) < concurrency and self._error is None:
                self._room.clear()
                worker = group.create_task(self._work(ids))
                self._workers.add(worker)
                await self._room.wait()
                if ids.exhausted or self._stop.requested:
                    return
        finally:
            alone.cancel()

    def _no_longer_alone(self) -> None:
        """Let the other workers start. From now on no id is alone, so none is tried a second time."""
        self._first_done = True
        self._room.set()

    async def _work(self, ids: _Input) -> None:
        """Be one worker: end ids one after the other."""
        try:
            async for item in ids:
                if self._first_done:
                    self._room.set()
                await self._take(item, self._outcome_of)
                if not self._first_done:
                    self._no_longer_alone()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            self._fail(error)
        finally:
            self._no_longer_alone()

    def _fail(self, error: BaseException) -> None:
        """End the other workers because of the error of one, which `_end_all` raises.

        A task group would do that too, but it takes a worker that raises `CancelledError` for one that was
        cancelled on purpose, and before Python 3.13 it leaves a cancellation of the caller's task behind.
        """
        cancelled = isinstance(error, asyncio.CancelledError)
        if self._error is None or (isinstance(self._error, asyncio.CancelledError) and not cancelled):
            self._error = error
        for worker in self._workers:
            if not worker.cancelling():
                worker.cancel()

    def _raise_error(self, error: BaseException) -> NoReturn:
        # No cycle through the frames of the traceback may keep what the source holds open.
        self._error = None
        try:
            raise error
        finally:
            del error

    async def _take(self, item: Item, outcome_of: Callable[[Target], Awaitable[Outcome]]) -> None:
        """Settle one item of the source: as its first was settled, if its id has come before."""
        target, outcome = _target_of(item)
        if outcome is not None:
            await self._settle(target, outcome)
            return
        while target.conference_id in self._firsts.in_flight:
            await self._firsts.wait_for(target.conference_id)
        kind = self._firsts.kind_of(target.conference_id)
        if kind is not None:
            error = None if kind in {OutcomeKind.ENDED, OutcomeKind.ALREADY_ENDED} else _DUPLICATE
            await self._settle(target, Outcome(target.conference_id, kind, error=error))
            return
        outcome = await outcome_of(target)
        await self._settle(target, outcome)
        self._firsts.add(outcome)

    async def _outcome_of_unsent(self, target: Target) -> Outcome:
        """Return the outcome of an id that a stop kept from being sent."""
        kind = OutcomeKind.UNKNOWN if target.ambiguous else OutcomeKind.NOT_ATTEMPTED
        return Outcome(target.conference_id, kind, error=self._stop.why)

    async def _settle(self, target: Target, outcome: Outcome) -> None:
        """Count an outcome, record it, then tell it: to the hook also if the run is cancelled meanwhile."""
        self.report.add(outcome)
        try:
            await self._ledger.settle(target, outcome)
        except BandwidthError as error:
            self._unrecorded = True
            self._stop.request(error)
        finally:
            if self._tell is not None:
                self._tell(outcome)
        if self._on_outcome is not None:
            told = self._on_outcome(outcome)
            if inspect.isawaitable(told):
                await told
        self._settled += 1
        if self._settled % _YIELD_EVERY == 0:
            await asyncio.sleep(0)

    async def _outcome_of(self, target: Target) -> Outcome:
        """End one conference. An error becomes an outcome here."""
        started, begun = self._loop.time(), False
        try:
            await self._ledger.begin(target)
            begun = True
            try:
                return await self._end(target, self._stop)
            except BandwidthError as error:
                if not self._may_be_tried_anew(error):
                    raise
                first = error
            return await self._end_anew(target, first)
        except BandwidthError as error:
            if not begun:
                self._stop.request(error)
            self._stop_if_all_are_denied(error)
            return self._outcome_of_error(target, error, self._loop.time() - started)

    def _outcome_of_error(self, target: Target, error: BandwidthError, elapsed: float) -> Outcome:
        # An earlier run may have ended an ambiguous target. It stays unknown if nothing could be sent for it
        # this time. Otherwise the error tells whether it is still open.
        unsent, stopped = target.ambiguous and not error.attempts, self._stop.requested
        kind = OutcomeKind.UNKNOWN if unsent else kind_of(error, stopped=stopped)
        sentence = self._stop.why if kind is OutcomeKind.NOT_ATTEMPTED else None
        calls_ended = error.calls_ended if isinstance(error, HangUpError) else ()
        return Outcome(
            target.conference_id, kind, error.attempts, sentence or str(error), elapsed, calls_ended
        )

    def _may_be_tried_anew(self, error: BandwidthError) -> bool:
        """Return whether the id was the first of the run and alone when it failed."""
        if self._first_done or self._stop.requested or isinstance(error, HangUpError):
            return False
        return kind_of(error) in {OutcomeKind.FAILED, OutcomeKind.UNKNOWN}

    async def _end_anew(self, target: Target, first: BandwidthError) -> Outcome:
        """End the first conference of the run once more, together with the others."""
        self._no_longer_alone()
        try:
            second = await self._end(
                evolve(target, ambiguous=target.ambiguous or first.ambiguous), self._stop
            )
        except BandwidthError as error:
            if not error.attempts:
                raise first from None
            error.attempts += first.attempts
            raise
        return evolve(second, attempts=first.attempts + second.attempts)

    def _stop_if_all_are_denied(self, error: BandwidthError) -> None:
        """Stop when ids are denied one after the other: then the account or its user may do nothing."""
        if isinstance(error, APIError) and error.status in DENIALS and not error.transient:
            self._denial = error
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


async def close_generator(items: Iterator[Item] | AsyncIterator[Item]) -> None:
    """Close what iterates over a source, if it is a generator. Raises what its own cleaning up raises."""
    if isinstance(items, AsyncGenerator):
        await items.aclose()
    elif isinstance(items, Generator):
        items.close()


def _has_length(source: Source) -> bool:
    """Return whether a plain source is known to end: a list does, a generator may not."""
    return isinstance(source, Sized) or length_hint(source, -1) >= 0
