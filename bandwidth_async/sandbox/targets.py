"""Where a webhook goes: URL, method and credentials, and who is allowed to be told."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit

from attrs import field, frozen


@frozen(kw_only=True)
class Target:
    """One place that is told; ``fallback`` is tried when it cannot be reached or refuses."""

    url: str
    method: str = "POST"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    fallback: Target | None = None


def objection_to_url(value: object) -> str | None:
    """Return what is wrong with a URL that is to be http or https and have a host, None when it is right."""
    if not isinstance(value, str):
        return "a string is required"
    if value.partition(":")[0].lower() not in {"http", "https"}:
        return "only http and https are allowed"
    if not value.isprintable() or " " in value:
        return "spaces, control characters and surrogates are not allowed"  # urlsplit would drop some
    try:
        url = urlsplit(value)
    except ValueError as exc:
        return f"it cannot be read: {exc}"
    if not url.hostname:
        return "a host is required"
    return None if _has_port(url) else "the port must be within the range [1, 65535]"


def _has_port(url: SplitResult) -> bool:
    try:
        return url.port != 0
    except ValueError:
        return False


def is_web_url(value: object) -> bool:
    """Return whether the value is an http or https URL with a host."""
    return objection_to_url(value) is None


def is_on_this_machine(url: str) -> bool:
    """Return whether a web URL leads to a loopback address."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
