"""The parts that all requests of one account share: tokens, the limiter, deadlines and the session."""

from __future__ import annotations

import asyncio
import base64
import gc
import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import aiohttp
import pytest
from aioresponses import CallbackResult, aioresponses
from attrs import define, field
from yarl import URL

from bandwidth_async import wire
from bandwidth_async.credentials import BasicCredentials, ClientCredentials, Credentials
from bandwidth_async.errors import (
    APIError,
    AuthenticationError,
    BandwidthError,
    ClientStateError,
    ConfigurationError,
    DeadlineExceededError,
    NotFoundError,
    RateLimitError,
    ServerError,
    TransportError,
    UnavailableError,
)
from bandwidth_async.http import Delivery
from bandwidth_async.limiter import Limiter, RateLimit
from bandwidth_async.operation import Channel, Options
from bandwidth_async.retry import Attempts, RetryPolicy
from bandwidth_async.run import Stop
from bandwidth_async.updates import ConferenceStatus, UpdateConference

VOICE, API = "https://voice.bandwidth.com", "https://api.bandwidth.com"
CONFERENCE = f"{VOICE}/api/v2/accounts/9900000/conferences/conf-1"
TOKEN = f"{API}/api/v1/oauth2/token"
END = wire.update_conference("9900000", "conf-1", UpdateConference(status=ConferenceStatus.COMPLETED))
OPTIONS = Options()
SECRET = "s3cr3t-never-shown"
TICK = 1e-3

virtual_time = pytest.mark.looptime(noop_cycles=5)


def about(moment: float, abs: float = TICK) -> Any:  # noqa: A002  # the name that pytest uses
    """Return a value that equals any number near ``moment``."""
    return pytest.approx(moment, abs=abs)


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


Answer = CallbackResult | Exception


@define
class Bandwidth:
    """Serves both endpoints: the scripted responses first, then those of the real server."""

    valid: set[str] = field(factory=set)
    lifetime: float | None = 3600
    latency: float = 0.0
    tokens: list[Answer] = field(factory=list)
    answers: list[Answer] = field(factory=list)
    asked_tokens: list[tuple[float, str]] = field(factory=list)
    asked: list[tuple[float, str]] = field(factory=list)
    given: int = 0
    strays: Callable[[], bool] = lambda: False  # whether the request of this task is answered 401

    async def token(self, _: URL, **request: Any) -> CallbackResult:
        """Answer a token request."""
        self.asked_tokens.append((now(), request["headers"]["Authorization"]))
        assert request["data"] == b"grant_type=client_credentials"
        if self.tokens:
            return await self._scripted(self.tokens)
        await asyncio.sleep(self.latency)
        self.given += 1
        value = f"token-{self.given}-{SECRET}"
        self.valid.add(f"Bearer {value}")
        return CallbackResult(
            status=200, payload={"access_token": value, "token_type": "bearer", "expires_in": self.lifetime}
        )

    async def conference(self, _: URL, **request: Any) -> CallbackResult:
        """Answer an update."""
        self.asked.append((now(), request["headers"]["Authorization"]))
        if self.answers:
            return await self._scripted(self.answers)
        await asyncio.sleep(self.latency)
        if self.strays():
            return CallbackResult(status=401)
        return CallbackResult(status=204 if request["headers"]["Authorization"] in self.valid else 401)

    async def _scripted(self, script: list[Answer]) -> CallbackResult:
        answer = script.pop(0)
        await asyncio.sleep(self.latency)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def bandwidth(mocked: aioresponses) -> Bandwidth:
    """Serve Bandwidth's own hosts."""
    fake = Bandwidth()
    mocked.post(TOKEN, callback=fake.token, repeat=True)
    mocked.post(CONFERENCE, callback=fake.conference, repeat=True)
    return fake


@asynccontextmanager
async def channel_of(**settings: Any) -> AsyncIterator[Channel]:
    """Open a channel, close it, and check that no task is left."""
    before = asyncio.all_tasks()
    defaults: dict[str, Any] = {
        "credentials": ClientCredentials("me", SECRET),
        "voice_url": URL(VOICE),
        "api_url": URL(API),
        "limiter": Limiter(RateLimit(1000, 1000), Random(5)),
        "token_options": OPTIONS,
        "session": None,
        "proxy": None,
        "trust_env": False,
        "random": Random(5),
    }
    channel = Channel(**{**defaults, **settings})
    try:
        yield channel
    finally:
        await channel.aclose()
    assert asyncio.all_tasks() == before


async def end(channel: Channel, options: Options = OPTIONS, stop: Stop | None = None) -> Attempts:
    """End the conference and return the attempts."""
    with channel.operation(options, stop) as operation:
        await operation.send(END)
    return operation.attempts


