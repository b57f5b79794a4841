"""The updates of conferences, calls and members: what is refused, what is sent, and that secrets are kept."""

from __future__ import annotations

import copy
import json
import pickle
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.models import CallbackMethod
from bandwidth_async.updates import (
    CREDENTIAL_LIMIT,
    TAG_LIMIT,
    CallState,
    ConferenceStatus,
    UpdateCall,
    UpdateConference,
    UpdateConferenceMember,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "s3cr3t-and-more"
URL = "https://example.com/bxml"

# From the published description of the API.
NAMES = {
    "status": "status",
    "redirect_url": "redirectUrl",
    "redirect_method": "redirectMethod",
    "username": "username",
    "password": "password",
    "redirect_fallback_url": "redirectFallbackUrl",
    "redirect_fallback_method": "redirectFallbackMethod",
    "fallback_username": "fallbackUsername",
    "fallback_password": "fallbackPassword",
}
VALUES = {
    "status": "active",
    "redirect_url": URL,
    "redirect_method": "GET",
    "username": "user",
    "password": "pass",
    "redirect_fallback_url": "http://example.org/",
    "redirect_fallback_method": "POST",
    "fallback_username": "user2",
    "fallback_password": "pass2",
}
CREDENTIALS = ["username", "password", "fallback_username", "fallback_password"]

urls = st.builds(
    "{}://example.com/{}".format, st.sampled_from(["http", "https"]), st.text("abc/?=&%20", max_size=9)
)
methods = st.sampled_from(["GET", "POST"])
credentials = st.text(max_size=CREDENTIAL_LIMIT)
updates = st.fixed_dictionaries(
    {"redirect_url": urls},
    optional={
        "status": st.just("active"),
        "redirect_method": methods,
        "redirect_fallback_url": urls,
        "redirect_fallback_method": methods,
        **dict.fromkeys(CREDENTIALS, credentials),
    },
)


def update(**given_fields: Any) -> UpdateConference:
    """Make an update from fields of any type, as an untyped caller would."""
    return UpdateConference(**given_fields)


def call(**given_fields: Any) -> UpdateCall:
    """Make a call update from fields of any type, as an untyped caller would."""
    return UpdateCall(**given_fields)


def member(**given_fields: Any) -> UpdateConferenceMember:
    """Make a member update from fields of any type, as an untyped caller would."""
    return UpdateConferenceMember(**given_fields)


# Conferences


def test_ending_sends_the_documented_body() -> None:
    """This body, byte for byte, is what ends a conference."""
    assert UpdateConference(status="completed").to_json() == '{"status":"completed"}'


def test_every_field_has_the_name_of_the_api() -> None:
    """All nine fields are sent under the names of the published description."""
    assert [a.name for a in attrs.fields(UpdateConference)] == list(NAMES)
    assert update(**VALUES).to_dict() == {NAMES[name]: value for name, value in VALUES.items()}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "redirect_url"])
def test_only_what_was_set_is_sent(name: str) -> None:
    """No field is sent as null or as a default. The status is left out too if it is not set."""
    given_fields = {"redirect_url": URL, name: VALUES[name]}
    assert update(**given_fields).to_dict() == {NAMES[key]: value for key, value in given_fields.items()}


def test_empty_text_is_something_set() -> None:
    """An empty user name is sent: it is not the same as none."""
    assert update(redirect_url=URL, username="").to_dict() == {"redirectUrl": URL, "username": ""}


@given(updates)
def test_the_body_holds_exactly_the_set_fields(given_fields: dict[str, str]) -> None:
    """Whatever text the fields hold, the JSON read back is what was set."""
    body = update(**given_fields).to_json()
    assert json.loads(body) == {NAMES[name]: value for name, value in given_fields.items()}


@pytest.mark.parametrize("status", ["completed", ConferenceStatus.COMPLETED])
def test_a_status_may_be_its_text(status: str) -> None:
    """Text and enum are the same update."""
    assert update(status=status) == UpdateConference(status=ConferenceStatus.COMPLETED)


def test_a_method_may_be_its_text() -> None:
    """Text and enum are the same update."""
    assert update(redirect_url=URL, redirect_method="GET") == UpdateConference(
        redirect_url=URL, redirect_method=CallbackMethod.GET
    )


