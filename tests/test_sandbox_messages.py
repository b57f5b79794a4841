"""The JSON objects that the sandbox reads."""

from __future__ import annotations

import pytest

from bandwidth_async.sandbox.messages import parse_json_object


def test_null_is_absent() -> None:
    """A field set to null counts as not sent."""
    assert parse_json_object(b'{"status": "completed", "redirectUrl": null}') == {"status": "completed"}


@pytest.mark.parametrize("body", [None, b"", b"[]", b'"x"', b"{", b"\xff\xfe\x00", b"[" * 100_000, b"null"])
def test_only_a_json_object_can_be_read(body: bytes | None) -> None:
    """Anything else is not an update, however long or deep."""
    assert parse_json_object(body) is None
