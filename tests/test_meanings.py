"""What a refusal means by Bandwidth's documents, and the end of API users."""

from __future__ import annotations

import base64
import logging
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from multidict import CIMultiDict

from bandwidth_async import BasicCredentials, ClientCredentials, VoiceClient, wire
from bandwidth_async.updates import CallState, ConferenceStatus, UpdateCall, UpdateConference

LAST_DAY = datetime(2026, 12, 1, 23, 59, tzinfo=UTC).timestamp()
FIRST_DAY = datetime(2026, 12, 2, tzinfo=UTC).timestamp()
GONE = "removed API users, with their names and passwords, on 2 December 2026; use OAuth2 client credentials"
SOON = "Bandwidth removes API users (BW_USERNAME and BW_PASSWORD) on 2 December 2026"

END = wire.update_conference("1", "conf-1", UpdateConference(status=ConferenceStatus.COMPLETED))
HANG_UP = wire.update_call("1", "c-1", UpdateCall(state=CallState.COMPLETED))
BASIC = "Basic " + base64.b64encode(b"me:hunter22").decode()


def message(
    request: wire.Request[Any], status: int, *, authorization: str = "Bearer tok-1", now: float = FIRST_DAY
) -> str:
    """Return the sentence of an error with a documented body."""
    body = b'{"type":"t","description":"the reason","id":null}'
    error = wire.error_from(request, status, CIMultiDict(), body, now, authorization=authorization)
    assert (error.type, error.description) == ("t", "the reason")
    return error.message


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        (END, 401, "check the credentials and the account id: the user may have no access to the account"),
        (END, 402, "the account cannot pay for this"),
        (END, 403, "the user has no access to the Voice API: check the roles"),
        (END, 409, "a conference that has just ended"),
        (HANG_UP, 409, "a call that has just ended, or is not answered yet"),
        (wire.get_call("1", "c-1"), 401, "the account id"),
        (wire.token(), 400, "check the client id and secret, and whether the secret has expired"),
        (wire.token(), 401, "check the client id and secret, and whether the secret has expired"),
        (wire.token(), 404, "check the URL of the token endpoint (api_url or BW_API_URL)"),
    ],
)
def test_a_refusal_says_what_to_check(request_: wire.Request[Any], status: int, words: str) -> None:
    """Behind the server's own words."""
    said = message(request_, status)
    assert said.startswith(f"{request_.name}: answered {status} (t: the reason); ")
    assert words in said


@pytest.mark.parametrize("status", [400, 404, 405, 415, 429, 500, 503])
def test_what_needs_no_explanation_has_none(status: int) -> None:
    """The server's words are enough."""
    assert message(END, status) == f"end conference conf-1: answered {status} (t: the reason)"


def test_a_403_that_says_when_to_come_again_is_no_matter_of_roles() -> None:
    """It counts as a 429."""
    headers = CIMultiDict({"Retry-After": "3"})
    assert wire.error_from(END, 403, headers, b"", FIRST_DAY).message == "end conference conf-1: answered 403"


@pytest.mark.parametrize(
    ("authorization", "now", "gone"),
    [
        (BASIC, FIRST_DAY, True),
        (BASIC, FIRST_DAY + 1e8, True),
        (BASIC, LAST_DAY, False),
        ("Bearer tok-1", FIRST_DAY, False),
    ],
)
def test_a_401_says_that_api_users_are_gone(authorization: str, now: float, gone: bool) -> None:
    """From that day on, and only to who uses one."""
    said = message(END, 401, authorization=authorization, now=now)
    assert (GONE in said, "check the credentials" in said) == (gone, not gone)
    assert GONE not in message(END, 403, authorization=authorization, now=now)
    assert GONE not in message(wire.token(), 401, authorization=BASIC, now=now)


@pytest.mark.parametrize(
    ("credentials", "now", "warnings"),
    [
        (BasicCredentials("me", "hunter22"), LAST_DAY, 1),
        (BasicCredentials("me", "hunter22"), FIRST_DAY, 0),
        (ClientCredentials("me", "hunter22"), LAST_DAY, 0),
    ],
)
def test_a_client_with_an_api_user_warns_until_the_end(
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    credentials: BasicCredentials | ClientCredentials,
    now: float,
    warnings: int,
) -> None:
    """Once for each client, without the password."""
    monkeypatch.setattr(time, "time", lambda: now)
    caplog.set_level(logging.DEBUG)
    VoiceClient(account_id="1", credentials=credentials)
    assert [SOON in sentence for sentence in caplog.messages] == [True] * warnings
    assert "hunter22" not in caplog.text
