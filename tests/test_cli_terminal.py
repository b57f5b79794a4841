"""What reaches a terminal, a file and a spreadsheet: nothing that any of them would obey."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import json
import logging
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async import Journal, Outcome, OutcomeKind
from bandwidth_async.cli import formats, logs, main, run_names, terminal
from bandwidth_async.cli.live import LiveView
from bandwidth_async.cli.run import resume_command
from bandwidth_async.sandbox import Sandbox
from tests.test_cli import ended, feed, rows, sandbox, served, use
from tests.test_cli_progress import Fed, Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["sandbox"]

COMMAND = [sys.executable, "-m", "bandwidth_async"]
EVIL = "a\x1b]0;pwn\x07\x1b[31m\u009b\u202e\tb\udcff"
ESCAPED = r"a\x1b]0;pwn\x07\x1b[31m\x9b\u202e\tb\udcff"
ACCOUNT = {"BW_ACCOUNT_ID": "1", "BW_CLIENT_ID": "a", "BW_CLIENT_SECRET": "b"}


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ACCOUNT.items():
        monkeypatch.setenv(name, value)


async def _one_refused(path: Path, ids: list[str], account: str = "1") -> None:
    async with Journal.create(path, account_id=account) as journal:
        await journal.record(ids)
        task = next(journal.unsettled())
        await journal.claim(task)
        outcome = Outcome(
            task.conference_id, OutcomeKind.REFUSED, 1, '=HYPERLINK("x")', 0.1, ("@SUM(1)", "c-2")
        )
        await journal.settle(task, outcome)


def test_a_sentence_has_nothing_that_a_terminal_obeys() -> None:
    """What does not print is escaped, blanks stay as they are, and a complaint of several lines stays one."""
    assert terminal.shown(f"  {EVIL}  x\n{EVIL}") == f"  {ESCAPED}  x\n{ESCAPED}"
    assert terminal.one_line("a\nb") == r"a\nb"


@given(st.text(st.characters()))
def test_no_text_gets_through_to_the_terminal(text: str) -> None:
    """Each line of a sentence is printable, and there are as many as before."""
    lines = terminal.shown(text).split("\n")
    assert all(map(str.isprintable, lines))
    assert len(lines) == text.count("\n") + 1


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize(
    "arguments",
    [
        ["outcomes", EVIL],
        ["resume", EVIL],
        ["end", "a", "--from", EVIL],
        ["end", "a", "--output", f"/nowhere{EVIL}/x"],
        ["end", "a", "--journal", f"/nowhere{EVIL}/x"],
        ["end", EVIL],
        ["get", EVIL],
        ["end", "a", f"--{EVIL}"],
        [EVIL],
        ["announce", "conf-1", "--bxml", EVIL],
        ["download", "conf-1", "r-1", "--output", f"/nowhere{EVIL}/x"],
        ["list", "--created-after", EVIL],
        ["sandbox", "--faults", EVIL],
    ],
)
def test_no_argument_moves_the_terminal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is wrong with it, the complaint shows it escaped."""
    assert main(arguments) != 0
    out, err = capsys.readouterr()
    assert err.startswith("bandwidth-async: ")
    assert (out + err).replace("\n", "").isprintable()


@pytest.mark.usefixtures("account")
async def test_no_foreign_journal_moves_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither its account nor its file's name."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    state = tmp_path / "bandwidth-async"
    state.mkdir()
    await _one_refused(state / f"{EVIL}.journal", ["a"], account=f"9{EVIL[:-1]}")
    (state / f"empty{EVIL}.journal").touch()
    await _in_a_thread(["runs"], ["resume", str(state / f"{EVIL}.journal")])
    out, err = capsys.readouterr()
    assert (out + err).replace("\n", "").isprintable()
    assert "of account 9" in err


async def _in_a_thread(*commands: list[str]) -> None:
    """Run commands beside this test's event loop, as they start their own."""
    import asyncio  # noqa: PLC0415 - for this one helper

    for command in commands:
        await asyncio.to_thread(main, command)


