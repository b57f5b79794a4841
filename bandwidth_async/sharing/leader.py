"""Runs one pace for all processes and hands out permits to send: the leader's decisions, without any I/O.

Theory of operation
    To the pace, all requests of all processes are requests of one. A permit is a request that the pace was
    told of: it is booked at the present moment, and used when it is due. The pace eases and measures by the
    moments of booking, so booking at a later moment would show it a rate that nobody sends at.

    *Ahead.* Permits are handed out when the next request is due, for all that are due within `AHEAD` seconds.
    So the number of letters is bounded, and a request that comes now waits for no more than that.

    *Pause.* A refusal that pauses all begins a new epoch: it voids the permits that were not used, and
    everybody gives them back. Until a request that was booked afterwards is accepted, nothing is booked ahead
    of its time: so a probe stays one request.

    *Loss.* A permit without a result for `LOST_AFTER` seconds counts as lost, as when its process died or the
    letter did not arrive.
"""

from __future__ import annotations

import math
import secrets
from typing import TYPE_CHECKING

from attrs import define, evolve

from bandwidth_async.limiter.pace import pace_for
from bandwidth_async.limiter.refusal import Refusal
from bandwidth_async.sharing.members import GONE_AFTER, Member, Members
from bandwidth_async.sharing.messages import ACCEPTED, LOST, REFUSED, RESUMED, UNKNOWN, Letter, State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bandwidth_async.limiter import Knowledge, RateLimit
    from bandwidth_async.limiter.pace import Pace
    from bandwidth_async.sharing.messages import Report, Result

# Seconds of permits in one letter.
AHEAD = 0.025

# Seconds after which a permit without a result is lost.
LOST_AFTER = 8.0

# A pause that is this many seconds longer than everybody knows is news.
_NEWS = 0.05

# Refused permits that are remembered at most.
_REMEMBERED = 10_000

# The numbers of permits begin at this many times a random number, so that no two leaders give the same.
_NUMBERS = 1 << 20

Permit = tuple[int, float]


@define(eq=False)
class _Booked:
    pace: Pace
    serial: int
    process: str
    at: float


