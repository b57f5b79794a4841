"""Members, calls, BXML and recordings over real sockets, and what follows from what."""

from __future__ import annotations

import io
import json
import wave
from typing import Any

import aiohttp
import pytest

from bandwidth_async.sandbox import Sandbox
from tests.sandbox_caller import ACCOUNT, LIST, Caller, Reply, calling

END = {"status": "completed"}
HANG_UP = {"state": "completed"}
LEAVE = {"state": "active", "redirectUrl": "https://example.com/bxml"}
XML = {"Content-Type": "application/xml"}
START, PAUSE, RESUME, STOP = (
    f"<Bxml><{verb}Recording/></Bxml>" for verb in ("Start", "Pause", "Resume", "Stop")
)


async def play(caller: Caller, conference_id: str, document: str) -> Reply:
    """Send BXML to a conference."""
    return await caller.ask("PUT", f"{LIST}/{conference_id}/bxml", data=document, headers=XML)


async def member_ids(caller: Caller, conference_id: str) -> list[str]:
    """Return the ids of the members in the conference's response."""
    return [it["callId"] for it in (await caller.ask("GET", f"{LIST}/{conference_id}")).json["activeMembers"]]


async def call_states(caller: Caller, call_ids: list[str]) -> list[str]:
    """Return the state of each call."""
    return [(await caller.ask("GET", f"{ACCOUNT}/calls/{it}")).json["state"] for it in call_ids]


async def until_cut(response: aiohttp.ClientResponse) -> bytes:
    """Return what arrives before the connection is lost."""
    received = b""
    try:
        async for chunk in response.content.iter_any():
            received += chunk
    except aiohttp.ClientPayloadError:
        return received
    pytest.fail("it was not cut")


def truth_about(sandbox: Sandbox, conference_id: str) -> dict[str, Any]:
    """Return the truth about a conference, without times."""
    facts: dict[str, Any] = {**sandbox.truth()["conferences"][conference_id]}
    return {**facts, "ended_at": bool(facts["ended_at"])}


async def test_a_member_is_read_and_changed() -> None:
    """A PUT changes the fields that it has. Those left out or null stay. The conference agrees."""
    async with calling(conferences=1, members=2) as caller:
        (conference,) = caller.sandbox.conference_ids
        first, second = caller.sandbox.call_ids(conference)
        path = f"{LIST}/{conference}/members/{first}"
        for change in ({"mute": True}, {"callIdsToCoach": [second], "hold": True}, {"hold": False}, {}):
            reply = await caller.ask("PUT", path, json={**change, "unknown": 1})
            assert (reply.status, reply.body) == (204, b"")
        await caller.ask("PUT", path, json={"callIdsToCoach": None})
        member = (await caller.ask("GET", path)).json
        assert member == {
            "callId": first,
            "conferenceId": conference,
            "memberUrl": f"{caller.sandbox.url}{path}",
            "mute": True,
            "hold": False,
            "callIdsToCoach": [second],
        }
        members = (await caller.ask("GET", f"{LIST}/{conference}")).json["activeMembers"]
        assert members[0] == member
        assert (members[1]["callId"], members[1]["mute"], members[1]["callIdsToCoach"]) == (second, False, [])


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ([], "The body must be a JSON object"),
        ({"mute": 1}, "Invalid mute: only true and false are allowed"),
        ({"hold": "false"}, "Invalid hold: only true and false are allowed"),
        ({"callIdsToCoach": "c-1"}, "Invalid callIdsToCoach: a list of call ids is allowed"),
        ({"callIdsToCoach": ["c-1", 2]}, "Invalid callIdsToCoach: a list of call ids is allowed"),
    ],
)
async def test_a_wrong_change_of_a_member_is_a_400(body: object, why: str) -> None:
    """The description names the field, and nothing changes."""
    async with calling(conferences=1, members=1) as caller:
        (conference,) = caller.sandbox.conference_ids
        path = f"{LIST}/{conference}/members/{caller.sandbox.call_ids(conference)[0]}"
        before = (await caller.ask("GET", path)).json
        reply = await caller.ask("PUT", path, json=body)
        assert (reply.status, reply.json["description"]) == (400, why)
        assert (await caller.ask("GET", path)).json == before


