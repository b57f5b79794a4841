"""One timer for all timeouts: each task is cancelled at its own deadline, or not at all."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from bandwidth_async.http import TimeoutTimer, timeouts

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


async def lasting(timer: TimeoutTimer, seconds: float, limit: float) -> tuple[str, float]:
    """Sleep inside a timeout; return how that ended, and when."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        with timer.timeout_at(now() + limit):
            await asyncio.sleep(seconds)
    except TimeoutError:
        return "timeout", loop.time() - started
    return "done", loop.time() - started


async def test_each_has_its_own_limit() -> None:
    """In whatever order they start, each is cancelled at its own deadline, or not at all."""
    timer = TimeoutTimer()
    limits = [(20.0, 15.0), (20.0, 5.0), (1.0, 2.0), (20.0, 10.0), (20.0, 30.0)]
    ended = await asyncio.gather(*(lasting(timer, seconds, limit) for seconds, limit in limits))
    assert ended == [("timeout", 15.0), ("timeout", 5.0), ("done", 1.0), ("timeout", 10.0), ("done", 20.0)]
    timer.close()


async def test_one_that_comes_later_is_bounded_from_then() -> None:
    """The timer of earlier timeouts cancels later ones neither too soon nor too late."""
    timer = TimeoutTimer()
    assert await lasting(timer, 10, 15) == ("done", 10.0)
    assert await lasting(timer, 20, 15) == ("timeout", 15.0)
    timer.close()


async def test_cancellation_from_outside_stays_one() -> None:
    """A timeout turns only its own cancellation into an error, also when both come at once."""
    timer = TimeoutTimer()
    for after in (1.0, 15.0):
        task = asyncio.create_task(lasting(timer, 20, 15))
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    timer.close()


async def test_error_in_the_last_moment_is_the_error() -> None:
    """An error that the work raises when it is cancelled is not hidden."""
    timer = TimeoutTimer()

    async def work() -> None:
        with timer.timeout_at(now() + 1):
            try:
                await asyncio.sleep(2)
            except asyncio.CancelledError:
                raise ValueError("its own") from None

    with pytest.raises(ValueError, match="its own"):
        await work()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    timer.close()


async def test_closed_leaves_no_timer() -> None:
    """No timer of a finished timeout keeps the event loop waiting."""
    timer = TimeoutTimer()
    await lasting(timer, 1, 15)
    timer.close()
    loop = asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = loop._scheduled  # type: ignore[attr-defined]  # there is no public way
    assert [timer for timer in timers if not timer.cancelled()] == []


async def test_a_limit_can_be_set_moved_and_taken_away() -> None:
    """A deadline can be set later; a timeout that has ended cancels nothing, whatever is set then."""
    timer = TimeoutTimer()
    loop = asyncio.get_running_loop()
    timeout = timer.timeout_at(math.inf)
    for at, limit in ((1, 50.0), (2, None), (60, 100.0), (61, 70.0)):
        loop.call_later(at, timeout.reschedule, limit)
    with pytest.raises(TimeoutError), timeout:
        await asyncio.sleep(1000)
    assert (loop.time(), timeout.expired(), timeout.when()) == (70.0, True, 70.0)
    over = timer.timeout_at(math.inf)
    with over:
        pass
    over.reschedule(loop.time())
    await asyncio.sleep(1)  # nobody cancels it
    timer.close()


async def test_closed_still_ends_what_is_bounded() -> None:
    """A closed timer still serves the running timeouts; the last one cancels it."""
    timer = TimeoutTimer()
    inside = asyncio.create_task(lasting(timer, 20, 5))
    await asyncio.sleep(1)
    timer.close()
    assert await inside == ("timeout", 5.0)
    loop = asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = loop._scheduled  # type: ignore[attr-defined]  # there is no public way
    assert [timer for timer in timers if not timer.cancelled()] == []


async def test_outside_a_task_there_is_nothing_to_cancel() -> None:
    """A callback of the event loop cannot have a timeout."""
    timer = TimeoutTimer()
    timeout = timer.timeout_at(now() + 1)
    error: asyncio.Future[str] = timer.loop.create_future()

    def callback() -> None:
        try:
            timeout.__enter__()
        except RuntimeError as raised:
            error.set_result(str(raised))

    timer.loop.call_soon(callback)
    assert await error == "a timeout can only be used inside a task"


async def test_many_that_end_in_time_leave_nothing_behind() -> None:
    """What is over is forgotten long before its deadline, also a deadline that has moved often."""
    timer = TimeoutTimer()
    with timer.timeout_at(now() + 100):
        for _ in range(5000):
            with timer.timeout_at(now() + 60):
                pass
        moving = timer.timeout_at(math.inf)
        with moving:
            for _ in range(5000):
                moving.reschedule(asyncio.get_running_loop().time() + 50)
        assert len(timer._entries) < 200
    timer.close()


async def test_each_check_looks_at_what_is_due_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand that expire one by one cost a thousand looks or so, not a million."""
    looks = 0

    def is_current(entry: Any) -> bool:
        nonlocal looks
        looks += 1
        return theirs(entry)

    theirs = timeouts._is_current
    monkeypatch.setattr(timeouts, "_is_current", is_current)
    timer = TimeoutTimer()
    ended = await asyncio.gather(*(lasting(timer, 9999, 2 + n / 100) for n in range(1000)))
    assert {how for how, _ in ended} == {"timeout"}
    assert looks < 20_000
    timer.close()
