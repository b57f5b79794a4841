"""The way of one process to the store: every call is bounded in time, and what it fails to do is noted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from bandwidth_async.sharing.carrier import CarrierError, LeaderGone

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from random import Random
    from typing import Any

    from bandwidth_async.sharing.carrier import Carrier

T = TypeVar("T")

# Seconds without a word, after which a process goes on alone.
SILENCE = 0.5

# Seconds that a call may take.
_CALL = 0.5

# Seconds that a timer of this process is late when it stood still itself, as when it computes.
STALL = 0.1

# Seconds of random delay when a leader has left, and after a failure.
RUSH, _RETRY = 0.03, 0.4


class Link:
    """Calls a carrier. ``on_trouble`` is called with the reason of every failure."""

    def __init__(self, carrier: Carrier, random: Random, on_trouble: Callable[[str], None]) -> None:
        self.carrier = carrier
        # Set when the lead may be free, so that a claim should not wait.
        self.hurry: asyncio.Event = asyncio.Event()
        self._random = random
        self._on_trouble = on_trouble
        # What fails: since when, and why.
        self._troubles: dict[str, tuple[float, str]] = {}
        self._loop = asyncio.get_running_loop()

    def __repr__(self) -> str:
        return f"<Link to {self.carrier}, {self.trouble or 'no trouble'}>"

    @property
    def trouble(self) -> str | None:
        """Why something fails, None if nothing does."""
        return next((reason for _, reason in self._troubles.values()), None)

    def lasting_trouble(self, now: float) -> str | None:
        """Return why something has failed for `SILENCE` seconds, None if nothing has."""
        return next((reason for since, reason in self._troubles.values() if now - since >= SILENCE), None)

    def forget_troubles(self) -> None:
        """Forget what failed, since this process does other things now."""
        self._troubles.clear()

    def forget(self, what: str) -> None:
        """Forget that one thing failed, since this process does not do it any more."""
        self._troubles.pop(what, None)

    async def call(self, what: str, call: Coroutine[Any, Any, T], wait: float = 0.0) -> T | None:
        """Return what a call returns, or None if it fails. It may ``wait`` for so many seconds longer."""
        began = self._loop.time()
        try:
            async with asyncio.timeout(wait + _CALL):
                answer = await call
        except LeaderGone:
            self.hurry.set()
            return None
        except (CarrierError, TimeoutError) as error:
            # If this process stood still itself, this says nothing about the carrier.
            if self._loop.time() - began - wait - _CALL <= STALL:
                reason = str(error) or f"no answer within {_CALL:g} s"
                since, _ = self._troubles.get(what, (began + wait, ""))
                self._troubles[what] = since, reason
                self._on_trouble(reason)
            return None
        self._troubles.pop(what, None)
        return answer

    async def rest(self) -> None:
        """Wait before the next try: for a moment if only the leader has left."""
        await asyncio.sleep(_RETRY * self._random.uniform(0.5, 1.0) if self._troubles else RUSH)

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds, or only for a moment if the lead may be free."""
        self.hurry.clear()
        try:
            async with asyncio.timeout(seconds * self._random.uniform(0.9, 1.1)):
                await self.hurry.wait()
            await asyncio.sleep(self._random.uniform(0, RUSH))
        except TimeoutError:
            return
