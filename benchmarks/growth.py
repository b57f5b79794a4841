"""Growth: time and memory of a run from 1,000 to 1,000,000 ids.

    python benchmarks/growth.py [--most 1000000] [--json FILE] [--check]

Each row is the real run in a new process, with ids from a generator. There are three kinds: ``stub`` has a
stub instead of the sender, ``kept`` also keeps every outcome in a list, and ``sent`` is the whole client over
real sockets to an nginx. ``sent`` needs nginx, and has 100,000 ids at most. Memory is the growth of the peak
after a first run over 1,000 ids.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import asdict, frozen
from hot_path_server import cores, pin, serving, why_not

from bandwidth_async import BasicCredentials, RateLimit, VoiceClient
from bandwidth_async.outcome import Outcome, OutcomeKind
from bandwidth_async.run import Stop, Target, run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    Keep = Callable[[Outcome], None]
    Runner = Callable[[int, Keep], Awaitable[None]]

COUNTS = (1_000, 10_000, 100_000, 1_000_000)
_MOST_SENT = 100_000
_FLAT, _EACH = 10.0, 300.0  # MB of growth, and bytes for each outcome that is kept
_CONCURRENCY = 100


@frozen(kw_only=True)
class Row:
    """One run in a process of its own."""

    kind: str
    count: int
    wall: float  # seconds
    cpu: float
    grown: float  # MB

    @property
    def each(self) -> float:
        """Bytes for each id."""
        return self.grown * 1024 * 1024 / self.count

    @property
    def is_fine(self) -> bool:
        """Return True if the growth is within its limit."""
        if self.kind == "kept":
            return self.count < COUNTS[-1] or self.each <= _EACH
        return self.grown <= _FLAT


def ids(count: int) -> Iterator[str]:
    """Return a generator of ids that are as long as Bandwidth's."""
    return (f"conf-fe23a767-a75a5b77-20c5-4cca-b581-{number:012x}" for number in range(count))


def stubbed() -> Runner:
    """Return a run whose sender is a stub."""

    async def end(target: Target, _: Stop) -> Outcome:
        await asyncio.sleep(0)
        return Outcome(target.conference_id, OutcomeKind.ENDED, 1)

    async def go(count: int, keep: Keep) -> None:
        report = await run(ids(count), end, keep, concurrency=_CONCURRENCY, stop=Stop())
        if report.counts != {OutcomeKind.ENDED: count}:
            sys.exit(f"not every id got its outcome: {report}")

    return go


def sent(base: str) -> Runner:
    """Return a run of the whole client against a server."""

    async def go(count: int, keep: Keep) -> None:
        client = VoiceClient(
            account_id="9900000",
            credentials=BasicCredentials("user", "password"),
            voice_url=base,
            rate_limit=RateLimit.adaptive(start=1e6),  # too high to slow the run
        )
        async with client:
            report = await client.end_conferences(ids(count), concurrency=_CONCURRENCY, on_outcome=keep)
        if report.counts != {OutcomeKind.ENDED: count}:
            sys.exit(f"not every id was ended: {report}")

    return go


def peak() -> float:
    """Return this process's peak memory in MB."""
    unit = 1024 if sys.platform == "linux" else 1024 * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def measure(kind: str, count: int, base: str) -> Row:
    """Make one run in this process."""
    runner = sent(base) if kind == "sent" else stubbed()
    kept: list[Outcome] = []
    keep = kept.append if kind == "kept" else lambda _: None
    asyncio.run(_awaited(runner(COUNTS[0], keep)))
    kept.clear()
    before, wall, cpu = peak(), time.perf_counter(), time.process_time()
    asyncio.run(_awaited(runner(count, keep)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Row(kind=kind, count=count, wall=wall, cpu=cpu, grown=peak() - before)


async def _awaited(running: Awaitable[None]) -> None:
    await running


def in_a_process(kind: str, count: int, base: str, core: int | None) -> Row:
    """Make one run in a new process."""
    plan = json.dumps({"kind": kind, "count": count, "base": base, "core": core})
    command = [sys.executable, __file__, "--row", plan]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # our own words
    if done.returncode:
        sys.exit(f"{kind}, {count}:\n{done.stderr}")
    return Row(**json.loads(done.stdout))


def measure_all(most: int) -> list[Row]:
    """Make all runs."""
    server_core, core = cores()
    counts = [count for count in COUNTS if count <= most]
    rows = [in_a_process(kind, count, "", core) for kind in ("stub", "kept") for count in counts]
    if (reason := why_not()) is not None:
        print(f"not over sockets: {reason}", file=sys.stderr)
        return rows
    with serving(server_core) as base:
        sent_counts = [count for count in counts if count <= _MOST_SENT]
        return [*rows, *(in_a_process("sent", count, base, core) for count in sent_counts)]


def table(rows: Sequence[Row]) -> str:
    """Return the table."""
    lines = [
        f"{'run':<6} {'ids':>9} {'wall s':>8} {'CPU µs/id':>10} {'growth MB':>10} {'bytes/id':>9}",
        *(
            f"{row.kind:<6} {row.count:>9,} {row.wall:>8.2f} {row.cpu / row.count * 1e6:>10.1f} "
            f"{row.grown:>10.1f} {row.each:>9.0f}{'' if row.is_fine else '  MISSED'}"
            for row in rows
        ),
        f"goals: growth <= {_FLAT:g} MB; kept: <= {_EACH:g} bytes/id at {COUNTS[-1]:,}",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--most", type=int, default=COUNTS[-1], metavar="N", help="ids of the largest run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the rows there")
    parser.add_argument("--check", action="store_true", help="exit 1 when memory grows too much")
    parser.add_argument("--row", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.row:
        plan: dict[str, Any] = options.row
        pin(0, plan["core"])
        print(json.dumps(asdict(measure(plan["kind"], plan["count"], plan["base"]))))
        return 0
    rows = measure_all(options.most)
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return 1 if options.check and not all(row.is_fine for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
