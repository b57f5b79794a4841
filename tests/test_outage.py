"""Outages in virtual time, with the real client. Every id gets an outcome, and few requests are sent."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from attrs import define, field
from multidict import CIMultiDict

from bandwidth_async import (
    AuthenticationError,
    BandwidthError,
    BasicCredentials,
    CertificateError,
    ClientCredentials,
    Outcome,
    OutcomeKind,
    RateLimit,
    RateLimitError,
    Report,
    RetryPolicy,
    Timeouts,
    TransportError,
    VoiceClient,
    wire,
)
from bandwidth_async.cli.exit_codes import Exit, exit_for_run
from bandwidth_async.credentials import Credentials
from bandwidth_async.errors import UnavailableError
from bandwidth_async.http import Server
from bandwidth_async.http.exchange import translate
from bandwidth_async.limiter import PaceEvent, Unavailable
from bandwidth_async.sandbox.quota import TokenBucket

LATENCY = 0.02
RATE = 200.0

virtual_time = pytest.mark.looptime

# A status, with headers or without, or an error.
Answer = int | Exception | tuple[int, dict[str, str]]

# Takes a conference id and a time.
Fault = Callable[[str, float], Answer]


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


def refused() -> Exception:
    """Return the error of aiohttp for a refused connection."""
    return aiohttp.ClientConnectorError(_key(), ConnectionRefusedError(111, "Connect call failed"))


def certificate() -> Exception:
    """Return the error of aiohttp for an expired certificate."""
    return aiohttp.ClientConnectorCertificateError(_key(), Exception("certificate has expired"))


def _key() -> ConnectionKey:
    return ConnectionKey(
        "voice.bandwidth.com", 443, True, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None
    )


@define
class Upstream:
    """Answers 204 unless a fault says otherwise, and records the requests."""

    fault: Fault = lambda _, __: 204
    token_fault: Fault = lambda _, __: 200
    latency: float = LATENCY
    # Requests whose caller had gone before the answer.
    unheard: int = 0
    # The time, conference id and status of each request. Status 0 means that there was no response.
    sent: list[tuple[float, str, int]] = field(factory=list)
    tokens: int = 0
    token_lifetime: float = 3600
    started: float = 0.0

    async def exchange(
        self,
        _session: aiohttp.ClientSession,
        _server: Server,
        request: wire.Request[Any],
        *_: Any,
        on_status: Callable[[int, CIMultiDict[str]], None] | None = None,
        **__: Any,
    ) -> wire.Response:
        """Answer one request as `http.exchange` does."""
        at = now() - self.started
        try:
            await asyncio.sleep(self.latency)
        except asyncio.CancelledError:
            self.unheard += 1
            raise
        if request.path.endswith("/token"):
            self.tokens += 1
            answer = self.token_fault("", at)
        else:
            conference_id = request.path.rpartition("/")[2]
            answer = self.fault(conference_id, at)
            shown = answer[0] if isinstance(answer, tuple) else answer
            self.sent.append((at, conference_id, shown if isinstance(shown, int) else 0))
        if isinstance(answer, Exception):
            raise translate(answer, request)
        status, named = answer if isinstance(answer, tuple) else (answer, {})
        headers = CIMultiDict(named)
        if on_status is not None:
            on_status(status, headers)
        if status >= 300:
            raise wire.error_from(request, status, headers, b"", 0.0)
        body = f'{{"access_token": "t", "expires_in": {self.token_lifetime}}}'.encode()
        return wire.Response(status=status, headers=headers, body=body)

    def good(self, after: float = 0.0) -> list[float]:
        """Return the times of the requests with status 204, from ``after`` on."""
        return sorted(at for at, _, status in self.sent if status == 204 and at >= after)

    def within(self, start: float, seconds: float) -> int:
        """Return how many requests were sent in that time."""
        return sum(start <= at < start + seconds for at, _, _ in self.sent)


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Upstream:
    """Replace aiohttp, so that 100,000 requests in virtual time are fast."""
    fake = Upstream()
    monkeypatch.setattr("bandwidth_async.operation.exchange", fake.exchange)
    return fake


@asynccontextmanager
async def client_of(upstream: Upstream, **settings: Any) -> AsyncIterator[VoiceClient]:
    """Open a client with a fixed random generator, and check that it leaves no task."""
    before = asyncio.all_tasks()
    defaults: dict[str, Any] = {
        "account_id": "9900000",
        "credentials": BasicCredentials("user", "password"),
        "rate_limit": RateLimit.fixed(RATE),
        "random": Random(3),
    }
    upstream.started = now()
    async with VoiceClient(**{**defaults, **settings}) as client:
        yield client
    assert asyncio.all_tasks() == before


def ids(count: int) -> list[str]:
    """Return ``count`` conference ids."""
    return [f"conf-{number}" for number in range(count)]


@define
class Ran:
    """A finished run, with its outcomes and its events."""

    report: Report
    outcomes: list[Outcome]
    events: list[PaceEvent]

    @property
    def kinds(self) -> dict[str, int]:
        """Return the number of ids for each kind of outcome."""
        return {str(kind): count for kind, count in self.report.counts.items()}


async def end_all(upstream: Upstream, count: int, *, concurrency: int = 100, **settings: Any) -> Ran:
    """End ``count`` conferences, and check that each gets exactly one outcome."""
    outcomes: list[Outcome] = []
    events: list[PaceEvent] = []
    async with client_of(upstream, on_event=events.append, **settings) as client:
        report = await client.end_conferences(ids(count), concurrency=concurrency, on_outcome=outcomes.append)
    assert Counter(outcome.conference_id for outcome in outcomes) == Counter(ids(count))
    assert report.attempts == len(upstream.sent)
    return Ran(report, outcomes, events)


def between(start: float, end: float, failure: Callable[[], Answer]) -> Fault:
    """Return a fault that lasts from ``start`` until before ``end``."""
    return lambda _, at: failure() if start <= at < end else 204


OUTAGES: dict[str, tuple[float, Callable[[], Answer]]] = {
    "503 from the beginning": (0.0, lambda: 503),
    "503 after five seconds": (5.0, lambda: 503),
    "408 after five seconds": (5.0, lambda: 408),
    "refused after five seconds": (5.0, refused),
}
PACES = {
    "fixed 200/s": RateLimit.fixed(RATE),
    "adaptive to 200/s": RateLimit.adaptive(start=100, ceiling=RATE),
}


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("outage", OUTAGES)
@virtual_time
async def test_thirty_seconds_of_outage(
    upstream: Upstream, outage: str, pace: str, show: Callable[[str], None]
) -> None:
    """Every id is ended, few requests are repeated, and the run goes on within 5 s of the outage's end."""
    start, failure = OUTAGES[outage]
    count = 2000
    upstream.fault = between(start, start + 30.0, failure)
    ran = await end_all(upstream, count, rate_limit=PACES[pace])
    back = upstream.good(after=start + 30.0)
    well = [event for event in ran.events if isinstance(event, Unavailable)]
    first_second = upstream.within(back[0] + LATENCY, 1.0)
    before = max((upstream.within(second, 1.0) for second in (1, 2, 3)), default=0) if start else RATE
    show(
        f"{outage}, {pace}: {len(upstream.sent)} attempts for {count} ids, {len(well)} openings, first good "
        f"{back[0] - start - 30:.1f} s after the end, then {first_second} in the first second, "
        f"{upstream.within(back[0] + 1, 1.0)} in the second (before: {before}/s); {ran.report.elapsed:.0f} s"
    )
    assert set(ran.kinds) <= {"ended", "already_ended"}
    assert ran.report.stopped is None
    assert len(upstream.sent) <= 1.2 * count + 20
    assert back[0] - (start + 30.0) <= 5.0


