"""What an update of a conference, a call or a member may say: the documented validation of its body.

Guesses where the description is silent: unknown fields are ignored; credentials, the two redirect methods
and a call's fallback URL are tolerated together with ``completed`` (the official SDK sends the methods
along and is in use).
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from bandwidth_async.sandbox.bodies import Fields, read_object
from bandwidth_async.sandbox.calls import MemberSettings
from bandwidth_async.sandbox.targets import Target, objection_to_url

_URLS = ("redirectUrl", "redirectFallbackUrl")
_METHODS = ("redirectMethod", "redirectFallbackMethod")
_CREDENTIALS = ("username", "password", "fallbackUsername", "fallbackPassword")
_LONGEST_CREDENTIAL = 1024


@frozen(kw_only=True)
class Subject:
    """What is updated: the field that says active or completed, what may not come with ``completed``."""

    state: str
    not_with_completed: tuple[str, ...]
    longest_tag: int | None = None


CONFERENCE = Subject(state="status", not_with_completed=_URLS)
CALL = Subject(state="state", not_with_completed=("redirectUrl", "tag"), longest_tag=4096)


def is_completed(subject: Subject, fields: Fields) -> bool:
    """Return whether the update asks to end a conference or to hang up a call."""
    return fields.get(subject.state) == "completed"


def kind_of_update(subject: Subject, body: bytes | None, end: str, redirect: str) -> str:
    """Return ``end``, ``redirect`` (an absent state is active), or ``other`` for what is neither."""
    fields = read_object(body)
    if fields is None or fields.get(subject.state, "active") not in ("active", "completed"):
        return "other"
    return end if is_completed(subject, fields) else redirect


def objection_to(subject: Subject, fields: Fields) -> str | None:
    """Return a sentence on the first thing wrong with the update, None when it is right."""
    return next(_objections(subject, fields), None)


def _objections(subject: Subject, fields: Fields) -> Iterator[str]:
    state = fields.get(subject.state, "active")
    if state == "completed":
        for name in subject.not_with_completed:
            if name in fields:
                yield f"{name} is not allowed when {subject.state} is completed"
    elif state != "active":
        yield f"Invalid {subject.state}: only active and completed are allowed"
    elif "redirectUrl" not in fields:
        yield f"redirectUrl is required when {subject.state} is active"
    yield from _redirect_objections(fields)
    if subject.longest_tag is not None and not _is_text(fields.get("tag", ""), subject.longest_tag):
        yield f"Invalid tag: a string of at most {subject.longest_tag} characters is allowed"


def _redirect_objections(fields: Fields) -> Iterator[str]:
    for name in _URLS:
        objection = objection_to_url(fields[name]) if name in fields else None
        if objection is not None:
            yield f"Invalid {name}: {objection}"
    for name in _METHODS:
        if fields.get(name, "POST") not in ("GET", "POST"):
            yield f"Invalid {name}: only GET and POST are allowed"
    for name in _CREDENTIALS:
        if not _is_text(fields.get(name, ""), _LONGEST_CREDENTIAL):
            yield f"Invalid {name}: a string of at most {_LONGEST_CREDENTIAL} characters is allowed"


def _is_text(value: object, longest: int) -> bool:
    return isinstance(value, str) and len(value) <= longest


def redirect_target(fields: Fields) -> Target:
    """Return where a valid redirect leads, and where else when that does not answer."""
    fallback = None
    if "redirectFallbackUrl" in fields:
        fallback = _target(
            fields, "redirectFallbackUrl", "redirectFallbackMethod", ("fallbackUsername", "fallbackPassword")
        )
    return _target(fields, "redirectUrl", "redirectMethod", ("username", "password"), fallback)


def _target(
    fields: Fields, url: str, method: str, credentials: tuple[str, str], fallback: Target | None = None
) -> Target:
    username, password = (fields.get(name) for name in credentials)
    return Target(
        url=str(fields[url]),
        method=str(fields.get(method, "POST")),
        username=None if username is None else str(username),
        password=None if password is None else str(password),
        fallback=fallback,
    )


def member_objection(fields: Fields) -> str | None:
    """Return a sentence on the first thing wrong with a member's update, None when it is right."""
    for name in ("mute", "hold"):
        if not isinstance(fields.get(name, False), bool):
            return f"Invalid {name}: only true and false are allowed"
    coached = fields.get("callIdsToCoach", [])
    if not isinstance(coached, list) or not all(isinstance(call_id, str) for call_id in coached):
        return "Invalid callIdsToCoach: a list of call ids is allowed"
    return None


def updated(settings: MemberSettings, fields: Fields) -> MemberSettings:
    """Return the settings of a member after a valid update; what it does not name stays."""
    coached = fields.get("callIdsToCoach")
    return MemberSettings(
        mute=fields.get("mute", settings.mute) is True,
        hold=fields.get("hold", settings.hold) is True,
        call_ids_to_coach=tuple(coached) if isinstance(coached, list) else settings.call_ids_to_coach,
    )
