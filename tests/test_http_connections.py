"""The client's own connections: written together, used directly if possible, and by the session if not."""

from __future__ import annotations

import asyncio
import functools
from typing import Any, cast
from unittest.mock import create_autospec, patch

import aiohttp
import pytest
from aioresponses import aioresponses

from bandwidth_async.http import connections as own
from bandwidth_async.http import lacking, open_session
from bandwidth_async.http.connections import SingleResponseProtocol, direct_connections


class FakeTransport:
    """Remembers what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closing = False
        self.error: Exception | None = None

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        if self.error:
            raise self.error
        self.written.append(data)


def connected() -> tuple[Any, FakeTransport]:
    transport = FakeTransport()
    protocol = SingleResponseProtocol(asyncio.get_running_loop())
    protocol.transport = cast("Any", transport)
    return protocol, transport


async def turns(count: int) -> None:
    """Let the event loop go round so often."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_requests_of_one_turn_leave_together() -> None:
    """After the event loop has received, in the next turn, what lay there before."""
    connections = [connected() for _ in range(2)]
    for protocol, _ in connections:
        protocol.send(b"POST")
    await turns(1)
    assert [transport.written for _, transport in connections] == [[], []]
    await turns(1)
    assert [transport.written for _, transport in connections] == [[b"POST"], [b"POST"]]


@pytest.mark.parametrize("how", ["closing", "gone"])
async def test_a_connection_that_is_closed_before_takes_nothing(how: str) -> None:
    """Whoever waits for the answer hears that nothing was sent."""
    protocol, transport = connected()
    protocol.send(b"POST")
    transport.closing = True
    if how == "gone":
        protocol.transport = None
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await protocol.read()
    assert (transport.written, protocol.unsent) == ([], True)


@pytest.mark.parametrize("error", [OSError("no"), RuntimeError("the handler is closed")])
async def test_a_write_that_fails_is_heard_of_at_once(error: Exception) -> None:
    """It may have been written in part."""
    protocol, transport = connected()
    transport.error = error
    protocol.send(b"POST")
    with pytest.raises(aiohttp.ClientOSError, match=str(error)):
        await protocol.read()
    assert protocol.unsent is False


# When requests are sent directly

fits = pytest.mark.skipif(
    bool(lacking()), reason=f"aiohttp {aiohttp.__version__} lacks {lacking()}: nothing is sent directly"
)


@fits
async def test_a_session_of_ours_has_a_direct_connections() -> None:
    async with open_session() as session:
        assert direct_connections(session, b"{}") is session.connector


async def test_a_given_session_has_none() -> None:
    """Its owner may have given it middlewares, headers, cookies: they count."""
    async with aiohttp.ClientSession() as session:
        assert direct_connections(session, b"{}") is None


async def test_none_with_an_aiohttp_that_lacks_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(own._missing, "a part", True)
    async with open_session() as session:
        assert direct_connections(session, b"{}") is None


async def with_settings(**settings: Any) -> aiohttp.ClientSession:
    """Open a session of ours where somebody has every session made with these settings."""
    theirs = aiohttp.ClientSession.__init__

    def patched(*args: Any, **more: Any) -> None:
        theirs(*args, **(more | settings))

    with patch.object(aiohttp.ClientSession, "__init__", patched):
        return open_session()


@fits
@pytest.mark.parametrize(
    "settings",
    [
        {"trace_configs": [aiohttp.TraceConfig()]},  # as OpenTelemetry and Sentry do
        {"trust_env": True},
        {"proxy": "http://127.0.0.1:1"},
        {"middlewares": (lambda request, handler: handler(request),)},
        {"headers": {"X-Deployment": "1"}},
        {"skip_auto_headers": ["User-Agent"]},
        {"request_class": type("Request", (aiohttp.ClientRequest,), {})},
        {"response_class": type("Response", (aiohttp.ClientResponse,), {})},
    ],
    ids=lambda settings: next(iter(settings)),
)
async def test_none_where_sessions_are_made_otherwise(settings: dict[str, Any]) -> None:
    """What somebody has every session do, an end is not to miss."""
    async with await with_settings(**settings) as session:
        assert direct_connections(session, b"{}") is None
    async with await with_settings() as session:
        assert direct_connections(session, b"{}") is not None


async def test_none_where_sessions_are_of_another_class() -> None:
    """Also after aiohttp's own is back in its place."""
    with pytest.warns(DeprecationWarning, match="Inheritance"):
        other = type("Session", (aiohttp.ClientSession,), {})
    with patch.object(aiohttp, "ClientSession", other):
        session = open_session()
    async with session:
        assert direct_connections(session, b"{}") is None


@fits
async def test_none_for_a_body_that_may_not_be_written_at_once() -> None:
    """An early answer would leave the rest of it to whoever has the connection next."""
    async with open_session() as session:
        assert [direct_connections(session, bytes(size)) is None for size in (0, 4096, 4097)] == [
            False,
            False,
            True,
        ]


@fits
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (aiohttp.ClientSession, "request"),
        (aiohttp.ClientSession, "_request"),
        (aiohttp.ClientRequest, "send"),
        (aiohttp.ClientResponse, "start"),
    ],
)
async def test_none_where_a_method_of_aiohttp_s_is_replaced(owner: type, name: str) -> None:
    """By a mock, by a wrapper that looks like it, by an object that can be called."""
    theirs = getattr(owner, name)

    @functools.wraps(theirs)
    def wrapped(*args: Any, **more: Any) -> Any:
        return theirs(*args, **more)

    assert own._is_genuine(theirs)
    async with open_session() as session:
        for other in wrapped, functools.partial(theirs), create_autospec(theirs):
            assert not own._is_genuine(other)
            with patch.object(owner, name, other):
                assert direct_connections(session, b"{}") is None
        assert direct_connections(session, b"{}") is not None


@fits
async def test_none_under_aioresponses() -> None:
    """Also for a session that was opened before."""
    async with open_session() as session:
        with aioresponses():
            assert direct_connections(session, b"{}") is None
        assert direct_connections(session, b"{}") is not None
