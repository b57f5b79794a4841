"""A server that says on its socket exactly what a script tells it to, and writes down what arrived.

Each request is answered by the next script, a row of steps; when there are no scripts left, by `NO_CONTENT`.
What a real server would never do is the point, so nothing here knows more of HTTP than where a request ends.
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
_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time: closing sends a reset
_ROUNDS = 50  # of the loop, in which both ends of a connection on this machine learn of its end


class Step(Enum):
    """What a server does besides sending bytes."""

    CLOSE = auto()  # end the connection properly
    RESET = auto()  # end it with a reset
    HANG = auto()  # say nothing more, until the client goes away


CLOSE, RESET, HANG = Step.CLOSE, Step.RESET, Step.HANG


@frozen
class Wait:
    """Say nothing for some seconds."""

    seconds: float


@frozen
class Trickle:
    """Say it byte by byte, each after so many seconds."""

    text: bytes
    every: float = 1.0


Script = tuple[bytes | Wait | Trickle | Step, ...]


@frozen
class Arrived:
    """A request as it came, and the connection it came on, counted from 1."""

    connection: int
    request: bytes

    @property
    def line(self) -> str:
        """The first line without the version, such as ``GET /path``."""
        return self.request.partition(b" HTTP/")[0].decode()


@define(eq=False)
class WireServer:
    """Plays its scripts. ``greeting`` is played on each new connection before anything is read from it."""

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
            pass  # the client went away, or the script says that the server does
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
        """Put something into the client's socket at once, before its event loop turns."""
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
        """Return the connections that neither end has closed, once the news of a closed one has come here."""
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)
        return {
            number for number, reader in self._open.items() if not (reader.at_eof() or reader.exception())
        }

    async def stop(self) -> None:
        """End every connection, and wait for that."""
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
    """Return a whole answer with its length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
