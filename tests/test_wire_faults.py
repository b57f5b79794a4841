"""Faults on the wire: each has one certain outcome, no connection is reused in a bad state, nothing leaks.

The tests run a `VoiceClient` over real sockets against `tests.wire_server`. Other files test the faults that
are not about the wire:

=================================================  =======================================================
forms of ``Retry-After``, ``X-RateLimit-Reset``    tests/test_retry_after.py, all of it
a hint of one hour                                 test_client: a_door_that_is_shut_for_an_hour_stops_…
429 among many in flight, out of order, lost probe test_limiter_adaptive: a_burst_of_refusals_is_one_event,
                                                   a_late_answer_s_hint_is_obeyed, a_lost_probe_is_…
429 for ever                                       test_retry: fifty_refusals_are_enough
401 in the middle                                  test_operation: a_revoked_token_is_replaced_once_for_all,
                                                   a_401_with_a_fresh_token_stands
403 for one, for all                               test_run: 403_for_…
404 and 409 in each order                          test_client: a_404_…, a_409_…
a run cancelled, a hook that raises                test_run: a_cancelled_run_leaves_nothing_…,
                                                   what_on_outcome_raises_is_raised
the same id twice                                  test_client: duplicates_in_a_run
an error's body that is slow, cut or not JSON      test_http_exchange: a_slow_error_body_…,
                                                   the_status_decides_…
TLS                                                tests/test_wire_tls.py
=================================================  =======================================================
"""

from __future__ import annotations

import asyncio
import base64
import errno
import logging
import math
import socket
import traceback
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from attrs import frozen

from bandwidth_async import (
    APIError,
    AuthenticationError,
    BandwidthError,
    BasicCredentials,
    ClientCredentials,
    ClientStateError,
    ConflictError,
    DeadlineExceededError,
    HangUpError,
    NotFoundError,
    Outcome,
    PermissionDeniedError,
    RateLimit,
    RetryPolicy,
    ServerError,
    Stop,
    Timeouts,
    TransportError,
    UnexpectedResponseError,
    UpdateCall,
    UpdateConference,
    UpdateConferenceMember,
    VoiceClient,
)
from bandwidth_async.credentials import Credentials
from bandwidth_async.outcome import kind_of
from bandwidth_async.run import Target
from tests.wire_server import (
    CLOSE,
    HANG,
    NO_CONTENT,
    RESET,
    Script,
    Trickle,
    Wait,
    WireServer,
    answered,
    wire_server,
)

ACCOUNT = "9900000"
SECRET, TOKEN = "s3cr3t-of-the-client", "t0ken-of-the-account"
BASIC = base64.b64encode(f"me:{SECRET}".encode()).decode()
TOKEN_ANSWER = answered("200 OK", f'{{"access_token": "{TOKEN}", "expires_in": 3600}}'.encode())
CONFERENCE = answered("200 OK", b'{"id": "conf-1"}')
NOT_FOUND = answered("404 Not Found")
HTML, JSON = "Content-Type: text/html", "Content-Type: application/json"
ACTIVE = answered("200 OK", b'{"id": "conf-1", "completedTime": null}', JSON)
OVER = answered("200 OK", b'{"id": "conf-1", "completedTime": "2026-01-02T03:04:05Z"}', JSON)
START = b"HTTP/1.1 "
ATTEMPTS = 5
AT_ONCE = RetryPolicy(attempts=ATTEMPTS, backoff_base=0)

pytestmark = pytest.mark.usefixtures("sender")
virtual_time = pytest.mark.looptime


def client_of(server: WireServer, **settings: Any) -> VoiceClient:
    """Return a client that retries without a pause, as often as its policy allows."""
    defaults: dict[str, Any] = {
        "account_id": ACCOUNT,
        "credentials": BasicCredentials("me", SECRET),
        "voice_url": server.url,
        "api_url": server.url,
        "rate_limit": RateLimit(100_000, 1000),
        "retry": AT_ONCE,
        "timeouts": Timeouts(connect=1.0, attempt=5.0),
        "random": Random(3),
    }
    return VoiceClient(**{**defaults, **settings})


@asynccontextmanager
async def world(*scripts: Script, **settings: Any) -> AsyncIterator[tuple[WireServer, VoiceClient]]:
    """Yield a server and a client for it. Check that no request, connection or task is left."""
    before = asyncio.all_tasks()
    server_settings = {name: settings.pop(name) for name in ("greeting", "otherwise") if name in settings}
    async with wire_server(*scripts, **server_settings) as server:
        async with client_of(server, **settings) as client:
            yield server, client
            assert client.limiter.snapshot().in_flight == 0
        assert await server.kept() == set()
    assert asyncio.all_tasks() == before


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


def connections(server: WireServer) -> list[int]:
    """Return the connection of each request that arrived."""
    return [one.connection for one in server.arrived]


async def ended(client: VoiceClient, conference_id: str = "conf-1", **settings: Any) -> tuple[str, int]:
    """End a conference, and return the kind of its outcome and the number of attempts."""
    outcome = await client.end_conference(conference_id, **settings)
    return str(outcome.kind), outcome.attempts


# No answer

