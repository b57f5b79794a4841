"""The processes that a leader leads, and whose turn it is.

Single calls of any process come before runs, and runs have one of every `BULK_EVERY` while they wait. Within
a class, it is the turn of the process that was served least. It gets up to `_BATCH` permits in one letter,
and the others make up for that later. Who did not wait has no more than a batch to make up for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from bandwidth_async.limiter.queue import BULK_EVERY

if TYPE_CHECKING:
    from bandwidth_async.sharing.messages import Report

# Seconds without a report after which a process is gone.
GONE_AFTER = 5.0

# Seconds of permits, and permits, that a process may have that it has not shown to have seen.
_UNSEEN, _LEAST_UNSEEN = 0.25, 2

# Permits that a process gets before the turn of one that was served less.
_BATCH = 4


@define(eq=False)
class Member:
    """A process: what it waits for beyond the permits that it has, and the letters that it has not seen."""

    heard_at: float
    # The rate it was given, None if it was left to the pace.
    rate: float | None
    wants: list[int] = field(factory=lambda: [0, 0])  # single calls and runs
    served: list[int] = field(factory=lambda: [0, 0])  # permits, without those it did not wait for
    serial: int = 0
    unseen: dict[int, int] = field(factory=dict)  # permits in each letter that it has not seen

    def may_have(self, most: float) -> bool:
        """Return whether it has seen all but ``most`` of its permits."""
        return not self.unseen or sum(self.unseen.values()) < most

    def reckon(self, report: Report) -> None:
        """Note what it waits for, without the permits that it has or will get."""
        self.unseen = {serial: count for serial, count in self.unseen.items() if serial > report.seen}
        has = report.holding + sum(self.unseen.values())
        single = max(0, report.interactive - has)
        self.wants = [single, max(0, report.bulk - max(0, has - report.interactive))]


class Members(dict[str, Member]):
    """The processes by their names."""

    def __init__(self) -> None:
        super().__init__()
        self._bulk_skipped = 0
        # For each class: what the process of the last turn had been served, and which process that was.
        self._level = [0, 0]
        self._last: list[str | None] = [None, None]

    @property
    def waiting(self) -> int:
        """How many requests wait in all of them."""
        return sum(sum(one.wants) for one in self.values())

    @property
    def given_rate(self) -> float | None:
        """The highest of the rates that they were given, None if one of them was given none."""
        rates = [one.rate for one in self.values() if one.rate is not None]
        return max(rates) if rates and len(rates) == len(self) else None

    def gone(self, now: float) -> list[str]:
        """Return those that have not reported for long."""
        return [name for name, one in self.items() if now - one.heard_at > GONE_AFTER]

    def any_ready(self, rate: float) -> bool:
        """Return whether a process waits that may have a permit, at ``rate`` permits a second."""
        return bool(self._ready(rate))

    def next(self, rate: float) -> str | None:
        """Return the process whose turn it is, and count one request of it as served."""
        ready = self._ready(rate)
        waiting = [any(one.wants[kind] for one in ready.values()) for kind in (0, 1)]
        if not any(waiting):
            return None
        kind = 1 if not waiting[0] or (waiting[1] and self._bulk_skipped >= BULK_EVERY - 1) else 0
        self._bulk_skipped = 0 if kind or not waiting[1] else self._bulk_skipped + 1
        name = self._turn({name: one for name, one in ready.items() if one.wants[kind]}, kind)
        ready[name].served[kind] += 1
        ready[name].wants[kind] -= 1
        return name

    def _turn(self, ready: dict[str, Member], kind: int) -> str:
        for one in ready.values():
            one.served[kind] = max(one.served[kind], self._level[kind] - _BATCH)
        name = min(ready, key=lambda name: ready[name].served[kind])
        self._level[kind] = least = ready[name].served[kind]
        last = self._last[kind]
        if last in ready and ready[last].served[kind] < least + _BATCH:
            name = last
        self._last[kind] = name
        return name

    def _ready(self, rate: float) -> dict[str, Member]:
        most = max(_LEAST_UNSEEN, _UNSEEN * rate)
        return {name: one for name, one in self.items() if any(one.wants) and one.may_have(most)}
