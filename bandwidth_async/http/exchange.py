"""One attempt: a request is sent over aiohttp, and its response is returned or raised as one of our errors.

aiohttp's exceptions do not leave this module. Also here: which URLs a client may send its requests to.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import math
import os
import platform
import socket
import time
import zlib
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeGuard

import aiohttp
from attrs import define, field, frozen
from multidict import CIMultiDict
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
    READING,
    DirectResponse,
    UnfitConnectionError,
    can_be_watched,
    direct_connections,
    middlewares_of,
    tell_when_written,
)
from bandwidth_async.http.delivery import Delivery, Trust
from bandwidth_async.http.proxy import Proxy, is_host
from bandwidth_async.media import Media
from bandwidth_async.server_text import SENTENCE_LIMIT, shown

try:
    import resource
except ImportError:
    resource = None  # type: ignore[assignment]  # Windows has none, and no such limit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bandwidth_async.http.timeouts import Timeouts, TimeoutTimer
    from bandwidth_async.retry_after import Headers

    AnyResponse = aiohttp.ClientResponse | DirectResponse

_log = logging.getLogger("bandwidth_async.http")

USER_AGENT = (
    f"bandwidth_async/{__version__} (aiohttp/{aiohttp.__version__}; python/{platform.python_version()})"
)
_HEADERS = {
    "User-Agent": USER_AGENT,
    "Accept": "application/json",
    # Nothing to decompress, so nothing can fail to decompress.
    "Accept-Encoding": "identity",
}
# Requests at once over a session without a limit. Most systems allow 1,024 file descriptors or more.
_CONNECTIONS = 512
# In bytes. A page of 1,000 conferences has about half a megabyte.
_BODY_LIMIT = 16 * 1024 * 1024
# In bytes. More of an error's body is not read.
_ERROR_BODY_LIMIT = 64 * 1024
# In seconds. The status of an error is known by then, and the status decides.
_ERROR_BODY_TIMEOUT = 2.0
_RESET = frozenset({errno.ECONNRESET, errno.EPIPE})
# Of this machine, and not of the server.
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# In seconds, until a connection may be free whose descriptor can be used.
_WAIT_FOR_DESCRIPTOR = 0.1
# In seconds, after the time of an attempt, which is how long another request may hold one.
_LONGEST_WAIT_FOR_DESCRIPTOR = 60.0
# What zlib is to recognize by itself, and what has no header to be recognized by.
_ZLIB_OR_GZIP, _RAW_DEFLATE = 47, -15


@frozen(kw_only=True)
class ResponseInfo:
    """What came with a value: the HTTP status, the headers, and the number of attempts."""

    status: int
    headers: Headers
    attempts: int


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


async def exchange(
    session: aiohttp.ClientSession,
    server: Server,
    request: wire.Request[Any],
    authorization: str,
    timeouts: Timeouts,
    *,
    on_status: Callable[[int, Headers], wire.Later | None] | None = None,
    delivery: Delivery | None = None,
) -> wire.Response:
    """Send a request once and return the response if its status is 2xx. `wire.Request.read` judges it.

    ``on_status`` is called with the status and headers before the body is read, and may return what they say
    of a later attempt. ``delivery`` tells, also if the request is cancelled, whether it may have arrived.
    Raises `APIError` for any other status and `TransportError` if there is no response. Both say whether the
    request may have taken effect.
    """
    delivery = delivery or Delivery()
    delivery.trust = server.trust
    received = response = None
    secrets = server.secrets(authorization)
    attempt = _Attempt(session, server, request, authorization, timeouts, delivery)
    try:
        received = await attempt.response()
        # In a tunnel it would be the server's.
        if received.status == 407 and server.proxy is not None and server.url.scheme == "http":
            raise server.proxy.refusal(407, received.headers, request.name, server.url, "407")
        told = on_status(received.status, received.headers) if on_status else None
        _log.debug("%s %s: %s", request.kind, request.subject, received.status)
        if request.reads or request.streams:
            with server.timer.timeout_at(attempt.until):
                response = await _value(request, received, secrets, timeouts)
        # The status is known, so neither the attempt's timeout nor the operation's deadline applies.
        return response or await _result(request, received, secrets, delivery, told)
    except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
        failure = _failure(error, request, server, secrets, unsent=delivery.unsent)
        cause = _cause(error)
    except ValueError as error:
        failure = ClientStateError(f"{request.name}: the aiohttp session cannot send it ({error})")
        cause = None
    finally:
        if received is not None and (response is None or response.media is None):
            received.release()
    raise failure from cause


def _cause(error: Exception) -> Exception | None:
    """Return an error if it may be the cause of ours: its repr may hold headers, server text or a proxy."""
    secret = (
        aiohttp.ClientResponseError,
        aiohttp.ClientConnectorError,
        aiohttp.ClientPayloadError,
        aiohttp.InvalidURL,
    )
    return None if isinstance(error, secret) else error


@define
class _Attempt:
    """One attempt to send a request."""

    session: aiohttp.ClientSession
    server: Server
    request: wire.Request[Any]
    authorization: str
    timeouts: Timeouts
    delivery: Delivery
    # Loop time at which its timeout ends.
    until: float = math.inf

    async def response(self) -> AnyResponse:
        """Return the response, or its status alone if nothing after its first line can be read."""
        server, delivery = self.server, self.delivery
        heard, since = -1, 0.0
        while True:
            self.until = server.timer.loop.time() + self.timeouts.attempt
            try:
                with server.timer.timeout_at(self.until):
                    received = await self._sending()
            except (UnfitConnectionError, DoubtedConnectionError):
                # Nothing was sent. After the first error the session sends everything, and each of the others
                # has closed a connection.
                continue
            except (aiohttp.ClientError, OSError, asyncio.CancelledError) as error:
                if not delivery.unsent:
                    return self._status_alone(error)
                _forget_addresses(self.session, server)
                if not _is_out_of_descriptors(error, server.trust):
                    raise
                delivery.obstacle = _failure(error, self.request, server, unsent=True)
                if heard != server.trust.heard:
                    heard, since = server.trust.heard, server.timer.loop.time()
                self._check_patience(since, delivery.obstacle)
            else:
                server.trust.on_response(delivery)
                return received
            await asyncio.sleep(_WAIT_FOR_DESCRIPTOR)

    def _check_patience(self, since: float, obstacle: BandwidthError) -> None:
        """Raise `ClientStateError` if no descriptor was free for any request since then (loop time)."""
        waited = self.server.timer.loop.time() - since
        if waited > self.timeouts.attempt + _LONGEST_WAIT_FOR_DESCRIPTOR:
            raise ClientStateError(
                f"{obstacle.message}: this process has had no file descriptor, port or buffer to spare"
                f" for {waited:.0f} s"
            )

    def _status_alone(self, error: BaseException) -> DirectResponse:
        """Return the status of a response that could not be read, or raise ``error``.

        The status counts whatever became of the rest, unless the body is what was asked for.
        """
        status = self.delivery.status
        if status is None:
            self.server.trust.on_no_response(self.delivery, error, self.server.timer.loop.time())
            raise error
        has_body = (self.request.reads or self.request.streams) and status < 300
        if has_body or self.delivery.was_stopped_by(error):
            raise error
        return DirectResponse(status, CIMultiDict())

    def _sending(self) -> Awaitable[AnyResponse]:
        """Return what sends it: directly over the connections if possible, otherwise by the session."""
        session, server, request = self.session, self.server, self.request
        limits = _limits(self.timeouts.connect)
        headers = {"Authorization": self.authorization, **_HEADERS}
        if request.streams:
            headers["Accept"] = "*/*"
        if request.content_type:
            headers["Content-Type"] = request.content_type
        if request.body is not None and not (request.reads or server.proxy):
            direct = direct_connections(session, request.body)
            if direct is not None:
                start = f"{request.method} {request.path}"
                return direct.send(
                    server.url, start, headers, request.body, limits=limits, delivery=self.delivery
                )
        return self._by_session(headers, limits)

    async def _by_session(self, headers: dict[str, str], limits: aiohttp.ClientTimeout) -> AnyResponse:
        request, server = self.request, self.server
        proxy, proxy_headers = (server.proxy.url, server.proxy.headers) if server.proxy else (None, None)
        if proxy_headers and server.url.scheme == "http":
            # aiohttp sends the headers for a proxy only where it asks for a tunnel.
            headers |= proxy_headers
        try:
            return await self.session.request(
                request.method,
                _located(server.url, request.path),
                data=request.body,
                headers=headers,
                allow_redirects=False,
                raise_for_status=False,
                timeout=limits,
                proxy=proxy,
                proxy_headers=proxy_headers,
                middlewares=self._middlewares(),
                **READING,
            )
        except _NotToRepeatError as error:
            raise error.cause from None

    def _middlewares(self) -> tuple[aiohttp.ClientMiddlewareType, ...] | None:
        """Return the middlewares for the request, or None for those of the session.

        Where aiohttp does not tell the session's own middlewares, these have priority. Then aiohttp may
        repeat a request that only reads, and it is not known whether a request has left.
        """
        others = middlewares_of(self.session)
        if others is None:
            return None
        return (_without_repeats, *others, _watching(self.server, self.delivery))


def _is_out_of_descriptors(error: BaseException, trust: Trust) -> TypeGuard[Exception]:
    """Return True if this machine has no descriptor, port or buffer for one more connection.

    That is no failure of the server. The connections that are open will soon be free.
    """
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if not isinstance(cause, OSError):
        return False
    if cause.errno == errno.EADDRNOTAVAIL:
        # No port is free, or the server's address is of a kind that this machine does not have.
        return trust.heard > 0
    return cause.errno in _EXHAUSTED or (isinstance(cause, socket.gaierror) and not _can_open())


def _can_open() -> bool:
    """Return False if there is no descriptor left: a name look-up does not tell why it failed."""
    try:
        socket.socket().close()
    except OSError as error:
        return error.errno not in _EXHAUSTED
    return True


def _forget_addresses(session: aiohttp.ClientSession, server: Server) -> None:
    """Have the name of the server looked up again: it may have moved."""
    connector, url = session.connector, server.proxy.url if server.proxy else server.url
    if not isinstance(connector, aiohttp.TCPConnector) or not url.raw_host:
        return
    if server.trust.may_forget_addresses(server.timer.loop.time()):
        connector.clear_dns_cache(url.raw_host, url.port)


def _located(base: URL, path: str) -> URL:
    # To replace the path of a parsed URL is much cheaper than to parse another URL.
    return URL(f"{base}{path}", encoded=True) if "?" in path else base.with_path(path, encoded=True)


@lru_cache(maxsize=16)
def _limits(connect: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=connect)


class DoubtedConnectionError(aiohttp.ClientConnectionError):
    """The connection is an old one that may be dead, so nothing was sent over it."""


def _watching(server: Server, delivery: Delivery) -> aiohttp.ClientMiddlewareType:
    """Return a middleware that notes when a request is written, and refuses connections that may be dead.

    It is the last one, so that what others do to a request comes before it.
    """

    async def watch(one: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        if not can_be_watched():
            return await handler(one)
        send = one.send

        async def noted(connection: Any) -> aiohttp.ClientResponse:
            if server.trust.doubts(connection.protocol):
                raise DoubtedConnectionError("an old connection that may be dead")
            tell_when_written(connection, delivery, server.timer.loop.time())
            return await send(connection)

        delivery.is_watched = True
        # There is no public way to learn when it is written.
        setattr(one, "send", noted)  # noqa: B010  # mypy does not let a method be assigned
        try:
            return await handler(one)
        finally:
            del one.send

    return watch


class _NotToRepeatError(Exception):
    """Hides an error of aiohttp's from aiohttp."""

    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause


