"""The signals that stop a command, in every phase of it, also where it is process 1 of a container."""

from __future__ import annotations

import asyncio
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bandwidth_async import Journal
from bandwidth_async.cli import event_loop, main, signals
from bandwidth_async.journal import describe
from tests.test_cli import ended, feed, sandbox, served, use

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bandwidth_async.sandbox import Sandbox

__all__ = ["sandbox"]

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
INTERRUPTED = "bandwidth-async: interrupted\n"
COMMAND = [sys.executable, "-m", "bandwidth_async"]
ACCOUNT = {"BW_ACCOUNT_ID": "1", "BW_CLIENT_ID": "a", "BW_CLIENT_SECRET": "b"}
# Runs a command line after the first argument, which is Python.
AFTER = """
import sys
from bandwidth_async.cli import main, signals
signals.leave_at_once()
exec(sys.argv[1])
sys.exit(main(sys.argv[2:]))
"""


@contextmanager
def silent_server() -> Iterator[tuple[dict[str, str], socket.socket]]:
    """Yield the environment for a server that takes connections and never answers, and its socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        yield {**os.environ, **ACCOUNT, "BW_VOICE_URL": url, "BW_API_URL": url}, listener


def started(
    command: Sequence[str], environ: dict[str, str], stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, env=environ, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def stopped(process: subprocess.Popen[str], number: signal.Signals, target: int | None = None) -> str:
    """Send a signal, and return what the process said on standard error until its end."""
    os.kill(target or process.pid, number)
    _, err = process.communicate(timeout=20)
    return err


@pytest.mark.parametrize("number", SIGNALS)
def test_a_command_that_is_being_loaded_stops(tmp_path: Path, number: signal.Signals) -> None:
    """The imports take most of the time of a short command, and a signal is heard meanwhile."""
    (tmp_path / "click.py").write_text(
        "import sys, time; print('loading', file=sys.stderr, flush=True); time.sleep(60)"
    )
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    process = started([*COMMAND, "list"], environ)
    assert process.stderr is not None
    assert process.stderr.readline() == "loading\n"
    assert stopped(process, number) == INTERRUPTED
    assert process.returncode == 128 + number


WAITING = [
    ["list"],
    ["get", "conf-1"],
    ["wait", "conf-1"],
    ["end", "--all-active", "--yes"],
    ["mute", "conf-1", "--all"],
    ["download", "conf-1", "r-1", "--output", "never.wav"],
]


@pytest.mark.parametrize("arguments", WAITING, ids=lambda words: words[0])
def test_a_command_that_waits_for_a_token_stops(arguments: list[str]) -> None:
    """A sentence says so, and the exit code is 143."""
    with silent_server() as (environ, listener):
        process = started([*COMMAND, *arguments], environ)
        with listener.accept()[0]:
            assert stopped(process, signal.SIGTERM) == INTERRUPTED
    assert process.returncode == 143


NAMESPACE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]


@pytest.mark.skipif(
    not shutil.which("unshare")
    or subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True).returncode != 0,
    reason="this machine makes no PID namespaces",
)
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("arguments", [WAITING[0], WAITING[2], WAITING[3]], ids=lambda words: words[0])
def test_process_1_of_a_container_stops(arguments: list[str], number: signal.Signals) -> None:
    """The kernel keeps every signal from it that has no handler."""
    with silent_server() as (environ, listener):
        process = started([*NAMESPACE, *COMMAND, *arguments], environ)
        with listener.accept()[0]:
            (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            assert stopped(process, number, int(child)) == INTERRUPTED
    assert process.returncode == 128 + number


def test_a_hang_up_that_is_ignored_stays_ignored() -> None:
    """This is how nohup works, for every command. SIGTERM stops it all the same."""
    with silent_server() as (environ, listener):
        process = started(["nohup", *COMMAND, "list"], environ)
        with listener.accept()[0]:
            process.send_signal(signal.SIGHUP)
            assert stopped(process, signal.SIGTERM).endswith(INTERRUPTED)
    assert process.returncode == 143


# Makes its standard input the terminal of a session of its own, and runs a command line there.
IN_A_SESSION = """
import fcntl, os, signal, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
if sys.argv[1] == "ignored":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, "-m", "bandwidth_async", *sys.argv[2:]])
"""


@pytest.mark.parametrize(
    ("before", "options", "code"),
    [
        ("heard", [], 129),
        ("heard", ["--on-hangup", "stop"], 129),
        ("heard", ["--on-hangup", "continue"], 0),
        ("ignored", [], 0),
        ("ignored", ["--on-hangup", "stop"], 0),
    ],
)
def test_a_run_whose_terminal_is_closed_stops_or_goes_on_as_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, before: str, options: list[str], code: int
) -> None:
    """Its rows go to that terminal and are lost. The journal has all that a resume needs."""
    journal = tmp_path / "run.journal"
    leader, follower = pty.openpty()
    with served(conferences=40) as stand_in:
        words = [
            "end",
            "--all-active",
            "--yes",
            "--rate",
            "20",
            "--journal",
            str(journal),
            "--format",
            "jsonl",
        ]
        process = subprocess.Popen(
            [sys.executable, "-c", IN_A_SESSION, before, *words, *options],
            env={**os.environ, **stand_in.environ},
            stdin=follower,
            stdout=follower,
            stderr=follower,
        )
        os.close(follower)
        seen = b""
        while b'"outcome": "ended"' not in seen:
            seen += os.read(leader, 65536)
        os.close(leader)
        assert process.wait(timeout=60) == code
        counts = describe(journal).counts
        assert counts["ended"] == len(ended(stand_in))
        if code:
            assert 0 < counts["ended"] < 40
            use(stand_in, monkeypatch)
            assert main(["resume", str(journal)]) == 0
        assert len(ended(stand_in)) == 40


def test_ctrl_c_at_the_question_is_a_signal(tmp_path: Path) -> None:
    """It exits 130. The end of the input does not: nobody interrupted it."""
    (tmp_path / "ids").write_text("".join(f"conf-{number}\n" for number in range(101)))
    leader, follower = pty.openpty()
    environ = {**os.environ, **ACCOUNT}
    process = started([*COMMAND, "end", "--from", str(tmp_path / "ids")], environ, stdin=follower)
    assert process.stderr is not None
    assert process.stderr.read(3) == "End"
    assert stopped(process, signal.SIGINT).endswith(INTERRUPTED)
    assert process.returncode == 130
    os.close(leader)
    os.close(follower)


def test_the_end_of_the_input_at_the_question_is_no_signal(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-D: nothing is ended, as after a no, and the sentence says what to do."""
    feed(monkeypatch, "", terminal=True)
    assert main(["end", "--all-active"]) == 1
    assert (
        "nothing was ended: the input ended without an answer; confirm with --yes" in capsys.readouterr().err
    )
    assert not ended(sandbox)