async def end_many(
    channel: Channel, count: int, options: Options = OPTIONS
) -> list[Attempts | BaseException]:
    """End the conference in many tasks at once."""
    return await asyncio.gather(*(end(channel, options) for _ in range(count)), return_exceptions=True)


def status(code: int, **headers: str) -> CallbackResult:
    """Return a response with this status. A ``_`` in a header's name becomes ``-``."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return CallbackResult(status=code, headers=named)


# Tokens


@virtual_time
async def test_a_hundred_calls_share_one_token(bandwidth: Bandwidth) -> None:
    """The token is fetched once, and no operation waits for another's request."""
    bandwidth.latency = 1.0
    async with channel_of() as channel:
        results = await end_many(channel, 100)
        assert [result.sent for result in results if isinstance(result, Attempts)] == [1] * 100
        assert now() == about(2.0, abs=0.01)
        await end(channel)
    basic = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()
    assert bandwidth.asked_tokens == [(0.0, basic)]
    assert {shown for _, shown in bandwidth.asked} == {f"Bearer token-1-{SECRET}"}


@virtual_time
async def test_a_revoked_token_is_replaced_once_for_all(bandwidth: Bandwidth) -> None:
    """The client fetches one new token, however many operations got a 401."""
    async with channel_of() as channel:
        await end(channel)
        bandwidth.valid.clear()
        bandwidth.latency = 0.2
        results = await end_many(channel, 100)
        assert [result.sent for result in results if isinstance(result, Attempts)] == [2] * 100
    assert len(bandwidth.asked_tokens) == 2


@virtual_time
async def test_a_401_with_a_fresh_token_stands(bandwidth: Bandwidth) -> None:
    """If the 401s stay for some seconds, the error is raised and the credentials are blocked for a while."""
    bandwidth.answers = [status(401)] * 1000
    async with channel_of() as channel:
        with pytest.raises(AuthenticationError) as caught:
            await end(channel)
        assert (caught.value.status, caught.value.attempts, len(bandwidth.asked)) == (401, 4, 4)
        assert 3.0 < now() < 6.0
        results = await end_many(channel, 50)
        assert {type(result) for result in results} == {AuthenticationError}
        assert [result.attempts for result in results if isinstance(result, BandwidthError)] == [0] * 50
        assert (len(bandwidth.asked), len(bandwidth.asked_tokens)) == (4, 2)


@virtual_time
async def test_a_hundred_calls_with_401_only(bandwidth: Bandwidth) -> None:
    """Requests in flight may be rejected. Then one request at a time tests the credentials."""
    bandwidth.answers = [status(401)] * 1000
    bandwidth.latency = 0.1
    async with channel_of() as channel:
        results = await end_many(channel, 100)
    assert {type(result) for result in results} == {AuthenticationError}
    assert len(bandwidth.asked) == 103
    assert len(bandwidth.asked_tokens) == 2


@virtual_time
async def test_one_stray_401_in_twenty_ends_no_call(bandwidth: Bandwidth) -> None:
    """One server of many is wrong: its 401s are the trouble of the calls that meet them."""
    random = Random(7)

    async def serve(channel: Channel) -> list[Attempts]:
        return [await end(channel) for _ in range(50)]

    async with channel_of() as channel:
        await end(channel)
        bandwidth.latency = 0.05
        bandwidth.strays = lambda: random.random() < 0.05
        served = await asyncio.gather(*(serve(channel) for _ in range(20)))
    tries = [attempts.sent for one in served for attempts in one]
    assert len(tries) == 1000
    assert 1020 < sum(tries) < 1120
    assert len(bandwidth.asked_tokens) <= 2 + now()


@virtual_time
async def test_a_token_that_is_not_known_everywhere_yet(bandwidth: Bandwidth) -> None:
    """A 401 for a token of the same second is no verdict: it is shown again, and no other is fetched."""
    async with channel_of() as channel:
        known = bandwidth.valid
        bandwidth.valid = set()
        asyncio.get_running_loop().call_later(0.7, lambda: known.update(bandwidth.valid))
        asyncio.get_running_loop().call_later(0.8, lambda: setattr(bandwidth, "valid", known))
        results = await end_many(channel, 50)
    assert {type(result) for result in results} == {Attempts}
    assert len(bandwidth.asked_tokens) == 1
    assert len(bandwidth.asked) <= 50 + 2 + 50


