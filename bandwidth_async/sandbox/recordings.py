"""The recordings of conferences: some are there from the start, others are made by BXML while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from attrs import evolve, frozen

from bandwidth_async.sandbox.draws import Draws
from bandwidth_async.sandbox.facts import Conference, to_milliseconds
from bandwidth_async.sandbox.media import BLOCK, BYTES_A_SECOND, HEADER, wav
from bandwidth_async.sandbox.targets import Target


@frozen(kw_only=True)
class Recording:
    """One recording. ``since`` is when it began or went on to record, None while paused and at its end."""

    conference: Conference
    id: str
    started_at: datetime
    since: datetime | None = None
    ended_at: datetime | None = None
    data: int = 0
    """Bytes of sound so far."""
    report_to: Target | None = None
    tag: str | None = None

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return HEADER + self.data

    @property
    def duration(self) -> str:
        """Return the length of the sound in ISO-8601."""
        return f"PT{self.data / BYTES_A_SECOND:.2f}S"

    def paused(self, at: datetime) -> Recording:
        """Return it with what was recorded until ``at``, recording no more."""
        if self.since is None:
            return self
        more = round((at - self.since).total_seconds() * BYTES_A_SECOND / 2) * 2
        return evolve(self, data=self.data + max(0, more), since=None)

    def resumed(self, at: datetime) -> Recording:
        """Return it recording again."""
        return self if self.since else evolve(self, since=at)

    def stopped(self, at: datetime) -> Recording:
        """Return it finished."""
        return evolve(self.paused(at), ended_at=at)


class Recordings:
    """All recordings. Those from the start are drawn when asked for; those made later are kept."""

    def __init__(self, *, span: tuple[int, int], size: int, draws: Draws) -> None:
        self._span = span
        self._data = size - HEADER
        self._draws = draws
        self._made: dict[str, list[Recording]] = {}  # by conference; changed in start() and _change()

    @property
    def longest(self) -> timedelta:
        """How long recording all that a conference has at its start takes."""
        return self._span[1] * self._one

    @property
    def _one(self) -> timedelta:
        return timedelta(seconds=self._data / BYTES_A_SECOND)

    def number(self, conference: Conference) -> int:
        """Return how many recordings the conference has."""
        return self._number_at_start(conference) + len(self._made.get(conference.id, ()))

    def of(self, conference: Conference) -> list[Recording]:
        """Return all recordings of the conference, oldest first."""
        early = [self._early(conference, slot) for slot in range(self._number_at_start(conference))]
        return early + self._made.get(conference.id, [])

    def find(self, conference: Conference, recording_id: str) -> Recording | None:
        """Return the recording of that id in that conference."""
        return next((it for it in self.of(conference) if it.id == recording_id), None)

    def sound(self, recording: Recording) -> Iterator[bytes]:
        """Yield the file of a recording, block by block."""
        return wav(self._draws.noise(recording.id, BLOCK), recording.size)

    def start(
        self, conference: Conference, at: datetime, *, report_to: Target | None, tag: str | None
    ) -> None:
        """Begin a recording; while there is one it goes on instead (a guess)."""
        if self._current(conference) is None:
            at = to_milliseconds(at)
            recording = Recording(
                conference=conference,
                id=self._draws.id("r", conference.position, self.number(conference)),
                started_at=at,
                since=at,
                report_to=report_to,
                tag=tag,
            )
            self._made.setdefault(conference.id, []).append(recording)

    def pause(self, conference: Conference, at: datetime) -> None:
        """Pause the recording under way, if any."""
        current = self._current(conference)
        if current is not None:
            self._change(current.paused(to_milliseconds(at)))

    def resume(self, conference: Conference, at: datetime) -> None:
        """Go on with the recording under way, if any."""
        current = self._current(conference)
        if current is not None:
            self._change(current.resumed(to_milliseconds(at)))

    def stop(self, conference: Conference, at: datetime) -> Recording | None:
        """Finish the recording under way and return it, None when there is none."""
        current = self._current(conference)
        return None if current is None else self._change(current.stopped(to_milliseconds(at)))

    def _current(self, conference: Conference) -> Recording | None:
        made = self._made.get(conference.id)
        return made[-1] if made and made[-1].ended_at is None else None

    def _change(self, recording: Recording) -> Recording:
        self._made[recording.conference.id][-1] = recording
        return recording

    def _number_at_start(self, conference: Conference) -> int:
        if conference.recordings is not None:
            return conference.recordings
        return self._draws.number("recordings", conference.position, self._span)

    def _early(self, conference: Conference, slot: int) -> Recording:
        started_at = conference.created_at + slot * self._one
        return Recording(
            conference=conference,
            id=self._draws.id("r", conference.position, slot),
            started_at=to_milliseconds(started_at),
            ended_at=to_milliseconds(started_at + self._one),
            data=self._data,
        )
