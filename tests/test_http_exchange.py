"""One attempt over a real socket: what is sent, what a response means, and what is not a response."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
import pytest
from aiohttp.client_exceptions import UnixClientConnectorError
from aiohttp.client_reqrep import ConnectionKey
from attrs import evolve, field, mutable
from yarl import URL

from bandwidth_async import wire
from bandwidth_async.errors import (
    APIError,
    BandwidthError,
    CertificateError,
    ClientStateError,
    ConfigurationError,
    NotFoundError,
    RateLimitError,
    ServerError,
    TransportError,
)
from bandwidth_async.http import (
    Server,
    Timeouts,
    TimeoutTimer,
    connections,
    connections_of,
    exchange,
    open_session,
    origin,
    proxy_of,
)
from bandwidth_async.http.delivery import Delivery, Trust
from bandwidth_async.http.exchange import USER_AGENT, translate
from bandwidth_async.updates import UpdateConference

pytestmark = pytest.mark.usefixtures("sender")

END = wire.update_conference("9900000", "conf-1", UpdateConference(status="completed"))
GET = wire.get_conference("9900000", "conf-1")
TIMEOUTS = Timeouts()
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
CONFERENCE = b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"id":"conf-1"}'

CLOSE = None  # in a script: close the connection
HANG = -1.0  # in a script: say nothing more
Script = list[bytes | float | None]


def about(moment: float, abs: float = 0.01) -> Any:  # noqa: A002  # pytest's own word
    """Return what equals any number near ``moment``."""
    return pytest.approx(moment, abs=abs)


@mutable
class RawServer:
    """A server that answers the n-th request with the n-th script: bytes, seconds of silence, or CLOSE."""

    scripts: list[Script]
    requests: list[bytes] = field(factory=list)
    connections: int = 0
    port: int = 0

    @property
    def url(self) -> URL:
        """The address that it listens at."""
        return URL(f"http://127.0.0.1:{self.port}")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests on one connection until a script closes it."""
        self.connections += 1
        try:
            while request := await self._request(reader):
                self.requests.append(request)
                await self._play(self.scripts.pop(0) if self.scripts else [NO_CONTENT], writer)
        except (ConnectionError, asyncio.IncompleteReadError, EOFError):
            pass
        finally:
            writer.close()

    @staticmethod
    async def _request(reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((h[15:] for h in head.split(b"\r\n") if h.lower().startswith(b"content-length:")), b"0")
        return head + await reader.readexactly(int(length))

    @staticmethod
    async def _play(script: Script, writer: asyncio.StreamWriter) -> None:
        for step in script:
            if step is CLOSE:
                raise EOFError
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            else:
                await asyncio.sleep(1e6 if step == HANG else step)


@asynccontextmanager
async def raw_server(*scripts: Script) -> AsyncIterator[RawServer]:
    """Serve the scripts on this machine."""
    server = RawServer(list(scripts))
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.ensure_future(server.serve(reader, writer)))

    listener = await asyncio.start_server(accept, "127.0.0.1", 0, limit=2**20)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()
        await asyncio.sleep(0)  # transports close in the loop's next turn


@asynccontextmanager
async def session_of() -> AsyncIterator[aiohttp.ClientSession]:
    """Open a session as the client does; wait at the end until its connections are closed."""
    async with open_session() as session:
        yield session
    await asyncio.sleep(0)


async def ask(
    server: RawServer,
    session: aiohttp.ClientSession,
    request: wire.Request[Any] = END,
    timeouts: Timeouts = TIMEOUTS,
    **options: Any,
) -> wire.Response:
    """Exchange one request with a server."""
    timer = TimeoutTimer()
    try:
        to = Server(url=server.url, timer=timer)
        return await exchange(session, to, request, "Bearer t", timeouts, **options)
    finally:
        timer.close()


def server_at(url: URL, proxy: str | None = None) -> Server:
    """Return a server with a timer of its own."""
    return Server(url=url, timer=TimeoutTimer(), proxy=proxy_of(url, proxy, trust_env=False))