@virtual_time
async def test_getting_up_in_steps(upstream: Upstream) -> None:
    """After a good probe the rate rises in steps: at most half in the first second, then more, then all."""
    upstream.fault = between(5.0, 35.0, lambda: 503)
    await end_all(upstream, 4000)
    probe = upstream.good(after=35.0)[0]
    seconds = [upstream.within(probe + LATENCY + second, 1.0) for second in range(4)]
    assert RATE / 4 <= seconds[0] <= RATE / 2
    assert seconds[0] < seconds[1] <= RATE
    assert seconds[3] == pytest.approx(RATE, abs=5)


@pytest.mark.parametrize("failure", [lambda: 503, refused], ids=["503", "refused"])
@virtual_time
async def test_a_fast_run_loses_nothing_in_the_first_half_second(
    upstream: Upstream, failure: Callable[[], Answer]
) -> None:
    """An id could use up its 5 attempts in that time. But 20 failures in a row do not count against ids."""
    upstream.latency = 0.001
    upstream.fault = between(1.0, 4.0, failure)
    ran = await end_all(upstream, 6000, rate_limit=RateLimit.fixed(5000.0))
    assert ran.kinds == {"ended": 6000}


@virtual_time
async def test_nobody_is_there(upstream: Upstream, show: Callable[[str], None]) -> None:
    """Connections refused from the start mean a wrong address, not an outage. The run stops soon."""
    upstream.fault = lambda _, __: refused()
    ran = await end_all(upstream, 2000)
    show(f"{len(upstream.sent)} attempts, {ran.report.elapsed:.1f} s")
    assert ran.kinds == {"failed": 1, "not_attempted": 1999}
    assert type(ran.report.stopped) is TransportError
    assert len(upstream.sent) == 5
    assert exit_for_run(ran.report, strict=False, stopped_by=None) == Exit.GENERAL


