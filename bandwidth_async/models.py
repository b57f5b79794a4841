"""What we talk about: the request to change a conference, and conferences as Bandwidth describes them."""

from __future__ import annotations

import json
from datetime import datetime
from enum import StrEnum
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from attrs import Attribute, field, fields, frozen

from bandwidth_async.errors import ConfigurationError

E = TypeVar("E", bound=StrEnum)

CREDENTIAL_LIMIT = 1024  # characters, `maxLength` in the published description


class ConferenceStatus(StrEnum):
    """What a conference can be set to."""

    ACTIVE = "active"
    COMPLETED = "completed"


class CallbackMethod(StrEnum):
    """How Bandwidth sends a webhook."""

    GET = "GET"
    POST = "POST"


def camel_case(name: str) -> str:
    """Return our ``snake_case`` name as the API spells it."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _status(value: str | None) -> ConferenceStatus | None:
    return None if value is None else _member(ConferenceStatus, value, "status")


def _method(value: str | None) -> CallbackMethod | None:
    return None if value is None else _member(CallbackMethod, value, "a redirect method")


def _member(kind: type[E], value: str, what: str) -> E:
    try:
        return kind(value)
    except ValueError:
        known = " or ".join(repr(member.value) for member in kind)
        raise ConfigurationError(f"{what} must be {known}, not {value!r}") from None


def _http_url(_: UpdateConference, attribute: Attribute[Any], value: object) -> None:
    if value is None:
        return
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
    except ValueError:
        parts = None
    if parts is not None and "@" in parts.netloc:
        raise ConfigurationError(f"{attribute.name} holds credentials: give them as username and password")
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigurationError(
            f"{attribute.name} must be a URL that starts with http:// or https://, not {value!r}"
        )


def _credential(_: UpdateConference, attribute: Attribute[Any], value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise ConfigurationError(f"{attribute.name} must be text")
    if len(value) > CREDENTIAL_LIMIT:
        raise ConfigurationError(
            f"{attribute.name} has {len(value)} characters; Bandwidth takes at most {CREDENTIAL_LIMIT}"
        )


@frozen(kw_only=True)
class UpdateConference:
    """The body of the conference update: end it, or send it to other BXML.

    ``UpdateConference(status="completed")`` ends a conference and ejects its members (their calls go
    on). ``UpdateConference(status="active", redirect_url=…)`` makes Bandwidth ask that URL for new BXML;
    ``username`` and ``password`` are what Bandwidth shows that URL. Only what is set is sent.

    Raises `ConfigurationError`, before anything is sent, for combinations that the published description
    rules out: ``completed`` with any other field, ``active`` (also by default) without ``redirect_url``,
    a URL that is not http or https, a credential over 1024 characters.
    """

    status: ConferenceStatus | None = field(default=None, converter=_status)
    redirect_url: str | None = field(default=None, validator=_http_url)
    redirect_method: CallbackMethod | None = field(default=None, converter=_method)
    username: str | None = field(default=None, validator=_credential, repr=False)
    password: str | None = field(default=None, validator=_credential, repr=False)
    redirect_fallback_url: str | None = field(default=None, validator=_http_url)
    redirect_fallback_method: CallbackMethod | None = field(default=None, converter=_method)
    fallback_username: str | None = field(default=None, validator=_credential, repr=False)
    fallback_password: str | None = field(default=None, validator=_credential, repr=False)

    def __new__(cls, **given: object) -> Self:
        """Meet the word that Bandwidth's own pages mix up with a sentence instead of a TypeError."""
        if "state" in given:
            raise ConfigurationError(
                "a conference has a status, a call has a state: write status= instead of state="
            )
        return object.__new__(cls)

    def __attrs_post_init__(self) -> None:
        others = [a.name for a in fields(UpdateConference)[1:] if getattr(self, a.name) is not None]
        if self.status is ConferenceStatus.COMPLETED and others:
            raise ConfigurationError(
                f"status 'completed' takes no other field: leave out {', '.join(others)}, "
                "or use status 'active' to redirect the conference"
            )
        if self.status is not ConferenceStatus.COMPLETED and self.redirect_url is None:
            raise ConfigurationError(
                "status 'active' needs redirect_url; to end the conference use status='completed'"
            )

    def to_dict(self) -> dict[str, str]:
        """Return the fields that were set, under the names of the API. It contains the credentials."""
        values = ((a.name, getattr(self, a.name)) for a in fields(UpdateConference))
        return {camel_case(name): str(value) for name, value in values if value is not None}

    def to_json(self) -> str:
        """Return the body as it is sent. It contains the credentials."""
        return json.dumps(self.to_dict(), separators=(",", ":"))


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