@virtual_time
async def test_a_call_that_always_meets_a_401_fails_alone(bandwidth: Bandwidth) -> None:
    """While others are accepted, nobody concludes that the credentials are refused."""
    async with channel_of() as channel:
        await end(channel)
        poisoned = asyncio.create_task(end(channel))
        bandwidth.strays = lambda: asyncio.current_task() is poisoned

        async def others() -> None:
            while not poisoned.done():
                await end(channel)
                await asyncio.sleep(0.01)

        running = asyncio.create_task(others())
        with pytest.raises(AuthenticationError) as caught:
            await poisoned
        await running
        assert caught.value.attempts == 6
        assert not channel.authorizer.is_blocked


@virtual_time
async def test_basic_credentials_that_were_accepted_survive_a_stray_401(bandwidth: Bandwidth) -> None:
    """There is nothing fresh to show, but a password that was right a second ago is tried again."""
    credentials = BasicCredentials("user", SECRET)
    bandwidth.valid = {credentials.basic()}
    async with channel_of(credentials=credentials) as channel:
        await end(channel)
        bandwidth.answers = [status(401)] * 2
        assert (await end(channel)).sent == 3
        bandwidth.valid.clear()
        for _ in range(3):
            with pytest.raises(AuthenticationError):
                await end(channel)
        assert channel.authorizer.is_blocked
        assert len(bandwidth.asked) == 4 + 8


@virtual_time
async def test_a_revoked_token_and_an_endpoint_that_fails(bandwidth: Bandwidth) -> None:
    """Then nobody is told that the credentials are wrong: there is no token for a while."""
    async with channel_of() as channel:
        await end(channel)
        await asyncio.sleep(2.0)
        bandwidth.valid.clear()
        bandwidth.tokens = [status(503)] * 40
        while bandwidth.tokens:
            with pytest.raises((AuthenticationError, ServerError)):
                await end(channel)
            assert not channel.authorizer.is_blocked
            await asyncio.sleep(0.5)
        await asyncio.sleep(30.0)
        await end(channel)


@pytest.mark.parametrize(
    "trouble", [status(503), status(401), status(429), aiohttp.ServerDisconnectedError()]
)
@virtual_time
async def test_a_retry_keeps_its_place_in_line(bandwidth: Bandwidth, trouble: Answer) -> None:
    """The first of 100 calls meets it once, and ends before those that came later, not as the last."""
    ended: list[int] = []

    async def call(channel: Channel, number: int) -> None:
        await end(channel)
        ended.append(number)

    async with channel_of(limiter=Limiter(RateLimit(20), Random(5))) as channel:
        await channel.authorizer.wait_until_ready()
        bandwidth.answers = [trouble]
        await asyncio.gather(*(call(channel, number) for number in range(100)))
    assert ended.index(0) <= 12


@virtual_time
async def test_basic_credentials_have_nothing_fresh(bandwidth: Bandwidth) -> None:
    """With basic credentials a 401 is raised at once, and no token is requested."""
    async with channel_of(credentials=BasicCredentials("user", SECRET)) as channel:
        with pytest.raises(AuthenticationError) as caught:
            await end(channel)
    basic = "Basic " + base64.b64encode(f"user:{SECRET}".encode()).decode()
    assert (caught.value.attempts, bandwidth.asked, bandwidth.asked_tokens) == (1, [(0.0, basic)], [])


@pytest.mark.parametrize("code", [400, 401, 403])
@virtual_time
async def test_wrong_credentials_cost_one_request(bandwidth: Bandwidth, code: int) -> None:
    """A hundred operations cost one token request, and each error says what to check."""
    refusal = CallbackResult(
        status=code, payload={"error": "invalid_client", "error_description": "Bad secret"}
    )
    bandwidth.tokens = [refusal] * 2
    bandwidth.latency = 0.5
    async with channel_of() as channel:
        results = await end_many(channel, 100)
        assert {type(result) for result in results} == {AuthenticationError}
        assert len({id(result) for result in results}) == 100
        sentence = str(results[0])
        for words in ("no access token", str(code), "invalid_client: Bad secret", "check the client id"):
            assert words in sentence
        assert SECRET not in sentence
        await asyncio.sleep(20)
        with pytest.raises(AuthenticationError):
            await end(channel)
        assert (len(bandwidth.asked_tokens), bandwidth.asked) == (1, [])
        await asyncio.sleep(20)
        with pytest.raises(AuthenticationError):
            await end(channel)
        assert len(bandwidth.asked_tokens) == 2
        await asyncio.sleep(31)
        await end(channel)


@virtual_time
async def test_a_token_endpoint_that_is_not_there(bandwidth: Bandwidth) -> None:
    """A 404 of the token endpoint is an AuthenticationError, because it is not about a conference."""
    bandwidth.tokens = [status(404)]
    async with channel_of() as channel:
        with pytest.raises(AuthenticationError) as caught:
            await end(channel)
    assert not isinstance(caught.value, NotFoundError)
    assert (caught.value.status, caught.value.attempts, caught.value.ambiguous) == (404, 0, False)


