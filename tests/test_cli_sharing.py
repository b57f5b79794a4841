"""Commands that share their rate: with those of this machine by themselves, and over Redis if asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bandwidth_async.cli import main
from bandwidth_async.cli.app import COMMANDS, cli
from bandwidth_async.cli.exit_codes import Exit
from bandwidth_async.sandbox import Sandbox
from tests.redis_server import needs_redis, redis_server
from tests.test_cli import rows, served, use

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such sockets in asyncio")

# They send nothing to Bandwidth, or only to a sandbox of their own.
WITHOUT_SHARE = {"profiles", "runs", "outcomes", "report", "completion", "man", "sandbox", "demo", "limit"}

PASSWORD = "hunter2"


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Sandbox]:
    """Serve conferences with a latency, and keep state in a directory of this test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("BW_REDIS_URL", raising=False)
    with served(conferences=600, latency="20-50ms") as stand_in:
        use(stand_in, monkeypatch)
        yield stand_in


def run(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start a command."""
    return subprocess.Popen(
        [sys.executable, "-m", "bandwidth_async", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **environment},
    )


def end(ids: list[str], *options: str, **environment: str) -> subprocess.Popen[str]:
    """Start a run."""
    return run("end", *ids, "--yes", "--no-journal", "--format", "jsonl", *options, **environment)


def finished(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    """Wait for a command and return what it wrote."""
    out, err = process.communicate(timeout=90)
    assert process.returncode == code, err
    return out, err


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - WITHOUT_SHARE))
def test_every_command_that_sends_can_share(name: str) -> None:
    """And each can have a rate of its own."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    options = {option for parameter in command.params for option in parameter.opts}
    assert {"--share", "--no-share"} <= options


def test_runs_on_one_machine_share_the_rate_and_say_so(sandbox: Sandbox) -> None:
    """Two runs find each other by the state directory, and each says that it has a neighbour."""
    ids = sandbox.conference_ids
    runs = [end(part, "--start-rate", "40") for part in (ids[:150], ids[150:300])]
    for one in runs:
        out, err = finished(one)
        assert len(rows(out)) == 150
        assert "1 other run of this account on this machine shares the rate\n" in err


def test_a_run_alone_says_nothing(sandbox: Sandbox) -> None:
    """Nor does one that does not share, or that keeps to a rate of its own."""
    ids = sandbox.conference_ids
    neighbour = end(ids[:100], "--start-rate", "20")
    time.sleep(1.0)
    for part, options in ((ids[300:330], ["--no-share"]), (ids[330:360], ["--rate", "100"])):
        _, err = finished(end(part, *options))
        assert "share" not in err
    _, err = finished(neighbour)
    assert "share" not in err


def test_share_and_no_share_exclude_each_other(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """The usage error says to give one."""
    assert main(["end", "conf-1", "--share", "redis://127.0.0.1", "--no-share"]) == Exit.USAGE
    assert "--share and --no-share: give one of them" in capsys.readouterr().err


def test_a_state_directory_that_cannot_be_used_changes_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    """Nobody asked for the neighbours, so that they cannot be found is worth no word."""
    (tmp_path / "file").touch()
    out, err = finished(end(sandbox.conference_ids[:3], XDG_STATE_HOME=str(tmp_path / "file")))
    assert len(rows(out)) == 3
    assert err.count("\n") == 2


def test_a_redis_that_is_gone_is_said_once_without_its_password(sandbox: Sandbox) -> None:
    """The run goes on alone, and exits as it would without."""
    url = f"redis://:{PASSWORD}@127.0.0.1:1/0"
    out, err = finished(end(sandbox.conference_ids[:20], "--share", url))
    assert len(rows(out)) == 20
    assert err.count("the limit shared over redis://127.0.0.1:1/0 is out of reach") == 1
    assert "goes on alone" in err
    assert PASSWORD not in out + err


@pytest.mark.parametrize("url", [f"redis://:{PASSWORD}@host:port", f"other://:{PASSWORD}@host"])
def test_a_url_that_cannot_be_used_is_a_usage_error_that_does_not_quote_it(
    url: str, sandbox: Sandbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By option and by environment."""
    assert main(["get", sandbox.conference_ids[0], "--share", url]) == Exit.USAGE
    monkeypatch.setenv("BW_REDIS_URL", url)
    assert main(["get", sandbox.conference_ids[0]]) == Exit.USAGE
    assert PASSWORD not in capsys.readouterr().err
    assert main(["get", sandbox.conference_ids[0], "--no-share"]) == 0


@needs_redis
def test_runs_share_a_rate_over_redis(sandbox: Sandbox, tmp_path: Path) -> None:
    """Both keep to one rate, whether the option or the environment names the store."""
    with redis_server(tmp_path) as server:
        ids = sandbox.conference_ids
        began = time.monotonic()
        runs = [
            end(ids[:100], "--rate", "40", "--share", server.url),
            end(ids[100:200], "--rate", "40", BW_REDIS_URL=server.url),
        ]
        errors = [finished(one)[1] for one in runs]
        took = time.monotonic() - began
    assert all("1 other run of this account shares the rate\n" in err for err in errors)
    assert took >= 200 / 40 - 0.5


def test_an_operator_sees_and_sets_the_rate_of_runs_that_go_on(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """``limit set`` slows a run, ``limit show`` tells it, and ``auto`` lets it go."""
    assert main(["limit", "show", "--format", "jsonl"]) == 0
    before = json.loads(capsys.readouterr().out)
    assert (before["processes"], before["rate"], before["set"]) == (0, None, None)
    assert main(["limit", "set", "15"]) == 0
    assert "15 requests a second" in capsys.readouterr().err
    run = end(sandbox.conference_ids[:90], "--start-rate", "50")
    seen = {"processes": 0}
    until = time.monotonic() + 30
    while not seen["processes"]:
        assert time.monotonic() < until
        assert main(["limit", "show", "--format", "jsonl"]) == 0
        seen = json.loads(capsys.readouterr().out)
    assert (seen["processes"], seen["rate"], seen["set"]) == (1, 15, 15)
    assert main(["limit", "show"]) == 0
    assert "rate         15" in capsys.readouterr().out
    time.sleep(2.0)
    assert run.poll() is None
    assert main(["limit", "set", "auto"]) == 0
    finished(run)
    assert main(["limit", "show", "--format", "jsonl"]) == 0
    assert json.loads(capsys.readouterr().out)["set"] is None


@pytest.mark.parametrize("rate", ["0", "-1", "inf", "nan", "fast"])
def test_a_rate_that_is_none_is_a_usage_error(
    rate: str, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is set then."""
    assert main(["limit", "set", "--", rate]) == Exit.USAGE
    assert "requests per second, or auto" in capsys.readouterr().err


def test_an_operator_hears_that_the_store_is_out_of_reach(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command fails, and the password is not shown."""
    for command in (["show"], ["set", "5"]):
        assert main(["limit", *command, "--share", f"redis://:{PASSWORD}@127.0.0.1:1"]) == Exit.GENERAL
        err = capsys.readouterr().err
        assert "redis://127.0.0.1:1 is out of reach" in err
        assert PASSWORD not in err
