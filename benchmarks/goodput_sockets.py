"""Goodput on real sockets: our client at limiters that others wrote, beside clients that are told the quota.

    python benchmarks/goodput_sockets.py [--servers REGEX] [--turns 3] [--short] [--json FILE]

The limiters are nginx, HAProxy, and three from npm, each a new process on a loopback port for each run. What
is not on this machine is said and left out. A run takes a minute if the client uses the whole quota.

A cell has the time ÷ (conferences ÷ quota), the refusals per success, and the 99th percentile of the seconds
from a conference's first attempt to its end. If conferences were lost, it also has their number. The last
figure says how late timers fired in that run: on a busy machine nobody keeps a pace. All numbers are medians
of the turns. *oracle* is our client at the best fixed rate that the server lets through, and it knows which
status is a refusal. *aiolimiter* is told the quota too and retries by tenacity.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import aiohttp
from attrs import asdict, define, field, frozen
from goodput import Result, middle, table
from goodput_limiters import WITHIN
from goodput_rows import Goals
from goodput_strategies import Scene, aiolimiter_retry, ours, without_warnings
from hot_path_server import free_port, nginx_command, running

from bandwidth_async import RateLimit
from bandwidth_async.limiter.pace import FixedPace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from goodput_strategies import Strategy

    # Writes what the server needs into a folder, and returns the command that serves on a port.
    Command = Callable[[Path, int], list[str]]

_CONCURRENCY = 100
_SECONDS, _SHORT_SECONDS = 60, 2
_TIMER = 0.05  # seconds of the timer whose lateness is noted
_SPACED = 0.9  # the share of the quota that a bucket without depth lets through, as far as timers are exact
_HERE = Path(__file__).parent
_MODULES = _HERE.parent / ".limiters" / "node_modules"
_INSTALL = {
    "nginx": "apt-get install nginx-light, or brew install nginx",
    "haproxy": "apt-get install haproxy, or brew install haproxy",
    "node": "apt-get install nodejs npm, or brew install node",
}

# nginx runs limit_req before try_files, so only admitted requests reach the location that answers. A plain
# `return` would run before limit_req.
_NGINX = """
    limit_req_zone $server_port zone=all:1m rate={rate}r/s;
    limit_req_status {status};
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            limit_req zone=all {options};
            try_files /nothing @answer;
        }}
        location @answer {{ return 204; }}
    }}
"""
# Refused requests count too.
_HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend limited
    bind 127.0.0.1:{port}
    stick-table type ip size 1k expire 1m store http_req_rate({window}s)
    http-request track-sc0 src
    http-request deny deny_status 429 {header} if {{ sc_http_req_rate(0) gt {limit} }}
    http-request return status 204
"""


async def adaptive(scene: Scene) -> None:
    """Our client without any hint of the quota, nor of the status."""
    await ours(scene, RateLimit())


async def told(scene: Scene, share: float = 1.0) -> None:
    """Our client at a fixed share of the quota. It knows which status is a refusal."""
    await ours(scene, RateLimit(share * scene.told, refusal_statuses=[429, scene.status]))


class _Spaced(FixedPace):
    def __init__(self, limit: RateLimit) -> None:
        assert limit.rate is not None  # noqa: S101  # it is told
        super().__init__(limit.rate, limit.burst)
        self._early = 0.0


async def told_to_space(scene: Scene, share: float) -> None:
    """The same, but without two requests closer than the rate has them, not even after a late timer."""
    with mock.patch("bandwidth_async.limiter.limiter.pace_for", _Spaced):
        await told(scene, share)


STRATEGIES = ("ours", "oracle", "aiolimiter")


