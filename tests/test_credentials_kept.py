"""What credentials keep for the next client over them: the access token, and what was learned of the rate."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import signal
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest
from attrs import asdict, evolve

from bandwidth_async import ClientCredentials, Knowledge, RateLimit, TransportError, VoiceClient
from bandwidth_async.credentials import Kept, KeptToken, Token
from bandwidth_async.pytest_plugin import serving

if TYPE_CHECKING:
    from bandwidth_async.pytest_plugin import BandwidthSandbox


async def use(bandwidth: BandwidthSandbox, credentials: ClientCredentials) -> None:
    """Do what a handler does, with a client of its own."""
    sandbox = bandwidth.sandbox
    async with VoiceClient(
        account_id=sandbox.account_id, credentials=credentials, voice_url=sandbox.url, api_url=sandbox.url
    ) as client:
        await client.get_conference(sandbox.conference_ids[0])


def credentials_of(bandwidth: BandwidthSandbox) -> ClientCredentials:
    """Return new credentials of a sandbox."""
    return ClientCredentials(bandwidth.sandbox.client_id, bandwidth.sandbox.client_secret)


def tokens_of(bandwidth: BandwidthSandbox) -> int:
    """Return how many tokens a sandbox has given."""
    return int(bandwidth.sandbox.truth()["requests"]["token"].get("200", 0))


def test_five_event_loops_cost_one_token() -> None:
    """As five invocations of a function do, over one credentials object of the module."""
    with serving(conferences=1) as bandwidth:
        credentials = credentials_of(bandwidth)
        for _ in range(5):
            asyncio.run(use(bandwidth, credentials))
        assert tokens_of(bandwidth) == 1


def test_threads_that_begin_at_once_cost_one_token() -> None:
    """The others wait for the one that fetches, each in its own event loop."""
    with serving(conferences=1, latency="20ms") as bandwidth:
        credentials = credentials_of(bandwidth)
        threads = [
            threading.Thread(target=asyncio.run, args=(use(bandwidth, credentials),)) for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert tokens_of(bandwidth) == 1


def test_a_token_that_is_revoked_between_two_event_loops_is_replaced() -> None:
    """The next client takes the kept one, gets a 401, and fetches another for all that come."""
    with serving(conferences=1) as bandwidth:
        credentials = credentials_of(bandwidth)
        for _ in range(2):
            bandwidth.sandbox.revoke_tokens()
            asyncio.run(use(bandwidth, credentials))
            asyncio.run(use(bandwidth, credentials))
        assert tokens_of(bandwidth) == 2


def test_a_token_that_has_expired_is_not_kept() -> None:
    """Its lifetime counts from its fetch, whoever uses it."""
    with serving(conferences=1, token_lifetime="50ms") as bandwidth:
        credentials = credentials_of(bandwidth)
        for _ in range(2):
            asyncio.run(use(bandwidth, credentials))
            time.sleep(0.1)
        assert tokens_of(bandwidth) == 2


def test_tokens_of_two_hosts_are_kept_apart() -> None:
    """One credentials object may sign in at the test hosts too."""
    credentials = ClientCredentials("id", "secret")
    settings = {"client_id": "id", "client_secret": "secret", "conferences": 1}
    with serving(**settings) as one, serving(**settings) as other:
        for bandwidth in (one, other, one):
            asyncio.run(use(bandwidth, credentials))
        assert (tokens_of(one), tokens_of(other)) == (1, 1)


async def test_who_is_cancelled_while_it_fetches_leaves_the_fetch_to_the_next() -> None:
    """A client that closes meanwhile fails nobody else."""
    kept, began = Kept(), asyncio.Event()

    async def hang() -> Token:
        began.set()
        return await asyncio.Future()

    async def fetch() -> Token:
        return Token(value="second", lifetime=3600.0)

    first = asyncio.create_task(kept.token("host", hang, None))
    await began.wait()
    second = asyncio.create_task(kept.token("host", fetch, None))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).token.value == "second"


async def test_a_fetch_that_fails_fails_those_who_wait_for_it() -> None:
    """A token endpoint that is down is asked once, and not by each in turn."""
    kept, asked = Kept(), 0

    async def fail() -> Token:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)
        raise TransportError("no answer")

    found = await asyncio.gather(*(kept.token("host", fail, None) for _ in range(5)), return_exceptions=True)
    assert [str(one) for one in found] == ["no answer"] * 5
    assert asked == 1


@pytest.mark.looptime
async def test_who_waits_for_an_event_loop_that_is_gone_fetches_at_last() -> None:
    """A thread may have ended in the midst of a fetch."""
    kept = Kept()
    kept._fetches["host"] = Future()

    async def fetch() -> Token:
        return Token(value="mine", lifetime=3600.0)

    assert (await kept.token("host", fetch, None)).token.value == "mine"
    assert asyncio.get_running_loop().time() == pytest.approx(10, abs=0.1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_process_that_is_forked_while_another_thread_has_the_lock_fetches_for_itself() -> None:
    """No thread is left there that could give the lock back, nor one that ends the parent's fetch."""
    kept = Kept()
    kept._fetches["host"] = Future()

    async def fetch() -> Token:
        return Token(value="mine", lifetime=3600.0)

    with kept._lock:
        child = os.fork()
        if not child:  # pragma: no cover  # in another process
            signal.alarm(5)
            os._exit(asyncio.run(kept.token("host", fetch, None)).token.value != "mine")
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_copies_of_credentials_share_no_token() -> None:
    """Nor does a pickle hold one. What they are equal by is their text."""
    credentials = ClientCredentials("id", "secret")
    credentials.kept._tokens["host"] = KeptToken(Token(value="t0ken", lifetime=60.0), 0.0)
    pickled = pickle.loads(pickle.dumps(credentials))  # noqa: S301  # our own
    for copied in (copy.deepcopy(credentials), pickled, evolve(credentials)):
        assert copied == credentials
        assert hash(copied) == hash(credentials)
        assert repr(copied) == "ClientCredentials(client_id='id')"
        assert copied.kept._tokens == {}
    assert "t0ken" not in f"{asdict(credentials)}{credentials.kept!r}"


def test_the_next_client_begins_at_the_rate_that_the_last_one_knew() -> None:
    """Over the same credentials object, account and host, unless its limit says where to begin."""
    with serving(conferences=300, quota="token-bucket:rate=120,burst=10") as bandwidth:
        sandbox, credentials = bandwidth.sandbox, credentials_of(bandwidth)

        def client(**settings: Any) -> VoiceClient:
            given = {"account_id": sandbox.account_id, "credentials": credentials, **settings}
            return VoiceClient(voice_url=sandbox.url, api_url=sandbox.url, **given)

        async def run() -> Knowledge | None:
            async with client() as first:
                await first.end_conferences(sandbox.conference_ids)
                return first.limiter.knowledge

        learned = asyncio.run(run())
        assert learned is not None
        assert client().rate == learned.rate != 20.0
        assert client(rate_limit=RateLimit.fixed(7)).rate == 7
        assert client(rate_limit=RateLimit.adaptive(start=9)).rate == 9
        assert client(account_id="1").rate == 20.0
        assert client(credentials=credentials_of(bandwidth)).rate == 20.0
