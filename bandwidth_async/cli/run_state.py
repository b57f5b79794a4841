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
from bandwidth_async.outcome import OutcomeKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bandwidth_async.limiter import LimiterSnapshot, PaceEvent
    from bandwidth_async.outcome import Outcome, Report

# Seconds over which the throughput is measured, and seconds that are kept for the chart.
_MEASURED, _KEPT = 60, 240
# Pauses of fewer seconds are not shown: the limiter finds out the rate by them.
_SHORTEST_SHOWN = 1.0
# Reasons that are kept apart. A server that invents a new sentence for each id has many.
_REASONS = 100
# How often one id was tried.
_TRIES = re.compile(r" \(after \d+ attempts\)")


class _Sample(NamedTuple):
    at: float
    tried: int


class RunState:
    """A run of ``total`` ids, as far as it has come. Feed it each outcome and each event of the limiter.

    ``title`` names the account, the host and the run. ``snapshot`` reads the limiter. All times are seconds.
    """

    def __init__(
        self,
        total: int,
        snapshot: Callable[[], LimiterSnapshot],
        title: tuple[str, ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = total
        self.title = title
        self.counts: Counter[str] = Counter()
        self.tried: int = 0
        self.attempts: int = 0
        # Seconds in which nothing was sent, whatever the reason.
        self.paused: float = 0.0
        self._pause_began = self._paused_until = -math.inf
        self._outage_since: float | None = None
        self._reasons: dict[str, int] = {}
        self._snapshot = snapshot
        self._clock = clock
        self._samples: deque[_Sample] = deque([_Sample(clock(), 0)], maxlen=_KEPT)

    def on_outcome(self, outcome: Outcome, report: Report) -> None:
        """Count an outcome. ``report`` counts it already."""
        self.counts = report.counts
        self.tried = report.total - report.counts[OutcomeKind.NOT_ATTEMPTED]
        self.attempts = report.attempts
        if outcome.error and outcome.kind.trouble:
            # Without what differs from id to id.
            reason = _TRIES.sub("", formats.reason(outcome) or "").replace(outcome.conference_id, "…")
            if reason in self._reasons or len(self._reasons) < _REASONS:
                # The latest stands last.
                self._reasons[reason] = self._reasons.pop(reason, 0) + 1
        self.observe()

    def on_event(self, event: PaceEvent) -> None:
        """Count the time of a pause."""
        if isinstance(event, RateChanged):
            return
        now = self._clock()
        if now > self._paused_until:
            self._pause_began = now
        self.paused += max(0.0, now + event.seconds - max(now, self._paused_until))
        self._paused_until = max(self._paused_until, now + event.seconds)
        if isinstance(event, Unavailable) and self._outage_since is None:
            self._outage_since = time.time()

    def observe(self) -> None:
        """Note how far the run is, at most once a second."""
        now = self._clock()
        if now - self._samples[-1].at >= 1.0:
            self._samples.append(_Sample(now, self.tried))

    def rate(self) -> float | None:
        """Return the ids per second of the last 10 seconds, None before there are any."""
        now = self._clock()
        since = self._sample(now - 10)
        return (self.tried - since.tried) / (now - since.at) if self.tried and now > since.at else None

    def seconds_left(self) -> float | None:
        """Return the time that is left, pauses included; None while it cannot be told.

        It is the pause that lasts, and the ids that are left ÷ the pace of the last minute. The pace counts
        the pauses, also the whole of the one that lasts: a server that counts in windows has another soon.
        """
        now, seen = self._clock(), self._snapshot()
        since = self._sample((self._pause_began if seen.paused_for else now) - _MEASURED)
        moved, span = self.tried - since.tried, now - since.at + seen.paused_for
        if seen.pause_reason == "unavailable" or not moved:
            return None
        return seen.paused_for + (self.total - self.tried) * span / moved

    def _sample(self, at: float) -> _Sample:
        """Return the first sample from ``at`` on."""
        return next((one for one in self._samples if one.at >= at), self._samples[-1])

    def chart(self, width: int) -> list[float]:
        """Return the ids per second between the latest samples, ``width`` figures at most."""
        samples = list(self._samples)[-width - 1 :]
        pairs = pairwise(samples)
        return [(after.tried - before.tried) / (after.at - before.at) for before, after in pairs]

    @property
    def retries(self) -> int:
        """How many requests were sent beside the first of each id that has an outcome."""
        return max(0, self.attempts - self.tried)

    @property
    def refusals(self) -> int:
        """How many requests were refused for the rate."""
        return self._snapshot().refusals

    @property
    def in_flight(self) -> int:
        """How many requests have no response yet."""
        return self._snapshot().in_flight

    def limit(self) -> str:
        """Return the limit of the server, as far as it was found out."""
        quota = self._snapshot().quota
        return "" if quota is None else f"limit {figure(quota)}/s"

    def wait(self) -> str:
        """Return why nothing is sent now and until when; nothing while requests are sent."""
        seen = self._snapshot()
        if seen.pause_reason == "unavailable":
            since = f" since {_time_of_day(self._outage_since)}" if self._outage_since else ""
            return f"the server fails or does not answer{since}; next try in {math.ceil(seen.paused_for)} s"
        self._outage_since = None
        if seen.paused_for < _SHORTEST_SHOWN or seen.pause_reason is None:
            return ""
        until = _time_of_day(time.time() + seen.paused_for)
        return f"paused until {until} ({math.ceil(seen.paused_for)} s) {PAUSES[seen.pause_reason]}"

    def trouble(self) -> str:
        """Return the counts of the ids that may still be active."""
        return in_words(self.counts, [kind for kind in OutcomeKind if kind.trouble])

    def outcomes(self) -> str:
        """Return the counts of all kinds that occurred."""
        return in_words(self.counts)

    def latest_reasons(self, count: int) -> list[tuple[str, int]]:
        """Return the ``count`` distinct reasons that were met last, and how many ids met each."""
        return list(reversed(self._reasons.items()))[:count]


PAUSES = {
    "hint": "as the server asked",
    "refused": "after a 429",
    "unavailable": "because the server fails or does not answer",
}


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
