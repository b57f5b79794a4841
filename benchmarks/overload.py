"""Overload: more single calls than the rate lets through, closed quotas, and servers that hang.

    python benchmarks/overload.py [--families REGEX] [--seeds 5] [--short] [--check] [--json FILE]

The real client runs in virtual time over a simulated session. A figure that misses its goal is marked.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext, suppress
from functools import partial
from itertools import product
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, cast

from attrs import define, field, frozen
from goodput_clock import run_virtually
from goodput_servers import Exchange, Response
from goodput_strategies import end
from multidict import CIMultiDict
from yarl import URL

from bandwidth_async import BandwidthError, BasicCredentials, RateLimit, VoiceClient
from bandwidth_async.http import TimeoutTimer
from bandwidth_async.sandbox.quota import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import aiohttp

    Call = Callable[[str], Awaitable[object]]
    Figures = dict[str, float]

# Requests per second: the quota, and the rate of the clients that are told it.
RATE = 50.0
CLIENTS = ("fixed", "adaptive", "aiolimiter")

# Seconds that are not counted, as the rate is still being found out.
_FINDING = 30.0
# Calls that begin so many seconds after a closure are counted, and for how many seconds.
_RECOVERY = 10.0
_COUNTED = 20.0
# What a call hears within these seconds it hears at once.
_AT_ONCE = 0.05


@define(kw_only=True)
class Server:
    """Replaces an `aiohttp.ClientSession`. Answers in 0.1 s on average, refuses over the quota in 0.02 s.

    ``shut`` is from when to when it refuses everything. ``gone`` has the time of each request that it let in
    and whose caller did not wait for the answer; ``heard`` that of each other.
    """

    random: Random
    quota: bool
    shut: tuple[float, float] = (0.0, 0.0)
    hangs: bool = False
    gone: list[float] = field(factory=list)
    heard: list[float] = field(factory=list)
    closed: bool = False
    auth: None = None
    connector: None = None
    _bucket: TokenBucket = field(factory=lambda: TokenBucket(rate=RATE, burst=RATE / 5))

    @property
    def session(self) -> aiohttp.ClientSession:
        """This server, with the type of a session."""
        return cast("aiohttp.ClientSession", self)

    def request(self, *_: object, **__: object) -> Exchange:
        """Return the exchange as a context, like `aiohttp.ClientSession.request`."""
        return Exchange(self._respond)

    async def _respond(self) -> Response:
        now = asyncio.get_running_loop().time()
        start, stop = self.shut
        if start <= now < stop or (self.quota and self._bucket.admit(now)):
            await asyncio.sleep(0.02)
            return Response(429, CIMultiDict())
        try:
            await asyncio.sleep(1e6 if self.hangs else self.random.gammavariate(4, 0.025))
        except asyncio.CancelledError:
            self.gone.append(now)
            raise
        self.heard.append(now)
        return Response(204, CIMultiDict())

    def sent_for_nobody(self, since: float) -> float:
        """Return the share of the requests let in since then whose caller had gone."""
        gone, heard = (sum(at >= since for at in moments) for moments in (self.gone, self.heard))
        return gone / max(1, gone + heard)


@frozen
class Told:
    """A call: when it began, when it ended, and whether it was served in time."""

    began: float
    ended: float
    served: bool


async def _calls(server: Server, client: str, arrivals: float, deadline: float, seconds: float) -> list[Told]:
    """Make calls at random moments, ``arrivals`` a second for so many seconds, and return them."""
    loop = asyncio.get_running_loop()
    told: list[Told] = []

    async def one(number: int) -> None:
        began, served = loop.time(), False
        with suppress(BandwidthError, TimeoutError):
            await call(f"conf-{number}")
            served = True
        told.append(Told(began, loop.time(), served))

    call, context = _client(server, client, deadline)
    async with context, asyncio.TaskGroup() as group:
        number = 0
        while loop.time() < seconds:
            group.create_task(one(number))
            number += 1
            await asyncio.sleep(server.random.expovariate(arrivals))
    return told


def _client(server: Server, name: str, deadline: float) -> tuple[Call, Any]:
    """Return what makes a call, and a context to make it in."""
    if name == "aiolimiter":
        from aiolimiter import AsyncLimiter  # noqa: PLC0415  # only this client needs it

        limiter = AsyncLimiter(1, 1 / RATE)

        async def call(conference_id: str) -> None:
            async with asyncio.timeout(deadline), limiter:
                await end(server.session, URL(f"http://127.0.0.1/conferences/{conference_id}"))

        return call, nullcontext()
    client = VoiceClient(
        account_id="1",
        credentials=BasicCredentials("user", "password"),
        voice_url="http://127.0.0.1",
        session=server.session,
        random=server.random,
        rate_limit=RateLimit.fixed(RATE) if name == "fixed" else None,
        deadline=deadline,
    )
    return client.end_conference, client


def load(times: float, deadline: float, client: str, seed: int) -> Figures:
    """Single calls at a multiple of the rate: what is served in time ÷ what is possible."""
    server = Server(random=Random(seed), quota=client == "adaptive")
    seconds = _FINDING + max(60.0, 3 * deadline)
    told = run_virtually(_calls(server, client, times * RATE, deadline, seconds))
    served = sum(call.served for call in told if _FINDING <= call.ended < seconds)
    possible = min(times, 1.0) * RATE * (seconds - _FINDING)
    return {"served": served / possible, "for nobody": server.sent_for_nobody(_FINDING)}


def closure(shut: float, deadline: float, client: str, seed: int) -> Figures:
    """Calls at a fifth of a quota that is closed for a while: the share served from 10 s after its end."""
    opened = _FINDING + shut
    server = Server(random=Random(seed), quota=True, shut=(_FINDING, opened))
    back = opened + _RECOVERY
    told = run_virtually(_calls(server, client, RATE / 5, deadline, back + _COUNTED))
    served = statistics.fmean(call.served for call in told if call.began >= back)
    return {"served": served, "for nobody": server.sent_for_nobody(opened)}


def silence(_: float, deadline: float, client: str, seed: int) -> Figures:
    """A server that never answers: the share told at once of the calls that begin after twenty failed."""
    server = Server(random=Random(seed), quota=False, hangs=True)
    told = run_virtually(_calls(server, client, 20.0, deadline, 60.0 + deadline))
    twentieth = sorted(call.ended for call in told)[19]
    later = [call.ended - call.began <= _AT_ONCE for call in told if call.began > twentieth]
    return {"told at once": statistics.fmean(later)}


def expiry(count: float, _: float, client: str, seed: int) -> Figures:
    """Thousands that wait until they expire: processor time ÷ that of `asyncio.timeout`."""
    del client
    moments = [2 + Random(seed).random() * 10 for _ in range(int(count))]

    async def ours() -> None:
        timer = TimeoutTimer()

        async def one(seconds: float) -> None:
            with suppress(TimeoutError), timer.timeout_at(timer.loop.time() + seconds):
                await asyncio.get_running_loop().create_future()

        await asyncio.gather(*map(one, moments))

    async def theirs() -> None:
        async def one(seconds: float) -> None:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await asyncio.get_running_loop().create_future()

        await asyncio.gather(*map(one, moments))

    return {"÷ asyncio.timeout": _least(ours) / _least(theirs)}


def _least(work: Callable[[], Any]) -> float:
    """Return the seconds of processor time, the least of five turns as other work only adds time."""
    taken = []
    for _ in range(5):
        started = time.process_time()
        run_virtually(work())
        taken.append(time.process_time() - started)
    return min(taken)


@frozen(kw_only=True)
class Family:
    """Rows of one kind: each of ``values`` with each of ``deadlines``, and the goals of the figures.

    A goal is the least that a figure may be, or with ``most`` the most. ``judges`` says which values have
    the goals.
    """

    measure: Callable[[float, float, str, int], Figures]
    values: tuple[float, ...]
    unit: str
    deadlines: tuple[float, ...] = (1.0, 5.0, 60.0)
    clients: tuple[str, ...] = CLIENTS
    least: dict[str, float] = field(factory=dict)
    most: dict[str, float] = field(factory=dict)
    judged: Callable[[float], bool] = lambda _: True

    def misses(self, value: float, figures: Figures) -> bool:
        """Return True if a figure misses its goal."""
        if not self.judged(value):
            return False
        low = any(figures[name] < goal for name, goal in self.least.items())
        return low or any(figures[name] > goal for name, goal in self.most.items())


FAMILIES = {
    "load": Family(
        measure=load,
        values=(0.8, 1.2, 1.5, 3.0),
        unit="times the rate",
        least={"served": 0.9},
        most={"for nobody": 0.02},
        judged=lambda times: times > 1,
    ),
    "closure": Family(
        measure=closure,
        values=(1.0, 10.0, 60.0),
        unit="s shut",
        clients=("fixed", "adaptive"),
        least={"served": 1.0},
        most={"for nobody": 0.02},
    ),
    "silence": Family(
        measure=silence,
        values=(0.0,),
        unit="answers",
        deadlines=(0.3, 1.0, 5.0, 60.0),
        clients=("fixed", "adaptive"),
        least={"told at once": 0.95},
    ),
    "expiry": Family(
        measure=expiry,
        values=(1_000.0, 10_000.0, 30_000.0),
        unit="waiting",
        deadlines=(0.0,),
        clients=("ours",),
        most={"÷ asyncio.timeout": 1.2},
    ),
}

Job = tuple[str, float, float, str]


def measure(job: Job, seeds: int) -> Figures:
    """Return the mean of each figure over the seeds."""
    family, value, deadline, client = job
    found = [FAMILIES[family].measure(value, deadline, client, seed) for seed in range(seeds)]
    return {name: statistics.fmean(one[name] for one in found) for name in found[0]}


def _row(job: Job, figures: Figures) -> str:
    family, value, deadline, client = job
    missed = client not in {"aiolimiter"} and FAMILIES[family].misses(value, figures)
    shown = "  ".join(f"{name} {figure:.3f}" for name, figure in figures.items())
    what = f"{family}: {value:g} {FAMILIES[family].unit}"
    return f"{what:28}{f'deadline {deadline:g} s':15}{client:12}{shown}{'  MISSED' if missed else ''}"


def main(arguments: Sequence[str]) -> int:
    """Measure, and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--families", default="", metavar="REGEX", help=f"of {', '.join(FAMILIES)}")
    parser.add_argument("--only", nargs="+", choices=CLIENTS, default=list(CLIENTS), help="clients")
    parser.add_argument("--seeds", type=int, metavar="N", help="runs of each kind (5; with --short 1)")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="2 unless given")
    parser.add_argument("--short", action="store_true", help="no deadlines of 60 s; half a minute")
    parser.add_argument("--check", action="store_true", help="exit 1 when a goal is missed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the means there")
    options = parser.parse_args(arguments)
    jobs: list[Job] = [
        (name, value, deadline, client)
        for name, family in FAMILIES.items()
        if re.search(options.families, name)
        for value, deadline, client in product(family.values, family.deadlines, family.clients)
        if client in {*options.only, "ours"} and not (options.short and deadline == 60.0)
    ]
    seeds = options.seeds or (1 if options.short else 5)
    missed, saved = 0, []
    with ProcessPoolExecutor(options.processes) as pool:
        for job, figures in zip(jobs, pool.map(partial(measure, seeds=seeds), jobs), strict=True):
            row = _row(job, figures)
            missed += row.endswith("MISSED")
            saved.append({"row": job, **figures})
            print(row, flush=True)
    print(f"\n{seeds} seeds; {missed} of {len(jobs)} rows miss a goal")
    if options.json:
        options.json.write_text(json.dumps(saved, indent=1) + "\n")
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
