"""The question before an irreversible act, its plan, what is known of other runs, and ``whoami``."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import pty
import subprocess
import sys
import termios
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from bandwidth_async.cli import main
from bandwidth_async.cli.selection import Selection, age, moment
from tests.test_cli import ended, feed, requests, sandbox, served, use

if TYPE_CHECKING:
    from bandwidth_async.sandbox import Sandbox

__all__ = ["sandbox"]

CONTEXT, OPTION = click.Context(click.Command("end")), click.Option(["--older-than"])


@pytest.fixture(autouse=True)
def _own_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each test has the runs of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def host_of(stand_in: Sandbox) -> str:
    return stand_in.url.removeprefix("http://")


# --- the question ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("hang_up", [True, False])
def test_the_question_names_account_host_ages_and_calls(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, hang_up: bool
) -> None:
    """Who says yes knows what it means. ``--hang-up`` is another question."""
    feed(monkeypatch, "n\n", terminal=True)
    assert (
        main(["end", "--all-active", "--older-than", "1m", *["--hang-up"] * hang_up, "--format", "csv"]) == 1
    )
    out, err = capsys.readouterr()
    title, which, created, members, question = err.splitlines()
    count = title.split()[1]
    assert title == f"End {count} conferences of account 9900000 at {host_of(sandbox)}"
    assert which.startswith("  which: active, created before 20")
    assert which.endswith(" UTC (1m ago)")
    assert created.startswith("  created: 20")
    assert " UTC (oldest) to 20" in created
    assert created.endswith(" UTC (newest)")
    calls = "are hung up too" if hang_up else "go on (--hang-up would end them)"
    assert members == f"  members: ejected; their calls {calls}"
    too = " and hang up their calls" if hang_up else ""
    # Whoever answers ends the line.
    assert question == f"End {count} conferences{too}? [y/N]: bandwidth-async: nothing was ended"
    # Not a blank of the prompt gets into the rows.
    assert out == ""


def test_a_dry_run_shows_the_same_plan(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Word for word."""
    words = ["end", "--all-active", "--created-before", "2100-01-01T00:00", "--hang-up"]
    feed(monkeypatch, "n\n", terminal=True)
    assert main(words) == 1
    asked = capsys.readouterr().err.splitlines()[:4]
    assert main([*words, "--dry-run"]) == 0
    assert capsys.readouterr().err.splitlines()[:4] == asked
    assert "  which: active, created before 2100-01-01 00:00:00 UTC (no zone given, so UTC)" in asked
    assert not ended(sandbox)


