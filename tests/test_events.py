"""What ``on_event`` hears of operations and attempts, and what the log is told."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock

import pytest
from attrs import asdict, frozen

from bandwidth_async import (
    AttemptEnded,
    BandwidthError,
    ClientCredentials,
    ConfigurationError,
    DeadlineExceededError,
    Limiter,
    NotFoundError,
    OperationEnded,
    OperationStarted,
    Paused,
    RateLimit,
    RetryPolicy,
    VoiceClient,
)
from bandwidth_async.operation import Operation
from bandwidth_async.run import Stop
from bandwidth_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioresponses import aioresponses

    from bandwidth_async import Event

FAST = RetryPolicy(backoff_base=0.001)


def client_of(sandbox: Sandbox, **settings: Any) -> VoiceClient:
    """Return a client for a sandbox."""
    given: dict[str, Any] = {
        "account_id": sandbox.account_id,
        "credentials": ClientCredentials(sandbox.client_id, sandbox.client_secret),
        "voice_url": sandbox.url,
        "api_url": sandbox.url,
        "retry": FAST,
    }
    return VoiceClient(**given | settings)


def attempts_of(events: list[Event]) -> list[AttemptEnded]:
    return [one for one in events if isinstance(one, AttemptEnded) and one.serial]


def ends_of(events: list[Event]) -> list[OperationEnded]:
    return [one for one in events if isinstance(one, OperationEnded)]


async def test_each_attempt_tells_what_it_met() -> None:
    """Retries can be counted by cause, and how long each attempt waited."""
    heard: list[Event] = []
    async with Sandbox(conferences=1) as sandbox, client_of(sandbox, on_event=heard.append) as client:
        (only,) = sandbox.conference_ids
        sandbox.plan("503", times=2)
        sandbox.plan("429")
        sandbox.plan("reset-after")
        outcome = await client.end_conference(only)
    attempts = attempts_of(heard)
    assert [(one.number, one.resend_count, one.status, one.error) for one in attempts] == [
        (1, 0, 503, "ServerError"),
        (2, 1, 503, "ServerError"),
        (3, 2, 429, "RateLimitError"),
        (4, 3, None, "TransportError"),
        (5, 4, 404, "NotFoundError"),
    ]
    first, last = attempts[0], attempts[3]
    assert (first.operation, first.id, first.conference_id, first.bulk) == (
        "end conference",
        only,
        only,
        False,
    )
    assert (first.method, first.template) == (
        "POST",
        "/api/v2/accounts/{accountId}/conferences/{conferenceId}",
    )
    assert first.server + first.path == f"{sandbox.url}/api/v2/accounts/9900000/conferences/{only}"
    assert last.waited > 0.5 > last.elapsed
    (pause,) = [one for one in heard if isinstance(one, Paused)]
    assert pause.hinted
    begin, end = heard[0], heard[-1]
    assert isinstance(begin, OperationStarted)
    assert isinstance(end, OperationEnded)
    assert {begin.serial} == {end.serial} == {one.serial for one in attempts}
    assert (end.outcome, end.attempts, end.error) == ("already_ended", outcome.attempts, None)
    assert end.elapsed >= outcome.elapsed


async def test_a_request_for_a_token_is_told_too(mocked: aioresponses) -> None:
    """It belongs to no operation. Its retries are counted."""
    heard: list[Event] = []
    mocked.post("https://api.example.com/api/v1/oauth2/token", status=503)
    mocked.post(
        "https://api.example.com/api/v1/oauth2/token", payload={"access_token": "t", "expires_in": 60}
    )
    mocked.get("https://voice.example.com/api/v2/accounts/9900000/conferences/conf-1", status=404)
    async with VoiceClient(
        account_id="9900000",
        credentials=ClientCredentials("id", "secret"),
        voice_url="https://voice.example.com",
        api_url="https://api.example.com",
        retry=FAST,
        on_event=heard.append,
    ) as client:
        with pytest.raises(NotFoundError):
            await client.get_conference("conf-1")
    tokens = [one for one in heard if isinstance(one, AttemptEnded) and not one.serial]
    assert [(one.operation, one.number, one.resend_count, one.status) for one in tokens] == [
        ("get an access token", 1, 0, 503),
        ("get an access token", 2, 1, 200),
    ]
    assert {one.server for one in tokens} == {"https://api.example.com"}


async def test_each_id_of_a_run_has_one_end_with_the_outcome_that_is_reported() -> None:
    """Also the first, which is tried twice, an id that comes twice, and what can be no id."""
    heard: list[Event] = []
    async with Sandbox(conferences=6) as sandbox, client_of(sandbox, on_event=heard.append) as client:
        first, *rest = sandbox.conference_ids
        sandbox.plan("503", times=FAST.attempts)
        ids = [first, *rest, "conf-none", "no id", rest[0]]
        report = await client.end_conferences(ids, hang_up=True)
    ends = ends_of(heard)
    assert Counter(one.outcome for one in ends) == report.counts
    assert sum(one.attempts for one in ends) == report.attempts == len(attempts_of(heard))
    (of_first,) = [one for one in ends if one.id == first]
    assert (of_first.outcome, of_first.error) == ("ended", None)
    assert of_first.attempts > FAST.attempts
    (missing,) = [one for one in ends if one.id == "conf-none"]
    assert (missing.error, missing.bulk) == ("NotFoundError", True)
    names = Counter(one.operation for one in attempts_of(heard))
    assert set(names) == {"get conference", "end conference", "hang up call"}


async def test_an_id_that_a_run_did_not_try_has_a_sentence_alone() -> None:
    """No error was raised for it. Its end is all that is told."""
    heard: list[Event] = []
    stop = Stop()
    stop.request()
    async with Sandbox() as sandbox, client_of(sandbox, on_event=heard.append) as client:
        await client.end_conferences(["conf-1"], stop=stop)
    (end,) = heard
    assert isinstance(end, OperationEnded)
    assert (end.outcome, end.attempts, end.error) == ("not_attempted", 0, None)
    assert end.message == "the run was stopped"


async def test_iterating_tells_the_same() -> None:
    """The neighbour of a run that is awaited. What is in work when it is left has an end too."""
    heard: list[Event] = []
    async with Sandbox(conferences=40) as sandbox, client_of(sandbox, on_event=heard.append) as client:
        async with client.ending_conferences(sandbox.conference_ids) as outcomes:
            async for _ in outcomes:
                break
        begun = {one.serial for one in heard if isinstance(one, OperationStarted)}
        assert begun == {one.serial for one in ends_of(heard)}
        assert {one.outcome for one in ends_of(heard)} <= {"ended", "interrupted"}


@frozen
class Ask:
    """A call of a method, and the events that it has."""

    ask: Callable[[VoiceClient], Any]
    operation: str
    outcome: str
    attempts: int


@pytest.mark.parametrize(
    "one",
    [
        Ask(lambda client: client.get_conference("conf-none"), "get conference", "not_found", 1),
        Ask(lambda client: client.end_conference("conf-none"), "end conference", "not_found", 1),
        Ask(lambda client: client.end_conference("a b"), "end conference", "refused", 0),
        Ask(
            lambda client: client.end_conference("conf-none", deadline=1e-9),
            "end conference",
            "not_attempted",
            0,
        ),
    ],
)
async def test_the_end_of_an_operation_says_how_it_failed(one: Ask) -> None:
    """With the error's class and sentence, as plain values that JSON can hold."""
    heard: list[Event] = []
    async with Sandbox() as sandbox, client_of(sandbox, on_event=heard.append) as client:
        with pytest.raises(BandwidthError) as caught:
            await one.ask(client)
    (end,) = ends_of(heard)
    assert (end.operation, end.outcome, end.attempts) == (one.operation, one.outcome, one.attempts)
    assert (end.error, end.message) == (type(caught.value).__name__, caught.value.message)
    assert all(json.loads(json.dumps(asdict(event))) for event in heard)