async def ask_once(
    *script: bytes | float | None, request: wire.Request[Any] = END, **options: Any
) -> wire.Response:
    """Exchange one request with a server that plays this script."""
    async with raw_server(list(script)) as server, session_of() as session:
        return await ask(server, session, request, **options)


async def refusal(*script: bytes | float | None, request: wire.Request[Any] = END) -> BandwidthError:
    """Return the error that one request ends with."""
    with pytest.raises(BandwidthError) as caught:
        await ask_once(*script, request=request)
    return caught.value


def answered(status: str, body: bytes = b"", *headers: str) -> bytes:
    """Return a whole response."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


# what is sent


@pytest.mark.parametrize("length", [0, 1, 4096])
async def test_a_request_is_what_aiohttp_itself_would_send(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Directly or by the session, the bytes are the same."""
    request = evolve(END, body=bytes(length))
    async with raw_server() as server, session_of() as session:
        await ask(server, session, request)
        monkeypatch.setitem(connections._missing, "switched off by a test", True)
        await ask(server, session, request)
    ours, theirs = server.requests
    assert ours == theirs
    assert ours.endswith(b"\r\n\r\n" + bytes(length))


# aiohttp's errors become ours


def subclasses(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    """Yield a class and all its subclasses."""
    yield kind
    for derived in kind.__subclasses__():
        yield from subclasses(derived)


KEY = ConnectionKey("h", 443, True, True, None, None, None)
INFO = aiohttp.RequestInfo(URL("https://h/"), "POST", cast("Any", {}), URL("https://h/"))
ARGUMENTS: dict[type[BaseException], tuple[Any, ...]] = {
    aiohttp.ClientConnectorCertificateError: (KEY, ssl.SSLCertVerificationError("expired")),
    aiohttp.ClientConnectorError: (KEY, OSError(errno.ECONNREFUSED, "refused")),
    UnixClientConnectorError: ("/tmp/x", KEY, OSError(1, "no")),  # noqa: S108  # never opened
    aiohttp.ServerFingerprintMismatch: (b"a", b"b", "h", 443),
    aiohttp.ClientResponseError: (INFO, ()),
    aiohttp.InvalidURL: ("https://h/",),
}
CERTIFICATE = (aiohttp.ClientConnectorCertificateError, aiohttp.ServerFingerprintMismatch)
NEVER_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError)
DROPPED = (aiohttp.ServerDisconnectedError, ConnectionResetError, BrokenPipeError)
FOREIGN = sorted(
    {kind for kind in subclasses(aiohttp.ClientError) if kind.__module__.startswith("aiohttp")}
    | {TimeoutError, OSError, ConnectionError, ConnectionResetError, BrokenPipeError, ConnectionRefusedError},
    key=lambda kind: kind.__name__,
)


def made(kind: type[BaseException]) -> Exception:
    """Return an instance of one of aiohttp's errors."""
    for base in kind.__mro__:
        if base in ARGUMENTS:
            return cast("Exception", kind(*ARGUMENTS[base]))
    return cast("Exception", kind())


