"""Limits shared over a real Redis: every kind of it, and every way in which it fails."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
import trustme

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.limiter import RateLimit
from bandwidth_async.sharing.carrier import CarrierError, Seen, share_name
from bandwidth_async.sharing.limiter import SharedLimiter
from bandwidth_async.sharing.over_redis import Address, RedisCarrier
from bandwidth_async.sharing.stores import carrier_for
from tests.redis_server import RedisServer, needs_redis, redis_server

redis = pytest.importorskip("redis.asyncio", reason="redis-py is not installed: pip install redis")

PASSWORD = "open:sesame/1"
QUOTED = "open%3Asesame%2F1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Run one server for the tests that leave it as it is."""
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Run a Redis of the kind that a test names, and yield its URL."""
    kind = request.param
    if kind == "tls":
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        certificate = authority.issue_cert("127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
        files = [f"tls-{part}-file {tmp_path}/server.pem" for part in ("cert", "key")]
        options = [*files, f"tls-ca-cert-file {tmp_path}/ca.pem", "tls-auth-clients no"]
        with redis_server(tmp_path, *options, tls=True) as running:
            yield f"{running.url}?ssl_ca_certs={tmp_path}/ca.pem"
    elif kind == "cluster":
        with redis_server(tmp_path, "cluster-enabled yes", f"requirepass {PASSWORD}") as running:
            asyncio.run(_cover(running))
            yield f"redis+cluster://:{QUOTED}@127.0.0.1:{running.port},127.0.0.1:1"
    elif kind == "sentinel":
        with redis_server(tmp_path, f"requirepass {PASSWORD}") as master:
            watch = f"sentinel monitor main 127.0.0.1 {master.port} 1"
            with redis_server(tmp_path, watch, f"sentinel auth-pass main {PASSWORD}") as sentinel:
                yield f"redis+sentinel://:{QUOTED}@127.0.0.1:1,127.0.0.1:{sentinel.port}/main/0"
    elif kind == "socket":
        with redis_server(tmp_path, f"unixsocket {tmp_path}/redis.sock"):
            yield f"unix://{tmp_path}/redis.sock"
    else:
        with redis_server(tmp_path, f"requirepass {PASSWORD}") as running:
            yield f"redis://:{QUOTED}@127.0.0.1:{running.port}/3"


async def _cover(server: RedisServer) -> None:
    """Make a cluster of one node."""
    client = redis.Redis(port=server.port, password=PASSWORD)
    await client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
    # A node says so when it has seen its slots.
    while "ok" not in str((await client.execute_command("CLUSTER INFO")).get("cluster_state")):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    await client.aclose()


@asynccontextmanager
async def sharing(url: str, *limits: RateLimit | None) -> AsyncIterator[list[SharedLimiter]]:
    """Share a limit among several limiters, each as that of a process, once they have found each other."""
    limiters = [SharedLimiter(url, limit, Random(seed)) for seed, limit in enumerate(limits)]
    for limiter in limiters:
        limiter.serve("9900000", "https://voice.example", math.inf)
        limiter.bind()
    try:
        yield limiters
    finally:
        for limiter in limiters:
            await limiter.leave()


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.02)


async def found(limiters: list[SharedLimiter], seconds: float = 30.0) -> None:
    """Wait until all of them share."""
    await until(
        lambda: not any(one.alone_because or one.processes != len(limiters) for one in limiters), seconds
    )


async def alone(limiters: list[SharedLimiter], seconds: float = 30.0) -> None:
    """Wait until each goes on alone."""
    await until(lambda: all(one.alone_because for one in limiters), seconds)


async def send(limiter: SharedLimiter, seconds: float, tasks: int = 20) -> int:
    """Send requests for some seconds and return how many were sent."""
    end, sent = time.monotonic() + seconds, 0

    async def work() -> None:
        nonlocal sent
        while time.monotonic() < end:
            with await limiter.admit(bulk=True) as admission:
                if time.monotonic() >= end:
                    return
                admission.sending()
                sent += 1
                await asyncio.sleep(0.02)
                admission.accepted()

    await asyncio.gather(*(work() for _ in range(tasks)))
    return sent


# ----------------------------------------------------------------------------------------- each kind of it


@needs_redis
@pytest.mark.parametrize("url", ["single", "socket", "tls", "cluster", "sentinel"], indirect=True)
async def test_every_kind_of_redis_carries_leases_and_messages(url: str) -> None:
    """One process leads until it resigns; reports reach it, and its letters reach the others."""
    make = carrier_for(url)
    leader, follower = make("name"), make("name")
    other = make("other")
    assert PASSWORD not in f"{leader} {leader!r}"
    assert QUOTED not in f"{leader} {leader!r}"

    lease = await leader.claim("a", 3.0)
    assert lease.leading
    assert (await leader.claim("a", 3.0)).term == lease.term
    assert not (await follower.claim("b", 3.0)).leading
    assert (await other.claim("c", 3.0)).leading

    await follower.report("b", "one")
    await follower.report("b", "two")
    assert await leader.reports(1.0) + await leader.reports(0.05) == ["one", "two"]
    waiting = asyncio.ensure_future(follower.letters("b", 1.0))
    await asyncio.sleep(0.05)
    assert await leader.send({"b": ["hello"]}, "the state")
    assert await waiting == ["hello"]
    assert await follower.letters("b", 0.05) == []
    assert not await follower.send({"a": ["not the leader"]}, None)

    await follower.set_rate(12.5)
    assert await follower.look() == Seen(True, "the state", 12.5)
    assert (await leader.claim("a", 3.0)).setting == 12.5
    await follower.set_rate(None)
    await leader.resign("b")
    assert not (await follower.claim("b", 3.0)).leading
    await leader.resign("a")
    taken = await follower.claim("b", 3.0)
    assert taken.leading
    assert taken.term > lease.term
    assert taken.state == "the state"
    for carrier in (leader, follower, other):
        await carrier.aclose()


@needs_redis
async def test_an_old_redis_gives_one_message_at_a_time(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis 6 does not know how to pop many."""

    async def blmpop(*_: object, **__: object) -> None:
        raise redis.ResponseError("unknown command 'BLMPOP', with args beginning with: ")

    monkeypatch.setattr(redis.Redis, "blmpop", blmpop)
    carrier = carrier_for(server.url)("old")
    await carrier.report("a", "one")
    await carrier.report("a", "two")
    assert [await carrier.reports(0.5) for _ in range(3)] == [["one"], ["two"], []]
    await carrier.aclose()