NO_ANSWER: dict[str, Script] = {
    "reset": (RESET,),
    "closed": (CLOSE,),
    "reset in the status line": (b"HTTP/1.1 20", RESET),
    "closed in the status line": (b"HTTP/1.1 20", CLOSE),
    "hangs": (HANG,),
    "hangs after a 100": (b"HTTP/1.1 100 Continue\r\n\r\n", HANG),
    "trickles": (Trickle(NO_CONTENT),),
    "garbage": (b"what do you want?\r\n\r\n",),
    "binary": (bytes(range(256)) * 4, CLOSE),
    "HTTP/0.9": (b"<html>hello</html>", CLOSE),
    "TLS alert": (b"\x15\x03\x03\x00\x02\x02\x28", CLOSE),
    "HTTP/2 settings": (b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", HANG),
    "SSH": (b"SSH-2.0-OpenSSH_9.6\r\n", HANG),
    "status is no number": (b"HTTP/1.1 abc OK\r\n\r\n",),
    "status of four digits": (b"HTTP/1.1 2040 OK\r\n\r\n",),
    "empty lines for ever": (*[b"\r\n" * 1000] * 100, HANG),
}
no_answer = pytest.mark.parametrize("fault", NO_ANSWER.values(), ids=NO_ANSWER)

# The first line of an answer was read, and nothing good follows it.
STATUS_ALONE: dict[str, Script] = {
    "reset in the headers": (b"HTTP/1.1 204 No Content\r\nDate: ", RESET),
    "closed in the headers": (b"HTTP/1.1 204 No Content\r\nDate: ", CLOSE),
    "hangs in the headers": (b"HTTP/1.1 204 No Content\r\n", HANG),
    "length is no number": (b"HTTP/1.1 204 No Content\r\nContent-Length: x\r\n\r\n",),
    "two lengths": (b"HTTP/1.1 204 No Content\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",),
    "length and chunks": (
        b"HTTP/1.1 204 No Content\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "null in a header": (b"HTTP/1.1 204 No Content\r\nX: a\0b\r\n\r\n",),
    "header of 100 kB": (b"HTTP/1.1 204 No Content\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",),
    "10,000 headers": (b"HTTP/1.1 204 No Content\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",),
    "headers for ever": (b"HTTP/1.1 204 No Content\r\n", *[b"X: " + b"y" * 1000 + b"\r\n"] * 500, HANG),
    "a coding that nobody has": (b"HTTP/1.1 204 No Content\r\nContent-Encoding: br\r\n\r\n",),
    "a colon is missing": (b"HTTP/1.1 204 No Content\r\nwhat is this\r\n\r\n",),
}
status_alone = pytest.mark.parametrize("fault", STATUS_ALONE.values(), ids=STATUS_ALONE)


def with_status(fault: Script, line: bytes) -> Script:
    """Return a script with another first line of the answer."""
    first = fault[0]
    assert isinstance(first, bytes)
    return (b"HTTP/1.1 " + line + first[first.index(b"\r\n") :], *fault[1:])


@status_alone
@virtual_time
async def test_a_status_counts_whatever_follows_it(fault: Script) -> None:
    """A 204 has ended it, a 404 says that there never was one, and neither is asked for again."""
    async with world(fault, with_status(fault, b"404 Not Found")) as (server, client):
        assert await ended(client) == ("ended", 1)
        with pytest.raises(NotFoundError) as caught:
            await client.end_conference("conf-2")
        assert (caught.value.attempts, caught.value.ambiguous, len(server.arrived)) == (1, False, 2)


@status_alone
@virtual_time
async def test_a_status_that_was_read_outlives_the_deadline(fault: Script) -> None:
    """A 403 is no reason to call the id unknown, though the deadline comes before the rest of it."""
    async with world(otherwise=with_status(fault, b"403 Forbidden")) as (server, client):
        with pytest.raises(PermissionDeniedError) as caught:
            await client.end_conference("conf-1", deadline=1.0)
        assert (caught.value.attempts, caught.value.ambiguous, len(server.arrived)) == (1, False, 1)
        assert now() <= 1.01


@status_alone
@virtual_time
async def test_a_read_is_not_content_with_a_status(fault: Script) -> None:
    """The body of a success is what was asked for; a refusal has none that matters."""
    if fault == STATUS_ALONE["a coding that nobody has"]:
        fault = (answered("200 OK", b"\x0b\x02\x80{}\x03", "Content-Encoding: br"),)
    async with world(otherwise=with_status(fault, b"200 OK")) as (server, client):
        with pytest.raises(TransportError):
            await client.get_conference("conf-1")
        server.otherwise = with_status(fault, b"404 Not Found")
        with pytest.raises(NotFoundError):
            await client.get_conference("conf-1")


STALLED = b"HTTP/1.1 %s\r\nContent-Length: 10\r\n\r\nabc"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        *(("400 No", "refused"), ("403 No", "refused"), ("404 No", "not_found"), ("429 No", "failed")),
        *(("503 No", "failed"), ("500 No", "unknown")),
    ],
)
@pytest.mark.parametrize("way", ["deadline", "stop"])
@virtual_time
async def test_a_status_counts_though_its_body_outlasts_the_operation(line: str, kind: str, way: str) -> None:
    """The deadline or the stop comes within the two seconds that an error's body may take."""
    async with world(otherwise=(STALLED % line.encode(), HANG)) as (_, client):
        if way == "stop":
            stop = Stop()
            asyncio.get_running_loop().call_later(0.5, partial(stop.request, grace=0.5))
            report = await client.end_conferences(["conf-1"], stop=stop)
            # An id that was only told to wait has not been tried.
            assert report.counts["not_attempted" if line.startswith("429") else kind] == 1
        else:
            with pytest.raises(BandwidthError) as caught:
                await client.end_conference("conf-1", deadline=1.0)
            assert kind_of(caught.value) == kind
        assert now() == pytest.approx(1.0, abs=0.01)


@no_answer
@virtual_time
async def test_no_answer_and_then_one(fault: Script) -> None:
    """The request is repeated on another connection, and the conference has ended."""
    async with world(fault) as (server, client):
        assert await ended(client) == ("ended", 2)
        assert await ended(client, "conf-2") == ("ended", 1)
        assert connections(server) == [1, 2, 2]
        assert await server.kept() == {2}
        assert now() < 6.0


@no_answer
@virtual_time
async def test_no_answer_and_then_a_404(fault: Script) -> None:
    """The attempt without a response ended the conference."""
    async with world(fault, (NOT_FOUND,)) as (_, client):
        assert await ended(client) == ("already_ended", 2)


@no_answer
@virtual_time
async def test_no_answer_ever(fault: Script) -> None:
    """After all attempts, and one more for the first lost connection, the error is ambiguous."""
    async with world(otherwise=fault) as (server, client):
        with pytest.raises(TransportError) as caught:
            await client.end_conference("conf-1")
        error = caught.value
        assert error.attempts == len(server.arrived) == (ATTEMPTS + 1 if error.dropped else ATTEMPTS)
        assert error.ambiguous
        assert str(error).isprintable()
        assert connections(server) == list(range(1, error.attempts + 1))
        assert await server.kept() == set()


@pytest.mark.parametrize("fault", [RESET, CLOSE])
@virtual_time
async def test_cut_before_anything_was_read(fault: Any) -> None:
    """A server that closes each connection at once has ended no conference."""
    async with world(greeting=(fault,)) as (server, client):
        with pytest.raises(TransportError) as caught:
            await client.end_conference("conf-1")
        assert (caught.value.attempts, server.connections, server.arrived) == (ATTEMPTS + 1, ATTEMPTS + 1, [])


@virtual_time
async def test_nobody_listens_yet() -> None:
    """A request that was never sent is not ambiguous: the final 404 means that there was no conference."""
    door = socket.socket()
    door.bind(("127.0.0.1", 0))
    server = WireServer([(NOT_FOUND,), (NO_CONTENT,)])
    server.url = f"http://127.0.0.1:{door.getsockname()[1]}"
    listener = await asyncio.start_server(server.accept, sock=door, start_serving=False)
    patient = RetryPolicy(attempts=100, backoff_base=0.1)
    async with client_of(server, retry=patient) as client:
        asyncio.get_running_loop().call_later(3.0, listener._start_serving)  # type: ignore[attr-defined]  # sync
        with pytest.raises(NotFoundError) as caught:
            await client.end_conference("conf-1")
        assert (caught.value.attempts > 2, caught.value.ambiguous) == (True, False)
        assert await ended(client, "conf-2") == ("ended", 1)
        assert (len(server.arrived), client.limiter.snapshot().in_flight) == (2, 0)
    listener.close()
    await server.stop()


@virtual_time
async def test_nobody_listens() -> None:
    """All attempts are used. Nothing was sent, so the error is not ambiguous."""
    async with wire_server() as server:
        pass
    async with client_of(server) as client:
        with pytest.raises(TransportError) as caught:
            await client.end_conference("conf-1")
        assert (caught.value.attempts, caught.value.ambiguous, caught.value.dropped) == (
            ATTEMPTS,
            False,
            False,
        )
        assert client.limiter.snapshot().in_flight == 0


@virtual_time
async def test_a_slow_trickle_ends_with_the_attempt() -> None:
    """A byte a second is no response within the attempt's five seconds."""
    async with world((Trickle(NO_CONTENT),)) as (_, client):
        await client.end_conference("conf-1")
        assert now() == pytest.approx(5.0, abs=0.01)


@virtual_time
async def test_the_deadline_ends_a_trickle_too() -> None:
    """The deadline comes before the attempt's timeout. The request was sent, so the error is ambiguous."""
    async with world((Trickle(NO_CONTENT),)) as (server, client):
        with pytest.raises(DeadlineExceededError) as caught:
            await client.end_conference("conf-1", deadline=2.0)
        assert now() == pytest.approx(2.0, abs=0.01)
        assert (caught.value.attempts, caught.value.ambiguous) == (1, True)
        assert await server.kept() == set()


