"""The download of a recording: its bytes as they come, and a file that appears only when it is complete."""

from __future__ import annotations

import asyncio
import os
import secrets
import stat
from codecs import getincrementaldecoder
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Self

import aiohttp

from bandwidth_async.errors import APIError, BandwidthError, ConfigurationError, TransportError
from bandwidth_async.server_text import SENTENCE_LIMIT, decoded, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from bandwidth_async.retry_after import Headers

    Progress = Callable[[int, int | None], object]

# The permissions of a new file: a recording is for its owner alone.
_USUAL_MODE = 0o600
# Bytes at the start of a body that are looked at before any of it is handed out.
_START = 64
# Media types, or their first parts, that recordings are sent with. Bandwidth documents the first.
_AUDIO_TYPES = ("audio/", "video/", "application/octet-stream", "binary/octet-stream", "application/ogg")
# The first bytes of WAV, Ogg, FLAC, AIFF and AU files, and of MP3 files with a tag and without one.
_AUDIO_STARTS = (
    *(b"RIFF", b"RIFX", b"RF64", b"OggS", b"fLaC", b"FORM", b".snd", b"ID3"),
    *(b"\xff\xfb", b"\xff\xfa", b"\xff\xf3", b"\xff\xf2", b"\xff\xe3", b"\xff\xe2"),
)
# What a page or JSON begins with.
_DOCUMENT_STARTS = ("<", "{", "[", '"')
_SEPARATORS = tuple(filter(None, (os.sep, os.altsep)))


