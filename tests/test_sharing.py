"""Processes that share a limit, in virtual time: together they behave as one limiter, whatever fails."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from goodput_clock import run_virtually  # the path comes first
from shared_world import MemoryStore, Process, Server, within, worst_second

from bandwidth_async.errors import ConfigurationError, DeadlineExceededError, RateLimitError
from bandwidth_async.limiter import Limiter, Paused, RateChanged, RateLimit
from bandwidth_async.sandbox.quota import Quota, Refusal, TokenBucket
from bandwidth_async.sharing.carrier import share_name
from bandwidth_async.sharing.limiter import SharedLimiter

DISCOVERY = 3.0  # seconds in which processes find each other
LATE = 0.03  # seconds that a letter may take, and a permit may be early

World = Callable[[MemoryStore], Coroutine[Any, Any, None]]


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


class Closing(Quota):
    """Refuses everything until a moment, and names the seconds or not."""

    def __init__(self, start: float, end: float, *, hinted: bool = True) -> None:
        self.start, self.end, self.hinted = start, end, hinted

    def admit(self, now: float) -> Refusal | None:
        if not self.start <= now < self.end:
            return None
        return Refusal(seconds=self.end - now if self.hinted else None)


class Hinting(Server):
    """A server whose hints are exact."""

    async def answer(self) -> tuple[bool, float | None]:
        await asyncio.sleep(0.01)
        refusal = self.quota.admit(now())
        self.arrived.append(now())
        await asyncio.sleep(0.01)
        if refusal is None:
            return False, None
        self.refused.append(now())
        return True, refusal.seconds


def in_world(world: World, **settings: Any) -> None:
    """Run a world from second 0 of virtual time."""

    async def run() -> None:
        await world(MemoryStore(Random(5), **settings))

    run_virtually(run())


async def opened(
    store: MemoryStore, server: Server, count: int, limit: RateLimit | None = None
) -> list[Process]:
    """Return processes that have found each other."""
    processes = [Process(store, server, limit, seed) for seed in range(count)]
    await asyncio.sleep(DISCOVERY)
    assert [one.limiter.processes for one in processes] == [count] * count
    return processes


def leader_of(processes: list[Process]) -> Process:
    """Return the process that leads."""
    (found,) = [one for one in processes if one.limiter._coordinator.leader is not None]
    return found


# ------------------------------------------------------------------------------- what one limiter promises


def test_without_neighbours_requests_leave_as_from_an_own_limiter() -> None:
    """One process that shares sends at the very moments at which an unshared limiter would."""

    async def sent_by(limiter: Limiter) -> list[float]:
        limiter.serve("9900000", "https://voice.example", math.inf)
        limiter.bind()
        await asyncio.sleep(1.0)
        began, times = now(), []
        for _ in range(20):
            with await limiter.admit() as admission:
                admission.sending()
                times.append(now() - began)
                admission.accepted()
        await limiter.leave()
        return times

    async def alone() -> list[float]:
        return await sent_by(Limiter(RateLimit.fixed(50)))

    async def shared() -> list[float]:
        process = Process(MemoryStore(Random(5)), Server(), RateLimit.fixed(50))
        await process.leave()
        return await sent_by(process.limiter)

    assert run_virtually(shared()) == pytest.approx(run_virtually(alone()), abs=1e-4)


def test_processes_with_many_and_few_tasks_get_equal_shares_of_a_known_rate() -> None:
    """200, 5, 5 and 5 tasks at 100/s: all of the rate is used, it is never exceeded, and shares are equal."""

    async def world(store: MemoryStore) -> None:
        server = Server()
        processes = await opened(store, server, 4, RateLimit.fixed(100))
        began = now()
        for process, tasks in zip(processes, (200, 5, 5, 5), strict=True):
            process.work(tasks)
        await asyncio.sleep(20)
        counts = [within(one.sent, began, began + 20) for one in processes]
        assert sum(counts) == pytest.approx(2000, rel=0.01)
        assert counts == pytest.approx([500] * 4, rel=0.1)
        assert worst_second([time for one in processes for time in one.sent]) <= 108
        for process in processes:
            await process.leave()

    in_world(world)


def test_a_single_call_does_not_wait_behind_the_run_of_another_process() -> None:
    """While one process runs at 50/s, a call of another is admitted within three send intervals."""

    async def world(store: MemoryStore) -> None:
        calls, run = await opened(store, Server(), 2, RateLimit.fixed(50))
        run.work(100)
        waits = []
        for pause in (0.31, 0.42, 0.53, 0.64, 0.75) * 4:
            await asyncio.sleep(pause)
            asked = now()
            await calls.request(bulk=False)
            waits.append(calls.sent[-1] - asked)
        assert max(waits) <= 3 / 50
        for process in (calls, run):
            await process.leave()

    in_world(world)


def test_single_calls_of_one_process_leave_a_quarter_to_the_runs_of_others() -> None:
    """A process with endless single calls does not starve the run of another."""

    async def world(store: MemoryStore) -> None:
        calls, run = await opened(store, Server(), 2, RateLimit.fixed(40))
        tasks = [asyncio.ensure_future(calls.request(bulk=False)) for _ in range(400)]
        run.work(50)
        began = now()
        await asyncio.sleep(8)
        assert within(run.sent, began, began + 8) == pytest.approx(80, rel=0.1)
        for task in tasks:
            task.cancel()
        for process in (calls, run):
            await process.leave()

    in_world(world)


def test_requests_of_a_process_leave_in_order_of_arrival() -> None:
    """First come, first served, within each process."""

    async def world(store: MemoryStore) -> None:
        processes = await opened(store, Server(), 2, RateLimit.fixed(100))
        order: list[tuple[int, int]] = []

        async def call(process: int, number: int) -> None:
            with await processes[process].limiter.admit(bulk=True):
                order.append((process, number))

        await asyncio.gather(*(call(process, number) for number in range(30) for process in (0, 1)))
        for process in (0, 1):
            assert [number for one, number in order if one == process] == list(range(30))
            await processes[process].leave()

    in_world(world)


def test_a_refusal_of_one_process_pauses_all() -> None:
    """Nothing is sent until the hint is over, every snapshot says so, and everybody hears the event."""

    async def world(store: MemoryStore) -> None:
        server = Hinting(Closing(5.0, 9.0))
        processes = await opened(store, server, 3, RateLimit.fixed(60))
        for process in processes:
            process.work(20)
        await asyncio.sleep(5.2 - now())
        refused = len(server.refused)
        for process in processes:
            seen = process.limiter.snapshot()
            assert seen.pause_reason == "hint"
            assert seen.paused_for == pytest.approx(9.0 - now(), abs=2 * LATE)
            assert any(isinstance(event, Paused) and event.hinted for event in process.events)
        await asyncio.sleep(9.0 - now())
        assert len(server.refused) == refused <= 8
        await asyncio.sleep(4.0)
        assert within(server.arrived, 9.1, 13.0) == pytest.approx(60 * 3.9, rel=0.03)
        for process in processes:
            await process.leave()

    in_world(world)


def test_a_pause_beyond_the_deadline_fails_the_requests_of_all_at_once() -> None:
    """A call that waits in one process fails as soon as another is refused for longer than it may wait."""

    async def world(store: MemoryStore) -> None:
        server = Hinting(Closing(5.0, 60.0))
        refused, waiting = await opened(store, server, 2, RateLimit.fixed(2))
        await asyncio.sleep(5.0 - now())
        refused.work(1)
        await asyncio.sleep(0.01)
        late = asyncio.ensure_future(waiting.request(deadline=now() + 20))
        impatient = asyncio.ensure_future(waiting.request(patience=30))
        await asyncio.sleep(0.3)
        assert isinstance(late.exception(), DeadlineExceededError)
        assert isinstance(impatient.exception(), RateLimitError)
        with pytest.raises(DeadlineExceededError):
            await waiting.request(deadline=now() + 20)
        for process in (refused, waiting):
            await process.leave()

    in_world(world)


def test_a_request_behind_too_many_others_fails_at_once() -> None:
    """At a known rate a follower knows that a request cannot be sent before its deadline."""

    async def world(store: MemoryStore) -> None:
        processes = await opened(store, Server(), 2, RateLimit.fixed(10))
        leader = leader_of(processes)
        (follower,) = [one for one in processes if one is not leader]
        follower.work(50)
        await asyncio.sleep(0.2)
        asked = now()
        with pytest.raises(DeadlineExceededError):
            await follower.request(deadline=now() + 3)
        assert now() == asked
        for process in processes:
            await process.leave()

    in_world(world)


def test_while_the_server_is_shut_one_request_at_a_time_knocks_for_all() -> None:
    """After a refusal without a hint the processes probe as one limiter would."""

    async def world(store: MemoryStore) -> None:
        server = Hinting(Closing(6.0, 9.0, hinted=False))
        processes = await opened(store, server, 4, RateLimit.adaptive(start=100))
        for process in processes:
            process.work(50)
        await asyncio.sleep(12.0 - now())
        assert within(server.refused, 6.3, 9.1) <= 6
        assert within(server.arrived, 6.3, 9.0) <= 6
        assert within(server.arrived, 10.5, 12.0) > 50
        for process in processes:
            await process.leave()

    in_world(world)


def test_followers_show_the_rate_and_the_quota_of_all() -> None:
    """Snapshot, events and knowledge of a follower are those of the leader."""

    async def world(store: MemoryStore) -> None:
        server = Server(TokenBucket(rate=50, burst=5))
        processes = await opened(store, server, 3)
        for process in processes:
            process.work(30)
        await asyncio.sleep(25)
        rates = [one.limiter.snapshot().rate for one in processes]
        assert rates == pytest.approx([50] * 3, rel=0.1)
        for process in processes:
            assert process.limiter.snapshot().quota == pytest.approx(50, rel=0.1)
            assert any(isinstance(event, RateChanged) for event in process.events)
            assert process.limiter.knowledge is not None
            assert process.limiter.knowledge.rate == pytest.approx(50, rel=0.1)
            await process.leave()

    in_world(world)


@pytest.mark.parametrize("count", [2, 4])
def test_an_unknown_quota_is_used_by_all_together(count: int) -> None:
    """Several processes need hardly longer than the quota allows, and are refused seldom."""

    async def world(store: MemoryStore) -> None:
        server = Server(TokenBucket(rate=150, burst=20))
        processes = [Process(store, server, seed=seed) for seed in range(count)]
        tasks = [task for one in processes for task in one.work(100, count=4500 / count)]
        await asyncio.gather(*tasks)
        assert now() <= 1.05 * 4500 / 150
        assert len(server.refused) <= 0.008 * 4500
        for process in processes:
            await process.leave()

    in_world(world)


# -------------------------------------------------------------------------------------- what may fail


def test_a_dead_leader_is_followed_by_another() -> None:
    """The rest go on alone within a second, and share again once the lease is over, at the rate learned."""

    async def world(store: MemoryStore) -> None:
        server = Server(TokenBucket(rate=100, burst=10))
        processes = await opened(store, server, 4)
        for process in processes:
            process.work(50)
        await asyncio.sleep(20)
        leader = leader_of(processes)
        rest = [one for one in processes if one is not leader]
        leader.die()
        died = now()
        await asyncio.sleep(1.0)
        assert all(one.limiter.alone_because for one in rest)
        await asyncio.sleep(4.0)
        assert not any(one.limiter.alone_because for one in rest)
        assert leader_of(rest) is not leader
        assert within(server.arrived, died + 1, died + 4) > 0.5 * 300
        assert leader_of(rest).limiter.rate == pytest.approx(100, rel=0.2)
        await asyncio.sleep(10)
        assert [one.limiter.processes for one in rest] == [3] * 3
        assert within(server.arrived, died + 6, died + 14) == pytest.approx(800, rel=0.1)
        assert within(server.refused, died, died + 14) <= 30
        for process in rest:
            await process.leave()

    in_world(world)


def test_a_leader_that_leaves_hands_over_at_once() -> None:
    """Nobody goes on alone when the leader closes."""

    async def world(store: MemoryStore) -> None:
        processes = await opened(store, Server(), 3, RateLimit.fixed(100))
        for process in processes:
            process.work(50)
        await asyncio.sleep(2)
        leader = leader_of(processes)
        await leader.leave()
        left = now()
        rest = [one for one in processes if one is not leader]
        await asyncio.sleep(2)
        assert leader_of(rest) is not leader
        assert not any(one.limiter.alone_because for one in rest)
        sent = [time for one in rest for time in one.sent]
        assert within(sent, left, left + 2) == pytest.approx(200, rel=0.1)
        assert worst_second([time for one in processes for time in one.sent]) <= 110
        for process in rest:
            await process.leave()

    in_world(world)


def test_an_emptied_store_costs_nothing() -> None:
    """After a flush the leader goes on leading, and nobody exceeds the rate."""

    async def world(store: MemoryStore) -> None:
        server = Server()
        processes = await opened(store, server, 4, RateLimit.fixed(100))
        for process in processes:
            process.work(50)
        await asyncio.sleep(2)
        leader, flushed = leader_of(processes), now()
        store.flush()
        await asyncio.sleep(5)
        assert leader_of(processes) is leader
        assert within(server.arrived, flushed, flushed + 5) == pytest.approx(500, rel=0.05)
        assert worst_second(server.arrived) <= 108
        for process in processes:
            await process.leave()

    in_world(world)


def test_without_the_store_each_goes_on_with_its_share_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The store is gone for 20 s: never unlimited, never silent, no stampede when it is back."""
    caplog.set_level(logging.INFO, "bandwidth_async.sharing")

    async def world(store: MemoryStore) -> None:
        server = Server()
        processes = await opened(store, server, 4, RateLimit.fixed(100))
        for process in processes:
            process.work(50)
        await asyncio.sleep(2)
        store.broken, gone = "Connection refused", now()
        await asyncio.sleep(20)
        assert [one.limiter.alone_because for one in processes] == ["Connection refused"] * 4
        assert within(server.arrived, gone + 2, gone + 20) == pytest.approx(0.9 * 100 * 18, rel=0.03)
        store.broken, back = None, now()
        await asyncio.sleep(6)
        assert not any(one.limiter.alone_because for one in processes)
        assert within(server.arrived, back + 2, back + 6) == pytest.approx(400, rel=0.05)
        assert worst_second(server.arrived) <= 112
        for process in processes:
            await process.leave()

    in_world(world)
    said = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert len(said) == 4
    assert all("memory" in one and "Connection refused" in one for one in said)
    assert sum("again" in one.getMessage() for one in caplog.records) == 4


