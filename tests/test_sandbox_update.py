"""What a conference update may say."""

from __future__ import annotations

import json

import pytest

from bandwidth_async.sandbox.bodies import read_object
from bandwidth_async.sandbox.targets import Target
from bandwidth_async.sandbox.update import CALL, CONFERENCE, kind_of_update, objection_to, redirect_target

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
    assert objection_to(CONFERENCE, fields) is None


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
        ({"redirectUrl": " http://127.0.0.1/"}, "Invalid redirectUrl: only http and https are allowed"),
        ({"redirectUrl": "\x00http://127.0.0.1/"}, "Invalid redirectUrl: only http and https are allowed"),
        ({"redirectUrl": "https://[bad"}, "Invalid redirectUrl: it cannot be read: Invalid IPv6 URL"),
        ({"redirectUrl": 5}, "Invalid redirectUrl: a string is required"),
        ({"redirectUrl": "https://"}, "Invalid redirectUrl: a host is required"),
        *(
            (
                {"redirectUrl": f"http://127.0.0.1:{port}/"},
                "Invalid redirectUrl: the port must be within the range [1, 65535]",
            )
            for port in ("0", "65536", "70000", "http")
        ),
        *(
            (
                {"redirectUrl": url},
                "Invalid redirectUrl: spaces, control characters and surrogates are not allowed",
            )
            for url in (
                *(
                    "https://exa\nmple.com/",
                    "http://\x00127.0.0.1/",
                    "http://127.0.0.1/ ",
                    "http://127.0.0.1/\t",
                ),
                *("http://a b/", "http://127.0.0.1/\x7f", "http://127.0.0.1/\ud800", "https://x/\u2028"),
            )
        ),
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
    assert objection_to(CONFERENCE, fields) == objection


def test_null_is_absent() -> None:
    """A field set to null counts as not sent."""
    assert read_object(b'{"status": "completed", "redirectUrl": null}') == {"status": "completed"}


@pytest.mark.parametrize("body", [None, b"", b"[]", b'"x"', b"{", b"\xff\xfe\x00", b"[" * 100_000, b"null"])
def test_only_a_json_object_can_be_read(body: bytes | None) -> None:
    """Anything else is not an update, however long or deep."""
    assert read_object(body) is None


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
    assert kind_of_update(CONFERENCE, json.dumps(fields).encode(), "end", "redirect") == kind


@pytest.mark.parametrize(
    ("fields", "objection"),
    [
        ({"state": "completed"}, None),
        ({"state": "completed", "redirectFallbackUrl": URL, "redirectMethod": "GET"}, None),
        ({"redirectUrl": URL, "tag": "t" * 4096}, None),
        ({"redirectUrl": URL, "tag": ""}, None),
        ({}, "redirectUrl is required when state is active"),
        ({"status": "completed"}, "redirectUrl is required when state is active"),
        ({"state": "ended"}, "Invalid state: only active and completed are allowed"),
        ({"state": "completed", "redirectUrl": URL}, "redirectUrl is not allowed when state is completed"),
        ({"state": "completed", "tag": "t"}, "tag is not allowed when state is completed"),
        (
            {"redirectUrl": URL, "tag": "t" * 4097},
            "Invalid tag: a string of at most 4096 characters is allowed",
        ),
        ({"redirectUrl": URL, "tag": 1}, "Invalid tag: a string of at most 4096 characters is allowed"),
        ({"redirectUrl": "ftp://x"}, "Invalid redirectUrl: only http and https are allowed"),
        (
            {"redirectUrl": "http://x:0"},
            "Invalid redirectUrl: the port must be within the range [1, 65535]",
        ),
    ],
)
def test_a_call_has_a_state_and_a_tag(fields: dict[str, object], objection: str | None) -> None:
    """Otherwise it is updated like a conference, by the name of its own field."""
    assert objection_to(CALL, fields) == objection


def test_a_redirect_leads_somewhere_and_elsewhere() -> None:
    """Each place with its own method and credentials; POST when nothing is said."""
    fields = {
        "redirectUrl": URL,
        "redirectMethod": "GET",
        "username": "u",
        "password": "p",
        "redirectFallbackUrl": f"{URL}/2",
        "fallbackUsername": "fu",
    }
    assert redirect_target(fields) == Target(
        url=URL,
        method="GET",
        username="u",
        password="p",
        fallback=Target(url=f"{URL}/2", method="POST", username="fu", password=None),
    )
    assert redirect_target({"redirectUrl": URL}) == Target(url=URL)