@needs_redis
async def test_the_lease_ends_by_the_clock_of_redis(server: RedisServer) -> None:
    """A leader that does not renew its lease loses it, and cannot send any more."""
    leader, follower = (carrier_for(server.url)("lease") for _ in "ab")
    assert (await leader.claim("a", 0.2)).leading
    await asyncio.sleep(0.25)
    assert (await follower.claim("b", 3.0)).leading
    assert not await leader.send({"b": ["late"]}, "late")
    assert await follower.letters("b", 0.05) == []
    for carrier in (leader, follower):
        await carrier.aclose()


@needs_redis
async def test_no_key_shows_the_account_and_every_key_expires(server: RedisServer) -> None:
    """All keys have one hash tag, so that a cluster keeps them together."""
    name = share_name("9900000", "https://voice.example")
    async with sharing(server.url, RateLimit.fixed(100), RateLimit.fixed(100)) as limiters:
        await found(limiters)
        await asyncio.gather(*(send(one, 0.5) for one in limiters))
        client = redis.Redis(port=server.port, decode_responses=True)
        await client.set(f"bandwidth_async:{{{name}}}:setting", 50, px=10_000)
        keys = [key for key in await client.keys("*") if name in key]
        values = [await client.dump(key) for key in keys if "9900000" in key]
        assert len(keys) >= 3
        assert all(key.startswith(f"bandwidth_async:{{{name}}}:") for key in keys)
        assert values == []
        assert all([0 < await client.pttl(key) <= 3_600_000 for key in keys])
        await client.delete(f"bandwidth_async:{{{name}}}:setting")
        await client.aclose()


# ---------------------------------------------------------------------------------- what may happen to it


@needs_redis
async def test_two_processes_share_a_rate(server: RedisServer) -> None:
    """Together they send what one may, and half each. A busy machine may send less."""
    async with sharing(server.url, RateLimit.fixed(100), RateLimit.fixed(100)) as limiters:
        await found(limiters)
        sent = await asyncio.gather(*(send(one, 2.0) for one in limiters))
    assert 100 <= sum(sent) <= 215
    assert max(sent) <= 120


