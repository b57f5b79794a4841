"""Where a webhook goes: URL, method and credentials, and who is allowed to be told."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from attrs import field, frozen


@frozen(kw_only=True)
class Target:
    """One place that is told; ``fallback`` is tried when it cannot be reached or refuses."""

    url: str
    method: str = "POST"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    fallback: Target | None = None


def is_web_url(value: object) -> bool:
    """Return whether the value is an http or https URL with a host."""
    try:
        url = urlsplit(value) if isinstance(value, str) else None
        return url is not None and url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        return False


def is_on_this_machine(url: str) -> bool:
    """Return whether a web URL leads to a loopback address."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
