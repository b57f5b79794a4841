"""The ASGI application, driven as a server drives it: scope, receive, send."""

from __future__ import annotations

import asyncio
import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.webhooks import BasicAuth, Event, asgi_app, parse_event

if TYPE_CHECKING:
    from collections.abc import Callable

BODY = {
    "eventType": "conferenceMemberJoin",
    "eventTime": "2026-11-22T10:00:00Z",
    "conferenceId": "conf-1",
    "callId": "c-1",
}
CONTENT = json.dumps(BODY).encode()
BASIC = aiohttp.encode_basic_auth("bandwidth", "s3cret").encode()
GONE = {"type": "http.disconnect"}


def part(content: bytes, *, more: bool = False) -> dict[str, Any]:
    """Return a part of a request's body."""
    return {"type": "http.request", "body": content, "more_body": more}


def answer(status: int, *headers: tuple[bytes, bytes], body: bytes = b"") -> list[dict[str, Any]]:
    """Return the messages that the application should send."""
    length = [] if status == 204 else [(b"content-length", str(len(body)).encode())]
    # The rest of a request that was not read to its end is not waited for.
    close = [(b"connection", b"close")] if status in {401, 405, 408, 413} else []
    return [
        {"type": "http.response.start", "status": status, "headers": [*headers, *length, *close]},
        {"type": "http.response.body", "body": body},
    ]


class Server:
    """An ASGI server with one application that receives events."""

    def __init__(self, said: str | None = None, **settings: Any) -> None:
        self.received: list[Event] = []
        self.unread: list[dict[str, Any]] = []
        self._said = said
        self.app = asgi_app(self._receive, **{"auth": None, **settings})

    def _receive(self, event: Event) -> str | None:
        self.received.append(event)
        return self._said

    async def drive(self, scope: dict[str, Any], *messages: dict[str, Any]) -> list[Any]:
        """Run the application once, and return what it sent."""
        self.unread = list(messages)
        sent: list[Any] = []

        async def receive() -> Any:
            return self.unread.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        return sent

    async def post(self, *messages: dict[str, Any], **scope: Any) -> list[Any]:
        """Send a request."""
        whole = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": [], **scope}
        return await self.drive(whole, *messages)


async def test_a_post_is_an_event() -> None:
    """The response is 204, which has no length."""
    server = Server()
    assert await server.post(part(CONTENT)) == answer(204)
    assert server.received == [parse_event(BODY)]


async def test_a_body_may_come_in_parts() -> None:
    """The parts have any size, and may lack the keys that ASGI makes optional."""
    server = Server()
    parts = [part(CONTENT[at : at + 7], more=True) for at in range(0, len(CONTENT), 7)]
    assert await server.post(*parts, {"type": "http.request"}) == answer(204)
    assert server.received == [parse_event(BODY)]


async def test_a_get_is_an_event() -> None:
    """The event is in its percent-encoded query, and no body is read."""
    server = Server()
    query = "&".join(f"{name}={value}" for name, value in {**BODY, "tag": "gr%C3%BC%C3%9Fe"}.items())
    assert await server.post(part(b""), method="GET", query_string=query.encode()) == answer(204)
    assert server.received == [parse_event({**BODY, "tag": "grüße"})]
    assert server.unread == [part(b"")]


async def test_bxml_is_sent_as_xml() -> None:
    """The response has its length in bytes."""
    bxml = "<Bxml><SpeakSentence>Grüße</SpeakSentence></Bxml>"
    xml = (b"content-type", b"application/xml; charset=utf-8")
    assert await Server(bxml).post(part(CONTENT)) == answer(200, xml, body=bxml.encode())


async def test_the_challenge_comes_before_the_body() -> None:
    """The first request gets 401 and is not read; then the credentials come."""
    server = Server(auth=BasicAuth("bandwidth", "s3cret"))
    challenge = (b"www-authenticate", b'Basic realm="webhooks"')
    assert await server.post(part(CONTENT)) == answer(401, challenge)
    assert server.unread == [part(CONTENT)]
    wrong = [(b"authorization", b"Basic \xff\xfe")]
    assert await server.post(part(CONTENT), headers=wrong) == answer(401, challenge)
    assert server.received == []
    assert await server.post(part(CONTENT), headers=[(b"authorization", BASIC)]) == answer(204)
    assert server.received == [parse_event(BODY)]


async def test_a_body_is_read_to_the_limit_only() -> None:
    """It stops there, however much more there is."""
    server = Server(body_limit=10)
    plain = (b"content-type", b"text/plain; charset=utf-8")
    sent = await server.post(*(part(b"123456", more=True) for _ in range(5)))
    assert sent == answer(413, plain, body=b"more than 10 bytes")
    assert len(server.unread) == 3


async def test_refusals_have_their_status() -> None:
    """Neither a body without an event nor another method is accepted."""
    server = Server()
    assert (await server.post(part(b"{}")))[0]["status"] == 400
    assert await server.post(method="PUT") == answer(405, (b"allow", b"GET, POST"))


async def test_of_two_credentials_none_counts() -> None:
    """Whichever of them is right, and whatever their order."""
    server = Server(auth=BasicAuth("bandwidth", "s3cret"))
    right, wrong = (b"authorization", BASIC), (b"Authorization", b"Basic eDp5")
    for headers in ([right, wrong], [wrong, right], [right, right]):
        assert (await server.post(part(CONTENT), headers=headers))[0]["status"] == 401
    assert server.received == []