async def test_a_call_that_is_not_a_member_is_not_found() -> None:
    """A call of another conference, one that left, one that was ejected, and one made up."""
    async with calling(conferences=2, members=2) as caller:
        first, second = caller.sandbox.conference_ids
        (leaving, ejected), (elsewhere, _) = map(caller.sandbox.call_ids, (first, second))
        await caller.ask("POST", f"{ACCOUNT}/calls/{leaving}", json=LEAVE)
        for call in (elsewhere, leaving, "c-1", "x"):
            for method, body in (("GET", None), ("PUT", {"mute": True})):
                reply = await caller.ask(method, f"{LIST}/{first}/members/{call}", json=body)
                assert (reply.status, reply.json["description"]) == (
                    404,
                    f"Member [{call}] not found in conference [{first}]",
                )
        assert (await caller.ask("GET", f"{LIST}/{first}/members/{ejected}")).status == 200
        await caller.ask("POST", f"{LIST}/{first}", json=END)
        assert (await caller.ask("GET", f"{LIST}/{first}/members/{ejected}")).status == 404


async def test_calls_go_on_after_their_conference() -> None:
    """Ending ejects members. Their calls go on until hung up, and then have an end time and a cause."""
    async with calling(conferences=1, members=2) as caller:
        (conference,) = caller.sandbox.conference_ids
        calls = await member_ids(caller, conference)
        await caller.ask("POST", f"{LIST}/{conference}", json=END)
        assert await member_ids(caller, conference) == []
        assert await call_states(caller, calls) == ["answered", "answered"]
        assert caller.sandbox.active_calls() == calls
        reply = await caller.ask("POST", f"{ACCOUNT}/calls/{calls[0]}", json=HANG_UP)
        assert (reply.status, reply.body) == (200, b"")
        ended = (await caller.ask("GET", f"{ACCOUNT}/calls/{calls[0]}")).json
        created = (await caller.ask("GET", f"{LIST}/{conference}")).json["createdTime"]
        assert ended == {
            "applicationId": ended["applicationId"],
            "accountId": caller.sandbox.account_id,
            "callId": calls[0],
            "to": "+18285550100",
            "from": "+19195550100",
            "direction": "inbound",
            "state": "disconnected",
            "startTime": created,
            "answerTime": created,
            "endTime": ended["endTime"],
            "disconnectCause": "hangup",
            "lastUpdate": ended["endTime"],
        }
        assert ended["endTime"] > created
        alive = (await caller.ask("GET", f"{ACCOUNT}/calls/{calls[1]}")).json
        assert alive.keys() == ended.keys() - {"endTime", "disconnectCause"}
        assert caller.sandbox.active_calls() == calls[1:]
        reply = await caller.ask("GET", "/_sandbox/active-calls", authorization="")
        assert reply.json == calls[1:]


@pytest.mark.parametrize("body", [HANG_UP, LEAVE])
async def test_the_last_member_that_leaves_completes_the_conference(body: dict[str, str]) -> None:
    """A call leaves by hanging up and by a redirect. No end request is counted."""
    async with calling(conferences=1, members=2) as caller:
        (conference,) = caller.sandbox.conference_ids
        first, second = caller.sandbox.call_ids(conference)
        assert (await caller.ask("POST", f"{ACCOUNT}/calls/{first}", json=body)).status == 200
        assert await member_ids(caller, conference) == [second]
        first_alive, last_alive = (1, 0) if body == HANG_UP else (2, 2)
        assert truth_about(caller.sandbox, conference) == {
            "ended_at": False,
            "end_requests": 0,
            "members": 1,
            "active_calls": first_alive,
            "recordings": 0,
        }
        assert (await caller.ask("POST", f"{ACCOUNT}/calls/{second}", json=body)).status == 200
        assert "completedTime" in (await caller.ask("GET", f"{LIST}/{conference}")).json
        assert truth_about(caller.sandbox, conference) == {
            "ended_at": True,
            "end_requests": 0,
            "members": 0,
            "active_calls": last_alive,
            "recordings": 0,
        }
        assert (await caller.ask("POST", f"{LIST}/{conference}", json=END)).status == 404


