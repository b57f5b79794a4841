"""The aiohttp handler over real sockets, with a sender that behaves as Bandwidth does."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from bandwidth_async.webhooks import BasicAuth, ConferenceCompleted, Event, EventHub, parse_event, reception
from bandwidth_async.webhooks.aiohttp_handler import aiohttp_handler

AUTH = BasicAuth("bandwidth", "s3cret")
BODY = {
    "eventType": "conferenceCompleted",
    "eventTime": "2026-11-22T10:00:00Z",
    "conferenceId": "conf-1",
    "tag": "grüße & 100 % = +1",
}


class Bandwidth:
    """Delivers events as Bandwidth does: first without credentials, and with them when it is challenged."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.answers: list[tuple[int, str | None]] = []
        self._session = session

    async def deliver(self, event: dict[str, str], method: str = "POST") -> tuple[int, str, str]:
        """Send an event; return the status, media type and text of the last answer."""
        answer = await self._send(event, method, {})
        challenge = self.answers[-1][1]
        if answer[0] == 401 and challenge and challenge.startswith('Basic realm="'):
            basic = aiohttp.encode_basic_auth("bandwidth", "s3cret")
            answer = await self._send(event, method, {"Authorization": basic})
        return answer

    async def _send(
        self, event: dict[str, str], method: str, headers: dict[str, str]
    ) -> tuple[int, str, str]:
        how: dict[str, Any] = {"json": event} if method == "POST" else {"params": event}
        async with self._session.request(method, self.url, headers=headers, **how) as response:
            self.answers.append((response.status, response.headers.get("WWW-Authenticate")))
            return response.status, response.content_type, await response.text()


@asynccontextmanager
async def receiving(receive: Any, **settings: Any) -> AsyncIterator[Bandwidth]:
    """Serve a receiver, and yield a sender."""
    app = web.Application()
    app.router.add_route("*", "/webhooks", aiohttp_handler(receive, **{"auth": AUTH, **settings}))
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        yield Bandwidth(str(server.make_url("/webhooks")), session)


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_the_challenge_end_to_end(method: str) -> None:
    """401 without credentials, 204 with them, and the waiting task gets the event."""
    hub = EventHub()
    async with receiving(hub.publish) as bandwidth:
        assert (await bandwidth.deliver(BODY, method))[0] == 204
        assert bandwidth.answers == [(401, 'Basic realm="webhooks"'), (204, None)]
    assert await hub.completed("conf-1", deadline=0) == parse_event(BODY)


async def test_wrong_credentials_receive_nothing() -> None:
    """They are challenged again, and the hub gets no event."""
    received: list[Event] = []
    async with receiving(received.append, auth=BasicAuth("bandwidth", "other")) as bandwidth:
        assert (await bandwidth.deliver(BODY))[0] == 401
        assert bandwidth.answers == [(401, 'Basic realm="webhooks"')] * 2
    assert received == []


async def test_bxml_arrives_as_it_was_said() -> None:
    """It arrives as XML in UTF-8."""
    bxml = "<Response><SpeakSentence>Grüße</SpeakSentence></Response>"
    async with receiving(lambda _: bxml, auth=None) as bandwidth:
        created = {**BODY, "eventType": "conferenceCreated"}
        assert await bandwidth.deliver(created) == (200, "application/xml", bxml)


async def test_refusals_over_the_wire() -> None:
    """Each has its status, and the server goes on."""
    async with receiving(lambda _: None, auth=None, body_limit=1000) as bandwidth:
        assert (await bandwidth.deliver({}))[:2] == (400, "text/plain")
        assert (await bandwidth.deliver({**BODY, "tag": "x" * 1000}))[0] == 413
        assert (await bandwidth.deliver({**BODY, "tag": "x" * 1000}, "GET"))[0] == 414
        assert (await bandwidth.deliver(BODY, "PUT"))[0] == 405
        assert (await bandwidth.deliver(BODY))[0] == 204


async def test_the_limit_holds_for_what_a_body_unpacks_to() -> None:
    """It also holds for a body without a length, which is not read to its end."""
    asked = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal asked
        while True:
            asked += 1
            yield b" " * 65_536

    async with receiving(lambda _: None, auth=None) as bandwidth, aiohttp.ClientSession() as session:
        bomb = json.dumps({**BODY, "tag": "x" * 1_000_000}).encode()
        async with session.post(bandwidth.url, data=bomb, compress="deflate") as response:
            assert response.status == 413
        async with session.post(bandwidth.url, data=endless()) as response:
            assert response.status == 413
    assert asked < 1000


