"""Goodput at servers with unknown quotas: the real client in virtual time, compared with alternatives.

    python benchmarks/goodput.py [--rows REGEX] [--only ours] [--seeds 5] [--short] [--families REGEX]

A cell has the completion time ÷ ideal time, the 429s per success, and the 99th percentile of the seconds from
a conference's first attempt to its end. If conferences were lost, it also has their number. All numbers are
means over the seeds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import re
import statistics
import sys
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from attrs import asdict, frozen
from goodput_botocore import botocore
from goodput_clock import run_virtually
from goodput_families import FAMILIES
from goodput_limiters import LIMITERS
from goodput_rows import CONCURRENCY, ROWS, SHORT, Goals, Row
from goodput_servers import Books, Server
from goodput_strategies import (
    Scene,
    aiolimiter,
    aiolimiter_retry,
    fixed,
    oracle,
    ours,
    semaphore,
    tenacity,
    without_warnings,
)
from goodput_unseen import UNSEEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from goodput_strategies import Strategy

STRATEGIES: dict[str, Strategy] = {
    "ours": ours,
    "oracle": oracle,
    "fixed": fixed,
    "tenacity": tenacity,
    "semaphore": semaphore,
    "botocore": botocore,
    "aiolimiter": aiolimiter,
    "aiolimiter+retry": aiolimiter_retry,
}

ALL = ROWS | {row.name: row for row in FAMILIES + LIMITERS + UNSEEN}

# Recovery is over when this share of the quota was let in during this many seconds.
_RECOVERED, _RECOVERY_SECONDS = 0.9, 2.0
_LONGEST_RECOVERY = 15.0

# A run lasts this many times the ideal at most, and in the families fewer. Conferences that have not ended by
# then are lost.
_PATIENCE, _PATIENCE_IN_FAMILIES, _PATIENCE_SECONDS = 30, 6, 300


@frozen(kw_only=True)
class Job:
    """One run to make."""

    row: str
    strategy: str
    seed: int


@frozen(kw_only=True)
class Result:
    """The result of one run, or the means of several."""

    completion: float  # ÷ ideal
    refusals: float  # 429s per success
    p99: float  # seconds from first attempt to end
    lost: float
    real: float  # seconds it took to simulate
    recovery: float = 0.0  # seconds from the end of a closure to 90 % of the quota
    fairness: float = 1.0  # Jain's index of what each process had ended when the first was ready

    def __str__(self) -> str:
        lost = f" / {self.lost:.0f} lost" if self.lost else ""
        recovery = f" / back in {self.recovery:.1f} s" if self.recovery else ""
        fairness = f" / fair {self.fairness:.2f}" if self.fairness < 1 else ""
        return f"{self.completion:.2f} / {self.refusals:.1%} / {self.p99:.2f}{lost}{recovery}{fairness}"

    def meets(self, row: Goals, oracle: Result | None = None) -> bool:
        """Return True if the result meets the goals of the row, which may be relative to the oracle's."""
        longest = row.completion * (oracle.completion if oracle and row.beside_oracle else 1.0)
        done = not self.lost and self.p99 <= row.p99 and self.recovery <= _LONGEST_RECOVERY
        return done and self.completion <= longest and self.refusals <= row.refusals


AResult = TypeVar("AResult", bound=Result)


