"""botocore's adaptive retry mode as a strategy: its rate limiter and backoff, with waits that do not block.

It is better than the original in three ways. It never gives up, while botocore does after 3 attempts. Waiting
requests are sent in order. They notice a changed rate within 20 ms.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import CapacityNotAvailableError  # type: ignore[import-untyped]  # has no types
from botocore.retries import (  # type: ignore[import-untyped]  # has no types
    adaptive,
    bucket,
    standard,
    throttling,
)
from goodput_strategies import AnswerError, Scene, end, with_workers

if TYPE_CHECKING:
    from yarl import URL

_CHECK_EVERY = 0.02  # seconds between two checks of the rate
_LEAST = 1e-6  # seconds, so that rounding cannot stop the clock


class _Clock:
    """A clock with the event loop's time, in botocore's interface."""

    def current_time(self) -> float:
        return asyncio.get_running_loop().time()


class _Detector:
    """Detects throttling, for the limiter and for the backoff."""

    def is_throttling_error(self, *, status: int) -> bool:
        return status == 429

    def is_throttling_error_from_context(self, context: SimpleNamespace) -> bool:
        return self.is_throttling_error(status=context.status)


class _RateLimiter:
    """`ClientRateLimiter`, built as botocore builds it."""

    def __init__(self) -> None:
        clock = _Clock()
        self._line = asyncio.Lock()
        self._bucket: Any = bucket.TokenBucket(max_rate=1, clock=clock)
        self._limiter: Any = adaptive.ClientRateLimiter(
            rate_adjustor=throttling.CubicCalculator(starting_max_rate=0, start_time=clock.current_time()),
            rate_clocker=adaptive.RateClocker(clock),
            token_bucket=self._bucket,
            throttling_detector=_Detector(),
            clock=clock,
        )
        self._enabled = False  # until the first 429, as in botocore's limiter

    async def admit(self) -> None:
        """Wait as `ClientRateLimiter.on_sending_request` would block."""
        if not self._enabled:
            return
        async with self._line:
            while True:
                try:
                    self._bucket.acquire(block=False)
                except CapacityNotAvailableError:
                    lacking = (1 - self._bucket.available_capacity) / self._bucket.max_rate
                    await asyncio.sleep(max(_LEAST, min(lacking, _CHECK_EVERY)))
                else:
                    return

    def learn(self, status: int) -> None:
        """Report the status of a response to the limiter."""
        self._enabled = self._enabled or status == 429
        self._limiter.on_receiving_response(status=status)


async def botocore(scene: Scene) -> None:
    """botocore's adaptive mode: a common CUBIC rate, and exponential backoff for each request."""
    limiter = _RateLimiter()
    backoff: Any = standard.ExponentialBackoff(random=scene.random.random, throttling_detector=_Detector())

    async def end_one(url: URL) -> None:
        attempt = 0
        while True:
            attempt += 1
            await limiter.admit()
            try:
                await end(scene.session, url)
            except AnswerError as error:
                limiter.learn(error.status)
                met = SimpleNamespace(attempt_number=attempt, http_response=None, status=error.status)
                await asyncio.sleep(backoff.delay_amount(met))
            else:
                limiter.learn(204)
                return

    await with_workers(scene, end_one)