@virtual_time
async def test_a_host_that_swallows_everything(upstream: Upstream, show: Callable[[str], None]) -> None:
    """If no connection succeeds within 3 s, the run stops too. By then it has sent many requests."""
    upstream.latency = 3.0
    upstream.fault = lambda _, __: aiohttp.ConnectionTimeoutError()
    ran = await end_all(upstream, 2000)
    show(f"{len(upstream.sent)} attempts, {ran.kinds}, {ran.report.elapsed:.1f} s")
    assert isinstance(ran.report.stopped, TransportError)
    assert ran.kinds["failed"] + ran.kinds["not_attempted"] == 2000
    assert len(upstream.sent) <= 180
    assert ran.report.elapsed < 10.0


@virtual_time
async def test_no_token_endpoint(upstream: Upstream) -> None:
    """If the token endpoint refuses connections from the start, the run stops, and no id counts as failed."""
    upstream.token_fault = lambda _, __: refused()
    ran = await end_all(upstream, 2000, credentials=ClientCredentials("me", "secret"))
    assert ran.kinds == {"not_attempted": 2000}
    assert isinstance(ran.report.stopped, TransportError)
    assert upstream.tokens <= 10


@virtual_time
async def test_a_token_endpoint_with_an_outage(upstream: Upstream) -> None:
    """A run waits for the token endpoint as it waits for the API."""
    upstream.token_fault = lambda _, at: 503 if at < 30.0 else 200
    ran = await end_all(upstream, 200, credentials=ClientCredentials("me", "secret"))
    assert ran.kinds == {"ended": 200}
    assert upstream.tokens <= 60
    assert ran.report.elapsed < 70.0


@pytest.mark.parametrize(
    ("well_for", "outage", "longest"),
    [(0.0, 900.0, 60.0), (0.0, 5.0, 5.0), (5.0, 900.0, 900.0), (5.0, 100.0, 100.0), (5.0, 0.0, 0.0)],
)
@virtual_time
async def test_an_outage_without_end(
    upstream: Upstream, well_for: float, outage: float, longest: float, show: Callable[[str], None]
) -> None:
    """A run stops after ``RetryPolicy.outage`` seconds: after 60 at most if the server never worked."""
    upstream.fault = between(well_for, 1e9, lambda: 503)
    ran = await end_all(upstream, 2000, retry=RetryPolicy(outage=outage))
    show(f"{len(upstream.sent)} attempts, {ran.kinds}, {ran.report.elapsed:.0f} s")
    assert isinstance(ran.report.stopped, UnavailableError)
    assert "failed for" in ran.report.stopped.message
    assert exit_for_run(ran.report, strict=False, stopped_by=None) == Exit.GENERAL
    assert set(ran.kinds) <= {"ended", "failed", "not_attempted"}
    assert longest <= ran.report.elapsed - well_for <= longest + 35.0
    assert ran.kinds.get("ended", 0) == len(upstream.good())


@virtual_time
async def test_a_certificate_error_stops_the_run_at_once(upstream: Upstream) -> None:
    """Waiting does not help, so the run makes one attempt."""
    upstream.fault = lambda _, __: certificate()
    ran = await end_all(upstream, 2000)
    assert len(upstream.sent) == 1
    assert ran.kinds == {"failed": 1, "not_attempted": 1999}
    assert isinstance(ran.report.stopped, CertificateError)


@pytest.mark.parametrize("concurrency", [1, 100])
@pytest.mark.parametrize(("status", "kind"), [(500, "unknown"), (503, "failed")])
@pytest.mark.parametrize("poisoned", ["conf-0", "conf-70"])
@virtual_time
async def test_one_poisoned_id(
    upstream: Upstream, concurrency: int, status: int, kind: str, poisoned: str
) -> None:
    """An id that always fails gets 5 attempts, or 10 if it is the first. Other ids are not affected."""
    upstream.fault = lambda conference_id, _: status if conference_id == poisoned else 204
    ran = await end_all(upstream, 100, concurrency=concurrency)
    assert ran.kinds == {"ended": 99, kind: 1}
    (bad,) = [outcome for outcome in ran.outcomes if outcome.kind != OutcomeKind.ENDED]
    assert (bad.conference_id, bad.attempts) == (poisoned, 10 if poisoned == "conf-0" else 5)
    assert not [event for event in ran.events if isinstance(event, Unavailable)]
    assert ran.report.stopped is None


