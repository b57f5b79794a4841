"""What can be asked: requests as plain values, ready to be sent any number of times.

What came back: answers read into our values and errors. The status decides, the body only explains.

The BXML that a conference can be given, checked before Bandwidth finds a mistake during the conference.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote, urlencode

from attrs import define

from bandwidth_async import bxml as documents
from bandwidth_async.credentials import Token
from bandwidth_async.errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    TransportError,
)
from bandwidth_async.models import Call, Conference, ConferenceMember, ConferenceRecording, checked_id
from bandwidth_async.retry_after import parse_hint
from bandwidth_async.shapes import read_json, structure
from bandwidth_async.updates import (
    CallState,
    ConferenceStatus,
    UpdateCall,
    UpdateConference,
    UpdateConferenceMember,
)

if TYPE_CHECKING:
    from yarl import URL

    from bandwidth_async.media import Media
    from bandwidth_async.retry_after import Headers


_PLAIN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._~-]*")
_END_BODY = UpdateConference(status=ConferenceStatus.COMPLETED).to_json().encode()


@define(kw_only=True)  # not frozen: that would double its cost; with `Response` and `Target` 2 % of an end
class Request:
    """One request, ready to be sent any number of times.

    ``idempotent`` says that sending it twice does no more than sending it once, ``safe`` that it changes
    nothing at all, ``reads`` that the body of a success matters, and ``streams`` that it is handed out
    while it comes.
    """

    name: str
    method: str
    path: str
    idempotent: bool
    safe: bool = False
    reads: bool = False
    streams: bool = False
    content_type: str | None = None
    body: bytes | None = None


@define(kw_only=True)  # not frozen, as `Request` is not
class Response:
    """A success as it came: status, headers, body, and the next page where one was named.

    Of a request that streams there is ``media`` instead of a body; whoever takes it closes it.
    """

    status: int
    headers: Headers
    body: bytes = b""
    next_page: URL | None = None
    media: Media | None = None

    def close(self) -> None:
        """Close what still comes."""
        if self.media is not None:
            self.media.close()


def path_segment(value: object, what: str = "conference id") -> str:
    """Return ``value`` as one segment of a path.

    Raises `ConfigurationError`, as `models.checked_id` does, for whatever could leave its segment.
    """
    if isinstance(value, str) and _PLAIN_ID.fullmatch(value):
        return value
    return quote(checked_id(value, what), safe="!$&'()*+,=:@~")


def update_conference(account: str, conference_id: str, update: UpdateConference) -> Request:
    """Build the conference update. Ending may be repeated; a redirect would be heard twice."""
    ends = update.status is ConferenceStatus.COMPLETED
    return Request(
        name=f"{'end' if ends else 'redirect'} conference {conference_id}",
        method="POST",
        path=_conference(account, conference_id),
        idempotent=ends,
        content_type="application/json",
        body=_END_BODY if ends else update.to_json().encode(),
    )


def get_conference(account: str, conference_id: str) -> Request:
    """Build the request for one conference with its members."""
    return _read(f"get conference {conference_id}", _conference(account, conference_id))


def update_conference_bxml(account: str, conference_id: str, bxml: str) -> Request:
    """Build the request that replaces a conference's BXML: what it plays would be heard twice."""
    return Request(
        name=f"update the BXML of conference {conference_id}",
        method="PUT",
        path=f"{_conference(account, conference_id)}/bxml",
        idempotent=False,
        content_type="application/xml",
        body=conference_bxml(bxml),
    )


def get_conference_member(account: str, conference_id: str, call_id: str) -> Request:
    """Build the request for one call as a member of a conference."""
    return _read(
        f"get member {call_id} of conference {conference_id}",
        _conference_member(account, conference_id, call_id),
    )


def update_conference_member(
    account: str, conference_id: str, call_id: str, update: UpdateConferenceMember
) -> Request:
    """Build the member update; it sets values, so it may be repeated."""
    return Request(
        name=f"update member {call_id} of conference {conference_id}",
        method="PUT",
        path=_conference_member(account, conference_id, call_id),
        idempotent=True,
        content_type="application/json",
        body=update.to_json().encode(),
    )


