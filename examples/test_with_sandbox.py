# ruff: noqa: S101, S603  # tests assert, and start what they name
"""How to test an application that ends conferences, with pytest.

The fixture comes with bandwidth_async, as a plugin that pytest finds by itself. It serves a sandbox from a
thread, so it takes any kind of test; these need no other plugin. With pytest-asyncio or anyio they can be
``async def`` as well.
"""

import asyncio
import os
import subprocess
import sys

import pytest

from bandwidth_async import ServerError, VoiceClient
from bandwidth_async.pytest_plugin import BandwidthSandbox


async def close_room(client: VoiceClient, conference_id: str) -> str:
    """Stand for the code under test."""
    try:
        outcome = await client.end_conference(conference_id)
    except ServerError:
        return "try again later"
    return outcome.kind.value


def test_two_failures_are_retried(bandwidth_sandbox: BandwidthSandbox) -> None:
    """The next two requests answer 503, the third one does its work."""
    sandbox = bandwidth_sandbox.sandbox
    conference_id = sandbox.add_conference(members=2)
    sandbox.plan("503", times=2)

    async def close() -> str:
        async with bandwidth_sandbox.client() as client:
            return await close_room(client, conference_id)

    assert asyncio.run(close()) == "ended"
    assert sandbox.truth()["requests"]["end"] == {"503": 2, "204": 1}


@pytest.mark.bandwidth_sandbox(conferences=1, faults="503=100%")
def test_a_server_that_stays_down(bandwidth_sandbox: BandwidthSandbox) -> None:
    """The marker sets what `Sandbox` takes."""
    sandbox = bandwidth_sandbox.sandbox
    (conference_id,) = sandbox.conference_ids

    async def close() -> str:
        async with bandwidth_sandbox.client() as client:
            return await close_room(client, conference_id)

    assert asyncio.run(close()) == "try again later"
    assert sandbox.truth()["conferences"][conference_id]["ended_at"] is None


@pytest.mark.bandwidth_sandbox(conferences=3)
def test_a_program_of_its_own(bandwidth_sandbox: BandwidthSandbox) -> None:
    """A program finds the sandbox by its environment."""
    command = [sys.executable, "-m", "bandwidth_async", "end", "--all-active", "--yes"]
    environ = {**os.environ, **bandwidth_sandbox.environ}
    assert subprocess.run(command, env=environ, check=False).returncode == 0
    conferences = bandwidth_sandbox.sandbox.truth()["conferences"]
    assert all(fate["ended_at"] for fate in conferences.values())
