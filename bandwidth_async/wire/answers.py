"""What came back: answers read into our values and errors. The status decides, the body only explains."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol

from attrs import frozen

from bandwidth_async.errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    TransportError,
)
from bandwidth_async.hints import parse_hint
from bandwidth_async.models import Call, Conference, ConferenceMember, ConferenceRecording
from bandwidth_async.wire.shapes import read_json, structure

if TYPE_CHECKING:
    from bandwidth_async.hints import Headers
    from bandwidth_async.wire.requests import Request

DESCRIPTION_LIMIT = 2048  # characters of server text that an error keeps
LONGEST_TOKEN_LIFETIME = 1e9  # seconds; above it a lifetime is a mistake
DEFAULT_TOKEN_LIFETIME = 3600.0  # seconds; Bandwidth does not document one
_ERRORS: dict[int, type[APIError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    429: RateLimitError,
}
_NOT_EXECUTED = frozenset({501, 503, 505})  # the 5xx that say the work was not begun


@frozen(kw_only=True)
class Token:
    """An access token and how many seconds it lives."""

    value: str
    lifetime: float

    def __repr__(self) -> str:
        return f"Token(lifetime={self.lifetime})"


class Received(Protocol):
    """An answer of which the body was read."""

    @property
    def body(self) -> bytes:
        """What was read."""


def nothing_in(_: object) -> None:
    """Read nothing: the status has said it."""


def conference_in(answer: Received) -> Conference:
    """Read the conference of an answer."""
    return parse_conference(answer.body)


def call_in(answer: Received) -> Call:
    """Read the call of an answer."""
    return parse_call(answer.body)


def parse_conference(body: bytes) -> Conference:
    """Return the conference in ``body``; unknown fields are ignored, unknown enum values kept as text.

    Raises `TransportError` when there is none, or none with an id.
    """
    return structure(read_json(body), Conference)


def parse_conferences(body: bytes) -> list[Conference]:
    """Return the conferences of one page. Raises `TransportError` when ``body`` is not a page."""
    return structure(read_json(body), list[Conference])


def parse_member(body: bytes) -> ConferenceMember:
    """Return the conference member in ``body``. Raises `TransportError` when there is none."""
    return structure(read_json(body), ConferenceMember)


def parse_recording(body: bytes) -> ConferenceRecording:
    """Return what ``body`` says about a recording. Raises `TransportError` when it says nothing."""
    return structure(read_json(body), ConferenceRecording)


def parse_recordings(body: bytes) -> list[ConferenceRecording]:
    """Return the recordings in ``body``. Raises `TransportError` when it is no list of them."""
    return structure(read_json(body), list[ConferenceRecording])


def parse_call(body: bytes) -> Call:
    """Return the call in ``body``. Raises `TransportError` when there is none."""
    return structure(read_json(body), Call)


def parse_token(body: bytes) -> Token:
    """Return the access token in ``body``. Raises `TransportError` when there is none to use."""
    answer = read_json(body)
    value = answer.get("access_token") if isinstance(answer, dict) else None
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or not value:
        raise TransportError("the token endpoint's answer holds no access token")
    lifetime = answer.get("expires_in")
    usable = isinstance(lifetime, int | float) and 0 < lifetime <= LONGEST_TOKEN_LIFETIME
    return Token(value=value, lifetime=float(lifetime) if usable else DEFAULT_TOKEN_LIFETIME)


def error_from(request: Request, status: int, headers: Headers, body: bytes, wall_clock: float) -> APIError:
    """Return the error that an answer other than success stands for. The status decides, not the body."""
    said = _bandwidth_error(body)
    kind = _ERRORS.get(status) or (ServerError if status >= 500 else APIError)
    words = ": ".join(word for word in (said["type"], said["description"]) if word)
    if 300 <= status < 400:
        words = "redirects are not followed, as they could carry the credentials elsewhere; check the host"
    return kind(
        f"{request.name}: answered {status}" + (f" ({words[:300]})" if words else ""),
        status=status,
        type=said["type"],
        description=said["description"],
        error_id=said["id"],
        request=request.name,
        retry_after=parse_hint(headers, wall_clock),
        ambiguous=not request.safe and status >= 500 and status not in _NOT_EXECUTED,
    )


def printable(text: str) -> str:
    """Return server text on one line and without anything a terminal would obey."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _bandwidth_error(body: bytes) -> dict[str, str | None]:
    """Return ``type``, ``description`` and ``id`` of an error body; any other body is all description."""
    text = body.decode(errors="replace")
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        return {"type": None, "description": printable(text)[:DESCRIPTION_LIMIT] or None, "id": None}
    said = {key: answer.get(key) for key in ("type", "description", "id")}
    said["type"] = said["type"] or answer.get("error")  # the token endpoint speaks OAuth2
    said["description"] = said["description"] or answer.get("error_description")
    return {
        key: printable(value)[:DESCRIPTION_LIMIT] if isinstance(value, str) and value else None
        for key, value in said.items()
    }
