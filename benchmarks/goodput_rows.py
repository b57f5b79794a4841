"""The rows of the goodput benchmark. A row is a server, the number of conferences there, and the goals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attrs import evolve, frozen
from goodput_servers import FAST, SLOW, ChangingBucket, Latency, PhasedWindow

from bandwidth_async.sandbox.quota import Concurrency, Hint, Quota, SlidingWindow, TokenBucket, Unlimited

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    MakeQuota = Callable[[Random], Quota]

CONCURRENCY = 256  # of our runs
NONE, SECONDS, MS = Hint.NONE, Hint.RETRY_AFTER, Hint.RESET_MS


@frozen(kw_only=True)
class Goals:
    """The goals at a server.

    ``completion`` is the goal for the time ÷ the ideal, or ÷ the oracle's time with ``beside_oracle``.
    ``refusals`` is the goal for 429s per success, ``p99`` that for the 99th percentile.
    """

    name: str
    completion: float = 1.5
    refusals: float = 0.05
    p99: float = math.inf
    beside_oracle: bool = False


@frozen(kw_only=True)
class Row(Goals):
    """One server, ``count`` conferences, and the goals.

    The ideal time is ``seconds``: the count ÷ the quota. If windows last a minute, the first does not count.
    The ideal is at least the time that ``count`` responses take in the slots of the server, or in our
    concurrency.

    ``told`` gives the quota at each moment, where the oracle cannot have it from the ideal. ``status`` is
    that of a refusal, ``within_second`` how our client reads coarse hints, ``late`` the seconds that timers
    are late on average, ``clients`` how many processes share the ids. ``opens_at`` is the end of a closure:
    the time from there to 90 % of the quota is measured.
    """

    quota: MakeQuota
    hint: Hint
    count: int
    seconds: float = 0.0
    slots: int = CONCURRENCY
    latency: Latency = FAST
    family: str = "quotas"
    told: Callable[[float], float] | None = None
    status: int = 429
    within_second: bool = False
    late: float = 0.0
    clients: int = 1
    opens_at: float = math.inf

    @property
    def ideal(self) -> float:
        """The ideal seconds."""
        return max(self.seconds, self.count * self.latency.mean / self.slots)

    def quota_at(self, now: float) -> float:
        """The quota that the oracle is told, in requests a second."""
        return self.told(now) if self.told else self.count / self.ideal


def _bucket(rate: float, burst: int) -> MakeQuota:
    return lambda _: TokenBucket(rate=rate, burst=burst)


def _changing(*rates: tuple[float, float]) -> MakeQuota:
    return lambda _: ChangingBucket(20, rates)


def _fixed(limit: int, window: float = 1.0) -> MakeQuota:
    return lambda random: PhasedWindow(limit, window, random.uniform(0, window))


def _sliding(limit: int, window: float = 1.0) -> MakeQuota:
    return lambda _: SlidingWindow(limit=limit, window=window)


def _slots(limit: int) -> MakeQuota:
    return lambda _: Concurrency(limit=limit)


def _rows(
    name: str,
    quota: MakeQuota,
    count: int,
    seconds: float,
    goals: dict[Hint, float],
    *,
    refusals: float = 0.05,
    slots: int = CONCURRENCY,
) -> list[Row]:
    return [
        Row(
            name=name if hint is NONE else f"{name} {hint.value}",
            quota=quota,
            hint=hint,
            count=count,
            seconds=seconds,
            slots=slots,
            completion=completion,
            refusals=refusals,
            told=_schedule(name),
        )
        for hint, completion in goals.items()
    ]


def _schedule(name: str) -> Callable[[float], float] | None:
    rates = _SCHEDULES.get(name)
    return None if rates is None else lambda now: [rate for start, rate in rates if start <= now][-1]


def _unsaid(*hints: Hint) -> dict[Hint, float]:
    return dict.fromkeys(hints, 1.5)


_DROPS = ((0.0, 200.0), (15.0, 40.0), (40.0, 200.0))
_RISES = ((0.0, 50.0), (20.0, 500.0))
_FALLS = ((0.0, 500.0), (20.0, 50.0))
_DROP, _RISE, _FALL = _changing(*_DROPS), _changing(*_RISES), _changing(*_FALLS)
_SCHEDULES = {"200-40-200/s": _DROPS, "rise 50-500/s": _RISES, "fall 500-50/s": _FALLS}

FIRST = [
    *_rows("bucket 50/s", _bucket(50, 10), 3000, 60, {NONE: 1.05, SECONDS: 1.12}, refusals=0.01),
    *_rows("fixed 100/s", _fixed(100), 6000, 60, {NONE: 1.08, SECONDS: 1.16, MS: 1.08}, refusals=0.012),
    *_rows("sliding 100/s", _sliding(100), 6000, 60, {NONE: 1.10, SECONDS: 1.18}, refusals=0.01),
    *_rows("concurrency 25", _slots(25), 13_600, 0, {NONE: 1.18}, refusals=0.01, slots=25),
    *_rows("200-40-200/s", _DROP, 8000, 60, {NONE: 1.10, SECONDS: 1.20}, refusals=0.01),
    *_rows("bucket 1000/s", _bucket(1000, 100), 60_000, 60, {NONE: 1.12}, refusals=0.01),
    *_rows("bucket 5/s", _bucket(5, 5), 300, 60, {NONE: 1.05}, refusals=12 / 300),
    *_rows("fixed 100/min", _fixed(100, 60), 600, 300, {MS: 1.2}, refusals=0.03),
]
"""The servers that the limiter was tuned with."""

HELD_OUT = [
    *_rows("sliding 500/10s", _sliding(500, 10), 3000, 60, _unsaid(NONE, SECONDS, MS)),
    *_rows("sliding 300/30s", _sliding(300, 30), 900, 90, _unsaid(NONE, MS)),
    *_rows("fixed 500/10s", _fixed(500, 10), 3000, 60, _unsaid(NONE, SECONDS)),
    *_rows("fixed 20/s", _fixed(20), 1200, 60, _unsaid(NONE)),
    *_rows("concurrency 8", _slots(8), 4360, 0, _unsaid(NONE, SECONDS), slots=8),
    *_rows("concurrency 3", _slots(3), 1640, 0, _unsaid(NONE), slots=3),
    *_rows("concurrency 25", _slots(25), 13_600, 0, _unsaid(SECONDS), slots=25),
    *_rows("concurrency 100", _slots(100), 27_000, 0, _unsaid(NONE), slots=100),
    *_rows("bucket 1/s burst 1", _bucket(1, 1), 60, 60, _unsaid(NONE)),
    *_rows("bucket 5/s burst 1", _bucket(5, 1), 300, 60, _unsaid(NONE)),
    *_rows("bucket 50/s burst 1", _bucket(50, 1), 3000, 60, _unsaid(NONE)),
    *_rows("bucket 200/s burst 50", _bucket(200, 50), 12_000, 60, _unsaid(NONE)),
    *_rows("rise 50-500/s", _RISE, 21_000, 60, _unsaid(NONE, SECONDS)),
    *_rows("fall 500-50/s", _FALL, 12_000, 60, _unsaid(SECONDS)),
    *_rows("bucket 50/s burst 500", _bucket(50, 500), 3000, 60, _unsaid(NONE)),
    *_rows("no quota", lambda _: Unlimited(), 10_000, 0, _unsaid(NONE)),
    *(evolve(row, name=f"{row.name} slow", latency=SLOW, completion=row.completion + 0.1) for row in FIRST),
]
"""The servers that test the limiter. It was not tuned with them."""

ROWS = {row.name: row for row in FIRST + HELD_OUT}
SHORT = (
    "bucket 50/s",
    "fixed 100/s retry-after",
    "sliding 500/10s",
    "concurrency 8",
    "200-40-200/s retry-after",
    "bucket 5/s",
    "fixed 100/min reset-ms",
)
assert len(ROWS) == len(FIRST) + len(HELD_OUT)  # noqa: S101 - two rows of one name would hide one
assert math.inf not in {row.seconds for row in ROWS.values()}  # noqa: S101 - each row needs an ideal