def test_a_leader_that_lost_the_store_follows_whoever_leads_next() -> None:
    """What it failed to do as the leader does not keep it alone."""

    async def world(store: MemoryStore) -> None:
        processes = await opened(store, Server(), 3, RateLimit.fixed(90))
        for process in processes:
            process.work(30)
        for seconds in (3.2, 4.0, 5.1, 6.3):
            store.broken = "gone"
            await asyncio.sleep(seconds)
            # Whoever comes first leads then.
            store.flush()
            store.broken = None
            await asyncio.sleep(4)
            assert [one.limiter.alone_because for one in processes] == [None] * 3
            assert [one.limiter.processes for one in processes] == [3] * 3
        for process in processes:
            await process.leave()

    in_world(world)


def test_a_store_that_was_never_reached_leaves_the_share_of_the_expected_processes() -> None:
    """A process that starts without the store does not wait for it, and keeps to rate ÷ processes."""

    async def world(store: MemoryStore) -> None:
        store.broken = "invalid username-password pair or user is disabled."
        server, carrier = Server(), Process(store, Server()).carrier
        limiter = SharedLimiter(lambda _: carrier, RateLimit.fixed(100), processes=4)
        limiter.serve("9900000", "host", math.inf)
        began, sent = now(), 0
        while now() < began + 4:
            with await limiter.admit() as admission:
                admission.sending()
                sent += 1
                admission.accepted()
        assert sent == pytest.approx(100, abs=3)
        assert not server.arrived
        await limiter.leave()

    in_world(world)


