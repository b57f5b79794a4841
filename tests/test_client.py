"""The public client over real sockets, against a server with scripted faults."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from random import Random
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aioresponses import CallbackResult, aioresponses
from attrs import define, field, frozen
from yarl import URL

from bandwidth_async import (
    APIError,
    AuthenticationError,
    BadRequestError,
    BandwidthError,
    BasicCredentials,
    ClientCredentials,
    ClientStateError,
    Conference,
    ConferenceMember,
    ConfigurationError,
    ConflictError,
    DeadlineExceededError,
    Limiter,
    MissingCredentialsError,
    NotFoundError,
    Outcome,
    OutcomeKind,
    Paused,
    RateLimit,
    RateLimitError,
    RetryPolicy,
    ServerError,
    Stop,
    Timeouts,
    TransportError,
    UpdateConference,
    VoiceClient,
)

SECRET = "s3cr3t-never-shown"
ACCOUNT = "9900000"
CREATED = "2026-01-02T03:04:05.000Z"
REDIRECT = UpdateConference(status="active", redirect_url="https://example.com/bxml")
TICK = 1e-3

virtual_time = pytest.mark.looptime

Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]


def about(moment: float, abs: float = TICK) -> Any:  # noqa: A002  # the name that pytest uses
    """Return a value that equals any number near ``moment``."""
    return pytest.approx(moment, abs=abs)


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


@frozen
class Scripted:
    """A response that can be sent any number of times."""

    status: int
    body: str
    headers: dict[str, str]

    async def __call__(self, _: web.Request) -> web.StreamResponse:
        """Send it."""
        return web.Response(status=self.status, text=self.body, headers=self.headers)


def reply(status: int, body: str = "", **headers: str) -> Scripted:
    """Return a scripted response. A ``_`` in a header's name becomes ``-``."""
    return Scripted(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


async def cut(request: web.Request) -> web.StreamResponse:
    """Close the connection without a response."""
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def quote(request: web.Request) -> web.StreamResponse:
    """Send a 400 that quotes the Authorization header as sent, and decoded if it is Basic."""
    kind, _, sent = request.headers["Authorization"].partition(" ")
    plain = base64.b64decode(sent).decode() if kind == "Basic" else sent
    return web.json_response({"type": f"{kind} {sent}", "description": f"quoted {plain}"}, status=400)


async def hang(_: web.Request) -> web.StreamResponse:
    """Send nothing until the client closes the connection."""
    await asyncio.sleep(1e6)
    raise AssertionError("nobody waits that long")


@define
class Bandwidth:
    """A server of conferences. It sends the scripted responses first, then those that fit its state."""

    conferences: dict[str, dict[str, Any]] = field(factory=dict)
    latency: float = 0.0
    reject: bool = False
    gone: int = 404
    posts: list[Reply] = field(factory=list)
    gets: list[Reply] = field(factory=list)
    tokens: list[Reply] = field(factory=list)
    log: list[tuple[str, str]] = field(factory=list)
    bodies: list[dict[str, Any]] = field(factory=list)
    moments: list[float] = field(factory=list)
    shown: set[str | None] = field(factory=set)
    token_requests: int = 0
    faults: Callable[[str], Reply | None] = lambda _: None
    url: str = ""

    def add(self, *ids: str) -> list[str]:
        """Add active conferences."""
        for conference_id in ids:
            self.conferences[conference_id] = {"id": conference_id, "createdTime": CREATED, "extra": 1}
        return list(ids)

    def end(self, conference_id: str) -> None:
        """Mark a conference as ended."""
        self.conferences[conference_id]["completedTime"] = CREATED

    @property
    def ended(self) -> set[str]:
        """The ids of the ended conferences."""
        return {name for name, value in self.conferences.items() if "completedTime" in value}

    async def token(self, request: web.Request) -> web.StreamResponse:
        """Answer a token request."""
        self.token_requests += 1
        if self.tokens:
            return await self.tokens.pop(0)(request)
        return web.json_response({"access_token": f"token-{SECRET}", "expires_in": 3600})

    async def update(self, request: web.Request) -> web.StreamResponse:
        """Answer a POST to a conference."""
        conference_id = request.match_info["id"]
        self.log.append(("POST", conference_id))
        self.shown.add(request.headers.get("Authorization"))
        self.moments.append(now())
        body = json.loads(await request.text())
        self.bodies.append(body)
        await asyncio.sleep(self.latency)
        if self.reject:
            return web.Response(status=401)
        if scripted := self.posts.pop(0) if self.posts else self.faults(conference_id):
            return await scripted(request)
        if conference_id not in self.conferences:
            return web.Response(status=404)
        if conference_id in self.ended:
            return web.Response(status=self.gone)
        if body == {"status": "completed"}:
            self.end(conference_id)
        return web.Response(status=204)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Answer a GET of one conference."""
        conference_id = request.match_info["id"]
        self.log.append(("GET", conference_id))
        if self.gets:
            return await self.gets.pop(0)(request)
        found = self.conferences.get(conference_id)
        return web.json_response(found) if found else web.Response(status=404)

    async def list(self, request: web.Request) -> web.StreamResponse:
        """Answer a GET of the list."""
        self.log.append(("GET", request.path_qs))
        if self.gets:
            return await self.gets.pop(0)(request)
        first, size = int(request.query.get("pageToken", 0)), int(request.query["pageSize"])
        page = list(self.conferences.values())[first : first + size]
        headers = {}
        if first + size < len(self.conferences):
            more = request.url.update_query(pageToken=str(first + size))
            headers["Link"] = f'<{more}>; rel="next", <{request.url}>; rel="first"'
        return web.json_response(page, headers=headers)


@asynccontextmanager
async def serving(*ids: str, **settings: Any) -> AsyncIterator[Bandwidth]:
    """Serve conferences on this machine."""
    bandwidth = Bandwidth(**settings)
    bandwidth.add(*ids)
    application = web.Application()
    path = f"/api/v2/accounts/{ACCOUNT}/conferences"
    application.router.add_post("/api/v1/oauth2/token", bandwidth.token)
    application.router.add_post(path + "/{id}", bandwidth.update)
    application.router.add_get(path + "/{id}", bandwidth.get)
    application.router.add_get(path, bandwidth.list)
    runner = web.AppRunner(application, shutdown_timeout=0.01, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    bandwidth.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield bandwidth
    finally:
        await runner.cleanup()
        await asyncio.sleep(0)


def client_of(bandwidth: Bandwidth, **settings: Any) -> VoiceClient:
    """Return a client of that server, with a high rate limit and a fixed random seed."""
    defaults: dict[str, Any] = {
        "account_id": ACCOUNT,
        "credentials": ClientCredentials("me", SECRET),
        "voice_url": bandwidth.url,
        "api_url": bandwidth.url,
        "rate_limit": RateLimit(10_000, 1000),
        "random": Random(11),
    }
    return VoiceClient(**{**defaults, **settings})


@asynccontextmanager
async def server_and_client(*ids: str, **settings: Any) -> AsyncIterator[tuple[Bandwidth, VoiceClient]]:
    """Run a server with these conferences and a client of it. Check that neither leaves a task."""
    before = asyncio.all_tasks()
    async with serving(*ids) as bandwidth:
        async with client_of(bandwidth, **settings) as client:
            yield bandwidth, client
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


def kinds(outcomes: list[Outcome]) -> dict[str, str]:
    """Return the kind of outcome of each id."""
    return {outcome.conference_id: str(outcome.kind) for outcome in outcomes}


# Ending one conference


@virtual_time
async def test_ending_a_conference() -> None:
    """The client sends one request with one field and returns an outcome."""
    async with server_and_client("conf-1") as (bandwidth, client):
        bandwidth.latency = 0.5
        outcome = await client.end_conference("conf-1")
        assert outcome == Outcome("conf-1", OutcomeKind.ENDED, 1, None, about(0.5, abs=0.01))
        assert bandwidth.bodies == [{"status": "completed"}]
        assert bandwidth.ended == {"conf-1"}


@virtual_time
async def test_an_unknown_conference() -> None:
    """A 404 to the first attempt raises NotFoundError."""
    async with server_and_client() as (bandwidth, client):
        with pytest.raises(NotFoundError) as caught:
            await client.end_conference("conf-9")
        assert (caught.value.status, caught.value.attempts, len(bandwidth.log)) == (404, 1, 1)


@virtual_time
async def test_a_404_after_an_attempt_without_an_answer() -> None:
    """The first attempt got no response but ended the conference, so it counts as already ended."""

    async def end_and_cut(request: web.Request) -> web.StreamResponse:
        bandwidth.end("conf-1")
        return await cut(request)

    async with server_and_client("conf-1") as (bandwidth, client):
        bandwidth.posts = [end_and_cut]
        outcome = await client.end_conference("conf-1")
        assert (outcome.kind, outcome.attempts) == (OutcomeKind.ALREADY_ENDED, 2)


@pytest.mark.parametrize("before", [reply(503), reply(429), reply(429, Retry_After="1")])
@virtual_time
async def test_a_404_after_an_attempt_that_was_not_carried_out(before: Reply) -> None:
    """A 429 or 503 ended nothing, so a 404 after it means that the conference never existed."""
    async with server_and_client() as (bandwidth, client):
        bandwidth.posts = [before]
        with pytest.raises(NotFoundError) as caught:
            await client.end_conference("conf-1")
        assert caught.value.attempts == 2


@virtual_time
async def test_a_404_for_a_conference_that_was_listed() -> None:
    """A Conference object comes from the server, so the conference existed and has ended since."""
    async with server_and_client() as (_, client):
        outcome = await client.end_conference(Conference(id="conf-1"))
        assert (outcome.kind, outcome.attempts) == (OutcomeKind.ALREADY_ENDED, 1)


@pytest.mark.parametrize("after", ["ended", "gone"])
@virtual_time
async def test_a_409_is_settled_by_reading(after: str) -> None:
    """After a 409 the client reads the conference. If it is completed or gone, it has ended."""
    async with server_and_client("conf-1") as (bandwidth, client):
        bandwidth.gone = 409
        bandwidth.end("conf-1")
        if after == "gone":
            bandwidth.gets = [reply(404)]
        outcome = await client.end_conference("conf-1")
        assert (outcome.kind, outcome.attempts) == (OutcomeKind.ALREADY_ENDED, 2)
        assert bandwidth.log == [("POST", "conf-1"), ("GET", "conf-1")]


@virtual_time
async def test_a_409_of_an_active_conference_is_tried_twice_more() -> None:
    """The client waits 0.5 to 1 second before each retry. Then it raises ConflictError."""
    async with server_and_client("conf-1") as (bandwidth, client):
        bandwidth.posts = [reply(409)] * 9
        with pytest.raises(ConflictError) as caught:
            await client.end_conference("conf-1")
        assert (caught.value.attempts, caught.value.ambiguous) == (6, False)
        assert bandwidth.log == [("POST", "conf-1"), ("GET", "conf-1")] * 3
        first, second, third = bandwidth.moments
        assert 0.5 <= second - first <= 1.01
        assert 0.5 <= third - second <= 1.01


@virtual_time
async def test_a_409_that_passes() -> None:
    """The client sends the update again until the conflict is over."""
    async with server_and_client("conf-1") as (bandwidth, client):
        bandwidth.posts = [reply(409), reply(409)]
        outcome = await client.end_conference("conf-1")
        assert (outcome.kind, outcome.attempts) == (OutcomeKind.ENDED, 5)


@virtual_time
async def test_a_409_that_cannot_be_explained() -> None:
    """If the read after a 409 fails, its error is raised. In a run the id is ``failed``, not ``refused``."""
    async with server_and_client("conf-1") as (bandwidth, client):
        bandwidth.posts, bandwidth.gets = [reply(409)] * 9, [reply(500)] * 20
        with pytest.raises(ServerError) as caught:
            await client.end_conference("conf-1")
        assert (caught.value.status, caught.value.ambiguous) == (500, False)
        bandwidth.posts, bandwidth.gets = [reply(409)] * 9, [reply(500)] * 20
        report = await client.end_conferences(["conf-1"])
        assert report.counts == {OutcomeKind.FAILED: 1}


@virtual_time
async def test_an_unsafe_id_is_not_sent() -> None:
    """An unsafe id could address another resource, so the client sends nothing."""
    async with server_and_client("conf-1") as (bandwidth, client):
        for unsafe in ("", "..", "a/b", "a?b", "a b", "a%2Fb", "a\nb"):
            with pytest.raises(ConfigurationError, match="is no conference id"):
                await client.end_conference(unsafe)
        assert (bandwidth.log, bandwidth.token_requests) == ([], 0)


@virtual_time
async def test_a_connection_the_server_had_given_up_is_not_noticed() -> None:
    """If the server has closed a kept connection, the client retries at once and raises no error."""
    async with server_and_client("a", "b") as (bandwidth, client):
        await client.end_conference("a")
        bandwidth.posts = [cut]
        started = now()
        assert (await client.end_conference("b")).attempts == 2
        assert now() - started < 0.01


@virtual_time
async def test_a_server_that_hangs() -> None:
    """The attempt times out, and the next attempt ends the conference."""
    async with server_and_client("a", timeouts=Timeouts(attempt=4.0)) as (bandwidth, client):
        bandwidth.posts = [hang]
        assert (await client.end_conference("a")).kind is OutcomeKind.ENDED
        assert 4.0 <= now() < 4.5


@virtual_time
async def test_settings_of_one_call() -> None:
    """Each operation can have its own deadline, retry policy and timeouts."""
    async with server_and_client("a", deadline=100.0) as (bandwidth, client):
        bandwidth.posts = [hang, reply(500), hang]
        with pytest.raises(DeadlineExceededError, match="deadline of 2 s") as caught:
            await client.end_conference("a", deadline=2.0)
        assert caught.value.ambiguous
        with pytest.raises(ServerError):
            await client.end_conference("a", retry=RetryPolicy(attempts=1))
        started = now()
        with pytest.raises(TransportError):
            await client.end_conference("a", retry=RetryPolicy(attempts=1), timeouts=Timeouts(attempt=3.0))
        assert now() - started == about(3.0, abs=0.1)
        with pytest.raises(ConfigurationError, match="deadline"):
            await client.end_conference("a", deadline=0)


@virtual_time
async def test_no_deadline_at_all() -> None:
    """With a deadline of ``math.inf``, only the retry policy limits the wait."""
    async with server_and_client("a", deadline=math.inf) as (bandwidth, client):
        bandwidth.posts = [reply(429, Retry_After="600")] * 3
        assert (await client.end_conference("a")).attempts == 4
        assert now() >= 1800


# Redirecting


@virtual_time
async def test_a_redirect() -> None:
    """The client sends only the fields that were set."""
    async with server_and_client("a") as (bandwidth, client):
        await client.update_conference("a", REDIRECT)
        assert bandwidth.bodies == [{"status": "active", "redirectUrl": "https://example.com/bxml"}]


@pytest.mark.parametrize("fault", [cut, hang, reply(500), reply(503)])
@virtual_time
async def test_a_redirect_that_may_have_arrived_is_not_repeated(fault: Reply) -> None:
    """Members could hear the BXML twice. The error is ambiguous, unless it is a 503."""
    async with server_and_client("a") as (bandwidth, client):
        bandwidth.posts = [fault]
        with pytest.raises(BandwidthError) as caught:
            await client.update_conference("a", REDIRECT)
        unsent = isinstance(caught.value, APIError) and caught.value.status == 503
        assert (caught.value.attempts, caught.value.ambiguous) == (1, not unsent)
        assert len(bandwidth.log) == 1
        bandwidth.posts = [fault]
        chosen = RetryPolicy(repeat_ambiguous=True)
        await client.update_conference("a", REDIRECT, retry=chosen)
        assert len(bandwidth.log) == 3


@virtual_time
async def test_a_redirect_that_was_refused_is_repeated() -> None:
    """Bandwidth did not execute a request that got a 429, or a 503 with Retry-After."""
    async with server_and_client("a") as (bandwidth, client):
        bandwidth.posts = [reply(429), reply(429, Retry_After="2"), reply(503, Retry_After="1")]
        await client.update_conference("a", REDIRECT)
        assert len(bandwidth.log) == 4


@virtual_time
async def test_a_redirect_without_a_connection_is_repeated() -> None:
    """Without a connection no request was sent, so a retry is safe."""
    async with serving("a") as bandwidth:
        pass
    async with client_of(bandwidth, credentials=BasicCredentials("u", SECRET)) as client:
        with pytest.raises(TransportError, match="no connection") as caught:
            await client.update_conference("a", REDIRECT)
        assert (caught.value.attempts, caught.value.ambiguous) == (5, False)


@virtual_time
async def test_a_redirect_of_an_unknown_conference() -> None:
    """For a redirect, a 400, 404 or 409 is raised at once, and the conference is not read."""
    async with server_and_client() as (bandwidth, client):
        for answer, kind in (
            (reply(404), NotFoundError),
            (reply(409), ConflictError),
            (reply(400), BadRequestError),
        ):
            bandwidth.posts = [answer]
            with pytest.raises(kind):
                await client.update_conference("a", REDIRECT)
        assert len(bandwidth.log) == 3


# Reading


@virtual_time
async def test_getting_a_conference() -> None:
    """The conference is returned with its members. Unknown fields are ignored."""
    async with server_and_client("a") as (bandwidth, client):
        bandwidth.conferences["a"]["activeMembers"] = [{"callId": "c-1", "mute": True, "new": 1}]
        assert await client.get_conference("a") == Conference(
            id="a",
            created_time=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            active_members=(ConferenceMember(call_id="c-1", mute=True),),
        )
        with pytest.raises(NotFoundError):
            await client.get_conference("b")


@virtual_time
async def test_reading_is_repeated_and_never_ambiguous() -> None:
    """Reads change nothing, so they are retried and their errors are never ambiguous."""
    async with server_and_client("a") as (bandwidth, client):
        bandwidth.gets = [
            reply(500),
            reply(200, "<html>"),
            reply(429),
            reply(200, '{"id": true}'),
        ]
        assert (await client.get_conference("a")).id == "a"
        bandwidth.gets = [reply(500)] * 9
        with pytest.raises(ServerError) as caught:
            await client.get_conference("a")
        assert not caught.value.ambiguous


@virtual_time
async def test_listing_follows_the_pages() -> None:
    """A list returns all conferences of all pages in order, each once."""
    ids = [f"conf-{number}" for number in range(25)]
    async with server_and_client(*ids) as (bandwidth, client):
        bandwidth.end("conf-3")
        found = [c async for c in client.list_conferences(page_size=10, name="a b&c")]
        assert [conference.id for conference in found] == ids
        assert [conference.id for conference in found if not conference.active] == ["conf-3"]
        path = f"/api/v2/accounts/{ACCOUNT}/conferences?name=a+b%26c&pageSize=10"
        assert [line for _, line in bandwidth.log] == [path, f"{path}&pageToken=10", f"{path}&pageToken=20"]


@virtual_time
async def test_listing_by_time() -> None:
    """Times need a time zone and are sent in UTC."""
    async with server_and_client() as (bandwidth, client):
        moment = datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=UTC)
        listing = client.list_conferences(min_created_time=moment, max_created_time=moment)
        assert [c async for c in listing] == []
        assert bandwidth.log[0][1].endswith(
            "?minCreatedTime=2026-01-02T03%3A04%3A05.678Z&maxCreatedTime=2026-01-02T03%3A04%3A05.678Z&pageSize=1000"
        )
        with pytest.raises(ConfigurationError, match="no time zone"):
            await anext(client.list_conferences(min_created_time=datetime(2026, 1, 1)))  # noqa: DTZ001  # wrong on purpose


@pytest.mark.parametrize("page_size", [0, 1001, -1])
@virtual_time
async def test_a_page_size_that_the_api_does_not_know(page_size: int) -> None:
    """A wrong page size is an error before anything is sent."""
    async with server_and_client() as (bandwidth, client):
        with pytest.raises(ConfigurationError, match=f"page_size is 1 to 1000, not {page_size}"):
            await anext(client.list_conferences(page_size=page_size))
        assert bandwidth.log == []


@pytest.mark.parametrize(
    "link",
    [
        "<http://127.0.0.2:1/x>",
        "<http://localhost:{port}/x>",
        "<https://127.0.0.1:{port}/x>",
        "<//evil.example/x>",
        "<{other}/api>",
        "<mailto:me@example.com>",
    ],
)
@virtual_time
async def test_a_next_page_elsewhere_is_refused(link: str) -> None:
    """Each request contains the credentials, so the client follows no link to another origin."""
    async with serving("stolen") as other, server_and_client("a") as (bandwidth, client):
        link = link.format(port=bandwidth.url.rpartition(":")[2], other=other.url)
        bandwidth.gets = [reply(200, '[{"id":"a"}]', Link=f'{link}; rel="next"')]
        found = []
        with pytest.raises(TransportError):  # noqa: PT012  # the loop is one statement
            async for conference in client.list_conferences():
                found.append(conference.id)  # noqa: PERF401  # a comprehension would lose them
        assert found == ["a"]
        assert (len(bandwidth.log), other.log) == (1, [])


@virtual_time
async def test_a_next_page_that_only_looks_like_ours() -> None:
    """A path with two leading slashes could name another host. The client sends no credentials there."""
    async with serving("stolen") as other, server_and_client("a") as (bandwidth, client):
        path = f"//{other.url.removeprefix('http://')}/api/v2/accounts/{ACCOUNT}/conferences?pageSize=1"
        bandwidth.gets = [reply(200, "[]", Link=f'<{bandwidth.url}{path}>; rel="next"')]
        with pytest.raises(BandwidthError):
            assert [c async for c in client.list_conferences()] == []
        assert other.log == []


@pytest.mark.parametrize(("ours", "theirs"), [("", ":443"), (":443", "")])
@virtual_time
async def test_a_next_page_with_the_usual_port(mocked: aioresponses, ours: str, theirs: str) -> None:
    """A link with the default https port has the same origin as one without. Proxies may add the port."""
    host, path = "https://voice.bandwidth.com", f"/api/v2/accounts/{ACCOUNT}/conferences?pageSize=1"
    link = f'<{host}{theirs}{path}&pageToken=1>; rel="next"'
    mocked.get(f"{host}{path}", payload=[{"id": "a"}], headers={"Link": link})
    mocked.get(f"{host}{path}&pageToken=1", payload=[{"id": "b"}])
    basic = BasicCredentials("u", SECRET)
    async with VoiceClient(**settings(credentials=basic, voice_url=host + ours)) as client:
        assert [c.id async for c in client.list_conferences(page_size=1)] == ["a", "b"]


@virtual_time
async def test_pages_in_a_circle() -> None:
    """A link to an earlier page raises an error. Otherwise the listing would never end."""
    async with server_and_client("a") as (bandwidth, client):
        links = ["/c?pageToken=1", "/c?pageToken=2", "/c?pageToken=1"]
        base = f"{bandwidth.url}/api/v2/accounts/{ACCOUNT}/conferences"
        bandwidth.gets = [
            reply(200, '[{"id":"a"}]', Link=f"<{base}{link.removeprefix('/c')}&pageSize=1>; rel=next")
            for link in links
        ]
        with pytest.raises(TransportError, match="circle"):
            assert [c async for c in client.list_conferences()] == []
        assert len(bandwidth.log) == 3


# Runs


@virtual_time
async def test_a_run_with_every_kind_of_outcome() -> None:
    """Each id gets its outcome, and the report counts all outcomes."""
    answers: dict[str, Reply] = {
        "refused": reply(400, '{"type":"validation","description":"no"}'),
        "forbidden": reply(403),
        "failed": reply(503),
        "unknown": cut,
        "moved": reply(302, Location="http://127.0.0.2:1/"),
        "conflict": reply(409),
    }
    outcomes: list[Outcome] = []
    async with server_and_client("ended", "conflict", "moved") as (bandwidth, client):
        bandwidth.faults = answers.get
        ids: list[str | Conference] = [
            "ended",
            Conference(id="already"),
            "missing",
            "un safe",
            "../x",
            "",
            *answers,
        ]
        report = await client.end_conferences(ids, on_outcome=outcomes.append)
        assert kinds(outcomes) == {
            "ended": "ended",
            "already": "already_ended",
            "missing": "not_found",
            "un safe": "refused",
            "../x": "refused",
            "": "refused",
            "refused": "refused",
            "forbidden": "refused",
            "failed": "failed",
            "unknown": "unknown",
            "moved": "refused",
            "conflict": "refused",
        }
        assert report.counts == Counter(outcome.kind for outcome in outcomes)
        assert report.attempts == sum(o.attempts for o in outcomes) == len(bandwidth.log)
        assert (report.total, report.stopped, report.ok) == (len(ids), None, False)
        by_id = {outcome.conference_id: outcome for outcome in outcomes}
        assert by_id["refused"].error is not None
        assert "validation: no" in by_id["refused"].error
        assert {by_id[name].attempts for name in ("un safe", "../x", "")} == {0}
        assert (by_id["failed"].attempts, by_id["unknown"].attempts) == (5, 6)


@virtual_time
async def test_refused_credentials_stop_a_run() -> None:
    """The run stops after a handful of requests. The other ids are not attempted, and the report says why."""
    outcomes: list[Outcome] = []
    async with server_and_client() as (bandwidth, client):
        bandwidth.reject = True
        report = await client.end_conferences(map(str, range(1000)), on_outcome=outcomes.append)
        assert isinstance(report.stopped, AuthenticationError)
        assert set(report.counts) == {OutcomeKind.FAILED, OutcomeKind.NOT_ATTEMPTED}
        assert (report.total, len(outcomes)) == (1000, 1000)
        assert report.counts["failed"] <= len(bandwidth.log) <= 5
        assert bandwidth.token_requests <= 3


@virtual_time
async def test_credentials_that_are_withdrawn_stop_a_run() -> None:
    """If credentials are withdrawn in a run, only requests in flight are rejected, at most twice each."""
    async with server_and_client(*map(str, range(500))) as (bandwidth, client):
        bandwidth.latency = 0.1
        asyncio.get_running_loop().call_later(2.0, setattr, bandwidth, "reject", True)
        report = await client.end_conferences(map(str, range(500)), concurrency=10)
        assert isinstance(report.stopped, AuthenticationError)
        assert report.total == 500
        assert report.counts[OutcomeKind.ENDED] == len(bandwidth.ended)
        assert len(bandwidth.log) - len(bandwidth.ended) <= 20
        assert report.counts[OutcomeKind.UNKNOWN] == report.counts[OutcomeKind.REFUSED] == 0


@virtual_time
async def test_a_door_that_is_shut_for_an_hour_stops_a_run() -> None:
    """A run does not wait for a Retry-After of an hour. The report's error contains that time."""
    async with server_and_client(*"abc") as (bandwidth, client):
        bandwidth.faults = lambda _: reply(429, Retry_After="3600")
        report = await client.end_conferences(map(str, range(200)))
        assert isinstance(report.stopped, RateLimitError)
        assert report.stopped.retry_after == about(3600, abs=1)
        assert report.counts == {OutcomeKind.NOT_ATTEMPTED: 200}
        assert len(bandwidth.log) == 1
        assert now() < 2.0


@virtual_time
async def test_a_shorter_hint_does_not_stop_a_run() -> None:
    """The run waits once, for all ids."""
    async with server_and_client(*map(str, range(50))) as (bandwidth, client):
        bandwidth.posts = [reply(429, Retry_After="600")]
        report = await client.end_conferences(map(str, range(50)))
        assert (report.ok, report.counts) == (True, {OutcomeKind.ENDED: 50})
        assert 600 <= report.elapsed < 605
        assert len(bandwidth.log) <= 55


@virtual_time
async def test_duplicates_in_a_run() -> None:
    """Each has the outcome of its first; nothing is sent for it a second time."""
    async with server_and_client("a", "b") as (bandwidth, client):
        outcomes: list[Outcome] = []
        ids: list[str | Conference] = ["a", "a", Conference(id="a"), "b", "b"]
        report = await client.end_conferences(ids, on_outcome=outcomes.append)
        assert Counter(o.conference_id for o in outcomes) == {"a": 3, "b": 2}
        assert report.counts == {OutcomeKind.ENDED: 5}
        assert report.ok
        assert len(bandwidth.log) == 2


@virtual_time
async def test_a_run_over_a_listing() -> None:
    """You can end all active conferences of a list, as the documentation shows."""
    async with server_and_client(*map(str, range(30))) as (bandwidth, client):
        bandwidth.end("7")
        active = (c async for c in client.list_conferences(page_size=7) if c.active)
        report = await client.end_conferences(active, concurrency=4)
        assert report.counts == {OutcomeKind.ENDED: 29}
        assert len(bandwidth.ended) == 30


@virtual_time
async def test_the_deadline_of_a_run() -> None:
    """Requests in flight may finish. The other ids are not attempted, and none is unknown."""
    async with server_and_client(*map(str, range(40))) as (bandwidth, client):
        bandwidth.latency = 1.0
        report = await client.end_conferences(map(str, range(40)), concurrency=4, deadline=3.5)
        assert isinstance(report.stopped, DeadlineExceededError)
        assert report.counts == {
            OutcomeKind.ENDED: len(bandwidth.ended),
            OutcomeKind.NOT_ATTEMPTED: 40 - len(bandwidth.ended),
        }
        assert len(bandwidth.log) == len(bandwidth.ended)
        assert report.elapsed < 5.0


@virtual_time
async def test_a_stop_does_not_wait_for_a_server_that_hangs() -> None:
    """An id that is still in flight after the grace period is ``unknown``."""
    async with server_and_client(*"abcdef", timeouts=Timeouts(attempt=1000.0)) as (bandwidth, client):
        bandwidth.faults = lambda name: hang if name == "c" else None
        stop = Stop()
        asyncio.get_running_loop().call_later(5.0, lambda: stop.request(grace=2.0))
        outcomes: list[Outcome] = []
        await client.end_conferences(["a", "c", "d"], stop=stop, on_outcome=outcomes.append)
        assert kinds(outcomes) == {"a": "ended", "d": "ended", "c": "unknown"}
        assert now() == about(7.0, abs=0.1)


@virtual_time
async def test_an_async_on_outcome() -> None:
    """The worker awaits ``on_outcome`` before its next id. The run raises any error of ``on_outcome``."""
    heard = []

    async def tell(outcome: Outcome) -> None:
        await asyncio.sleep(1.0)
        heard.append(outcome.conference_id)
        if len(heard) == 3:
            raise OSError("disk full")

    async with server_and_client(*"abcdef") as (_, client):
        with pytest.raises(OSError, match="disk full"):
            await client.end_conferences(list("abcdef"), concurrency=1, on_outcome=tell)
        assert heard == list("abc")


@virtual_time
async def test_ending_as_a_stream() -> None:
    """The stream yields the outcomes as they arrive and has the report at the end."""
    async with server_and_client(*"abc") as (bandwidth, client):
        async with client.ending_conferences(list("abcd"), deadline=100.0) as outcomes:
            got = [outcome async for outcome in outcomes]
        assert kinds(got) == {"a": "ended", "b": "ended", "c": "ended", "d": "not_found"}
        assert outcomes.report.ok
        assert bandwidth.ended == set("abc")


@virtual_time
async def test_breaking_off_a_stream_of_endings() -> None:
    """After a break the client cancels the requests in flight and sends no more."""
    async with server_and_client(*map(str, range(100))) as (bandwidth, client):
        bandwidth.latency = 0.1
        async with client.ending_conferences(map(str, range(100)), concurrency=2) as outcomes:
            async for outcome in outcomes:
                if outcome.conference_id == "9":
                    break
        sent = len(bandwidth.log)
        await asyncio.sleep(10)
        assert len(bandwidth.log) == sent <= 16


async def test_three_hundred_tasks_and_a_bad_server() -> None:
    """Each operation gets its own result, and that agrees with the server's state."""
    random = Random(99)
    ids = [f"conf-{number}" for number in range(300)]
    plans: dict[str, list[Reply]] = {}

    async def end_and_cut(request: web.Request) -> web.StreamResponse:
        bandwidth.end(request.match_info["id"])
        return await cut(request)

    for number, name in enumerate(ids):
        plan: list[Reply] = random.choices(
            [cut, end_and_cut, reply(500), reply(503), reply(503, Retry_After="1"), reply(429)],
            k=random.choice([0, 0, 0, 0, 1, 1, 2, 3]),
        )
        plans[name] = plan + ([reply(400, name)] if number % 10 == 3 else [])

    def fault(name: str) -> Reply | None:
        plan = plans.get(name)
        return plan.pop(0) if plan else None

    # A request that ends its conference before the connection is cut needs a conference that exists.
    missing = {name for number, name in enumerate(ids) if number % 7 == 0 and end_and_cut not in plans[name]}
    wrong = {name for number, name in enumerate(ids) if number % 10 == 3}
    async with server_and_client(
        *(name for name in ids if name not in missing), timeouts=Timeouts(connect=30, attempt=30)
    ) as (bandwidth, client):
        bandwidth.faults = fault
        results = await asyncio.gather(*(client.end_conference(name) for name in ids), return_exceptions=True)
        sent = Counter(name for _, name in bandwidth.log)
        for name, result in zip(ids, results, strict=True):
            assert isinstance(result, Outcome | BandwidthError)
            assert result.attempts >= sent[name] > 0
            if name in wrong and not isinstance(result, Outcome):
                assert isinstance(result, BadRequestError)
                assert result.description == name
            elif isinstance(result, Outcome):
                assert result.conference_id == name
                assert name in bandwidth.ended or (name in missing and result.attempts > 1)
                # A refusal after a lost attempt: the reading told that it is over.
                assert name not in wrong or result.kind == "already_ended"
            else:
                assert isinstance(result, NotFoundError)
                assert name in missing


# The client itself


def settings(**changed: Any) -> dict[str, Any]:
    """Return the required settings of a client, with these changes."""
    return {"account_id": ACCOUNT, "credentials": ClientCredentials("me", SECRET), **changed}


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"account_id": "../1"}, "is no account id"),
        ({"account_id": ""}, "is no account id"),
        ({"voice_url": "http://voice.example"}, "voice_url is plain http"),
        ({"api_url": "http://api.example"}, "api_url is plain http"),
        ({"voice_url": "https://voice.example/api/v2"}, "scheme and host only"),
        ({"deadline": 0}, "deadline is a number of seconds above 0"),
        ({"deadline": math.nan}, "deadline is a number of seconds above 0"),
    ],
)
def test_settings_that_cannot_work(changed: dict[str, Any], sentence: str) -> None:
    """The constructor raises an error with a clear sentence."""
    with pytest.raises(ConfigurationError, match=sentence):
        VoiceClient(**settings(**changed))


