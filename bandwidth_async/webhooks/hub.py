"""Events reach the code that waits for them here, in one process.

Events come twice, out of order, and sometimes before you wait for them; some never come. So the hub counts
an event once, remembers the newest of each kind of a conference for a while, and gives every wait a limit.

A hub belongs to one event loop, so call it only there. From another thread, use
``loop.call_soon_threadsafe(hub.publish, event)``.
"""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

from attrs import field, frozen

from bandwidth_async.errors import ConfigurationError, DeadlineExceededError
from bandwidth_async.validators import above_zero, at_least
from bandwidth_async.webhooks.events import KINDS, ConferenceCompleted, ConferenceEvent, Event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable

E = TypeVar("E", bound=ConferenceEvent)
K = TypeVar("K", bound="Hashable")
V = TypeVar("V")

_log = logging.getLogger("bandwidth_async.webhooks")


@frozen(kw_only=True)
class Memory:
    """How much is remembered: at most ``size`` entries, each for at most ``age`` seconds."""

    size: int = field(default=10_000, validator=at_least(1, "entries"))
    age: float = field(default=900.0, validator=above_zero("seconds"))


class Recent(Generic[K, V]):
    """The newest entries, as many and for as long as ``memory`` says. The oldest is forgotten first.

    Time is passed in, from any clock that never goes back.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        # Oldest first. Changed by put, forget and _expire.
        self._entries: dict[K, tuple[float, V]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K, now: float) -> V | None:
        """Return the value of ``key``, or None when there is none that is young enough."""
        since, value = self._entries.get(key, (-math.inf, None))
        return value if now - since < self._memory.age else None

    def put(self, key: K, value: V, now: float) -> None:
        """Remember a value as the newest."""
        self._entries.pop(key, None)
        self._entries[key] = (now, value)
        self._expire(now)

    def forget(self, key: K, value: V) -> None:
        """Forget this value. If another value has replaced it, that one stays."""
        if self._entries.get(key, (0.0, None))[1] is value:
            del self._entries[key]

    def _expire(self, now: float) -> None:
        while len(self._entries) > self._memory.size or now - self._oldest() >= self._memory.age:
            del self._entries[next(iter(self._entries))]

    def _oldest(self) -> float:
        return next(iter(self._entries.values()))[0]


class Deduplicator:
    """Tells a new event from one that came before.

    Bandwidth gives events no id, and sends one again when the connection failed. Equal events have an equal
    ``key``. The deduplicator remembers 10,000 events for 15 minutes (`Memory`), which is about 5 MB. An event
    that comes again after it was forgotten counts as new.
    """

    def __init__(self, memory: Memory | None = None) -> None:
        self._seen: Recent[Hashable, bool] = Recent(memory or Memory())

    def __repr__(self) -> str:
        return f"<Deduplicator of {len(self._seen)} events>"

    def __len__(self) -> int:
        return len(self._seen)

    def is_new(self, event: Event, *, now: float) -> bool:
        """Return whether ``event`` comes for the first time, and remember it. ``now`` is in seconds."""
        if self._seen.get(event.key, now):
            return False
        self._seen.put(event.key, True, now)
        return True


class Expectation(Generic[E]):
    """One event that your code waits for. The first event that fits meets it."""

    def __init__(self, conference_id: str, kind: type[E]) -> None:
        self._conference_id = conference_id
        self._kind = kind
        # Changed in meet().
        self._met: asyncio.Future[E] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        state = "met" if self.met else "not met"
        return f"<Expectation of {self._kind.__name__} of {self._conference_id}: {state}>"

    @property
    def met(self) -> bool:
        """Whether the event has come."""
        return self._met.done()

    def meet(self, event: ConferenceEvent) -> None:
        """Accept the event if it fits and is the first."""
        if isinstance(event, self._kind) and not self.met:
            self._met.set_result(event)

    async def event(self, *, deadline: float | None) -> E:
        """Return the event once it comes. Several tasks may wait for it.

        Raises `DeadlineExceededError` after ``deadline`` seconds. With None it waits for ever, so use None
        with care: webhooks can get lost. Raises `ConfigurationError` for a deadline below 0.
        """
        if deadline is not None and not deadline >= 0:
            raise ConfigurationError(f"deadline is a number of seconds, at least 0, or None: {deadline!r}")
        await asyncio.wait([self._met], timeout=None if deadline == math.inf else deadline)
        if self.met:
            return self._met.result()
        raise DeadlineExceededError(
            f"no {self._kind.__name__} of {self._conference_id} came within {deadline:g} s; "
            "webhooks can get lost, so ask get_conference for the state"
        )


class Listener:
    """Iterate over it to get events as they come. ``dropped`` counts those that did not fit its queue."""

    def __init__(self, limit: int) -> None:
        # Changed in put().
        self.dropped: int = 0
        self._events: asyncio.Queue[Event | None] = asyncio.Queue(limit)
        self._closed = False

    def __repr__(self) -> str:
        return f"<Listener: {self._events.qsize()} to come, {self.dropped} dropped>"

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        event = None if self._closed else await self._events.get()
        if event is None:
            # Several tasks may iterate: closing again wakes the next of them.
            self.close()
            raise StopAsyncIteration
        return event

    def put(self, event: Event | None) -> None:
        """Add an event. When the queue is full, drop the oldest event in it."""
        if self._events.full():
            self._events.get_nowait()
            if event is not None and not self.dropped:
                _log.warning("a listener is %d events behind: events are dropped", self._events.maxsize)
            self.dropped += event is not None
        self._events.put_nowait(event)

    def close(self) -> None:
        """End the iteration."""
        self._closed = True
        self.put(None)


class EventHub:
    """Gives events to the code that waits for them. Pass its ``publish`` to a handler as ``receive``.

    ``memory`` limits two things: how many events are recognised when they come again, and how many (the
    newest of each kind of a conference) you can still wait for afterwards. The default, 10,000 for 15
    minutes, is about 20 MB. An event keeps its body, and its texts once more in up to four bytes a character.
    So a hostile sender can make each event about five times the body limit of the handler.
    """

    def __init__(self, *, memory: Memory | None = None) -> None:
        self._seen = Deduplicator(memory)
        self._newest: Recent[tuple[str, str], ConferenceEvent] = Recent(memory or Memory())
        # Changed in expecting().
        self._expected: dict[str, set[Expectation[ConferenceEvent]]] = {}
        # Changed in listen().
        self._listeners: set[Listener] = set()

    def __repr__(self) -> str:
        waiting = sum(len(some) for some in self._expected.values())
        return f"<EventHub: {waiting} waiting, {len(self._listeners)} listening, {len(self._newest)} kept>"

    def publish(self, event: Event) -> None:
        """Give an event to all that wait for it and to all listeners. Ignore one that came before."""
        now = asyncio.get_running_loop().time()
        if not self._seen.is_new(event, now=now):
            return
        if isinstance(event, ConferenceEvent):
            self._keep(event, now)
            for expectation in self._expected.get(event.conference_id, ()):
                expectation.meet(event)
        for listener in self._listeners:
            listener.put(event)

    async def completed(self, conference_id: str, *, deadline: float | None = None) -> ConferenceCompleted:
        """Return the event that proves the end of a conference, even when it came shortly before.

        Raises `DeadlineExceededError` after ``deadline`` seconds. Without one it waits for ever: then await
        it inside a timeout of your own, as webhooks can get lost.
        """
        return await self.wait(conference_id, ConferenceCompleted, deadline=deadline)

    async def wait(self, conference_id: str, kind: type[E], *, deadline: float | None) -> E:
        """Return an event of ``kind``: the newest one that the hub remembers, or the next to come.

        Raises `DeadlineExceededError` after ``deadline`` seconds. None means no limit. To see every event,
        use `listen`.
        """
        async with self.expecting(conference_id, kind) as expectation:
            return await expectation.event(deadline=deadline)

    @asynccontextmanager
    async def expecting(self, conference_id: str, kind: type[E]) -> AsyncIterator[Expectation[E]]:
        """Start waiting for an event before you send the request that causes it.

        ``async with hub.expecting(id, ConferenceCompleted) as expected``, then send the request inside and
        await ``expected.event(…)``. You do not miss the event, however many others come meanwhile. Raises
        `ConfigurationError` if ``kind`` is no type of conference event.
        """
        if not issubclass(kind, ConferenceEvent):
            raise ConfigurationError(f"kind is a type of conference event, not {kind.__name__}")
        expectation: Expectation[E] = Expectation(conference_id, kind)
        for event in self._kept(conference_id):
            expectation.meet(event)
        expected = self._expected.setdefault(conference_id, set())
        expected.add(expectation)  # type: ignore[arg-type]  # it accepts only events of its own kind
        try:
            yield expectation
        finally:
            expected.discard(expectation)
            if not expected:
                self._expected.pop(conference_id, None)

    @asynccontextmanager
    async def listen(self, *, limit: int = 1000) -> AsyncIterator[Listener]:
        """Yield every event from now on: ``async with hub.listen() as events: async for event in events: …``

        Each listener has its own queue of ``limit`` events, so a slow or failing listener delays no other.
        When the queue is full, the oldest event is dropped and counted in ``dropped``. The first drop is
        logged. Raises `ConfigurationError` for a limit below 1.
        """
        if limit < 1:
            raise ConfigurationError(f"limit is a number of queued events, at least 1, not {limit}")
        listener = Listener(limit)
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            listener.close()

    def _keep(self, event: ConferenceEvent, now: float) -> None:
        key = (event.conference_id, event.event_type)
        kept = self._newest.get(key, now)
        if kept is None or kept.event_time <= event.event_time:
            self._newest.put(key, event, now)

    def _kept(self, conference_id: str) -> list[ConferenceEvent]:
        """Return the remembered events of a conference, the newest first."""
        now = asyncio.get_running_loop().time()
        found = [self._newest.get((conference_id, event_type), now) for event_type in KINDS]
        events = [event for event in found if event is not None]
        return sorted(events, key=lambda event: event.event_time, reverse=True)