@virtual_time
async def test_an_id_that_always_answers_408_after_an_outage(upstream: Upstream) -> None:
    """Failures in an outage do not count against an id. After the outage they count again."""

    def fault(conference_id: str, at: float) -> int:
        if 5.0 <= at < 10.0:
            return 503
        return 408 if conference_id == "conf-2500" and at >= 10.0 else 204

    upstream.fault = fault
    async with asyncio.timeout(200):
        ran = await end_all(upstream, 3000)
    assert ran.kinds == {"ended": 2999, "failed": 1}


@virtual_time
async def test_a_run_after_an_outage_long_ago_has_its_own_patience(upstream: Upstream) -> None:
    """An hour without requests does not count as an hour of failures."""
    upstream.fault = lambda _, at: 503 if 5.0 < at < 3620.0 else 204
    async with client_of(upstream) as client:
        first = await client.end_conferences(ids(2000), retry=RetryPolicy(outage=20.0))
        assert isinstance(first.stopped, UnavailableError)
        await asyncio.sleep(3600.0 - (now() - upstream.started))
        second = await client.end_conferences(ids(100))
    assert (second.counts, second.stopped) == ({OutcomeKind.ENDED: 100}, None)


# A server that says when it will be back


def later(status: int, seconds: float) -> Callable[[], Answer]:
    """Return what says that."""
    return lambda: (status, {"Retry-After": str(seconds)})


@pytest.mark.parametrize("concurrency", [1, 100])
@pytest.mark.parametrize("well_for", [0.0, 5.0])
@pytest.mark.parametrize("status", [429, 503, 403, 408, 425])
@virtual_time
async def test_a_time_longer_than_allowed_stops_the_run_whole(
    upstream: Upstream, status: int, well_for: float, concurrency: int
) -> None:
    """The report has the time, no id is failed or refused by it, and those left can be resumed."""
    upstream.fault = between(well_for, 1e9, later(status, 3600))
    ran = await end_all(upstream, 2000, concurrency=concurrency)
    assert ran.report.stopped is not None
    assert ran.report.stopped.retry_after == pytest.approx(3600, rel=0.03)
    ended = len(upstream.good())
    assert ran.kinds == {"not_attempted": 2000 - ended} | ({"ended": ended} if ended else {})
    assert len(upstream.sent) - ended <= min(concurrency, 10)
    code = Exit.GENERAL if status in {408, 503} else Exit.RATE_LIMIT
    assert exit_for_run(ran.report, strict=False, stopped_by=None) == code


@pytest.mark.parametrize(("concurrency", "count"), [(1, 20), (3, 20), (100, 300)])
@pytest.mark.parametrize("pause", [60, 600])
@pytest.mark.parametrize("status", [429, 503, 403])
@virtual_time
async def test_a_time_that_is_allowed_is_waited_for(
    upstream: Upstream, status: int, pause: int, concurrency: int, count: int, show: Callable[[str], None]
) -> None:
    """However few are in progress and however often it is said: it costs no id an attempt."""
    start = 0.1
    upstream.fault = between(start, start + 850.0, later(status, pause))
    ran = await end_all(upstream, count, concurrency=concurrency)
    show(f"{len(upstream.sent)} attempts for {count} ids, {ran.report.elapsed:.0f} s")
    assert (ran.kinds, ran.report.stopped) == ({"ended": count}, None)
    assert ran.report.elapsed < 850 + pause + 120
    assert len(upstream.sent) <= count + concurrency * (850 / pause + 2) + 60