def test_who_never_sent_at_a_fixed_rate_keeps_to_its_share_of_that() -> None:
    """A follower that goes alone before the first request of anybody knows that the rate is fixed."""

    async def world(store: MemoryStore) -> None:
        processes = await opened(store, Server(), 2, RateLimit.fixed(100))
        store.broken = "gone"
        for process in processes:
            process.work(50)
        await asyncio.sleep(2)
        began = now()
        await asyncio.sleep(8)
        for process in processes:
            assert within(process.sent, began, now()) == pytest.approx(45 * 8, rel=0.03)
            await process.leave()

    in_world(world)


def test_a_process_that_is_cut_off_goes_on_with_its_share() -> None:
    """The others share the rate as before; the lost one keeps to its share, and comes back."""

    async def world(store: MemoryStore) -> None:
        processes = await opened(store, Server(), 4, RateLimit.fixed(100))
        for process in processes:
            process.work(50)
        leader = leader_of(processes)
        lost = next(one for one in processes if one is not leader)
        await asyncio.sleep(1)
        lost.carrier.cut = True
        await asyncio.sleep(2)
        assert lost.limiter.alone_because
        began = now()
        await asyncio.sleep(10)
        assert within(lost.sent, began, now()) == pytest.approx(0.9 * 25 * 10, rel=0.05)
        lost.carrier.cut = False
        await asyncio.sleep(3)
        assert not lost.limiter.alone_because
        began = now()
        await asyncio.sleep(4)
        assert within(lost.sent, began, now()) == pytest.approx(100, rel=0.1)
        for process in processes:
            await process.leave()

    in_world(world)