def test_plain_http_by_choice() -> None:
    """``allow_http`` allows a URL with plain http."""
    client = VoiceClient(**settings(voice_url="http://voice.example", allow_http=True))
    assert "http://voice.example" in repr(client)


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")  # by aiohttp, for its next version
async def test_a_session_that_has_an_auth() -> None:
    """A session with its own auth is an error, because that auth could replace the client's header."""
    async with aiohttp.ClientSession(auth=aiohttp.BasicAuth("a", "b")) as session:
        with pytest.raises(ConfigurationError, match="auth of its own"):
            VoiceClient(**settings(session=session))


async def test_trust_env_belongs_to_the_session() -> None:
    """``trust_env`` with a session is an error, because it would have no effect."""
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ConfigurationError, match="trust_env belongs to the session"):
            VoiceClient(**settings(session=session, trust_env=True))


@virtual_time
async def test_a_session_that_is_passed_in() -> None:
    """The client uses the session with its own Authorization header and leaves the session open."""
    async with serving("a", "b") as bandwidth:
        mine = {"Authorization": "Basic mine", "User-Agent": "mine"}
        async with aiohttp.ClientSession(headers=mine, raise_for_status=True) as session:
            async with client_of(bandwidth, session=session) as client:
                await client.end_conference("a")
                with pytest.raises(NotFoundError):
                    await client.end_conference("c")
            assert not session.closed
            async with client_of(bandwidth, session=session) as client:
                await client.end_conference("b")
        await asyncio.sleep(0)
    assert bandwidth.shown == {f"Bearer token-{SECRET}"}


