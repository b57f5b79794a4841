"""A Redis, Celery workers and a coordinator, each a process of its own that a test may kill."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from attrs import define, field

from tests.test_cli import unmeasured

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bandwidth_async.sandbox import Sandbox


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as one:
        one.bind((host, 0))
        return int(one.getsockname()[1])


@define
class Redis:
    """A redis-server that keeps nothing on disk: a restart empties it. It may be on another ``network``."""

    folder: Path
    host: str = "127.0.0.1"
    network: Network | None = None
    port: int = field(factory=free_port)
    _process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Return its URL."""
        return f"redis://{self.host}:{self.port}/0"

    async def start(self) -> None:
        """Start it, and return when it answers. Skip the test if there is none."""
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("redis-server is not installed: apt-get install redis-server")
        prefix, bound = (self.network.prefix, "0.0.0.0") if self.network else ([], self.host)  # noqa: S104
        settings = ["--bind", bound, "--save", "", "--appendonly", "no", "--protected-mode", "no"]
        self._process = await asyncio.create_subprocess_exec(
            *prefix,
            program,
            "--port",
            str(self.port),
            *settings,
            cwd=self.folder,
            stdout=asyncio.subprocess.DEVNULL,
        )
        for _ in range(200):
            if await self._answers():
                return
            await asyncio.sleep(0.05)
        raise TimeoutError("redis-server does not answer")

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection(self.host, self.port)
        except OSError:
            return False
        writer.write(b"PING\r\n")
        answer = await reader.readline()
        writer.close()
        return answer == b"+PONG\r\n"

    async def stop(self) -> None:
        """Kill it, by its process id."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@define(eq=False)
class Network:
    """A network namespace with two wires to this machine. The first one may be cut.

    For a worker that is there, they lead to Redis and to Bandwidth. For a Redis that is there, to one process
    and to the others.
    """

    name: str = field(factory=lambda: f"bw{os.getpid()}")

    redis_host: str = "10.213.1.1"
    bandwidth_host: str = "10.213.2.1"
    there: tuple[str, str] = ("10.213.1.2", "10.213.2.2")

    @property
    def prefix(self) -> list[str]:
        """Return what goes in front of a command to run it there."""
        return ["ip", "netns", "exec", self.name]

    async def lay(self) -> None:
        """Make it. Skip the test if that is not allowed here."""
        if sys.platform != "linux" or shutil.which("ip") is None or os.geteuid():
            pytest.skip("a network namespace needs Linux, iproute2 and root")
        if await self._ip("netns", "add", self.name):
            pytest.skip("this machine does not let root make a network namespace")
        for number in (1, 2):
            here, there = f"{self.name}h{number}", f"{self.name}t{number}"
            await self._ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", self.name)
            await self._ip("addr", "add", f"10.213.{number}.1/24", "dev", here)
            await self._ip("link", "set", here, "up")
            await self._ip("-n", self.name, "addr", "add", f"10.213.{number}.2/24", "dev", there)
            await self._ip("-n", self.name, "link", "set", there, "up")

    async def cut(self, how: str = "down") -> None:
        """Cut the first wire, or mend it with ``up``."""
        await self._ip("link", "set", f"{self.name}h1", how)

    async def remove(self) -> None:
        """Remove the namespace, and the wires with it."""
        await self._ip("netns", "del", self.name)

    async def _ip(self, *command: str) -> int:
        process = await asyncio.create_subprocess_exec("ip", *command, stderr=asyncio.subprocess.DEVNULL)
        return await process.wait()


@define(eq=False)
class Machines:
    """The processes of one run on a queue."""

    sandbox: Sandbox
    redis: Redis
    folder: Path
    lease: float
    rate: float
    workers: list[asyncio.subprocess.Process] = field(factory=list)
    # Where the first worker is, if it is on another network.
    network: Network | None = None

    @property
    def journal(self) -> Path:
        """Return the path of the journal."""
        return self.folder / "run.journal"

    def _environ(self) -> dict[str, str]:
        lease, rate = str(self.lease), str(self.rate)
        queue = {"QUEUE_URL": self.redis.url, "QUEUE_LEASE": lease, "QUEUE_RATE": rate}
        return {**unmeasured(), **self.sandbox.environ, **queue}

    async def start_worker(self) -> asyncio.subprocess.Process:
        """Start a worker with one process for its chunks, in a process group of its own."""
        number = len(self.workers)
        with (self.folder / f"worker-{number}.log").open("ab") as log:
            worker = await asyncio.create_subprocess_exec(
                *(self.network.prefix if self.network and not self.workers else ()),
                *(sys.executable, "-m", "celery", "-A", "tests.queue_app", "worker"),
                *("--concurrency", "1", "--prefetch-multiplier", "1", "--hostname", f"w{number}@here"),
                *("--without-gossip", "--without-mingle", "--loglevel", "INFO"),
                env=self._environ(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.workers.append(worker)
        return worker

    async def kill(self, worker: asyncio.subprocess.Process) -> None:
        """Kill a worker and the process that it forked, as when their machine is lost."""
        self.kill_at_once(worker)
        await worker.wait()

    def kill_at_once(self, worker: asyncio.subprocess.Process) -> None:
        """Kill a worker, and do not wait for its end."""
        if worker.returncode is None:
            os.killpg(worker.pid, signal.SIGKILL)

    async def start_coordinator(self) -> asyncio.subprocess.Process:
        """Start the run, or resume it if there is a journal."""
        ids = self.folder / "ids.txt"
        ids.write_text("\n".join(self.sandbox.conference_ids))
        with (self.folder / "coordinator.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.queue_app", str(self.journal), str(ids)),
                env=self._environ(),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )

    def ended(self) -> int:
        """Return how many conferences have ended, by the sandbox's records."""
        return sum(fact["ended_at"] is not None for fact in self.sandbox.truth()["conferences"].values())

    def sent_twice(self) -> int:
        """Return how many conferences got more than one request to end them."""
        return sum(fact["end_requests"] > 1 for fact in self.sandbox.truth()["conferences"].values())

    async def until(self, run: asyncio.subprocess.Process, share: float) -> None:
        """Wait until this share of the conferences has ended."""
        # Nobody tells when the sandbox has ended something.
        while self.ended() < share * len(self.sandbox.conference_ids):
            assert run.returncode is None
            await asyncio.sleep(0.05)


@asynccontextmanager
async def network(*, wanted: bool) -> AsyncIterator[Network | None]:
    """Lay another network if it is wanted, and remove it at the end."""
    if not wanted:
        yield None
        return
    laid = Network()
    await laid.lay()
    try:
        yield laid
    finally:
        await laid.remove()


@asynccontextmanager
async def machines(
    sandbox: Sandbox, folder: Path, *, workers: int, lease: float, rate: float, elsewhere: Network | None
) -> AsyncIterator[Machines]:
    """Start Redis and workers, and kill what is left of them at the end."""
    redis = Redis(folder, elsewhere.redis_host if elsewhere else "127.0.0.1")
    await redis.start()
    started = Machines(sandbox, redis, folder, lease, rate, network=elsewhere)
    try:
        for _ in range(workers):
            await started.start_worker()
        yield started
    finally:
        # Nothing is awaited before all are killed: whoever ends the tests may end them here.
        for worker in started.workers:
            started.kill_at_once(worker)
        await redis.stop()
        for worker in started.workers:
            await worker.wait()
