"""What never changes about a conference and a call once they exist, and how a time is written."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen


@frozen(kw_only=True)
class Conference:
    """The facts of one conference; ``members`` and ``recordings`` at its start, None to draw them.

    Without a name it is called by its position; that name is not stored.
    """

    position: int
    id: str
    _name: str | None
    created_at: datetime
    members: int | None
    recordings: int | None = 0

    @property
    def name(self) -> str:
        """What it was named, or ``conference-000001`` and so on."""
        return self._name or f"conference-{self.position + 1:06}"

    @property
    def tag(self) -> str | None:
        """Two of three have a tag."""
        return f"tag-{self.position % 7}" if self.position % 3 else None

    @property
    def event_url(self) -> str | None:
        """Every other one names a place for its events, unless the sandbox has one for all."""
        return f"https://example.com/conferences/{self.position}" if self.position % 2 else None


@frozen(kw_only=True)
class PhoneCall:
    """One call that is or was in a conference, from when the conference was created."""

    conference: Conference
    slot: int
    id: str

    @property
    def origin(self) -> str:
        """The number of the caller, from the range that is kept free for fiction."""
        return f"+1919555{100 + (20 * self.conference.position + self.slot) % 100:04}"

    @property
    def destination(self) -> str:
        """The number that was called."""
        return "+18285550100"


def wire_time(moment: datetime) -> str:
    """Return a UTC time as Bandwidth writes it: ISO-8601 with milliseconds and Z."""
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def to_milliseconds(moment: datetime) -> datetime:
    """Return the time without what Bandwidth does not write."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def without_nulls(fields: dict[str, object]) -> dict[str, object]:
    """Return the fields that have a value: what a thing lacks is absent rather than null (a guess)."""
    return {name: value for name, value in fields.items() if value is not None}
