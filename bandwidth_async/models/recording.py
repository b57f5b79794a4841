"""The recordings of a conference as Bandwidth describes them."""

from __future__ import annotations

import re
from datetime import datetime

from attrs import frozen

_ISO_DURATION = re.compile(
    r"P(?:(\d{1,6})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,9}(?:[.,]\d{1,12})?)S)?)?", re.ASCII
)
_SECONDS = (86400.0, 3600.0, 60.0, 1.0)


@frozen(kw_only=True)
class ConferenceRecording:
    """What is known about a recording; its audio is what `download_conference_recording` fetches.

    All times are aware. ``status`` and ``file_format`` are Bandwidth's words (``complete``, ``wav``), and
    others than today's may come. ``duration`` is as sent (``PT13.67S``), `seconds` is its number.
    ``media_url`` is informational: this client builds its own URLs and sends credentials nowhere else.
    """

    recording_id: str
    conference_id: str | None = None
    account_id: str | None = None
    name: str | None = None
    recording_name: str | None = None
    status: str | None = None
    file_format: str | None = None
    channels: int | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    duration: str | None = None
    media_url: str | None = None

    @property
    def seconds(self) -> float | None:
        """How long it is, or None where ``duration`` is missing or no span of days, hours and less."""
        match = _ISO_DURATION.fullmatch(self.duration or "")
        if match is None or not any(match.groups()):
            return None
        numbers = (float((text or "0").replace(",", ".")) for text in match.groups())
        return sum(number * unit for number, unit in zip(numbers, _SECONDS, strict=True))