@needs_redis
async def test_a_flush_costs_nothing(server: RedisServer) -> None:
    """The leader takes the lead again with its next letter."""
    async with sharing(server.url, RateLimit.fixed(100), RateLimit.fixed(100)) as limiters:
        await found(limiters)
        sending = asyncio.gather(*(send(one, 2.5) for one in limiters))
        client = redis.Redis(port=server.port)
        for _ in range(3):
            await asyncio.sleep(0.5)
            await client.flushall()
        sent = await sending
        assert not any(one.alone_because for one in limiters)
        await client.aclose()
    assert 100 <= sum(sent) <= 275


@needs_redis
async def test_a_restart_leaves_each_its_share(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Gone and back: alone at nine tenths of the share, said once by each, and together again."""
    with redis_server(tmp_path) as running:
        async with sharing(running.url, RateLimit.fixed(100), RateLimit.fixed(100)) as limiters:
            await found(limiters)
            running.stop()
            await asyncio.gather(alone(limiters), *(send(one, 1.0) for one in limiters))
            sent = await asyncio.gather(*(send(one, 1.0) for one in limiters))
            assert 40 <= sum(sent) <= 98
            running.start()
            await asyncio.gather(found(limiters), *(send(one, 1.0) for one in limiters))
            sent = await asyncio.gather(*(send(one, 1.0) for one in limiters))
            assert 40 <= sum(sent) <= 110
    said = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert len(said) == 2
    assert all("onnect" in one for one in said)


@needs_redis
async def test_a_frozen_redis_is_done_without(tmp_path: Path) -> None:
    """A server that takes connections and never answers holds nobody up."""
    with redis_server(tmp_path) as running:
        async with sharing(running.url, RateLimit.fixed(100), RateLimit.fixed(100)) as limiters:
            await found(limiters)
            running.freeze(signal.SIGSTOP)
            await asyncio.gather(alone(limiters), *(send(one, 2.0) for one in limiters))
            sent = await asyncio.gather(*(send(one, 1.0) for one in limiters))
            assert 40 <= sum(sent) <= 98
            running.freeze(signal.SIGCONT)
            await found(limiters)


@needs_redis
@pytest.mark.parametrize("key", ["leader", "reports", "state", "setting"])
async def test_a_key_of_another_kind_is_said_and_done_without(
    key: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever key holds something else, the processes go on alone, and share once it is gone."""
    caplog.set_level(logging.WARNING, logger="bandwidth_async")
    name = f"bandwidth_async:{{{share_name('9900000', 'https://voice.example')}}}:{key}"
    with redis_server(tmp_path) as running:
        client = redis.Redis(port=running.port)
        await client.hset(name, "a", "b")
        async with sharing(running.url, RateLimit.fixed(100), RateLimit.fixed(100)) as limiters:
            sent = await asyncio.gather(*(send(one, 1.0) for one in limiters))
            assert sum(sent) <= 2 * 105
            await asyncio.gather(alone(limiters), *(send(one, 1.0) for one in limiters))
            assert all("WRONGTYPE" in one.getMessage() for one in caplog.records)
            assert len(caplog.records) == 2
            await client.delete(name)
            await found(limiters)
        await client.aclose()


@needs_redis
async def test_a_wrong_password_is_said_without_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Requests go on, and neither log nor repr shows a password."""
    with redis_server(tmp_path, "requirepass right") as running:
        url = f"redis://:{QUOTED}@127.0.0.1:{running.port}/0?password={QUOTED}"
        async with sharing(url, RateLimit.fixed(100)) as limiters:
            # At first it waits half a second for Redis.
            assert 40 <= await send(limiters[0], 3.0) <= 304
            assert "password" in str(limiters[0].alone_because)
            assert len(caplog.records) == 1
            for text in (caplog.text, repr(limiters[0]), repr(limiters[0]._coordinator)):
                assert PASSWORD not in text
                assert QUOTED not in text


@needs_redis
async def test_a_sentinel_that_fails_over_moves_the_limit(tmp_path: Path) -> None:
    """The master dies, a replica takes over, and the processes meet there."""
    (tmp_path / "replica").mkdir()
    with redis_server(tmp_path) as master:
        follows = f"replicaof 127.0.0.1 {master.port}"
        with redis_server(tmp_path / "replica", follows) as replica:
            watch = f"sentinel monitor main 127.0.0.1 {master.port} 1"
            quick = ["sentinel down-after-milliseconds main 500", "sentinel failover-timeout main 2000"]
            with redis_server(tmp_path, watch, *quick) as sentinel:
                url = f"redis+sentinel://127.0.0.1:{sentinel.port}/main"
                async with sharing(url, RateLimit.fixed(100), RateLimit.fixed(100)) as limiters:
                    await found(limiters)
                    await _until_listed(sentinel.port)
                    # A sentinel takes no replica whose state it has not read for a while.
                    await asyncio.gather(*(send(one, 2.0) for one in limiters))
                    master.stop()
                    async with redis.Redis(port=replica.port) as client:
                        async with asyncio.timeout(40):
                            # The replica has the keys of before, and the time of the lease runs on.
                            while (await client.role())[0] != b"master":
                                await asyncio.gather(*(send(one, 0.3) for one in limiters))
                        await client.flushall()
                        await found(limiters)
                        assert await client.keys("bandwidth_async:*:leader")


async def _until_listed(port: int) -> None:
    """Wait until the sentinel knows that the replica has all of its master, without which it takes none.

    It asks a replica every 10 seconds.
    """
    async with redis.Redis(port=port) as client, asyncio.timeout(40):
        while True:
            replicas = await client.sentinel_slaves("main")
            if "ok" in [one["master-link-status"] for one in replicas]:
                return
            await asyncio.sleep(0.1)


# ------------------------------------------------------------------------------------------------- its URLs


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without redis-py the error says what to install."""
    monkeypatch.setitem(sys.modules, "redis.asyncio.connection", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'bandwidth_async\[redis\]'"):
        SharedLimiter("redis://127.0.0.1")


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@host:port",
        "redis://:hunter/2@host",
        "redis+sentinel://:hunter2@host:26379",
        "redis+sentinel://:hunter2@host:x/main",
        "redis+cluster://:hunter2@",
        "redis+other://:hunter2@host",
        "memcached://:hunter2@host",
        "hunter2",
    ],
)
def test_a_url_that_cannot_be_used_is_not_quoted(url: str) -> None:
    """The error says what a URL looks like, and not what this one holds."""
    with pytest.raises(ConfigurationError) as caught:
        SharedLimiter(url)
    assert "hunter" not in str(caught.value)
    assert "redis://" in str(caught.value)