@pytest.mark.parametrize(
    "trouble",
    [status(503), status(500), status(429), aiohttp.ServerDisconnectedError(), CallbackResult(body="<html>")],
    ids=["503", "500", "429", "dropped", "not json"],
)
@virtual_time
async def test_a_token_endpoint_in_trouble_is_asked_again(bandwidth: Bandwidth, trouble: Answer) -> None:
    """A temporary error of the token endpoint is retried once for all operations."""
    bandwidth.tokens = [trouble] * 2
    async with channel_of() as channel:
        results = await end_many(channel, 20)
    assert {type(result) for result in results} == {Attempts}
    assert len(bandwidth.asked_tokens) == 3


@virtual_time
async def test_a_token_endpoint_s_hint_is_obeyed(bandwidth: Bandwidth) -> None:
    """The token endpoint has no limiter, so the retry itself waits for the hint."""
    bandwidth.tokens = [status(429, Retry_After="7")]
    async with channel_of() as channel:
        await end(channel)
    assert [moment >= 7.0 for moment, _ in bandwidth.asked_tokens] == [False, True]


@virtual_time
async def test_a_token_endpoint_that_stays_down(bandwidth: Bandwidth) -> None:
    """All waiting operations get the error of the last attempt. A second later one may try again."""
    bandwidth.tokens = [status(503)] * 5
    async with channel_of() as channel:
        results = await end_many(channel, 10)
        assert {type(result) for result in results} == {ServerError}
        assert [result.attempts for result in results if isinstance(result, BandwidthError)] == [0] * 10
        assert len(bandwidth.asked_tokens) == 5
        with pytest.raises(ServerError, match="try again in 1 s"):
            await end(channel)
        await asyncio.sleep(1.01)
        await end(channel)


@virtual_time
async def test_a_token_endpoint_that_is_closed_for_an_hour(bandwidth: Bandwidth) -> None:
    """The error has the time of the hint, and the client does not wait for it."""
    bandwidth.tokens = [status(429, Retry_After="3600")]
    async with channel_of() as channel:
        with pytest.raises(RateLimitError) as caught:
            await end(channel)
    assert (caught.value.retry_after, now()) == (3600.0, about(0.0))


@virtual_time
async def test_a_token_is_renewed_before_it_ends(bandwidth: Bandwidth) -> None:
    """The token is renewed while the old one is valid, and no operation waits for it."""
    bandwidth.lifetime = 600
    async with channel_of() as channel:
        await end(channel)
        await asyncio.sleep(545)
        bandwidth.latency = 1.0
        before = now()
        await end(channel)
        assert now() - before == about(1.0, abs=0.01)
        assert bandwidth.asked[-1][1] == f"Bearer token-1-{SECRET}"
        await asyncio.sleep(0.1)
        await end(channel)
        assert bandwidth.asked[-1][1] == f"Bearer token-2-{SECRET}"
    assert len(bandwidth.asked_tokens) == 2


@virtual_time
async def test_an_expired_token_is_not_shown(bandwidth: Bandwidth) -> None:
    """After a token has expired, an operation waits for a new one."""
    bandwidth.lifetime = 100
    async with channel_of() as channel:
        for _ in range(3):
            await end(channel)
            bandwidth.valid.clear()
            await asyncio.sleep(101)
    assert len(bandwidth.asked) == len(bandwidth.asked_tokens) == 3


@virtual_time
async def test_a_token_that_expires_in_the_queue_is_replaced_unseen(bandwidth: Bandwidth) -> None:
    """If a token expires while a request waits, the request is sent with a new one, however often."""
    bandwidth.lifetime = 1
    bandwidth.answers = [status(429, Retry_After="2")] * 3
    async with channel_of() as channel:
        attempts = await end(channel)
    assert (attempts.sent, attempts.refusals, bandwidth.given) == (4, 3, 4)
    assert len({header for _, header in bandwidth.asked}) == 4


@virtual_time
async def test_a_401_after_the_stop_fetches_no_token(bandwidth: Bandwidth) -> None:
    """After a stop nothing is sent, not even a token request."""
    bandwidth.answers, bandwidth.latency = [status(401)], 1.0
    stop = Stop()
    async with channel_of() as channel:
        asyncio.get_running_loop().call_later(1.5, stop.request)
        with pytest.raises(DeadlineExceededError, match="the run was stopped"):
            await end(channel, stop=stop)
    assert (len(bandwidth.asked_tokens), len(bandwidth.asked)) == (1, 1)


