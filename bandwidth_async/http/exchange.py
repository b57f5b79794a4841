"""One request over aiohttp: sent, answered or translated into our errors. aiohttp's exceptions end here."""

from __future__ import annotations

import asyncio
import base64
import errno
import ipaddress
import logging
import platform
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
from attrs import frozen
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
from bandwidth_async.http.connections import NotSentError, Reply, direct_way
from bandwidth_async.media import Media

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bandwidth_async.http.timeouts import Timeouts, Watchdog
    from bandwidth_async.retry_after import Headers

_log = logging.getLogger("bandwidth_async.http")

USER_AGENT = (
    f"bandwidth_async/{__version__} (aiohttp/{aiohttp.__version__}; python/{platform.python_version()})"
)
_CONNECTIONS = 512  # at once, so that file descriptors last
_ANSWER_LIMIT = 16 * 1024 * 1024  # bytes; a page of 1,000 conferences is about half of one
_ERROR_LIMIT = 64 * 1024  # bytes of an error's body that are read
_GONE = frozenset({errno.ECONNRESET, errno.EPIPE})
_ERROR_TIMEOUT = 2.0  # seconds for an error's body: its status is what counts


@frozen(kw_only=True)
class ResponseInfo:
    """What came with a call's value: the HTTP status, the headers, and the attempts that were made."""

    status: int
    headers: Headers
    attempts: int


def origin(url: str, name: str, *, allow_http: bool) -> URL:
    """Return ``url`` as scheme, host and port.

    Raises `ConfigurationError` for anything more, and for plain http to other machines than this one.
    """
    try:
        parsed = URL(url)
        host = parsed.host
    except ValueError:
        host = None
    if host is None or parsed.scheme not in {"http", "https"}:
        shown = "" if "@" in url else f", not {url!r}"
        raise ConfigurationError(f"{name} must look like https://host or https://host:port{shown}")
    if parsed.path not in {"", "/"} or parsed.raw_query_string or parsed.raw_fragment or parsed.user:
        raise ConfigurationError(
            f"{name} is scheme and host only, as in {parsed.origin()}; leave out the rest"
        )
    if parsed.scheme == "http" and not allow_http and not _is_loopback(host):
        raise ConfigurationError(
            f"{name} is plain http, which would show the credentials on the way; use https"
        )
    return parsed.origin()


def connections_of(session: aiohttp.ClientSession | None) -> int:
    """Return how many requests may be out at once: what a given session bounds, less one for the token."""
    limit = session.connector.limit if session is not None and session.connector is not None else 0
    return max(1, limit - 1) if limit else _CONNECTIONS


def proxy_from_environment(base: URL) -> str | None:
    """Return the proxy that ``HTTPS_PROXY`` and its like name for ``base``, unless ``NO_PROXY`` exempts it.

    aiohttp's own ``trust_env`` is not used: it would also read ``.netrc``, whose credentials are not ours.
    """
    if proxy_bypass(base.host or ""):
        return None
    return getproxies().get(base.scheme)


async def exchange(
    session: aiohttp.ClientSession,
    base: URL,
    request: wire.Request[Any],
    authorization: str,
    timeouts: Timeouts,
    *,
    watchdog: Watchdog,
    proxy: str | URL | None = None,
    on_status: Callable[[int, Headers], None] | None = None,
) -> wire.Response:
    """Send ``request`` once and return the success it is answered with.

    ``watchdog`` keeps the time. ``on_status`` hears of the answer before its body is read. Raises `APIError`
    for any other answer, `TransportError` when there is none; both say whether the request may have taken
    effect.
    """
    response = answer = None
    try:
        with watchdog.guard(timeouts.attempt):
            response = await _sending(session, base, request, authorization, timeouts, proxy=proxy)
            if on_status:
                on_status(response.status, response.headers)
            _log.debug("%s: %s", request.name, response.status)
            if 200 <= response.status < 300:
                answer = await _success(request, response, timeouts)
                return answer
        raise await _refusal(request, response, authorization)  # bounded by itself: the status is known
    except (aiohttp.ClientResponseError, aiohttp.ClientConnectorError) as error:
        failure = translate(error, request)
    except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
        raise translate(error, request) from error
    except ValueError as error:
        failure = ClientStateError(f"{request.name}: the aiohttp session cannot send it ({error})")
    finally:
        if response is not None and (answer is None or answer.media is None):
            response.release()
    raise failure  # without the cause, whose repr holds our headers or the proxy's password


