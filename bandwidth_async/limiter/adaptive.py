"""Finding the quota: a pace that measures what the server lets in.

Theory of operation
    The server is a doorkeeper: a request is let in, or refused (429). All that can be learned is how many
    were let in between two moments. So this is an estimator with a throttle.

    *Pace.* While the door is open, requests leave evenly at ``rate``. Even spacing makes every kind of
    limiter behave alike: below the quota nothing is refused, above it a few a second.

    *Knock.* A refusal shuts the door: nothing is sent until the hint has passed. Without a hint one request
    at a time knocks. Refusals are quick, the server does nothing for them; so a knock that was not refused
    within twice the time that refusals take has been let in, and the door is open: for the next request of an
    even pace, not for one at once, which a bucket without depth would refuse. After a refused knock the
    next waits as long again as the door has been shut. A burst of refusals thus is one event, and a closed
    window costs its logarithm in knocks.

    *Measure.* A cycle runs from one opening to the next. What was sent in it and not refused, divided by its
    length, is the quota: exact for a bucket that was empty at both ends, and for a window. (What is still
    unanswered was let in: to count answers would measure less the slower they are.) Three cases differ.
    While the rate was growing, the cycle averages the past: what counts is between the last second before
    the refusal, which a window is exact about, and its last moments, which a bucket is nearly exact about.
    Growth that was refused near the quota known before has mostly found the depth of a bucket, so then the
    quota lies between the known one and that (the lower of the two after whole seconds, where closures are
    dear). A cycle too short to count is measured over the last second instead, closures included. And a
    closure much longer than the sample betrays a long window: the cycle is the measure even then, and its
    length is remembered, so that a raise is watched for a whole window before the next. Where part of
    a closure may be rounding (a hint in whole seconds, our own knocking), the quota lies in a bracket.

    *Converge.* Restart inside the bracket, at least 2 % below the refused rate, and ease up to its top, fast
    at first.

    *Grow.* After a quiet time raise the rate by 2, 3, 4.5 … 100 % a step until refused; never while nobody
    waits. The start is the same rule beginning with 100 %, in steps as short as answers are quick. A door
    that shuts before three were let in is no measure: seek on as at the start, at half the rate. But if any
    were let in, each refused knock shows that no more are in so long a time: then not faster than that, nor
    slower than 1/s, since they may have been what others left of a window.

    *Pay.* Growth provokes refusals, so it is paid for: a closure buys quiet until it has cost 2.5 % of the
    time and its refusals 0.5 % of the requests, but not more than ten times as long as what was measured: a
    few requests measure roughly. Below a rate once measured (the peak) the quiet is shorter in proportion, as
    quotas that drop often come back; each growth that does not find it again takes 30 % off the peak.

    *Slots.* A server that limits how many are in service refuses when many are in flight, whatever the rate.
    Two closures in a row at alike in-flight counts that hardly any admitted request had are taken for that:
    from then on fewer than that many are in flight, and the rate may rise. Before the second the quiet is
    short. A refusal below that count, or right after the door opened, disproves it.

Why it converges, for a quota r: above r a refusal comes after at most burst / (rate - r) seconds, and each
restart is lower by 2 % at least; below r nothing is refused, so growth resumes with ever larger steps; a
whole cycle measures r to within (burst + 1) / its length, so brackets shrink as cycles grow longer.
"""

from __future__ import annotations

import math
from collections import deque

from attrs import define

