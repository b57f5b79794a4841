"""A server that sends exactly the bytes that a script contains, and records what arrives.

It plays the next script, a sequence of steps, for each request. If no script is left, it sends `NO_CONTENT`.
It should do things that no real server does. So it knows nothing about HTTP except where a request ends.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto
from typing import TYPE_CHECKING

from attrs import define, field, frozen

if TYPE_CHECKING:
    import ssl

NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
# SO_LINGER with zero seconds. Closing the socket then sends a reset.
_ABORT = struct.pack("ii", 1, 0)
# After so many turns of the event loop, both ends of a local connection have noticed its end.
_ROUNDS = 50


class Step(Enum):
    """What a server can do besides sending bytes."""

    CLOSE = auto()  # close the connection
    RESET = auto()  # reset the connection
    HANG = auto()  # send nothing more, until the client closes the connection


CLOSE, RESET, HANG = Step.CLOSE, Step.RESET, Step.HANG


@frozen
class Wait:
    """Send nothing for some seconds."""

    seconds: float


@frozen
class Trickle:
    """Send the text byte by byte, with ``every`` seconds before each byte."""

    text: bytes
    every: float = 1.0


Script = tuple[bytes | Wait | Trickle | Step, ...]


@frozen
class Arrived:
    """A request as it arrived, and the number of its connection, counted from 1."""

    connection: int
    request: bytes

    @property
    def line(self) -> str:
        """The request line without the version, such as ``GET /path``."""
        return self.request.partition(b" HTTP/")[0].decode()


@define(eq=False)
class WireServer:
    """Plays its scripts. It plays ``greeting`` on each new connection before it reads anything."""

    scripts: list[Script] = field(factory=list)
    otherwise: Script = (NO_CONTENT,)
    greeting: Script = ()
    arrived: list[Arrived] = field(factory=list)
    connections: int = 0
    url: str = ""
    _old: Script = ()
    _last_old: int = 0
    _open: dict[int, asyncio.StreamReader] = field(factory=dict)
    _writers: dict[int, asyncio.StreamWriter] = field(factory=dict)
    _tasks: set[asyncio.Task[None]] = field(factory=set)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        self._open[self.connections] = reader
        self._writers[self.connections] = writer
        self._tasks.add(asyncio.ensure_future(self._serve(self.connections, reader, writer)))

    async def _serve(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._play(self.greeting, reader, writer)
            while True:
                request = await _read_request(reader)
                self.arrived.append(Arrived(number, request))
                await self._play(self._script(number), reader, writer)
        except (ConnectionError, EOFError):
            pass  # The client or the script has closed the connection.
        finally:
            del self._open[number], self._writers[number]
            writer.close()

    def _script(self, number: int) -> Script:
        if self._old and number <= self._last_old:
            return self._old
        return self.scripts.pop(0) if self.scripts else self.otherwise

    def fail_over(self, fault: Script) -> None:
        """Answer with ``fault`` from now on, on the connections that are open."""
        self._old, self._last_old = fault, self.connections

    def say(self, connection: int, unasked: bytes) -> None:
        """Send bytes that no request asked for, before the client's event loop has its next turn."""
        self._writers[connection].write(unasked)

    @staticmethod
    async def _play(script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for step in script:
            match step:
                case bytes():
                    writer.write(step)
                    await writer.drain()
                case Wait():
                    await asyncio.sleep(step.seconds)
                case Trickle():
                    for byte in step.text:
                        await asyncio.sleep(step.every)
                        writer.write(bytes([byte]))
                        await writer.drain()
                case Step.HANG:
                    await reader.read()
                    raise EOFError
                case Step.RESET:
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
                    writer.transport.abort()
                    raise EOFError
                case Step.CLOSE:
                    raise EOFError

    async def kept(self) -> set[int]:
        """Return the connections that neither side has closed. Wait until each close has arrived here."""
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)
        return {
            number for number, reader in self._open.items() if not (reader.at_eof() or reader.exception())
        }

    async def stop(self) -> None:
        """Close every connection, and wait until that is done."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports close in the loop's next turn


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [line[15:] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    return head + await reader.readexactly(int(lengths[0]) if lengths else 0)


@asynccontextmanager
async def wire_server(
    *scripts: Script,
    otherwise: Script = (NO_CONTENT,),
    greeting: Script = (),
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[WireServer]:
    """Serve the scripts on this machine."""
    server = WireServer(list(scripts), otherwise, greeting)
    listener = await asyncio.start_server(server.accept, "127.0.0.1", 0, limit=2**20, ssl=tls)
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        await server.stop()
        await listener.wait_closed()


def answered(status: str, body: bytes = b"", *headers: str) -> bytes:
    """Return a whole response with its length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
