"""The conferences that exist, and the truth about them.

A conference's facts never change; that it ended, and how often it was asked to, is kept beside it.
Everything that is made up comes from the seed, save the times.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from random import Random
from typing import TypedDict

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.sandbox.calls import KEPT, PhoneCalls
from bandwidth_async.sandbox.draws import Draws, uuid_text
from bandwidth_async.sandbox.facts import Conference, PhoneCall, to_milliseconds, wire_time

_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
_OWN_NAME = re.compile(r"conference-(\d{6,12})", re.ASCII)
_PAST = timedelta(hours=3)
MOST_MEMBERS = 20
"""Calls that fit into one conference, as Bandwidth documents it."""


def _made_up_id(prefix: str, random: Random) -> str:
    uuid = uuid_text(f"{random.getrandbits(128):032x}")
    return f"{prefix}-{random.getrandbits(32):08x}-{uuid}"


class Fate(TypedDict):
    """What became of a conference.

    When it ended, if it did; the end requests that reached it; how many members it has now, how many of
    all calls that were in it are still alive, and how many recordings there are.
    """

    ended_at: str | None
    end_requests: int
    members: int
    active_calls: int
    recordings: int


class World:
    """All conferences, oldest first, and their calls. Adding and ending are what changes conferences."""

    def __init__(self, *, members: tuple[int, int], seed: int) -> None:
        self.calls = PhoneCalls(members=members, draws=Draws(seed))
        self._random = Random(f"{seed}/conferences")
        self._conferences: list[Conference] = []  # with the next two, changed in add()
        self._positions: dict[str, int] = {}
        self._named: dict[str, list[int]] = {}  # by the name that was given
        self._ended_at: dict[str, datetime] = {}  # with _end_requests, changed in end(), complete()
        self._end_requests: Counter[str] = Counter()

    def populate(self, number: int, now: datetime) -> None:
        """Add ``number`` conferences, created evenly over the three hours before ``now``."""
        for index in range(number):
            self.add(at=now - _PAST + _PAST * index / number, recordings=None)

    def add(
        self,
        *,
        at: datetime,
        name: str | None = None,
        members: int | None = None,
        recordings: int | None = 0,
    ) -> str:
        """Add a conference and return its id; none is ever older than the one before."""
        position = len(self._conferences)
        if name is not None and not _NAME.fullmatch(name):
            raise ConfigurationError(f"{name!r} is no name: use 1 to 100 letters, digits and -_.")
        if members is not None and not 0 <= members <= MOST_MEMBERS:
            raise ConfigurationError(f"{members} members do not fit: a conference holds 0 to {MOST_MEMBERS}")
        created_at = to_milliseconds(at)
        conference = Conference(
            position=position,
            id=_made_up_id("conf", self._random),
            name=name,
            created_at=max(created_at, self._conferences[-1].created_at) if position else created_at,
            members=members,
            recordings=recordings,
        )
        self._conferences.append(conference)
        self._positions[conference.id] = position
        if name is not None:
            self._named.setdefault(name, []).append(position)
        return conference.id

    def end(self, conference_id: str, at: datetime) -> bool:
        """Count the request and end the conference; return False when it had ended before."""
        self._end_requests[conference_id] += 1
        return self.complete(conference_id, at)

    def complete(self, conference_id: str, at: datetime) -> bool:
        """End the conference, asked or not; return False when it had ended before."""
        if conference_id in self._ended_at:
            return False
        self._ended_at[conference_id] = to_milliseconds(at)
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

    def members(self, conference: Conference) -> list[PhoneCall]:
        """Return the calls in the conference: none once it has ended, they live on outside."""
        return [] if conference.id in self._ended_at else self.calls.staying(conference)

    def is_member(self, call: PhoneCall) -> bool:
        """Return whether the call is in its conference now."""
        return call.conference.id not in self._ended_at and self.calls.left_at(call) is None

    def call(self, call_id: str, now: datetime) -> PhoneCall | None:
        """Return the call of that id, in a conference or not, until a week after its end."""
        place = self.calls.place(call_id)
        if place is None or place[0] >= len(self._conferences):
            return None
        call = self.calls.at(self._conferences[place[0]], place[1])
        ended_at = call and self.calls.ended_at(call)
        return None if ended_at and now - ended_at > KEPT else call

    def active_calls(self) -> Iterator[str]:
        """Yield the ids of all calls that are alive, in a conference or not."""
        for conference in self._conferences:
            yield from self.calls.alive(conference)

    def positions(
        self,
        *,
        name: str | None = None,
        earliest: datetime | None = None,
        latest: datetime | None = None,
    ) -> Sequence[int]:
        """Return the positions of the conferences of that name that were created between the two times."""
        created_at = attrgetter("created_at")
        conferences = self._conferences
        first = 0 if earliest is None else bisect_left(conferences, earliest, key=created_at)
        end = len(conferences) if latest is None else bisect_right(conferences, latest, key=created_at)
        span = range(first, end)
        return span if name is None else [it for it in self._positions_named(name) if it in span]

    def _positions_named(self, name: str) -> list[int]:
        positions = set(self._named.get(name, ()))
        match = _OWN_NAME.fullmatch(name)
        position = int(match[1]) - 1 if match else -1
        if 0 <= position < len(self._conferences) and self._conferences[position].name == name:
            positions.add(position)
        return sorted(positions)

    def page(
        self, *, wanted: Callable[[Conference], bool], among: Sequence[int], start: int, size: int
    ) -> tuple[list[Conference], int | None]:
        """Return up to ``size`` wanted conferences from position ``start``, and where the next page starts.

        Positions are for ever, so paging neither skips nor repeats while conferences end or are added.
        """
        found: list[Conference] = []
        for position in among[bisect_left(among, start) :]:
            conference = self._conferences[position]
            if wanted(conference):
                if len(found) == size:
                    return (found, position)
                found.append(conference)
        return (found, None)

    def truth(self, recordings: Callable[[Conference], int]) -> Iterator[tuple[str, Fate]]:
        """Yield what became of each conference, with its id; ``recordings`` counts those of one."""
        for conference in self._conferences:
            yield conference.id, self._fate(conference, recordings(conference))

    def _fate(self, conference: Conference, recordings: int) -> Fate:
        ended_at = self._ended_at.get(conference.id)
        staying, alive = self.calls.numbers(conference)
        return {
            "ended_at": None if ended_at is None else wire_time(ended_at),
            "end_requests": self._end_requests.get(conference.id, 0),
            "members": 0 if ended_at else staying,
            "active_calls": alive,
            "recordings": recordings,
        }