@virtual_time
async def test_a_server_that_always_says_later(upstream: Upstream) -> None:
    """The times add up to the patience for an outage; then the run stops, with the last of them."""
    upstream.fault = lambda _, __: (503, {"Retry-After": "400"})
    ran = await end_all(upstream, 20, concurrency=3)
    assert isinstance(ran.report.stopped, UnavailableError)
    assert (ran.report.stopped.retry_after, ran.kinds) == (400.0, {"not_attempted": 20})
    assert 900 < ran.report.elapsed < 1400


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("concurrency", [1, 100])
@pytest.mark.parametrize("hint", [None, "0", "60"])
@virtual_time
async def test_a_429_without_end(
    upstream: Upstream, hint: str | None, concurrency: int, pace: str, show: Callable[[str], None]
) -> None:
    """A quota of nothing ends a run as an outage does, and not after fifty refusals of each id."""
    upstream.fault = lambda _, __: (429, {"Retry-After": hint} if hint else {})
    ran = await end_all(upstream, 1000, rate_limit=PACES[pace], concurrency=concurrency)
    show(f"{len(upstream.sent)} attempts, {ran.report.elapsed:.0f} s")
    assert isinstance(ran.report.stopped, RateLimitError)
    assert "let nothing in for 9" in ran.report.stopped.message
    assert ran.kinds == {"not_attempted": 1000}
    assert exit_for_run(ran.report, strict=False, stopped_by=None) == Exit.RATE_LIMIT
    assert 900 <= ran.report.elapsed <= 970


@virtual_time
async def test_429_and_503_in_turn_without_end(upstream: Upstream) -> None:
    """Neither is counted as the other's success."""
    upstream.fault = lambda _, __: 429 if len(upstream.sent) % 2 else 503
    ran = await end_all(upstream, 1000, concurrency=20, retry=RetryPolicy(outage=10.0))
    assert isinstance(ran.report.stopped, RateLimitError)
    assert 10 <= ran.report.elapsed < 20
    assert ran.kinds["not_attempted"] >= 980


@virtual_time
async def test_a_closure_long_ago_does_not_shorten_the_next(upstream: Upstream) -> None:
    """That nobody asked for an hour does not mean that nothing was let in for an hour."""
    upstream.fault = lambda _, at: 429 if at < 60.0 or 3600.0 < at < 3610.0 else 204
    async with client_of(upstream) as client:
        first = await client.end_conferences(ids(10), retry=RetryPolicy(outage=20.0))
        assert isinstance(first.stopped, RateLimitError)
        await asyncio.sleep(3601.0 - (now() - upstream.started))
        second = await client.end_conferences(ids(100), retry=RetryPolicy(outage=60.0))
    assert (second.counts, second.stopped) == ({OutcomeKind.ENDED: 100}, None)


@pytest.mark.parametrize("concurrency", [2, 100])
@pytest.mark.parametrize("answer", [later(503, 1), later(429, 1), lambda: 429])
@virtual_time
async def test_one_id_that_is_always_told_to_come_later(
    upstream: Upstream, answer: Callable[[], Answer], concurrency: int
) -> None:
    """The others are ended, whatever becomes of it: it does not stand in their way."""
    upstream.fault = lambda conference_id, _: answer() if conference_id == "conf-3" else 204
    ran = await end_all(upstream, 1000, concurrency=concurrency)
    assert ran.kinds["ended"] == 999


@pytest.mark.parametrize("status", [500, 503, 408])
@virtual_time
async def test_the_reset_of_a_quota_beside_a_failure(upstream: Upstream, status: int) -> None:
    """Many APIs send it with every response. It stops neither a retry nor a run."""
    headers = {"X-RateLimit-Reset": "3000"}
    upstream.fault = lambda _, __: (status, headers) if len(upstream.sent) % 10 == 9 else (204, headers)
    ran = await end_all(upstream, 500)
    assert (ran.kinds.get("failed", 0), ran.report.stopped) == (0, None)
    assert ran.report.ok
    assert ran.report.elapsed < 30


@pytest.mark.parametrize(
    "headers",
    [
        {"RateLimit-Remaining": "0", "RateLimit-Reset": "2"},
        {"RateLimit": '"burst";r=0;t=2, "daily";r=800;t=40000'},
        {"X-RateLimit-Reset-After": "2.0", "X-RateLimit-Remaining": "0"},
        {"Retry-After": "2s", "X-RateLimit-Reset": "3000"},
    ],
)
@virtual_time
async def test_no_request_comes_before_the_window_ends(upstream: Upstream, headers: dict[str, str]) -> None:
    """A gateway says it in a form of its own. After `RateLimit-Reset: 2` five requests came too early."""
    upstream.fault = lambda _, at: (429, headers) if at < 2.0 else 204
    ran = await end_all(upstream, 20)
    assert ran.kinds == {"ended": 20}
    assert upstream.within(1.0, 1.0) == 0
    assert 2.0 <= ran.report.elapsed < 5.0


# Servers that refuse with 503


def _quota_of(rate: float, burst: float) -> Fault:
    """Return a server that answers 503 to what a token bucket does not let in."""
    bucket = TokenBucket(rate=rate, burst=burst)
    return lambda _, at: 503 if bucket.admit(at) else 204


