"""Processes of one machine share a limit over a socket in the state directory, without any server."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from bandwidth_async import ClientCredentials, VoiceClient
from bandwidth_async.errors import ConfigurationError
from bandwidth_async.limiter import RateLimit
from bandwidth_async.sandbox import Sandbox
from bandwidth_async.sharing.carrier import CarrierError, LeaderGone, Seen
from bandwidth_async.sharing.limiter import SharedLimiter
from bandwidth_async.sharing.over_socket import SocketCarrier

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such sockets in asyncio")

SENDER = """
import asyncio, math, sys, time
from bandwidth_async.limiter import RateLimit
from bandwidth_async.sharing.limiter import SharedLimiter

async def main():
    limiter = SharedLimiter("local:" + sys.argv[1], RateLimit.fixed(float(sys.argv[2])))
    limiter.serve("9900000", "https://voice.example", math.inf)
    async def work():
        while True:
            with await limiter.admit(bulk=True) as admission:
                admission.sending()
                print(time.time(), 0 if limiter.alone_because else limiter.processes, flush=True)
                await asyncio.sleep(0.02)
                admission.accepted()
    await asyncio.gather(*(work() for _ in range(20)))

asyncio.run(main())
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory to meet in, which is not there yet."""
    return tmp_path / "state" / "shared"


def carriers(directory: Path, count: int) -> list[SocketCarrier]:
    """Return carriers of so many processes."""
    return [SocketCarrier(directory, "name") for _ in range(count)]


def mode(path: Path) -> int:
    """Return who may do what with a file."""
    return path.stat().st_mode & 0o777


@asynccontextmanager
async def closing(*opened: SocketCarrier) -> AsyncIterator[None]:
    """Close carriers at the end."""
    try:
        yield
    finally:
        for carrier in opened:
            await carrier.aclose()


class Sender:
    """A process of its own that sends 100/s at most with others, until it is killed."""

    def __init__(self, directory: Path, rate: float, output: Path) -> None:
        self.output = output
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SENDER, str(directory), str(rate)], stdout=file
            )

    def lines(self) -> list[tuple[float, int]]:
        """Return when it sent, and how many processes shared the limit then: none while it was alone."""
        text = self.output.read_text(encoding="ascii")
        pairs = [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]
        return [(float(when), int(count)) for when, count in pairs]

    def kill(self) -> None:
        """Kill it as the kernel does when memory runs out."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def senders(directory: Path, tmp_path: Path) -> Iterator[list[Sender]]:
    """Run three processes that send."""
    running = [Sender(directory, 100, tmp_path / f"{number}.txt") for number in range(3)]
    yield running
    for one in running:
        if one.process.poll() is None:
            one.kill()


def until_they_know_of(count: int, senders: list[Sender], *, since: float = 0.0) -> None:
    """Wait until all of the processes have sent something ``since`` a moment, as one of so many."""
    until(senders, lambda when, known: when > since and known == count)


def until(senders: list[Sender], fits: Callable[[float, int], bool]) -> None:
    """Wait until what each of the processes sent last fits. A busy machine takes its time."""
    end = time.monotonic() + 60
    while not all(one.lines() and fits(*one.lines()[-1]) for one in senders):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_one_process_leads_the_others_over_a_socket(directory: Path) -> None:
    """Leases, reports and letters pass, and only the owner may look into the directory."""

    async def run() -> None:
        leader, follower, third = carriers(directory, 3)
        async with closing(leader, follower, third):
            assert (await leader.claim("a", 3.0)).leading
            assert not (await follower.claim("b", 3.0)).leading
            assert not (await third.claim("c", 3.0)).leading
            await follower.report("b", "one")
            await follower.report("b", "two")
            assert await leader.reports(1.0) + await leader.reports(0.05) == ["one", "two"]
            assert await leader.send({"b": ["hello", "again"], "nobody": ["?"]}, "the state")
            assert await follower.letters("b", 1.0) + await follower.letters("b", 1.0) == ["hello", "again"]
            assert await third.letters("c", 0.05) == []
            assert await third.look() == Seen(True, "the state", None)
            await third.set_rate(12.5)
            assert await leader.look() == Seen(True, "the state", 12.5)
            assert (await leader.claim("a", 3.0)).setting == 12.5
            await third.set_rate(None)
            assert (await leader.claim("a", 3.0)).setting is None
            assert mode(directory) == 0o700
            await leader.resign("a")
            with pytest.raises(LeaderGone):
                await follower.letters("b", 1.0)
            taken = await follower.claim("b", 3.0)
            assert taken.leading

    asyncio.run(run())


def test_a_process_that_leaves_is_known_to_have_left(directory: Path) -> None:
    """The leader hears of the end of a connection, whatever ended it."""

    async def run() -> None:
        leader, follower = carriers(directory, 2)
        async with closing(leader, follower):
            await leader.claim("a", 3.0)
            await follower.claim("b", 3.0)
            await follower.aclose()
            (report,) = await leader.reports(1.0)
            assert '"process":"b"' in report.replace(" ", "")
            assert '"leaving":true' in report.replace(" ", "")

    asyncio.run(run())


