"""Micro-benchmarks: the cost of each part of an end alone, in microseconds of processor time.

    python benchmarks/micro.py [--repeat 5] [--short] [--json FILE] [--check] [--profile]

The minimum of the turns counts, because other work of the machine only adds time. The journal's line is in
wall time, because it waits for the disk. ``--profile`` shows instead where the time of a whole end goes, with
a stub in place of aiohttp.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import pstats
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Self, cast

from attrs import frozen
from multidict import CIMultiDict, CIMultiDictProxy

from bandwidth_async import BasicCredentials, RateLimit, VoiceClient
from bandwidth_async.journal import Journal
from bandwidth_async.limiter import Limiter
from bandwidth_async.outcome import Outcome, OutcomeKind, Report
from bandwidth_async.retry import Attempts, RetryPolicy, persist
from bandwidth_async.run import Target

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import aiohttp

    Part = Callable[[int], Awaitable[float]]

_WAITING = 10_000
# Admissions a second. A processor can do more, so the 10,000 tasks have to wait.
_RATE = 20_000.0
_WORKERS = 200
_ADMISSION_GOAL = 15.0  # µs


@frozen(kw_only=True)
class Line:
    """A part of an end, its count in a turn, and its maximum cost."""

    name: str
    part: Part
    count: int
    goal: float | None = None


async def _timed(count: int, work: Awaitable[Any]) -> float:
    """Return the microseconds of processor time for each of ``count`` repetitions in ``work``."""
    started = time.process_time()
    await work
    return (time.process_time() - started) / count * 1e6


def admissions(limit: RateLimit) -> Part:
    """Return a part that sends ``count`` requests through a limiter while 10,000 tasks wait there."""

    async def part(count: int) -> float:
        limiter = Limiter(limit)
        left = iter(range(count))

        async def pass_through() -> None:
            for _ in left:
                with await limiter.admit(bulk=True) as admission:
                    admission.sending()
                    admission.accepted()

        async with asyncio.TaskGroup() as group:
            for _ in range(_WAITING):
                group.create_task(pass_through())
            # After this turn all tasks wait, or have been admitted once.
            await asyncio.sleep(0)
            started = time.process_time()
        return (time.process_time() - started) / count * 1e6

    return part


async def succeeding(count: int) -> float:
    """Send ``count`` attempts that succeed through the retry layer."""
    policy, random = RetryPolicy(), Random(0)

    async def attempt() -> None:
        pass

    async def all_of_them() -> None:
        for _ in range(count):
            await persist(attempt, Attempts(), policy, random, idempotent=True)

    return await _timed(count, all_of_them())


async def outcomes(count: int) -> float:
    """Create ``count`` outcomes, and count them in a report."""
    report = Report()

    async def all_of_them() -> None:
        for _ in range(count):
            report.add(Outcome("conf-1", OutcomeKind.ENDED, 1, None, 0.05))

    return await _timed(count, all_of_them())


async def journaled(count: int) -> float:
    """Claim and settle ``count`` ids with 200 workers. Return the microseconds of wall time for each row."""
    outcome = Outcome("conf-1", OutcomeKind.ENDED, 1)
    with tempfile.TemporaryDirectory(prefix="micro-") as folder:
        async with Journal.create(Path(folder, "journal"), account_id="9900000", created=0.0) as journal:
            await journal.record(f"conf-{number}" for number in range(count))
            targets = journal.unsettled()

            async def work() -> None:
                for target in targets:
                    await journal.claim(target)
                    await journal.settle(target, outcome)

            started = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for _ in range(_WORKERS):
                    group.create_task(work())
            return (time.perf_counter() - started) / (2 * count) * 1e6


class _Stub:
    """The parts of an `aiohttp.ClientSession` that an end uses. It answers 204 in the loop's next turn."""

    closed = False
    auth = None
    connector = None
    status = 204
    headers = CIMultiDictProxy(CIMultiDict[str]())
    _middlewares = ()

    def request(self, *_: object, **__: object) -> Self:
        return self

    def __await__(self) -> Any:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def release(self) -> None:
        pass


async def _end_all(count: int) -> None:
    client = VoiceClient(
        account_id="9900000",
        credentials=BasicCredentials("user", "password"),
        voice_url="http://127.0.0.1",
        rate_limit=RateLimit.adaptive(start=1e6),  # too high to slow the run
        session=cast("aiohttp.ClientSession", _Stub()),
    )
    async with client:
        report = await client.end_conferences(f"conf-{number}" for number in range(count))
    if report.counts != {OutcomeKind.ENDED: count}:
        raise AssertionError(report)


async def ends(count: int) -> float:
    """End ``count`` conferences in a run, with a stub in place of aiohttp."""
    return await _timed(count, _end_all(count))


async def targets(count: int) -> float:
    """Create ``count`` targets."""

    async def all_of_them() -> None:
        for _ in range(count):
            Target.of("conf-1")

    return await _timed(count, all_of_them())


LINES = (
    Line(
        name="admission, 10,000 waiting, adaptive",
        part=admissions(RateLimit.adaptive(start=_RATE, ceiling=_RATE)),
        count=40_000,
        goal=_ADMISSION_GOAL,
    ),
    Line(
        name="admission, 10,000 waiting, fixed",
        part=admissions(RateLimit.fixed(_RATE)),
        count=40_000,
        goal=_ADMISSION_GOAL,
    ),
    Line(name="retry layer, a success", part=succeeding, count=50_000),
    Line(name="target", part=targets, count=50_000),
    Line(name="outcome, made and counted", part=outcomes, count=50_000),
    Line(name="whole end in a run, stub for aiohttp", part=ends, count=10_000),
    Line(name="journal row, 200 workers (by the clock)", part=journaled, count=5_000),
)


def measure(line: Line, repeat: int, *, short: bool) -> float:
    """Return the minimum of the turns."""
    count = line.count // 20 if short else line.count

    async def turn() -> float:
        return await line.part(count)

    return min(asyncio.run(turn()) for _ in range(repeat))


def profile(count: int) -> None:
    """Print where the time of an end goes."""
    asyncio.run(_end_all(100))
    profiler = cProfile.Profile()
    profiler.enable()
    asyncio.run(_end_all(count))
    profiler.disable()
    pstats.Stats(profiler).strip_dirs().sort_stats("tottime").print_stats(30)


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="turns (5)")
    parser.add_argument("--short", action="store_true", help="a twentieth of the work, where fewer wait")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the figures there")
    parser.add_argument("--check", action="store_true", help="exit 1 when a goal is missed")
    parser.add_argument("--profile", action="store_true", help="show where the time of an end goes")
    options = parser.parse_args(arguments)
    if options.profile:
        profile(500 if options.short else 10_000)
        return 0
    found = {line.name: measure(line, options.repeat, short=options.short) for line in LINES}
    missed = False
    for line in LINES:
        micros = found[line.name]
        too_much = line.goal is not None and micros > line.goal
        missed |= too_much
        rate = f"  {1e6 / micros:,.0f} durable rows/s" if line.part is journaled else ""
        goal = f"  goal <= {line.goal:g}{' MISSED' if too_much else ''}" if line.goal is not None else ""
        print(f"{line.name:<41} {micros:>7.2f} µs{rate}{goal}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
