"""TLS: which certificates the client accepts, what it never retries, and what it retries."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import aiohttp
import pytest
import trustme

from bandwidth_async import (
    BasicCredentials,
    CertificateError,
    NotFoundError,
    OutcomeKind,
    RateLimit,
    RetryPolicy,
    Timeouts,
    TransportError,
    VoiceClient,
)
from tests.wire_server import CLOSE, HANG, NO_CONTENT, RESET, Script, WireServer, answered, wire_server

SECRET = "s3cr3t-of-the-client"
ATTEMPTS = 5
NOW = datetime.now(UTC)
DAY = timedelta(days=1)
HANDSHAKE_FAILURE = b"\x15\x03\x03\x00\x02\x02\x28"
UNKNOWN_VERSION = b"\x15\x03\x03\x00\x02\x02\x46"

pytestmark = pytest.mark.usefixtures("sender")
virtual_time = pytest.mark.looptime


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Create a certificate authority that only these tests trust."""
    return trustme.CA()


def presenting(authority: trustme.CA, host: str = "127.0.0.1", **times: Any) -> ssl.SSLContext:
    """Return a server's TLS context with a certificate for ``host``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host, **times).configure_cert(context)
    return context


def client_of(server: WireServer, **settings: Any) -> VoiceClient:
    """Return a client that retries without a pause."""
    defaults: dict[str, Any] = {
        "account_id": "9900000",
        "credentials": BasicCredentials("me", SECRET),
        "voice_url": server.url.replace("http:", "https:"),
        "rate_limit": RateLimit(100_000, 1000),
        "retry": RetryPolicy(attempts=ATTEMPTS, backoff_base=0),
        "timeouts": Timeouts(connect=1.0, attempt=5.0),
        "random": Random(3),
    }
    return VoiceClient(**{**defaults, **settings})


@asynccontextmanager
async def trusting(authority: trustme.CA, server: WireServer, **settings: Any) -> AsyncIterator[VoiceClient]:
    """Yield a client that trusts the authority of these tests, with connections of its own."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", context)
        async with client_of(server, **settings) as client:
            yield client
            assert client.limiter.snapshot().in_flight == 0


async def refusal(client: VoiceClient) -> TransportError:
    """End a conference, return the error, and check that it is not ambiguous."""
    with pytest.raises(TransportError) as caught:
        await client.end_conference("conf-1")
    assert client.limiter.snapshot().in_flight == 0
    assert not caught.value.ambiguous
    assert str(caught.value).isprintable()
    return caught.value


@virtual_time
async def test_a_certificate_that_holds(authority: trustme.CA) -> None:
    """All requests use one TLS connection."""
    async with wire_server(tls=presenting(authority)) as server, trusting(authority, server) as client:
        for n in range(3):
            assert (await client.end_conference(f"conf-{n}")).attempts == 1
        assert [one.connection for one in server.arrived] == [1, 1, 1]


