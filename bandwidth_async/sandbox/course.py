"""What follows from what: members leave, recordings stop, conferences complete, events are told.

A conference that is ended ejects its members, whose calls go on. A member that leaves last completes the
conference, as the description says of ``conferenceCompleted``. Either way its recording stops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from attrs import frozen

from bandwidth_async.bxml import Verb
from bandwidth_async.sandbox.bxml import recording_target
from bandwidth_async.sandbox.events import (
    Event,
    conference_event,
    member_event,
    recording_event,
    recording_metadata,
)
from bandwidth_async.sandbox.facts import Conference, PhoneCall
from bandwidth_async.sandbox.recordings import Recording, Recordings
from bandwidth_async.sandbox.targets import Target
from bandwidth_async.sandbox.world import World


@frozen(kw_only=True)
class Course:
    """The deeds with their consequences. ``target`` is where conferences report, None for nowhere."""

    world: World
    recordings: Recordings
    account_id: str
    url: Callable[[], str]
    target: Target | None
    tell: Callable[[Event], None]

    def begin(self, conference: Conference, at: datetime) -> None:
        """Tell of a new conference and of its first members."""
        if self.target is not None:
            self.tell(conference_event("conferenceCreated", conference, at, self.target))
            for call in self.world.members(conference):
                self.tell(member_event("conferenceMemberJoin", call, at, self.target))

    def end(self, conference: Conference, at: datetime) -> bool:
        """Count the end request and end the conference; return False when it had ended before."""
        ejected = [] if self.target is None else self.world.members(conference)
        if not self.world.end(conference.id, at):
            return False
        self._conclude(conference, ejected, at)
        return True

    def leave(self, call: PhoneCall, at: datetime) -> None:
        """Take a call out of its conference, if it is in it; the last one completes the conference."""
        conference, calls = call.conference, self.world.calls
        was_member = self.world.is_member(call)
        calls.leave(call, at)
        if was_member and self.world.members(conference):
            self._tell_exits([call], at)
        elif was_member:
            self.world.complete(conference.id, at)
            self._conclude(conference, [call], at)

    def hang_up(self, call: PhoneCall, at: datetime) -> bool:
        """End a call, which leaves its conference; return False when it had ended before."""
        if self.world.calls.ended_at(call) is not None:
            return False
        self.leave(call, at)
        return self.world.calls.hang_up(call, at)

    def redirect(self, conference: Conference, target: Target, at: datetime) -> None:
        """Ask the redirect's target for new BXML."""
        self.tell(conference_event("conferenceRedirect", conference, at, target))

    def play(self, conference: Conference, verbs: Iterable[Verb], at: datetime) -> None:
        """Do what the verbs say. Audio is not heard by anyone; recordings are made."""
        for verb in verbs:
            match verb.name:
                case "StartRecording":
                    target, tag = recording_target(verb), verb.attributes.get("tag")
                    self.recordings.start(conference, at, report_to=target, tag=tag)
                case "PauseRecording":
                    self.recordings.pause(conference, at)
                case "ResumeRecording":
                    self.recordings.resume(conference, at)
                case "StopRecording":
                    self._stop_recording(conference, at)

    def metadata(self, recording: Recording, url: str) -> dict[str, object]:
        """Return what is told of a recording; ``url`` is where the API was reached."""
        return recording_metadata(recording, self.account_id, url)

    def _conclude(self, conference: Conference, ejected: Iterable[PhoneCall], at: datetime) -> None:
        self._tell_exits(ejected, at)
        self._stop_recording(conference, at)
        if self.target is not None:
            self.tell(conference_event("conferenceCompleted", conference, at, self.target))

    def _tell_exits(self, calls: Iterable[PhoneCall], at: datetime) -> None:
        if self.target is not None:
            for call in calls:
                self.tell(member_event("conferenceMemberExit", call, at, self.target))

    def _stop_recording(self, conference: Conference, at: datetime) -> None:
        recording = self.recordings.stop(conference, at)
        target = recording and (recording.report_to or self.target)
        if recording and target:
            self.tell(recording_event(recording, self.metadata(recording, self.url()), at, target))
