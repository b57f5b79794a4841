"""What Bandwidth's API returns, as values: what they say of themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.models import Call, Conference, ConferenceMember, ConferenceRecording, camel_case


@pytest.mark.parametrize(
    ("ours", "theirs"), [("id", "id"), ("call_id", "callId"), ("call_ids_to_coach", "callIdsToCoach")]
)
def test_a_snake_becomes_a_camel(ours: str, theirs: str) -> None:
    """The first word stays in lower case. Each further one starts with a capital."""
    assert camel_case(ours) == theirs


# Conferences


def test_a_conference_is_active_until_it_has_a_completed_time() -> None:
    """The API has no status field. A completed time shows that a conference has ended."""
    conference = Conference(id="conf-1")
    assert conference.active
    ended = attrs.evolve(conference, completed_time=datetime(2026, 1, 2, tzinfo=UTC))
    assert not ended.active


def test_what_an_answer_leaves_out_is_none() -> None:
    """A conference or member of which only the id is known has no other value."""
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


# Calls


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
    """It has ended if its state or its end time says so."""
    assert Call(call_id="c-1", **known).active is active


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
    """An ISO duration of days and less has a number. Any other text is kept as it was sent."""
    recording = ConferenceRecording(recording_id="r-1", duration=duration)
    assert (recording.duration, recording.seconds) == (duration, seconds)


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=9999)))
def test_every_length_comes_back(length: timedelta) -> None:
    """Written with all its parts, a length is read as the same number."""
    minutes, seconds = divmod(length.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"P{length.days}DT{hours}H{minutes}M{seconds}.{length.microseconds:06}S"
    assert ConferenceRecording(recording_id="r", duration=text).seconds == pytest.approx(
        length.total_seconds()
    )


@given(st.text())
def test_no_text_breaks_the_length(duration: str) -> None:
    """Whatever the server sends, `seconds` raises nothing."""
    seconds = ConferenceRecording(recording_id="r", duration=duration).seconds
    assert seconds is None or seconds >= 0