def test_the_log_of_verbose_moves_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With -v, records of the log are shown as sentences are."""
    log = logging.getLogger("bandwidth_async")

    def outcomes(*_: object) -> list[Path]:
        log.warning("said %s\nand so on", EVIL)
        raise click.UsageError("no")

    monkeypatch.setattr(run_names, "paths_of", outcomes)
    assert main(["-v", "outcomes", "nothing"]) == 6
    assert f"bandwidth_async: said {ESCAPED}\nand so on\n" in capsys.readouterr().err


def test_the_log_of_verbose_goes_where_standard_error_goes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A live view takes what is written to standard error while it lasts, so that it appears above it."""
    taken = io.StringIO()

    def outcomes(*_: object) -> list[Path]:
        with contextlib.redirect_stderr(taken):
            logging.getLogger("bandwidth_async").warning("meanwhile")
        raise click.UsageError("no")

    monkeypatch.setattr(run_names, "paths_of", outcomes)
    assert main(["-v", "outcomes", "nothing"]) == 6
    assert "meanwhile" not in capsys.readouterr().err
    assert taken.getvalue().endswith(" bandwidth_async: meanwhile\n")


async def test_a_view_hears_of_the_retries_of_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts them, and shows what they met, though the command says none of them."""
    state, screen = Fed(10).state, Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with click.Context(click.Command("end")), logs.spoken():
        logs.hush()
        with LiveView(state):
            told = {"met": "answered 503", "took": 0.1, "pause": 3.0, "failures": 1, "most": 5}
            logging.getLogger("bandwidth_async.retry").debug("again", extra=told)
    assert (state.retries, state.latest_reasons(2)) == (1, [("answered 503", 1)])
    assert "trying again" not in screen.getvalue()


@pytest.mark.parametrize("name", ["my  runs/a.journal", "it's", f"{EVIL}'\\.journal", "caf\u00e9 \u3000x\n1"])
def test_the_command_that_resumes_can_be_pasted(name: str) -> None:
    """A shell reads the very path from it, and nothing in it moves a terminal."""
    command = resume_command(Path(name))
    assert command.isprintable()
    script = f'set -- {command}; printf %s "$3"'
    done = subprocess.run(["/bin/bash", "-c", script], capture_output=True, check=True)
    assert done.stdout == os.fsencode(name)


@pytest.mark.parametrize("columns", ["0", "1", "20", "100"])
async def test_a_row_on_a_terminal_is_what_was_written(monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    """No emoji, no markup, and all of it whatever the width."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm")
    row = '{"conference_id": "a:bomb:b[red]c[/red]", "error": "' + "word " * 30 + '"}'
    with LiveView(Fed(10).state) as shown:
        assert shown.print_line(row)
    assert f"{row}\n" in screen.getvalue()


class _Gone(Terminal):
    """A terminal whose window is closed after a while."""

    closed_now = False

    def write(self, text: str) -> int:
        if self.closed_now:
            raise OSError(5, "Input/output error")
        return super().write(text)

    def flush(self) -> None:
        if self.closed_now:
            raise OSError(5, "Input/output error")


