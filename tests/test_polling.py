"""Waiting for the end of a conference: how often it is read, and which event or error ends the wait."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from copy import copy
from datetime import UTC, datetime
from itertools import islice
from random import Random

import pytest
from attrs import define, evolve, field, frozen
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.errors import (
    APIError,
    AuthenticationError,
    BandwidthError,
    CertificateError,
    ClientStateError,
    DeadlineExceededError,
    NotFoundError,
    RateLimitError,
    ServerError,
    TransportError,
    UnavailableError,
)
from bandwidth_async.models import Conference, ConferenceMember
from bandwidth_async.polling import Watch, pauses

pytestmark = pytest.mark.looptime

ENDED_AT = datetime(2026, 1, 2, tzinfo=UTC)
ACTIVE = Conference(id="conf-1", name="n", active_members=(ConferenceMember(call_id="c-1"),))
ENDED = Conference(id="conf-1", name="n", completed_time=ENDED_AT, active_members=())


class Longest(Random):
    """A random generator that always draws the longest pause."""

    def uniform(self, _: float, b: float) -> float:
        """Return the upper end."""
        return b


@define
class Looks:
    """A conference with one scripted response for each read. A read takes a second."""

    shown: list[Conference | BandwidthError]
    moments: list[float] = field(factory=list)
    seconds: list[float] = field(factory=list)

    async def __call__(self, seconds: float) -> tuple[Conference, int]:
        """Read the conference."""
        self.moments.append(now())
        self.seconds.append(seconds)
        await asyncio.sleep(min(1, seconds))
        if seconds < 1:
            raise DeadlineExceededError(f"the deadline of {seconds} s came", attempts=1)
        answer = self.shown.pop(0) if len(self.shown) > 1 else self.shown[0]
        if isinstance(answer, BandwidthError):
            raise answer
        return answer, 2


@frozen
class Ended:
    """The event that a conference has ended."""

    event_time: datetime = ENDED_AT


@frozen
class Hub:
    """A hub that receives the event, or fails, after some seconds."""

    after: float
    error: Exception | None = None

    async def completed(self, conference_id: str) -> Ended:
        """Wait for the event."""
        assert conference_id == "conf-1"
        await asyncio.sleep(self.after)
        if self.error:
            raise self.error
        return Ended()


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


def watch(
    look: Callable[[float], Awaitable[tuple[Conference, int]]],
    seconds: float = math.inf,
    random: Random | None = None,
) -> Watch:
    """Watch one conference."""
    return Watch("conf-1", look, seconds=seconds, random=random or Longest())


async def test_an_ended_conference_is_returned_at_once() -> None:
    """One read is enough for a conference that has ended."""
    looks = Looks([ENDED])
    assert await watch(looks).completed(None) == ENDED
    assert (looks.moments, now()) == ([0.0], 1.0)


async def test_the_pauses_grow_to_ten_seconds() -> None:
    """Each pause is twice as long as the one before, up to ten seconds."""
    looks = Looks([*[ACTIVE] * 7, ENDED])
    assert await watch(looks).completed(None) == ENDED
    gaps = [later - before - 1 for before, later in zip(looks.moments, looks.moments[1:], strict=False)]
    assert gaps == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


@given(st.integers())
def test_a_pause_is_random_within_its_limit(seed: int) -> None:
    """Each pause is random up to its limit, so that simultaneous waits do not read at the same time."""
    drawn = list(islice(pauses(Random(seed)), 9))
    limits = [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0, 10.0]
    assert all(0 <= pause <= limit for pause, limit in zip(drawn, limits, strict=True))
    assert len(set(drawn)) > 1


async def test_one_that_was_seen_and_is_gone_has_ended() -> None:
    """A 404 after a successful read means the end. The conference is as last read, without members."""
    before = datetime.now(UTC)
    found = await watch(Looks([ACTIVE, NotFoundError("gone", status=404)])).completed(None)
    assert found.completed_time is not None
    assert before <= found.completed_time <= datetime.now(UTC)
    assert found == evolve(ACTIVE, completed_time=found.completed_time, active_members=())
    assert not found.active


async def test_one_that_was_never_seen_is_not_found() -> None:
    """A 404 at the first read is an error, not an end."""
    gone = NotFoundError("gone", status=404, attempts=1)
    with pytest.raises(NotFoundError) as caught:
        await watch(Looks([gone])).completed(None)
    assert (caught.value, caught.value.attempts) == (gone, 1)


async def test_the_deadline_comes() -> None:
    """The wait ends exactly at the deadline, even in a pause, and no read begins after it."""
    looks = Looks([ACTIVE])
    with pytest.raises(DeadlineExceededError) as caught:
        await watch(looks, seconds=8).completed(None)
    assert now() == 8
    assert (looks.moments, looks.seconds) == ([0.0, 1.5, 3.5, 6.5], [8.0, 6.5, 4.5, 1.5])
    assert (caught.value.message, caught.value.attempts, caught.value.last_error) == (
        "conference conf-1 was still active when its 8 s were over",
        8,
        None,
    )


async def test_the_deadline_comes_during_a_look() -> None:
    """The error says that the conference was active, and has the error of the last attempt."""
    met = ServerError("busy", status=503)
    late = DeadlineExceededError("the deadline of 1 s came", last_error=met, attempts=3)
    with pytest.raises(DeadlineExceededError) as caught:
        await watch(Looks([ACTIVE, late]), seconds=2.5).completed(None)
    assert (caught.value.message, caught.value.attempts, caught.value.last_error) == (
        "conference conf-1 was still active when its 2.5 s were over; the last look met: busy",
        5,
        met,
    )


async def test_the_deadline_comes_during_the_first_look() -> None:
    """If no read has succeeded, the error does not say that the conference was active."""
    late = DeadlineExceededError("the deadline of 1 s came", attempts=3)
    with pytest.raises(DeadlineExceededError) as caught:
        await watch(Looks([late]), seconds=1).completed(None)
    assert (caught.value.message, caught.value.attempts, caught.value.last_error) == (
        "conference conf-1 could not be looked at when its 1 s were over",
        3,
        None,
    )


def passing() -> list[BandwidthError]:
    """Return an error of each temporary kind."""
    return [
        ServerError("busy", status=503, attempts=5),
        APIError("slow", status=408, attempts=5),
        TransportError("cut", attempts=5),
        UnavailableError("down", attempts=5),
        RateLimitError("too many", status=429, attempts=5),
    ]


@pytest.mark.parametrize("error", passing(), ids=lambda error: type(error).__name__)
async def test_a_short_outage_does_not_end_the_wait(error: BandwidthError) -> None:
    """A temporary error at any read does not end the wait. The next read follows after the usual pause."""
    looks = Looks([error, error, ACTIVE, error, ENDED])
    assert await watch(looks, seconds=60).completed(None) == ENDED
    assert looks.moments == [0.0, 1.5, 3.5, 6.5, 11.5]


@pytest.mark.parametrize("error", passing(), ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("seen", [[], [ACTIVE]])
async def test_a_long_outage_ends_at_the_deadline(error: BandwidthError, seen: list[Conference]) -> None:
    """The deadline error has the last known state, the last error, and the number of all attempts."""
    with pytest.raises(DeadlineExceededError) as caught:
        await watch(Looks([*seen, error]), seconds=3).completed(None)
    assert now() == 3
    known = "was still active" if seen else "could not be looked at"
    assert (caught.value.message, caught.value.attempts, caught.value.last_error) == (
        f"conference conf-1 {known} when its 3 s were over; the last look met: {error.message}",
        7 if seen else 10,
        error,
    )


async def test_an_outage_that_passed_is_forgotten() -> None:
    """A deadline error does not mention an outage that was over before."""
    with pytest.raises(DeadlineExceededError) as caught:
        await watch(Looks([TransportError("cut"), ACTIVE]), seconds=30).completed(None)
    assert caught.value.last_error is None


async def test_an_outage_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Each outage is logged once, so that you can see why a wait takes long."""
    cut = TransportError("cut")
    await watch(Looks([cut, cut, ACTIVE, cut, cut, ENDED])).completed(None)
    sentence = "conference conf-1 cannot be read now, and is read again later: cut"
    assert caplog.messages == [sentence, sentence]