@pytest.mark.parametrize("kind", FOREIGN, ids=lambda kind: kind.__name__)
def test_every_foreign_error_becomes_ours(kind: type[BaseException]) -> None:
    """Each error names the request and says whether it was dropped and whether it may have arrived."""
    never_sent = issubclass(kind, NEVER_SENT + CERTIFICATE)
    for request in (END, GET):
        error = translate(made(kind), request)
        if issubclass(kind, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
            # To send it again is vain, and it has never left.
            assert (type(error), error.ambiguous) == (ClientStateError, False)
            continue
        assert isinstance(error, TransportError)
        assert isinstance(error, CertificateError) is issubclass(kind, CERTIFICATE)
        assert error.dropped is issubclass(kind, DROPPED)
        assert error.ambiguous is (request is END and not never_sent)
        assert request.name in error.message
        assert "\n" not in str(error)


MEANINGS = {
    "the server's certificate is not valid": {"ClientConnectorCertificateError", "ServerFingerprintMismatch"},
    "no connection": {
        *(
            "ClientConnectorDNSError",
            "ClientConnectorError",
            "ClientConnectorSSLError",
            "ClientHttpProxyError",
        ),
        *(
            "ClientProxyConnectionError",
            "ClientSSLError",
            "ConnectionTimeoutError",
            "UnixClientConnectorError",
        ),
    },
    "the connection was closed": {"ClientConnectionResetError", "ServerDisconnectedError"},
    "no response within the timeout": {"ServerTimeoutError", "SocketTimeoutError"},
    "the URL of the server": {
        *("InvalidURL", "InvalidUrlClientError", "InvalidUrlRedirectClientError"),
        *("NonHttpUrlClientError", "NonHttpUrlRedirectClientError"),
    },
    "no usable response": {
        *(
            "ClientConnectionError",
            "ClientError",
            "ClientOSError",
            "ClientPayloadError",
            "ClientResponseError",
        ),
        *(
            "ContentTypeError",
            "RedirectClientError",
            "ServerConnectionError",
            "TooManyRedirects",
            "UploadAbortedError",
            "WSServerHandshakeError",
        ),
    },
}


@pytest.mark.parametrize(
    "kind", [one for one in FOREIGN if issubclass(one, aiohttp.ClientError)], ids=lambda kind: kind.__name__
)
def test_every_error_of_aiohttp_has_a_meaning_by_choice(kind: type[BaseException]) -> None:
    """A class that a later aiohttp adds fails here until somebody has decided what it means."""
    meaning = [sentence for sentence, names in MEANINGS.items() if kind.__name__ in names]
    assert len(meaning) == 1, f"say in MEANINGS what aiohttp's {kind.__name__} means, and look at `translate`"
    assert translate(made(kind), END).message.startswith(f"{END.name}: {meaning[0]}")


@pytest.mark.parametrize(
    ("number", "dropped"),
    [(errno.ECONNRESET, True), (errno.EPIPE, True), (errno.EHOSTUNREACH, False), (None, False)],
)
def test_a_reset_connection_was_dropped(number: int | None, dropped: bool) -> None:
    """A reset by the operating system means the same as a close by the server."""
    arguments = (number, "x") if number is not None else ()
    error = translate(aiohttp.ClientOSError(*arguments), END)
    assert isinstance(error, TransportError)
    assert (error.dropped, error.ambiguous) == (dropped, True)


# Where requests go


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://voice.bandwidth.com", "https://voice.bandwidth.com"),
        ("https://voice.bandwidth.com/", "https://voice.bandwidth.com"),
        ("https://VOICE.bandwidth.com:8443", "https://voice.bandwidth.com:8443"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://[::1]:5", "http://[::1]:5"),
        ("https://[2001:db8::1]", "https://[2001:db8::1]"),
    ],
)
def test_an_origin(url: str, expected: str) -> None:
    """Scheme, host and port; plain http only to this machine."""
    assert str(origin(url, "voice_url", allow_http=False)) == expected


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "must look like"),
        ("voice.bandwidth.com", "must look like"),
        ("voice.bandwidth.com:443", "must look like"),
        ("ftp://host", "must look like"),
        ("file:///etc/passwd", "must look like"),
        ("https://", "must look like"),
        ("https://host:99999", "must look like"),
        ("https://[::1", "must look like"),
        ("https://host/api/v2", "scheme and host only, as in https://host"),
        ("https://host?x=1", "scheme and host only"),
        ("https://host#x", "scheme and host only"),
        ("https://me:secret@host", "scheme and host only, as in https://host"),
        ("http://voice.bandwidth.com", "plain http"),
        ("http://10.0.0.1", "plain http"),
        ("http://localhost.evil.example", "plain http"),
        ("http://127.0.0.1.evil.example", "plain http"),
    ],
)
def test_no_origin(url: str, sentence: str) -> None:
    """The message names the setting and what to write instead."""
    with pytest.raises(ConfigurationError, match="voice_url") as caught:
        origin(url, "voice_url", allow_http=False)
    assert sentence in str(caught.value)
    if "@" in url:
        assert "secret" not in str(caught.value)


