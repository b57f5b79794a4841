"""The counting rules of limiters that others wrote, in virtual time, where a busy machine changes no figure.

`goodput_sockets.py` measures the limiters themselves. nginx's is a token bucket, which the first rows have.
Responses are as quick as on loopback, because a law that knocks quicker than it hears is refused more often.
"""

from __future__ import annotations

import math

from goodput_families import SaysAlways
from goodput_rows import NONE, SECONDS, Row
from goodput_servers import LOOPBACK, Gate

from bandwidth_async.sandbox.quota import Refusal


class HaproxyRate(Gate):
    """HAProxy's ``http_req_rate``: this period's count and the part of the last one that is still within it.

    Refused requests count too. Source: ``include/haproxy/freq_ctr.h``.
    """

    def __init__(self, limit: int, period: float) -> None:
        self._limit, self._period = limit, period
        self._begun, self._count, self._last = -math.inf, 0, 0

    def admit(self, now: float) -> Refusal | None:
        if now - self._begun >= 2 * self._period:
            self._begun, self._count, self._last = now, 0, 0
        elif now - self._begun >= self._period:
            self._begun, self._count, self._last = self._begun + self._period, 0, self._count
        self._count += 1
        left = 1 - (now - self._begun) / self._period
        rate = math.floor(self._count + self._last * left)
        return Refusal(seconds=None) if rate > self._limit else None


class WindowOnDemand(Gate):
    """A fixed window that begins with the first request after the last, as memory stores in node have it."""

    def __init__(self, limit: int, window: float, *, rounded: bool = False) -> None:
        self._limit, self._window, self._rounded = limit, window, rounded
        self._ends, self._count = -math.inf, 0

    def admit(self, now: float) -> Refusal | None:
        if now >= self._ends:
            self._ends, self._count = now + self._window, 0
        self._count += 1
        if self._count <= self._limit:
            return None
        left = self._ends - now
        return Refusal(seconds=max(1.0, round(left)) if self._rounded else left)


# An even rate at this share of the quota is never refused. At the quota itself it is, once in a while, and
# the pause costs more.
WITHIN = 0.97

LIMITERS = [
    *(
        Row(
            name=f"as haproxy {limit}/{window}s",
            family="limiters",
            latency=LOOPBACK,
            quota=lambda _, limit=limit, window=window: HaproxyRate(limit, window),  # type: ignore[misc]
            hint=NONE,
            count=60 * limit // window,
            seconds=60,
            told=lambda _, limit=limit, window=window: WITHIN * limit / window,  # type: ignore[misc]
            completion=goal,
        )
        for limit, window, goal in ((100, 1, 1.05), (500, 10, 1.15))
    ),
    *(
        Row(
            name=f"as haproxy {limit}/{window}s retry-after {window}",
            family="limiters",
            latency=LOOPBACK,
            quota=lambda _, limit=limit, window=window: SaysAlways(  # type: ignore[misc]
                HaproxyRate(limit, window), window
            ),
            hint=SECONDS,
            count=60 * limit // window,
            seconds=60,
            told=lambda _, limit=limit, window=window: WITHIN * limit / window,  # type: ignore[misc]
            completion=1.2,
        )
        for limit, window in ((100, 1), (500, 10))
    ),
    *(
        Row(
            name=f"as {name} {limit}/{window}s",
            family="limiters",
            latency=LOOPBACK,
            quota=lambda _, limit=limit, window=window, name=name: WindowOnDemand(  # type: ignore[misc]
                limit, window, rounded=name == "rate-limiter-flexible"
            ),
            hint=SECONDS,
            count=60 * limit // window,
            seconds=60,
            told=lambda _, limit=limit, window=window: WITHIN * limit / window,  # type: ignore[misc]
            completion=1.2,
        )
        for name, limit, window in (
            ("express or fastify", 100, 1),
            ("express or fastify", 500, 10),
            ("rate-limiter-flexible", 100, 1),
        )
    ),
]
"""The rows, with the goals of the limiters themselves."""
