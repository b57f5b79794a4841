"""The manifests of ``examples/many-machines`` under a supervisor that starts and kills as an engine does.

``make proofs`` runs these tests at full length. The outcomes are compared with the sandbox's own record.
"""

from __future__ import annotations

import asyncio
import configparser
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from attrs import define, field

from bandwidth_async.sandbox import Sandbox
from tests.test_cli import unmeasured
from tests.test_proof_kills import SETTLED

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(1200)

MANIFESTS = Path(__file__).parents[1] / "examples" / "many-machines"
SERVICE = MANIFESTS / "bandwidth-end@.service"
SHARDS = 4

# Wrong credentials, not one id found, wrong usage: no engine is to try these again.
FOR_GOOD = {2, 3, 6}


def kubernetes() -> dict[str, Any]:
    """Return the Job of the manifest."""
    volume, job = yaml.safe_load_all((MANIFESTS / "kubernetes.yaml").read_text())
    assert volume["kind"] == "PersistentVolumeClaim"
    assert isinstance(job, dict)
    return job


def systemd() -> configparser.SectionProxy:
    """Return the section of the unit that starts the command."""
    unit = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes="#")
    unit.optionxform = str  # type: ignore[assignment, method-assign]  # as its documentation has it
    unit.read(SERVICE)
    return unit["Service"]


def words_of(engine: str, index: int) -> tuple[list[str], dict[str, str]]:
    """Return the command that a manifest starts for one index, and what it adds to the environment."""
    if engine == "Slurm":
        told = {"SLURM_ARRAY_TASK_ID": str(index), "SLURM_ARRAY_TASK_COUNT": str(SHARDS)}
        return ["bash", str(MANIFESTS / "slurm.sh")], told
    if engine == "systemd":
        return shlex.split(systemd()["ExecStart"].replace("%i", str(index))), {}
    (container,) = kubernetes()["spec"]["template"]["spec"]["containers"]
    return [*container["command"], *container["args"]], {"JOB_COMPLETION_INDEX": str(index)}


@define
class Supervisor:
    """Starts each index of a job array again until it succeeds, as its engine would."""

    sandbox: Sandbox
    folder: Path
    engine: str
    rate: int
    # The stores that indexes share their rate over.
    shares: dict[int, str] = field(factory=dict)
    running: dict[int, asyncio.subprocess.Process] = field(factory=dict)
    codes: Counter[int] = field(factory=Counter)

    async def run(self) -> None:
        """Have all indexes succeed."""
        await asyncio.gather(*(self._index(index) for index in range(SHARDS)))

    async def _index(self, index: int) -> None:
        while True:
            process = self.running[index] = await self._start(index)
            _, err = await process.communicate()
            del self.running[index]
            code = process.returncode
            assert code is not None
            assert code not in FOR_GOOD, err.decode()
            assert b"Traceback" not in err, err.decode()
            self.codes[code] += 1
            if code == 0:
                return

    async def _start(self, index: int) -> asyncio.subprocess.Process:
        words, told = words_of(self.engine, index)
        folder = str(self.folder)
        if self.engine != "Slurm":
            words = [sys.executable, "-m", "bandwidth_async", *words[1:]]
        words = [self._here(word) for word in words]
        path = os.pathsep.join([str(self.folder / "bin"), os.environ["PATH"]])
        if index in self.shares:
            told = {**told, "BW_REDIS_URL": self.shares[index]}
        return await asyncio.create_subprocess_exec(
            *words,
            cwd=folder,
            env={
                **unmeasured(),
                **self.sandbox.environ,
                **told,
                "DATA": folder,
                "PATH": path,
                "RATE": str(self.rate),
            },
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )

    def _here(self, word: str) -> str:
        """Return a word of a manifest with the folder and the rate of the test."""
        word = word.replace("/data/", f"{self.folder}/")
        return f"--rate={self.rate}" if word.startswith("--rate=") else word

    async def kill(self, random: Random, count: int) -> int:
        """Kill some of the processes that are at work. Return how many there were."""
        chosen = random.sample(sorted(self.running), min(count, len(self.running)))
        for index in chosen:
            with suppress(ProcessLookupError, KeyError):
                self.running[index].send_signal(signal.SIGKILL)
        return len(chosen)

    async def kill_all(self) -> None:
        """Kill what is left, when a test has failed."""
        for process in tuple(self.running.values()):
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def prepare(folder: Path, ids: list[str]) -> None:
    """Put an input with duplicates into a folder, and the command under the name that scripts use."""
    (folder / "ids.txt").write_text("\n".join([*ids, *ids[:50]]))
    (folder / "bin").mkdir()
    script = folder / "bin" / "bandwidth-async"
    # The test's own rate comes last, and counts.
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bandwidth_async "$@" --rate="$RATE"\n')
    script.chmod(0o755)


