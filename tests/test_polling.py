"""Waiting for the end of a conference: how often it is looked at, and whose word counts."""

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
    """Chance that always draws the longest pause."""

    def uniform(self, _: float, b: float) -> float:
        """Return the longest."""
        return b


@define
class Looks:
    """A conference that shows one thing after the other, at each look; a look takes a second."""

    shown: list[Conference | BandwidthError]
    moments: list[float] = field(factory=list)
    seconds: list[float] = field(factory=list)

    async def __call__(self, seconds: float) -> tuple[Conference, int]:
        """Look."""
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
    """The event of an end."""

    event_time: datetime = ENDED_AT


@frozen
class Hub:
    """Hears of the end, or fails, after some seconds."""

    after: float
    error: Exception | None = None

    async def completed(self, conference_id: str) -> Ended:
        """Wait for it."""
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
    """One look is enough."""
    looks = Looks([ENDED])
    assert await watch(looks).completed(None) == ENDED
    assert (looks.moments, now()) == ([0.0], 1.0)


async def test_the_pauses_grow_to_ten_seconds() -> None:
    """Twice as long each time: who waits briefly hears soon, who waits long asks seldom."""
    looks = Looks([*[ACTIVE] * 7, ENDED])
    assert await watch(looks).completed(None) == ENDED
    gaps = [later - before - 1 for before, later in zip(looks.moments, looks.moments[1:], strict=False)]
    assert gaps == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


@given(st.integers())
def test_a_pause_is_random_within_its_limit(seed: int) -> None:
    """Full jitter: watchers that began together do not look together."""
    drawn = list(islice(pauses(Random(seed)), 9))
    limits = [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0, 10.0]
    assert all(0 <= pause <= limit for pause, limit in zip(drawn, limits, strict=True))
    assert len(set(drawn)) > 1


async def test_one_that_was_seen_and_is_gone_has_ended() -> None:
    """It is returned as last seen, without members, and ended now."""
    before = datetime.now(UTC)
    found = await watch(Looks([ACTIVE, NotFoundError("gone", status=404)])).completed(None)
    assert found.completed_time is not None
    assert before <= found.completed_time <= datetime.now(UTC)
    assert found == evolve(ACTIVE, completed_time=found.completed_time, active_members=())
    assert not found.active


async def test_one_that_was_never_seen_is_not_found() -> None:
    """A wrong id is an error, not an end."""
    gone = NotFoundError("gone", status=404, attempts=1)
    with pytest.raises(NotFoundError) as caught:
        await watch(Looks([gone])).completed(None)
    assert (caught.value, caught.value.attempts) == (gone, 1)


async def test_the_deadline_comes() -> None:
    """At the very moment, in the middle of a pause; no look begins after it."""
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
    """The error says what was known: it was active, and what the last attempt met."""
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
    """Nothing is known of it, so the error does not say that it was active."""
    late = DeadlineExceededError("the deadline of 1 s came", attempts=3)
    with pytest.raises(DeadlineExceededError) as caught:
        await watch(Looks([late]), seconds=1).completed(None)
    assert (caught.value.message, caught.value.attempts, caught.value.last_error) == (
        "conference conf-1 could not be looked at when its 1 s were over",
        3,
        None,
    )


def passing() -> list[BandwidthError]:
    """Return an error of each kind that time may mend."""
    return [
        ServerError("busy", status=503, attempts=5),
        APIError("slow", status=408, attempts=5),
        TransportError("cut", attempts=5),
        UnavailableError("down", attempts=5),
        RateLimitError("too many", status=429, attempts=5),
    ]


@pytest.mark.parametrize("error", passing(), ids=lambda error: type(error).__name__)
async def test_a_short_outage_does_not_end_the_wait(error: BandwidthError) -> None:
    """Not at the first look and not later: the next one follows after the usual pause."""
    looks = Looks([error, error, ACTIVE, error, ENDED])
    assert await watch(looks, seconds=60).completed(None) == ENDED
    assert looks.moments == [0.0, 1.5, 3.5, 6.5, 11.5]


