"""Actions on conferences and calls, with all that follows: members leave, recordings stop, events are sent.

Ending a conference ejects its members, whose calls go on. If the last member leaves, the conference
completes, as the description says of ``conferenceCompleted``. Its recording stops in both cases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import TypedDict

from attrs import frozen

from bandwidth_async.bxml import Verb
from bandwidth_async.sandbox.calls import CallStore, PhoneCall
from bandwidth_async.sandbox.conferences import Conference, ConferenceStore, format_time
from bandwidth_async.sandbox.events import Event, Webhook, conference_event, member_event
from bandwidth_async.sandbox.recordings import RecordingStore
from bandwidth_async.sandbox.validation import recording_webhook


class ConferenceTruth(TypedDict):
    """What really happened to a conference.

    ``end_requests`` counts the valid ones, ``members`` is their number now, and ``active_calls`` counts all
    calls that were ever in the conference and have not ended.
    """

    ended_at: str | None
    end_requests: int
    members: int
    active_calls: int
    recordings: int


@frozen(kw_only=True)
class Simulation:
    """All state of the simulated account, and what can happen to it.

    ``url`` returns the address of the API. ``webhook`` is where conferences send their events, None for
    nowhere.
    """

    conferences: ConferenceStore
    calls: CallStore
    recordings: RecordingStore
    account_id: str
    url: Callable[[], str]
    webhook: Webhook | None
    send: Callable[[Event], None]

    def announce(self, conference: Conference, at: datetime) -> None:
        """Send the events of a new conference and of its first members."""
        if self.webhook is not None:
            self.send(conference_event("conferenceCreated", conference, at, self.webhook))
            for call in self.calls.members(conference):
                self.send(member_event("conferenceMemberJoin", call, at, self.webhook))

    def end(self, conference: Conference, at: datetime) -> bool:
        """Count the end request and end the conference. Return False if it had ended before."""
        # Listing the members takes time, and only their events need the list.
        ejected = [] if self.webhook is None else self.calls.members(conference)
        if not self.conferences.end(conference.id, at):
            return False
        self._after_end(conference, ejected, at)
        return True

    def leave(self, call: PhoneCall, at: datetime) -> None:
        """Take a call out of its conference, if it is in it. The last one completes the conference."""
        conference = call.conference
        was_member = self.calls.is_member(call)
        self.calls.leave(call, at)
        if was_member and self.calls.members(conference):
            self._send_exits([call], at)
        elif was_member:
            self.conferences.complete(conference.id, at)
            self._after_end(conference, [call], at)

    def hang_up(self, call: PhoneCall, at: datetime) -> bool:
        """End a call, which leaves its conference. Return False if it had ended before."""
        if self.calls.ended_at(call) is not None:
            return False
        self.leave(call, at)
        return self.calls.hang_up(call, at)

    def redirect(self, conference: Conference, webhook: Webhook, at: datetime) -> None:
        """Send a redirect's event to its URL, which may respond with BXML."""
        self.send(conference_event("conferenceRedirect", conference, at, webhook))

    def play(
        self, conference: Conference, verbs: Iterable[Verb], at: datetime, base_url: str | None = None
    ) -> None:
        """Execute BXML. Only the verbs for recordings have an effect, as nobody hears the audio.

        ``base_url`` is what relative URLs are resolved against: where the BXML came from, or without it the
        webhook of the conferences.
        """
        if base_url is None and self.webhook is not None:
            base_url = self.webhook.url
        for verb in verbs:
            match verb.name:
                case "StartRecording":
                    webhook = recording_webhook(verb, base_url)
                    file_format = verb.attributes.get("fileFormat", "wav")
                    self.recordings.start(conference, at, webhook=webhook, file_format=file_format)
                case "PauseRecording":
                    self.recordings.pause(conference, at)
                case "ResumeRecording":
                    self.recordings.resume(conference, at)
                case "StopRecording":
                    self._stop_recording(conference, at)

    def truth(self) -> Iterator[tuple[str, ConferenceTruth]]:
        """Yield the id of each conference with what really happened to it."""
        for conference in self.conferences:
            ended_at = self.conferences.ended_at(conference)
            members, active_calls = self.calls.counts(conference)
            yield (
                conference.id,
                {
                    "ended_at": None if ended_at is None else format_time(ended_at),
                    "end_requests": self.conferences.end_requests(conference),
                    "members": members,
                    "active_calls": active_calls,
                    "recordings": self.recordings.count(conference),
                },
            )

    def _after_end(self, conference: Conference, ejected: Iterable[PhoneCall], at: datetime) -> None:
        self._send_exits(ejected, at)
        self._stop_recording(conference, at)
        if self.webhook is not None:
            self.send(conference_event("conferenceCompleted", conference, at, self.webhook))

    def _send_exits(self, calls: Iterable[PhoneCall], at: datetime) -> None:
        if self.webhook is not None:
            for call in calls:
                self.send(member_event("conferenceMemberExit", call, at, self.webhook))

    def _stop_recording(self, conference: Conference, at: datetime) -> None:
        recording = self.recordings.stop(conference, at)
        if recording is not None and recording.webhook is not None:
            fields, kind = recording.fields(self.account_id, self.url()), "conferenceRecordingAvailable"
            self.send(conference_event(kind, conference, at, recording.webhook, **fields))