def list_conference_recordings(account: str, conference_id: str) -> Request:
    """Build the request for the metadata of all recordings of a conference."""
    return _read(
        f"list the recordings of conference {conference_id}",
        f"{_conference(account, conference_id)}/recordings",
    )


def get_conference_recording(account: str, conference_id: str, recording_id: str) -> Request:
    """Build the request for the metadata of one recording."""
    return _read(
        f"get recording {recording_id} of conference {conference_id}",
        _recording(account, conference_id, recording_id),
    )


def download_conference_recording(account: str, conference_id: str, recording_id: str) -> Request:
    """Build the request for the audio of a recording, which is not read at once."""
    return Request(
        name=f"download recording {recording_id} of conference {conference_id}",
        method="GET",
        path=f"{_recording(account, conference_id, recording_id)}/media",
        idempotent=True,
        safe=True,
        streams=True,
    )


def get_call(account: str, call_id: str) -> Request:
    """Build the request for one call."""
    return _read(f"get call {call_id}", _call(account, call_id))


def update_call(account: str, call_id: str, update: UpdateCall) -> Request:
    """Build the call update. Hanging up may be repeated; a redirect would be heard twice."""
    ends = update.state is CallState.COMPLETED
    return Request(
        name=f"{'hang up' if ends else 'redirect'} call {call_id}",
        method="POST",
        path=_call(account, call_id),
        idempotent=ends,
        content_type="application/json",
        body=update.to_json().encode(),
    )


def list_conferences(
    account: str,
    *,
    name: str | None,
    min_created_time: datetime | None,
    max_created_time: datetime | None,
    page_size: int,
) -> Request:
    """Build the request for the first page of conferences; the others are named by the answers."""
    query = {
        "name": name,
        "minCreatedTime": _iso_time(min_created_time),
        "maxCreatedTime": _iso_time(max_created_time),
        "pageSize": page_size,
    }
    try:
        given = urlencode({key: value for key, value in query.items() if value is not None})
    except UnicodeEncodeError:
        raise ConfigurationError(f"the name {name!r} cannot be sent: it is not Unicode text") from None
    return _read("list conferences", f"{_conferences(account)}?{given}")


def next_page(path: str) -> Request:
    """Build the request for a further page of conferences."""
    return _read("list conferences", path)


def token() -> Request:
    """Build the request for an access token (OAuth2, client credentials)."""
    return Request(
        name="get an access token",
        method="POST",
        path="/api/v1/oauth2/token",
        idempotent=True,
        safe=True,
        reads=True,
        content_type="application/x-www-form-urlencoded",
        body=b"grant_type=client_credentials",
    )


def _conferences(account: str) -> str:
    return f"/api/v2/accounts/{account}/conferences"


def _conference(account: str, conference_id: str) -> str:
    return f"{_conferences(account)}/{path_segment(conference_id)}"


def _conference_member(account: str, conference_id: str, call_id: str) -> str:
    return f"{_conference(account, conference_id)}/members/{path_segment(call_id, 'call id')}"


def _recording(account: str, conference_id: str, recording_id: str) -> str:
    return f"{_conference(account, conference_id)}/recordings/{path_segment(recording_id, 'recording id')}"


def _call(account: str, call_id: str) -> str:
    return f"/api/v2/accounts/{account}/calls/{path_segment(call_id, 'call id')}"


def _read(name: str, path: str) -> Request:
    return Request(name=name, method="GET", path=path, idempotent=True, safe=True, reads=True)


def _iso_time(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ConfigurationError(f"{moment} has no time zone: give an aware datetime")
    try:
        utc = moment.astimezone(UTC)
    except OverflowError:
        raise ConfigurationError(f"{moment} is outside the years 1 to 9999 in UTC") from None
    return utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")


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


def conference_bxml(bxml: str) -> bytes:
    """Return ``bxml`` as it is sent, in UTF-8.

    Raises `ConfigurationError` for what is not well-formed, has another root than ``<Bxml>`` (or
    ``<Response>``), a document type or another encoding, or holds a verb that no conference takes.
    """
    return documents.outgoing(bxml)
