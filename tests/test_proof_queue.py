"""Runs on Celery with a real Redis, whose parts are killed. ``make proofs`` runs these tests in full.

Each part is a process of its own. The tests compare the journal with the sandbox's records.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from bandwidth_async.journal import read_outcomes
from bandwidth_async.sandbox import Sandbox
from tests.queue_processes import Machines, machines, network

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.timeout(1200)


async def nothing(at: Machines, run: asyncio.subprocess.Process) -> asyncio.subprocess.Process:
    """Let the run go on."""
    return run


async def one_worker_is_killed(at: Machines, run: asyncio.subprocess.Process) -> asyncio.subprocess.Process:
    """Kill a worker at 30 %, and start none in its place."""
    await at.until(run, 0.3)
    await at.kill(at.workers[0])
    return run


async def two_workers_are_killed(at: Machines, run: asyncio.subprocess.Process) -> asyncio.subprocess.Process:
    """Kill a worker at 30 %, and another one at 50 %."""
    await at.until(run, 0.3)
    await at.kill(at.workers[0])
    await at.until(run, 0.5)
    await at.kill(at.workers[1])
    return run


async def the_coordinator_is_killed(
    at: Machines, run: asyncio.subprocess.Process
) -> asyncio.subprocess.Process:
    """Kill the coordinator at 60 %, and resume the run from its journal."""
    await at.until(run, 0.6)
    run.kill()
    await run.communicate()
    return await at.start_coordinator()


async def redis_is_restarted(at: Machines, run: asyncio.subprocess.Process) -> asyncio.subprocess.Process:
    """Restart Redis at 40 %. It has forgotten everything then."""
    await at.until(run, 0.4)
    await at.redis.stop()
    await at.redis.start()
    return run


async def redis_is_gone_for_20_s(at: Machines, run: asyncio.subprocess.Process) -> asyncio.subprocess.Process:
    """Take Redis away at 40 %, empty, for 20 seconds."""
    await at.until(run, 0.4)
    await at.redis.stop()
    await asyncio.sleep(20)
    await at.redis.start()
    return run


async def a_worker_is_cut_off(at: Machines, run: asyncio.subprocess.Process) -> asyncio.subprocess.Process:
    """Cut the wire of a worker to Redis from 30 % on until 70 %. It can reach Bandwidth all the time."""
    assert at.network is not None
    await at.until(run, 0.3)
    await at.network.cut()
    await at.until(run, 0.7)
    await at.network.cut("up")
    return run


async def one_part_after_the_other(
    at: Machines, run: asyncio.subprocess.Process
) -> asyncio.subprocess.Process:
    """Kill a worker at 20 %, empty Redis at 45 %, and kill the coordinator at 70 %."""
    await at.until(run, 0.2)
    await at.kill(at.workers[0])
    await at.until(run, 0.45)
    await at.redis.stop()
    await at.redis.start()
    await at.until(run, 0.7)
    run.kill()
    await run.communicate()
    return await at.start_coordinator()


TROUBLES = (
    one_part_after_the_other,
    nothing,
    one_worker_is_killed,
    two_workers_are_killed,
    the_coordinator_is_killed,
    redis_is_restarted,
    redis_is_gone_for_20_s,
    a_worker_is_cut_off,
)


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda one: one.__name__)
async def test_each_id_is_settled_once_whatever_is_killed(
    trouble: Any, tmp_path: Path, full: bool, show: Callable[[str], None]
) -> None:
    """After any trouble each id has one outcome, the sandbox confirms it, and nothing is left active.

    In the long form 104 ids are sent twice because of the faults alone. A trouble adds at most a chunk for
    each worker that is lost.
    """
    if not full and trouble is not one_part_after_the_other:
        pytest.skip("in the long form only: make proof-queue")
    count, lease, rate = (20_000, 15.0, 150.0) if full else (600, 5.0, 50.0)
    async with (
        network(wanted=trouble is a_worker_is_cut_off) as elsewhere,
        Sandbox(
            host=elsewhere.bandwidth_host if elsewhere else "127.0.0.1",
            conferences=count,
            faults="503=1%,reset=1%",
            latency="5-40ms",
            seed=5,
        ) as sandbox,
        machines(sandbox, tmp_path, workers=3, lease=lease, rate=rate, elsewhere=elsewhere) as at,
    ):
        began = time.monotonic()
        run = await trouble(at, await at.start_coordinator())
        out, _ = await run.communicate()
        took = time.monotonic() - began
        twice = at.sent_twice()
        assert run.returncode == 0, (tmp_path / "coordinator.log").read_text()
        report = json.loads(out)
        rows = list(read_outcomes(at.journal))
    ended = sandbox.truth()["conferences"]
    assert sorted(row.conference_id for row in rows) == sorted(ended)
    kinds = Counter(row.kind for row in rows)
    show(f"{count} ids, {took:.0f} s: {dict(kinds)}, {twice} sent twice")
    assert report["ok"]
    assert set(kinds) <= {"ended", "already_ended"}
    assert all(fact["ended_at"] is not None for fact in ended.values())
