"""Shards that share one rate over a real Redis, while its parts and theirs fail. ``make proofs`` is in full.

Each shard is the command of the Kubernetes manifest, which a supervisor starts again until it succeeds. The
outcomes are compared with the sandbox's own record.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from attrs import define

from bandwidth_async.sandbox import Sandbox
from tests.queue_processes import Network, Redis, network
from tests.redis_server import needs_redis, redis_cluster
from tests.test_proof_shards import SHARDS, Supervisor, compare, prepare

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from shared_world import worst_second  # the path comes first

if TYPE_CHECKING:
    from collections.abc import Callable

    from bandwidth_async.sandbox import Truth

redis = pytest.importorskip("redis.asyncio", reason="redis-py is not installed: pip install redis")
pytestmark = [pytest.mark.timeout(1200), needs_redis]

# Seconds of permits that a process may have which it has not shown to have seen: one batch.
BATCH = 0.25


def worst_of(truth: Truth) -> int:
    """Return the most conferences that ended within one second."""
    ended = (str(fact["ended_at"]) for fact in truth["conferences"].values())
    return worst_second([datetime.fromisoformat(one).timestamp() for one in ended])


@define(eq=False)
class Runs:
    """The shards at work, with what they share their rate over."""

    supervisor: Supervisor
    redis: Redis
    network: Network | None

    async def until(self, share: float) -> None:
        """Wait until so many of the conferences got a request."""
        sandbox = self.supervisor.sandbox
        count = len(sandbox.conference_ids)
        # Nobody tells when the sandbox has ended something.
        while sum(sandbox.truth()["requests"].get("end", {}).values()) < share * count:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.25)

    async def ask(self, command: str, *words: str) -> Any:
        """Ask Redis something."""
        async with redis.Redis(host=self.redis.host, port=self.redis.port, decode_responses=True) as client:
            return await client.execute_command(command, *words)


async def the_leader_is_killed(at: Runs) -> None:
    """Kill whoever leads, three times."""
    for share in (0.2, 0.4, 0.6):
        await at.until(share)
        (key,) = await at.ask("KEYS", "bandwidth_async:*:state")
        leader = json.loads(await at.ask("GET", key))["leader"]
        pids = {process.pid for process in at.supervisor.running.values()}
        pid = int(leader.rpartition(":")[2])
        if pid in pids:
            os.kill(pid, signal.SIGKILL)


async def redis_is_restarted(at: Runs) -> None:
    """Restart Redis, which has forgotten everything then."""
    await at.until(0.3)
    await at.redis.stop()
    await at.redis.start()


async def redis_is_flushed(at: Runs) -> None:
    """Empty Redis, three times."""
    for share in (0.2, 0.4, 0.6):
        await at.until(share)
        await at.ask("FLUSHALL")


async def redis_is_gone_for_20_s(at: Runs) -> None:
    """Take Redis away for 20 seconds."""
    await at.until(0.3)
    await at.redis.stop()
    await asyncio.sleep(20)
    await at.redis.start()


async def a_machine_is_cut_off(at: Runs) -> None:
    """Cut the wire between one shard and Redis for half of the run."""
    assert at.network is not None
    await at.until(0.2)
    await at.network.cut()
    await at.until(0.7)
    await at.network.cut("up")


TROUBLES = (
    the_leader_is_killed,
    redis_is_restarted,
    redis_is_flushed,
    redis_is_gone_for_20_s,
    a_machine_is_cut_off,
)
SHORT = (the_leader_is_killed, a_machine_is_cut_off)


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda one: one.__name__)
async def test_shards_that_share_a_rate_keep_to_it_and_settle_each_id_once(
    trouble: Any, tmp_path: Path, full: bool, show: Callable[[str], None]
) -> None:
    """Whatever fails, each id has one outcome, none is left active, and the rate is never exceeded by more
    than a batch of permits for each process."""
    if not full and trouble not in SHORT:
        pytest.skip("in the long form only: make proof-sharing")
    count, rate = (20_000, 250) if full else (300, 30)
    async with (
        network(wanted=trouble is a_machine_is_cut_off) as elsewhere,
        Sandbox(conferences=count, latency="5-40ms", seed=3) as sandbox,
    ):
        prepare(tmp_path, sandbox.conference_ids)
        store = Redis(tmp_path, elsewhere.there[1] if elsewhere else "127.0.0.1", elsewhere)
        shares = dict.fromkeys(range(SHARDS), store.url)
        if elsewhere:
            shares[0] = f"redis://{elsewhere.there[0]}:{store.port}/0"
        supervisor = Supervisor(sandbox, tmp_path, "Kubernetes", rate, shares=shares)
        await store.start()
        try:
            running = asyncio.ensure_future(supervisor.run())
            await asyncio.gather(trouble(Runs(supervisor, store, elsewhere)), running)
        finally:
            await supervisor.kill_all()
            await store.stop()
        kinds, truth = compare(tmp_path, sandbox), sandbox.truth()
    twice = sum(known["end_requests"] > 1 for known in truth["conferences"].values())
    worst = worst_of(truth)
    show(f"{count} ids at {rate}/s: {dict(kinds)}, {twice} sent twice, {worst} in the worst second")
    assert worst <= rate + SHARDS * BATCH * rate


async def test_a_cluster_of_three_that_loses_the_node_of_the_limit_goes_on(
    tmp_path: Path, full: bool, show: Callable[[str], None]
) -> None:
    """The replica of that node takes over. Meanwhile each shard keeps to its part of the rate."""
    count, rate = (20_000, 250) if full else (300, 30)
    with redis_cluster(tmp_path) as cluster:
        async with Sandbox(conferences=count, latency="5-40ms", seed=4) as sandbox:
            prepare(tmp_path, sandbox.conference_ids)
            shares = dict.fromkeys(range(SHARDS), cluster.url)
            supervisor = Supervisor(sandbox, tmp_path, "Kubernetes", rate, shares=shares)
            try:
                running = asyncio.ensure_future(supervisor.run())
                await Runs(supervisor, Redis(tmp_path), None).until(0.2)
                lost = await asyncio.to_thread(cluster.lose_the_owner, "bandwidth_async:*:leader")
                await running
            finally:
                await supervisor.kill_all()
            kinds, truth = compare(tmp_path, sandbox), sandbox.truth()
            leads = await asyncio.to_thread(cluster.keys, "bandwidth_async:*:state")
    worst = worst_of(truth)
    show(f"{count} ids at {rate}/s, node {lost} lost: {dict(kinds)}, {worst} in the worst second")
    assert leads
    assert worst <= rate + SHARDS * BATCH * rate
