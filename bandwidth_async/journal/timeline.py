"""The time line of a run: what happened in each second, as a journal keeps it for a report.

A journal has a part for the start of its run and one for each resume. A part has at most `MOST` rows. When
they are full, each two become one, so a row is a second of a short run and some minutes of a long one.

The row that grows is written once a second, beside the outcomes. So ``kill -9`` loses the last second of the
time line at most, and no outcome.
"""

from __future__ import annotations

import asyncio
import json
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Protocol

from attrs import define, field

from bandwidth_async.errors import JournalError
from bandwidth_async.journal import schema
from bandwidth_async.limiter import RateChanged

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from bandwidth_async.limiter import LimiterSnapshot, PaceEvent

    Write = Callable[[schema.Statement, Sequence[schema.Row]], asyncio.Future[None]]

# Rows of a part at most. It is even, since each two become one, and no more than one statement takes.
MOST = 1024

# Seconds. An attempt counts for the first bound that its response did not exceed, or as slower than the last.
LATENCIES = (
    *(0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7),
    *(1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 30.0, 60.0),
)

_TICK = 1.0


class Watched(Protocol):
    """The limiter whose rate and pauses are on the time line."""

    def snapshot(self) -> LimiterSnapshot:
        """Return the state at this moment."""

    def listening(self, listener: Callable[[PaceEvent], object]) -> AbstractContextManager[None]:
        """Call ``listener`` with each event while the context lasts."""


