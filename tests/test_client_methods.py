"""Every operation of the client: the request, the returned value, and whether it is retried."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from aioresponses import CallbackResult, aioresponses
from attrs import frozen
from yarl import URL

from bandwidth_async import (
    BadRequestError,
    BasicCredentials,
    ClientCredentials,
    Conference,
    ConferenceMember,
    ConfigurationError,
    ConflictError,
    DeadlineExceededError,
    NotFoundError,
    RateLimit,
    RetryPolicy,
    ServerError,
    TransportError,
    UpdateConference,
    VoiceClient,
)
from bandwidth_async.models import Call, ConferenceRecording
from bandwidth_async.sandbox import Sandbox
from bandwidth_async.updates import UpdateCall, UpdateConferenceMember
from bandwidth_async.webhooks import EventHub, parse_event
from tests.wire_server import CLOSE, answered, wire_server

if TYPE_CHECKING:
    from bandwidth_async.http import ResponseInfo

HOST = "https://voice.bandwidth.com"
ACCOUNT = f"{HOST}/api/v2/accounts/9900000"
CONFERENCE = f"{ACCOUNT}/conferences/conf-1"
BXML = "<Bxml><SpeakSentence>Good bye</SpeakSentence></Bxml>"
REDIRECT = UpdateConference(status="active", redirect_url="https://example.com/bxml")

# The values come from the examples of the published API description.
MEMBER = {
    "callId": "c-1",
    "conferenceId": "conf-1",
    "memberUrl": "https://evil.example/members/c-1",
    "mute": False,
    "hold": True,
    "callIdsToCoach": ["c-2"],
}
RECORDING = {
    "accountId": "9900000",
    "conferenceId": "conf-1",
    "name": "my-conference-name",
    "recordingId": "r-1",
    "duration": "PT13.67S",
    "channels": 1,
    "startTime": "2022-06-17T22:19:40.375Z",
    "endTime": "2022-06-17T22:20:00.000Z",
    "fileFormat": "wav",
    "status": "completed",
    "mediaUrl": "https://evil.example/media",
    "recordingName": "my-recording-name",
}
CALL = {
    "applicationId": "04e88489",
    "accountId": "9900000",
    "callId": "c-1",
    "parentCallId": None,
    "to": "+19195551234",
    "from": "+19195554321",
    "direction": "inbound",
    "state": "disconnected",
    "stirShaken": {"verstat": "TN-Validation-Passed", "more": {"a": 1}},
    "identity": "eyJ",
    "enqueuedTime": None,
    "startTime": "2022-06-16T13:15:07.160Z",
    "answerTime": "2022-06-16T13:15:18.126Z",
    "endTime": "2022-06-16T13:15:18.314Z",
    "disconnectCause": "hangup",
    "errorMessage": None,
    "errorId": None,
    "lastUpdate": "2022-06-16T13:15:18.314Z",
}
A_MEMBER = ConferenceMember(
    call_id="c-1",
    conference_id="conf-1",
    member_url="https://evil.example/members/c-1",
    mute=False,
    hold=True,
    call_ids_to_coach=("c-2",),
)
A_RECORDING = ConferenceRecording(
    recording_id="r-1",
    conference_id="conf-1",
    account_id="9900000",
    name="my-conference-name",
    recording_name="my-recording-name",
    status="completed",
    file_format="wav",
    channels=1,
    start_time=datetime(2022, 6, 17, 22, 19, 40, 375000, tzinfo=UTC),
    end_time=datetime(2022, 6, 17, 22, 20, tzinfo=UTC),
    duration="PT13.67S",
    media_url="https://evil.example/media",
)
A_CALL = Call(
    call_id="c-1",
    application_id="04e88489",
    account_id="9900000",
    to="+19195551234",
    from_="+19195554321",
    direction="inbound",
    state="disconnected",
    stir_shaken={"verstat": "TN-Validation-Passed", "more": '{"a": 1}'},
    identity="eyJ",
    start_time=datetime(2022, 6, 16, 13, 15, 7, 160000, tzinfo=UTC),
    answer_time=datetime(2022, 6, 16, 13, 15, 18, 126000, tzinfo=UTC),
    end_time=datetime(2022, 6, 16, 13, 15, 18, 314000, tzinfo=UTC),
    disconnect_cause="hangup",
    last_update=datetime(2022, 6, 16, 13, 15, 18, 314000, tzinfo=UTC),
)


@frozen
class Operation:
    """One method: its arguments, its request, its response, and whether it can be retried."""

    call: Callable[..., Awaitable[object]]
    method: str
    path: str
    repeatable: bool
    body: str | None = None
    content_type: str | None = None
    status: int = 204
    answer: object = None
    returns: object = None


JSON = "application/json"
OPERATIONS = {
    "get_conference": Operation(
        lambda client, **given: client.get_conference("conf-1", **given),
        "GET",
        "/conferences/conf-1",
        repeatable=True,
        status=200,
        answer={"id": "conf-1", "activeMembers": [MEMBER]},
        returns=Conference(id="conf-1", active_members=(A_MEMBER,)),
    ),
    "update_conference: end": Operation(
        lambda client, **given: client.update_conference(
            "conf-1", UpdateConference(status="completed"), **given
        ),
        "POST",
        "/conferences/conf-1",
        repeatable=True,
        body='{"status":"completed"}',
        content_type=JSON,
    ),
    "update_conference: redirect": Operation(
        lambda client, **given: client.update_conference("conf-1", REDIRECT, **given),
        "POST",
        "/conferences/conf-1",
        repeatable=False,
        body='{"status":"active","redirectUrl":"https://example.com/bxml"}',
        content_type=JSON,
    ),
    "update_conference_bxml": Operation(
        lambda client, **given: client.update_conference_bxml("conf-1", BXML, **given),
        "PUT",
        "/conferences/conf-1/bxml",
        repeatable=False,
        body=BXML,
        content_type="application/xml",
    ),
    "get_conference_member": Operation(
        lambda client, **given: client.get_conference_member("conf-1", "c-1", **given),
        "GET",
        "/conferences/conf-1/members/c-1",
        repeatable=True,
        status=200,
        answer=MEMBER,
        returns=A_MEMBER,
    ),
    "update_conference_member": Operation(
        lambda client, **given: client.update_conference_member(
            "conf-1", "c-1", UpdateConferenceMember(mute=True, call_ids_to_coach=[]), **given
        ),
        "PUT",
        "/conferences/conf-1/members/c-1",
        repeatable=True,
        body='{"mute":true,"callIdsToCoach":[]}',
        content_type=JSON,
    ),
    "list_conference_recordings": Operation(
        lambda client, **given: client.list_conference_recordings("conf-1", **given),
        "GET",
        "/conferences/conf-1/recordings",
        repeatable=True,
        status=200,
        answer=[RECORDING, {"recordingId": "r-2"}],
        returns=[A_RECORDING, ConferenceRecording(recording_id="r-2")],
    ),
    "get_conference_recording": Operation(
        lambda client, **given: client.get_conference_recording("conf-1", "r-1", **given),
        "GET",
        "/conferences/conf-1/recordings/r-1",
        repeatable=True,
        status=200,
        answer=RECORDING,
        returns=A_RECORDING,
    ),
    "get_call": Operation(
        lambda client, **given: client.get_call("c-1", **given),
        "GET",
        "/calls/c-1",
        repeatable=True,
        status=200,
        answer=CALL,
        returns=A_CALL,
    ),
    "update_call: hang up": Operation(
        lambda client, **given: client.update_call("c-1", UpdateCall(state="completed"), **given),
        "POST",
        "/calls/c-1",
        repeatable=True,
        body='{"state":"completed"}',
        content_type=JSON,
        status=200,
    ),
    "update_call: redirect": Operation(
        lambda client, **given: client.update_call(
            "c-1", UpdateCall(redirect_url="https://example.com/", tag=""), **given
        ),
        "POST",
        "/calls/c-1",
        repeatable=False,
        body='{"redirectUrl":"https://example.com/","tag":""}',
        content_type=JSON,
        status=200,
    ),
}

each_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
each_repeatable = pytest.mark.parametrize(
    "operation",
    [operation for operation in OPERATIONS.values() if operation.repeatable],
    ids=[name for name, operation in OPERATIONS.items() if operation.repeatable],
)
each_unrepeatable = pytest.mark.parametrize(
    "operation",
    [operation for operation in OPERATIONS.values() if not operation.repeatable],
    ids=[name for name, operation in OPERATIONS.items() if not operation.repeatable],
)


def settings_of_tests(**settings: Any) -> dict[str, Any]:
    """Return the settings of a client without retry delays."""
    defaults: dict[str, Any] = {
        "account_id": "9900000",
        "credentials": BasicCredentials("user", "s3cr3t"),
        "rate_limit": RateLimit.fixed(10_000),
        "retry": RetryPolicy(attempts=3, backoff_base=0),
        "random": Random(3),
    }
    return {**defaults, **settings}


@asynccontextmanager
async def client(**settings: Any) -> AsyncIterator[VoiceClient]:
    """Open a client of Bandwidth's own host, for which aioresponses sends the responses."""
    async with VoiceClient(**settings_of_tests(**settings)) as one:
        yield one


