"""What a conference update may say: the documented validation of the body.

Guesses where the description is silent: unknown fields, credentials and the two redirect methods are
tolerated together with ``completed`` (the official SDK sends the methods along and is in use).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

_URLS = ("redirectUrl", "redirectFallbackUrl")
_METHODS = ("redirectMethod", "redirectFallbackMethod")
_CREDENTIALS = ("username", "password", "fallbackUsername", "fallbackPassword")
_LONGEST_CREDENTIAL = 1024

Fields = Mapping[str, object]


def read_update(body: bytes | None) -> Fields | None:
    """Return the fields that the body sets, null meaning absent; None when it is not a JSON object."""
    try:
        value = json.loads(body or b"")
    except (ValueError, RecursionError):
        return None
    return {name: it for name, it in value.items() if it is not None} if isinstance(value, dict) else None


def is_end(fields: Fields) -> bool:
    """Return whether the update asks to end the conference."""
    return fields.get("status") == "completed"


def kind_of_update(body: bytes | None) -> str:
    """Return ``end``, ``redirect`` (an absent status is active), or ``other`` for what is neither."""
    fields = read_update(body)
    if fields is None or fields.get("status", "active") not in ("active", "completed"):
        return "other"
    return "end" if is_end(fields) else "redirect"


def objection_to(fields: Fields) -> str | None:
    """Return a sentence on the first thing wrong with the update, None when it is right."""
    return next(_objections(fields), None)


def _objections(fields: Fields) -> Iterator[str]:
    status = fields.get("status", "active")
    if status == "completed":
        yield from (f"{name} is not allowed when status is completed" for name in _URLS if name in fields)
    elif status != "active":
        yield "Invalid status: only active and completed are allowed"
    elif "redirectUrl" not in fields:
        yield "redirectUrl is required when status is active"
    for name in _URLS:
        if name in fields and not _is_web_url(fields[name]):
            yield f"Invalid {name}: only http and https are allowed"
    for name in _METHODS:
        if fields.get(name, "POST") not in ("GET", "POST"):
            yield f"Invalid {name}: only GET and POST are allowed"
    for name in _CREDENTIALS:
        if not _is_credential(fields.get(name, "")):
            yield f"Invalid {name}: a string of at most {_LONGEST_CREDENTIAL} characters is allowed"


def _is_web_url(value: object) -> bool:
    try:
        url = urlsplit(value) if isinstance(value, str) else None
    except ValueError:
        return False
    return url is not None and url.scheme in {"http", "https"} and bool(url.netloc)


def _is_credential(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_CREDENTIAL
