"""Events end to end: a client ends conferences, and events that the sandbox sends resolve the waiters.

The sandbox sends events as Bandwidth does: first without credentials, then with them if the webhook asks for
them. Here some events are sent twice and many out of order.
``pytest tests/test_events_end_to_end.py --full -s`` runs with 10,000 conferences.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from attrs import define, field

from bandwidth_async import (
    ClientCredentials,
    Conference,
    DeadlineExceededError,
    OutcomeKind,
    RateLimit,
    Timeouts,
    VoiceClient,
)
from bandwidth_async.sandbox import Sandbox
from bandwidth_async.webhooks import (
    BasicAuth,
    ConferenceCompleted,
    ConferenceEvent,
    ConferenceMemberExit,
    EventHub,
    asgi_app,
)
from bandwidth_async.webhooks.aiohttp_handler import Handler, aiohttp_handler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from bandwidth_async.webhooks import Event

USER, PASSWORD = "bandwidth", "s3:cret ü"
AUTH = BasicAuth(USER, PASSWORD)
HANDLERS = ("aiohttp", "asgi")


@define
class Webhook:
    """An application with a hub behind a handler of this package. It records requests and events."""

    hub: EventHub = field(factory=EventHub)
    url: str = ""
    asked: list[tuple[str, bool, int]] = field(factory=list)
    """For each request: the method, whether it had credentials, and the status of the response."""
    events: list[ConferenceEvent] = field(factory=list)
    """The events that reached the receiver, in order of arrival."""

    def receive(self, event: Event) -> None:
        """Record an event and publish it."""
        assert isinstance(event, ConferenceEvent)
        self.events.append(event)
        self.hub.publish(event)

    def noting(self, handler: Handler) -> Handler:
        """Return a handler that records its requests and responses."""

        async def handle(request: web.Request) -> web.Response:
            response = await handler(request)
            self.asked.append((request.method, "Authorization" in request.headers, response.status))
            return response

        return handle


def under_asgi(application: Any) -> Handler:
    """Return a handler that serves an ASGI application, as an ASGI server would."""

    async def handle(request: web.Request) -> web.Response:
        parts = [{"type": "http.request", "body": await request.read(), "more_body": False}]
        sent: list[Any] = []

        async def receive() -> Any:
            return parts.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": request.method,
            "path": request.path,
            "query_string": request.rel_url.raw_query_string.encode(),
            "headers": [(name.lower(), value) for name, value in request.raw_headers],
        }
        await application(scope, receive, send)
        start, body = sent
        headers = {name.decode(): value.decode() for name, value in start["headers"]}
        return web.Response(status=start["status"], headers=headers, body=body["body"] or None)

    return handle


@asynccontextmanager
async def listening(kind: str = "aiohttp") -> AsyncIterator[Webhook]:
    """Serve a webhook behind one of the handlers."""
    hook = Webhook()
    handler = (
        aiohttp_handler(hook.receive, auth=AUTH)
        if kind == "aiohttp"
        else under_asgi(asgi_app(hook.receive, auth=AUTH))
    )
    app = web.Application()
    app.router.add_route("*", "/events", hook.noting(handler))
    async with TestServer(app) as server:
        hook.url = str(server.make_url("/events"))
        yield hook


@asynccontextmanager
async def sandbox_sending_to(hook: Webhook, **settings: Any) -> AsyncIterator[Sandbox]:
    """Serve a sandbox that sends events to a webhook, with the webhook's credentials by default."""
    defaults = {"event_url": hook.url, "event_username": USER, "event_password": PASSWORD}
    async with Sandbox(**{**defaults, **settings}) as sandbox:
        yield sandbox


def client_of(sandbox: Sandbox, **settings: Any) -> VoiceClient:
    return VoiceClient(
        account_id=sandbox.account_id,
        credentials=ClientCredentials(sandbox.client_id, sandbox.client_secret),
        voice_url=sandbox.url,
        api_url=sandbox.url,
        rate_limit=RateLimit.fixed(100_000),
        **settings,
    )


def proof(sandbox: Sandbox, conference_id: str) -> Conference:
    """Return the conference that its event proves: it has ended, and the time is known."""
    ended_at = sandbox.truth()["conferences"][conference_id]["ended_at"]
    assert ended_at is not None
    return Conference(id=conference_id, completed_time=datetime.fromisoformat(ended_at), active_members=())


