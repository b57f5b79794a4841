"""Which events came before, in bounded memory. Time is passed in; any clock that does not run back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Generic, TypeVar

from attrs import field, frozen

from bandwidth_async.validators import above_zero, at_least

if TYPE_CHECKING:
    from collections.abc import Hashable

    from bandwidth_async.webhooks.events import Event

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")


@frozen(kw_only=True)
class Memory:
    """How much is kept: at most ``size`` entries, none for longer than ``age`` seconds."""

    size: int = field(default=10_000, validator=at_least(1, "entries"))
    age: float = field(default=900.0, validator=above_zero("seconds"))


class Recent(Generic[K, V]):
    """The newest entries, as many and for as long as ``memory`` says. The oldest is forgotten first."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._entries: dict[K, tuple[float, V]] = {}  # oldest first; changed by put, forget and _expire

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K, now: float) -> V | None:
        """Return what was put there, unless it is forgotten by now."""
        since, value = self._entries.get(key, (-math.inf, None))
        return value if now - since < self._memory.age else None

    def put(self, key: K, value: V, now: float) -> None:
        """Keep a value; it is the newest."""
        self._entries.pop(key, None)
        self._entries[key] = (now, value)
        self._expire(now)

    def forget(self, key: K, value: V) -> None:
        """Keep this value no longer; what was put in its place since stays."""
        if self._entries.get(key, (0.0, None))[1] is value:
            del self._entries[key]

    def _expire(self, now: float) -> None:
        while len(self._entries) > self._memory.size or now - self._oldest() >= self._memory.age:
            del self._entries[next(iter(self._entries))]

    def _oldest(self) -> float:
        return next(iter(self._entries.values()))[0]


class Deduplicator:
    """Tells an event that comes for the first time from one that comes again.

    Bandwidth gives events no id and sends one again when the connection failed; equal events have equal
    ``key``. It remembers 10,000 events for 15 minutes (`Memory`), about 5 MB. An event that
    comes again after it was forgotten counts as new.
    """

    def __init__(self, memory: Memory | None = None) -> None:
        self._seen: Recent[Hashable, bool] = Recent(memory or Memory())

    def __repr__(self) -> str:
        return f"<Deduplicator of {len(self._seen)} events>"

    def __len__(self) -> int:
        return len(self._seen)

    def is_new(self, event: Event, *, now: float) -> bool:
        """Say whether ``event`` comes for the first time, and remember it. ``now`` is in seconds."""
        if self._seen.get(event.key, now):
            return False
        self._seen.put(event.key, True, now)
        return True
