"""What is told to a webhook: the six events, with exactly the fields of their published schemas."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from attrs import frozen

from bandwidth_async.sandbox.facts import Conference, PhoneCall, wire_time, without_nulls
from bandwidth_async.sandbox.recordings import Recording
from bandwidth_async.sandbox.targets import Target

KINDS = (
    "conferenceCreated",
    "conferenceMemberJoin",
    "conferenceMemberExit",
    "conferenceRedirect",
    "conferenceCompleted",
    "conferenceRecordingAvailable",
)
ANSWERED_WITH_BXML = frozenset(KINDS[:4])
"""The events whose answer may be BXML for the conference."""


@frozen(kw_only=True)
class Event:
    """One thing that happened, with where it is told."""

    conference: Conference
    kind: str
    fields: Mapping[str, object]
    target: Target


def conference_event(
    kind: str, conference: Conference, at: datetime, target: Target, **more: object
) -> Event:
    """Return an event of a conference as such: created, redirect, completed."""
    fields = {
        "eventType": kind,
        "eventTime": wire_time(at),
        "conferenceId": conference.id,
        "name": conference.name,
        "tag": conference.tag,
        **more,
    }
    return Event(conference=conference, kind=kind, fields=without_nulls(fields), target=target)


def member_event(kind: str, call: PhoneCall, at: datetime, target: Target) -> Event:
    """Return an event of a member: join, exit."""
    about = {"from": call.origin, "to": call.destination, "callId": call.id}
    return conference_event(kind, call.conference, at, target, **about)


def recording_event(
    recording: Recording, metadata: Mapping[str, object], at: datetime, target: Target
) -> Event:
    """Return the event that a recording may be downloaded."""
    tag = recording.tag or recording.conference.tag
    return conference_event(
        "conferenceRecordingAvailable", recording.conference, at, target, **{**metadata, "tag": tag}
    )


def recording_metadata(recording: Recording, account_id: str, url: str) -> dict[str, object]:
    """Return what is told of a recording; ``url`` is the API's address. Times and media at its end only."""
    conference, ended_at = recording.conference, recording.ended_at
    path = f"/api/v2/accounts/{account_id}/conferences/{conference.id}/recordings/{recording.id}/media"
    return without_nulls(
        {
            "accountId": account_id,
            "conferenceId": conference.id,
            "name": conference.name,
            "recordingId": recording.id,
            "duration": recording.duration if ended_at else None,
            "channels": 1,
            "startTime": wire_time(recording.started_at),
            "endTime": wire_time(ended_at) if ended_at else None,
            "fileFormat": "wav",
            "status": "complete" if ended_at else "processing",
            "mediaUrl": url + path if ended_at else None,
        }
    )
