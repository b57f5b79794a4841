"""An ASGI application that receives webhooks. It needs nothing but an ASGI server."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.webhooks.events import BODY_LIMIT
from bandwidth_async.webhooks.reception import DEFAULT_CALLBACK_TIMEOUT, Reception, the_only

if TYPE_CHECKING:
    from bandwidth_async.webhooks.hub import Memory
    from bandwidth_async.webhooks.reception import BasicAuth, Receiver, Reply

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

_log = logging.getLogger("bandwidth_async.webhooks")


class _DisconnectedError(Exception):
    """The client disconnected before it had sent the whole request."""


def asgi_app(
    receive: Receiver,
    *,
    auth: BasicAuth | None,
    body_limit: int = BODY_LIMIT,
    memory: Memory | None = None,
    callback_timeout: float = DEFAULT_CALLBACK_TIMEOUT,
) -> Application:
    """Return an ASGI application that calls ``receive`` with the event of each request, on any path.

    The settings are those of `Reception`. You can serve the application alone (it answers ``lifespan``), or
    mount it in another. In Starlette and FastAPI a mount redirects a URL without a slash at the end. There a
    route is better: ``Route("/webhooks", asgi_app(…))``.

    A client that disconnects early gets no response, but ``receive`` still runs to its end. WebSockets are
    refused. Raises `ConfigurationError` for a setting that cannot work.
    """
    return _ReceivingApp(
        Reception(receive, auth=auth, body_limit=body_limit, memory=memory, callback_timeout=callback_timeout)
    )


class _ReceivingApp:
    """The application. It is no function, as Starlette and FastAPI would pass a request to that."""

    def __init__(self, reception: Reception) -> None:
        self._reception = reception

    def __repr__(self) -> str:
        return f"<asgi_app: {self._reception!r}>"

    def __deepcopy__(self, _: object) -> Self:
        """Return itself. Litestar copies its handlers, and ``receive`` is to be the caller's own."""
        return self

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await _serve(self._reception, scope, receive, send)
        elif scope["type"] == "lifespan":
            await _confirm_lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            raise ConfigurationError(f"webhooks come over http, not {scope['type']!r}")


async def _serve(reception: Reception, scope: Message, receive: Receive, send: Send) -> None:
    given = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
    try:
        reply = await reception.answer(
            method=scope["method"],
            authorization=the_only([value.decode("latin-1") for value in given]),
            query=scope.get("query_string", b"").decode("latin-1"),
            read=partial(_read, receive),
        )
        # HTTP/2 has no such header: one connection has many requests, and the server looks after it.
        await _send(reply, send, close=reply.closes and scope.get("http_version", "1.1") in {"1.0", "1.1"})
    except _DisconnectedError:
        _log.warning("a webhook request was cut off before its end")
    # Servers raise OSError when the client has disconnected.
    except OSError:
        _log.warning("the sender of a webhook disconnected before the response")


async def _read(receive: Receive, limit: int) -> bytes:
    body = bytearray()
    while len(body) <= limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _DisconnectedError
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return bytes(body)


async def _send(reply: Reply, send: Send, *, close: bool) -> None:
    headers = [(name.lower().encode(), value.encode()) for name, value in reply.headers.items()]
    if reply.status != 204:
        headers.append((b"content-length", str(len(reply.body)).encode()))
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


async def _confirm_lifespan(receive: Receive, send: Send) -> None:
    """Confirm startup and shutdown. There is nothing to prepare."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
