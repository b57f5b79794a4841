"""Runs with a journal on the command line: ``end``, ``resume``, ``runs`` and ``outcomes``."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

import click
import pytest
from attrs import define

from bandwidth_async import Journal, RetryPolicy, Timeouts, VoiceClient
from bandwidth_async.cli import end, journals, main, run, runs, terminal
from bandwidth_async.cli.progress import display
from bandwidth_async.errors import JournalError
from bandwidth_async.journal import last_settings, read_outcomes
from bandwidth_async.journal.facts import Part, read_facts
from bandwidth_async.sandbox import Sandbox
from tests.test_cli import ended, feed, requests, rows, served, start, use
from tests.test_cli_progress import Fed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from bandwidth_async.models import Conference

KEYS = ["conference_id", "outcome", "attempts", "error", "elapsed", "calls_ended"]
FAST = ("--rate", "5000")
HURRY = Timeouts(attempt=0.3)


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Serve 120 conferences of two members each, and set the environment for them."""
    with served(conferences=120, members="2") as stand_in:
        use(stand_in, monkeypatch)
        yield stand_in


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory where runs leave their journals by default."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "bandwidth-async"


def file_of(folder: Path, ids: Sequence[str]) -> str:
    """Write the ids to a file and return its name."""
    (folder / "ids.txt").write_text("".join(f"{id_}\n" for id_ in ids))
    return str(folder / "ids.txt")


def printed_outcomes(text: str) -> dict[str, str]:
    """Return the outcome of each id, from JSON lines."""
    return {row["conference_id"]: row["outcome"] for row in rows(text)}


def recorded_outcomes(path: Path) -> dict[str, str]:
    """Return the outcome of each id, from the journal."""
    return {outcome.conference_id: str(outcome.kind) for outcome in read_outcomes(path)}


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def execute(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement, values)


def finished(path: Path, ids: Sequence[str]) -> Path:
    """End the ids with a journal, and return the journal."""
    main(["end", *ids, "--yes", "--journal", str(path), *FAST])
    return path


def stopped_early(path: Path, ids: Sequence[str], *arguments: str) -> Path:
    """Start a run that ends only some of the ids, and return its journal."""
    given = ["--journal", str(path), "--yes", "--rate", "20", "--deadline", "300ms", *arguments]
    assert main(["end", *ids, *given]) == 5
    return path


def incomplete(path: Path) -> Path:
    """Leave a journal like that of a run that was killed while it recorded its input."""

    async def begin() -> None:
        async with Journal.create(path, account_id="9900000", created=time.time()):
            pass

    asyncio.run(begin())
    return path


# The journal agrees with the server


