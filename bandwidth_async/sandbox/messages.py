"""What passes between the shell and the deciding code: a request, an answer, and the moment it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from attrs import field, frozen

_TYPES = {
    401: "authentication-error",
    403: "authorization-error",
    429: "too-many-requests",
    503: "system-overloaded",
}


@frozen(kw_only=True)
class Moment:
    """The same instant on two clocks: ``now`` in seconds of the event loop, ``wall`` in UTC."""

    now: float
    wall: datetime


@frozen(kw_only=True)
class Request:
    """An HTTP request, read to its end. ``body`` is None when it was larger than is read at all."""

    method: str
    segments: tuple[str, ...]
    """The path between its slashes, each part percent-decoded once."""
    query: Mapping[str, str] = field(factory=dict)
    authorization: str = field(default="", repr=False)
    media_type: str = ""
    body: bytes | None = field(default=b"", repr=False)
    base_url: str = ""


@frozen(kw_only=True)
class Stream:
    """A body that is made while it is sent: ``size`` bytes in all, in blocks that ``blocks`` yields.

    None is a size that is not known before the end.
    """

    size: int | None
    blocks: Callable[[], Iterator[bytes]]


@frozen(kw_only=True)
class Answer:
    """An HTTP answer, ready to be sent; one with a ``stream`` has no ``body``."""

    status: int
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes = b""
    stream: Stream | None = None

    @property
    def content(self) -> Stream:
        """The body, of either kind."""
        return self.stream or Stream(size=len(self.body), blocks=lambda: iter((self.body,)))


NO_CONTENT = Answer(status=204)


def json_answer(status: int, value: object, headers: Mapping[str, str] | None = None) -> Answer:
    """Return ``value`` as a JSON answer."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return Answer(status=status, headers={"Content-Type": "application/json", **(headers or {})}, body=body)


def problem(status: int, description: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Return an error in Bandwidth's form, ``id`` null.

    The types of 400, 401, 403, 404, 405 and 503 are those of https://dev.bandwidth.com/docs/voice/errors;
    those of 409, 413, 415, 429 and 500 are a guess.
    """
    kind = _TYPES.get(status, "validation" if status < 500 else "internal-error")
    return json_answer(status, {"type": kind, "description": description, "id": None}, headers)
