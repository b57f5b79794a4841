"""HTTP requests and responses as plain data, and the JSON in their bodies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice

from attrs import field, frozen

Fields = Mapping[str, object]
"""The fields of a JSON object."""

# The page of errors has an empty text as the id of these, and null for the others.
_EMPTY_ID = frozenset({409, 429})
_ERROR_TYPES = {
    401: "authentication-error",
    403: "authorization-error",
    429: "error",
    503: "system-overloaded",
}

# One block takes a millisecond or two of work. Between blocks the server handles other requests.
_ITEMS_PER_BLOCK = 200


@frozen(kw_only=True)
class Moment:
    """The time on two clocks: ``now`` in seconds of the event loop, ``wall`` in UTC."""

    now: float
    wall: datetime


@frozen(kw_only=True)
class Request:
    """A complete HTTP request.

    ``segments`` is the path, split at its slashes and percent-decoded once. ``body`` is None if the body was
    larger than the limit.
    """

    method: str
    segments: tuple[str, ...]
    query: Mapping[str, str] = field(factory=dict)
    authorization: str = field(default="", repr=False)
    media_type: str = ""
    body: bytes | None = field(default=b"", repr=False)
    base_url: str = ""


@frozen(kw_only=True)
class Stream:
    """A body that is generated while it is sent. ``size`` is in bytes, or None if it is not known yet."""

    size: int | None
    blocks: Callable[[], Iterator[bytes]]


@frozen(kw_only=True)
class Response:
    """An HTTP response. If it has a ``stream``, it has no ``body``."""

    status: int
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes = b""
    stream: Stream | None = None

    @property
    def content(self) -> Stream:
        """The body as a stream, of either kind."""
        return self.stream or Stream(size=len(self.body), blocks=lambda: iter((self.body,)))


class RefusedError(Exception):
    """A request gets an error response. The handler raises this, and its route returns the response."""

    def __init__(self, status: int, description: str) -> None:
        super().__init__(description)
        self.response: Response = error_response(status, description)


def json_response(status: int, value: object, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with ``value`` as JSON."""
    headers = {"Content-Type": "application/json", **(headers or {})}
    return Response(status=status, headers=headers, body=_to_json(value).encode())


def error_response(status: int, description: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error as https://dev.bandwidth.com/docs/voice/errors shows it.

    The types of statuses that are not on that page are a guess.
    """
    error = {
        "type": _ERROR_TYPES.get(status, "validation" if status < 500 else "internal-error"),
        "description": description,
        "id": "" if status in _EMPTY_ID else None,
    }
    return json_response(status, error, {"Content-Type": "application/json;charset=UTF-8", **(headers or {})})


def streamed_json(blocks: Callable[[], Iterator[bytes]]) -> Response:
    """Return a response whose JSON body is generated while it is sent."""
    stream = Stream(size=None, blocks=blocks)
    return Response(status=200, headers={"Content-Type": "application/json"}, stream=stream)


def json_array(items: Iterable[object]) -> Iterator[bytes]:
    """Yield a JSON array in blocks."""
    yield from _in_blocks(b"[", map(_to_json, items), b"]")


def json_object(fields: Iterable[tuple[str, object]]) -> Iterator[bytes]:
    """Yield a JSON object in blocks."""
    yield from _in_blocks(b"{", (f"{_to_json(name)}:{_to_json(value)}" for name, value in fields), b"}")


def _in_blocks(begin: bytes, texts: Iterator[str], end: bytes) -> Iterator[bytes]:
    yield begin
    comma = ""
    while block := list(islice(texts, _ITEMS_PER_BLOCK)):
        yield (comma + ",".join(block)).encode()
        comma = ","
    yield end


def _to_json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def parse_json_object(body: bytes | None) -> Fields | None:
    """Return the fields of a JSON object, without those that are null; None if the body is no such object.

    The body has to be UTF-8.
    """
    try:
        value = json.loads((body or b"").decode())
    except (ValueError, RecursionError):
        return None
    return without_nulls(value) if isinstance(value, dict) else None


def without_nulls(fields: Fields) -> dict[str, object]:
    """Return the fields that have a value. Responses leave out the others rather than send null (a guess)."""
    return {name: value for name, value in fields.items() if value is not None}