def test_a_removed_directory_is_made_again(directory: Path) -> None:
    """After rm -rf of the state directory the processes still find each other."""

    async def run() -> None:
        leader, follower = carriers(directory, 2)
        async with closing(leader, follower):
            assert (await leader.claim("a", 3.0)).leading
            shutil.rmtree(directory)
            assert (await leader.claim("a", 3.0)).leading
            assert not (await follower.claim("b", 3.0)).leading
            await follower.report("b", "found")
            assert "found" in await leader.reports(1.0)

    asyncio.run(run())


def test_a_long_path_is_no_trouble(tmp_path: Path) -> None:
    """A socket's path has some hundred bytes, and a home directory may be longer."""
    deep = tmp_path / ("d" * 120) / "shared"

    async def run() -> None:
        leader, follower = carriers(deep, 2)
        async with closing(leader, follower):
            assert (await leader.claim("a", 3.0)).leading
            assert not (await follower.claim("b", 3.0)).leading

    if sys.platform == "linux":
        asyncio.run(run())


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    """The error is a sentence of the system."""
    (tmp_path / "file").touch()

    async def run() -> None:
        (carrier,) = carriers(tmp_path / "file" / "shared", 1)
        with pytest.raises(CarrierError, match=r"File exists|Not a directory"):
            await carrier.claim("a", 3.0)

    asyncio.run(run())


def test_local_names_a_directory_from_the_root_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a directory it is that of the user's state."""
    with pytest.raises(ConfigurationError, match="from the root on"):
        SharedLimiter("local:here")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError))
    with pytest.raises(ConfigurationError, match="no home directory"):
        SharedLimiter("local:")


def test_two_event_loops_of_one_machine_share_a_rate(directory: Path) -> None:
    """Workers of one host are as one, and the leader hands over when it leaves."""

    async def run() -> None:
        limiters = [SharedLimiter(f"local:{directory}", RateLimit.fixed(100), Random(n)) for n in range(2)]
        sent = [0, 0]

        async def work(number: int, end: float) -> None:
            while time.monotonic() < end:
                with await limiters[number].admit(bulk=True) as admission:
                    admission.sending()
                    sent[number] += 1
                    await asyncio.sleep(0.02)
                    admission.accepted()

        for limiter in limiters:
            limiter.serve("9900000", "https://voice.example", math.inf)
            limiter.bind()
        began = time.monotonic()
        await asyncio.gather(*(work(number, began + 2) for number in (0, 1) for _ in range(10)))
        took = time.monotonic() - began
        assert 50 <= sum(sent) <= 100 * took + 15
        assert [one.processes for one in limiters] == [2, 2]
        await limiters[0].leave()
        await work(1, time.monotonic() + 0.3)
        assert limiters[1].alone_because is None
        assert limiters[1]._coordinator.leader is not None
        await limiters[1].leave()

    asyncio.run(run())


def test_clients_share_a_limiter_until_the_last_one_closes(directory: Path) -> None:
    """Two clients have one shared limiter, and a third process joins them. Nothing is left in the loop."""

    async def run() -> None:
        async with Sandbox(conferences=30) as sandbox:
            limiter, other = (SharedLimiter(f"local:{directory}") for _ in range(2))
            first, second, third = (client_of(sandbox, one) for one in (limiter, limiter, other))
            ids = sandbox.conference_ids
            before = asyncio.all_tasks()
            async with third:
                async with second:
                    async with first:
                        reports = await asyncio.gather(
                            *(
                                client.end_conferences(ids[n::3])
                                for n, client in enumerate((first, second, third))
                            )
                        )
                    assert all(report.ok for report in reports)
                    assert not (await second.get_conference(ids[0])).active
                    assert limiter.alone_because is None
                await third.get_conference(ids[0])
                assert other.alone_because is None
            assert asyncio.all_tasks() <= before

    asyncio.run(run())


def client_of(sandbox: Sandbox, limiter: SharedLimiter) -> VoiceClient:
    """Return a client of the sandbox with a limiter."""
    return VoiceClient(
        account_id=sandbox.account_id,
        credentials=ClientCredentials(sandbox.client_id, sandbox.client_secret),
        voice_url=sandbox.url,
        api_url=sandbox.url,
        limiter=limiter,
    )


def test_killed_processes_leave_their_share_to_the_others(senders: list[Sender]) -> None:
    """Three processes share 100/s. Two are killed, the leader among them, and the last one has it all."""
    until_they_know_of(3, senders)
    time.sleep(2)
    sent = sorted(when for one in senders for when, count in one.lines() if count == 3)
    seconds = sent[-1] - sent[0]
    assert len(sent) <= 100 * seconds + 25
    killed, last = senders[:2], senders[2]
    for one in killed:
        one.kill()
    until_they_know_of(1, [last])
    began = time.time()
    time.sleep(1)
    assert 20 <= sum(began <= when < began + 1 for when, _ in last.lines()) <= 108


def test_a_frozen_leader_holds_nobody_up(senders: list[Sender]) -> None:
    """A leader that is stopped sends nothing. The others go on with their shares, and are led again later."""
    until_they_know_of(3, senders)
    for one in senders:
        os.kill(one.process.pid, signal.SIGSTOP)
        stopped = time.time()
        others = [other for other in senders if other is not one]
        # What they had permits for is sent within a second.
        until(others, lambda when, _: when > stopped + 1)  # noqa: B023 - it is called at once
        os.kill(one.process.pid, signal.SIGCONT)
        until_they_know_of(3, senders, since=time.time())
