"""The conferences that exist: what they are, when they ended, and how to list them.

Everything is generated from the seed, except the times.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from random import Random

from attrs import frozen

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.sandbox.generated import format_uuid

MAX_MEMBERS = 20
"""Calls that fit into one conference, as Bandwidth documents it."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
_DEFAULT_NAME = re.compile(r"conference-(\d{6,12})", re.ASCII)
_CREATED_WITHIN = timedelta(hours=3)


@frozen(kw_only=True)
class Conference:
    """What never changes about a conference.

    ``members`` and ``recordings`` are the counts at its start, or None to generate them. Without a name it
    has a default name made from its position, which is not stored.
    """

    position: int
    id: str
    _name: str | None
    created_at: datetime
    members: int | None
    recordings: int | None = 0

    @property
    def name(self) -> str:
        """The given name, or ``conference-000001`` and so on."""
        return self._name or f"conference-{self.position + 1:06}"

    @property
    def tag(self) -> str | None:
        """The tag, which two of three conferences have."""
        return f"tag-{self.position % 7}" if self.position % 3 else None


class ConferenceStore:
    """All conferences, oldest first, with when they ended and how many valid end requests they got."""

    def __init__(self, *, seed: int) -> None:
        self._random = Random(f"{seed}/conferences")
        # These three are changed in add(). Positions by name are those of names that were given.
        self._conferences: list[Conference] = []
        self._positions: dict[str, int] = {}
        self._positions_by_name: dict[str, list[int]] = {}
        # Changed in complete().
        self._ended_at: dict[str, datetime] = {}
        # Changed in end().
        self._end_requests: Counter[str] = Counter()

    def populate(self, number: int, now: datetime) -> None:
        """Add ``number`` conferences, created evenly over the three hours before ``now``."""
        for index in range(number):
            self.add(at=now - _CREATED_WITHIN + _CREATED_WITHIN * index / number, recordings=None)

    def add(
        self, *, at: datetime, name: str | None = None, members: int | None = None, recordings: int | None = 0
    ) -> str:
        """Add a conference and return its id. It is never older than the one before."""
        if name is not None and not _NAME.fullmatch(name):
            raise ConfigurationError(f"{name!r} is not a name: use 1 to 100 letters, digits and -_.")
        if members is not None and not 0 <= members <= MAX_MEMBERS:
            raise ConfigurationError(f"{members} members do not fit: a conference holds 0 to {MAX_MEMBERS}")
        position = len(self._conferences)
        created_at = to_milliseconds(at)
        conference = Conference(
            position=position,
            id=self._new_id(),
            name=name,
            created_at=max(created_at, self._conferences[-1].created_at) if position else created_at,
            members=members,
            recordings=recordings,
        )
        self._conferences.append(conference)
        self._positions[conference.id] = position
        if name is not None:
            self._positions_by_name.setdefault(name, []).append(position)
        return conference.id

    def _new_id(self) -> str:
        uuid = format_uuid(f"{self._random.getrandbits(128):032x}")
        return f"conf-{self._random.getrandbits(32):08x}-{uuid}"

    def end(self, conference_id: str, at: datetime) -> bool:
        """Count an end request and end the conference. Return False if it had ended before."""
        self._end_requests[conference_id] += 1
        return self.complete(conference_id, at)

    def complete(self, conference_id: str, at: datetime) -> bool:
        """End the conference without a request for it. Return False if it had ended before."""
        if conference_id in self._ended_at:
            return False
        self._ended_at[conference_id] = to_milliseconds(at)
        return True

    def __iter__(self) -> Iterator[Conference]:
        return iter(self._conferences)

    @property
    def ids(self) -> list[str]:
        """Every id, oldest first, ended or not."""
        return list(self._positions)

    def get(self, conference_id: str) -> Conference | None:
        """Return the conference with that id, ended or not."""
        position = self._positions.get(conference_id)
        return None if position is None else self._conferences[position]

    def at(self, position: int) -> Conference | None:
        """Return the conference at that position."""
        return self._conferences[position] if position < len(self._conferences) else None

    def ended_at(self, conference: Conference) -> datetime | None:
        """Return when the conference ended, None while it is active."""
        return self._ended_at.get(conference.id)

    def end_requests(self, conference: Conference) -> int:
        """Return how many valid end requests the conference got."""
        return self._end_requests.get(conference.id, 0)

    def positions(
        self, *, name: str | None = None, earliest: datetime | None = None, latest: datetime | None = None
    ) -> Sequence[int]:
        """Return the positions of the conferences with that name that were created between the two times."""
        created_at = attrgetter("created_at")
        conferences = self._conferences
        first = 0 if earliest is None else bisect_left(conferences, earliest, key=created_at)
        end = len(conferences) if latest is None else bisect_right(conferences, latest, key=created_at)
        span = range(first, end)
        return span if name is None else [it for it in self._positions_with_name(name) if it in span]

    def _positions_with_name(self, name: str) -> list[int]:
        positions = set(self._positions_by_name.get(name, ()))
        match = _DEFAULT_NAME.fullmatch(name)
        position = int(match[1]) - 1 if match else -1
        if 0 <= position < len(self._conferences) and self._conferences[position].name == name:
            positions.add(position)
        return sorted(positions)

    def page(
        self, *, wanted: Callable[[Conference], bool], among: Sequence[int], start: int, size: int
    ) -> tuple[list[Conference], int | None]:
        """Return up to ``size`` wanted conferences from position ``start``, and where the next page starts.

        Positions never change. So paging neither skips nor repeats while conferences end or are added.
        """
        found: list[Conference] = []
        for position in among[bisect_left(among, start) :]:
            conference = self._conferences[position]
            if wanted(conference):
                if len(found) == size:
                    return (found, position)
                found.append(conference)
        return (found, None)


def format_time(moment: datetime) -> str:
    """Return a UTC time as Bandwidth writes it: ISO-8601 with milliseconds and Z."""
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def to_milliseconds(moment: datetime) -> datetime:
    """Return the time cut to milliseconds, which is all that Bandwidth writes."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