# Kept connections


@virtual_time
async def test_a_kept_connection_that_was_closed_meanwhile() -> None:
    """The client does not use it, and no operation fails."""
    async with world((NO_CONTENT, CLOSE)) as (server, client):
        assert await ended(client) == ("ended", 1)
        assert await server.kept() == set()
        assert await ended(client) == ("ended", 1)
        assert connections(server) == [1, 2]


@pytest.mark.parametrize("fault", [CLOSE, RESET])
@virtual_time
async def test_a_kept_connection_that_is_closed_as_it_is_used(fault: Any) -> None:
    """The request is repeated once, at once. This does not count as an attempt of the policy."""
    impatient = RetryPolicy(attempts=1, backoff_base=100.0)
    async with world((NO_CONTENT,), (fault,), (NO_CONTENT,), retry=impatient) as (server, client):
        assert await ended(client, "conf-1") == ("ended", 1)
        assert await ended(client, "conf-2") == ("ended", 2)
        assert connections(server) == [1, 1, 2]
        assert now() < 0.1


async def dead_pool(server: WireServer, client: VoiceClient, count: int, *fault: Any) -> None:
    """Fill the pool with connections, on which from now on nothing but ``fault`` answers."""
    server.scripts = [(Wait(0.01), NO_CONTENT)] * count
    await asyncio.gather(*(ended(client, f"old-{n}") for n in range(count)))
    assert len(set(connections(server))) == count
    server.fail_over(fault)


@pytest.mark.parametrize("fault", [CLOSE, RESET, HANG], ids=str)
@pytest.mark.parametrize("count", [1, 6, 20])
@virtual_time
async def test_a_pool_that_died_at_once_costs_one_resend(count: int, fault: Any) -> None:
    """After a failover: the next attempt, and all that follow, go over new connections."""
    async with world() as (server, client):
        await dead_pool(server, client, count, fault)
        started = now()
        assert await ended(client) == ("ended", 2)
        assert await ended(client) == ("ended", 1)
        assert now() - started <= (5.0 if fault is HANG else 0.0) + 0.01
        assert connections(server)[-2:] == [count + 1, count + 1]


@pytest.mark.parametrize("fault", [CLOSE, RESET], ids=str)
@virtual_time
async def test_a_read_after_a_failover(fault: Any) -> None:
    """A read is repeated as an end is, over a new connection."""
    async with world(otherwise=(CONFERENCE,)) as (server, client):
        await dead_pool(server, client, 12, fault)
        assert (await client.get_conference("conf-1")).id == "conf-1"
        assert (len(connections(server)), connections(server)[-1]) == (12 + 2, 13)


@virtual_time
async def test_a_run_after_a_failover_loses_nothing() -> None:
    """Twenty old connections, two tasks: two resends at most."""
    async with world() as (server, client):
        await dead_pool(server, client, 20, RESET)
        report = await client.end_conferences([f"conf-{n}" for n in range(40)], concurrency=2)
        assert (report.counts["ended"], report.attempts <= 42) == (40, True)


@virtual_time
async def test_a_deadline_that_a_silent_connection_eats_is_the_last_one() -> None:
    """Shorter than an attempt, so that no attempt ends; the next call takes a new connection."""
    async with world() as (server, client):
        await dead_pool(server, client, 8, HANG)
        with pytest.raises(DeadlineExceededError):
            await ended(client, deadline=0.5)
        assert await ended(client, deadline=0.5) == ("ended", 1)


@virtual_time
async def test_a_connection_that_answered_meanwhile_is_kept() -> None:
    """One cut connection says nothing about those that have answered since."""
    async with world() as (server, client):
        server.scripts = [(Wait(0.2), CLOSE), (Wait(0.1), NO_CONTENT)]
        await asyncio.gather(ended(client, "conf-1"), ended(client, "conf-2"))
        assert connections(server) == [1, 2, 2]


@pytest.mark.parametrize("fault", [CLOSE, RESET, HANG], ids=str)
@virtual_time
async def test_a_given_session_s_pool_that_died(fault: Any) -> None:
    """Also where the connections belong to somebody else."""
    async with aiohttp.ClientSession() as session, world(session=session) as (server, client):
        await dead_pool(server, client, 12, fault)
        assert await ended(client) == ("ended", 2)
        assert await ended(client) == ("ended", 1)
        assert connections(server)[-2:] == [13, 13]
        await session.close()


@virtual_time
async def test_every_hundredth_answer_closes() -> None:
    """Three hundred operations, ten at a time, need no retry and raise no error."""
    last = answered("204 No Content", b"", "Connection: close")
    scripts = [(last, CLOSE) if n % 100 == 0 else (NO_CONTENT,) for n in range(1, 301)]
    async with world(*scripts) as (server, client):
        for first in range(0, 300, 10):
            calls = (ended(client, f"conf-{n}") for n in range(first, first + 10))
            assert await asyncio.gather(*calls) == [("ended", 1)] * 10
        assert len(server.arrived) == 300
        assert server.connections == 10 + 2


# More bytes than a response