@define(eq=False)
class Moment:
    """What happened in some seconds.

    ``attempts`` got a response or were given up, ``retries`` of them not for the first time. ``refused``
    were told to come later, by a 429 or the like. ``failed`` got a 5xx. ``latency`` counts the responses by
    the index of their bound in `LATENCIES`. ``outcomes`` counts ids by kind, and ``paused`` has seconds by
    the limiter's reason. ``rate`` and ``quota`` are the limiter's at the end, None if they are not known.
    """

    attempts: int = 0
    retries: int = 0
    refused: int = 0
    failed: int = 0
    latency: list[int] = field(factory=lambda: [0] * (len(LATENCIES) + 1))
    outcomes: Counter[str] = field(factory=Counter)
    paused: dict[str, float] = field(factory=dict)
    rate: float | None = None
    quota: float | None = None

    def add(self, other: Moment) -> None:
        """Add a later moment to this one."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.latency = [one + two for one, two in zip(self.latency, other.latency, strict=True)]
        self.outcomes.update(other.outcomes)
        for reason, seconds in other.paused.items():
            self.pause(reason, seconds)
        self.rate = self.rate if other.rate is None else other.rate
        self.quota = self.quota if other.quota is None else other.quota

    def pause(self, reason: str, seconds: float) -> None:
        """Add seconds of a pause."""
        self.paused[reason] = self.paused.get(reason, 0.0) + seconds

    def to_json(self) -> str:
        """Return it as a journal keeps it: without what is zero."""
        facts: dict[str, Any] = {name: getattr(self, name) for name in (*_COUNTS, "rate", "quota")}
        facts["latency"] = {str(index): count for index, count in enumerate(self.latency) if count}
        facts["outcomes"] = self.outcomes
        facts["paused"] = {reason: round(seconds, 3) for reason, seconds in self.paused.items()}
        return json.dumps({name: fact for name, fact in facts.items() if fact}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Moment:
        """Return what `to_json` wrote. Raises one of `WRONG_FACTS` for anything else."""
        facts = json.loads(text)
        attempts, retries, refused, failed = (int(amount(facts.get(name, 0))) for name in _COUNTS)
        moment = cls(attempts, retries, refused, failed)
        for index, count in facts.get("latency", {}).items():
            moment.latency[int(amount(int(index)))] += int(amount(count))
        moment.outcomes.update({kind: int(amount(ids)) for kind, ids in facts.get("outcomes", {}).items()})
        moment.paused.update({reason: amount(span) for reason, span in facts.get("paused", {}).items()})
        for name in ("rate", "quota"):
            setattr(moment, name, amount(facts[name]) if name in facts else None)
        return moment


def amount(value: object) -> float:
    """Return a number of the time line. Raises `ValueError` for what cannot be one."""
    if isinstance(value, int | float) and 0 <= value <= _LARGEST:
        return float(value)
    raise ValueError("a count or a time is no number, or one that cannot be")


# What reading facts that nobody wrote raises. The last two are of times that no calendar has.
WRONG_FACTS = (
    *(ValueError, TypeError, LookupError, AttributeError, RecursionError),
    *(OverflowError, OSError),
)

# Up to here every whole number is a float.
_LARGEST = 2**53

_COUNTS = ("attempts", "retries", "refused", "failed")


@define
class _Row:
    """A row of the time line: when it begins (seconds since the epoch), how long it is, and its facts."""

    at: float
    seconds: float
    facts: str


class Timeline:
    """One part of a time line, as it comes. `begin` it in the event loop of its run, and `end` it.

    ``facts`` are what is known of the part beforehand: the host and the settings, without secrets. ``write``
    is that of the journal, and ``next_part`` returns the number of a part that begins. ``limiter`` is None
    where the requests are sent by others. ``clock`` returns seconds since the epoch.
    """

    def __init__(
        self,
        write: Write,
        next_part: Callable[[], int],
        facts: Mapping[str, object],
        limiter: Watched | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._write = write
        self._next_part = next_part
        self._part = 0
        self._facts = dict(facts)
        self._limiter = limiter
        self._clock = clock
        # The moment that grows. Whoever settles an id counts it in `Moment.outcomes`: a call would cost more.
        self.now: Moment = Moment()
        self._rows: list[_Row] = []
        # How many ticks a row takes, and how many the last one has.
        self._width, self._ticks = 1, 0
        self._began = self._at = 0.0
        self._since = 0.0
        # Since when and until when the limiter pauses, in the time of the loop, and why.
        self._pause: tuple[float, float, str] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._time: Callable[[], float] = time.monotonic
        self._timer: asyncio.TimerHandle | None = None
        self._listening = ExitStack()

    def begin(self) -> None:
        """Begin it. Whoever waits for an outcome hears of a journal that cannot be written.

        Raises `JournalError` if the journal cannot be read.
        """
        self._part = self._next_part()
        self._loop = asyncio.get_running_loop()
        self._time = self._loop.time
        self._began = self._at = self._clock()
        self._since = self._loop.time()
        with suppress(JournalError):
            self._record(schema.PART, [(self._part, self._began, json.dumps(self._facts))])
        if self._limiter is not None:
            self._listening.enter_context(self._limiter.listening(self._on_event))
            self._sample(self._since)
        self._timer = self._loop.call_at(self._since + _TICK, self._tick)

    def answered(self, sent_at: float | None, again: bool) -> None:
        """Count an attempt that got a response now. It was sent at ``sent_at``, in the time of the loop.

        ``again`` says that it was not the first of its request.
        """
        now = self.now
        now.attempts += 1
        now.latency[bisect_left(LATENCIES, self._time() - (sent_at or 0.0))] += 1
        if again:
            now.retries += 1

    def turned_down(self, *, refused: bool, failed: bool) -> None:
        """Count the last response as a refusal for the rate, or as a failure of the server."""
        self.now.refused += refused
        self.now.failed += failed

    def unanswered(self, again: bool) -> None:
        """Count an attempt that got no response."""
        self.now.attempts += 1
        self.now.retries += again

    async def end(self) -> None:
        """End it, and wait until it is on disk. A journal that cannot be written raises nothing here."""
        if self._loop is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._listening.close()
        with suppress(JournalError):
            self._note(self._loop.time())
            ended = {**self._facts, "ended": self._clock()}
            await self._write(schema.PART, [(self._part, self._began, json.dumps(ended))])
        self._loop = None

    def _tick(self) -> None:
        """Write the row that grows, and begin the next when it is full."""
        if self._loop is None:
            return
        now = self._loop.time()
        # Whoever waits for an outcome hears of an error.
        with suppress(JournalError):
            self._note(now)
            self._ticks += 1
            if self._ticks >= self._width:
                self._ticks, self._at, self._since, self.now = 0, self._clock(), now, Moment()
                if len(self._rows) == MOST:
                    self._halve()
                self._rows.append(_Row(self._at, 0.0, "{}"))
            self._timer = self._loop.call_at(now + _TICK, self._tick)

    def _note(self, now: float) -> None:
        """Write the row that grows. Raises `JournalError`."""
        if self._limiter is not None:
            self._sample(now)
        row = _Row(self._at, now - self._since, self.now.to_json())
        self._rows[-1:] = [row]
        self._record(schema.MOMENT, [self._values(len(self._rows) - 1)])

    def _halve(self) -> None:
        """Make one row of each two, on disk in one step, and rows without seconds of what is left over."""
        rows: list[_Row] = []
        for one, two in zip(self._rows[::2], self._rows[1::2], strict=True):
            moment = Moment.from_json(one.facts)
            moment.add(Moment.from_json(two.facts))
            rows.append(_Row(one.at, one.seconds + two.seconds, moment.to_json()))
        self._rows = rows + [_Row(0.0, 0.0, "{}")] * (MOST // 2)
        self._record(schema.MOMENT, [self._values(index) for index in range(MOST)])
        self._rows = rows
        self._width *= 2

    def _values(self, index: int) -> schema.Row:
        row = self._rows[index]
        return (self._part * MOST + index, row.at, row.seconds, row.facts)

    def _record(self, statement: schema.Statement, rows: Sequence[schema.Row]) -> None:
        self._write(statement, rows).add_done_callback(retrieve)

    def _on_event(self, event: PaceEvent) -> None:
        if self._loop is not None and not isinstance(event, RateChanged):
            self._sample(self._loop.time())

    def _sample(self, now: float) -> None:
        """Count the pause so far, and read the limiter."""
        if self._limiter is None:
            return
        if self._pause is not None:
            since, until, reason = self._pause
            self.now.pause(reason, max(0.0, min(now, until) - since))
        seen = self._limiter.snapshot()
        self.now.rate, self.now.quota = seen.rate, seen.quota
        self._pause = (now, now + seen.paused_for, seen.pause_reason) if seen.pause_reason else None


def retrieve(written: asyncio.Future[None]) -> None:
    """Retrieve the error of a write, so that asyncio logs none. The journal raises it at its next use."""
    if not written.cancelled():
        written.exception()