_START = 20.0  # requests/s: two or three are out before the first answer
_FIRST_STEP, _FIRST_STEP_REQUESTS = 0.24, 6  # seconds and requests between two raises, before any refusal
_FIRST_STEP_ANSWERS, _LEAST_FIRST_STEP = 3.0, 0.05  # less where as many answers take less; seconds at least
_STEP, _STEP_REQUESTS = 0.5, 16  # and after
_FIRST_RAISE, _RAISE_FACTOR = 0.02, 1.5
_RESTART = 0.98  # of the refused rate, at most
_LEAST_BLIND = 1.0  # requests/s that are kept to while nothing is measured
_LEAST_CUT = 0.5  # a short sample is not believed to have dropped by more
_SAMPLE = 1.0  # seconds that are counted at least, and
_LEAST = 8  # requests
_LEAST_MEASURED = 3  # requests; fewer make no first measure
_BRIEF, _BRIEF_REQUESTS = 0.2, 50  # seconds or requests that show what is admitted just before a refusal
_LONGEST_WINDOW = 60.0  # seconds that are remembered; a longer closure is an outage
_FADE = 0.8  # of the remembered window, a cycle
_COARSE_SHARE, _KNOCK_SHARE = 0.7, 0.6  # where in the bracket to restart, after a coarse hint and otherwise
_TIME_PRICE, _REFUSAL_PRICE = 0.025, 0.005  # what closures may cost
_SHORTEST_QUIET, _LONGEST_QUIET = 0.5, 300.0  # seconds
_TRUST = 10.0  # times as long as the door was open and shut, a measure is left in peace at most
_PEAK_FADE = 0.7  # when growth did not come back to it
_RISE = 1.5  # times the known quota: growth beyond it has found another one
_GROWTH_SHARE = 0.35  # where to restart between the known quota and what growth seemed to find
_LONGEST_KNOCK = 15.0  # seconds between knocks
_LATENESS = 0.004  # seconds of timer overshoot that are paid back
_SUSPICIONS = 2  # closures in a row that look like a limit of slots
_ALIKE = 0.25  # as much may their in-flight counts differ
_SUSPENSE = 5.0  # seconds of quiet at most before the last of them
_MOST_SLOTS = 10_000  # above it there is no limit worth the name
_SLOT_STEP = 1.0  # seconds between two raises of the slots
_MEMORY = 20_000  # admitted requests that are remembered one by one


@define(eq=False)  # a named tuple takes twice as long to make
class _Sent:
    at: float
    in_flight: int


