"""Several processes that share a limit: time, refusals, fairness, calls of the store, and processor time.

The processes and the store are simulated in virtual time (`shared_world`): a call of the store takes 1 to
6 ms. With ``--store`` they share over a real one in real time, and only the server is simulated. With
``--commands`` the command line itself runs, against a sandbox: as processes of this machine, or over a store
that is given.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from itertools import product
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from attrs import frozen
from goodput_clock import run_virtually
from shared_world import MemoryStore, Process, Server, within, worst_second

from bandwidth_async.limiter import Limiter, RateLimit
from bandwidth_async.pytest_plugin import serving
from bandwidth_async.sandbox.quota import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Sequence

_RATE, _BURST = 150, 20
_TASKS = 100  # of each process


@frozen(kw_only=True)
class Figures:
    """What a run took, as shares of its requests, and Jain's index of what each process had done."""

    completion: float  # ÷ ideal
    refusals: float
    calls: float
    fairness: float

    def __str__(self) -> str:
        calls = f"{self.calls:.2f} calls each, " if self.calls else ""
        refused = f"{self.refusals:.2%} refused"
        return f"{self.completion:.3f} of the ideal, {refused}, {calls}Jain {self.fairness:.3f}"


def jain(counts: Sequence[int]) -> float:
    """Return Jain's index of fairness: 1 when all have the same."""
    return sum(counts) ** 2 / (len(counts) * sum(count * count for count in counts))


async def unknown_quota(
    count: int, seconds: int, seed: int, *, whole_seconds: bool, share: str | None = None
) -> Figures:
    """Run so many processes on a quota that they find out together."""
    began = asyncio.get_running_loop().time()
    store = MemoryStore(Random(seed))
    bucket = TokenBucket(rate=_RATE, burst=_BURST)
    server = Server(bucket, whole_seconds=whole_seconds, seed=seed)
    processes = [Process(store, server, seed=seed * 100 + one, share=share) for one in range(count)]
    total = _RATE * seconds
    tasks = [task for one in processes for task in one.work(_TASKS, count=total / count)]
    await asyncio.gather(*tasks)
    took = asyncio.get_running_loop().time() - began
    first = min(one.let_in[-1] for one in processes)
    figures = Figures(
        completion=took / seconds,
        refusals=len(server.refused) / total,
        calls=store.calls / total,
        fairness=jain([within(one.let_in, 0, first) for one in processes]),
    )
    for process in processes:
        await process.leave()
    return figures


async def known_rate() -> str:
    """Run 4 processes with 200, 5, 5 and 5 tasks at a known 100/s for 30 s."""
    store, server = MemoryStore(Random(1)), Server()
    processes = [Process(store, server, RateLimit.fixed(100), seed) for seed in range(4)]
    await asyncio.sleep(3)
    began, called = asyncio.get_running_loop().time(), store.calls
    for process, tasks in zip(processes, (200, 5, 5, 5), strict=True):
        process.work(tasks)
    await asyncio.sleep(30)
    counts = [within(one.sent, began, began + 30) for one in processes]
    sent = [time for one in processes for time in one.sent]
    shares = " ".join(f"{count / 750:.3f}" for count in counts)
    line = (
        f"{sum(counts) / 3000:.4f} of 3,000, worst second {worst_second(sent)}, shares {shares}, "
        f"{(store.calls - called) / sum(counts):.2f} calls each"
    )
    for process in processes:
        await process.leave()
    return line


async def single_calls() -> str:
    """Make single calls in one process while another runs at 50/s."""
    store = MemoryStore(Random(1))
    calls, run = (Process(store, Server(), RateLimit.fixed(50), seed) for seed in range(2))
    run.work(100)
    random, loop, waits = Random(3), asyncio.get_running_loop(), []
    await asyncio.sleep(3)
    for _ in range(200):
        await asyncio.sleep(random.uniform(0.2, 0.8))
        asked = loop.time()
        await calls.request(bulk=False)
        waits.append((calls.sent[-1] - asked) * 50)
    waits.sort()
    for process in (calls, run):
        await process.leave()
    return (
        f"median {waits[100]:.2f}, 95th percentile {waits[190]:.2f}, longest {waits[-1]:.2f} send intervals"
    )