def test_the_end_of_the_input_at_the_password_is_no_signal(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is sent, and the sentence names the option."""

    def ends(_: str) -> str:
        raise EOFError

    feed(monkeypatch, "", terminal=True)
    monkeypatch.setattr("click.termui.hidden_prompt_func", ends)
    words = ["redirect", sandbox.conference_ids[0], "https://x.example/", "--username", "me"]
    assert main(words) == 6
    assert (
        "the input ended without a password: name its variable with --password-env" in capsys.readouterr().err
    )


# SQLite runs for ever, and hears no signal meanwhile.
ENDLESS = """
import sqlite3
from bandwidth_async.journal import file
def endless(*_):
    print("checking", file=sys.stderr, flush=True)
    query = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
    sqlite3.connect(":memory:").execute(query).fetchone()
file.check_content = endless
"""


@pytest.mark.parametrize("command", ["resume", "outcomes"])
def test_the_check_of_a_journal_stops(tmp_path: Path, command: str) -> None:
    """A check of millions of ids takes many seconds, and Ctrl-C is heard at once."""
    path = tmp_path / "a.journal"
    asyncio.run(_record(path))
    script = [sys.executable, "-c", AFTER, ENDLESS, command, str(path)]
    process = started(script, {**os.environ, **ACCOUNT})
    assert process.stderr is not None
    assert process.stderr.readline() == "checking\n"
    assert stopped(process, signal.SIGINT) == INTERRUPTED
    assert process.returncode == 130


async def _record(path: Path) -> None:
    async with Journal.create(path, account_id="1") as journal:
        await journal.record(["conf-1"])


def test_ctrl_c_while_ids_are_read_is_one_sentence(tmp_path: Path) -> None:
    """Nothing else appears, such as a complaint about a file that is closed too early."""
    (tmp_path / "ids").write_text("conf-1\nconf-2\n")
    patch = (
        "import signal; from bandwidth_async.cli import ids; "
        "ids.Ids.check = lambda *_: signal.raise_signal(signal.SIGINT)"
    )
    script = [sys.executable, "-c", AFTER, patch, "end", "--from", str(tmp_path / "ids")]
    process = started(script, {**os.environ, **ACCOUNT})
    assert process.communicate(timeout=30) == ("", INTERRUPTED)
    assert process.returncode == 130


def test_a_command_that_is_stuck_is_left(tmp_path: Path) -> None:
    """Nobody reads its output, and the pipe is full: it hears a signal, and cannot do what is left to do."""
    with served(conferences=2000) as stand_in:
        script = [sys.executable, "-c", AFTER, "signals._PATIENCE = 0.1", "list", "--format", "jsonl"]
        process = started(script, {**os.environ, **stand_in.environ})
        assert process.stdout is not None
        process.stdout.read(1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 143
        with process.stdout, process.stderr or process.stdout:
            assert process.stderr is not None
            assert process.stderr.read() == INTERRUPTED


def test_a_second_hang_up_within_the_first_is_not_heard() -> None:
    """Python calls a handler at any step of Python code, also at the first step of that handler."""
    heard: list[int] = []
    with signals.handled(heard.append):
        handler = signal.getsignal(signal.SIGHUP)
        assert callable(handler)
        for _ in range(2):
            handler(signal.SIGHUP, None)
        signal.signal(signal.SIGHUP, handler)
    assert heard == [signal.SIGHUP]


def test_what_was_there_before_is_there_again() -> None:
    """A program that calls the command line gets its own handlers back, and its alarm is left alone."""
    before = [signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)]
    assert main(["runs", "--format", "jsonl"]) == 0
    assert [signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)] == before


def test_a_signal_cancels_what_the_loop_does() -> None:
    """The exception has the exit code."""

    async def waits() -> None:
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(60)

    with pytest.raises(signals.Interrupted) as caught:
        event_loop.run(waits())
    assert caught.value.code == 143


def test_a_loop_without_signals_of_its_own_hears_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loops of Windows have no add_signal_handler."""

    def missing(*_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(asyncio.SelectorEventLoop, "add_signal_handler", missing)
    monkeypatch.setattr(event_loop, "_loop_factory", lambda: None)
    test_a_signal_cancels_what_the_loop_does()
