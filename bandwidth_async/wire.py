"""Every request of the API as a plain value, with how its response is read. No I/O.

An endpoint is one function here and one method of `VoiceClient`. The function says what is sent, whether it
may be sent twice, and what comes back: ``Request[Call]`` is answered by a `Call`.

A success is the documented status of the request with the documented body. A page with status 200 that
something between us and Bandwidth sent is none. The status decides what an error is. Its body only explains.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Generic, TypeVar
from urllib.parse import quote, urlencode

from attrs import define, field, frozen

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
    UnexpectedResponseError,
)
from bandwidth_async.meanings import meaning_of
from bandwidth_async.models import Call, Conference, ConferenceMember, ConferenceRecording, checked_id
from bandwidth_async.retry_after import Hint, read_hint
from bandwidth_async.server_text import SENTENCE_LIMIT, decoded, parsed, reason_in, shown
from bandwidth_async.server_text import printable as printable  # noqa: PLC0414  # this exports it
from bandwidth_async.shapes import read_json, structure
from bandwidth_async.updates import (
    CallState,
    ConferenceStatus,
    UpdateCall,
    UpdateConference,
    UpdateConferenceMember,
)

if TYPE_CHECKING:
    from bandwidth_async.media import Media
    from bandwidth_async.retry_after import Headers

T = TypeVar("T")

# The paths as the published description writes them.
_CONFERENCES = "/api/v2/accounts/{accountId}/conferences"
_CONFERENCE = f"{_CONFERENCES}/{{conferenceId}}"
_BXML = f"{_CONFERENCE}/bxml"
_MEMBER = f"{_CONFERENCE}/members/{{callId}}"
_RECORDINGS = f"{_CONFERENCE}/recordings"
_RECORDING = f"{_RECORDINGS}/{{recordingId}}"
_MEDIA = f"{_RECORDING}/media"
_CALL = "/api/v2/accounts/{accountId}/calls/{callId}"
_TOKEN = "/api/v1/oauth2/token"  # noqa: S105  # a path, not a secret
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._~-]*")
_CHALLENGE = re.compile(r'error_description="([^"]*)"')
_END_BODY = UpdateConference(status=ConferenceStatus.COMPLETED).to_json().encode()

# Seconds. Bandwidth documents no lifetime of a token; a longer one than this is taken for a mistake.
LONGEST_TOKEN_LIFETIME = 1e9
DEFAULT_TOKEN_LIFETIME = 3600.0

_ERRORS: dict[int, type[APIError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    429: RateLimitError,
}

# The 4xx statuses that mean the same with a ``Retry-After`` as without it. A 408 is a failure.
_MEANINGFUL = frozenset({401, 404, 408, 409})

# The 5xx statuses which say that the server did not begin the work.
_NOT_EXECUTED = frozenset({501, 503, 505})


# Not frozen: that would double its cost. With `Response` and `Target` it is 2 % of an end.
@define(kw_only=True)
class Request(Generic[T]):
    """One request, ready to be sent any number of times, whose response is read as a ``T``.

    ``kind``, ``template``
        What is done, and its path, without ids: names of low cardinality, for logs and metrics.
    ``subject``, ``path``
        The ids of what it is done to, for messages, and the path with them.
    ``idempotent``, ``safe``
        Sending it twice does no more than sending it once; sending it changes nothing at all.
    ``reads``, ``streams``
        The body of a success matters; it is handed out while it comes.
    ``success``
        The status of a success in Bandwidth's description.
    ``private``
        The body of a success contains a secret, so that no error may quote it.
    ``parse``
        Returns the value of a success. Raises `TransportError` for a body of another shape.
    """

    kind: str
    subject: str = ""
    template: str
    path: str
    method: str
    parse: Callable[[Response], T] = field(eq=False, repr=False)
    success: int = 200
    idempotent: bool
    safe: bool = False
    reads: bool = False
    streams: bool = False
    private: bool = False
    content_type: str | None = None
    body: bytes | None = None

    @property
    def name(self) -> str:
        """The request as messages name it: ``end conference conf-1``."""
        return f"{self.kind} {self.subject}".rstrip()

    def read(self, response: Response) -> T:
        """Return the value of a success.

        Raises `UnexpectedResponseError` for a response that Bandwidth does not document as a success. After a
        request that changes something it is ambiguous.
        """
        if response.status != self.success and not self.streams:
            raise self._unexpected(response, f"answered {response.status} instead of {self.success}")
        try:
            return self.parse(response)
        except TransportError as error:
            raise self._unexpected(response, error.message) from error

    def _unexpected(self, response: Response, flaw: str) -> UnexpectedResponseError:
        came = _what_came(response, private=self.private)
        return UnexpectedResponseError(f"{self.name}: {flaw}{came}", ambiguous=not self.safe)


@define(kw_only=True)
class Response:
    """A success as the server sent it.

    A request that streams has ``media`` instead of a body; whoever takes it closes it. ``is_readable`` is
    False if there may be a body of which nothing could be read. ``authorization`` is the header that the
    request was sent with, which the server may quote.
    """

    status: int
    headers: Headers
    body: bytes = b""
    media: Media | None = None
    is_readable: bool = True
    authorization: str = field(default="", repr=False)

    def close(self) -> None:
        """Stop a body that is still coming."""
        if self.media is not None:
            self.media.close()


@frozen
class Page:
    """One page of a listing, and its response, which names the next one."""

    conferences: list[Conference]
    response: Response


def path_segment(value: object, what: str = "conference id") -> str:
    """Return ``value`` as one segment of a path.

    Raises `ConfigurationError`, as `models.checked_id` does, for an id that could lead to another path.
    """
    if isinstance(value, str) and _PLAIN_ID.fullmatch(value):
        return value
    return quote(checked_id(value, what), safe="!$&'()*+,=:@~")


def update_conference(account: str, conference_id: str, update: UpdateConference) -> Request[None]:
    """Build the conference update. An end may be sent twice; members would hear a redirect twice."""
    ends = update.status is ConferenceStatus.COMPLETED
    kind = "end conference" if ends else "redirect conference"
    body = _END_BODY if ends else update.to_json().encode()
    path = _conference(_CONFERENCE, account, conference_id)
    return _change(kind, conference_id, "POST", _CONFERENCE, path, body=body, idempotent=ends)


def get_conference(account: str, conference_id: str) -> Request[Conference]:
    """Build the request for one conference with its members."""
    path = _conference(_CONFERENCE, account, conference_id)
    return _get(Conference, "get conference", conference_id, _CONFERENCE, path)


def list_conferences(
    account: str,
    *,
    name: str | None,
    min_created_time: datetime | None,
    max_created_time: datetime | None,
    page_size: int,
) -> Request[Page]:
    """Build the request for the first page of conferences. Each page names the next one."""
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
    return next_page(f"{_CONFERENCES.replace('{accountId}', account)}?{given}")


def next_page(path: str) -> Request[Page]:
    """Build the request for a page of conferences from its path and query."""
    return Request(
        kind="list conferences",
        template=_CONFERENCES,
        path=path,
        method="GET",
        parse=_page,
        idempotent=True,
        safe=True,
        reads=True,
    )


def update_conference_bxml(account: str, conference_id: str, bxml: str) -> Request[None]:
    """Build the request that replaces a conference's BXML. Members would hear what it plays twice.

    Raises `ConfigurationError` as `bxml.outgoing` does.
    """
    return _change(
        "update the BXML of conference",
        conference_id,
        "PUT",
        _BXML,
        _conference(_BXML, account, conference_id),
        body=documents.outgoing(bxml),
        idempotent=False,
        content_type="application/xml",
    )


def get_conference_member(account: str, conference_id: str, call_id: str) -> Request[ConferenceMember]:
    """Build the request for one call as a member of a conference."""
    subject = f"{call_id} of conference {conference_id}"
    return _get(ConferenceMember, "get member", subject, _MEMBER, _member(account, conference_id, call_id))


def update_conference_member(
    account: str, conference_id: str, call_id: str, update: UpdateConferenceMember
) -> Request[None]:
    """Build the member update. It sets values, so it may be sent twice."""
    subject = f"{call_id} of conference {conference_id}"
    path = _member(account, conference_id, call_id)
    body = update.to_json().encode()
    return _change("update member", subject, "PUT", _MEMBER, path, body=body, idempotent=True)


def list_conference_recordings(account: str, conference_id: str) -> Request[list[ConferenceRecording]]:
    """Build the request for the metadata of all recordings of a conference."""
    kind = "list the recordings of conference"
    path = _conference(_RECORDINGS, account, conference_id)
    return _get(list[ConferenceRecording], kind, conference_id, _RECORDINGS, path)


def get_conference_recording(
    account: str, conference_id: str, recording_id: str
) -> Request[ConferenceRecording]:
    """Build the request for the metadata of one recording."""
    subject = f"{recording_id} of conference {conference_id}"
    path = _recording(_RECORDING, account, conference_id, recording_id)
    return _get(ConferenceRecording, "get recording", subject, _RECORDING, path)


def download_conference_recording(account: str, conference_id: str, recording_id: str) -> Request[Media]:
    """Build the request for the audio of a recording, which is handed out while it comes."""
    return Request(
        kind="download recording",
        subject=f"{recording_id} of conference {conference_id}",
        template=_MEDIA,
        path=_recording(_MEDIA, account, conference_id, recording_id),
        method="GET",
        parse=_media,
        idempotent=True,
        safe=True,
        streams=True,
    )


def get_call(account: str, call_id: str) -> Request[Call]:
    """Build the request for one call."""
    return _get(Call, "get call", call_id, _CALL, _call(account, call_id))


def update_call(account: str, call_id: str, update: UpdateCall) -> Request[None]:
    """Build the call update. A hang-up may be sent twice; the caller would hear a redirect twice."""
    ends = update.state is CallState.COMPLETED
    kind = "hang up call" if ends else "redirect call"
    body = update.to_json().encode()
    path = _call(account, call_id)
    # The one change that is documented with 200, without content.
    return _change(
        kind, call_id, "POST", _CALL, path, body=body, idempotent=ends, success=200, parse=_no_page
    )


def token() -> Request[Token]:
    """Build the request for an access token (OAuth2, client credentials)."""
    return Request(
        kind="get an access token",
        template=_TOKEN,
        path=_TOKEN,
        method="POST",
        parse=_token,
        idempotent=True,
        safe=True,
        reads=True,
        private=True,
        content_type="application/x-www-form-urlencoded",
        body=b"grant_type=client_credentials",
    )


@frozen
class Later:
    """What a failure says of a later attempt: when it may come, and whether the quota is what refused."""

    hint: Hint | None
    refused: bool


def later(status: int, headers: Headers, wall_clock: float, refusals: frozenset[int] = frozenset()) -> Later:
    """Return what any status but 2xx says of a later attempt.

    A 429 is a refusal, and so are the ``refusals``. Most of the 4xx, and a 503, are refusals if they name a
    time. The others keep their meaning: what they say about the request or the conference stays true.
    """
    hint = read_hint(headers, wall_clock, status)
    timed = status == 503 or (400 < status < 500 and status not in _MEANINGFUL)
    return Later(hint, refused=status == 429 or status in refusals or (timed and hint is not None))


def error_from(
    request: Request[T],
    status: int,
    headers: Headers,
    body: bytes,
    wall_clock: float,
    *,
    authorization: str = "",
    told: Later | None = None,
) -> APIError:
    """Return the error for any status but 2xx. ``wall_clock`` is our time, in seconds since the epoch.

    ``authorization`` is the header that the request was sent with. The error does not contain its secrets.
    ``told`` is what the status and headers say of a later attempt, if somebody has looked.
    """
    said = _bandwidth_error(body, headers, authorization, private=request.private)
    told = told or later(status, headers, wall_clock)
    kind = _ERRORS.get(status) or (ServerError if status >= 500 else APIError)
    if told.refused and status < 500:
        kind = RateLimitError
    words = ": ".join(word for word in (said["type"], said["description"]) if word)
    if 300 <= status < 400:
        words = "redirects are not followed, as they could carry the credentials elsewhere; check the host"
    meaning = "" if kind is RateLimitError else _meaning(request, status, authorization, wall_clock)
    return kind(
        f"{request.name}: answered {status}"
        + (f" ({words[:SENTENCE_LIMIT]})" if words else "")
        + (f"; {meaning}" if meaning else ""),
        status=status,
        type=said["type"],
        description=said["description"],
        error_id=said["id"],
        request=request.name,
        retry_after=told.hint.seconds if told.hint else None,
        ambiguous=not (request.safe or told.refused) and status >= 500 and status not in _NOT_EXECUTED,
    )


def _conference(template: str, account: str, conference_id: str) -> str:
    # `str.format` would take three times as long.
    path = template.replace("{accountId}", account)
    return path.replace("{conferenceId}", path_segment(conference_id))


def _member(account: str, conference_id: str, call_id: str) -> str:
    path = _conference(_MEMBER, account, conference_id)
    return path.replace("{callId}", path_segment(call_id, "call id"))


def _recording(template: str, account: str, conference_id: str, recording_id: str) -> str:
    path = _conference(template, account, conference_id)
    return path.replace("{recordingId}", path_segment(recording_id, "recording id"))


def _call(account: str, call_id: str) -> str:
    return _CALL.replace("{accountId}", account).replace("{callId}", path_segment(call_id, "call id"))


def _get(value: type[T], kind: str, subject: str, template: str, path: str) -> Request[T]:
    return Request(
        kind=kind,
        subject=subject,
        template=template,
        path=path,
        method="GET",
        parse=lambda response: structure(read_json(response.body), value),
        idempotent=True,
        safe=True,
        reads=True,
    )


def _change(
    kind: str,
    subject: str,
    method: str,
    template: str,
    path: str,
    *,
    body: bytes,
    idempotent: bool,
    content_type: str = "application/json",
    success: int = 204,
    parse: Callable[[Response], None] | None = None,
) -> Request[None]:
    return Request(
        kind=kind,
        subject=subject,
        template=template,
        path=path,
        method=method,
        parse=parse or _nothing,
        success=success,
        idempotent=idempotent,
        content_type=content_type,
        body=body,
    )


def _nothing(_: Response) -> None:
    """Read nothing: the status has said it."""


def _no_page(response: Response) -> None:
    """Check that a success without documented content has none that says something else."""
    if not response.is_readable:
        raise TransportError("the answer has a body that cannot be read")
    if "html" in response.headers.get("Content-Type", "").lower():
        raise TransportError("the answer is a page")
    if response.body.strip():
        said = read_json(response.body)
        if isinstance(said, str | list) or reason_in(said):
            raise TransportError("the answer is an error")


def _page(response: Response) -> Page:
    return Page(structure(read_json(response.body), list[Conference]), response)


def _media(response: Response) -> Media:
    if response.media is None:
        raise AssertionError("the request streams")  # pragma: no cover
    return response.media


def _token(response: Response) -> Token:
    """Read an access token. Raises `TransportError` when there is none that a header can hold."""
    said = read_json(response.body)
    value = said.get("access_token") if isinstance(said, dict) else None
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or not value:
        raise TransportError("the token endpoint's answer holds no access token")
    return Token(value=value, lifetime=_lifetime(said.get("expires_in")))


def _lifetime(said: object) -> float:
    """Return the seconds that a token lives. RFC 6749 has a number; some servers write it as text."""
    try:
        lifetime = float(said) if isinstance(said, int | float | str) and said is not True else math.nan
    except (ValueError, OverflowError):
        lifetime = math.nan
    return lifetime if 0 < lifetime <= LONGEST_TOKEN_LIFETIME else DEFAULT_TOKEN_LIFETIME


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


def _what_came(response: Response, *, private: bool) -> str:
    """Return the content type and the first words of a response, in brackets, for a sentence about it."""
    kind = response.headers.get("Content-Type", "")
    text = decoded(response.body, kind)
    words = reason_in(parsed(text))
    if words is None and not (private and not text.lstrip().startswith("<")):
        words = text
    parts = (shown(part, response.authorization, SENTENCE_LIMIT) for part in (kind, words or ""))
    came = ": ".join(filter(None, parts))
    return f" ({came})" if came else ""


def _meaning(request: Request[T], status: int, authorization: str, wall_clock: float) -> str:
    return meaning_of(
        status,
        of_call="/calls/" in request.template,
        of_token=request.template == _TOKEN,
        by_api_user=authorization.startswith("Basic "),
        wall_clock=wall_clock,
    )


def _bandwidth_error(
    body: bytes, headers: Headers, authorization: str, *, private: bool
) -> dict[str, str | None]:
    """Return ``type``, ``description`` and ``id`` of an error body.

    The reason is found in every shape that `server_text.reason_in` knows. A body without one is all
    description, unless it is a JSON object that says no more or may hold a secret. Without a body, the reason
    may be in the challenge of a 401 (RFC 6750).
    """
    text = decoded(body, headers.get("Content-Type", ""))
    said = parsed(text)
    fields = said if isinstance(said, dict) else {}
    # The token endpoint has the fields of OAuth2 (RFC 6749, 5.2).
    kinds = (fields.get("type"), fields.get("error"))
    found = {"type": next((kind for kind in kinds if kind and isinstance(kind, str)), None)}
    found["id"] = fields.get("id") if isinstance(fields.get("id"), str) else None
    rest = [value for value in fields.values() if value and value not in found.values()]
    says_more = fields is not said or (rest and not private)
    found["description"] = reason_in(said) or (text.strip() if says_more else "")
    if not found["description"] and (challenge := _CHALLENGE.search(headers.get("WWW-Authenticate", ""))):
        found["description"] = challenge[1]
    return {key: (shown(value, authorization) or None) if value else None for key, value in found.items()}
