"""``verify``: the client reports an end only if a read of the conference confirms it."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from aioresponses import CallbackResult, aioresponses
from attrs import define, field
from yarl import URL

from bandwidth_async import (
    BasicCredentials,
    Conference,
    Outcome,
    OutcomeKind,
    RateLimit,
    Report,
    ServerError,
    VoiceClient,
)
from bandwidth_async.errors import NotConfirmedError

CONFERENCE = "https://voice.bandwidth.com/api/v2/accounts/9900000/conferences/conf-1"
ACTIVE = CallbackResult(status=200, payload={"id": "conf-1", "createdTime": "2026-01-02T03:04:05Z"})
COMPLETED = CallbackResult(status=200, payload={"id": "conf-1", "completedTime": "2026-01-02T03:04:05Z"})
GONE, FAILS = CallbackResult(status=404), CallbackResult(status=503)
ACCEPTED, CONFLICT = CallbackResult(status=204), CallbackResult(status=409)

virtual_time = pytest.mark.looptime


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


@define
class Bandwidth:
    """Sends the responses of its scripts. It repeats the last response of each forever."""

    ends: list[CallbackResult] = field(factory=lambda: [ACCEPTED])
    reads: list[CallbackResult] = field(factory=lambda: [COMPLETED])
    asked: list[tuple[str, float]] = field(factory=list)

    async def end(self, _: URL, **__: Any) -> CallbackResult:
        """Answer a POST."""
        return await self._next("end", self.ends)

    async def read(self, _: URL, **__: Any) -> CallbackResult:
        """Answer a GET."""
        return await self._next("read", self.reads)

    async def _next(self, what: str, script: list[CallbackResult]) -> CallbackResult:
        self.asked.append((what, now()))
        await asyncio.sleep(0.01)
        return script.pop(0) if len(script) > 1 else script[0]

    @property
    def kinds(self) -> list[str]:
        """The kinds of the requests, in order."""
        return [what for what, _ in self.asked]


@pytest.fixture
def bandwidth(mocked: aioresponses) -> Bandwidth:
    """Serve one conference."""
    fake = Bandwidth()
    mocked.post(CONFERENCE, callback=fake.end, repeat=True)
    mocked.get(CONFERENCE, callback=fake.read, repeat=True)
    return fake


def client_of() -> VoiceClient:
    """Return a client whose rate limit does not delay the test."""
    return VoiceClient(
        account_id="9900000",
        credentials=BasicCredentials("user", "password"),
        rate_limit=RateLimit.fixed(1000, 100),
    )


async def end_one(item: str | Conference = "conf-1") -> Outcome:
    async with client_of() as client:
        return await client.end_conference(item, verify=True)


async def run_of_one() -> tuple[Report, Outcome]:
    outcomes: list[Outcome] = []
    async with client_of() as client:
        report = await client.end_conferences(["conf-1"], verify=True, on_outcome=outcomes.append)
    (outcome,) = outcomes
    return report, outcome


@pytest.mark.parametrize("reading", [COMPLETED, GONE], ids=["completed", "gone"])
@virtual_time
async def test_confirmed_at_the_first_reading(bandwidth: Bandwidth, reading: CallbackResult) -> None:
    """A read that finds the conference completed or gone confirms the end."""
    bandwidth.reads = [reading]
    outcome = await end_one()
    assert (outcome.kind, outcome.attempts, bandwidth.kinds) == (OutcomeKind.ENDED, 2, ["end", "read"])


@virtual_time
async def test_without_verify_nothing_is_read(bandwidth: Bandwidth) -> None:
    """Without ``verify`` the client trusts the server's 204."""
    async with client_of() as client:
        await client.end_conference("conf-1")
    assert bandwidth.kinds == ["end"]


@virtual_time
async def test_the_end_takes_its_time(bandwidth: Bandwidth) -> None:
    """While the conference is active, the client reads again after 0.5 to 1, 1 to 2 and 2 to 4 seconds."""
    bandwidth.reads = [ACTIVE, ACTIVE, ACTIVE, COMPLETED]
    outcome = await end_one()
    assert (outcome.kind, outcome.attempts) == (OutcomeKind.ENDED, 5)
    assert bandwidth.kinds == ["end"] + ["read"] * 4
    moments = [moment for _, moment in bandwidth.asked[1:]]
    pauses = [later - earlier - 0.01 for earlier, later in pairwise(moments)]
    for pause, (shortest, longest) in zip(pauses, ((0.5, 1.0), (1.0, 2.0), (2.0, 4.0)), strict=True):
        assert shortest - 1e-3 <= pause <= longest + 1e-2


@virtual_time
async def test_a_conference_that_stays_active(bandwidth: Bandwidth) -> None:
    """After four reads NotConfirmedError is raised. It is ambiguous, because the end was accepted."""
    bandwidth.reads = [ACTIVE]
    with pytest.raises(
        NotConfirmedError, match="conf-1 was accepted, but it still reads as active"
    ) as caught:
        await end_one()
    assert (caught.value.ambiguous, caught.value.attempts) == (True, 5)
    assert bandwidth.kinds == ["end"] + ["read"] * 4


@virtual_time
async def test_a_conference_that_stays_active_in_a_run(bandwidth: Bandwidth) -> None:
    """In a run the outcome is ``unknown``, and the run does not stop."""
    bandwidth.reads = [ACTIVE]
    report, outcome = await run_of_one()
    assert (outcome.kind, outcome.attempts) == (OutcomeKind.UNKNOWN, 5)
    assert outcome.error is not None
    assert "still reads as active" in outcome.error
    assert report.stopped is None


@virtual_time
async def test_a_reading_that_fails(bandwidth: Bandwidth) -> None:
    """If the reads fail, the conference may have ended: an ambiguous error, or ``unknown`` in a run."""
    bandwidth.reads = [FAILS]
    with pytest.raises(ServerError) as caught:
        await end_one()
    assert caught.value.ambiguous
    report, outcome = await run_of_one()
    assert outcome.kind is OutcomeKind.UNKNOWN
    assert report.counts == {OutcomeKind.UNKNOWN: 1}


@virtual_time
async def test_a_reading_that_fails_for_a_moment(bandwidth: Bandwidth) -> None:
    """A failed read is retried like any request."""
    bandwidth.reads = [FAILS, FAILS, COMPLETED]
    assert (await end_one()).kind is OutcomeKind.ENDED


@pytest.mark.parametrize("by", ["listed", "conflict"])
@virtual_time
async def test_what_had_ended_before_is_not_read_again(bandwidth: Bandwidth, by: str) -> None:
    """After a 404 for a listed conference no read is needed. After a 409 one read is enough."""
    if by == "listed":
        bandwidth.ends = [GONE]
        outcome = await end_one(Conference(id="conf-1"))
        assert bandwidth.kinds == ["end"]
    else:
        bandwidth.ends = [CONFLICT]
        outcome = await end_one()
        assert bandwidth.kinds == ["end", "read"]
    assert outcome.kind is OutcomeKind.ALREADY_ENDED


@virtual_time
async def test_readings_are_first_tries(bandwidth: Bandwidth) -> None:
    """A read after a 409 is no retry, so it does not use the retry budget, however many there are."""
    bandwidth.ends = [CONFLICT]
    async with client_of() as client:
        outcomes = await asyncio.gather(*(client.end_conference("conf-1") for _ in range(400)))
    assert {outcome.kind for outcome in outcomes} == {OutcomeKind.ALREADY_ENDED}