@virtual_time
async def test_a_closed_client() -> None:
    """Every method of a closed client raises ClientStateError."""
    async with server_and_client("a") as (bandwidth, client):
        await client.aclose()
        for call in (
            client.end_conference("a"),
            client.update_conference("a", REDIRECT),
            client.get_conference("a"),
            anext(client.list_conferences()),
            client.end_conferences(["a"]),
        ):
            with pytest.raises(ClientStateError, match="closed"):
                await call
        with pytest.raises(ClientStateError, match="closed"):
            client.ending_conferences(["a"])
        assert bandwidth.log == []


def test_a_client_in_another_event_loop(mocked: aioresponses) -> None:
    """A client at module level and two calls of asyncio.run are a common mistake. The error names it."""
    client = VoiceClient(**settings(credentials=BasicCredentials("u", SECRET)))
    base = "https://voice.bandwidth.com/api/v2/accounts/9900000/conferences"
    mocked.post(f"{base}/a", status=204, repeat=True)

    async def main() -> OutcomeKind:
        return (await client.end_conference("a")).kind

    async def last() -> None:
        await client.aclose()

    assert asyncio.run(main()) is OutcomeKind.ENDED
    with pytest.raises(ClientStateError, match="belongs to another event loop"):
        asyncio.run(main())
    asyncio.run(last())