@pytest.mark.parametrize("error", passing(), ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("seen", [[], [ACTIVE]])
async def test_a_long_outage_ends_at_the_deadline(error: BandwidthError, seen: list[Conference]) -> None:
    """The error says what is known of the conference, what was met, and counts all attempts."""
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
    """A later deadline is not blamed on it."""
    with pytest.raises(DeadlineExceededError) as caught:
        await watch(Looks([TransportError("cut"), ACTIVE]), seconds=30).completed(None)
    assert caught.value.last_error is None


async def test_an_outage_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Who waits without a deadline has to see why nothing happens."""
    cut = TransportError("cut")
    await watch(Looks([cut, cut, ACTIVE, cut, cut, ENDED])).completed(None)
    sentence = "conference conf-1 cannot be looked at now, and will be again: cut"
    assert caplog.messages == [sentence, sentence]


async def test_a_look_is_not_sooner_than_the_server_asked() -> None:
    """Its hint counts where it is longer than the pause."""
    looks = Looks([ServerError("busy", status=503, retry_after=20.0), ENDED])
    await watch(looks).completed(None)
    assert looks.moments == [0.0, 21.0]


async def test_a_look_that_gave_up_early_is_not_the_last() -> None:
    """Its next attempt was due after the deadline, but the event may come before it."""
    soon = DeadlineExceededError("nearer than the next attempt", last_error=TransportError("cut"))
    found = await watch(Looks([soon]), seconds=30).completed(Hub(25.0))
    assert (found.completed_time, now()) == (ENDED_AT, 25)


@pytest.mark.parametrize("seconds", [1e-9, 1e-300])
async def test_a_deadline_of_next_to_nothing(seconds: float) -> None:
    """It has come before anything is seen; a look has some time all the same, as it could not be made."""
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
    """At once; the attempts of the looks before are counted too."""
    error = copy(error)
    with pytest.raises(BandwidthError) as caught:
        await watch(Looks([ACTIVE, error])).completed(hub)
    assert (caught.value, caught.value.attempts, now()) == (error, 3, 2.5)


@pytest.mark.parametrize("error", passing(), ids=lambda error: type(error).__name__)
async def test_the_webhook_comes_in_an_outage(error: BandwidthError) -> None:
    """What cannot be looked at can still be heard of."""
    found = await watch(Looks([error])).completed(Hub(100.0))
    assert (found, now()) == (Conference(id="conf-1", completed_time=ENDED_AT, active_members=()), 100)


async def test_the_webhook_comes_first() -> None:
    """Its word counts and its time is the time; what was looked at is let go."""
    before = asyncio.all_tasks()
    found = await watch(Looks([ACTIVE])).completed(Hub(3.0))
    assert found == evolve(ACTIVE, completed_time=ENDED_AT, active_members=())
    assert now() == 3
    assert asyncio.all_tasks() == before


async def test_the_webhook_comes_before_any_look_is_answered() -> None:
    """Then the id and the end are all that is known."""
    found = await watch(Looks([ACTIVE])).completed(Hub(0.5))
    assert found == Conference(id="conf-1", completed_time=ENDED_AT, active_members=())


async def test_looking_comes_first() -> None:
    """A webhook that is lost does not matter, and nobody goes on waiting for it."""
    before = asyncio.all_tasks()
    assert await watch(Looks([ACTIVE, ENDED])).completed(Hub(1e6)) == ENDED
    assert now() == 2.5
    assert asyncio.all_tasks() == before


async def test_both_come_at_once() -> None:
    """Both say the same: a look that fails at the moment of the event does no harm."""
    found = await watch(Looks([AuthenticationError("who?", status=401)])).completed(Hub(1.0))
    assert found.completed_time == ENDED_AT


@pytest.mark.parametrize("deadline", [2.0, 1e3])
async def test_the_webhook_does_not_come(deadline: float) -> None:
    """The deadline is for both."""
    with pytest.raises(DeadlineExceededError):
        await watch(Looks([ACTIVE]), seconds=deadline).completed(Hub(1e6))
    assert now() == deadline


async def test_a_hub_that_fails() -> None:
    """What it raises is raised: it may hear nothing any more."""
    before = asyncio.all_tasks()
    with pytest.raises(LookupError, match="closed"):
        await watch(Looks([ACTIVE])).completed(Hub(1.5, LookupError("closed")))
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("after", [0.5, 1.2, 5.0])
@pytest.mark.parametrize("hub", [None, Hub(1e6)])
async def test_a_wait_that_is_cancelled(after: float, hub: Hub | None) -> None:
    """Nothing goes on behind it."""
    before = asyncio.all_tasks()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(after):
            await watch(Looks([ACTIVE])).completed(hub)
    assert now() == after
    assert asyncio.all_tasks() == before
