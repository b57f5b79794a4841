"""``hang_up``: the client reads the members, ends the conference, and hangs up each member's call."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from aioresponses import aioresponses

from bandwidth_async import (
    BadRequestError,
    BasicCredentials,
    ClientCredentials,
    DeadlineExceededError,
    HangUpError,
    Journal,
    NotFoundError,
    Outcome,
    OutcomeKind,
    RetryPolicy,
    Stop,
    VoiceClient,
)
from bandwidth_async.journal import read_outcomes
from bandwidth_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def client_of(sandbox: Sandbox, **settings: Any) -> VoiceClient:
    return VoiceClient(
        account_id=sandbox.account_id,
        credentials=ClientCredentials(sandbox.client_id, sandbox.client_secret),
        voice_url=sandbox.url,
        api_url=sandbox.url,
        **{"retry": RetryPolicy(backoff_base=0.01), **settings},
    )


def active(sandbox: Sandbox) -> set[str]:
    """Return the ids of the active calls in the sandbox."""
    return set(sandbox.active_calls())


def requests(sandbox: Sandbox, kind: str) -> int:
    return sum(sandbox.truth()["requests"].get(kind, {}).values())


async def members_of(client: VoiceClient, conference_id: str) -> set[str]:
    conference = await client.get_conference(conference_id)
    return {member.call_id for member in conference.active_members or ()}


async def test_the_calls_of_a_conference_are_ended_with_it() -> None:
    """The outcome lists the calls of the conference, and none of them is still active."""
    async with Sandbox(conferences=2, members="3") as sandbox, client_of(sandbox) as client:
        first, second = sandbox.conference_ids
        calls = await members_of(client, first)
        outcome = await client.end_conference(first, hang_up=True)
        assert (outcome.kind, set(outcome.calls_ended), outcome.attempts) == (OutcomeKind.ENDED, calls, 5)
        assert active(sandbox) == await members_of(client, second)
        assert (await client.end_conference(second)).calls_ended == ()
        assert len(active(sandbox)) == 3


async def test_a_call_that_has_ended_before_counts_as_ended() -> None:
    """A call counts as ended when a hang-up gets a 404, even after a 409."""
    async with Sandbox(conferences=1, members="2") as sandbox, client_of(sandbox) as client:
        (conference_id,) = sandbox.conference_ids
        sandbox.plan("409", kind="hang-up")
        sandbox.plan("404", kind="hang-up")
        outcome = await client.end_conference(conference_id, hang_up=True)
        assert (outcome.kind, len(outcome.calls_ended)) == (OutcomeKind.ENDED, 2)


async def test_a_conference_that_is_not_there_has_no_calls() -> None:
    """With ``hang_up``, a 404 for the conference still raises NotFoundError."""
    async with Sandbox(conferences=0) as sandbox, client_of(sandbox) as client:
        with pytest.raises(NotFoundError):
            await client.end_conference("conf-none", hang_up=True)
        assert requests(sandbox, "hang-up") == 0


async def test_calls_that_go_on_are_named() -> None:
    """If a call cannot be hung up, the error lists the calls that are still active."""
    async with (
        Sandbox(conferences=1, members="2") as sandbox,
        client_of(sandbox, retry=RetryPolicy(attempts=1)) as client,
    ):
        (conference_id,) = sandbox.conference_ids
        calls = await members_of(client, conference_id)
        sandbox.plan("503", kind="hang-up")
        with pytest.raises(HangUpError) as caught:
            await client.end_conference(conference_id, hang_up=True)
        error = caught.value
        assert {*error.calls_ended, *error.calls_left} == calls
        assert (len(error.calls_left), error.attempts, error.ambiguous) == (1, 4, False)
        assert error.calls_left[0] in str(error)
        assert active(sandbox) == set(error.calls_left)


@pytest.mark.looptime
async def test_a_call_that_is_in_conflict_and_goes_on_is_named() -> None:
    """After a 409 for an active call the client tries twice more. Then the outcome is ``refused``."""
    async with Sandbox(conferences=1, members="2") as sandbox, client_of(sandbox) as client:
        sandbox.plan("409", times=3, kind="hang-up")
        first, second = sandbox.call_ids(sandbox.conference_ids[0])
        outcomes: list[Outcome] = []
        await client.end_conferences(sandbox.conference_ids, hang_up=True, on_outcome=outcomes.append)
        (outcome,) = outcomes
        assert (outcome.kind, outcome.calls_ended) == (OutcomeKind.REFUSED, (second,))
        assert outcome.error is not None
        assert f"1 of its 2 calls go on ({first}): " in outcome.error
        assert (requests(sandbox, "hang-up"), requests(sandbox, "get-call")) == (4, 3)
        assert active(sandbox) == {first}


@pytest.mark.looptime
async def test_a_conflict_that_passes() -> None:
    """After a 409 that was temporary, the second attempt hangs up the call."""
    async with Sandbox(conferences=1, members="1") as sandbox, client_of(sandbox) as client:
        sandbox.plan("409", kind="hang-up")
        (conference_id,) = sandbox.conference_ids
        outcome = await client.end_conference(conference_id, hang_up=True)
        assert outcome.calls_ended == tuple(sandbox.call_ids(conference_id))
        assert (requests(sandbox, "hang-up"), active(sandbox)) == (2, set())


@pytest.mark.parametrize("lost", [False, True], ids=["by itself", "after a lost answer"])
@pytest.mark.looptime
async def test_a_conflict_of_a_call_that_is_over(*, lost: bool) -> None:
    """A 409 for a call that is over counts as ended, and the client reads the call once."""
    async with Sandbox(conferences=1, members="2") as sandbox, client_of(sandbox) as client:
        (conference_id,) = sandbox.conference_ids
        calls = tuple(sandbox.call_ids(conference_id))
        if lost:
            sandbox.plan("503-after", kind="hang-up")
        else:
            sandbox.plan("409-after", kind="hang-up")
        outcome = await client.end_conference(conference_id, hang_up=True)
        assert (outcome.calls_ended, active(sandbox)) == (calls, set())
        assert (requests(sandbox, "hang-up"), requests(sandbox, "get-call")) == (3 if lost else 2, 1)


async def test_a_call_that_cannot_be_read_yet_is_not_known_to_be_over() -> None:
    """Bandwidth cannot read a call for some minutes. So a 404 proves nothing after, say, a gateway's page."""
    async with Sandbox(conferences=1, members="1") as sandbox, client_of(sandbox) as client:
        sandbox.plan("202", kind="hang-up")
        sandbox.plan("404", kind="get-call")
        (call,) = sandbox.active_calls()
        with pytest.raises(HangUpError, match="it cannot be read, perhaps not yet") as caught:
            await client.end_conference(sandbox.conference_ids[0], hang_up=True)
        assert (caught.value.calls_left, caught.value.lasting) == ((call,), False)


