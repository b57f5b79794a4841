"""Servers that nobody has shaped the pacing law on, for figures as they come.

Leave them out of whatever finds a constant of the law. Who has looked at one of them to change the law moves
it to the families and writes another.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from goodput_families import Both, Queueing
from goodput_rows import MS, NONE, SECONDS, Row
from goodput_servers import ChangingBucket, Gate, PhasedWindow

from bandwidth_async.sandbox.quota import Quota, Refusal, TokenBucket

if TYPE_CHECKING:
    from random import Random

# Requests between two that cost more, as different endpoints do, and the cost of those.
_DEAR_EVERY, _DEAR = 4, 3


class CostlyGcra(Gate):
    """A generic cell rate algorithm of ``rate`` units a second, in which every fourth id costs three."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        # The theoretical arrival time.
        self._arrival = -math.inf

    def admit_id(self, path: str, now: float) -> Refusal | None:
        number = int(path.rpartition("-")[2])
        cost = _DEAR if number % _DEAR_EVERY == 0 else 1
        arrival = max(self._arrival, now) + cost / self._rate
        wait = arrival - self._burst / self._rate - now
        if wait > 0:
            return Refusal(seconds=wait)
        self._arrival = arrival
        return None

    def admit(self, now: float) -> Refusal | None:
        raise NotImplementedError("the cost depends on the id")


class Nodes(Gate):
    """Sends requests to the nodes in turn. Each node has a bucket of its own."""

    def __init__(self, *nodes: Quota) -> None:
        self._nodes, self._turn = nodes, 0

    def admit(self, now: float) -> Refusal | None:
        self._turn += 1
        return self._nodes[self._turn % len(self._nodes)].admit(now)


class EarlyRefusal(Gate):
    """Refuses by chance, and the more the higher the load is, as random early detection does.

    The chance is 0 up to ``rate`` requests a second and rises to a tenth at 1.25 times that rate. Above, it
    is 1. The load is a mean over the last second, of refused requests too.
    """

    def __init__(self, rate: float, random: Random) -> None:
        self._rate, self._random = rate, random
        self._load, self._at = 0.0, 0.0

    def admit(self, now: float) -> Refusal | None:
        self._load = self._load * math.exp(self._at - now) + 1
        self._at = now
        excess = self._load / self._rate - 1
        chance = 1.0 if excess > 0.25 else 0.4 * excess
        return Refusal(seconds=None) if self._random.random() < chance else None


_SINE = tuple((5.0 * step, 100 + 60 * math.sin(math.tau * step / 60)) for step in range(120))


def _sine(now: float) -> float:
    return _SINE[min(int(now // 5), len(_SINE) - 1)][1]


UNSEEN = [
    *(
        Row(
            name=f"gcra with costs{said}",
            family="unseen",
            quota=lambda _: CostlyGcra(150, 30),
            hint=hint,
            count=6000,
            seconds=60,
        )
        for hint, said in ((NONE, ""), (MS, " reset-ms"))
    ),
    Row(
        name="queue of a second",
        family="unseen",
        quota=lambda _: Queueing(100, 100),
        hint=SECONDS,
        count=6000,
        seconds=60,
    ),
    *(
        Row(
            name=f"100/s and 2000/min{said}",
            family="unseen",
            quota=lambda random: Both(
                TokenBucket(rate=100, burst=20), PhasedWindow(2000, 60, random.uniform(0, 60))
            ),
            hint=hint,
            count=8000,
            seconds=240,
        )
        for hint, said in ((NONE, ""), (SECONDS, " retry-after"))
    ),
    Row(
        name="sine over 5 min",
        family="unseen",
        quota=lambda _: ChangingBucket(20, _SINE),
        hint=NONE,
        count=30_000,
        seconds=300,
        told=_sine,
    ),
    Row(
        name="4 nodes in turn",
        family="unseen",
        quota=lambda _: Nodes(*(TokenBucket(rate=25, burst=5) for _ in range(4))),
        hint=NONE,
        count=6000,
        seconds=60,
    ),
    Row(
        name="early refusal",
        family="unseen",
        quota=lambda random: EarlyRefusal(80, random),
        hint=NONE,
        count=4800,
        seconds=60,
    ),
]
"""The servers. A sine's period is five minutes."""