@virtual_time
async def test_a_renewal_that_fails_does_no_harm_while_the_token_holds(
    bandwidth: Bandwidth, caplog: pytest.LogCaptureFixture
) -> None:
    """A failed renewal is retried after a few seconds, not for every operation."""
    bandwidth.lifetime = 600
    async with channel_of() as channel:
        await end(channel)
        await asyncio.sleep(541)
        bandwidth.tokens = [status(503)] * 5
        for _ in range(20):
            await end(channel)
            await asyncio.sleep(1.0)
        assert len(bandwidth.asked_tokens) == 7
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@virtual_time
async def test_a_cancelled_call_does_not_take_the_token_from_the_others(bandwidth: Bandwidth) -> None:
    """The fetch goes on for the others if the operation that started it is cancelled."""
    bandwidth.latency = 1.0
    async with channel_of() as channel:
        first = asyncio.create_task(end(channel))
        await asyncio.sleep(0.1)
        others = asyncio.gather(*(end(channel) for _ in range(10)))
        await asyncio.sleep(0.1)
        first.cancel()
        assert len(await others) == 10
        with pytest.raises(asyncio.CancelledError):
            await first
    assert len(bandwidth.asked_tokens) == 1


# Deadlines and stops


@virtual_time
async def test_the_deadline_bounds_the_wait_for_a_token(bandwidth: Bandwidth) -> None:
    """A deadline in the wait for a token is not ambiguous, because no request was sent."""
    bandwidth.latency = 14.0
    async with channel_of() as channel:
        with pytest.raises(DeadlineExceededError, match="the deadline of 3 s came") as caught:
            await end(channel, Options(deadline=3.0))
        error = caught.value
        assert (error.attempts, error.ambiguous, error.last_error) == (0, False, None)
        assert now() == about(3.0)
        await asyncio.sleep(30)


@virtual_time
async def test_the_deadline_bounds_an_attempt(bandwidth: Bandwidth) -> None:
    """An attempt that was in flight at the deadline is ambiguous, because it may have taken effect."""
    async with channel_of() as channel:
        await end(channel)
        bandwidth.latency = 14.0
        with pytest.raises(DeadlineExceededError) as caught:
            await end(channel, Options(deadline=3.0))
        assert (caught.value.attempts, caught.value.ambiguous) == (1, True)
        assert now() == about(3.0)


@virtual_time
async def test_a_door_that_opens_after_the_deadline(bandwidth: Bandwidth) -> None:
    """If the pause lasts longer than the deadline, the operation fails at once, with the pause's length."""
    bandwidth.answers = [CallbackResult(status=429, headers={"Retry-After": "30"}, body="the reason")]
    async with channel_of() as channel:
        with pytest.raises(DeadlineExceededError, match=r"answered 429 \(the reason\)") as caught:
            await end(channel, Options(deadline=10.0))
        with pytest.raises(DeadlineExceededError) as behind:
            await end(channel, Options(deadline=10.0))
    # It was not sent, and the reason is the same.
    assert (behind.value.attempts, type(behind.value.last_error)) == (0, RateLimitError)
    error = caught.value
    assert now() < 1.0
    assert (error.attempts, error.ambiguous) == (1, False)
    assert error.retry_after == about(30.0, abs=0.1)
    assert isinstance(error.last_error, RateLimitError)


@virtual_time
async def test_a_call_without_a_deadline_waits_as_long_as_it_takes(bandwidth: Bandwidth) -> None:
    """``math.inf`` means no deadline."""
    bandwidth.answers = [status(429, Retry_After="800")] * 3
    async with channel_of() as channel:
        attempts = await end(channel, Options(deadline=math.inf))
        assert (attempts.sent, attempts.refusals) == (4, 3)
        assert 2400 <= now() < 2401


@virtual_time
async def test_a_refusal_holds_up_everybody(bandwidth: Bandwidth) -> None:
    """After one 429 with a hint all other operations wait too, and no second 429 occurs."""
    bandwidth.answers = [status(429, Retry_After="5")]
    bandwidth.latency = 0.1
    async with channel_of(limiter=Limiter(RateLimit(10), Random(5))) as channel:
        results = await end_many(channel, 100)
        assert sum(result.sent for result in results if isinstance(result, Attempts)) == 101
    late = [moment for moment, _ in bandwidth.asked if moment > 0.5]
    assert min(late) >= 5.0
    assert len(late) >= 98


@virtual_time
async def test_the_error_of_a_call_tells_all_its_attempts(bandwidth: Bandwidth) -> None:
    """The error counts all attempts, failures and 429s. It is ambiguous if one of them was."""
    cut = aiohttp.ClientPayloadError()
    bandwidth.answers = [status(503), cut, status(429), *[status(503)] * 3]
    async with channel_of() as channel:
        with pytest.raises(ServerError, match="after 6 attempts") as caught:
            await end(channel)
    assert (caught.value.status, caught.value.attempts, caught.value.ambiguous) == (503, 6, True)


