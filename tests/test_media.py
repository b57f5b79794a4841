"""Downloads of recordings, as a stream or to a file: each is complete or raises an error."""

from __future__ import annotations

import asyncio
import gzip
import os
import re
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from bandwidth_async import (
    APIError,
    BasicCredentials,
    ClientStateError,
    ConfigurationError,
    DeadlineExceededError,
    NotFoundError,
    RateLimit,
    RetryPolicy,
    ServerError,
    Timeouts,
    TransportError,
    VoiceClient,
)
from bandwidth_async.media import Draft, Media, _flaw
from tests.wire_server import CLOSE, HANG, RESET, Script, Wait, WireServer, answered, wire_server

AUDIO = bytes(range(256)) * 400  # larger than one packet
PATH = "/api/v2/accounts/9900000/conferences/conf-1/recordings/r-1/media"
NAME = "download recording r-1 of conference conf-1"
ONCE = RetryPolicy(attempts=1)
AT_ONCE = RetryPolicy(backoff_base=0)

virtual_time = pytest.mark.looptime


def with_length(length: int, *more: str) -> bytes:
    """Return the headers of a response with a Content-Length of ``length``."""
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {length}", "Content-Type: audio/mpeg", *more]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
WHOLE = with_length(len(AUDIO)) + AUDIO