def processor_time(kind: str, requests: int = 20_000) -> float:
    """Return the microseconds that an admission takes, with its result."""

    async def run() -> float:
        limit = RateLimit.fixed(100_000)
        store = MemoryStore(Random(1))
        others = [Process(store, Server(), limit, 2)] if kind == "with a neighbour" else []
        process = Process(store, Server(), limit, 1)
        limiter = Limiter(limit) if kind == "not shared" else process.limiter
        await asyncio.sleep(3)
        began = time.process_time()

        async def work() -> None:
            for _ in range(requests // 50):
                with await limiter.admit(bulk=True) as admission:
                    admission.sending()
                    await asyncio.sleep(0)
                    admission.accepted()

        await asyncio.gather(*(work() for _ in range(50)))
        took = time.process_time() - began
        for one in (process, *others):
            await one.leave()
        return took / requests * 1e6

    return run_virtually(run())


def commands(count: int, ids: int, share: list[str], hint: str) -> tuple[float, Figures]:
    """Run so many command lines beside each other, with so many ids in all. Returns the seconds and figures.

    The seconds are those from the first end to the last: on a busy machine a program takes seconds to start.
    Fairness is that of the time in which all of them end something. The calls of the store are not counted.
    """
    quota = f"token-bucket:rate={_RATE},burst={_BURST}"
    settings = {"conferences": ids, "quota": quota, "hint": hint, "latency": "20-200ms"}
    with tempfile.TemporaryDirectory() as folder, serving(**settings) as served:
        sandbox = served.sandbox
        environment = {**os.environ, **sandbox.environ, "XDG_STATE_HOME": folder}
        parts = [sandbox.conference_ids[number::count] for number in range(count)]
        runs = []
        for number, part in enumerate(parts):
            file = Path(folder, f"{number}.txt")
            file.write_text("\n".join(part))
            command = [sys.executable, "-m", "bandwidth_async", "end", "--from", str(file), "--yes"]
            options = ["--no-journal", "--format", "jsonl", "--output", f"{file}.jsonl", *share]
            runs.append(
                subprocess.Popen([*command, *options], env=environment, stderr=subprocess.DEVNULL)  # noqa: S603  # our own words
            )
        codes = [run.wait() for run in runs]
        truth = sandbox.truth()
    if any(codes):
        sys.exit(f"the commands exited {codes}")
    known = truth["conferences"]
    times = [sorted(datetime.fromisoformat(str(known[id_]["ended_at"])) for id_ in part) for part in parts]
    first, last = max(one[0] for one in times), min(one[-1] for one in times)
    took = (max(one[-1] for one in times) - min(one[0] for one in times)).total_seconds()
    return took, Figures(
        completion=took * _RATE / ids,
        refusals=truth["requests"]["end"].get("429", 0) / ids,
        calls=0.0,
        fairness=jain([sum(first <= end <= last for end in one) for one in times]),
    )


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commands", action="store_true", help="run the command line, in real time")
    parser.add_argument("--store", metavar="URL", help="share over this Redis, or local:/directory")
    parser.add_argument("--seconds", type=int, default=60, help="how long the quota lasts for each run")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each kind")
    parser.add_argument("--ids", type=int, default=9000, help="with --commands, ids of all of them")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4, 8], metavar="N")
    told = parser.parse_args(arguments)
    if told.commands:
        share = ["--share", told.store] if told.store else []
        for hint in ("none", "retry-after"):
            for count in told.processes:
                took, figures = commands(count, told.ids, share, hint)
                print(f"hint {hint}, {count} commands, {told.ids:,} ids: {took:.1f} s, {figures}", flush=True)
        return
    if not told.store:
        print("known 100/s, tasks 200 5 5 5:", run_virtually(known_rate()), flush=True)
        print("a single call beside a run at 50/s:", run_virtually(single_calls()), flush=True)
    run = asyncio.run if told.store else run_virtually
    for whole, count, seed in product((False, True), told.processes, range(1, told.seeds + 1)):
        figures = run(unknown_quota(count, told.seconds, seed, whole_seconds=whole, share=told.store))
        hint = "whole seconds" if whole else "no hint"
        print(f"unknown {_RATE}/s, {hint}, {count} processes: {figures}", flush=True)
    if told.store:
        return
    for kind in ("not shared", "without neighbours", "with a neighbour"):
        print(f"an admission, {kind}: {processor_time(kind):.1f} µs of processor time", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