async def test_a_connection_of_http_2_is_not_closed() -> None:
    """HTTP/2 has no header for it."""
    sent = await Server().post(method="PUT", http_version="2")
    assert sent[0]["headers"] == [(b"allow", b"GET, POST"), (b"content-length", b"0")]


@pytest.mark.looptime
async def test_a_body_that_never_ends_is_given_up() -> None:
    """Bandwidth waits 15 seconds, so a body that takes longer is not of Bandwidth."""
    clock = asyncio.get_running_loop().time
    began, sent = clock(), []

    async def receive() -> Any:
        await asyncio.sleep(1)
        return part(b" ", more=True)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "query_string": b"", "headers": []}
    await Server().app(scope, receive, send)
    plain = (b"content-type", b"text/plain; charset=utf-8")
    assert sent == answer(408, plain, body=b"the request was not complete after 15 s")
    assert clock() - began == 15


async def test_a_sender_that_leaves_gets_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    """Half a body is no event, and no reason to fail."""
    server = Server()
    assert await server.post(part(CONTENT[:10], more=True), GONE) == []
    assert server.received == []
    assert caplog.messages == ["a webhook request was cut off before its end"]


async def test_an_answer_that_nobody_waits_for_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """ASGI servers raise an OSError then, but the receiver got the event all the same."""
    server = Server()

    async def receive() -> Any:
        return part(CONTENT)

    async def send(_: Any) -> None:
        raise BrokenPipeError

    await server.app({"type": "http", "method": "POST", "headers": []}, receive, send)
    assert server.received == [parse_event(BODY)]
    assert caplog.messages == ["the sender of a webhook disconnected before the response"]


async def test_it_can_be_cancelled_anywhere() -> None:
    """While it waits for the body it keeps nothing of the event."""
    server = Server()

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(_: Any) -> None:
        pass  # pragma: no cover

    task = asyncio.ensure_future(server.app({"type": "http", "method": "POST", "headers": []}, receive, send))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert await server.post(part(CONTENT)) == answer(204)


async def test_it_starts_and_stops_with_its_server() -> None:
    """It answers the lifespan protocol, so that it can be served alone."""
    events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    assert await Server().drive({"type": "lifespan"}, *events) == [
        {"type": "lifespan.startup.complete"},
        {"type": "lifespan.shutdown.complete"},
    ]


async def test_a_websocket_is_refused() -> None:
    """It is closed before it opens, for which servers answer 403."""
    sent = await Server().drive({"type": "websocket"}, {"type": "websocket.connect"})
    assert sent == [{"type": "websocket.close"}]


async def test_an_unknown_protocol_is_an_error() -> None:
    """ASGI asks applications to raise."""
    with pytest.raises(ConfigurationError, match="webhooks come over http, not 'gopher'"):
        await Server().drive({"type": "gopher"})


def _routed(app: Any, *, prefix: bool = False) -> Any:
    """Return a Starlette application with it."""
    routing = pytest.importorskip("starlette.routing", reason="starlette is not installed: group `test`")
    kind = routing.Mount if prefix else routing.Route
    return routing.Router([kind("/webhooks", app)])


def _of_fastapi(app: Any) -> Any:
    """Return a FastAPI application that includes a router with it."""
    fastapi = pytest.importorskip("fastapi", reason="fastapi is not installed: group `test`")
    outer, inner = fastapi.FastAPI(), fastapi.APIRouter()
    inner.add_route("/webhooks", app)
    outer.include_router(inner, prefix="/v1")
    return outer


def _of_litestar(app: Any) -> Any:
    """Return a Litestar application that includes a router with it, which copies it."""
    litestar = pytest.importorskip("litestar", reason="litestar is not installed: group `test`")
    handler = litestar.asgi("/webhooks", is_mount=True, copy_scope=True)(app)
    return litestar.Litestar([litestar.Router("/v1", route_handlers=[handler])], openapi_config=None)


@pytest.mark.parametrize(
    ("frame", "path"),
    [
        (_routed, "/webhooks"),
        (lambda app: _routed(app, prefix=True), "/webhooks/"),
        (_of_fastapi, "/v1/webhooks"),
        (_of_litestar, "/v1/webhooks"),
        (_of_litestar, "/v1/webhooks/"),
    ],
)
@pytest.mark.parametrize("root", ["", "/behind/a/proxy"])
async def test_a_framework_can_route_and_mount_it(frame: Callable[[Any], Any], path: str, root: str) -> None:
    """It gets the request itself and not an object of the framework, and its receiver is not copied."""
    server = Server()
    app = frame(server.app)
    scope = {"type": "http", "http_version": "1.1", "scheme": "http", "server": ("host", 80), "headers": []}
    scope |= {"path": root + path, "root_path": root, "query_string": b"", "raw_path": (root + path).encode()}
    sent: list[Any] = []

    async def receive() -> Any:
        return part(CONTENT)

    async def send(message: Any) -> None:
        sent.append(message)

    await app({**scope, "method": "POST"}, receive, send)
    await app({**scope, "method": "HEAD"}, receive, send)
    assert [message["status"] for message in sent[::2]] == [204, 405]
    assert server.received == [parse_event(BODY)]


def test_it_is_one_even_if_it_is_copied() -> None:
    """As a function is."""
    app = asgi_app(print, auth=None)
    assert deepcopy(app) is app
    assert repr(app) == "<asgi_app: <Reception: no credentials, 0 answers remembered>>"
