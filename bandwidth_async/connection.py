"""The session and its connections, as this client wants them: each request has one answer, or none."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_writer import StreamWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiohttp.connector import Connection

_SHORT_BODY = 4096  # bytes; less than a connection takes at once
_ROOM = 64 * 1024  # bytes that are received at once
_FITS = aiohttp.__version__.startswith("3.14.")  # `_PromptRequest` is known to fit this version only


def open_session() -> aiohttp.ClientSession:
    """Return a session as this client wants it: no cookies, no bound of its own. Needs a running loop."""
    connector = aiohttp.TCPConnector(limit=0)
    protocol: Callable[..., ResponseHandler] = _OneAnswer
    # aiohttp has no public way to give connections a protocol; tests/test_wire_faults.py sees that it works.
    connector._factory = partial(protocol, loop=asyncio.get_running_loop())
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        request_class=_PromptRequest if _FITS else aiohttp.ClientRequest,
    )


class _GatheringWriter(StreamWriter):
    """A writer whose bytes leave with those of all other requests that this turn of the event loop makes.

    A server or proxy on the same machine then is woken once for all of them, and not once for each: 12 % of
    an end's processor time, most of it in the kernel.
    """

    def _writelines(self, chunks: Iterable[Any]) -> None:
        transport = self.transport
        if transport is None or transport.is_closing():
            raise aiohttp.ClientConnectionResetError("the connection was closed before the request")
        self.loop.call_soon(_write, transport, b"".join(chunks))


def _write(transport: asyncio.Transport, message: bytes) -> None:
    if not transport.is_closing():  # or whoever waits for the answer has been told
        transport.write(message)


class _PromptRequest(aiohttp.ClientRequest):
    """A request that writes its body, when that is short, without a task: it would take 9 % of an end."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Write the request, and return what the answer will be read into."""
        body, protocol = self.body, conn.protocol
        short = isinstance(body, aiohttp.BytesPayload) and (body.size or 0) <= _SHORT_BODY
        if not short or self.proxy or protocol is None or protocol.writing_paused:
            return await super().send(conn)
        writer = _GatheringWriter(protocol, self.loop)
        await writer.write_headers(f"{self.method} {self.url.raw_path_qs} HTTP/1.1", self.headers)
        await self.write_bytes(writer, conn)
        return self.response_class(
            self.method,
            self.original_url,
            writer=None,
            continue100=None,
            timer=self._timer,
            request_info=self.request_info,
            traces=self._traces,
            loop=self.loop,
            session=self._session,
            stream_writer=writer,
        )


class _OneAnswer(ResponseHandler):
    """A connection on which each request has one answer; whatever else comes closes it.

    aiohttp's parser forgets a 204 when it meets the bytes of a body right behind it, and what it receives
    on an idle connection it takes for the answer to the next request, which is about another conference.
    """

    _awaited = False  # a request is out, and its answer's headers are not complete
    _body: aiohttp.StreamReader | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Have less received at once than asyncio would: 256 KiB are taken from the system for each answer.

        Most are 150 bytes long, and to take and give back the rest is up to 10 % of an end. (Over TLS it is
        asyncio's TLS that does so. A `BufferedProtocol` is no way out there: its reader drops bytes.)
        """
        super().connection_made(transport)
        if hasattr(transport, "max_size"):
            transport.max_size = _ROOM

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