@pytest.mark.parametrize(("kind", "left"), [("backoff", 0.0), ("door", 0.0), ("flight", 2.0)])
@virtual_time
async def test_a_stop_ends_what_waits_and_spares_what_is_in_flight(
    bandwidth: Bandwidth, kind: str, left: float
) -> None:
    """A stop ends all waiting. A response within the grace period still counts."""
    stop, options = (
        Stop(),
        Options(deadline=math.inf, retry=RetryPolicy(backoff_base=100, backoff_cap=100)),
    )
    async with channel_of() as channel:
        await end(channel)
        if kind == "backoff":
            bandwidth.answers = [status(503)]
        elif kind == "door":
            bandwidth.answers = [status(429, Retry_After="60")]
        else:
            bandwidth.latency = 3.0
        asyncio.get_running_loop().call_later(1.0, lambda: stop.request(grace=5.0))
        started = now()
        if kind == "flight":
            await end(channel, options, stop)
        else:
            with pytest.raises(DeadlineExceededError, match="the run was stopped") as caught:
                await end(channel, options, stop)
            assert (caught.value.attempts, caught.value.ambiguous) == (1, False)
            assert isinstance(caught.value.last_error, BandwidthError)
        assert now() - started == about(1.0 + left, abs=0.01)


@virtual_time
async def test_nothing_is_sent_for_a_run_that_is_stopped(bandwidth: Bandwidth) -> None:
    """An operation that begins after the stop sends no request."""
    stop = Stop()
    async with channel_of() as channel:
        await end(channel)
        stop.request()
        with pytest.raises(DeadlineExceededError, match="stopped") as caught:
            await end(channel, OPTIONS, stop)
        assert (caught.value.attempts, len(bandwidth.asked)) == (0, 1)


@pytest.mark.parametrize("value", [0, -1, math.nan])
def test_a_deadline_that_cannot_be_met(value: float) -> None:
    """The message says how to set no deadline."""
    with pytest.raises(ConfigurationError, match=r"math\.inf for none"):
        Options(deadline=value)


# The session


@virtual_time
async def test_a_closed_channel(bandwidth: Bandwidth) -> None:
    """A closed channel raises an error that says so. It can be closed twice."""
    async with channel_of() as channel:
        await end(channel)
        assert "open" in repr(channel)
        await channel.aclose()
        await channel.aclose()
        with pytest.raises(ClientStateError, match="closed; make a new one"):
            await end(channel)
        assert "closed" in repr(channel)
    assert len(bandwidth.asked) == 1


@virtual_time
async def test_closing_under_way(bandwidth: Bandwidth) -> None:
    """Operations that wait for a token end when the channel closes, and no task is left."""
    bandwidth.latency = 5.0
    async with channel_of() as channel:
        calls = asyncio.gather(*(end(channel) for _ in range(3)), return_exceptions=True)
        await asyncio.sleep(1)
        await channel.aclose()
        async with asyncio.timeout(60):
            results = await calls
    assert not [result for result in results if isinstance(result, Attempts)]


@virtual_time
async def test_a_given_session_stays_open(bandwidth: Bandwidth) -> None:
    """The channel does not close a given session. If the caller closes it, the error says so."""
    async with aiohttp.ClientSession() as session:
        async with channel_of(session=session) as channel:
            await end(channel)
        assert not session.closed
        async with channel_of(session=session) as channel:
            await end(channel)
            await session.close()
            with pytest.raises(ClientStateError, match="session of this VoiceClient has been closed"):
                await end(channel)


def test_another_event_loop() -> None:
    """The error names the other event loop, instead of "Event loop is closed"."""
    channel = Channel(
        credentials=ClientCredentials("me", SECRET),
        voice_url=URL(VOICE),
        api_url=URL(API),
        limiter=Limiter(),
        token_options=OPTIONS,
        session=None,
        proxy=None,
        trust_env=False,
        random=Random(1),
    )
    assert "not used yet" in repr(channel)

    async def use() -> None:
        session = channel.bind()
        await session.close()

    async def use_again() -> None:
        with pytest.raises(ClientStateError, match="another event loop; make one client for each"):
            await end(channel)

    asyncio.run(use())
    asyncio.run(use_again())
    asyncio.run(channel.aclose())


