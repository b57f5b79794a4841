"""The sandbox over real sockets: what a client gets, and what the truth has of it."""

from __future__ import annotations

import asyncio
import json
import re
import time
from io import BytesIO
from typing import Any

import aiohttp
import pytest

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.sandbox import Concurrency, Sandbox, TokenBucket, Truth, events, server
from bandwidth_async.sandbox.conferences import Conference
from bandwidth_async.sandbox.service import KINDS
from tests.sandbox_caller import LIST, Caller, calling, until

END = {"status": "completed"}
REDIRECT = {"redirectUrl": "https://example.com/bxml"}
COUNTED: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
TOLD: dict[str, dict[str, int]] = {kind: {} for kind in events.KINDS}
UNTOUCHED: dict[str, Any] = {
    "ended_at": None,
    "end_requests": 0,
    "members": 0,
    "active_calls": 0,
    "recordings": 0,
}


def error(kind: str, description: str) -> dict[str, str | None]:
    """Return an error body."""
    return {"type": kind, "description": description, "id": None}


async def test_a_conference_is_ended_once() -> None:
    """Ending gets 204 without a body. Then there is a completed time and no member, also in the truth."""
    async with calling(conferences=2, members=2) as caller:
        first, second = caller.sandbox.conference_ids
        reply = await caller.ask("POST", f"{LIST}/{first}", json=END)
        assert (reply.status, reply.body) == (204, b"")
        ended = (await caller.ask("GET", f"{LIST}/{first}")).json
        assert ended["activeMembers"] == []
        assert caller.sandbox.truth() == {
            "conferences": {
                first: {
                    **UNTOUCHED,
                    "ended_at": ended["completedTime"],
                    "end_requests": 1,
                    "active_calls": 2,
                },
                second: {**UNTOUCHED, "members": 2, "active_calls": 2},
            },
            "requests": {**COUNTED, "get": {"200": 1}, "end": {"204": 1}},
            "events": TOLD,
        }


async def test_a_conference_has_all_fields() -> None:
    """The URLs of members have the address that was asked. Times have milliseconds and Z."""
    async with calling() as caller:
        added = caller.sandbox.add_conference(name="my-conference", members=1)
        reply = await caller.ask("GET", f"{LIST}/{added}", headers={"Host": "voice.example:1"})
        (member,) = reply.json["activeMembers"]
        assert reply.headers["Content-Type"] == "application/json"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", reply.json["createdTime"])
        assert reply.json == {
            "id": added,
            "name": "my-conference",
            "createdTime": reply.json["createdTime"],
            "activeMembers": [
                {
                    "callId": member["callId"],
                    "conferenceId": added,
                    "memberUrl": f"http://voice.example:1{LIST}/{added}/members/{member['callId']}",
                    "mute": False,
                    "hold": False,
                    "callIdsToCoach": [],
                }
            ],
        }


async def test_a_redirect_leaves_the_conference_active() -> None:
    """A redirect gets 204 and is not an end request."""
    async with calling(conferences=1, members=0) as caller:
        (only,) = caller.sandbox.conference_ids
        assert (await caller.ask("POST", f"{LIST}/{only}", json=REDIRECT)).status == 204
        await caller.sandbox.events_told()
        assert caller.sandbox.truth() == {
            "conferences": {only: UNTOUCHED},
            "requests": {**COUNTED, "redirect": {"204": 1}},
            "events": {**TOLD, "conferenceRedirect": {"withheld": 1}},
        }


@pytest.mark.parametrize(
    ("already_ended", "again", "redirect"), [(404, 404, 404), (409, 409, 409), (204, 204, 404)]
)
async def test_an_ended_conference_responds_with_the_status_of_the_setting(
    already_ended: int, again: int, redirect: int
) -> None:
    """What Bandwidth does here is not known, so it is a setting; every valid end request is counted."""
    async with calling(conferences=1, already_ended=already_ended) as caller:
        (only,) = caller.sandbox.conference_ids
        bodies = (END, END, REDIRECT, {"status": "completed", **REDIRECT})
        statuses = [(await caller.ask("POST", f"{LIST}/{only}", json=body)).status for body in bodies]
        assert statuses == [204, again, redirect, 400]
        conferences: Any = caller.sandbox.truth()["conferences"]
        assert conferences[only]["end_requests"] == 2


