"""One connection: each request on it has one answer, or none."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

_ROOM = 64 * 1024  # bytes that are received at once


def is_final(status: int) -> bool:
    """Say whether it is the answer's, and no news of what comes."""
    return not 100 <= status < 200 or status == 101


class OneAnswer(ResponseHandler):
    """A connection on which each request has one answer; whatever else comes closes it.

    aiohttp's parser forgets a 204 when it meets the bytes of a body right behind it, and what it receives
    on an idle connection it takes for the answer to the next request, which is about another conference.
    """

    used = False  # for a request before
    unsent = False  # a request is to be written, and none of it has been
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