def measure(job: Job) -> Result:
    """Make one run."""
    started = time.perf_counter()
    row = ALL[job.row]
    quota = row.quota(random.Random(f"{row.name} {job.seed}"))
    server = Server(quota, row.hint, row.latency, random.Random(job.seed), row.status)
    random.seed(job.seed)  # for tenacity
    scene = Scene(
        session=server.session,
        base="http://127.0.0.1",
        count=row.count,
        told=row.count / row.ideal,
        concurrency=CONCURRENCY,
        random=random.Random(job.seed),
        quota_at=row.quota_at,
        clients=row.clients,
        within_second=row.within_second,
    )
    patience = _PATIENCE if row.name in ROWS else max(_PATIENCE_IN_FAMILIES, _PATIENCE_SECONDS / row.ideal)
    main = _timed(STRATEGIES[job.strategy], scene, patience * row.ideal)
    elapsed = run_virtually(main, row.late)
    ended = sorted(server.books.elapsed)
    return Result(
        completion=elapsed / row.ideal,
        refusals=len(server.books.refused) / max(1, len(ended)),
        p99=ended[len(ended) * 99 // 100] if ended else 0.0,
        lost=row.count - len(ended),
        real=time.perf_counter() - started,
        recovery=_recovery(row, server.books),
        fairness=_fairness(row, server.books),
    )


def _recovery(row: Row, books: Books) -> float:
    """Return the seconds from the end of the closure until the ends come at 90 % of the quota."""
    ended = [at for at in books.ended if at >= row.opens_at]
    need = math.ceil(_RECOVERED * _RECOVERY_SECONDS * row.quota_at(row.opens_at)) if ended else 0
    for first, last in zip(ended, ended[need:], strict=False):
        if last - first <= _RECOVERY_SECONDS:
            return first - row.opens_at
    return ended[-1] - row.opens_at if ended else 0.0


def _fairness(row: Row, books: Books) -> float:
    """Return Jain's index of the ends of each process, when the first had ended all of its ids."""
    counts, share = [0] * row.clients, math.ceil(row.count / row.clients)
    for number in books.order:
        counts[number % row.clients] += 1
        if max(counts) >= share:
            break
    return sum(counts) ** 2 / (row.clients * sum(count**2 for count in counts)) if sum(counts) else 1.0


async def _timed(strategy: Strategy, scene: Scene, longest: float) -> float:
    with suppress(TimeoutError):
        async with asyncio.timeout(longest):
            await strategy(scene)
    return asyncio.get_running_loop().time()


def middle(results: Sequence[AResult], of: Callable[[Iterable[float]], float] = statistics.fmean) -> AResult:
    """Return the mean of each number, or another middle."""
    rows = [asdict(result) for result in results]
    return type(results[0])(**{name: of(row[name] for row in rows) for name in rows[0]})


def measure_all(jobs: Sequence[Job], processes: int) -> dict[tuple[str, str], Result]:
    """Make all runs, the longest first, and return the mean for each row and strategy."""
    jobs = sorted(jobs, key=lambda job: -ALL[job.row].count)
    found = defaultdict(list)
    with ProcessPoolExecutor(processes) as pool:
        for done, (job, result) in enumerate(zip(jobs, pool.map(measure, jobs), strict=True), start=1):
            found[job.row, job.strategy].append(result)
            if sys.stderr.isatty():
                print(f"\r{done} of {len(jobs)} runs", end="\r", file=sys.stderr)
    return {key: middle(results) for key, results in found.items()}


def table(rows: Iterable[Goals], strategies: Sequence[str], means: Mapping[tuple[str, str], Result]) -> str:
    """Return the table, with a mark where ``ours`` misses a goal."""
    lines = [["server", "goal", *strategies]]
    for row in rows:
        cells = []
        for strategy in strategies:
            result = means[row.name, strategy]
            missed = strategy == "ours" and not result.meets(row, means.get((row.name, "oracle")))
            cells.append(f"{result}{' MISSED' if missed else ''}")
        lines.append([row.name, f"{row.completion:.2f} / {row.refusals:.1%}", *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--rows", default="", metavar="REGEX", help="rows whose name it is found in")
    parser.add_argument(
        "--families", metavar="REGEX", help="also the rows of these families; 'all' for every one"
    )
    parser.add_argument("--only", nargs="+", choices=STRATEGIES, default=list(STRATEGIES), help="strategies")
    parser.add_argument("--seeds", type=int, metavar="N", help="runs of each kind (5; with --short 2)")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="2 unless given")
    parser.add_argument("--short", action="store_true", help="few rows; less than a minute")
    parser.add_argument("--check", action="store_true", help="exit 1 when ours misses a goal")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the means there")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Measure, and print the table and the missed goals."""
    options = parse(arguments)
    names = SHORT if options.short else tuple(ALL if options.families else ROWS)
    rows = [ALL[name] for name in names if re.search(options.rows, name)]
    if options.families and options.families != "all":
        rows = [row for row in rows if re.search(options.families, row.family)]
    if not rows:
        print(f"no row matches {options.rows!r}; there are: {', '.join(names)}", file=sys.stderr)
        return 2
    seeds = range(options.seeds or (2 if options.short else 5))
    jobs = [
        Job(row=row.name, strategy=each, seed=seed) for row in rows for each in options.only for seed in seeds
    ]
    started = time.perf_counter()
    means = measure_all(jobs, options.processes)
    elapsed = time.perf_counter() - started
    print(table(rows, options.only, means))
    missed = [
        row.name
        for row in rows
        if "ours" in options.only and not means[row.name, "ours"].meets(row, means.get((row.name, "oracle")))
    ]
    print(f"\n{len(seeds)} seeds, {elapsed:.0f} s")
    if missed:
        print(f"ours misses {len(missed)} of {len(rows)}: {', '.join(missed)}")
    if options.json:
        saved = [{"row": row, "strategy": each, **asdict(result)} for (row, each), result in means.items()]
        options.json.write_text(json.dumps(saved, indent=1) + "\n")
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    without_warnings()
    sys.exit(main(sys.argv[1:]))
