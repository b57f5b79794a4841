"""The proxy on the way to a server: which one it is, and what it means when it does not let us through.

The variables, and the hosts that ``NO_PROXY`` exempts, are those of curl.
"""

from __future__ import annotations

import base64
import ipaddress
import logging
import os
import re
from typing import TYPE_CHECKING

import aiohttp
from attrs import field, frozen
from yarl import URL

from bandwidth_async.errors import APIError, CertificateError, ConfigurationError, TransportError
from bandwidth_async.server_text import printable

if TYPE_CHECKING:
    from bandwidth_async.retry_after import Headers

_log = logging.getLogger("bandwidth_async.http")

# Each with the order in which they count. A web server hands a request's header "Proxy" to its CGI programs
# as HTTP_PROXY, so anybody could set that one.
_VARIABLES = {
    "http": ("http_proxy", "all_proxy", "ALL_PROXY"),
    "https": ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
}
_NOT_IN_HOST = re.compile(r"[\s/?#@\\%\"'<>,;]")
# What proxies ask for in place of Basic (IANA's registry of authentication schemes, and NTLM).
_SCHEMES = ("Negotiate", "NTLM", "Kerberos", "Digest", "Bearer")
_URL_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*")


@frozen
class Proxy:
    """A proxy, the variable that names it, and the header with its credentials. Both may be empty."""

    url: URL
    source: str = ""
    authorization: str = field(default="", repr=False)

    def __str__(self) -> str:
        where = f" in {self.source}" if self.source else ""
        return f"the proxy {self.url.host_subcomponent}:{self.url.port}{where}"

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that are for the proxy and not for the server."""
        return {"Proxy-Authorization": self.authorization} if self.authorization else {}

    def failure(self, error: Exception, name: str, server: URL, reason: str) -> TransportError | None:
        """Return our error for one of aiohttp's that is about this proxy, or None.

        ``name`` is that of the request, and ``reason`` what may be shown of the error. A name that cannot be
        resolved is told alike for a server and a proxy.
        """
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return self.refusal(error.status, error.headers, name, server, reason)
        if isinstance(error, aiohttp.ClientConnectorError):
            unresolved = isinstance(error, aiohttp.ClientConnectorDNSError)
            if unresolved or (error.host, error.port) != (self.url.raw_host, self.url.port):
                return None
            if not isinstance(error, aiohttp.ClientConnectorCertificateError):
                return TransportError(f"{name}: no connection to {self} ({reason})")
            return CertificateError(f"{name}: the certificate of {self} is not valid ({reason})")
        return None

    def refusal(
        self, status: int, headers: Headers | None, name: str, server: URL, reason: str
    ) -> TransportError:
        """Return the error for a proxy that answered in place of the server, with this status.

        It is lasting, so that a run stops, unless the proxy may reach the server later.
        """
        lasting = not APIError(status=status).transient
        if status == 407:
            what = self._wish(headers)
        elif lasting:
            what = f"does not let us through to {server.host}:{server.port}"
        else:
            what = f"cannot reach {server.host}:{server.port}"
        error = TransportError(f"{name}: {self} {what} ({reason})")
        error.lasting = lasting
        return error

    def _wish(self, headers: Headers | None) -> str:
        """Return what a proxy wants that answered 407."""
        challenges = headers.getall("Proxy-Authenticate", []) if headers else []
        if challenges and not any("basic" in challenge.lower() for challenge in challenges):
            asked = ", ".join(scheme for scheme in _SCHEMES if scheme.lower() in str(challenges).lower())
            return f"wants credentials by {asked or 'another scheme'}, and only Basic is served"
        if self.authorization:
            return "does not accept the name and password in its URL"
        return "wants a name and password: write it as http://name:password@host:port"


def proxy_of(base: URL, proxy: str | URL | None, *, trust_env: bool) -> Proxy | None:
    """Return the proxy for a base URL: the given one, or with ``trust_env`` that of the environment.

    With ``trust_env``, ``NO_PROXY`` exempts hosts from either. An empty text is no proxy. aiohttp's own
    ``trust_env`` is not used: it would also send the credentials in ``.netrc``.

    Raises `ConfigurationError` for what is no proxy's URL, without the password in it.
    """
    source = ""
    if trust_env:
        _, exempt = _variable("no_proxy", "NO_PROXY")
        if any(_exempts(entry, base) for entry in re.split(r"[\s,]+", exempt)):
            return None
        if proxy is None:
            source, proxy = _variable(*_VARIABLES[base.scheme])
    text = str(proxy or "").strip()
    if not text:
        return None
    found = check_proxy(text, f"the proxy in {source}" if source else "proxy", source)
    _log.debug("%s is reached through %s", base, found)
    return found


def _variable(*names: str) -> tuple[str, str]:
    """Return the name and the text of the first variable that is set. An empty one counts as not set."""
    texts = ((name, os.environ.get(name, "").strip()) for name in names)
    return next((found for found in texts if found[1]), ("", ""))


def _exempts(entry: str, base: URL) -> bool:
    """Return True if an entry of ``NO_PROXY`` is about the host of a base URL.

    It may be ``*``, a domain with all hosts in it, an address, or a network. A port may follow.
    """
    host, port = entry, ""
    if entry.count(":") == 1 or "]:" in entry:
        host, _, port = entry.rpartition(":")
    if host == "*" or port not in {"", str(base.port)}:
        return host == "*"
    name, host = (base.host or "").rstrip("."), host.lower().removeprefix("*").strip(".[]")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name == host or name.endswith(f".{host}")
    try:
        return address in ipaddress.ip_network(host, strict=False)
    except ValueError:
        return False


def check_proxy(text: str, name: str, source: str = "") -> Proxy:
    """Return the proxy in a URL, which may lack its scheme. ``name`` is the setting that holds it.

    Raises `ConfigurationError` for what is no http or https URL, without the password in it.
    """
    scheme, separator, _ = text.partition("://")
    try:
        url = URL(text if separator else f"http://{text.removeprefix('//')}")
        fits = url.scheme in _VARIABLES and is_host(url.raw_host or "") and bool(url.port)
        # A password with a special character ends the host, and a name with a colon is no name (RFC 7617).
        fits = fits and "@" not in url.path_qs + url.fragment and ":" not in (url.user or "")
        # What looks like the host may be a scheme: of http:/host, or of http://http://host.
        fits = fits and url.raw_host not in _VARIABLES
    except ValueError:
        fits = False
    if fits:
        return Proxy(url.origin(), source, _basic(url))
    hint = ""
    if separator and _URL_SCHEME.fullmatch(scheme) and scheme.lower() not in _VARIABLES:
        hint = f"; {printable(scheme)} is not served"
    elif "@" in text:
        hint = "; write special characters of the name and password as in %2F for /"
    raise ConfigurationError(f"{name} must look like http://host:port or https://host:port{hint}")


def _basic(url: URL) -> str:
    if url.user is None and url.password is None:
        return ""
    return "Basic " + base64.b64encode(f"{url.user or ''}:{url.password or ''}".encode()).decode()


def is_host(host: str) -> bool:
    """Return True for a host that aiohttp connects to: a name, or an address in its usual spelling."""
    if ":" in host or not host.rpartition(".")[2].isdigit():
        return bool(host) and not _NOT_IN_HOST.search(host)
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True
