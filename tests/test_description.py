"""The checks against the API description: what they accept and what they reject."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests import description as judge
from tests.description import Description, Violation

PATH = "/api/v2/accounts/9900000/conferences"
ONE = f"{PATH}/conf-1"
JSON = {"Content-Type": "application/json", "Authorization": "Bearer x"}
XML = {"Content-Type": "application/xml", "Authorization": "Bearer x"}
CONFERENCE = {"id": "conf-1", "name": "a", "createdTime": "2022-06-17T22:19:40.375Z", "tag": None}


@pytest.fixture(scope="module")
def description() -> Description:
    """Load the description, or skip the test."""
    reason = judge.missing()
    if reason is not None:
        pytest.skip(reason)
    return Description.load()


def test_an_absent_description_says_where_it_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason has the path and the variable, so that you know how to run the skipped test."""
    monkeypatch.setenv("BANDWIDTH_OPENAPI", "/nowhere/else.yml")
    assert judge.missing() == "Bandwidth's description is not at /nowhere/else.yml: set BANDWIDTH_OPENAPI"


def test_the_description_has_eleven_operations(description: Description) -> None:
    """The description has the operations that the tables of this project name."""
    assert description.operations == {
        *("listConferences", "getConference", "updateConference", "updateConferenceBxml"),
        *("getConferenceMember", "updateConferenceMember", "getCallState", "updateCall"),
        *("listConferenceRecordings", "getConferenceRecording", "downloadConferenceRecording"),
    }


@pytest.mark.parametrize(
    ("method", "path", "headers", "body"),
    [
        ("GET", f"{PATH}?pageSize=1000&name=a%20b", JSON, b""),
        ("POST", ONE, JSON, b'{"status":"completed","redirectUrl":null}'),
        ("PUT", f"{ONE}/bxml", XML, b"<Bxml/>"),
        ("PUT", f"{ONE}/members/c-1", JSON, b'{"mute":true,"callIdsToCoach":["c-2"]}'),
    ],
)
def test_a_described_request_passes(
    description: Description, method: str, path: str, headers: dict[str, str], body: bytes
) -> None:
    """A request that fits the description raises nothing."""
    description.check_request(method, path, headers, body)


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "why"),
    [
        ("GET", "/api/v2/accounts/1/nowhere", JSON, b"", "is not described"),
        ("DELETE", ONE, JSON, b"", "is not described"),
        ("GET", ONE, {}, b"", "has no Authorization"),
        ("GET", ONE, JSON, b"{}", "has a body"),
        ("GET", f"{PATH}?pageSize=0", JSON, b"", "less than the minimum"),
        ("GET", f"{PATH}?status=active", JSON, b"", "the parameter status is not described"),
        ("POST", ONE, JSON, b"", "no JSON"),
        ("POST", ONE, JSON, b'{"state":"completed"}', "'state' was unexpected"),
        ("POST", ONE, JSON, b'{"status":"ended"}', "'ended' is not one of"),
        ("POST", ONE, JSON, json.dumps({"username": "u" * 1025}).encode(), "is too long"),
        ("POST", ONE, JSON, b'{"redirectUrl":"no uri"}', "is not a 'uri'"),
        ("POST", ONE, XML, b"{}", "has the media type 'application/xml'"),
        ("PUT", f"{ONE}/members/c-1", JSON, b'{"mute":null}', "None is not of type 'boolean'"),
        ("PUT", f"{ONE}/bxml", XML, b"", "has no body"),
    ],
)
def test_a_request_that_is_not_described_is_caught(
    description: Description, method: str, path: str, headers: dict[str, str], body: bytes, why: str
) -> None:
    """A request that differs from the description is a Violation that says what is wrong."""
    with pytest.raises(Violation, match=why):
        description.check_request(method, path, headers, body)


@pytest.mark.parametrize(
    ("method", "path", "status", "headers", "body"),
    [
        ("GET", ONE, 200, JSON, json.dumps(CONFERENCE).encode()),
        ("POST", ONE, 204, {}, b""),
        ("POST", "/api/v2/accounts/1/calls/c-1", 200, {}, b""),
        ("GET", f"{ONE}/recordings/r-1/media", 200, {"Content-Type": "audio/vnd.wave"}, b"RIFF"),
        ("DELETE", ONE, 405, {**JSON, "Allow": "GET"}, b'{"type":"validation","id":null}'),
        ("POST", ONE, 409, JSON, b"{}"),
    ],
)
def test_a_described_answer_passes(
    description: Description, method: str, path: str, status: int, headers: dict[str, str], body: bytes
) -> None:
    """A response that fits the description raises nothing."""
    description.check_response(method, path, status, headers, body)


@pytest.mark.parametrize(
    ("method", "status", "headers", "body", "why"),
    [
        ("GET", 201, JSON, {}, "201 is not described"),
        ("POST", 204, {}, {}, "has a body"),
        ("GET", 200, {}, {}, "has the media type ''"),
        ("GET", 200, JSON, {**CONFERENCE, "state": "active"}, "'state' was unexpected"),
        ("GET", 200, JSON, {**CONFERENCE, "createdTime": "2022-06-17"}, "is not a 'date-time'"),
        ("GET", 200, JSON, {**CONFERENCE, "name": None}, "None is not of type 'string'"),
        ("GET", 200, JSON, {"activeMembers": [{"mute": 1}]}, "1 is not of type 'boolean'"),
        ("DELETE", 405, JSON, {}, "has no Allow"),
        ("DELETE", 200, JSON, {}, "200 is not described"),
        ("GET", 404, JSON, {"error": "x"}, "'error' was unexpected"),
    ],
)
def test_an_answer_that_is_not_described_is_caught(
    description: Description, method: str, status: int, headers: dict[str, str], body: Any, why: str
) -> None:
    """A response that differs is a Violation, also for a field that a JSON schema would allow."""
    with pytest.raises(Violation, match=why):
        description.check_response(method, ONE, status, headers, json.dumps(body).encode())


def test_an_event_is_held_against_its_schema(description: Description) -> None:
    """A valid event raises nothing. An unknown field is a Violation."""
    fields = {"eventType": "conferenceCompleted", "eventTime": "2022-06-17T22:19:40.375Z", "name": "a"}
    description.check_event(fields)
    with pytest.raises(Violation, match="'callId' was unexpected"):
        description.check_event({**fields, "callId": "c-1"})