async def _answered(port: int, request: bytes, *more: bytes) -> bytes:
    """Send a request and more of it, and return everything until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answered = bytearray()
    try:
        async with asyncio.timeout(5):
            writer.write(request)
            for part in more:
                await writer.drain()
                writer.write(part)
            while part := await reader.read(65_536):
                answered += part
    # The reset of a connection whose rest was not read.
    except ConnectionResetError:
        pass
    finally:
        writer.close()
    return bytes(answered)


HEAD = b"POST /webhooks HTTP/1.1\r\nHost: x\r\n"
HALF = b"Content-Length: 100000\r\n"


async def test_of_two_credentials_none_counts() -> None:
    """Whichever of them is right, and whatever their order; as in the ASGI application."""
    received: list[Event] = []
    right = aiohttp.encode_basic_auth("bandwidth", "s3cret")
    async with receiving(received.append) as bandwidth, aiohttp.ClientSession() as session:
        for pair in ([right, "Basic eDp5"], ["Basic eDp5", right], [right, right]):
            headers = [("Authorization", value) for value in pair]
            async with session.post(bandwidth.url, json=BODY, headers=headers) as response:
                assert response.status == 401
    assert received == []


@pytest.mark.parametrize(
    ("head", "settings", "status"),
    [
        (HEAD + HALF, {}, b"401"),
        (HEAD.replace(b"POST", b"PUT") + HALF, {}, b"405"),
        (HEAD + HALF, {"auth": None, "body_limit": 10}, b"413"),
    ],
)
async def test_what_is_not_read_is_not_waited_for(head: bytes, settings: Any, status: bytes) -> None:
    """The connection is closed with the response, although the body goes on."""
    async with receiving(lambda _: None, **settings) as bandwidth:
        answered = await _answered(URL(bandwidth.url).port or 0, head + b"\r\n" + b"x" * 1000)
    assert answered.startswith(b"HTTP/1.1 " + status)
    assert b"\r\nConnection: close\r\n" in answered


async def test_a_body_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets 408, and the connection is closed."""
    monkeypatch.setattr(reception, "CALLBACK_TIMEOUTS", (0.05, 25))
    async with receiving(lambda _: None, auth=None, callback_timeout=0.05) as bandwidth:
        answered = await _answered(URL(bandwidth.url).port or 0, HEAD + HALF + b"\r\n{", b" ")
    assert answered.startswith(b"HTTP/1.1 408 ")


async def test_nobody_without_credentials_has_a_bomb_unpacked() -> None:
    """Of a body that unpacks to 300 MB, not more is taken than one look at the socket."""
    bomb = zlib.compress(bytes(300_000_000))
    head = HEAD + b"Content-Encoding: deflate\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    async with receiving(lambda _: None) as bandwidth:
        began = time.process_time()
        answered = await _answered(URL(bandwidth.url).port or 0, head + bomb)
        cost = time.process_time() - began
    assert answered.startswith(b"HTTP/1.1 401 ")
    assert cost < 0.3


@pytest.mark.parametrize(
    ("headers", "begun"),
    [(b"Content-Length: 1000", b"{"), (b"Transfer-Encoding: chunked", b"1\r\n{\r\n")],
    ids=["too short", "without an end"],
)
async def test_a_body_that_is_cut_off_is_no_event(
    headers: bytes, begun: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The receiver gets no event, nothing fails, and the server goes on."""
    received: list[Event] = []
    async with receiving(received.append, auth=None) as bandwidth:
        url = URL(bandwidth.url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(
            b"POST /webhooks HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" + headers + b"\r\n\r\n"
        )
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(begun)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        assert (await bandwidth.deliver(BODY))[0] == 204
    assert [event.conference_id for event in received] == ["conf-1"]
    assert caplog.messages == []


async def test_a_sender_that_leaves_early_does_not_undo_the_event() -> None:
    """The receiver runs to its end, and the event is recognised when it comes again."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    received: list[Event] = []

    async def receive(event: Event) -> None:
        begun.set()
        await go_on.wait()
        received.append(event)

    async with receiving(receive, auth=None) as bandwidth:
        first = asyncio.ensure_future(bandwidth.deliver(BODY))
        await begun.wait()
        first.cancel()
        await asyncio.wait([first])
        again = asyncio.ensure_future(bandwidth.deliver(BODY))
        go_on.set()
        assert (await again)[0] == 204
    assert received == [parse_event(BODY)]
    assert isinstance(received[0], ConferenceCompleted)


def test_the_package_does_not_load_a_web_server() -> None:
    """A user of ASGI, or of parse_event alone, does not pay for aiohttp.web."""
    code = "import sys, bandwidth_async.webhooks; sys.exit('aiohttp.web' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
