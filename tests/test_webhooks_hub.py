"""The event hub and the deduplicator: events twice, out of order, early, late and many, in virtual time."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import math
import tracemalloc
from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.errors import ConfigurationError, DeadlineExceededError
from bandwidth_async.webhooks import (
    ConferenceCompleted,
    ConferenceCreated,
    ConferenceEvent,
    ConferenceMemberExit,
    ConferenceMemberJoin,
    Deduplicator,
    Event,
    EventHub,
    Memory,
    Reception,
    UnknownEvent,
)
from bandwidth_async.webhooks.events import BODY_LIMIT
from bandwidth_async.webhooks.hub import Recent

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.looptime

TIME = datetime(2026, 11, 22, tzinfo=UTC)


def completed(conference: str = "conf-1", second: int = 0) -> ConferenceCompleted:
    """Return the event that proves an end."""
    return ConferenceCompleted(conference_id=conference, event_time=TIME + timedelta(seconds=second))


def joined(call: str, second: int = 0, conference: str = "conf-1") -> ConferenceMemberJoin:
    """Return the event of a call that joined."""
    return ConferenceMemberJoin(
        conference_id=conference, event_time=TIME + timedelta(seconds=second), call_id=call
    )


def now() -> float:
    """Return the virtual time, which starts at 0."""
    return asyncio.get_running_loop().time()


def empty(hub: EventHub) -> bool:
    """Return whether the hub has no waiting and no listening code left."""
    return repr(hub).startswith("<EventHub: 0 waiting, 0 listening, ")


async def waiting(
    hub: EventHub, *conferences: str, **options: Any
) -> list[asyncio.Task[ConferenceCompleted]]:
    """Return tasks that wait for the end of conferences, and have begun to."""
    tasks = [asyncio.ensure_future(hub.completed(conference, **options)) for conference in conferences]
    await asyncio.sleep(0)
    return tasks


async def test_who_waits_gets_the_event() -> None:
    """Every wait for it gets it, and no other wait."""
    hub = EventHub()
    first, second, other = await waiting(hub, "conf-1", "conf-1", "conf-2")
    assert repr(hub) == "<EventHub: 3 waiting, 0 listening, 0 kept>"
    hub.publish(completed())
    assert [await first, await second] == [completed(), completed()]
    assert not other.done()
    hub.publish(completed("conf-2"))
    assert await other == completed("conf-2")
    assert empty(hub)


async def test_an_event_of_another_kind_is_not_it() -> None:
    """Joining does not prove the end."""
    hub = EventHub()
    (task,) = await waiting(hub, "conf-1")
    hub.publish(joined("c-1"))
    hub.publish(UnknownEvent(event_type="conferenceCompleted2", conference_id="conf-1"))
    await asyncio.sleep(1)
    assert not task.done()
    hub.publish(completed())
    assert await task == completed()


async def test_an_event_that_came_before_counts() -> None:
    """The webhook may be faster than the response to the request that caused it."""
    hub = EventHub()
    hub.publish(completed())
    await asyncio.sleep(899)
    assert await hub.completed("conf-1") == completed()
    assert now() == 899


async def test_it_counts_for_a_while_only() -> None:
    """The hub forgets it after the age in its memory."""
    hub = EventHub()
    hub.publish(completed())
    await asyncio.sleep(900)
    with pytest.raises(DeadlineExceededError):
        await hub.completed("conf-1", deadline=1)


NAMES = {"eventType": "conferenceCompleted", "eventTime": "2026-11-22T10:00:00Z"}
HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "many objects": lambda head: head + b',"z":[' + b",".join([b"{}"] * 21_000) + b"]}",
    "many names": lambda head: head + b"".join(b',"%d":1' % number for number in range(7000)) + b"}",
    "wide text": lambda head: head + f',"tag":"\U0001f600{65_000 * "x"}"}}'.encode(),
    "many names in a query": lambda head: head + b"".join(b"&%d=" % number for number in range(9000)),
}


@pytest.mark.parametrize("attack", HOSTILE)
async def test_what_a_hostile_sender_has_remembered_is_bounded(attack: str) -> None:
    """An event takes at most five times the body limit, whatever its properties."""
    hub = EventHub()
    reception = Reception(hub.publish, auth=None)

    async def send(conference: str) -> None:
        properties = {**NAMES, "conferenceId": conference}
        as_query = attack.endswith("query")
        head = urlencode(properties) if as_query else json.dumps(properties)[:-1]
        whole = HOSTILE[attack](head.encode())
        assert BODY_LIMIT * 0.7 < len(whole) <= BODY_LIMIT

        async def read(_: int) -> bytes:
            return whole

        method, query = ("GET", whole.decode()) if as_query else ("POST", "")
        reply = await reception.answer(method=method, authorization=None, query=query, read=read)
        assert reply.status == 204

    await send("c-0")
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(1, 5):
            await send(f"c-{number}")
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert 4 * 0.7 * BODY_LIMIT < kept < 4 * 5 * BODY_LIMIT
    event = await hub.completed("c-4")
    assert event.raw.items() >= {**NAMES, "conferenceId": "c-4"}.items()


async def test_memory_has_a_size() -> None:
    """The hub forgets the oldest, so memory does not grow with the number of conferences."""
    hub = EventHub(memory=Memory(size=100))
    for number in range(1000):
        hub.publish(completed(f"conf-{number}"))
    assert repr(hub) == "<EventHub: 0 waiting, 0 listening, 100 kept>"
    assert await hub.completed("conf-900", deadline=0) == completed("conf-900")
    with pytest.raises(DeadlineExceededError):
        await hub.completed("conf-899", deadline=0)


async def test_waits_that_are_over_leave_nothing() -> None:
    """The hub keeps no entry for a conference after its last wait."""
    hub = EventHub()
    for number in range(100):
        with pytest.raises(DeadlineExceededError):
            await hub.completed(f"conf-{number}", deadline=0)
    assert vars(hub)["_expected"] == {}


async def test_what_is_expected_is_not_missed_however_many_come() -> None:
    """An expectation keeps its event, however many others come."""
    hub = EventHub(memory=Memory(size=1))
    async with hub.expecting("conf-1", ConferenceCompleted) as expected:
        hub.publish(completed())
        for number in range(2, 50):
            hub.publish(completed(f"conf-{number}"))
        assert expected.met
        assert await expected.event(deadline=0) == completed()
    assert empty(hub)


async def test_a_wait_ends_at_its_deadline() -> None:
    """The error says what did not come, and that this proves nothing."""
    hub = EventHub()
    with pytest.raises(DeadlineExceededError) as caught:
        await hub.completed("conf-1", deadline=30)
    assert str(caught.value) == (
        "no ConferenceCompleted of conf-1 came within 30 s; "
        "webhooks can get lost, so ask get_conference for the state"
    )
    assert now() == 30
    assert empty(hub)


@pytest.mark.parametrize("deadline", [None, math.inf])
async def test_a_wait_may_be_endless(deadline: float | None) -> None:
    """You can put a timeout of your own around it."""
    hub = EventHub()
    (task,) = await waiting(hub, "conf-1", deadline=deadline)
    await asyncio.sleep(1e6)
    hub.publish(completed())
    assert await task == completed()


async def test_an_event_at_the_deadline_is_not_lost() -> None:
    """If both come in one turn of the loop, the event wins."""
    hub = EventHub()
    asyncio.get_running_loop().call_at(5, hub.publish, completed())
    assert await hub.completed("conf-1", deadline=5) == completed()


@pytest.mark.parametrize("wrong", [-1, math.nan])
async def test_a_deadline_that_is_none_is_refused(wrong: float) -> None:
    """It is refused before the wait."""
    with pytest.raises(ConfigurationError, match="deadline is a number of seconds"):
        await EventHub().completed("conf-1", deadline=wrong)


async def test_a_cancelled_wait_leaves_nothing_and_harms_nobody() -> None:
    """The hub forgets it, and other waits for the same event go on."""
    hub = EventHub()
    first, second = await waiting(hub, "conf-1", "conf-1")
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled()
    hub.publish(completed())
    assert await second == completed()
    assert empty(hub)


async def test_an_expectation_can_be_waited_for_by_several() -> None:
    """A task that gives up or is cancelled takes nothing from the others."""
    hub = EventHub()
    async with hub.expecting("conf-1", ConferenceCompleted) as expected:
        patient = asyncio.ensure_future(expected.event(deadline=None))
        cancelled = asyncio.ensure_future(expected.event(deadline=None))
        with pytest.raises(DeadlineExceededError):
            await expected.event(deadline=1)
        cancelled.cancel()
        await asyncio.sleep(1)
        hub.publish(completed())
        assert await patient == await expected.event(deadline=0) == completed()
    assert repr(expected) == "<Expectation of ConferenceCompleted of conf-1: met>"


async def test_the_newest_of_a_kind_is_remembered() -> None:
    """Newest by the event's time, not by its arrival: an older one that comes late changes nothing."""
    hub = EventHub()
    for event in (joined("c-1", 1), joined("c-3", 3), joined("c-2", 2)):
        hub.publish(event)
    assert await hub.wait("conf-1", ConferenceMemberJoin, deadline=0) == joined("c-3", 3)


