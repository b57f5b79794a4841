"""A server: which URLs it may have, how it is reached, and how many requests it may get at once."""

from __future__ import annotations

import ipaddress
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from attrs import field, frozen
from yarl import URL

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.http.delivery import Trust
from bandwidth_async.http.proxy import Proxy, is_host

try:
    import resource
except ImportError:
    resource = None  # type: ignore[assignment]  # Windows has none, and no such limit

if TYPE_CHECKING:
    import aiohttp

    from bandwidth_async.http.timeouts import TimeoutTimer

# Requests at once over a session without a limit. Most systems allow 1,024 file descriptors or more.
_CONNECTIONS = 512


@frozen(kw_only=True, eq=False)
class Server:
    """A server that requests are sent to: its URL and what set it, a proxy, and the timer for its timeouts.

    ``trust`` knows which of the kept connections to it are still believed to work.
    """

    url: URL
    setting: str = "voice_url"
    timer: TimeoutTimer
    proxy: Proxy | None = None
    trust: Trust = field(factory=Trust, init=False, repr=False)

    def secrets(self, authorization: str) -> str:
        """Return all that a server or proxy may quote and no error may show: one header on each line."""
        return authorization if self.proxy is None else f"{authorization}\n{self.proxy.authorization}"


def origin(url: str, name: str, *, allow_http: bool) -> URL:
    """Return the scheme, host and port of a URL; ``name`` is the setting that holds it.

    Raises `ConfigurationError` if the URL has more parts, and for plain http to any machine but this one.
    """
    try:
        parsed = URL(url)
        host = parsed.host
    except ValueError:
        host = None
    if host is None or parsed.scheme not in {"http", "https"} or not is_host(parsed.raw_host or ""):
        # A URL with a user may also contain a password.
        shown = "" if "@" in url else f", not {url!r}"
        raise ConfigurationError(f"{name} must look like https://host or https://host:port{shown}")
    if parsed.path not in {"", "/"} or parsed.raw_query_string or parsed.raw_fragment or parsed.user:
        raise ConfigurationError(
            f"{name} is the scheme and host only, as in {parsed.origin()}; leave out the rest"
        )
    if parsed.scheme == "http" and not allow_http and not is_loopback(host):
        raise ConfigurationError(
            f"{name} is plain http, which would send the credentials unencrypted; use https"
        )
    return parsed.origin()


def connections_of(session: aiohttp.ClientSession | None, *, one_host: bool = False) -> int:
    """Return how many requests may be in flight at once.

    A session that the user gave has limits of its own. One of its connections is kept for the token, which
    is fetched from the same host with ``one_host``. Our own session may use three quarters of the descriptors
    that are free.
    """
    connector = session.connector if session is not None else None
    if connector is None:
        return max(1, min(_CONNECTIONS, _descriptors() * 3 // 4))
    total, per_host = connector.limit, connector.limit_per_host
    limits = [total - 1] if total else []
    if per_host:
        limits.append(per_host - one_host)
    return max(1, min(limits, default=_CONNECTIONS))


def _descriptors() -> int:
    """Return how many more file descriptors this process may open."""
    if resource is None:
        return _CONNECTIONS * 2
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _CONNECTIONS * 2
    with suppress(OSError):
        soft -= len(os.listdir("/dev/fd"))
    return soft


def is_loopback(host: str) -> bool:
    """Return True if a host name or address is this machine's."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
