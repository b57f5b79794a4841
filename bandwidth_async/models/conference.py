"""Conferences and their members as Bandwidth describes them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from attrs import frozen


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