def test_an_option_that_cannot_be_read_is_an_error_at_once() -> None:
    """The same options as redis-py has, and no others' values."""
    with pytest.raises(ConfigurationError, match="an option in the URL"):
        SharedLimiter(f"redis://:{QUOTED}@host?socket_timeout=soon")


async def test_an_option_that_redis_py_does_not_know_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """It is known only when a connection is made. Requests go on."""
    async with sharing("redis://127.0.0.1:1?colour=red", RateLimit.fixed(100)) as limiters:
        await send(limiters[0], 0.2)
        assert "colour" in str(limiters[0].alone_because)
    assert len(caplog.records) == 1


def test_addresses_are_read_as_redis_py_reads_them() -> None:
    """Several hosts have one URL, with the default ports of their kind."""
    found = Address.read("rediss+sentinel://user:p%40ss@one,[::1]:7000/main/2?ssl_cert_reqs=none")
    assert found.hosts == [("one", 26379), ("::1", 7000)]
    assert found.url == "rediss://user:p%40ss@one:26379/2?ssl_cert_reqs=none"
    assert found.service == "main"
    assert found.shown == "rediss+sentinel://one,[::1]:7000/main/2"
    assert set(found.secrets) == {"p@ss", "p%40ss"}
    assert Address.read("redis://localhost").shown == "redis://localhost"
    assert Address.read("redis+cluster://a,b:7001").hosts == [("a", 6379), ("b", 7001)]


async def test_what_redis_says_is_shown_without_the_password() -> None:
    """An error of the client could quote the URL that it was given."""
    carrier = RedisCarrier(Address.read(f"redis://:{QUOTED}@127.0.0.1:1"), "name")
    with pytest.raises(CarrierError) as caught, carrier._explained():
        raise redis.ConnectionError(f"cannot connect to {QUOTED} with {PASSWORD}")
    assert str(caught.value) == "cannot connect to … with …"
