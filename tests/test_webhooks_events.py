"""Conference events, parsed from the body of a POST or the query of a GET."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from bandwidth_async.errors import WebhookError
from bandwidth_async.webhooks import (
    ConferenceCompleted,
    ConferenceCreated,
    ConferenceEvent,
    ConferenceMemberExit,
    ConferenceMemberJoin,
    ConferenceRecordingAvailable,
    ConferenceRedirect,
    Event,
    UnknownEvent,
    parse_event,
)
from bandwidth_async.webhooks.events import BODY_LIMIT, ID_LIMIT

CONFERENCE = "conf-fe23a767-a75a5b77-20c5-4cca-b581-cbbf0776eca9"
CALL = "c-15ac29a2-1331029c-2cb0-4a07-b215-b22865662d85"
RECORDING = "r-fbe05094-9fd2afe9-bf5b-4c68-820a-41a01c1c5833"
MEDIA = f"https://voice.bandwidth.com/api/v2/accounts/9900000/conferences/{CONFERENCE}/recordings/{RECORDING}/media"
TIME = datetime(2022, 6, 17, 22, 19, 40, 375000, tzinfo=UTC)

# The properties with the examples of the published description.
SHARED: dict[str, Any] = {
    "eventTime": "2022-06-17T22:19:40.375Z",
    "conferenceId": CONFERENCE,
    "name": "my-conference-name",
    "tag": "exampleTag",
}
MEMBER = {"from": "+15555555555", "to": "+15555555556", "callId": CALL}
DETAILS: dict[str, dict[str, Any]] = {
    "conferenceCreated": {},
    "conferenceMemberJoin": MEMBER,
    "conferenceMemberExit": MEMBER,
    "conferenceRedirect": {},
    "conferenceCompleted": {},
    "conferenceRecordingAvailable": {
        "accountId": "9900000",
        "recordingId": RECORDING,
        "channels": 1,
        "startTime": "2022-06-17T22:19:40.375Z",
        "endTime": "2022-06-17T22:20:00.000Z",
        "duration": "PT13.67S",
        "fileFormat": "wav",
        "mediaUrl": MEDIA,
        "status": "complete",
    },
}
BODIES = {kind: {"eventType": kind, **SHARED, **details} for kind, details in DETAILS.items()}


def expected(kind: str, raw: dict[str, Any]) -> Event:
    """Return the event of a kind's example."""
    shared: dict[str, Any] = {
        "conference_id": CONFERENCE,
        "event_time": TIME,
        "name": "my-conference-name",
        "tag": "exampleTag",
        "raw": raw,
    }
    member = {**shared, "from_": "+15555555555", "to": "+15555555556", "call_id": CALL}
    events: dict[str, Event] = {
        "conferenceCreated": ConferenceCreated(**shared),
        "conferenceMemberJoin": ConferenceMemberJoin(**member),
        "conferenceMemberExit": ConferenceMemberExit(**member),
        "conferenceRedirect": ConferenceRedirect(**shared),
        "conferenceCompleted": ConferenceCompleted(**shared),
        "conferenceRecordingAvailable": ConferenceRecordingAvailable(
            **shared,
            account_id="9900000",
            recording_id=RECORDING,
            channels=1,
            start_time=TIME,
            end_time=datetime(2022, 6, 17, 22, 20, tzinfo=UTC),
            duration="PT13.67S",
            file_format="wav",
            media_url=MEDIA,
            status="complete",
        ),
    }
    return events[kind]


def body(kind: str = "conferenceCompleted", **changes: object) -> dict[str, Any]:
    """Return a kind's example with changes; a property that becomes None is left out."""
    return {name: value for name, value in {**BODIES[kind], **changes}.items() if value is not None}


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("encode", [str, str.encode, lambda text: text.encode("utf-16")])
def test_every_kind_comes_as_json(kind: str, encode: Any) -> None:
    """The body of a POST becomes an event of its own type, with all its properties."""
    assert parse_event(encode(json.dumps(BODIES[kind]))) == expected(kind, BODIES[kind])


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize(
    "read",
    [parse_qsl, parse_qs, lambda text: MultiDict(parse_qsl(text)), lambda text: dict(parse_qsl(text))],
    ids=["pairs", "lists", "multidict", "dict"],
)
def test_every_kind_comes_as_a_query(kind: str, read: Any) -> None:
    """The query of a GET has the same as texts, in each form that frameworks give a query."""
    texts = {name: str(value) for name, value in BODIES[kind].items()}
    assert parse_event(read(urlencode(texts))) == expected(kind, texts)


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_that_was_read_before_is_taken(kind: str) -> None:
    """Some frameworks parse JSON themselves."""
    assert parse_event(BODIES[kind]) == expected(kind, BODIES[kind])


@pytest.mark.parametrize("kind", BODIES)
def test_the_event_knows_its_kind(kind: str) -> None:
    """It has the name that Bandwidth gives it."""
    assert parse_event(BODIES[kind]).event_type == kind