@virtual_time
async def test_defaults_are_production(mocked: aioresponses) -> None:
    """Without URLs the client sends its requests to Bandwidth's production hosts."""
    mocked.post("https://api.bandwidth.com/api/v1/oauth2/token", payload={"access_token": "t"})
    mocked.post("https://voice.bandwidth.com/api/v2/accounts/9900000/conferences/a", status=204)
    async with VoiceClient(**settings()) as client:
        assert client.rate == 20.0
        assert (await client.end_conference("a")).kind is OutcomeKind.ENDED


def test_a_client_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """``from_env`` reads the account, credentials and environment. Arguments override the variables."""
    for name in ("BW_USERNAME", "BW_PASSWORD", "BW_VOICE_URL", "BW_API_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "BW_ACCOUNT_ID": "77",
        "BW_CLIENT_ID": "me",
        "BW_CLIENT_SECRET": SECRET,
        "BW_ENVIRONMENT": "test",
    }.items():
        monkeypatch.setenv(name, value)
    client = VoiceClient.from_env()
    assert "account 77" in repr(client)
    assert "https://test.voice.bandwidth.com" in repr(client)
    changed = VoiceClient.from_env(account_id="88", rate_limit=RateLimit(3.0))
    assert ("account 88" in repr(changed), changed.rate) == (True, 3.0)
    monkeypatch.delenv("BW_ACCOUNT_ID")
    with pytest.raises(MissingCredentialsError, match="BW_ACCOUNT_ID"):
        VoiceClient.from_env()


