"""The text of a server as our errors show it: without our secrets, on one line, and cut."""

from __future__ import annotations

import base64
import html
import json
import re
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

# Characters of server text that an error keeps, and those of it that a sentence shows.
DESCRIPTION_LIMIT = 2048
SENTENCE_LIMIT = 300

# A text may be escaped in JSON that is quoted in HTML that is quoted in a URL.
_LAYERS = 6
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([\"'/\\]))")
# Shorter ones keep nothing secret, and would be found in every sentence.
_SHORTEST_SECRET = 4
_URL_SAFE = str.maketrans("+/", "-_")

_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:+-]+)", re.IGNORECASE)
# It never goes back, so that a page of any content is read in one pass.
_TAG = re.compile(r"<(/?)([^\s<>/]*+)[^<>]*+>")
_UNSEEN = frozenset({"script", "style"})

# How deep reasons are looked for, and how many are read.
_DEPTH = 4
_REASONS = 5
# Where servers put a reason, the fullest first: Bandwidth and its newer APIs, OAuth2 (RFC 6749), problem+json
# (RFC 9457), Spring, AWS, Google, Apigee.
_REASON_FIELDS = (
    "description",
    "error_description",
    "detail",
    "message",
    "errormessage",
    "faultstring",
    "reason",
    "title",
)
# Where one is when the object has none itself, and where more of them are when it has one.
_NESTED_FIELDS = ("errors", "error", "fault", "detail", "details")
_FURTHER_FIELDS = ("errors", "details")


def printable(text: str) -> str:
    """Return server text on one line, without anything that a terminal would obey."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def shown(text: str, authorization: str, limit: int = DESCRIPTION_LIMIT) -> str:
    """Return server text as an error may show it: without secrets and markup, printable, and cut.

    ``authorization`` is the header that the request was sent with. Its secrets are found in every escaping
    that servers and proxies use, and in capitals.
    """
    # In this order: a secret may look like markup.
    return printable(_readable(_without_secrets(text, authorization)))[:limit]


def decoded(body: bytes, content_type: str = "") -> str:
    """Return a body as text: Unicode if it can be, or else in the charset of its content type."""
    declared = _CHARSET.search(content_type)
    for encoding in (json.detect_encoding(body), declared[1] if declared else ""):
        with suppress(ValueError, LookupError):
            return body.decode(encoding)
    # A lost letter of a quoted secret would keep the rest of it from being found.
    return body.decode("latin-1")


def parsed(text: str) -> Any:
    """Return what JSON text holds, and None if it is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def reason_in(value: Any) -> str | None:
    """Return why a JSON body says that something failed, or None if it does not say."""
    if not isinstance(value, dict | list):
        return None
    found = [reason for reason in _reasons(value, _DEPTH) if reason.strip()]
    return "; ".join(dict.fromkeys(found[:_REASONS])) or None


def _reasons(value: Any, depth: int) -> Iterator[str]:
    if depth == 0:
        return
    if isinstance(value, list):
        for one in value[:_REASONS]:
            # A text is a reason only in a list of errors.
            if isinstance(one, dict | list) or depth < _DEPTH:
                yield from _reasons(one, depth - 1)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        fields = {key.lower(): inner for key, inner in value.items()}
        said = next((fields[key] for key in _REASON_FIELDS if _is_text(fields.get(key))), None)
        if said is not None:
            yield said
        places = _NESTED_FIELDS if said is None else _FURTHER_FIELDS
        nested = [fields[key] for key in places if isinstance(fields.get(key), dict | list)]
        # Inside of a list of errors the keys may be the names of our fields.
        if not nested and said is None and depth < _DEPTH:
            nested = list(fields.values())[:_REASONS]
        for one in nested:
            yield from _reasons(one, depth - 1)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _readable(text: str) -> str:
    """Return the words of HTML or XML, each text once, and any other text as it is."""
    if not text.lstrip().startswith("<"):
        return text
    text = text.replace("<![CDATA[", " ").replace("]]>", " ")
    words, unseen, end = [], "", 0
    for tag in _TAG.finditer(text):
        slash, name = tag[1], tag[2].lower()
        if not unseen:
            words.append(text[end : tag.start()])
            unseen = name if name in _UNSEEN and not slash else ""
        elif slash and name == unseen:
            unseen = ""
        end = tag.end()
    words.append("" if unseen else text[end:])
    return " ".join(dict.fromkeys(filter(None, (html.unescape(word).strip() for word in words)))) or text


def _without_secrets(text: str, authorization: str) -> str:
    """Replace our secrets in a text by ``***``. A text that held one is returned decoded."""
    secrets = _secrets_of(authorization)
    if secrets is None:
        return text
    plain, found = text, 0
    for _ in range(_LAYERS):
        plain, count = secrets.subn("***", plain)
        found += count
        deeper = unquote(html.unescape(_ESCAPE.sub(_unescaped, plain)))
        if deeper == plain:
            break
        plain = deeper
    return plain if found else text


def _unescaped(escape: re.Match[str]) -> str:
    four, two, itself = escape.groups()
    return str(itself or chr(int(four or two, 16)))


@lru_cache(maxsize=16)
def _secrets_of(authorization: str) -> re.Pattern[str] | None:
    """Return a pattern for all that must not be shown of ``Authorization`` headers, one on each line."""
    secrets = set()
    for header in authorization.split("\n"):
        scheme, _, value = header.partition(" ")
        secrets.add(value)
        if scheme == "Basic":
            name, _, password = base64.b64decode(value).decode().partition(":")
            # Some proxies take a token in place of a name, and no password.
            secrets.add(password or name)
    secrets = {secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}
    secrets |= {base64.b64encode(secret.encode()).decode() for secret in secrets}
    secrets |= {secret.rstrip("=") for secret in secrets}
    secrets |= {secret.translate(_URL_SAFE) for secret in secrets}
    longest_first = sorted(secrets, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE) if longest_first else None
