"""Each recipe in ``examples/frameworks`` runs as its docstring says, in a real server beside the sandbox."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import textwrap
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from attrs import define

from bandwidth_async import DeadlineExceededError, RateLimitError, UnavailableError
from bandwidth_async.errors import ServerError
from bandwidth_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).parents[1]
RECIPES = {path.stem: path for path in sorted((ROOT / "examples" / "frameworks").glob("*.py"))}
FRAMEWORKS = {name: name.removesuffix("_app") for name in RECIPES}

USER, PASSWORD = "bandwidth", "s3cret"
HEADERS = {"Authorization": aiohttp.encode_basic_auth(USER, PASSWORD)}
EVENT = {"eventType": "conferenceCompleted", "eventTime": "2026-11-22T10:00:00Z", "conferenceId": "conf-1"}

# What asyncio, aiohttp and Python print of something that was left behind.
LEFT_BEHIND = re.compile(r"Traceback|Unclosed|ResourceWarning|was destroyed|never awaited|never retrieved")


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def command_of(name: str, port: int) -> list[str]:
    """Return the command in the docstring of a recipe, with another port."""
    docstring = ast.get_docstring(ast.parse(RECIPES[name].read_text(encoding="utf-8"))) or ""
    line = re.search(r"::\n\n +(.+)\n", docstring)
    assert line is not None, name
    program, *arguments = shlex.split(line[1].replace("8080", str(port)))
    return [sys.executable, *([] if program == "python" else ["-m", program]), *arguments]


@define
class Server:
    """A recipe that is being served."""

    process: asyncio.subprocess.Process
    browser: aiohttp.ClientSession

    async def end(self, conference_id: str) -> tuple[int, dict[str, Any]]:
        """Ask it to end a conference, and return the status and the body."""
        async with self.browser.delete(f"/conferences/{conference_id}") as answer:
            return answer.status, json.loads(await answer.text())

    async def send_webhook(self, method: str = "POST", path: str = "/webhooks", **options: Any) -> int:
        """Send it a request as a webhook, and return the status."""
        request = self.browser.request(method, path, allow_redirects=False, **options)
        async with request as answer:
            return answer.status

    async def printed(self) -> str:
        """Return what it has printed, once it has stopped."""
        out, _ = await self.process.communicate()
        return out.decode()


@asynccontextmanager
async def serving(name: str, port: int, sandbox: Sandbox) -> AsyncIterator[Server]:
    """Start a recipe, and kill it if it has not stopped by itself."""
    environ = {
        "WEBHOOK_USERNAME": USER,
        "WEBHOOK_PASSWORD": PASSWORD,
        "PYTHONWARNINGS": "always::ResourceWarning",
    }
    process = await asyncio.create_subprocess_exec(
        *command_of(name, port),
        cwd=ROOT,
        env={**os.environ, **sandbox.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    closed = aiohttp.TCPConnector(force_close=True)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=closed) as browser:
            server = Server(process, browser)
            while not await _is_up(port):
                assert process.returncode is None, await server.printed()
                await asyncio.sleep(0.02)
            yield server
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def _is_up(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@pytest.mark.parametrize("name", RECIPES)
async def test_a_recipe_works_in_its_server(name: str) -> None:
    """It ends conferences, maps errors, receives webhooks, and finishes what is in flight when it stops."""
    pytest.importorskip(
        FRAMEWORKS[name], reason=f"{FRAMEWORKS[name]} is not installed: the group `test` brings it"
    )
    port = free_port()
    webhook: dict[str, Any] = {
        "event_url": f"http://127.0.0.1:{port}/webhooks",
        "event_username": USER,
        "event_password": PASSWORD,
    }
    async with (
        Sandbox(conferences=3, members=0, **webhook) as sandbox,
        serving(name, port, sandbox) as server,
    ):
        first, second, third = sandbox.conference_ids
        assert await server.end(first) == (200, {"conference_id": first, "outcome": "ended"})
        await sandbox.events_told()
        # The sandbox was asked for the credentials, and its event was accepted then.
        assert sandbox.truth()["events"]["conferenceCompleted"] == {"204": 1}
        await _check_errors(server, sandbox, second)
        await _check_webhooks(server)
        await _check_shutdown(server, sandbox, third)
        printed = await server.printed()
    assert f"conferenceCompleted {first}\n" in printed
    assert LEFT_BEHIND.search(printed) is None, printed
    assert sandbox.truth()["requests"]["token"] == {"200": 1}


async def _check_errors(server: Server, sandbox: Sandbox, conference_id: str) -> None:
    """An unknown id is a 404, a wrong one a 400, and a refusal of this server a 502."""
    sandbox.plan("403", kind="end")
    statuses = {}
    for id_ in (conference_id, "conf-none", "a%20b"):
        statuses[id_], body = await server.end(id_)
        assert body["error"].startswith("end conference" if id_ != "a%20b" else "'a b'"), body
    assert statuses == {conference_id: 502, "conf-none": 404, "a%20b": 400}


async def _check_webhooks(server: Server) -> None:
    """They come with and without a slash, as a POST or a GET, and only with the credentials."""
    statuses = [
        await server.send_webhook(json=EVENT),
        await server.send_webhook(json=EVENT, headers=HEADERS),
        await server.send_webhook(json=EVENT, headers=HEADERS, path="/webhooks/"),
        await server.send_webhook("GET", params=EVENT, headers=HEADERS),
        await server.send_webhook("HEAD", headers=HEADERS),
    ]
    assert statuses == [401, 204, 204, 204, 405]
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await server.browser.ws_connect("/webhooks")


async def _check_shutdown(server: Server, sandbox: Sandbox, conference_id: str) -> None:
    """An end that is being retried when the server is asked to stop gets its answer first."""
    sandbox.plan("503", times=2, kind="end")
    ending = asyncio.create_task(server.end(conference_id))
    while not sandbox.truth()["requests"]["end"].get("503"):  # noqa: ASYNC110  # it tells nobody
        await asyncio.sleep(0.01)
    server.process.terminate()
    assert await ending == (200, {"conference_id": conference_id, "outcome": "ended"})


@pytest.mark.parametrize("name", RECIPES)
def test_errors_that_pass_tell_when_to_come_again(name: str) -> None:
    """The caller of a recipe is to try again after a 503, and a 504 does not say that nothing happened."""
    source = RECIPES[name].read_text(encoding="utf-8")
    parts: dict[str, Any] = {}
    exec(f"import math\nfrom bandwidth_async import *\n{_excerpt(source)}", parts)  # noqa: S102  # it is our own code
    answered = {
        RateLimitError("busy", status=429, retry_after=2.1): (503, {"Retry-After": "3"}),
        UnavailableError("down", retry_after=30.0): (503, {"Retry-After": "30"}),
        DeadlineExceededError("late"): (504, {}),
        ServerError("failed", status=500): (502, {}),
    }
    for error, (status, headers) in answered.items():
        assert parts["answer_to"](error) == ({"error": str(error)}, status, headers)


def _excerpt(source: str) -> str:
    """Return the table of statuses and the function that uses it."""
    tree = ast.parse(source)
    table = next(one for one in tree.body if isinstance(one, ast.Assign))
    function = next(one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == "answer_to")
    return "\n".join(textwrap.dedent(ast.unparse(one)) for one in (table, function))


def test_every_framework_has_its_recipe() -> None:
    """And no file has the name of its framework, which would hide that from its own imports."""
    assert set(FRAMEWORKS.values()) == {"aiohttp", "django", "fastapi", "litestar", "quart", "starlette"}
    assert all(name.endswith("_app") for name in RECIPES)