@frozen(kw_only=True)
class Server(Goals):
    """A limiter that allows ``rate`` requests a second on the long run, and needs ``program``.

    ``oracle`` is the best that our client can do at an even rate, as far as it was found out.
    """

    rate: float
    program: str
    command: Command
    oracle: Strategy
    status: int = 429
    needs: str = ""  # a module of npm

    def strategy(self, name: str) -> Strategy:
        """Return the strategy of this name."""
        return {"ours": adaptive, "oracle": self.oracle, "aiolimiter": aiolimiter_retry}[name]

    def why_not(self) -> str | None:
        """Return the reason why it cannot run on this machine, or None."""
        if shutil.which(self.program) is None:
            return f"{self.program} is not in the path; install it: {_INSTALL[self.program]}"
        if self.needs and not (_MODULES / self.needs).is_dir():
            return f"{self.needs} is not in .limiters; install it: make .limiters/ready"
        return None

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Run it and yield its URL. It is always stopped afterwards."""
        port = free_port()
        with (
            tempfile.TemporaryDirectory(prefix="goodput-") as folder,
            running(self.command(Path(folder), port), port, NODE_PATH=str(_MODULES)),
        ):
            yield f"http://127.0.0.1:{port}"


def _nginx(rate: int, options: str = "", status: int = 429) -> Server:
    def command(folder: Path, port: int) -> list[str]:
        return nginx_command(folder, _NGINX.format(rate=rate, options=options, status=status, port=port))

    words = [f"nginx {rate}/s", options, "" if status == 429 else str(status)]
    return Server(
        name=" ".join(filter(None, words)),
        rate=rate,
        program="nginx",
        command=command,
        oracle=told if options else partial(told_to_space, share=_SPACED),
        status=status,
        completion=1.04,
    )


def _haproxy(limit: int, window: int, completion: float, retry_after: int | None = None) -> Server:
    header = "" if retry_after is None else f"hdr Retry-After {retry_after}"

    def command(folder: Path, port: int) -> list[str]:
        config = folder / "haproxy.cfg"
        config.write_text(_HAPROXY.format(port=port, window=window, limit=limit, header=header))
        return ["haproxy", "-db", "-q", "-f", str(config)]

    return Server(
        name=f"haproxy {limit}/{window}s" + ("" if retry_after is None else f" retry-after {retry_after}"),
        rate=limit / window,
        program="haproxy",
        command=command,
        oracle=partial(told, share=WITHIN),
        completion=completion,
    )


def _npm(module: str, limit: int, window: int) -> Server:
    def command(_: Path, port: int) -> list[str]:
        return ["node", str(_HERE / "goodput_sockets.js"), module, str(port), str(limit), str(window)]

    return Server(
        name=f"{module} {limit}/{window}s",
        rate=limit / window,
        program="node",
        needs=module,
        command=command,
        oracle=partial(told, share=WITHIN),
        completion=1.20,
    )


SERVERS = {
    server.name: server
    for server in [
        _nginx(200, "burst=20 nodelay"),
        _nginx(50, "burst=20 nodelay"),
        _nginx(50, "burst=20"),
        _nginx(50),
        _nginx(50, "burst=20 nodelay", 503),
        _nginx(50, "", 503),
        _haproxy(100, 1, 1.05),
        _haproxy(500, 10, 1.15),
        _haproxy(100, 1, 1.20, retry_after=1),
        _haproxy(500, 10, 1.20, retry_after=10),
        _npm("express-rate-limit", 100, 1),
        _npm("express-rate-limit", 500, 10),
        _npm("rate-limiter-flexible", 100, 1),
        _npm("@fastify/rate-limit", 100, 1),
        _npm("@fastify/rate-limit", 500, 10),
    ]
}


@frozen(kw_only=True)
class Job:
    """One run to make."""

    server: str
    strategy: str
    turn: int
    seconds: int


@frozen(kw_only=True)
class Run(Result):
    """The result of one run, or the medians of several."""

    late: float  # milliseconds that a timer fires late, on average

    def __str__(self) -> str:
        return f"{super().__str__()} / {self.late:.0f} ms"


@define
class Books:
    """Records of what was on the wire, from aiohttp's tracing."""

    status: int  # of a refusal
    refused: int = 0
    first: dict[str, float] = field(factory=dict)  # when an id that has not ended yet was first sent
    elapsed: list[float] = field(factory=list)  # seconds from first attempt to end, of each that ended
    late: list[float] = field(factory=list)  # seconds that a timer of this process was late

    def trace(self) -> aiohttp.TraceConfig:
        """Return what a session needs to write these records."""
        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(self._on_start)
        trace.on_request_end.append(self._on_end)
        return trace

    async def _on_start(self, _: object, __: object, start: aiohttp.TraceRequestStartParams) -> None:
        self.first.setdefault(start.url.raw_path, time.perf_counter())

    async def _on_end(self, _: object, __: object, end: aiohttp.TraceRequestEndParams) -> None:
        if end.response.status == 204:
            self.elapsed.append(time.perf_counter() - self.first.pop(end.url.raw_path))
        self.refused += end.response.status == self.status

    async def watch_timers(self) -> None:
        """Note how late timers fire, until this is cancelled."""
        while True:
            due = time.perf_counter() + _TIMER
            await asyncio.sleep(_TIMER)
            self.late.append(time.perf_counter() - due)


