"""Reports on the command line: ``end --report``, ``resume --report`` and ``report``."""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from bandwidth_async.cli import main, report_file
from bandwidth_async.errors import JournalError
from bandwidth_async.journal import describe
from tests.test_cli import ended, feed, requests, rows, served, start, use
from tests.test_cli_journal import FAST, finished, stopped_early
from tests.test_journal_timeline import earlier
from tests.test_report import Page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bandwidth_async.sandbox import Sandbox

SECRET, PASSWORD = "s3cr3t-of-the-client", "p4ssw0rd-of-the-user"


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Serve 30 conferences, and set the environment for them."""
    with served(conferences=30, client_secret=SECRET, password=PASSWORD) as stand_in:
        use(stand_in, monkeypatch)
        yield stand_in


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory where runs leave their journals by default."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "bandwidth-async"


def figures_on(path: Path) -> dict[str, str]:
    return Page.of(path.read_text(encoding="utf-8")).figures


def test_a_run_writes_its_report(
    sandbox: Sandbox, state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also one of few ids, which keeps a journal for it. The page names no secret."""
    path = tmp_path / "run.html"
    assert main(["end", *sandbox.conference_ids[:3], "--report", str(path), *FAST]) == 0
    assert f"report: {path}\n" in capsys.readouterr().err
    assert figures_on(path)["outcomes.ended"] == "3"
    text = path.read_text(encoding="utf-8")
    assert not any(secret in text for secret in (SECRET, PASSWORD, str(tmp_path)))
    (journal,) = state.glob("*.journal")
    assert journal.stem in text
    assert (sandbox.account_id in text, sandbox.url.partition("//")[2] in text) == (True, True)


