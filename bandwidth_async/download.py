"""A recording on its way: its bytes as they come, and a file that is there whole or not at all."""

from __future__ import annotations

import asyncio
import os
import secrets
from threading import Lock
from typing import TYPE_CHECKING, Self

import aiohttp

from bandwidth_async.errors import ConfigurationError, TransportError

if TYPE_CHECKING:
    from pathlib import Path


class Media:
    """The body of an answer while it comes: ``async for chunk in media``, in memory that does not grow.

    A body that is cut, or silent for longer than ``Timeouts.attempt``, raises `TransportError` instead of
    ending. For one task. Leaving the context that gave it closes it.
    """

    def __init__(self, name: str, response: aiohttp.ClientResponse, longest_silence: float) -> None:
        if response.status != 200:
            raise TransportError(f"{name}: answered {response.status}, which has no recording in it")
        chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
        if response.content_length is None and not chunked:
            raise TransportError(f"{name}: the answer does not say where it ends, so a cut would not be seen")
        self._name = name
        self._response = response
        self._longest_silence = longest_silence
        self._received = 0
        self._error: TransportError | None = None
        self.attempts = 0  # requests that it took to get here; set by the call

    def __repr__(self) -> str:
        return f"<Media {self.content_type}, {self.received} bytes of {self.length or 'an unknown number'}>"

    @property
    def content_type(self) -> str | None:
        """The media type as the server names it, such as ``audio/mpeg``, or None."""
        return self._response.headers.get("Content-Type")

    @property
    def length(self) -> int | None:
        """How many bytes it has in all, or None where the server does not say."""
        return None if "Content-Encoding" in self._response.headers else self._response.content_length

    @property
    def received(self) -> int:
        """How many bytes have been handed out."""
        return self._received

    def close(self) -> None:
        """Receive nothing more. Only a connection that has given all of it can be used again."""
        if not self._response.content.at_eof():
            self._error = self._error or TransportError(f"{self._name}: closed before its end")
        self._response.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._error:
            raise self._error
        try:
            async with asyncio.timeout(self._longest_silence):
                chunk = await self._response.content.readany()
        except TimeoutError as error:
            raise self._fail(f"silent for {self._longest_silence:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._fail("cut") from error
        if not chunk:
            raise StopAsyncIteration
        self._received += len(chunk)
        return chunk

    def _fail(self, how: str) -> TransportError:
        whole = "" if self.length is None else f" of {self.length}"
        self._error = TransportError(
            f"{self._name}: {how} after {self._received}{whole} bytes", attempts=self.attempts
        )
        self._response.close()
        return self._error


class Draft:
    """A file that takes its name when it is complete; until then it has another one beside it.

    Methods do file access, so an event loop runs them in threads. A thread cannot be cancelled: the lock
    lets `close` wait for the write that it is in, and later ones find the file closed.

    Raises `ConfigurationError` when there is a file of that name already (unless ``overwrite``) or a folder,
    and the `OSError` of a place that cannot be written to.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self._path = path
        self._overwrite = overwrite
        self._lock = Lock()
        if path.is_dir():
            raise ConfigurationError(f"{path} is a folder: give the name of a file in it")
        if os.path.lexists(path) and not overwrite:
            raise self._taken()
        self._draft = path.with_name(f".{secrets.token_hex(8)}.part")
        self._file = self._draft.open("xb", buffering=0)

    def write(self, data: bytes) -> None:
        """Append ``data``."""
        with self._lock:
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]

    def restart(self) -> None:
        """Forget what was written."""
        with self._lock:
            self._file.seek(0)
            self._file.truncate()

    def keep(self) -> None:
        """Give the file its name, once its bytes are on the disk."""
        with self._lock:
            os.fsync(self._file.fileno())
            self._file.close()
            if self._overwrite:
                self._draft.replace(self._path)
            else:
                self._take_free_name()

    def close(self) -> None:
        """Remove the file, unless it was kept."""
        with self._lock:
            self._file.close()
            self._draft.unlink(missing_ok=True)

    def _take_free_name(self) -> None:
        """Fail where another has taken the name meanwhile: unlike a rename, a link does not replace."""
        try:
            os.link(self._draft, self._path)
        except FileExistsError:
            raise self._taken() from None
        except OSError:  # a file system without links
            if os.path.lexists(self._path):
                raise self._taken() from None
            self._draft.replace(self._path)
        else:
            self._draft.unlink()

    def _taken(self) -> ConfigurationError:
        return ConfigurationError(f"{self._path} exists already: choose another name, or overwrite it")
