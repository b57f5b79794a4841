"""On Windows everything works but a journal, which is refused with a sentence.

The tests take away from Python what Windows does not have. There is no Windows here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bandwidth_async.pytest_plugin import serving

AS_ON_WINDOWS = """
import os, sys
for module in ("fcntl", "resource", "uvloop"):
    sys.modules[module] = None
for name in ("O_CLOEXEC", "O_NONBLOCK", "fchmod", "geteuid"):
    delattr(os, name)
from bandwidth_async.__main__ import main
main()
"""
REFUSED = "a journal needs file locks, which Python has on Linux and macOS, but not on Windows; choose"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Return a function that runs a command line on a sandbox of 101 conferences, as on Windows."""
    with serving(conferences=101, members=1, recordings=1) as bandwidth:
        (tmp_path / "ids.txt").write_text("\n".join(bandwidth.sandbox.conference_ids))
        environ = {**os.environ, **bandwidth.environ, "XDG_STATE_HOME": str(tmp_path)}

        def run_command(command: str) -> tuple[int, str, str]:
            finished = subprocess.run(
                [sys.executable, "-c", AS_ON_WINDOWS, *command.split()],
                env=environ,
                cwd=tmp_path,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            return finished.returncode, finished.stdout, finished.stderr

        yield run_command


def test_a_run_needs_no_journal(run: Callable[..., tuple[int, str, str]]) -> None:
    """The sentence tells how to go on without one, and nothing is sent before."""
    code, out, err = run("end --from ids.txt --yes")
    assert (code, out, REFUSED in err, "--no-journal" in err) == (6, "", True, True)
    code, out, _ = run("end --from ids.txt --yes --no-journal")
    assert (code, out.count(" ended ")) == (0, 101)


@pytest.mark.parametrize("command", ["list", "runs", "demo --conferences 3"])
def test_a_command_that_needs_no_journal(command: str, run: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = run(command)
    assert code == 0, err


def test_a_journal_from_elsewhere_can_be_read(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    """But its run cannot be resumed there."""
    environ = {**os.environ, "BW_ACCOUNT_ID": "9900000"}
    made = (
        "import asyncio, sys; from bandwidth_async import Journal\n"
        "async def make():\n"
        "    async with Journal.create('run.journal', account_id='9900000') as journal:\n"
        "        await journal.record(['conf-1'])\n"
        "asyncio.run(make())"
    )
    subprocess.run([sys.executable, "-c", made], cwd=tmp_path, env=environ, check=True)
    assert run("outcomes run.journal --format csv")[:2] == (
        0,
        "conference_id,outcome,attempts,error,elapsed,calls_ended\nconf-1,not_attempted,0,,0.0,\n",
    )
    code, _, err = run("resume run.journal")
    assert (code, REFUSED.partition(";")[0] in err) == (6, True)
