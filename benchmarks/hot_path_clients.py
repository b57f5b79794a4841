"""The clients of the hot path's benchmark. Each runs in a process of its own.

    python benchmarks/hot_path_clients.py CLIENT BASE COUNT CONCURRENCY CORE

It ends ``COUNT`` conferences and prints the cost as JSON. The measurement starts just before the session is
opened and ends just after it is closed. A few ends before it keep imports and other work that is done only
once out of it. Every client sends the same credentials, and fails if a status is not 204.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
from attrs import evolve, frozen
from hot_path_server import pin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Client = Callable[["Work"], Awaitable[None]]

ACCOUNT = "9900000"
USER = ("user", "password")
AUTHORIZATION = "Basic dXNlcjpwYXNzd29yZA=="  # the same
WARMING = 10  # ends before the measured ones, with the same ids
_END = {"status": "completed"}


@frozen
class Work:
    """The task of a client."""

    base: str
    ids: Sequence[str]
    concurrency: int

    def url(self, conference_id: str) -> str:
        """Return the URL that ends a conference."""
        return f"{self.base}/api/v2/accounts/{ACCOUNT}/conferences/{conference_id}"


def check(status: int) -> None:
    """Raise an error if the status is not 204."""
    if status != 204:
        raise AssertionError(f"answered {status}")


def _session(work: Work) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=work.concurrency), headers={"Authorization": AUTHORIZATION}
    )


async def _gathered(work: Work, end: Callable[[str], Awaitable[None]]) -> None:
    semaphore = asyncio.Semaphore(work.concurrency)

    async def bounded(conference_id: str) -> None:
        async with semaphore:
            await end(conference_id)

    await asyncio.gather(*(bounded(one) for one in work.ids))


async def naive(work: Work) -> None:
    """The usual code: one session, ``json=``, a semaphore and gather."""
    async with _session(work) as session:

        async def end(conference_id: str) -> None:
            async with session.post(work.url(conference_id), json=_END) as response:
                check(response.status)

        await _gathered(work, end)


async def naive_tenacity(work: Work) -> None:
    """The usual code with tenacity's decorator."""
    from tenacity import (  # noqa: PLC0415  # a client's memory is its own imports
        retry,
        retry_if_exception_type,
        stop_after_attempt,
        wait_random_exponential,
    )

    async with _session(work) as session:

        @retry(
            retry=retry_if_exception_type(aiohttp.ClientError),
            wait=wait_random_exponential(max=10),
            stop=stop_after_attempt(10),
        )
        async def end(conference_id: str) -> None:
            async with session.post(work.url(conference_id), json=_END, raise_for_status=True) as response:
                check(response.status)

        await _gathered(work, end)


async def aiohttp_retry(work: Work) -> None:
    """aiohttp-retry, with exponential pauses."""
    import aiohttp_retry as library  # noqa: PLC0415

    async with _session(work) as session:
        client = library.RetryClient(session, retry_options=library.ExponentialRetry(attempts=10))

        async def end(conference_id: str) -> None:
            async with client.post(work.url(conference_id), json=_END) as response:
                check(response.status)

        await _gathered(work, end)


async def httpx(work: Work) -> None:
    """httpx, with as many connections as concurrent requests."""
    import httpx as library  # noqa: PLC0415

    limits = library.Limits(max_connections=work.concurrency, max_keepalive_connections=work.concurrency)
    headers = {"Authorization": AUTHORIZATION}
    async with library.AsyncClient(limits=limits, headers=headers, timeout=60) as client:

        async def end(conference_id: str) -> None:
            check((await client.post(work.url(conference_id), json=_END)).status_code)

        await _gathered(work, end)