@pytest.mark.parametrize(
    ("already_ended", "again", "redirect"), [(409, 409, 409), (404, 404, 404), (200, 200, 404)]
)
async def test_an_ended_call_responds_with_the_status_of_the_setting(
    already_ended: int, again: int, redirect: int
) -> None:
    """The page of errors has a 409 for a call that ended recently and a 404 for one that ended long ago."""
    async with calling(conferences=1, members=1, call_already_ended=already_ended) as caller:
        (call,) = caller.sandbox.active_calls()
        statuses = [
            (await caller.ask("POST", f"{ACCOUNT}/calls/{call}", json=body)).status
            for body in (HANG_UP, HANG_UP, LEAVE)
        ]
        assert statuses == [200, again, redirect]
        assert caller.requests()["hang-up"] == ({"200": 2} if again == 200 else {"200": 1, str(again): 1})
        assert caller.requests()["redirect-call"] == {str(redirect): 1}


async def test_an_invented_call_id_is_not_found() -> None:
    """Also when its id has the right form."""
    async with calling(conferences=1, members=1) as caller:
        (call,) = caller.sandbox.active_calls()
        for made_up in ("x", "c-", "c-zzzzzzzz", f"{call}0", call.replace("c-", "r-"), call[:-1]):
            for method, body in (("GET", None), ("POST", HANG_UP)):
                reply = await caller.ask(method, f"{ACCOUNT}/calls/{made_up}", json=body)
                assert (reply.status, reply.json["description"]) == (404, f"Call [{made_up}] not found")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("completed", "The body must be a JSON object"),
        ({"status": "completed"}, "redirectUrl is required when state is active"),
        ({"state": "hung-up"}, "Invalid state: only active and completed are allowed"),
    ],
)
async def test_a_wrong_update_of_a_call_is_a_400(body: object, why: str) -> None:
    """A call has a state, not a status; nothing happens to it."""
    async with calling(conferences=1, members=1) as caller:
        (call,) = caller.sandbox.active_calls()
        reply = await caller.ask("POST", f"{ACCOUNT}/calls/{call}", json=body)
        assert (reply.status, reply.json["description"]) == (400, why)
        assert await call_states(caller, [call]) == ["answered"]


async def test_a_recording_is_made_by_bxml() -> None:
    """Started, listed as processing, stopped, listed as complete with its times and the URL of its sound."""
    async with calling(conferences=1, members=1) as caller:
        (conference,) = caller.sandbox.conference_ids
        path = f"{LIST}/{conference}/recordings"
        assert (await caller.ask("GET", path)).json == []
        for document in (START, START, "<Bxml><SpeakSentence>Bye</SpeakSentence></Bxml>", PAUSE, RESUME):
            assert (await play(caller, conference, document)).status == 204
        (processing,) = (await caller.ask("GET", path)).json
        id_ = processing["recordingId"]
        known = {
            "accountId": caller.sandbox.account_id,
            "conferenceId": conference,
            "name": "conference-000001",
            "recordingId": id_,
            "channels": 1,
            "startTime": processing["startTime"],
            "fileFormat": "wav",
        }
        assert processing == {**known, "status": "processing"}
        assert (await caller.ask("GET", f"{path}/{id_}/media")).status == 404
        await play(caller, conference, STOP)
        complete = (await caller.ask("GET", f"{path}/{id_}")).json
        assert complete == {
            **known,
            "status": "complete",
            "duration": complete["duration"],
            "endTime": complete["endTime"],
            "mediaUrl": f"{caller.sandbox.url}{path}/{id_}/media",
        }
        assert complete["endTime"] >= complete["startTime"]
        sound = await caller.ask("GET", complete["mediaUrl"])
        assert (sound.status, sound.headers["Content-Type"]) == (200, "audio/vnd.wave")
        await play(caller, conference, f"{START}")
        assert len((await caller.ask("GET", path)).json) == 2


