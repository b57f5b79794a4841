"""The examples run unchanged against the sandbox."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bandwidth_async.sandbox import Sandbox

if TYPE_CHECKING:
    import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


async def run(sandbox: Sandbox, name: str, *arguments: str) -> tuple[int | None, str]:
    """Run an example against the sandbox, and return its exit code and output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / name),
        *arguments,
        env={**os.environ, **sandbox.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()


async def test_end_one() -> None:
    """The example prints one line for an id, and a clear error for a wrong id."""
    async with Sandbox(conferences=1) as sandbox:
        (only,) = sandbox.conference_ids
        assert await run(sandbox, "end_one.py", only) == (0, f"{only} ended\n")
        code, out = await run(sandbox, "end_one.py", "conf-none")
    assert code == 1
    assert out.startswith("not ended: end conference conf-none: answered 404")


async def test_end_many() -> None:
    """The example ends all active conferences."""
    async with Sandbox(conferences=30) as sandbox:
        code, out = await run(sandbox, "end_many.py")
    assert code == 0
    assert out.startswith("{'ended': 30}")


async def test_count_retries() -> None:
    """The example tells requests by what became of them."""
    async with Sandbox(conferences=3) as sandbox:
        sandbox.plan("500", times=2)
        code, out = await run(sandbox, "count_retries.py", *sandbox.conference_ids)
    assert code == 0
    assert "'end conference: 500': 2, 'end conference: 204': 3} {'ended': 3}" in out


async def test_prometheus_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example shows durations, waits and outcomes as Prometheus reads them."""
    monkeypatch.setenv("METRICS_PORT", "0")
    async with Sandbox(conferences=3) as sandbox:
        sandbox.plan("429")
        code, out = await run(sandbox, "prometheus_metrics.py", *sandbox.conference_ids)
    assert code == 0, out
    assert 'bandwidth_async_outcome="ended"' in out
    counts = [
        line for line in out.splitlines() if line.startswith("http_client_request_duration_seconds_count")
    ]
    assert [line for line in counts if 'http_response_status_code="204"' in line and line.endswith(" 3.0")]
    assert [line for line in counts if 'http_response_status_code="429"' in line and line.endswith(" 1.0")]
    assert "bandwidth_async_limiter_pauses_total{" in out


async def test_lambda_handler() -> None:
    """Three invocations, each with an event loop of its own, cost one token."""
    async with Sandbox(conferences=3) as sandbox:
        code, out = await run(sandbox, "lambda_handler.py", *sandbox.conference_ids)
        requests = sandbox.truth()["requests"]
    assert code == 0, out
    assert out.count("'outcome': 'ended'") == 3
    assert requests["token"] == {"200": 1}


async def test_end_sync() -> None:
    """The example prints a line for each id as it comes."""
    async with Sandbox(conferences=3) as sandbox:
        code, out = await run(sandbox, "end_sync.py", *sandbox.conference_ids)
    assert code == 0, out
    assert sorted(out.splitlines()) == sorted(f"{id_} ended" for id_ in sandbox.conference_ids)


async def test_queue_celery(tmp_path: Path) -> None:
    """Without a Redis the example is its own worker. A second start finds nothing left to do."""
    async with Sandbox(conferences=30) as sandbox:
        ids = tmp_path / "ids.txt"
        ids.write_text("\n".join(sandbox.conference_ids))
        for _ in range(2):
            with ids.open() as given:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "examples.queue_celery", str(tmp_path / "journal")),
                    cwd=EXAMPLES.parent,
                    env={**os.environ, **sandbox.environ},
                    stdin=given,
                    stdout=subprocess.PIPE,
                )
                out, _ = await process.communicate()
            assert process.returncode == 0
        assert out == b"{} \n"
        assert all(fact["ended_at"] is not None for fact in sandbox.truth()["conferences"].values())


async def test_queue_taskiq() -> None:
    """Another engine than Celery fits, and its workers end all conferences."""
    async with Sandbox(conferences=250) as sandbox:
        code, out = await run(sandbox, "queue_taskiq.py", *sandbox.conference_ids)
        ended = [fact["ended_at"] for fact in sandbox.truth()["conferences"].values()]
    assert code == 0, out
    assert sorted(out.splitlines()) == sorted(f"{id_} ended" for id_ in sandbox.conference_ids)
    assert all(ended)