COMPLETED_ALONE = (
    "status 'completed' takes no other field: leave out {}, or use status 'active' to redirect the conference"
)
ACTIVE_NEEDS_URL = "status 'active' needs redirect_url; to end the conference use status='completed'"
NOT_A_URL = "{} must be a URL that starts with http:// or https://, not {!r}"
NOT_ASKED = (
    "{} {!r} cannot be used: a URL has no blanks and no characters that do not "
    "print, and its port, if any, is from 1 to 65535"
)
STATE = "a conference has a status, a call has a state: write status= instead of state="


@pytest.mark.parametrize(
    ("given_fields", "sentence"),
    [
        *(
            ({"status": "completed", name: VALUES[name]}, COMPLETED_ALONE.format(name))
            for name in NAMES
            if name != "status"
        ),
        (
            {"status": "completed", "redirect_url": URL, "password": SECRET},
            COMPLETED_ALONE.format("redirect_url, password"),
        ),
        ({}, ACTIVE_NEEDS_URL),
        ({"status": "active"}, ACTIVE_NEEDS_URL),
        ({"status": "active", "redirect_fallback_url": URL}, ACTIVE_NEEDS_URL),
        ({"username": "user", "password": SECRET}, ACTIVE_NEEDS_URL),
        ({"state": "completed"}, STATE),
        ({"state": "completed", "status": "completed"}, STATE),
        ({"status": "ended"}, "status must be 'active' or 'completed', not 'ended'"),
        ({"status": "COMPLETED"}, "status must be 'active' or 'completed', not 'COMPLETED'"),
        ({"status": ""}, "status must be 'active' or 'completed', not ''"),
        ({"status": True}, "status must be 'active' or 'completed', not True"),
        ({"redirect_method": "PUT"}, "a redirect method must be 'GET' or 'POST', not 'PUT'"),
        ({"redirect_fallback_method": "get"}, "a redirect method must be 'GET' or 'POST', not 'get'"),
        *(
            (
                {"redirect_url": bad},
                NOT_A_URL.format("redirect_url", bad),
            )
            for bad in [
                "",
                "/bxml",
                "example.com",
                "ftp://example.com",
                "https://",
                "https://:80",
                "http://[",
                b"x",
                5,
            ]
        ),
        (
            {"redirect_url": URL, "redirect_fallback_url": "javascript:alert(1)"},
            NOT_A_URL.format("redirect_fallback_url", "javascript:alert(1)"),
        ),
        *(
            (
                {"redirect_url": URL, "redirect_fallback_url": bad},
                NOT_ASKED.format("redirect_fallback_url", bad),
            )
            for bad in [
                "https://exa\nmple.com/x",
                "https://example.com/\r\nX: y",
                " https://example.com/",
                "https://example.com/a b",
                "https://example.com/\t",
                "https://example.com/\x00",
                "https://example.com/\u00a0",
                "https://example.com/\u202e",
                "https://example.com/\ud800",
                "https://example.com:99999/",
                "https://example.com:0/",
                "https://example.com:x/",
            ]
        ),
        *(({"redirect_url": URL, name: b"x"}, f"{name} must be text") for name in CREDENTIALS),
        *(
            (
                {"redirect_url": URL, name: "x" * 1025},
                f"{name} has 1025 characters; Bandwidth takes at most 1024",
            )
            for name in CREDENTIALS
        ),
    ],
)
def test_what_bandwidth_would_refuse_is_refused_before(given_fields: dict[str, Any], sentence: str) -> None:
    """A combination that the published description rules out is a sentence, not a request."""
    with pytest.raises(ConfigurationError) as caught:
        update(**given_fields)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    "url",
    ["https://example.com:65535/", "http://[::1]:8080/", "HTTPS://EXAMPLE.COM", "https://example.com/é"],
)
def test_a_url_that_can_be_asked_is_taken(url: str) -> None:
    """It is sent as it was written."""
    assert update(redirect_url=url).to_dict() == {"redirectUrl": url}


def test_a_credential_of_the_limit_is_taken() -> None:
    """1024 characters are allowed."""
    longest = "x" * CREDENTIAL_LIMIT
    assert update(redirect_url=URL, password=longest).to_dict()["password"] == longest