async def test_any_event_of_a_conference_can_be_waited_for() -> None:
    """The base class fits every kind, and the newest remembered event counts."""
    hub = EventHub()
    hub.publish(completed(second=5))
    hub.publish(joined("c-1", 4))
    assert await hub.wait("conf-1", ConferenceEvent, deadline=0) == completed(second=5)


@pytest.mark.parametrize("kind", [UnknownEvent, str])
async def test_a_kind_that_never_comes_is_refused(kind: Any) -> None:
    """Otherwise the wait would never end."""
    with pytest.raises(ConfigurationError, match="kind is a type of conference event"):
        await EventHub().wait("conf-1", kind, deadline=1)


async def test_listeners_get_every_event_once() -> None:
    """Each listener gets all events, unknown kinds too, in the order of arrival."""
    hub = EventHub()
    events: list[Event] = [completed(), joined("c-1"), UnknownEvent(event_type="tea")]
    async with hub.listen() as one, hub.listen() as two:
        for event in (*events, *events):
            hub.publish(event)
        for listener in (one, two):
            assert [await anext(listener) for _ in events] == events
            assert repr(listener) == "<Listener: 0 to come, 0 dropped>"
    assert empty(hub)


async def test_a_failing_listener_touches_nobody() -> None:
    """Its error does not reach the others."""
    hub = EventHub()
    heard: Counter[Event] = Counter()

    async def fail() -> None:
        async with hub.listen() as events:
            async for _ in events:
                raise RuntimeError("my own")

    async def hear() -> None:
        async with hub.listen() as events:
            async for event in events:
                heard.update([event])

    failing, hearing = asyncio.ensure_future(fail()), asyncio.ensure_future(hear())
    await asyncio.sleep(0)
    for call in ("c-1", "c-2", "c-3"):
        hub.publish(joined(call))
        await asyncio.sleep(1)
    with pytest.raises(RuntimeError, match="my own"):
        await failing
    hearing.cancel()
    await asyncio.wait([hearing])
    assert heard == {joined("c-1"): 1, joined("c-2"): 1, joined("c-3"): 1}
    assert empty(hub)