def nonzero(events: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """Return the counts of events, without the kinds that did not occur."""
    return {kind: counts for kind, counts in events.items() if counts}


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("kind", HANDLERS)
async def test_an_event_is_the_proof(kind: str, method: str) -> None:
    """The event alone resolves the waiter. The sandbox never answers a GET of the conference here.

    The webhook first rejects the event with a challenge. The sandbox then sends it with credentials.
    """
    async with (
        listening(kind) as hook,
        sandbox_sending_to(hook, conferences=1, members=0, event_method=method) as sandbox,
        client_of(sandbox) as client,
    ):
        (conference,) = sandbox.conference_ids
        sandbox.plan("hang", kind="get")
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(client.wait_until_completed(conference, hub=hook.hub))
            await client.end_conference(conference)
        await sandbox.events_told()
        assert waiting.result() == proof(sandbox, conference)
        assert "200" not in sandbox.truth()["requests"]["get"]
        assert nonzero(sandbox.truth()["events"]) == {"conferenceCompleted": {"204": 1}}
        assert hook.asked == [(method, False, 401), (method, True, 204)]


@pytest.mark.parametrize("kind", HANDLERS)
async def test_an_event_with_wrong_credentials_proves_nothing(kind: str) -> None:
    """The webhook answers 401 twice, and the event resolves no waiter."""
    async with (
        listening(kind) as hook,
        sandbox_sending_to(hook, conferences=1, members=0, event_password="wrong") as sandbox,
        client_of(sandbox) as client,
    ):
        (conference,) = sandbox.conference_ids
        await client.end_conference(conference)
        await sandbox.events_told()
        with pytest.raises(DeadlineExceededError):
            await hook.hub.completed(conference, deadline=0)
        assert nonzero(sandbox.truth()["events"]) == {"conferenceCompleted": {"401": 1}}
        assert hook.asked == [("POST", False, 401), ("POST", True, 401)]
        assert hook.events == []


async def test_without_its_event_a_conference_is_looked_at() -> None:
    """If the webhook accepts no event, a waiter with a hub still polls the conference."""
    async with (
        listening() as hook,
        sandbox_sending_to(hook, conferences=1, members=0, event_password="wrong") as sandbox,
        client_of(sandbox) as client,
    ):
        (conference,) = sandbox.conference_ids
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(client.wait_until_completed(conference, hub=hook.hub))
            await client.end_conference(conference)
        seen = await client.get_conference(conference)
        assert waiting.result() == seen
        assert seen.completed_time == proof(sandbox, conference).completed_time


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", HANDLERS)
async def test_every_waiter_is_resolved_once(kind: str, full: bool, show: Callable[[str], None]) -> None:
    """Each waiter is resolved by the event of its own conference.

    5 % of the events are sent twice, and 30 % are delayed. The sandbox answers no GET, so polling cannot
    resolve a waiter. The receiver gets each event once.
    """
    count = 10_000 if full else 200
    async with AsyncExitStack() as stack:
        hook = await stack.enter_async_context(listening(kind))
        sandbox = await stack.enter_async_context(
            sandbox_sending_to(
                hook, conferences=count, members=1, event_duplicates=0.05, event_disorder=0.3, seed=5
            )
        )
        ids = sandbox.conference_ids
        sandbox.plan("hang", kind="get", times=2 * count)
        patient = {"timeouts": Timeouts(attempt=900.0), "deadline": 900.0}
        watcher = await stack.enter_async_context(client_of(sandbox, **patient))
        ender = await stack.enter_async_context(client_of(sandbox))
        resolved: list[Conference] = []

        async def watch(conference_id: str) -> None:
            resolved.append(await watcher.wait_until_completed(conference_id, hub=hook.hub))

        async with asyncio.TaskGroup() as tasks:
            for id_ in ids:
                tasks.create_task(watch(id_))
            report = await ender.end_conferences(ids)
        await sandbox.events_told()
        told = nonzero(sandbox.truth()["events"])
        sent = sum(counts["204"] for counts in told.values())
        late = overtaken(hook.events)
        show(
            f"{len(resolved)} waiters resolved; {sent} events delivered, {len(hook.events)} different, "
            f"{sent - len(hook.events)} twice, {late} ends overtook their member's exit; "
            f"{Counter(hook.asked)}"
        )
        assert report.counts == {OutcomeKind.ENDED: count}
        assert Counter(it.id for it in resolved) == Counter(ids)
        facts = sandbox.truth()["conferences"]
        assert {it.id: it.completed_time for it in resolved} == {
            id_: datetime.fromisoformat(str(facts[id_]["ended_at"])) for id_ in ids
        }
        assert "200" not in sandbox.truth()["requests"]["get"]
        assert told.keys() == {"conferenceMemberExit", "conferenceCompleted"}
        assert all(counts.keys() == {"204"} for counts in told.values())
        assert Counter((type(it), it.conference_id) for it in hook.events) == Counter(
            (kind_, id_) for kind_ in (ConferenceMemberExit, ConferenceCompleted) for id_ in ids
        )
        assert Counter(hook.asked) == {("POST", False, 401): sent, ("POST", True, 204): sent}
        assert sent > len(hook.events)
        assert late > 0
        assert repr(hook.hub).startswith("<EventHub: 0 waiting, 0 listening")


def overtaken(events: list[ConferenceEvent]) -> int:
    """Return how many conferences had their completed event before the exit event of their member."""
    first: dict[str, type[ConferenceEvent]] = {}
    for event in events:
        first.setdefault(event.conference_id, type(event))
    return sum(kind is ConferenceCompleted for kind in first.values())
