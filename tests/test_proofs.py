"""The promises of the client, tested on real sockets against the sandbox. ``make proofs`` runs them in full.

The tests compare the client's outcomes with the sandbox's records, id by id.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from bandwidth_async import (
    AuthenticationError,
    ClientCredentials,
    NotFoundError,
    Outcome,
    OutcomeKind,
    RetryPolicy,
    Timeouts,
    VoiceClient,
)
from bandwidth_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

FAULTS = "503=5%,reset=2%,hang=0.1%"
# A request that hangs costs one second here. Full proofs use the default of 15 seconds.
QUICK = Timeouts(attempt=1.0)


def client_of(sandbox: Sandbox, **settings: Any) -> VoiceClient:
    return VoiceClient(
        account_id=sandbox.account_id,
        credentials=ClientCredentials(sandbox.client_id, sandbox.client_secret),
        voice_url=sandbox.url,
        api_url=sandbox.url,
        **settings,
    )


def facts(sandbox: Sandbox) -> dict[str, bool]:
    return {id_: known["ended_at"] is not None for id_, known in sandbox.truth()["conferences"].items()}


def requests(sandbox: Sandbox) -> dict[str, dict[str, int]]:
    return {kind: counts for kind, counts in sandbox.truth()["requests"].items() if counts}


async def test_every_outcome_of_a_faulty_run_is_the_truth(full: bool, show: Callable[[str], None]) -> None:
    """Despite faults and a quota, each conference is ended, and the client reports each one correctly."""
    count, quota = (10_000, 500) if full else (400, 500)
    async with Sandbox(
        conferences=count,
        quota=f"token-bucket:rate={quota},burst=20",
        latency="20-100ms" if full else "1-5ms",
        faults=FAULTS,
        seed=11,
    ) as sandbox:
        outcomes: list[Outcome] = []
        async with client_of(sandbox, timeouts=Timeouts() if full else QUICK) as client:
            report = await client.end_conferences(sandbox.conference_ids, on_outcome=outcomes.append)
        show(
            f"{dict(report.counts)}, {report.attempts} requests, {report.elapsed:.1f} s; {requests(sandbox)}"
        )
        assert Counter(outcome.conference_id for outcome in outcomes) == Counter(sandbox.conference_ids)
        assert report.counts.keys() <= {OutcomeKind.ENDED, OutcomeKind.ALREADY_ENDED}
        assert facts(sandbox) == dict.fromkeys(sandbox.conference_ids, True)


async def test_300_tasks_each_get_their_own_right_answer(show: Callable[[str], None]) -> None:
    """With one client, one operation per task and faults, no task gets the answer of another."""
    async with Sandbox(conferences=200, faults="503=10%,reset=5%", seed=3) as sandbox:
        real, made_up = sandbox.conference_ids, [f"conf-none-{number}" for number in range(100)]

        async def end(client: VoiceClient, conference_id: str) -> tuple[str, str]:
            try:
                outcome = await client.end_conference(conference_id)
            except NotFoundError:
                return conference_id, "not_found"
            assert outcome.conference_id == conference_id
            return conference_id, outcome.kind.value

        async with client_of(sandbox, retry=RetryPolicy(attempts=10)) as client:
            said = dict(await asyncio.gather(*(end(client, id_) for id_ in [*real, *made_up])))
        show(f"{Counter(said.values())}; {requests(sandbox)}")
        assert {said[id_] for id_ in real} <= {"ended", "already_ended"}
        # After a reset, a 404 counts as already ended: the reset request may have ended the conference.
        assert {said[id_] for id_ in made_up} <= {"not_found", "already_ended"}
        assert facts(sandbox) == dict.fromkeys(real, True)


async def test_a_wrong_account_id_stops_the_run_after_a_few(sandbox_of_five: Sandbox) -> None:
    """The sandbox answers 401, as Bandwidth does without access to the account. No conference is ended."""
    async with VoiceClient(
        account_id="1",
        credentials=ClientCredentials(sandbox_of_five.client_id, sandbox_of_five.client_secret),
        voice_url=sandbox_of_five.url,
        api_url=sandbox_of_five.url,
    ) as client:
        report = await client.end_conferences(f"conf-{number}" for number in range(1000))
    assert report.counts.keys() == {OutcomeKind.FAILED, OutcomeKind.NOT_ATTEMPTED}
    assert (report.total, type(report.stopped)) == (1000, AuthenticationError)
    assert requests(sandbox_of_five)["end"]["401"] < 20
    assert not any(facts(sandbox_of_five).values())


async def test_a_wrong_client_id_costs_one_request(sandbox_of_five: Sandbox) -> None:
    """One token request is sent, however many operations wait for the token. No other request is sent."""
    async with VoiceClient(
        account_id=sandbox_of_five.account_id,
        credentials=ClientCredentials("nobody", "wrong"),
        voice_url=sandbox_of_five.url,
        api_url=sandbox_of_five.url,
    ) as client:
        ends = [client.end_conference(id_) for id_ in sandbox_of_five.conference_ids * 20]
        errors = await asyncio.gather(*ends, return_exceptions=True)
        assert {type(error) for error in errors} == {AuthenticationError}
        report = await client.end_conferences(f"conf-{number}" for number in range(1000))
    assert (report.total, type(report.stopped)) == (1000, AuthenticationError)
    assert requests(sandbox_of_five) == {"token": {"401": 1}}


async def test_tokens_that_expire_mid_run_are_renewed_unseen(full: bool, show: Callable[[str], None]) -> None:
    """Tokens that expire after a second, or are revoked, do not change any outcome."""
    async with Sandbox(
        conferences=2000 if full else 300,
        latency="1-20ms",
        quota="token-bucket:rate=150,burst=20",
        token_lifetime="1s",
    ) as sandbox:
        outcomes: list[Outcome] = []

        def note(outcome: Outcome) -> None:
            outcomes.append(outcome)
            if len(outcomes) in {100, 150, 200, 250}:
                sandbox.revoke_tokens()

        async with client_of(sandbox) as client:
            report = await client.end_conferences(sandbox.conference_ids, on_outcome=note)
        show(f"{requests(sandbox)}")
        assert report.counts == {OutcomeKind.ENDED: len(sandbox.conference_ids)}
        assert requests(sandbox)["end"]["401"] >= 1
        assert requests(sandbox)["token"]["200"] >= 2


async def test_401_on_everything_stops_the_run_after_a_handful_of_requests(sandbox_of_five: Sandbox) -> None:
    """If new tokens get nothing but 401s for some seconds, the run stops with an AuthenticationError."""
    sandbox_of_five.refuse_all()
    async with client_of(sandbox_of_five) as client:
        report = await client.end_conferences(f"conf-{number}" for number in range(1000))
    assert isinstance(report.stopped, AuthenticationError)
    assert report.total == 1000
    assert set(report.counts) == {OutcomeKind.FAILED, OutcomeKind.NOT_ATTEMPTED}
    asked = requests(sandbox_of_five)
    assert report.counts["failed"] <= asked["end"]["401"] <= 5
    assert asked["token"]["200"] <= 3


@pytest.fixture
async def sandbox_of_five() -> Any:
    """Serve five conferences."""
    async with Sandbox(conferences=5) as sandbox:
        yield sandbox