async def test_the_view_outlives_its_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing it does fails, and it says that a line was not seen."""
    screen = _Gone()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with LiveView(Fed(10).state) as shown:
        assert shown.print_line("seen")
        screen.closed_now = True
        assert not shown.print_line("not seen")
        assert not shown.redraws
    assert terminal.say("not seen") is False


def test_a_terminal_that_goes_away_costs_no_exit_code(tmp_path: Path) -> None:
    """The rows are in the file, the summary is on standard output, and the exit code is the run's."""
    with served(conferences=120, quota="token-bucket:rate=100,burst=5") as stand_in:
        ids, output = tmp_path / "ids", tmp_path / "rows"
        ids.write_text("\n".join(stand_in.conference_ids))
        leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        arguments = ["end", "--from", str(ids), "--yes", "--format", "jsonl", "--output", str(output)]
        with subprocess.Popen(
            [*COMMAND, *arguments],
            env={**os.environ, **stand_in.environ, "TERM": "xterm"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=follower,
            text=True,
            # Without a terminal of its own it gets no SIGHUP, as after `disown`.
            start_new_session=True,
        ) as process:
            os.close(follower)
            while b"ending" not in os.read(leader, 65536):
                pass
            os.close(leader)
            summary, _ = process.communicate(timeout=30)
    assert (process.returncode, len(rows(output.read_text()))) == (0, 120)
    assert summary.startswith("120 conferences in ")


@pytest.mark.parametrize("ignored", [False, True])
def test_a_closed_window_stops_the_run_unless_nohup_says_otherwise(ignored: bool) -> None:
    """SIGHUP is heard as SIGTERM is, also twice: a row for each id, the summary, and 129."""
    with served(conferences=300, quota="token-bucket:rate=150,burst=5", hint="none") as stand_in:
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
        with subprocess.Popen(
            [*COMMAND, "end", *stand_in.conference_ids, "--yes", "--no-journal", "--format", "jsonl"],
            env={**os.environ, **stand_in.environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            signal.signal(signal.SIGHUP, before)
            assert process.stdout is not None
            first = process.stdout.readline()
            process.send_signal(signal.SIGHUP)
            process.send_signal(signal.SIGHUP)
            # Not `communicate`, which would lose rows that were read along with the first.
            out = process.stdout.read()
            assert process.stderr is not None
            err = process.stderr.read()
    said = rows(first + out)
    assert "300 conferences in " in err
    assert len(said) == 300
    assert process.returncode == (0 if ignored else 129)


# Files and spreadsheets


FORMULAS = ["=1+1", "@SUM(1,2)", "+1", "-2+3", "'=1", "''-1", "\uff1d1"]


async def test_no_cell_is_run_by_a_spreadsheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An apostrophe is in front of a formula in what others wrote; an id is never changed."""
    path = tmp_path / "a.journal"
    await _one_refused(path, FORMULAS)
    await _in_a_thread(["outcomes", str(path), "--format", "csv"], ["outcomes", str(path)])
    out = capsys.readouterr().out.splitlines()
    _, *cells = csv.reader(out[:8])
    assert [cell[0] for cell in cells] == FORMULAS
    assert (cells[0][3], cells[0][5]) == ('\'=HYPERLINK("x")', "@SUM(1) c-2")
    assert (cells[1][2], cells[1][4]) == ("0", "0.0")
    assert [json.loads(line)["conference_id"] for line in out[8:]] == FORMULAS


@given(st.text(st.characters().filter(lambda c: c.isprintable() and c != " "), min_size=1))
def test_a_cell_can_be_read_back(text: str) -> None:
    """Whatever prints comes back as it was, and the cell itself never begins like a formula."""
    line = formats.Csv(["key"]).row({"key": text})
    (cell,) = next(csv.reader([line]))
    assert cell[0] not in "=+-@"
    assert formats.plain_cell(cell) == text


def test_ordinary_ids_come_back_from_a_csv(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``outcomes --format csv | end --from -`` ends the very same ids."""
    path = tmp_path / "a.journal"
    assert main(["end", *sandbox.conference_ids, "--journal", str(path)]) == 0
    capsys.readouterr()
    assert main(["outcomes", str(path), "--format", "csv"]) == 0
    feed(monkeypatch, capsys.readouterr().out)
    assert main(["end", "--from", "-", "--dry-run"]) == 0
    assert capsys.readouterr().out.split()[1:] == sandbox.conference_ids


class _Counting(io.TextIOWrapper):
    flushes = 0

    def flush(self) -> None:
        self.flushes += 1
        super().flush()


@pytest.mark.parametrize(("in_bulk", "flushes"), [(False, 50), (True, 1)])
def test_rows_into_a_file_wait_for_each_other(tmp_path: Path, in_bulk: bool, flushes: int) -> None:
    """In bulk they are flushed once at the end; one by one otherwise."""
    with _Counting((tmp_path / "rows").open("wb")) as stream:
        writer = formats.Writer(stream, "jsonl", formats.OUTCOMES, in_bulk=in_bulk)
        before = stream.flushes
        for number in range(50):
            writer.write({"number": number})
        writer.flush()
        assert stream.flushes - before == flushes + (not in_bulk)


@pytest.mark.parametrize("command", ["outcomes", "end --dry-run"])
def test_rows_that_are_there_already_are_not_flushed_one_by_one(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Into a pipe neither: each flush is a call of the system, and nobody has to wait for the next row."""
    journal = tmp_path / "a.journal"
    assert (
        main(["end", *sandbox.conference_ids, "--journal", str(journal), "--output", os.devnull, "--force"])
        == 0
    )
    reading, writing = os.pipe()
    with _Counting(os.fdopen(writing, "wb")) as stream, os.fdopen(reading) as reader:
        before = stream.flushes
        monkeypatch.setattr(sys, "stdout", stream)
        arguments = [str(journal)] if command == "outcomes" else sandbox.conference_ids
        assert main([*command.split(), *arguments, "--format", "jsonl"]) == 0
        assert stream.flushes - before <= 3
        stream.close()
        written = [json.loads(line)["conference_id"] for line in reader]
    assert written == sandbox.conference_ids


def test_a_row_into_a_pipe_waits_for_none() -> None:
    """Whoever reads a pipe sees each row at once."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream, os.fdopen(reading) as reader:
        formats.Writer(stream, "jsonl", formats.OUTCOMES, in_bulk=True).write({"number": 1})
        assert reader.readline() == '{"number": 1}\n'


_SLOW = """
import os, sys, time
from pathlib import Path
from bandwidth_async.cli import formats, signals
path = Path(sys.argv[1]) if len(sys.argv) > 1 else None
formats._FLUSH_EVERY = 3600.0
with signals.handled(signals.interrupt), formats.open_output(path, force=False) as stream:
    writer = formats.Writer(stream, "jsonl", formats.OUTCOMES, in_bulk=True)
    for number in range(100):
        writer.write({"number": number})
    print("written", file=sys.stderr, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("redirected", [False, True])
def test_a_signal_costs_no_row(tmp_path: Path, number: signal.Signals, redirected: bool) -> None:
    """What was written is in the file, whoever opened it, and the exit code tells the signal."""
    output = tmp_path / "rows"
    named = [] if redirected else [str(output)]
    with (
        (tmp_path / ("rows" if redirected else "other")).open("w") as stdout,
        subprocess.Popen(
            [sys.executable, "-c", _SLOW, *named], stdout=stdout, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stderr is not None
        assert process.stderr.readline() == "written\n"
        process.send_signal(number)
        process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert len(rows(output.read_text())) == 100


# Streams that are closed


def _run(sandbox: Sandbox, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, **sandbox.environ, "PYTHON": sys.executable}
    command = ["/bin/bash", "-c", f'"$PYTHON" -m bandwidth_async {script}', "-", *words]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)


def test_audio_that_went_nowhere_is_not_told_to_be_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A closed standard output is wrong use, as a terminal is."""
    with served(conferences=1, recordings=1) as stand_in:
        use(stand_in, monkeypatch)
        (conference,) = stand_in.conference_ids
        (recording,) = stand_in.recording_ids(conference)
        done = _run(stand_in, 'download "$1" "$2" --output - >&-', conference, recording)
    assert done.returncode == 6
    assert "standard output is closed" in done.stderr


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ('announce "$1" --bxml - <&-', "cannot read BXML from standard input: it is closed"),
        (
            'redirect "$1" https://x.example/ --username me <&-',
            "there is no terminal to ask for the password",
        ),
    ],
)
def test_a_closed_standard_input_is_a_sentence(sandbox: Sandbox, script: str, why: str) -> None:
    """It is wrong use, and no message asks for a report."""
    done = _run(sandbox, script, sandbox.conference_ids[0])
    assert done.returncode == 6
    assert why in done.stderr
    assert "report" not in done.stderr


def test_a_file_that_cannot_take_the_last_row_is_told(sandbox: Sandbox) -> None:
    """Rows that waited for each other count as written only when they are."""
    done = _run(sandbox, "list --format jsonl >/dev/full")
    assert done.returncode == 1
    assert "No space left on device" in done.stderr


def test_a_hang_up_leaves_no_part_of_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed window ends a download as SIGTERM does."""
    with served(conferences=1, recordings=1, recording_size="400MB") as stand_in:
        use(stand_in, monkeypatch)
        (conference,) = stand_in.conference_ids
        (recording,) = stand_in.recording_ids(conference)
        with subprocess.Popen(
            [*COMMAND, "download", conference, recording],
            env={**os.environ, **stand_in.environ},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            for _ in _until(30):
                if any(tmp_path.iterdir()):
                    break
            process.send_signal(signal.SIGHUP)
            process.send_signal(signal.SIGHUP)
            process.communicate(timeout=20)
    assert process.returncode == 129
    assert list(tmp_path.iterdir()) == []


def _until(seconds: float) -> Iterator[None]:
    """Yield every few milliseconds for some seconds. Another process cannot be waited for otherwise."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("script", "code", "count"),
    [
        ('end "$@" >&-', 0, 10),
        ('end "$@" --output rows >&-', 0, 10),
        ('end "$@" 2>&-', 0, 10),
        ('end "$@" <&-', 0, 10),
        ('end "$@" <&- >&- 2>&-', 0, 10),
        ("end --all-active <&-", 6, 0),
        ("list >&-", 0, 0),
        ("list 2>&-", 0, 0),
        ('get "$1" >&-', 0, 0),
        ('redirect "$1" https://x.example/ >&-', 0, 0),
        ("--help >&-", 0, 0),
    ],
)
def test_a_closed_stream_is_no_fault_of_the_program(
    sandbox: Sandbox, folder: Path, script: str, code: int, count: int
) -> None:
    """The command does its work, and says if nobody gets the rows. Nothing is asked of nobody."""
    done = _run(sandbox, script, *sandbox.conference_ids)
    assert (done.returncode, len(ended(sandbox))) == (code, count)
    assert "Traceback" not in done.stderr
    rows = (
        script.endswith(">&-") and not script.startswith(("redirect", "--help")) and "--output" not in script
    )
    assert ("standard output is closed" in done.stderr) == (rows and "2>&-" not in script)


def test_nobody_is_asked_where_the_question_is_not_seen(sandbox: Sandbox, folder: Path) -> None:
    """Standard error is closed and standard input is a terminal: it does not wait for an answer."""
    leader, follower = pty.openpty()
    command = ["/bin/bash", "-c", f"exec {sys.executable} -m bandwidth_async end --all-active 2>&-"]
    done = subprocess.run(
        command, env={**os.environ, **sandbox.environ}, stdin=follower, check=False, timeout=60
    )
    os.close(leader)
    os.close(follower)
    assert (done.returncode, len(ended(sandbox))) == (6, 0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_opened_does_not_get_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """With all three streams closed, a file that is opened later is none of them."""
    seen = tmp_path / "seen"
    script = (
        "import os, sys; from bandwidth_async.cli import terminal; terminal.occupy_closed_streams();"
        "file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT); os.write(file, str(file).encode())"
    )
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", script, str(seen)]
    assert subprocess.run(closed, check=False).returncode == 0
    assert int(seen.read_text()) > 2