def _sending(
    session: aiohttp.ClientSession,
    base: URL,
    request: wire.Request[Any],
    authorization: str,
    timeouts: Timeouts,
    *,
    proxy: str | URL | None,
) -> Awaitable[aiohttp.ClientResponse | Reply]:
    """Return what sends the request: directly over the connections where nothing speaks against it."""
    limits = _limits(timeouts.connect)
    headers = {
        "Authorization": authorization,
        "User-Agent": USER_AGENT,
        "Accept": "*/*" if request.streams else "application/json",
        "Accept-Encoding": "identity",  # nothing to unpack, nothing that can fail to unpack
    }
    if request.content_type:
        headers["Content-Type"] = request.content_type
    if request.body is not None and not (request.reads or proxy):
        direct = direct_way(session, request.body)
        if direct is not None:
            return direct.send(base, f"{request.method} {request.path}", headers, request.body, limits)
    return session.request(
        request.method,
        _located(base, request.path),
        data=request.body,
        headers=headers,
        allow_redirects=False,
        raise_for_status=False,
        timeout=limits,
        proxy=proxy,
        middlewares=None if request.method == "POST" else (_unrepeated(request), *session._middlewares),
    )


def _located(base: URL, path: str) -> URL:
    # To take the base with another path saves most of what parsing a URL costs.
    return URL(f"{base}{path}", encoded=True) if "?" in path else base.with_path(path, encoded=True)


@lru_cache(maxsize=16)
def _limits(connect: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=connect)


def _unrepeated(request: wire.Request[Any]) -> aiohttp.ClientMiddlewareType:
    """Keep aiohttp from repeating a request by itself, which it does unless it is a POST.

    What is sent again is for the limiter and the retry rules to decide. It repeats after two kinds of error
    only, so they are made ours before it sees them.
    """

    async def send(one: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        try:
            return await handler(one)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            raise translate(error, request) from error

    return send


def translate(error: Exception, request: wire.Request[Any]) -> BandwidthError:
    """Return our error for one of aiohttp's, with what it means for the request."""
    if isinstance(error, aiohttp.ClientResponseError):
        reason = wire.printable(f"{error.status} {error.message}")  # its own text has the proxy's password
    else:
        reason = wire.printable(str(error)) or type(error).__name__
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ServerFingerprintMismatch():
            return CertificateError(f"{request.name}: the server's certificate does not hold ({reason})")
        case aiohttp.ConnectionTimeoutError():
            return TransportError(f"{request.name}: no connection within the timeout")
        case aiohttp.ClientConnectorError():
            return TransportError(f"{request.name}: no connection ({wire.printable(str(error.os_error))})")
        case aiohttp.ClientHttpProxyError():
            return TransportError(f"{request.name}: no connection ({reason})")
        case NotSentError():
            return TransportError(f"{request.name}: {reason}", dropped=True)
        case aiohttp.ServerDisconnectedError() | ConnectionResetError() | BrokenPipeError():
            message, dropped = "the connection was closed before an answer", True
        case aiohttp.ClientOSError(errno=int(number)) if number in _GONE:
            message, dropped = "the connection was closed before an answer", True
        case TimeoutError():
            message, dropped = "no answer within the timeout", False
        case _:
            message, dropped = f"no usable answer ({reason})", False
    return TransportError(f"{request.name}: {message}", dropped=dropped, ambiguous=not request.safe)


async def _success(
    request: wire.Request[Any], response: aiohttp.ClientResponse | Reply, timeouts: Timeouts
) -> wire.Response:
    answer = wire.Response(status=response.status, headers=response.headers)
    if isinstance(response, Reply):
        return answer
    if request.streams:
        answer.media = Media(request.name, response, timeouts.attempt)
    elif request.reads:
        answer.body = await _read_all(response)
        answer.next_page = _next_page(response) if "Link" in response.headers else None
    return answer


async def _refusal(
    request: wire.Request[Any], response: aiohttp.ClientResponse | Reply, authorization: str
) -> BandwidthError:
    body = _without_secrets(await _read_error(response), authorization)
    return wire.error_from(request, response.status, response.headers, body, time.time())


async def _read_all(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _ANSWER_LIMIT:
            raise TransportError(f"the answer is longer than {_ANSWER_LIMIT} bytes")
    return bytes(body)


async def _read_error(response: aiohttp.ClientResponse | Reply) -> bytes:
    """Return what can be had of an error's body; it may be long, slow, cut or missing."""
    body = bytearray()
    try:
        async with asyncio.timeout(_ERROR_TIMEOUT):
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > _ERROR_LIMIT:
                    break
    except (aiohttp.ClientError, OSError):
        pass
    return bytes(body[:_ERROR_LIMIT])


def _without_secrets(body: bytes, authorization: str) -> bytes:
    """Blank out our own credentials: some servers and proxies quote what they were sent."""
    kind, _, shown = authorization.partition(" ")
    secrets = {shown}
    if kind == "Basic":
        secrets.add(base64.b64decode(shown).decode().partition(":")[2])
    for secret in secrets - {""}:
        body = body.replace(secret.encode(), b"***")
    return body


def _next_page(response: aiohttp.ClientResponse) -> URL | None:
    try:
        link = response.links.get("next")
    except ValueError as error:
        raise TransportError("the answer's link to the next page is not a URL") from error
    return URL(link["url"]) if link else None


def same_origin(one: URL, other: URL) -> bool:
    """Say whether scheme, host and port are the same; a usual port counts whether spelt out or not."""
    return (one.scheme, one.host, one.port) == (other.scheme, other.host, other.port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