def respond(mocked: aioresponses, operation: Operation, *statuses: int, body: object = None) -> None:
    """Send these statuses, one after another. A success has the body of the operation's response."""
    for status in statuses:
        said = operation.answer if status == operation.status else body
        mocked.add(
            f"{ACCOUNT}{operation.path}",
            operation.method,
            status=status,
            body="" if said is None else json.dumps(said),
        )


def sent(mocked: aioresponses) -> list[tuple[str, str]]:
    """Return the method and path of each request that was sent."""
    return [
        (method.upper(), url.path.removeprefix("/api/v2/accounts/9900000"))
        for (method, url), calls in mocked.requests.items()
        for _ in calls
    ]


@each_operation
async def test_what_is_sent_and_returned(mocked: aioresponses, operation: Operation) -> None:
    """The client sends one request to the documented path and returns the response as a value."""
    respond(mocked, operation, operation.status)
    async with client() as one:
        assert await operation.call(one) == operation.returns
    (((method, url), (request,)),) = mocked.requests.items()
    assert (method.upper(), url) == (operation.method, URL(f"{ACCOUNT}{operation.path}"))
    body = request.kwargs["data"]
    assert (body and body.decode()) == operation.body
    assert request.kwargs["headers"].get("Content-Type") == operation.content_type
    assert request.kwargs["headers"]["Authorization"].startswith("Basic ")


