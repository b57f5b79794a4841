"""The connections of the client's own sessions: each request has one answer, or none."""

from __future__ import annotations

import asyncio
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any, cast

import aiohttp
from aiohttp import client as aiohttp_client
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError
from attrs import define

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp.connector import Connection
    from yarl import URL

    from bandwidth_async.hints import Headers

_ROOM = 64 * 1024  # bytes that are received at once
_FITS = aiohttp.__version__.startswith("3.14.")  # what the direct way takes of aiohttp is known for this one


def open_session() -> aiohttp.ClientSession:
    """Return a session as this client wants it: no cookies, no bound of its own. Needs a running loop."""
    return aiohttp.ClientSession(connector=Connections(), cookie_jar=aiohttp.DummyCookieJar())


def direct_way(session: aiohttp.ClientSession) -> Connections | None:
    """Return the connections of a session of ours, when a request may go over them without the session.

    It may not where somebody looks on or stands in: with tracing, or when a library for tests has put its own
    methods in the place of aiohttp's.
    """
    connections = session.connector
    if not _FITS or not isinstance(connections, Connections) or session.trace_configs:
        return None
    return connections if _is_genuine("request") and _is_genuine("_request") else None


def _is_genuine(name: str) -> bool:
    method = vars(aiohttp.ClientSession)[name]
    return type(method) is FunctionType and method.__globals__ is vars(aiohttp_client)


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
        # aiohttp has no public way to give connections a protocol; tests/test_wire_faults.py sees that it
        # works.
        protocol: Callable[..., ResponseHandler] = _OneAnswer
        self._factory = partial(protocol, loop=self._loop)
        self._servers: dict[URL, aiohttp.ClientRequest] = {}  # what aiohttp wants to see of where to connect

    async def send(
        self,
        server: URL,
        start: str,
        headers: Mapping[str, str],
        body: bytes,
        limits: aiohttp.ClientTimeout,
    ) -> Reply:
        """Send a request that starts with ``start`` (method and path) and return the answer to it.

        Of the limits only that of connecting counts. Raises what a session's ``request`` does.
        """
        to = self._servers.get(server) or self._servers.setdefault(
            server, aiohttp.ClientRequest("POST", server, loop=self._loop)
        )
        message = _message(start, to.headers["Host"], headers, body)
        try:
            connection = await self.connect(to, [], limits)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError(f"no connection to {server} in time") from error
        protocol = cast("_OneAnswer", connection.protocol)
        try:
            protocol.set_response_params(read_until_eof=True)
            protocol.send(message)
            while True:
                answer, content = await protocol.read()
                if answer.code >= 200 or answer.code == 101:
                    return Reply(answer.code, answer.headers, content, connection)
        except HttpProcessingError as error:
            connection.close()
            raise aiohttp.ClientResponseError(
                to.request_info, (), status=error.code, message=error.message
            ) from error
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


def _write(transport: asyncio.Transport, message: bytes) -> None:
    if not transport.is_closing():  # or whoever waits for the answer has been told
        transport.write(message)


class _OneAnswer(ResponseHandler):
    """A connection on which each request has one answer; whatever else comes closes it.

    aiohttp's parser forgets a 204 when it meets the bytes of a body right behind it, and what it receives
    on an idle connection it takes for the answer to the next request, which is about another conference.
    """

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
        if self.transport is None or self.transport.is_closing():
            raise aiohttp.ClientConnectionResetError("the connection was closed before the request")
        self._loop.call_soon(_write, self.transport, message)

    def set_response_params(self, **params: Any) -> None:
        """Begin to wait for an answer; aiohttp calls it ahead of each request."""
        self._awaited, self._body = True, None
        super().set_response_params(**params)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Take an answer whose headers are complete; a 1xx is not the answer yet."""
        message, self._body = data
        self._awaited = message.code < 200 and message.code != 101
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
