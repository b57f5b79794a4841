"""Conferences and their members as Bandwidth describes them.

Calls as Bandwidth describes them.

The recordings of a conference as Bandwidth describes them.

What can be an id: one word that stays in its own segment of a path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from attrs import frozen

from bandwidth_async.errors import ConfigurationError


class CallbackMethod(StrEnum):
    """How Bandwidth sends a webhook."""

    GET = "GET"
    POST = "POST"


def camel_case(name: str) -> str:
    """Return our ``snake_case`` name as the API spells it."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


@frozen(kw_only=True)
class ConferenceMember:
    """A call that is in a conference.

    ``member_url`` is informational: this client builds its own URLs and sends credentials nowhere else.
    """

    call_id: str
    conference_id: str | None = None
    member_url: str | None = None
    mute: bool | None = None
    hold: bool | None = None
    call_ids_to_coach: tuple[str, ...] | None = None


@frozen(kw_only=True)
class Conference:
    """A conference as `get_conference` and `list_conferences` return it.

    All times are aware. ``active_members`` is None where the answer leaves the members out, as listings
    do. ``conference_event_method`` is a plain string when Bandwidth names a method we do not know.
    """

    id: str
    name: str | None = None
    created_time: datetime | None = None
    completed_time: datetime | None = None
    conference_event_url: str | None = None
    conference_event_method: CallbackMethod | str | None = None
    tag: str | None = None
    active_members: tuple[ConferenceMember, ...] | None = None

    @property
    def active(self) -> bool:
        """Whether it has not ended: the API has no field for that, but ends show a completed time."""
        return self.completed_time is None


@frozen(kw_only=True)
class Call:
    """A call as `get_call` returns it, also for 7 days after it has ended.

    All times are aware. ``state`` is one of Bandwidth's words (``queued``, ``initiated``, ``answered``,
    ``disconnected``; others may come), ``disconnect_cause`` says why a call ended. ``stir_shaken`` has
    free keys; values that are not text are kept as JSON. ``from_`` is the API's ``from``.
    """

    call_id: str
    application_id: str | None = None
    account_id: str | None = None
    parent_call_id: str | None = None
    to: str | None = None
    from_: str | None = None
    direction: str | None = None
    state: str | None = None
    stir_shaken: Mapping[str, str] | None = None
    identity: str | None = None
    enqueued_time: datetime | None = None
    start_time: datetime | None = None
    answer_time: datetime | None = None
    end_time: datetime | None = None
    disconnect_cause: str | None = None
    error_message: str | None = None
    error_id: str | None = None
    last_update: datetime | None = None

    @property
    def active(self) -> bool:
        """Whether it has not ended; a call that waits or rings is active too."""
        return self.end_time is None and self.state != "disconnected"


_ISO_DURATION = re.compile(
    r"P(?:(\d{1,6})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,9}(?:[.,]\d{1,12})?)S)?)?", re.ASCII
)
_SECONDS = (86400.0, 3600.0, 60.0, 1.0)


@frozen(kw_only=True)
class ConferenceRecording:
    """What is known about a recording; its audio is what `download_conference_recording` fetches.

    All times are aware. ``status`` and ``file_format`` are Bandwidth's words (``complete``, ``wav``), and
    others than today's may come. ``duration`` is as sent (``PT13.67S``), `seconds` is its number.
    ``media_url`` is informational: this client builds its own URLs and sends credentials nowhere else.
    """

    recording_id: str
    conference_id: str | None = None
    account_id: str | None = None
    name: str | None = None
    recording_name: str | None = None
    status: str | None = None
    file_format: str | None = None
    channels: int | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    duration: str | None = None
    media_url: str | None = None

    @property
    def seconds(self) -> float | None:
        """How long it is, or None where ``duration`` is missing or no span of days, hours and less."""
        match = _ISO_DURATION.fullmatch(self.duration or "")
        if match is None or not any(match.groups()):
            return None
        numbers = (float((text or "0").replace(",", ".")) for text in match.groups())
        return sum(number * unit for number, unit in zip(numbers, _SECONDS, strict=True))


# The semicolon is among them as some servers drop it with what follows, before they look for dots.
_UNSAFE = frozenset("/\\%?#;")


def checked_id(value: object, what: str) -> str:
    """Return ``value`` where it can be an id.

    Raises `ConfigurationError` for whatever could leave its segment or hide there: empty text, dots only,
    slashes, percent signs, ``?``, ``#``, ``;``, white space and everything that does not print.
    """
    if (
        isinstance(value, str)
        and value.strip(".")
        and value.isprintable()
        and not any(c.isspace() for c in value)
        and _UNSAFE.isdisjoint(value)
    ):
        return value
    shown = repr(value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    raise ConfigurationError(f"{shown} is no {what}: it has to be one word without blanks and / \\ % ? # ;")
