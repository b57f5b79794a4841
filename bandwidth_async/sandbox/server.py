"""The HTTP server around the service: reads requests, and sends responses whole, slow, in part or not at all.

A handler runs until its response is sent or its client has left. Stopping the server cancels those that
would never end. One handler serves all paths. The service does the routing, because the order of its checks
is part of what it simulates.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from random import Random
from typing import NoReturn, cast
from urllib.parse import unquote

from aiohttp import web

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.sandbox.events import is_on_this_machine
from bandwidth_async.sandbox.faults import Delivery, SendMode
from bandwidth_async.sandbox.messages import Moment, Request, Response
from bandwidth_async.sandbox.routes import Api
from bandwidth_async.sandbox.service import Exchange, Service

_SECONDS_PER_SLOW_BYTE = 1.0
# aiohttp waits for requests in progress twice this long when the server stops.
_SHUTDOWN_TIMEOUT = 0.1
_BACKLOG = 1024
_NO_LINGER = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class Server:
    """Serves one service.

    ``latency`` is (shortest, longest) in seconds, random for each request. If it is not ``exposed``, a
    web page's request to a host that is not this machine gets 421 and does not count.
    """

    def __init__(
        self, *, service: Service, latency: tuple[float, float], random: Random, exposed: bool
    ) -> None:
        self._exposed = exposed
        self._service = service
        self._latency = latency
        self._random = random
        # Changed in start() and stop().
        self._runner: web.ServerRunner | None = None
        # Changed in _handle().
        self._handlers: set[asyncio.Task[object]] = set()

    async def start(self, host: str, port: int) -> int:
        """Serve on host and port, 0 for a free one, and return the port. Raises `ConfigurationError`."""
        server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_TIMEOUT)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port, backlog=_BACKLOG).start()
        except OSError as exc:
            await runner.cleanup()
            raise ConfigurationError(
                f"cannot serve on {host} port {port} ({exc}): choose another, or port 0"
            ) from exc
        self._runner = runner
        return int(runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop serving and cut off requests in progress. Stopping twice is harmless."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
            await asyncio.gather(*self._handlers, return_exceptions=True)

    async def _handle(self, raw: web.BaseRequest) -> web.StreamResponse:
        task = cast("asyncio.Task[object]", asyncio.current_task())
        self._handlers.add(task)
        try:
            if not self._exposed and _is_rebound(raw):
                return web.Response(status=421, text="this sandbox is at a loopback address only")
            return await self._serve(raw)
        finally:
            self._handlers.discard(task)

    async def _serve(self, raw: web.BaseRequest) -> web.StreamResponse:
        exchange = self._service.receive(await _read(raw), _moment())
        try:
            await self._wait(exchange)
            return await _send(raw, self._service.respond(exchange, _moment()))
        finally:
            self._service.release(exchange)

    async def _wait(self, exchange: Exchange) -> None:
        shortest, longest = self._latency
        if longest == 0 or exchange.api is Api.CONTROL:
            return
        try:
            await asyncio.sleep(self._random.uniform(shortest, longest))
        except asyncio.CancelledError:
            self._service.abandon(exchange)
            raise


def _is_rebound(raw: web.BaseRequest) -> bool:
    """Return whether a web page sent the request through a name of its own that leads here (DNS rebinding).

    Browsers send ``Origin`` with all that could change something. Other clients send none, and may come
    through a proxy or tunnel with a name of theirs.
    """
    try:
        return "Origin" in raw.headers and not is_on_this_machine(f"http://{raw.headers.get('Host', '')}/")
    except ValueError:
        return True


def _moment() -> Moment:
    return Moment(now=asyncio.get_running_loop().time(), wall=datetime.now(UTC))


async def _read(raw: web.BaseRequest) -> Request:
    """Read the request to its end, or to aiohttp's limit of 1 MiB for a body."""
    try:
        body: bytes | None = await raw.read()
    except web.HTTPRequestEntityTooLarge:
        body = None
    return Request(
        method=raw.method,
        segments=tuple(unquote(part) for part in raw.rel_url.raw_path.removeprefix("/").split("/")),
        query=raw.query,
        authorization=raw.headers.get("Authorization", ""),
        media_type=raw.headers.get("Content-Type", "").partition(";")[0].strip().lower(),
        body=body,
        base_url=f"{raw.scheme}://{raw.headers.get('Host', 'localhost')}",
    )


async def _send(raw: web.BaseRequest, delivery: Delivery) -> web.StreamResponse:
    if delivery.mode is SendMode.RESET:
        _reset(raw)
    if delivery.response is None:
        await _wait_for_ever()
    response = delivery.response
    if raw.method != "HEAD":
        if delivery.mode is SendMode.SLOW:
            return await _send_slowly(raw, response)
        if delivery.mode is SendMode.CUT:
            return await _send_in_part(raw, response, delivery.length)
        if response.stream is not None:
            return await _send_blocks(raw, response, response.stream.blocks())
    return web.Response(status=response.status, headers=response.headers, body=response.body)


def _reset(raw: web.BaseRequest) -> None:
    """Close the connection with a TCP reset. Without this socket option the kernel would send a FIN."""
    transport = cast("asyncio.Transport", raw.transport)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


async def _wait_for_ever() -> NoReturn:
    """Wait until aiohttp cancels the handler, because its client has left or the server stops."""
    while True:
        await asyncio.get_running_loop().create_future()


async def _send_slowly(raw: web.BaseRequest, response: Response) -> web.StreamResponse:
    stream = await _send_headers(raw, response)
    for block in response.content.blocks():
        for byte in block:
            await stream.write(bytes([byte]))
            await asyncio.sleep(_SECONDS_PER_SLOW_BYTE)
    return stream


async def _send_blocks(
    raw: web.BaseRequest, response: Response, blocks: Iterable[bytes]
) -> web.StreamResponse:
    stream = await _send_headers(raw, response)
    for block in blocks:
        await stream.write(block)
        # write() waits only if the client is slow. This lets the server handle other requests too.
        await asyncio.sleep(0)
    return stream


async def _send_in_part(raw: web.BaseRequest, response: Response, length: int) -> web.StreamResponse:
    """Send the first ``length`` bytes of the body, and close the connection once the client has them all."""
    stream = await _send_blocks(raw, response, _first_bytes(response.content.blocks(), length))
    # None if the client has left meanwhile.
    if raw.transport is not None:
        raw.transport.close()
    return stream


def _first_bytes(blocks: Iterable[bytes], length: int) -> Iterator[bytes]:
    for block in blocks:
        yield block[:length]
        length -= len(block)
        if length <= 0:
            return


async def _send_headers(raw: web.BaseRequest, response: Response) -> web.StreamResponse:
    stream = web.StreamResponse(status=response.status, headers=response.headers)
    # Without a known length the body is sent in chunks.
    if response.content.size is not None:
        stream.content_length = response.content.size
    await stream.prepare(raw)
    return stream
