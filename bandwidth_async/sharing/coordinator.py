"""Leads or follows over a carrier, and goes on alone when the carrier or the leader fails.

Four tasks do the work of a carrier: claims, reports to the leader, letters to this process, and what this
process sends. Timers do the rest: `_flush` when there is something to report, `_grant` when the next request
of all is due, and `_beat` ten times a second for all that has a time limit.

Who decides
    The leader without neighbours: its pace, directly. With neighbours the leader is a follower of its own,
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
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from attrs import evolve

from bandwidth_async.limiter.pace import RateLimit, pace_for
from bandwidth_async.sharing.carrier import CarrierError, LeaderGone
from bandwidth_async.sharing.leader import Leader
from bandwidth_async.sharing.messages import Letter, Report, State, decode, encode
from bandwidth_async.sharing.pace import DirectPace, SharedPace
from bandwidth_async.sharing.permits import STALE, Permits

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from random import Random
    from typing import Any

    from bandwidth_async.limiter import Knowledge
    from bandwidth_async.limiter.pace import Pace
    from bandwidth_async.sharing.carrier import Carrier
    from bandwidth_async.sharing.leader import Permit

T = TypeVar("T")

# Seconds: a lease, the time between two claims, and the longest that a call of the carrier may take.
LEASE, _CLAIM_EVERY, _CALL = 3.0, 1.0, 0.5

# Seconds without a word, after which a process goes on alone.
SILENCE = 0.5

# Seconds between two reports that are urgent, and that are not; and that a reader waits for messages.
_URGENT_GAP, _REPORT_GAP, _READ = 0.02, 0.1, 1.0

# Seconds between two beats; and after how many of them a process that waits, and any process, hears or says
# something though there is no news.
_BEAT, _BEATS_WAITING, _BEATS_IDLE = 0.1, 2, 10

# Seconds that a timer of this process is late when it stood still itself, as when it computes.
_STALL = 0.1

# Seconds of random delay before a claim when a leader has left, and after a failure.
_RUSH, _RETRY = 0.03, 0.4

# Seconds without trouble, after which the next trouble is said again.
_FORGIVEN = 60.0

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
        self._limit, self._random, self._expected = limit, random, expected
        self._level = logging.WARNING if warn else logging.INFO
        self._look_again, self._wanted, self._on_processes = look_again, wanted, on_processes
        self._permits = Permits(pace_for(limit).rate, self._notify)
        self.pace: SharedPace = SharedPace(self._permits, limit)
        self._direct: DirectPace | None = None
        self._alone: Pace | None = None
        # The last state of a leader, this one included.
        self._state: State | None = None
        # What the carrier fails to do: since when, and why.
        self._troubles: dict[str, tuple[float, str]] = {}
        self._broken = False
        self._said_at = self._lease_until = self._word_at = self._flushed_at = -math.inf
        # Since when requests wait; and since when the others are called back.
        self._waiting_since = self._calling_since = math.inf
        self._beats = 0
        self._letters: dict[str, list[str]] = {}
        self._publishes = self._greets = False
        self._tasks: list[asyncio.Task[None]] = []
        # The moments are kept beside the timers, as uvloop's handles do not give one that has passed.
        self._flush_at = self._beat_at = -math.inf
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
        return bool(self._tasks)

    @property
    def knowledge(self) -> Knowledge | None:
        """What the leader has learned."""
        if self.leader is not None:
            return self.leader.knowledge
        return self._state.knowledge if self._state is not None else None

    def start(self, loop: asyncio.AbstractEventLoop, carrier: Carrier) -> None:
        """Begin to claim, read and send in this event loop."""
        self._loop, self.carrier = loop, carrier
        # Each process has a name of its own, also one that was forked from another.
        self._name = secrets.token_hex(6)
        self._about = f"{socket.gethostname()}:{os.getpid()}"
        self._mail, self._hurry, self._leads = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._word_at = loop.time()
        self._tasks = [
            loop.create_task(self._guard(work))
            for work in (self._claim, self._read_letters, self._read_reports, self._send)
        ]
        self._beat_at = loop.time() + _BEAT
        self._beat_timer = loop.call_at(self._beat_at, self._safely, self._beat)

    async def aclose(self) -> None:
        """Leave: give back what this process holds, and the lead."""
        if not self._tasks:
            return
        for timer in (self._beat_timer, self._flush_timer, self._grant_timer):
            if timer is not None:
                timer.cancel()
        self._flush_timer = self._grant_timer = None
        running: set[asyncio.Task[None]] = set(self._tasks)
        self._tasks = []
        # A client library may swallow a cancellation that comes together with an answer.
        while running:
            for task in running:
                task.cancel()
            _, running = await asyncio.wait(running, timeout=_BEAT)
        if not self._troubles:
            await self._call("a farewell", self._say_farewell())
        await self._call("the end", self.carrier.aclose())

    async def _say_farewell(self) -> None:
        now = self._loop.time()
        if self.leader is not None:
            state = self.leader.state(now)
            for name in self.leader.others:
                self._post(self.leader.letter(name, state, [], resigned=True), name)
            left = evolve(state, names=self.leader.others)
            await self.carrier.send(self._letters, encode(left))
            await self.carrier.resign(self._name)
        elif (report := self._report(leaving=True)) is not None:
            await self.carrier.report(self._name, encode(report))

    async def _guard(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do the work of a task. A fault of this library must not leave requests without any limit or end."""
        try:
            await work()
        except Exception as error:
            self._break(error)

    def _safely(self, callback: Callable[[], None]) -> None:
        """Call what a timer is for. The same holds for its faults."""
        try:
            callback()
        except Exception as error:
            self._break(error)

    def _break(self, error: Exception) -> None:
        _log.error("sharing the limit failed", exc_info=error)
        self._broken = True
        self._go_alone(f"unexpected {type(error).__name__}")

    # --- the tasks

    async def _claim(self) -> None:
        while True:
            began = self._loop.time()
            lease = await self._call("a lease", self.carrier.claim(self._name, LEASE))
            self._hurry.clear()
            wait = _CLAIM_EVERY * self._random.uniform(0.9, 1.1)
            if lease is None:
                wait = _RETRY * self._random.uniform(0.5, 1.0)
            elif lease.leading:
                self._lead(lease.term, decode(lease.state, State), began)
                self._set_rate(lease.setting)
            else:
                self._stop_leading()
            try:
                async with asyncio.timeout(wait):
                    await self._hurry.wait()
                await asyncio.sleep(self._random.uniform(0, _RUSH))
            except TimeoutError:
                continue

    async def _read_letters(self) -> None:
        while True:
            if self.leader is not None and self.alone_because is None:
                await asyncio.sleep(_READ)
                continue
            texts = await self._call("reading letters", self.carrier.letters(self._name, _READ), _READ)
            for text in texts or ():
                if (letter := decode(text, Letter)) is not None:
                    self._take(letter)
            if texts is None:
                await self._rest()

    async def _read_reports(self) -> None:
        while True:
            await self._leads.wait()
            texts = await self._call("reading reports", self.carrier.reports(_READ), _READ)
            if texts is None:
                await self._rest()
            elif texts and self.leader is not None:
                now = self._loop.time()
                for text in texts:
                    if (report := decode(text, Report)) is not None:
                        self.leader.take(report, now)
                self._decide()
                self._grant()

    async def _send(self) -> None:
        while True:
            await self._mail.wait()
            self._mail.clear()
            if self.leader is not None:
                letters, self._letters = self._letters, {}
                state = self._published() if self._publishes else None
                self._publishes = False
                if letters or state:
                    leads = await self._call("sending", self.carrier.send(letters, state))
                    if leads is False:
                        self._stop_leading()
                        self._hurry.set()
            elif (report := self._report(anyway=self._greets)) is not None:
                self._greets = False
                sent = self.carrier.report(self._name, encode(report))
                if await self._call("sending", self._done(sent)) is None:
                    self._permits.report_again(report)

    async def _done(self, call: Coroutine[Any, Any, None]) -> bool:
        await call
        return True

    async def _call(self, what: str, call: Coroutine[Any, Any, T], wait: float = 0.0) -> T | None:
        """Return what a call of the carrier returns, or None if it fails. Notes the trouble, or its end."""
        began = self._loop.time()
        try:
            async with asyncio.timeout(wait + _CALL):
                answer = await call
        except LeaderGone:
            self._hurry.set()
            return None
        except (CarrierError, TimeoutError) as error:
            if self._loop.time() - began - wait - _CALL > _STALL:
                # This process stood still itself, so this says nothing about the carrier.
                return None
            reason = str(error) or f"no answer within {_CALL:g} s"
            since, _ = self._troubles.get(what, (began + wait, ""))
            self._troubles[what] = since, reason
            # When nothing is known yet, there is nothing to wait for.
            if self._loop.time() - since >= SILENCE or (self._state is None and self.leader is None):
                self._go_alone(reason)
            return None
        self._troubles.pop(what, None)
        return answer

    async def _rest(self) -> None:
        """Wait before the next try to read."""
        await asyncio.sleep(_RETRY * self._random.uniform(0.5, 1.0) if self._troubles else _RUSH)

    # --- who leads

    def _lead(self, term: int, published: State | None, began: float) -> None:
        """Lead, or go on leading. The lease counts from the beginning of the claim."""
        self._lease_until = began + LEASE
        now = self._loop.time()
        if self.leader is None or self.leader.term != term:
            last = published or self._state
            if self.leader is not None:
                last = evolve(self.leader.state(now), names=self.leader.others)
            _log.debug("leads the processes that share %s", self.carrier)
            self.leader = Leader(self._name, self._about, term=term, limit=self._limit, last=last, now=now)
            self._direct = DirectPace(self.leader)
            self._troubles.clear()
            self._leads.set()
        self._come_back_as_leader()
        self._decide()
        self._grant()

    def _stop_leading(self) -> None:
        if self.leader is not None:
            self._state, self.leader, self._direct = self.leader.state(self._loop.time()), None, None
            self._word_at = self._loop.time()
            self._troubles.clear()
            self._leads.clear()
            self._decide()

    def _set_rate(self, setting: float | None) -> None:
        if self.leader is not None:
            self.leader.set_rate(setting)

    def _go_alone(self, reason: str) -> None:
        if self.alone_because is not None:
            return
        now, self.alone_because = self._loop.time(), reason
        state = self.leader.state(now) if self.leader is not None else self._state
        self._alone = self._pace_alone(state)
        self._decide()
        level = self._level if now - self._said_at > _FORGIVEN else logging.DEBUG
        self._said_at = now
        _log.log(
            level,
            "the limit shared over %s is out of reach (%s): this process goes on alone, from %.3g requests a "
            "second",
            self.carrier,
            reason,
            self.pace.rate,
        )

    def _pace_alone(self, state: State | None) -> Pace:
        if self._direct is not None and state is not None and state.processes == 1:
            return self._direct
        if state is None:
            rate = self._limit.rate and self._limit.rate / self._expected
            return pace_for(evolve(self._limit, rate=rate))
        if state.fixed:
            return pace_for(RateLimit.fixed(state.share()))
        start = min(max(state.share(), self._limit.floor), self._limit.ceiling)
        return pace_for(evolve(self._limit, rate=None, knowledge=None, start=start))

    def _come_back_as_leader(self) -> None:
        """Lead again after a time alone, when the others have come back, who went on alone meanwhile."""
        if self.alone_because is None or self.leader is None or self._troubles:
            self._calling_since = math.inf
            return
        now = self._loop.time()
        if self._calling_since == math.inf:
            self._calling_since = now
            self.leader.news = True
            self._tell(now)
        if now - self._calling_since >= SILENCE or self.leader.heard_all_since(self._calling_since):
            self._come_back()

    def _come_back(self) -> None:
        if self.alone_because is not None and not self._broken:
            self.alone_because = self._alone = None
            self._said_at = max(self._said_at, self._loop.time())
            self._word_at = self._loop.time()
            _log.info("this process shares the limit over %s again", self.carrier)

    def _decide(self) -> None:
        """Let the right pace decide."""
        if self._alone is not None:
            pace: Pace = self._alone
        elif self._direct is not None and self.leader is not None and not self.leader.others:
            pace = self._direct
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
        if (late := now - self._beat_at) > _STALL:
            self._word_at += late
        self._beat_at = now + _BEAT
        self._beat_timer = self._loop.call_at(self._beat_at, self._safely, self._beat)
        self._beats += 1
        self._waiting_since = min(self._waiting_since, now) if wanted else math.inf
        self._permits.tidy(now, wanted)
        for since, reason in self._troubles.values():
            if now - since >= SILENCE:
                self._go_alone(reason)
        if self.leader is not None:
            self._beat_as_leader(now)
        else:
            if wanted and now - max(self._word_at, self._waiting_since) >= SILENCE:
                reasons = [reason for _, reason in self._troubles.values()]
                self._go_alone(reasons[0] if reasons else "no word from the process that leads")
            often = wanted and self.alone_because is None
            self._greets |= not self._beats % (_BEATS_WAITING if often else _BEATS_IDLE)
            if self._greets:
                self._mail.set()
        if wanted:
            self._notify(False)

    def _beat_as_leader(self, now: float) -> None:
        leader = self.leader
        assert leader is not None  # noqa: S101 - the caller looked
        if now > self._lease_until:
            self._stop_leading()
            return
        leader.tidy(now, alone=self.alone_because is not None)
        self._come_back_as_leader()
        idle = not self._beats % _BEATS_IDLE
        self._publishes |= idle
        state = leader.state(now)
        for name in leader.others:
            if idle or (leader.is_waiting(name) and not self._beats % _BEATS_WAITING):
                self._post(leader.letter(name, state, []), name)
        if self._publishes or self._letters:
            self._mail.set()
        self._decide()
        self._grant()

    def _notify(self, urgent: bool) -> None:
        """Report soon, and sooner if it is urgent."""
        if not self._tasks:
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
            self._mail.set()
        elif (report := self._report()) is not None:
            self.leader.take(report, now)
            self._grant()

    def _grant(self) -> None:
        """Hand out the permits that are due, tell the news, and set the timer for the next."""
        leader, now = self.leader, self._loop.time()
        if leader is None or self.alone_because is not None:
            return
        given = leader.grant(now) if self.pace.deciding is self._permits else {}
        own = given.pop(leader.me, [])
        news = leader.news
        if own or news:
            self._permits.take(leader.letter(leader.me, leader.state(now), own), now)
        self._tell(now, given)
        if self._grant_timer is not None:
            self._grant_timer.cancel()
            self._grant_timer = None
        if (at := leader.wake_at(now)) < math.inf and self.pace.deciding is self._permits:
            self._grant_timer = self._loop.call_at(at, self._safely, self._grant)
        if own or news:
            self._look_again()

    def _tell(self, now: float, given: Mapping[str, list[Permit]] = MappingProxyType({})) -> None:
        """Send the others their permits, and the news."""
        leader = self.leader
        assert leader is not None  # noqa: S101 - the caller looked
        names = leader.others if leader.news else list(given)
        if names:
            state = leader.state(now)
            for name in names:
                self._post(leader.letter(name, state, given.get(name, [])), name)
            self._mail.set()
        self._publishes |= leader.news
        leader.news = False

    # --- messages

    def _waiting(self) -> tuple[int, int]:
        """Return the single calls and the requests of runs that permits would be of use to."""
        interactive, bulk = self._wanted()
        most = self.pace.of_use(self._loop.time(), STALE)
        first = min(interactive, most)
        return int(first), int(min(bulk, most - first))

    def _report(self, *, anyway: bool = False, leaving: bool = False) -> Report | None:
        """Return a report, or None if there is nothing new and it is not due ``anyway``."""
        interactive, bulk = (0, 0) if leaving else self._waiting()
        report = Report(
            process=self._name,
            about=self._about,
            rate=self._limit.rate,
            interactive=interactive,
            bulk=bulk,
            leaving=leaving,
        )
        return self._permits.fill(report, anyway=anyway or leaving)

    def _post(self, letter: Letter, name: str) -> None:
        self._letters.setdefault(name, []).append(encode(letter))

    def _published(self) -> str:
        assert self.leader is not None  # noqa: S101 - only a leader publishes
        self._state = evolve(self.leader.state(self._loop.time()), names=self.leader.others)
        return encode(self._state)

    def _take(self, letter: Letter) -> None:
        """Follow the leader whose letter this is."""
        if self.leader is not None:
            return
        now = self._word_at = self._loop.time()
        self._state = letter.state
        self._permits.take(letter, now, usable=self.alone_because is None)
        if letter.resigned:
            self._hurry.set()
        elif not self._troubles:
            self._come_back()
        self._decide()
        self._look_again()