async def test_a_conflict_of_a_call_that_cannot_be_read_is_its_end() -> None:
    """Bandwidth documents a 409 for a call that ended recently, and a member was answered."""
    async with Sandbox(conferences=1, members="1") as sandbox, client_of(sandbox) as client:
        sandbox.plan("409-after", kind="hang-up")
        sandbox.plan("404", kind="get-call")
        outcome = await client.end_conference(sandbox.conference_ids[0], hang_up=True)
        assert (len(outcome.calls_ended), active(sandbox)) == (1, set())


@pytest.mark.parametrize(
    ("faults", "kind"),
    [
        (["400", "400"], OutcomeKind.REFUSED),
        (["503", "503"], OutcomeKind.FAILED),
        (["400", "503"], OutcomeKind.FAILED),
    ],
)
async def test_a_lasting_no_is_settled_and_a_passing_one_is_not(
    faults: list[str], kind: OutcomeKind, tmp_path: Path
) -> None:
    """A permanent error settles the id. After a temporary error a resume tries the id again."""
    async with (
        Sandbox(conferences=1, members="2") as sandbox,
        client_of(sandbox, retry=RetryPolicy(attempts=1)) as client,
    ):
        for fault in faults:
            sandbox.plan(fault, kind="hang-up")
        async with Journal.create(tmp_path / "j", account_id=client.account_id, created=0.0) as journal:
            await journal.record(sandbox.conference_ids)
            report = await client.end_conferences(journal, hang_up=True)
            assert report.counts == {kind: 1}
            assert len(list(journal.unsettled())) == (0 if kind.settled else 1)
        assert len(active(sandbox)) == 2


@pytest.mark.parametrize(
    "call_id", ["c-1\x1b[2J", "c-1\nended", "c-1\u202e", "c-1\ud800", "../../conferences"]
)
@pytest.mark.looptime
async def test_what_a_server_calls_a_call_reaches_no_terminal(mocked: aioresponses, call_id: str) -> None:
    """The error is one printable line, whatever ids the server sends for its members."""
    conference = "https://voice.bandwidth.com/api/v2/accounts/9900000/conferences/conf-1"
    members = [{"callId": call_id, "conferenceId": "conf-1"}]
    mocked.get(conference, payload={"id": "conf-1", "activeMembers": members}, repeat=True)
    mocked.post(conference, status=204, repeat=True)
    mocked.post(re.compile(".*/calls/.*"), status=400, repeat=True)
    async with VoiceClient(account_id="9900000", credentials=BasicCredentials("user", "password")) as client:
        with pytest.raises(HangUpError) as caught:
            await client.end_conference("conf-1", hang_up=True)
        outcomes: list[Outcome] = []
        await client.end_conferences(["conf-1"], hang_up=True, on_outcome=outcomes.append)
    assert caught.value.calls_left == (call_id,)
    assert (str(caught.value).isprintable(), "1 of its 1 calls go on" in str(caught.value)) == (True, True)
    assert outcomes[0].error is not None
    assert outcomes[0].error.isprintable()


