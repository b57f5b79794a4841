# ruff: noqa: S101, S603  # tests assert, and start the programs that they name
"""Test an application that ends conferences, with pytest.

Pytest finds the fixture ``bandwidth_sandbox`` by itself if bandwidth_async is installed. The fixture serves a
sandbox from a thread, so these tests need no other plugin. With pytest-asyncio or anyio you can write them as
``async def`` too.
"""

import asyncio
import os
import subprocess
import sys

import pytest

from bandwidth_async import ServerError, VoiceClient
from bandwidth_async.pytest_plugin import BandwidthSandbox


async def close_room(client: VoiceClient, conference_id: str) -> str:
    """Stand in for the code of yours that you test."""
    try:
        outcome = await client.end_conference(conference_id)
    except ServerError:
        return "try again later"
    return outcome.kind.value


def test_two_failures_are_retried(bandwidth_sandbox: BandwidthSandbox) -> None:
    """The next two requests get a 503, and the third one ends the conference."""
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
    """The marker takes the settings of `Sandbox`: here every request gets a 503."""
    sandbox = bandwidth_sandbox.sandbox
    (conference_id,) = sandbox.conference_ids

    async def close() -> str:
        async with bandwidth_sandbox.client() as client:
            return await close_room(client, conference_id)

    assert asyncio.run(close()) == "try again later"
    assert sandbox.truth()["conferences"][conference_id]["ended_at"] is None


@pytest.mark.bandwidth_sandbox(conferences=3)
def test_a_program_of_its_own(bandwidth_sandbox: BandwidthSandbox) -> None:
    """A program that your test starts finds the sandbox by its environment."""
    command = [sys.executable, "-m", "bandwidth_async", "end", "--all-active", "--yes"]
    environ = {**os.environ, **bandwidth_sandbox.environ}
    assert subprocess.run(command, env=environ, check=False).returncode == 0
    conferences = bandwidth_sandbox.sandbox.truth()["conferences"]
    assert all(conference["ended_at"] for conference in conferences.values())
