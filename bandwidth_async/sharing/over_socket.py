"""A carrier for the processes of one machine: who locks a file leads, and listens on a socket beside it.

The system releases the lock when its process ends, however it ends, and closes the connections. So the others
know at once, and one of them takes the lead. The files of an account and a host are three::

    <name>.lock     locked by the process that leads
    <name>.sock     where it listens
    <name>.rate     the rate that an operator has set

The name has the name of the machine in it, since several machines may have one home directory.

A connection carries lines. The first one is the name of the process that has connected, the others are its
reports. The lines of the leader are letters. Who only looks sends `_LOOK`, and gets the published state.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from bandwidth_async.journal.place import make_private
from bandwidth_async.sharing.carrier import CarrierError, LeaderGone, Lease, Seen
from bandwidth_async.sharing.messages import Report, encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]  # Windows has none

# Whether this system has the locks and the sockets.
AVAILABLE = sys.platform != "win32" and hasattr(socket, "AF_UNIX")

_LOOK = "?"

# Seconds within which a process that has taken the lead listens, and between two looks for it.
_LISTENS, _EACH = 0.3, 0.01

# Seconds without new connections when there is no free descriptor.
_SHORT_OF_FILES = 1.0

# Bytes of a line, and of letters that a process has not read, before it counts as stuck.
_LINE, _STUCK = 1 << 20, 1 << 20

# Bytes of a socket's path. Linux has 108 of them, others a few less.
_LONGEST_PATH = 100

# Seconds for which a rate that was set holds while nobody shares it.
_SET_FOR = 3600.0


class SocketCarrier:
    """Carries messages between processes of one machine, in a directory that they share."""

    def __init__(self, directory: Path, name: str) -> None:
        own = hashlib.blake2b(f"{name}\n{socket.gethostname()}".encode(), digest_size=8).hexdigest()
        self._directory = directory
        self._lock, self._socket, self._rate = (
            directory / f"{own}.{kind}" for kind in ("lock", "sock", "rate")
        )
        # As the leader: the locked file, since when, where it listens, who has connected, what they reported.
        self._locked: int | None = None
        self._term = 0
        self._listening: socket.socket | None = None
        self._connected: dict[str, asyncio.StreamWriter] = {}
        self._handlers: set[asyncio.Task[None]] = set()
        self._reports: asyncio.Queue[str] = asyncio.Queue()
        self._state: str | None = None
        # As a follower: the connection to the leader.
        self._leader: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def __str__(self) -> str:
        return f"a socket in {self._directory}"

    def __repr__(self) -> str:
        return f"<SocketCarrier in {self._directory}>"

    async def claim(self, me: str, seconds: float) -> Lease:
        """Take or keep the lead, which lasts as long as this process. Or connect to the one that leads."""
        with self._explained():
            make_private(self._directory)
            if self._locked is not None and not self._is_ours():
                await self.resign(me)
            if self._locked is None and self._take_lock():
                self._listen()
            if self._locked is None and self._leader is None:
                self._leader = await self._connect(me)
            return Lease(self._locked is not None, self._term, None, self._setting())

    async def resign(self, me: str) -> None:
        """Give the lead back."""
        listening, self._listening = self._listening, None
        if listening is not None:
            asyncio.get_running_loop().remove_reader(listening)
            listening.close()
        handlers = list(self._handlers)
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
        self._connected.clear()
        self._reports = asyncio.Queue()
        locked, self._locked = self._locked, None
        if locked is not None:
            os.close(locked)

    async def report(self, me: str, message: str) -> None:
        """Send a message to the leader."""
        if self._leader is None:
            raise LeaderGone("no process leads")
        try:
            self._leader[1].write(f"{message}\n".encode())
            await self._leader[1].drain()
        except OSError as error:
            raise LeaderGone("the process that leads has left") from error

    async def reports(self, seconds: float) -> list[str]:
        """Wait for messages to the leader."""
        try:
            async with asyncio.timeout(seconds):
                found = [await self._reports.get()]
        except TimeoutError:
            return []
        while not self._reports.empty():
            found.append(self._reports.get_nowait())
        return found

    async def send(self, letters: Mapping[str, list[str]], state: str | None) -> bool:
        """Send letters and publish the state."""
        self._state = state or self._state
        for name, texts in letters.items():
            if (writer := self._connected.get(name)) is not None:
                writer.write("".join(f"{text}\n" for text in texts).encode())
                if writer.transport.get_write_buffer_size() > _STUCK:
                    writer.transport.abort()
        return self._locked is not None

    async def letters(self, me: str, seconds: float) -> list[str]:
        """Wait for letters to a process."""
        if self._leader is None:
            raise LeaderGone("no process leads")
        try:
            async with asyncio.timeout(seconds):
                line = await self._leader[0].readline()
        except TimeoutError:
            return []
        except (OSError, ValueError):
            line = b""
        if not line.endswith(b"\n"):
            self._leader[1].close()
            self._leader = None
            raise LeaderGone("the process that leads has left")
        return [line.decode(errors="replace").rstrip()]

    async def look(self) -> Seen:
        """Return what an operator sees."""
        state = self._state if self._locked is not None else None
        if self._locked is None:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(_LISTENS):
                    reader, writer = await self._open()
                    writer.write(f"{_LOOK}\n".encode())
                    state = (await reader.readline()).decode(errors="replace").strip() or None
                    writer.close()
                    await writer.wait_closed()
        return Seen(state is not None, state, self._setting())

    async def set_rate(self, rate: float | None) -> None:
        """Set the rate for all, until nobody has shared it for an hour."""
        with self._explained():
            make_private(self._directory)
            if rate is None:
                self._rate.unlink(missing_ok=True)
            else:
                self._rate.with_suffix(".new").write_text(f"{rate!r}\n", encoding="utf-8")
                self._rate.with_suffix(".new").replace(self._rate)

    async def aclose(self) -> None:
        """Close the connections."""
        await self.resign("")
        if self._leader is not None:
            self._leader[1].close()
            with suppress(OSError):
                await self._leader[1].wait_closed()
            self._leader = None

    # --- the lead

    def _take_lock(self) -> bool:
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._locked = descriptor
        self._term = time.time_ns() // 1_000_000
        return True

    def _is_ours(self) -> bool:
        """Return whether the locked file is still the one of its name."""
        assert self._locked is not None  # noqa: S101 - the caller looked
        try:
            return os.path.samestat(os.fstat(self._locked), self._lock.stat())
        except OSError:
            return False

    def _listen(self) -> None:
        if self._leader is not None:
            self._leader[1].close()
            self._leader = None
        self._socket.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX)
        try:
            with self._path() as path:
                listening.bind(path)
            listening.listen()
            listening.setblocking(False)
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)
        except BaseException:
            listening.close()
            raise
        self._listening = listening

    def _accept(self, listening: socket.socket) -> None:
        """Begin to handle a connection.

        Python 3.11's `asyncio.start_unix_server` loses a connection that comes while it is being closed.
        """
        loop = asyncio.get_running_loop()
        try:
            connected, _ = listening.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError:
            # Without a free descriptor the connection waits, and would be announced all the time.
            loop.remove_reader(listening)
            loop.call_later(_SHORT_OF_FILES, self._accept_again, listening)
            return
        task = loop.create_task(self._handle(connected))
        self._handlers.add(task)
        # A task that is cancelled before it begins cannot close its connection.
        task.add_done_callback(lambda _: connected.close())
        task.add_done_callback(self._handlers.discard)

    def _accept_again(self, listening: socket.socket) -> None:
        if self._listening is listening:
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    async def _handle(self, connected: socket.socket) -> None:
        """Read what a process reports. When its connection ends, the process has left."""
        connected.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=connected, limit=_LINE)
        name = ""
        try:
            with suppress(OSError, ValueError):
                name = (await reader.readline()).decode(errors="replace").strip()
                if name == _LOOK:
                    writer.write(f"{self._state or ''}\n".encode())
                    return
                self._connected[name] = writer
                while (line := await reader.readline()).endswith(b"\n"):
                    self._reports.put_nowait(line.decode(errors="replace").rstrip())
        finally:
            if self._connected.get(name) is writer:
                del self._connected[name]
                self._reports.put_nowait(encode(Report(process=name, leaving=True)))
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _setting(self) -> float | None:
        """Return the rate that is set. A leader keeps it from growing old."""
        try:
            if time.time() - self._rate.stat().st_mtime > _SET_FOR:
                return None
            rate = float(self._rate.read_text(encoding="utf-8"))
            if self._locked is not None:
                os.utime(self._rate)
        except (OSError, ValueError):
            return None
        return rate if rate > 0 else None

    # --- the way to the leader

    async def _connect(self, me: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a connection to the leader, which may have taken the lead just now."""
        end = time.monotonic() + _LISTENS
        while True:
            try:
                reader, writer = await self._open()
            except (ConnectionRefusedError, FileNotFoundError):
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(_EACH)
            else:
                writer.write(f"{me}\n".encode())
                return reader, writer

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        with self._path() as path:
            return await asyncio.open_unix_connection(path, limit=_LINE)

    @contextmanager
    def _path(self) -> Iterator[str]:
        """Yield a path of the socket that is short enough for one: by a descriptor of its directory."""
        path = str(self._socket)
        if len(os.fsencode(path)) <= _LONGEST_PATH or sys.platform != "linux":
            yield path
            return
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield f"/proc/self/fd/{descriptor}/{self._socket.name}"
        finally:
            os.close(descriptor)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CarrierError(error.strerror or str(error)) from error