@each_operation
async def test_a_refusal_is_waited_out(mocked: aioresponses, operation: Operation) -> None:
    """A request that got a 429 changed nothing, so every operation is retried."""
    respond(mocked, operation, 429, 429, operation.status)
    async with client() as one:
        assert await operation.call(one) == operation.returns
    assert len(sent(mocked)) == 3


@each_operation
@pytest.mark.parametrize("status", [400, 404, 409])
async def test_a_permanent_no(mocked: aioresponses, operation: Operation, status: int) -> None:
    """A 400, 404 or 409 is raised at once, with Bandwidth's own description."""
    respond(mocked, operation, status, body={"type": "validation", "description": "no", "id": None})
    kind = {400: BadRequestError, 404: NotFoundError, 409: ConflictError}[status]
    async with client() as one:
        with pytest.raises(kind) as caught:
            await operation.call(one)
    assert (caught.value.description, caught.value.attempts, caught.value.ambiguous) == ("no", 1, False)


@each_repeatable
@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_what_may_be_repeated_is(mocked: aioresponses, operation: Operation, status: int) -> None:
    """A second request to read, end, hang up or change settings has no further effect, so it is safe."""
    respond(mocked, operation, status, operation.status)
    async with client() as one:
        assert await operation.call(one) == operation.returns
    assert len(sent(mocked)) == 2


@each_unrepeatable
@pytest.mark.parametrize("status", [500, 502, 504])
async def test_what_may_have_been_heard_is_not_repeated(
    mocked: aioresponses, operation: Operation, status: int
) -> None:
    """An operation that may have taken effect is retried only with ``repeat_ambiguous``."""
    respond(mocked, operation, status, status, operation.status)
    async with client() as one:
        with pytest.raises(ServerError) as caught:
            await operation.call(one)
        assert (caught.value.attempts, caught.value.ambiguous) == (1, True)
        again = RetryPolicy(repeat_ambiguous=True, backoff_base=0)
        assert await operation.call(one, retry=again) == operation.returns
    assert len(sent(mocked)) == 3


@each_unrepeatable
async def test_a_503_that_says_when_is_repeated(mocked: aioresponses, operation: Operation) -> None:
    """A 503 with Retry-After means that the server has not started the work, so a retry is safe."""
    url = f"{ACCOUNT}{operation.path}"
    mocked.add(url, operation.method, status=503, headers={"Retry-After": "0"})
    respond(mocked, operation, operation.status)
    async with client() as one:
        assert await operation.call(one) == operation.returns


