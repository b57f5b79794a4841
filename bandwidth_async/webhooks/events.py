"""The events that Bandwidth reports of a conference, each kind a type of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Hashable

Properties = Mapping[str, object]
Raw = Properties | Callable[[], Properties]
"""All that came; or what reads it once more, so that an event that is kept holds bytes and no objects."""


def _opened(raw: Raw) -> Properties:
    return raw() if callable(raw) else raw


@frozen(kw_only=True)
class ConferenceEvent:
    """What all conference events have: whose it is, when it was made, and everything as it came.

    ``event_time`` is aware, and approximate (Bandwidth's word). ``raw`` has all properties under
    Bandwidth's names, also those without an attribute here; it is read anew from what came each time.
    """

    event_type: ClassVar[str]
    takes_bxml: ClassVar[bool] = True

    conference_id: str
    event_time: datetime
    name: str | None = None
    tag: str | None = None
    _raw: Raw = field(factory=dict, eq=_opened, hash=False, repr=False)

    @property
    def raw(self) -> Properties:
        """All properties, as they came."""
        return _opened(self._raw)

    @property
    def key(self) -> Hashable:
        """What tells this event from others: Bandwidth gives events no id, and may send one twice."""
        return (self.event_type, self.conference_id, self.event_time)


@frozen(kw_only=True)
class ConferenceCreated(ConferenceEvent):
    """A conference began. May be answered with BXML."""

    event_type: ClassVar[str] = "conferenceCreated"


@frozen(kw_only=True)
class MemberEvent(ConferenceEvent):
    """What joining and leaving have in common: the call that did it."""

    call_id: str
    from_: str | None = None
    to: str | None = None

    @property
    def key(self) -> Hashable:
        """What tells this event from others, the call included."""
        return (self.event_type, self.conference_id, self.event_time, self.call_id)


@frozen(kw_only=True)
class ConferenceMemberJoin(MemberEvent):
    """A call joined a conference. May be answered with BXML, which all members hear."""

    event_type: ClassVar[str] = "conferenceMemberJoin"


@frozen(kw_only=True)
class ConferenceMemberExit(MemberEvent):
    """A call left a conference. May be answered with BXML, which the other members hear."""

    event_type: ClassVar[str] = "conferenceMemberExit"


@frozen(kw_only=True)
class ConferenceRedirect(ConferenceEvent):
    """A conference was redirected by an update and asks what to do. May be answered with BXML."""

    event_type: ClassVar[str] = "conferenceRedirect"


@frozen(kw_only=True)
class ConferenceCompleted(ConferenceEvent):
    """A conference ended: its last member left. The proof that ending it worked. Takes no BXML."""

    event_type: ClassVar[str] = "conferenceCompleted"
    takes_bxml: ClassVar[bool] = False


@frozen(kw_only=True)
class ConferenceRecordingAvailable(ConferenceEvent):
    """A recording of a conference can be downloaded. Takes no BXML.

    ``duration`` is ISO 8601 text (``PT13.67S``); ``status`` is ``complete``, ``partial``, ``error`` or a
    word that Bandwidth added since. ``media_url`` is informational: download by ``recording_id``.
    """

    event_type: ClassVar[str] = "conferenceRecordingAvailable"
    takes_bxml: ClassVar[bool] = False

    recording_id: str
    account_id: str | None = None
    channels: int | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    duration: str | None = None
    file_format: str | None = None
    media_url: str | None = None
    status: str | None = None

    @property
    def key(self) -> Hashable:
        """What tells this event from others: several recordings may become available at one moment."""
        return (self.event_type, self.conference_id, self.event_time, self.recording_id)


@frozen(kw_only=True)
class UnknownEvent:
    """An event of a kind that this package does not know, as it came: of a call, or newer than this code.

    What it is about is None where it does not say so in the usual way; ``raw`` has all of it. Whether it
    may be answered with BXML only its receiver can know.
    """

    takes_bxml: ClassVar[bool] = True

    event_type: str
    conference_id: str | None = None
    event_time: datetime | None = None
    call_id: str | None = None
    _raw: Raw = field(factory=dict, eq=_opened, hash=False, repr=False)
    _fingerprint: str = field(init=False, repr=False)

    @_fingerprint.default
    def _of_all_that_came(self) -> str:
        text = json.dumps(dict(self.raw), sort_keys=True, default=repr)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def raw(self) -> Properties:
        """All properties, as they came."""
        return _opened(self._raw)

    @property
    def key(self) -> Hashable:
        """What tells this event from others: all of it, as nobody knows which of its properties matter."""
        return (self.event_type, self._fingerprint)


Event = ConferenceEvent | UnknownEvent

KINDS: dict[str, type[ConferenceEvent]] = {
    kind.event_type: kind
    for kind in (
        ConferenceCreated,
        ConferenceMemberJoin,
        ConferenceMemberExit,
        ConferenceRedirect,
        ConferenceCompleted,
        ConferenceRecordingAvailable,
    )
}