def test_what_is_optional_may_be_missing_or_null() -> None:
    """An event needs no tag or name, and null means that there is none."""
    least = {"eventType": "conferenceCompleted", "eventTime": SHARED["eventTime"], "conferenceId": CONFERENCE}
    bare = ConferenceCompleted(conference_id=CONFERENCE, event_time=TIME, raw=least)
    assert parse_event(json.dumps(least)) == bare
    with_null = {**least, "tag": None, "name": None}
    assert parse_event(json.dumps(with_null)) == ConferenceCompleted(
        conference_id=CONFERENCE, event_time=TIME, raw=with_null
    )


def test_unknown_properties_are_kept() -> None:
    """You can read a property that Bandwidth added before this package knows it."""
    event = parse_event(json.dumps(body(reason={"code": [1, 2]})))
    assert event.raw["reason"] == {"code": [1, 2]}


def test_an_unknown_kind_is_kept_as_it_came() -> None:
    """Events of calls, and kinds that do not exist yet."""
    raw = {"eventType": "disconnect", "eventTime": SHARED["eventTime"], "callId": CALL, "cause": "hangup"}
    event = parse_event(json.dumps(raw))
    assert event == UnknownEvent(event_type="disconnect", event_time=TIME, call_id=CALL, raw=raw)
    assert not isinstance(event, ConferenceEvent)


def test_an_unknown_kind_needs_nothing_but_its_name() -> None:
    """What it does not have in the usual form is None."""
    raw = {"eventType": "tea", "eventTime": "at five", "conferenceId": ["conf-1", "conf-2"], "callId": 1.5}
    assert parse_event(json.dumps(raw)) == UnknownEvent(event_type="tea", call_id="1.5", raw=raw)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *((kind, name) for kind in BODIES for name in ("eventType", "eventTime", "conferenceId")),
        ("conferenceMemberJoin", "callId"),
        ("conferenceMemberExit", "callId"),
        ("conferenceRecordingAvailable", "recordingId"),
    ],
)
@pytest.mark.parametrize("wrong", [None, "", 7 * "\n", True, {}, ["a", "b"], "x" * (ID_LIMIT + 1), "\ud800"])
def test_without_what_it_is_about_it_is_no_event(kind: str, name: str, wrong: object) -> None:
    """Kind, time, conference, call, recording: the error names what is missing or wrong."""
    with pytest.raises(WebhookError, match=f"not an event: .*{name} is"):
        parse_event(json.dumps(body(kind, **{name: wrong})))


def test_an_id_may_be_as_long_as_the_limit() -> None:
    """Ids are kept, so their length needs a limit."""
    assert parse_event(body(conferenceId="x" * ID_LIMIT)).conference_id == "x" * ID_LIMIT


def test_the_error_shows_the_value_in_short() -> None:
    """The value is on one line, and a long one is cut."""
    with pytest.raises(WebhookError) as caught:
        parse_event(body(eventTime="\x1b[2J" + 200 * "x"))
    assert str(caught.value) == (
        "not an event: conferenceCompleted whose eventTime is '\\x1b[2J" + 72 * "x" + "…"
    )
    with pytest.raises(WebhookError, match=r"^not an event: its eventType is missing$"):
        parse_event({})


def test_an_odd_detail_does_not_lose_the_event() -> None:
    """The detail is None, and raw has it: the conference has completed whatever its tag."""
    raw = body(
        "conferenceRecordingAvailable",
        channels="two",
        startTime="noon",
        duration=[],
        tag={"a": 1},
        status=True,
    )
    event = parse_event(json.dumps(raw))
    assert isinstance(event, ConferenceRecordingAvailable)
    odd = (event.channels, event.start_time, event.duration, event.tag, event.status)
    assert odd == (None, None, None, None, None)
    assert event.raw == raw
    assert event.recording_id == RECORDING


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2022-06-17T22:19:40.375Z", TIME),
        ("2022-06-17T22:19:40.375", TIME),
        ("2022-06-18T00:19:40.375+02:00", TIME),
        ("2022-06-17T22:19:40Z", TIME.replace(microsecond=0)),
        ("2022-06-17T22:19:40.375123456Z", TIME.replace(microsecond=375123)),
    ],
)
def test_times_are_aware(text: str, moment: datetime) -> None:
    """A time without a zone is UTC."""
    event = parse_event(body(eventTime=text))
    assert event.event_time == moment
    assert event.event_time is not None
    assert event.event_time.tzinfo is not None


@pytest.mark.parametrize("number", [9900000, "9900000"])
def test_a_number_serves_as_text(number: object) -> None:
    """APIs of this kind send an account id as text or as a number."""
    event = parse_event(body("conferenceRecordingAvailable", accountId=number))
    assert isinstance(event, ConferenceRecordingAvailable)
    assert event.account_id == "9900000"