SURPLUS = answered("200 OK")
EXTRA: dict[str, bytes] = {
    "text": b"hello",
    "JSON": b'{"status": "completed"}',
    "an empty line": b"\r\n",
    "half a line": b"HTTP/1.1 ",
    "another answer": SURPLUS,
    "chunks": b"5\r\nhello\r\n0\r\n\r\n",
    "a megabyte": b"x" * 1_000_000,
}
HEADS: dict[str, bytes] = {
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "204 with length": b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
    "204 in chunks": b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
    "204 that closes": b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
    "204 of HTTP/1.0": b"HTTP/1.0 204 No Content\r\n\r\n",
    "204 after 100": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
}
# What a call is hung up with: the one change whose success may have a body.
BODIES: dict[str, bytes] = {
    "200 without a body": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "200 with a body": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "200 in chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("extra", EXTRA.values(), ids=EXTRA)
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@virtual_time
async def test_a_success_with_more_behind_it(head: bytes, extra: bytes) -> None:
    """In one piece or in two, the conference has ended, and the connection is not used again."""
    cuts = range(len(head) - 6, len(head))
    for script in [(head + extra,), *((head[:cut], Wait(0.1), head[cut:] + extra) for cut in cuts)]:
        async with world(script, (NOT_FOUND,)) as (server, client):
            assert await ended(client) == ("ended", 1)
            with pytest.raises(NotFoundError):
                await client.end_conference("conf-2")
            assert connections(server) == [1, 2]
            assert await server.kept() == {2}


@pytest.mark.parametrize("extra", EXTRA)
@pytest.mark.parametrize("whole", BODIES.values(), ids=BODIES)
@virtual_time
async def test_a_success_with_a_body_and_more_behind_it(whole: bytes, extra: str) -> None:
    """The connection is not used again, unless the extra bytes may begin a response. Those are dropped."""
    begun = extra in {"an empty line", "half a line"} and b"Content-Length: 0" not in whole
    async with world((whole + EXTRA[extra],), (NOT_FOUND,)) as (server, client):
        await client.update_call("c-1", UpdateCall(state="completed"))
        with pytest.raises(NotFoundError):
            await client.end_conference("conf-2")
        assert connections(server) == [1, 1 if begun else 2]


@pytest.mark.parametrize("extra", EXTRA.values(), ids=EXTRA)
@virtual_time
async def test_what_comes_on_an_idle_connection_is_nobody_s_answer(extra: bytes) -> None:
    """The client closes the connection. Else the second response could be mistaken for the next one."""
    async with world((NO_CONTENT, Wait(1.0), extra), (NOT_FOUND,)) as (server, client):
        assert await ended(client) == ("ended", 1)
        await asyncio.sleep(2.0)
        assert await server.kept() == set()
        with pytest.raises(NotFoundError) as caught:
            await client.end_conference("conf-2")
        assert (caught.value.attempts, connections(server)) == (1, [1, 2])


@pytest.mark.parametrize("extra", EXTRA.values(), ids=EXTRA)
@virtual_time
async def test_what_lies_unread_on_an_idle_connection_is_nobody_s_answer(extra: bytes) -> None:
    """The client finds it before it writes the request, and uses another connection. Nothing is ambiguous."""
    async with world((NO_CONTENT,), (NOT_FOUND,)) as (server, client):
        assert await ended(client) == ("ended", 1)
        server.say(1, extra)
        with pytest.raises(NotFoundError) as caught:
            await client.end_conference("conf-2")
        assert (caught.value.ambiguous, connections(server)) == (False, [1, 2])


@virtual_time
async def test_a_server_that_gives_up_an_idle_connection_in_words() -> None:
    """Its 408 is no response to the next request, which uses another connection."""
    goodbye = answered("408 Request Timeout", b"", "Connection: close")
    async with world((NO_CONTENT, Wait(1.0), goodbye, CLOSE)) as (server, client):
        await client.end_conference("conf-1")
        await asyncio.sleep(2.0)
        assert await ended(client, "conf-2") == ("ended", 1)
        assert connections(server) == [1, 2]


@virtual_time
async def test_an_answer_before_the_request() -> None:
    """It is no response, and nothing is sent after it. The same holds for a read by the session."""
    async with world((NOT_FOUND,), greeting=(NO_CONTENT,)) as (server, client):
        for call in (client.end_conference, client.get_conference):
            with pytest.raises(TransportError, match="closed before the request") as caught:
                await call("conf-1")
            assert (caught.value.ambiguous, server.arrived) == (False, [])


@virtual_time
async def test_a_read_with_more_behind_it() -> None:
    """The body has the announced length, and the connection is not used again."""
    async with world((CONFERENCE + b"extra",), (CONFERENCE + SURPLUS,)) as (server, client):
        for _ in range(3):
            server.scripts.append((CONFERENCE,))
            assert (await client.get_conference("conf-1")).id == "conf-1"
        assert connections(server) == [1, 2, 3]


# Any success


@pytest.mark.parametrize(
    ("script", "kept"),
    [
        ((b"HTTP/1.1 100 Continue\r\n\r\n", Wait(0.1), NO_CONTENT), True),
        ((b"HTTP/1.1 102 Processing\r\n\r\n" * 3 + NO_CONTENT,), True),
        ((b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n", NO_CONTENT), True),
        ((b"HTTP/1.1 199 Whatever\r\n\r\n" * 1000 + NO_CONTENT,), True),
        ((b"HTTP/1.0 204 No Content\r\n\r\n",), False),
        ((answered("204 No Content", b"", "Connection: close"),), False),
    ],
    ids=lambda value: str(value)[:60],
)
@virtual_time
async def test_any_success_is_one(script: Script, kept: bool) -> None:
    """The status says it, the body is not waited for; what could be spoilt is not used again."""
    async with world(script) as (server, client):
        assert await ended(client) == ("ended", 1)
        assert now() < 0.2
        assert await ended(client, "conf-2") == ("ended", 1)
        assert connections(server) == [1, 1 if kept else 2]


@pytest.mark.parametrize(
    ("script", "kept"),
    [
        ((answered("200 OK", b"<html>\xff\xfe"),), True),
        ((answered("202 Accepted", b"{" * 1000, "Content-Type: text/plain"),), True),
        ((answered("299 Whatever", b"\x1b[2J"),), True),
        ((b"HTTP/1.0 200 OK\r\n\r\n", b"until the end", CLOSE), False),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\ncut", CLOSE), False),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\ncut", RESET), False),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", HANG), False),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", Trickle(b"x" * 99)), False),
        ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"zz\r\nbad chunk", CLOSE), False),
        ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nbad chunk",), False),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n", *[b"x" * 10_000] * 1000), False),
        ((answered("200 OK", b"not gzip", "Content-Encoding: gzip"),), True),
    ],
    ids=lambda value: str(value)[:60],
)
@virtual_time
async def test_any_other_success_is_settled_by_reading(script: Script, kept: bool) -> None:
    """Its status and body only explain. A connection that may hold more of the body is not used again."""
    async with world(script, (OVER,)) as (server, client):
        assert await ended(client) == ("already_ended", 2)
        assert now() < 2.3
        assert await ended(client, "conf-2") == ("ended", 1)
        assert connections(server) == ([1, 1, 1] if kept else [1, 2, 2])


# Refusals


@pytest.mark.parametrize("headers", [(), ("Upgrade: websocket", "Connection: upgrade")])
@virtual_time
async def test_101_is_an_error(headers: tuple[str, ...]) -> None:
    """The client did not request another protocol. The connection cannot be used again."""
    async with world((answered("101 Switching Protocols", b"\x81\x05hello", *headers),)) as (server, client):
        with pytest.raises(APIError) as caught:
            await client.end_conference("conf-1")
        assert (caught.value.status, caught.value.attempts) == (101, 1)
        assert await ended(client, "conf-2") == ("ended", 1)
        assert connections(server) == [1, 2]


@pytest.mark.parametrize("where", ["{other}/steal", "//127.0.0.1:{port}/x", "/elsewhere", "http://[", "\x7f"])
@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
@virtual_time
async def test_a_redirect_is_an_error_and_is_not_followed(status: int, where: str) -> None:
    """Neither a change nor a read follows a redirect, and the credentials are not sent elsewhere."""
    async with wire_server() as other:
        location = where.format(other=other.url, port=other.url.rpartition(":")[2])
        answer = answered(f"{status} Elsewhere", b"", f"Location: {location}")
        async with world(otherwise=(answer,)) as (server, client):
            for call in (client.end_conference, client.get_conference):
                with pytest.raises(APIError) as caught:
                    await call("conf-1")
                error = caught.value
                assert (error.status, error.attempts, error.ambiguous) == (status, 1, False)
            assert len(server.arrived) == 2
        assert other.connections == 0


@virtual_time
async def test_a_token_s_redirect_is_not_followed_either() -> None:
    """The redirected request would contain the client's secret."""
    async with wire_server() as other, wire_server() as tokens:
        tokens.otherwise = (answered("307 Elsewhere", b"", f"Location: {other.url}/api/v1/oauth2/token"),)
        credentials = ClientCredentials("me", SECRET)
        async with world(credentials=credentials, api_url=tokens.url) as (server, client):
            with pytest.raises(AuthenticationError):
                await client.end_conference("conf-1")
            assert (len(tokens.arrived), server.connections, other.connections) == (1, 0, 0)


@virtual_time
async def test_no_link_in_an_answer_is_followed_elsewhere() -> None:
    """The client follows neither the next page of a listing nor a member's URL to another host."""
    async with wire_server() as other:
        page = answered("200 OK", b'[{"id": "conf-1"}]', f'Link: <{other.url}/next>; rel="next"')
        member = f'{{"callId": "c-1", "memberUrl": "{other.url}/m", "conferenceId": "conf-1"}}'
        conference = answered("200 OK", f'{{"id": "conf-1", "activeMembers": [{member}]}}'.encode())
        async with world((page,), (conference,)) as (server, client):
            with pytest.raises(TransportError, match="where the credentials are not sent"):
                async for _ in client.list_conferences():
                    pass
            assert (await client.get_conference("conf-1")).id == "conf-1"
            assert len(server.arrived) == 2
        assert other.connections == 0


