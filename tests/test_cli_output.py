"""What an operator reads: chosen outcomes, errors as JSON, retries, the log, and words that fit."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from bandwidth_async import OutcomeKind
from bandwidth_async.cli import choices, conferences, formats, logs, main, signals
from tests.test_cli import rows, sandbox, served, use
from tests.test_cli_journal import FAST, stopped_early

if TYPE_CHECKING:
    from pathlib import Path

    from bandwidth_async.sandbox import Sandbox

__all__ = ["sandbox"]

Captured = pytest.CaptureFixture[str]


def told(capsys: Captured) -> dict[str, Any]:
    """Return the one JSON object that is on standard error."""
    (found,) = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    return dict(found)


# Chosen outcomes


def test_only_some_outcomes_are_printed_and_all_are_counted(
    sandbox: Sandbox, tmp_path: Path, capsys: Captured
) -> None:
    """The rows are those of the kinds that were asked for; summary and exit code are of the whole run."""
    journal, ids = str(tmp_path / "a.journal"), [*sandbox.conference_ids[:3], "conf-unknown"]
    sandbox.plan("400", kind="end")
    asked = ["--only", "not_found,refused", "--only", "unknown", "--format", "jsonl"]
    assert main(["end", *ids, "--journal", journal, *asked]) == 1
    out, err = capsys.readouterr()
    assert {row["outcome"] for row in rows(out)} <= {"not_found", "refused"}
    assert "1 refused" in err
    assert "4 conferences in " in err
    shown = {row["conference_id"] for row in rows(out)}
    assert main(["outcomes", journal, *asked]) == 0
    assert {row["conference_id"] for row in rows(capsys.readouterr().out)} == shown
    assert 1 <= len(shown) <= 2


def test_only_chooses_the_rows_of_a_resume(sandbox: Sandbox, tmp_path: Path, capsys: Captured) -> None:
    """`resume` prints what was asked for of its own part."""
    journal = stopped_early(tmp_path / "a.journal", [*sandbox.conference_ids, "conf-unknown"])
    capsys.readouterr()
    assert main(["resume", str(journal), "--only", "not_found", "--format", "jsonl", *FAST]) == 0
    out, err = capsys.readouterr()
    assert {row["conference_id"] for row in rows(out)} <= {"conf-unknown"}
    assert " ended" in err


@pytest.mark.parametrize("command", [["end", "conf-1"], ["resume", "x"], ["outcomes", "x"]])
def test_a_mistyped_outcome_gets_a_suggestion(command: list[str], capsys: Captured) -> None:
    """Nothing is sent, and the kinds that there are stand beside what was meant."""
    assert main([*command, "--only", "ended,faild"]) == 6
    err = capsys.readouterr().err
    assert "'faild' is no outcome. Did you mean 'failed'?" in err
    assert "not_attempted" in err


def test_the_names_of_the_outcomes_are_those_of_the_library() -> None:
    """A Tab has no time to load them, so they are written down twice."""
    assert tuple(kind.value for kind in OutcomeKind) == choices.KINDS


# A repeated teardown


def test_a_teardown_may_be_repeated(sandbox: Sandbox, tmp_path: Path, capsys: Captured) -> None:
    """With --ignore-not-found the second run exits as the first did, and does not doubt the account."""
    ids, journal = sandbox.conference_ids[:3], tmp_path / "a.journal"
    again = ["end", *ids, "--ignore-not-found", "--quiet"]
    assert main(again) == 0
    assert main([*again, "--journal", str(journal)]) == 0
    assert capsys.readouterr().err == ""
    assert main(["resume", str(journal), "--ignore-not-found"]) == 0
    assert main(["end", *ids]) == 3
    assert main(["end", *ids, "--strict", "--ignore-not-found"]) == 6


def test_ignoring_what_is_not_found_ignores_nothing_else(sandbox: Sandbox) -> None:
    """A refused id is still a failure."""
    sandbox.plan("400", kind="end")
    assert main(["end", sandbox.conference_ids[0], "--ignore-not-found"]) == 1


# Quiet


def test_the_summary_of_a_quiet_run_appears_only_if_something_needs_a_look(
    sandbox: Sandbox, tmp_path: Path, capsys: Captured
) -> None:
    """A run without trouble says nothing at all; of another, the rows and the summary."""
    first, second, *_ = sandbox.conference_ids
    assert main(["end", first, "-q", "--output", str(tmp_path / "o.jsonl")]) == 0
    assert capsys.readouterr() == ("", "")
    sandbox.plan("400", kind="end")
    assert main(["end", second, "-q", "--output", str(tmp_path / "p.jsonl")]) == 1
    assert ": 1 refused" in capsys.readouterr().out
    assert main(["end", first, "-q"]) == 3
    assert "1 conference in " in capsys.readouterr().err


# Errors as JSON


@pytest.mark.parametrize("form", [["--format", "json"], ["--format=jsonl"]])
@pytest.mark.parametrize(
    ("command", "code", "error"),
    [
        (["list", "--limt", "3"], 6, "Did you mean"),
        (["list", "--limit", "no"], 6, "not a valid integer"),
        (["lst"], 6, "Did you mean 'list'?"),
        (["get"], 6, "Missing argument 'ID'"),
        (["get", "a/b"], 6, "is no conference id"),
        (["get", "conf-1"], 3, "answered 404"),
        (["outcomes", "no-run"], 6, "there is no file no-run"),
        (["end", "conf-1"], 3, "not one of 1 conference was found"),
        (["end", "no;id"], 6, "is no conference id"),
        (["mute", "conf-1", "c-1", "c-2"], 3, "2 of 2 members were not muted"),
    ],
)
def test_an_error_is_json_when_json_was_asked_for(
    sandbox: Sandbox, capsys: Captured, form: list[str], command: list[str], code: int, error: str
) -> None:
    """Whatever ends a command, standard error has one object with the sentence and the exit code."""
    assert main([*command, *form]) == code
    found = told(capsys)
    assert found == {"error": found["error"], "exit_code": code}
    assert error in found["error"]


def test_what_a_journal_says_has_its_reason_too(sandbox: Sandbox, tmp_path: Path, capsys: Captured) -> None:
    """A run that is over, and shards that are missing: no object says to look elsewhere."""
    journal = tmp_path / "j"
    assert main(["end", "conf-1", "conf-2", "--journal", str(journal), "--shard", "1/2"]) == 3
    capsys.readouterr()
    for command, code, reason in (
        ("resume", 3, "not one of 2 conferences was found"),
        ("resume --strict", 1, "not one of 2 conferences was found"),
        ("outcomes", 1, "shard 0/2 is not among these journals"),
        ("runs", 1, "shard 0/2 is not among these journals"),
    ):
        assert main([*command.split(), str(journal), "--format", "jsonl"]) == code
        found = json.loads(capsys.readouterr().err.splitlines()[-1])
        assert (found["exit_code"], reason in found["error"]) == (code, True), found


def test_the_help_names_the_default_format(capsys: Captured) -> None:
    """A command without --output does not speak of its suffix."""
    for command, default in (
        ("list", "table"),
        ("runs", "table"),
        ("outcomes", "by the suffix of --output, or jsonl"),
        ("end", "by the suffix of --output, or table"),
    ):
        assert main([command, "--help"]) == 0
        assert f"never an id. [default: {default}]" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("name", "code"), [("BW_ACCOUNT_ID", 2), ("BW_CLIENT_SECRET", 2)])
def test_missing_credentials_are_json_too(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: Captured, name: str, code: int
) -> None:
    """A program that has forgotten a variable can read which."""
    monkeypatch.delenv(name)
    assert main(["list", "--format", "json"]) == code
    found = told(capsys)
    assert found["exit_code"] == code
    assert name in found["error"]


def test_the_last_format_counts(sandbox: Sandbox, capsys: Captured) -> None:
    """As it does for the records; and a success has no object."""
    assert main(["get", "conf-1", "--format", "json", "--format", "table"]) == 3
    assert capsys.readouterr().err.startswith("bandwidth-async: get conference conf-1")
    assert main(["list", "--format", "json"]) == 0
    assert capsys.readouterr().err == ""


def test_an_interrupt_is_json_too(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """Ctrl-C in the middle of a listing: one object with the code of the signal."""

    async def interrupted(*_: object) -> None:
        raise signals.Interrupted(signal.SIGINT)

    monkeypatch.setattr(conferences, "_list", interrupted)
    assert main(["list", "--format", "jsonl"]) == 130
    assert told(capsys) == {"error": "interrupted", "exit_code": 130}


# Mistyped commands


@pytest.mark.parametrize(
    ("line", "meant"),
    [(["edn"], "end"), (["outcome"], "outcomes"), (["limit", "shwo"], "show"), (["LIST"], "list")],
)
def test_a_mistyped_command_gets_a_suggestion(line: list[str], meant: str, capsys: Captured) -> None:
    """So does one of a group, and one in capitals."""
    assert main(line) == 6
    assert f"No such command {line[-1]!r}. Did you mean {meant!r}?" in capsys.readouterr().err


def test_a_word_like_no_command_gets_none(capsys: Captured) -> None:
    """Only what is like a command is suggested."""
    assert main(["zzzzzz"]) == 6
    assert "No such command 'zzzzzz' (see" in capsys.readouterr().err


# Retries, and the log


def test_a_listing_that_is_tried_again_says_so(sandbox: Sandbox, capsys: Captured) -> None:
    """Nobody has to look at an empty screen; standard output stays as it is."""
    sandbox.plan("503", kind="list")
    assert main(["list", "--format", "json"]) == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)) == 10
    assert err.startswith("list conferences: answered 503")
    assert err.endswith("; trying again (2 of 5)\n")


def test_a_long_wait_has_its_time(capsys: Captured) -> None:
    """An attempt that took 15 s and a pause of 3 s are told as such; a short pause for a 429 is not."""
    logs._say_retry("list conferences: no response within the timeout", 15.02, 0.05, 1, 5)
    logs._say_retry("list conferences: answered 429", 0.01, 2.4, 0, 5)
    logs._say_retry("list conferences: answered 429", 0.01, 0.4, 0, 5)
    assert capsys.readouterr().err.splitlines() == [
        "list conferences: no response within the timeout, after 15 s; trying again (2 of 5)",
        "list conferences: answered 429; trying again in 3 s",
    ]


def test_a_quiet_or_running_command_does_not_talk_of_retries(sandbox: Sandbox, capsys: Captured) -> None:
    """The progress of a run has them, and --quiet wants none."""
    sandbox.plan("503", kind="end")
    assert main(["end", sandbox.conference_ids[0]]) == 0
    sandbox.plan("503", kind="list")
    assert main(["end", "--all-active", "--yes", "--quiet", "--no-journal"]) == 0
    assert "trying again" not in capsys.readouterr().err


@pytest.mark.parametrize("before", [True, False], ids=["before", "behind"])
@pytest.mark.parametrize(("verbose", "requests"), [("-v", False), ("-vv", True)])
def test_v_logs_retries_and_vv_every_request(
    sandbox: Sandbox, capsys: Captured, verbose: str, requests: bool, before: bool
) -> None:
    """Both are accepted before the command and behind it, and end with it."""
    sandbox.plan("503", kind="end")
    line = ["end", *sandbox.conference_ids[:2]]
    assert main([verbose, *line] if before else [*line, verbose]) == 0
    log = [one for one in capsys.readouterr().err.splitlines() if " bandwidth_async." in one]
    assert len([one for one in log if "answered 503" in one and "(attempt 1, 0." in one]) == 1
    assert any("204" in one for one in log) is requests
    assert logging.getLogger("bandwidth_async").level == logging.NOTSET


def test_the_log_goes_to_a_file_whatever_the_screen_shows(
    sandbox: Sandbox, tmp_path: Path, capsys: Captured
) -> None:
    """--log-file has every request, appends, and says why it cannot be written."""
    file = tmp_path / "a.log"
    for id_ in sandbox.conference_ids[:2]:
        assert main(["end", id_, "--log-file", str(file)]) == 0
    assert " bandwidth_async." not in capsys.readouterr().err
    text = file.read_text(encoding="utf-8")
    assert all(id_ in text for id_ in sandbox.conference_ids[:2])
    assert main(["--log-file", str(tmp_path / "no" / "a.log"), "list"]) == 6
    assert "cannot write to" in capsys.readouterr().err


def test_the_line_of_a_429_has_one_time(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    """It has the attempt, its latency, and until when the next one waits: once."""
    with served(conferences=1) as stand_in:
        use(stand_in, monkeypatch)
        stand_in.plan("429", kind="end")
        assert main(["end", stand_in.conference_ids[0], "-v"]) == 0
    (line,) = [
        one for one in capsys.readouterr().err.splitlines() if "answered 429" in one and "attempt" in one
    ]
    assert re.findall(r"([\d.]+) s\b", line)[1:] == ["1"]
    assert "try again in" not in line
    assert "(attempt 1, 0." in line


# Words


def test_the_summary_counts_429s_in_words_of_their_own(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """`refused` is an outcome. A rate of 0 and a plural of 1 are not said."""
    with served(conferences=1) as stand_in:
        use(stand_in, monkeypatch)
        stand_in.plan("429", kind="end")
        assert main(["end", stand_in.conference_ids[0]]) == 0
        err = capsys.readouterr().err
        assert "1 conference in " in err
        assert "2 requests, 1 of them answered 429, " in err
        assert not re.search(r"\b1 conferences", re.sub(r"[\d.]+ conferences a second", "", err))
        stand_in.plan("400", kind="end")
        assert main(["end", "conf-1"]) == 1
        assert "conferences a second" not in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--rate", "--start-rate"])
def test_a_rate_may_have_its_unit(sandbox: Sandbox, capsys: Captured, option: str) -> None:
    """10/s is 10; what is no rate is told in words of the command, not of Python."""
    assert main(["end", sandbox.conference_ids[0], option, "10/s"]) == 0
    capsys.readouterr()
    assert main(["end", "conf-1", option, "10 a minute"]) == 6
    assert "'10 a minute' is no rate" in capsys.readouterr().err


def test_a_listing_without_conferences_says_so(sandbox: Sandbox, capsys: Captured) -> None:
    """Standard error has the sentence, standard output what JSON has for nothing."""
    assert main(["list", "--name", "nobody", "--format", "json"]) == 0
    assert capsys.readouterr() == ("[\n]\n", "no conferences were found\n")


def test_nobody_reads_a_listing_any_more(tmp_path: Path) -> None:
    """``list | head -1`` ends as git does: quiet, with the code of SIGPIPE."""
    with served(conferences=2000) as stand_in:
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            [sys.executable, "-m", "bandwidth_async", "list"],
            env={**os.environ, **stand_in.environ, "XDG_STATE_HOME": str(tmp_path)},
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
        )
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


# Cells


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "'=1"])
def test_a_name_is_no_formula_and_an_id_is_never_changed(text: str) -> None:
    """An apostrophe goes in front of what others wrote. An id is copied, compared and sent."""
    line = formats.Csv(["conference_id", "name"]).row({"conference_id": text, "name": text})
    id_, name = next(csv.reader(io.StringIO(line)))
    assert name.startswith("'")
    assert id_ == text or not text.isprintable()


@pytest.mark.parametrize("columns", [80, 160])
def test_wide_characters_count_for_the_width_of_a_table(columns: int) -> None:
    """A name in Chinese takes two columns a character: the row still fits, and its id is whole."""
    from rich.cells import cell_len  # noqa: PLC0415 - for this test

    id_ = "conf-f2623bb7-7c79de7f-f7c2-4f4f-82df-4bec980c79f5"
    record = {
        "conference_id": id_,
        "created_time": "電話会議" * 3,
        "completed_time": None,
        "name": "電話会議" * 30,
        "tag": "x",
    }
    row = formats.Columns(formats.CONFERENCES.widths, columns).row(record)
    assert cell_len(row) <= columns
    assert row.startswith(f"{id_}  電話会議")
    assert row.endswith("…")
