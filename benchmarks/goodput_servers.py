"""The server of the goodput benchmark: quotas that the sandbox does not have, and a session that answers.

A request arrives 4 to 20 ms after it was sent, and the quota admits or refuses it at once. A refusal is back
4 to 20 ms later. On loopback both take less than a millisecond. An admitted request is answered after a
latency that counts from the sending. Until then it keeps its slot, if the quota has slots. 3 of 1,000
admitted requests get a 503.

A `Gate` is a quota that looks at more than the time: at the id, or at what else goes on at the server.
"""

from __future__ import annotations

import asyncio
import math
import time
from email.utils import formatdate
from functools import partial
from typing import TYPE_CHECKING, Any, Self, cast

from attrs import field, frozen
from multidict import CIMultiDict

from bandwidth_async.sandbox.quota import FixedWindow, Quota, Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator
    from random import Random

    import aiohttp
    from yarl import URL

    from bandwidth_async.sandbox.quota import Hint

_FAULTS = 0.003  # of the admitted
_ROUNDING = 1e-6  # tokens


@frozen(kw_only=True)
class Latency:
    """Seconds from the request to the response: how they are drawn, and their mean.

    ``one_way`` is the least and the most seconds that a request, or a refusal, is on its way.
    """

    draw: Callable[[Random], float]
    mean: float
    one_way: tuple[float, float] = (0.004, 0.020)


_SPREAD = math.log(1.0 / 0.25) / 2.3263  # of a lognormal with the median 0.25 s and the 99th percentile 1 s
FAST = Latency(draw=lambda random: random.uniform(0.02, 0.2), mean=0.11)
SLOW = Latency(
    draw=lambda random: random.lognormvariate(math.log(0.25), _SPREAD),
    mean=0.25 * math.exp(_SPREAD**2 / 2),
)
LOOPBACK = Latency(draw=lambda random: random.uniform(0.001, 0.004), mean=0.0025, one_way=(0.0003, 0.001))


class PhasedWindow(Quota):
    """Fixed windows that were already ``phase`` seconds old when the run began."""

    def __init__(self, limit: int, window: float, phase: float) -> None:
        self._phase = phase
        self._window = FixedWindow(limit=limit, window=window)

    def admit(self, now: float) -> Refusal | None:
        return self._window.admit(now + self._phase)


class ChangingBucket(Quota):
    """A token bucket with changing rates: pairs of a start time and the tokens a second from then on."""

    def __init__(self, burst: float, rates: tuple[tuple[float, float], ...]) -> None:
        self._burst = burst
        self._rates = rates
        self._tokens, self._filled = burst, 0.0

    def admit(self, now: float) -> Refusal | None:
        ends = [start for start, _ in self._rates[1:]] + [math.inf]
        filled, rate = 0.0, 0.0
        for (start, each), end in zip(self._rates, ends, strict=True):
            if now >= start:
                rate = each
                filled += each * (min(now, end) - start)
        self._tokens = min(self._burst, self._tokens + filled - self._filled)
        self._filled = filled
        if self._tokens < 1 - _ROUNDING:
            return Refusal(seconds=(1 - self._tokens) / rate)
        self._tokens -= 1
        return None


class Gate(Quota):
    """A quota that may look at the id of a request, and may hold an admitted request back."""

    def admit_id(self, path: str, now: float) -> Refusal | None:
        """Admit or refuse the request for ``path`` at ``now``."""
        return self.admit(now)

    def held(self, now: float) -> float:
        """Return the seconds that the request which was admitted last waits at the server."""
        return 0.0


@frozen(kw_only=True)
class Books:
    """Records of the server."""

    elapsed: list[float] = field(factory=list)  # seconds from first attempt to end, of each that ended
    first: dict[str, float] = field(factory=dict)  # when an id that has not ended yet was first sent
    refused: list[float] = field(factory=list)  # when each 429 was decided
    ended: list[float] = field(factory=list)  # when each end was decided
    order: list[int] = field(factory=list)  # the numbers of the ids, as they ended


class Server:
    """Replaces an `aiohttp.ClientSession`, and answers the requests itself."""

    closed = False
    auth = None
    connector = None

    def __init__(self, quota: Quota, hint: Hint, latency: Latency, random: Random, status: int = 429) -> None:
        self.books = Books()
        self._quota = quota
        self._status = status
        self._hint = hint
        self._latency = latency
        self._random = random

    @property
    def session(self) -> aiohttp.ClientSession:
        """This server, with the type of a session."""
        return cast("aiohttp.ClientSession", self)

    def request(self, method: str, url: URL, **_: Any) -> Exchange:
        """Return the exchange as a context, like `aiohttp.ClientSession.request`."""
        return Exchange(partial(self.send, url.raw_path))

    def send(self, path: str) -> asyncio.Future[Response]:
        """Send a request, and return the future of its response."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self.books.first.setdefault(path, now)
        answer: asyncio.Future[Response] = loop.create_future()
        loop.call_later(self._random.uniform(*self._latency.one_way), self._arrive, answer, path, now)
        return answer

    def _arrive(self, answer: asyncio.Future[Response], path: str, sent: float) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        gate = self._quota if isinstance(self._quota, Gate) else None
        refusal = self._quota.admit(now) if gate is None else gate.admit_id(path, now)
        if refusal is None:
            held = 0.0 if gate is None else gate.held(now)
            answered = max(now, sent + self._latency.draw(self._random)) + held
            loop.call_at(answered, self._depart, answer, path)
            return
        self.books.refused.append(now)
        wall = time.time()
        headers = {"Date": formatdate(wall, usegmt=True), **self._hint.headers(refusal.seconds, wall)}
        response = Response(self._status, CIMultiDict(headers))
        loop.call_later(self._random.uniform(*self._latency.one_way), _give, answer, response)

    def _depart(self, answer: asyncio.Future[Response], path: str) -> None:
        self._quota.release()
        if self._random.random() < _FAULTS:
            _give(answer, Response(503, CIMultiDict()))
            return
        now = asyncio.get_running_loop().time()
        self.books.elapsed.append(now - self.books.first.pop(path))
        self.books.ended.append(now)
        self.books.order.append(int(path.rpartition("-")[2]))
        _give(answer, Response(204, CIMultiDict()))


def _give(answer: asyncio.Future[Response], response: Response) -> None:
    if not answer.done():  # It is done if the client has cancelled the request.
        answer.set_result(response)


class Exchange:
    """A request as `aiohttp.ClientSession.request` returns it: awaited, or entered as a context."""

    def __init__(self, response: Callable[[], Awaitable[Response]]) -> None:
        self._response = response

    def __await__(self) -> Generator[Any, Any, Response]:
        return self._response().__await__()

    async def __aenter__(self) -> Response:
        return await self

    async def __aexit__(self, *_: object) -> None:
        pass


class Response:
    """The parts of an `aiohttp.ClientResponse` that the clients use. Its body is empty."""

    def __init__(self, status: int, headers: CIMultiDict[str]) -> None:
        self.status = status
        self.headers = headers

    def release(self) -> None:
        """Do nothing, because there is no connection."""

    @property
    def content(self) -> Self:
        return self

    async def iter_any(self) -> AsyncIterator[bytes]:
        """Yield no chunk."""
        for chunk in tuple[bytes, ...]():
            yield chunk