@virtual_time
async def test_a_limiter_of_another_event_loop(bandwidth: Bandwidth) -> None:
    """A limiter of another event loop is an error each time, not only the first time."""
    limiter = Limiter(RateLimit(1000, 1000))
    other = asyncio.new_event_loop()
    await asyncio.to_thread(other.run_until_complete, use(limiter))
    other.close()
    async with channel_of(limiter=limiter) as channel:
        for _ in range(2):
            with pytest.raises(ClientStateError, match="this limiter belongs to another event loop"):
                await end(channel)
    assert bandwidth.asked == []


async def use(limiter: Limiter) -> None:
    """Bind the limiter to the running loop."""
    with await limiter.admit():
        pass


# Secrets


@pytest.mark.parametrize("credentials", [ClientCredentials("me", SECRET), BasicCredentials("me", SECRET)])
@virtual_time
async def test_no_log_record_and_no_repr_shows_a_secret(
    bandwidth: Bandwidth, caplog: pytest.LogCaptureFixture, credentials: Credentials
) -> None:
    """No log record of any level or logger and no repr contains a secret, or its base64."""
    caplog.set_level(logging.DEBUG)
    bandwidth.answers = [
        status(503),
        status(429),
        aiohttp.ServerDisconnectedError(),
        status(401),
        status(404),
    ]
    bandwidth.tokens = [status(500)]
    async with channel_of(credentials=credentials) as channel:
        with pytest.raises(BandwidthError) as caught:
            await end(channel)
        operation = channel.operation(OPTIONS)
        operation._authorization = f"Bearer {SECRET}"
        shown = f"{caught.value!r} {channel!r} {credentials!r} {operation!r} {vars(channel)!r}"
    basic = base64.b64encode(f"me:{SECRET}".encode()).decode()
    told = "\n".join(f"{record.getMessage()} {record.args} {record.exc_text}" for record in caplog.records)
    assert caplog.records
    for secret in (SECRET, basic):
        assert secret not in told
        assert secret not in shown
    gc.collect()


@virtual_time
async def test_an_unusable_answer_to_a_read_is_repeated(mocked: aioresponses, bandwidth: Bandwidth) -> None:
    """A response that ``read`` cannot parse is a failed attempt like any other."""
    page = wire.get_conference("9900000", "conf-1")
    mocked.get(CONFERENCE, body="<html>", status=200)
    mocked.get(CONFERENCE, payload={"id": "conf-1"}, status=200)
    async with channel_of() as channel:
        with channel.operation(OPTIONS) as operation:
            found = await operation.send(page)
    assert (found.id, operation.attempts.sent) == ("conf-1", 2)
    assert isinstance(operation.attempts.last_error, TransportError)
    assert bandwidth.asked == []


@virtual_time
async def test_a_token_older_than_its_fetch_is_shown_all_the_same(bandwidth: Bandwidth) -> None:
    """A token that expires during its fetch is used once. Otherwise it would be fetched forever."""
    bandwidth.lifetime, bandwidth.latency = 0.04, 0.05
    async with channel_of() as channel:
        await end(channel, Options(deadline=5.0))
    assert len(bandwidth.asked_tokens) == 1


@virtual_time
async def test_closing_ends_those_who_wait(bandwidth: Bandwidth) -> None:
    """Closing ends an operation at once, even in a pause of minutes."""
    bandwidth.answers = [status(429, Retry_After="600")]
    async with channel_of() as channel:
        call = asyncio.create_task(end(channel, Options(deadline=math.inf)))
        await asyncio.sleep(1.0)
        await channel.aclose()
        with pytest.raises(ClientStateError, match="closed while the operation was under way"):
            await call
        assert now() < 2.0


# The retry budget


@virtual_time
async def test_a_single_call_whose_retry_is_not_affordable_is_told(bandwidth: Bandwidth) -> None:
    """If too many requests fail, retries raise UnavailableError. First attempts are still sent."""
    bandwidth.answers = [status(500)] * 400
    async with channel_of() as channel:
        results = await end_many(channel, 100)
    unaffordable = [result for result in results if isinstance(result, UnavailableError)]
    assert unaffordable
    assert {(error.ambiguous, "is not repeated" in error.message) for error in unaffordable} == {(True, True)}
    assert 100 < len(bandwidth.asked) <= 100 + 50 + 50


@virtual_time
async def test_what_was_not_sent_affords_no_retry(bandwidth: Bandwidth) -> None:
    """Operations that fail at once while the breaker is open add nothing to the retry budget."""
    bandwidth.answers = [status(503)] * 30
    async with channel_of() as channel:
        for _ in range(20):
            with await channel.limiter.admit() as admission:
                admission.sending()
                admission.failed(answered=True)
            await asyncio.sleep(0.03)
        assert channel.limiter.breaker.is_open
        results = await end_many(channel, 1000)
        assert {type(result) for result in results} == {UnavailableError}
        budget = channel.limiter.budget
        assert sum(budget.withdraw(now(), bulk=False) for _ in range(100)) == 50


