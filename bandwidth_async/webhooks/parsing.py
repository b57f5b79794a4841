"""From what a webhook request brought to an event.

An event is lost when it is refused, so only what makes it useless is a reason to refuse it: no kind, no
conference, no time, no call or recording where it is about one. (The published description marks nothing
as required; its pages mark only the tag as optional.) Any other property that is not of its documented
form is None, and can still be read in ``raw``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from attrs import NOTHING, fields

from bandwidth_async.errors import WebhookError
from bandwidth_async.models import camel_case
from bandwidth_async.webhooks.events import KINDS, ConferenceEvent, Event, Raw, UnknownEvent

BODY_LIMIT = 65_536  # bytes; an event has about 1,000
ID_LIMIT = 256  # characters; Bandwidth's ids have about 50
_SHOWN = 80  # characters of a wrong value that an error repeats

Query = Mapping[str, object] | Iterable[tuple[str, object]]


def parse_event(came: bytes | str | Query, *, limit: int = BODY_LIMIT) -> Event:
    """Return the event in the JSON body of a POST, or in the query of a GET.

    ``came`` is the body as bytes or text, or the query as a mapping (also one with lists as values, or a
    body that was already read as JSON) or as pairs. Unknown kinds come back as `UnknownEvent`. Raises
    `WebhookError` for anything that is not an event, and for a body of more than ``limit`` bytes.

    The event of a body keeps the body, which its ``raw`` is read from; that of a query keeps the values.
    """
    if isinstance(came, bytes | str):
        return _event(partial(_from_json, came, limit))
    return _event(partial(_same, _from_query(came)))


def parse_query(query: str) -> Event:
    """Return the event in a query as it stands in a URL, which it keeps as a body is kept."""
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
    """Return each property once; one that was given several times is a tuple of all its values."""
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
    """Return a text that can be kept, compared and logged."""
    text = _text(value)
    return text if text and len(text) <= ID_LIMIT and text.isprintable() else None


def _number(value: object) -> int | None:
    text = _text(value) or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= ID_LIMIT else None


def _time(value: object) -> datetime | None:
    """Return an ISO 8601 time; one without a zone is UTC, as Bandwidth says that its times are."""
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
