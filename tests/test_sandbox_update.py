"""What a conference update may say."""

from __future__ import annotations

import json

import pytest

from bandwidth_async.sandbox.update import kind_of_update, objection_to, read_update

URL = "https://example.com/bxml"


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "completed"},
        {"status": "completed", "redirectMethod": "POST", "redirectFallbackMethod": "GET"},
        {"status": "completed", "username": "u", "password": "p"},
        {"status": "active", "redirectUrl": URL},
        {"redirectUrl": "http://example.com"},
        {
            "redirectUrl": URL,
            "redirectMethod": "GET",
            "redirectFallbackUrl": URL,
            "fallbackPassword": "p" * 1024,
        },
        {"status": "completed", "state": "active", "unknown": [1]},
    ],
)
def test_a_right_update_meets_no_objection(fields: dict[str, object]) -> None:
    """What is documented is allowed; methods, credentials and unknown fields are tolerated."""
    assert objection_to(fields) is None


@pytest.mark.parametrize(
    ("fields", "objection"),
    [
        ({}, "redirectUrl is required when status is active"),
        ({"status": "active"}, "redirectUrl is required when status is active"),
        ({"state": "completed"}, "redirectUrl is required when status is active"),
        ({"status": "ended"}, "Invalid status: only active and completed are allowed"),
        ({"status": ["completed"]}, "Invalid status: only active and completed are allowed"),
        ({"status": "completed", "redirectUrl": URL}, "redirectUrl is not allowed when status is completed"),
        (
            {"status": "completed", "redirectFallbackUrl": URL},
            "redirectFallbackUrl is not allowed when status is completed",
        ),
        ({"redirectUrl": "ftp://example.com"}, "Invalid redirectUrl: only http and https are allowed"),
        ({"redirectUrl": "/bxml"}, "Invalid redirectUrl: only http and https are allowed"),
        ({"redirectUrl": "https://[bad"}, "Invalid redirectUrl: only http and https are allowed"),
        ({"redirectUrl": 5}, "Invalid redirectUrl: only http and https are allowed"),
        (
            {"redirectUrl": URL, "redirectFallbackUrl": "mailto:a@example.com"},
            "Invalid redirectFallbackUrl: only http and https are allowed",
        ),
        (
            {"redirectUrl": URL, "redirectMethod": "PUT"},
            "Invalid redirectMethod: only GET and POST are allowed",
        ),
        (
            {"status": "completed", "redirectFallbackMethod": "get"},
            "Invalid redirectFallbackMethod: only GET and POST are allowed",
        ),
        (
            {"redirectUrl": URL, "username": "u" * 1025},
            "Invalid username: a string of at most 1024 characters is allowed",
        ),
        (
            {"status": "completed", "fallbackPassword": 1},
            "Invalid fallbackPassword: a string of at most 1024 characters is allowed",
        ),
    ],
)
def test_a_wrong_update_meets_the_first_objection(fields: dict[str, object], objection: str) -> None:
    """The answer names the field and what is allowed in it."""
    assert objection_to(fields) == objection


def test_null_is_absent() -> None:
    """A field set to null counts as not sent."""
    assert read_update(b'{"status": "completed", "redirectUrl": null}') == {"status": "completed"}


@pytest.mark.parametrize("body", [None, b"", b"[]", b'"x"', b"{", b"\xff\xfe\x00", b"[" * 100_000, b"null"])
def test_only_a_json_object_can_be_read(body: bytes | None) -> None:
    """Anything else is not an update, however long or deep."""
    assert read_update(body) is None


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"status": "completed"}, "end"),
        ({"status": "completed", "redirectUrl": URL}, "end"),
        ({"status": "active", "redirectUrl": URL}, "redirect"),
        ({}, "redirect"),
        ({"status": None}, "redirect"),
        ({"status": "ended"}, "other"),
        ([], "other"),
    ],
)
def test_the_truth_counts_an_update_by_its_status(fields: object, kind: str) -> None:
    """An end request is one whose body says completed, also when it is invalid otherwise."""
    assert kind_of_update(json.dumps(fields).encode()) == kind
