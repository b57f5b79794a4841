"""Servers on which pacing laws break: refusals that the rate did not cause, and closures that are no windows.

Each row is one kind of server that real APIs have. ``told`` is what the oracle knows of it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from goodput_rows import MS, NONE, SECONDS, Row
from goodput_servers import ChangingBucket, Gate, PhasedWindow

from bandwidth_async.sandbox.quota import Hint, Quota, Refusal, SlidingWindow, TokenBucket, Unlimited

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from goodput_rows import MakeQuota


class Chance(Gate):
    """Refuses a share of the requests whatever the rate, for ``seconds`` each."""

    def __init__(self, inner: Quota, share: float, random: Random, seconds: float | None = None) -> None:
        self._inner, self._share, self._random, self._seconds = inner, share, random, seconds

    def admit(self, now: float) -> Refusal | None:
        if self._random.random() < self._share:
            return Refusal(seconds=self._seconds)
        return self._inner.admit(now)


class Locked(Gate):
    """Refuses a share of the ids for some seconds after each was first asked for. The others pass."""

    def __init__(self, inner: Quota, share: float, seconds: float, random: Random) -> None:
        self._inner, self._share, self._seconds, self._random = inner, share, seconds, random
        self._until: dict[str, float] = {}

    def admit_id(self, path: str, now: float) -> Refusal | None:
        if path not in self._until:
            self._until[path] = now + self._seconds if self._random.random() < self._share else now
        left = self._until[path] - now
        return Refusal(seconds=left) if left > 0 else self._inner.admit(now)

    def admit(self, now: float) -> Refusal | None:
        return self._inner.admit(now)


class Crowded(Gate):
    """Others of the account send at ``rate`` for ``busy`` of every ``period`` seconds."""

    def __init__(self, inner: Quota, rate: float, busy: float, period: float, phase: float) -> None:
        self._inner, self._rate, self._busy, self._period = inner, rate, busy, period
        self._phase, self._next = phase, 0.0

    def admit(self, now: float) -> Refusal | None:
        while self._next <= now:
            if (self._next + self._phase) % self._period < self._busy:
                self._inner.admit(self._next)
            self._next += 1 / self._rate
        return self._inner.admit(now)


class SaysAlways(Gate):
    """Asks for the same ``seconds`` with every refusal."""

    def __init__(self, inner: Quota, seconds: float) -> None:
        self._inner, self._seconds = inner, seconds

    def admit(self, now: float) -> Refusal | None:
        return Refusal(seconds=self._seconds) if self._inner.admit(now) else None


class SaysHalf(Gate):
    """Asks for half of the seconds that are needed."""

    def __init__(self, inner: Quota) -> None:
        self._inner = inner

    def admit(self, now: float) -> Refusal | None:
        refusal = self._inner.admit(now)
        return None if refusal is None else Refusal(seconds=(refusal.seconds or 0.0) / 2)


class Banning(Gate):
    """Refuses everything for ``seconds`` once a request was over the quota."""

    def __init__(self, inner: Quota, seconds: float) -> None:
        self._inner, self._seconds, self._until = inner, seconds, -math.inf

    def admit(self, now: float) -> Refusal | None:
        if now >= self._until and self._inner.admit(now) is not None:
            self._until = now + self._seconds
        return Refusal(seconds=self._until - now) if now < self._until else None


class Both(Gate):
    """Two limits at once. What the second refuses still counts for the first."""

    def __init__(self, first: Quota, second: Quota) -> None:
        self._first, self._second = first, second

    def admit(self, now: float) -> Refusal | None:
        return self._first.admit(now) or self._second.admit(now)


class Shut(Gate):
    """Refuses everything from second ``begin`` to second ``end``."""

    def __init__(self, inner: Quota, begin: float, end: float) -> None:
        self._inner, self._begin, self._end = inner, begin, end

    def admit(self, now: float) -> Refusal | None:
        return Refusal(seconds=None) if self._begin <= now < self._end else self._inner.admit(now)


class Queueing(Gate):
    """Serves ``rate`` a second in order, and refuses only when ``depth`` requests wait."""

    def __init__(self, rate: float, depth: int) -> None:
        self._rate, self._depth, self._free_at = rate, depth, -math.inf

    def admit(self, now: float) -> Refusal | None:
        waiting = (self._free_at - now) * self._rate
        if waiting >= self._depth:
            return Refusal(seconds=1 / self._rate)
        self._free_at = max(self._free_at, now) + 1 / self._rate
        return None

    def held(self, now: float) -> float:
        return self._free_at - now


_DRIFT = [(5.0 * step, 100 + 30 * math.sin(math.tau * step / 8)) for step in range(60)]


def _drift(now: float) -> float:
    return _DRIFT[min(int(now // 5), len(_DRIFT) - 1)][1]


# Servers whose hints are coarse, with the goals for hints obeyed to the letter and read as within a second.
_COARSE: list[tuple[str, MakeQuota, int, Callable[[float], float] | None, tuple[float, float]]] = [
    ("coarse bucket", lambda _: TokenBucket(rate=100, burst=10), 6000, None, (1.15, 1.07)),
    ("coarse window", lambda random: PhasedWindow(100, 1, random.uniform(0, 1)), 6000, None, (1.15, 1.07)),
    ("drifting", lambda _: ChangingBucket(20, tuple(_DRIFT)), 8000, _drift, (1.3, 1.15)),
]

_CHANCES = (0.002, 0.01, 0.03)
_SHUT_FOR = (1, 30, 600)
_PROCESSES = (2, 4, 8)


def _bucket() -> Quota:
    return TokenBucket(rate=100, burst=20)


FAMILIES = [
    *(
        Row(
            name=f"chance {share:.1%} {where}{' 2 s' if seconds else ''}",
            family="chance",
            quota=lambda random, share=share, seconds=seconds, where=where: Chance(  # type: ignore[misc]
                Unlimited() if where == "no quota" else _bucket(), share, random, seconds
            ),
            hint=SECONDS if seconds else NONE,
            count=3000,
            seconds=0 if where == "no quota" else 30,
            completion=1.3,
            beside_oracle=True,
            refusals=2 * share + 0.01,
        )
        for where in ("no quota", "100/s")
        for seconds in (None, 2.0)
        for share in _CHANCES
    ),
    *(
        Row(
            name=f"locks{said}",
            family="locks",
            quota=lambda random: Locked(_bucket(), 0.01, 2.0, random),
            hint=hint,
            count=4000,
            seconds=40,
            completion=goal,
            refusals=0.10,
        )
        for hint, said, goal in ((NONE, "", 1.3), (SECONDS, " retry-after", 2.0))
    ),
    *(
        Row(
            name=f"bursts of others{said}",
            family="others",
            quota=lambda random: Crowded(_bucket(), 250, 3, 25, random.uniform(0, 25)),
            hint=hint,
            count=6600,
            seconds=75,
            completion=1.3,
        )
        for hint, said in ((NONE, ""), (SECONDS, " retry-after"))
    ),
    Row(
        name="always 60",
        family="closures",
        quota=lambda _: SaysAlways(TokenBucket(rate=50, burst=10), 60),
        hint=SECONDS,
        count=6000,
        seconds=120,
        completion=1.55,
    ),
    *(
        Row(
            name=f"ban {seconds} s",
            family="closures",
            quota=lambda _, seconds=seconds: Banning(TokenBucket(rate=50, burst=10), seconds),  # type: ignore[misc]
            hint=NONE,
            count=6000,
            seconds=120,
            completion=1.5,
        )
        for seconds in (5, 30)
    ),
    *(
        Row(
            name=f"two limits{said}",
            family="two limits",
            quota=lambda random: Both(
                PhasedWindow(50, 1.0, random.uniform(0, 1)), SlidingWindow(limit=300, window=10)
            ),
            hint=hint,
            count=2400,
            seconds=80,
            completion=1.3,
        )
        for hint, said in ((NONE, ""), (SECONDS, " retry-after"))
    ),
    Row(
        name="half hint",
        family="hints",
        quota=lambda random: SaysHalf(PhasedWindow(100, 1.0, random.uniform(0, 1))),
        hint=MS,
        count=4000,
        seconds=40,
        completion=1.2,
        refusals=0.02,
    ),
    *(
        Row(
            name=f"{name} {hint.value}{' within a second' if within else ''}",
            family="within a second" if within else "hints",
            quota=quota,
            hint=hint,
            within_second=within,
            count=count,
            seconds=count / 100,
            told=told,
            completion=goal,
        )
        for name, quota, count, told, goals in _COARSE
        for hint in (SECONDS, Hint.DATE, Hint.RESET_S)
        for within, goal in zip((False, True), goals, strict=True)
    ),
    *(
        Row(
            name=f"503{said}",
            family="words",
            quota=lambda _: _bucket(),
            hint=hint,
            status=503,
            count=4000,
            seconds=40,
            completion=goal,
            refusals=0.015,
        )
        for hint, said, goal in ((NONE, "", 1.1), (SECONDS, " retry-after", 1.15))
    ),
    Row(
        name="queueing",
        family="queueing",
        quota=lambda _: Queueing(50, 100),
        hint=NONE,
        count=3000,
        seconds=60,
        completion=1.1,
        p99=0.4,
    ),
    *(
        Row(
            name=f"shut {seconds} s",
            family="recovery",
            quota=lambda _, seconds=seconds: Shut(_bucket(), 20, 20 + seconds),  # type: ignore[misc]
            hint=NONE,
            count=5000,
            seconds=50 + seconds,
            opens_at=20 + seconds,
            told=lambda _: 100.0,
            completion=1.15,
        )
        for seconds in _SHUT_FOR
    ),
    Row(
        name="late timers",
        family="late",
        quota=lambda _: TokenBucket(rate=120, burst=20),
        hint=NONE,
        late=0.010,
        count=4800,
        seconds=40,
        completion=1.06,
    ),
    *(
        Row(
            name=f"{clients} processes",
            family="processes",
            quota=lambda _: TokenBucket(rate=150, burst=20),
            hint=NONE,
            clients=clients,
            count=6000,
            seconds=40,
            completion=1.15,
            refusals=0.02,
        )
        for clients in _PROCESSES
    ),
]
"""The families. The law of today was not made for them."""
