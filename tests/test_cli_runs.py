"""Runs by the beginning of their names, the last run, and ``runs --prune``."""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from bandwidth_async import Journal, OutcomeKind
from bandwidth_async.cli import main, question
from bandwidth_async.outcome import Outcome
from tests.test_cli import rows, sandbox
from tests.test_cli_journal import FAST, incomplete, recorded_outcomes, state

if TYPE_CHECKING:
    from pathlib import Path

    from bandwidth_async.sandbox import Sandbox

__all__ = ["sandbox", "state"]

DAY = 86400.0


def journal(path: Path, *, days: float = 0, left: int = 0, account_id: str = "9900000") -> Path:
    """Leave the journal of a run of three ids that was begun some days ago. Some are left to be ended."""

    async def make() -> None:
        created = time.time() - days * DAY
        async with Journal.create(path, account_id=account_id, created=created) as made:
            await made.record([f"conf-{number}" for number in range(3)])
            for target in list(made.unsettled())[left:]:
                await made.claim(target)
                await made.settle(target, Outcome(target.conference_id, OutcomeKind.ENDED, 1, None, 0.1))

    path.parent.mkdir(parents=True, exist_ok=True)
    asyncio.run(make())
    return path


def names(folder: Path) -> list[str]:
    """Return the names of all files of the state directory, side files too."""
    return sorted(path.name for path in folder.iterdir() if path.is_file() or path.is_symlink())


# --- which run ------------------------------------------------------------------------------------------