def test_the_permits_of_a_dead_process_are_lost_and_nothing_else() -> None:
    """Its requests do not count as in flight for ever, and the others use its share."""

    async def world(store: MemoryStore) -> None:
        server = Server()
        processes = await opened(store, server, 3, RateLimit.fixed(90))
        for process in processes:
            process.work(50)
        await asyncio.sleep(2)
        leader = leader_of(processes)
        dead = next(one for one in processes if one is not leader)
        dead.die()
        died = now()
        await asyncio.sleep(10)
        rest = [one for one in processes if one is not dead]
        assert [one.limiter.processes for one in rest] == [2, 2]
        assert within([time for one in rest for time in one.sent], died + 6, died + 10) == pytest.approx(
            360, rel=0.05
        )
        assert leader.limiter._coordinator.leader is not None
        assert leader.limiter._coordinator.leader.in_flight <= 30
        for process in rest:
            await process.leave()

    in_world(world)


def test_a_slow_store_makes_nobody_unlimited() -> None:
    """With half a second a call the processes do without the store, within the rate."""

    async def world(store: MemoryStore) -> None:
        server = Server()
        processes = await opened(store, server, 4, RateLimit.fixed(100))
        for process in processes:
            process.work(50)
        await asyncio.sleep(2)
        store.slow, slow = 0.4, now()
        await asyncio.sleep(20)
        assert 0.6 * 1800 <= within(server.arrived, slow + 2, slow + 20) <= 1.05 * 1800
        store.slow = 0.0
        await asyncio.sleep(5)
        assert not any(one.limiter.alone_because for one in processes)
        for process in processes:
            await process.leave()

    in_world(world)