@virtual_time
async def test_a_503_for_what_is_over_the_quota(upstream: Upstream) -> None:
    """It is what nginx answers. The client finds the rate, and takes it neither for an outage nor for ids."""
    upstream.fault = _quota_of(50, 10)
    ran = await end_all(upstream, 2000, rate_limit=RateLimit.adaptive())
    assert (ran.kinds, ran.report.stopped) == ({"ended": 2000}, None)
    assert not [event for event in ran.events if isinstance(event, Unavailable)]
    assert ran.report.elapsed < 1.15 * 40
    assert len(upstream.sent) < 1.06 * 2000


@virtual_time
async def test_a_503_while_nothing_is_let_in_is_an_outage(upstream: Upstream) -> None:
    """Also at a server whose 503s were refusals before. The rate is not forgotten over it."""
    over = _quota_of(50, 10)
    upstream.fault = lambda name, at: 503 if 20.0 <= at < 40.0 else over(name, at)
    ran = await end_all(upstream, 2000, rate_limit=RateLimit.adaptive())
    assert ran.kinds == {"ended": 2000}
    assert [event for event in ran.events if isinstance(event, Unavailable)]
    assert ran.report.elapsed < 1.15 * 40 + 20 + 15


@virtual_time
async def test_an_outage_of_20_s_teaches_no_rate(upstream: Upstream) -> None:
    """The breaker opens, and the run goes on as fast as before it."""
    upstream.fault = between(3.0, 23.0, lambda: 503)
    ran = await end_all(upstream, 5000, rate_limit=RateLimit.adaptive(ceiling=200))
    assert ran.kinds == {"ended": 5000}
    assert [event for event in ran.events if isinstance(event, Unavailable)]
    assert ran.report.elapsed < 25 + 20 + 15


@pytest.mark.parametrize("share", [0.05, 0.2])
@virtual_time
async def test_503s_that_the_rate_does_not_cause(upstream: Upstream, share: float) -> None:
    """Of several servers behind one address one is down. To send less does not help, so the rate stays."""
    random = Random(1)
    upstream.fault = lambda _, at: 503 if at > 2.0 and random.random() < share else 204
    ran = await end_all(upstream, 4000, rate_limit=RateLimit.adaptive(ceiling=200))
    assert ran.kinds["ended"] > (1 - 2 * share**5) * 4000
    assert ran.report.elapsed < 1.5 * 4000 / 200 / (1 - share)


# A token endpoint in trouble


def secret() -> ClientCredentials:
    """Return credentials that have no token yet."""
    return ClientCredentials("me", "secret")


@pytest.mark.parametrize(
    "trouble",
    [lambda: 429, lambda: 408, lambda: 503, later(429, 2), later(403, 2), later(503, 20), later(408, 1)],
    ids=["429", "408", "503", "429 hint", "403 hint", "503 hint", "408 hint"],
)
@virtual_time
async def test_a_token_endpoint_that_limits_for_a_while(
    upstream: Upstream, trouble: Callable[[], Answer]
) -> None:
    """A run waits for it, at its start as later, and no id is given up."""
    upstream.token_lifetime = 20
    upstream.token_fault = lambda _, at: trouble() if at < 12.0 or 40.0 < at < 90.0 else 200
    ran = await end_all(upstream, 1000, credentials=secret(), rate_limit=RateLimit.fixed(10), concurrency=20)
    assert (ran.kinds, ran.report.stopped) == ({"ended": 1000}, None)


@pytest.mark.parametrize(
    ("trouble", "error", "longest"),
    [
        (lambda: 429, RateLimitError, 1000),
        (later(429, 3600), RateLimitError, 1),
        (later(503, 3600), UnavailableError, 1),
        (lambda: 408, UnavailableError, 100),
        (lambda: 401, AuthenticationError, 1),
        (lambda: 404, AuthenticationError, 1),
    ],
    ids=["429", "429 hint", "503 hint", "408", "401", "404"],
)
@virtual_time
async def test_a_token_endpoint_that_never_gives_one(
    upstream: Upstream, trouble: Callable[[], Answer], error: type[BandwidthError], longest: float
) -> None:
    """The run says why it stopped, in a bounded time."""
    upstream.token_fault = lambda _, __: trouble()
    ran = await end_all(upstream, 2000, credentials=secret())
    assert ran.kinds == {"not_attempted": 2000}
    assert type(ran.report.stopped) is error
    assert ran.report.elapsed < longest
    assert upstream.tokens <= (1 if longest == 1 else 400)


