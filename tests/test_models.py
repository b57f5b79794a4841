"""The request to change a conference: what it refuses, what it sends, and that it keeps secrets."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.credentials import BasicCredentials, ClientCredentials, Token
from bandwidth_async.environment import Environment
from bandwidth_async.errors import ConfigurationError
from bandwidth_async.models import CallbackMethod, Conference, ConferenceMember, camel_case
from bandwidth_async.updates import CREDENTIAL_LIMIT, ConferenceStatus, UpdateConference

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


def test_ending_sends_the_documented_body() -> None:
    """This body, byte for byte, is what ends a conference."""
    assert UpdateConference(status="completed").to_json() == '{"status":"completed"}'


def test_every_field_has_the_name_of_the_api() -> None:
    """All nine fields are sent under the names of the published description."""
    assert [a.name for a in attrs.fields(UpdateConference)] == list(NAMES)
    assert update(**VALUES).to_dict() == {NAMES[name]: value for name, value in VALUES.items()}


@pytest.mark.parametrize(
    ("ours", "theirs"), [("id", "id"), ("call_id", "callId"), ("call_ids_to_coach", "callIdsToCoach")]
)
def test_a_snake_becomes_a_camel(ours: str, theirs: str) -> None:
    """The first word stays small, each further one starts large."""
    assert camel_case(ours) == theirs


@pytest.mark.parametrize("name", [name for name in NAMES if name != "redirect_url"])
def test_only_what_was_set_is_sent(name: str) -> None:
    """No field is sent as null or as a default: also the status is left out where it was not set."""
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
    "{} {!r} cannot be asked: a URL has no blanks, nothing that does not print, "
    "and a port from 1 to 65535 if any"
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
    """The sentence about a credential that is too long has its length only."""
    with pytest.raises(ConfigurationError) as caught:
        update(redirect_url=URL, **{name: SECRET * 100})
    assert SECRET not in repr(caught.value)


@pytest.mark.parametrize(
    "holder",
    [
        UpdateConference(
            redirect_url=URL,
            username=SECRET,
            password=SECRET,
            fallback_username=SECRET,
            fallback_password=SECRET,
        ),
        ClientCredentials("client", SECRET),
        BasicCredentials("user", SECRET),
        Token(value=SECRET, lifetime=60.0),
        Environment(
            account_id="1", credentials=ClientCredentials("client", SECRET), voice_url=URL, api_url=URL
        ),
    ],
    ids=lambda holder: type(holder).__name__,
)
def test_a_secret_is_not_shown(holder: object) -> None:
    """A log line, a traceback or a debugger that shows the value does not show the secret."""
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
    """A request may be sent again: what it was made from stays as it was."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        UpdateConference(status="completed").status = None  # type: ignore[misc]  # that is the test


def test_a_conference_is_active_until_it_has_a_completed_time() -> None:
    """The API has no status field to read; the completed time is the sign."""
    conference = Conference(id="conf-1")
    assert conference.active
    ended = attrs.evolve(conference, completed_time=datetime(2026, 1, 2, tzinfo=UTC))
    assert not ended.active


def test_what_an_answer_leaves_out_is_none() -> None:
    """Nothing is made up for a conference or member that names only its id."""
    assert attrs.asdict(Conference(id="conf-1")) == {
        "id": "conf-1",
        "name": None,
        "created_time": None,
        "completed_time": None,
        "conference_event_url": None,
        "conference_event_method": None,
        "tag": None,
        "active_members": None,
    }
    assert attrs.asdict(ConferenceMember(call_id="c-1")) == {
        "call_id": "c-1",
        "conference_id": None,
        "member_url": None,
        "mute": None,
        "hold": None,
        "call_ids_to_coach": None,
    }