@pytest.mark.parametrize(("in_flight", "ends_at"), [(True, 3.0), (False, 1.0)])
@virtual_time
async def test_a_stop_gives_grace_to_what_is_in_flight_only(in_flight: bool, ends_at: float) -> None:
    """A waiting request ends at once, one in flight after the grace period, and neither past its deadline."""
    loop = asyncio.get_running_loop()
    async with channel_of() as channel:
        for deadline, ends in ((100.0, ends_at), (1.5, min(ends_at, 1.5))):
            started = loop.time()
            operation = channel.operation(Options(deadline=deadline))
            operation._in_flight = in_flight
            loop.call_later(1.0, operation.stop, 2.0)
            with pytest.raises(DeadlineExceededError), operation:
                await asyncio.sleep(math.inf)
            assert loop.time() - started == pytest.approx(ends, abs=1e-4)
            operation.stop(1.0)  # a stop after the end has no effect


@pytest.mark.parametrize("request_", [wire.get_conference("9900000", "conf-1"), END], ids=["read", "end"])
@virtual_time
async def test_a_cancelled_request_may_have_taken_effect(
    request_: wire.Request[Any], bandwidth: Bandwidth, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancelled request counts as sent and is no longer in flight. A cancelled end is ambiguous."""

    async def hang(*_: Any, **__: Any) -> None:
        assert operation._in_flight
        await asyncio.sleep(math.inf)

    async with channel_of() as channel:
        await channel.authorizer.wait_until_ready()
        with channel.operation(OPTIONS) as operation:
            monkeypatch.setattr("bandwidth_async.operation.exchange", hang)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(operation.send(request_), 1)
            attempts = operation.attempts
            assert (attempts.sent, operation._in_flight, attempts.ambiguous) == (1, False, not request_.safe)
    assert bandwidth.asked == []


@pytest.mark.parametrize("code", [429, 503])
@virtual_time
async def test_a_single_operation_is_told_when_the_token_endpoint_is_back(
    bandwidth: Bandwidth, code: int
) -> None:
    """It does not spend its deadline on a wait that is longer: the error has the time, and is one request."""
    bandwidth.tokens = [status(code, Retry_After="600")] * 9
    async with channel_of() as channel:
        for _ in range(3):
            with pytest.raises(APIError) as caught:
                await end(channel)
            assert caught.value.status == code
            assert caught.value.retry_after == pytest.approx(600, abs=1)
    assert (len(bandwidth.asked_tokens), len(bandwidth.asked)) == (1, 0)
    assert asyncio.get_running_loop().time() < 1


@virtual_time
async def test_a_deadline_that_comes_without_a_token(
    bandwidth: Bandwidth, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what the operation waited for."""

    async def hang(*_: Any, **__: Any) -> None:
        await asyncio.sleep(math.inf)

    monkeypatch.setattr("bandwidth_async.operation.exchange", hang)
    async with channel_of() as channel:
        with pytest.raises(DeadlineExceededError) as caught:
            await end(channel, Options(deadline=5.0))
    assert caught.value.message == "the deadline of 5 s came before there was an access token"
    assert bandwidth.asked == []


@virtual_time
async def test_a_deadline_that_comes_without_a_token_tells_what_kept_it_away(
    bandwidth: Bandwidth, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that never answers costs some timeouts, and more than the time that the operation has."""

    async def unanswered(*_: Any, **__: Any) -> None:
        await asyncio.sleep(15)
        raise TransportError("get an access token: no response within 15 s")

    monkeypatch.setattr("bandwidth_async.operation.exchange", unanswered)
    async with channel_of() as channel:
        with pytest.raises(DeadlineExceededError) as caught:
            await end(channel, Options(deadline=20.0))
    assert caught.value.message.endswith("the last attempt met: get an access token: no response within 15 s")
    assert bandwidth.asked == []


@virtual_time
async def test_a_deadline_that_comes_without_a_token_tells_what_keeps_its_request_here(
    bandwidth: Bandwidth, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process without a free file cannot even ask for a token, and waits for one."""

    async def held_up(*_: Any, delivery: Delivery, **__: Any) -> None:
        delivery.obstacle = TransportError("get an access token: too many open files")
        await asyncio.sleep(math.inf)

    monkeypatch.setattr("bandwidth_async.operation.exchange", held_up)
    async with channel_of() as channel:
        with pytest.raises(DeadlineExceededError, match="too many open files"):
            await end(channel, Options(deadline=5.0))
    assert bandwidth.asked == []