class Media:
    """The body of a response while it comes: ``async for chunk in media``, in memory that does not grow.

    A body that is cut, or silent for longer than ``Timeouts.attempt``, raises `TransportError` instead of
    ending. It is for one task, and closed when you leave the context that gave it.

    Raises `APIError`, which is not retried, for a response that is not a whole recording, or that could not
    be seen to be one. A page or an error with status 200, or nothing at all, is found when you ask for the
    first chunk, before any byte is handed out.
    """

    def __init__(
        self,
        name: str,
        response: aiohttp.ClientResponse,
        longest_silence: float,
        authorization: str = "",
    ) -> None:
        flaw = _flaw(response.status, response.headers)
        if flaw:
            text = shown(flaw, authorization, SENTENCE_LIMIT)
            raise APIError(f"{name}: {text}", status=response.status, request=name)
        self._name = name
        self._authorization = authorization
        self._response = response
        self._longest_silence = longest_silence
        self._received = 0
        self._begun = False
        self._error: BandwidthError | None = None

        # Requests that it took to get the response; set by the operation.
        self.attempts = 0

    def __repr__(self) -> str:
        kind = shown(self.content_type or "of an unknown type", self._authorization, SENTENCE_LIMIT)
        return f"<Media {kind}, {self.received} bytes of {self.length or 'an unknown number'}>"

    @property
    def content_type(self) -> str | None:
        """The media type as the server names it, such as ``audio/mpeg``, or None."""
        return self._response.headers.get("Content-Type")

    @property
    def length(self) -> int | None:
        """How many bytes it has in all, or None if the server does not say."""
        return self._response.content_length

    @property
    def received(self) -> int:
        """How many bytes have been handed out."""
        return self._received

    def close(self) -> None:
        """Receive nothing more. The connection can be used again only if all of the body was read."""
        whole = self._response.content.at_eof()
        sentence = "closed, after all of it was read" if whole else "closed before its end"
        self._error = self._error or TransportError(f"{self._name}: {sentence}")
        self._response.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._error:
            raise self._error
        chunk = await self._next() if self._begun else await self._first()
        if not chunk:
            raise StopAsyncIteration
        self._received += len(chunk)
        return chunk

    async def _first(self) -> bytes:
        """Return the first bytes, as soon as they show that this can be a recording."""
        start = bytearray()
        while True:
            chunk = await self._next()
            start += chunk
            if _can_be_recording(bytes(start[:_START]), self.content_type):
                self._begun = True
                return bytes(start)
            if not chunk or len(start) >= _START:
                raise self._refuse(bytes(start))

    def _refuse(self, start: bytes) -> APIError:
        flaw = "the answer is not a recording" if start else "the answer is empty"
        parts = (self.content_type or "no content type", decoded(start, self.content_type or ""))
        came = ": ".join(filter(None, (shown(one, self._authorization, SENTENCE_LIMIT) for one in parts)))
        error = APIError(
            f"{self._name}: {flaw} ({came})",
            status=self._response.status,
            request=self._name,
            attempts=self.attempts,
        )
        self._error = error
        self._response.close()
        return error

    async def _next(self) -> bytes:
        """Return the next bytes as they come, empty at the end."""
        try:
            async with asyncio.timeout(self._longest_silence):
                return await self._response.content.readany()
        except TimeoutError as error:
            raise self._fail(f"silent for {self._longest_silence:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._fail("cut") from error
        except RuntimeError as error:
            # aiohttp raises it when two tasks read, and when the connection was closed with its session.
            if self._response.connection is not None and self._response.connection.transport is not None:
                raise
            raise self._fail("closed with its client") from error

    def _fail(self, how: str) -> TransportError:
        whole = "" if self.length is None else f" of {self.length}"
        error = TransportError(
            f"{self._name}: {how} after {self._received}{whole} bytes", attempts=self.attempts
        )
        self._error = error
        self._response.close()
        return error


def _flaw(status: int, headers: Headers) -> str | None:
    """Return why a response cannot be seen to be a whole recording, or None."""
    if status != 200:
        return f"answered {status}, which has no recording in it"
    # aiohttp does not notice that a compressed body was cut.
    packed = [coding for coding in _words(headers, "Content-Encoding") if coding != "identity"]
    if packed:
        return f"answered in {', '.join(packed)}, which was not asked for"
    transfer = _words(headers, "Transfer-Encoding")
    if transfer not in ([], ["chunked"]):
        return f"answered in the transfer coding {', '.join(transfer)}, which was not asked for"
    if not transfer and "Content-Length" not in headers:
        return "the answer does not say where it ends, so a cut would not be seen"
    return None


def _can_be_recording(start: bytes, content_type: str | None) -> bool:
    """Return whether a body that begins with ``start`` can be a recording; False if it is too short to tell.

    What begins as audio is a recording, whatever the server calls it.
    """
    if start.startswith(_AUDIO_STARTS):
        return True
    kind = (content_type or "").partition(";")[0].strip().lower()
    if not start or (kind and not kind.startswith(_AUDIO_TYPES)):
        return False
    try:
        # The last letter may be cut.
        text = getincrementaldecoder("utf-8")().decode(start).lstrip("\ufeff \t\r\n")
    except ValueError:
        return True
    # Audio without a header may begin with any byte, but not with a row of readable ones.
    readable = all(c.isprintable() or c.isspace() for c in text)
    return not readable or (text != "" and not text.startswith(_DOCUMENT_STARTS))


def _words(headers: Headers, name: str) -> list[str]:
    """Return the comma-separated words of all headers of that name."""
    words = ",".join(headers.getall(name, ())).lower().split(",")
    return [word.strip() for word in words if word.strip()]


def file_path(to: str | os.PathLike[str]) -> Path:
    """Return ``to`` as the path of a file. Raises `ConfigurationError` for what cannot be one."""
    given: object = to
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
    """A file that gets its name when it is complete. Until then it has another name beside it.

    Its methods access files, so `receive` runs them in threads. A thread cannot be cancelled: the lock lets
    `close` wait for a write that is under way, and later writes find the file closed.

    Only a regular file is overwritten, the one that a link leads to. The new one gets its permissions.

    Raises `ConfigurationError` when there is a file of that name already (unless ``overwrite``), or a folder,
    a device or the like, and the `OSError` of a place that cannot be written to.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self._path = Path(os.path.realpath(path)) if overwrite else path
        self._overwrite = overwrite
        self._lock = Lock()
        mode = self._mode()
        if os.path.lexists(path) and not overwrite:
            raise self._taken()
        self._draft = self._path.with_name(f".{secrets.token_hex(8)}.part")
        opener = partial(os.open, mode=_USUAL_MODE if mode is None else mode)
        self._file = open(self._draft, "xb", buffering=0, opener=opener)  # noqa: SIM115  # closed by close()
        try:
            if mode is not None:
                # The umask may have taken too much; this is before the first byte.
                self._draft.chmod(mode)
        except OSError:
            self.close()
            raise

    async def receive(self, media: Media, on_progress: Progress | None = None) -> None:
        """Write all of ``media``, which is closed at the end, from the start of the file.

        ``on_progress`` is called with the bytes so far and in all. Raises what ``media`` raises.
        """
        with closing(media):
            await asyncio.to_thread(self.restart)
            async for chunk in media:
                await asyncio.to_thread(self.write, chunk)
                if on_progress is not None:
                    on_progress(media.received, media.length)

    def write(self, data: bytes) -> None:
        """Append ``data``."""
        with self._lock:
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]

    def restart(self) -> None:
        """Drop what was written."""
        with self._lock:
            self._file.seek(0)
            self._file.truncate()

    def keep(self) -> None:
        """Give the file its name, after its bytes are on disk."""
        with self._lock:
            os.fsync(self._file.fileno())
            self._file.close()
            if self._overwrite:
                # Another process may have put a device there meanwhile.
                self._mode()
                self._draft.replace(self._path)
            else:
                self._take_free_name()

    def close(self) -> None:
        """Remove the file, unless it was kept."""
        with self._lock:
            self._file.close()
            self._draft.unlink(missing_ok=True)

    def _mode(self) -> int | None:
        """Return the permissions of the file that is there, or None. Refuses anything but a regular file."""
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
        """Take the name unless it was taken meanwhile: a link, unlike a rename, does not replace a file."""
        try:
            os.link(self._draft, self._path)
        except FileExistsError:
            raise self._taken() from None
        except OSError:
            # The file system has no links.
            if os.path.lexists(self._path):
                raise self._taken() from None
            self._draft.replace(self._path)
        else:
            self._draft.unlink()

    def _taken(self) -> ConfigurationError:
        return ConfigurationError(f"{self._path} exists already: choose another name, or overwrite it")
