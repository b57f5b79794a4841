"""One attempt: a request is sent over aiohttp, and its response is returned or raised as one of our errors.

aiohttp's exceptions do not leave this module. Also here: which URLs a client may send its requests to.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import platform
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
from attrs import field, frozen
from yarl import URL

from bandwidth_async import wire
from bandwidth_async._version import __version__
from bandwidth_async.errors import (
    BandwidthError,
    CertificateError,
    ClientStateError,
    ConfigurationError,
    TransportError,
)
from bandwidth_async.http.connections import (
    DirectResponse,
    NotSentError,
    UnfitConnectionError,
    direct_connections,
    middlewares_of,
)
from bandwidth_async.media import Media
from bandwidth_async.server_text import SENTENCE_LIMIT, shown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bandwidth_async.http.timeouts import Timeouts, TimeoutTimer
    from bandwidth_async.retry_after import Headers

    AnyResponse = aiohttp.ClientResponse | DirectResponse

_log = logging.getLogger("bandwidth_async.http")

USER_AGENT = (
    f"bandwidth_async/{__version__} (aiohttp/{aiohttp.__version__}; python/{platform.python_version()})"
)
# Requests at once over a session without a limit. Most systems allow 1,024 file descriptors or more.
_CONNECTIONS = 512
# In bytes. A page of 1,000 conferences has about half a megabyte.
_BODY_LIMIT = 16 * 1024 * 1024
# In bytes. More of an error's body is not read.
_ERROR_BODY_LIMIT = 64 * 1024
# In seconds. The status of an error is known by then, and the status decides.
_ERROR_BODY_TIMEOUT = 2.0
_RESET = frozenset({errno.ECONNRESET, errno.EPIPE})


@frozen(kw_only=True)
class ResponseInfo:
    """What came with a value: the HTTP status, the headers, and the number of attempts."""

    status: int
    headers: Headers
    attempts: int


@frozen(kw_only=True, eq=False)
class Server:
    """A server that requests are sent to: its URL, a proxy on the way, and the timer for its timeouts."""

    url: URL
    timer: TimeoutTimer
    # Its URL may contain a password.
    proxy: str | URL | None = field(default=None, repr=False)


def origin(url: str, name: str, *, allow_http: bool) -> URL:
    """Return the scheme, host and port of a URL; ``name`` is the setting that holds it.

    Raises `ConfigurationError` if the URL has more parts, and for plain http to any machine but this one.
    """
    try:
        parsed = URL(url)
        host = parsed.host
    except ValueError:
        host = None
    if host is None or parsed.scheme not in {"http", "https"}:
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


def connections_of(session: aiohttp.ClientSession | None) -> int:
    """Return how many requests may be in flight at once.

    A session that the user gave has a limit of its own; one of its connections is kept for the token.
    """
    limit = session.connector.limit if session is not None and session.connector is not None else 0
    return max(1, limit - 1) if limit else _CONNECTIONS


def proxy_from_environment(base: URL) -> str | None:
    """Return the proxy that ``HTTPS_PROXY`` or ``HTTP_PROXY`` names, unless ``NO_PROXY`` exempts ``base``.

    aiohttp's ``trust_env`` is not used: it would also send the credentials in ``.netrc``.
    """
    if proxy_bypass(base.host or ""):
        return None
    return getproxies().get(base.scheme)


async def exchange(
    session: aiohttp.ClientSession,
    server: Server,
    request: wire.Request[Any],
    authorization: str,
    timeouts: Timeouts,
    *,
    on_status: Callable[[int, Headers], None] | None = None,
) -> wire.Response:
    """Send a request once and return the response if its status is 2xx. `wire.Request.read` judges it.

    ``on_status`` is called with the status and headers before the body is read. Raises `APIError` for any
    other status and `TransportError` if there is no response. Both say whether the request may have taken
    effect.
    """
    received = response = None
    try:
        with server.timer.timeout(timeouts.attempt):
            received = await _send(session, server, request, authorization, timeouts)
            if on_status:
                on_status(received.status, received.headers)
            _log.debug("%s: %s", request.name, received.status)
            if request.reads or request.streams:
                response = await _value(request, received, authorization, timeouts)
        # The status is known, so the attempt's timeout no longer applies.
        return response or await _result(request, received, authorization)
    except (aiohttp.ClientResponseError, aiohttp.ClientConnectorError, aiohttp.ClientPayloadError) as error:
        failure = translate(error, request, authorization)
    except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
        raise translate(error, request, authorization) from error
    except ValueError as error:
        failure = ClientStateError(f"{request.name}: the aiohttp session cannot send it ({error})")
    finally:
        if received is not None and (response is None or response.media is None):
            received.release()
    # Without its cause, whose repr contains our headers, the server's text or the proxy's password.
    raise failure


async def _send(
    session: aiohttp.ClientSession,
    server: Server,
    request: wire.Request[Any],
    authorization: str,
    timeouts: Timeouts,
) -> AnyResponse:
    try:
        return await _sending(session, server, request, authorization, timeouts)
    except UnfitConnectionError:
        # Nothing was sent. From now on the session sends everything.
        return await _sending(session, server, request, authorization, timeouts)


def _sending(
    session: aiohttp.ClientSession,
    server: Server,
    request: wire.Request[Any],
    authorization: str,
    timeouts: Timeouts,
) -> Awaitable[AnyResponse]:
    """Return what sends the request: directly over the connections if possible, otherwise by the session."""
    limits = _limits(timeouts.connect)
    headers = _headers(request, authorization)
    if request.body is not None and not (request.reads or server.proxy):
        direct = direct_connections(session, request.body)
        if direct is not None:
            start = f"{request.method} {request.path}"
            return direct.send(server.url, start, headers, request.body, limits)
    return session.request(
        request.method,
        _located(server.url, request.path),
        data=request.body,
        headers=headers,
        allow_redirects=False,
        raise_for_status=False,
        timeout=limits,
        proxy=server.proxy,
        middlewares=_middlewares(session, request),
    )


def _headers(request: wire.Request[Any], authorization: str) -> dict[str, str]:
    headers = {
        "Authorization": authorization,
        "User-Agent": USER_AGENT,
        "Accept": "*/*" if request.streams else "application/json",
        # Nothing to decompress, so nothing can fail to decompress.
        "Accept-Encoding": "identity",
    }
    if request.content_type:
        headers["Content-Type"] = request.content_type
    return headers


def _located(base: URL, path: str) -> URL:
    # To replace the path of a parsed URL is much cheaper than to parse another URL.
    return URL(f"{base}{path}", encoded=True) if "?" in path else base.with_path(path, encoded=True)


@lru_cache(maxsize=16)
def _limits(connect: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=connect)


def _middlewares(
    session: aiohttp.ClientSession, request: wire.Request[Any]
) -> tuple[aiohttp.ClientMiddlewareType, ...] | None:
    """Return the middlewares for one request, or None for those of the session.

    aiohttp never repeats a POST. Where it does not tell the session's own middlewares, these have priority:
    then aiohttp may repeat a request that only reads, which changes nothing.
    """
    others = None if request.method == "POST" else middlewares_of(session)
    return None if others is None else (_without_repeats(request), *others)


def _without_repeats(request: wire.Request[Any]) -> aiohttp.ClientMiddlewareType:
    """Return a middleware that keeps aiohttp from repeating a request.

    The limiter and the retry policy decide what is sent again. aiohttp repeats after two kinds of errors
    only, so this turns them into our errors before aiohttp sees them.
    """

    async def send(one: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        try:
            return await handler(one)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            raise translate(error, request) from error

    return send


def translate(error: Exception, request: wire.Request[Any], authorization: str = "") -> BandwidthError:
    """Return our error for one of aiohttp's, and whether the request may have taken effect.

    ``authorization`` is the header that the request was sent with. aiohttp quotes what it cannot read.
    """
    if isinstance(error, aiohttp.ClientResponseError):
        # The error's own text contains the URL, and with it the proxy's password.
        reason = shown(f"{error.status} {error.message}", authorization, SENTENCE_LIMIT)
    else:
        reason = shown(str(error), authorization, SENTENCE_LIMIT) or type(error).__name__
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ServerFingerprintMismatch():
            return CertificateError(f"{request.name}: the server's certificate is not valid ({reason})")
        case aiohttp.ConnectionTimeoutError():
            return TransportError(f"{request.name}: no connection within the timeout")
        case aiohttp.ClientConnectorError():
            return TransportError(f"{request.name}: no connection ({wire.printable(str(error.os_error))})")
        case aiohttp.ClientHttpProxyError():
            return TransportError(f"{request.name}: no connection ({reason})")
        case NotSentError():
            return TransportError(f"{request.name}: {reason}", dropped=True)
        case aiohttp.ServerDisconnectedError() | ConnectionResetError() | BrokenPipeError():
            message, dropped = "the connection was closed before a response arrived", True
        case aiohttp.ClientOSError(errno=int(number)) if number in _RESET:
            message, dropped = "the connection was closed before a response arrived", True
        case TimeoutError():
            message, dropped = "no response within the timeout", False
        case _:
            message, dropped = f"no usable response ({reason})", False
    return TransportError(f"{request.name}: {message}", dropped=dropped, ambiguous=not request.safe)


async def _value(
    request: wire.Request[Any], received: AnyResponse, authorization: str, timeouts: Timeouts
) -> wire.Response | None:
    """Return the response with the body that is its value, or None if it is no success."""
    if isinstance(received, DirectResponse) or not 200 <= received.status < 300:
        return None
    response = wire.Response(status=received.status, headers=received.headers, authorization=authorization)
    if request.streams:
        response.media = Media(request.name, received, timeouts.attempt, authorization)
    else:
        response.body = await _read_all(received)
    return response


async def _result(request: wire.Request[Any], received: AnyResponse, authorization: str) -> wire.Response:
    """Return a success whose body only explains, or raise the error for any other status."""
    status, headers = received.status, received.headers
    # A 204 has no body.
    body = b"" if status == 204 else await _read_explanation(received)
    if 200 <= status < 300:
        return wire.Response(status=status, headers=headers, body=body, authorization=authorization)
    raise wire.error_from(request, status, headers, body, time.time(), authorization=authorization)


async def _read_all(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _BODY_LIMIT:
            raise TransportError(f"the response is longer than {_BODY_LIMIT} bytes")
    return bytes(body)


async def _read_explanation(response: AnyResponse) -> bytes:
    """Return as much of a body as arrives in time; it may be long, slow, cut or missing."""
    body = bytearray()
    try:
        async with asyncio.timeout(_ERROR_BODY_TIMEOUT):
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > _ERROR_BODY_LIMIT:
                    break
    except (aiohttp.ClientError, OSError):
        pass
    return bytes(body[:_ERROR_BODY_LIMIT])


def is_loopback(host: str) -> bool:
    """Return True if a host name or address is this machine's."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