async def test_an_attempt_that_the_deadline_cuts_says_so() -> None:
    """And one that was cancelled says that."""
    heard: list[Event] = []
    async with Sandbox(conferences=1) as sandbox, client_of(sandbox, on_event=heard.append) as client:
        await client.get_conference(sandbox.conference_ids[0])
        heard.clear()
        sandbox.plan("hang", times=2)
        with pytest.raises(DeadlineExceededError):
            await client.end_conference(sandbox.conference_ids[0], deadline=0.2)
        task = asyncio.create_task(client.end_conference(sandbox.conference_ids[0]))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [one.error for one in attempts_of(heard)] == ["DeadlineExceededError", "CancelledError"]
    assert [(one.outcome, one.error) for one in ends_of(heard)] == [
        ("unknown", "DeadlineExceededError"),
        ("interrupted", "CancelledError"),
    ]


async def test_each_page_of_a_listing_is_an_operation() -> None:
    """Its events hold no query."""
    heard: list[Event] = []
    async with Sandbox(conferences=3) as sandbox, client_of(sandbox, on_event=heard.append) as client:
        assert len([one async for one in client.list_conferences(page_size=2)]) == 3
    assert [(one.operation, one.outcome, one.id) for one in ends_of(heard)] == [
        ("list conferences", "ok", "")
    ] * 2
    assert {one.path for one in attempts_of(heard)} == {"/api/v2/accounts/9900000/conferences"}


