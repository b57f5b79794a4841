"""What Bandwidth's API returns: conferences, members, calls and recordings. Also what can be an id.

All times are aware. A field is None if the response leaves it out, or if it has another type than documented.
URLs are for information only: the client builds its own URLs and sends its credentials nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from attrs import frozen

from bandwidth_async.errors import ConfigurationError


class CallbackMethod(StrEnum):
    """The HTTP method of a webhook."""

    GET = "GET"
    POST = "POST"


def camel_case(name: str) -> str:
    """Return a ``snake_case`` name in the API's ``camelCase``."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


@frozen(kw_only=True)
class ConferenceMember:
    """A call that is in a conference.

    Do not request ``member_url`` with your credentials: use `VoiceClient.get_conference_member`.
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

    ``active_members`` is None in a listing, which leaves the members out. ``conference_event_method`` is a
    plain string if Bandwidth sends a method that `CallbackMethod` does not have.
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
        """Whether it has not ended. The API has no field for it, but ended ones have a completed time."""
        return self.completed_time is None


@frozen(kw_only=True)
class Call:
    """A phone call as `get_call` returns it, until 7 days after it has ended.

    ``state`` is ``queued``, ``initiated``, ``answered`` or ``disconnected``; Bandwidth may add others.
    ``disconnect_cause`` says why a call ended. ``stir_shaken`` can have any keys. Its values that are not
    text are kept as JSON. ``from_`` is the API's ``from``.
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
        """Whether it has not ended. A call that is queued or rings is active too."""
        return self.end_time is None and self.state != "disconnected"


_ISO_DURATION = re.compile(
    r"P(?:(\d{1,6})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,9}(?:[.,]\d{1,12})?)S)?)?", re.ASCII
)
_SECONDS = (86400.0, 3600.0, 60.0, 1.0)


@frozen(kw_only=True)
class ConferenceRecording:
    """The description of a recording. `download_conference_recording` fetches its audio.

    ``status`` and ``file_format`` are Bandwidth's words, such as ``complete`` and ``wav``; it may add others.
    ``duration`` is as sent, such as ``PT13.67S``, and `seconds` is its number.
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
        """The length in seconds. None if there is no ``duration``, or if it has months or years."""
        match = _ISO_DURATION.fullmatch(self.duration or "")
        if match is None or not any(match.groups()):
            return None
        numbers = (float((text or "0").replace(",", ".")) for text in match.groups())
        return sum(number * unit for number, unit in zip(numbers, _SECONDS, strict=True))


# Characters that could lead to another path. Some servers remove a semicolon and what follows it, and resolve
# dots only after that.
_UNSAFE = frozenset("/\\%?#;")


def checked_id(value: object, what: str) -> str:
    """Return ``value`` if it can be an id. ``what`` names it in the error.

    Raises `ConfigurationError` if it is no text, or if it could lead to another path of the API: empty text,
    only dots, blanks, characters that do not print, and any of ``/ \\ % ? # ;``.
    """
    if (
        isinstance(value, str)
        and value.strip(".")
        and value.isprintable()
        and " " not in value
        and _UNSAFE.isdisjoint(value)
    ):
        return value
    shown = f"{value[:70]!r}…" if isinstance(value, str) and len(value) > 70 else repr(value)[:80]
    wanted = "one word without blanks and / \\ % ? # ;" if isinstance(value, str) else "a text"
    raise ConfigurationError(f"{shown} is no {what}: it has to be {wanted}")