@virtual_time
async def test_a_secret_that_dies_while_its_token_lives(upstream: Upstream) -> None:
    """A rotation took it: the run goes on to the token's end, and then the reason is told."""
    upstream.token_lifetime = 100
    upstream.token_fault = lambda _, at: 401 if at > 1.0 else 200
    ran = await end_all(upstream, 2000, credentials=secret(), rate_limit=RateLimit.fixed(10), concurrency=10)
    assert isinstance(ran.report.stopped, AuthenticationError)
    assert ran.kinds["ended"] == pytest.approx(1000, abs=20)
    assert set(ran.kinds) == {"ended", "not_attempted"}
    assert upstream.tokens <= 15


@virtual_time
async def test_a_token_that_is_known_half_a_second_late(upstream: Upstream) -> None:
    """Each new token is rejected at first: the run waits for a moment each time and ends all."""
    upstream.token_lifetime = 10
    given: list[float] = []

    def token(_: str, at: float) -> int:
        given.append(at)
        return 200

    upstream.token_fault = token
    upstream.fault = lambda _, at: 401 if at - given[-1] < 0.5 else 204
    ran = await end_all(upstream, 2000, credentials=secret(), rate_limit=RateLimit.fixed(50))
    assert (ran.kinds, ran.report.stopped) == ({"ended": 2000}, None)
    assert len(upstream.sent) < 2300


@pytest.mark.parametrize("credentials", [secret(), BasicCredentials("user", "password")])
@pytest.mark.parametrize("share", [0.02, 0.1])
@virtual_time
async def test_stray_401s(upstream: Upstream, share: float, credentials: Credentials) -> None:
    """One authentication server of many is wrong: no run ends and no id is lost."""
    random = Random(11)
    upstream.fault = lambda _, __: 401 if len(upstream.sent) and random.random() < share else 204
    ran = await end_all(upstream, 1000, credentials=credentials)
    assert (ran.kinds, ran.report.stopped) == ({"ended": 1000}, None)
    assert len(upstream.sent) < 1000 * (1 + 2 * share) + 10


@virtual_time
async def test_credentials_that_are_withdrawn_in_a_run(upstream: Upstream) -> None:
    """When nothing but 401s comes the run stops, for the price of what was out and a handful."""
    upstream.fault = between(5.0, 1e9, lambda: 401)
    ran = await end_all(upstream, 5000, credentials=secret())
    assert isinstance(ran.report.stopped, AuthenticationError)
    assert sum(status == 401 for _, _, status in upstream.sent) <= 100 + 10
    assert ran.report.elapsed < 30
    assert ran.report.counts["failed"] <= 100


# The retry budget


@virtual_time
async def test_half_of_all_requests_fail(upstream: Upstream, show: Callable[[str], None]) -> None:
    """The breaker stays closed, every id is ended, and there are no more retries than first attempts."""
    random = Random(4)
    upstream.fault = lambda _, __: 503 if random.random() < 0.5 else 204
    ran = await end_all(upstream, 600, retry=RetryPolicy(attempts=30))
    assert ran.kinds == {"ended": 600}
    firsts: dict[str, float] = {}
    for at, conference_id, _ in upstream.sent:
        firsts.setdefault(conference_id, at)
    worst = 0.0
    for start in range(int(ran.report.elapsed)):
        tries = sum(start <= at < start + 10 for at in firsts.values())
        worst = max(worst, upstream.within(start, 10.0) - tries - tries)
    show(f"{len(upstream.sent)} attempts in {ran.report.elapsed:.0f} s; retries above as many: {worst:.0f}")
    # A retry is taken from the budget before it is sent. A few workers may be between the two.
    assert worst <= 50 + 100
    assert not [event for event in ran.events if isinstance(event, Unavailable)]


# Single calls under overload


@define
class Call:
    """A single call that has ended."""

    began: float
    ended: float
    error: BandwidthError | None

    @property
    def took(self) -> float:
        """The seconds until its caller heard."""
        return self.ended - self.began


async def calls(client: VoiceClient, per_second: float, seconds: float, deadline: float) -> list[Call]:
    """Make single calls at random moments, and return them when all have ended."""
    random, started, ended = Random(8), now(), list[Call]()

    async def call(number: int) -> None:
        began, error = now() - started, None
        try:
            await client.end_conference(f"call-{number}", deadline=deadline)
        except BandwidthError as caught:
            error = caught
        ended.append(Call(began, now() - started, error))

    async with asyncio.TaskGroup() as group:
        number = 0
        while now() - started < seconds:
            group.create_task(call(number))
            number += 1
            await asyncio.sleep(random.expovariate(per_second))
    return ended


