"""Runs that are interrupted at random moments and then resumed. ``make proofs`` runs these tests in full.

The command line runs in a process of its own. The tests compare its outcomes with the sandbox's records.
"""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import sys
from collections import Counter
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING

import pytest
from attrs import frozen

from bandwidth_async.sandbox import Sandbox
from tests.test_cli import unmeasured

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.timeout(1200)

FAULTS = "503=3%,reset=2%"
SETTLED = {"ended", "already_ended", "not_found", "refused"}
CUT_OFF = ("ended", "already_ended", "not_found", "refused", "failed", "unknown", "not_attempted")


@frozen(kw_only=True)
class CommandLineRun:
    """One run on the command line, against one sandbox."""

    sandbox: Sandbox
    folder: Path
    hang_up: bool = False

    @property
    def journal(self) -> Path:
        """Return the path of the journal."""
        return self.folder / "run.journal"

    async def start(self, *arguments: str, most_bytes: int | None = None) -> asyncio.subprocess.Process:
        """Start a command in a process of its own. It can write files of ``most_bytes`` at most."""

        def limit() -> None:
            if most_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bandwidth_async",
            *arguments,
            env={**unmeasured(), **self.sandbox.environ, "XDG_STATE_HOME": str(self.folder)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=limit,
        )

    async def begin(self, most_bytes: int | None = None) -> asyncio.subprocess.Process:
        """Start a run that ends all conferences of the sandbox."""
        ids = self.folder / "ids.txt"
        ids.write_text("\n".join(self.sandbox.conference_ids))
        given = ("end", "--from", str(ids), "--yes", "--journal", str(self.journal), "--format", "jsonl")
        return await self.start(*given, *["--hang-up"] * self.hang_up, most_bytes=most_bytes)

    async def resume(self) -> asyncio.subprocess.Process:
        """Resume the run. The journal stores whether the run hangs up calls."""
        return await self.start("resume", str(self.journal), "--format", "jsonl")

    async def outcomes(self) -> dict[str, str]:
        """Return the outcome of each id in the journal."""
        process = await self.start("outcomes", str(self.journal))
        out, err = await process.communicate()
        assert process.returncode == 0, err
        rows = [json.loads(line) for line in out.splitlines()]
        said = {row["conference_id"]: row["outcome"] for row in rows}
        assert len(said) == len(rows)
        return said

    def ended(self) -> dict[str, bool]:
        """Return for each conference whether it has ended, by the sandbox's records."""
        facts = self.sandbox.truth()["conferences"]
        return {id_: known["ended_at"] is not None for id_, known in facts.items()}

    def sent_twice(self) -> int:
        """Return how many conferences got more than one request to end them."""
        facts = self.sandbox.truth()["conferences"]
        return sum(known["end_requests"] > 1 for known in facts.values())


async def interrupt(process: asyncio.subprocess.Process, after: float, how: signal.Signals) -> int:
    """Send a signal after some seconds, unless the process has ended before. Return the exit code."""
    with suppress(TimeoutError):
        async with asyncio.timeout(after):
            await process.communicate()
    if process.returncode is None:
        process.send_signal(how)
    await process.communicate()
    assert process.returncode is not None
    return process.returncode


def compare(said: dict[str, str], run: CommandLineRun) -> None:
    """Check that every id has an outcome, and that no outcome contradicts the sandbox."""
    ended = run.ended()
    assert said.keys() == ended.keys()
    assert set(said.values()) <= set(CUT_OFF)
    wrong = [id_ for id_, kind in said.items() if kind in {"ended", "already_ended"} and not ended[id_]]
    assert not wrong, f"{len(wrong)} are called ended, and the sandbox knows better"
    # With --hang-up, "failed" may mean that the conference has ended but some calls go on.
    surely_not = {"not_attempted"} if run.hang_up else {"not_attempted", "failed"}
    hidden = [id_ for id_, kind in said.items() if kind in surely_not and ended[id_]]
    assert not hidden, f"{len(hidden)} have ended, and are said surely not to have"


async def settle(run: CommandLineRun) -> None:
    """Resume the run, and check that it completes and that the sandbox confirms each id."""
    process = await run.resume()
    _, err = await process.communicate()
    assert process.returncode == 0, err
    said = await run.outcomes()
    compare(said, run)
    assert set(said.values()) <= SETTLED
    assert all(run.ended().values())
    if run.hang_up:
        assert run.sandbox.active_calls() == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
async def test_a_run_cut_off_at_any_moment_can_be_gone_on_with(
    how: signal.Signals, tmp_path: Path, full: bool, show: Callable[[str], None]
) -> None:
    """After any interruptions, each id has one outcome, and the sandbox confirms it.

    Every other run hangs up calls, and leaves no call active.
    """
    runs, cuts, count = (25, 4, 2000) if full else (1, 1, 150)
    random = Random(22)
    kinds, twice, sent = Counter[str](), 0, 0
    for number in range(runs):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with Sandbox(
            conferences=count,
            faults=FAULTS,
            latency="5-40ms",
            quota="token-bucket:rate=600,burst=50",
            seed=number,
        ) as sandbox:
            run = CommandLineRun(sandbox=sandbox, folder=folder, hang_up=number % 2 == 1)
            process = await run.begin()
            for _ in range(cuts):
                code = await interrupt(process, random.uniform(0.5, 3.0), how)
                # The run was interrupted before it wrote its journal.
                if not run.journal.exists():
                    assert not any(run.ended().values())
                    process = await run.begin()
                    continue
                kinds[f"exit {code}"] += 1
                if await input_is_incomplete(run):
                    assert not any(run.ended().values())
                    run.journal.unlink()
                    process = await run.begin()
                    continue
                compare(await run.outcomes(), run)
                process = await run.resume()
            await process.communicate()
            await settle(run)
            twice += run.sent_twice()
            sent += count
    show(f"{runs * cuts} times {how.name}, {count} ids each: {dict(kinds)}, {twice} of {sent} sent twice")


async def input_is_incomplete(run: CommandLineRun) -> bool:
    """Return True if the command line rejects the journal, as it does when the input is incomplete."""
    process = await run.start("outcomes", str(run.journal))
    _, err = await process.communicate()
    return b"not recorded to its end" in err or process.returncode != 0


async def test_a_full_disk_loses_nothing(tmp_path: Path, full: bool, show: Callable[[str], None]) -> None:
    """If the journal cannot grow, the run stops with a clear error. With more space you can resume it."""
    count = 2000 if full else 300
    random = Random(7)
    seen = Counter[str]()
    for number in range(20 if full else 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with Sandbox(conferences=count, faults=FAULTS, latency="5-40ms", seed=number) as sandbox:
            run = CommandLineRun(sandbox=sandbox, folder=folder)
            process = await run.begin(most_bytes=count * random.randint(300, 2000))
            _, err = await process.communicate()
            assert b"Traceback" not in err
            if await input_is_incomplete(run):
                seen["while the input was recorded"] += 1
                assert not any(run.ended().values())
                continue
            seen[f"exit {process.returncode}"] += 1
            if process.returncode:
                assert process.returncode == 1
                assert b"cannot be written" in err
                assert b"resume" in err
            compare(await run.outcomes(), run)
            await settle(run)
    show(f"{dict(seen)}")
