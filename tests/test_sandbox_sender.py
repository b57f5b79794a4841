"""Events as they reach a webhook: which are sent where and how, and how they are counted."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from attrs import define, field

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.sandbox import Sandbox, settings
from tests.description import Description, missing
from tests.sandbox_caller import ACCOUNT, LIST, Caller, calling, until

END = {"status": "completed"}
BASIC = f"Basic {base64.b64encode(b'user:pass:word').decode()}"

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@define
class Webhook:
    """A server that records the events it gets. Each request takes the next handler, then 204."""

    url: str = ""
    events: list[dict[str, Any]] = field(factory=list)
    requests: list[tuple[str, str, str]] = field(factory=list)
    """Method, path with query, and Authorization of each request."""
    handlers: list[Handler] = field(factory=list)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Record a request and respond to it."""
        self.requests.append((request.method, request.path_qs, request.headers.get("Authorization", "")))
        self.events.append(dict(request.query) if request.method == "GET" else await request.json())
        return await self.handlers.pop(0)(request) if self.handlers else web.Response(status=204)

    def kinds(self) -> list[str]:
        """Return the kinds of the events, in order."""
        return [event["eventType"] for event in self.events]


def respond_with(status: int, body: str = "", **headers: str) -> Handler:
    """Return a handler whose response is always the same."""

    async def respond(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(
            status=status, text=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )

    return respond


async def hang_up(request: web.BaseRequest) -> web.StreamResponse:
    """Close the connection instead of responding."""
    assert request.transport
    request.transport.close()
    return web.Response()


@asynccontextmanager
async def webhook() -> AsyncIterator[Webhook]:
    """Serve a webhook, and check all events that it got with the published schemas."""
    hook = Webhook()
    runner = web.ServerRunner(web.Server(hook.handle, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    hook.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield hook
    finally:
        await runner.cleanup()
    for event in hook.events:
        if not missing():
            Description.load().check_event({k: int(v) if k == "channels" else v for k, v in event.items()})


async def event_counts(caller: Caller) -> dict[str, dict[str, int]]:
    """Wait until all events are delivered, and return their counts."""
    await asyncio.wait_for(caller.sandbox.events_told(), 5)
    return {kind: counts for kind, counts in caller.sandbox.truth()["events"].items() if counts}


async def test_an_end_sends_an_exit_of_each_member_then_completed() -> None:
    """With the published fields, and the same time as GET."""
    async with webhook() as hook, calling(conferences=2, members=2, event_url=f"{hook.url}/e") as caller:
        _, tagged = caller.sandbox.conference_ids
        calls = caller.sandbox.call_ids(tagged)
        await caller.ask("POST", f"{LIST}/{tagged}", json=END)
        assert await event_counts(caller) == {
            "conferenceMemberExit": {"204": 2},
            "conferenceCompleted": {"204": 1},
        }
        conference = (await caller.ask("GET", f"{LIST}/{tagged}")).json
        assert (conference["conferenceEventUrl"], conference["conferenceEventMethod"]) == (
            f"{hook.url}/e",
            "POST",
        )
        about = {
            "eventTime": conference["completedTime"],
            "conferenceId": tagged,
            "name": "conference-000002",
            "tag": "tag-1",
        }
        assert hook.events == [
            *(
                {
                    **about,
                    "eventType": "conferenceMemberExit",
                    "from": f"+1919555{120 + slot:04}",
                    "to": "+18285550100",
                    "callId": call,
                }
                for slot, call in enumerate(calls)
            ),
            {**about, "eventType": "conferenceCompleted"},
        ]
        assert hook.requests == [("POST", "/e", "")] * 3


async def test_a_conference_that_is_added_sends_events() -> None:
    """Created, then each member joins. Conferences from the start send none."""
    async with webhook() as hook, calling(conferences=3, event_url=hook.url) as caller:
        added = caller.sandbox.add_conference(name="new", members=1)
        assert await event_counts(caller) == {
            "conferenceCreated": {"204": 1},
            "conferenceMemberJoin": {"204": 1},
        }
        assert hook.kinds() == ["conferenceCreated", "conferenceMemberJoin"]
        assert {event["conferenceId"] for event in hook.events} == {added}


async def test_a_member_that_leaves_sends_one_event() -> None:
    """On hanging up, or on being redirected and hung up later; the last one completes the conference."""
    async with webhook() as hook, calling(conferences=1, members=2, event_url=hook.url) as caller:
        first, second = caller.sandbox.active_calls()
        for call, body in (
            (first, {"redirectUrl": "https://example.com"}),
            (first, {"state": "completed"}),
            (second, {"state": "completed"}),
        ):
            assert (await caller.ask("POST", f"{ACCOUNT}/calls/{call}", json=body)).status == 200
        await event_counts(caller)
        assert [(it["eventType"], it.get("callId")) for it in hook.events] == [
            ("conferenceMemberExit", first),
            ("conferenceMemberExit", second),
            ("conferenceCompleted", None),
        ]


async def test_the_event_of_a_recording_is_sent_to_its_own_url() -> None:
    """GET has the properties as its query. Without a URL of its own a recording has no event."""
    async with webhook() as hook, calling(conferences=2, members=0, event_url=f"{hook.url}/all") as caller:
        _, conference = caller.sandbox.conference_ids
        for attributes in (
            f'recordingAvailableUrl="{hook.url}/own?a=b" recordingAvailableMethod="GET"',
            'recordingAvailableUrl="/relative" tag="x" fileFormat="mp3" transcribe="true"',
            "",
        ):
            document = f"<Bxml><StartRecording {attributes}/><StopRecording/></Bxml>"
            path = f"{LIST}/{conference}/bxml"
            await caller.ask("PUT", path, data=document, headers={"Content-Type": "application/xml"})
            await event_counts(caller)
        recordings = (await caller.ask("GET", f"{LIST}/{conference}/recordings")).json
        (first, second, _), (query, body) = recordings, hook.events
        assert [(method, path.partition("?")[0]) for method, path, _ in hook.requests] == [
            ("GET", "/own"),
            ("POST", "/relative"),
        ]
        about = {"eventType": "conferenceRecordingAvailable", "tag": "tag-1"}
        assert body == {**second, **about, "eventTime": body["eventTime"]}
        assert second["fileFormat"] == "mp3"
        assert query.pop("a") == "b"
        assert query == {
            **first,
            **about,
            "channels": "1",
            "eventTime": query["eventTime"],
        }


async def test_a_relative_url_in_a_response_is_one_of_the_server_that_responded() -> None:
    """Here the fallback, which is on another port than the webhook of the conferences."""
    async with (
        webhook() as hook,
        webhook() as fallback,
        calling(event_url=f"{hook.url}/e", event_fallback_url=f"{fallback.url}/f") as caller,
    ):
        hook.handlers.append(respond_with(503))
        document = "<Bxml><StartRecording recordingAvailableUrl='available'/><StopRecording/></Bxml>"
        fallback.handlers.append(respond_with(200, document))
        caller.sandbox.add_conference(members=0)
        assert await event_counts(caller) == {
            "conferenceCreated": {"200": 1},
            "conferenceRecordingAvailable": {"204": 1},
        }
        assert [path for _, path, _ in (*hook.requests, *fallback.requests)] == ["/e", "/f", "/available"]


async def test_credentials_are_sent_if_the_webhook_asks_for_them() -> None:
    """First without, then, after 401 with a Basic challenge, with them. The event counts once."""
    async with (
        webhook() as hook,
        calling(
            conferences=1, members=0, event_url=hook.url, event_username="user", event_password="pass:word"
        ) as caller,
    ):
        hook.handlers.append(respond_with(401, WWW_Authenticate='Basic realm="r"'))
        await caller.ask("POST", f"{LIST}/{caller.sandbox.conference_ids[0]}", json=END)
        assert await event_counts(caller) == {"conferenceCompleted": {"204": 1}}
        assert hook.requests == [("POST", "/", ""), ("POST", "/", BASIC)]


@pytest.mark.parametrize(
    ("status", "challenge", "username"),
    [
        (401, {}, "user"),
        (401, {"WWW_Authenticate": "Bearer"}, "user"),
        (401, {"WWW_Authenticate": "Basic"}, None),
        (403, {"WWW_Authenticate": "Basic"}, "user"),
    ],
)
async def test_a_refusal_that_credentials_cannot_change_is_final(
    status: int, challenge: dict[str, str], username: str | None
) -> None:
    """Without a challenge, with another scheme or status, or without credentials the event is lost."""
    async with (
        webhook() as hook,
        calling(conferences=1, members=0, event_url=hook.url, event_username=username) as caller,
    ):
        hook.handlers.append(respond_with(status, **challenge))
        await caller.ask("POST", f"{LIST}/{caller.sandbox.conference_ids[0]}", json=END)
        assert await event_counts(caller) == {"conferenceCompleted": {str(status): 1}}
        assert len(hook.requests) == 1


@pytest.mark.parametrize(("failing", "outcome", "sent"), [(1, "204", 2), (2, "connection-error", 2)])
async def test_a_lost_connection_is_tried_once_more(failing: int, outcome: str, sent: int) -> None:
    """Once, not twice, and for an asynchronous webhook only; a status is never tried again."""
    async with webhook() as hook, calling(conferences=1, members=0, event_url=hook.url) as caller:
        hook.handlers += [hang_up] * failing
        await caller.ask("POST", f"{LIST}/{caller.sandbox.conference_ids[0]}", json=END)
        assert await event_counts(caller) == {"conferenceCompleted": {outcome: 1}}
        assert len(hook.requests) == sent


async def test_a_synchronous_webhook_has_its_fallback_instead_of_a_second_attempt() -> None:
    """Each of its events that fails is sent there once, with the credentials of the fallback."""
    async with (
        webhook() as hook,
        webhook() as fallback,
        calling(
            event_url=hook.url,
            event_fallback_url=fallback.url,
            event_fallback_method="GET",
            event_fallback_username="user",
            event_fallback_password="pass:word",
        ) as caller,
    ):
        hook.handlers += [hang_up, hang_up]
        fallback.handlers += [respond_with(401, WWW_Authenticate='Basic realm="r"')]
        caller.sandbox.add_conference(members=2)
        assert await event_counts(caller) == {
            "conferenceCreated": {"204": 1},
            "conferenceMemberJoin": {"204": 2},
        }
        created, *joined = ["conferenceCreated", "conferenceMemberJoin", "conferenceMemberJoin"]
        assert hook.kinds() == [created, *joined]
        assert fallback.kinds() == [created, created, joined[0]]
        assert [(method, given) for method, _, given in fallback.requests] == [
            ("GET", ""),
            ("GET", BASIC),
            ("GET", ""),
        ]


async def test_a_synchronous_webhook_without_a_fallback_is_sent_once() -> None:
    """Bandwidth documents no second attempt for it."""
    async with webhook() as hook, calling(event_url=hook.url) as caller:
        hook.handlers.append(hang_up)
        caller.sandbox.add_conference(members=0)
        assert await event_counts(caller) == {"conferenceCreated": {"connection-error": 1}}
        assert len(hook.requests) == 1


@pytest.mark.parametrize("status", [200, 201, 204])
async def test_the_body_of_a_response_to_an_asynchronous_webhook_is_ignored(status: int) -> None:
    """Bandwidth expects a 201, 200 or 204 and plays nothing."""
    async with webhook() as hook, calling(conferences=1, members=0, event_url=hook.url) as caller:
        hook.handlers.append(respond_with(status, "" if status == 204 else "not BXML"))
        await caller.ask("POST", f"{LIST}/{caller.sandbox.conference_ids[0]}", json=END)
        assert await event_counts(caller) == {"conferenceCompleted": {str(status): 1}}


async def test_a_refusal_is_not_repeated() -> None:
    """A 500 is a response, and a redirect is not followed."""
    async with webhook() as hook, calling(conferences=2, members=0, event_url=hook.url) as caller:
        hook.handlers += [respond_with(500), respond_with(302, Location="/elsewhere")]
        for conference in caller.sandbox.conference_ids:
            await caller.ask("POST", f"{LIST}/{conference}", json=END)
            await event_counts(caller)
        assert await event_counts(caller) == {"conferenceCompleted": {"500": 1, "302": 1}}
        assert len(hook.requests) == 2


async def test_nobody_there_is_a_connection_error() -> None:
    """The counts say so, and the API goes on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        async with calling(conferences=1, members=0, event_url=url) as caller:
            await caller.ask("POST", f"{LIST}/{caller.sandbox.conference_ids[0]}", json=END)
            assert await event_counts(caller) == {"conferenceCompleted": {"connection-error": 1}}


async def test_a_webhook_has_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ``callbackTimeout`` of the conferences. After it the event is lost, and not tried again."""
    assert Sandbox().event_timeout == 15
    monkeypatch.setattr(settings, "CALLBACK_TIMEOUTS", (0.05, 25))

    async def never(_request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(3600)
        return web.Response()

    async with (
        webhook() as hook,
        calling(conferences=1, members=0, event_url=hook.url, event_timeout=0.05) as caller,
    ):
        hook.handlers.append(never)
        await caller.ask("POST", f"{LIST}/{caller.sandbox.conference_ids[0]}", json=END)
        assert await event_counts(caller) == {"conferenceCompleted": {"timeout": 1}}
        assert len(hook.requests) == 1


async def redirect(caller: Caller, **fields: str) -> str:
    """Redirect the only conference, and return its id."""
    (conference,) = caller.sandbox.conference_ids
    assert (await caller.ask("POST", f"{LIST}/{conference}", json=fields)).status == 204
    return conference


async def test_a_redirect_asks_its_own_url_and_plays_the_response() -> None:
    """With the credentials of the redirect; no URL for events is needed."""
    async with webhook() as hook, calling(conferences=1, members=0) as caller:
        hook.handlers += [
            respond_with(401, WWW_Authenticate="basic"),
            respond_with(200, "<Bxml><StartRecording/></Bxml>"),
        ]
        conference = await redirect(
            caller, redirectUrl=f"{hook.url}/r", username="user", password="pass:word"
        )
        assert await event_counts(caller) == {"conferenceRedirect": {"200": 1}}
        assert hook.requests == [("POST", "/r", ""), ("POST", "/r", BASIC)]
        assert hook.events[1].keys() == {"eventType", "eventTime", "conferenceId", "name"}
        assert len(caller.sandbox.recording_ids(conference)) == 1


@pytest.mark.parametrize("first", [hang_up, respond_with(500)])
async def test_a_fallback_is_asked_when_the_redirect_fails(first: Handler) -> None:
    """With its own method and credentials. Its response is the outcome."""
    async with webhook() as hook, calling(conferences=1, members=0) as caller:
        hook.handlers.append(first)
        await redirect(
            caller,
            redirectUrl=f"{hook.url}/r",
            redirectFallbackUrl=f"{hook.url}/f",
            redirectFallbackMethod="GET",
        )
        assert await event_counts(caller) == {"conferenceRedirect": {"204": 1}}
        assert [method for method, _, _ in hook.requests] == ["POST", "GET"]
        assert hook.requests[-1][1].startswith("/f?eventType=conferenceRedirect&")


async def test_a_response_that_is_not_bxml_is_counted() -> None:
    """It is played nowhere; after the end of the conference valid BXML has no effect either."""
    async with webhook() as hook, calling(conferences=1, members=1, event_url=hook.url) as caller:
        hook.handlers += [
            respond_with(200, "hello"),
            respond_with(200, "<Bxml><StartRecording/></Bxml>"),
            respond_with(200, "not for this event"),
        ]
        conference = await redirect(caller, redirectUrl=hook.url)
        assert await event_counts(caller) == {"conferenceRedirect": {"invalid-bxml": 1}}
        await caller.ask("POST", f"{LIST}/{conference}", json=END)
        assert await event_counts(caller) == {
            "conferenceRedirect": {"invalid-bxml": 1},
            "conferenceMemberExit": {"200": 1},
            "conferenceCompleted": {"200": 1},
        }
        assert caller.sandbox.recording_ids(conference) == []


async def test_events_do_not_leave_this_machine() -> None:
    """A redirect to elsewhere is withheld, and so is its fallback; a URL for all events is refused."""
    async with calling(conferences=1) as caller:
        await redirect(caller, redirectUrl="https://example.com/r", redirectFallbackUrl="http://192.0.2.1/f")
        assert await event_counts(caller) == {"conferenceRedirect": {"withheld": 1}}
    with pytest.raises(ConfigurationError, match="is not on this machine: write http"):
        Sandbox(event_url="https://example.com/events")
    with pytest.raises(ConfigurationError, match="is not on this machine: write http"):
        Sandbox(event_fallback_url="https://example.com/events")
    assert Sandbox(event_url="https://example.com/events", events_anywhere=True).event_url
    for here in ("http://localhost/", "http://[::1]:1/", "http://127.8.8.8/"):
        assert Sandbox(event_url=here).event_url == here


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104 - what this is about
async def test_who_reaches_the_sandbox_does_not_reach_this_machine(host: str) -> None:
    """Where others reach the sandbox, only the webhooks of the settings get events."""
    async with webhook() as own, webhook() as other:
        async with calling(
            conferences=1, members=0, host=host, event_url="http://127.0.0.1:1/", event_fallback_url=own.url
        ) as caller:
            (conference,) = caller.sandbox.conference_ids
            redirect = {"status": "active", "redirectUrl": other.url, "redirectFallbackUrl": other.url}
            assert (await caller.ask("POST", f"{LIST}/{conference}", json=redirect)).status == 204
            assert (await caller.ask("POST", f"{LIST}/{conference}", json=END)).status == 204
            await caller.sandbox.events_told()
        assert other.requests == []
        assert own.kinds() == ["conferenceCompleted"]
        assert caller.sandbox.truth()["events"]["conferenceRedirect"] == {"withheld": 1}


async def test_duplicates_and_disorder() -> None:
    """With both at 100 % each event comes twice and none is lost, but not in order."""
    async with (
        webhook() as hook,
        calling(
            conferences=20, members=3, event_url=hook.url, event_duplicates="100%", event_disorder=1.0, seed=3
        ) as caller,
    ):
        for conference in caller.sandbox.conference_ids:
            await caller.ask("POST", f"{LIST}/{conference}", json=END)
        assert await event_counts(caller) == {
            "conferenceMemberExit": {"204": 120},
            "conferenceCompleted": {"204": 40},
        }
        each = Counter(json.dumps(event, sort_keys=True) for event in hook.events)
        assert (len(each), set(each.values())) == (80, {2})
        last = {event["conferenceId"]: event["eventType"] for event in hook.events}
        assert "conferenceMemberExit" in last.values()


async def test_without_disorder_the_events_of_a_conference_are_in_order() -> None:
    """Exits before completed, in all of many conferences that end at once."""
    async with webhook() as hook, calling(conferences=30, members=3, event_url=hook.url) as caller:
        ends = (caller.ask("POST", f"{LIST}/{it}", json=END) for it in caller.sandbox.conference_ids)
        await asyncio.gather(*ends)
        await event_counts(caller)
        for conference in caller.sandbox.conference_ids:
            kinds = [it["eventType"] for it in hook.events if it["conferenceId"] == conference]
            assert kinds == ["conferenceMemberExit"] * 3 + ["conferenceCompleted"]


async def test_stopping_gives_up_what_is_not_delivered() -> None:
    """No task is left, and every event has an outcome, whether in progress, queued or delayed."""
    tasks = asyncio.all_tasks()

    async def never(_request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(3600)
        return web.Response()

    async with webhook() as hook:
        hook.handlers += [never] * 100
        async with Sandbox(conferences=0, event_url=hook.url, event_disorder=0.5, seed=1) as sandbox:
            for _ in range(30):
                sandbox.add_conference(members=0)
                await until(lambda: bool(hook.requests))
        assert sandbox.truth()["events"]["conferenceCreated"] == {"stopped": 30}
        sandbox.add_conference(members=0)
        assert sandbox.truth()["events"]["conferenceCreated"] == {"stopped": 30}
        async with sandbox:
            hook.handlers.clear()
            sandbox.add_conference(members=0)
            await sandbox.events_told()
        assert sandbox.truth()["events"]["conferenceCreated"] == {"stopped": 30, "204": 1}
    await sandbox.events_told()
    assert asyncio.all_tasks() == tasks


async def test_a_response_that_is_not_http_is_a_failure() -> None:
    """It is not tried again, and the next event of the queue follows."""

    async def mumble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(mumble, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, webhook() as hook, calling(conferences=1, members=0) as caller:
        await redirect(caller, redirectUrl=url)
        await redirect(caller, redirectUrl=hook.url)
        assert await event_counts(caller) == {"conferenceRedirect": {"failed": 1, "204": 1}}


@pytest.mark.parametrize(("size", "outcome"), [(64 * 1024, "200"), (64 * 1024 + 1, "invalid-bxml")])
async def test_bxml_in_a_response_has_64_kb_at_most(size: int, outcome: str) -> None:
    """As Bandwidth documents it."""
    async with webhook() as hook, calling(event_url=hook.url) as caller:
        hook.handlers.append(respond_with(200, "<Bxml/>".ljust(size)))
        caller.sandbox.add_conference(members=0)
        assert await event_counts(caller) == {"conferenceCreated": {outcome: 1}}


async def test_an_endless_response_is_given_up() -> None:
    """The connection is closed, and the next event uses another."""

    async def talk(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 2**16)

    async with webhook() as hook, calling(event_url=hook.url) as caller:
        hook.handlers.append(talk)
        for _ in range(2):
            caller.sandbox.add_conference(members=0)
            await event_counts(caller)
        assert await event_counts(caller) == {"conferenceCreated": {"invalid-bxml": 1, "204": 1}}
