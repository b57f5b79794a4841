"""The client's own connections: written together, and reached directly unless somebody stands between."""

from __future__ import annotations

import asyncio
import functools
from typing import Any, cast
from unittest.mock import patch

import aiohttp
import pytest
from aioresponses import aioresponses

from bandwidth_async import connection
from bandwidth_async.connection import direct_way, open_session


class FakeTransport:
    """Remembers what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        self.written.append(data)


def connected() -> tuple[Any, FakeTransport]:
    transport = FakeTransport()
    protocol = connection._OneAnswer(asyncio.get_running_loop())
    protocol.transport = cast("Any", transport)
    return protocol, transport


async def test_requests_of_one_turn_leave_together() -> None:
    connections = [connected() for _ in range(2)]
    for protocol, _ in connections:
        protocol.send(b"POST")
    assert [transport.written for _, transport in connections] == [[], []]
    await asyncio.sleep(0)
    assert [transport.written for _, transport in connections] == [[b"POST"], [b"POST"]]


@pytest.mark.parametrize("how", ["closing", "gone"])
async def test_a_connection_that_is_closed_before_takes_nothing(how: str) -> None:
    protocol, transport = connected()
    transport.closing = True
    if how == "gone":
        protocol.transport = None
    with pytest.raises(aiohttp.ClientConnectionResetError):
        protocol.send(b"POST")


async def test_nothing_leaves_on_a_connection_that_is_closed_in_the_same_turn() -> None:
    protocol, transport = connected()
    protocol.send(b"POST")
    transport.closing = True
    await asyncio.sleep(0)
    assert transport.written == []


# the direct way


async def test_a_session_of_ours_has_a_direct_way() -> None:
    async with open_session() as session:
        assert direct_way(session) is session.connector


async def test_a_given_session_has_none() -> None:
    """Its owner may have given it middlewares, headers, cookies: they count."""
    async with aiohttp.ClientSession() as session:
        assert direct_way(session) is None


async def test_none_with_an_aiohttp_that_it_is_not_known_to_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_FITS", False)
    async with open_session() as session:
        assert direct_way(session) is None


async def test_none_where_somebody_traces() -> None:
    """As OpenTelemetry does: it has every new session traced."""
    theirs = aiohttp.ClientSession.__init__

    def traced(*args: Any, **more: Any) -> None:
        theirs(*args, **more, trace_configs=[aiohttp.TraceConfig()])

    with patch.object(aiohttp.ClientSession, "__init__", traced):
        session = open_session()
    async with session:
        assert direct_way(session) is None


@pytest.mark.parametrize("name", ["request", "_request"])
async def test_none_where_a_method_of_aiohttp_s_is_replaced(name: str) -> None:
    """By a mock, by a wrapper that looks like it, by an object that can be called."""
    theirs = getattr(aiohttp.ClientSession, name)

    @functools.wraps(theirs)
    def wrapped(*args: Any, **more: Any) -> Any:
        return theirs(*args, **more)

    async with open_session() as session:
        for other in wrapped, functools.partial(theirs):
            with patch.object(aiohttp.ClientSession, name, other):
                assert direct_way(session) is None
        with patch.object(aiohttp.ClientSession, name, autospec=True):
            assert direct_way(session) is None
        assert direct_way(session) is not None


async def test_none_under_aioresponses() -> None:
    """Also for a session that was opened before."""
    async with open_session() as session:
        with aioresponses():
            assert direct_way(session) is None
        assert direct_way(session) is not None