async def test_a_recording_may_be_an_mp3() -> None:
    """Its file has that media type, and the size that was announced."""
    async with calling(conferences=1) as caller:
        (conference,) = caller.sandbox.conference_ids
        document = '<Bxml><StartRecording fileFormat="mp3"/><StopRecording/></Bxml>'
        assert (await play(caller, conference, document)).status == 204
        (recording,) = (await caller.ask("GET", f"{LIST}/{conference}/recordings")).json
        assert recording["fileFormat"] == "mp3"
        sound = await caller.ask("GET", recording["mediaUrl"])
        assert (sound.status, sound.headers["Content-Type"]) == (200, "audio/mpeg")
        assert sound.body == b"".join(caller.sandbox.sound(conference, recording["recordingId"]))
        assert sound.body.startswith(b"\xff\xfb")
        assert sound.headers["Content-Length"] == str(len(sound.body))


async def test_a_recording_stops_with_its_conference() -> None:
    """It is complete afterwards and is kept. Further BXML is refused."""
    async with calling(conferences=1) as caller:
        (conference,) = caller.sandbox.conference_ids
        await play(caller, conference, START)
        await caller.ask("POST", f"{LIST}/{conference}", json=END)
        (recording,) = (await caller.ask("GET", f"{LIST}/{conference}/recordings")).json
        assert recording["status"] == "complete"
        assert (await play(caller, conference, START)).status == 404
        assert truth_about(caller.sandbox, conference)["recordings"] == 1


async def test_recordings_from_the_start_are_whole_wav_files() -> None:
    """Each has the size that was set, its own sound, and times that fit its length."""
    async with calling(conferences=1, recordings=2, recording_size="192044B") as caller:
        (conference,) = caller.sandbox.conference_ids
        listed = (await caller.ask("GET", f"{LIST}/{conference}/recordings")).json
        assert [it["recordingId"] for it in listed] == caller.sandbox.recording_ids(conference)
        assert [(it["duration"], it["status"]) for it in listed] == [("PT2.00S", "complete")] * 2
        assert listed[0]["endTime"] == listed[1]["startTime"]
        sounds = [await caller.ask("GET", it["mediaUrl"]) for it in listed]
        assert [sound.headers["Content-Length"] for sound in sounds] == ["192044"] * 2
        assert sounds[0].body != sounds[1].body
        for sound, recording in zip(sounds, listed, strict=True):
            assert sound.body == b"".join(caller.sandbox.sound(conference, recording["recordingId"]))
            with wave.open(io.BytesIO(sound.body)) as file:
                assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 48_000)
                assert file.getnframes() == 96_000


@pytest.mark.parametrize("share", ["0", "0.1", "0.9", "0.999999"])
async def test_a_download_is_cut_where_planned(share: str) -> None:
    """The header has the whole length. Exactly that share of the file arrives, then the connection closes."""
    async with (
        calling(conferences=1, recordings=1, recording_size="1MB") as caller,
        aiohttp.ClientSession() as it,
    ):
        (conference,) = caller.sandbox.conference_ids
        (recording,) = caller.sandbox.recording_ids(conference)
        caller.sandbox.plan(f"cut@{share}")
        url = f"{caller.sandbox.url}{LIST}/{conference}/recordings/{recording}/media"
        async with it.get(url, headers={"Authorization": caller.basic}) as response:
            assert response.headers["Content-Length"] == "1000000"
            received = await until_cut(response)
        whole = b"".join(caller.sandbox.sound(conference, recording))
        assert received == whole[: int(1_000_000 * float(share))]
        assert caller.requests()["download"] == {"cut": 1}


async def test_a_response_without_a_body_is_cut_before_it_begins() -> None:
    """The work is done nevertheless."""
    async with calling(conferences=1) as caller:
        (conference,) = caller.sandbox.conference_ids
        caller.sandbox.plan("cut")
        with pytest.raises(aiohttp.ClientOSError):
            await caller.ask("POST", f"{LIST}/{conference}", json=END)
        assert truth_about(caller.sandbox, conference)["ended_at"] is True
        assert caller.requests()["end"] == {"cut": 1}


