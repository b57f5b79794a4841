"""The recordings of conferences and their files.

A WAV file is 16-bit mono at 48 kHz and contains noise. An MP3 file is mono at 48 kHz and 128 kbit/s, and
contains silence, with noise in bytes that no player plays. The files are generated while they are sent and
never held in memory as a whole. The noise differs from recording to recording and from block to block. So a
download that lost, repeated or swapped a block is not the same file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import datetime, timedelta

from attrs import evolve, frozen

from bandwidth_async.sandbox.conferences import Conference, format_time, to_milliseconds
from bandwidth_async.sandbox.events import Webhook
from bandwidth_async.sandbox.generated import SeededGenerator
from bandwidth_async.sandbox.messages import without_nulls

HEADER_SIZE = 44
BLOCK_SIZE = 64 * 1024
_SAMPLE_RATE = 48_000
_BYTES_PER_SECOND = 2 * _SAMPLE_RATE
_BLOCK_NUMBER_SIZE = 8
_MAX_LENGTH = 2**32 - 1
# One MP3 frame is 24 ms of sound. The header is followed by the 17 zero bytes that mean silence.
_MP3_FRAME_SIZE = 384
_MP3_FRAME_START = bytes.fromhex("fffb94c0") + bytes(17)
_WAV_BYTES_PER_MP3_FRAME = 2 * 1152
# Bandwidth documents how long it keeps a recording.
_KEPT = timedelta(days=30)


@frozen(kw_only=True)
class Recording:
    """One recording.

    ``since`` is when it started or resumed, or None while it is paused and after its end. ``data`` is the
    number of bytes of WAV recorded before ``since``. ``webhook`` is where StartRecording wants its event.
    """

    conference: Conference
    id: str
    started_at: datetime
    since: datetime | None = None
    ended_at: datetime | None = None
    data: int = 0
    webhook: Webhook | None = None
    file_format: str = "wav"

    @property
    def size(self) -> int:
        """The size of the file in bytes."""
        if self.file_format == "mp3":
            return max(1, -(-self.data // _WAV_BYTES_PER_MP3_FRAME)) * _MP3_FRAME_SIZE
        return HEADER_SIZE + self.data

    @property
    def duration(self) -> str:
        """The length of the sound, in ISO-8601."""
        return f"PT{self.data / _BYTES_PER_SECOND:.2f}S"

    def paused(self, at: datetime) -> Recording:
        """Return the recording paused at that time."""
        if self.since is None:
            return self
        more = round((at - self.since).total_seconds() * _BYTES_PER_SECOND / 2) * 2
        return evolve(self, data=self.data + max(0, more), since=None)

    def resumed(self, at: datetime) -> Recording:
        """Return the recording resumed at that time."""
        return self if self.since else evolve(self, since=at)

    def stopped(self, at: datetime) -> Recording:
        """Return the recording ended at that time."""
        return evolve(self.paused(at), ended_at=at)

    def fields(self, account_id: str, url: str) -> dict[str, object]:
        """Return the fields that the API has of the recording; ``url`` is the address of the API."""
        conference, ended_at = self.conference, self.ended_at
        path = f"/api/v2/accounts/{account_id}/conferences/{conference.id}/recordings/{self.id}/media"
        return without_nulls(
            {
                "accountId": account_id,
                "conferenceId": conference.id,
                "name": conference.name,
                "recordingId": self.id,
                "duration": self.duration if ended_at else None,
                "channels": 1,
                "startTime": format_time(self.started_at),
                "endTime": format_time(ended_at) if ended_at else None,
                "fileFormat": self.file_format,
                "status": "complete" if ended_at else "processing",
                "mediaUrl": url + path if ended_at else None,
            }
        )


class RecordingStore:
    """All recordings. Those from the start are generated when asked for; later ones are stored."""

    def __init__(self, *, span: tuple[int, int], size: int, generator: SeededGenerator) -> None:
        self._span = span
        self._data_at_start = size - HEADER_SIZE
        self._generator = generator
        # Recordings made by BXML, by conference id; changed in start() and _replace_last().
        self._made: dict[str, list[Recording]] = {}

    @property
    def max_duration_at_start(self) -> timedelta:
        """How long all recordings from the start of one conference can last together."""
        return self._span[1] * self._duration_at_start

    @property
    def _duration_at_start(self) -> timedelta:
        return timedelta(seconds=self._data_at_start / _BYTES_PER_SECOND)

    def count(self, conference: Conference) -> int:
        """Return how many recordings the conference has."""
        return self._number_at_start(conference) + len(self._made.get(conference.id, ()))

    def of(self, conference: Conference, now: datetime) -> list[Recording]:
        """Return the recordings of the conference, oldest first, until 30 days after the end of each."""
        at_start = [self._at_start(conference, slot) for slot in range(self._number_at_start(conference))]
        recordings = at_start + self._made.get(conference.id, [])
        return [it for it in recordings if it.ended_at is None or now - it.ended_at <= _KEPT]

    def find(self, conference: Conference, recording_id: str, now: datetime) -> Recording | None:
        """Return the recording with that id in that conference."""
        return next((it for it in self.of(conference, now) if it.id == recording_id), None)

    def file(self, recording: Recording) -> Iterator[bytes]:
        """Yield the file of a recording, block by block."""
        write = mp3_file if recording.file_format == "mp3" else wav_file
        return write(self._generator.noise(recording.id, BLOCK_SIZE), recording.size)

    def start(
        self, conference: Conference, at: datetime, *, webhook: Webhook | None, file_format: str
    ) -> None:
        """Start a recording. If there is one in progress, it continues instead."""
        if self._current(conference) is None:
            at = to_milliseconds(at)
            recording = Recording(
                conference=conference,
                id=self._generator.make_id("r", conference.position, self.count(conference)),
                started_at=at,
                since=at,
                webhook=webhook,
                file_format=file_format,
            )
            self._made.setdefault(conference.id, []).append(recording)

    def pause(self, conference: Conference, at: datetime) -> None:
        """Pause the recording in progress, if there is one."""
        current = self._current(conference)
        if current is not None:
            self._replace_last(current.paused(to_milliseconds(at)))

    def resume(self, conference: Conference, at: datetime) -> None:
        """Resume the recording in progress, if there is one."""
        current = self._current(conference)
        if current is not None:
            self._replace_last(current.resumed(to_milliseconds(at)))

    def stop(self, conference: Conference, at: datetime) -> Recording | None:
        """End the recording in progress and return it, None if there is none."""
        current = self._current(conference)
        return None if current is None else self._replace_last(current.stopped(to_milliseconds(at)))

    def _current(self, conference: Conference) -> Recording | None:
        made = self._made.get(conference.id)
        return made[-1] if made and made[-1].ended_at is None else None

    def _replace_last(self, recording: Recording) -> Recording:
        self._made[recording.conference.id][-1] = recording
        return recording

    def _number_at_start(self, conference: Conference) -> int:
        if conference.recordings is not None:
            return conference.recordings
        return self._generator.count("recordings", conference.position, self._span)

    def _at_start(self, conference: Conference, slot: int) -> Recording:
        started_at = conference.created_at + slot * self._duration_at_start
        return Recording(
            conference=conference,
            id=self._generator.make_id("r", conference.position, slot),
            started_at=to_milliseconds(started_at),
            ended_at=to_milliseconds(started_at + self._duration_at_start),
            data=self._data_at_start,
        )


def wav_header(data: int) -> bytes:
    """Return the 44 bytes of header for ``data`` bytes of samples.

    The format has 32 bits for a length. A longer one, half a day of sound, is written as the largest
    possible, as programs do that record without knowing when they will stop.
    """
    riff = struct.pack("<4sI4s", b"RIFF", min(HEADER_SIZE - 8 + data, _MAX_LENGTH), b"WAVE")
    pcm = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, _SAMPLE_RATE, _BYTES_PER_SECOND, 2, 16)
    return riff + pcm + struct.pack("<4sI", b"data", min(data, _MAX_LENGTH))


def wav_file(noise: bytes, size: int) -> Iterator[bytes]:
    """Yield a WAV file of ``size`` bytes, header included, in blocks; ``noise`` is one block to repeat."""
    yield wav_header(size - HEADER_SIZE)
    for number, start in enumerate(range(HEADER_SIZE, size, BLOCK_SIZE)):
        block = number.to_bytes(_BLOCK_NUMBER_SIZE, "little") + noise[_BLOCK_NUMBER_SIZE:BLOCK_SIZE]
        yield block[: size - start]


def mp3_file(noise: bytes, size: int) -> Iterator[bytes]:
    """Yield an MP3 file of ``size`` bytes, which are whole frames, frame by frame."""
    for number in range(size // _MP3_FRAME_SIZE):
        start = _MP3_FRAME_START + number.to_bytes(_BLOCK_NUMBER_SIZE, "little")
        yield start + noise[len(start) : _MP3_FRAME_SIZE]
