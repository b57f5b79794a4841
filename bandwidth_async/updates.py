"""The changes of conferences and calls: ended, or sent to other BXML.

The change of a conference member: muted, on hold, coaching whom.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Self, TypeVar
from urllib.parse import SplitResult, urlsplit

from attrs import Attribute, field, fields, frozen

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.models import CallbackMethod, camel_case, checked_id

E = TypeVar("E", bound=StrEnum)

CREDENTIAL_LIMIT = 1024  # characters, `maxLength` in the published description
TAG_LIMIT = 4096  # characters, `maxLength` in the published description


class ConferenceStatus(StrEnum):
    """What a conference can be set to."""

    ACTIVE = "active"
    COMPLETED = "completed"


class CallState(StrEnum):
    """What a call can be set to. What it can be in is more, see `Call.state`."""

    ACTIVE = "active"
    COMPLETED = "completed"


def _status(value: str | None) -> ConferenceStatus | None:
    return None if value is None else _member(ConferenceStatus, value, "status")


def _state(value: str | None) -> CallState | None:
    return None if value is None else _member(CallState, value, "state")


def _method(value: str | None) -> CallbackMethod | None:
    return None if value is None else _member(CallbackMethod, value, "a redirect method")


def _member(kind: type[E], value: str, what: str) -> E:
    try:
        return kind(value)
    except ValueError:
        known = " or ".join(repr(member.value) for member in kind)
        raise ConfigurationError(f"{what} must be {known}, not {value!r}") from None


def _http_url(_: object, attribute: Attribute[Any], value: object) -> None:
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
    # urlsplit drops line ends and tabs without a word, and Bandwidth would be sent them.
    url = str(value)
    if not url.isprintable() or any(c.isspace() for c in url) or not _has_usable_port(parts):
        raise ConfigurationError(
            f"{attribute.name} {value!r} cannot be asked: a URL has no blanks, nothing that does not print, "
            "and a port from 1 to 65535 if any"
        )


def _has_usable_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False


def _text(limit: int) -> Any:  # attrs' validators are generic in the class, which is not known here
    def validate(_: object, attribute: Attribute[Any], value: object) -> None:
        if value is None:
            return
        if not isinstance(value, str):
            raise ConfigurationError(f"{attribute.name} must be text")
        if len(value) > limit:
            raise ConfigurationError(
                f"{attribute.name} has {len(value)} characters; Bandwidth takes at most {limit}"
            )

    return validate


_credential = _text(CREDENTIAL_LIMIT)


def _word_first(_: type, attributes: list[Attribute[Any]]) -> list[Attribute[Any]]:
    """Put status or state ahead of what is inherited, as in Bandwidth's pages."""
    return sorted(attributes, key=lambda attribute: attribute.name not in {"status", "state"})


@frozen(kw_only=True)
class _Redirect:
    """What the changes of a conference and of a call share: where new BXML is, and how it is asked for."""

    redirect_url: str | None = field(default=None, validator=_http_url)
    redirect_method: CallbackMethod | None = field(default=None, converter=_method)
    username: str | None = field(default=None, validator=_credential, repr=False)
    password: str | None = field(default=None, validator=_credential, repr=False)
    redirect_fallback_url: str | None = field(default=None, validator=_http_url)
    redirect_fallback_method: CallbackMethod | None = field(default=None, converter=_method)
    fallback_username: str | None = field(default=None, validator=_credential, repr=False)
    fallback_password: str | None = field(default=None, validator=_credential, repr=False)

    def to_dict(self) -> dict[str, str]:
        """Return the fields that were set, under the names of the API. It contains the credentials."""
        values = ((a.name, getattr(self, a.name)) for a in fields(type(self)))
        return {camel_case(name): str(value) for name, value in values if value is not None}

    def to_json(self) -> str:
        """Return the body as it is sent. It contains the credentials."""
        return json.dumps(self.to_dict(), separators=(",", ":"))