async def bandwidth_sdk(work: Work) -> None:
    """The official SDK in threads, because it is synchronous."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    import bandwidth as library  # type: ignore[import-untyped]  # noqa: PLC0415  # it has no types

    configuration = library.Configuration(host=f"{work.base}/api/v2", ignore_operation_servers=True)
    configuration.username, configuration.password = USER
    configuration.connection_pool_maxsize = work.concurrency
    api = library.ConferencesApi(library.ApiClient(configuration))
    update = library.UpdateConference(status="completed")

    def end(conference_id: str) -> None:
        answer = api.update_conference_with_http_info(ACCOUNT, conference_id, update)
        check(answer.status_code)

    with ThreadPoolExecutor(work.concurrency) as pool:
        for _ in pool.map(end, work.ids):
            pass


class _Raw(asyncio.Protocol):
    """A connection that sends the next prepared request after each response."""

    def __init__(self, requests: Any, done: asyncio.Future[None]) -> None:
        self._requests = requests
        self._done = done
        self._received = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(b"\r\n\r\n"):
            check(int(self._received[9:12]))
            self._received = b""
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(error or ConnectionError("closed before the last answer"))

    def _send(self) -> None:
        for request in self._requests:
            self._transport.write(request)
            return
        if not self._done.done():
            self._done.set_result(None)
        self._transport.close()


async def raw_protocol(work: Work) -> None:
    """The least that asyncio can do: send bytes and read a status. It is the limit, not an alternative."""
    where = urlsplit(work.base)
    host, port = where.hostname or "", where.port or 80
    loop = asyncio.get_running_loop()
    body = json.dumps(_END)
    head = f"Host: {where.netloc}\r\nAuthorization: {AUTHORIZATION}\r\nContent-Type: application/json"
    rest = f" HTTP/1.1\r\n{head}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    requests = (f"POST {urlsplit(work.url(one)).path}{rest}".encode() for one in work.ids)
    connections = [loop.create_future() for _ in range(work.concurrency)]
    for done in connections:
        await loop.create_connection(partial(_Raw, requests, done), host, port)
    await asyncio.gather(*connections)


async def ours(work: Work, *, journal: bool = False) -> None:
    """bandwidth_async with limiter, retry and outcomes, and optionally with the journal."""
    from bandwidth_async import BasicCredentials, RateLimit, VoiceClient  # noqa: PLC0415
    from bandwidth_async.journal import Journal  # noqa: PLC0415

    client = VoiceClient(
        account_id=ACCOUNT,
        credentials=BasicCredentials(*USER),
        voice_url=work.base,
        rate_limit=RateLimit.adaptive(start=1e6),  # too high to slow the run
    )
    async with client:
        if not journal:
            report = await client.end_conferences(work.ids, concurrency=work.concurrency)
        else:
            with tempfile.TemporaryDirectory(prefix="hot-path-") as folder:
                path = Path(folder, "journal")
                async with Journal.create(path, account_id=ACCOUNT, created=time.time()) as journal_:
                    await journal_.record(work.ids)
                    report = await client.end_conferences(journal_, concurrency=work.concurrency)
    if report.counts != {"ended": len(work.ids)} or report.attempts != len(work.ids):
        raise AssertionError(f"not every id was ended at once: {report}")


# The order of a turn. Clients that are compared most are neighbours, because the machine's speed changes
# within seconds.
CLIENTS: dict[str, Client] = {
    "raw protocol": raw_protocol,
    "aiohttp-retry": aiohttp_retry,
    "naive + tenacity": naive_tenacity,
    "ours, uvloop": ours,
    "naive": naive,
    "ours": ours,
    "ours, journal": partial(ours, journal=True),
    "naive, uvloop": naive,
    "bandwidth-sdk, threads": bandwidth_sdk,
    "httpx": httpx,
}


def measure(name: str, work: Work) -> dict[str, float]:
    """Run a client. Return its processor time and wall time in seconds, and its peak memory in MB."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if name.endswith("uvloop"):
        import uvloop  # noqa: PLC0415

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_awaited(CLIENTS[name](evolve(work, ids=work.ids[:WARMING]))))
        wall, cpu = time.perf_counter(), time.process_time()
        runner.run(_awaited(CLIENTS[name](work)))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    unit = 1024 if sys.platform == "linux" else 1024 * 1024
    return {"wall": wall, "cpu": cpu, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit}


async def _awaited(client: Awaitable[None]) -> None:
    await client


def main(arguments: Sequence[str]) -> None:
    """Run the client and print its figures."""
    name, base, count, concurrency, core = arguments
    pin(0, int(core) if core else None)
    ids = [f"conf-fe23a767-a75a5b77-20c5-4cca-b581-{number:012x}" for number in range(int(count))]
    print(json.dumps(measure(name, Work(base, ids, int(concurrency)))))


if __name__ == "__main__":
    main(sys.argv[1:])
