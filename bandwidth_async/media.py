"""A recording on its way: its bytes as they come, and a file that is there whole or not at all."""

from __future__ import annotations

import asyncio
import os
import secrets
import stat
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Self

import aiohttp

from bandwidth_async.errors import APIError, ConfigurationError, TransportError

if TYPE_CHECKING:
    from bandwidth_async.retry_after import Headers

_USUAL_RIGHTS = 0o666  # of a new file; the umask takes from it
_SEPARATORS = tuple(filter(None, (os.sep, os.altsep)))


class Media:
    """The body of an answer while it comes: ``async for chunk in media``, in memory that does not grow.

    A body that is cut, or silent for longer than ``Timeouts.attempt``, raises `TransportError` instead of
    ending. For one task. Leaving the context that gave it closes it.

    Raises `APIError`, which is not repeated, for an answer that is no whole recording as it is, or of which
    that could not be told.
    """

    def __init__(self, name: str, response: aiohttp.ClientResponse, longest_silence: float) -> None:
        flaw = _flaw(response.status, response.headers)
        if flaw:
            raise APIError(f"{name}: {flaw}", status=response.status, request=name)
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
        return self._response.content_length

    @property
    def received(self) -> int:
        """How many bytes have been handed out."""
        return self._received

    def close(self) -> None:
        """Receive nothing more. Only a connection that has given all of it can be used again."""
        whole = self._response.content.at_eof()
        sentence = "closed, after all of it was read" if whole else "closed before its end"
        self._error = self._error or TransportError(f"{self._name}: {sentence}")
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
        except RuntimeError as error:  # of aiohttp, which has closed the connection under us
            if self._response.connection is not None and self._response.connection.transport is not None:
                raise  # it serves another task's reading
            raise self._fail("closed with its client") from error
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


def _flaw(status: int, headers: Headers) -> str | None:
    """Return what makes an answer none that can be seen to be whole, or None."""
    if status != 200:
        return f"answered {status}, which has no recording in it"
    packed = [coding for coding in _words(headers, "Content-Encoding") if coding != "identity"]
    if packed:  # aiohttp does not notice where an unpacked body is cut
        return f"answered in {', '.join(packed)}, which was not asked for"
    transfer = _words(headers, "Transfer-Encoding")
    if transfer not in ([], ["chunked"]):
        return f"answered in the transfer coding {', '.join(transfer)}, which was not asked for"
    if not transfer and "Content-Length" not in headers:
        return "the answer does not say where it ends, so a cut would not be seen"
    return None


def _words(headers: Headers, name: str) -> list[str]:
    """Return the comma-separated words of a header, however often it is there."""
    words = ",".join(headers.getall(name, ())).lower().split(",")
    return [word.strip() for word in words if word.strip()]


def file_path(to: str | os.PathLike[str]) -> Path:
    """Return ``to`` as the path of a file. Raises `ConfigurationError` for what cannot be one."""
    given: object = to  # untyped callers may pass anything
    text: object = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise ConfigurationError(f"a download goes to the path of a file, not to {to!r}")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise ConfigurationError(f"{text!r} cannot be the name of a file") from None
    if text.endswith(_SEPARATORS):
        raise ConfigurationError(f"{text} is a folder: give the name of a file in it")
    return Path(text)


class Draft:
    """A file that takes its name when it is complete; until then it has another one beside it.

    Methods do file access, so an event loop runs them in threads. A thread cannot be cancelled: the lock
    lets `close` wait for the write that it is in, and later ones find the file closed.

    To overwrite means a regular file only, the one that a link leads to; the new one gets its rights.

    Raises `ConfigurationError` when there is a file of that name already (unless ``overwrite``), or a folder,
    a device or the like, and the `OSError` of a place that cannot be written to.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self._path = Path(os.path.realpath(path)) if overwrite else path
        self._overwrite = overwrite
        self._lock = Lock()
        rights = self._rights()
        if os.path.lexists(path) and not overwrite:
            raise self._taken()
        self._draft = self._path.with_name(f".{secrets.token_hex(8)}.part")
        opener = partial(os.open, mode=_USUAL_RIGHTS if rights is None else rights)
        self._file = open(self._draft, "xb", buffering=0, opener=opener)  # noqa: SIM115 - for as long as we live
        try:
            if rights is not None:
                self._draft.chmod(rights)  # ahead of the first byte; the umask may have taken too much
        except OSError:
            self.close()
            raise

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
                self._rights()  # once more: another may have put a device there meanwhile
                self._draft.replace(self._path)
            else:
                self._take_free_name()

    def close(self) -> None:
        """Remove the file, unless it was kept."""
        with self._lock:
            self._file.close()
            self._draft.unlink(missing_ok=True)

    def _rights(self) -> int | None:
        """Return the rights of the file that is there, or None. Refuses what is no regular file."""
        try:
            mode = self._path.stat().st_mode
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(mode):
            raise ConfigurationError(f"{self._path} is a folder: give the name of a file in it")
        if not stat.S_ISREG(mode):
            raise ConfigurationError(f"{self._path} is no regular file: give the name of one")
        return mode & 0o777

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