@virtual_time
async def test_no_secret_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    """No secret is in a repr, in an error, or in a log record of any logger at DEBUG."""
    caplog.set_level(logging.DEBUG)
    async with server_and_client("a") as (bandwidth, client):
        bandwidth.posts = [reply(503), reply(429), cut, reply(401), reply(500)]
        await client.end_conference("a")
        bandwidth.reject = True
        with pytest.raises(AuthenticationError) as caught:
            await client.end_conference("b")
        report = await client.end_conferences(["c"])
        shown = f"{client!r} {caught.value!r} {report!r}"
    assert SECRET not in shown
    assert caplog.records
    for record in caplog.records:
        assert SECRET not in f"{record.getMessage()} {record.args} {record.exc_text}"


@pytest.mark.parametrize("legacy", [False, True], ids=["oauth2", "basic"])
@virtual_time
async def test_a_secret_that_the_server_quotes_is_not_shown(
    caplog: pytest.LogCaptureFixture, *, legacy: bool
) -> None:
    """If a response quotes the Authorization header, the client replaces it with stars, also in runs."""
    caplog.set_level(logging.DEBUG)
    settings = {"credentials": BasicCredentials("me", SECRET)} if legacy else {}
    async with server_and_client("a", "b", **settings) as (bandwidth, client):
        bandwidth.posts, bandwidth.gets = [quote, quote], [quote]
        with pytest.raises(BadRequestError) as caught:
            await client.end_conference("a")
        with pytest.raises(BadRequestError) as read:
            await client.get_conference("a")
        outcomes: list[Outcome] = []
        await client.end_conferences(["b"], on_outcome=outcomes.append)
        shown = [repr(vars(error.value)) + str(error.value) for error in (caught, read)]
        (header,) = bandwidth.shown
    assert (caught.value.type, caught.value.description) == (
        ("Basic ***", "quoted me:***") if legacy else ("Bearer ***", "quoted ***")
    )
    assert header is not None
    logged = caplog.text
    for text in [*shown, repr(outcomes), logged]:
        assert ("quoted" in text, SECRET in text) == (text is not logged, False)
        assert header.partition(" ")[2] not in text


