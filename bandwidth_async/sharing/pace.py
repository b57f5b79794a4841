"""The one pace that a limiter sees, whoever decides: the leader, this process for all, or alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attrs import evolve

from bandwidth_async.limiter.pace import FixedPace
from bandwidth_async.sharing.messages import UNKNOWN
from bandwidth_async.sharing.permits import Permits

if TYPE_CHECKING:
    from bandwidth_async.limiter import Knowledge, RateLimit
    from bandwidth_async.limiter.pace import Pace
    from bandwidth_async.limiter.refusal import Refusal
    from bandwidth_async.sharing.leader import Leader

# Refused requests that are remembered at most.
_REMEMBERED = 10_000


class DirectPace:
    """The pace of a leader without neighbours: every request is booked as it is sent, without a permit."""

    def __init__(self, leader: Leader) -> None:
        self._leader = leader

    def __repr__(self) -> str:
        return f"<DirectPace of {self._leader!r}>"

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self._leader.pace.rate

    @property
    def quota(self) -> float | None:
        """Requests per second that the server is believed to allow."""
        return self._leader.pace.quota

    @property
    def knowledge(self) -> Knowledge | None:
        """What was learned so far."""
        return self._leader.knowledge

    @property
    def paused_until(self) -> float:
        """The end of the pause."""
        return self._leader.paused_until

    @property
    def pause_hinted(self) -> bool:
        """Whether the server named the time of the pause."""
        return self._leader.pace.pause_hinted

    def next_time(self, now: float, in_flight: int) -> float:
        """Return when the next request may be sent."""
        return self._leader.due(now)

    def earliest(self, ahead: int) -> float:
        """Return a moment before which a request behind ``ahead`` others is certainly not sent."""
        return self._leader.pace.earliest(ahead)

    def on_send(self, now: float, in_flight: int) -> int:
        """Book a request and return its number."""
        return self._leader.book(self._leader.me, now)

    def on_unsent(self, serial: int) -> None:
        """Note that a request was not sent after all."""
        self._leader.unsent(serial)

    def on_accepted(self, serial: int, now: float, *, wanted: bool) -> None:
        """Learn from a response other than 429."""
        self._leader.accepted(serial, now, wanted=wanted)

    def on_refused(self, serial: int, now: float, refusal: Refusal) -> float:
        """Learn from a refusal."""
        return self._leader.refused(serial, now, refusal)

    def resume(self, now: float, rate: float) -> None:
        """Return to an earlier rate."""
        self._leader.resume(now, rate)

    def on_lost(self, serial: int, now: float) -> None:
        """Note that a request gets no response."""
        self._leader.lost(serial, now)


class SharedPace:
    """Passes every question on to the pace that decides, and every result to the one that it belongs to.

    A process that was given a rate keeps to it by itself, whatever all of them may send.
    """

    def __init__(self, deciding: Pace, limit: RateLimit) -> None:
        self.deciding: Pace = deciding
        self._own = None if limit.rate is None else FixedPace(limit.rate, limit.burst)
        # The end of the pause of a pace that decided before.
        self._not_before = -math.inf
        self._serial = 0
        # The pace of each request without a result, and of those that were refused, with the serial there.
        self._sent: dict[int, tuple[Pace, int]] = {}
        self._refused: dict[int, tuple[Pace, int]] = {}

    def __repr__(self) -> str:
        return f"<SharedPace by {self.deciding!r}>"

    @property
    def rate(self) -> float:
        """Requests per second of all processes."""
        return self.deciding.rate

    @property
    def quota(self) -> float | None:
        """Requests per second that the server is believed to allow."""
        return self.deciding.quota

    @property
    def knowledge(self) -> Knowledge | None:
        """What was learned so far by whoever decides."""
        return self.deciding.knowledge

    @property
    def paused_until(self) -> float:
        """The end of the pause."""
        return max(self.deciding.paused_until, self._not_before)

    @property
    def pause_hinted(self) -> bool:
        """Whether the server named the time of the pause."""
        return self.deciding.pause_hinted

    def of_use(self, now: float, seconds: float) -> float:
        """Return how many requests this process may send within so many seconds by the rate it was given."""
        if self._own is None:
            return math.inf
        left = now + seconds - max(now - seconds, self._own.next_time(now, 0))
        return max(0, math.ceil(left * self._own.rate))

    def let_decide(self, pace: Pace, *, not_before: float = -math.inf) -> None:
        """Have another pace decide from now on, which sends nothing ``not_before`` a moment."""
        self.deciding, self._not_before = pace, not_before

    def next_time(self, now: float, in_flight: int) -> float:
        """Return when the next request may be sent. Infinity means after a response, or a letter."""
        due = max(self.deciding.next_time(now, in_flight), self._not_before)
        return due if self._own is None else max(due, self._own.next_time(now, in_flight))

    def earliest(self, ahead: int) -> float:
        """Return a moment before which a request behind ``ahead`` others is certainly not sent."""
        earliest = self.deciding.earliest(ahead)
        return earliest if self._own is None else max(earliest, self._own.earliest(ahead))

    def on_send(self, now: float, in_flight: int) -> int:
        """Note that a request is sent, and return its serial."""
        self._serial += 1
        self._sent[self._serial] = self.deciding, self.deciding.on_send(now, in_flight)
        if self._own is not None:
            self._own.on_lost(self._own.on_send(now, in_flight), now)
        return self._serial

    def on_unsent(self, serial: int) -> None:
        """Note that a request was not sent after all."""
        pace, inner = self._sent.pop(serial)
        pace.on_unsent(inner)

    def on_accepted(self, serial: int, now: float, *, wanted: bool) -> None:
        """Learn from a response other than 429."""
        pace, inner = self._sent.pop(serial)
        pace.on_accepted(inner, now, wanted=wanted)

    def on_refused(self, serial: int, now: float, refusal: Refusal) -> float:
        """Learn from a refusal."""
        pace, inner = self._sent.pop(serial)
        earlier = self._refused.get(refusal.own or 0)
        same = earlier[1] if earlier is not None and earlier[0] is pace else None
        self._refused[serial] = pace, inner
        if len(self._refused) > _REMEMBERED:
            del self._refused[next(iter(self._refused))]
        rest = pace.on_refused(inner, now, evolve(refusal, own=same))
        if pace is not self.deciding:
            self._tell(now, evolve(refusal, own=None))
        return rest

    def resume(self, now: float, rate: float) -> None:
        """Return to an earlier rate."""
        self.deciding.resume(now, rate)

    def on_lost(self, serial: int, now: float) -> None:
        """Note that a request gets no response."""
        pace, inner = self._sent.pop(serial)
        pace.on_lost(inner, now)

    def _tell(self, now: float, refusal: Refusal) -> None:
        """Tell the pace that decides of a refusal that belongs to another."""
        counts = isinstance(self.deciding, DirectPace | Permits)
        serial = UNKNOWN if counts else self.deciding.on_send(now, len(self._sent))
        self.deciding.on_refused(serial, now, refusal)