def test_plain_http_by_choice() -> None:
    """``allow_http`` is for test networks."""
    assert origin("http://10.0.0.1:8080", "voice_url", allow_http=True) == URL("http://10.0.0.1:8080")


@pytest.mark.parametrize("setting", ["connect", "attempt"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan")])
def test_a_timeout_is_above_zero(setting: str, value: float) -> None:
    """Zero would mean "no timeout" to aiohttp and "at once" to a reader."""
    with pytest.raises(ConfigurationError, match=f"{setting} is a number of seconds above 0"):
        Timeouts(**{setting: value})


# What is sent


@pytest.mark.looptime
async def test_what_ending_looks_like_on_the_wire() -> None:
    """Method, path, headers and body, and no unnecessary header."""
    async with raw_server([NO_CONTENT]) as server, session_of() as session:
        answer = await ask(server, session)
    assert (answer.status, answer.body) == (204, b"")
    head, body = server.requests[0].split(b"\r\n\r\n")
    first, *headers = head.decode().split("\r\n")
    assert first == "POST /api/v2/accounts/9900000/conferences/conf-1 HTTP/1.1"
    assert body == b'{"status":"completed"}'
    sent = dict(header.split(": ", 1) for header in headers)
    assert sent.pop("Accept-Encoding")
    assert sent == {
        "Host": f"127.0.0.1:{server.port}",
        "Authorization": "Bearer t",
        "User-Agent": USER_AGENT,
        "Accept": "application/json",
        "Content-Type": "application/json",
        "Content-Length": "22",
    }
    assert USER_AGENT.startswith("bandwidth_async/")
    assert f"aiohttp/{aiohttp.__version__}" in USER_AGENT


@pytest.mark.looptime
async def test_a_read_has_no_body() -> None:
    """A GET carries neither content nor its type."""
    async with raw_server([CONFERENCE]) as server, session_of() as session:
        await ask(server, session, GET)
    assert server.requests[0].startswith(b"GET /api/v2/accounts/9900000/conferences/conf-1 HTTP/1.1\r\n")
    assert b"content-type" not in server.requests[0].lower()
    assert server.requests[0].endswith(b"\r\n\r\n")


async def test_a_header_that_would_be_two_is_not_sent() -> None:
    """A token with a line break would do that; the error does not contain the token."""
    token = "Bearer t0ken\r\nX: y"
    async with raw_server() as server, session_of() as session:
        with pytest.raises(ClientStateError, match="cannot send it") as caught:
            await exchange(session, server_at(server.url), END, token, TIMEOUTS)
    assert server.requests == []
    assert "t0ken" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.looptime
async def test_an_id_is_sent_as_it_was_encoded() -> None:
    """Nothing decodes or encodes the path a second time."""
    request = wire.get_conference("9900000", "conf-é,=1")
    async with raw_server([CONFERENCE]) as server, session_of() as session:
        await ask(server, session, request)
    assert server.requests[0].split()[1].decode() == request.path


@pytest.mark.looptime
async def test_no_cookie_is_kept() -> None:
    """All requests are alike, whatever cookie a response sets."""
    async with (
        raw_server([answered("200 OK", b"{}", "Set-Cookie: a=b; Path=/")]) as server,
        session_of() as session,
    ):
        await ask(server, session, GET)
        await ask(server, session)
    assert b"cookie" not in server.requests[1].lower()


# Successes


@pytest.mark.parametrize(
    "script",
    [
        [NO_CONTENT],
        [answered("200 OK", b'{"unexpected": true}')],
        [answered("202 Accepted", b"<html>not json")],
        [b"HTTP/1.1 200 OK\r\n\r\n", b"until the end", CLOSE],
        [b"HTTP/1.1 204 No Content\r\nContent-Length: 50\r\n\r\n"],
        [b"HTTP/1.1 100 Continue\r\n\r\n" + NO_CONTENT],
        [b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + NO_CONTENT],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\ncut", CLOSE],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 0.1, b"zz\r\nbad chunk", CLOSE],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", 60.0],
        [b"HTTP/1.0 200 OK\r\n\r\n", CLOSE],
        [0.5, b"HTTP/1.1 ", 0.5, b"204 No Content\r\n", 0.5, b"\r\n"],
    ],
    ids=str,
)
@pytest.mark.looptime
async def test_a_success_is_a_success_whatever_its_body(script: Script) -> None:
    """The status decides. A body that explains it has a little time, and disturbs no other request."""
    async with raw_server(script) as server, session_of() as session:
        started = asyncio.get_running_loop().time()
        assert 200 <= (await ask(server, session)).status < 300
        assert asyncio.get_running_loop().time() - started < 2.1
        for _ in range(3):
            assert (await ask(server, session)).status == 204
    assert len(server.requests) == 4


@pytest.mark.looptime
async def test_connections_are_used_again() -> None:
    """Ten requests in a row go over one connection."""
    async with raw_server() as server, session_of() as session:
        for _ in range(10):
            await ask(server, session)
    assert (len(server.requests), server.connections) == (10, 1)


@pytest.mark.looptime
async def test_a_read_returns_its_body() -> None:
    """A read has its body and headers, and the header that it was sent with, which no error may quote."""
    async with (
        raw_server([answered("200 OK", b'{"id":"conf-1"}', "X-A: b")]) as server,
        session_of() as session,
    ):
        answer = await ask(server, session, GET)
        assert (answer.status, answer.body, answer.headers["X-A"]) == (200, b'{"id":"conf-1"}', "b")
        assert answer.authorization == "Bearer t"
        assert "Bearer" not in repr(answer)


@pytest.mark.looptime
async def test_the_status_is_told_before_the_body() -> None:
    """The limiter learns of a refusal at once, even if the rest of the response is slow."""
    heard: list[tuple[int, str | None, float]] = []
    loop = asyncio.get_running_loop()
    script: Script = [b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n", 1.0, b"{}"]
    with pytest.raises(RateLimitError) as caught:
        await ask_once(
            *script,
            on_status=lambda status, headers: heard.append((status, headers.get("Retry-After"), loop.time())),
        )
    assert heard == [(429, "7", about(0.0, abs=0.01))]
    assert (caught.value.retry_after, loop.time()) == (7.0, about(1.0, abs=0.01))


# Refusals


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.looptime
async def test_a_redirect_is_not_followed(status: int) -> None:
    """The credentials are never sent to the other host."""
    async with raw_server() as other, session_of() as session:
        script = answered(f"{status} Elsewhere", b"", f"Location: {other.url}/steal")
        async with raw_server([script]) as server:
            for request in (END, GET):
                server.scripts = [[script]]
                with pytest.raises(APIError, match="redirects are not followed") as caught:
                    await ask(server, session, request)
                assert caught.value.status == status
        assert (other.connections, len(server.requests)) == (0, 2)


@pytest.mark.looptime
async def test_a_huge_error_body_is_read_to_a_bound() -> None:
    """A body of ten megabytes takes neither memory nor time; only its beginning is kept."""
    body = b"x" * 10_000_000
    error = await refusal(answered("500 Oops", body))
    assert isinstance(error, ServerError)
    assert (error.status, error.ambiguous, len(error.description or "")) == (500, True, 2048)
    assert len(str(error)) < 500


@pytest.mark.parametrize(
    "slow",
    [
        [HANG],
        [piece for _ in range(100) for piece in (b"x", 1.0)],
        [b"{", CLOSE],
        [b"x" * 70_000, HANG],
    ],
    ids=["hangs", "trickles", "cut", "long and hangs"],
)
@pytest.mark.looptime
async def test_a_slow_error_body_costs_two_seconds_at_most(slow: Script) -> None:
    """The status of an error is enough."""
    loop = asyncio.get_running_loop()
    async with (
        raw_server([b"HTTP/1.1 404 Gone\r\nContent-Length: 100000\r\n\r\n", *slow]) as server,
        session_of() as session,
    ):
        with pytest.raises(NotFoundError) as caught:
            await ask(server, session)
        assert loop.time() < 2.1
        assert caught.value.status == 404
        assert (await ask(server, session)).status == 204


@pytest.mark.looptime
async def test_a_status_counts_though_its_body_outlasts_the_attempt() -> None:
    """The status is certain. A timeout would be ambiguous, and refused credentials look like an outage."""
    script: Script = [b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n{", HANG]
    async with raw_server(script) as server, session_of() as session:
        with pytest.raises(NotFoundError) as caught:
            await ask(server, session, timeouts=Timeouts(attempt=1.0))
    assert caught.value.ambiguous is False


@pytest.mark.looptime
async def test_a_status_below_100_is_an_answer() -> None:
    """It is final, not interim."""
    error = await refusal(b"HTTP/1.1 042 What\r\nContent-Length: 0\r\n\r\n")
    assert isinstance(error, APIError)
    assert error.status == 42


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe\x00", b"[[[[", b"null", b"<html>", b'{"type": 1}', b"[" * 100_000, b"\x1b[31m"]
)
@pytest.mark.looptime
async def test_the_status_decides_not_the_body(body: bytes) -> None:
    """No body changes which error a status means."""
    error = await refusal(answered("404 Not Found", body, "Content-Type: application/json"))
    assert isinstance(error, NotFoundError)
    assert "\x1b" not in str(error)


@pytest.mark.looptime
async def test_an_error_that_claims_to_be_compressed() -> None:
    """A body that cannot be decompressed counts as missing."""
    error = await refusal(answered("503 Busy", b"not gzip", "Content-Encoding: gzip", "Retry-After: 3"))
    assert isinstance(error, ServerError)
    assert (error.status, error.retry_after, error.ambiguous) == (503, 3.0, False)


# No answer


@pytest.mark.parametrize("request_", [END, GET], ids=["end", "get"])
@pytest.mark.parametrize(
    ("script", "dropped"),
    [
        ([CLOSE], True),
        ([b"HTTP/1.1 20", CLOSE], None),
        ([b"garbage\r\n\r\n"], False),
        ([b"HTTP/1.1 abc OK\r\n\r\n"], False),
        ([b"HTTP/9.9 200 OK\r\nContent-Length: x\r\n\r\n"], False),
        ([b"\x16\x03\x01\x02\x00\x01\x00\x01"], None),
        ([HANG], False),
        ([b"H", 4.0, b"T", 4.0, b"T", 4.0, b"P", 4.0], False),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.looptime
async def test_what_is_no_answer(script: Script, dropped: bool | None, request_: wire.Request[Any]) -> None:
    """A change may have been made, a read has changed nothing; the attempt's timeout limits all of it."""
    async with raw_server(script, script) as server, session_of() as session:  # aiohttp repeats a read once
        with pytest.raises(TransportError) as caught:
            await ask(server, session, request_)
        assert not isinstance(caught.value, CertificateError)
        assert caught.value.ambiguous is (request_ is END)
        assert dropped is None or caught.value.dropped is dropped
        assert asyncio.get_running_loop().time() <= 16.0
        server.scripts = []
        assert (await ask(server, session)).status == 204


@pytest.mark.parametrize(
    "script",
    [
        [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{", CLOSE],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nbad"],
        [answered("200 OK", b"not gzip", "Content-Encoding: gzip")],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{", HANG],
        [b"HTTP/1.1 200 OK\r\n\r\n", *([b"x" * 1_000_000] * 17)],
    ],
    ids=["cut", "bad chunk", "bad gzip", "hangs", "too long"],
)
@pytest.mark.looptime
async def test_half_an_answer_is_none_where_it_is_read(script: Script) -> None:
    """A read needs its whole body, up to a limit."""
    error = await refusal(*script, request=GET)
    assert isinstance(error, TransportError)
    assert error.ambiguous is False
    assert asyncio.get_running_loop().time() <= 16.0


@pytest.mark.looptime
async def test_a_connection_that_the_server_had_given_up() -> None:
    """If the server closes an idle connection just as a request is sent, the next request opens another."""
    async with raw_server([NO_CONTENT], [CLOSE]) as server, session_of() as session:
        await ask(server, session)
        with pytest.raises(TransportError) as caught:
            await ask(server, session)
        assert (caught.value.dropped, caught.value.ambiguous) == (True, True)
        assert (await ask(server, session)).status == 204
        assert server.connections == 2


@pytest.mark.parametrize("request_", [END, GET], ids=["end", "get"])
@pytest.mark.looptime
async def test_nobody_listens(request_: wire.Request[Any]) -> None:
    """A refused connection sent nothing."""
    async with raw_server() as server:
        pass
    async with session_of() as session:
        with pytest.raises(TransportError, match=f"no connection to 127.0.0.1:{server.port} ") as caught:
            await ask(server, session, request_)
    assert (caught.value.ambiguous, caught.value.dropped) == (False, False)


@pytest.mark.parametrize("request_", [END, GET], ids=["end", "get"])
@pytest.mark.parametrize("setting", ["voice_url", "api_url"])
@pytest.mark.looptime
async def test_a_name_that_cannot_be_resolved(
    monkeypatch: pytest.MonkeyPatch, request_: wire.Request[Any], setting: str
) -> None:
    """It is named, with the setting and the variables that it came from."""

    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    to = Server(url=URL("https://voice.test:8443"), setting=setting, timer=TimeoutTimer())
    async with session_of() as session:
        with pytest.raises(TransportError) as caught:
            await exchange(session, to, request_, "Bearer t", TIMEOUTS)
    assert caught.value.ambiguous is False
    assert caught.value.message.startswith(
        f"{request_.name}: no connection, as the name of the host voice.test "
    )
    assert (
        f"{setting}, BW_{setting.upper()} or BW_ENVIRONMENT sets it; if only a proxy" in caught.value.message
    )


@pytest.mark.looptime
async def test_the_name_of_a_proxy_that_cannot_be_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named too, and no URL of ours is said to have set it."""

    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    to = server_at(URL("https://voice.test"), "http://proxy.test:3128")
    async with session_of() as session:
        with pytest.raises(TransportError, match=r"the name of the host proxy\.test ") as caught:
            await exchange(session, to, END, "Bearer t", TIMEOUTS)
    assert "voice_url" not in caught.value.message


@pytest.mark.looptime
async def test_waiting_for_a_free_connection_is_bounded() -> None:
    """When all connections are taken, the attempt's timeout ends the wait."""
    async with raw_server([HANG]) as server:
        connector = aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(connector=connector) as session:
            first = asyncio.create_task(ask(server, session))
            await asyncio.sleep(0.1)
            with pytest.raises(TransportError, match="no connection within the timeout") as caught:
                await exchange(session, server_at(server.url), END, "Bearer t", Timeouts(attempt=2.0))
            assert (len(server.requests), caught.value.ambiguous) == (1, False)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
        await asyncio.sleep(0)


@pytest.mark.looptime
async def test_a_server_without_a_certificate() -> None:
    """A failed TLS handshake means no connection; nothing was sent."""
    async with raw_server([b"HTTP/1.1 400 Bad Request\r\n\r\n", CLOSE]) as server, session_of() as session:
        secure = server.url.with_scheme("https")
        server.scripts = []
        with pytest.raises(TransportError) as caught:
            await exchange(session, server_at(secure), END, "Bearer t", Timeouts(connect=1.0, attempt=2.0))
    assert caught.value.ambiguous is False


@pytest.mark.looptime
async def test_a_proxy_s_refusal_does_not_tell_its_password() -> None:
    """A proxy's refusal means no connection; the error does not contain the password of the proxy's URL."""
    refuses = answered("407 Proxy Authentication Required")
    async with raw_server([refuses]) as proxy, session_of() as session:
        to = server_at(URL("https://voice.test"), f"http://me:hunter2@127.0.0.1:{proxy.port}")
        with pytest.raises(TransportError) as caught:
            await exchange(session, to, END, "Bearer t", TIMEOUTS)
    assert caught.value.ambiguous is False
    assert "hunter2" not in f"{caught.value} {caught.value!r}"


@pytest.mark.parametrize("moment", [0.0, 0.5, 1.5, 2.5])
@pytest.mark.looptime
async def test_a_cancelled_exchange_leaves_no_connection(moment: float) -> None:
    """It can be cancelled at any moment, also while an error's body is read."""
    async with (
        raw_server([1.0, b"HTTP/1.1 500 Oops\r\nContent-Length: 9\r\n\r\n", HANG]) as server,
        session_of() as session,
    ):
        task = asyncio.create_task(ask(server, session))
        await asyncio.sleep(moment)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        server.scripts = []
        assert (await ask(server, session)).status == 204


@pytest.mark.looptime
@pytest.mark.parametrize(
    "bad",
    [
        *("garbage\r\n\r\n", "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"),
        *("HTTP/1.1 407 not me:hunter2\r\n\r\n", "HTTP/1.1 407 not bWU6aHVudGVyMg==\r\n\r\n"),
    ],
)
async def test_no_error_carries_the_credentials_along(bad: str) -> None:
    """Neither an error's text nor its causes contain them, as an error reporter would print them."""
    async with raw_server([bad.encode()]) as server, session_of() as session:
        proxy = f"http://me:hunter2@127.0.0.1:{server.port}"
        token = "Bearer t0ken"
        with pytest.raises(TransportError) as caught:
            await exchange(session, server_at(URL("https://voice.test"), proxy), END, token, TIMEOUTS)
    printed = "".join(traceback.format_exception(caught.value))
    chain: list[BaseException] = [caught.value]
    while following := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(following)
    assert "hunter2" not in printed + "".join(map(repr, chain))
    assert "t0ken" not in printed + "".join(map(repr, chain))


async def test_the_connections_of_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """A given session's bounds are kept to, less one for the token; ours has a bound at the limiter."""
    bounds = [((0, 0), 512, 512), ((1, 0), 1, 1), ((100, 0), 99, 99), ((0, 4), 4, 3), ((5, 4), 4, 3)]
    for (limit, per_host), expected, with_the_token in [*bounds, ((3, 4), 2, 2), ((0, 1), 1, 1)]:
        connector = aiohttp.TCPConnector(limit=limit, limit_per_host=per_host)
        async with aiohttp.ClientSession(connector=connector) as session:
            assert connections_of(session) == expected
            assert connections_of(session, one_host=True) == with_the_token
    monkeypatch.setattr(os, "listdir", lambda _: ["0"] * 16)
    for descriptors, expected in ((65536, 512), (272, 192), (17, 1), (1, 1), (resource.RLIM_INFINITY, 512)):
        limits = (descriptors, resource.RLIM_INFINITY)
        monkeypatch.setattr(resource, "getrlimit", lambda _, limits=limits: limits)
        assert connections_of(None) == expected


def test_a_connection_that_takes_no_attribute_is_never_doubted() -> None:
    """The object is aiohttp's, whose next version may give it slots. A response over it counts."""
    trust, delivery, connection = Trust(), Delivery(), object()
    delivery.on_write(connection, 0.0)
    trust.on_response(delivery)
    assert trust.heard > 0
    trust.on_no_response(delivery, TimeoutError(), 1.0)
    assert not trust.doubts(connection)