def test_the_last_run_of_the_account_needs_no_name(
    sandbox: Sandbox, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """resume and outcomes say which it is. Runs of other accounts and files that are no journals are none."""
    journal(state / "20261101T000000Z-aaaaaa.journal", days=2)
    mine = journal(state / "20261102T000000Z-bbbbbb.journal", days=1, left=2)
    journal(state / "20261103T000000Z-cccccc.journal", account_id="1")
    (state / "20261104T000000Z-dddddd.journal").write_text("not a journal")
    assert main(["outcomes"]) == 0
    out, err = capsys.readouterr()
    assert len(rows(out)) == 3
    assert err.startswith(f"the last run of account 9900000: {mine.stem}, begun 20")
    assert main(["resume", *FAST]) == 0
    assert f"the last unfinished run of account 9900000: {mine.stem}, " in capsys.readouterr().err
    assert set(recorded_outcomes(mine).values()) == {"ended", "not_found"}


def test_outcomes_of_the_last_run_need_an_account_and_no_secret(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """--account says whose run it is. Without one, the sentence says what to set."""
    for name in ("BW_ACCOUNT_ID", "BW_CLIENT_ID", "BW_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    journal(state / "1.journal", account_id="7")
    assert main(["outcomes", "--account", "7"]) == 0
    assert len(rows(capsys.readouterr().out)) == 3
    assert main(["outcomes", "--account", "8"]) == 6
    assert f"account 8 has no run in {state}" in capsys.readouterr().err
    assert main(["outcomes"]) == 2
    assert "BW_ACCOUNT_ID is not set" in capsys.readouterr().err


def test_a_run_is_named_by_its_beginning(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If several begin so, they are listed. A whole name is never the beginning of another."""
    for name in ("20261101T000000Z-aaaaaa", "20261101T000000Z-abbbbb", "20261102T000000Z-aaaaaa", "20261102"):
        journal(state / f"{name}.journal")
    assert main(["outcomes", "20261102T"]) == 0
    assert main(["outcomes", "20261102"]) == 0
    capsys.readouterr()
    assert main(["outcomes", "20261101"]) == 6
    err = capsys.readouterr().err
    assert "2 runs begin with '20261101': 20261101T000000Z-aaaaaa, 20261101T000000Z-abbbbb" in err
    assert main(["outcomes", "2"]) == 6


# --- prune ----------------------------------------------------------------------------------------------


def test_prune_removes_the_journals_of_finished_runs_and_nothing_else(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other files stay, and so do unfinished runs. It lists what it removes and says what that frees."""
    done = [journal(state / f"{number}.journal", days=9 - number) for number in (1, 2)]
    journal(state / "half.journal", left=1)
    incomplete(state / "begun.journal")
    (state / "broken.journal").write_text("no journal")
    (state / "notes.txt").write_text("mine")
    # Side files of a run that was killed.
    (state / "2.journal-shm").write_bytes(b"")
    size = sum(path.stat().st_size for path in done)
    assert main(["runs", "--prune", "--yes", "--format", "jsonl"]) == 0
    out, err = capsys.readouterr()
    assert [row["run"] for row in rows(out)] == ["1", "2"]
    assert err.splitlines()[-1] == f"2 journals removed, {size / 1000:.0f} kB freed"
    assert "broken.journal" in err
    assert names(state) == ["begun.journal", "broken.journal", "half.journal", "notes.txt"]
    assert main(["runs", "--prune", "--yes", "--force"]) == 0
    assert names(state) == ["broken.journal", "notes.txt"]


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--older-than", "30d"], "0 1 2"),
        (["--older-than", "36h", "--keep", "0"], "0 1"),
        (["--keep", "1"], "0"),
        (["--keep", "3", "--older-than", "1h"], "0 1 2"),
        (["--keep", "9"], "0 1 2 40"),
        (["--dry-run"], "0 1 2 40"),
    ],
)
def test_prune_keeps_what_is_new(state: Path, options: list[str], left: str) -> None:
    """--older-than counts from the beginning of the run, and --keep the newest of those that could go."""
    for days in (0, 1, 2, 40):
        journal(state / f"{days}.journal", days=days)
    assert main(["runs", "--prune", "--yes", *options]) == 0
    assert {path.stem for path in state.iterdir()} == set(left.split())


def test_prune_follows_no_link(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A journal elsewhere stays, and so does the link. One that is named may be anywhere."""
    elsewhere = journal(tmp_path / "elsewhere.journal")
    state.mkdir(parents=True)
    (state / "link.journal").symlink_to(elsewhere)
    (state / "dead.journal").symlink_to(tmp_path / "none")
    assert main(["runs", "--prune", "--yes", "--force"]) == 0
    assert "link.journal stays: it is a symbolic link" in capsys.readouterr().err
    assert elsewhere.exists()
    assert names(state) == ["dead.journal", "link.journal"]
    assert main(["runs", str(elsewhere), "--prune", "--yes"]) == 0
    assert not elsewhere.exists()


def test_prune_leaves_what_is_in_use(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also with --force, and also if it came into use after the question."""
    path = journal(state / "1.journal", left=1)

    async def prune() -> int:
        async with Journal.open(path, account_id="9900000"):
            return await asyncio.to_thread(main, ["runs", "--prune", "--yes", "--force"])

    assert asyncio.run(prune()) == 0
    assert "nothing to remove" in capsys.readouterr().err
    assert path.exists()


@pytest.mark.parametrize(("answer", "code", "is_left"), [(True, 0, False), (False, 1, True), (None, 6, True)])
def test_prune_asks(
    state: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    answer: bool | None,
    code: int,
    *,
    is_left: bool,
) -> None:
    """On a terminal it asks. Where there is none it wants --yes."""
    path = journal(state / "1.journal", left=1)
    asked: list[str] = []

    def answered(sentence: str) -> bool | None:
        asked.append(sentence)
        return answer

    monkeypatch.setattr(question, "answers", lambda: nullcontext(answer is not None))
    monkeypatch.setattr(question, "ask", answered)
    assert main(["runs", "--prune", "--force"]) == code
    if answer is not None:
        assert asked[0].startswith("Remove 1 journal (")
        assert asked[0].endswith("Of these, 1 run cannot be resumed then.")
    assert path.exists() == is_left
    assert ("confirm with --yes" in capsys.readouterr().err) == (answer is None)


def test_options_of_prune_alone_are_refused(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever writes --older-than means something to go."""
    journal(state / "1.journal")
    assert main(["runs", "--older-than", "1d"]) == 6
    assert "go with --prune" in capsys.readouterr().err