async def test_ended_conferences_can_be_forgotten() -> None:
    """With forget_ended they are gone from get and list at once."""
    async with calling(conferences=2, forget_ended=True) as caller:
        first, second = caller.sandbox.conference_ids
        await caller.ask("POST", f"{LIST}/{first}", json=END)
        assert (await caller.ask("GET", f"{LIST}/{first}")).status == 404
        assert [it["id"] for it in (await caller.ask("GET", LIST)).json] == [second]


@pytest.mark.parametrize("size", range(1, 8))
async def test_the_next_link_leads_through_all_conferences(size: int) -> None:
    """Oldest first, no members, no repeats, whatever the page size and although each page is ended."""
    async with calling(conferences=6) as caller:
        seen: list[str] = []
        url = f"{LIST}?pageSize={size}"
        while url:
            reply = await caller.ask("GET", url)
            assert not any("activeMembers" in it for it in reply.json)
            for it in reply.json:
                seen.append(it["id"])
                await caller.ask("POST", f"{LIST}/{it['id']}", json=END)
            link = re.fullmatch(r'<(http://[^>]+)>; rel="next"', reply.headers.get("Link", ""))
            url = link[1] if link else ""
        assert seen == caller.sandbox.conference_ids
        assert caller.requests()["list"] == {"200": -(-6 // size)}


async def test_a_listing_is_filtered() -> None:
    """By name, and by times that are both included; the filter stays in the next link."""
    async with calling(conferences=4) as caller:
        times = [it["createdTime"] for it in (await caller.ask("GET", LIST)).json]
        span = {"minCreatedTime": times[1], "maxCreatedTime": times[2]}
        assert [it["createdTime"] for it in (await caller.ask("GET", LIST, params=span)).json] == times[1:3]
        first = await caller.ask("GET", LIST, params={**span, "pageSize": "1"})
        second = await caller.ask("GET", first.headers["Link"][1:].partition(">")[0])
        assert [it["createdTime"] for it in second.json] == times[2:3]
        assert "Link" not in second.headers
        named = await caller.ask("GET", LIST, params={"name": "conference-000003"})
        assert [it["createdTime"] for it in named.json] == times[2:3]


async def test_a_listing_that_cannot_be_read_is_a_400() -> None:
    """The description names the parameter."""
    async with calling() as caller:
        reply = await caller.ask("GET", LIST, params={"pageSize": "1001"})
        assert (reply.status, reply.json) == (
            400,
            error("validation", "pageSize must be within the range [1, 1000], but was 1001"),
        )


NOT_FOUND = error("validation", "The path is not found")
INVALID = error("authentication-error", "The credentials provided were invalid")
UPDATE: dict[str, Any] = {"method": "POST", "path": f"{LIST}/conf-unknown"}


@pytest.mark.parametrize(
    ("request_", "status", "body", "headers"),
    [
        ({"method": "GET", "path": "/", "authorization": ""}, 404, NOT_FOUND, {}),
        ({"method": "GET", "path": "/api/v2/accounts/1/calls", "authorization": ""}, 404, NOT_FOUND, {}),
        ({"method": "GET", "path": f"{LIST}/", "authorization": ""}, 404, NOT_FOUND, {}),
        (
            {"method": "PUT", "path": "/api/v2/accounts/1/conferences", "authorization": ""},
            401,
            INVALID,
            {"WWW-Authenticate": 'Bearer realm="sandbox", Basic realm="sandbox"'},
        ),
        ({"method": "GET", "path": LIST, "authorization": "Bearer made-up"}, 401, INVALID, {}),
        ({"method": "GET", "path": LIST, "authorization": "Basic !"}, 401, INVALID, {}),
        ({"method": "GET", "path": LIST, "authorization": "Basic dTpw"}, 401, INVALID, {}),
        ({"method": "GET", "path": LIST, "authorization": "Digest dTpw"}, 401, INVALID, {}),
        ({"method": "PUT", "path": "/api/v2/accounts/1/conferences"}, 401, INVALID, {}),
        (
            {"method": "POST", "path": LIST, "data": b"x"},
            405,
            error("validation", "Method Not Allowed"),
            {"Allow": "GET"},
        ),
        (
            {"method": "OPTIONS", "path": f"{LIST}/x"},
            405,
            error("validation", "Method Not Allowed"),
            {"Allow": "GET, POST"},
        ),
        (
            {**UPDATE, "data": "{", "headers": {"Content-Type": "text/json"}},
            415,
            error("validation", "Content type 'text/json' not supported"),
            {},
        ),
        (
            {
                **UPDATE,
                "data": BytesIO(b" " * (1024**2 + 1)),
                "headers": {"Content-Type": "application/json"},
            },
            413,
            error("validation", "The request body is too large"),
            {},
        ),
        (
            {**UPDATE, "data": "{", "headers": {"Content-Type": "Application/JSON; charset=utf-8"}},
            400,
            error("validation", "The body must be a JSON object"),
            {},
        ),
        (
            {**UPDATE, "json": {"status": "done"}},
            400,
            error("validation", "Invalid status: only active and completed are allowed"),
            {},
        ),
        (
            {**UPDATE, "json": END},
            404,
            error("validation", "Conference [conf-unknown] not found"),
            {},
        ),
        (
            {"method": "GET", "path": f"{LIST}/a%2Fb%2520c"},
            404,
            error("validation", "Conference [a/b%20c] not found"),
            {},
        ),
    ],
)
async def test_the_first_error_is_the_response(
    request_: dict[str, Any], status: int, body: dict[str, str | None], headers: dict[str, str]
) -> None:
    """Path, credentials, account, method, media type, size, content, conference: in this order."""
    async with calling() as caller:
        reply = await caller.ask(**request_)
        assert (reply.status, reply.json) == (status, body)
        assert reply.headers["Content-Type"] == "application/json;charset=UTF-8"
        assert {name: reply.headers.get(name) for name in headers} == headers


async def test_a_response_to_head_has_no_body() -> None:
    """HEAD is no method of the API: 405 without the body that others get, slow or not."""
    async with calling(faults="slow=50%", seed=1) as caller:
        for _ in range(4):
            reply = await asyncio.wait_for(caller.ask("HEAD", LIST), 1)
            assert (reply.status, reply.body, reply.headers["Allow"]) == (405, b"", "GET")


async def test_a_token_opens_the_api_until_it_is_revoked() -> None:
    """Bearer works. Revoking ends all tokens issued so far, and new ones are valid."""
    async with calling(token_lifetime="90.9s") as caller:
        token = await caller.token()
        assert token.json == {
            "access_token": token.json["access_token"],
            "expires_in": 90,
            "token_type": "Bearer",
        }
        bearer = f"Bearer {token.json['access_token']}"
        assert (await caller.ask("GET", LIST, authorization=bearer)).status == 200
        caller.sandbox.revoke_tokens()
        assert (await caller.ask("GET", LIST, authorization=bearer)).status == 401
        assert (await caller.ask("GET", LIST, authorization=await caller.bearer())).status == 200
        assert caller.requests() == {**COUNTED, "token": {"200": 2}, "list": {"200": 2, "401": 1}}


async def test_a_token_expires() -> None:
    """After its lifetime a token is refused."""
    async with calling(token_lifetime=0.25) as caller:
        bearer = await caller.bearer()
        assert (await caller.ask("GET", LIST, authorization=bearer)).status == 200
        await asyncio.sleep(0.26)
        assert (await caller.ask("GET", LIST, authorization=bearer)).status == 401
        assert await caller.bearer() != bearer


@pytest.mark.parametrize(
    ("changes", "status", "name"),
    [
        ({"authorization": ""}, 401, "invalid_client"),
        ({"authorization": "Basic dTpw"}, 401, "invalid_client"),
        ({"data": {"grant_type": "password"}}, 400, "unsupported_grant_type"),
        (
            {"data": {}, "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
            400,
            "unsupported_grant_type",
        ),
        ({"data": None, "json": {"grant_type": "client_credentials"}}, 400, "invalid_request"),
    ],
)
async def test_a_wrong_token_request_is_refused(changes: dict[str, Any], status: int, name: str) -> None:
    """Errors of the token endpoint have OAuth2's own form."""
    async with calling() as caller:
        reply = await caller.token(**changes)
        assert (reply.status, reply.json["error"], "WWW-Authenticate" in reply.headers) == (
            status,
            name,
            status == 401,
        )


async def test_all_credentials_can_be_refused() -> None:
    """Valid tokens are refused too, while the token endpoint goes on."""
    async with calling() as caller:
        caller.sandbox.refuse_all()
        bearer = await caller.bearer()
        assert (await caller.ask("GET", LIST, authorization=bearer)).status == 401
        caller.sandbox.refuse_all(False)
        assert (await caller.ask("GET", LIST, authorization=bearer)).status == 200


@pytest.mark.parametrize(
    ("hint", "name", "form"),
    [
        ("retry-after", "Retry-After", r"10"),
        ("reset-ms", "X-RateLimit-Reset", r"\d{13}"),
        ("reset-s", "X-RateLimit-Reset", r"\d{10}"),
        ("date", "Retry-After", r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"),
        ("none", "Retry-After", r"None"),
    ],
)
async def test_the_quota_covers_all_paths_and_hints(hint: str, name: str, form: str) -> None:
    """Over the quota all requests of the account get 429, also those with other errors. Tokens do not."""
    async with calling(quota=TokenBucket(rate=0.1, burst=1), hint=hint) as caller:
        assert (await caller.ask("GET", LIST)).status == 200
        reply = await caller.ask("POST", f"{LIST}/conf-unknown", json=END)
        assert (reply.status, reply.json) == (429, {**error("error", "Too many requests"), "id": ""})
        assert re.fullmatch(form, str(reply.headers.get(name)))
        assert (await caller.ask("PUT", LIST)).status == 429
        assert (await caller.ask("GET", "/nowhere")).status == 404
        assert (await caller.ask("GET", LIST, authorization="")).status == 401
        assert (await caller.token()).status == 200
        assert caller.requests() == {
            **COUNTED,
            "token": {"200": 1},
            "list": {"200": 1, "401": 1},
            "end": {"429": 1},
            "other": {"404": 1, "429": 1},
        }


async def test_a_client_that_leaves_frees_its_place() -> None:
    """Concurrency counts requests in progress. A hanging one counts until its client leaves."""
    async with calling(quota="concurrency:limit=1") as caller:
        caller.sandbox.plan("hang-before")
        async with asyncio.TaskGroup() as group:
            hanging = group.create_task(caller.ask("GET", LIST))
            await until(lambda: bool(caller.requests()["list"]))
            assert (await caller.ask("GET", LIST)).status == 429
            hanging.cancel()
        await until(lambda: caller.sandbox.quota == Concurrency(limit=1))
        assert (await caller.ask("GET", LIST)).status == 200


async def test_latency_delays_every_response_but_the_truth() -> None:
    """Tokens and refusals wait as well. A request whose client leaves meanwhile has changed nothing."""
    async with calling(conferences=1, members=0, latency="200-210ms") as caller:
        (only,) = caller.sandbox.conference_ids
        start = time.monotonic()
        await asyncio.gather(
            caller.token(), caller.ask("GET", LIST, authorization=""), caller.ask("GET", "/x")
        )
        assert time.monotonic() - start >= 0.2
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(caller.ask("POST", f"{LIST}/{only}", json=END), 0.05)
        await until(lambda: bool(caller.requests()["end"]))
        start = time.monotonic()
        truth = (await caller.ask("GET", "/_sandbox/truth", authorization="")).json
        assert time.monotonic() - start < 0.2
        assert truth == {
            "conferences": {only: UNTOUCHED},
            "requests": {
                **COUNTED,
                "token": {"200": 1},
                "list": {"401": 1},
                "end": {"abandoned": 1},
                "other": {"404": 1},
            },
            "events": TOLD,
        }


@pytest.mark.parametrize("name", ["truth", "active-calls"])
async def test_other_requests_are_handled_while_the_truth_is_sent(name: str) -> None:
    """It is sent in blocks. A request that comes meanwhile gets its response long before the end."""
    async with calling(conferences=20_000, members=2) as caller:
        sandbox = caller.sandbox
        begun, answered = asyncio.Event(), asyncio.Event()
        looks: list[bool] = []
        number_at_start = sandbox._simulation.calls.number_at_start

        def number(conference: Conference) -> int:
            looks.append(answered.is_set())
            if len(looks) == 1:
                begun.set()
            return number_at_start(conference)

        async def ask() -> None:
            await begun.wait()
            assert (await caller.ask("GET", f"{LIST}/conf-none")).status == 404
            answered.set()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sandbox._simulation.calls, "number_at_start", number)
            asking = asyncio.create_task(ask())
            reply = await caller.ask("GET", f"/_sandbox/{name}", authorization="")
            await asking
        assert (looks[0], looks[-1], len(looks)) == (False, True, 20_000)
        expected = sandbox.active_calls() if name == "active-calls" else sandbox.truth()
        assert (reply.json, reply.headers["Content-Type"]) == (expected, "application/json")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:1", 200),
        ("localhost", 200),
        ("voice.localhost:80", 200),
        ("[::1]:4010", 200),
        ("127.9.9.9", 200),
        ("rebound.example", 421),
        ("localhost.example:4010", 421),
        ("127.0.0.1.example", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
async def test_a_web_page_reaches_a_loopback_sandbox_by_its_own_names_only(host: str, status: int) -> None:
    """A page can lead a name of its own to this machine, but not change the headers."""
    async with calling(conferences=1) as caller:
        page = {"Host": host, "Origin": f"http://{host}"}
        reply = await caller.ask("GET", "/_sandbox/truth", headers=page)
        assert reply.status == status
        assert (await caller.ask("GET", "/_sandbox/truth", headers={"Host": host})).status == 200
        assert caller.sandbox.truth()["requests"] == COUNTED


async def test_an_exposed_sandbox_has_any_name() -> None:
    """Whoever serves it to other machines gives it one."""
    async with calling(conferences=1, host="0.0.0.0") as caller:  # noqa: S104 - what this is about
        reply = await caller.ask("GET", "/_sandbox/truth", headers={"Host": "a.example", "Origin": "null"})
        assert reply.status == 200


async def test_the_truth_is_read_only() -> None:
    """The truth has one method, and requests for it are not counted."""
    async with calling() as caller:
        assert (await caller.ask("POST", "/_sandbox/truth")).status == 405
        assert caller.sandbox.truth() == Truth(conferences={}, requests=COUNTED, events=TOLD)


@pytest.mark.parametrize(("name", "ended"), [("reset-before", False), ("reset-after", True)])
async def test_a_reset_connection_gives_no_response(name: str, ended: bool) -> None:
    """The connection is lost, and the client cannot know whether the conference was ended."""
    async with calling(conferences=1) as caller:
        (only,) = caller.sandbox.conference_ids
        caller.sandbox.plan(name)
        with pytest.raises(aiohttp.ClientOSError):
            await caller.ask("POST", f"{LIST}/{only}", json=END)
        conferences: Any = caller.sandbox.truth()["conferences"]
        assert (bool(conferences[only]["ended_at"]), conferences[only]["end_requests"]) == (ended, int(ended))
        assert caller.requests()["end"] == {name: 1}
        assert (await caller.ask("GET", f"{LIST}/{only}")).status == 200


@pytest.mark.parametrize(("name", "ended"), [("hang-before", False), ("hang-after", True)])
async def test_a_hanging_request_gives_no_response(name: str, ended: bool) -> None:
    """Nothing comes until the client gives up."""
    async with calling(conferences=1) as caller:
        (only,) = caller.sandbox.conference_ids
        caller.sandbox.plan(name)
        asking = asyncio.create_task(caller.ask("POST", f"{LIST}/{only}", json=END))
        await until(lambda: bool(caller.requests()["end"]))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asking, 0.05)
        conferences: Any = caller.sandbox.truth()["conferences"]
        assert bool(conferences[only]["ended_at"]) is ended
        assert caller.requests()["end"] == {name: 1}


async def test_a_slow_response_comes_byte_by_byte() -> None:
    """Status and headers are there at once, the body comes at a byte a second."""
    async with calling(conferences=1) as caller, aiohttp.ClientSession() as session:
        (only,) = caller.sandbox.conference_ids
        caller.sandbox.plan("slow")
        async with session.post(
            f"{caller.sandbox.url}{LIST}/{only}", json=END, headers={"Authorization": caller.basic}
        ) as response:
            assert (response.status, response.headers["Content-Length"]) == (200, "90")
            assert await response.content.read(100) == b"{"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(response.read(), 0.05)
        assert caller.requests()["end"] == {"200": 1}


async def test_a_slow_response_is_whole_for_a_client_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the end the client has the right response, padded with blanks."""
    monkeypatch.setattr(server, "_SECONDS_PER_SLOW_BYTE", 0)
    async with calling() as caller:
        caller.sandbox.plan("slow", times=2)
        bodies = [(await caller.ask("GET", path)).json for path in (LIST, f"{LIST}/conf-unknown")]
        assert bodies == [[], error("validation", "Conference [conf-unknown] not found")]


async def test_garbage_is_no_json() -> None:
    """The status and the media type are right, the body is not."""
    async with calling(conferences=1) as caller:
        caller.sandbox.plan("garbage", times=2)
        for reply in (
            await caller.ask("GET", LIST),
            await caller.ask("POST", f"{LIST}/{caller.sandbox.conference_ids[0]}", json=END),
        ):
            assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json")
            with pytest.raises(ValueError, match=r"."):
                json.loads(reply.body)


async def test_planned_statuses_come_before_anything_else_is_checked() -> None:
    """A status fault replaces the work. Its 429 has the hint."""
    async with calling() as caller:
        caller.sandbox.plan("503", times=2)
        caller.sandbox.plan("429")
        replies = [await caller.ask("PUT", LIST) for _ in range(4)]
        assert [reply.status for reply in replies] == [503, 503, 429, 405]
        assert replies[0].json == error("system-overloaded", "A fault of the sandbox")
        assert replies[2].headers["Retry-After"] == "1"


async def test_tokens_and_refused_requests_get_no_faults() -> None:
    """Only requests that pass credentials and quota get faults."""
    async with calling(faults="500=100%") as caller:
        assert (await caller.token()).status == 200
        assert (await caller.ask("GET", LIST, authorization="")).status == 401
        assert (await caller.ask("GET", "/nowhere")).status == 404
        assert (await caller.ask("GET", LIST)).json == error("internal-error", "A fault of the sandbox")


async def test_the_same_seed_gives_the_same_ids_and_faults() -> None:
    """For the same requests in the same order."""

    async def day() -> tuple[list[str], list[int]]:
        async with calling(conferences=3, faults="503=30%,500=30%", seed=7) as caller:
            return caller.sandbox.conference_ids, [(await caller.ask("GET", LIST)).status for _ in range(20)]

    assert await day() == await day()


async def test_stopping_does_not_wait_for_hanging_requests() -> None:
    """Requests that would never end are cut off within a second, and no task is left."""
    tasks = asyncio.all_tasks()
    async with aiohttp.ClientSession() as session:
        async with Sandbox(faults="hang=50%,slow=50%", latency=0.01) as sandbox:
            caller = Caller(sandbox, session)
            asking = [asyncio.create_task(caller.ask("GET", LIST)) for _ in range(20)]
            await until(lambda: sum(caller.requests()["list"].values()) == 20)
            start = time.monotonic()
        assert time.monotonic() - start < 1
        replies = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(reply, aiohttp.ClientError) for reply in replies)
    assert asyncio.all_tasks() == tasks


async def test_a_sandbox_can_be_started_again_where_it_was() -> None:
    """Stopping keeps the state and the address; stopping twice is harmless."""
    sandbox = Sandbox(conferences=1)
    await sandbox.start()
    url = sandbox.url
    await sandbox.stop()
    await sandbox.stop()
    async with sandbox, aiohttp.ClientSession() as session:
        assert sandbox.url == url
        assert len((await Caller(sandbox, session).ask("GET", LIST)).json) == 1


async def test_a_port_in_use_is_a_configuration_error() -> None:
    """The error names the port and what to do."""
    async with Sandbox() as sandbox:
        with pytest.raises(ConfigurationError, match=rf"port {sandbox.port} .*: choose another, or port 0"):
            await Sandbox(port=sandbox.port).start()