def test_a_dry_run_of_given_ids_says_what_it_did_not_look_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may have ended. Without credentials there is no account."""
    for name in ("BW_ACCOUNT_ID", "BW_CLIENT_ID", "BW_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    assert main(["end", "conf-1", "--dry-run"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "End 1 conference; account and host are not known",
        "  members: ejected; their calls go on (--hang-up would end them)",
        "dry run: 1 conference would be ended; none was (whether they are active was not looked up)",
    ]


@pytest.mark.parametrize(("answer", "code", "count"), [("y", 0, 10), ("n", 1, 0)])
def test_behind_a_pipe_the_terminal_is_asked(answer: str, code: int, count: int) -> None:
    """``list | end --all-active`` has no standard input to answer by, but somebody sits there."""
    with served(conferences=10) as stand_in:
        leader, follower = pty.openpty()

        def in_a_session() -> None:
            os.setsid()
            fcntl.ioctl(follower, termios.TIOCSCTTY, 0)

        process = subprocess.Popen(
            [sys.executable, "-m", "bandwidth_async", "end", "--all-active"],
            env={**os.environ, **stand_in.environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=follower,
            preexec_fn=in_a_session,  # noqa: PLW1509 - this process has no other threads that hold locks
        )
        os.close(follower)
        seen = b""
        while b"[y/N]:" not in seen:
            seen += os.read(leader, 1000)
        os.write(leader, f"{answer}\n".encode())
        assert process.wait(30) == code
        os.close(leader)
        assert len(ended(stand_in)) == count


# --- other runs -----------------------------------------------------------------------------------------


def _many(path: Path) -> list[str]:
    path.write_text("".join(f"conf-{number}\n" for number in range(120)))
    return ["end", "--from", str(path)]


def test_the_same_input_begun_before_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """By a sentence, in the question too. It never stops a command that was told yes."""
    words = _many(tmp_path / "ids.txt")
    with served(conferences=0) as stand_in:
        use(stand_in, monkeypatch)
        assert main([*words, "--yes", "--rate", "1", "--deadline", "0.1s"]) == 5
        assert "has this input" not in capsys.readouterr().err
        (journal,) = (tmp_path / "state" / "bandwidth-async").glob("*.journal")
        # The next run may begin in the same second.
        journal = journal.rename(journal.with_name("20261101T000000Z-aaaaaa.journal"))
        sentence = f"run {journal.stem} has this input, 1"
        (tmp_path / "ids.txt").rename(tmp_path / "copy.txt")
        again = ["end", "--from", str(tmp_path / "copy.txt")]
        feed(monkeypatch, "n\n", terminal=True)
        assert main(again) == 1
        told = next(line for line in capsys.readouterr().err.splitlines() if sentence in line)
        assert told.endswith(f" are left: go on with bandwidth-async resume {journal.stem}")
        assert main([*again, "--yes", "--rate", "9000"]) == 3
        assert sentence in capsys.readouterr().err
        assert main([*again, "--dry-run"]) == 0
        told = " ".join(capsys.readouterr().err.split())
        assert "had this input and settled all of it: see bandwidth-async outcomes 20" in told
        (tmp_path / "copy.txt").write_text("conf-other\n")
        assert main([*again, "--dry-run"]) == 0
        assert "this input" not in capsys.readouterr().err


def test_a_run_of_the_account_under_way_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Before the yes. A run of another account is nobody's business."""
    with served(conferences=120, latency="20") as slow:
        process = subprocess.Popen(
            [sys.executable, "-m", "bandwidth_async", *_many(tmp_path / "ids.txt"), "--yes"],
            env={**os.environ, **slow.environ},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr is not None
            run = process.stderr.readline().strip().rpartition("/")[2].removesuffix(".journal")
            with served(conferences=3) as stand_in, served(conferences=3, account_id="55") as other:
                use(stand_in, monkeypatch)
                assert main(["end", "--all-active", "--dry-run"]) == 0
                assert f"  run {run} is under way in this account\n" in capsys.readouterr().err
                use(other, monkeypatch)
                assert main(["end", "--all-active", "--dry-run"]) == 0
                assert "under way" not in capsys.readouterr().err
        finally:
            process.kill()
            process.communicate()


# --- the input ------------------------------------------------------------------------------------------


def test_a_dash_is_standard_input(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in every Unix tool, beside other ids too."""
    first, second, *_ = sandbox.conference_ids
    feed(monkeypatch, f"{first}\n")
    assert main(["end", second, "-"]) == 0
    assert ended(sandbox) == {first, second}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-", "--from", "-"], "standard input can be read once: give - as an argument or with --from -"),
        (["-", "-"], "standard input can be read once"),
        (["-", "--all-active"], "leave out ids and --from"),
        (
            ["conf-1", "conf-ids.txt"],
            "conf-ids.txt is a file and no conference id; did you mean --from conf-ids.txt?",
        ),
        (["./my ids"], "./my ids is a file and no conference id; did you mean --from './my ids'?"),
        (["conf-1", "--column", "id"], "--column names a column of the file that --from reads"),
        (["--all-active", "--older-than", "4"], "'4' is not an age: write 90m, 4h, 2d or 1h30m"),
        (["--all-active", "--created-after", "soon"], "'soon' is not a time; write 2026-11-22"),
        (["--all-active", "--older-than", "1h", "--created-before", "2d"], "say the same: give one of them"),
        (["conf-1", "--older-than", "1h"], "--older-than, --created-before and --created-after go with"),
        (["conf-1", "--journal", "-"], "- is a stream; name a file for the journal"),
        (["conf-1", "--journal", "-", "--continue"], "- is a stream; name a file for the journal"),
        (["conf-1", "--report", "-"], "--report needs a file, as the outcomes go to standard output"),
        (["conf-1", "--log-file", "-"], "name a file; -v logs to standard error"),
    ],
)
def test_what_is_not_meant_is_refused_before_anything_is_sent(
    sandbox: Sandbox,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: list[str],
    sentence: str,
) -> None:
    """One sentence with the remedy, exit 6."""
    monkeypatch.chdir(tmp_path)
    for name in ("conf-ids.txt", "my ids"):
        (tmp_path / name).write_text(f"{sandbox.conference_ids[0]}\n")
    assert main(["end", *words]) == 6
    assert sentence in capsys.readouterr().err
    assert requests(sandbox) == {}


def test_an_id_is_no_file_even_where_one_has_its_name(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Somebody keeps notes in files named after conferences."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / sandbox.conference_ids[0]).touch()
    assert main(["end", sandbox.conference_ids[0]]) == 0


def test_a_column_of_a_spreadsheet_is_ended(sandbox: Sandbox, tmp_path: Path) -> None:
    """``--column`` by header, as Excel writes it in half of the world."""
    first = sandbox.conference_ids[0]
    (tmp_path / "e.csv").write_text(f'sep=;\r\n"Name";"Meeting Room"\r\n"a, b";"{first}"\r\n;;\r\n')
    assert main(["end", "--from", str(tmp_path / "e.csv"), "--column", "meeting room"]) == 0
    assert ended(sandbox) == {first}


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("conf-1\nconf-2\n", ""),
        ("Conference ID;Name\nconf-1;x\n", " (column 'Conference ID')"),
        ('{"name": "x", "id": "conf-1"}\n', " (key 'id')"),
        ('[{"conferenceId": "conf-1"}]', " (key 'conferenceId')"),
    ],
)
def test_the_plan_names_where_the_ids_came_from(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, column: str
) -> None:
    """The file, and which column or key of it. A wrong one is seen before anything is ended."""
    path = tmp_path / "e"
    path.write_text(text)
    assert main(["end", "conf-7", "--from", str(path), "--dry-run"]) == 0
    assert f"from: 1 argument, {path}{column}\n" in capsys.readouterr().err.replace("\n    ", " ")


@pytest.mark.parametrize("how", [["--dry-run"], ["--yes"], ["--yes", "--journal", "j"]])
def test_an_input_without_ids_is_named(
    sandbox: Sandbox,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    how: list[str],
) -> None:
    """An empty export is found at once among several, and a shard without ids is said to be one."""
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").write_text("# nothing\n")
    assert main(["end", "--from", "empty.txt", *how]) == 0
    assert "there are no conferences to end: empty.txt has no ids\n" in capsys.readouterr().err
    Path("j").unlink(missing_ok=True)
    assert main(["end", "conf-1", "--shard", "0/2", *how]) == 0
    assert "there are no conferences to end: none is of shard 0/2\n" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["--dry-run", "--yes"])
def test_a_choice_that_nothing_meets_is_told_as_it_was_understood(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    """A time in the wrong zone is a likely reason."""
    assert main(["end", "--all-active", "--created-before", "2001-01-01T12:00", how]) == 0
    told = "there are no conferences to end: none that is active is created before 2001-01-01 12:00:00 UTC"
    assert f"{told} (no zone given, so UTC)\n" in capsys.readouterr().err


# --- times ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90m", 5400),
        ("4h", 14400),
        ("2d", 172800),
        ("1h30m", 5400),
        ("1d 2h", 93600),
        ("0.5H", 1800),
        ("250ms", 0.25),
    ],
)
def test_an_age_is_a_time_before_now(text: str, seconds: float) -> None:
    """Days, hours, minutes and seconds, one or several of them."""
    for read in (age, moment):
        found = read(CONTEXT, OPTION, text)
        assert found is not None
        ago = datetime.now(UTC) - timedelta(seconds=seconds) - found.at
        assert timedelta() <= ago < timedelta(seconds=5)


@pytest.mark.parametrize("text", ["", "4", "4w", "-4h", "h", "4h30", "1e3h", "99999999999d", "4h ago"])
def test_anything_else_is_no_age(text: str) -> None:
    """A number alone may be of any unit."""
    with pytest.raises(click.BadParameter):
        age(CONTEXT, OPTION, text)


def test_a_time_without_a_zone_is_utc_and_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the machine is."""
    monkeypatch.setenv("TZ", "America/New_York")
    naive, aware = (moment(CONTEXT, OPTION, text) for text in ("2026-11-27T12:00", "2026-11-27T12:00-05:00"))
    assert Selection(created_before=naive, created_after=aware, name="x").in_words() == (
        "named x, created after 2026-11-27 17:00:00 UTC, "
        "created before 2026-11-27 12:00:00 UTC (no zone given, so UTC)"
    )


def test_a_scheduler_may_start_an_age_again(sandbox: Sandbox, tmp_path: Path) -> None:
    """``--continue --older-than 1m`` means another time at each start, and is the same command."""
    journal = str(tmp_path / "run.journal")
    words = ["end", "--all-active", "--older-than", "1m", "--yes", "--continue", "--journal", journal]
    assert main([*words, "--rate", "1", "--deadline", "0.1s"]) == 5
    assert main(words) == 0
    assert len(ended(sandbox)) >= 9


# --- whoami ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv"])
def test_whoami_names_account_user_and_host(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    """It proves them by one read, and never shows the secret."""
    assert main(["whoami", "--format", form]) == 0
    out, err = capsys.readouterr()
    if form == "table":
        found = dict(line.split() for line in out.splitlines())
    else:
        found = next(csv.DictReader(io.StringIO(out))) if form == "csv" else json.loads(out)
    host = host_of(sandbox)
    assert found == {"account_id": "9900000", "user": "sandbox-client", "host": host, "token_host": host}
    assert "secret" not in out + err
    assert requests(sandbox) == {"token": {"200": 1}, "list": {"200": 1}}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"BW_ACCOUNT_ID": "12"},
            "account 12 is closed to the user sandbox-client: list conferences: answered 401",
        ),
        ({"BW_CLIENT_SECRET": "sesame"}, " refuses the user sandbox-client: "),
        ({"BW_CLIENT_ID": ""}, "BW_CLIENT_ID is not set"),
    ],
)
@pytest.mark.usefixtures("sandbox")
def test_whoami_says_what_does_not_belong_together(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    sentence: str,
) -> None:
    """It exits 2, with one sentence."""
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    assert main(["whoami"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), sentence in err) == ("", 1, True)
    assert "sesame" not in err


def test_whoami_of_a_forbidden_account_exits_2(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """A 403 too, whatever its words, and a 404."""
    for status in ("403", "404"):
        sandbox.plan(status, times=9)
        assert main(["whoami"]) == 2
        assert "account 9900000 is closed to the user sandbox-client" in capsys.readouterr().err
