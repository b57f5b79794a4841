"""The JSON objects that the sandbox reads, and its errors."""

from __future__ import annotations

import json

import pytest

from bandwidth_async.sandbox.messages import error_response, parse_json_object


def test_null_is_absent() -> None:
    """A field set to null counts as not sent."""
    assert parse_json_object(b'{"status": "completed", "redirectUrl": null}') == {"status": "completed"}


@pytest.mark.parametrize("body", [None, b"", b"[]", b'"x"', b"{", b"\xff\xfe\x00", b"[" * 100_000, b"null"])
def test_only_a_json_object_can_be_read(body: bytes | None) -> None:
    """Anything else is not an update, however long or deep."""
    assert parse_json_object(body) is None


@pytest.mark.parametrize(
    ("status", "type_", "id_"),
    [
        *((status, "validation", None) for status in (400, 404, 405, 415)),
        (401, "authentication-error", None),
        (403, "authorization-error", None),
        (409, "validation", ""),
        (429, "error", ""),
        (500, "internal-error", None),
        (503, "system-overloaded", None),
    ],
)
def test_an_error_has_the_type_and_the_id_of_the_page_of_errors(
    status: int, type_: str, id_: str | None
) -> None:
    """A program that reads the type of a 429 reads on Bandwidth what it read on the sandbox."""
    response = error_response(status, "why")
    assert json.loads(response.body) == {"type": type_, "description": "why", "id": id_}
    assert response.headers == {"Content-Type": "application/json;charset=UTF-8"}
