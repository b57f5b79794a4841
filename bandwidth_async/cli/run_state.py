"""What is known of a run while it goes on: how far it is, how fast, why it waits, and how long still."""

from __future__ import annotations

import math
import re
import time
from collections import Counter, deque
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from bandwidth_async.cli import formats
from bandwidth_async.limiter import RateChanged, Unavailable
from bandwidth_async.outcome import OutcomeKind, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bandwidth_async.limiter import LimiterSnapshot, PaceEvent
    from bandwidth_async.outcome import Outcome
    from bandwidth_async.run import Stop

# Seconds over which the throughput is measured, and seconds that are kept for the chart.
_MEASURED, _KEPT = 60, 240
# Pauses of fewer seconds are not shown: the limiter finds out the rate by them.
_SHORTEST_SHOWN = 1.0
# Reasons that are kept apart. A server that invents a new sentence for each id has many.
_REASONS = 100
# How often one id was tried.
_TRIES = re.compile(r" \(after \d+ attempts\)")
# What was done to which id.
_NAMED = re.compile(r"^end conference \S+: ")


class _Sample(NamedTuple):
    at: float
    tried: int


class RunState:
    """A run of ``total`` ids, as far as it has come. Feed it each outcome and each event of the limiter.

    ``title`` names the account, the host and the run. ``snapshot`` reads the limiter. ``rate`` is the one
    that the user set, ``setting`` returns the one that an operator has set for all, and ``sharers`` counts
    the runs that share it. ``patience`` returns the seconds for which the run waits in an outage. ``stop`` is
    the run's. All times are seconds.
    """

    def __init__(
        self,
        total: int,
        snapshot: Callable[[], LimiterSnapshot],
        title: tuple[str, ...] = (),
        clock: Callable[[], float] = time.monotonic,
        *,
        rate: float | None = None,
        setting: Callable[[], float | None] = lambda: None,
        sharers: Callable[[], int] = lambda: 1,
        patience: Callable[[], float] = lambda: 0.0,
        stop: Stop | None = None,
    ) -> None:
        self.total = total
        self.title = title
        self.retries: int = 0
        self._report = Report()
        self.stop = stop
        # Seconds of the pauses before the last one, whatever the reason, and when the last begins and ends.
        self._paused_before = 0.0
        self._pause_began = self._paused_until = -math.inf
        self._outage_since: float | None = None
        self._reasons: dict[str, int] = {}
        self._rate = rate
        self._setting = setting
        self._sharers = sharers
        self._patience = patience
        self._snapshot = snapshot
        self._clock = clock
        self._began = clock()
        self._samples: deque[_Sample] = deque([_Sample(self._began, 0)], maxlen=_KEPT)

    def on_outcome(self, outcome: Outcome, report: Report) -> None:
        """Count an outcome. ``report`` counts it already."""
        self._report = report
        if outcome.error and outcome.kind.trouble:
            # Without what differs from id to id.
            reason = _TRIES.sub("", formats.reason(outcome) or "")
            self._count(reason.replace(outcome.conference_id, "…"))

    @property
    def counts(self) -> Counter[str]:
        """How many ids have each outcome."""
        return self._report.counts

    @property
    def tried(self) -> int:
        """How many ids have an outcome, and were attempted."""
        return self._report.total - self._report.counts[OutcomeKind.NOT_ATTEMPTED]

    def on_retry(self, met: str) -> None:
        """Count what an attempt met that is followed by another. Each 429 is counted elsewhere."""
        self.retries += 1
        if " 429" not in met:
            self._count(_NAMED.sub("", met))

    def _count(self, reason: str) -> None:
        if reason in self._reasons or len(self._reasons) < _REASONS:
            # The latest stands last.
            self._reasons[reason] = self._reasons.pop(reason, 0) + 1

    def on_event(self, event: PaceEvent) -> None:
        """Note a pause."""
        if isinstance(event, RateChanged):
            return
        self._pause(event.seconds)
        if isinstance(event, Unavailable) and self._outage_since is None:
            self._outage_since = time.time()

    def _pause(self, seconds: float) -> None:
        """Note that nothing is sent for ``seconds``."""
        now = self._clock()
        if now > self._paused_until:
            self._paused_before = self.paused
            self._pause_began = self._paused_until = now
        self._paused_until = max(self._paused_until, now + seconds)

    @property
    def paused(self) -> float:
        """The seconds so far in which nothing was sent, whatever the reason."""
        lasted = min(self._clock(), self._paused_until) - self._pause_began
        return self._paused_before + (lasted if lasted > 0 else 0.0)

    @property
    def elapsed(self) -> float:
        """The seconds since the beginning."""
        return self._clock() - self._began

    def observe(self) -> None:
        """Note how far the run is and whether it waits, at most once a second."""
        now = self._clock()
        if now - self._samples[-1].at < 1.0:
            return
        self._samples.append(_Sample(now, self.tried))
        seen = self._snapshot()
        if seen.pause_reason != "unavailable":
            self._outage_since = None
        # A pause may end early, and a server that is down may take long to answer a probe.
        if seen.paused_for:
            self._pause(seen.paused_for)
        else:
            self._paused_until = min(self._paused_until, now)

    def rate(self) -> float | None:
        """Return the ids per second of the last 10 seconds, None before there are any."""
        now = self._clock()
        since = self._sample(now - 10)
        return (self.tried - since.tried) / (now - since.at) if self.tried and now > since.at else None

    def seconds_left(self) -> float | None:
        """Return the time that is left, pauses included; None while it cannot be told.

        It is the pause that lasts, and the ids that are left ÷ the pace of the last minute. The pace counts
        the pauses, also the whole of the one that lasts: a server that counts in windows has another soon.
        The pace is at most the rate that was set, or the limit that was found out.
        """
        now, seen = self._clock(), self._snapshot()
        since = self._sample((self._pause_began if seen.paused_for else now) - _MEASURED)
        moved, span = self.tried - since.tried, now - since.at + seen.paused_for
        known = self._setting() or self._rate or seen.quota
        if seen.pause_reason == "unavailable" or not (moved or known):
            return None
        each = max(span / moved if moved else 0.0, 1 / known if known else 0.0)
        return seen.paused_for + (self.total - self.tried) * each

    def _sample(self, at: float) -> _Sample:
        """Return the first sample from ``at`` on."""
        return next((one for one in self._samples if one.at >= at), self._samples[-1])

    def chart(self, width: int) -> list[float]:
        """Return the ids per second between the latest samples, ``width`` figures at most."""
        samples = list(self._samples)[-width - 1 :]
        pairs = pairwise(samples)
        return [(after.tried - before.tried) / (after.at - before.at) for before, after in pairs]

    def sent(self, *, ended: bool) -> tuple[int, int]:
        """Return how many requests are over, and how many of them are retries.

        The outcomes count those of an id at its end, retries sooner. A stop prevents retries that were heard.
        """
        attempts = self._report.attempts
        if ended:
            return attempts, max(0, min(self.retries, attempts - self.tried))
        return max(attempts, self.tried + self.retries), self.retries

    @property
    def refusals(self) -> int:
        """How many requests were refused for the rate."""
        return self._snapshot().refusals

    @property
    def in_flight(self) -> int:
        """How many requests have no response yet."""
        return self._snapshot().in_flight

    def limit(self) -> str:
        """Return what bounds the rate: what was set, or the limit of the server as found out."""
        seen, setting, sharers = self._snapshot(), self._setting(), self._sharers()
        if setting is not None:
            words = f"limit set {figure(setting)}/s"
        elif self._rate is not None:
            words = f"your --rate {figure(self._rate)}/s{' gets 429s' if seen.refusals else ''}"
        else:
            words = "" if seen.quota is None else f"limit {figure(seen.quota)}/s"
        return ", ".join(filter(None, [words, f"{sharers:,} runs share it" if sharers > 1 else ""]))

    def wait(self) -> str:
        """Return why nothing is sent now and until when; nothing while requests are sent."""
        seen = self._snapshot()
        if seen.pause_reason == "unavailable":
            return self.outage(seen.paused_for)
        if seen.paused_for < _SHORTEST_SHOWN or seen.pause_reason is None:
            return ""
        until = _time_of_day(time.time() + seen.paused_for)
        return f"paused until {until} ({math.ceil(seen.paused_for)} s) {PAUSES[seen.pause_reason]}"

    def outage(self, seconds: float) -> str:
        """Return since when the server fails, when it is tried again, and how long the run waits for it."""
        now, since = time.time(), self._outage_since
        words = [f"server fails since {_time_of_day(since)}" if since else "server fails"]
        words.append(f"next try {_time_of_day(now + seconds)} ({math.ceil(seconds)} s)")
        if since and now < since + self._patience():
            words.append(f"gives up {_time_of_day(since + self._patience())}")
        return "; ".join(words)

    def doing(self) -> str:
        """Return what the run does now, unless it waits."""
        if self.stop and self.stop.requested:
            return f"stopping: {self.stop.why}; {self.in_flight:,} in flight"
        return f"sending, {self.in_flight:,} in flight"

    def ended(self) -> str:
        """Return how the run has ended."""
        how = "finished" if self.tried >= self.total else "ended"
        why = self.stop.why if self.stop else None
        return f"{why or how} after {duration(self.elapsed)}"

    def trouble(self) -> str:
        """Return the counts of the ids that may still be active."""
        return in_words(self.counts, [kind for kind in OutcomeKind if kind.trouble])

    def outcomes(self) -> str:
        """Return the counts of all kinds that occurred."""
        return in_words(self.counts)

    def latest_reasons(self, count: int) -> list[tuple[str, int]]:
        """Return the ``count`` distinct reasons that were met last, and how often, most frequent first."""
        latest = list(self._reasons.items())[-count:]
        return sorted(latest, key=lambda one: (-one[1], one[0]))


PAUSES = {"hint": "as the server asked", "refused": "after a 429"}


def in_words(counts: Counter[str], kinds: Iterable[OutcomeKind] = OutcomeKind) -> str:
    """Return the counts of the kinds that occurred: 12 ended, 3 refused."""
    return ", ".join(f"{counts[kind]:,} {kind.value}" for kind in kinds if counts[kind])


def figure(rate: float) -> str:
    """Return requests per second with two digits or more: 0.52, 4.8, 198, 1,000."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def duration(seconds: float) -> str:
    """Return a time as a person reads it: 0:07, 75:20, 26 h 05 min."""
    whole = math.ceil(seconds)
    if whole >= 2 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 60}:{whole % 60:02}"


def _time_of_day(seconds: float | None) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))