def test_the_report_of_a_resume_is_that_of_the_whole_run(sandbox: Sandbox, tmp_path: Path) -> None:
    """It replaces the report of the first part. The suffix .json asks for the figures alone."""
    path, journal, ids = tmp_path / "run.html", tmp_path / "run.journal", sandbox.conference_ids
    stopped_early(journal, ids, "--report", str(path))
    before = int(figures_on(path)["settled"])
    assert 0 < before < 30
    assert main(["resume", str(journal), "--report", str(path), *FAST]) == 0
    assert figures_on(path)["settled"] == "30"
    assert main(["resume", str(journal), "--report", str(tmp_path / "run.json")]) == 0
    figures = json.loads((tmp_path / "run.json").read_text())
    assert figures["timeline"]["ids"] == figures["timeline"]["attempts"] == figures["attempts"] == 30
    assert len(figures["starts"]) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--no-journal", "--report", "r.html"], "--report and --no-journal: give one of them; a report"),
        (["--dry-run", "--report", "r.html"], "--report and --dry-run: give one of them; a report"),
        (["--report", "letter.txt"], "letter.txt exists and is not a report; choose another --report, or"),
        (["--report", "no/r.html"], "there is no directory no to put a report in"),
        (["--report", "."], ". is a directory; name a file for the report"),
        (["--report", "o.json", "--output", "o.json"], "o.json is the input, the journal or the output"),
        (["--report", "a.journal", "--journal", "a.journal"], "a.journal is the input, the journal or the"),
        (["--from", "ids.txt", "--report", "ids.txt", "--force"], "ids.txt is the input, the journal or the"),
    ],
)
def test_what_cannot_be_a_report_is_said_before_anything_is_sent(
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    """The exit code is that of wrong usage, and no file is changed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "letter.txt").write_text("Dear Sir")
    (tmp_path / "ids.txt").write_text(f"{sandbox.conference_ids[1]}\n")
    assert main(["end", sandbox.conference_ids[0], *arguments]) == 6
    assert sentence in capsys.readouterr().err
    assert requests(sandbox) == {}
    assert (tmp_path / "letter.txt").read_text() == "Dear Sir"


def test_force_replaces_what_is_there(sandbox: Sandbox, tmp_path: Path) -> None:
    """As for the output. An empty file, as mktemp makes one, needs none."""
    (tmp_path / "a.html").write_text("Dear Sir")
    (tmp_path / "b.html").touch()
    given = ["end", sandbox.conference_ids[0], *FAST]
    assert main([*given, "--report", str(tmp_path / "a.html"), "--force"]) == 0
    assert main([*given, "--report", str(tmp_path / "b.html")]) in {0, 3}
    assert figures_on(tmp_path / "a.html")["total"] == figures_on(tmp_path / "b.html")["total"] == "1"


def test_a_report_that_fails_at_the_end_changes_no_outcome(
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The run is told as it was. Only an exit code of 0 becomes 1. The report can be made afterwards."""

    def full(*_: object) -> str:
        raise JournalError("no space left")

    monkeypatch.setattr(report_file, "text_of", full)
    journal = tmp_path / "run.journal"
    given = ["--journal", str(journal), "--report", str(tmp_path / "r.html"), *FAST]
    assert main(["end", *sandbox.conference_ids[:2], *given]) == 1
    err = capsys.readouterr().err
    assert "2 ended" in err
    assert "there is no report: no space left" in err
    monkeypatch.undo()
    use(sandbox, monkeypatch)
    assert main(["report", str(journal), "--output", str(tmp_path / "r.html")]) == 0


def test_a_no_leaves_neither_journal_nor_report(
    sandbox: Sandbox, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was ended, so there is nothing to report."""
    feed(monkeypatch, "n\n", terminal=True)
    assert main(["end", "--all-active", "--report", str(tmp_path / "r.html")]) == 1
    assert (list(state.glob("*.journal")), (tmp_path / "r.html").exists()) == ([], False)
    assert ended(sandbox) == set()


def test_no_ids_are_a_report_too(sandbox: Sandbox, state: Path, tmp_path: Path) -> None:
    """A job that uploads the file finds it."""
    (tmp_path / "none.txt").write_text("# nothing today\n")
    path = tmp_path / "r.html"
    assert main(["end", "--from", str(tmp_path / "none.txt"), "--report", str(path)]) == 0
    assert "There were no conferences to end." in path.read_text(encoding="utf-8")
    assert len(list(state.glob("*.journal"))) == 1


def test_the_number_of_a_shard_is_in_the_name_of_its_report(sandbox: Sandbox, tmp_path: Path) -> None:
    """And all shards together make one report, which says which is missing."""
    (tmp_path / "ids.txt").write_text("\n".join(sandbox.conference_ids))
    for number in (0, 1):
        given = ["--journal", str(tmp_path / "{shard}.journal"), "--report", str(tmp_path / "{shard}.html")]
        shard = ["--shard", f"{number}/3", "--continue", "--yes"]
        assert main(["end", "--from", str(tmp_path / "ids.txt"), *given, *shard, *FAST]) == 0
        assert (tmp_path / f"{number}.html").exists()
    shards = [str(tmp_path / f"{number}.journal") for number in (0, 1)]
    assert main(["report", *shards, "--output", str(tmp_path / "all.json")]) == 1
    figures = json.loads((tmp_path / "all.json").read_text())
    assert figures["notes"] == ["shard 2/3 is not among these journals"]
    assert figures["settled"] == sum(describe(path).total for path in shards)


def test_report_to_standard_output(
    sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page by default, figures on request. A terminal gets no page."""
    journal = finished(tmp_path / "run.journal", sandbox.conference_ids[:2])
    capsys.readouterr()
    assert main(["report", str(journal)]) == 0
    assert Page.of(capsys.readouterr().out).figures["total"] == "2"
    assert main(["report", str(journal), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["total"] == 2
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["report", str(journal)]) == 6
    assert "add --output FILE.html" in capsys.readouterr().err


def test_report_of_a_run_by_its_name(sandbox: Sandbox, state: Path, tmp_path: Path) -> None:
    """As resume and outcomes take it."""
    assert main(["end", sandbox.conference_ids[0], "--report", str(tmp_path / "a.html"), *FAST]) == 0
    (journal,) = state.glob("*.journal")
    assert main(["report", journal.stem, "--output", str(tmp_path / "b.html")]) == 0
    assert figures_on(tmp_path / "a.html") == figures_on(tmp_path / "b.html")


def test_report_of_what_is_no_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence, the exit code of wrong usage, and no file."""
    (tmp_path / "letter.txt").write_text("Dear Sir")
    assert main(["report", str(tmp_path / "letter.txt"), "--output", str(tmp_path / "r.html")]) == 6
    assert "letter.txt is not a journal" in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()
    assert main(["report", str(tmp_path / "letter.txt"), "--output", str(tmp_path / "letter.txt")]) == 6
    assert (tmp_path / "letter.txt").read_text() == "Dear Sir"


def test_report_of_a_journal_of_an_earlier_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is not known is said."""
    earlier(tmp_path / "old.journal", 1)
    assert main(["report", str(tmp_path / "old.journal"), "--format", "json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["timeline"], figures["outcomes"]["not_attempted"], len(figures["notes"])) == (None, 2, 1)


def test_report_of_a_run_that_goes_on_and_of_one_that_was_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Until the kill the page says that it goes on. Afterwards all but the last second is there."""
    journal = tmp_path / "run.journal"
    with served(conferences=300) as stand_in:
        use(stand_in, monkeypatch)
        given = ["--all-active", "--yes", "--journal", str(journal), "--rate", "40"]
        with start(stand_in, "end", *given) as run:
            try:
                until_settled(journal, 60)
                assert main(["report", str(journal), "--format", "json"]) == 0
                going_on = json.loads(capsys.readouterr().out)
                assert main(["outcomes", str(journal), "--only", "unknown"]) == 0
                in_work, said = capsys.readouterr()
            finally:
                run.send_signal(signal.SIGKILL)
        assert "this run goes on: ids in work are shown as unknown" in said
        assert {row["error"] for row in rows(in_work)} == {"its answer is not recorded yet: the run goes on"}
        assert (going_on["going_on"], going_on["timeline"]["ids"] > 0) == (True, True)
        told = going_on["outcomes"]
        assert (told["unknown"], told["not_attempted"], going_on["troubles"]) == (0, 0, [])
        assert going_on["in_work"] + going_on["waiting"] + told["ended"] == going_on["total"] == 300
        assert going_on["waiting"] > 0
        assert main(["report", str(journal), "--format", "json"]) == 0
    killed = json.loads(capsys.readouterr().out)
    assert killed["notes"] == ["a process was killed, so the last second before that is not on the time line"]
    # 40 a second, and a write that was on its way.
    assert killed["settled"] - killed["timeline"]["ids"] <= 80
    assert killed["starts"][0]["ended"] is None
    assert killed["in_work"] + killed["waiting"] == 0
    assert killed["outcomes"]["unknown"] == killed["troubles"][0]["ids"] > 0


def until_settled(journal: Path, count: int) -> None:
    """Wait until this many ids are settled."""
    for _ in range(600):
        if journal.exists() and describe(journal).counts["ended"] >= count:
            return
        time.sleep(0.05)
    pytest.fail("the run does not go on")


def test_the_outcomes_on_standard_output_stay_alone(
    sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is said of the report goes to standard error, so that a pipe gets records alone."""
    path = tmp_path / "r.html"
    assert main(["end", sandbox.conference_ids[0], "--report", str(path), "--format", "jsonl", *FAST]) == 0
    assert len(rows(capsys.readouterr().out)) == 1
