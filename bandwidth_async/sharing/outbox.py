"""What a leader has to send: letters to the others, and the state that it publishes."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from attrs import evolve

from bandwidth_async.sharing.messages import encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bandwidth_async.sharing.leader import Leader, Permit
    from bandwidth_async.sharing.messages import State

_NOTHING: Mapping[str, list[Permit]] = MappingProxyType({})


class Outbox:
    """Collects what a leader has to send until the carrier is ready for it."""

    def __init__(self, leader: Leader) -> None:
        self._leader = leader
        self._letters: dict[str, list[str]] = {}
        self._publishes = self._leaves = False

    def __bool__(self) -> bool:
        return bool(self._letters) or self._publishes

    def tell(self, now: float, given: Mapping[str, list[Permit]] = _NOTHING) -> None:
        """Write their permits to those who were given any, and the news to all."""
        leader = self._leader
        names = leader.others if leader.news else list(given)
        if names:
            state = leader.state(now)
            for name in names:
                self._write(name, state, given.get(name, []))
        self._publishes |= leader.news
        leader.news = False

    def greet(self, now: float, *, everybody: bool) -> None:
        """Write to those that wait, so that they know that they are led; or to everybody, and publish."""
        state = self._leader.state(now)
        for name in self._leader.others:
            if everybody or self._leader.is_waiting(name):
                self._write(name, state, [])
        self._publishes |= everybody

    def farewell(self, now: float) -> None:
        """Write to everybody that the leader leaves, and publish whom it led."""
        state = self._leader.state(now)
        for name in self._leader.others:
            self._write(name, state, [], resigned=True)
        self._publishes = self._leaves = True

    def taken(self, now: float) -> tuple[dict[str, list[str]], str | None]:
        """Return the letters for each process, and the state to be published, and forget them."""
        letters, publishes = self._letters, self._publishes
        self._letters, self._publishes = {}, False
        # If the leader has only lost the store, it comes back too.
        stays = [] if self._leaves else [self._leader.me]
        state = evolve(self._leader.state(now), names=[*self._leader.others, *stays])
        return letters, encode(state) if publishes else None

    def _write(self, name: str, state: State, permits: list[Permit], *, resigned: bool = False) -> None:
        letter = self._leader.letter(name, state, permits, resigned=resigned)
        self._letters.setdefault(name, []).append(encode(letter))
