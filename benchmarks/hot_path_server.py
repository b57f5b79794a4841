"""The server of the hot path's benchmarks: an nginx that answers 204 at once, on a core of its own."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_START_TIME = 30.0  # seconds for a server to listen, on a busy machine

# Without a master process there is only one process to pin. It reads the body of a request and discards it.
_CONFIG = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    root {folder};
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {http}
}}
"""
_HTTP = """
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ return 204; }}
        location = /status {{ stub_status; }}
    }}
"""


def why_not() -> str | None:
    """Return the reason why no server can run on this machine, or None."""
    if shutil.which("nginx") is None:
        return "nginx is not in the path; install it: apt-get install nginx-light, or brew install nginx"
    return None


def cores() -> tuple[int | None, int | None]:
    """Return a core for the server and one for the clients, or None if processes cannot be pinned."""
    if not hasattr(os, "sched_setaffinity"):
        return None, None
    server, *others = sorted(os.sched_getaffinity(0))
    return (server, others[0]) if others else (None, None)


def pin(process: int, core: int | None) -> None:
    """Keep a process (0 is this one) on one core."""
    if core is not None:
        os.sched_setaffinity(process, {core})


@contextmanager
def serving(core: int | None) -> Iterator[str]:
    """Run an nginx on ``core`` and yield its URL. It is always stopped afterwards."""
    with tempfile.TemporaryDirectory(prefix="hot-path-") as folder:
        port = free_port()
        with running(nginx_command(Path(folder), _HTTP.format(port=port)), port) as nginx:
            pin(nginx.pid, core)
            yield f"http://127.0.0.1:{port}"


def nginx_command(folder: Path, http: str) -> list[str]:
    """Write a configuration with these lines of its ``http`` block, and return the command that obeys it."""
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, http=http))
    return ["nginx", "-p", str(folder), "-c", str(config), "-e", f"{folder}/error.log"]


@contextmanager
def running(command: Sequence[str], port: int, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server that listens on ``port``. It is always stopped afterwards."""
    server = subprocess.Popen(command, env={**os.environ, **environment})  # noqa: S603  # all our own words
    try:
        await_listener(port)
        yield server
    finally:
        server.terminate()
        server.wait()


def served(base: str) -> int:
    """Return the number of requests that the server has received, including this one."""
    with urlopen(f"{base}/status") as answer:  # noqa: S310  # http to this machine
        text = answer.read().decode()
    numbers = re.search(r"^ \d+ \d+ (\d+) $", text, re.MULTILINE)
    if numbers is None:
        raise ValueError(f"nginx's status is not as expected: {text!r}")
    return int(numbers[1])


def free_port() -> int:
    """Return a free port of this machine."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def await_listener(port: int) -> None:
    """Return once a server listens on a port. Raise `OSError` if that takes too long."""
    give_up = time.monotonic() + _START_TIME
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.02)
        else:
            return
