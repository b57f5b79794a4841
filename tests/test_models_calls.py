"""Members, recordings and calls: what their changes refuse and send, and what they say of themselves."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.models import Call, ConferenceRecording
from bandwidth_async.updates import TAG_LIMIT, CallState, UpdateCall, UpdateConference, UpdateConferenceMember

SECRET = "s3cr3t-and-more"
URL = "https://example.com/bxml"

# From the published description of the API.
CALL_FIELDS = {
    "state": "active",
    "redirectUrl": URL,
    "redirectMethod": "GET",
    "username": "user",
    "password": "pass",
    "redirectFallbackUrl": "http://example.org/",
    "redirectFallbackMethod": "POST",
    "fallbackUsername": "user2",
    "fallbackPassword": "pass2",
    "tag": "a tag",
}
NAMES = [field.name for field in attrs.fields(UpdateCall)]


def member(**given_fields: Any) -> UpdateConferenceMember:
    """Make a change of a member from fields of any type, as an untyped caller would."""
    return UpdateConferenceMember(**given_fields)


def call(**given_fields: Any) -> UpdateCall:
    """Make a change of a call from fields of any type, as an untyped caller would."""
    return UpdateCall(**given_fields)


# Calls


def test_hanging_up_sends_the_documented_body() -> None:
    """This body, byte for byte, is what hangs up a call."""
    assert UpdateCall(state="completed").to_json() == '{"state":"completed"}'
    assert UpdateCall(state="completed") == UpdateCall(state=CallState.COMPLETED)


def test_every_field_of_a_call_has_the_name_of_the_api() -> None:
    """All ten fields are sent under the names of the published description."""
    update = call(**dict(zip(NAMES, CALL_FIELDS.values(), strict=True)))
    assert update.to_dict() == CALL_FIELDS
    assert json.loads(update.to_json()) == CALL_FIELDS


def test_a_call_has_the_fields_of_a_conference_and_a_tag() -> None:
    """The two bodies differ in one word and one field: a change to one is wanted in the other."""
    conference = [(a.name, a.repr) for a in attrs.fields(UpdateConference)][1:]
    assert [(a.name, a.repr) for a in attrs.fields(UpdateCall)][1:-1] == conference


@pytest.mark.parametrize(
    ("given_fields", "sentence"),
    [
        *(
            (
                {"state": "completed", name: value},
                f"state 'completed' takes no other field: leave out {name}, "
                "or use state 'active' to redirect the call",
            )
            for name, value in list(zip(NAMES, CALL_FIELDS.values(), strict=True))[1:]
        ),
        ({}, "state 'active' needs redirect_url; to hang up the call use state='completed'"),
        ({"tag": "x"}, "state 'active' needs redirect_url; to hang up the call use state='completed'"),
        (
            {"status": "completed"},
            "a call has a state, a conference has a status: write state= instead of status=",
        ),
        ({"state": "disconnected"}, "state must be 'active' or 'completed', not 'disconnected'"),
        (
            {"redirect_url": URL, "tag": "x" * (TAG_LIMIT + 1)},
            "tag has 4097 characters; Bandwidth takes at most 4096",
        ),
        ({"redirect_url": URL, "tag": 5}, "tag must be text"),
        (
            {"redirect_url": "ftp://x"},
            "redirect_url must be a URL that starts with http:// or https://, not 'ftp://x'",
        ),
    ],
)
def test_what_bandwidth_would_refuse_is_refused_before(given_fields: dict[str, Any], sentence: str) -> None:
    """A combination that the published description rules out is a sentence, not a request."""
    with pytest.raises(ConfigurationError) as caught:
        call(**given_fields)
    assert str(caught.value) == sentence


def test_a_tag_of_the_limit_is_taken() -> None:
    """4096 characters are allowed."""
    assert UpdateCall(redirect_url=URL, tag="x" * TAG_LIMIT).to_dict()["tag"] == "x" * TAG_LIMIT


def test_the_credentials_of_a_call_are_not_shown() -> None:
    """A log line or a debugger that shows the change does not show them."""
    update = UpdateCall(
        redirect_url=URL, username=SECRET, password=SECRET, fallback_username=SECRET, fallback_password=SECRET
    )
    assert SECRET not in repr(update)
    assert update.to_json().count(SECRET) == 4


@pytest.mark.parametrize(
    ("known", "active"),
    [
        ({}, True),
        ({"state": "queued"}, True),
        ({"state": "answered"}, True),
        ({"state": "a state of the future"}, True),
        ({"state": "disconnected"}, False),
        ({"end_time": datetime(2026, 1, 1, tzinfo=UTC)}, False),
        ({"state": "answered", "end_time": datetime(2026, 1, 1, tzinfo=UTC)}, False),
    ],
)
def test_whether_a_call_is_active(known: dict[str, Any], active: bool) -> None:
    """It has ended when its state or its end says so."""
    assert Call(call_id="c-1", **known).active is active


# Members


@pytest.mark.parametrize(
    ("given_fields", "body"),
    [
        ({"mute": True}, '{"mute":true}'),
        ({"mute": False}, '{"mute":false}'),
        ({"hold": True, "mute": False}, '{"mute":false,"hold":true}'),
        ({"call_ids_to_coach": ["c-2", "c-3"]}, '{"callIdsToCoach":["c-2","c-3"]}'),
        ({"call_ids_to_coach": ()}, '{"callIdsToCoach":[]}'),
        ({"call_ids_to_coach": (name for name in ["c-2"])}, '{"callIdsToCoach":["c-2"]}'),
    ],
)
def test_a_member_is_sent_what_was_set(given_fields: dict[str, Any], body: str) -> None:
    """Also what is false or empty; what was not set stays as it is."""
    assert member(**given_fields).to_json() == body


@pytest.mark.parametrize(
    ("given_fields", "sentence"),
    [
        ({}, "the change of a member sets mute, hold or call_ids_to_coach"),
        ({"mute": "yes"}, "mute is True or False, not 'yes'"),
        ({"hold": 1}, "hold is True or False, not 1"),
        ({"call_ids_to_coach": "c-2"}, "call_ids_to_coach is a list of call ids, not 'c-2'"),
        ({"call_ids_to_coach": ["c-2", ""]}, "call_ids_to_coach is a list of call ids, not ['c-2', '']"),
        ({"call_ids_to_coach": [2]}, "call_ids_to_coach is a list of call ids, not [2]"),
        ({"call_ids_to_coach": 2}, "call_ids_to_coach is a list of call ids, not 2"),
    ],
)
def test_a_change_of_a_member_that_is_none(given_fields: dict[str, Any], sentence: str) -> None:
    """Nothing set, a text for a list (its letters would be sent), a number for a flag."""
    with pytest.raises(ConfigurationError) as caught:
        member(**given_fields)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("odd", ["a\n", "a\x00", "a b", "..", "a/b", "..;", "\ud800", "\x1b[2J"])
def test_an_id_to_coach_is_an_id(odd: str) -> None:
    """What could not be asked for cannot be coached either."""
    with pytest.raises(ConfigurationError, match="is no call id to coach: it has to be one word"):
        member(call_ids_to_coach=["c-2", odd])


# Recordings


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        ("PT13.67S", 13.67),
        ("PT13,5S", 13.5),
        ("PT0S", 0.0),
        ("PT1H2M3S", 3723.0),
        ("P1DT1M", 86460.0),
        ("P2D", 172800.0),
        ("P1Y", None),
        ("P", None),
        ("PT", None),
        ("13.67", None),
        ("PT1S ", None),
        ("PT٣S", None),
        ("", None),
        (None, None),
    ],
)
def test_the_length_of_a_recording(duration: str | None, seconds: float | None) -> None:
    """An ISO duration of days and less is a number; what is none is kept as it was sent."""
    recording = ConferenceRecording(recording_id="r-1", duration=duration)
    assert (recording.duration, recording.seconds) == (duration, seconds)


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=9999)))
def test_every_length_comes_back(length: timedelta) -> None:
    """Written with all its parts, it is read as the same number."""
    minutes, seconds = divmod(length.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"P{length.days}DT{hours}H{minutes}M{seconds}.{length.microseconds:06}S"
    assert ConferenceRecording(recording_id="r", duration=text).seconds == pytest.approx(
        length.total_seconds()
    )


@given(st.text())
def test_no_text_breaks_the_length(duration: str) -> None:
    """Whatever the server says, asking for the number raises nothing."""
    seconds = ConferenceRecording(recording_id="r", duration=duration).seconds
    assert seconds is None or seconds >= 0