class Leader:
    """Leads the processes that share one limit, of which ``me`` is one. All times are the caller's clock.

    It is a pace itself, that of its own process, for as long as there are no others: then every request is
    booked as it is sent. The serial of a request is the number of its permit.

    ``last`` is the state of the leader before it, and ``paused_until`` the end of the pause that is known.
    """

    def __init__(
        self,
        me: str,
        about: str,
        *,
        term: int,
        limit: RateLimit,
        last: State | None,
        now: float,
        paused_until: float,
    ) -> None:
        self.me = me
        self.term = term
        # Whether everybody has to be told the state.
        self.news: bool = True
        # The rate that an operator has set for all.
        self.setting: float | None = None
        self._about = about
        self._limit = limit
        if last is not None and last.knowledge is not None:
            self._limit = evolve(limit, start=None, knowledge=last.knowledge)
        self._fixed = limit.rate
        self.pace: Pace = pace_for(self._limit)
        # Those whom the last leader led are heard soon, or they are gone.
        self._members = Members()
        for name in last.names if last is not None else ():
            self._members[name] = Member(now, limit.rate)
        self._members[me] = Member(math.inf, limit.rate)
        self._booked: dict[int, _Booked] = {}
        self._refused: dict[int, _Booked] = {}
        # A leader that leads again in the same term is another one: it does not know its earlier permits.
        self._reign = secrets.randbits(40)
        self._number = self._reign * _NUMBERS
        self._epoch = 0
        # The end of the pause that everybody knows, and the last permit before it, None while there is none.
        self._known_pause = -math.inf
        self._shut_after: int | None = None
        # The pause of a pace that was replaced.
        self._not_before = paused_until

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
    def rate(self) -> float:
        """Requests per second of all processes."""
        return self.pace.rate

    @property
    def quota(self) -> float | None:
        """Requests per second that the server is believed to allow."""
        return self.pace.quota

    @property
    def pause_hinted(self) -> bool:
        """Whether the server named the time of the pause."""
        return self.pace.pause_hinted

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
        if rate != self.setting:
            self.setting = rate
            self._choose_pace()

    def take(self, report: Report, now: float) -> None:
        """Learn from a report."""
        if report.leaving:
            self._settle_all(report.results, now)
            self._dismiss([report.process], now)
            return
        member = self._members.get(report.process)
        if member is None:
            member = self._members[report.process] = Member(now, report.rate)
            self.news = True
            self._choose_pace()
        if report.process != self.me:
            member.heard_at = now
        if member.rate != report.rate:
            member.rate = report.rate
            self._choose_pace()
        if report.term == self._reign:
            member.reckon(report)
        else:
            member.wants, member.unseen = [report.interactive, report.bulk], {}
        self._settle_all(report.results, now)

    def grant(self, now: float) -> dict[str, list[Permit]]:
        """Book the requests that are due now and soon, and return the permits of each process."""
        given: dict[str, list[Permit]] = {}
        while True:
            due = self.next_time(now)
            ahead = AHEAD if given and self._shut_after is None else 0.0
            if due > now + ahead or (name := self._members.next(self.pace.rate)) is None:
                return given
            number = self.book(name, now)
            given.setdefault(name, []).append((number, max(0.0, due - now)))

    def next_time(self, now: float, in_flight: int = 0) -> float:
        """Return when the next request of any process may be sent. It knows itself what is in flight."""
        return max(self.pace.next_time(now, len(self._booked)), self._not_before)

    def earliest(self, ahead: int) -> float:
        """Return a moment before which a request behind ``ahead`` others is certainly not sent."""
        return self.pace.earliest(ahead)

    def wake_at(self, now: float) -> float:
        """Return when to grant again; infinity if a report or a result comes first."""
        return self.next_time(now) if self._members.any_ready(self.pace.rate) else math.inf

    def book(self, name: str, now: float) -> int:
        """Book a request of a process at this moment, and return the number of its permit."""
        self._number += 1
        serial = self.pace.on_send(now, len(self._booked))
        self._booked[self._number] = _Booked(self.pace, serial, name, now)
        return self._number

    def on_send(self, now: float, in_flight: int) -> int:
        """Book a request of its own process."""
        return self.book(self.me, now)

    def on_accepted(self, number: int, now: float, *, wanted: bool) -> None:
        """Learn that a request was accepted."""
        if (one := self._booked.pop(number, None)) is not None:
            one.pace.on_accepted(one.serial, now, wanted=wanted)
            if self._shut_after is not None and number > self._shut_after and now >= self.paused_until:
                self._shut_after = None
                self.news = True

    def on_refused(self, number: int, now: float, refusal: Refusal) -> float:
        """Learn from a refusal. Returns the seconds that the request rests.

        The ``own`` of the refusal is the permit of an earlier one of the same request.
        """
        if number in self._refused:
            return 0.0
        # A leader before this one gave the permit, or it counts as lost.
        if (one := self._booked.pop(number, None)) is None:
            one = self._booked.pop(self.book(self.me, now))
        earlier = self._refused.get(refusal.own or 0)
        same = earlier.serial if earlier is not None and earlier.pace is one.pace else None
        rest = one.pace.on_refused(one.serial, now, evolve(refusal, own=same))
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

    def on_lost(self, number: int, now: float) -> None:
        """Note that a request gets no response."""
        if (one := self._booked.pop(number, None)) is not None:
            one.pace.on_lost(one.serial, now)

    def on_unsent(self, number: int) -> None:
        """Note that a permit was not used."""
        if (one := self._booked.pop(number, None)) is not None:
            one.pace.on_unsent(one.serial)

    def heard_all_since(self, moment: float) -> bool:
        """Return whether every process has reported since a moment."""
        return all(one.heard_at > moment for one in self._members.values())

    def tidy(self, now: float, *, alone: bool) -> None:
        """Give up permits without a result, and processes without a report, unless nobody can be heard."""
        if alone:
            for one in self._members.values():
                one.heard_at = max(one.heard_at, now - GONE_AFTER)
        self._dismiss(self._members.gone(now), now)
        for number, booked in list(self._booked.items()):
            if booked.at > now - LOST_AFTER:
                break
            if booked.process != self.me:
                self.on_lost(number, now)

    def state(self, now: float) -> State:
        """Return the state at this moment."""
        return State(
            term=self._reign,
            epoch=self._epoch,
            rate=self.pace.rate,
            quota=self.pace.quota,
            paused_for=max(0.0, self.paused_until - now),
            hinted=self.pace.pause_hinted,
            fixed=self._fixed is not None,
            earliest=self.pace.earliest(0) - now,
            setting=self.setting,
            processes=len(self._members),
            waiting=self._members.waiting,
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

    def _settle_all(self, results: Iterable[Result], now: float) -> None:
        wanted = self._members.waiting > 0
        for what, number, *more in results:
            if what == REFUSED:
                self.on_refused(number, now, Refusal(*more))
            elif what == ACCEPTED:
                self.on_accepted(number, now, wanted=wanted)
            elif what == LOST:
                self.on_lost(number, now)
            elif what == RESUMED:
                self.resume(now, *more)
            else:
                self.on_unsent(number)

    def _dismiss(self, names: list[str], now: float) -> None:
        """Forget processes that are gone, and what they had."""
        for name in names:
            if self._members.pop(name, None) is not None:
                self.news = True
        if names:
            gone = [number for number, one in self._booked.items() if one.process in names]
            for number in gone:
                self.on_lost(number, now)
            self._choose_pace()

    def _choose_pace(self) -> None:
        """Keep to the rate that is set, or else to the highest that was given, if every process has one."""
        fixed = self.setting or self._members.given_rate
        if fixed == self._fixed:
            return
        self._not_before = self.paused_until
        self._limit = evolve(self._limit, start=None, knowledge=self.knowledge)
        self._fixed = fixed
        self.pace = pace_for(evolve(self._limit, rate=fixed))
        self.news = True
