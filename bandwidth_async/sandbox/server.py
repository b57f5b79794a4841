"""The shell around the service: aiohttp.web reads requests and sends what was decided.

A handler runs until its answer is sent or its client has gone; stopping ends those that would run for
ever. There is one handler for every path: the service does the routing, since the order of its checks
is part of what it imitates.
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
from bandwidth_async.sandbox.delivery import Delivery, Manner
from bandwidth_async.sandbox.messages import Answer, Moment, Request
from bandwidth_async.sandbox.routes import Door
from bandwidth_async.sandbox.service import Service, Visit

_TRICKLE = 1.0
_PATIENCE = 0.1
"""Seconds that requests under way get, twice, when the server stops."""
_BACKLOG = 1024
_LINGER_NOT = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class Server:
    """One service on one address. ``latency`` is (shortest, longest) in seconds, drawn for each request."""

    def __init__(self, *, service: Service, latency: tuple[float, float], random: Random) -> None:
        self._service = service
        self._latency = latency
        self._random = random
        self._runner: web.ServerRunner | None = None  # changed in start() and stop()
        self._handlers: set[asyncio.Task[object]] = set()  # changed in _handle()

    async def start(self, host: str, port: int) -> int:
        """Serve on host and port, 0 for a free one, and return the port; raises `ConfigurationError`."""
        server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=_PATIENCE)
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
        """Stop serving; requests under way are cut off. Stopping twice is harmless."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
            await asyncio.gather(*self._handlers, return_exceptions=True)

    async def _handle(self, raw: web.BaseRequest) -> web.StreamResponse:
        task = cast("asyncio.Task[object]", asyncio.current_task())
        self._handlers.add(task)
        try:
            return await self._serve(raw)
        finally:
            self._handlers.discard(task)

    async def _serve(self, raw: web.BaseRequest) -> web.StreamResponse:
        visit = self._service.arrive(await _read(raw), _moment())
        try:
            await self._wait(visit)
            return await _send(raw, self._service.finish(visit, _moment()))
        finally:
            self._service.leave(visit)

    async def _wait(self, visit: Visit) -> None:
        shortest, longest = self._latency
        if longest == 0 or visit.door is Door.BACKSTAGE:
            return
        try:
            await asyncio.sleep(self._random.uniform(shortest, longest))
        except asyncio.CancelledError:
            self._service.abandon(visit)
            raise


def _moment() -> Moment:
    return Moment(now=asyncio.get_running_loop().time(), wall=datetime.now(UTC))


async def _read(raw: web.BaseRequest) -> Request:
    """Read the request to its end, or to aiohttp's limit of 1 MiB."""
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
    if delivery.manner is Manner.RESET:
        _reset(raw)
    if delivery.answer is None:
        await _for_ever()
    answer = delivery.answer
    if raw.method != "HEAD":
        if delivery.manner is Manner.SLOW:
            return await _trickle(raw, answer)
        if delivery.manner is Manner.CUT:
            return await _cut(raw, answer, delivery.length)
        if answer.stream is not None:
            return await _stream(raw, answer, answer.stream.blocks())
    return web.Response(status=answer.status, headers=answer.headers, body=answer.body)


def _reset(raw: web.BaseRequest) -> None:
    """Close the connection with a TCP reset: without lingering, else the kernel sends a polite FIN."""
    transport = cast("asyncio.Transport", raw.transport)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    transport.abort()


async def _for_ever() -> NoReturn:
    """Wait until aiohttp cancels the handler, because its client has gone or the server stops."""
    while True:
        await asyncio.get_running_loop().create_future()


async def _trickle(raw: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    response = await _begin(raw, answer)
    for block in answer.content.blocks():
        for byte in block:
            await response.write(bytes([byte]))
            await asyncio.sleep(_TRICKLE)
    return response


async def _stream(raw: web.BaseRequest, answer: Answer, blocks: Iterable[bytes]) -> web.StreamResponse:
    """Send the body, waiting for the client block by block, and giving other requests their turns."""
    response = await _begin(raw, answer)
    for block in blocks:
        await response.write(block)
        await asyncio.sleep(0)  # write() waits only while the client is slow
    return response


def _first(blocks: Iterable[bytes], length: int) -> Iterator[bytes]:
    """Yield the first ``length`` bytes of the blocks."""
    for block in blocks:
        yield block[:length]
        length -= len(block)
        if length <= 0:
            return


async def _cut(raw: web.BaseRequest, answer: Answer, length: int) -> web.StreamResponse:
    """Send the beginning of the body, then close: the client gets all of it and no more."""
    response = await _stream(raw, answer, _first(answer.content.blocks(), length))
    if raw.transport is not None:  # the client may have left meanwhile
        raw.transport.close()
    return response


async def _begin(raw: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    if answer.content.size is not None:  # else the body goes out in chunks
        response.content_length = answer.content.size
    await response.prepare(raw)
    return response
