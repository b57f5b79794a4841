"""The wire format: the requests that the client sends, and how it parses any response."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from bandwidth_async import wire
from bandwidth_async.credentials import Token
from bandwidth_async.errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    BandwidthError,
    ConfigurationError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    TransportError,
)
from bandwidth_async.models import CallbackMethod, Conference, ConferenceMember
from bandwidth_async.updates import UpdateCall, UpdateConference, UpdateConferenceMember
from bandwidth_async.wire import Request
from tests import responses

if TYPE_CHECKING:
    from collections.abc import Callable

ID = "conf-fe23a767-a75a5b77-20c5-4cca-b581-cbbf0776eca9"
NOW = 1_445_412_480.0
NO_HEADERS: CIMultiDict[str] = CIMultiDict()
END = wire.update_conference("9900000", ID, UpdateConference(status="completed"))
REDIRECT = wire.update_conference("9900000", ID, UpdateConference(redirect_url="https://example.com/é"))
GET = wire.get_conference("9900000", ID)
TOKEN = wire.token()

FULL = {
    "id": ID,
    "name": "my-conference",
    "createdTime": "2022-06-17T22:19:32.123Z",
    "completedTime": "2022-06-17T22:20:00+02:00",
    "conferenceEventUrl": "https://example.com/event",
    "conferenceEventMethod": "POST",
    "tag": "a tag",
    "activeMembers": [
        {
            "callId": "c-1",
            "conferenceId": ID,
            "memberUrl": "https://voice.bandwidth.com/…",
            "mute": False,
            "hold": True,
            "callIdsToCoach": ["c-2", "c-3"],
        }
    ],
}

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*FULL, "callId", "x"]), inner)
    ),
    max_leaves=12,
)


def encoded(value: object) -> bytes:
    """Return a JSON body."""
    return json.dumps(value).encode()


CONFERENCES = "/api/v2/accounts/{accountId}/conferences"
CONFERENCE = f"{CONFERENCES}/{{conferenceId}}"
MEMBER = f"{CONFERENCE}/members/{{callId}}"
RECORDING = f"{CONFERENCE}/recordings/{{recordingId}}"
CALL = "/api/v2/accounts/{accountId}/calls/{callId}"


class TestRequests:
    """Requests are plain values. Two requests for the same thing are equal."""

    def test_ending(self) -> None:
        """An end is idempotent, because an ended conference stays ended."""
        assert (
            Request(
                kind="end conference",
                subject=ID,
                template=CONFERENCE,
                parse=END.parse,
                success=204,
                method="POST",
                path=f"/api/v2/accounts/9900000/conferences/{ID}",
                idempotent=True,
                safe=False,
                reads=False,
                content_type="application/json",
                body=b'{"status":"completed"}',
            )
            == END
        )

    def test_redirecting(self) -> None:
        """A redirect is not idempotent, because members would hear the BXML twice."""
        assert (
            Request(
                kind="redirect conference",
                subject=ID,
                template=CONFERENCE,
                parse=END.parse,
                success=204,
                method="POST",
                path=f"/api/v2/accounts/9900000/conferences/{ID}",
                idempotent=False,
                safe=False,
                reads=False,
                content_type="application/json",
                body=b'{"redirectUrl":"https://example.com/\\u00e9"}',
            )
            == REDIRECT
        )

    def test_getting(self) -> None:
        """A GET changes nothing, and the client reads its response body."""
        assert (
            Request(
                kind="get conference",
                subject=ID,
                template=CONFERENCE,
                parse=GET.parse,
                method="GET",
                path=f"/api/v2/accounts/9900000/conferences/{ID}",
                idempotent=True,
                safe=True,
                reads=True,
            )
            == GET
        )

    def test_asking_for_a_token(self) -> None:
        """A token request has the form of RFC 6749. It changes nothing, so it can be retried."""
        assert (
            Request(
                kind="get an access token",
                template="/api/v1/oauth2/token",
                parse=TOKEN.parse,
                method="POST",
                path="/api/v1/oauth2/token",
                idempotent=True,
                safe=True,
                reads=True,
                private=True,
                content_type="application/x-www-form-urlencoded",
                body=b"grant_type=client_credentials",
            )
            == TOKEN
        )

    def test_listing(self) -> None:
        """The query has the given filters, with times in UTC with milliseconds and encoded names."""
        request = wire.list_conferences(
            "9900000",
            name="a b&c=ü/+",
            min_created_time=datetime(2022, 6, 17, 12, 0, 0, 1999, tzinfo=timezone(timedelta(hours=2))),
            max_created_time=datetime(2022, 6, 18, tzinfo=UTC),
            page_size=1000,
        )
        assert request == Request(
            kind="list conferences",
            template=CONFERENCES,
            parse=request.parse,
            method="GET",
            path="/api/v2/accounts/9900000/conferences?name=a+b%26c%3D%C3%BC%2F%2B"
            "&minCreatedTime=2022-06-17T10%3A00%3A00.001Z"
            "&maxCreatedTime=2022-06-18T00%3A00%3A00.000Z&pageSize=1000",
            idempotent=True,
            safe=True,
            reads=True,
        )

    def test_listing_without_a_filter(self) -> None:
        """A filter that is not given is not in the query."""
        request = wire.list_conferences(
            "9900000", name=None, min_created_time=None, max_created_time=None, page_size=25
        )
        assert request.path == "/api/v2/accounts/9900000/conferences?pageSize=25"

    @pytest.mark.parametrize("bound", ["min_created_time", "max_created_time"])
    def test_a_time_without_a_zone_is_refused(self, bound: str) -> None:
        """A time without a zone is an error, because a wrong guess would list the wrong hours."""
        bounds = {"min_created_time": None, "max_created_time": None}
        naive = {**bounds, bound: datetime(2022, 6, 17, 12)}  # noqa: DTZ001  # that is the test
        with pytest.raises(ConfigurationError) as caught:
            wire.list_conferences("9900000", name=None, page_size=25, **naive)
        assert str(caught.value) == "2022-06-17 12:00:00 has no time zone: give an aware datetime"

    @pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
    def test_a_time_that_utc_does_not_have(self, moment: str) -> None:
        """A time outside the years 1 to 9999 in UTC raises a clear error, not an OverflowError."""
        with pytest.raises(ConfigurationError, match="is outside the years 1 to 9999 in UTC"):
            wire.list_conferences(
                "1",
                name=None,
                min_created_time=datetime.fromisoformat(moment),
                max_created_time=None,
                page_size=9,
            )

    @given(name=st.text(), size=st.integers(1, 1000))
    def test_any_name_arrives_as_it_was_given(self, name: str, size: int) -> None:
        """The server reads exactly the given name and no other parameter, whatever the name contains."""
        try:
            request = wire.list_conferences(
                "9900000", name=name, min_created_time=None, max_created_time=None, page_size=size
            )
        except UnicodeEncodeError:  # a lone surrogate cannot be encoded
            assert any("\ud800" <= c <= "\udfff" for c in name)
            return
        query = parse_qs(urlsplit(request.path).query, keep_blank_values=True, strict_parsing=True)
        assert query == {"name": [name], "pageSize": [str(size)]}

    @pytest.mark.parametrize(
        ("request_", "kind", "template"),
        [
            (END, "end conference", CONFERENCE),
            (REDIRECT, "redirect conference", CONFERENCE),
            (GET, "get conference", CONFERENCE),
            (wire.next_page("/x"), "list conferences", CONFERENCES),
            (
                wire.update_conference_bxml("9900000", ID, "<Bxml/>"),
                "update the BXML of conference",
                f"{CONFERENCE}/bxml",
            ),
            (wire.get_conference_member("9900000", ID, "c-1"), "get member", MEMBER),
            (
                wire.update_conference_member("9900000", ID, "c-1", UpdateConferenceMember(mute=True)),
                "update member",
                MEMBER,
            ),
            (
                wire.list_conference_recordings("9900000", ID),
                "list the recordings of conference",
                f"{CONFERENCE}/recordings",
            ),
            (wire.get_conference_recording("9900000", ID, "r-1"), "get recording", RECORDING),
            (
                wire.download_conference_recording("9900000", ID, "r-1"),
                "download recording",
                f"{RECORDING}/media",
            ),
            (wire.get_call("9900000", "c-1"), "get call", CALL),
            (wire.update_call("9900000", "c-1", UpdateCall(state="completed")), "hang up call", CALL),
            (TOKEN, "get an access token", "/api/v1/oauth2/token"),
        ],
    )
    def test_names_of_low_cardinality(self, request_: Request[Any], kind: str, template: str) -> None:
        """``kind`` and ``template``, which logs and metrics use, never contain an id."""
        assert (request_.kind, request_.template) == (kind, template)
        ids = {"accountId": "9900000", "conferenceId": ID, "callId": "c-1", "recordingId": "r-1"}
        assert request_.path in {template.format(**ids), "/x"}
        assert request_.name.startswith(kind)

    def test_a_further_page_is_asked_for_as_the_answer_named_it(self) -> None:
        """The client sends the path of the link unchanged."""
        request = wire.next_page("/api/v2/accounts/1/conferences?pageToken=a%2Fb")
        assert request == Request(
            kind="list conferences",
            template=CONFERENCES,
            parse=request.parse,
            method="GET",
            path="/api/v2/accounts/1/conferences?pageToken=a%2Fb",
            idempotent=True,
            safe=True,
            reads=True,
        )

    @pytest.mark.parametrize(
        "build",
        [
            lambda conference_id: wire.get_conference("1", conference_id),
            lambda conference_id: wire.update_conference(
                "1", conference_id, UpdateConference(status="completed")
            ),
        ],
        ids=["get", "update"],
    )
    def test_an_unsafe_id_makes_no_request(self, build: Callable[[str], Request[Any]]) -> None:
        """An id that could lead to another path raises an error."""
        with pytest.raises(ConfigurationError):
            build("../../../accounts/2/conferences/x")


class TestPathSegment:
    """An id can have any form, but it has to stay one segment of a path."""

    @pytest.mark.parametrize(
        ("value", "segment"),
        [
            (ID, ID),
            ("a", "a"),
            ("-", "-"),
            ("_", "_"),
            ("...a", "...a"),
            ("a..", "a.."),
            ("~", "~"),
            ("a:b@c", "a:b@c"),
            ("a,b=c,d", "a,b=c,d"),
            ("!$&'()*+,=:@~", "!$&'()*+,=:@~"),
            ("ü", "%C3%BC"),
            ("会議", "%E4%BC%9A%E8%AD%B0"),
            ('"<>[]{}|^`', "%22%3C%3E%5B%5D%7B%7D%7C%5E%60"),
            ("x" * 10_000, "x" * 10_000),
        ],
    )
    def test_what_is_safe_is_taken(self, value: str, segment: str) -> None:
        """Plain ids are unchanged. All other printable characters are percent-encoded."""
        assert wire.path_segment(value) == segment

    @pytest.mark.parametrize(
        "value",
        [
            "",
            ".",
            "..",
            "...",
            "/",
            "a/b",
            "/a",
            "a/",
            "a\\b",
            "%2f",
            "%",
            "a%2e%2e",
            "a?b",
            "?",
            "a#b",
            "..;",
            ";",
            "..;x=1",
            "a;b",
            " ",
            " a",
            "a ",
            "a b",
            "a\tb",
            "a\nb",
            "a\n",
            "\r\nHost: x",
            "a\x00b",
            "a\x7f",
            "a\x1b[2J",
            "a\u00a0b",
            "a\u200bb",
            "\u2028",
            "\u202ea",
            "\ufeffa",
            "\u3000",
            "a\ud800",
            None,
            5,
            b"conf-1",
            ["conf-1"],
        ],
    )
    def test_what_could_leave_its_segment_or_hide_there_is_refused(self, value: object) -> None:
        """The error shows the value with escapes, so that you can see invisible characters."""
        with pytest.raises(ConfigurationError) as caught:
            wire.path_segment(value)
        wanted = "one word without blanks and / \\ % ? # ;" if isinstance(value, str) else "a text"
        assert str(caught.value) == f"{value!r} is no conference id: it has to be {wanted}"

    def test_the_sentence_says_what_it_should_have_been(self) -> None:
        """The error names the part of the path, such as the account id."""
        with pytest.raises(ConfigurationError, match="'a b' is no account id: "):
            wire.path_segment("a b", "account id")

    def test_a_long_value_is_cut_in_the_sentence(self) -> None:
        """The error shows only the beginning of a long value, such as a whole file read as one id."""
        with pytest.raises(ConfigurationError) as caught:
            wire.path_segment("a b" * 10_000)
        assert len(str(caught.value)) < 160
        assert str(caught.value).startswith("'a ba b")

    @given(st.text())
    def test_any_text_is_one_segment_or_refused(self, value: str) -> None:
        """The result is one ASCII segment that decodes to the given text and is not made of dots only."""
        try:
            segment = wire.path_segment(value)
        except ConfigurationError:
            return
        assert segment.isascii()
        assert not set("/?#\\ ") & set(segment)
        assert segment.strip(".")
        assert unquote(segment) == value
        assert urlsplit(f"https://example.com/{segment}").path == f"/{segment}"


class TestParseConference:
    """The parser tolerates missing and unknown fields, but never returns a wrong value."""

    def test_everything_documented(self) -> None:
        """Every documented field is parsed, and times are aware."""
        assert responses.parse_conference(encoded(FULL)) == Conference(
            id=ID,
            name="my-conference",
            created_time=datetime(2022, 6, 17, 22, 19, 32, 123_000, UTC),
            completed_time=datetime(2022, 6, 17, 22, 20, tzinfo=timezone(timedelta(hours=2))),
            conference_event_url="https://example.com/event",
            conference_event_method=CallbackMethod.POST,
            tag="a tag",
            active_members=(
                ConferenceMember(
                    call_id="c-1",
                    conference_id=ID,
                    member_url="https://voice.bandwidth.com/…",
                    mute=False,
                    hold=True,
                    call_ids_to_coach=("c-2", "c-3"),
                ),
            ),
        )

    @pytest.mark.parametrize(
        ("answer", "conference"),
        [
            ({"id": "c"}, Conference(id="c")),
            ({"id": "c", **dict.fromkeys(list(FULL)[1:])}, Conference(id="c")),
            ({"id": "c", "colour": "red", "links": [{"rel": 1}]}, Conference(id="c")),
            (
                {"id": "c", "conferenceEventMethod": "PATCH"},
                Conference(id="c", conference_event_method="PATCH"),
            ),
            (
                {"id": "c", "conferenceEventMethod": "GET"},
                Conference(id="c", conference_event_method=CallbackMethod.GET),
            ),
            (
                {"id": "c", "createdTime": "2022-06-17T22:19:32"},
                Conference(id="c", created_time=datetime(2022, 6, 17, 22, 19, 32, tzinfo=UTC)),
            ),
            ({"id": "c", "activeMembers": []}, Conference(id="c", active_members=())),
            (
                {"id": "c", "activeMembers": [{"callId": "c-1", "mute": None, "shoeSize": 43}]},
                Conference(id="c", active_members=(ConferenceMember(call_id="c-1"),)),
            ),
            ({"id": 17}, Conference(id="17")),
        ],
    )
    def test_what_is_missing_or_new_does_no_harm(self, answer: object, conference: Conference) -> None:
        """Missing and null fields are None. Unknown fields are ignored, unknown methods kept as text."""
        assert responses.parse_conference(encoded(answer)) == conference

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>",
            b"{",
            b"\xff\xfe",
            b"[" * 100_000,
            b"1" * 5000,
            b"null",
            b"5",
            b"[]",
            b'"id"',
            b'["id"]',
            b"{}",
            b'{"id":null}',
            b'{"id":[]}',
            b'{"id":{}}',
            b'{"id":"c","activeMembers":[5]}',
            b'{"id":"c","activeMembers":[{}]}',
        ],
        ids=lambda body: repr(body[:60]),
    )
    def test_what_is_no_conference_is_no_answer(self, body: bytes) -> None:
        """A response of another shape is a transport error, not a guess and not a KeyError."""
        with pytest.raises(TransportError):
            responses.parse_conference(body)

    def test_the_error_says_where(self) -> None:
        """The error names the field that is not as documented."""
        with pytest.raises(TransportError) as caught:
            responses.parse_conference(encoded({"id": "c", "activeMembers": [{"callId": True}]}))
        assert str(caught.value).startswith(
            "get conference conf-1: the answer does not have the documented shape: "
        )
        assert "active_members[0].call_id" in str(caught.value)

    @given(st.binary() | json_values.map(encoded) | st.text().map(str.encode))
    def test_any_body_is_a_conference_or_no_answer(self, body: bytes) -> None:
        """No body raises another exception than TransportError."""
        try:
            conference = responses.parse_conference(body)
        except TransportError:
            return
        times = conference.created_time, conference.completed_time
        assert all(moment is None or moment.tzinfo for moment in times)

    @given(
        st.dictionaries(st.sampled_from([*FULL, "x"]), json_values).map(lambda value: {"id": "c", **value})
    )
    def test_any_object_with_an_id_is_a_conference_or_no_answer(self, value: dict[str, Any]) -> None:
        """No field raises another exception than TransportError."""
        try:
            conference = responses.parse_conference(encoded(value))
        except TransportError:
            return
        assert isinstance(conference.id, str)


class TestParseConferences:
    """A page is a list of conferences."""

    @pytest.mark.parametrize(
        ("body", "page"),
        [
            (b"[]", []),
            (b'[{"id":"a"},{"id":"b"}]', [Conference(id="a"), Conference(id="b")]),
        ],
    )
    def test_a_page(self, body: bytes, page: list[Conference]) -> None:
        """Conferences keep the order of the response. An empty list is an empty page."""
        assert responses.parse_conferences(body) == page

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"null",
            b"{}",
            b'""',
            b"0",
            b"false",
            b'{"conferences":[]}',
            b'{"id":"a"}',
            b'"ab"',
            b"[null]",
            b"[{}]",
        ],
        ids=repr,
    )
    def test_what_is_no_page_is_not_an_empty_page(self, body: bytes) -> None:
        """Any other body is an error. Read as "no conferences", it would leave conferences running."""
        with pytest.raises(TransportError):
            responses.parse_conferences(body)

    @given(st.binary() | json_values.map(encoded))
    def test_any_body_is_a_page_or_no_answer(self, body: bytes) -> None:
        """A page that is parsed is a JSON array with as many conferences."""
        try:
            page = responses.parse_conferences(body)
        except TransportError:
            return
        assert isinstance(json.loads(body), list)
        assert len(page) == len(json.loads(body))


class TestParseToken:
    """A token that cannot be sent in a header is an error. An unusable lifetime becomes an hour."""

    @pytest.mark.parametrize(
        ("answer", "lifetime"),
        [
            ({"expires_in": 3599}, 3599.0),
            ({"expires_in": 0.5}, 0.5),
            ({"expires_in": 10**9}, 1e9),
            ({}, 3600.0),
            ({"expires_in": None}, 3600.0),
            ({"expires_in": 0}, 3600.0),
            ({"expires_in": -1}, 3600.0),
            ({"expires_in": "3599"}, 3599.0),
            ({"expires_in": " 59.5 "}, 59.5),
            ({"expires_in": "1e2"}, 100.0),
            ({"expires_in": "soon"}, 3600.0),
            ({"expires_in": ""}, 3600.0),
            ({"expires_in": "-1"}, 3600.0),
            ({"expires_in": "nan"}, 3600.0),
            ({"expires_in": "inf"}, 3600.0),
            ({"expires_in": True}, 3600.0),
            ({"expires_in": "9" * 400}, 3600.0),
            ({"expires_in": float("nan")}, 3600.0),
            ({"expires_in": float("inf")}, 3600.0),
            ({"expires_in": 10**400}, 3600.0),
            ({"expires_in": []}, 3600.0),
            ({"token_type": "Bearer", "scope": None, "expires_in": 60}, 60.0),
        ],
    )
    def test_a_token_lives_as_long_as_it_says(self, answer: dict[str, Any], lifetime: float) -> None:
        """Without a usable lifetime it is an hour, because Bandwidth documents none."""
        body = encoded({"access_token": "abc.def-1", **answer})
        assert responses.parse_token(body) == Token(value="abc.def-1", lifetime=lifetime)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>",
            b"null",
            b"[]",
            b"{}",
            b'"abc"',
            b'{"access_token":null}',
            b'{"access_token":""}',
            b'{"access_token":5}',
            b'{"access_token":"a\\r\\nHost: x"}',
            b'{"access_token":"a\\u0000"}',
            b'{"access_token":"\\u00fc"}',
            b'{"access_token":"\\ud800"}',
            b'{"error":"invalid_client"}',
        ],
        ids=repr,
    )
    def test_what_holds_no_token_is_no_answer(self, body: bytes) -> None:
        """A body without a token is an error. So is a token that would break out of its header."""
        with pytest.raises(TransportError):
            responses.parse_token(body)

    @given(
        st.binary()
        | json_values.map(encoded)
        | st.fixed_dictionaries({"access_token": json_values}, optional={"expires_in": json_values}).map(
            encoded
        )
    )
    def test_any_body_is_a_token_or_no_answer(self, body: bytes) -> None:
        """Every parsed token can be sent in a header and has a finite lifetime above 0."""
        try:
            token = responses.parse_token(body)
        except TransportError:
            return
        assert token.value.isascii()
        assert token.value.isprintable()
        assert 0 < token.lifetime < float("inf")


def error_of(request: Request[Any], status: int, body: bytes = b"") -> APIError:
    """Return the error for a response without headers."""
    return wire.error_from(request, status, NO_HEADERS, body, NOW)


class TestErrorFrom:
    """The status decides the type of the error. The body only adds a description."""

    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (300, APIError),
            (302, APIError),
            (400, BadRequestError),
            (401, AuthenticationError),
            (402, APIError),
            (403, PermissionDeniedError),
            (404, NotFoundError),
            (405, APIError),
            (408, APIError),
            (409, ConflictError),
            (410, APIError),
            (415, APIError),
            (429, RateLimitError),
            (499, APIError),
            (500, ServerError),
            (501, ServerError),
            (502, ServerError),
            (503, ServerError),
            (504, ServerError),
            (599, ServerError),
            (600, ServerError),
        ],
    )
    @pytest.mark.parametrize("body", [b"", b'{"type":"not-found"}', b"<html>"], ids=repr)
    def test_the_status_decides(self, status: int, kind: type[APIError], body: bytes) -> None:
        """The type of the error depends on the status only, whatever the body says."""
        error = error_of(END, status, body)
        assert type(error) is kind
        assert error.status == status

    def test_bandwidths_own_words_are_kept(self) -> None:
        """The error has the body's type, description and id, the hint of the headers, and the request."""
        body = b'{"type":"request-throttled","description":"Too many requests","id":"9f3c"}'
        error = wire.error_from(END, 429, CIMultiDict({"Retry-After": "3"}), body, NOW)
        assert error.message == f"end conference {ID}: answered 429 (request-throttled: Too many requests)"
        assert vars(error) == {
            "status": 429,
            "type": "request-throttled",
            "description": "Too many requests",
            "error_id": "9f3c",
            "request": f"end conference {ID}",
            "attempts": 0,
            "retry_after": 3.0,
            "ambiguous": False,
        }

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            (b"", (None, None, None)),
            (b" \r\n ", (None, None, None)),
            (b"{}", (None, None, None)),
            (b'{"type":"validation","description":"bad","id":null}', ("validation", "bad", None)),
            (b'{"type":"","description":"","id":""}', (None, None, None)),
            (
                b'{"type":5,"description":["bad"],"id":{}}',
                (None, '{"type":5,"description":["bad"],"id":{}}', None),
            ),
            (b'{"type":"validation","description":null,"id":"9f3c"}', ("validation", None, "9f3c")),
            (b'{"code":7,"info":"bad"}', (None, '{"code":7,"info":"bad"}', None)),
            (b'{"type":"t","errors":"bad"}', ("t", '{"type":"t","errors":"bad"}', None)),
            (b'{"description":"bad\\u001b[2J\\nid"}', (None, "bad [2J id", None)),
            (
                b'{"error":"invalid_client","error_description":"unknown"}',
                ("invalid_client", "unknown", None),
            ),
            (b'{"type":"a","error":"b"}', ("a", '{"type":"a","error":"b"}', None)),
            (b'{"type":{"of":"a"},"error":"b"}', ("b", '{"type":{"of":"a"},"error":"b"}', None)),
            (b"[]", (None, "[]", None)),
            (b"null", (None, "null", None)),
            (b'"oops"', (None, '"oops"', None)),
            (b"no healthy upstream", (None, "no healthy upstream", None)),
            (b"<html>\n<h1>502  Bad</h1>\r\n</html>", (None, "502 Bad", None)),
            (b"caf\xe9", (None, "caf\xe9", None)),
            (b"\x1b]0;pwned\x07\x00", (None, "]0;pwned", None)),
            (b"\xff\xfe\x00", (None, "\xff\xfe", None)),
            ("é?".encode("utf-16"), (None, "é?", None)),
            ("\u202eevil".encode(), (None, "evil", None)),
            (b"[" * 60_000, (None, "[" * 2048, None)),
            (b"1" * 60_000, (None, "1" * 2048, None)),
            (encoded({"description": "x" * 60_000}), (None, "x" * 2048, None)),
        ],
        ids=lambda value: repr(value[:40]),
    )
    def test_any_body_is_read_as_far_as_it_goes(
        self, body: bytes, said: tuple[str | None, str | None, str | None]
    ) -> None:
        """The error uses Bandwidth's fields, OAuth2's, or the body, as one short printable line."""
        error = error_of(END, 500, body)
        assert (error.type, error.description, error.error_id) == said

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (b"", "get conference x: answered 500"),
            (b'{"type":"t"}', "get conference x: answered 500 (t)"),
            (b'{"description":"d"}', "get conference x: answered 500 (d)"),
            (b'{"type":"t","description":"d"}', "get conference x: answered 500 (t: d)"),
            (b"x" * 400, f"get conference x: answered 500 ({'x' * 300})"),
        ],
        ids=lambda value: repr(value[:40]),
    )
    def test_the_sentence_says_status_request_and_words(self, body: bytes, message: str) -> None:
        """Without a description there are no empty brackets. A long description is cut."""
        assert error_of(wire.get_conference("1", "x"), 500, body).message == message

    def test_what_may_be_a_token_is_not_shown(self) -> None:
        """The token endpoint may fail after it made one."""
        body = b'{"access_token":"tok-secret","token_type":"bearer"}'
        assert "tok-secret" not in str(vars(error_of(TOKEN, 500, body))) + str(error_of(TOKEN, 500, body))
        assert error_of(TOKEN, 500, b"the reason").description == "the reason"

    def test_words_in_another_charset_are_read(self) -> None:
        """A gateway need not speak UTF-8, if it says so."""
        headers = CIMultiDict({"Content-Type": "text/plain; charset=windows-1251"})
        error = wire.error_from(END, 403, headers, "доступ".encode("windows-1251"), NOW)
        assert error.description == "доступ"

    def test_a_challenge_may_tell_the_reason(self) -> None:
        """A gateway that checks tokens has the reason in a header (RFC 6750), and a body may have another."""
        challenge = 'Bearer realm="x", error="invalid_token", error_description="the token expired"'
        headers = CIMultiDict({"WWW-Authenticate": challenge})
        assert wire.error_from(END, 401, headers, b"", NOW).description == "the token expired"
        assert wire.error_from(END, 401, headers, b"the reason", NOW).description == "the reason"
        realm = CIMultiDict({"WWW-Authenticate": 'Basic realm="x"'})
        assert wire.error_from(END, 401, realm, b"{}", NOW).description is None

    @pytest.mark.parametrize("status", [300, 301, 302, 307, 308])
    def test_a_redirect_tells_why_it_was_not_followed(self, status: int) -> None:
        """The client follows no redirect, because another host could get the credentials."""
        assert error_of(GET, status, b"Moved").message == (
            f"get conference {ID}: answered {status} (redirects are not followed, "
            "as they could carry the credentials elsewhere; check the host)"
        )

    @pytest.mark.parametrize(
        ("status", "ambiguous"),
        [
            (302, False),
            (400, False),
            (404, False),
            (408, False),
            (429, False),
            (500, True),
            (501, False),
            (502, True),
            (503, False),
            (504, True),
            (505, False),
            (520, True),
        ],
    )
    def test_a_server_that_failed_may_have_done_it(self, status: int, *, ambiguous: bool) -> None:
        """A 5xx for a change is ambiguous, unless its status means that the work was not started."""
        assert error_of(END, status).ambiguous is ambiguous
        assert error_of(REDIRECT, status).ambiguous is ambiguous
        assert error_of(GET, status).ambiguous is False
        assert error_of(TOKEN, status).ambiguous is False

    @pytest.mark.parametrize("status", [429, 503, 404])
    def test_the_hint_is_taken_from_any_answer(self, status: int) -> None:
        """An error of any status has the hint. Without ``Date``, a date counts from the local time."""
        headers = CIMultiDict({"Retry-After": "Wed, 21 Oct 2015 07:28:03 GMT"})
        assert wire.error_from(END, status, headers, b"", NOW).retry_after == 3.0
        assert wire.error_from(END, status, NO_HEADERS, b"", NOW).retry_after is None

    @given(
        st.integers(300, 999),
        st.binary() | json_values.map(encoded) | st.text().map(lambda t: encoded({"type": t})),
    )
    def test_any_answer_is_an_error_on_one_printable_line(self, status: int, body: bytes) -> None:
        """Text from the server can neither raise an exception nor control the terminal."""
        error = error_of(END, status, body)
        assert isinstance(error, BandwidthError)
        assert str(error).isprintable()
        assert len(str(error)) < 500


class TestPrintable:
    """Text from the server is made printable."""

    @given(st.text())
    def test_text_becomes_one_line_that_a_terminal_does_not_obey(self, text: str) -> None:
        """The text has no control characters and single blanks only. A second pass changes nothing."""
        shown = wire.printable(text)
        assert shown.isprintable()
        assert shown == " ".join(shown.split())
        assert wire.printable(shown) == shown