@each_operation
async def test_a_cut_connection(operation: Operation) -> None:
    """The client retries if that is safe. Otherwise it raises an ambiguous error."""
    body = b"" if operation.answer is None else json.dumps(operation.answer).encode()
    success = b"HTTP/1.1 204 No Content\r\n\r\n" if operation.status == 204 else answered("200 OK", body)
    # aiohttp can retry GET and PUT by itself. It must not do so for an operation that is not repeatable.
    async with wire_server((CLOSE,), (CLOSE,), (success,)) as server, client(voice_url=server.url) as one:
        if operation.repeatable:
            assert await operation.call(one) == operation.returns
            assert len(server.arrived) == 3
        else:
            with pytest.raises(TransportError) as caught:
                await operation.call(one)
            assert (caught.value.attempts, caught.value.ambiguous) == (1, True)
            assert len(server.arrived) == 1
    assert server.arrived[0].line == f"{operation.method} /api/v2/accounts/9900000{operation.path}"


@each_operation
async def test_the_answer_beside_the_value(mocked: aioresponses, operation: Operation) -> None:
    """``on_response`` receives the status, headers and attempts of the success, once."""
    heard: list[ResponseInfo] = []
    respond(mocked, operation, 429)
    mocked.add(
        f"{ACCOUNT}{operation.path}",
        operation.method,
        status=operation.status,
        body=json.dumps(operation.answer),
        headers={"X-Request-Id": "7"},
    )
    async with client() as one:
        await operation.call(one, on_response=heard.append)
    ((status, request_id, attempts),) = [(i.status, i.headers["x-request-id"], i.attempts) for i in heard]
    assert (status, request_id, attempts) == (operation.status, "7", 2)


async def test_the_answers_of_a_listing(mocked: aioresponses) -> None:
    """``on_response`` is called for each page."""
    heard: list[int] = []
    link = {"Link": f'<{ACCOUNT}/conferences?pageToken=2>; rel="next"'}
    mocked.get(f"{ACCOUNT}/conferences?pageSize=1", payload=[{"id": "a"}], headers=link)
    mocked.get(f"{ACCOUNT}/conferences?pageToken=2", payload=[{"id": "b"}])
    async with client() as one:
        listing = one.list_conferences(page_size=1, on_response=lambda info: heard.append(info.status))
        assert [conference.id async for conference in listing] == ["a", "b"]
    assert heard == [200, 200]


async def test_what_the_listener_raises_is_raised(mocked: aioresponses) -> None:
    """An error of ``on_response`` is raised to the caller, and the request is not retried."""

    def fail(_: ResponseInfo) -> None:
        raise LookupError("mine")

    respond(mocked, OPERATIONS["get_call"], 200, 200)
    async with client() as one:
        with pytest.raises(LookupError, match="mine"):
            await one.get_call("c-1", on_response=fail)
    assert len(sent(mocked)) == 1


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda one: one.get_conference_member("conf-1", "a/b"), "'a/b' is no call id"),
        (lambda one: one.get_conference_member("..", "c-1"), "'..' is no conference id"),
        (lambda one: one.get_conference_recording("conf-1", "?"), "'?' is no recording id"),
        (lambda one: one.list_conference_recordings(""), "'' is no conference id"),
        (lambda one: one.get_call("a b"), "'a b' is no call id"),
        (lambda one: one.wait_until_completed("/"), "'/' is no conference id"),
        (
            lambda one: one.update_call("c-1", UpdateConference(status="completed")),
            "the change is an UpdateCall, not UpdateConference",
        ),
        (
            lambda one: one.update_conference("conf-1", UpdateCall(state="completed")),
            "the change is an UpdateConference, not UpdateCall",
        ),
        (
            lambda one: one.update_conference_member("conf-1", "c-1", {"mute": True}),
            "the change is an UpdateConferenceMember, not dict",
        ),
        (
            lambda one: one.update_conference_bxml("conf-1", "<Bxml><Hangup/></Bxml>"),
            "<Hangup> is not for a conference",
        ),
    ],
)
async def test_what_cannot_be_right_is_not_sent(
    mocked: aioresponses, call: Callable[[VoiceClient], Awaitable[object]], sentence: str
) -> None:
    """Wrong arguments raise an error that says what is wrong. The client sends no request."""
    async with client() as one:
        with pytest.raises(ConfigurationError) as caught:
            await call(one)
    assert str(caught.value).startswith(sentence)
    assert sent(mocked) == []


@pytest.mark.parametrize("size", [0, 1001, -1, "5", None, True, 1.5, 1.0])
async def test_a_page_size_is_a_number_of_conferences(mocked: aioresponses, size: Any) -> None:
    """Any page size but an integer from 1 to 1000 raises a ConfigurationError that shows it."""
    async with client() as one:
        with pytest.raises(ConfigurationError) as caught:
            await anext(one.list_conferences(page_size=size))
    assert str(caught.value) == f"page_size is 1 to 1000, not {size!r}"
    assert sent(mocked) == []