@virtual_time
async def test_an_error_of_ten_megabytes() -> None:
    """It is read up to a limit of bytes and of time, and its connection is not used again."""
    head = b"HTTP/1.1 404 Not Found\r\nContent-Length: 10000000\r\n\r\n"
    async with world((head, *[b"x" * 100_000] * 100)) as (server, client):
        tracemalloc.start()
        try:
            with pytest.raises(NotFoundError) as caught:
                await client.end_conference("conf-1")
            assert tracemalloc.get_traced_memory()[1] < 2_000_000
        finally:
            tracemalloc.stop()
        assert (now() < 2.1, len(caught.value.description or "")) == (True, 2048)
        assert await ended(client) == ("ended", 1)
        assert connections(server) == [1, 2]


@pytest.mark.parametrize(
    "body",
    [
        b"\x1b[31mred\x1b]0;title\x07",
        b'{"type": "a\\u001b[2Jb", "description": "c\\r\\nd\\u0000\\u009b"}',
        b"\xff\xfe\xc3\x28\x80",
        "\u202etxt.exe\u2028\u2066".encode(),
        b"<html><script>alert(1)</script></html>",
    ],
)
@pytest.mark.parametrize("length", ["right", "too long", "chunked", "bad chunk"])
@virtual_time
async def test_no_text_of_a_server_reaches_a_terminal_as_it_is(body: bytes, length: str) -> None:
    """The error is one printable line, whatever the body contains and however it ends."""
    head = b"HTTP/1.1 400 B\x1b[1mad\r\n"
    answer = {
        "right": head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body),
        "too long": head + b"Content-Length: 999\r\n\r\n" + body,
        "chunked": head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body),
        "bad chunk": head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\nzz\r\n" % (len(body), body),
    }[length]
    async with world((answer, Wait(0.1), CLOSE), (answer, Wait(0.1), CLOSE)) as (_, client):
        with pytest.raises(BandwidthError) as caught:
            await client.end_conference("conf-1")
        error = caught.value
        assert str(error).isprintable()
        assert all(word.isprintable() for word in (getattr(error, "description", None) or "",))
        assert repr(error).isprintable()


@pytest.mark.parametrize("status", [400, 404, 500])
@pytest.mark.parametrize("rest", [(b"cut", CLOSE), (b"cut", RESET), (b"zz\r\n",), (HANG,)], ids=str)
@virtual_time
async def test_an_error_s_text_is_optional(status: int, rest: Script) -> None:
    """The status is enough. The connection is closed."""
    length = b"Transfer-Encoding: chunked" if rest == (b"zz\r\n",) else b"Content-Length: 1000"
    script = (START + b"%d Oops\r\n%s\r\n\r\n" % (status, length), *rest)
    async with world(script, retry=RetryPolicy(attempts=1)) as (server, client):
        with pytest.raises(APIError) as caught:
            await client.end_conference("conf-1")
        assert (caught.value.status, caught.value.attempts) == (status, 1)
        assert caught.value.ambiguous is (status == 500)
        assert await ended(client) == ("ended", 1)
        assert connections(server) == [1, 2]


@virtual_time
async def test_a_server_that_fails_for_a_while() -> None:
    """A 500 is ambiguous, a 503 is not. After a 500 a 404 means already ended, after a 503 it does not."""
    async with world((answered("500 Oops"),), (NOT_FOUND,), (answered("503 Busy"),), (NOT_FOUND,)) as (
        _,
        client,
    ):
        assert await ended(client) == ("already_ended", 2)
        with pytest.raises(NotFoundError) as caught:
            await client.end_conference("conf-2")
        assert (caught.value.attempts, caught.value.ambiguous) == (2, False)


@virtual_time
async def test_a_server_that_fails_for_ever() -> None:
    """Five attempts use one connection, and the error is ambiguous."""
    async with world(otherwise=(answered("502 Bad Gateway", b"<html>"),)) as (server, client):
        with pytest.raises(ServerError) as caught:
            await client.end_conference("conf-1")
        assert (caught.value.attempts, caught.value.ambiguous) == (ATTEMPTS, True)
        assert connections(server) == [1] * ATTEMPTS


# A page is not a result

SIGN_IN = b"<html><title>Please sign in</title></html>"
ERROR = b'{"type": "error", "description": "Please sign in", "id": "e-1"}'
PAGES: dict[str, bytes] = {
    "a sign-in page": answered("200 OK", SIGN_IN, HTML),
    "an error in JSON": answered("200 OK", ERROR, JSON),
    "another sign-in page": answered("203 Non-Authoritative Information", SIGN_IN, HTML),
    "nothing": answered("200 OK"),
    "accepted": answered("202 Accepted", b"{}", JSON),
    "in part": answered("206 Partial Content", b"Pl", HTML),
    "cut": START + b"200 OK\r\nContent-Type: text/html\r\nContent-Length: 999\r\n\r\n" + SIGN_IN,
}
some_page = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)


@some_page
@virtual_time
async def test_a_page_proves_no_end(page: bytes) -> None:
    """The reading settles it: over, gone, or still active and ended by the next try."""
    for reading, kind, attempts in [
        (OVER, "already_ended", 2),
        (NOT_FOUND, "already_ended", 2),
        (ACTIVE, "ended", 3),
    ]:
        script = (page, CLOSE) if b"999" in page else (page,)
        async with world(script, (reading,)) as (server, client):
            assert await ended(client) == (kind, attempts)
            assert [one.line.partition(" ")[0] for one in server.arrived] == ["POST", "GET", "POST"][
                :attempts
            ]


@some_page
@virtual_time
async def test_a_page_for_a_conference_that_stays_active(page: bytes) -> None:
    """It is tried as often as after any failure. The last reading says that it was not ended: failed."""
    script = (page, CLOSE) if b"999" in page else (page,)
    scripts: list[Script] = [script, (ACTIVE,)] * ATTEMPTS
    async with world(*scripts) as (server, client):
        with pytest.raises(
            UnexpectedResponseError, match=r"^end conference conf-1: answered 20\d "
        ) as caught:
            await client.end_conference("conf-1")
        assert (caught.value.ambiguous, kind_of(caught.value)) == (False, "failed")
        assert (caught.value.attempts, len(server.arrived)) == (2 * ATTEMPTS, 2 * ATTEMPTS)


@pytest.mark.parametrize("page", [PAGES["a sign-in page"], PAGES["an error in JSON"]], ids=["html", "json"])
@virtual_time
async def test_a_page_for_everything(page: bytes) -> None:
    """Nothing tells then what became of the end: unknown, and never ended. The error shows what came."""
    outcomes: list[Outcome] = []
    async with world(otherwise=(page,)) as (_, client):
        report = await client.end_conferences(["conf-1", "conf-2"], on_outcome=outcomes.append)
    assert report.counts == {"unknown": 2}
    assert all("Please sign in" in (one.error or "") for one in outcomes)


@pytest.mark.parametrize("hang_up", [False, True])
@virtual_time
async def test_a_reading_of_another_conference_proves_nothing(hang_up: bool) -> None:
    """A cache may mix them up. Nobody's calls are ended then, and nothing is taken for ended."""
    other = b'{"id": "conf-2", "completedTime": "2026-01-02T03:04:05Z", "activeMembers": [{"callId": "c-2"}]}'
    scripts: list[Script] = [(answered("200 OK", other, JSON),)]
    if not hang_up:
        scripts.insert(0, (answered("409 Conflict"),))
    async with world(*scripts) as (server, client):
        with pytest.raises(UnexpectedResponseError, match="about conf-2"):
            await client.end_conference("conf-1", hang_up=hang_up)
        assert len(server.arrived) == len(scripts)