@asynccontextmanager
async def tunnelling(port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Serve a proxy that lets everything through to a port. Yield its URL, and what it is asked."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        connects.append(await reader.readuntil(b"\r\n\r\n"))
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(forward(reader, far_writer), forward(far_reader, writer))

    connects: list[bytes] = []
    tasks: list[Any] = []
    proxy = await asyncio.start_server(tunnel, "127.0.0.1", 0, ssl=tls)
    async with proxy:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{proxy.sockets[0].getsockname()[1]}", connects
        await asyncio.gather(*tasks)


@pytest.mark.parametrize("secure", [False, True])
@virtual_time
async def test_a_tunnel_of_a_proxy(authority: trustme.CA, secure: bool) -> None:
    """All requests use one TLS connection through one tunnel, also of a proxy that speaks TLS itself."""
    async with (
        wire_server(tls=presenting(authority)) as server,
        tunnelling(int(server.url.rpartition(":")[2]), presenting(authority) if secure else None) as seen,
        trusting(authority, server, proxy=seen[0]) as client,
    ):
        for n in range(3):
            assert (await client.end_conference(f"conf-{n}")).attempts == 1
        assert [one.connection for one in server.arrived] == [1, 1, 1]
    assert len(seen[1]) == 1


@pytest.mark.parametrize("secure", [False, True])
@virtual_time
async def test_a_certificate_s_owner_is_named(authority: trustme.CA, secure: bool) -> None:
    """That of a proxy is not taken for the server's. In a tunnel it may be the proxy's all the same."""
    unknown = presenting(trustme.CA())
    async with (
        wire_server(tls=unknown) as server,
        tunnelling(int(server.url.rpartition(":")[2]), unknown if secure else None) as (proxy, connects),
        trusting(authority, server, proxy=proxy) as client,
    ):
        error = await refusal(client)
        assert isinstance(error, CertificateError)
        assert error.attempts == 1
        assert len(connects) == (0 if secure else 1)
    where = proxy.partition("://")[2]
    if secure:
        assert f"the certificate of the proxy {where} is not valid (" in str(error)
    else:
        assert "the server's certificate is not valid (" in str(error)
        assert str(error).endswith(f", through the proxy {where}")


@pytest.mark.parametrize(
    ("host", "times", "words"),
    [
        ("127.0.0.1", {"not_before": NOW - 2 * DAY, "not_after": NOW - DAY}, "expired"),
        ("127.0.0.1", {"not_before": NOW + DAY, "not_after": NOW + 2 * DAY}, "not yet valid"),
        ("voice.bandwidth.com", {}, "IP address mismatch"),
        ("127.0.0.2", {}, "IP address mismatch"),
    ],
)
@virtual_time
async def test_a_certificate_that_does_not_hold(
    authority: trustme.CA, host: str, times: dict[str, datetime], words: str
) -> None:
    """The client sends nothing and does not retry, because waiting does not make a certificate valid."""
    async with (
        wire_server(tls=presenting(authority, host, **times)) as server,
        trusting(authority, server) as client,
    ):
        error = await refusal(client)
        assert isinstance(error, CertificateError)
        assert words in str(error)
        assert (error.attempts, server.arrived) == (1, [])


@virtual_time
async def test_a_certificate_of_an_unknown_authority(authority: trustme.CA) -> None:
    """By default, the client trusts only the system's authorities."""
    async with wire_server(tls=presenting(authority)) as server, client_of(server) as client:
        error = await refusal(client)
        assert isinstance(error, CertificateError)
        assert (error.attempts, server.arrived) == (1, [])


@virtual_time
async def test_a_run_over_a_certificate_that_does_not_hold(authority: trustme.CA) -> None:
    """The first id finds it, and the run stops."""
    async with wire_server(tls=presenting(authority)) as server, client_of(server) as client:
        report = await client.end_conferences(["conf-1", "conf-2"])
        assert dict(report.counts) == {OutcomeKind.FAILED: 1, OutcomeKind.NOT_ATTEMPTED: 1}
        assert isinstance(report.stopped, CertificateError)
        assert (report.attempts, server.arrived) == (1, [])


@pytest.mark.parametrize(
    "greeting",
    [
        (RESET,),
        (CLOSE,),
        (HANG,),
        (HANDSHAKE_FAILURE, CLOSE),
        (UNKNOWN_VERSION, CLOSE),
        (b"\x16\x03\x03\x00\x00garbage", CLOSE),
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", CLOSE),
        (b"SSH-2.0-OpenSSH_9.6\r\n", HANG),
    ],
    ids=str,
)
@virtual_time
async def test_a_handshake_that_fails_otherwise(greeting: Script) -> None:
    """It may be temporary, so the client retries. Nothing was sent, so the error is not ambiguous."""
    async with wire_server(greeting=greeting) as server:
        async with client_of(server) as client:
            error = await refusal(client)
            assert not isinstance(error, CertificateError)
            assert (error.attempts, server.connections, server.arrived) == (ATTEMPTS, ATTEMPTS, [])
        assert await server.kept() == set()
    assert asyncio.get_running_loop().time() < ATTEMPTS * 1.1


@virtual_time
async def test_a_server_that_speaks_an_old_version_only(authority: trustme.CA) -> None:
    """Client and server have no version in common. The client retries and sends nothing."""
    context = presenting(authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    old = ssl.create_default_context()
    authority.configure_trust(old)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with (
        wire_server(tls=context) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=old)) as session,
        client_of(server, session=session) as client,
    ):
        error = await refusal(client)
        assert not isinstance(error, CertificateError)
        assert (error.attempts, server.arrived) == (ATTEMPTS, [])


@pytest.mark.parametrize("fault", [RESET, CLOSE])
@virtual_time
async def test_cut_after_the_request(authority: trustme.CA, fault: Any) -> None:
    """The request may have arrived, so it is repeated, as without TLS."""
    async with (
        wire_server((fault,), (answered("404 Not Found"),), tls=presenting(authority)) as server,
        trusting(authority, server) as client,
    ):
        outcome = await client.end_conference("conf-1")
        assert (str(outcome.kind), outcome.attempts) == ("already_ended", 2)
        assert [one.connection for one in server.arrived] == [1, 2]


@virtual_time
async def test_more_than_an_answer(authority: trustme.CA) -> None:
    """Over TLS too, the client's own connections take one response for each request."""
    async with wire_server(
        (NO_CONTENT + b"hello",), (NO_CONTENT + NO_CONTENT,), tls=presenting(authority)
    ) as server:
        server.scripts.append((answered("404 Not Found"),))
        async with trusting(authority, server) as client:
            for n in range(2):
                assert (await client.end_conference(f"conf-{n}")).attempts == 1
            with pytest.raises(NotFoundError):
                await client.end_conference("conf-3")
            assert [one.connection for one in server.arrived] == [1, 2, 3]


@virtual_time
async def test_answers_in_many_records(authority: trustme.CA) -> None:
    """Even if headers and body arrive in separate TLS records, each response gets its own body."""
    async with wire_server(tls=presenting(authority)) as server, trusting(authority, server) as client:
        for name in ("conf-1", "conf-22", "conf-333"):
            whole = answered("200 OK", f'{{"id": "{name}"}}'.encode())
            server.scripts.append((whole[:30], whole[30:-8], whole[-8:]))
            assert (await client.get_conference(name)).id == name
        assert {one.connection for one in server.arrived} == {1}


@virtual_time
async def test_a_recording_over_tls_is_whole(authority: trustme.CA) -> None:
    """It needs many TLS records, and the server closes the connection directly after the last one."""
    sound = bytes(range(256)) * 4096
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(sound)}\r\n\r\n".encode()
    async with (
        wire_server((head, sound[:1000], sound[1000:], CLOSE), tls=presenting(authority)) as server,
        trusting(authority, server) as client,
        client.download_conference_recording("conf-1", "r-1") as media,
    ):
        assert b"".join([chunk async for chunk in media]) == sound
