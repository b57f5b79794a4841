"""Goodput on real sockets: our client and alternatives, against an nginx that limits the rate.

    python benchmarks/goodput_nginx.py [--repeat N] [--json FILE]

nginx allows 200 and 50 requests a second with a burst of 20, and sends a 429 without a hint. The strategies
take turns, A B C A B C, each with a new aiohttp session. The columns are time ÷ (conferences ÷ quota),
requests per success, and lost conferences. A turn takes two and a half minutes. It needs ``nginx``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from attrs import asdict, define, frozen
from goodput_strategies import Scene, aiolimiter, ours, tenacity
from hot_path_server import await_listener, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from goodput_strategies import Strategy

STRATEGIES: dict[str, Strategy] = {
    "ours": ours,
    "tenacity": partial(tenacity, longest=10, tries=10),
    "aiolimiter": aiolimiter,
}
QUOTAS = {200: 4000, 50: 1000}  # requests a second: conferences
_CONCURRENCY = 100

# nginx runs limit_req before try_files, so only admitted requests reach the location that answers. A plain
# `return` would run before limit_req.
_SERVER = """
    limit_req_zone $server_port zone=rate{rate}:1m rate={rate}r/s;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            limit_req zone=rate{rate} burst=20 nodelay;
            try_files /nothing @answer;
        }}
        location @answer {{ return 204; }}
    }}
"""
_CONFIG = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    limit_req_status 429;
    keepalive_requests 1000000;
    root {folder};
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{servers}
}}
"""


@define
class Count:
    """Counts of requests on the wire, from aiohttp's tracing."""

    requests: int = 0
    ended: int = 0


@frozen(kw_only=True)
class Result:
    """The result of one run."""

    strategy: str
    rate: int
    completion: float  # ÷ (conferences ÷ quota)
    requests: float  # per success
    lost: int


@contextmanager
def nginx(rates: Sequence[int]) -> Iterator[dict[int, str]]:
    """Run one nginx with a server for each rate, and yield the URLs."""
    binary = shutil.which("nginx")
    if binary is None:
        sys.exit("nginx was not found: apt-get install nginx-light")
    ports = {rate: free_port() for rate in rates}
    with tempfile.TemporaryDirectory(prefix="goodput-nginx-") as folder:
        servers = "".join(_SERVER.format(rate=rate, port=port) for rate, port in ports.items())
        config = Path(folder, "nginx.conf")
        config.write_text(_CONFIG.format(folder=folder, servers=servers))
        command = [binary, "-p", folder, "-c", str(config), "-e", f"{folder}/error.log"]
        started = subprocess.Popen(command)  # noqa: S603 - all our own words
        try:
            for port in ports.values():
                await_listener(port)
            yield {rate: f"http://127.0.0.1:{port}" for rate, port in ports.items()}
        finally:
            started.terminate()
            started.wait()


def _counting(count: Count) -> aiohttp.TraceConfig:
    async def note(_: object, __: object, end: aiohttp.TraceRequestEndParams) -> None:
        count.requests += 1
        count.ended += end.response.status == 204

    async def note_error(*_: Any) -> None:
        count.requests += 1

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(note)
    trace.on_request_exception.append(note_error)
    return trace


async def measure(name: str, rate: int, base: str, seed: int) -> Result:
    """Make one run."""
    count, conferences = Count(), QUOTAS[rate]
    random.seed(seed)  # for tenacity
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=[_counting(count)],
    ) as session:
        scene = Scene(
            session=session,
            base=base,
            count=conferences,
            told=rate,
            concurrency=_CONCURRENCY,
            random=random.Random(seed),
        )
        started = time.perf_counter()
        await STRATEGIES[name](scene)
        elapsed = time.perf_counter() - started
    return Result(
        strategy=name,
        rate=rate,
        completion=elapsed * rate / conferences,
        requests=count.requests / max(1, count.ended),
        lost=conferences - count.ended,
    )


def table(results: Sequence[Result]) -> str:
    """Return the medians of the turns, with the span of the time."""
    lines = [
        f"{'quota':>7}  {'strategy':<11} {'time ÷ ideal (span)':<22} {'requests/success':>16} {'lost':>6}"
    ]
    for rate in QUOTAS:
        for name in STRATEGIES:
            mine = [result for result in results if (result.rate, result.strategy) == (rate, name)]
            times = [result.completion for result in mine]
            span = f"{statistics.median(times):.2f} ({min(times):.2f}-{max(times):.2f})"
            requests = statistics.median(result.requests for result in mine)
            lost = statistics.median(result.lost for result in mine)
            lines.append(f"{rate:>5}/s  {name:<11} {span:<22} {requests:>16.3f} {lost:>6.0f}")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="turns (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every run there")
    options = parser.parse_args(arguments)
    results = []
    with nginx(list(QUOTAS)) as urls:
        for turn in range(options.repeat):
            for rate, base in urls.items():
                for name in STRATEGIES:
                    # After a second the bucket of the last run is empty again.
                    time.sleep(1)
                    results.append(asyncio.run(measure(name, rate, base, turn)))
                    print(results[-1], file=sys.stderr)
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