@virtual_time
async def test_a_conference_that_a_reading_found_did_exist() -> None:
    """So the 404 after it means that it has ended meanwhile."""
    async with world((PAGES["nothing"],), (ACTIVE,), (NOT_FOUND,)) as (_, client):
        assert await ended(client) == ("already_ended", 3)


@virtual_time
async def test_a_page_for_a_call_that_is_hung_up() -> None:
    """Its success is a 200 without content. A page is settled by reading the call."""
    members = b'{"id": "conf-1", "activeMembers": [{"callId": "c-1"}]}'
    over, alive = (
        answered("200 OK", b'{"callId": "c-1", "state": "%s"}' % state)
        for state in (b"disconnected", b"answered")
    )
    page = PAGES["a sign-in page"]
    for rest, requests in [
        (((answered("200 OK"),),), 3),
        (((page,), (over,)), 4),
        (((page,), (alive,), (answered("200 OK"),)), 5),
    ]:
        async with world((answered("200 OK", members),), (NO_CONTENT,), *rest) as (server, client):
            assert await ended(client, hang_up=True) == ("ended", requests)
            assert len(server.arrived) == requests
    async with world((answered("200 OK", members),), (NO_CONTENT,), *[(page,), (alive,)] * ATTEMPTS) as (
        _,
        client,
    ):
        with pytest.raises(HangUpError, match="Please sign in"):
            await client.end_conference("conf-1", hang_up=True)