async def test_urls_in_answers_are_not_followed(mocked: aioresponses) -> None:
    """The client builds its own URLs. Otherwise another host could get the credentials."""
    respond(mocked, OPERATIONS["get_conference_member"], 200)
    respond(mocked, OPERATIONS["get_conference_recording"], 200)
    mocked.get(f"{CONFERENCE}/recordings/r-1/media", body=b"RIFF", headers={"Content-Length": "4"})
    async with client() as one:
        member = await one.get_conference_member("conf-1", "c-1")
        recording = await one.get_conference_recording("conf-1", "r-1")
        async with one.download_conference_recording("conf-1", recording.recording_id) as media:
            assert [chunk async for chunk in media] == [b"RIFF"]
    assert (member.member_url, recording.media_url) == (MEMBER["memberUrl"], RECORDING["mediaUrl"])
    assert {url.host for _, url in mocked.requests} == {"voice.bandwidth.com"}


# Waiting for the end


@pytest.mark.looptime
async def test_waiting_for_the_end(mocked: aioresponses) -> None:
    """The client reads the conference until it has ended. Each read has its own retries."""
    active, ended = {"id": "conf-1"}, {"id": "conf-1", "completedTime": "2026-01-02T00:00:00Z"}
    for status, body in [(200, active), (503, None), (503, None), (200, active), (503, None), (200, ended)]:
        mocked.get(CONFERENCE, status=status, payload=body)
    async with client() as one:
        found = await one.wait_until_completed("conf-1")
    assert found == Conference(id="conf-1", completed_time=datetime(2026, 1, 2, tzinfo=UTC))
    assert len(sent(mocked)) == 6


@pytest.mark.looptime
async def test_waiting_goes_through_the_limiter(mocked: aioresponses) -> None:
    """The reads keep to the rate limit."""
    mocked.get(CONFERENCE, payload={"id": "conf-1"}, repeat=True)
    async with client(rate_limit=RateLimit.fixed(0.1), deadline=100) as one:
        with pytest.raises(
            DeadlineExceededError, match="was still active when its 100 s were over"
        ) as caught:
            await one.wait_until_completed("conf-1")
    assert caught.value.attempts == len(sent(mocked))
    assert 5 <= len(sent(mocked)) <= 11


@pytest.mark.looptime
async def test_waiting_has_no_end_of_its_own(mocked: aioresponses) -> None:
    """Without a deadline the client waits until the conference ends."""
    looks = 0

    def look(_: URL, **__: object) -> CallbackResult:
        nonlocal looks
        looks += 1
        body = {"id": "conf-1", "completedTime": "2026-01-02T00:00:00Z" if looks == 50 else None}
        return CallbackResult(payload=body)

    mocked.get(CONFERENCE, callback=look, repeat=True)
    async with client() as one:
        assert not (await one.wait_until_completed("conf-1", deadline=math.inf)).active


@pytest.mark.looptime
async def test_waiting_through_an_outage(mocked: aioresponses) -> None:
    """If all retries of a read fail, the client reads again later."""
    for _ in range(7):
        mocked.get(CONFERENCE, status=503)
    mocked.get(CONFERENCE, payload={"id": "conf-1", "completedTime": "2026-01-02T00:00:00Z"})
    async with client() as one:
        assert not (await one.wait_until_completed("conf-1")).active
    assert len(sent(mocked)) == 8


@pytest.mark.looptime
@pytest.mark.parametrize("deadline", [1e-9, 1e-4])
async def test_waiting_for_next_to_nothing(mocked: aioresponses, deadline: float) -> None:
    """A tiny deadline expires. It is not a wrong setting."""
    mocked.get(CONFERENCE, payload={"id": "conf-1"}, repeat=True)
    async with client() as one:
        with pytest.raises(DeadlineExceededError):
            await one.wait_until_completed("conf-1", deadline=deadline)


async def test_waiting_for_what_never_was(mocked: aioresponses) -> None:
    """A wrong id raises NotFoundError at the first read."""
    mocked.get(CONFERENCE, status=404)
    async with client() as one:
        with pytest.raises(NotFoundError) as caught:
            await one.wait_until_completed("conf-1")
    assert caught.value.attempts == 1


# Against the sandbox


