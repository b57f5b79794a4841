"""The client with the sandbox, both checked with Bandwidth's published description."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bandwidth_async import (
    BandwidthError,
    ClientCredentials,
    UpdateCall,
    UpdateConference,
    UpdateConferenceMember,
    VoiceClient,
)
from bandwidth_async.sandbox import Sandbox, endpoints
from tests.description import Description, Violation, missing, watching

REDIRECT = {
    "redirect_url": "https://example.com/bxml",
    "redirect_method": "GET",
    "username": "u",
    "password": "p" * 1024,
    "redirect_fallback_url": "https://example.com/fallback",
    "redirect_fallback_method": "POST",
    "fallback_username": "fu",
    "fallback_password": "fp",
}

pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")


def client_of(sandbox: Sandbox) -> VoiceClient:
    """Return a client of the sandbox."""
    return VoiceClient(
        account_id=sandbox.account_id,
        credentials=ClientCredentials(sandbox.client_id, sandbox.client_secret),
        voice_url=sandbox.url,
        api_url=sandbox.url,
    )


async def ask_everything(client: VoiceClient, sandbox: Sandbox, folder: Path) -> None:
    """Call every method, with every field that it has."""
    conference, other = sandbox.conference_ids
    first, second = sandbox.call_ids(conference)
    start = datetime(2020, 1, 1, tzinfo=UTC)
    listed = client.list_conferences(
        name="conference-000001", min_created_time=start, max_created_time=datetime.now(UTC), page_size=1
    )
    assert [it.id async for it in listed] == [conference]
    assert [it.id async for it in client.list_conferences(page_size=1)] == [conference, other]
    await client.update_conference_member(
        conference, first, UpdateConferenceMember(mute=True, hold=True, call_ids_to_coach=[second])
    )
    member = await client.get_conference_member(conference, first)
    assert (member.mute, member.hold, list(member.call_ids_to_coach or ())) == (True, True, [second])
    assert (await client.get_conference(conference)).active_members
    await client.update_conference(conference, UpdateConference(status="active", **REDIRECT))
    await client.update_conference_bxml(conference, "<Bxml><StartRecording/></Bxml>")
    await client.update_conference_bxml(conference, "<Bxml><StopRecording/></Bxml>")
    (recording,) = await client.list_conference_recordings(conference)
    assert (await client.get_conference_recording(conference, recording.recording_id)) == recording
    path = await client.download_conference_recording(conference, recording.recording_id, to=folder / "r.wav")
    assert path.read_bytes() == b"".join(sandbox.sound(conference, recording.recording_id))
    await client.update_call(first, UpdateCall(state="active", tag="t" * 4096, **REDIRECT))
    await client.end_conference(conference)
    await client.update_call(second, UpdateCall(state="completed"))
    assert [(await client.get_call(it)).state for it in (first, second)] == ["answered", "disconnected"]


async def test_every_request_and_every_response_is_as_published(tmp_path: Path) -> None:
    """All eleven operations are used at least once, without a field that is not described."""
    description = Description.load()
    with watching(description, requests=True) as watch:
        async with Sandbox(conferences=2, members=2) as sandbox, client_of(sandbox) as client:
            await ask_everything(client, sandbox, tmp_path)
    assert set(watch.requests) == description.operations
    assert {operation for operation, status in watch.responses if status < 300} == description.operations


async def test_the_watch_sees_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds a response whose time is not a time."""

    async def look(sandbox: Sandbox, client: VoiceClient) -> None:
        with watching(Description.load()) as watch:
            await client.get_conference(sandbox.conference_ids[0])
            monkeypatch.setattr(endpoints, "format_time", lambda _: "17:00")
            with suppress(BandwidthError):
                await client.get_conference(sandbox.conference_ids[0])
            assert watch.responses == {("getConference", 200): 1}

    async with Sandbox(conferences=1, members=0) as sandbox, client_of(sandbox) as client:
        with pytest.raises(Violation, match="'17:00' is not a 'date-time'"):
            await look(sandbox, client)