def compare(folder: Path, sandbox: Sandbox) -> Counter[str]:
    """Check the merged outcomes against the sandbox's record. Return how many there are of each kind."""
    journals = sorted(map(str, folder.glob("shard-*.journal")))
    assert len(journals) == SHARDS
    done = subprocess.run(
        [sys.executable, "-m", "bandwidth_async", "outcomes", *journals],
        capture_output=True,
        text=True,
        check=False,
        env=unmeasured(),
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    facts = sandbox.truth()["conferences"]
    # None is invented or left out, and none comes twice.
    assert sorted(row["conference_id"] for row in rows) == sorted(facts)
    assert all(known["ended_at"] is not None for known in facts.values())
    assert {row["outcome"] for row in rows} <= SETTLED - {"refused", "not_found"}
    return Counter(row["outcome"] for row in rows)


@pytest.mark.parametrize("engine", ["Kubernetes", "Slurm", "systemd"])
async def test_an_array_that_is_killed_at_random_ends_each_conference(
    tmp_path: Path, full: bool, show: Callable[[str], None], engine: str
) -> None:
    """Whatever is killed whenever, all indexes succeed in the end, and each id is settled once."""
    count, kills, rate = (20_000, 60, 250) if full else (160, 4, 25)
    random = Random(engine)
    settings: dict[str, Any] = {"faults": "503=2%,reset=1%", "latency": "5-40ms", "seed": 5}
    async with Sandbox(conferences=count, **settings) as sandbox:
        prepare(tmp_path, sandbox.conference_ids)
        supervisor = Supervisor(sandbox, tmp_path, engine, rate)
        task = asyncio.ensure_future(supervisor.run())
        killed = 0
        while killed < kills and not task.done():
            await asyncio.wait([task], timeout=random.uniform(0.2, 2.0))
            killed += await supervisor.kill(random, random.choice([1, 1, 2, SHARDS]))
        await task
        kinds = compare(tmp_path, sandbox)
        twice = sum(known["end_requests"] > 1 for known in sandbox.truth()["conferences"].values())
    codes = dict(supervisor.codes)
    show(f"{count} ids, {killed} times SIGKILL: {dict(kinds)}, exit codes {codes}, {twice} sent twice")
    assert killed >= kills // 2


@pytest.mark.parametrize("workers", [0, 1, 2])
async def test_killed_workers_cost_a_few_ends(
    tmp_path: Path, full: bool, show: Callable[[str], None], workers: int
) -> None:
    """Only what was in flight, or next, is sent once more, and no shard waits for another."""
    if workers < 2 and not full:
        pytest.skip("make proofs runs this one")
    count, rate = (20_000, 250) if full else (160, 25)
    # Without faults, what is sent twice is what the kills cost.
    async with Sandbox(conferences=count, latency="5-40ms", seed=7) as sandbox:
        prepare(tmp_path, sandbox.conference_ids)
        supervisor = Supervisor(sandbox, tmp_path, "Kubernetes", rate)
        task = asyncio.ensure_future(supervisor.run())
        while sum(sandbox.truth()["requests"].get("end", {}).values()) < count // 3:
            await asyncio.wait([task], timeout=0.1)
        killed = await supervisor.kill(Random(workers), workers)
        await task
        kinds = compare(tmp_path, sandbox)
        twice = sum(known["end_requests"] > 1 for known in sandbox.truth()["conferences"].values())
    show(f"{count} ids, {killed} killed: {dict(kinds)}, {twice} sent twice")
    assert supervisor.codes == {0: SHARDS, **({-9: workers} if workers else {})}


def test_the_manifests_do_not_repeat_what_cannot_succeed() -> None:
    """Each engine gives up for the same exit codes, and starts each index again for all others."""
    spec = kubernetes()["spec"]
    # The API server requires these together.
    assert (spec["completionMode"], spec["template"]["spec"]["restartPolicy"]) == ("Indexed", "Never")
    assert spec["completions"] == spec["parallelism"] == SHARDS
    (rule,) = [rule for rule in spec["podFailurePolicy"]["rules"] if rule["action"] == "FailIndex"]
    (container,) = spec["template"]["spec"]["containers"]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    assert set(rule["onExitCodes"]["values"]) == FOR_GOOD
    assert {int(code) for code in systemd()["RestartPreventExitStatus"].split()} == FOR_GOOD
    (claim,) = [
        volume["persistentVolumeClaim"]["claimName"] for volume in spec["template"]["spec"]["volumes"]
    ]
    assert claim in (MANIFESTS / "kubernetes.yaml").read_text().partition("kind: Job")[0]


def test_the_manifests_have_one_command() -> None:
    """They differ only in where the files are and in where the number of the shard comes from."""

    script = (MANIFESTS / "slurm.sh").read_text().partition("exec ")[2].replace("\\\n", " ")
    others = [words_of(engine, 0)[0] for engine in ("Kubernetes", "systemd")]
    told = [
        {word.replace("/data/", "") for word in words[1:]}
        for words in (*others, shlex.split(script.replace("$DATA/", "")))
    ]
    assert told[0] == told[2] == told[1] - {"--shard=0/4"} | {"--shard=auto/4"}
    assert {"--continue", "--yes"} <= told[0]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """systemd-analyze finds nothing to say, once the program is where the unit has it."""
    for path in (SERVICE, MANIFESTS / "bandwidth-end@.timer"):
        text = path.read_text().replace("/opt/bandwidth-async/bin/bandwidth-async", sys.executable)
        (tmp_path / path.name).write_text(text)
    units = [str(tmp_path / name) for name in ("bandwidth-end@.service", "bandwidth-end@.timer")]
    done = subprocess.run(  # our own words
        [str(shutil.which("systemd-analyze")), "verify", *units], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "bandwidth-end" in line]
    assert (done.returncode, ours) == (0, [])
