"""The bytes of recordings, and the state of one while it is made."""

from __future__ import annotations

import io
import itertools
import tracemalloc
import wave
from datetime import UTC, datetime, timedelta

import pytest

from bandwidth_async.sandbox.conferences import ConferenceStore
from bandwidth_async.sandbox.generated import SeededGenerator
from bandwidth_async.sandbox.recordings import BLOCK_SIZE, RecordingStore, wav_file, wav_header

NOISE = SeededGenerator(1).noise("r-1", BLOCK_SIZE)
NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    "size", [44, 46, 44 + BLOCK_SIZE - 2, 44 + BLOCK_SIZE, 44 + BLOCK_SIZE + 2, 1_000_000]
)
def test_a_wav_file_has_its_size_and_can_be_read(size: int) -> None:
    """Header included; 16-bit mono at 48 kHz."""
    whole = b"".join(wav_file(NOISE, size))
    assert len(whole) == size
    with wave.open(io.BytesIO(whole)) as file:
        assert file.getparams()[:4] == (1, 2, 48_000, (size - 44) // 2)
        assert file.readframes(size) == whole[44:]


@pytest.mark.parametrize(
    ("data", "riff", "samples"),
    [
        (0, 36, 0),
        (2**32 - 37, 2**32 - 1, 2**32 - 37),
        (2**32 - 2, 2**32 - 1, 2**32 - 2),
        (2**32, 2**32 - 1, 2**32 - 1),
        (2**40, 2**32 - 1, 2**32 - 1),
    ],
)
def test_a_file_of_more_than_4_gb_has_the_largest_length_in_its_header(
    data: int, riff: int, samples: int
) -> None:
    """A recording that is not stopped for half a day is one; its download does not fail."""
    header = wav_header(data)
    assert len(header) == 44
    assert (int.from_bytes(header[4:8], "little"), int.from_bytes(header[40:], "little")) == (riff, samples)


def test_no_two_blocks_are_the_same() -> None:
    """A download with a block lost or doubled is another file."""
    blocks = list(wav_file(NOISE, 44 + 10 * BLOCK_SIZE))[1:]
    assert len(set(blocks)) == len(blocks) == 10


def test_a_long_file_is_never_whole_in_memory() -> None:
    """The first 200 blocks of a file of 4 GB take less than a megabyte."""
    tracemalloc.start()
    for _ in itertools.islice(wav_file(NOISE, 4_000_000_000), 200):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_pause_is_not_recorded() -> None:
    """Two seconds, a pause of an hour, three seconds: five seconds of sound, between two times."""
    conferences = ConferenceStore(seed=1)
    conference = conferences.get(conferences.add(at=NOW))
    assert conference is not None
    recordings = RecordingStore(span=(0, 0), size=44, generator=SeededGenerator(1))
    recordings.start(conference, NOW, webhook=None, tag="t")
    recordings.pause(conference, NOW + timedelta(seconds=2))
    recordings.pause(conference, NOW + timedelta(seconds=9))
    recordings.resume(conference, NOW + timedelta(hours=1))
    recordings.resume(conference, NOW + timedelta(hours=1, seconds=1))
    recordings.start(conference, NOW + timedelta(hours=1, seconds=2), webhook=None, tag="other")
    done = recordings.stop(conference, NOW + timedelta(hours=1, seconds=3))
    assert done is not None
    assert (done.duration, done.size, done.tag) == ("PT5.00S", 5 * 96_000 + 44, "t")
    assert (done.started_at, done.ended_at) == (NOW, NOW + timedelta(hours=1, seconds=3))
    assert recordings.of(conference) == [done]
    assert recordings.stop(conference, NOW) is None
    recordings.pause(conference, NOW)
    recordings.resume(conference, NOW)
    assert recordings.of(conference) == [done]
    assert sum(map(len, recordings.file(done))) == done.size
