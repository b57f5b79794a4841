"""Where events meet those who wait for them, in one process.

Events come twice, out of order, and sometimes before anybody waits; some never come. So an event counts
once, the newest of each kind of a conference is remembered for a while, and every wait has a limit.

A hub belongs to one event loop, and all of it is called there; from another thread, use
``loop.call_soon_threadsafe(hub.publish, event)``.
"""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

from bandwidth_async.errors import ConfigurationError, DeadlineExceededError
from bandwidth_async.webhooks.deduplication import Deduplicator, Memory, Recent
from bandwidth_async.webhooks.events import KINDS, ConferenceCompleted, ConferenceEvent, Event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

E = TypeVar("E", bound=ConferenceEvent)

_log = logging.getLogger("bandwidth_async.webhooks")


class Expectation(Generic[E]):
    """One event that is waited for. It is met once, by the first that fits."""

    def __init__(self, conference_id: str, kind: type[E]) -> None:
        self._conference_id = conference_id
        self._kind = kind
        self._met: asyncio.Future[E] = asyncio.get_running_loop().create_future()  # changed in meet()

    def __repr__(self) -> str:
        state = "met" if self.met else "not met"
        return f"<Expectation of {self._kind.__name__} of {self._conference_id}: {state}>"

    @property
    def met(self) -> bool:
        """Whether the event has come."""
        return self._met.done()

    def meet(self, event: ConferenceEvent) -> None:
        """Take the event when it fits and is the first."""
        if isinstance(event, self._kind) and not self.met:
            self._met.set_result(event)

    async def event(self, *, deadline: float | None) -> E:
        """Return the event once it comes; several tasks may wait for it.

        Raises `DeadlineExceededError` after ``deadline`` seconds; None waits for ever, and webhooks can get
        lost.
        """
        if deadline is not None and not deadline >= 0:
            raise ConfigurationError(f"deadline is a number of seconds, at least 0, or None: {deadline!r}")
        await asyncio.wait([self._met], timeout=None if deadline == math.inf else deadline)
        if self.met:
            return self._met.result()
        raise DeadlineExceededError(
            f"no {self._kind.__name__} of {self._conference_id} came within {deadline:g} s; "
            "webhooks can get lost: get_conference tells how things are"
        )


class Listener:
    """Events as they come, to be iterated over; ``dropped`` counts those that were lost on the way."""

    def __init__(self, limit: int) -> None:
        self.dropped: int = 0  # changed in put()
        self._events: asyncio.Queue[Event | None] = asyncio.Queue(limit)
        self._closed = False

    def __repr__(self) -> str:
        return f"<Listener: {self._events.qsize()} to come, {self.dropped} dropped>"

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        event = None if self._closed else await self._events.get()
        if event is None:
            self.close()  # wakes the next of several that iterate
            raise StopAsyncIteration
        return event

    def put(self, event: Event | None) -> None:
        """Add an event; when there is no room, the oldest one that nobody took yet is dropped."""
        if self._events.full():
            self._events.get_nowait()
            if event is not None and not self.dropped:
                _log.warning("a listener is %d events behind: events are dropped", self._events.maxsize)
            self.dropped += event is not None
        self._events.put_nowait(event)

    def close(self) -> None:
        """Have the iteration end: nothing comes any more."""
        self._closed = True
        self.put(None)


class EventHub:
    """Hands events to those who wait for them: ``publish`` is a receiver for the handlers of this package.

    ``memory`` is how many events are known again, and how many (the newest of each kind of a conference)
    can still be waited for afterwards; 10,000 for 15 minutes unless told otherwise, which is
    about 20 MB. An event keeps its body, and its texts once more in up to four bytes a character: a hostile
    sender can make each about five times the body limit of the handler.
    """

    def __init__(self, *, memory: Memory | None = None) -> None:
        self._seen = Deduplicator(memory)
        self._newest: Recent[tuple[str, str], ConferenceEvent] = Recent(memory or Memory())
        self._expected: dict[str, set[Expectation[ConferenceEvent]]] = {}  # changed in expecting()
        self._listeners: set[Listener] = set()  # changed in listen()

    def __repr__(self) -> str:
        waiting = sum(len(some) for some in self._expected.values())
        return f"<EventHub: {waiting} waiting, {len(self._listeners)} listening, {len(self._newest)} kept>"

    def publish(self, event: Event) -> None:
        """Give an event to all who wait for it and all who listen. One that came before is ignored."""
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
        """Return the event that proves the end of a conference, also one that came shortly before.

        Without a ``deadline`` (seconds) it waits for ever: then await it inside a limit of your own, as
        webhooks can get lost. Raises `DeadlineExceededError` when the time is over.
        """
        return await self.wait(conference_id, ConferenceCompleted, deadline=deadline)

    async def wait(self, conference_id: str, kind: type[E], *, deadline: float | None) -> E:
        """Return an event of ``kind``: the newest one that is remembered, or the next to come.

        Raises `DeadlineExceededError` after ``deadline`` seconds, None for no limit. To see every event,
        use `listen`.
        """
        async with self.expecting(conference_id, kind) as expectation:
            return await expectation.event(deadline=deadline)

    @asynccontextmanager
    async def expecting(self, conference_id: str, kind: type[E]) -> AsyncIterator[Expectation[E]]:
        """Wait for an event from before the request that causes it: end the conference inside.

        ``async with hub.expecting(id, ConferenceCompleted) as expected``, then ``expected.event(…)``.
        However many other events come meanwhile, this one is not missed.
        """
        if not issubclass(kind, ConferenceEvent):
            raise ConfigurationError(f"kind is a type of conference event, not {kind.__name__}")
        expectation: Expectation[E] = Expectation(conference_id, kind)
        for event in self._kept(conference_id):
            expectation.meet(event)
        expected = self._expected.setdefault(conference_id, set())
        expected.add(expectation)  # type: ignore[arg-type]  # it takes only events that fit
        try:
            yield expectation
        finally:
            expected.discard(expectation)
            if not expected:
                self._expected.pop(conference_id, None)

    @asynccontextmanager
    async def listen(self, *, limit: int = 1000) -> AsyncIterator[Listener]:
        """Give every event from now on: ``async with hub.listen() as events: async for event in events: …``

        Each listener has a queue of ``limit`` events of its own, so a slow or failing one holds up nobody.
        When it is full the oldest event is dropped, counted in ``dropped``, and the first time logged.
        """
        if limit < 1:
            raise ConfigurationError(f"limit is how many events may be waiting, at least 1, not {limit}")
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
        """Return what is remembered of a conference, the newest first."""
        now = asyncio.get_running_loop().time()
        found = [self._newest.get((conference_id, event_type), now) for event_type in KINDS]
        events = [event for event in found if event is not None]
        return sorted(events, key=lambda event: event.event_time, reverse=True)