def test_what_a_silent_server_may_have_ended_is_never_said_to_be_active(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The server ends conferences without a response. Their ids are unknown, and already_ended later."""
    journal = tmp_path / "run.journal"
    given = VoiceClient.from_env
    monkeypatch.setattr(VoiceClient, "from_env", partial(given, timeouts=HURRY, retry=RetryPolicy()))
    with served(conferences=150, faults="hang-after=100%", seed=3) as silent:
        use(silent, monkeypatch)
        ids = silent.conference_ids
        arguments = ["--yes", "--journal", str(journal), "--rate", "60", "--format", "jsonl"]
        assert main(["end", "--from", file_of(tmp_path, ids), *arguments]) == 1
        out, err = capsys.readouterr()
        told, over = printed_outcomes(out), ended(silent)
    assert (told, "stopped early: Bandwidth never answered" in err) == (recorded_outcomes(journal), True)
    assert told.keys() == set(ids)
    assert len(over) > 1
    assert {told[id_] for id_ in over} == {"unknown"}
    # A server that only is slow gets the time that it needs.
    monkeypatch.setattr(VoiceClient, "from_env", given)
    with served(conferences=150, seed=3) as healthy:
        use(healthy, monkeypatch)
        assert main(["end", *over, "--no-journal", "--yes", *FAST]) == 0
        assert main(["resume", str(journal), *FAST]) == 0
    expected = {id_: "already_ended" if id_ in over else "ended" for id_ in ids}
    assert recorded_outcomes(journal) == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_a_resume_hangs_up_as_its_run_did(
    sandbox: Sandbox, number: signal.Signals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--hang-up is in the journal, so the resume hangs up every call and names it."""
    journal, ids = tmp_path / "run.journal", sandbox.conference_ids[:30]
    sandbox.plan("503", times=2, kind="hang-up")
    words = ["--hang-up", "--journal", str(journal), "--rate", "60", "--format", "jsonl"]
    process = start(sandbox, "end", *ids, *words)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(number)
    process.communicate(timeout=30)
    alive = set(sandbox.active_calls())
    assert alive & {call for id_ in ids for call in sandbox.call_ids(id_)}
    assert main(["resume", str(journal), *FAST]) == 0
    capsys.readouterr()
    assert main(["outcomes", str(journal)]) == 0
    hung_up = {row["conference_id"]: set(row["calls_ended"]) for row in rows(capsys.readouterr().out)}
    assert hung_up == {id_: set(sandbox.call_ids(id_)) for id_ in ids}
    assert not set(sandbox.active_calls()) & {call for calls in hung_up.values() for call in calls}


def test_a_resume_verifies_as_its_run_did(
    sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--verify is in the journal, so the resume reads back each conference that it ends."""
    ids = sandbox.conference_ids[:30]
    journal = stopped_early(tmp_path / "run.journal", ids, "--verify")
    before = requests(sandbox)["get"]["200"]
    capsys.readouterr()
    assert main(["resume", str(journal), "--format", "jsonl", *FAST]) == 0
    told = Counter(printed_outcomes(capsys.readouterr().out).values())
    assert told["ended"] > 20
    assert requests(sandbox)["get"]["200"] - before == told["ended"]


def test_a_resume_may_be_told_to_do_more(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """--hang-up of a resume counts for what it ends. The next resume hangs up the calls that are left."""
    ids = sandbox.conference_ids[:30]
    journal = stopped_early(tmp_path / "run.journal", ids)
    settled = ended(sandbox)
    monkeypatch.setattr(VoiceClient, "from_env", partial(VoiceClient.from_env, retry=RetryPolicy(attempts=1)))
    sandbox.plan("503", kind="hang-up")
    assert main(["resume", str(journal), "--hang-up", *FAST]) == 1
    assert Counter(recorded_outcomes(journal).values()) == {"ended": 29, "failed": 1}
    assert main(["resume", str(journal), *FAST]) == 0
    alive = set(sandbox.active_calls())
    assert {id_ for id_ in ids if alive & set(sandbox.call_ids(id_))} == settled


@pytest.mark.parametrize(
    "cell", ["5", '"abc"', "[" * 990 + "]" * 990, '{"a": 1}', "[1, 2]", "null", '["a", null]']
)
def test_a_cell_that_is_no_list_of_calls_names_none(
    sandbox: Sandbox, cell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the journal was edited by hand, no call is hung up for that id, and nothing fails."""
    ids = sandbox.conference_ids[:30]
    journal = stopped_early(tmp_path / "run.journal", ids)
    execute(journal, "UPDATE conferences SET calls = ?, calls_ended = ?", cell, cell)
    capsys.readouterr()
    assert main(["resume", str(journal), *FAST]) == 0
    assert "hang-up" not in requests(sandbox)
    capsys.readouterr()
    assert main(["outcomes", str(journal)]) == 0
    assert [row["calls_ended"] for row in rows(capsys.readouterr().out)] == [[]] * 30


def test_records_have_the_keys_that_the_documentation_shows(
    sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The records of end, resume and outcomes, as JSON and as CSV, where blanks separate a list."""
    page = (Path(__file__).parents[1] / "docs" / "reference" / "outcomes.md").read_text(encoding="utf-8")
    shown = re.findall(r'`(\{"conference_id": "conf-1", "outcome".*\})`', page)[0]
    assert list(json.loads(shown)) == KEYS
    journal, id_ = tmp_path / "run.journal", sandbox.conference_ids[0]
    assert main(["end", id_, "--hang-up", "--journal", str(journal), "--format", "jsonl"]) == 0
    (record,) = rows(capsys.readouterr().out)
    assert (list(record), set(record["calls_ended"])) == (KEYS, set(sandbox.call_ids(id_)))
    assert main(["outcomes", str(journal)]) == 0
    assert rows(capsys.readouterr().out) == [record]
    assert main(["outcomes", str(journal), "--format", "csv"]) == 0
    header, row = csv.reader(io.StringIO(capsys.readouterr().out))
    assert header == KEYS
    assert row == [id_, "ended", "4", "", str(record["elapsed"]), " ".join(record["calls_ended"])]


def test_what_a_server_calls_a_call_reaches_no_terminal(
    sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Call ids come from the server, so CSV on standard output replaces control characters."""
    journal = finished(tmp_path / "run.journal", sandbox.conference_ids[:1])
    execute(journal, "UPDATE conferences SET calls_ended = ?", json.dumps(["c-1\x1b[2J", "c-2\ud800"]))
    output = tmp_path / "all.csv"
    capsys.readouterr()
    assert main(["outcomes", str(journal), "--format", "csv"]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith(",c-1 [2J c-2")
    assert main(["outcomes", str(journal), "--format", "csv", "--output", str(output)]) == 0
    assert main(["outcomes", str(journal), "--format", "jsonl", "--output", str(output), "--force"]) == 0
    assert rows(output.read_text())[0]["calls_ended"] == ["c-1\x1b[2J", "c-2\ud800"]


@pytest.mark.parametrize("gone_on_with", [False, True])
def test_a_few_that_may_have_been_there_do_not_hide_a_wrong_account(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    *,
    gone_on_with: bool,
) -> None:
    """A 404 after an attempt without a response proves nothing: exit 3 and a question."""
    journal, ids = tmp_path / "run.journal", [f"conf-{number}" for number in range(12)]
    with served(conferences=0) as stand_in:
        use(stand_in, monkeypatch)
        stand_in.plan("500", kind="end")
        if gone_on_with:
            stopped_early(journal, ids)
            assert "right account id" not in capsys.readouterr().err
            assert main(["resume", str(journal), *FAST]) == 3
        else:
            assert main(["end", *ids, "--journal", str(journal), *FAST]) == 3
    assert "is 9900000 the right account id (BW_ACCOUNT_ID)?" in capsys.readouterr().err
    assert Counter(recorded_outcomes(journal).values()) == {"not_found": 11, "already_ended": 1}


# Signals and streams


def summed_up(text: str) -> dict[str, int]:
    """Return the counts in the summary of a run, and their total."""
    found = re.search(r"([\d,]+) conferences in [\d.]+ s: (.*)", text)
    assert found, text
    counts = {
        word: int(number.replace(",", "")) for number, word in re.findall(r"(\d[\d,]*) (\w+)", found[2])
    }
    return {"total": int(found[1].replace(",", "")), **counts}


@pytest.mark.parametrize("recorded", [True, False], ids=["journal", "no journal"])
def test_two_signals_end_a_large_run_at_once(tmp_path: Path, *, recorded: bool) -> None:
    """Unsent ids get no rows, and the summary counts them. Sent ids are unknown and have rows."""
    journal, output = tmp_path / "run.journal", tmp_path / "out.jsonl"
    with served(conferences=2_000) as stand_in:
        stand_in.plan("hang-before", times=20, kind="end")
        ids = file_of(tmp_path, stand_in.conference_ids)
        kept = ["--journal", str(journal)] if recorded else ["--no-journal"]
        words = ["--yes", *kept, "--rate", "60", "--format", "jsonl", "--output", str(output)]
        process = start(stand_in, "end", "--from", ids, *words)
        while requests(stand_in).get("end", {}).get("hang-before", 0) < 20:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        # The second signal follows at once, while other requests wait in the limiter's queue.
        process.send_signal(signal.SIGTERM)
        # After the first signal alone, the command would wait for 10 s.
        out, err = process.communicate(timeout=8)
        counts = summed_up(out)
        attempted = 2_000 - counts["not_attempted"]
        # The server reads what was written at the moment of the end after it, or never.
        until = time.monotonic() + 2
        while (sent := sum(requests(stand_in)["end"].values())) < attempted and time.monotonic() < until:
            time.sleep(0.02)
        really_ended = ended(stand_in)
    told = printed_outcomes(output.read_text())
    by_word = Counter(told.values())
    assert process.returncode in {130, 143}  # whichever was delivered first
    assert counts.pop("total") == sum(counts.values()) == 2_000
    assert sent <= attempted
    # The twenty that hang, and what was sent and had no response yet when the signals came.
    assert counts.get("ended", 0) + 20 <= sent
    assert counts["unknown"] >= 20
    assert really_ended <= {id_ for id_, word in told.items() if word in {"ended", "unknown"}}
    # These ids waited in the limiter's queue when the first signal came.
    assert by_word.pop("not_attempted", 0) < 300
    assert by_word == {word: count for word, count in counts.items() if word != "not_attempted"}
    if recorded:
        assert f"resume with: bandwidth-async resume {journal}\n" in out
        assert Counter(recorded_outcomes(journal).values()) == counts
    assert "Traceback" not in err


def test_the_exit_code_outlives_who_listened(tmp_path: Path) -> None:
    """``end … --output FILE 2>&1 | head -1``, then Ctrl-C: it writes the outcomes and exits 130."""
    output = tmp_path / "out.jsonl"
    with served(conferences=300) as stand_in:
        words = ["end", "--all-active", "--yes", "--rate", "50", "--format", "jsonl", "--output", str(output)]
        with subprocess.Popen(
            [sys.executable, "-m", "bandwidth_async", *words],
            env={**os.environ, **stand_in.environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(b"journal: ")
            process.stdout.close()
            while len(ended(stand_in)) < 5:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 130
        assert len(printed_outcomes(output.read_text())) == 300


def test_a_line_that_nobody_reads_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed standard error must not stop a run."""
    with open("/dev/full", "w") as full:  # a device
        monkeypatch.setattr(sys, "stderr", full)
        assert not display(Fed(1).state).print_line("1 of 1")
        terminal.abandon(full)


def test_an_id_that_the_terminal_cannot_spell_is_escaped(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run goes on and writes a row for each id."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", shown := io.TextIOWrapper(written, encoding="ascii"))
    assert main(["end", "conf-\u00e9\u20ac", sandbox.conference_ids[0], *FAST]) == 0
    shown.flush()
    text = written.getvalue().decode("ascii")
    assert r"conf-\xe9\u20ac " in text
    assert len(text.splitlines()) == 3
    assert "unexpected" not in capsys.readouterr().err


# Before anything is sent


def test_an_interrupt_while_the_input_is_recorded_leaves_nothing_behind(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Nothing was sent and nothing can be resumed: it leaves no journal and no side file."""
    record = Journal.record

    async def interrupted(self: Journal, items: Any, **how: Any) -> object:
        signal.raise_signal(signal.SIGINT)
        return await record(self, items, **how)

    monkeypatch.setattr(Journal, "record", interrupted)
    folder = tmp_path / "journals"
    folder.mkdir()
    ids = file_of(tmp_path, sandbox.conference_ids)
    assert main(["end", "--from", ids, "--yes", "--journal", str(folder / "run.journal")]) == 130
    assert capsys.readouterr().err.strip() == "bandwidth-async: interrupted"
    assert (files_in(folder), requests(sandbox)) == ([], {})


def test_a_journal_that_cannot_take_the_input_leaves_nothing_behind(tmp_path: Path) -> None:
    """If the disk is full, one sentence says that nothing was ended. A limit on file sizes simulates it."""
    folder = tmp_path / "journals"
    folder.mkdir()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    with served(conferences=0) as stand_in:
        ids = file_of(tmp_path, [f"conf-{number:040}" for number in range(5000)])
        words = ["end", "--from", ids, "--yes", "--journal", str(folder / "run.journal")]
        process = start(stand_in, *words, preexec_fn=limit)
        out, err = process.communicate(timeout=30)
        assert requests(stand_in) == {}
    assert (process.returncode, out, files_in(folder)) == (1, "", [])
    assert re.fullmatch(
        r"bandwidth-async: \S+/run\.journal cannot be written: [^;]+; nothing was ended\n", err
    )


def test_an_incomplete_journal_is_not_written_over(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The error says to remove it, because nothing was sent. For a complete one it says how to resume."""
    begun = incomplete(tmp_path / "begun.journal")
    assert main(["end", "conf-1", "--journal", str(begun)]) == 6
    assert f"{begun} is the journal of a run that was stopped before it sent anything; remove it" in (
        capsys.readouterr().err
    )
    whole = finished(tmp_path / "a whole.journal", sandbox.conference_ids[:1])
    capsys.readouterr()
    assert main(["end", "conf-1", "--journal", str(whole)]) == 6
    assert f"{whole} exists; resume its run (bandwidth-async resume '{whole}')" in capsys.readouterr().err
    assert files_in(tmp_path) == ["a whole.journal", "begun.journal"]


@define
class Clock:
    """A clock that moves only when a test moves it."""

    now: float = 1000.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replace the clock of the commands."""
    made = Clock()
    for module in (end, journals, run, runs):
        fake = SimpleNamespace(monotonic=made.monotonic, time=time.time)
        monkeypatch.setattr(sys.modules[getattr(module, "__module__", module.__name__)], "time", fake)
    return made


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """Collect the deadlines of runs instead of running them."""
    seen: list[float | None] = []

    async def carry_out(_: VoiceClient, job: Any) -> int:
        seen.append(job.how.deadline)
        return 0

    for module in ("run",):
        monkeypatch.setattr(sys.modules[f"bandwidth_async.cli.{module}"], "carry_out", carry_out)
    return seen


@pytest.mark.parametrize(("kept", "expected"), [(True, 7.0), (False, 9.0)])
def test_the_time_of_the_listing_and_of_the_recording_counts_and_thinking_does_not(
    sandbox: Sandbox,
    clock: Clock,
    left: list[float | None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    kept: bool,
    expected: float,
) -> None:
    """Of --deadline 10s, 1 s of listing and 2 s of recording count, an hour at the prompt does not."""
    listing, record = VoiceClient.list_conferences, Journal.record

    def listed(self: VoiceClient, **words: Any) -> Any:
        clock.now += 1
        return listing(self, **words)

    async def recorded(self: Journal, items: Any, **how: Any) -> object:
        clock.now += 2
        return await record(self, items, **how)

    def agreed(*_: object, **__: object) -> bool:
        clock.now += 3600
        return True

    feed(monkeypatch, "", terminal=True)
    monkeypatch.setattr(VoiceClient, "list_conferences", listed)
    monkeypatch.setattr(Journal, "record", recorded)
    monkeypatch.setattr(click, "confirm", agreed)
    where = ["--journal", str(tmp_path / "run.journal")] if kept else ["--no-journal"]
    assert main(["end", "--all-active", "--deadline", "10s", *where]) == 0
    assert left == [pytest.approx(expected)]


def test_the_time_of_the_check_counts(
    sandbox: Sandbox,
    clock: Clock,
    left: list[float | None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The check of a journal counts for --deadline: with a million ids it takes seconds."""
    journal = tmp_path / "run.journal"
    assert main(["end", sandbox.conference_ids[0], "--journal", str(journal)]) == 0
    opening = Journal.open

    def opened(*words: Any, **named: Any) -> Journal:
        clock.now += 4
        return opening(*words, **named)

    monkeypatch.setattr(Journal, "open", opened)
    assert main(["resume", str(journal), "--deadline", "10s"]) == 0
    assert left == [None, pytest.approx(6.0)]


def test_the_output_is_never_the_journal_or_the_input(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Not under another name of the same file, and not with --force: the file stays as it is."""
    journal = stopped_early(tmp_path / "run.journal", sandbox.conference_ids[:30])
    ids = Path(file_of(tmp_path, sandbox.conference_ids[:2]))
    kept = {path: path.read_bytes() for path in (journal, ids)}
    new, before = tmp_path / "new.journal", requests(sandbox)
    (tmp_path / "new-link").symlink_to(new)
    for path in (journal, ids):
        (tmp_path / f"{path.name}-link").symlink_to(path)
        os.link(path, tmp_path / f"{path.name}-twin")
    names = [f"{journal}{end}" for end in ("", "-link", "-twin")]
    commands = [["resume", str(journal), "--output", name] for name in names]
    commands += [["outcomes", str(journal), "--output", name] for name in names]
    commands += [["end", "--from", str(ids), "--output", f"{ids}{end}"] for end in ("", "-link", "-twin")]
    commands += [["end", "--from", f"{ids}-link", "--dry-run", "--output", str(ids)]]
    commands += [
        ["end", "conf-1", "--journal", str(new), "--output", str(name)]
        for name in (new, tmp_path / "new-link")
    ]
    for command in commands:
        capsys.readouterr()
        assert main([*command, "--force"]) == 6, command
        assert "is the input or the journal; choose another --output" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (journal, ids)} == kept
    assert (new.exists(), requests(sandbox)) == (False, before)
    assert main(["resume", str(journal), *FAST]) == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--from", "-"], "cannot read ids from standard input: it is closed"),
        (["--all-active"], "nothing was ended: confirm with --yes to end "),
    ],
)
def test_a_closed_standard_input_is_a_sentence(
    sandbox: Sandbox,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    sentence: str,
) -> None:
    """Some schedulers close it, as ``<&-`` does."""
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["end", *arguments]) == 6
    assert sentence in capsys.readouterr().err
    assert "end" not in requests(sandbox)


def test_without_a_home_directory_there_is_a_sentence(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """``runs`` prints one sentence, and ``end`` also says what to do instead."""

    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    assert main(["runs"]) == 1
    sentence = "there is no home directory to keep journals in: set XDG_STATE_HOME"
    assert capsys.readouterr() == ("", f"bandwidth-async: {sentence}\n")
    assert main(["end", "--from", file_of(tmp_path, sandbox.conference_ids), "--yes"]) == 6
    instead = "; choose a file with --journal FILE, or keep no journal with --no-journal"
    assert f"{sentence}{instead}" in capsys.readouterr().err
    assert requests(sandbox) == {}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--dry-run", "--journal", "{folder}/new"], "--journal and --dry-run: give one of them"),
        (["--no-journal", "--journal", "{folder}/new"], "--journal and --no-journal: give one of them"),
        (["--journal", "{folder}"], "{folder} is a directory; name a file for the journal"),
        (["--journal", "{folder}/none/new"], "there is no directory {folder}/none to put a journal in"),
    ],
)
def test_a_journal_that_cannot_be_is_refused(
    sandbox: Sandbox,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    sentence: str,
) -> None:
    """It exits 6, sends nothing and creates no file."""
    words = [word.format(folder=tmp_path) for word in arguments]
    assert main(["end", sandbox.conference_ids[0], *words]) == 6
    assert sentence.format(folder=tmp_path) in capsys.readouterr().err
    assert (requests(sandbox), files_in(tmp_path)) == ({}, [])


# Where journals are


@pytest.mark.parametrize(
    ("count", "arguments", "kept"), [(100, [], 0), (101, [], 1), (101, ["--no-journal"], 0)]
)
def test_more_than_a_hundred_are_on_record(
    sandbox: Sandbox,
    state: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    count: int,
    arguments: list[str],
    kept: int,
) -> None:
    """The journal is in XDG_STATE_HOME's directory, only for its owner, and its name is printed."""
    ids = sandbox.conference_ids[:count]
    assert main(["end", "--from", file_of(tmp_path, ids), "--yes", *arguments, *FAST]) == 0
    err = capsys.readouterr().err
    found = list(state.iterdir()) if state.exists() else []
    assert ([f"journal: {path}\n" in err for path in found], len(found)) == ([True] * kept, kept)
    for path in found:
        assert (state.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)
        assert list(recorded_outcomes(path)) == ids


def test_one_is_on_record_when_that_is_wished(sandbox: Sandbox, state: Path, tmp_path: Path) -> None:
    """--journal FILE works for any number of ids, and leaves the state directory alone."""
    (id_,) = sandbox.conference_ids[:1]
    assert recorded_outcomes(finished(tmp_path / "mine", [id_])) == {id_: "ended"}
    assert not state.exists()
    assert ((tmp_path / "mine").stat().st_mode & 0o777, files_in(tmp_path)) == (0o600, ["mine"])


# Resuming


def test_a_run_is_gone_on_with_by_its_name_or_its_file(
    sandbox: Sandbox,
    state: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """``runs`` shows the name; an unknown name is one sentence."""
    state.mkdir(parents=True)
    ids = sandbox.conference_ids
    journal = stopped_early(state / "20261122T081500Z-3fa9c1.journal", ids[:30])
    capsys.readouterr()
    assert main(["outcomes", journal.stem]) == 0
    assert list(printed_outcomes(capsys.readouterr().out)) == ids[:30]
    assert main(["resume", journal.stem, *FAST]) == 0
    assert "nothing to do" not in capsys.readouterr().err
    monkeypatch.chdir(state)
    assert main(["resume", journal.name]) == 0
    assert "nothing to do" in capsys.readouterr().err
    for command in ("resume", "outcomes"):
        assert main([command, "20261122T0816"]) == 6
        sentence = f"there is no file 20261122T0816; there is no run '20261122T0816' in {state}"
        assert sentence in capsys.readouterr().err


def test_a_resume_takes_the_options_of_a_run(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It writes the outcomes of its own part, and its summary covers the whole run."""
    ids, output = sandbox.conference_ids[:30], tmp_path / "rest.jsonl"
    journal = stopped_early(tmp_path / "run.journal", ids)
    before = ended(sandbox)
    capsys.readouterr()
    how = ["--rate", "100", "--concurrency", "2", "--deadline", "30s", "--yes", "--format", "jsonl"]
    assert main(["resume", str(journal), *how, "--output", str(output)]) == 0
    assert printed_outcomes(output.read_text()) == {id_: "ended" for id_ in ids if id_ not in before}
    assert "in the whole run: 30 ended of 30\n" in capsys.readouterr().out
    assert main(["resume", str(journal), "--deadline", "soon"]) == 6


def test_a_resume_keeps_the_rate_of_its_run(
    sandbox: Sandbox, state: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Also the concurrency, and what an earlier resume was told. ``--start-rate`` has it found out again."""
    journal = tmp_path / "run.journal"
    begin = ["end", *sandbox.conference_ids[:30], "--journal", str(journal)]
    assert main([*begin, "--rate", "30", "--concurrency", "2", "--deadline", "300ms"]) == 5
    for options in ([], ["--rate", "20"], [], ["--start-rate", "20", "--concurrency", "3"], []):
        capsys.readouterr()
        assert main(["resume", str(journal), *options, "--deadline", "100ms"]) == 5
        assert ("at most" in capsys.readouterr().err) == (
            not options and journal_settings(journal)[0] is not None
        )
    how = [
        (part.facts["settings"]["rate"], part.facts["settings"]["concurrency"]) for part in parts_of(journal)
    ]
    assert how == [(30, 2), (30, 2), (20, 2), (20, 2), (None, 3), (None, 3)]


def parts_of(journal: Path) -> list[Part]:
    return read_facts(journal).parts or []


def journal_settings(journal: Path) -> tuple[float | None, float | None]:
    """Return the rate and the concurrency of the last part."""
    settings = last_settings(journal)
    return settings["rate"], settings["concurrency"]


def test_the_command_of_a_resume_connects_as_its_run_did(
    sandbox: Sandbox,
    state: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A file is named from anywhere. An option whose value may have a password is left out."""
    monkeypatch.chdir(tmp_path)
    Path("my @env").touch()
    journal = tmp_path / "run.journal"
    begin = ["end", *sandbox.conference_ids[:30], "--journal", str(journal), *FAST, "--deadline", "1ms"]
    where = ["--account", "9900000", "--env-file", "my @env", "--no-share", "--strict"]
    assert main([*begin, *where]) == 5
    env_file = f"--env-file '{tmp_path / 'my @env'}'"
    again = f"resume with: bandwidth-async resume {journal} --strict --account 9900000 {env_file} --no-share"
    told = capsys.readouterr().err
    assert sorted(again.split(" --")) == sorted(re.findall("resume with: .*", told)[0].split(" --"))
    begin[-4:] = ["--deadline", "1ms"]
    journal.unlink()
    assert main([*begin, "--proxy", "http://me:secret@127.0.0.1:9"]) == 5
    assert f"resume with: bandwidth-async resume {journal}\n" in capsys.readouterr().err


@pytest.mark.parametrize("piped", [False, True])
def test_a_run_that_cannot_sign_in_leaves_no_journal(
    sandbox: Sandbox,
    state: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    piped: bool,
) -> None:
    """Otherwise the next ``resume`` would take it up. Ids that come once only are kept."""
    monkeypatch.setenv("BW_CLIENT_SECRET", "wrong")
    source = file_of(tmp_path, sandbox.conference_ids)
    if piped:
        feed(monkeypatch, Path(source).read_text())
    command = ["end", "--from", "-" if piped else source, "--yes", "--format", "jsonl"]
    assert main(command) == 2
    out, err = capsys.readouterr()
    assert set(printed_outcomes(out).values()) == {"not_attempted"}
    assert len(list(state.glob("*.journal"))) == piped
    assert ("resume with" in err, "nothing was sent, so the journal is removed" in err) == (piped, not piped)


def test_a_resume_can_be_cut_off_too(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Its --deadline leaves the rest for the next resume, and the summary has the command."""
    journal = stopped_early(tmp_path / "run.journal", sandbox.conference_ids[:30])
    capsys.readouterr()
    assert main(["resume", str(journal), "--rate", "20", "--deadline", "300ms"]) == 5
    assert f"are not settled; resume with: bandwidth-async resume {journal}\n" in capsys.readouterr().err
    counts = Counter(recorded_outcomes(journal).values())
    assert counts["ended"] == len(ended(sandbox)) < 30
    assert counts["ended"] + counts["not_attempted"] == 30


@pytest.mark.parametrize(
    ("found", "arguments", "code"), [(2, [], 0), (0, [], 3), (1, [], 0), (1, ["--strict"], 1)]
)
def test_a_finished_run_has_nothing_to_do(
    sandbox: Sandbox,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    found: int,
    arguments: list[str],
    code: int,
) -> None:
    """The exit code is that of the whole run, and nothing is sent."""
    ids = [*sandbox.conference_ids[:found], "conf-x", "conf-y"][:2]
    journal = finished(tmp_path / "run.journal", ids)
    before = requests(sandbox)
    capsys.readouterr()
    assert main(["resume", str(journal), *arguments]) == code
    assert capsys.readouterr() == ("", "nothing to do: all 2 conferences are settled\n")
    assert requests(sandbox) == before


def test_a_resume_for_another_account_is_refused(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its conferences belong to another account, but anybody can print the outcomes."""
    journal = stopped_early(tmp_path / "run.journal", sandbox.conference_ids[:30])
    monkeypatch.setenv("BW_ACCOUNT_ID", "1")
    capsys.readouterr()
    assert main(["resume", str(journal)]) == 6
    assert f"{journal} is of account 9900000, not of 1" in capsys.readouterr().err
    assert main(["outcomes", str(journal)]) == 0


def spoilt(how: str, path: Path, ids: Sequence[str]) -> Path:
    """Return a file that cannot be resumed."""
    if how == "text":
        path.write_text("conf-1\n" * 1000)
        return path
    finished(path, ids)
    if how == "version":
        execute(path, "PRAGMA user_version = 7")
    elif how == "truncated":
        os.truncate(path, path.stat().st_size // 2)
    return path


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("text", "is not a journal"),
        ("version", "is a journal of version 7, and this program knows versions 1 to 3"),
        ("truncated", "is damaged: "),
    ],
)
def test_what_is_no_whole_journal_is_refused(
    sandbox: Sandbox,
    state: Path,
    capsys: pytest.CaptureFixture[str],
    how: str,
    reason: str,
) -> None:
    """One sentence has the reason, the command exits 6, and ``runs`` still lists the other journals."""
    state.mkdir(parents=True)
    path = spoilt(how, state / "b.journal", sandbox.conference_ids)
    finished(state / "a.journal", sandbox.conference_ids[:1])
    finished(state / "c.journal", sandbox.conference_ids[:1])
    before, content = requests(sandbox), path.read_bytes()
    for command in (
        ["resume", str(path)],
        ["outcomes", str(path)],
        ["outcomes", str(path), "--format", "csv"],
    ):
        capsys.readouterr()
        assert main(command) == 6, command
        out, err = capsys.readouterr()
        assert (f"bandwidth-async: {path} {reason}" in err, len(err.splitlines())) == (True, 1)
        assert out == ""
    assert main(["runs", "--format", "jsonl"]) == 0
    out, err = capsys.readouterr()
    assert [row["run"] for row in rows(out) if row["run"] != "b"] == ["a", "c"]
    assert f"{path} {reason}" in err
    assert (requests(sandbox), path.read_bytes()) == (before, content)


def test_outcomes_come_in_the_order_of_the_input(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The order of the responses does not matter. --output takes a new file, --force replaces one."""
    ids, output = [*reversed(sandbox.conference_ids[:30]), "conf-none"], tmp_path / "all.csv"
    journal = finished(tmp_path / "run.journal", ids)
    capsys.readouterr()
    assert main(["outcomes", str(journal)]) == 0
    told = printed_outcomes(capsys.readouterr().out)
    assert list(told.items()) == [(id_, "ended") for id_ in ids[:-1]] + [("conf-none", "not_found")]
    words = ["outcomes", str(journal), "--format", "csv", "--output", str(output)]
    assert [main(words), main(words), main([*words, "--force"])] == [0, 6, 0]
    header, *lines = output.read_text().splitlines()
    assert header == ",".join(KEYS)
    assert [line.partition(",")[0] for line in lines] == ids


def test_runs_shows_how_far_each_has_come(
    sandbox: Sandbox, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Finished, unfinished, in use by a living process, input incomplete: as a table and as JSON."""
    state.mkdir(parents=True)
    ids = sandbox.conference_ids
    done, begun = finished(state / "1.journal", [*ids[:2], "conf-x"]), incomplete(state / "3.journal")
    half = stopped_early(state / "2.journal", ids[2:32])
    came = Counter(recorded_outcomes(half).values())
    used = state / "4.journal"
    words = ["--journal", str(used), "--rate", "20", "--format", "jsonl"]
    process = start(sandbox, "end", *ids[60:100], *words)
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        capsys.readouterr()
        assert main(["resume", str(used)]) == 6
        assert f"{used} is in use: another process is at work on it" in capsys.readouterr().err
        # The journal can be read while it is in use.
        assert main(["outcomes", str(used)]) == 0
        assert printed_outcomes(capsys.readouterr().out)[json.loads(first)["conference_id"]] == "ended"
        assert main(["runs", "--format", "jsonl"]) == 0
        shown = rows(capsys.readouterr().out)
        assert main(["runs"]) == 0
        table = capsys.readouterr().out.splitlines()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    facts = [(row["run"], row["account_id"], row["total"], row["state"], row["journal"]) for row in shown]
    assert facts == [
        ("1", "9900000", 3, "finished", str(done)),
        ("2", "9900000", 30, "unfinished", str(half)),
        ("3", "9900000", 0, "input incomplete", str(begun)),
        ("4", "9900000", 40, "in use", str(used)),
    ]
    assert [(row["settled"], row["counts"]) for row in shown[:3]] == [
        (3, {"ended": 2, "not_found": 1}),
        (came["ended"], dict(came)),
        (0, {}),
    ]
    assert table[0].split() == [
        "run",
        "state",
        "size",
        "settled",
        "total",
        "account_id",
        "created",
        "journal",
    ]
    assert [re.split(r"\s{2,}", line)[1] for line in table[1:]] == [
        "finished",
        "unfinished",
        "input incomplete",
        f"in use by process {process.pid}",
    ]
    assert shown[3]["process"] == process.pid
    assert [row["size"] for row in shown[:3]] == [path.stat().st_size for path in (done, half, begun)]


def test_a_run_that_waits_for_its_yes_has_not_begun(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody but its own process knows how many ids it has."""
    state.mkdir(parents=True)
    with closing_later(Journal.create(state / "1.journal", account_id="9900000")):
        assert main(["runs"]) == 0
        line = capsys.readouterr().out.splitlines()[1].split()
        assert line[:5] == ["1", "not", "begun", "(process", f"{os.getpid()})"]
        assert line[7:9] == ["-", "-"]
        assert main(["runs", "--format", "jsonl"]) == 0
        assert rows(capsys.readouterr().out)[0]["state"] == "not begun"
        assert main(["outcomes", "1"]) == 0
        assert "this run has not begun: it reads its input, or waits for a yes" in capsys.readouterr().err
        assert main(["report", "1", "--format", "json"]) == 0
        assert json.loads(capsys.readouterr().out)["notes"] == [
            "a run has not begun: it reads its input, or waits for a yes"
        ]


@contextmanager
def closing_later(journal: Journal) -> Iterator[None]:
    try:
        yield
    finally:
        asyncio.run(journal.aclose())


def test_no_runs_is_a_sentence(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``runs`` prints it even without a directory, and does not create one."""
    assert main(["runs"]) == 0
    assert capsys.readouterr() == ("", f"there are no journals in {state}\n")
    assert not state.exists()


def test_an_incomplete_input_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, sandbox: Sandbox
) -> None:
    """Nothing was sent: outcomes says so, and there is nothing to resume."""
    begun = incomplete(tmp_path / "run.journal")
    assert main(["outcomes", str(begun)]) == 0
    sentence = "the input of this run was not recorded to its end; nothing was sent\n"
    assert capsys.readouterr() == ("", sentence)
    assert main(["resume", str(begun)]) == 6
    assert f"{begun} is incomplete: its run was cut off while the input was being recorded" in (
        capsys.readouterr().err
    )
    assert requests(sandbox) == {}


@pytest.mark.parametrize("how", [["--no-journal"], ["--journal", "{journal}"], ["--dry-run"]])
def test_a_conference_on_two_pages_counts_once(
    sandbox: Sandbox,
    tmp_path: Path,
    how: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A listing drifts while its pages are read: one row, one request and one place in the totals."""
    listed = VoiceClient.list_conferences

    async def drifting(client: VoiceClient, **chosen: Any) -> AsyncIterator[Conference]:
        found = [conference async for conference in listed(client, **chosen)]
        for conference in [*found[:20], *found[10:]]:
            yield conference

    monkeypatch.setattr(VoiceClient, "list_conferences", drifting)
    count = len(sandbox.conference_ids)
    words = [word.format(journal=tmp_path / "run.journal") for word in how]
    assert main(["end", "--all-active", "--yes", "--format", "jsonl", *words]) == 0
    told = capsys.readouterr()
    assert len(rows(told.out)) == len({row["conference_id"] for row in rows(told.out)}) == count
    assert f"{count} conferences" in told.err
    assert "already_ended" not in told.out
    assert "not_attempted" not in told.err


opened = Path.open


def pressing_ctrl_c(path: Path, *how: Any, **more: Any) -> Any:
    """Open a file. A pipe that nobody reads waits, until somebody presses Ctrl-C."""
    if path.name != "pipe":
        return opened(path, *how, **more)
    signal.raise_signal(signal.SIGINT)
    raise AssertionError(f"the first Ctrl-C did not interrupt the opening of {path}")


@pytest.mark.parametrize("command", ["end", "end few", "resume"])
def test_the_first_ctrl_c_ends_the_wait_for_a_reader_of_the_output(
    sandbox: Sandbox,
    state: Path,
    tmp_path: Path,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``--output`` is a pipe without a reader: nothing is sent, and no journal is left behind."""
    journal, ids = tmp_path / "run.journal", sandbox.conference_ids
    if command == "resume":
        asyncio.run(record(journal, sandbox.account_id, ids))
    words = {
        "end": ["end", *ids, "--yes"],
        "end few": ["end", ids[0]],
        "resume": ["resume", str(journal)],
    }[command]
    monkeypatch.setattr(Path, "open", pressing_ctrl_c)
    before = signal.getsignal(signal.SIGINT)
    assert main([*words, "--output", str(tmp_path / "pipe"), "--force"]) == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert not list(tmp_path.rglob("*.journal*")) or command == "resume"
    assert not state.exists() or not list(state.iterdir())
    assert not ended(sandbox)


async def record(path: Path, account_id: str, ids: list[str]) -> None:
    async with Journal.create(path, account_id=account_id) as journal:
        await journal.record(ids)


def test_an_output_without_a_journal_leaves_nothing_behind(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output is made before the journal. If the journal cannot be made, the empty file goes."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise JournalError("no space left")

    monkeypatch.setattr(Journal, "create", fail)
    output = tmp_path / "out.jsonl"
    words = ["end", sandbox.conference_ids[0], "--journal", str(tmp_path / "run.journal")]
    assert main([*words, "--output", str(output)]) == 6
    assert not output.exists()