async def test_a_slow_listener_loses_the_oldest_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Publishing never waits for it, memory does not grow, and the log says so once."""
    hub = EventHub()
    async with hub.listen(limit=3) as slow, hub.listen() as fast:
        for second in range(10):
            hub.publish(completed(second=second))
        assert (slow.dropped, fast.dropped) == (7, 0)
        assert [await anext(slow) for _ in range(3)] == [completed(second=second) for second in (7, 8, 9)]
    assert caplog.record_tuples == [
        ("bandwidth_async.webhooks", logging.WARNING, "a listener is 3 events behind: events are dropped")
    ]


@pytest.mark.parametrize("events", [0, 2])
async def test_listening_ends_with_its_context(events: int) -> None:
    """Another task that iterates ends too, whether the queue is empty or full."""
    hub = EventHub()
    async with hub.listen(limit=2) as listener:
        for second in range(events):
            hub.publish(completed(second=second))
    for _ in range(3):
        with pytest.raises(StopAsyncIteration):
            await anext(listener)
    assert listener.dropped == 0


async def test_all_that_iterate_over_a_listener_end() -> None:
    """So do those that were waiting when it was closed."""
    hub = EventHub()
    async with hub.listen(limit=1) as listener:

        async def count() -> int:
            return len([event async for event in listener])

        tasks = [asyncio.ensure_future(count()) for _ in range(3)]
        await asyncio.sleep(0)
        hub.publish(completed())
        await asyncio.sleep(1)
    assert sum(await asyncio.gather(*tasks)) == 1


async def test_a_listener_without_room_is_refused() -> None:
    """Its queue must hold at least one event."""
    with pytest.raises(ConfigurationError, match="limit is a number of queued events"):
        async with EventHub().listen(limit=0):
            pass  # pragma: no cover


def storm(conferences: int, random: Random) -> list[ConferenceEvent]:
    """Return the events of conferences, a quarter of them twice, all in any order."""
    events: list[ConferenceEvent] = []
    for number in range(conferences):
        who: dict[str, Any] = {"conference_id": f"conf-{number}"}
        events += [
            ConferenceCreated(**who, event_time=TIME),
            ConferenceMemberJoin(**who, event_time=TIME + timedelta(seconds=1), call_id=f"c-{number}"),
            ConferenceMemberExit(**who, event_time=TIME + timedelta(seconds=2), call_id=f"c-{number}"),
            ConferenceCompleted(**who, event_time=TIME + timedelta(seconds=3)),
        ]
    events += random.sample(events, len(events) // 4)
    random.shuffle(events)
    return events


async def test_of_10000_events_every_waiter_gets_its_own_once() -> None:
    """2,000 conferences, duplicates, any order; half of the waits begin before, half in between or after."""
    random = Random(5)
    hub = EventHub()
    events = storm(2000, random)
    assert len(events) == 10_000
    ids = [f"conf-{number}" for number in range(2000)]
    results: Counter[tuple[str, str]] = Counter()

    async def wait(conference: str, kind: type[ConferenceEvent], begin: float) -> None:
        await asyncio.sleep(begin)
        event = await hub.wait(conference, kind, deadline=300)
        assert type(event) is kind
        results[event.conference_id, event.event_type] += 1

    async def publish() -> None:
        for number, event in enumerate(events):
            hub.publish(event)
            if number % 100 == 0:
                await asyncio.sleep(1)

    heard: Counter[Event] = Counter()
    async with hub.listen(limit=10_000) as listener:
        async with asyncio.TaskGroup() as group:
            for conference in ids:
                for kind in (ConferenceCompleted, ConferenceMemberExit):
                    begin = random.choice([0, random.uniform(0, 150)])
                    group.create_task(wait(conference, kind, begin))
            group.create_task(publish())
        while len(heard) < 8000:
            heard[await anext(listener)] += 1
    assert results == {
        (conference, kind): 1
        for conference in ids
        for kind in ("conferenceCompleted", "conferenceMemberExit")
    }
    assert heard == dict.fromkeys(events, 1)
    assert repr(hub) == "<EventHub: 0 waiting, 0 listening, 8000 kept>"


def test_an_event_is_new_once() -> None:
    """An equal event made anew is not new."""
    seen = Deduplicator()
    assert [seen.is_new(completed(second=number), now=0) for number in (1, 2, 1, 2, 3)] == [
        True,
        True,
        False,
        False,
        True,
    ]


def test_it_is_forgotten_with_age() -> None:
    """The age counts from the first time, and coming again does not renew it."""
    seen = Deduplicator(Memory(age=10))
    assert [seen.is_new(completed(second=1), now=now) for now in (0, 5, 9.9, 10, 19.9)] == [
        True,
        False,
        False,
        True,
        False,
    ]


def test_the_oldest_makes_room() -> None:
    """An event that was forgotten for lack of room counts as new."""
    seen = Deduplicator(Memory(size=2))
    assert [seen.is_new(completed(second=number), now=0) for number in (1, 2, 3, 3, 2, 1)] == [
        *(True, True, True),
        *(False, False, True),
    ]


def test_memory_is_bounded_by_default() -> None:
    """It keeps 10,000 events, however many come."""
    seen = Deduplicator()
    assert all(seen.is_new(completed(second=number), now=0) for number in range(20_000))
    assert len(seen) == 10_000
    assert repr(seen) == "<Deduplicator of 10000 events>"


def test_what_is_too_old_leaves_at_the_next() -> None:
    """The next event frees the memory of those that are too old."""
    seen = Deduplicator(Memory(age=10))
    for number in range(100):
        seen.is_new(completed(second=number), now=0)
    seen.is_new(completed(second=100), now=10)
    assert len(seen) == 1


@given(
    st.lists(st.tuples(st.floats(0, 5), st.integers(0, 6)), max_size=60),
    st.integers(1, 5),
    st.floats(0.5, 8),
)
def test_it_keeps_the_newest_and_nothing_else(steps: list[tuple[float, int]], size: int, age: float) -> None:
    """It agrees with a plain model: the last ``size`` entries that are young enough."""
    recent: Recent[int, int] = Recent(Memory(size=size, age=age))
    puts: list[tuple[int, float]] = []
    now = 0.0
    for number, (pause, key) in enumerate(steps):
        now += pause
        model = {kept: since for kept, since in puts[-size:] if now - since < age}
        assert {kept for kept in range(7) if recent.get(kept, now) is not None} == set(model)
        recent.put(key, number, now)
        puts = [(kept, since) for kept, since in puts if kept != key] + [(key, now)]
        assert recent.get(key, now) == number
        assert len(recent) == len([since for _, since in puts[-size:] if now - since < age])


def test_what_is_forgotten_is_gone() -> None:
    """Forgetting an unknown key does nothing, and a value that replaced another stays."""
    recent: Recent[str, list[int]] = Recent(Memory())
    first, second = [1], [1]
    recent.put("a", first, 0)
    recent.forget("b", first)
    recent.forget("a", second)
    assert recent.get("a", 0) is first
    recent.forget("a", first)
    assert (recent.get("a", 0), len(recent)) == (None, 0)


@pytest.mark.parametrize("wrong", [{"size": 0}, {"size": "many"}, {"age": 0}, {"age": float("inf")}])
def test_a_memory_without_bounds_is_refused(wrong: dict[str, float]) -> None:
    """Neither zero nor infinity is accepted."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Memory(**wrong)  # type: ignore[arg-type]  # wrong on purpose