class AdaptivePace:
    """Seeks the highest rate that the server admits. See the module for the theory."""

    def __init__(self, *, start: float | None = None, floor: float = 0.1, ceiling: float = math.inf) -> None:
        self.rate: float = min(max(start or _START, floor), ceiling)
        self.quota: float | None = None
        self.paused_until: float = -math.inf
        self.pause_hinted: bool = False
        self._floor, self._ceiling = floor, ceiling
        self._due = -math.inf
        self._unsettled: dict[int, _Sent] = {}
        self._admitted: deque[_Sent] = deque(maxlen=_MEMORY)
        self._tickets = 0
        # the door
        self._busy_since = -math.inf
        self._opened_at = math.nan
        self._shut_at: float | None = None
        self._refused = _Sent(-math.inf, 0)  # what shut it
        self._refused_rate = self.rate
        self._latest_refused = -math.inf
        self._refusals = 0  # since it was last opened
        self._coarse = False  # whether the last hint was in whole seconds
        self._refusal_time: float | None = None  # how long a 429 takes, smoothed
        self._knock: int | None = None
        self._knocked_at = -math.inf
        # the measurement
        self._mark = -math.inf  # where the cycle that is measured began
        self._since_mark = 0  # sent since, and not refused
        self._slack = 0.0  # seconds of its closures that may be rounding
        self._closures = 0.0  # seconds of its closures that were spent knocking
        self._window = 0.0  # of the server, when it is long
        self._known = 0.0  # the quota as a cycle without growth measured it
        self._peak = 0.0
        self._unwanted = 0.0  # seconds that the door was shut because nobody knocked
        # growth
        self._growing = True
        self._raise = 1.0 if start is None else _FIRST_RAISE
        self._raise_at = -math.inf
        self._raised_at, self._raised_ticket = -math.inf, 0
        self._quiet_until = -math.inf
        self._base = self._top = self.rate
        # slots
        self._slots = math.inf
        self._suspects: list[int] = []

    def __repr__(self) -> str:
        door = "open" if self._shut_at is None else "shut"
        return f"<AdaptivePace {self.rate:.4g}/s, quota {self.quota or math.nan:.4g}/s, door {door}>"

    def next_time(self, now: float, in_flight: int) -> float:
        """Return when the next request may leave; inf when an answer has to come first."""
        if self._shut_at is None:
            return math.inf if in_flight >= self._slots else self._due - _LATENESS
        if self._knock is None or self.pause_hinted:
            return self.paused_until
        return self._knocked_at + self._patience()

    def earliest(self, ahead: int) -> float:
        """Return nothing useful: a rate that is found out may rise at any time."""
        return -math.inf

    def on_send(self, now: float, in_flight: int) -> int:
        """Take note of a request that leaves now, and return its ticket."""
        self._tickets += 1
        if math.isnan(self._opened_at):
            self._opened_at = now
            self._raise_at = now + _FIRST_STEP
            self._raised_at = now
        if self._shut_at is None and now - self._due > _SAMPLE:  # idle time is no measure of the server
            self._busy_since = now
            self._begin_cycle(now)
        if self._shut_at is not None:
            if self._knock is None and now - self.paused_until > _SAMPLE:  # nobody wanted to know sooner
                self._unwanted += now - self.paused_until
            if self.pause_hinted or self._knock is not None:
                self._open(now)
            else:
                self._knock, self._knocked_at = self._tickets, now
        self._due = max(self._due, now) + 1 / self.rate
        self._unsettled[self._tickets] = _Sent(now, in_flight)
        self._since_mark += 1
        return self._tickets

    def on_unsent(self, ticket: int) -> None:
        """Take back a request that did not leave after all."""
        self._uncount(ticket)
        self._due -= 1 / self.rate

    def on_lost(self, ticket: int, now: float) -> None:
        """Forget a request without an answer; a lost knock is knocked again."""
        if ticket == self._knock and not self.pause_hinted:
            self.paused_until = max(self.paused_until, self._knocked_at + 1 / self.rate)
        self._uncount(ticket)

    def on_accepted(self, ticket: int, now: float, *, wanted: bool) -> None:
        """Learn that a request was let in, and raise the rate when that is due."""
        sent = self._settle(ticket)
        self._admitted.append(sent)
        if self._shut_at is not None:
            if sent.at > self._latest_refused and not self.pause_hinted:
                self._open(now)
        elif not wanted:
            self._raise_at = max(self._raise_at, now + _STEP)  # an unused rate proves nothing
        elif now < self._quiet_until:
            share = (now - self._opened_at) / (self._quiet_until - self._opened_at)
            self._set_rate(max(self.rate, self._base + (self._top - self._base) * math.sqrt(share)))
        elif now >= self._raise_at:
            if self._is_used(now, sent.in_flight):
                self._grow(now)
            self._raised_at, self._raised_ticket = now, self._tickets

    def on_refused(self, ticket: int, now: float, hint: float | None, jitter: float = 0.0) -> None:
        """Shut the door, or learn that it still is."""
        knocked = ticket == self._knock
        sent = self._uncount(ticket)
        self._refusals += 1
        self._latest_refused = max(self._latest_refused, sent.at)
        took = now - sent.at
        self._refusal_time = took if self._refusal_time is None else 0.8 * self._refusal_time + 0.2 * took
        if self._shut_at is None and sent.at >= self._opened_at:
            self._shut_at, self._refused, self._refused_rate = now, sent, self.rate
            self.pause_hinted = False
            self.paused_until = now + max(1.5 / self.rate, 0.02)
        elif self._shut_at is None and hint and hint >= _SAMPLE:  # a late answer, but the server's word
            self._shut_at, self._refused, self._refused_rate = now, sent, self.rate
            self.pause_hinted = False
        elif self._shut_at is not None and knocked and not self.pause_hinted:
            shut_for = max(now - self._shut_at, 1 / self.rate)
            self.paused_until = now + min(shut_for, _LONGEST_KNOCK)
            if self._peak == 0 and 0 < self._since_mark < _LEAST_MEASURED:
                self._set_rate(min(self.rate, max(self._since_mark / (now - self._mark), _LEAST_BLIND)))
        if hint:
            self._obey(now + hint + jitter, coarse=float(hint).is_integer())

    def _obey(self, until: float, *, coarse: bool) -> None:
        """Keep the door shut until the server's moment, also when a late answer names it."""
        if self._shut_at is None:
            return
        self.paused_until = max(until, self.paused_until if self.pause_hinted else until)
        self.pause_hinted = True
        self._coarse = coarse

    def _settle(self, ticket: int) -> _Sent:
        if ticket == self._knock:
            self._knock = None
        return self._unsettled.pop(ticket)

    def _uncount(self, ticket: int) -> _Sent:
        sent = self._settle(ticket)
        self._since_mark -= sent.at >= self._mark
        return sent

    def _patience(self) -> float:
        """Return how long a knock may stay unanswered before it counts as let in and another is due."""
        return min(max(2 * (self._refusal_time or 0.0), 0.03, 1 / self.rate), _LONGEST_KNOCK)

    def _set_rate(self, rate: float) -> None:
        self.rate = min(max(rate, self._floor), self._ceiling)

    def _is_used(self, now: float, in_flight: int) -> bool:
        """Return whether the slots, or the rate since it was last looked at, held requests back."""
        full = in_flight >= self._slots - 1  # a request does not count itself
        used = full or self._tickets - self._raised_ticket >= 0.5 * self.rate * (now - self._raised_at)
        if not used:
            self._raise_at = now + _STEP
        return used

    def _grow(self, now: float) -> None:
        if self._slots < math.inf:
            self._slots += max(1, int(self._slots * self._raise))
            self._raise_at = now + _SLOT_STEP
            if self._slots > _MOST_SLOTS:
                self._slots = math.inf
        else:
            self._growing = True
            first = self._peak == 0
            step, requests = (self._first_step(), _FIRST_STEP_REQUESTS) if first else (_STEP, _STEP_REQUESTS)
            self._set_rate(self.rate * (1 + self._raise))
            self._raise_at = now + max(step, requests / self.rate, self._window)
        self._raise = min(1.0, _RAISE_FACTOR * self._raise)

    def _first_step(self) -> float:
        """Return the seconds until the next raise before any refusal: some answers' time, to hear one."""
        answers = len(self._unsettled) / self.rate  # Little's law
        return min(max(_FIRST_STEP_ANSWERS * answers, _LEAST_FIRST_STEP), _FIRST_STEP)

    def _open(self, now: float) -> None:
        """End a cycle and begin the next, at a rate that was measured or, at first, only made out."""
        hinted = self.pause_hinted
        if self._peak == 0 and self._since_mark < _LEAST_MEASURED:
            self._begin_blind(now)
        else:
            self._begin_measured(now, hinted=hinted)
        self._due = max(now, self._due if hinted else self._knocked_at + 1 / self.rate)
        self._opened_at, self._shut_at, self._knock, self._refusals = now, None, None, 0
        self.paused_until = min(self.paused_until, now)
        self._raised_at, self._raised_ticket = now, self._tickets

    def _begin_blind(self, now: float) -> None:
        """Go on seeking as at the start: the door was shut before enough was admitted to measure anything."""
        most = min(self.rate, _LEAST_CUT * self._refused_rate)
        self._set_rate(max(most, min(_RESTART * self._refused_rate, _LEAST_BLIND)))
        self._base = self._top = self.rate
        self._quiet_until = self._raise_at = now + _SHORTEST_QUIET
        self._begin_cycle(now)
        self._busy_since, self._unwanted = now, 0.0

    def _begin_measured(self, now: float, *, hinted: bool) -> None:
        """Measure the cycle, restart below the refused rate, and be quiet for what the closure cost."""
        assert self._shut_at is not None  # noqa: S101  # only a shut door is opened
        closed = max(now - self._shut_at - self._unwanted, 0.0)
        slack = min(1.0, 0.9 * closed) if hinted and self._coarse else 0.0
        self._slack += slack
        self._closures += 0.0 if hinted else closed
        limit = _RESTART * self._refused_rate
        self._judge_slots()
        low, top = self._measure(now - self._unwanted, closed - slack)
        if self._unwanted:
            self._begin_cycle(now)
            self._busy_since, self._unwanted = now, 0.0
        share = _COARSE_SHARE if hinted else _KNOCK_SHARE
        if not self._growing:
            self._known = low + share * (top - low)
        elif low < _RISE * self._known:
            top = low if slack else top  # the last moments are believed where a closure is cheap
            low, share = min(self._known, top), _GROWTH_SHARE
        self.quota = low + share * (top - low)
        self._base = min(self.quota, limit)
        self._top = max(self._base, min(top, limit))
        if self._slots < math.inf:
            self._base = self._top = max(self._base, self._refused_rate)
        self._set_rate(self._base)
        self._peak = max(self._peak * (_PEAK_FADE if self._growing else 1.0), self.rate)
        self._quiet_until = self._raise_at = now + self._quiet(now, closed)
        self._growing, self._raise = False, _FIRST_RAISE

    def _quiet(self, now: float, closed: float) -> float:
        """Return the seconds of quiet that a closure of ``closed`` seconds costs."""
        price = max(closed / _TIME_PRICE, self._refusals / (_REFUSAL_PRICE * self.rate))
        quiet = min(price, _LONGEST_QUIET) * min(1.0, self.rate / self._peak)
        if len(self._suspects) == _SUSPICIONS - 1 and self._slots == math.inf:
            quiet = min(quiet, _SUSPENSE)
        return max(min(quiet, _TRUST * (now - self._opened_at)), _SHORTEST_QUIET)

    def _measure(self, now: float, closed: float) -> tuple[float, float]:
        """Return the bracket that the quota lies in, after ``closed`` seconds that the server meant."""
        need = max(_SAMPLE, _LEAST / self._refused_rate)
        span = now - self._mark
        long = closed >= 2 * need and self._since_mark >= _LEAST
        if long or (not self._growing and span >= max(need, self._window)):
            low = self._since_mark / span
            top = self._since_mark / max(span - self._slack, 0.3 * span)
            self._window = min(span, _LONGEST_WINDOW) if long else _FADE * self._window
            self._begin_cycle(now)
        elif self._growing:
            end = self._refused.at
            width = max(min(need, end - self._mark), 1e-3)
            brief = max(min(width / 2, max(_BRIEF, _BRIEF_REQUESTS / self._refused_rate)), 1e-3)
            rates = (self._count(end - width, end) / width, self._count(end - brief, end) / brief)
            low, top = min(rates), max(rates)
            self._begin_cycle(now)
        else:
            width = max(min(max(need, self._window), now - self._busy_since), 1e-3)
            admitted = self._count(now - width, now)
            idle = min(self._slack + self._closures, 0.7 * width)
            low, top = admitted / width, admitted / (width - idle)
        if long:
            return low, top
        least = _LEAST_CUT * self._refused_rate
        return max(low, least), max(top, least)

    def _begin_cycle(self, now: float) -> None:
        self._mark, self._since_mark, self._slack, self._closures = now, 0, 0.0, 0.0

    def _count(self, start: float, end: float) -> int:
        """Return how many were sent from ``start`` until before ``end``, and not refused."""
        count = sum(start <= sent.at < end for sent in self._unsettled.values())
        for sent in reversed(self._admitted):
            if sent.at < start - 15.0:  # answers overtake each other, by less than that
                break
            count += start <= sent.at < end
        return count

    def _judge_slots(self) -> None:
        """Decide whether the server limits how many are in service, and how many."""
        level = self._refused.in_flight
        if self._slots < math.inf:
            # Refused below them, or right after the door opened: it was no limit of slots after all.
            lasted = self._shut_at is not None and self._shut_at - self._opened_at >= _SAMPLE
            self._slots = max(1, self._slots - 1) if lasted and level >= self._slots - 2 else math.inf
            self._suspects.clear()
            return
        if self._growing and self._refused_rate >= 1.3 * self._peak:
            return
        levels = [sent.in_flight for sent in self._since(self._opened_at - 0.5)]
        above = sum(one >= level for one in levels)
        rare = level >= 2 and len(levels) >= 20 and above <= 0.1 * len(levels)
        if not rare or any(abs(level - one) > max(1, _ALIKE * one) for one in self._suspects):
            self._suspects.clear()
        if rare:
            self._suspects.append(level)
        if len(self._suspects) >= _SUSPICIONS:
            self._slots = max(1, min(self._suspects) - 1)
            self._refused_rate *= 1.5  # room for the slots to be what limits

    def _since(self, start: float) -> list[_Sent]:
        found: list[_Sent] = []
        for sent in reversed(self._admitted):
            if sent.at < start - 1.0 or len(found) == 400:
                break
            if sent.at >= start:
                found.append(sent)
        return found
