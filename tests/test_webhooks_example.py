"""The webhook example runs as it stands, against the sandbox."""

from __future__ import annotations

import runpy
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from bandwidth_async.sandbox import Sandbox

EXAMPLE = Path(__file__).parents[1] / "examples" / "webhook_events.py"


async def test_the_answer_has_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ending answers with the time of the completed event; a member that joins is greeted with BXML."""
    basic = {"Authorization": aiohttp.encode_basic_auth("bandwidth", "secret")}
    async with Sandbox(conferences=1) as sandbox:
        (only,) = sandbox.conference_ids
        for name, value in sandbox.environ.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("WEBHOOK_USERNAME", "bandwidth")
        monkeypatch.setenv("WEBHOOK_PASSWORD", "secret")
        app = runpy.run_path(str(EXAMPLE))["make_app"]()
        async with TestClient(TestServer(app)) as web:
            body = {"conferenceId": only, "eventTime": "2026-11-22T10:00:00Z"}
            joined = {**body, "eventType": "conferenceMemberJoin", "callId": "c-1"}
            greeting = await web.post("/webhooks", json=joined, headers=basic)
            assert (greeting.status, greeting.content_type) == (200, "application/xml")
            completed = {**body, "eventType": "conferenceCompleted"}
            assert (await web.post("/webhooks", json=completed)).status == 401
            assert (await web.post("/webhooks", json=completed, headers=basic)).status == 204
            answer = await web.delete(f"/conferences/{only}")
            assert await answer.json() == {"conference_id": only, "completed": "2026-11-22T10:00:00+00:00"}
            assert (await web.delete("/conferences/conf-none")).status == 502
        ended = sandbox.truth()["conferences"]
    assert ended[only]["end_requests"] == 1
