"""Events as they reach a webhook: what is told, to whom, in which manner, and how it is counted."""

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
from bandwidth_async.sandbox import Sandbox, sender
from tests.description import Description, missing
from tests.sandbox_caller import ACCOUNT, LIST, Caller, calling, until

END = {"status": "completed"}
BASIC = f"Basic {base64.b64encode(b'user:pass:word').decode()}"

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@define
class Webhook:
    """A server that is told events, and notes them. Each request takes the next answer, then 204."""

    url: str = ""
    told: list[dict[str, Any]] = field(factory=list)
    requests: list[tuple[str, str, str]] = field(factory=list)
    """Method, path with query, and Authorization of each request."""
    answers: list[Answer] = field(factory=list)

    async def hear(self, request: web.BaseRequest) -> web.StreamResponse:
        """Note a request and answer it."""
        self.requests.append((request.method, request.path_qs, request.headers.get("Authorization", "")))
        self.told.append(dict(request.query) if request.method == "GET" else await request.json())
        return await self.answers.pop(0)(request) if self.answers else web.Response(status=204)

    def kinds(self) -> list[str]:
        """Return what was told, in order."""
        return [event["eventType"] for event in self.told]


def answer(status: int, body: str = "", **headers: str) -> Answer:
    """Return an answer that is always the same."""

    async def respond(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(
            status=status, text=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )

    return respond


async def hang_up(request: web.BaseRequest) -> web.StreamResponse:
    """Close the connection instead of answering."""
    assert request.transport
    request.transport.close()
    return web.Response()


@asynccontextmanager
async def webhook() -> AsyncIterator[Webhook]:
    """Serve a webhook; all that it was told is held against the published schemas."""
    hook = Webhook()
    runner = web.ServerRunner(web.Server(hook.hear, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    hook.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield hook
    finally:
        await runner.cleanup()
    for event in hook.told:
        if not missing():
            Description.load().check_event({k: int(v) if k == "channels" else v for k, v in event.items()})


async def told(caller: Caller) -> dict[str, dict[str, int]]:
    """Wait until all is told, and return the counts of the events that there were."""
    await asyncio.wait_for(caller.sandbox.events_told(), 5)
    return {kind: counts for kind, counts in caller.sandbox.truth()["events"].items() if counts}


async def test_an_end_is_told_member_by_member_then_as_a_whole() -> None:
    """Exit of each member, then completed, with the fields that are published and the same time as GET."""
    async with webhook() as hook, calling(conferences=2, members=2, event_url=f"{hook.url}/e") as caller:
        _, tagged = caller.sandbox.conference_ids
        calls = caller.sandbox.call_ids(tagged)
        await caller.ask("POST", f"{LIST}/{tagged}", json=END)
        assert await told(caller) == {
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
        assert hook.told == [
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


async def test_a_conference_that_is_added_is_told() -> None:
    """Created, then each member joins; those from the start are not told of."""
    async with webhook() as hook, calling(conferences=3, event_url=hook.url) as caller:
        added = caller.sandbox.add_conference(name="new", members=1)
        assert await told(caller) == {"conferenceCreated": {"204": 1}, "conferenceMemberJoin": {"204": 1}}
        assert hook.kinds() == ["conferenceCreated", "conferenceMemberJoin"]
        assert {event["conferenceId"] for event in hook.told} == {added}


async def test_a_member_that_leaves_is_told_once() -> None:
    """On hanging up, or on being redirected and hung up later; the last one completes the conference."""
    async with webhook() as hook, calling(conferences=1, members=2, event_url=hook.url) as caller:
        first, second = caller.sandbox.active_calls()
        for call, body in (
            (first, {"redirectUrl": "https://example.com"}),
            (first, {"state": "completed"}),
            (second, {"state": "completed"}),
        ):
            assert (await caller.ask("POST", f"{ACCOUNT}/calls/{call}", json=body)).status == 200
        await told(caller)
        assert [(it["eventType"], it.get("callId")) for it in hook.told] == [
            ("conferenceMemberExit", first),
            ("conferenceMemberExit", second),
            ("conferenceCompleted", None),
        ]


async def test_a_recording_is_told_where_it_was_asked_for() -> None:
    """The recording's own URL comes before the conference's; GET has the properties as its query."""
    async with webhook() as hook, calling(conferences=1, members=0, event_url=f"{hook.url}/all") as caller:
        (conference,) = caller.sandbox.conference_ids
        for attributes in (
            f'recordingAvailableUrl="{hook.url}/own?a=b" recordingAvailableMethod="GET"',
            'tag="x"',
        ):
            document = f"<Bxml><StartRecording {attributes}/><StopRecording/></Bxml>"
            path = f"{LIST}/{conference}/bxml"
            await caller.ask("PUT", path, data=document, headers={"Content-Type": "application/xml"})
            await told(caller)
        recordings = (await caller.ask("GET", f"{LIST}/{conference}/recordings")).json
        (first, second), (query, body) = recordings, hook.told
        assert [(method, path.partition("?")[0]) for method, path, _ in hook.requests] == [
            ("GET", "/own"),
            ("POST", "/all"),
        ]
        event = {"eventType": "conferenceRecordingAvailable", "eventTime": second["endTime"], "tag": "x"}
        assert body == {**second, **event, "eventTime": body["eventTime"]}
        assert query.pop("a") == "b"
        assert query == {
            **first,
            "channels": "1",
            "eventType": "conferenceRecordingAvailable",
            "eventTime": query["eventTime"],
        }


async def test_credentials_are_sent_to_who_asks_for_them() -> None:
    """First without, then, after 401 with a Basic challenge, with them; the event is told once."""
    async with (
        webhook() as hook,
        calling(
            conferences=1, members=0, event_url=hook.url, event_username="user", event_password="pass:word"
        ) as caller,
    ):
        hook.answers.append(answer(401, WWW_Authenticate='Basic realm="r"'))
        await caller.ask("POST", f"{LIST}/{caller.sandbox.conference_ids[0]}", json=END)
        assert await told(caller) == {"conferenceCompleted": {"204": 1}}
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
async def test_a_refusal_that_credentials_cannot_mend_stands(
    status: int, challenge: dict[str, str], username: str | None
) -> None:
    """Without a challenge, with another scheme or status, or without credentials the event is lost."""
    async with (
        webhook() as hook,
        calling(conferences=1, members=0, event_url=hook.url, event_username=username) as caller,
    ):
        hook.answers.append(answer(status, **challenge))
        await caller.ask("POST", f"{LIST}/{caller.sandbox.conference_ids[0]}", json=END)
        assert await told(caller) == {"conferenceCompleted": {str(status): 1}}
        assert len(hook.requests) == 1


@pytest.mark.parametrize(("failing", "outcome", "sent"), [(1, "204", 2), (2, "connection-error", 2)])
async def test_a_lost_connection_is_tried_once_more(failing: int, outcome: str, sent: int) -> None:
    """Once, not twice; a status is never tried again."""
    async with webhook() as hook, calling(conferences=1, members=0, event_url=hook.url) as caller:
        hook.answers += [hang_up] * failing
        await caller.ask("POST", f"{LIST}/{caller.sandbox.conference_ids[0]}", json=END)
        assert await told(caller) == {"conferenceCompleted": {outcome: 1}}
        assert len(hook.requests) == sent


async def test_a_refusal_is_not_repeated() -> None:
    """A 500 is an answer; a redirect is not followed."""
    async with webhook() as hook, calling(conferences=2, members=0, event_url=hook.url) as caller:
        hook.answers += [answer(500), answer(302, Location="/elsewhere")]
        for conference in caller.sandbox.conference_ids:
            await caller.ask("POST", f"{LIST}/{conference}", json=END)
            await told(caller)
        assert await told(caller) == {"conferenceCompleted": {"500": 1, "302": 1}}
        assert len(hook.requests) == 2


async def test_nobody_there_is_a_connection_error() -> None:
    """The counts say so, and the API goes on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        async with calling(conferences=1, members=0, event_url=url) as caller:
            await caller.ask("POST", f"{LIST}/{caller.sandbox.conference_ids[0]}", json=END)
            assert await told(caller) == {"conferenceCompleted": {"connection-error": 1}}


async def test_a_webhook_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it the event is lost, and not tried again."""
    assert sender._LIMIT == 15
    monkeypatch.setattr(sender, "_LIMIT", 0.05)

    async def never(_request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(3600)
        return web.Response()

    async with webhook() as hook, calling(conferences=1, members=0, event_url=hook.url) as caller:
        hook.answers.append(never)
        await caller.ask("POST", f"{LIST}/{caller.sandbox.conference_ids[0]}", json=END)
        assert await told(caller) == {"conferenceCompleted": {"timeout": 1}}
        assert len(hook.requests) == 1


async def redirect(caller: Caller, **fields: str) -> str:
    """Redirect the only conference, and return its id."""
    (conference,) = caller.sandbox.conference_ids
    assert (await caller.ask("POST", f"{LIST}/{conference}", json=fields)).status == 204
    return conference


async def test_a_redirect_asks_its_own_url_and_plays_the_answer() -> None:
    """With the credentials of the redirect; no URL for events is needed."""
    async with webhook() as hook, calling(conferences=1, members=0) as caller:
        hook.answers += [
            answer(401, WWW_Authenticate="basic"),
            answer(200, "<Bxml><StartRecording/></Bxml>"),
        ]
        conference = await redirect(
            caller, redirectUrl=f"{hook.url}/r", username="user", password="pass:word"
        )
        assert await told(caller) == {"conferenceRedirect": {"200": 1}}
        assert hook.requests == [("POST", "/r", ""), ("POST", "/r", BASIC)]
        assert hook.told[1].keys() == {"eventType", "eventTime", "conferenceId", "name"}
        assert len(caller.sandbox.recording_ids(conference)) == 1


@pytest.mark.parametrize("first", [hang_up, answer(500)])
async def test_a_fallback_is_asked_when_the_redirect_fails(first: Answer) -> None:
    """With its own method and credentials; its answer is the outcome."""
    async with webhook() as hook, calling(conferences=1, members=0) as caller:
        hook.answers += [first] * (2 if first is hang_up else 1)
        await redirect(
            caller,
            redirectUrl=f"{hook.url}/r",
            redirectFallbackUrl=f"{hook.url}/f",
            redirectFallbackMethod="GET",
        )
        assert await told(caller) == {"conferenceRedirect": {"204": 1}}
        assert [method for method, _, _ in hook.requests][-1] == "GET"
        assert hook.requests[-1][1].startswith("/f?eventType=conferenceRedirect&")


async def test_an_answer_that_is_no_bxml_is_counted() -> None:
    """It is played nowhere; after the end of the conference valid BXML has no effect either."""
    async with webhook() as hook, calling(conferences=1, members=1, event_url=hook.url) as caller:
        hook.answers += [
            answer(200, "hello"),
            answer(200, "<Bxml><StartRecording/></Bxml>"),
            answer(200, "not for this event"),
        ]
        conference = await redirect(caller, redirectUrl=hook.url)
        assert await told(caller) == {"conferenceRedirect": {"invalid-bxml": 1}}
        await caller.ask("POST", f"{LIST}/{conference}", json=END)
        assert await told(caller) == {
            "conferenceRedirect": {"invalid-bxml": 1},
            "conferenceMemberExit": {"200": 1},
            "conferenceCompleted": {"200": 1},
        }
        assert caller.sandbox.recording_ids(conference) == []


async def test_events_do_not_leave_this_machine() -> None:
    """A redirect to elsewhere is withheld, and so is its fallback; a URL for all events is refused."""
    async with calling(conferences=1) as caller:
        await redirect(caller, redirectUrl="https://example.com/r", redirectFallbackUrl="http://192.0.2.1/f")
        assert await told(caller) == {"conferenceRedirect": {"withheld": 1}}
    with pytest.raises(ConfigurationError, match="is not on this machine: write http"):
        Sandbox(event_url="https://example.com/events")
    assert Sandbox(event_url="https://example.com/events", events_anywhere=True).event_url
    for here in ("http://localhost/", "http://[::1]:1/", "http://127.8.8.8/"):
        assert Sandbox(event_url=here).event_url == here


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
        assert await told(caller) == {
            "conferenceMemberExit": {"204": 120},
            "conferenceCompleted": {"204": 40},
        }
        each = Counter(json.dumps(event, sort_keys=True) for event in hook.told)
        assert (len(each), set(each.values())) == (80, {2})
        last = {event["conferenceId"]: event["eventType"] for event in hook.told}
        assert "conferenceMemberExit" in last.values()


async def test_without_disorder_each_conference_is_told_in_order() -> None:
    """Exits before completed, in all of many conferences that end at once."""
    async with webhook() as hook, calling(conferences=30, members=3, event_url=hook.url) as caller:
        ends = (caller.ask("POST", f"{LIST}/{it}", json=END) for it in caller.sandbox.conference_ids)
        await asyncio.gather(*ends)
        await told(caller)
        for conference in caller.sandbox.conference_ids:
            kinds = [it["eventType"] for it in hook.told if it["conferenceId"] == conference]
            assert kinds == ["conferenceMemberExit"] * 3 + ["conferenceCompleted"]


async def test_stopping_gives_up_what_is_not_told() -> None:
    """No task is left, and every event has an outcome: under way, waiting in line, or held back."""
    tasks = asyncio.all_tasks()

    async def never(_request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(3600)
        return web.Response()

    async with webhook() as hook:
        hook.answers += [never] * 100
        async with Sandbox(conferences=0, event_url=hook.url, event_disorder=0.5, seed=1) as sandbox:
            for _ in range(30):
                sandbox.add_conference(members=0)
                await until(lambda: bool(hook.requests))
        assert sandbox.truth()["events"]["conferenceCreated"] == {"stopped": 30}
        sandbox.add_conference(members=0)
        assert sandbox.truth()["events"]["conferenceCreated"] == {"stopped": 30}
        async with sandbox:
            hook.answers.clear()
            sandbox.add_conference(members=0)
            await sandbox.events_told()
        assert sandbox.truth()["events"]["conferenceCreated"] == {"stopped": 30, "204": 1}
    await sandbox.events_told()
    assert asyncio.all_tasks() == tasks


async def test_an_answer_that_is_no_http_is_a_failure() -> None:
    """It is not tried again, and the line goes on to the next event."""

    async def mumble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(mumble, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, webhook() as hook, calling(conferences=1, members=0) as caller:
        await redirect(caller, redirectUrl=url)
        await redirect(caller, redirectUrl=hook.url)
        assert await told(caller) == {"conferenceRedirect": {"failed": 1, "204": 1}}


@pytest.mark.parametrize(("size", "outcome"), [(1024**2, "200"), (1024**2 + 1, "failed")])
async def test_an_answer_is_read_to_a_limit(size: int, outcome: str) -> None:
    """A webhook that never stops talking is left; what is as long as BXML may be is read."""

    async def talk(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, size, 2**16):
            await response.write(b" " * min(2**16, size - start))
        return response

    async with webhook() as hook, calling(event_url=hook.url) as caller:
        hook.answers.append(talk)
        caller.sandbox.add_conference(members=0)
        assert await told(caller) == {"conferenceCreated": {outcome: 1}}


async def test_an_endless_answer_is_left() -> None:
    """The connection is closed, and the next event is told on another."""

    async def talk(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 2**16)

    async with webhook() as hook, calling(event_url=hook.url) as caller:
        hook.answers.append(talk)
        for _ in range(2):
            caller.sandbox.add_conference(members=0)
            await told(caller)
        assert await told(caller) == {"conferenceCreated": {"failed": 1, "204": 1}}