def measure(job: Job) -> Run:
    """Make one run, at a server of its own."""
    random.seed(job.turn)  # for tenacity
    with SERVERS[job.server].serving() as base:
        return asyncio.run(_measure(job, base))


async def _measure(job: Job, base: str) -> Run:
    server = SERVERS[job.server]
    books = Books(server.status)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=[books.trace()],
    ) as session:
        scene = Scene(
            session=session,
            base=base,
            count=round(server.rate * job.seconds),
            told=server.rate,
            concurrency=_CONCURRENCY,
            random=random.Random(job.turn),
            status=server.status,
        )
        watch = asyncio.create_task(books.watch_timers())
        started = time.perf_counter()
        await server.strategy(job.strategy)(scene)
        elapsed = time.perf_counter() - started
        watch.cancel()
    ended = sorted(books.elapsed)
    return Run(
        completion=elapsed / job.seconds,
        refusals=books.refused / max(1, len(ended)),
        p99=ended[len(ended) * 99 // 100] if ended else 0.0,
        lost=scene.count - len(ended),
        real=elapsed,
        late=1000 * statistics.fmean(books.late),
    )


def choose(pattern: str) -> list[Server]:
    """Return the servers of this name that the machine has. Say why the others are left out."""
    servers = [server for server in SERVERS.values() if re.search(pattern, server.name)]
    if not servers:
        sys.exit(f"no server matches {pattern!r}; there are: {', '.join(SERVERS)}")
    reasons = {server.name: server.why_not() for server in servers}
    for reason in sorted(filter(None, set(reasons.values()))):
        print(reason, file=sys.stderr)
    return [server for server in servers if reasons[server.name] is None]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--servers", default="", metavar="REGEX", help="servers whose name it is found in")
    parser.add_argument("--only", nargs="+", choices=STRATEGIES, default=STRATEGIES, help="strategies")
    parser.add_argument("--turns", type=int, metavar="N", help="runs of each kind (3; with --short 1)")
    parser.add_argument("--short", action="store_true", help=f"runs of {_SHORT_SECONDS} s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every run there")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Measure, and print the table."""
    options = parse(arguments)
    servers = choose(options.servers)
    turns = options.turns or (1 if options.short else 3)
    seconds = _SHORT_SECONDS if options.short else _SECONDS
    jobs = [
        Job(server=server.name, strategy=strategy, turn=turn, seconds=seconds)
        for turn in range(turns)
        for server in servers
        for strategy in options.only
    ]
    # Whatever ends this program ends its server too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    found: defaultdict[tuple[str, str], list[Run]] = defaultdict(list)
    for job in jobs:
        result = measure(job)
        print(f"{job.server}, {job.strategy}, turn {job.turn + 1}: {result}", file=sys.stderr)
        found[job.server, job.strategy].append(result)
    print(table(servers, options.only, {key: middle(runs, statistics.median) for key, runs in found.items()}))
    print(f"\n{turns} turns of {seconds} s, load {os.getloadavg()[1]:.1f}")
    if options.json:
        saved = [
            {"server": server, "strategy": strategy, **asdict(one)}
            for (server, strategy), runs in found.items()
            for one in runs
        ]
        options.json.write_text(json.dumps(saved, indent=1) + "\n")


if __name__ == "__main__":
    without_warnings()
    main(sys.argv[1:])