def in_chunks(data: bytes) -> bytes:
    """Return the body of a chunked response, without its last chunk."""
    pieces = [data[start : start + 5000] for start in range(0, len(data), 5000)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


@asynccontextmanager
async def serving(*scripts: Script, **settings: Any) -> AsyncIterator[tuple[WireServer, VoiceClient]]:
    """Run a server with these responses and a client of it. Check that neither leaves a task."""
    before = asyncio.all_tasks()
    async with wire_server(*scripts) as server:
        defaults: dict[str, Any] = {
            "account_id": "9900000",
            "credentials": BasicCredentials("user", "s3cr3t"),
            "voice_url": server.url,
            "rate_limit": RateLimit.fixed(10_000),
            "retry": AT_ONCE,
            "random": Random(5),
        }
        async with VoiceClient(**{**defaults, **settings}) as client:
            yield server, client
    assert asyncio.all_tasks() == before


def media_of(client: VoiceClient) -> AbstractAsyncContextManager[Media]:
    """Return the stream of the recording, not yet opened."""
    return client.download_conference_recording("conf-1", "r-1")


async def content_of(client: VoiceClient) -> bytes:
    """Return the joined chunks of a recording."""
    async with media_of(client) as media:
        return b"".join([chunk async for chunk in media])


def left_in(folder: Path) -> list[str]:
    """Return the names of the files in a folder."""
    return sorted(path.name for path in folder.iterdir())


# As a stream


async def test_a_recording_in_chunks() -> None:
    """One request with the credentials returns the content, its type and its length."""
    async with serving((WHOLE,)) as (server, client), media_of(client) as media:
        assert (media.content_type, media.length, media.received) == ("audio/mpeg", len(AUDIO), 0)
        assert b"".join([chunk async for chunk in media]) == AUDIO
        assert media.received == len(AUDIO)
        assert repr(media) == "<Media audio/mpeg, 102400 bytes of 102400>"
    (arrived,) = server.arrived
    assert arrived.line == f"GET {PATH}"
    assert b"Authorization: Basic" in arrived.request
    assert b"Accept: */*\r\n" in arrived.request


async def test_a_recording_of_unknown_length() -> None:
    """A chunked response needs no length, because it marks its own end."""
    script: Script = (CHUNKED, in_chunks(AUDIO), b"0\r\n\r\n")
    async with serving(script) as (_, client), media_of(client) as media:
        assert (media.content_type, media.length) == (None, None)
        assert b"".join([chunk async for chunk in media]) == AUDIO


async def test_an_empty_recording() -> None:
    """A recording is never empty, since even silence has a header. An empty body is an error."""
    async with serving((with_length(0),), (CHUNKED + b"0\r\n\r\n",)) as (server, client):
        for _ in range(2):
            with pytest.raises(APIError, match="the answer is empty"):
                await content_of(client)
        assert len(server.arrived) == 2


async def test_a_connection_that_gave_all_is_used_again() -> None:
    """A connection is used again after a complete read. Leaving earlier closes it."""
    async with serving((WHOLE,), (WHOLE,), (WHOLE,)) as (server, client):
        assert await content_of(client) == AUDIO
        async with media_of(client) as media:
            await anext(media)
        assert await content_of(client) == AUDIO
    assert [arrived.connection for arrived in server.arrived] == [1, 1, 2]


async def test_a_stream_that_was_left_gives_nothing_more() -> None:
    """A read after the context raises an error, so that no recording looks complete when it is not."""
    async with serving((WHOLE,)) as (_, client):
        async with media_of(client) as media:
            pass
        with pytest.raises(TransportError, match="closed before its end"):
            await anext(media)


@pytest.mark.parametrize("tenth", range(10))
@pytest.mark.parametrize("end", [CLOSE, RESET])
@pytest.mark.parametrize("form", ["length", "chunked"])
async def test_a_cut_at_every_tenth(tenth: int, end: Any, form: str, tmp_path: Path) -> None:
    """A cut at any place raises an error, and leaves neither a short file nor a draft."""
    part = AUDIO[: len(AUDIO) * tenth // 10]
    sent = with_length(len(AUDIO)) + part if form == "length" else CHUNKED + in_chunks(part)
    async with serving((sent, end), (sent, end), (sent, end), retry=ONCE) as (server, client):
        with pytest.raises(TransportError) as caught:
            await content_of(client)
        assert not caught.value.ambiguous
        with pytest.raises(TransportError) as caught:
            await client.download_conference_recording("conf-1", "r-1", to=tmp_path / "r.mp3")
        assert len(server.arrived) <= 3  # a reset before the headers is retried once
    assert left_in(tmp_path) == []


@virtual_time
async def test_a_cut_stays_an_error() -> None:
    """Every further read after the error raises it again. The stream never looks complete."""
    script: Script = (with_length(9) + b"abc", Wait(1), CLOSE)
    async with serving(script) as (_, client), media_of(client) as media:
        assert await anext(media) == b"abc"
        for _ in range(2):
            with pytest.raises(TransportError) as caught:
                await anext(media)
            assert str(caught.value) == f"{NAME}: cut after 3 of 9 bytes"


async def test_a_cut_tells_how_many_requests_there_were() -> None:
    """The error of a cut stream has the number of attempts."""
    failed = (answered("503 Service Unavailable"),)
    async with serving(failed, (with_length(9), CLOSE)) as (_, client):
        with pytest.raises(TransportError) as caught:
            await content_of(client)
    assert caught.value.attempts == 2


async def test_what_the_listener_of_responses_raises() -> None:
    """An error of ``on_response`` is raised, and the connection is closed."""

    def fail(_: object) -> None:
        raise LookupError("mine")

    async with serving((WHOLE[:-1], HANG)) as (server, client):
        with pytest.raises(LookupError, match="mine"):
            async with client.download_conference_recording("conf-1", "r-1", on_response=fail):
                raise AssertionError("not reached")
        assert await server.kept() == set()


async def test_a_cut_of_the_last_chunk_mark() -> None:
    """A chunked response without its last chunk is cut, even if all bytes have arrived."""
    async with serving((CHUNKED + in_chunks(AUDIO), CLOSE)) as (_, client):
        with pytest.raises(TransportError, match=r"cut after 102400 bytes$"):
            await content_of(client)


async def test_an_answer_whose_end_cannot_be_known() -> None:
    """A response without a length is an error, because a cut would look like the end."""
    until_closed = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + AUDIO
    async with serving((until_closed, CLOSE), retry=ONCE) as (_, client):
        with pytest.raises(APIError, match="does not say where it ends"):
            await content_of(client)


@pytest.mark.parametrize("status", ["202 Accepted", "204 No Content", "206 Partial Content"])
async def test_a_success_without_a_recording(status: str) -> None:
    """A 2xx without a recording is an error. It is not retried and does not open the breaker."""
    async with serving(*[(answered(status),)] * 40) as (server, client):
        for _ in range(25):  # more than it takes to open the breaker
            with pytest.raises(APIError, match=f"answered {status[:3]}, which has no recording in it"):
                await content_of(client)
        assert len(server.arrived) == 25


PACKED = gzip.compress(AUDIO)


@pytest.mark.parametrize("body", [PACKED, PACKED[:-12]], ids=["whole", "cut"])
@pytest.mark.parametrize("coding", ["gzip", "compress", "deflate", "gzip, gzip", "GZIP", "identity, gzip"])
async def test_a_packed_recording(coding: str, body: bytes, tmp_path: Path) -> None:
    """A compressed recording is an error, because a cut would not be noticed. It is not retried."""
    script: Script = (with_length(len(body), f"Content-Encoding: {coding}") + body,)
    async with serving(script, (WHOLE,)) as (server, client):
        with pytest.raises(APIError, match=f"answered in {coding.lower().removeprefix('identity, ')}, which"):
            await client.download_conference_recording("conf-1", "r-1", to=tmp_path / "r")
        assert len(server.arrived) == 1
    assert left_in(tmp_path) == []


async def test_a_recording_that_says_it_is_not_packed() -> None:
    """``Content-Encoding: identity`` is accepted, because it means no compression."""
    async with serving((with_length(9, "Content-Encoding: identity") + AUDIO[:9],)) as (_, client):
        assert await content_of(client) == AUDIO[:9]


@pytest.mark.parametrize("coding", ["xchunked", "gzip, chunked", "chunked, gzip", "chunkedx"])
async def test_a_recording_in_another_transfer_coding(coding: str) -> None:
    """Any transfer coding but ``chunked`` is an error, because a cut could go unnoticed."""
    head = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n".encode()
    async with serving((head + in_chunks(AUDIO) + b"0\r\n\r\n", CLOSE), retry=ONCE) as (_, client):
        with pytest.raises((APIError, TransportError)):
            await content_of(client)


@pytest.mark.parametrize(
    ("headers", "flaw"),
    [
        ({"Content-Length": "1"}, None),
        ({"Transfer-Encoding": "Chunked"}, None),
        ({"Transfer-Encoding": "chunked", "Content-Encoding": "identity"}, None),
        ({"Transfer-Encoding": "xchunked"}, "the transfer coding xchunked"),
        ({"Transfer-Encoding": "chunked, xchunked"}, "the transfer coding chunked, xchunked"),
        ({"Transfer-Encoding": "gzip, chunked"}, "the transfer coding gzip, chunked"),
        ({"Transfer-Encoding": "xchunked", "Content-Length": "1"}, "the transfer coding xchunked"),
        ({"Content-Length": "1", "Content-Encoding": "gzip"}, "answered in gzip"),
        ({}, "does not say where it ends"),
    ],
)
def test_headers_that_do_not_bound_a_recording(headers: dict[str, str], flaw: str | None) -> None:
    """The client checks the headers itself, because aiohttp's parsers differ."""
    found = _flaw(200, CIMultiDictProxy(CIMultiDict(headers)))
    assert found is None if flaw is None else flaw in str(found)


async def test_a_recording_that_was_read_is_closed_with_its_context() -> None:
    """A read after the context raises an error that says that the recording was complete."""
    async with serving((WHOLE,)) as (_, client):
        async with media_of(client) as media:
            assert b"".join([chunk async for chunk in media]) == AUDIO
            assert [chunk async for chunk in media] == []
        with pytest.raises(TransportError) as caught:
            await anext(media)
    assert str(caught.value) == f"{NAME}: closed, after all of it was read"


@pytest.mark.parametrize("head", [with_length(9), CHUNKED], ids=["length", "chunked"])
async def test_closing_the_client_ends_its_streams(head: bytes) -> None:
    """Closing the client ends its streams with a TransportError, not with an error of aiohttp."""
    body = b"3\r\nabc\r\n" if head == CHUNKED else b"abc"
    async with serving((head + body, HANG)) as (_, client), media_of(client) as media:
        assert await anext(media) == b"abc"
        await client.aclose()
        for _ in range(2):
            with pytest.raises(TransportError, match=f"{NAME}: closed with its client after 3( of 9)? bytes"):
                await anext(media)


async def test_a_stream_is_for_one_task() -> None:
    """A second task that reads gets an error, and the first one goes on."""
    async with serving((with_length(3), HANG)) as (_, client), media_of(client) as media:
        first = asyncio.ensure_future(anext(media))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already waiting"):
            await anext(media)
        assert not first.done()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


async def test_refusals_are_met_as_in_every_call() -> None:
    """A download retries a 429 and a 503, but not a 404. The error has Bandwidth's description."""
    body = b'{"type":"validation","description":"no such recording"}'
    limited = answered("429 Too Many Requests")
    failed = answered("503 Service Unavailable")
    async with serving((limited,), (failed,), (answered("404 Not Found", body),)) as (_, client):
        with pytest.raises(NotFoundError) as caught:
            await content_of(client)
        assert (caught.value.description, caught.value.attempts) == ("no such recording", 3)


async def test_a_server_that_keeps_failing() -> None:
    """Before the first byte, the number of attempts is limited as in every operation."""
    failed = (answered("503 Service Unavailable"),)
    async with serving(*[failed] * 9, retry=RetryPolicy(attempts=2, backoff_base=0)) as (server, client):
        with pytest.raises(ServerError) as caught:
            await content_of(client)
        assert (caught.value.attempts, len(server.arrived)) == (2, 2)


@virtual_time
async def test_a_long_recording_outlasts_every_limit() -> None:
    """While bytes arrive, neither the attempt timeout nor the deadline applies."""
    steps = [step for second in range(100) for step in (Wait(1.0), AUDIO[second : second + 1])]
    script = (with_length(100), *steps)
    async with serving(script, timeouts=Timeouts(attempt=1.5), deadline=3) as (_, client):
        assert await content_of(client) == AUDIO[:100]


@virtual_time
async def test_a_silence_ends_it() -> None:
    """If the server stops sending, the download fails after the attempt timeout."""
    loop = asyncio.get_running_loop()
    script: Script = (with_length(10), Wait(1), b"abc", HANG)
    async with serving(script, timeouts=Timeouts(attempt=2)) as (_, client):
        with pytest.raises(TransportError) as caught:
            await content_of(client)
        assert str(caught.value) == f"{NAME}: silent for 2 s after 3 of 10 bytes"
        assert loop.time() == pytest.approx(3, abs=0.1)


@virtual_time
async def test_headers_that_do_not_come() -> None:
    """Before the first byte, each attempt has its timeout and the operation its deadline."""
    loop = asyncio.get_running_loop()
    async with serving((HANG,), (HANG,), timeouts=Timeouts(attempt=2), deadline=3) as (_, client):
        with pytest.raises(DeadlineExceededError) as caught:
            await content_of(client)
        assert caught.value.attempts == 2
        assert loop.time() == pytest.approx(3, abs=0.1)


async def test_the_place_at_the_limiter_is_free_while_it_comes() -> None:
    """A download does not count as in flight, so a slow one does not block other requests."""
    async with serving((with_length(9) + b"abc", HANG)) as (_, client), media_of(client) as media:
        await anext(media)
        assert client.limiter.snapshot().in_flight == 0


async def test_what_is_asked_for_cannot_be() -> None:
    """Unsafe ids, and settings for a file without ``to``, are errors before any request."""
    async with serving() as (server, client):
        with pytest.raises(ConfigurationError, match="is no recording id"):
            client.download_conference_recording("conf-1", "../media")
        settings: dict[str, Any]
        for settings in ({"overwrite": True}, {"on_progress": print}):
            with pytest.raises(ConfigurationError, match="give it with to="):
                client.download_conference_recording("conf-1", "r-1", **settings)
    assert server.arrived == []


# To a file


async def test_a_recording_to_a_file(tmp_path: Path) -> None:
    """Only the file with the content is left. ``on_progress`` is called up to the last byte."""
    told: list[tuple[int, int | None]] = []
    async with serving((WHOLE,)) as (_, client):
        path = await client.download_conference_recording(
            "conf-1", "r-1", to=str(tmp_path / "r.mp3"), on_progress=lambda *now: told.append(now)
        )
    assert (path, path.read_bytes()) == (tmp_path / "r.mp3", AUDIO)
    assert left_in(tmp_path) == ["r.mp3"]
    assert told == sorted(told)
    assert told[-1] == (len(AUDIO), len(AUDIO))


async def test_a_cut_download_starts_again(tmp_path: Path) -> None:
    """After a cut the download starts again at the first byte, and the file has only the new content."""
    cuts: list[Script] = [(with_length(len(AUDIO)) + b"?" * cut, CLOSE) for cut in (50_000, 1, 102_399)]
    async with serving(*cuts, (CHUNKED + in_chunks(AUDIO[:9]) + b"0\r\n\r\n",)) as (server, client):
        path = await client.download_conference_recording("conf-1", "r-1", to=tmp_path / "r")
    assert path.read_bytes() == AUDIO[:9]
    assert len(server.arrived) == 4


async def test_the_attempts_of_a_download_run_out(tmp_path: Path) -> None:
    """Cuts and failed requests count together against the attempts of the policy."""
    cut: Script = (with_length(9) + b"abc", CLOSE)
    failed: Script = (answered("503 Service Unavailable"),)
    retry = RetryPolicy(attempts=4, backoff_base=0)
    async with serving(cut, failed, cut, cut, (WHOLE,), retry=retry) as (server, client):
        with pytest.raises(TransportError) as caught:
            await client.download_conference_recording("conf-1", "r-1", to=tmp_path / "r")
    assert re.fullmatch(rf"{NAME}: cut after \d of 9 bytes \(after 4 attempts\)", str(caught.value))
    assert len(server.arrived) == 4
    assert left_in(tmp_path) == []


@virtual_time
async def test_pauses_between_the_starts_of_a_download(tmp_path: Path) -> None:
    """The pauses grow as for any retry, and each start has the whole deadline again."""
    cut: Script = (Wait(2), with_length(9) + b"abc", Wait(2), CLOSE)
    script: Script = (Wait(2), WHOLE)
    loop = asyncio.get_running_loop()
    async with serving(cut, cut, script, retry=RetryPolicy(backoff_base=8), deadline=3) as (_, client):
        await client.download_conference_recording("conf-1", "r-1", to=tmp_path / "r")
        random = Random(5)
        pauses = random.uniform(0, 5) + random.uniform(0, 5)
        assert loop.time() == pytest.approx(2 * (2 + 2) + 2 + pauses, abs=0.5)


async def test_a_file_that_exists_is_refused(tmp_path: Path) -> None:
    """An existing file, or a broken link, is an error before anything is sent."""
    target, link = tmp_path / "r", tmp_path / "link"
    target.write_text("mine")
    link.symlink_to("nowhere")
    async with serving((WHOLE,)) as (server, client):
        for path in (target, link):
            with pytest.raises(ConfigurationError, match="exists already"):
                await client.download_conference_recording("conf-1", "r-1", to=path)
        assert server.arrived == []
        await client.download_conference_recording("conf-1", "r-1", to=target, overwrite=True)
    assert target.read_bytes() == AUDIO
    assert left_in(tmp_path) == ["link", "r"]


async def test_a_failed_download_leaves_the_old_file(tmp_path: Path) -> None:
    """Only a complete download replaces the old file."""
    target = tmp_path / "r"
    target.write_text("mine")
    async with serving((with_length(9) + b"abc", CLOSE), retry=ONCE) as (_, client):
        with pytest.raises(TransportError):
            await client.download_conference_recording("conf-1", "r-1", to=target, overwrite=True)
    assert target.read_text() == "mine"
    assert left_in(tmp_path) == ["r"]


@pytest.mark.parametrize("overwrite", [False, True])
async def test_a_folder_is_no_file(overwrite: bool, tmp_path: Path) -> None:
    """A folder as the target is an error before anything is sent."""
    async with serving((WHOLE,)) as (server, client):
        for path in (tmp_path, Path("..")):
            with pytest.raises(ConfigurationError, match="is a folder: give the name of a file in it"):
                await client.download_conference_recording("conf-1", "r-1", to=path, overwrite=overwrite)
    assert server.arrived == []


@pytest.mark.parametrize("name", ["r\0", "", "new/", "\ud800", b"r", 5])
async def test_what_cannot_name_a_file(name: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that no file can have is an error even before ``await``."""
    monkeypatch.chdir(tmp_path)
    async with serving() as (server, client):
        with pytest.raises(ConfigurationError):
            client.download_conference_recording("conf-1", "r-1", to=name)
    assert (server.arrived, left_in(tmp_path)) == ([], [])


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such files")
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["fifo", "link", "/dev/null"])
async def test_what_is_no_regular_file_stays(name: str, overwrite: bool, tmp_path: Path) -> None:
    """A device or a FIFO, also behind a link, is an error, because the download would replace it."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    async with serving((WHOLE,)) as (server, client):
        with pytest.raises(ConfigurationError, match="is no regular file: give the name of one"):
            await client.download_conference_recording(
                "conf-1", "r-1", to=tmp_path / name, overwrite=overwrite
            )
    assert server.arrived == []
    assert left_in(tmp_path) == ["fifo", "link"]


async def test_overwriting_through_a_link(tmp_path: Path) -> None:
    """The download replaces the target of a link, not the link. It creates a missing target."""
    (tmp_path / "old").write_text("mine")
    (tmp_path / "link").symlink_to("old")
    (tmp_path / "loose").symlink_to("new")
    async with serving((WHOLE,), (WHOLE,)) as (_, client):
        for name in ("link", "loose"):
            path = tmp_path / name
            assert path == await client.download_conference_recording(
                "conf-1", "r-1", to=path, overwrite=True
            )
            assert path.is_symlink()
    assert (tmp_path / "old").read_bytes() == (tmp_path / "new").read_bytes() == AUDIO
    assert left_in(tmp_path) == ["link", "loose", "new", "old"]


async def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """A missing folder raises the operating system's error before anything is sent."""
    async with serving((WHOLE,)) as (server, client):
        with pytest.raises(FileNotFoundError):
            await client.download_conference_recording("conf-1", "r-1", to=tmp_path / "no" / "r")
    assert server.arrived == []


async def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk raises the operating system's error, and the download is not retried."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Draft, "write", full)
    async with serving((WHOLE,), (WHOLE,)) as (server, client):
        with pytest.raises(OSError, match="No space left"):
            await client.download_conference_recording("conf-1", "r-1", to=tmp_path / "r")
    assert len(server.arrived) == 1
    assert left_in(tmp_path) == []


async def test_what_progress_raises_is_raised(tmp_path: Path) -> None:
    """An error of ``on_progress`` is raised, and the download is not retried."""

    def stop(*_: object) -> None:
        raise LookupError("enough")

    async with serving((WHOLE,)) as (server, client):
        with pytest.raises(LookupError, match="enough"):
            await client.download_conference_recording("conf-1", "r-1", to=tmp_path / "r", on_progress=stop)
    assert len(server.arrived) == 1
    assert left_in(tmp_path) == []


async def test_a_cancelled_download(tmp_path: Path) -> None:
    """A cancelled download leaves no file, no task and no connection."""
    begun = asyncio.Event()
    async with serving((with_length(9) + b"abc", HANG)) as (server, client):
        task = asyncio.ensure_future(
            client.download_conference_recording(
                "conf-1", "r-1", to=tmp_path / "r", on_progress=lambda *_: begun.set()
            )
        )
        await begun.wait()
        assert len(left_in(tmp_path)) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert left_in(tmp_path) == []
        assert await server.kept() == set()


async def test_a_download_cancelled_while_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is removed even if its thread is still writing when the download is cancelled."""
    writing, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    write = Draft.write

    def slow(draft: Draft, data: bytes) -> None:
        loop.call_soon_threadsafe(writing.set)
        go_on.wait()
        write(draft, data)

    monkeypatch.setattr(Draft, "write", slow)
    async with serving((WHOLE,)) as (_, client):
        task = asyncio.ensure_future(client.download_conference_recording("conf-1", "r-1", to=tmp_path / "r"))
        await writing.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        await loop.shutdown_default_executor()
    assert left_in(tmp_path) == []


async def test_closing_the_client_ends_its_downloads(tmp_path: Path) -> None:
    """Closing the client ends its downloads, as it ends any operation."""
    begun = asyncio.Event()
    async with serving((with_length(9) + b"abc", HANG)) as (_, client):
        task = asyncio.ensure_future(
            client.download_conference_recording(
                "conf-1", "r-1", to=tmp_path / "r", on_progress=lambda *_: begun.set()
            )
        )
        await begun.wait()
        await client.aclose()
        with pytest.raises(ClientStateError, match="was closed while the operation was under way"):
            await task
    assert left_in(tmp_path) == []


async def test_closing_the_client_at_the_moment_of_the_headers(tmp_path: Path) -> None:
    """A download lifts its time limit at the headers. That does not undo a stop at the same moment."""

    def stop(_: object) -> None:
        for operation in client._channel.operations:
            operation.stop(0.0)

    async with serving((with_length(9) + b"abc", HANG)) as (_, client):
        with pytest.raises(DeadlineExceededError, match="the run was stopped"):
            await client.download_conference_recording("conf-1", "r-1", to=tmp_path / "r", on_response=stop)
    assert left_in(tmp_path) == []


# The file


def test_a_name_taken_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    """A file that another process has created during the download is not replaced."""
    draft = Draft(tmp_path / "r", overwrite=False)
    draft.write(b"ours")
    (tmp_path / "r").write_text("theirs")
    with pytest.raises(ConfigurationError, match="exists already"):
        draft.keep()
    draft.close()
    assert (tmp_path / "r").read_text() == "theirs"
    assert left_in(tmp_path) == ["r"]


@pytest.mark.parametrize("taken", [False, True])
def test_a_file_system_without_links(taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without hard links, the name is checked again before the file is renamed."""

    def cannot(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", cannot)
    draft = Draft(tmp_path / "r", overwrite=False)
    draft.write(b"ours")
    if taken:
        (tmp_path / "r").write_text("theirs")
        with pytest.raises(ConfigurationError, match="exists already"):
            draft.keep()
    else:
        draft.keep()
    draft.close()
    assert (tmp_path / "r").read_text() == ("theirs" if taken else "ours")
    assert left_in(tmp_path) == ["r"]


def test_the_bytes_are_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content is on the disk before the file gets its name, so a crash leaves no short file."""
    seen: list[list[str]] = []
    sync: Callable[[int], None] = os.fsync

    def watched(file: int) -> None:
        seen.append(left_in(tmp_path))
        sync(file)

    monkeypatch.setattr(os, "fsync", watched)
    draft = Draft(tmp_path / "r", overwrite=False)
    draft.keep()
    ((draft_name,),) = seen
    assert draft_name != "r"
    assert left_in(tmp_path) == ["r"]


@pytest.mark.skipif(sys.platform == "win32", reason="rights are something else there")
def test_a_recording_is_for_its_owner_alone(tmp_path: Path) -> None:
    """A recording is private: no other user of the machine can read it, not even while it arrives."""
    draft = Draft(tmp_path / "r", overwrite=False)
    (name,) = left_in(tmp_path)
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    draft.keep()
    assert (tmp_path / "r").stat().st_mode & 0o777 == 0o600


PAGE = b"<!DOCTYPE html><html><title>Please sign in</title>" + b" " * 5000 + b"</html>"


def sent_as(kind: str, body: bytes) -> bytes:
    """Return a whole answer with this media type, or without one."""
    return answered("200 OK", body, *([f"Content-Type: {kind}"] if kind else []))


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        ("text/html; charset=utf-8", PAGE, "Please sign in"),
        ("", PAGE, "Please sign in"),
        ("audio/mpeg", b"\xef\xbb\xbf\r\n" + PAGE, "Please sign in"),
        ("application/json", b'{"type":"error","description":"not now"}', "not now"),
        ("application/octet-stream", b'{"type":"error","description":"not now"}', "not now"),
        ("text/plain", b"no healthy upstream", "no healthy upstream"),
        ("application/problem+json", b"{}", "{}"),
        ("audio/vnd.wave", b"", "empty"),
    ],
)
async def test_a_page_is_not_a_recording(kind: str, body: bytes, said: str, tmp_path: Path) -> None:
    """No chunk of it is handed out, no file appears, and the error says what came."""
    async with serving((sent_as(kind, body),), (sent_as(kind, body),)) as (server, client):
        chunks = []
        with pytest.raises(APIError, match=said):  # noqa: PT012  # a loop is one statement
            async with media_of(client) as media:
                async for chunk in media:
                    chunks.append(chunk)  # noqa: PERF401  # a comprehension would lose them
        with pytest.raises(APIError, match=re.escape(kind.partition(";")[0]) or "no content") as caught:
            await client.download_conference_recording("conf-1", "r-1", to=tmp_path / "r.wav")
        assert (caught.value.status, caught.value.attempts) == (200, 1)
        assert len(server.arrived) == 2
    assert (chunks, left_in(tmp_path)) == ([], [])


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("audio/vnd.wave", b"RIFF\x24\x00\x00\x00WAVEfmt "),
        ("audio/mpeg", b"ID3\x04\x00"),
        ("audio/mpeg", b"\xff\xfb\x90\x64"),
        ("text/plain", b"RIFF\x24\x00\x00\x00WAVEfmt "),
        ("text/html", b"ID3\x04\x00"),
        ("", b"OggS\x00"),
        ("binary/octet-stream", b"\x00"),
        ("audio/basic", b"<\x00\x01\x02"),
        ("AUDIO/L16; rate=8000", b"{\xfe\xff"),
        ("application/octet-stream", b"f"),
    ],
)
async def test_a_recording_is_taken_whatever_it_is_called(kind: str, body: bytes) -> None:
    """What begins as audio is audio, and audio without a header may begin with any byte."""
    async with serving((sent_as(kind, body),)) as (_, client):
        assert await content_of(client) == body


@pytest.mark.skipif(sys.platform == "win32", reason="rights are something else there")
@pytest.mark.parametrize("rights", [0o600, 0o640, 0o666, 0o400])
def test_overwriting_keeps_the_rights(rights: int, tmp_path: Path) -> None:
    """The new file keeps the permissions of the old one, also during the download."""
    path = tmp_path / "r"
    path.write_text("mine")
    path.chmod(rights)
    draft = Draft(path, overwrite=True)
    assert (
        tmp_path / next(name for name in left_in(tmp_path) if name != "r")
    ).stat().st_mode & 0o777 == rights
    draft.write(b"new")
    draft.keep()
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", rights)


def test_a_device_that_appears_meanwhile_stays(tmp_path: Path) -> None:
    """``overwrite`` does not replace a folder that has appeared during the download."""
    draft = Draft(tmp_path / "r", overwrite=True)
    (tmp_path / "r").mkdir()
    with pytest.raises(ConfigurationError, match="is a folder"):
        draft.keep()
    draft.close()
    assert left_in(tmp_path) == ["r"]


def test_rights_that_cannot_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the permissions cannot be set, nothing is written and no draft is left."""

    def cannot(*_: object) -> None:
        raise PermissionError("no rights here")

    (tmp_path / "r").write_text("mine")
    monkeypatch.setattr(Path, "chmod", cannot)
    with pytest.raises(PermissionError):
        Draft(tmp_path / "r", overwrite=True)
    assert left_in(tmp_path) == ["r"]


def test_a_closed_draft_takes_nothing_more(tmp_path: Path) -> None:
    """A late write from a thread does not create the file again."""
    draft = Draft(tmp_path / "r", overwrite=False)
    draft.close()
    draft.close()
    for late in (partial(draft.write, b"x"), draft.restart, draft.keep):
        with pytest.raises(ValueError, match="closed"):
            late()
    assert left_in(tmp_path) == []


@given(st.lists(st.binary(max_size=9) | st.none(), max_size=9))
def test_a_file_holds_what_was_written_since_its_last_start(steps: list[bytes | None]) -> None:
    """The file has all bytes since the last restart, in order. In the steps, None is a restart."""
    from tempfile import TemporaryDirectory  # noqa: PLC0415  # Hypothesis uses one tmp_path for all examples

    wanted = b""
    with TemporaryDirectory() as folder:
        draft = Draft(Path(folder) / "r", overwrite=False)
        for step in steps:
            if step is None:
                draft.restart()
            else:
                draft.write(step)
            wanted = b"" if step is None else wanted + step
        draft.keep()
        assert (Path(folder) / "r").read_bytes() == wanted
