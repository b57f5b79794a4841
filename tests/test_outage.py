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
    BasicCredentials,
    CertificateError,
    ClientCredentials,
    Outcome,
    OutcomeKind,
    RateLimit,
    Report,
    RetryPolicy,
    TransportError,
    VoiceClient,
    wire,
)
from bandwidth_async.cli.exit_codes import Exit, exit_for_run
from bandwidth_async.errors import UnavailableError
from bandwidth_async.http import Server
from bandwidth_async.http.exchange import translate
from bandwidth_async.limiter import PaceEvent, Unavailable

LATENCY = 0.02
RATE = 200.0

virtual_time = pytest.mark.looptime

# Takes a conference id and a time. Returns a status or an error.
Fault = Callable[[str, float], int | Exception]


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
    # The time, conference id and status of each request. Status 0 means that there was no response.
    sent: list[tuple[float, str, int]] = field(factory=list)
    tokens: int = 0
    started: float = 0.0

    async def exchange(
        self,
        _session: aiohttp.ClientSession,
        _server: Server,
        request: wire.Request[Any],
        *_: Any,
        on_status: Callable[[int, dict[str, str]], None] | None = None,
        **__: Any,
    ) -> wire.Response:
        """Answer one request as `http.exchange` does."""
        at = now() - self.started
        await asyncio.sleep(self.latency)
        if request.path.endswith("/token"):
            self.tokens += 1
            answer = self.token_fault("", at)
        else:
            conference_id = request.path.rpartition("/")[2]
            answer = self.fault(conference_id, at)
            self.sent.append((at, conference_id, answer if isinstance(answer, int) else 0))
        if isinstance(answer, Exception):
            raise translate(answer, request)
        if on_status is not None:
            on_status(answer, {})
        if answer >= 300:
            raise wire.error_from(request, answer, CIMultiDict(), b"", 0.0)
        return wire.Response(
            status=answer, headers=CIMultiDict(), body=b'{"access_token": "t", "expires_in": 3600}'
        )

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
    async with client_of(upstream, on_pace=events.append, **settings) as client:
        report = await client.end_conferences(ids(count), concurrency=concurrency, on_outcome=outcomes.append)
    assert Counter(outcome.conference_id for outcome in outcomes) == Counter(ids(count))
    assert report.attempts == len(upstream.sent)
    return Ran(report, outcomes, events)


def between(start: float, end: float, failure: Callable[[], int | Exception]) -> Fault:
    """Return a fault that lasts from ``start`` until before ``end``."""
    return lambda _, at: failure() if start <= at < end else 204


OUTAGES: dict[str, tuple[float, Callable[[], int | Exception]]] = {
    "503 from the beginning": (0.0, lambda: 503),
    "503 after five seconds": (5.0, lambda: 503),
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
    upstream: Upstream, failure: Callable[[], int | Exception]
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
    assert len(upstream.sent) <= 130
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
        return 408 if conference_id == "conf-1000" and at >= 10.0 else 204

    upstream.fault = fault
    async with asyncio.timeout(200):
        ran = await end_all(upstream, 1500)
    assert ran.kinds == {"ended": 1499, "failed": 1}


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