def client_of(sandbox: Sandbox, **settings: Any) -> VoiceClient:
    """Return a client of a sandbox, with short retry delays."""
    return VoiceClient(
        account_id=sandbox.account_id,
        credentials=ClientCredentials(sandbox.client_id, sandbox.client_secret),
        voice_url=sandbox.url,
        api_url=sandbox.url,
        **{"retry": RetryPolicy(backoff_base=0.01), "random": Random(3), **settings},
    )


async def test_a_conference_from_its_announcement_to_its_end(tmp_path: Path) -> None:
    """Over real sockets, the effect of each operation is visible to later operations."""
    async with Sandbox(seed=5) as sandbox, client_of(sandbox) as one:
        conference_id = sandbox.add_conference(name="mine", members=2)
        first, second = sandbox.call_ids(conference_id)
        (found,) = [conference async for conference in one.list_conferences(name="mine")]
        assert (found.id, found.active, found.active_members) == (conference_id, True, None)

        coaching = UpdateConferenceMember(mute=True, hold=True, call_ids_to_coach=[second])
        await one.update_conference_member(conference_id, first, coaching)
        await one.update_conference_member(conference_id, first, UpdateConferenceMember(hold=False))
        member = await one.get_conference_member(conference_id, first)
        assert (member.mute, member.hold, member.call_ids_to_coach) == (True, False, (second,))
        members = (await one.get_conference(conference_id)).active_members
        assert members is not None
        assert member in members

        await one.update_conference_bxml(conference_id, "<Bxml><StartRecording/></Bxml>")
        await one.update_conference_bxml(conference_id, BXML)
        await one.update_conference(conference_id, REDIRECT)

        await one.update_conference(conference_id, UpdateConference(status="completed"))
        assert not (await one.wait_until_completed(conference_id)).active
        await one.update_call(first, UpdateCall(redirect_url="https://example.com/bxml"))
        await one.update_call(second, UpdateCall(state="completed"))
        assert [(await one.get_call(call)).active for call in (first, second)] == [True, False]

        (recording,) = await one.list_conference_recordings(conference_id)
        assert await one.get_conference_recording(conference_id, recording.recording_id) == recording
        assert recording.seconds is not None
        wanted = b"".join(sandbox.sound(conference_id, recording.recording_id))
        async with one.download_conference_recording(conference_id, recording.recording_id) as media:
            assert b"".join([chunk async for chunk in media]) == wanted
        path = await one.download_conference_recording(
            conference_id, recording.recording_id, to=tmp_path / "r.wav"
        )
        assert path.read_bytes() == wanted


async def test_a_recording_through_a_bad_server(tmp_path: Path) -> None:
    """A download that meets 429s, failures and lost connections still returns the complete recording."""
    async with Sandbox(conferences=1, members="2", recordings="1", recording_size="1MB") as sandbox:
        (conference_id,) = sandbox.conference_ids
        (recording_id,) = sandbox.recording_ids(conference_id)
        for fault in ("503", "reset-before", "429", "500", "reset-after"):
            sandbox.plan(fault)
        async with client_of(sandbox) as one:
            path = await one.download_conference_recording(conference_id, recording_id, to=tmp_path / "r.wav")
        assert path.read_bytes() == b"".join(sandbox.sound(conference_id, recording_id))


async def test_waiting_while_another_ends_it() -> None:
    """The wait ends when another operation ends the conference."""
    async with Sandbox(conferences=1, members="1") as sandbox, client_of(sandbox) as one:
        (conference_id,) = sandbox.conference_ids
        looked = asyncio.Event()
        waiting = asyncio.ensure_future(
            one.wait_until_completed(conference_id, on_response=lambda _: looked.set())
        )
        await looked.wait()
        await one.end_conference(conference_id)
        assert (await waiting).id == conference_id
        assert not (await one.get_conference(conference_id)).active


async def test_waiting_with_a_hub_of_webhooks() -> None:
    """An event of an EventHub ends the wait. The conference has the time of the event."""
    hub = EventHub()
    async with Sandbox(conferences=1, members="1") as sandbox, client_of(sandbox) as one:
        (conference_id,) = sandbox.conference_ids
        moment = datetime(2026, 1, 2, tzinfo=UTC)
        properties = {
            "eventType": "conferenceCompleted",
            "eventTime": "2026-01-02T00:00:00Z",
            "conferenceId": conference_id,
        }
        hub.publish(parse_event(json.dumps(properties)))
        found = await one.wait_until_completed(conference_id, hub=hub)
    assert (found.id, found.completed_time, found.active_members) == (conference_id, moment, ())
