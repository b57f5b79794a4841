"""One connection: each request on it has one answer, or none.

The connections of a session, and what goes over them without the session.

The session as this client wants it, and whether a request may go past it.
"""

from __future__ import annotations

import asyncio
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError
from attrs import define

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace
    from yarl import URL

    from bandwidth_async.retry_after import Headers

_ROOM = 64 * 1024  # bytes that are received at once


def is_final(status: int) -> bool:
    """Say whether it is the answer's, and no news of what comes."""
    return not 100 <= status < 200 or status == 101


class OneAnswer(ResponseHandler):
    """A connection on which each request has one answer; whatever else comes closes it.

    aiohttp's parser forgets a 204 when it meets the bytes of a body right behind it, and what it receives
    on an idle connection it takes for the answer to the next request, which is about another conference.
    """

    used: bool = False  # for a request before
    unsent: bool = False  # a request is to be written, and none of it has been
    _awaited = False  # a request is out, and its answer's headers are not complete
    _body: aiohttp.StreamReader | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Have less received at once than asyncio would: 256 KiB are taken from the system for each answer.

        Most are 150 bytes long, and to take and give back the rest is a fifth of an end. (Over TLS it is
        asyncio's TLS that does so. A `BufferedProtocol` is no way out there: its reader drops bytes.)
        """
        super().connection_made(transport)
        if hasattr(transport, "max_size"):
            transport.max_size = _ROOM

    def send(self, message: bytes) -> None:
        """Write a request, together with those of all other connections in this turn of the event loop.

        A server or proxy on the same machine then is woken once for all of them, and not once for each, which
        is a fifth of an end, in the kernel.
        """
        # Two turns later: in the next one the event loop receives what lay there before, which is no answer.
        self.unsent, self._awaited = True, False
        self._loop.call_soon(self._loop.call_soon, self._write, message)

    def _write(self, message: bytes) -> None:
        transport = self.transport
        if transport is None or transport.is_closing():
            self.set_exception(aiohttp.ServerDisconnectedError())
            return
        self.unsent, self._awaited = False, True
        try:
            transport.write(message)
        except (OSError, RuntimeError) as error:
            self.set_exception(aiohttp.ClientOSError(str(error)), error)

    def set_response_params(self, **params: Any) -> None:
        """Begin to wait for an answer; aiohttp calls it ahead of each request."""
        self.used = self._awaited = True
        self._body = None
        super().set_response_params(**params)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Take an answer whose headers are complete; a 1xx is not the answer yet."""
        message, self._body = data
        self._awaited = not is_final(message.code)
        if message.code == 101:
            self.force_close()  # the server speaks something else from now on
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Parse headers line by line, so that nothing behind them can spoil them."""
        start, length = 0, len(data)
        if self._awaited and data.startswith(b"HTTP/") and data.find(b"\r\n\r\n") == length - 4:
            super().data_received(data)  # whole headers and nothing behind them, as it is nearly always
            return
        while self._awaited and start < length:
            end = data.find(b"\n", start) + 1 or length
            super().data_received(data[start:end])
            start = end if self.exception() is None else length
        rest = data[start:] if start else data
        if self._body is not None and not self._body.is_eof():
            super().data_received(rest)  # also without any, which is how aiohttp goes on after a pause
        elif rest:
            self.force_close()
            self.close()


class NotSentError(aiohttp.ClientConnectionError):
    """The connection was closed before anything of the request was written to it."""


@define
class Reply:
    """An answer that came the direct way, its body still to be read. Whoever takes it releases it."""

    status: int
    headers: Headers
    content: aiohttp.StreamReader
    _connection: Connection

    def release(self) -> None:
        """Give the connection back; it is closed when the body was not read to its end."""
        self._connection.release()


class Connections(aiohttp.TCPConnector):
    """The connections of a session, and the direct way over them, for requests that need no session.

    An end needs none: no redirect, cookie, proxy or form. Without what the session does for each request all
    the same, it takes half the processor's time.
    """

    def __init__(self) -> None:
        super().__init__(limit=0)
        self.plain = False  # whether the session does nothing to a request
        # aiohttp has no public way to give connections a protocol; tests/test_wire_faults.py sees that it
        # works.
        protocol: Callable[..., ResponseHandler] = OneAnswer
        self._factory = partial(protocol, loop=self._loop)
        self._servers: dict[URL, aiohttp.ClientRequest] = {}  # what aiohttp wants to see of where to connect

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  # as aiohttp calls it
    ) -> Connection:
        """Return a new connection, or one on which nothing has come unasked, not even just now."""
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = cast("OneAnswer", connection.protocol)
            if not protocol.used:
                return connection
            try:
                await asyncio.sleep(0)
                await asyncio.sleep(0)  # before this the event loop has received what lay there
            except BaseException:
                connection.close()
                raise
            if protocol.is_connected():
                return connection
            connection.close()

    async def send(
        self,
        server: URL,
        start: str,
        headers: Mapping[str, str],
        body: bytes,
        limits: aiohttp.ClientTimeout,
    ) -> Reply:
        """Send a request that starts with ``start`` (method and path) and return the answer to it.

        Of the limits only that of connecting counts. Raises what a session's ``request`` does, and
        `NotSentError`.
        """
        to = self._servers.get(server) or self._servers.setdefault(
            server, aiohttp.ClientRequest("POST", server, loop=self._loop)
        )
        message = _message(start, to.headers["Host"], headers, body)
        try:
            connection = await super().connect(to, [], limits)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError(f"no connection to {server} in time") from error
        protocol = cast("OneAnswer", connection.protocol)
        try:
            protocol.set_response_params(read_until_eof=True)
            protocol.send(message)
            while True:
                answer, content = await protocol.read()
                if is_final(answer.code):
                    return Reply(answer.code, answer.headers, content, connection)
        except HttpProcessingError as error:
            connection.close()
            raise aiohttp.ClientResponseError(
                to.request_info, (), status=error.code, message=error.message
            ) from error
        except aiohttp.ClientError as error:
            connection.close()
            if protocol.unsent:
                raise NotSentError("the connection was closed before the request") from error
            raise
        except BaseException:
            connection.close()
            raise


def _message(start: str, host: str, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"{start} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append(f"Content-Length: {len(body)}")
    if not "".join(lines).isprintable():
        raise ValueError("a header with a line break or the like in it")
    return "\r\n".join((*lines, "", "")).encode() + body


_SHORT_BODY = 4096  # bytes; less than a connection takes at once

# What a request by a session goes through. Tools for tests and tracing put their own in its place.
_KINDS = _SESSION, _REQUEST, _RESPONSE = aiohttp.ClientSession, aiohttp.ClientRequest, aiohttp.ClientResponse
_STATIONS = [
    (owner, name, getattr(owner, name, None))
    for owner, name in (
        (_SESSION, "request"),
        (_SESSION, "_request"),
        (_REQUEST, "send"),
        (_RESPONSE, "start"),
    )
]


def _is_genuine(method: object) -> bool:
    return type(method) is FunctionType and method.__globals__.get("__name__", "").startswith("aiohttp.")


# What the direct way takes of aiohttp is known for this version only.
_FITS = aiohttp.__version__.startswith("3.14.") and all(_is_genuine(method) for *_, method in _STATIONS)


def open_session() -> aiohttp.ClientSession:
    """Return a session as this client wants it: no cookies, no bound of its own. Needs a running loop."""
    connections = Connections()
    session = aiohttp.ClientSession(connector=connections, cookie_jar=aiohttp.DummyCookieJar())
    connections.plain = _is_plain(session)
    return session


def direct_way(session: aiohttp.ClientSession, body: bytes) -> Connections | None:
    """Return the connections of a session of ours, when a request may go over them without the session.

    It may not where somebody looks on or stands in, by tracing, by methods put in the place of aiohttp's or
    by settings that no session of ours is opened with; nor with a body that is not written all at once.
    """
    connections = session.connector
    if not _FITS or not isinstance(connections, Connections) or not connections.plain:
        return None
    for owner, name, method in _STATIONS:
        if getattr(owner, name) is not method:
            return None
    return connections if len(body) <= _SHORT_BODY else None


def _is_plain(session: aiohttp.ClientSession) -> bool:
    """Say whether a session does nothing to a request. Whoever patches how sessions are made changes that."""
    kinds = type(session), session._request_class, session._response_class
    changes = (
        session.headers,
        session.skip_auto_headers,
        session.auth,
        session.trust_env,
        session.trace_configs,
        session._default_proxy,
        session._middlewares,
    )
    return kinds == _KINDS and not any(changes)
