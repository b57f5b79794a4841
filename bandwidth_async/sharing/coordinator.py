"""Leads or follows over a carrier, and goes on alone when the carrier or the leader fails.

Its `Duties` talk with the carrier. Timers do the rest: `_flush` when there is something to report, `_grant`
when the next request of all is due, and `_beat` ten times a second for all that has a time limit.

Who decides
    The leader without neighbours. With neighbours the leader is a follower of its own,
    only without the carrier. A follower: the permits. Alone: a pace of its own, from its share of the last
    rate on.

A process goes on alone when the carrier has failed for `SILENCE` seconds, or when it has requests that wait
and heard nothing from a leader for so long. It comes back with the next letter, or the next lease. Permits
that reach it while it is alone go back unused.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import secrets
import socket
from typing import TYPE_CHECKING

from attrs import evolve

from bandwidth_async.limiter.pace import pace_for
from bandwidth_async.sharing.alone import Notices, pace_alone
from bandwidth_async.sharing.duties import LEASE, Duties
from bandwidth_async.sharing.leader import Leader
from bandwidth_async.sharing.link import SILENCE, STALL, Link
from bandwidth_async.sharing.messages import Letter, Report, State, decode
from bandwidth_async.sharing.outbox import Outbox
from bandwidth_async.sharing.pace import SharedPace
from bandwidth_async.sharing.permits import STALE, Permits

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from bandwidth_async.limiter import Knowledge, RateLimit
    from bandwidth_async.limiter.pace import Pace
    from bandwidth_async.sharing.carrier import Carrier, Lease

# Seconds between two reports that are urgent, and that are not. With a tenth of a second the pace hears so
# late of what was accepted that a run at hints of whole seconds takes 4 % longer.
_URGENT_GAP, _REPORT_GAP = 0.015, 0.03

# Seconds between two beats; and after how many of them a process that waits, and any process, hears or says
# something though there is no news.
_BEAT, _BEATS_WAITING, _BEATS_IDLE = 0.1, 2, 10

_log = logging.getLogger("bandwidth_async.sharing")


class Coordinator:
    """Coordinates one process with the others that share a limit.

    ``pace`` is the one that the limiter sees. ``look_again`` makes the limiter look for requests to admit,
    and ``wanted`` tells the requests that wait: of single calls and of runs.
    """

    def __init__(
        self,
        limit: RateLimit,
        random: Random,
        *,
        look_again: Callable[[], None],
        wanted: Callable[[], tuple[int, int]],
        expected: int,
        warn: bool,
        on_processes: Callable[[int], object],
    ) -> None:
        self.processes: int = 1
        # Why this process is alone, None while it is not.
        self.alone_because: str | None = None
        self.leader: Leader | None = None
        self.outbox: Outbox | None = None
        self._limit, self._random, self._expected = limit, random, expected
        self._notices = Notices(warn=warn)
        self._look_again, self._wanted, self._on_processes = look_again, wanted, on_processes
        self._permits = Permits(pace_for(limit).rate, self._notify)
        self.pace: SharedPace = SharedPace(self._permits, limit)
        self._alone: Pace | None = None
        # The last state of a leader, this one included.
        self._state: State | None = None
        self._broken = False
        self._lease_until = self._word_at = self._flushed_at = -math.inf
        # Since when requests wait; and since when the others are called back.
        self._waiting_since = self._calling_since = math.inf
        self._beats = 0
        self._greets = False
        self._duties: Duties | None = None
        # The moments are kept beside the timers, as uvloop's handles do not give one that has passed.
        self._flush_at = self._beat_at = -math.inf
        self._beat_timer: asyncio.TimerHandle | None = None
        self._flush_timer: asyncio.TimerHandle | None = None
        self._grant_timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        if self.alone_because:
            return f"<Coordinator alone: {self.alone_because}>"
        return f"<Coordinator {'leads' if self.leader else 'follows'}, {self.processes} processes>"

    # --- from start to end

    @property
    def is_running(self) -> bool:
        """Whether it was started and not closed."""
        return self._duties is not None

    @property
    def reads_letters(self) -> bool:
        """Whether letters may come: a leader writes none to itself."""
        return self.leader is None or self.alone_because is not None

    @property
    def setting(self) -> float | None:
        """The rate that an operator has set, None without one."""
        if self.leader is not None:
            return self.leader.setting
        return self._state.setting if self._state is not None else None

    @property
    def knowledge(self) -> Knowledge | None:
        """What the leader has learned, or this process if it never had one.

        What a process learns at its share, while it is alone for a time, is none of the whole.
        """
        if self.leader is not None:
            return self.leader.knowledge
        if self._state is not None:
            return self._state.knowledge
        return self._alone.knowledge if self._alone is not None else None

    def start(self, loop: asyncio.AbstractEventLoop, carrier: Carrier) -> None:
        """Begin to claim, read and send in this event loop."""
        self._loop, self._link = loop, Link(carrier, self._random, self._on_trouble)
        # Each process has a name of its own, also one that was forked from another.
        self._name = secrets.token_hex(6)
        self._about = f"{socket.gethostname()}:{os.getpid()}"
        self._word_at = loop.time()
        self._duties = Duties(self._link, self._name, self)
        self._beat_at = loop.time() + _BEAT
        self._beat_timer = loop.call_at(self._beat_at, self._safely, self._beat)

    async def aclose(self) -> None:
        """Leave: give back what this process holds, and the lead."""
        duties, self._duties = self._duties, None
        for timer in (self._beat_timer, self._flush_timer, self._grant_timer):
            if timer is not None:
                timer.cancel()
        self._beat_timer = self._flush_timer = self._grant_timer = None
        if duties is not None:
            await duties.aclose()

    def on_fault(self, error: Exception) -> None:
        """Go on alone for good after a fault of this library."""
        _log.error("sharing the limit failed", exc_info=error)
        self._broken = True
        self._go_alone(f"unexpected {type(error).__name__}")

    def _safely(self, callback: Callable[[], None]) -> None:
        """Call what a timer is for."""
        try:
            callback()
        except Exception as error:
            self.on_fault(error)

    def _on_trouble(self, reason: str) -> None:
        """Go on alone when the carrier has failed for long, or before anything is known of the others."""
        lasting = self._link.lasting_trouble(self._loop.time())
        if lasting or (self._state is None and self.leader is None):
            self._go_alone(lasting or reason)

    # --- who leads

    def lead(self, lease: Lease, began: float) -> None:
        """Lead, or go on leading. The lease counts from the beginning of the claim."""
        self._lease_until = began + LEASE
        if self.leader is None or self.leader.term != lease.term:
            _log.debug("leads the processes that share %s", self._link.carrier)
            self.leader = self._new_leader(lease)
            self.outbox = Outbox(self.leader)
            self._link.forget_troubles()
        self.leader.set_rate(lease.setting)
        self._come_back_as_leader()
        self._decide()
        self._grant()

    def _new_leader(self, lease: Lease) -> Leader:
        now, last = self._loop.time(), self._state
        if self.leader is not None:
            last = evolve(self.leader.state(now), names=self.leader.others)
        elif (published := decode(lease.state, State)) is not None:
            # It may be of an earlier run. Then a start that was given is newer.
            is_news = last is not None or self._limit.start is None
            last = evolve(published, knowledge=published.knowledge if is_news else None)
        return Leader(
            self._name,
            self._about,
            term=lease.term,
            limit=self._limit,
            last=last,
            now=now,
            paused_until=self.pace.paused_until,
        )

    def stop_leading(self) -> None:
        """Follow, since another process leads or the lease is over."""
        if self.leader is not None:
            now = self._loop.time()
            self._state, self._word_at = evolve(self.leader.state(now), names=self.leader.others), now
            self.leader = self.outbox = None
            self._link.forget_troubles()
            self._decide()

    def _go_alone(self, reason: str) -> None:
        if self.alone_because is not None:
            return
        now, self.alone_because = self._loop.time(), reason
        state = self.leader.state(now) if self.leader is not None else self._state
        # Without neighbours there is nobody to share with.
        by_itself = self.leader is not None and not self.leader.others
        self._alone = self.leader if by_itself else pace_alone(self._limit, state, self._expected)
        self._decide()
        self._notices.alone(now, str(self._link.carrier), reason, self.pace.rate)

    def _come_back_as_leader(self) -> None:
        """Lead again after a time alone, when the others have come back, who went on alone meanwhile."""
        if self.alone_because is None or self.leader is None or self.outbox is None or self._link.trouble:
            self._calling_since = math.inf
            return
        now = self._loop.time()
        if self._calling_since == math.inf:
            self._calling_since = now
            self.outbox.greet(now, everybody=True)
            self._send()
        if now - self._calling_since >= SILENCE or self.leader.heard_all_since(self._calling_since):
            self._come_back()

    def _come_back(self) -> None:
        if self.alone_because is not None and not self._broken:
            self.alone_because = self._alone = None
            self._word_at = self._loop.time()
            self._notices.back(self._word_at, str(self._link.carrier))

    def _decide(self) -> None:
        """Let the right pace decide."""
        if self._alone is not None:
            pace: Pace = self._alone
        elif self.leader is not None and not self.leader.others:
            pace = self.leader
        else:
            pace = self._permits
        if pace is not self.pace.deciding:
            now = self._loop.time()
            self._permits.tidy(now, 0)
            self.pace.let_decide(pace, not_before=self.pace.paused_until)
            self._look_again()
        count = len(self.leader.others) + 1 if self.leader else self._state.processes if self._state else 1
        if count != self.processes:
            self.processes = count
            self._on_processes(count)

    # --- timers

    def _beat(self) -> None:
        now, wanted = self._loop.time(), sum(self._waiting())
        if (late := now - self._beat_at) > STALL:
            self._word_at += late
        self._beat_at = now + _BEAT
        self._beat_timer = self._loop.call_at(self._beat_at, self._safely, self._beat)
        self._beats += 1
        self._waiting_since = min(self._waiting_since, now) if wanted else math.inf
        self._permits.tidy(now, wanted)
        if (reason := self._link.lasting_trouble(now)) is not None:
            self._go_alone(reason)
        if self.leader is not None:
            self._beat_as_leader(now)
        else:
            if wanted and now - max(self._word_at, self._waiting_since) >= SILENCE:
                silent = "no answer" if self._state is None else "no word from the process that leads"
                self._go_alone(self._link.trouble or silent)
            often = wanted and self.alone_because is None
            self._greets |= not self._beats % (_BEATS_WAITING if often else _BEATS_IDLE)
            if self._greets:
                self._send()
        if wanted:
            self._notify(False)

    def _beat_as_leader(self, now: float) -> None:
        assert self.leader is not None  # noqa: S101 - the caller looked
        assert self.outbox is not None  # noqa: S101 - so has every leader
        if now > self._lease_until:
            self.stop_leading()
            return
        self.leader.tidy(now, alone=self.alone_because is not None)
        self._come_back_as_leader()
        if not self._beats % _BEATS_WAITING:
            self.outbox.greet(now, everybody=not self._beats % _BEATS_IDLE)
            self._send()
        self._decide()
        self._grant()

    def _notify(self, urgent: bool) -> None:
        """Report soon, and sooner if it is urgent."""
        if self._duties is None:
            return
        now = self._loop.time()
        # What it reports to itself costs no call.
        gap = 0.0 if self.leader is not None else _URGENT_GAP if urgent else _REPORT_GAP
        at = max(now, self._flushed_at + gap)
        if self._flush_timer is not None:
            if self._flush_at <= at:
                return
            self._flush_timer.cancel()
        self._flush_at = at
        self._flush_timer = self._loop.call_at(at, self._safely, self._flush)

    def _flush(self) -> None:
        self._flush_timer = None
        now = self._flushed_at = self._loop.time()
        if self.pace.deciding is self._permits:
            self._permits.tidy(now, sum(self._waiting()))
        if self.leader is None:
            self._send()
        elif (report := self.report()) is not None:
            self.leader.take(report, now)
            self._grant()

    def _grant(self) -> None:
        """Hand out the permits that are due, tell the news, and set the timer for the next."""
        leader, outbox, now = self.leader, self.outbox, self._loop.time()
        if leader is None or outbox is None or self.alone_because is not None:
            return
        given = leader.grant(now) if self.pace.deciding is self._permits else {}
        own = given.pop(leader.me, [])
        news = leader.news
        if own or news:
            self._permits.take(leader.letter(leader.me, leader.state(now), own), now)
        outbox.tell(now, given)
        if outbox:
            self._send()
        if self._grant_timer is not None:
            self._grant_timer.cancel()
            self._grant_timer = None
        if (at := leader.wake_at(now)) < math.inf and self.pace.deciding is self._permits:
            self._grant_timer = self._loop.call_at(at, self._safely, self._grant)
        if own or news:
            self._look_again()

    # --- messages

    def _send(self) -> None:
        if self._duties is not None:
            self._duties.send()

    def take_reports(self, reports: list[Report]) -> None:
        """Learn from the reports of other processes, and grant what they wait for."""
        if self.leader is not None:
            for report in reports:
                self.leader.take(report, self._loop.time())
            self._decide()
            self._grant()

    def _waiting(self) -> tuple[int, int]:
        """Return the single calls and the requests of runs that permits would be of use to."""
        interactive, bulk = self._wanted()
        most = self.pace.of_use(self._loop.time(), STALE)
        first = min(interactive, most)
        return int(first), int(min(bulk, most - first))

    def report(self, *, leaving: bool = False) -> Report | None:
        """Return a report, or None if there is nothing new and none is due anyway."""
        interactive, bulk = (0, 0) if leaving else self._waiting()
        report = Report(
            process=self._name,
            about=self._about,
            rate=self._limit.rate,
            interactive=interactive,
            bulk=bulk,
            leaving=leaving,
        )
        greets, self._greets = self._greets, False
        return self._permits.fill(report, anyway=greets or leaving)

    def report_again(self, report: Report) -> None:
        """Report once more what could not be sent."""
        self._permits.report_again(report)

    def take_letter(self, letter: Letter) -> None:
        """Follow the leader whose letter this is."""
        if self.leader is not None:
            return
        now = self._word_at = self._loop.time()
        self._state = letter.state
        self._permits.take(letter, now, usable=self.alone_because is None)
        if letter.resigned:
            self._link.hurry.set()
        elif self._link.trouble is None:
            self._come_back()
        self._decide()
        self._look_again()