@pytest.mark.parametrize("name", CREDENTIALS)
def test_a_refusal_does_not_show_the_credential(name: str) -> None:
    """The error about a credential that is too long shows only its length."""
    with pytest.raises(ConfigurationError) as caught:
        update(redirect_url=URL, **{name: SECRET * 100})
    assert SECRET not in repr(caught.value)


def test_the_credentials_of_a_conference_update_are_not_shown() -> None:
    """A log line, a traceback or a debugger that shows the value does not show the secret."""
    holder = UpdateConference(
        redirect_url=URL, username=SECRET, password=SECRET, fallback_username=SECRET, fallback_password=SECRET
    )
    for shown in (repr(holder), str(holder), f"{holder}", f"{[holder]}"):
        assert SECRET not in shown


@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy, attrs.evolve, lambda value: pickle.loads(pickle.dumps(value))],  # noqa: S301  # our own bytes
)
def test_an_update_survives_copying(again: Callable[[UpdateConference], UpdateConference]) -> None:
    """An update is a value: copied or pickled it is equal, and hashes alike."""
    first = update(**VALUES)
    assert again(first) == first
    assert hash(again(first)) == hash(first)


def test_an_update_does_not_change() -> None:
    """A request may be sent again, so its update must stay the same."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        UpdateConference(status="completed").status = None  # type: ignore[misc]  # that is the test


# Calls

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
CALL_NAMES = [field.name for field in attrs.fields(UpdateCall)]


def test_hanging_up_sends_the_documented_body() -> None:
    """This body, byte for byte, is what hangs up a call."""
    assert UpdateCall(state="completed").to_json() == '{"state":"completed"}'
    assert UpdateCall(state="completed") == UpdateCall(state=CallState.COMPLETED)


def test_every_field_of_a_call_has_the_name_of_the_api() -> None:
    """All ten fields are sent under the names of the published description."""
    update = call(**dict(zip(CALL_NAMES, CALL_FIELDS.values(), strict=True)))
    assert update.to_dict() == CALL_FIELDS
    assert json.loads(update.to_json()) == CALL_FIELDS


def test_a_call_has_the_fields_of_a_conference_and_a_tag() -> None:
    """The two bodies differ in one name and one field. Other changes have to be made in both."""
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
            for name, value in list(zip(CALL_NAMES, CALL_FIELDS.values(), strict=True))[1:]
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
def test_what_bandwidth_would_refuse_of_a_call_is_refused(
    given_fields: dict[str, Any], sentence: str
) -> None:
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
    """False and empty values are sent too. Fields that are not set are left out."""
    assert member(**given_fields).to_json() == body


@pytest.mark.parametrize(
    ("given_fields", "sentence"),
    [
        ({}, "there is nothing to change: set mute, hold or call_ids_to_coach"),
        ({"mute": "yes"}, "mute is True or False, not 'yes'"),
        ({"hold": 1}, "hold is True or False, not 1"),
        ({"call_ids_to_coach": "c-2"}, "call_ids_to_coach is a list of call ids, not 'c-2'"),
        ({"call_ids_to_coach": ["c-2", ""]}, "call_ids_to_coach is a list of call ids, not ['c-2', '']"),
        ({"call_ids_to_coach": [2]}, "call_ids_to_coach is a list of call ids, not [2]"),
        ({"call_ids_to_coach": 2}, "call_ids_to_coach is a list of call ids, not 2"),
    ],
)
def test_a_change_of_a_member_that_is_none(given_fields: dict[str, Any], sentence: str) -> None:
    """No field at all, text instead of a list (its letters would be sent), or a number instead of a flag."""
    with pytest.raises(ConfigurationError) as caught:
        member(**given_fields)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("odd", ["a\n", "a\x00", "a b", "..", "a/b", "..;", "\ud800", "\x1b[2J"])
def test_an_id_to_coach_is_an_id(odd: str) -> None:
    """An id that cannot be requested cannot be coached either."""
    with pytest.raises(ConfigurationError, match="is no call id to coach: it has to be one word"):
        member(call_ids_to_coach=["c-2", odd])