async def _without_repeats(
    one: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from repeating a request: a middleware.

    The limiter and the retry policy decide what is sent again. aiohttp repeats after two kinds of errors
    only, so these are hidden from it.
    """
    try:
        return await handler(one)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _NotToRepeatError(error) from None


def _failure(
    error: Exception, request: wire.Request[Any], server: Server, secrets: str = "", *, unsent: bool
) -> BandwidthError:
    """Return our error for one of aiohttp's on the way to a server: a proxy's, or that of `translate`."""
    failure = translate(error, request, secrets, unsent=unsent)
    if isinstance(error, aiohttp.ClientConnectorDNSError) and error.host == server.url.raw_host:
        variables = f"BW_{server.setting.upper()} or BW_ENVIRONMENT"
        behind = "" if server.proxy else "; if only a proxy knows it, name the proxy (HTTPS_PROXY)"
        failure.args = (f"{failure.message}; {server.setting}, {variables} sets it{behind}",)
    if server.proxy is None:
        return failure
    if unsent:
        failure.args = (f"{failure.message}, through {server.proxy}",)
    return server.proxy.failure(error, request.name, server.url, _reason(error, secrets)) or failure


def translate(
    error: Exception, request: wire.Request[Any], authorization: str = "", *, unsent: bool = False
) -> BandwidthError:
    """Return our error for one of aiohttp's, and whether the request may have taken effect.

    ``authorization`` is the header that the request was sent with: aiohttp quotes what it cannot read.
    ``unsent`` says that nothing of the request can have left.
    """
    reason = _reason(error, authorization)
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ServerFingerprintMismatch():
            return CertificateError(f"{request.name}: the server's certificate is not valid ({reason})")
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return ClientStateError(f"{request.name}: the URL of the server or of its proxy is not valid")
        case aiohttp.ConnectionTimeoutError():
            return TransportError(f"{request.name}: no connection within the timeout")
        case aiohttp.ClientConnectorError() | aiohttp.ClientHttpProxyError():
            return TransportError(f"{request.name}: no connection{_whereto(error)} ({reason})")
        case aiohttp.ServerDisconnectedError() | ConnectionResetError() | BrokenPipeError():
            dropped = True
        case aiohttp.ClientOSError():
            # Without a number, aiohttp found the connection closed when it was about to write.
            dropped = error.errno in _RESET or (unsent and error.errno is None)
        case _:
            dropped = False
    if dropped:
        message = f"the connection was closed before {'the request' if unsent else 'a response arrived'}"
    elif isinstance(error, TimeoutError):
        message = f"no {'connection' if unsent else 'response'} within the timeout"
    else:
        message = f"no {'connection' if unsent else 'usable response'} ({reason})"
    ambiguous = not (request.safe or unsent)
    return TransportError(f"{request.name}: {message}", dropped=dropped, ambiguous=ambiguous)


def _whereto(error: aiohttp.ClientError) -> str:
    match error:
        case aiohttp.ClientConnectorDNSError():
            return f", as the name of the host {error.host} cannot be resolved"
        case aiohttp.ClientConnectorError():
            host = f"[{error.host}]" if ":" in error.host else error.host
            return f" to {host}:{error.port}"
        case _:
            return ""


def _reason(error: Exception, authorization: str) -> str:
    """Return what the operating system, TLS or aiohttp's parser says, or the type of the error.

    The text of other errors may contain a URL, and with it the proxy's password.
    """
    match error:
        case aiohttp.ClientHttpProxyError():
            text = f"{error.status} {error.message}"
        case aiohttp.ClientResponseError():
            # Its status is the parser's own, and not the server's.
            text = error.message
        case aiohttp.ClientConnectorCertificateError():
            error = error.certificate_error
            text = str(error)
        case aiohttp.ClientConnectorError():
            error = error.os_error
            text = str(error)
        case OSError():
            text = error.strerror or ""
        case _:
            text = ""
    return shown(text, authorization, SENTENCE_LIMIT) or type(error).__name__


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


async def _result(
    request: wire.Request[Any],
    received: AnyResponse,
    authorization: str,
    delivery: Delivery,
    told: wire.Later | None,
) -> wire.Response:
    """Return a success whose body only explains, or raise the error for any other status."""
    status, headers = received.status, received.headers
    # A 204 has no body.
    body = b"" if status == 204 else await _read_explanation(received, delivery)
    if 200 <= status < 300:
        return wire.Response(
            status=status,
            headers=headers,
            body=body or b"",
            is_readable=body is not None,
            authorization=authorization,
        )
    raise wire.error_from(
        request, status, headers, body or b"", time.time(), authorization=authorization, told=told
    )


async def _read_all(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _BODY_LIMIT:
            raise TransportError(f"the response is longer than {_BODY_LIMIT} bytes")
    unpacked = _unpacked(bytes(body), response.headers, _BODY_LIMIT)
    if unpacked is None:
        raise TransportError("the response is packed in a way that was not asked for, and cannot be unpacked")
    return unpacked


async def _read_explanation(response: AnyResponse, delivery: Delivery) -> bytes | None:
    """Return as much of a body as arrives in time; it may be long, slow, cut or missing.

    Returns None if there is a body, or may be one, of which nothing can be read.
    """
    if response.content is None:
        return None
    body, is_cut = bytearray(), False
    try:
        async with asyncio.timeout(_ERROR_BODY_TIMEOUT):
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > _ERROR_BODY_LIMIT:
                    break
    except (aiohttp.ClientError, OSError):
        is_cut = True
    except asyncio.CancelledError as error:
        if delivery.was_stopped_by(error):
            raise
        is_cut = True
    if is_cut and not body:
        return None
    return _unpacked(bytes(body[:_ERROR_BODY_LIMIT]), response.headers, _ERROR_BODY_LIMIT, cut=True)


def _unpacked(body: bytes, headers: Headers, limit: int, *, cut: bool = False) -> bytes | None:
    """Return a body without its content coding, or None if it cannot be unpacked.

    No coding is asked for, but some gateways pack all the same. Only a body that may be ``cut`` is unpacked
    in part.
    """
    coding = headers.get("Content-Encoding", "").strip().lower()
    if not body or coding in {"", "identity"}:
        return body
    if coding not in {"gzip", "x-gzip", "deflate"}:
        return None
    for format_ in (_ZLIB_OR_GZIP, _RAW_DEFLATE):
        decompressor = zlib.decompressobj(format_)
        with suppress(zlib.error):
            unpacked = decompressor.decompress(body, limit)
            if cut or decompressor.eof:
                return unpacked
    return None


def is_loopback(host: str) -> bool:
    """Return True if a host name or address is this machine's."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
