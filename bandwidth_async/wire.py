"""The API's wire format, without any I/O: requests as plain values, answers into our values and errors."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

from attrs import fields, frozen, has
from cattrs import Converter, transform_error
from cattrs.gen import make_dict_structure_fn, override

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
from bandwidth_async.hints import parse_hint
from bandwidth_async.models import CallbackMethod, Conference, ConferenceStatus, UpdateConference, camel_case

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bandwidth_async.hints import Headers

T = TypeVar("T")

DESCRIPTION_LIMIT = 2048  # characters of server text that an error keeps
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
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._~-]*")
_UNSAFE = frozenset("/\\%?#")


@frozen(kw_only=True)
class Request:
    """One request, ready to be sent any number of times.

    ``idempotent`` says that sending it twice does no more than sending it once, ``safe`` that it changes
    nothing at all, ``reads`` that the body of a success matters.
    """

    name: str
    method: str
    path: str
    idempotent: bool
    safe: bool = False
    reads: bool = False
    content_type: str | None = None
    body: bytes | None = None


@frozen(kw_only=True)
class Token:
    """An access token and how many seconds it lives."""

    value: str
    lifetime: float

    def __repr__(self) -> str:
        return f"Token(lifetime={self.lifetime})"


def path_segment(value: object, what: str = "conference id") -> str:
    """Return ``value`` as one segment of a path.

    Raises `ConfigurationError` for whatever could leave its segment or hide there: empty text, dots
    only, slashes, percent signs, ``?``, ``#``, white space and everything that does not print.
    """
    if isinstance(value, str):
        if _PLAIN_ID.fullmatch(value):
            return value
        if (
            value.strip(".")
            and value.isprintable()
            and not any(c.isspace() for c in value)
            and _UNSAFE.isdisjoint(value)
        ):
            return quote(value, safe="!$&'()*+,;=:@~")
    shown = repr(value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    raise ConfigurationError(f"{shown} is no {what}: it has to be one word without blanks and / \\ % ? #")


def update_conference(account: str, conference_id: str, update: UpdateConference) -> Request:
    """Build the conference update. Ending may be repeated; a redirect would be heard twice."""
    ends = update.status is ConferenceStatus.COMPLETED
    return Request(
        name=f"{'end' if ends else 'redirect'} conference {conference_id}",
        method="POST",
        path=f"{_conferences(account)}/{path_segment(conference_id)}",
        idempotent=ends,
        content_type="application/json",
        body=_END_BODY if ends else update.to_json().encode(),
    )


def get_conference(account: str, conference_id: str) -> Request:
    """Build the request for one conference with its members."""
    return _read(f"get conference {conference_id}", f"{_conferences(account)}/{path_segment(conference_id)}")


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
    given = urlencode({key: value for key, value in query.items() if value is not None})
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


def parse_conference(body: bytes) -> Conference:
    """Return the conference in ``body``; unknown fields are ignored, unknown enum values kept as text.

    Raises `TransportError` when there is none.
    """
    return _structure(_json(body), Conference)


def parse_conferences(body: bytes) -> list[Conference]:
    """Return the conferences of one page. Raises `TransportError` when ``body`` is not a page."""
    return _structure(_json(body), list[Conference])


def parse_token(body: bytes) -> Token:
    """Return the access token in ``body``. Raises `TransportError` when there is none to use."""
    answer = _json(body)
    value = answer.get("access_token") if isinstance(answer, dict) else None
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or not value:
        raise TransportError("the token endpoint's answer holds no access token")
    lifetime = answer.get("expires_in")
    usable = isinstance(lifetime, int | float) and 0 < lifetime < float("inf")
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


def _conferences(account: str) -> str:
    return f"/api/v2/accounts/{account}/conferences"


def _read(name: str, path: str) -> Request:
    return Request(name=name, method="GET", path=path, idempotent=True, safe=True, reads=True)


def _iso_time(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ConfigurationError(f"{moment} has no time zone: give an aware datetime")
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


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


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise TransportError("the answer is not JSON") from error


def _structure(value: object, kind: type[T]) -> T:
    try:
        return _converter.structure(value, kind)
    except Exception as error:  # cattrs raises groups of whatever the hooks raised
        raise TransportError(
            f"the answer does not have the documented shape: {'; '.join(transform_error(error))}"
        ) from error


def _structure_text(value: object, _: type) -> str:
    if not isinstance(value, str | int | float):
        raise TypeError("not a text")
    return str(value)


def _structure_time(value: object, _: type) -> datetime:
    moment = datetime.fromisoformat(str(value))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _structure_method(value: object, _: object) -> CallbackMethod | str | None:
    try:
        return None if value is None else CallbackMethod(str(value))
    except ValueError:
        return str(value)


def _make_converter() -> Converter:
    converter = Converter()

    def camel_cased(kind: type[Any]) -> Any:
        names: Mapping[str, Any] = {a.name: override(rename=camel_case(a.name)) for a in fields(kind)}
        return make_dict_structure_fn(kind, converter, **names)

    converter.register_structure_hook_factory(has, camel_cased)
    converter.register_structure_hook(str, _structure_text)
    converter.register_structure_hook(datetime, _structure_time)
    converter.register_structure_hook_func(
        lambda kind: kind == CallbackMethod | str | None, _structure_method
    )
    return converter


_END_BODY = UpdateConference(status=ConferenceStatus.COMPLETED).to_json().encode()
_converter = _make_converter()
