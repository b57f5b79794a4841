"""A small world for shared limits, in virtual time: a store with delays and faults, processes, a server."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from random import Random
from typing import TYPE_CHECKING

from attrs import define, field

from bandwidth_async.limiter import RateLimit
from bandwidth_async.sandbox.quota import Unlimited
from bandwidth_async.sharing.carrier import CarrierError, Lease, Seen
from bandwidth_async.sharing.limiter import SharedLimiter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bandwidth_async.limiter import PaceEvent
    from bandwidth_async.sandbox.quota import Quota


@define(eq=False)
class MemoryStore:
    """What Redis holds for one account. A call takes one of the ``delay`` seconds, there and back."""

    random: Random
    delay: tuple[float, float] = (0.001, 0.006)
    # Why no call succeeds, None while they do; and the seconds that each call takes besides.
    broken: str | None = None
    slow: float = 0.0
    calls: int = 0
    holder: str = ""
    held_until: float = 0.0
    term: int = 0
    state: str | None = None
    setting: float | None = None
    boxes: dict[str, list[str]] = field(factory=lambda: defaultdict(list))
    _posted: asyncio.Event = field(factory=asyncio.Event)

    def flush(self) -> None:
        """Forget everything."""
        self.holder, self.state, self.setting = "", None, None
        self.boxes.clear()

    def hold(self, me: str, seconds: float) -> bool:
        """Give the lead to a process if nobody else has it."""
        now = asyncio.get_running_loop().time()
        if now > self.held_until:
            self.holder = ""
        if not self.holder:
            self.holder, self.term = me, self.term + 1
        if self.holder == me:
            self.held_until = now + seconds
        return self.holder == me

    def post(self, box: str, message: str) -> None:
        """Put a message into a box, and wake those that wait for one."""
        self.boxes[box].append(message)
        self._posted.set()
        self._posted = asyncio.Event()

    async def wait(self, box: str, seconds: float) -> list[str]:
        """Return the messages in a box, as soon as there are any."""
        try:
            async with asyncio.timeout(seconds):
                while not self.boxes[box]:
                    await self._posted.wait()
        except TimeoutError:
            return []
        found, self.boxes[box] = self.boxes[box], []
        return found


class MemoryCarrier:
    """The way of one process to a store. It may be ``cut`` while the other ways work."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.cut = False
        self.me = ""

    def __str__(self) -> str:
        return "memory"

    async def claim(self, me: str, seconds: float) -> Lease:
        """Take or keep the lead."""
        self.me = me
        await self._travel()
        leading = self.store.hold(me, seconds)
        await self._travel(called=False)
        return Lease(leading, self.store.term, self.store.state, self.store.setting)

    async def resign(self, me: str) -> None:
        """Give the lead back."""
        await self._travel()
        if self.store.holder == me:
            self.store.holder = ""

    async def report(self, me: str, message: str) -> None:
        """Send a message to the leader."""
        await self._travel()
        self.store.post("reports", message)
        await self._travel(called=False)

    async def reports(self, seconds: float) -> list[str]:
        """Wait for messages to the leader."""
        return await self._read("reports", seconds)

    async def send(self, letters: Mapping[str, list[str]], state: str | None) -> bool:
        """Send letters and publish the state."""
        await self._travel()
        if not self.store.hold(self.me, 3.0):
            return False
        self.store.state = state or self.store.state
        for name, texts in letters.items():
            for text in texts:
                self.store.post(name, text)
        await self._travel(called=False)
        return True

    async def letters(self, me: str, seconds: float) -> list[str]:
        """Wait for letters to a process."""
        return await self._read(me, seconds)

    async def look(self) -> Seen:
        """Return what an operator sees."""
        await self._travel()
        return Seen(bool(self.store.holder), self.store.state, self.store.setting)

    async def set_rate(self, rate: float | None) -> None:
        """Set the rate for all."""
        await self._travel()
        self.store.setting = rate

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""

    async def _read(self, box: str, seconds: float) -> list[str]:
        await self._travel()
        found = await self.store.wait(box, seconds)
        await self._travel(called=False)
        return found

    async def _travel(self, *, called: bool = True) -> None:
        self.store.calls += called
        if self.store.broken is not None:
            raise CarrierError(self.store.broken)
        if self.cut:
            await asyncio.sleep(60)
        await asyncio.sleep(self.store.random.uniform(*self.store.delay) / 2 + self.store.slow)