def test_a_fault_of_our_own_leaves_requests_neither_stuck_nor_unlimited(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A task that breaks is logged, and the process goes on alone."""

    async def world(store: MemoryStore) -> None:
        process = Process(store, Server(), RateLimit.fixed(50))
        process.carrier.claim = None  # type: ignore[method-assign,assignment]
        began = now()
        process.work(10)
        await asyncio.sleep(4)
        assert process.limiter.alone_because
        assert within(process.sent, began, began + 4) <= 201
        assert len(process.sent) > 100
        await process.leave()

    in_world(world)
    assert any(one.exc_info for one in caplog.records)


def test_messages_that_cannot_be_read_are_ignored() -> None:
    """Whatever lies in the store, the processes go on."""

    async def world(store: MemoryStore) -> None:
        processes = await opened(store, Server(), 2, RateLimit.fixed(50))
        for process in processes:
            process.work(10)
        rubbish = [
            "",
            "{}",
            "[]",
            "null",
            '{"serial":1}',
            '{"serial":1,"state":{"term":1,"rate":-1}}',
            "\x00",
        ]
        for one in processes:
            for message in rubbish:
                store.post(one.carrier.me, message)
                store.post("reports", message)
        store.state = "rubbish"
        await asyncio.sleep(4)
        assert not any(one.limiter.alone_because for one in processes)
        assert within([time for one in processes for time in one.sent], now() - 2, now()) == pytest.approx(
            100, rel=0.06
        )
        for process in processes:
            await process.leave()

    in_world(world)


# ------------------------------------------------------------------------------------- rates that are given


def test_a_process_that_was_given_a_rate_keeps_to_it_beside_others() -> None:
    """One with a rate does not bind the others, and never sends more than its own."""

    async def world(store: MemoryStore) -> None:
        server = Server(TokenBucket(rate=100, burst=10))
        processes = [Process(store, server, limit, 1) for limit in (RateLimit.fixed(10), None, None)]
        for process in processes:
            process.work(50)
        await asyncio.sleep(30)
        assert worst_second(processes[0].sent) <= 12
        assert within(processes[0].sent, 20, 30) == pytest.approx(100, rel=0.05)
        assert within(server.arrived, 20, 30) == pytest.approx(1000, rel=0.07)
        for process in processes:
            await process.leave()

    in_world(world)


def test_an_operator_sets_a_rate_for_all_while_they_run() -> None:
    """A rate that is set holds within two seconds, also for processes that were given another."""

    async def world(store: MemoryStore) -> None:
        processes = await opened(store, Server(), 3, RateLimit.fixed(100))
        for process in processes:
            process.work(50)
        await asyncio.sleep(2)
        await processes[0].carrier.set_rate(30)
        await asyncio.sleep(2)
        began = now()
        await asyncio.sleep(5)
        assert within([t for one in processes for t in one.sent], began, now()) == pytest.approx(
            150, rel=0.05
        )
        assert [one.limiter.rate for one in processes] == [30] * 3
        assert [one.limiter.setting for one in processes] == [30] * 3
        await processes[0].carrier.set_rate(None)
        await asyncio.sleep(2)
        began = now()
        await asyncio.sleep(4)
        assert within([t for one in processes for t in one.sent], began, now()) == pytest.approx(
            400, rel=0.05
        )
        assert [one.limiter.setting for one in processes] == [None] * 3
        for process in processes:
            await process.leave()

    in_world(world)


# ------------------------------------------------------------------------------------------- its face


def test_the_shared_name_shows_neither_account_nor_host() -> None:
    """Who looks into the store learns no account id. Other accounts and hosts have other names."""
    name = share_name("9900000", "https://voice.bandwidth.com")
    assert "9900000" not in name
    assert "bandwidth" not in name
    assert name != share_name("9900001", "https://voice.bandwidth.com")
    assert name != share_name("9900000", "https://test.voice.bandwidth.com")


def test_a_shared_limiter_serves_one_account() -> None:
    """Clients of two accounts cannot have one limiter, and it does not work without a client."""
    limiter = SharedLimiter(lambda _: Process.__new__(Process).carrier)
    limiter.serve("9900000", "host", 10)
    limiter.serve("9900000", "host", 10)
    with pytest.raises(ConfigurationError, match="another account"):
        limiter.serve("9900001", "host", 10)


def test_closing_twice_and_never_opening_are_fine() -> None:
    """A limiter that was never bound can be left, and one that was left can be used again."""

    async def world(store: MemoryStore) -> None:
        process = Process(store, Server(), RateLimit.fixed(50))
        await process.leave()
        process.limiter.serve("9900000", "https://voice.example", math.inf)
        process.limiter.bind()
        await process.request()
        assert not process.limiter.alone_because
        await process.leave()

    in_world(world)


def test_all_tasks_end_with_the_last_client() -> None:
    """Nothing is left in the event loop."""

    async def world(store: MemoryStore) -> None:
        processes = await opened(store, Server(), 2, RateLimit.fixed(50))
        for process in processes:
            await process.leave()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert not store.holder

    in_world(world)
