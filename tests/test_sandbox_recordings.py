"""The bytes of recordings, and the state of one while it is made."""

from __future__ import annotations

import io
import itertools
import tracemalloc
import wave
from datetime import UTC, datetime, timedelta

import pytest

from bandwidth_async.sandbox.conferences import Conference, ConferenceStore
from bandwidth_async.sandbox.generated import SeededGenerator
from bandwidth_async.sandbox.recordings import BLOCK_SIZE, Recording, RecordingStore, wav_file, wav_header

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


def recorded(seconds: int, *, file_format: str) -> tuple[RecordingStore, Conference, Recording]:
    """Return a store, and its only recording, which ended now."""
    conferences = ConferenceStore(seed=1)
    conference = conferences.get(conferences.add(at=NOW))
    assert conference is not None
    recordings = RecordingStore(span=(0, 0), size=44, generator=SeededGenerator(1))
    began = NOW - timedelta(seconds=seconds)
    recordings.start(conference, began, webhook=None, file_format=file_format)
    done = recordings.stop(conference, NOW)
    assert done is not None
    return recordings, conference, done


@pytest.mark.parametrize("seconds", [0, 1, 60])
def test_an_mp3_file_is_frames_of_silence(seconds: int) -> None:
    """Each is 24 ms long and has 384 bytes (MPEG 1, layer III, mono, 48 kHz, 128 kbit/s). All differ."""
    recordings, _, done = recorded(seconds, file_format="mp3")
    whole = b"".join(recordings.file(done))
    assert len(whole) == done.size
    frames = [whole[start : start + 384] for start in range(0, len(whole), 384)]
    assert len(set(frames)) == len(frames) == max(1, -(-seconds * 1000 // 24))
    # Sync, version 1, layer III, no CRC; 128 kbit/s at 48 kHz; mono. Then nothing that a player would decode.
    assert {frame[:21] for frame in frames} == {b"\xff\xfb\x94\xc0" + bytes(17)}


def test_a_recording_is_kept_for_30_days() -> None:
    """As Bandwidth documents it."""
    recordings, conference, done = recorded(1, file_format="wav")
    for later, kept in ((timedelta(days=30), [done]), (timedelta(days=30, seconds=1), [])):
        assert recordings.of(conference, NOW + later) == kept
        assert recordings.find(conference, done.id, NOW + later) == (done if kept else None)


def test_a_pause_is_not_recorded() -> None:
    """Two seconds, a pause of an hour, three seconds: five seconds of sound, between two times."""
    conferences = ConferenceStore(seed=1)
    conference = conferences.get(conferences.add(at=NOW))
    assert conference is not None
    recordings = RecordingStore(span=(0, 0), size=44, generator=SeededGenerator(1))
    recordings.start(conference, NOW, webhook=None, file_format="wav")
    recordings.pause(conference, NOW + timedelta(seconds=2))
    recordings.pause(conference, NOW + timedelta(seconds=9))
    recordings.resume(conference, NOW + timedelta(hours=1))
    recordings.resume(conference, NOW + timedelta(hours=1, seconds=1))
    recordings.start(conference, NOW + timedelta(hours=1, seconds=2), webhook=None, file_format="mp3")
    done = recordings.stop(conference, NOW + timedelta(hours=1, seconds=3))
    assert done is not None
    assert (done.duration, done.size) == ("PT5.00S", 5 * 96_000 + 44)
    assert (done.started_at, done.ended_at) == (NOW, NOW + timedelta(hours=1, seconds=3))
    assert recordings.of(conference, NOW) == [done]
    assert recordings.stop(conference, NOW) is None
    recordings.pause(conference, NOW)
    recordings.resume(conference, NOW)
    assert recordings.of(conference, NOW) == [done]
    assert sum(map(len, recordings.file(done))) == done.size