async def test_a_look_is_not_sooner_than_the_server_asked() -> None:
    """The client waits for the server's hint if it is longer than the pause."""
    looks = Looks([ServerError("busy", status=503, retry_after=20.0), ENDED])
    await watch(looks).completed(None)
    assert looks.moments == [0.0, 21.0]


async def test_a_look_that_gave_up_early_is_not_the_last() -> None:
    """If a read has no time for its next attempt, the wait goes on, because the event may still arrive."""
    soon = DeadlineExceededError("nearer than the next attempt", last_error=TransportError("cut"))
    found = await watch(Looks([soon]), seconds=30).completed(Hub(25.0))
    assert (found.completed_time, now()) == (ENDED_AT, 25)


@pytest.mark.parametrize("seconds", [1e-9, 1e-300])
async def test_a_deadline_of_next_to_nothing(seconds: float) -> None:
    """A tiny deadline expires at the first read. The read gets a millisecond, because zero is not allowed."""
    looks = Looks([ACTIVE])
    with pytest.raises(DeadlineExceededError):
        await watch(looks, seconds=seconds).completed(None)
    assert looks.seconds == [0.001]


@pytest.mark.parametrize(
    "error",
    [
        APIError("odd", status=418, attempts=1),
        ServerError("never", status=501, attempts=1),
        AuthenticationError("who?", status=401, attempts=1),
        CertificateError("not to be trusted", attempts=1),
        ClientStateError("closed", attempts=1),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("hub", [None, Hub(1e6)])
async def test_what_time_does_not_mend_ends_the_wait(error: BandwidthError, hub: Hub | None) -> None:
    """A permanent error ends the wait at once. It counts the attempts of all reads."""
    error = copy(error)
    with pytest.raises(BandwidthError) as caught:
        await watch(Looks([ACTIVE, error])).completed(hub)
    assert (caught.value, caught.value.attempts, now()) == (error, 3, 2.5)


@pytest.mark.parametrize("error", passing(), ids=lambda error: type(error).__name__)
async def test_the_webhook_comes_in_an_outage(error: BandwidthError) -> None:
    """The webhook ends the wait even if reads fail."""
    found = await watch(Looks([error])).completed(Hub(100.0))
    assert (found, now()) == (Conference(id="conf-1", completed_time=ENDED_AT, active_members=()), 100)


async def test_the_webhook_comes_first() -> None:
    """The webhook ends the wait, with the time of the event, and the read in flight is cancelled."""
    before = asyncio.all_tasks()
    found = await watch(Looks([ACTIVE])).completed(Hub(3.0))
    assert found == evolve(ACTIVE, completed_time=ENDED_AT, active_members=())
    assert now() == 3
    assert asyncio.all_tasks() == before


async def test_the_webhook_comes_before_any_look_is_answered() -> None:
    """If the webhook comes before any response, the conference has only its id and its end."""
    found = await watch(Looks([ACTIVE])).completed(Hub(0.5))
    assert found == Conference(id="conf-1", completed_time=ENDED_AT, active_members=())


async def test_looking_comes_first() -> None:
    """If a read finds the end first, the client stops waiting for the webhook."""
    before = asyncio.all_tasks()
    assert await watch(Looks([ACTIVE, ENDED])).completed(Hub(1e6)) == ENDED
    assert now() == 2.5
    assert asyncio.all_tasks() == before


async def test_both_come_at_once() -> None:
    """A read that fails at the moment of the event does not hide the event."""
    found = await watch(Looks([AuthenticationError("who?", status=401)])).completed(Hub(1.0))
    assert found.completed_time == ENDED_AT


@pytest.mark.parametrize("deadline", [2.0, 1e3])
async def test_the_webhook_does_not_come(deadline: float) -> None:
    """The deadline applies to the webhook and to the reads."""
    with pytest.raises(DeadlineExceededError):
        await watch(Looks([ACTIVE]), seconds=deadline).completed(Hub(1e6))
    assert now() == deadline


async def test_a_hub_that_fails() -> None:
    """An error of the hub is raised, because the hub may never report the event."""
    before = asyncio.all_tasks()
    with pytest.raises(LookupError, match="closed"):
        await watch(Looks([ACTIVE])).completed(Hub(1.5, LookupError("closed")))
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("after", [0.5, 1.2, 5.0])
@pytest.mark.parametrize("hub", [None, Hub(1e6)])
async def test_a_wait_that_is_cancelled(after: float, hub: Hub | None) -> None:
    """A cancelled wait leaves no task."""
    before = asyncio.all_tasks()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(after):
            await watch(Looks([ACTIVE])).completed(hub)
    assert now() == after
    assert asyncio.all_tasks() == before
