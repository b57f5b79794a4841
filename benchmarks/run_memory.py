"""Peak memory of a run over 1,000,000 ids from a generator, with a stub in place of the sender.

The run must not remember ids: its memory is its workers, whatever the number of ids. Prints one line and
exits 1 when the peak grew by more than 10 MB.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time

from bandwidth_async.teardown import Outcome, OutcomeKind, Stop, Target, run

IDS = 1_000_000
ALLOWED = 10.0  # MB


async def ended(target: Target, _: Stop) -> Outcome:
    """Stand in for the sender."""
    await asyncio.sleep(0)
    return Outcome(target.conference_id, OutcomeKind.ENDED, 1)


async def forget(_: Target, __: Outcome) -> None:
    """Keep no outcome."""


async def end_all(count: int) -> None:
    """Run ``count`` ids through."""
    report = await run(
        (f"conf-{number}" for number in range(count)), ended, forget, concurrency=100, stop=Stop()
    )
    if report.counts != {OutcomeKind.ENDED: count}:
        sys.exit(f"not every id got its outcome: {report}")


def peak() -> float:
    """Return this process's peak memory in MB."""
    unit = 1024 if sys.platform == "linux" else 1024 * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main() -> None:
    """Measure, print, judge."""
    asyncio.run(end_all(1000))
    before, started = peak(), time.monotonic()
    asyncio.run(end_all(IDS))
    elapsed, grown = time.monotonic() - started, peak() - before
    print(f"{IDS:,} ids in {elapsed:.1f} s; peak {peak():.1f} MB, {grown:+.1f} MB for the run")
    sys.exit(grown > ALLOWED)


if __name__ == "__main__":
    main()
