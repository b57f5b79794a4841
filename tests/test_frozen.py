"""A program that PyInstaller made of the command line: it has every command.

The long form (``make frozen``) builds one, and runs each of its commands against a sandbox.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from bandwidth_async.cli.app import COMMANDS
from bandwidth_async.pytest_plugin import serving
from tests.test_architecture import ROOT, imports

# The page of a report is made from files beside the code.
COLLECT = ("--collect-data", "bandwidth_async")

CODE = "from bandwidth_async.__main__ import main; main()"


def named_from(module: str) -> set[str]:
    """Return every module of the package that import statements lead to, wherever they stand."""
    named: set[str] = set()
    new = {module}
    while new:
        named |= new
        new = {one.imported for one in imports() if one.importer in new} - named
    return named


def test_import_statements_lead_to_every_command() -> None:
    """A command that is imported by name alone is missing in a frozen program."""
    modules = {f"{ROOT}.cli.{place.partition(':')[0]}" for place, _ in COMMANDS.values()}
    assert modules - named_from(f"{ROOT}.__main__") == set()


def test_import_statements_lead_to_every_public_name() -> None:
    """A program that somebody else makes of their own code imports `bandwidth_async` alone."""
    assert f"{ROOT}.client" in named_from(ROOT)


@pytest.fixture(scope="module")
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a frozen program, or skip the test."""
    if not request.config.getoption("--full"):
        pytest.skip("the long form (make frozen) builds a program with PyInstaller")
    if find_spec("PyInstaller") is None:
        pytest.skip("PyInstaller is not installed: `make frozen` does that")
    folder = tmp_path_factory.mktemp("frozen")
    (folder / "start.py").write_text(CODE)
    built = subprocess.run(
        [sys.executable, "-m", "PyInstaller", *COLLECT, "--noconfirm", "--onedir", "start.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr[-5000:]
    return folder / "dist" / "start" / "start"


@pytest.fixture
def run(program: Path, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Return a function that runs the program on a sandbox of 150 conferences, and returns its output."""
    with serving(conferences=150, members=1, recordings=1) as bandwidth:
        environ = {**os.environ, **bandwidth.environ, "XDG_STATE_HOME": str(tmp_path)}

        def run_program(command: str) -> str:
            finished = subprocess.run(
                [program, *command.split()],
                env=environ,
                cwd=tmp_path,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert finished.returncode == 0, (command, finished.stderr)
            return finished.stdout

        yield run_program


@pytest.mark.timeout(600)
def test_every_command_of_a_frozen_program(
    run: Callable[..., str], program: Path, tmp_path: Path, show: Callable[[str], None]
) -> None:
    """Each does its work, and the journal of a run is kept, listed, printed and resumed."""
    ids = [line.split('"')[3] for line in run("list --format jsonl").splitlines()]
    first, call = ids[0], run(f"members {ids[0]} --format jsonl").split('"')[3]
    recording = run(f"recordings {first} --format jsonl").split('"')[3]
    (tmp_path / "ids.txt").write_text("\n".join(ids[2:]))
    (tmp_path / "bye.xml").write_text("<Bxml><SpeakSentence>Bye</SpeakSentence></Bxml>")
    commands = [
        *(f"{command} {first} {call}" for command in ("mute", "unmute", "hold", "unhold")),
        *(f"get {first}", f"announce {first} --bxml bye.xml", f"redirect {ids[1]} https://example.com/bxml"),
        *(f"download {first} {recording} --output a.wav", f"end {first}", f"wait {first}"),
        *("end --from ids.txt --yes --journal run.journal", "runs", "outcomes run.journal"),
        *("resume run.journal", "report run.journal --output run.html", "demo --conferences 20"),
    ]
    for command in commands:
        run(command)
    assert run("outcomes run.journal").count('"ended"') == len(ids) - 2
    with subprocess.Popen([program, "sandbox"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("# sandbox with")
        server.terminate()
    assert server.returncode in {0, -15, 143}
    tried = {command.split()[0] for command in commands} | {"list", "members", "recordings", "sandbox"}
    assert tried == COMMANDS.keys()
    show(f"{len(tried)} commands of a program of {size(program.parent) / 2**20:.0f} MiB")


def size(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
