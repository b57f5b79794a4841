"""The bodies of the three updates: of a conference, of a call, and of a conference member.

Each is checked when it is made, so that a request that Bandwidth would reject is never sent. Only the fields
that you set are sent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any, Self, TypeVar
from urllib.parse import SplitResult, urlsplit

from attrs import Attribute, field, fields, frozen

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.models import CallbackMethod, camel_case, checked_id

E = TypeVar("E", bound=StrEnum)

# Characters: `maxLength` in the published description.
CREDENTIAL_LIMIT = 1024
TAG_LIMIT = 4096


class ConferenceStatus(StrEnum):
    """The status that an update can give to a conference."""

    ACTIVE = "active"
    COMPLETED = "completed"


class CallState(StrEnum):
    """The state that an update can give to a call. A call can have more states: see `Call.state`."""

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
    # urlsplit silently removes line ends and tabs, but the URL would be sent to Bandwidth with them.
    url = str(value)
    if not url.isprintable() or " " in url or not _has_usable_port(parts):
        raise ConfigurationError(
            f"{attribute.name} {value!r} cannot be used: a URL has no blanks and no characters that do not "
            "print, and its port, if any, is from 1 to 65535"
        )


def _has_usable_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False


def _text(limit: int) -> Any:
    """Return an attrs validator for text of at most ``limit`` characters, or None.

    The return type is Any, because attrs' validators are generic in a class that is not known here.
    """

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


def _set_fields(update: _Redirect | UpdateConferenceMember) -> Iterator[tuple[str, Any]]:
    """Yield the name in the API and the value of each field that is set."""
    for attribute in fields(type(update)):
        value = getattr(update, attribute.name)
        if value is not None:
            yield camel_case(attribute.name), value


def _word_first(_: type, attributes: list[Attribute[Any]]) -> list[Attribute[Any]]:
    """Put status or state before the inherited fields, in the order of Bandwidth's documentation."""
    return sorted(attributes, key=lambda attribute: attribute.name not in {"status", "state"})


@frozen(kw_only=True)
class _Redirect:
    """The fields of both the conference and the call update: where Bandwidth gets new BXML, and how."""

    redirect_url: str | None = field(default=None, validator=_http_url)
    redirect_method: CallbackMethod | None = field(default=None, converter=_method)
    username: str | None = field(default=None, validator=_credential, repr=False)
    password: str | None = field(default=None, validator=_credential, repr=False)
    redirect_fallback_url: str | None = field(default=None, validator=_http_url)
    redirect_fallback_method: CallbackMethod | None = field(default=None, converter=_method)
    fallback_username: str | None = field(default=None, validator=_credential, repr=False)
    fallback_password: str | None = field(default=None, validator=_credential, repr=False)

    def to_dict(self) -> dict[str, str]:
        """Return the fields that are set, by their names in the API. It contains the credentials."""
        return {name: str(value) for name, value in _set_fields(self)}

    def to_json(self) -> str:
        """Return the body that is sent, as JSON. It contains the credentials."""
        return json.dumps(self.to_dict(), separators=(",", ":"))


@frozen(kw_only=True, field_transformer=_word_first)
class UpdateConference(_Redirect):
    """The body of the conference update: end the conference, or redirect it to other BXML.

    ``UpdateConference(status="completed")`` ends the conference and ejects its members. Their calls go on.
    ``UpdateConference(status="active", redirect_url=…)`` makes Bandwidth request new BXML from that URL, with
    ``username`` and ``password`` as credentials. ``active`` is the default.

    Raises `ConfigurationError` for ``completed`` together with any other field, ``active`` without
    ``redirect_url``, a URL that is not http or https or that cannot be requested, and a credential of more
    than 1024 characters. The published description rules out less. Bandwidth's guide to conferences has
    ``username`` and ``password`` beside ``completed``, and the server is known to accept methods. There is
    no URL to use them for, so leave them out.
    """

    status: ConferenceStatus | None = field(default=None, converter=_status)

    def __new__(cls, **given: object) -> Self:
        """Explain the difference to whoever writes ``state``, as Bandwidth's own pages sometimes do."""
        if "state" in given:
            raise ConfigurationError(
                "a conference has a status, a call has a state: write status= instead of state="
            )
        return object.__new__(cls)

    def __attrs_post_init__(self) -> None:
        _check_combination(self, "status", "end", "the conference")


@frozen(kw_only=True, field_transformer=_word_first)
class UpdateCall(_Redirect):
    """The body of the call update: hang up the call, or redirect it to other BXML.

    ``UpdateCall(state="completed")`` hangs up an answered call, cancels an outbound call that rings and
    rejects an inbound one. ``UpdateCall(state="active", redirect_url=…)`` makes Bandwidth request new BXML
    from that URL. Later webhooks of the call then contain ``tag``; an empty tag clears it. ``active`` is the
    default.

    Raises `ConfigurationError` as `UpdateConference` does, and for a tag of more than 4096 characters.
    """

    state: CallState | None = field(default=None, converter=_state)
    tag: str | None = field(default=None, validator=_text(TAG_LIMIT))

    def __new__(cls, **given: object) -> Self:
        """Explain the difference to whoever writes the ``status`` of a conference."""
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
    # Untyped callers may pass anything. A string is an iterable of strings too.
    given: object = value
    ids = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (None,)
    if not all(isinstance(call_id, str) and call_id for call_id in ids):
        raise ConfigurationError(f"call_ids_to_coach is a list of call ids, not {value!r}")
    return tuple(checked_id(call_id, "call id to coach") for call_id in ids)


def _flag(_: UpdateConferenceMember, attribute: Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, bool):
        raise ConfigurationError(f"{attribute.name} is True or False, not {value!r}")


@frozen(kw_only=True)
class UpdateConferenceMember:
    """The body of the member update. Fields that you do not set stay as they are.

    A member on ``mute`` hears the others but is not heard. A member on ``hold`` neither hears nor is heard.
    A member with ``call_ids_to_coach`` is a coach. Only these calls hear the coach, and the coach hears them
    too. A conference has one coach at a time. The list replaces the former one, and an empty list clears it.

    Raises `ConfigurationError` if no field is set or a value has a wrong type.
    """

    mute: bool | None = field(default=None, validator=_flag)
    hold: bool | None = field(default=None, validator=_flag)
    call_ids_to_coach: tuple[str, ...] | None = field(default=None, converter=_call_ids)

    def __attrs_post_init__(self) -> None:
        if not self.to_dict():
            raise ConfigurationError("there is nothing to change: set mute, hold or call_ids_to_coach")

    def to_dict(self) -> dict[str, bool | list[str]]:
        """Return the fields that are set, by their names in the API."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in _set_fields(self)}

    def to_json(self) -> str:
        """Return the body that is sent, as JSON."""
        return json.dumps(self.to_dict(), separators=(",", ":"))
