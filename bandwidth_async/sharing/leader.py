"""Runs one pace for all processes and hands out permits to send: the leader's decisions, without any I/O.

Theory of operation
    To the pace, all requests of all processes are requests of one. A permit is a request that the pace was
    told of: it is booked at the present moment, and used when it is due. The pace eases and measures by the
    moments of booking, so booking at a later moment would show it a rate that nobody sends at.

    *Ahead.* Permits are handed out when the next request is due, for all that are due within `AHEAD` seconds.
    So the number of letters is bounded, and a request that comes now waits for no more than that.

    *Who is next.* Single calls of any process come before runs, and runs have one of every `BULK_EVERY` while
    they wait. Within a class, it is the turn of the process that was served least. It gets up to `_BATCH`
    permits in one letter, and the others make up for that later. Who did not wait has no more than a batch to
    make up for.

    *Pause.* A refusal that pauses all begins a new epoch: it voids the permits that were not used, and
    everybody gives them back. Until a request that was booked afterwards is accepted, nothing is booked ahead
    of its time: so a probe stays one request.

    *Loss.* A permit without a result for `LOST_AFTER` seconds counts as lost, as when its process died. So
    does a letter that never comes: its receiver gets no more than `_UNSEEN` seconds of permits before it
    shows that it reads them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attrs import define, evolve, field

from bandwidth_async.limiter.pace import pace_for
from bandwidth_async.limiter.queue import BULK_EVERY
from bandwidth_async.sharing.messages import ACCEPTED, LOST, REFUSED, RESUMED, UNKNOWN, Letter, State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bandwidth_async.limiter import Knowledge, RateLimit
    from bandwidth_async.limiter.pace import Pace
    from bandwidth_async.sharing.messages import Report, Result

# Seconds of permits in one letter.
AHEAD = 0.025

# Seconds after which a permit without a result is lost, and a process without a report is gone.
LOST_AFTER = 8.0
GONE_AFTER = 5.0

# Seconds of permits, and permits, that a process may have that it has not shown to have seen.
_UNSEEN, _LEAST_UNSEEN = 0.25, 2

# Permits that a process gets before the turn of one that was served less.
_BATCH = 4

# A pause that is this many seconds longer than everybody knows is news.
_NEWS = 0.05

# Refused permits that are remembered at most.
_REMEMBERED = 10_000

# The numbers of permits begin at this many times the term, so that no two leaders give the same.
_NUMBERS = 1 << 20

Permit = tuple[int, float]


@define(eq=False)
class _Member:
    """A process: what it waits for beyond the permits that it has, and the letters that it has not seen."""

    about: str
    heard_at: float
    # The rate it was given, None if it was left to the pace.
    rate: float | None = None
    wants: list[int] = field(factory=lambda: [0, 0])  # single calls and runs
    served: list[int] = field(factory=lambda: [0, 0])  # permits, without those it did not wait for
    serial: int = 0
    unseen: dict[int, int] = field(factory=dict)  # permits in each letter that it has not seen

    def may_have(self, most: float) -> bool:
        return not self.unseen or sum(self.unseen.values()) < most

    def reckon(self, report: Report) -> None:
        """Note what a process waits for, without the permits that it has or will get."""
        self.unseen = {serial: count for serial, count in self.unseen.items() if serial > report.seen}
        has = report.holding + sum(self.unseen.values())
        single = max(0, report.interactive - has)
        self.wants = [single, max(0, report.bulk - max(0, has - report.interactive))]


@define(eq=False)
class _Booked:
    pace: Pace
    serial: int
    process: str
    at: float


class Leader:
    """Leads the processes that share one limit, of which ``me`` is one. All times are the caller's clock.

    ``last`` is the state that the leader before it published.
    """

    def __init__(
        self, me: str, about: str, *, term: int, limit: RateLimit, last: State | None, now: float
    ) -> None:
        self.me = me
        self.term = term
        # Whether everybody has to be told the state.
        self.news: bool = True
        # The rate that an operator has set for all.
        self._setting: float | None = None
        self._about = about
        self._limit = limit
        if last is not None and last.knowledge is not None:
            self._limit = evolve(limit, start=None, knowledge=last.knowledge)
        self._fixed = limit.rate
        self.pace: Pace = pace_for(self._limit)
        # Those whom the last leader led are heard soon, or they are gone.
        self._members = {name: _Member("", now, limit.rate) for name in (last.names if last else ())}
        self._members[me] = _Member(about, math.inf, limit.rate)
        self._booked: dict[int, _Booked] = {}
        self._refused: dict[int, _Booked] = {}
        self._number = term * _NUMBERS
        # What the process had been served that was last served, and who that was, for each class.
        self._level = [0, 0]
        self._last: list[str | None] = [None, None]
        self._epoch = 0
        self._bulk_skipped = 0
        # The end of the pause that everybody knows, and the last permit before it, None while there is none.
        self._known_pause = -math.inf
        self._shut_after: int | None = None
        # The pause of a pace that was replaced.
        self._not_before = now + last.paused_for if last else -math.inf

    def __repr__(self) -> str:
        return f"<Leader of {len(self._members)}, term {self.term}, {self.pace!r}>"

    @property
    def in_flight(self) -> int:
        """Permits without a result, of all processes."""
        return len(self._booked)

    @property
    def others(self) -> list[str]:
        """The names of the other processes."""
        return [name for name in self._members if name != self.me]

    @property
    def knowledge(self) -> Knowledge | None:
        """What was learned so far, None at a fixed rate from the beginning."""
        return self.pace.knowledge or self._limit.knowledge

    @property
    def paused_until(self) -> float:
        """The end of the pause of all."""
        return max(self.pace.paused_until, self._not_before)

    def set_rate(self, rate: float | None) -> None:
        """Keep to the rate that an operator has set, or with None to the pace again."""
        if rate != self._setting:
            self._setting = rate
            self._choose_pace()

    def take(self, report: Report, now: float) -> None:
        """Learn from a report."""
        if report.leaving:
            self._settle_all(report.results, now)
            self._dismiss([report.process], now)
            return
        member = self._members.get(report.process)
        if member is None:
            member = self._members[report.process] = _Member(report.about, now, report.rate)
            self.news = True
            self._choose_pace()
        if report.process != self.me:
            member.heard_at = now
        if member.rate != report.rate:
            member.rate = report.rate
            self._choose_pace()
        if report.term == self.term:
            member.reckon(report)
        else:
            member.wants, member.unseen = [report.interactive, report.bulk], {}
        self._settle_all(report.results, now)

    def grant(self, now: float) -> dict[str, list[Permit]]:
        """Book the requests that are due now and soon, and return the permits of each process."""
        given: dict[str, list[Permit]] = {}
        while True:
            due = self.due(now)
            ahead = AHEAD if given and self._shut_after is None else 0.0
            if due > now + ahead or (name := self._next()) is None:
                return given
            number = self.book(name, now)
            given.setdefault(name, []).append((number, max(0.0, due - now)))

    def due(self, now: float) -> float:
        """Return when the next request may be sent."""
        return max(self.pace.next_time(now, len(self._booked)), self._not_before)

    def wake_at(self, now: float) -> float:
        """Return when to grant again; infinity if a report or a result comes first."""
        most = self._most_unseen()
        if not any(any(one.wants) and one.may_have(most) for one in self._members.values()):
            return math.inf
        return self.due(now)

    def book(self, name: str, now: float) -> int:
        """Book a request of a process at this moment, and return the number of its permit."""
        self._number += 1
        serial = self.pace.on_send(now, len(self._booked))
        self._booked[self._number] = _Booked(self.pace, serial, name, now)
        return self._number

    def accepted(self, number: int, now: float, *, wanted: bool) -> None:
        """Learn that a request was accepted."""
        if (one := self._booked.pop(number, None)) is not None:
            one.pace.on_accepted(one.serial, now, wanted=wanted)
            if self._shut_after is not None and number > self._shut_after and now >= self.paused_until:
                self._shut_after = None
                self.news = True

    def refused(
        self,
        number: int,
        now: float,
        hint: float | None,
        jitter: float = 0.0,
        *,
        own: int | None = None,
        coarse: bool = False,
    ) -> float:
        """Learn from a refusal. Returns the seconds that the request rests.

        ``own`` is the permit of an earlier refusal of the same request, as for every pace.
        """
        if number in self._refused:
            return 0.0
        # A leader before this one gave the permit, or it counts as lost.
        if (one := self._booked.pop(number, None)) is None:
            one = self._booked.pop(self.book(self.me, now))
        earlier = self._refused.get(own or 0)
        same = earlier.serial if earlier is not None and earlier.pace is one.pace else None
        rest = one.pace.on_refused(one.serial, now, hint, jitter, own=same, coarse=coarse)
        if number != UNKNOWN:
            self._refused[number] = one
        if len(self._refused) > _REMEMBERED:
            del self._refused[next(iter(self._refused))]
        if self.paused_until > now:
            self._shut_after = self._number
            if self.paused_until > self._known_pause + _NEWS:
                self._known_pause = self.paused_until
                self._epoch += 1
                self.news = True
        return rest

    def resume(self, now: float, rate: float) -> None:
        """Return to an earlier rate, as the refusals since then had another cause."""
        self.pace.resume(now, rate)
        self.news = True

    def lost(self, number: int, now: float) -> None:
        """Note that a request gets no response."""
        if (one := self._booked.pop(number, None)) is not None:
            one.pace.on_lost(one.serial, now)

    def unsent(self, number: int) -> None:
        """Note that a permit was not used."""
        if (one := self._booked.pop(number, None)) is not None:
            one.pace.on_unsent(one.serial)

    def heard_all_since(self, moment: float) -> bool:
        """Return whether every process has reported since a moment."""
        return all(one.heard_at >= moment for one in self._members.values())

    def tidy(self, now: float, *, alone: bool) -> None:
        """Give up permits without a result, and processes without a report, unless nobody can be heard."""
        if alone:
            for one in self._members.values():
                one.heard_at = max(one.heard_at, now - GONE_AFTER)
        self._dismiss([name for name, one in self._members.items() if now - one.heard_at > GONE_AFTER], now)
        for number, booked in list(self._booked.items()):
            if booked.at > now - LOST_AFTER:
                break
            if booked.process != self.me:
                self.lost(number, now)

    def state(self, now: float) -> State:
        """Return the state at this moment."""
        return State(
            term=self.term,
            epoch=self._epoch,
            rate=self.pace.rate,
            quota=self.pace.quota,
            paused_for=max(0.0, self.paused_until - now),
            hinted=self.pace.pause_hinted,
            fixed=self._fixed is not None,
            earliest=self.pace.earliest(0) - now,
            setting=self._setting,
            processes=len(self._members),
            waiting=sum(sum(one.wants) for one in self._members.values()),
            in_flight=len(self._booked),
            leader=self._about,
            shut=self._shut_after is not None,
            knowledge=self.knowledge,
        )

    def letter(self, name: str, state: State, permits: list[Permit], *, resigned: bool = False) -> Letter:
        """Return a letter to a process, with its permits."""
        member = self._members[name]
        member.serial += 1
        if permits:
            member.unseen[member.serial] = len(permits)
        return Letter(serial=member.serial, state=state, permits=permits, resigned=resigned)

    def is_waiting(self, name: str) -> bool:
        """Return whether a process waits for permits, as far as is known."""
        return name in self._members and any(self._members[name].wants)

    def _most_unseen(self) -> float:
        return max(_LEAST_UNSEEN, _UNSEEN * self.pace.rate)

    def _next(self) -> str | None:
        """Return the process whose turn it is, and count one request of it as served."""
        most = self._most_unseen()
        ready = [(name, one) for name, one in self._members.items() if any(one.wants) and one.may_have(most)]
        waiting = [any(one.wants[kind] for _, one in ready) for kind in (0, 1)]
        if not any(waiting):
            return None
        kind = 1 if not waiting[0] or (waiting[1] and self._bulk_skipped >= BULK_EVERY - 1) else 0
        self._bulk_skipped = 0 if kind or not waiting[1] else self._bulk_skipped + 1
        candidates = {name: one for name, one in ready if one.wants[kind]}
        for one in candidates.values():
            one.served[kind] = max(one.served[kind], self._level[kind] - _BATCH)
        name = min(candidates, key=lambda name: candidates[name].served[kind])
        last, least = self._last[kind], candidates[name].served[kind]
        if last in candidates and candidates[last].served[kind] < least + _BATCH:
            name = last
        self._level[kind] = least
        self._last[kind] = name
        candidates[name].served[kind] += 1
        candidates[name].wants[kind] -= 1
        return name

    def _settle_all(self, results: Iterable[Result], now: float) -> None:
        wanted = any(any(one.wants) for one in self._members.values())
        for what, number, *more in results:
            if what == REFUSED:
                hint, jitter, own, coarse = more
                self.refused(number, now, hint, jitter, own=own, coarse=coarse)
            elif what == ACCEPTED:
                self.accepted(number, now, wanted=wanted)
            elif what == LOST:
                self.lost(number, now)
            elif what == RESUMED:
                self.resume(now, *more)
            else:
                self.unsent(number)

    def _dismiss(self, names: list[str], now: float) -> None:
        """Forget processes that are gone, and what they had."""
        for name in names:
            if self._members.pop(name, None) is not None:
                self.news = True
        if names:
            gone = [number for number, one in self._booked.items() if one.process in names]
            for number in gone:
                self.lost(number, now)
            self._choose_pace()

    def _choose_pace(self) -> None:
        """Keep to the rate that is set, or else to the highest that was given, if every process has one."""
        given = [one.rate for one in self._members.values()]
        rates = [rate for rate in given if rate is not None]
        fixed = self._setting or (max(rates) if len(rates) == len(given) else None)
        if fixed == self._fixed:
            return
        self._not_before = self.paused_until
        self._limit = evolve(self._limit, start=None, knowledge=self.knowledge)
        self._fixed = fixed
        self.pace = pace_for(evolve(self._limit, rate=fixed))
        self.news = True