class Server:
    """Admits or refuses requests 4 to 20 ms after they were sent, and answers as much later or a bit more."""

    def __init__(self, quota: Quota | None = None, *, whole_seconds: bool = False, seed: int = 1) -> None:
        self.quota: Quota = quota or Unlimited()
        # When each request arrived and when each was refused.
        self.arrived: list[float] = []
        self.refused: list[float] = []
        self.whole_seconds: bool = whole_seconds
        self._random = Random(seed)

    async def answer(self) -> tuple[bool, float | None]:
        """Return whether a request was refused, and the hint in seconds if there is one."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._random.uniform(0.004, 0.020))
        refusal = self.quota.admit(loop.time())
        self.arrived.append(loop.time())
        if refusal is None:
            await asyncio.sleep(self._random.uniform(0.02, 0.2))
            return False, None
        self.refused.append(loop.time())
        await asyncio.sleep(self._random.uniform(0.004, 0.020))
        return True, math.ceil(refusal.seconds or 0.0) if self.whole_seconds else None


class Process:
    """A process that sends requests through a limiter of its own, which it shares over a store.

    ``share`` is the URL of a real store, to be used instead.
    """

    def __init__(
        self,
        store: MemoryStore,
        server: Server,
        limit: RateLimit | None = None,
        seed: int = 1,
        share: str | None = None,
    ) -> None:
        self.carrier = MemoryCarrier(store)
        self.events: list[PaceEvent] = []
        # When each request was sent, and when each was let in.
        self.sent: list[float] = []
        self.let_in: list[float] = []
        carrier = share or (lambda _: self.carrier)
        self.limiter = SharedLimiter(carrier, limit, Random(seed), on_event=self.events.append)
        self._server = server
        self._tasks: list[asyncio.Task[None]] = []
        self.limiter.serve("9900000", "https://voice.example", math.inf)
        self.limiter.bind()

    async def request(
        self, *, bulk: bool = True, deadline: float = math.inf, patience: float = math.inf
    ) -> None:
        """Send a request, again and again until it is let in."""
        loop, place = asyncio.get_running_loop(), None
        while True:
            admitted = await self.limiter.admit(bulk=bulk, place=place, deadline=deadline, patience=patience)
            with admitted as admission:
                place = admission.place
                admission.sending()
                self.sent.append(loop.time())
                refused, hint = await self._server.answer()
                if not refused:
                    admission.accepted()
                    self.let_in.append(loop.time())
                    return
                rest = admission.refused(hint, coarse=self._server.whole_seconds)
            await asyncio.sleep(rest)

    def work(
        self, tasks: int, *, until: float = math.inf, count: float = math.inf
    ) -> list[asyncio.Task[None]]:
        """Send requests in so many tasks, until a moment or until so many were let in. Returns the tasks."""
        loop, left = asyncio.get_running_loop(), count

        async def work() -> None:
            nonlocal left
            while left > 0 and loop.time() < until:
                left -= 1
                await self.request()

        new = [loop.create_task(work()) for _ in range(tasks)]
        self._tasks += new
        return new

    def die(self) -> None:
        """End without a farewell, as after SIGKILL. The requests that it sent are answered to nobody."""
        self.carrier.cut = True
        for task in self._tasks:
            task.cancel()

    async def leave(self) -> None:
        """Close the limiter as its client would."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.limiter.leave()


def within(times: list[float], start: float, end: float) -> int:
    """Return how many of the times are from ``start`` until before ``end``."""
    return sum(start <= one < end for one in times)


def worst_second(times: list[float]) -> int:
    """Return the most of the times that lie within one second."""
    ordered, first, most = sorted(times), 0, 0
    for last, time in enumerate(ordered):
        while ordered[first] <= time - 1:
            first += 1
        most = max(most, last - first + 1)
    return most
