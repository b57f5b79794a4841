"""A redis-server of the tests' own, on a free port of this machine, which ends with them."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
