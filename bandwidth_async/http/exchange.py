"""One attempt: a request is sent over aiohttp, and its response is returned or raised as one of our errors.

aiohttp's exceptions do not leave this module.
"""

from __future__ import annotations

import asyncio
import errno
import math
import platform
import socket
import time
import zlib
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeGuard

import aiohttp
from attrs import define, frozen
from multidict import CIMultiDict
from yarl import URL

from bandwidth_async import wire
from bandwidth_async._version import __version__
from bandwidth_async.errors import (
    BandwidthError,
    CertificateError,
    ClientStateError,
    TransportError,
)
from bandwidth_async.http.connections import (
    READING,
    DirectResponse,
    can_be_watched,
    direct_connections,
    middlewares_of,
    tell_when_written,
)
from bandwidth_async.http.delivery import Delivery, Trust, UnfitConnectionError
from bandwidth_async.media import Media
from bandwidth_async.server_text import SENTENCE_LIMIT, shown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from bandwidth_async.http.server import Server
    from bandwidth_async.http.timeouts import Timeouts
    from bandwidth_async.retry_after import Headers

    AnyResponse = aiohttp.ClientResponse | DirectResponse

USER_AGENT = (
    f"bandwidth_async/{__version__} (aiohttp/{aiohttp.__version__}; python/{platform.python_version()})"
)
_HEADERS = {
    "User-Agent": USER_AGENT,
    "Accept": "application/json",
    # Nothing to decompress, so nothing can fail to decompress.
    "Accept-Encoding": "identity",
}
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


def exchange(
    session: aiohttp.ClientSession,
    server: Server,
    request: wire.Request[Any],
    authorization: str,
    timeouts: Timeouts,
    *,
    on_status: Callable[[int, Headers], wire.Later | None] | None = None,
    delivery: Delivery | None = None,
) -> Coroutine[Any, Any, wire.Response]:
    """Send a request once and return the response if its status is 2xx. `wire.Request.read` judges it.

    ``on_status`` is called with the status and headers before the body is read, and may return what they say
    of a later attempt. ``delivery`` tells, also if the request is cancelled, whether it may have arrived.
    Raises `APIError` for any other status and `TransportError` if there is no response. Both say whether the
    request may have taken effect.
    """
    delivery = delivery or Delivery()
    delivery.trust = server.trust
    return _Attempt(session, server, request, authorization, timeouts, on_status, delivery).complete()


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
    on_status: Callable[[int, Headers], wire.Later | None] | None
    delivery: Delivery
    # What the headers say of a later attempt.
    told: wire.Later | None = None
    # Loop time at which its timeout ends.
    until: float = math.inf
    # When this process first had nothing to spare for it, and the number of the server's last response then.
    obstructed: tuple[float, int] = (0.0, -1)

    async def complete(self) -> wire.Response:
        """Send the request, and return the response or raise one of our errors."""
        server, received, response = self.server, None, None
        try:
            while received is None:
                self.until = server.timer.loop.time() + self.timeouts.attempt
                try:
                    with server.timer.timeout_at(self.until):
                        received = await self._sending()
                except (aiohttp.ClientError, OSError, asyncio.CancelledError) as error:
                    received = await self._after(error)
                else:
                    server.trust.on_response(self.delivery)
            response = self._without_body(received) or await self._with_body(received)
        except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
            secrets = server.secrets(self.authorization)
            failure = _failure(error, self.request, server, secrets, unsent=self.delivery.unsent)
            cause = _cause(error)
        except ValueError as error:
            failure = ClientStateError(f"{self.request.name}: the aiohttp session cannot send it ({error})")
            cause = None
        else:
            return response
        finally:
            if received is not None and (response is None or response.media is None):
                received.release()
        raise failure from cause

    def _without_body(self, received: AnyResponse) -> wire.Response | None:
        """Tell the status of what was received, and return it as a response if it has no body."""
        request, server, status = self.request, self.server, received.status
        # In a tunnel it would be the server's.
        if status == 407 and server.proxy is not None and server.url.scheme == "http":
            raise server.proxy.refusal(407, received.headers, request.name, server.url, "407")
        if self.on_status is not None:
            self.told = self.on_status(status, received.headers)
        if status != 204 or request.streams:
            return None
        return wire.Response(
            status=status, headers=received.headers, authorization=server.secrets(self.authorization)
        )

    async def _with_body(self, received: AnyResponse) -> wire.Response:
        """Return what was received as a response, or raise the error for its status."""
        request, status, headers = self.request, received.status, received.headers
        secrets, is_good = self.server.secrets(self.authorization), 200 <= status < 300
        response = wire.Response(status=status, headers=headers, authorization=secrets)
        if is_good and (request.reads or request.streams) and not isinstance(received, DirectResponse):
            with self.server.timer.timeout_at(self.until):
                if request.streams:
                    response.media = Media(request.name, received, self.timeouts.attempt, secrets)
                else:
                    response.body = await _read_all(received)
            return response
        # The status is known, so neither the attempt's timeout nor the operation's deadline applies.
        body = await _read_explanation(received, self.delivery)
        response.is_readable, response.body = body is not None, body or b""
        if not is_good:
            raise wire.error_from(
                request, status, headers, response.body, time.time(), authorization=secrets, told=self.told
            )
        return response

    async def _after(self, error: Exception | asyncio.CancelledError) -> DirectResponse | None:
        """Return None if the request is to be sent again, or the status of a response that cannot be read.

        Raises ``error`` otherwise.
        """
        server, delivery = self.server, self.delivery
        # One connection is closed then, or the session sends everything from now on.
        if isinstance(error, UnfitConnectionError):
            return None
        if not delivery.unsent:
            return self._status_alone(error)
        _forget_addresses(self.session, server)
        if not _is_out_of_descriptors(error, server.trust):
            raise error
        delivery.obstacle = _failure(error, self.request, server, unsent=True)
        self._check_patience(delivery.obstacle)
        await asyncio.sleep(_WAIT_FOR_DESCRIPTOR)
        return None

    def _check_patience(self, obstacle: BandwidthError) -> None:
        """Raise `ClientStateError` if nothing was to spare for any request for too long."""
        now, heard = self.server.timer.loop.time(), self.server.trust.heard
        if self.obstructed[1] != heard:
            self.obstructed = now, heard
        waited = now - self.obstructed[0]
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
        request, server = self.request, self.server
        limits = _limits(self.timeouts.connect)
        if request.body is not None and not (request.reads or server.proxy):
            direct = direct_connections(self.session, request.body)
            if direct is not None:
                return direct.send(
                    server.url,
                    f"{request.method} {request.path}",
                    self._headers,
                    request.body,
                    key=(self.authorization, request.content_type),
                    limits=limits,
                    delivery=self.delivery,
                )
        return self._by_session(self._headers(), limits)

    def _headers(self) -> dict[str, str]:
        request = self.request
        headers = {"Authorization": self.authorization, **_HEADERS}
        if request.streams:
            headers["Accept"] = "*/*"
        if request.content_type:
            headers["Content-Type"] = request.content_type
        return headers

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
                raise UnfitConnectionError("it is an old one that may be dead")
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
