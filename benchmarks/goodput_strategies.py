"""The strategies of the goodput benchmark: our client, and alternatives that people write or import.

Each strategy ends all conferences of a scene over the scene's session. The server records the results. The
alternatives use 100 workers, the default of our client.
"""

from __future__ import annotations

import asyncio
import logging
import math
from functools import partial
from typing import TYPE_CHECKING
from unittest import mock

import aiohttp
from attrs import frozen
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, stop_never
from tenacity.wait import wait_base, wait_random_exponential
from yarl import URL

from bandwidth_async import BasicCredentials, Limiter, RateLimit, VoiceClient
from bandwidth_async.limiter.pace import FixedPace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from random import Random

    Strategy = Callable[["Scene"], Awaitable[None]]
    End = Callable[[URL], Awaitable[None]]

WORKERS = 100
_BODY = b'{"status":"completed"}'
_HEADERS = {"Content-Type": "application/json"}


@frozen(kw_only=True)
class Scene:
    """The input of a strategy. ``told`` is the quota in requests a second, for strategies that need it.

    ``status`` is that of a refusal.
    """

    session: aiohttp.ClientSession
    base: str
    count: int
    told: float
    concurrency: int
    random: Random
    quota_at: Callable[[float], float] = lambda _: math.inf
    clients: int = 1
    within_second: bool = False
    status: int = 429


def without_warnings() -> None:
    """Tell nobody once a run that Bandwidth removes API users. For the process of a benchmark only."""
    logging.getLogger("bandwidth_async.credentials").setLevel(logging.ERROR)


class AnswerError(Exception):
    """A response other than success. ``retry_after`` has the seconds of the header, if there is one."""

    def __init__(self, status: int, retry_after: float | None) -> None:
        super().__init__(status)
        self.status = status
        self.retry_after = retry_after


async def ours(scene: Scene, limit: RateLimit | None = None) -> None:
    """Our client, without any knowledge of the quota."""
    limit = limit or RateLimit.adaptive(within_second=scene.within_second)
    async with asyncio.TaskGroup() as group:
        for number in range(scene.clients):
            limiter = Limiter(limit, scene.random)
            group.create_task(_end_share(scene, limiter, range(number, scene.count, scene.clients)))


async def fixed(scene: Scene) -> None:
    """Our client at a fixed rate, told the quota."""
    await ours(scene, RateLimit.fixed(scene.told / scene.clients))


async def oracle(scene: Scene) -> None:
    """Our client, told the quota of each moment. It obeys hints, and pauses after a refusal like `fixed`."""
    with mock.patch("bandwidth_async.limiter.limiter.pace_for", partial(_Knowing, scene)):
        await ours(scene)


class _Knowing(FixedPace):
    def __init__(self, scene: Scene, _limit: RateLimit) -> None:
        super().__init__(scene.quota_at(0.0) / scene.clients, burst=1)
        self._scene = scene

    def next_time(self, now: float, in_flight: int) -> float:
        self.rate = self._scene.quota_at(now) / self._scene.clients
        return super().next_time(now, in_flight)


async def _end_share(scene: Scene, limiter: Limiter, numbers: range) -> None:
    client = VoiceClient(
        account_id="1",
        credentials=BasicCredentials("user", "password"),
        voice_url=scene.base,
        session=scene.session,
        limiter=limiter,
        random=scene.random,
    )
    async with client:
        ids = (f"conf-{number}" for number in numbers)
        await client.end_conferences(ids, concurrency=scene.concurrency // scene.clients)


async def end(session: aiohttp.ClientSession, url: URL) -> None:
    """Send one request. Raise `AnswerError` for a response other than success."""
    async with session.request("POST", url, data=_BODY, headers=_HEADERS) as response:
        if response.status >= 300:
            seconds = response.headers.get("Retry-After")
            raise AnswerError(response.status, float(seconds) if seconds else None)


async def with_workers(scene: Scene, end_one: End) -> None:
    """Pass every conference to ``end_one``, from ``WORKERS`` tasks. A conference that fails is lost."""
    urls = (
        URL(f"{scene.base}/api/v2/accounts/1/conferences/conf-{number}", encoded=True)
        for number in range(scene.count)
    )

    async def work(mine: Iterator[URL]) -> None:
        for url in mine:
            try:
                await end_one(url)
            except (AnswerError, aiohttp.ClientError):
                continue

    async with asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(work(urls))


class _HintOr(wait_base):
    """Waits as long as the server's hint says, or else as long as ``other`` says."""

    def __init__(self, other: wait_base) -> None:
        self._other = other

    def __call__(self, retry_state: RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        hint = error.retry_after if isinstance(error, AnswerError) else None
        return self._other(retry_state) if hint is None else hint


def persistently(once: End, *, longest: float, tries: int | None) -> End:
    """Return ``once`` with retries by tenacity after random exponential pauses, endless without ``tries``."""
    retrying = AsyncRetrying(
        retry=retry_if_exception_type((AnswerError, aiohttp.ClientError)),
        wait=_HintOr(wait_random_exponential(multiplier=1, max=longest)),
        stop=stop_after_attempt(tries) if tries else stop_never,
        sleep=asyncio.sleep,
        reraise=True,
    )

    async def end_one(url: URL) -> None:
        await retrying.copy()(once, url)

    return end_one


async def tenacity(scene: Scene, *, longest: float = 60, tries: int | None = None) -> None:
    """Each conference has its own retries: after random exponential pauses, or after the server's hint."""

    async def once(url: URL) -> None:
        await end(scene.session, url)

    await with_workers(scene, persistently(once, longest=longest, tries=tries))


async def semaphore(scene: Scene) -> None:
    """100 conferences at once, with one attempt each."""

    async def once(url: URL) -> None:
        await end(scene.session, url)

    await with_workers(scene, once)


def _paced(scene: Scene) -> End:
    from aiolimiter import AsyncLimiter  # noqa: PLC0415  # only this client needs it

    limiter = AsyncLimiter(scene.told, 1)

    async def once(url: URL) -> None:
        async with limiter:
            await end(scene.session, url)

    return once


async def aiolimiter(scene: Scene) -> None:
    """aiolimiter with the exact quota, and one attempt for each conference."""
    await with_workers(scene, _paced(scene))


async def aiolimiter_retry(scene: Scene) -> None:
    """aiolimiter with the exact quota, and retries by tenacity."""
    await with_workers(scene, persistently(_paced(scene), longest=60, tries=None))
