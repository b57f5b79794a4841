"""A redis-server of the tests' own, on a free port of this machine, which ends with them."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from attrs import define, field

PROGRAM = shutil.which("redis-server")
WHY_NOT = "redis-server is not installed: apt-get install redis-server" if PROGRAM is None else None

needs_redis = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))


def free_port() -> int:
    """Return a port that nobody listens on. A cluster node needs the one 10,000 above it too."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            if port > 50_000:
                continue
            try:
                other.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port


@define
class RedisServer:
    """A running server. Its options are those of redis.conf, one string each."""

    folder: Path
    options: list[str]
    port: int = field(factory=free_port)
    tls: bool = False
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"{'rediss' if self.tls else 'redis'}://127.0.0.1:{self.port}"

    @property
    def runs(self) -> bool:
        """Whether it was started and not stopped."""
        return self._process is not None

    def start(self) -> None:
        """Start it and wait until it can be connected to."""
        assert PROGRAM is not None
        ports = f"port 0\ntls-port {self.port}" if self.tls else f"port {self.port}"
        settings = ["bind 127.0.0.1", ports, 'save ""', "appendonly no", f"dir {self.folder}", *self.options]
        file = self.folder / f"redis-{self.port}.conf"
        file.write_text("\n".join(settings) + "\n")
        sentinel = ["--sentinel"] if any(line.startswith("sentinel ") for line in self.options) else []
        self._process = subprocess.Popen(
            [PROGRAM, str(file), *sentinel], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise TimeoutError("redis-server does not listen")

    def stop(self) -> None:
        """Kill it, by its own process id."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self, signal: int) -> None:
        """Send it a signal, such as SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(signal)


@contextmanager
def redis_server(folder: Path, *options: str, tls: bool = False) -> Iterator[RedisServer]:
    """Run a server as long as the context lasts."""
    server = RedisServer(folder, list(options), tls=tls)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@define
class RedisCluster:
    """Three nodes with a third of the slots each, and a replica of each of them."""

    nodes: list[RedisServer]

    @property
    def url(self) -> str:
        """The address of all of them."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"redis+cluster://{hosts}"

    def keys(self, pattern: str) -> list[str]:
        """Return the keys in all nodes that are left."""
        return [key for node in self.nodes if node.runs for key in asked(node, "KEYS", pattern).split()]

    def lose_the_owner(self, pattern: str) -> int:
        """Kill the master that has a key, and wait until its replica has taken over. Return its port."""
        masters = [node for node in self.nodes if asked(node, "ROLE").startswith("master")]
        (owner,) = [node for node in masters if asked(node, "KEYS", pattern)]
        owner.stop()
        for _ in range(400):
            alive = [node for node in self.nodes if node.runs]
            if sum(asked(node, "ROLE").startswith("master") for node in alive) == len(masters):
                return owner.port
            time.sleep(0.05)
        raise TimeoutError("no replica has taken over")


def asked(server: RedisServer, *words: str) -> str:
    """Return what a server answers to a command."""
    client = shutil.which("redis-cli")
    assert client is not None
    done = subprocess.run(
        [client, "-p", str(server.port), *words], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


@contextmanager
def redis_cluster(folder: Path) -> Iterator[RedisCluster]:
    """Run a cluster of three masters and three replicas as long as the context lasts."""
    if shutil.which("redis-cli") is None:
        pytest.skip("redis-cli is not installed: apt-get install redis-tools")
    with ExitStack() as stack:
        nodes = []
        for number in range(6):
            place = folder / f"node-{number}"
            place.mkdir()
            options = (
                "cluster-enabled yes",
                "cluster-node-timeout 1000",
                "cluster-replica-validity-factor 0",
            )
            nodes.append(stack.enter_context(redis_server(place, *options)))
        hosts = [f"127.0.0.1:{node.port}" for node in nodes]
        create = ["redis-cli", "--cluster", "create", *hosts, "--cluster-replicas", "1", "--cluster-yes"]
        subprocess.run(create, stdout=subprocess.DEVNULL, check=True, timeout=60)
        # The replicas have to know their masters before one of them may be lost.
        while sum("master_link_status:up" in asked(node, "INFO", "replication") for node in nodes) < 3:
            time.sleep(0.1)
        yield RedisCluster(nodes)
