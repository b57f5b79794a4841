"""Members, recordings and calls from JSON. The documented shape becomes a value, any other an error."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import fields
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async import wire
from bandwidth_async.errors import ConfigurationError, TransportError
from bandwidth_async.models import Call, Conference, ConferenceMember, ConferenceRecording, camel_case
from bandwidth_async.updates import UpdateCall, UpdateConferenceMember
from bandwidth_async.wire import Request
from tests import responses

UNSAFE = "../../../accounts/2/conferences/x"
MUTE = UpdateConferenceMember(mute=True)
HANG_UP = UpdateCall(state="completed")
PARSERS: dict[Callable[[bytes], object], tuple[type[Any], str]] = {
    responses.parse_member: (ConferenceMember, "call_id"),
    responses.parse_recording: (ConferenceRecording, "recording_id"),
    responses.parse_call: (Call, "call_id"),
}
each_parser = pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__name__)

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=5,
)


def encoded(value: object) -> bytes:
    """Return a JSON body."""
    return json.dumps(value).encode()


@each_parser
def test_the_id_alone_is_enough(parse: Callable[[bytes], object]) -> None:
    """Only the id is required. Missing and null fields are None, and unknown fields are ignored."""
    kind, name = PARSERS[parse]
    nothing = {camel_case(a.name): None for a in fields(kind)}
    bare = kind(**{name: "x"})
    assert parse(encoded({camel_case(name): "x"})) == bare
    assert parse(encoded({**nothing, camel_case(name): "x", "new": [1]})) == bare


@each_parser
@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{}", b'"x"', b'{"id":"x"}', b"<html>", b"\xff"])
def test_what_has_no_id_is_no_answer(parse: Callable[[bytes], object], body: bytes) -> None:
    """A response of another shape is a transport error, not a guess and not a KeyError."""
    with pytest.raises(TransportError):
        parse(body)


@pytest.mark.parametrize(
    ("parse", "field", "odds"),
    [
        (responses.parse_member, "mute", ["false", 0, [], {}]),
        (responses.parse_member, "callIdsToCoach", ["c-2", [True], [["c"]], {"c": 1}, 5]),
        (responses.parse_member, "conferenceId", [True, ["c"], {}]),
        (responses.parse_recording, "startTime", ["yesterday", "", 20220617, 1655504380375]),
        (responses.parse_recording, "channels", ["one", True, 1.7, float("inf")]),
        (responses.parse_call, "endTime", [5, False, {}, ["2022-06-17"]]),
        (responses.parse_call, "stirShaken", [["A"], "A", True]),
        (responses.parse_call, "from", [[1], {}]),
    ],
)
def test_a_field_of_another_kind_is_none(
    parse: Callable[[bytes], object], field: str, odds: list[object]
) -> None:
    """A value of a wrong type becomes None, and the other fields are kept."""
    kind, name = PARSERS[parse]
    for odd in odds:
        assert parse(encoded({camel_case(name): "x", field: odd})) == kind(**{name: "x"})


@each_parser
@pytest.mark.parametrize("odd", [None, "", True, False, 1.5, [], ["x"], {}, float("nan")])
def test_an_id_of_another_kind_is_no_answer(parse: Callable[[bytes], object], odd: object) -> None:
    """A wrong id could lead to a wrong request, so it is an error. The error names the field."""
    _, name = PARSERS[parse]
    with pytest.raises(TransportError, match=f"documented shape: .*{name}"):
        parse(encoded({camel_case(name): odd}))


@each_parser
def test_an_id_that_is_a_number_is_its_digits(parse: Callable[[bytes], object]) -> None:
    """A number is accepted as an id, because it can be used in a request."""
    kind, name = PARSERS[parse]
    assert parse(encoded({camel_case(name): 17})) == kind(**{name: "17"})


@pytest.mark.parametrize(
    ("parse", "answer", "where"),
    [
        (responses.parse_recordings, {"recordingId": "r"}, r"\$"),
        (responses.parse_recordings, [{"recordingId": "r"}, {}], r"\$\[1\]\.recording_?[iI]d"),
        (responses.parse_recordings, [{"recordingId": "r"}, None], r"\$\[1\]"),
        (responses.parse_conferences, [{"id": "a"}, {"id": True}], r"\$\[1\]\.id"),
        (
            responses.parse_conference,
            {"id": "a", "activeMembers": [{"callId": "c"}, {}]},
            r"active_members\[1\]",
        ),
        (responses.parse_conference, {"id": "a", "activeMembers": [None]}, r"active_members\[0\]"),
    ],
)
def test_an_item_without_an_id_is_an_error(
    parse: Callable[[bytes], object], answer: object, where: str
) -> None:
    """The parser leaves out no item, because nobody would end it. The error says which item it is."""
    with pytest.raises(TransportError, match=where):
        parse(encoded(answer))


@pytest.mark.parametrize("odd", [{}, 5, "none", True])
def test_members_that_are_no_list_are_not_nobody(odd: object) -> None:
    """Members that are no list become None, which is not the same as an empty list."""
    assert responses.parse_conference(encoded({"id": "a", "activeMembers": odd})) == Conference(id="a")


def test_an_odd_conference_does_not_cost_its_page() -> None:
    """A conference with wrong fields stays in its page and keeps the fields that can be read."""
    odd = {"id": "b", "name": {"a": 1}, "createdTime": 5, "conferenceEventMethod": {"a": 1}, "tag": "t"}
    assert responses.parse_conferences(encoded([{"id": "a"}, odd])) == [
        Conference(id="a"),
        Conference(id="b", tag="t"),
    ]


def test_no_recordings_are_an_empty_list() -> None:
    """An empty list of recordings is valid."""
    assert responses.parse_recordings(b"[]") == []


def test_a_time_without_a_zone_is_utc() -> None:
    """All times that the client returns are aware."""
    call = responses.parse_call(b'{"callId":"c","startTime":"2026-01-02T03:04:05"}')
    assert call.start_time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@given(st.dictionaries(st.text(), json_values))
def test_the_free_keys_of_a_call_are_kept(keys: dict[str, Any]) -> None:
    """Text is kept unchanged, any other type as JSON. The API description allows other types."""
    call = responses.parse_call(encoded({"callId": "c", "stirShaken": keys}))
    assert call.stir_shaken is not None
    assert list(call.stir_shaken) == list(keys)
    for key, kept in call.stir_shaken.items():
        assert kept == (keys[key] if isinstance(keys[key], str) else json.dumps(keys[key]))


@each_parser
@given(data=st.data())
def test_any_body_is_a_value_or_no_answer(parse: Callable[[bytes], object], data: st.DataObject) -> None:
    """Every body that cannot be read raises a TransportError."""
    kind, name = PARSERS[parse]
    names = [camel_case(a.name) for a in fields(kind)]
    answer = data.draw(st.dictionaries(st.sampled_from(names), json_values) | json_values)
    try:
        value = parse(encoded(answer))
    except TransportError:
        return
    assert isinstance(getattr(value, name), str)


@pytest.mark.parametrize(
    "build",
    [
        lambda unsafe: wire.update_conference_bxml("1", unsafe, "<Bxml/>"),
        lambda unsafe: wire.get_conference_member("1", unsafe, "c-1"),
        lambda unsafe: wire.get_conference_member("1", "conf-1", unsafe),
        lambda unsafe: wire.update_conference_member("1", unsafe, "c-1", MUTE),
        lambda unsafe: wire.update_conference_member("1", "conf-1", unsafe, MUTE),
        lambda unsafe: wire.list_conference_recordings("1", unsafe),
        lambda unsafe: wire.get_conference_recording("1", unsafe, "r-1"),
        lambda unsafe: wire.get_conference_recording("1", "conf-1", unsafe),
        lambda unsafe: wire.download_conference_recording("1", unsafe, "r-1"),
        lambda unsafe: wire.download_conference_recording("1", "conf-1", unsafe),
        lambda unsafe: wire.get_call("1", unsafe),
        lambda unsafe: wire.update_call("1", unsafe, HANG_UP),
    ],
)
def test_an_unsafe_id_makes_no_request(build: Callable[[str], Request[Any]]) -> None:
    """An id that could lead to another path raises an error, in every part of a path."""
    with pytest.raises(ConfigurationError):
        build(UNSAFE)