@virtual_time
async def test_a_secret_that_the_token_endpoint_quotes_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    """Neither the client secret nor its header appears in the error or the log."""
    caplog.set_level(logging.DEBUG)
    async with server_and_client("a") as (bandwidth, client):
        bandwidth.tokens = [quote]
        with pytest.raises(AuthenticationError) as caught:
            await client.end_conference("a")
    assert caught.value.description == "quoted me:***"
    sent = base64.b64encode(f"me:{SECRET}".encode()).decode()
    for text in (str(caught.value), repr(vars(caught.value)), repr(caught.value.__cause__), caplog.text):
        assert (SECRET in text, sent in text) == (False, False)


# The limiter


@pytest.mark.looptime(noop_cycles=5)
async def test_a_single_call_in_the_middle_of_a_run(mocked: aioresponses) -> None:
    """In a run at 50 a second, a single operation is sent within three send intervals."""
    sent: dict[str, float] = {}

    async def answer(url: URL, **_: Any) -> CallbackResult:
        sent[url.name] = now()
        await asyncio.sleep(0.2)
        return CallbackResult(status=204)

    mocked.post(re.compile(r"https://voice\.bandwidth\.com/.*"), callback=answer, repeat=True)
    stop = Stop()
    async with VoiceClient(
        account_id=ACCOUNT, credentials=BasicCredentials("me", SECRET), rate_limit=RateLimit.fixed(50)
    ) as client:
        run = asyncio.create_task(client.end_conferences((f"bulk-{n}" for n in range(10_000)), stop=stop))
        waits = []
        for number in range(20):
            await asyncio.sleep(1 + number / 997)
            came = now()
            await client.end_conference(f"single-{number}")
            waits.append(sent[f"single-{number}"] - came)
        stop.request()
        report = await run
    assert max(waits) <= 3 / 50
    assert report.counts[OutcomeKind.ENDED] == pytest.approx(50 * 24 - 20, abs=20)
    assert report.total == 10_000