@pytest.mark.parametrize(
    ("came", "why"),
    [
        (b"", "the body is not JSON"),
        (b"\xff\xfe\xff", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        ('{"eventType": NaN}', "the body is not JSON"),
        ('{"channels": ' + 5000 * "9" + "}", "the body is not JSON"),
        ("null", "the body is not a JSON object"),
        ("[]", "the body is not a JSON object"),
        ('"conferenceCompleted"', "the body is not a JSON object"),
        ('{"eventType": ' + 9000 * "[" + 9000 * "]" + "}", "it is nested too deeply"),
        (b" " * (BODY_LIMIT + 1), "the body has 65537 bytes, more than 65536"),
        ([("eventType",)], "neither a body nor a query of names and values"),
        (7, "neither a body nor a query of names and values"),
    ],
)
def test_what_is_not_an_event_is_refused_with_a_sentence(came: Any, why: str) -> None:
    """There is one error for everything that can be wrong."""
    with pytest.raises(WebhookError) as caught:
        parse_event(came)
    assert str(caught.value) == f"not an event: {why}"


def test_the_limit_is_the_last_size_that_is_read() -> None:
    """A body at the limit is an event, and one byte more is refused."""
    text = json.dumps(body())
    assert parse_event(text, limit=len(text)) == parse_event(text)
    with pytest.raises(WebhookError, match="more than"):
        parse_event(text, limit=len(text) - 1)


def test_a_property_given_twice_is_not_guessed() -> None:
    """A query with two conferences is an event of neither."""
    with pytest.raises(WebhookError, match=r"conferenceId is \('conf-1', 'conf-2'\)"):
        parse_event(
            [*body(conferenceId=None).items(), ("conferenceId", "conf-1"), ("conferenceId", "conf-2")]
        )


@given(st.binary() | st.text())
def test_no_bytes_do_more_than_be_refused(came: bytes | str) -> None:
    """Any bytes give an event or the one error."""
    with pytest.raises(WebhookError):
        parse_event(came)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([CONFERENCE, CALL]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.sampled_from([*BODIES, "disconnect"]),
    st.dictionaries(st.sampled_from([*BODIES["conferenceRecordingAvailable"], "callId", "from"]), JSON),
)
def test_any_values_give_an_event_or_the_error(kind: str, changes: dict[str, Any]) -> None:
    """Every event can also be shown, compared, hashed and used as a key."""
    text = json.dumps({"eventType": kind, **BODIES.get(kind, {}), **changes}, allow_nan=True)
    try:
        event = parse_event(text)
    except WebhookError as error:
        assert str(error).isprintable()  # noqa: PT017  # both ways out are right
        return
    assert str(changes.get("eventType", kind)) == event.event_type
    again = parse_event(text)
    assert (event, hash(event), event.key, repr(event)) == (again, hash(again), again.key, repr(again))


@given(st.datetimes(timezones=st.timezones() | st.just(timezone(timedelta(hours=23, minutes=59)))))
def test_any_time_can_be_a_key(moment: datetime) -> None:
    """So can a time at the end of the calendar, where arithmetic fails."""
    event = parse_event(body(eventTime=moment.isoformat()))
    assert hash(event.key) == hash(parse_event(body(eventTime=moment.isoformat())).key)


@pytest.mark.parametrize("kind", [*BODIES, "disconnect"])
@pytest.mark.parametrize("again", [copy.deepcopy, lambda event: pickle.loads(pickle.dumps(event))])  # noqa: S301  # our own bytes
def test_an_event_can_be_put_into_a_queue(kind: str, again: Any) -> None:
    """A copied or pickled event is equal."""
    event = parse_event({**BODIES.get(kind, {}), "eventType": kind})
    assert again(event) == event


@pytest.mark.parametrize(
    ("kind", "property_", "other"),
    [
        *((kind, "conferenceId", "conf-2") for kind in BODIES),
        *((kind, "eventTime", "2022-06-17T22:19:40.376Z") for kind in BODIES),
        ("conferenceMemberJoin", "callId", "c-2"),
        ("conferenceMemberExit", "callId", "c-2"),
        ("conferenceRecordingAvailable", "recordingId", "r-2"),
        ("conferenceMemberJoin", "eventType", "conferenceMemberExit"),
    ],
)
def test_different_events_have_different_keys(kind: str, property_: str, other: str) -> None:
    """Two recordings or two calls may have events of the same moment."""
    assert parse_event(BODIES[kind]).key != parse_event(body(kind, **{property_: other})).key


def test_the_key_of_a_known_event_leaves_details_out() -> None:
    """The same event has the same key when it comes again by another method."""
    texts = {name: str(value) for name, value in BODIES["conferenceRecordingAvailable"].items()}
    assert parse_event({**texts, "tag": "new"}).key == parse_event(BODIES["conferenceRecordingAvailable"]).key


def test_an_unknown_event_is_known_again_by_all_of_it() -> None:
    """Nobody knows which of its properties identify it, but their order does not."""
    first = parse_event({"eventType": "dtmf", "callId": CALL, "digit": "1"})
    assert first.key == parse_event({"digit": "1", "callId": CALL, "eventType": "dtmf"}).key
    assert first.key != parse_event({"eventType": "dtmf", "callId": CALL, "digit": "2"}).key
