"""The conferences that exist, and the truth about them.

A conference's facts never change; that it ended, and how often it was asked to, is kept beside it.
Everything that is made up comes from the seed, save the times.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random
from typing import TypedDict
from uuid import UUID

from attrs import frozen

from bandwidth_async.errors import ConfigurationError

_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
_PAST = timedelta(hours=3)
MOST_MEMBERS = 20
"""Calls that fit into one conference, as Bandwidth documents it."""


@frozen(kw_only=True)
class Conference:
    """The facts of one conference. ``members`` is how many calls it holds, None to draw it when asked."""

    position: int
    id: str
    name: str
    created_at: datetime
    members: int | None

    @property
    def tag(self) -> str | None:
        """Two of three have a tag."""
        return f"tag-{self.position % 7}" if self.position % 3 else None

    @property
    def event_url(self) -> str | None:
        """Every other one reports its events."""
        return f"https://example.com/conferences/{self.position}" if self.position % 2 else None


def wire_time(moment: datetime) -> str:
    """Return a UTC time as Bandwidth writes it: ISO-8601 with milliseconds and Z."""
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _to_milliseconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _made_up_id(prefix: str, random: Random) -> str:
    number = UUID(int=random.getrandbits(128), version=4)
    return f"{prefix}-{random.getrandbits(32):08x}-{number}"


class Fate(TypedDict):
    """What became of a conference: when it ended, if it did, and the end requests that reached it."""

    ended_at: str | None
    end_requests: int


class World:
    """All conferences, oldest first. Adding and ending are the two things that change it."""

    def __init__(self, *, members: tuple[int, int], seed: int) -> None:
        self._members = members
        self._seed = seed
        self._random = Random(f"{seed}/conferences")
        self._conferences: list[Conference] = []  # with _positions, changed in add()
        self._positions: dict[str, int] = {}
        self._ended_at: dict[str, datetime] = {}  # with _end_requests, changed in end()
        self._end_requests: Counter[str] = Counter()

    def populate(self, number: int, now: datetime) -> None:
        """Add ``number`` conferences, created evenly over the last three hours."""
        for index in range(number):
            self.add(at=now - _PAST + _PAST * index / number)

    def add(self, *, at: datetime, name: str | None = None, members: int | None = None) -> str:
        """Add a conference and return its id; none is ever older than the one before."""
        position = len(self._conferences)
        if name is not None and not _NAME.fullmatch(name):
            raise ConfigurationError(f"{name!r} is no name: use 1 to 100 letters, digits and -_.")
        if members is not None and not 0 <= members <= MOST_MEMBERS:
            raise ConfigurationError(f"{members} members do not fit: a conference holds 0 to {MOST_MEMBERS}")
        created_at = _to_milliseconds(at)
        conference = Conference(
            position=position,
            id=_made_up_id("conf", self._random),
            name=name or f"conference-{position + 1:06}",
            created_at=max(created_at, self._conferences[-1].created_at) if position else created_at,
            members=members,
        )
        self._conferences.append(conference)
        self._positions[conference.id] = position
        return conference.id

    def end(self, conference_id: str, at: datetime) -> bool:
        """Count the request and end the conference; return False when it had ended before."""
        self._end_requests[conference_id] += 1
        if conference_id in self._ended_at:
            return False
        self._ended_at[conference_id] = _to_milliseconds(at)
        return True

    @property
    def ids(self) -> list[str]:
        """Every id, oldest first, ended or not."""
        return list(self._positions)

    def get(self, conference_id: str) -> Conference | None:
        """Return the conference of that id, ended or not."""
        position = self._positions.get(conference_id)
        return None if position is None else self._conferences[position]

    def ended_at(self, conference: Conference) -> datetime | None:
        """Return when the conference ended, None while it is active."""
        return self._ended_at.get(conference.id)

    def active_calls(self, conference: Conference) -> list[str]:
        """Return the ids of the calls in the conference: none once it has ended, they live on outside."""
        if conference.id in self._ended_at:
            return []
        random = Random(f"{self._seed}/members/{conference.id}")
        drawn = random.randint(*self._members)
        number = drawn if conference.members is None else conference.members
        return [_made_up_id("c", random) for _ in range(number)]

    def page(
        self, *, wanted: Callable[[Conference], bool], start: int, size: int
    ) -> tuple[list[Conference], int | None]:
        """Return up to ``size`` wanted conferences from position ``start``, and where the next page starts.

        Positions are for ever, so paging neither skips nor repeats while conferences end or are added.
        """
        found: list[Conference] = []
        for position in range(start, len(self._conferences)):
            conference = self._conferences[position]
            if wanted(conference):
                if len(found) == size:
                    return (found, position)
                found.append(conference)
        return (found, None)

    def truth(self) -> dict[str, Fate]:
        """Return what became of every conference, by id."""
        return {
            known: {
                "ended_at": wire_time(self._ended_at[known]) if known in self._ended_at else None,
                "end_requests": self._end_requests[known],
            }
            for known in self._positions
        }