@virtual_time
async def test_two_clients_of_one_account_share_a_limiter() -> None:
    """Clients with one limiter share its rate."""
    ids = [f"conf-{number}" for number in range(10)]
    async with (
        server_and_client(*ids, rate_limit=RateLimit.fixed(10)) as (bandwidth, client),
        client_of(bandwidth, rate_limit=None, limiter=client.limiter) as other,
    ):
        assert other.limiter is client.limiter
        assert other.rate == 10
        await asyncio.gather(client.end_conferences(ids[:5]), other.end_conferences(ids[5:]))
    assert max(bandwidth.moments) - min(bandwidth.moments) == about(0.9, abs=0.05)


def test_a_limiter_that_is_passed_in_has_its_settings() -> None:
    """A rate next to a limiter is an error, because it would be ignored."""
    with pytest.raises(ConfigurationError, match="has its rate limit already"):
        VoiceClient(
            account_id=ACCOUNT,
            credentials=BasicCredentials("me", SECRET),
            limiter=Limiter(),
            rate_limit=RateLimit(),
        )


@virtual_time
async def test_a_client_tells_its_pace() -> None:
    """``on_event`` receives a pause when it begins, and a snapshot is available at any time."""
    events: list[object] = []
    async with server_and_client("conf-1", on_event=events.append) as (bandwidth, client):
        bandwidth.posts = [reply(429, Retry_After="12")]
        call = asyncio.create_task(client.end_conference("conf-1"))
        await asyncio.sleep(5)
        seen = client.limiter.snapshot()
        await call
    heard = [one for one in events if isinstance(one, Paused)]
    assert heard == [Paused(about(12.0, abs=0.05), hinted=True)]
    assert (seen.paused_for, seen.pause_reason) == (about(7.0, abs=0.05), "hint")
    assert (seen.waiting_interactive, seen.waiting_bulk, seen.refusals) == (1, 0, 1)


@virtual_time
async def test_a_refused_id_of_a_run_comes_first_again() -> None:
    """An id that was rate limited keeps its place in the queue."""
    ids = [f"conf-{number}" for number in range(30)]
    async with server_and_client(*ids, rate_limit=RateLimit.fixed(10)) as (bandwidth, client):
        bandwidth.posts = [reply(204), reply(429, Retry_After="1")]
        await client.end_conferences(ids)
    assert [name for _, name in bandwidth.log] == [*ids[:2], ids[1], *ids[2:]]