def quota_of(rate: float) -> Fault:
    """Return a fault that refuses what is above ``rate`` a second."""
    bucket = TokenBucket(rate=rate, burst=5)
    return lambda _, at: 429 if bucket.admit(at) else 204


@pytest.mark.parametrize("deadline", [1.0, 5.0])
@pytest.mark.parametrize("times", [1.2, 3.0])
@pytest.mark.parametrize(
    "rate_limit", [RateLimit.fixed(20), RateLimit.adaptive(start=20)], ids=["fixed", "adaptive"]
)
@virtual_time
async def test_more_single_calls_than_the_rate_lets_through(
    upstream: Upstream, rate_limit: RateLimit, times: float, deadline: float, show: Callable[[str], None]
) -> None:
    """The rate goes to calls that hear the answer. Nearly nothing is sent for those that have gone."""
    upstream.latency, upstream.fault = 0.15, quota_of(20)
    async with client_of(upstream, rate_limit=rate_limit) as client:
        ended = await calls(client, times * 20, 40.0, deadline)
    served = sum(call.error is None and 10 <= call.ended < 40 for call in ended)
    show(f"{rate_limit}, {times} x, {deadline} s: {served} of 600 served, {upstream.unheard} for nobody")
    assert served >= 0.9 * 600
    assert upstream.unheard <= 0.02 * len(upstream.sent)
    assert all(call.took <= deadline + 0.001 for call in ended)
    # A request that was refused may come again so late that its answer is not heard.
    ambiguous = [call for call in ended if call.error is not None and call.error.ambiguous]
    assert len(ambiguous) <= 0.01 * len(ended)


@virtual_time
async def test_an_answer_time_that_was_learned_in_bad_times(upstream: Upstream) -> None:
    """Calls of one second are served again once a server that took 20 s is well."""
    upstream.latency = 20.0
    async with client_of(upstream, rate_limit=RateLimit.fixed(20), timeouts=Timeouts(attempt=30)) as client:
        await asyncio.gather(*(client.end_conference(f"slow-{number}") for number in range(20)))
        upstream.latency = 0.15
        ended = await calls(client, 30.0, 20.0, 1.0)
    assert sum(call.error is None and call.began >= 2 for call in ended) >= 0.9 * 18 * 20


@virtual_time
async def test_a_run_beside_an_overload(upstream: Upstream) -> None:
    """A quarter of the rate is the run's, in order. The rest goes to single calls that hear the answer."""
    async with client_of(upstream, rate_limit=RateLimit.fixed(20)) as client:
        run = asyncio.create_task(client.end_conferences(ids(150)))
        ended = await calls(client, 40.0, 30.0, 2.0)
        assert (await run).ok
    assert sum(call.error is None for call in ended) >= 0.9 * 0.75 * 20 * 30
    assert 0.2 <= sum(name.startswith("conf") and at < 25 for at, name, _ in upstream.sent) / (20 * 25) <= 0.3
    assert upstream.unheard <= 0.02 * len(upstream.sent)
    sent = [int(name.removeprefix("conf-")) for _, name, _ in upstream.sent if name.startswith("conf")]
    assert sent == sorted(sent)


@pytest.mark.parametrize("deadline", [0.3, 1.0, 5.0])
@virtual_time
async def test_single_calls_to_a_server_that_never_answers(upstream: Upstream, deadline: float) -> None:
    """After twenty have heard nothing until their deadline, the others are told at once."""
    upstream.latency = 1e6
    async with client_of(upstream) as client:
        ended = await calls(client, 20.0, 20.0 + deadline, deadline)
    twentieth = sorted(call.ended for call in ended)[19]
    later = [call for call in ended if call.began > twentieth]
    at_once = [call for call in later if call.took < 0.01]
    assert {type(call.error) for call in at_once} == {UnavailableError}
    # The others are probes.
    assert len(later) - len(at_once) <= 8


@virtual_time
async def test_calls_that_are_patient_beside_calls_that_are_not(upstream: Upstream) -> None:
    """A server that needs 1.5 s is too slow for the one kind, and no reason to shut out the other."""
    upstream.latency = 0.05
    async with client_of(upstream) as client:
        await calls(client, 20.0, 5.0, 1.0)
        upstream.latency = 1.5
        _, patient = await asyncio.gather(calls(client, 20.0, 60.0, 1.0), calls(client, 2.0, 60.0, 60.0))
    later = [call.error is None for call in patient if call.began >= 30]
    assert sum(later) >= 0.9 * len(later)