async def test_in_a_run_it_failed_and_says_which_calls_ended() -> None:
    """In a run, a failed hang-up makes the outcome ``failed``, and the conference is ended only once."""
    async with (
        Sandbox(conferences=1, members="2") as sandbox,
        client_of(sandbox, retry=RetryPolicy(attempts=1)) as client,
    ):
        sandbox.plan("503", kind="hang-up")
        outcomes: list[Outcome] = []
        report = await client.end_conferences(
            sandbox.conference_ids, hang_up=True, on_outcome=outcomes.append
        )
        assert report.counts == {OutcomeKind.FAILED: 1}
        assert (len(outcomes[0].calls_ended), requests(sandbox, "end")) == (1, 1)


async def test_a_deadline_holds_over_all_of_it() -> None:
    """One deadline limits the whole operation: reading the members, the end, and all hang-ups."""
    async with Sandbox(conferences=1, members="4", latency="60ms") as sandbox, client_of(sandbox) as client:
        # This read fetches the token ahead of the deadline.
        await client.get_conference(sandbox.conference_ids[0])
        with pytest.raises(HangUpError) as caught:
            await client.end_conference(sandbox.conference_ids[0], hang_up=True, deadline=0.16)
        assert isinstance(caught.value.__cause__, DeadlineExceededError)
        assert caught.value.calls_left


async def test_a_journal_remembers_the_calls(tmp_path: Path) -> None:
    """An ended conference lists no members, so a resume takes the calls from the journal."""
    path, stop = tmp_path / "run.journal", Stop()
    async with (
        Sandbox(conferences=3, members="2") as sandbox,
        client_of(sandbox, retry=RetryPolicy(attempts=1)) as client,
    ):
        sandbox.plan("503", times=2, kind="hang-up")
        async with Journal.create(path, account_id=client.account_id, created=0.0) as journal:
            await journal.record(sandbox.conference_ids)
            report = await client.end_conferences(
                journal, hang_up=True, on_outcome=lambda _: stop.request(), stop=stop, concurrency=1
            )
        assert report.counts == {OutcomeKind.FAILED: 1, OutcomeKind.NOT_ATTEMPTED: 2}
        assert len(active(sandbox)) == 6
        async with Journal.open(path) as journal:
            outcomes: list[Outcome] = []
            await client.end_conferences(journal, hang_up=True, on_outcome=outcomes.append)
            kinds = [outcome.kind.value for outcome in outcomes]
            assert sorted(kinds) == ["already_ended", "ended", "ended"]
            assert [len(outcome.calls_ended) for outcome in outcomes] == [2, 2, 2]
            assert journal.report().unsettled == 0
        assert [len(outcome.calls_ended) for outcome in read_outcomes(path)] == [2, 2, 2]
        assert active(sandbox) == set()


async def test_the_second_try_of_the_first_id_hangs_up_the_calls_that_the_first_try_saw() -> None:
    """The first try may have ended the conference. Then the second can no longer read who was in it."""
    async with (
        Sandbox(conferences=1, members="2") as sandbox,
        client_of(sandbox, retry=RetryPolicy(attempts=1)) as client,
    ):
        sandbox.plan("reset-after", kind="end")
        sandbox.plan("reset-after", kind="end")
        outcomes: list[Outcome] = []
        await client.end_conferences(sandbox.conference_ids, hang_up=True, on_outcome=outcomes.append)
        (outcome,) = outcomes
        assert (outcome.kind, len(outcome.calls_ended)) == (OutcomeKind.ALREADY_ENDED, 2)
        assert active(sandbox) == set()


async def test_the_attempts_of_an_end_that_failed_include_the_reading_of_its_members() -> None:
    """An outcome and an error tell all requests, whichever part of the end they belong to."""
    async with Sandbox(conferences=1, members="1") as sandbox, client_of(sandbox) as client:
        (conference_id,) = sandbox.conference_ids
        sandbox.plan("400", kind="end")
        with pytest.raises(BadRequestError) as caught:
            await client.end_conference(conference_id, hang_up=True)
        assert caught.value.attempts == 2
        sandbox.plan("409", times=9, kind="hang-up")
        with pytest.raises(HangUpError) as left:
            await client.end_conference(conference_id, hang_up=True)
        sent = requests(sandbox, "get") + requests(sandbox, "end")
        sent += requests(sandbox, "hang-up") + requests(sandbox, "get-call")
        assert left.value.attempts + caught.value.attempts == sent


async def test_no_call_is_left_alive(full: bool, show: Callable[[str], None]) -> None:
    """After a run over many conferences with server faults, no call is active."""
    count = 500 if full else 40
    async with Sandbox(
        conferences=count, members="0-20", faults="503=1%,reset=1%", latency="1-10ms", seed=5
    ) as sandbox:
        async with client_of(sandbox, retry=RetryPolicy()) as client:
            outcomes: list[Outcome] = []
            report = await client.end_conferences(
                sandbox.conference_ids, hang_up=True, on_outcome=outcomes.append
            )
        hung_up = sum(len(outcome.calls_ended) for outcome in outcomes)
        left = len(active(sandbox))
        show(f"{dict(report.counts)}, {hung_up} calls hung up, {left} left, {report.elapsed:.0f} s")
        assert active(sandbox) == set()
        assert report.ok
        assert hung_up > 5 * count