@frozen(kw_only=True, field_transformer=_word_first)
class UpdateConference(_Redirect):
    """The body of the conference update: end it, or send it to other BXML.

    ``UpdateConference(status="completed")`` ends a conference and ejects its members (their calls go
    on). ``UpdateConference(status="active", redirect_url=…)`` makes Bandwidth ask that URL for new BXML;
    ``username`` and ``password`` are what Bandwidth shows that URL. Only what is set is sent.

    Raises `ConfigurationError`, before anything is sent, for ``completed`` with any other field, ``active``
    (also by default) without ``redirect_url``, a URL that is not http or https or that nobody could ask, a
    credential over 1024 characters. That is stricter than the published description, which rules out less of
    it, and than the server, which is known to take methods beside ``completed``.
    """

    status: ConferenceStatus | None = field(default=None, converter=_status)

    def __new__(cls, **given: object) -> Self:
        """Meet the word that Bandwidth's own pages mix up with a sentence instead of a TypeError."""
        if "state" in given:
            raise ConfigurationError(
                "a conference has a status, a call has a state: write status= instead of state="
            )
        return object.__new__(cls)

    def __attrs_post_init__(self) -> None:
        _check_combination(self, "status", "end", "the conference")


@frozen(kw_only=True, field_transformer=_word_first)
class UpdateCall(_Redirect):
    """The body of the call update: hang it up, or send it to other BXML.

    ``UpdateCall(state="completed")`` hangs up an answered call, cancels an outbound one that rings and
    rejects an inbound one. ``UpdateCall(state="active", redirect_url=…)`` makes Bandwidth ask that URL
    for new BXML; ``tag`` is then sent with its webhooks, an empty one clears it. Only what is set is sent.

    Raises `ConfigurationError`, before anything is sent, as `UpdateConference` does, and for a tag over
    4096 characters.
    """

    state: CallState | None = field(default=None, converter=_state)
    tag: str | None = field(default=None, validator=_text(TAG_LIMIT))

    def __new__(cls, **given: object) -> Self:
        """Meet the word of a conference with a sentence instead of a TypeError."""
        if "status" in given:
            raise ConfigurationError(
                "a call has a state, a conference has a status: write state= instead of status="
            )
        return object.__new__(cls)

    def __attrs_post_init__(self) -> None:
        _check_combination(self, "state", "hang up", "the call")


def _check_combination(update: UpdateConference | UpdateCall, word: str, end: str, thing: str) -> None:
    completed = getattr(update, word) == "completed"
    others = [a.name for a in fields(type(update))[1:] if getattr(update, a.name) is not None]
    if completed and others:
        raise ConfigurationError(
            f"{word} 'completed' takes no other field: leave out {', '.join(others)}, "
            f"or use {word} 'active' to redirect {thing}"
        )
    if not completed and update.redirect_url is None:
        raise ConfigurationError(
            f"{word} 'active' needs redirect_url; to {end} {thing} use {word}='completed'"
        )


def _call_ids(value: Iterable[str] | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    given: object = value  # untyped callers may pass anything, and a text is an iterable of texts too
    ids = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (None,)
    if not all(isinstance(call_id, str) and call_id for call_id in ids):
        raise ConfigurationError(f"call_ids_to_coach is a list of call ids, not {value!r}")
    return tuple(checked_id(call_id, "call id to coach") for call_id in ids)


def _flag(_: UpdateConferenceMember, attribute: Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, bool):
        raise ConfigurationError(f"{attribute.name} is True or False, not {value!r}")


@frozen(kw_only=True)
class UpdateConferenceMember:
    """The body of the member update. Only what is set is sent; what is left out stays as it is.

    A member on ``mute`` hears the others, one on ``hold`` neither hears nor is heard.
    ``call_ids_to_coach`` replaces the list of calls that hear this member alone; an empty one clears it.

    Raises `ConfigurationError`, before anything is sent, when nothing is set or a value is of another kind.
    """

    mute: bool | None = field(default=None, validator=_flag)
    hold: bool | None = field(default=None, validator=_flag)
    call_ids_to_coach: tuple[str, ...] | None = field(default=None, converter=_call_ids)

    def __attrs_post_init__(self) -> None:
        if not self.to_dict():
            raise ConfigurationError("the change of a member sets mute, hold or call_ids_to_coach")

    def to_dict(self) -> dict[str, bool | list[str]]:
        """Return the fields that were set, under the names of the API."""
        values = ((a.name, getattr(self, a.name)) for a in fields(UpdateConferenceMember))
        return {
            camel_case(name): list(value) if isinstance(value, tuple) else value
            for name, value in values
            if value is not None
        }

    def to_json(self) -> str:
        """Return the body as it is sent."""
        return json.dumps(self.to_dict(), separators=(",", ":"))
