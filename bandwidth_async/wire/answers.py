"""What came back: answers read into our values and errors. The status decides, the body only explains."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar, get_origin

from attrs import fields, frozen, has
from cattrs import Converter, transform_error
from cattrs.cols import homogenous_tuple_structure_factory, list_structure_factory
from cattrs.gen import make_dict_structure_fn, override

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
from bandwidth_async.models import CallbackMethod, Conference, camel_case

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bandwidth_async.hints import Headers
    from bandwidth_async.wire.requests import Request

T = TypeVar("T")

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


def _structure_flag(value: object, _: type) -> bool:
    if not isinstance(value, bool):
        raise TypeError("neither true nor false")
    return value


def _structure_time(value: object, _: type) -> datetime:
    moment = datetime.fromisoformat(str(value))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _structure_method(value: object, _: object) -> CallbackMethod | str | None:
    try:
        return None if value is None else CallbackMethod(str(value))
    except ValueError:
        return str(value)


def _is_array(kind: object) -> bool:
    return get_origin(kind) in {list, tuple}


def _make_converter() -> Converter:
    converter = Converter()

    def camel_cased(kind: type[Any]) -> Any:
        names: Mapping[str, Any] = {a.name: override(rename=camel_case(a.name)) for a in fields(kind)}
        return make_dict_structure_fn(kind, converter, **names)

    def from_array(kind: Any) -> Any:
        """Take only an array: cattrs would take the letters of a text and the keys of an object too."""
        make = list_structure_factory if get_origin(kind) is list else homogenous_tuple_structure_factory
        structure = make(kind, converter)

        def checked(value: object, kind: Any) -> Any:
            if not isinstance(value, list):
                raise TypeError("not an array")
            return structure(value, kind)

        return checked

    converter.register_structure_hook_factory(has, camel_cased)
    converter.register_structure_hook(str, _structure_text)
    converter.register_structure_hook(bool, _structure_flag)
    converter.register_structure_hook_factory(_is_array, from_array)
    converter.register_structure_hook(datetime, _structure_time)
    converter.register_structure_hook_func(
        lambda kind: kind == CallbackMethod | str | None, _structure_method
    )
    return converter


_converter = _make_converter()
