"""The connections of a session, and what goes over them without the session."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, cast

import aiohttp
from aiohttp.http import HttpProcessingError
from attrs import define

from bandwidth_async.connection.protocol import OneAnswer, is_final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace
    from yarl import URL

    from bandwidth_async.hints import Headers


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
