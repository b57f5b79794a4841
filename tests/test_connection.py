"""The session's connections: written together, received into room of their own."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from aiohttp import ClientConnectionResetError
from aiohttp.base_protocol import BaseProtocol
from multidict import CIMultiDict

from bandwidth_async import connection


class FakeTransport:
    """Remembers what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        self.written.append(data)


def connected() -> tuple[BaseProtocol, FakeTransport]:
    transport = FakeTransport()
    protocol = BaseProtocol(asyncio.get_running_loop())
    protocol.transport = cast("Any", transport)
    return protocol, transport


async def send(protocol: BaseProtocol) -> None:
    writer = connection._GatheringWriter(protocol, asyncio.get_running_loop())
    await writer.write_headers("POST / HTTP/1.1", CIMultiDict())
    await writer.write_eof(b"{}")


async def test_requests_of_one_turn_leave_together() -> None:
    transports = []
    for _ in range(2):
        protocol, transport = connected()
        transports.append(transport)
        await send(protocol)
    assert [transport.written for transport in transports] == [[], []]
    await asyncio.sleep(0)
    assert [len(transport.written) for transport in transports] == [1, 1]
    assert transports[0].written[0].startswith(b"POST / HTTP/1.1\r\n")
    assert transports[0].written[0].endswith(b"{}")


@pytest.mark.parametrize("how", ["closing", "gone"])
async def test_a_connection_that_is_closed_before_takes_nothing(how: str) -> None:
    protocol, transport = connected()
    transport.closing = True
    if how == "gone":
        protocol.transport = None
    with pytest.raises(ClientConnectionResetError):
        await send(protocol)


async def test_nothing_leaves_on_a_connection_that_is_closed_in_the_same_turn() -> None:
    protocol, transport = connected()
    await send(protocol)
    transport.closing = True
    await asyncio.sleep(0)
    assert transport.written == []