async def test_a_hook_that_raises_breaks_nothing_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The operation goes on."""

    def fail(event: object) -> None:
        raise RuntimeError("no time")

    async with Sandbox(conferences=9) as sandbox, client_of(sandbox, on_event=fail) as client:
        report = await client.end_conferences(sandbox.conference_ids)
    assert report.ok
    assert [(one.name, one.levelname) for one in caplog.records] == [("bandwidth_async.events", "ERROR")]


class _Asynchronous:
    async def __call__(self, event: object) -> None: ...


@pytest.mark.parametrize("hook", [_Asynchronous(), _Asynchronous.__call__, "print"])
def test_a_hook_is_a_plain_function(hook: Any) -> None:
    """Nobody would await a coroutine function, nor an object whose call is one."""
    with pytest.raises(ConfigurationError, match="on_event is a plain function"):
        Limiter(on_event=hook)


async def test_a_hook_hears_a_limiter_that_is_passed_in_until_the_client_closes() -> None:
    """A client that shares a limiter hears its own operations, and the events of the limiter."""
    ours: list[Event] = []
    async with Sandbox(conferences=3) as sandbox:
        first, second, third = sandbox.conference_ids
        limiter = Limiter(RateLimit.adaptive(start=50))
        async with client_of(sandbox, limiter=limiter) as other:
            async with client_of(sandbox, limiter=limiter, on_event=ours.append) as client:
                sandbox.plan("429")
                await other.end_conference(first)
                await client.end_conference(second)
            told = len(ours)
            sandbox.plan("429")
            await other.end_conference(third)
    assert [type(one) for one in ours if isinstance(one, Paused)] == [Paused]
    assert {one.id for one in ends_of(ours)} == {second}
    assert len(ours) == told


async def test_a_close_that_is_cancelled_ends_the_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limiter is another's, and tells this client's hook nothing more. The next close ends the rest."""
    heard: list[Event] = []
    async with Sandbox(conferences=2) as sandbox:
        limiter, left = Limiter(RateLimit.adaptive(start=50)), list[str]()
        client = client_of(sandbox, limiter=limiter, on_event=heard.append)
        monkeypatch.setattr(limiter, "leave", AsyncMock(side_effect=lambda: left.append("left")))
        await client.end_conference(sandbox.conference_ids[0])
        closing = asyncio.create_task(client.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        told = len(heard)
        async with client_of(sandbox, limiter=limiter) as other:
            sandbox.plan("429")
            await other.end_conference(sandbox.conference_ids[1])
        await client.aclose()
        await client.aclose()
    assert len(heard) == told
    assert left == ["left"] * 2


async def test_without_a_hook_operations_are_the_plain_ones() -> None:
    """So that events cost nothing where nobody hears them."""
    async with Sandbox(conferences=1) as sandbox, client_of(sandbox) as client:
        assert client._channel.operation_type is Operation
        assert type(client._channel).__name__ == "Channel"


# --- the log --------------------------------------------------------------------------------------------


async def test_log_records_carry_what_was_tried(caplog: pytest.LogCaptureFixture) -> None:
    """Each attempt is a record at debug level whose fields a handler can use."""
    caplog.set_level(logging.DEBUG, "bandwidth_async")
    async with Sandbox(conferences=1) as sandbox, client_of(sandbox) as client:
        (only,) = sandbox.conference_ids
        sandbox.plan("503")
        sandbox.plan("reset-before")
        await client.end_conference(only)
    records = [one for one in caplog.records if one.name == "bandwidth_async.operation"]
    fields = [(one.operation, one.conference_id, one.attempt, one.status) for one in map(_fields, records)]
    assert fields == [
        ("get an access token", None, 0, 200),
        ("end conference", only, 1, 503),
        ("end conference", only, 2, None),
        ("end conference", only, 3, 204),
    ]


def _fields(record: logging.LogRecord) -> Any:
    return record


async def test_a_run_is_quiet_in_production(caplog: pytest.LogCaptureFixture) -> None:
    """At INFO it has two lines, its begin and its end, also with 429s and retries."""
    caplog.set_level(logging.INFO, "bandwidth_async")
    async with Sandbox(conferences=30) as sandbox, client_of(sandbox) as client:
        for fault in ("503", "429", "reset"):
            sandbox.plan(fault, times=2)
        await client.end_conferences([*sandbox.conference_ids, "conf-none"])
    assert [(one.name, one.levelname) for one in caplog.records] == [("bandwidth_async.run", "INFO")] * 2
    assert _fields(caplog.records[-1]).outcomes["not_found"] == 1


async def test_an_outage_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    """However many requests fail, and however often it is probed; its end is told at INFO."""
    caplog.set_level(logging.INFO, "bandwidth_async.limiter")
    async with Sandbox(conferences=2) as sandbox, client_of(sandbox) as client:
        first, second = sandbox.conference_ids
        await client.get_conference(first)
        sandbox.plan("500", times=21)
        await client.end_conferences([first, *(f"conf-{number}" for number in range(40)), second])
        await client.end_conferences([f"conf-{number}" for number in range(20)])
    assert [one.levelname for one in caplog.records] == ["WARNING", "INFO"]


async def test_a_conference_that_is_not_found_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    """What the caller is told by an error is not told by the log too."""
    async with Sandbox() as sandbox, client_of(sandbox) as client:
        with pytest.raises(NotFoundError):
            await client.end_conference("conf-none")
    assert caplog.records == []
