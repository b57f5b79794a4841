"""Conference events: a type for each kind, and `parse_event`, which reads one from a webhook request.

A webhook that is refused is lost: Bandwidth does not send it again. So an event is refused only when it is
useless: without its kind, conference or time, or without the call or recording that it is about. (The
published description marks no property as required; Bandwidth's pages mark only the tag as optional.) Any
other property that is not as documented becomes None, and ``raw`` still has it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn
from urllib.parse import parse_qsl

from attrs import NOTHING, field, fields, frozen

from bandwidth_async.errors import WebhookError
from bandwidth_async.models import camel_case

if TYPE_CHECKING:
    from collections.abc import Hashable

# An event has about 1,000 bytes.
BODY_LIMIT = 65_536
# Characters. Bandwidth's ids have about 50.
ID_LIMIT = 256
# The characters of a wrong value that an error repeats.
_SHOWN = 80

Query = Mapping[str, object] | Iterable[tuple[str, object]]
Properties = Mapping[str, object]
Raw = Properties | Callable[[], Properties]
"""The properties, or a function that reads them again. With the function a kept event holds only bytes."""


def _properties(raw: Raw) -> Properties:
    return raw() if callable(raw) else raw


@frozen(kw_only=True)
class ConferenceEvent:
    """What all conference events have in common.

    ``event_time`` has a time zone and is approximate (Bandwidth's word). ``raw`` has all properties under
    Bandwidth's names, also those without an attribute here. Each access parses the request again.
    """

    event_type: ClassVar[str]
    takes_bxml: ClassVar[bool] = True

    conference_id: str
    event_time: datetime
    name: str | None = None
    tag: str | None = None
    _raw: Raw = field(factory=dict, eq=_properties, hash=False, repr=False)

    @property
    def raw(self) -> Properties:
        """All properties, as Bandwidth sent them."""
        return _properties(self._raw)

    @property
    def key(self) -> Hashable:
        """Identifies the event. Bandwidth gives events no id, and may send one twice."""
        return (self.event_type, self.conference_id, self.event_time)


@frozen(kw_only=True)
class ConferenceCreated(ConferenceEvent):
    """A conference began. You may answer with BXML."""

    event_type: ClassVar[str] = "conferenceCreated"


@frozen(kw_only=True)
class MemberEvent(ConferenceEvent):
    """A call joined or left a conference."""

    call_id: str
    from_: str | None = None
    to: str | None = None

    @property
    def key(self) -> Hashable:
        """Identifies the event, the call included."""
        return (self.event_type, self.conference_id, self.event_time, self.call_id)


@frozen(kw_only=True)
class ConferenceMemberJoin(MemberEvent):
    """A call joined a conference. You may answer with BXML, which all members hear."""

    event_type: ClassVar[str] = "conferenceMemberJoin"


@frozen(kw_only=True)
class ConferenceMemberExit(MemberEvent):
    """A call left a conference. You may answer with BXML, which the other members hear."""

    event_type: ClassVar[str] = "conferenceMemberExit"


@frozen(kw_only=True)
class ConferenceRedirect(ConferenceEvent):
    """An update redirected a conference, which now asks for its BXML. You may answer with BXML."""

    event_type: ClassVar[str] = "conferenceRedirect"


@frozen(kw_only=True)
class ConferenceCompleted(ConferenceEvent):
    """A conference ended: its last member left. This proves that ending it worked. Takes no BXML."""

    event_type: ClassVar[str] = "conferenceCompleted"
    takes_bxml: ClassVar[bool] = False


@frozen(kw_only=True)
class ConferenceRecordingAvailable(ConferenceEvent):
    """You can download a recording of a conference. Takes no BXML.

    ``duration`` is ISO 8601 text (``PT13.67S``). ``status`` is ``complete``, ``partial``, ``error`` or a
    word that Bandwidth has added since. ``media_url`` is informational: download by ``recording_id``.
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
        """Identifies the event. Several recordings may become available at the same moment."""
        return (self.event_type, self.conference_id, self.event_time, self.recording_id)


@frozen(kw_only=True)
class UnknownEvent:
    """An event of a kind that this package does not know: of a call, or newer than this code.

    An attribute is None where the event does not have it in the usual form. ``raw`` has everything. Only you
    can know whether such an event may be answered with BXML.
    """

    takes_bxml: ClassVar[bool] = True

    event_type: str
    conference_id: str | None = None
    event_time: datetime | None = None
    call_id: str | None = None
    _raw: Raw = field(factory=dict, eq=_properties, hash=False, repr=False)
    _fingerprint: str = field(init=False, repr=False)

    @_fingerprint.default
    def _hash_of_raw(self) -> str:
        text = json.dumps(dict(self.raw), sort_keys=True, default=repr)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def raw(self) -> Properties:
        """All properties, as Bandwidth sent them."""
        return _properties(self._raw)

    @property
    def key(self) -> Hashable:
        """Identifies the event by all its properties, as nobody knows which of them matter."""
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


def parse_event(came: bytes | str | Query, *, limit: int = BODY_LIMIT) -> Event:
    """Return the event in the JSON body of a POST, or in the query of a GET.

    ``came`` is the body as bytes or text, or the query as a mapping or as pairs. The mapping may have lists
    as values, or be a body that was already parsed as JSON. Unknown kinds become `UnknownEvent`. Raises
    `WebhookError` for anything that is not an event, and for a body of more than ``limit`` bytes.

    The event of a body keeps the body, from which its ``raw`` is read. That of a query keeps the values.
    """
    if isinstance(came, bytes | str):
        return _event(partial(_from_json, came, limit))
    return _event(partial(_same, _from_query(came)))


def parse_query(query: str) -> Event:
    """Return the event in the query of a URL. The event keeps the text of the query."""
    return _event(partial(_from_text, query))


def _event(read: Callable[[], dict[str, object]]) -> Event:
    try:
        raw = read()
        kind = _id(raw.get("eventType"))
        if kind is None:
            raise WebhookError(f"not an event: its eventType is {_shown(raw.get('eventType'))}")
        return _known(KINDS[kind], raw, read) if kind in KINDS else _unknown(kind, raw, read)
    except RecursionError:
        raise WebhookError("not an event: it is nested too deeply") from None


def _same(raw: dict[str, object]) -> dict[str, object]:
    return raw


def _from_text(query: str) -> dict[str, object]:
    return _from_query(parse_qsl(query, keep_blank_values=True))


def _from_json(body: bytes | str, limit: int) -> dict[str, object]:
    if len(body) > limit:
        raise WebhookError(f"not an event: the body has {len(body)} bytes, more than {limit}")
    try:
        value = json.loads(body, parse_constant=_refuse)
    except ValueError as error:
        raise WebhookError("not an event: the body is not JSON") from error
    if not isinstance(value, dict):
        raise WebhookError("not an event: the body is not a JSON object")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _from_query(query: Query) -> dict[str, object]:
    """Return each property once. One that was given several times is a tuple of all its values."""
    found: dict[str, list[object]] = {}
    try:
        for name, value in query.items() if isinstance(query, Mapping) else query:
            found.setdefault(str(name), []).extend(value if isinstance(value, list | tuple) else [value])
    except (TypeError, ValueError) as error:
        raise WebhookError("not an event: neither a body nor a query of names and values") from error
    return {name: values[0] if len(values) == 1 else tuple(values) for name, values in found.items()}


def _known(kind: type[ConferenceEvent], raw: dict[str, object], read: Raw) -> ConferenceEvent:
    values: dict[str, Any] = {}
    for attribute in fields(kind):
        if attribute.alias == "raw":
            continue
        name = camel_case(attribute.name.rstrip("_"))
        value = _READERS.get(attribute.name, _text)(raw.get(name))
        if value is None and attribute.default is NOTHING:
            raise WebhookError(f"not an event: {kind.event_type} whose {name} is {_shown(raw.get(name))}")
        values[attribute.name] = value
    return kind(**values, raw=read)


def _unknown(kind: str, raw: dict[str, object], read: Raw) -> UnknownEvent:
    return UnknownEvent(
        event_type=kind,
        conference_id=_id(raw.get("conferenceId")),
        event_time=_time(raw.get("eventTime")),
        call_id=_id(raw.get("callId")),
        raw=read,
    )


def _text(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value)


def _id(value: object) -> str | None:
    """Return an id that is safe to keep, compare and log, or None."""
    text = _text(value)
    return text if text and len(text) <= ID_LIMIT and text.isprintable() else None


def _number(value: object) -> int | None:
    text = _text(value) or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= ID_LIMIT else None


def _time(value: object) -> datetime | None:
    """Return an ISO 8601 time. One without a zone is UTC, as Bandwidth says that its times are."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def _shown(value: object) -> str:
    if value is None:
        return "missing"
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


_READERS: dict[str, Callable[[object], object]] = {
    "conference_id": _id,
    "call_id": _id,
    "recording_id": _id,
    "event_time": _time,
    "start_time": _time,
    "end_time": _time,
    "channels": _number,
}