UNREADABLE: dict[str, Script] = {
    "packed": (answered("200 OK", b"\x0b\x02\x80{}\x03", HTML, "Content-Encoding: br"),),
    "cut": (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", CLOSE),
    "silent": (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", HANG),
    "without headers": (b"HTTP/1.1 200 OK\r\nwhat?\r\n\r\n", CLOSE),
    "an empty page": (answered("200 OK", b"", HTML),),
    "words": (answered("200 OK", b'"denied"', JSON),),
}


@pytest.mark.parametrize("page", UNREADABLE.values(), ids=UNREADABLE)
@virtual_time
async def test_a_page_that_cannot_be_read_hangs_up_no_call(page: Script) -> None:
    """The status 200 alone is not enough: the call is read, and it goes on."""
    members = answered("200 OK", b'{"id": "conf-1", "activeMembers": [{"callId": "c-1"}]}')
    alive = answered("200 OK", b'{"callId": "c-1", "state": "answered"}')
    async with world((members,), (NO_CONTENT,), *[page, (alive,)] * ATTEMPTS) as (_, client):
        with pytest.raises(HangUpError) as caught:
            await client.end_conference("conf-1", hang_up=True)
        assert caught.value.calls_left == ("c-1",)


CHANGES: dict[str, Callable[[VoiceClient], Awaitable[object]]] = {
    "redirect": lambda c: c.update_conference("conf-1", UpdateConference(redirect_url="https://a.example")),
    "bxml": lambda c: c.update_conference_bxml("conf-1", "<Bxml></Bxml>"),
    "member": lambda c: c.update_conference_member("conf-1", "c-1", UpdateConferenceMember(mute=True)),
    "call": lambda c: c.update_call("c-1", UpdateCall(redirect_url="https://a.example")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("page", ["a sign-in page", "an error in JSON", "another sign-in page"])
@virtual_time
async def test_a_page_is_no_change(page: str, change: Callable[[VoiceClient], Awaitable[object]]) -> None:
    """It may have been made all the same, so it is not sent again."""
    async with world((PAGES[page],)) as (server, client):
        with pytest.raises(UnexpectedResponseError, match="Please sign in") as caught:
            await change(client)
        assert (caught.value.ambiguous, len(server.arrived)) == (True, 1)


@virtual_time
async def test_the_documented_success_of_a_call() -> None:
    """A 200 without content, or with something that says no other."""
    for body in (b"", b" ", b"{}", b'{"callId": "c-1"}'):
        async with world((answered("200 OK", body),)) as (_, client):
            await client.update_call("c-1", UpdateCall(redirect_url="https://a.example"))


async def listed(client: VoiceClient) -> object:
    """Return all conferences."""
    return [conference async for conference in client.list_conferences()]


READS: dict[str, Callable[[VoiceClient], Awaitable[object]]] = {
    "conference": lambda c: c.get_conference("conf-1"),
    "list": listed,
    "member": lambda c: c.get_conference_member("conf-1", "c-1"),
    "recordings": lambda c: c.list_conference_recordings("conf-1"),
    "recording": lambda c: c.get_conference_recording("conf-1", "r-1"),
    "call": lambda c: c.get_call("c-1"),
    "token": lambda c: c.end_conference("conf-1"),
}


@pytest.mark.parametrize("read", READS, ids=READS)
@pytest.mark.parametrize("page", ["a sign-in page", "an error in JSON", "another sign-in page", "nothing"])
@virtual_time
async def test_a_page_is_no_value(page: str, read: str) -> None:
    """The read is repeated, and its error shows what came. None is made of an error's id."""
    settings: dict[str, Any] = {"credentials": ClientCredentials("me", SECRET)} if read == "token" else {}
    async with world(otherwise=(PAGES[page],), **settings) as (server, client):
        with pytest.raises(UnexpectedResponseError) as caught:
            await READS[read](client)
        assert not caught.value.ambiguous
        assert len(server.arrived) == ATTEMPTS
        assert page == "nothing" or "Please sign in" in str(caught.value)


@virtual_time
async def test_a_token_in_a_page_is_not_shown() -> None:
    """What may be a token in another form than documented is not quoted."""
    for body in (b'{"token": "t0ken"}', b"access_token=t0ken", b'{"access_token": ["t0ken"]}'):
        async with world(
            otherwise=(answered("200 OK", body),), credentials=ClientCredentials("me", SECRET)
        ) as (_, client):
            with pytest.raises(UnexpectedResponseError) as caught:
                await client.get_conference("conf-1")
            assert "t0ken" not in "".join(traceback.format_exception(caught.value))


# A refusal after an attempt without a clear answer


@pytest.mark.parametrize(
    "status", ["400 Bad Request", "403 Forbidden", "410 Gone", "422 Unprocessable", "405 No"]
)
@pytest.mark.parametrize("lost", ["cut", "500", "earlier run"])
@virtual_time
async def test_a_refusal_after_a_lost_attempt_is_settled_by_reading(lost: str, status: str) -> None:
    """Active: the refusal counts. Over or gone: it has ended. Only if nothing tells is it unknown."""
    lost_attempts: dict[str, list[Script]] = {"cut": [(HANG,)], "500": [(answered("500 Oops"),)]}
    first = lost_attempts.get(lost, [])
    target = Target("conf-1", ambiguous=lost == "earlier run")
    refused = (answered(status, ERROR, JSON),)
    for reading, kind in [(ACTIVE, "refused"), (OVER, "already_ended"), (NOT_FOUND, "already_ended")]:
        outcomes: list[Outcome] = []
        async with world(*first, refused, (reading,)) as (server, client):
            await client.end_conferences([target], on_outcome=outcomes.append)
            assert len(server.arrived) == len(first) + 2
        assert [one.kind for one in outcomes] == [kind]
        assert kind == "already_ended" or "Please sign in" in (outcomes[0].error or "")
    async with world(*first, otherwise=refused) as (_, client):
        report = await client.end_conferences([target])
        assert report.counts == {"unknown": 1}


@virtual_time
async def test_a_conflict_of_an_active_conference_is_clear() -> None:
    """Also after a lost attempt: each reading says that it was not ended."""
    conflict = (answered("409 Conflict", ERROR, JSON),)
    async with world((answered("500 Oops"),), *[conflict, (ACTIVE,)] * 3) as (_, client):
        with pytest.raises(ConflictError) as caught:
            await client.end_conference("conf-1")
        assert not caught.value.ambiguous


@virtual_time
async def test_a_refusal_of_the_first_attempt_is_not_read() -> None:
    """Nothing is open then."""
    async with world((answered("400 Bad Request", ERROR, JSON),)) as (server, client):
        with pytest.raises(APIError):
            await client.end_conference("conf-1")
        assert len(server.arrived) == 1


# Reads


@no_answer
@virtual_time
async def test_a_read_without_an_answer_is_never_ambiguous(fault: Script) -> None:
    """It is repeated like a change. aiohttp itself repeats nothing."""
    async with world(fault, (CONFERENCE,), otherwise=fault) as (_, client):
        assert (await client.get_conference("conf-1")).id == "conf-1"
        with pytest.raises(TransportError) as caught:
            await client.get_conference("conf-1")
        assert not caught.value.ambiguous


# Names


@frozen
class Resolver(AbstractResolver):
    """Resolves one host. Without addresses, the host does not exist."""

    addresses: tuple[str, ...] = ()
    hangs: bool = False

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the scripted addresses."""
        if self.hangs:
            await asyncio.sleep(math.inf)
        if not self.addresses:
            raise OSError(socket.EAI_NONAME, "Name or service not known")
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
            for address in self.addresses
        ]

    async def close(self) -> None:
        """Do nothing, because nothing is open."""


@asynccontextmanager
async def named(resolver: Resolver) -> AsyncIterator[tuple[WireServer, VoiceClient]]:
    """Yield a server and a client that knows only its host name."""
    connector = aiohttp.TCPConnector(resolver=resolver)
    async with wire_server() as server, aiohttp.ClientSession(connector=connector) as session:
        voice = f"http://voice.test:{server.url.rpartition(':')[2]}"
        async with client_of(server, voice_url=voice, allow_http=True, session=session) as client:
            yield server, client
            assert client.limiter.snapshot().in_flight == 0


@pytest.mark.parametrize("hangs", [False, True])
@virtual_time
async def test_a_host_that_no_name_server_knows(hangs: bool) -> None:
    """The client retries. Nothing was sent, even if the name server is silent, for a second each time."""
    async with named(Resolver(hangs=hangs)) as (server, client):
        with pytest.raises(TransportError) as caught:
            await client.end_conference("conf-1")
        assert (caught.value.attempts, caught.value.ambiguous) == (ATTEMPTS, False)
        assert now() == pytest.approx(ATTEMPTS * hangs, abs=0.01)
        assert server.connections == 0


@pytest.mark.parametrize("count", [1, 4, 8])
@virtual_time
async def test_silent_addresses_share_the_time_to_connect(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One second is one second for all of them together, and nothing was sent."""

    async def never(*_: Any, **__: Any) -> None:
        await asyncio.sleep(math.inf)

    monkeypatch.setattr("aiohappyeyeballs.start_connection", never)
    async with named(Resolver(tuple(f"127.0.0.{n + 2}" for n in range(count)))) as (_, client):
        with pytest.raises(TransportError, match="no connection") as caught:
            await client.end_conference("conf-1", retry=RetryPolicy(attempts=1))
        assert caught.value.ambiguous is False
        assert now() == pytest.approx(1.0, abs=0.01)


@virtual_time
async def test_one_dead_address_of_two() -> None:
    """The other address is used, within the same attempt."""
    async with named(Resolver(("127.0.0.2", "127.0.0.1"))) as (server, client):
        assert await ended(client) == ("ended", 1)
        assert server.connections == 1


# Never sent


@asynccontextmanager
async def tunnel(script: Script) -> AsyncIterator[tuple[WireServer, VoiceClient]]:
    """Give a proxy that answers each CONNECT with ``script``, and a client behind it."""
    async with wire_server(otherwise=script) as proxy:
        voice = "https://voice.test"
        async with client_of(proxy, voice_url=voice, api_url=voice, proxy=proxy.url) as client:
            yield proxy, client


TUNNELS: dict[str, Script] = {
    "refused": (answered("407 Proxy Authentication Required"),),
    "garbage": (b"what do you want?\r\n\r\n",),
    "cut": (CLOSE,),
    "reset": (RESET,),
    "hangs": (HANG,),
    "no TLS behind it": (b"HTTP/1.1 200 OK\r\n\r\n", b"hello, who is there?\r\n", CLOSE),
    "silence behind it": (b"HTTP/1.1 200 OK\r\n\r\n", HANG),
}


@pytest.mark.parametrize("script", TUNNELS.values(), ids=TUNNELS)
@pytest.mark.parametrize("way", ["attempts", "deadline", "cancelled", "stop"])
@virtual_time
async def test_what_did_not_get_through_a_proxy_was_never_sent(script: Script, way: str) -> None:
    """Whatever the tunnel meets, and whoever ends it, nothing is ambiguous."""
    async with tunnel(script) as (proxy, client):
        if way == "stop":
            stop = Stop()
            asyncio.get_running_loop().call_later(0.5, partial(stop.request, grace=0.1))
            report = await client.end_conferences(["conf-1", "conf-2"], stop=stop)
            assert report.counts["unknown"] == 0
        elif way == "cancelled":
            with pytest.raises((TimeoutError, TransportError)):
                await asyncio.wait_for(client.end_conference("conf-1"), 0.5)
        else:
            deadline = 0.5 if way == "deadline" else 60.0
            with pytest.raises(BandwidthError) as caught:
                await client.end_conference("conf-1", deadline=deadline)
            assert caught.value.ambiguous is False
        assert all(one.line.startswith("CONNECT") for one in proxy.arrived)


def out_of_descriptors(monkeypatch: pytest.MonkeyPatch, number: int, until: float = math.inf) -> None:
    """Have the system refuse new connections up to a time."""
    loop = asyncio.get_running_loop()
    connect = loop.create_connection

    async def create_connection(*args: Any, **more: Any) -> Any:
        if now() < until:
            more["sock"].close()
            raise OSError(number, "no descriptor")
        return await connect(*args, **more)

    monkeypatch.setattr(loop, "create_connection", create_connection)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS])
@virtual_time
async def test_no_descriptor_is_no_failure_of_the_server(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for, costs no attempt, and a deadline that comes meanwhile leaves nothing open."""
    out_of_descriptors(monkeypatch, number, until=30.0)
    impatient = RetryPolicy(attempts=1)
    async with world((NOT_FOUND,), retry=impatient) as (_, client):
        with pytest.raises(DeadlineExceededError, match="no descriptor") as deadline:
            await client.end_conference("conf-1", deadline=2.0)
        assert (deadline.value.ambiguous, deadline.value.attempts) == (False, 0)
        with pytest.raises(NotFoundError) as caught:
            await client.end_conference("conf-1")
        assert (caught.value.attempts, now() >= 30.0) == (1, True)
        assert not client.limiter.breaker.is_open


@virtual_time
async def test_a_run_that_never_gets_a_descriptor_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so after a minute and the time of an attempt, and no id counts as tried."""
    out_of_descriptors(monkeypatch, errno.EMFILE)
    timeouts = Timeouts(attempt=5.0)
    async with world(retry=RetryPolicy(), timeouts=timeouts) as (server, client):
        report = await client.end_conferences([f"conf-{n}" for n in range(20)], concurrency=2)
        assert (dict(report.counts), report.attempts) == ({"not_attempted": 20}, 0)
        assert isinstance(report.stopped, ClientStateError)
        assert "no descriptor" in str(report.stopped)
        assert "this process has had no file descriptor, port or buffer to spare for 65 s" in str(
            report.stopped
        )
        assert 65.0 < report.elapsed < 80.0
        assert not client.limiter.breaker.is_open
        assert server.arrived == []


@virtual_time
async def test_a_run_with_one_descriptor_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A response to another request shows that it is a matter of time."""
    otherwise, timeouts = (Wait(10.0), NO_CONTENT), Timeouts(attempt=15.0)
    async with world(otherwise=otherwise, retry=RetryPolicy(), timeouts=timeouts) as (server, client):
        assert await ended(client) == ("ended", 1)
        out_of_descriptors(monkeypatch, errno.EMFILE)
        report = await client.end_conferences([f"conf-{n}" for n in range(9)], concurrency=2)
        assert (dict(report.counts), report.attempts) == ({"ended": 9}, 9)
        assert (report.elapsed >= 90.0, {one.connection for one in server.arrived}) == (True, {1})


@virtual_time
async def test_a_session_without_a_free_connection_has_sent_nothing() -> None:
    """The user's own requests hold all that ``limit_per_host`` allows."""
    connector = aiohttp.TCPConnector(limit_per_host=1)
    async with aiohttp.ClientSession(connector=connector) as session, wire_server((HANG,)) as server:
        held = asyncio.ensure_future(session.get(server.url))
        await asyncio.sleep(0.1)
        async with client_of(server, session=session) as client:
            for how in ({"deadline": 0.5}, {"retry": RetryPolicy(attempts=1)}):
                with pytest.raises(BandwidthError) as caught:
                    await client.end_conference("conf-1", **how)
                assert caught.value.ambiguous is False
        held.cancel()
        await asyncio.gather(held, return_exceptions=True)
        assert len(server.arrived) == 1
    await asyncio.sleep(0)


# Cancellation


async def _end(client: VoiceClient) -> object:
    return await client.end_conference("conf-1")


async def _end_many(client: VoiceClient) -> object:
    return await client.end_conferences([f"conf-{n}" for n in range(4)], concurrency=2)


async def _list(client: VoiceClient) -> object:
    return [conference async for conference in client.list_conferences()]


PAGE = answered("200 OK", b'[{"id": "conf-1"}]', 'Link: </next>; rel="next"')
CALLS: dict[str, tuple[Callable[[VoiceClient], Awaitable[object]], tuple[Script, ...]]] = {
    "end": (_end, ((answered("503 Busy", b"wait"),), (NO_CONTENT,))),
    "end after a cut": (_end, ((CLOSE,), (answered("409 Conflict"),), (NOT_FOUND,))),
    "end many": (_end_many, ((answered("503 Busy"),), (NO_CONTENT,), (RESET,), (NOT_FOUND,))),
    "list": (_list, ((PAGE,), (answered("200 OK", b"[]"),))),
}


@pytest.mark.parametrize(("call", "scripts"), CALLS.values(), ids=CALLS)
@virtual_time
async def test_a_cancellation_at_every_step(
    call: Callable[[VoiceClient], Awaitable[object]], scripts: tuple[Script, ...]
) -> None:
    """After a cancellation at any turn of the event loop, nothing is left and the client still works.

    Virtual time stands still during these turns, and none of the operations waits for time to pass.
    """
    step = 0
    while not await _cancelled_after(step, call, scripts):
        step += 1
    assert step > 10


async def _cancelled_after(
    step: int, call: Callable[[VoiceClient], Awaitable[object]], scripts: tuple[Script, ...]
) -> bool:
    """Cancel an operation after ``step`` turns. Return True if it had finished before."""
    async with wire_server(otherwise=(TOKEN_ANSWER,)) as tokens:
        credentials = ClientCredentials("me", SECRET)
        async with world(*scripts, credentials=credentials, api_url=tokens.url) as (server, client):
            task = asyncio.ensure_future(call(client))
            for _ in range(step):
                await asyncio.sleep(0)
            finished = not task.cancel()
            result = (await asyncio.gather(task, return_exceptions=True))[0]
            assert finished is not isinstance(result, asyncio.CancelledError)
            seen = client.limiter.snapshot()
            assert (seen.in_flight, seen.waiting_interactive, seen.waiting_bulk) == (0, 0, 0)
            server.scripts.clear()
            assert (await ended(client, "conf-9"))[0] == "ended"
        assert await tokens.kept() == set()
    return finished


# Secrets


def links(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all its causes."""
    chain = [error]
    for link in chain:
        chain += [one for one in (link.__cause__, link.__context__) if one and one not in chain]
    yield from chain


def shown(error: BaseException) -> str:
    """Return everything that an error reporter may print."""
    parts = ["".join(traceback.format_exception(error))]
    for link in links(error):
        parts += [repr(link), str(link), repr(vars(link)), repr(link.args)]
    return "\n".join(parts)


EVERYTHING: list[Script] = [
    *(script for name, script in (NO_ANSWER | STATUS_ALONE).items() if "for ever" not in name),
    *((head + b"hello",) for head in (*HEADS.values(), *BODIES.values())),
    *((answered(f"{status} Whatever", b'{"type": "x"}'),) for status in (101, 302, 400, 401, 403, 404, 500)),
    (answered("429 Slow", b"", "Retry-After: 100000"),),
]


@pytest.mark.parametrize("credentials", [ClientCredentials("me", SECRET), BasicCredentials("me", SECRET)])
@virtual_time
async def test_no_fault_makes_a_secret_seen(
    credentials: Credentials, caplog: pytest.LogCaptureFixture
) -> None:
    """No log record, no error with its causes and no repr contains a secret."""
    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    sent = b""
    async with wire_server(otherwise=(TOKEN_ANSWER,)) as tokens:
        for number, fault in enumerate(EVERYTHING):
            # In debug mode asyncio writes log records of its own. This is slow.
            asyncio.get_running_loop().set_debug(number < 8)
            settings = {"credentials": credentials, "api_url": tokens.url}
            async with world(otherwise=fault, **settings) as (server, client):
                for call in (client.end_conference, client.get_conference):
                    try:
                        await call("conf-1")
                    except BandwidthError as error:
                        told.append(shown(error))
                told.append(repr(client) + repr(client.limiter))
            sent += b"".join(one.request for one in server.arrived + tokens.arrived)
        tokens.otherwise = (answered("401 No", b'{"error": "invalid_client"}'),)
        async with world(credentials=credentials, api_url=tokens.url) as (server, client):
            server.otherwise = (answered("401 No"),)
            with pytest.raises(AuthenticationError) as caught:
                await client.end_conference("conf-1")
            told.append(shown(caught.value))
    told += [f"{record.getMessage()} {record.args!r} {record.exc_text}" for record in caplog.records]
    assert {"asyncio", "bandwidth_async.operation", "bandwidth_async.retry"} <= {
        record.name for record in caplog.records
    }
    text = "\n".join(told)
    assert len(text) > 100_000
    assert BASIC.encode() in sent
    assert [secret for secret in (SECRET, TOKEN, BASIC) if secret in text] == []
