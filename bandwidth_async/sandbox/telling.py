"""JSON that is made while it is sent, in small blocks, so that other requests get their turns in between."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from bandwidth_async.sandbox.messages import Answer, Stream

_BLOCK = 200
"""Things in a block; a millisecond or two of work."""


def told(blocks: Callable[[], Iterator[bytes]]) -> Answer:
    """Return an answer with a JSON body that comes in blocks."""
    return Answer(
        status=200,
        headers={"Content-Type": "application/json"},
        stream=Stream(size=None, blocks=blocks),
    )


def array(items: Iterable[object]) -> Iterator[bytes]:
    """Yield a JSON array of items."""
    yield from _joined(b"[", (_json(item) for item in items), b"]")


def mapping(pairs: Iterable[tuple[str, object]]) -> Iterator[bytes]:
    """Yield a JSON object of names and values."""
    yield from _joined(b"{", (f"{_json(name)}:{_json(value)}" for name, value in pairs), b"}")


def _joined(begin: bytes, texts: Iterator[str], end: bytes) -> Iterator[bytes]:
    yield begin
    comma = ""
    while block := list(islice(texts, _BLOCK)):
        yield (comma + ",".join(block)).encode()
        comma = ","
    yield end


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