async def test_json_is_cut_as_well() -> None:
    """A cut is within any body."""
    async with calling(conferences=1) as caller:
        caller.sandbox.plan("cut@0.3")
        with pytest.raises(aiohttp.ClientPayloadError):
            await caller.ask("GET", LIST)


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize(
    "tail", ["/recordings", "/recordings/r-1", "/recordings/r-1/media", "/bxml", "/members/c-1"]
)
async def test_nothing_is_found_in_an_unknown_conference(method: str, tail: str) -> None:
    """404 where the method fits, 405 where it does not."""
    put = tail in {"/bxml", "/members/c-1"}
    body: dict[str, Any] = {}
    if method == "PUT" and put:
        body = {"data": "<Bxml/>", "headers": XML} if tail == "/bxml" else {"json": {}}
    async with calling() as caller:
        reply = await caller.ask(method, f"{LIST}/conf-1{tail}", **body)
        fits = tail != "/bxml" if method == "GET" else put
        assert reply.status == (404 if fits else 405)


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        (f"{LIST}/conf-1/bxml", "application/json"),
        (f"{LIST}/conf-1/bxml", "text/xml"),
        (f"{LIST}/conf-1/members/c-1", "application/xml"),
    ],
)
async def test_another_media_type_is_a_415(path: str, media_type: str) -> None:
    """Each body has the one type that is published."""
    async with calling() as caller:
        reply = await caller.ask("PUT", path, data="{}", headers={"Content-Type": media_type})
        assert reply.status == 415


async def test_bad_bxml_is_a_400() -> None:
    """The description says what is wrong with it, and nothing is done."""
    async with calling(conferences=1) as caller:
        (conference,) = caller.sandbox.conference_ids
        reply = await play(caller, conference, "<Bxml><StartRecording/><Hangup/></Bxml>")
        assert reply.status == 400
        assert reply.json["description"].startswith("Invalid BXML: Hangup is not allowed in a conference")
        assert caller.sandbox.recording_ids(conference) == []


async def test_faults_and_quota_cover_all_endpoints() -> None:
    """A download gets planned faults as an end does. Over the quota all get 429."""
    async with calling(
        conferences=1, members=1, recordings=1, quota="token-bucket:rate=0.1,burst=8"
    ) as caller:
        (conference,) = caller.sandbox.conference_ids
        (call,), (recording,) = caller.sandbox.call_ids(conference), caller.sandbox.recording_ids(conference)
        paths = [
            f"{LIST}/{conference}/members/{call}",
            f"{LIST}/{conference}/recordings",
            f"{LIST}/{conference}/recordings/{recording}/media",
            f"{ACCOUNT}/calls/{call}",
        ]
        caller.sandbox.plan("503", times=4)
        statuses = [(await caller.ask("GET", path)).status for path in paths * 3]
        assert statuses == [503] * 4 + [200] * 4 + [429] * 4


async def test_a_successful_status_can_be_a_fault_too() -> None:
    """The client gets a success for an end that did not happen, or a redirect."""
    async with calling(conferences=1) as caller:
        path = f"{LIST}/{caller.sandbox.conference_ids[0]}"
        caller.sandbox.plan("204")
        caller.sandbox.plan("302")
        replies = [await caller.ask("POST", path, json=END, allow_redirects=False) for _ in range(2)]
        assert [(it.status, it.headers.get("Location")) for it in replies] == [(204, None), (302, "/")]
        assert not truth_about(caller.sandbox, caller.sandbox.conference_ids[0])["ended_at"]


def test_what_is_not_there_has_no_recordings() -> None:
    """Asking for an unknown conference or recording is a mistake of the test that asks."""
    sandbox = Sandbox(conferences=1)
    with pytest.raises(KeyError, match="conf-unknown"):
        sandbox.recording_ids("conf-unknown")
    with pytest.raises(KeyError, match="r-unknown"):
        sandbox.sound(sandbox.conference_ids[0], "r-unknown")


async def test_strict_json() -> None:
    """A byte order mark, bytes that are no UTF-8 and nesting without end are no JSON objects."""
    async with calling(conferences=1) as caller:
        path = f"{LIST}/{caller.sandbox.conference_ids[0]}"
        for body in (
            b"\xef\xbb\xbf{}",
            b'{"a":"\xff"}',
            b"[" * 100_000,
            b'{"a":1}x',
            b"",
            b"null",
        ):
            reply = await caller.ask("POST", path, data=body, headers={"Content-Type": "application/json"})
            assert (reply.status, reply.json["description"]) == (400, "The body must be a JSON object"), body
        nested = json.dumps({**END, "unknown": [[[1]]]})
        reply = await caller.ask("POST", path, data=nested, headers={"Content-Type": "application/json"})
        assert reply.status == 204
