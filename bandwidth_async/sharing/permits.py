"""The pace of a follower: it sends with the leader's permits, and reports what became of them.

A permit is one request that the leader has booked already, with the moment from which it may be sent. So this
pace decides nothing. It knows the leader's state from the letters, for snapshots, events and early refusals.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from attrs import astuple, evolve

from bandwidth_async.sharing.messages import ACCEPTED, LOST, REFUSED, RESUMED, UNKNOWN, UNSENT

if TYPE_CHECKING:
    from collections.abc import Callable

    from bandwidth_async.limiter import Knowledge
    from bandwidth_async.limiter.refusal import Refusal
    from bandwidth_async.sharing.messages import Letter, Report, Result, State

# Seconds after which a permit that was not used goes back. Used later it would leave in a heap with others.
STALE = 0.25

# Seconds for which this process sends nothing after a refusal, unless the leader says more about it.
_OWN_PAUSE = 0.05

# Seconds that a refused request rests: at least, at most, and as many times as its like take to be answered.
_LEAST_REST, _LONGEST_REST, _REST = 0.05, 2.0, 2.5


class Permits:
    """Sends requests with the permits of a leader. The serial of a request is the number of its permit.

    ``notify`` is called when there is something to report. Its argument says whether it is urgent: a refusal,
    a request that the leader does not know of, or a result that the leader waits for.
    """

    def __init__(self, rate: float, notify: Callable[[bool], None]) -> None:
        self.rate: float = rate
        self.quota: float | None = None
        self.paused_until: float = -math.inf
        self.pause_hinted: bool = False
        self.state: State | None = None
        self._notify = notify
        self._term = self._seen = 0
        self._used_at = -math.inf
        self._earliest = -math.inf
        # Permits that were not used yet, and when each may be.
        self._held: deque[tuple[int, float]] = deque()
        self._results: list[Result] = []
        # All permits so far; and what was reported last: the requests that waited, and how many permits then.
        self._received = 0
        self._reported = (0, 0, 0)

    def __repr__(self) -> str:
        return f"<Permits of term {self._term}, {len(self._held)} held>"

    def __len__(self) -> int:
        return len(self._held)

    @property
    def knowledge(self) -> Knowledge | None:
        """What the leader has learned."""
        return self.state.knowledge if self.state is not None else None

    def next_time(self, now: float, in_flight: int) -> float:
        """Return when the next permit may be used; infinity while there is none."""
        if self._held:
            return self._held[0][1]
        # The leader still knows of some that wait, or of none.
        self._notify(self._received - self._reported[2] >= sum(self._reported[:2]))
        return math.inf

    def earliest(self, ahead: int) -> float:
        """Return a moment before which a request behind ``ahead`` others is certainly not sent."""
        return max(self.paused_until, self._earliest + max(0, ahead - len(self._held)) / self.rate)

    def on_send(self, now: float, in_flight: int) -> int:
        """Use a permit and return its number."""
        self._used_at = now
        return self._held.popleft()[0]

    def on_unsent(self, serial: int) -> None:
        """Keep the permit for the next request."""
        self._held.appendleft((serial, self._used_at))
        self._notify(False)

    def on_accepted(self, serial: int, now: float, *, wanted: bool) -> None:
        """Report that a request was accepted."""
        self._results.append((ACCEPTED, serial))
        self._notify(self.state is not None and self.state.shut)

    def on_refused(self, serial: int, now: float, refusal: Refusal) -> float:
        """Report a refusal at once and give all permits back. Return the seconds that the request rests."""
        hint, own = refusal.hint, refusal.own
        self._results.append((REFUSED, serial, *astuple(refusal)))
        if own is None:
            self._give_back(len(self._held))
            self.paused_until = max(self.paused_until, now + (hint or _OWN_PAUSE))
            self.pause_hinted = bool(hint)
        self._notify(True)
        in_flight = self.state.in_flight if self.state else 0
        rest = min(max(_LEAST_REST, _REST * in_flight / self.rate), _LONGEST_REST)
        return rest if own is None else 2 * rest

    def resume(self, now: float, rate: float) -> None:
        """Ask for an earlier rate."""
        self._results.append((RESUMED, UNKNOWN, rate))
        self._notify(True)

    def on_lost(self, serial: int, now: float) -> None:
        """Report that a request gets no response."""
        self._results.append((LOST, serial))
        self._notify(False)

    def take(self, letter: Letter, now: float, *, usable: bool = True) -> None:
        """Learn from a letter, and keep its permits, or give them back at once if they are not ``usable``."""
        state = letter.state
        if state.term != self._term:
            # The new leader does not know the permits of the one before.
            self._held.clear()
            self._term = state.term
        elif self.state is not None and state.epoch != self.state.epoch:
            self._give_back(len(self._held))
        self._seen, self.state = letter.serial, state
        self.rate, self.quota = state.rate, state.quota
        self.paused_until, self.pause_hinted = now + state.paused_for, state.hinted
        self._earliest = now + state.earliest
        self._held.extend((number, now + after) for number, after in letter.permits)
        self._received += len(letter.permits)
        if not usable:
            self._give_back(len(self._held))

    def tidy(self, now: float, wanted: int) -> None:
        """Give back permits that are stale, and those beyond the ``wanted`` ones."""
        while self._held and self._held[0][1] < now - STALE:
            self._results.append((UNSENT, self._held.popleft()[0]))
        self._give_back(len(self._held) - wanted)

    def fill(self, report: Report, *, anyway: bool) -> Report | None:
        """Return a report with what became of permits, or None if there is nothing new in it.

        If it is due ``anyway``, it is returned without news too.
        """
        known = (report.interactive, report.bulk, self._received)
        if known == self._reported and not (self._results or anyway):
            return None
        results, self._results, self._reported = self._results, [], known
        return evolve(report, term=self._term, seen=self._seen, holding=len(self._held), results=results)

    def report_again(self, report: Report) -> None:
        """Take back the results of a report that could not be sent."""
        self._results[:0] = report.results

    def _give_back(self, count: int) -> None:
        for _ in range(count):
            self._results.append((UNSENT, self._held.pop()[0]))
        if count > 0:
            self._notify(False)
