"""What a shell is told: the completion of bash, zsh and fish, and the manual page."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

from bandwidth_async.cli import main
from bandwidth_async.cli.app import COMMANDS, cli

if TYPE_CHECKING:
    from pathlib import Path

# What a Tab, --help and a wrong option need not load: each of them takes longer than the rest.
HEAVY = {"aiohttp", "asyncio", "attr", "cattrs", "logging", "rich", "sqlite3", "tenacity", "yarl"}


def tab(line: str, state: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Press Tab behind a line, in bash."""
    return subprocess.run(
        [sys.executable, *options, "-m", "bandwidth_async"],
        env={
            **os.environ,
            "_BANDWIDTH_ASYNC_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split(" ")) - 1),
            "XDG_STATE_HOME": str(state),
        },
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Make a state directory with two runs."""
    directory = tmp_path / "bandwidth-async"
    directory.mkdir()
    for name in ("20261122T081500Z-3fa9c1.journal", "20261123T081500Z-0a0b0c.journal", "notes.txt"):
        (directory / name).touch()
    return tmp_path


RUNS = ["plain,20261123T081500Z-0a0b0c", "plain,20261122T081500Z-3fa9c1"]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("bandwidth-async out", ["plain,outcomes"]),
        ("bandwidth-async limit s", ["plain,set", "plain,show"]),
        ("bandwidth-async completion z", ["plain,zsh"]),
        ("bandwidth-async resume ", RUNS),
        ("bandwidth-async outcomes 20261122", RUNS[1:]),
        ("bandwidth-async -v runs 20261122T081500Z-3fa9c1 20261123", RUNS[:1]),
        ("bandwidth-async resume old/a.jour", ["file,old/a.jour"]),
        ("bandwidth-async end --from ids", ["file,ids"]),
        ("bandwidth-async end --output o", ["file,o"]),
        ("bandwidth-async announce conf-1 --bxml b", ["file,b"]),
        ("bandwidth-async list --format js", ["plain,json", "plain,jsonl"]),
        ("bandwidth-async end --only failed,un", ["plain,failed,unknown"]),
        ("bandwidth-async end --only failed,fai", []),
        ("bandwidth-async end --ignore", ["plain,--ignore-not-found"]),
        ("bandwidth-async end conf-1 --log", ["plain,--log-file"]),
    ],
)
def test_a_tab_offers_what_may_stand_there(line: str, offered: list[str], state: Path) -> None:
    """Commands, options, formats, outcomes, runs of the state directory, or files."""
    done = tab(line, state)
    assert (done.stdout.split("\n"), done.stderr) == ([*offered, ""] if offered else ["", ""], "")


@pytest.mark.parametrize(
    "line", [*(f"bandwidth-async {name} --" for name in COMMANDS), "bandwidth-async resume 2"]
)
def test_a_tab_loads_little(line: str, state: Path) -> None:
    """A Tab has 0.15 s of processor time, of which click takes more than half."""
    loaded = re.findall(r"\| +([\w.]+)$", tab(line, state, "-X", "importtime").stderr, re.MULTILINE)
    assert "click" in loaded
    assert {name.partition(".")[0] for name in loaded} & HEAVY == set()


def test_a_missing_state_directory_offers_files(tmp_path: Path) -> None:
    """There is nothing to say, and no error."""
    done = tab("bandwidth-async resume x", tmp_path / "none")
    assert (done.stdout, done.stderr) == ("file,x\n", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is valid where the shell is there to say so."""
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"_BANDWIDTH_ASYNC_COMPLETE={shell}_complete" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_bash_completes_with_the_script(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """bash itself, with the script and two words."""
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    words = "COMP_WORDS=(bandwidth-async resume 20261122); COMP_CWORD=2"
    ask = f"{words}; _bandwidth_async_completion bandwidth-async; echo ${{COMPREPLY[*]}}"
    path = state / "bin"
    path.mkdir()
    (path / "bandwidth-async").write_text(f'#!/bin/sh\nexec {sys.executable} -m bandwidth_async "$@"\n')
    (path / "bandwidth-async").chmod(0o755)
    done = subprocess.run(
        [shutil.which("bash") or "bash", "-c", f"{script}\n{ask}"],
        env={**os.environ, "XDG_STATE_HOME": str(state), "PATH": f"{path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "20261122T081500Z-3fa9c1\n"


def commands(group: click.Group, parent: click.Context) -> list[click.Context]:
    """Return a context of each command of a group, and of those in it."""
    found = []
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        assert command is not None
        context = click.Context(command, parent=parent, info_name=name)
        found += [context, *(commands(command, context) if isinstance(command, click.Group) else ())]
    return found


def test_the_manual_page_has_each_command_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    """It is made from the help, so nothing is left out."""
    assert main(["man"]) == 0
    page = capsys.readouterr().out.replace("\\-", "-")
    assert page.startswith(".TH BANDWIDTH-ASYNC 1 ")
    for context in commands(cli, click.Context(cli, info_name="bandwidth-async")):
        assert f".SS {context.command_path.partition(' ')[2]} " in page
        for option in context.command.params:
            if isinstance(option, click.Option):
                assert option.opts[0] in page
    assert "Exit codes: 0 ok" in page


def test_the_manual_page_renders_without_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    """groff says nothing of it, and what is shown keeps its columns."""
    if not shutil.which("groff"):
        pytest.skip("groff is not there")
    assert main(["man"]) == 0
    page = capsys.readouterr().out
    done = subprocess.run(
        [shutil.which("groff") or "groff", "-man", "-Tutf8", "-ww", "-rLL=78n"],
        input=page,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    text = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout)
    assert "already_ended  it is over, but perhaps not through this run" in text
    assert "'shard-{shard}.journal' --continue" in text
