"""Receive webhooks in an aiohttp.web application. Import this module yourself: the package does not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from bandwidth_async.webhooks.events import BODY_LIMIT
from bandwidth_async.webhooks.reception import DEFAULT_CALLBACK_TIMEOUT, Reception, the_only

if TYPE_CHECKING:
    from bandwidth_async.webhooks.hub import Memory
    from bandwidth_async.webhooks.reception import BasicAuth, Receiver

# Seconds that a sender has to read a response that came before the end of its request.
_TO_BE_READ = 0.5

Handler = Callable[[web.Request], Awaitable[web.Response]]


def aiohttp_handler(
    receive: Receiver,
    *,
    auth: BasicAuth | None,
    body_limit: int = BODY_LIMIT,
    memory: Memory | None = None,
    callback_timeout: float = DEFAULT_CALLBACK_TIMEOUT,
) -> Handler:
    """Return a handler that calls ``receive`` with the event of each request.

    ``app.router.add_route("*", "/webhooks", aiohttp_handler(hub.publish, auth=BasicAuth(…)))``. The settings
    are those of `Reception`. The application's ``client_max_size`` has no effect here.
    """
    reception = Reception(
        receive, auth=auth, body_limit=body_limit, memory=memory, callback_timeout=callback_timeout
    )

    async def handle(request: web.Request) -> web.Response:
        reply = await reception.answer(
            method=request.method,
            authorization=the_only(request.headers.getall("Authorization", [])),
            query=request.rel_url.raw_query_string,
            read=partial(_read, request),
        )
        response = web.Response(status=reply.status, headers=reply.headers, body=reply.body or None)
        if reply.closes:
            await _send_and_close(request, response)
        return response

    return handle


async def _send_and_close(request: web.Request, response: web.Response) -> None:
    """Send a response and close the connection.

    aiohttp would go on to receive and unpack, for ten seconds, what nobody reads.
    """
    unread = not request.content.is_eof()
    # None if the sender has left.
    transport = request.transport
    if unread and transport is not None and transport.is_reading():
        transport.pause_reading()
    response.force_close()
    await response.prepare(request)
    await response.write_eof()
    if unread:
        # The kernel throws a response away that was not read when it closes a connection with unread data.
        await asyncio.sleep(_TO_BE_READ)
    request.protocol.force_close()


async def _read(request: web.Request, limit: int) -> bytes:
    """Read the body to its end, or past the limit. aiohttp handles a client that disconnects."""
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > limit:
            break
    return bytes(body)
