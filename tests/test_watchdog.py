"""The watchdog: one timer bounds everything in flight."""

from __future__ import annotations

import asyncio
import math

import pytest

from bandwidth_async.http.timeouts import Watchdog

pytestmark = pytest.mark.looptime


async def lasting(dog: Watchdog, seconds: float, limit: float) -> tuple[str, float]:
    """Sleep in a guard; return how that ended, and when."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        with dog.guard(limit):
            await asyncio.sleep(seconds)
    except TimeoutError:
        return "timeout", loop.time() - started
    return "done", loop.time() - started


async def test_each_has_its_own_limit() -> None:
    """Whatever the order they come in, each is ended at its own time, or not at all."""
    dog = Watchdog()
    limits = [(20.0, 15.0), (20.0, 5.0), (1.0, 2.0), (20.0, 10.0), (20.0, 30.0)]
    ended = await asyncio.gather(*(lasting(dog, seconds, limit) for seconds, limit in limits))
    assert ended == [("timeout", 15.0), ("timeout", 5.0), ("done", 1.0), ("timeout", 10.0), ("done", 20.0)]
    dog.close()


async def test_one_that_comes_later_is_bounded_from_then() -> None:
    """The timer of those that are gone neither ends the next too soon nor too late."""
    dog = Watchdog()
    assert await lasting(dog, 10, 15) == ("done", 10.0)
    assert await lasting(dog, 20, 15) == ("timeout", 15.0)
    dog.close()


async def test_cancellation_from_outside_stays_one() -> None:
    """A guard makes a timeout of its own cancellation only, also when both come at once."""
    dog = Watchdog()
    for after in (1.0, 15.0):
        task = asyncio.create_task(lasting(dog, 20, 15))
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    dog.close()


async def test_error_in_the_last_moment_is_the_error() -> None:
    """What the work raises when it is ended is not hidden."""
    dog = Watchdog()

    async def work() -> None:
        with dog.guard(1):
            try:
                await asyncio.sleep(2)
            except asyncio.CancelledError:
                raise ValueError("its own") from None

    with pytest.raises(ValueError, match="its own"):
        await work()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    dog.close()


async def test_closed_leaves_no_timer() -> None:
    """Nothing keeps the loop awake for the limit of what is over."""
    dog = Watchdog()
    await lasting(dog, 1, 15)
    dog.close()
    loop = asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = loop._scheduled  # type: ignore[attr-defined]  # there is no public way
    assert [timer for timer in timers if not timer.cancelled()] == []


async def test_a_limit_can_be_set_moved_and_taken_away() -> None:
    """Whoever has none gets one later; what is over is bounded no more, whatever is set then."""
    dog = Watchdog()
    loop = asyncio.get_running_loop()
    guard = dog.guard_until(math.inf)
    for at, limit in ((1, 50.0), (2, None), (60, 100.0), (61, 70.0)):
        loop.call_later(at, guard.reschedule, limit)
    with pytest.raises(TimeoutError), guard:
        await asyncio.sleep(1000)
    assert (loop.time(), guard.expired(), guard.when()) == (70.0, True, 70.0)
    over = dog.guard_until(math.inf)
    with over:
        pass
    over.reschedule(loop.time())
    await asyncio.sleep(1)  # nobody cancels it
    dog.close()


async def test_closed_still_ends_what_is_bounded() -> None:
    """Closing keeps the timer for those inside; the last of them takes it along."""
    dog = Watchdog()
    inside = asyncio.create_task(lasting(dog, 20, 5))
    await asyncio.sleep(1)
    dog.close()
    assert await inside == ("timeout", 5.0)
    loop = asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = loop._scheduled  # type: ignore[attr-defined]  # there is no public way
    assert [timer for timer in timers if not timer.cancelled()] == []
