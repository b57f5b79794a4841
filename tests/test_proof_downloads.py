"""Downloads of recordings: memory does not grow with their size, and a cut connection leaves no short file.

``pytest tests/test_proof_downloads.py --full -s`` fetches 200 MB. The sandbox runs in this process. The
client that is measured runs in a new process.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from bandwidth_async import ClientCredentials, RetryPolicy, TransportError, VoiceClient
from bandwidth_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

pytestmark = pytest.mark.timeout(600)

MIB = 1024 * 1024
TENTHS = [f"0.{tenth}" for tenth in range(1, 10)]

# Fetches a recording in one of three ways, and prints its size, its digest and the growth of peak memory. The
# way "memory" keeps all chunks, so its growth shows that the measurement works. The first peak is read after
# all imports and after one request that is not a download.
FETCH = """
import asyncio, hashlib, json, resource, sys
from bandwidth_async import VoiceClient

def peak():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

async def fetch(way, conference, recording, path):
    digest, size = hashlib.sha256(), 0
    async with VoiceClient.from_env() as client:
        await client.get_conference_recording(conference, recording)
        before = peak()
        if way == "file":
            await client.download_conference_recording(conference, recording, to=path)
        else:
            kept = []
            async with client.download_conference_recording(conference, recording) as media:
                async for chunk in media:
                    digest.update(chunk)
                    size += len(chunk)
                    if way == "memory":
                        kept.append(chunk)
        after = peak()
    if way == "file":
        with open(path, "rb") as file:
            while chunk := file.read(65536):
                digest.update(chunk)
                size += len(chunk)
    print(json.dumps({"size": size, "sha256": digest.hexdigest(), "growth": after - before}))

asyncio.run(fetch(*sys.argv[1:]))
"""
# A process inherits the peak of its parent, which is large here. So a small process starts the measured one.
BETWEEN = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', *sys.argv[1:]]))"


def client_of(sandbox: Sandbox, **settings: Any) -> VoiceClient:
    return VoiceClient(
        account_id=sandbox.account_id,
        credentials=ClientCredentials(sandbox.client_id, sandbox.client_secret),
        voice_url=sandbox.url,
        api_url=sandbox.url,
        **settings,
    )


def digest_of(blocks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def files(folder: Path) -> dict[str, int]:
    """Return the name and size of each file in a folder."""
    return {path.name: path.stat().st_size for path in folder.iterdir()}


async def cut_short(client: VoiceClient, conference: str, recording: str) -> tuple[int, TransportError]:
    """Receive chunks until an error. Return the number of bytes received, and the error."""
    received = 0
    try:
        async with client.download_conference_recording(conference, recording) as media:
            async for chunk in media:
                received += len(chunk)
    except TransportError as error:
        return received, error
    pytest.fail(f"the recording ended after {received} bytes as if it were whole")


async def fetched(sandbox: Sandbox, way: str, folder: Path) -> dict[str, Any]:
    """Fetch the recording of a sandbox in a new process, and return the figures that it prints."""
    (conference,) = sandbox.conference_ids
    (recording,) = sandbox.recording_ids(conference)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", BETWEEN, FETCH, way, conference, recording, str(folder / "recording.wav")),
        env={**os.environ, **sandbox.environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    told: dict[str, Any] = json.loads(out)
    return told


@pytest.mark.parametrize("way", ["file", "chunks", "memory"])
async def test_memory_does_not_grow_with_a_recording(
    way: str, full: bool, tmp_path: Path, show: Callable[[str], None]
) -> None:
    """A download to a file or in chunks needs less than 16 MiB. If chunks are kept, the growth shows them."""
    size = 200_000_000 if full else 60_000_000
    async with Sandbox(conferences=1, recordings=1, recording_size=size) as sandbox:
        loop = asyncio.get_running_loop()
        started = loop.time()
        told = await fetched(sandbox, way, tmp_path)
        show(
            f"{way}: {told['size']} bytes in {loop.time() - started:.1f} s, "
            f"the peak grew by {told['growth'] / MIB:.1f} MiB"
        )
        (conference,) = sandbox.conference_ids
        (recording,) = sandbox.recording_ids(conference)
        assert told["size"] == size
        assert told["sha256"] == digest_of(sandbox.sound(conference, recording))
    if way == "memory":
        assert told["growth"] > 0.8 * size
    else:
        assert told["growth"] < 16 * MIB
    assert files(tmp_path) == ({"recording.wav": size} if way == "file" else {})


@pytest.mark.parametrize("share", TENTHS)
async def test_a_cut_anywhere_is_an_error_and_leaves_no_file(
    share: str, full: bool, tmp_path: Path, show: Callable[[str], None]
) -> None:
    """A download to a file fails after two attempts. A download in chunks raises an error at the cut."""
    size = 200_000_000 if full else 5_000_000
    async with (
        Sandbox(conferences=1, recordings=1, recording_size=size) as sandbox,
        client_of(sandbox, retry=RetryPolicy(attempts=2, backoff_base=0)) as client,
    ):
        (conference,) = sandbox.conference_ids
        (recording,) = sandbox.recording_ids(conference)
        file = tmp_path / "recording.wav"

        sandbox.plan(f"cut@{share}", times=2)
        with pytest.raises(TransportError, match=r"cut after \d+ of \d+ bytes \(after 2 attempts\)"):
            await client.download_conference_recording(conference, recording, to=file)
        assert files(tmp_path) == {}

        sandbox.plan(f"cut@{share}")
        received, error = await cut_short(client, conference, recording)
        assert f"cut after {received} of {size} bytes" in str(error)
        # Bytes that aiohttp has buffered are lost with the connection.
        assert 0 <= int(size * float(share)) - received < MIB
        assert files(tmp_path) == {}

        assert await client.download_conference_recording(conference, recording, to=file) == file
        assert files(tmp_path) == {"recording.wav": size}
        answers = sandbox.truth()["requests"]["download"]
        show(f"cut after {received} of {size} bytes: an error each time, no file; then whole: {answers}")
        assert answers == {"cut": 3, "200": 1}
