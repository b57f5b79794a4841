"""Runs on a job array: ``--shard`` and ``--continue``, and commands over several journals."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING

import pytest

from bandwidth_async import Journal, Shard
from bandwidth_async.cli import main
from bandwidth_async.journal import describe
from bandwidth_async.sandbox import Sandbox
from tests.test_cli import ended, feed, requests, rows, served, start, use
from tests.test_cli_journal import FAST, file_of, files_in, incomplete, printed_outcomes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TASKS = ("JOB_COMPLETION_INDEX", "SLURM_ARRAY_TASK_ID", "AWS_BATCH_JOB_ARRAY_INDEX")


@pytest.fixture(autouse=True)
def _no_array(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run outside of any job array."""
    for name in (*TASKS, "SLURM_ARRAY_TASK_COUNT", "AWS_BATCH_JOB_ARRAY_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Serve 150 conferences, and set the environment for them."""
    with served(conferences=150) as stand_in:
        use(stand_in, monkeypatch)
        yield stand_in


def command(folder: Path, shard: str, *more: str) -> list[str]:
    """Return the one command line of a manifest."""
    journal = str(folder / "shard-{shard}.journal")
    given = ["--from", str(folder / "ids.txt"), "--yes", "--shard", shard, "--journal", journal, "--continue"]
    return ["end", *given, *FAST, *more]


def held(ids: Sequence[str], number: int, count: int) -> set[str]:
    return {id_ for id_ in ids if Shard(number, count).holds(id_)}


# Which shard


@pytest.mark.parametrize("name", TASKS)
def test_each_task_of_an_array_ends_its_own_part(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """Only the environment differs. Together the tasks end each conference once."""
    ids = sandbox.conference_ids
    file_of(tmp_path, [*ids, *reversed(ids)])
    over: set[str] = set()
    for number in range(3):
        monkeypatch.setenv(name, str(number))
        assert main(command(tmp_path, "auto/3")) == 0
        assert ended(sandbox) - over == held(ids, number, 3)
        over = ended(sandbox)
    assert over == set(ids)
    assert requests(sandbox)["end"] == {"204": 150}
    assert files_in(tmp_path) == ["ids.txt", *(f"shard-{number}.journal" for number in range(3))]


@pytest.mark.parametrize(
    ("shard", "environment", "sentence"),
    [
        ("4/4", {}, "4/4: shards count from 0, so the first of 4 is 0/4 and the last is 3/4"),
        ("0/0", {}, "0/0: there are 1 to 100,000 shards"),
        ("0/100001", {}, "0/100001: there are 1 to 100,000 shards"),
        (f"0/{'9' * 5000}", {}, "is no shard"),
        ("1", {}, "'1' is no shard: write 0/4, or auto/4 on a job array"),
        ("1/x", {}, "'1/x' is no shard"),
        ("-1/4", {}, "'-1/4' is no shard"),
        ("auto", {}, "'auto' is no shard"),
        (
            "auto/4",
            {},
            "from JOB_COMPLETION_INDEX, SLURM_ARRAY_TASK_ID or AWS_BATCH_JOB_ARRAY_INDEX, and none",
        ),
        ("/4", {"SLURM_ARRAY_TASK_ID": "4"}, "4/4: shards count from 0"),
        ("auto/4", {"SLURM_ARRAY_TASK_ID": "4294967294"}, "4294967294/4: shards count from 0"),
        ("auto/4", {"JOB_COMPLETION_INDEX": "one"}, "'auto/4' is no shard"),
        (
            "auto/4",
            {"JOB_COMPLETION_INDEX": "1", "SLURM_ARRAY_TASK_ID": "2"},
            "auto cannot choose between JOB_COMPLETION_INDEX=1 and SLURM_ARRAY_TASK_ID=2: name the shard",
        ),
    ],
)
def test_what_is_no_shard_is_a_sentence(
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    shard: str,
    environment: dict[str, str],
    sentence: str,
) -> None:
    """It exits 6 and sends nothing. A job array that counts from 1 gets it for its last task."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["end", "conf-1", f"--shard={shard}"]) == 6
    assert sentence in capsys.readouterr().err
    assert requests(sandbox) == {}


def test_an_array_of_another_size_is_told(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fewer tasks than shards leave ids out. But who repeats two tasks of four by hand does right."""
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    assert main(["end", *sandbox.conference_ids[:20], "--shard", "auto/4"]) == 0
    assert "the job array has 2 tasks, and 3/4 is one of 4 shards" in capsys.readouterr().err
    assert ended(sandbox) == held(sandbox.conference_ids[:20], 3, 4)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--continue"], "--continue goes with --journal FILE"),
        (["--continue", "--journal", "{folder}"], "is a directory"),
        (["--continue", "--dry-run", "--journal", "{folder}/x"], "--journal and --dry-run: give one of them"),
        (["--journal", "{folder}/{{shard}}"], "is the number of a shard: add --shard"),
        (["--output", "{folder}/{{shard}}"], "is the number of a shard: add --shard"),
        (["--continue", "--journal", "{folder}/none/x"], "there is no directory {folder}/none"),
    ],
)
def test_options_that_do_not_fit_are_a_sentence(
    sandbox: Sandbox,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    sentence: str,
) -> None:
    """It exits 6, sends nothing and leaves no file."""
    assert main(["end", "conf-1", *(word.format(folder=tmp_path) for word in arguments)]) == 6
    assert sentence.format(folder=tmp_path) in capsys.readouterr().err
    assert (requests(sandbox), files_in(tmp_path)) == ({}, [])


# One command line, any number of times


def test_the_same_command_goes_on_and_then_has_nothing_to_do(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A deadline cuts it off, the next start ends the rest, and each later one exits 0 at once."""
    file_of(tmp_path, sandbox.conference_ids)
    words = command(tmp_path, "1/2", "--format", "jsonl", "--output", str(tmp_path / "out-{shard}.jsonl"))
    assert main([*words, "--rate", "50", "--deadline", "1s"]) == 5
    some = ended(sandbox)
    assert 0 < len(some) < len(held(sandbox.conference_ids, 1, 2))
    assert main(words) == 0
    assert ended(sandbox) == held(sandbox.conference_ids, 1, 2)
    sent = requests(sandbox)
    for _ in range(2):
        capsys.readouterr()
        assert main(words) == 0
        out, err = capsys.readouterr()
        assert (out, "nothing to do: all " in err) == ("", True)
    assert requests(sandbox) == sent
    # The rows of each start are behind those of the last one.
    lines = rows((tmp_path / "out-1.jsonl").read_text())
    assert {row["conference_id"] for row in lines if row["outcome"] == "ended"} == ended(sandbox)


def test_a_row_that_was_cut_off_spoils_no_other(sandbox: Sandbox, tmp_path: Path) -> None:
    """A process that is killed may leave half a line: the next start begins a new one."""
    output = tmp_path / "out.jsonl"
    output.write_text('{"conference_id": "co')
    file_of(tmp_path, sandbox.conference_ids[:5])
    assert main(command(tmp_path, "0/1", "--format", "jsonl", "--output", str(output))) == 0
    first, *lines = output.read_text().splitlines()
    assert (first, len(lines)) == ('{"conference_id": "co', 5)
    assert all(json.loads(line) for line in lines)


@pytest.mark.parametrize(
    "begun",
    ["", "[", "[\n", "[\n]\n", '[\n {"a": 1}\n]\n', '[\n {"a": 1}\n', '[\n {"a": 1}\n,{"a', '[\n {"a'],
)
def test_an_array_that_is_gone_on_with_is_one_array(sandbox: Sandbox, tmp_path: Path, begun: str) -> None:
    """Wherever the first start was cut off, also where it was killed in the midst of a row."""
    output = tmp_path / "out.json"
    output.write_text(begun)
    ids = sandbox.conference_ids[:2]
    words = ["end", *ids, "--journal", str(tmp_path / "a.journal"), "--continue", "--output", str(output)]
    assert main(words) == 0
    before = [{"a": 1}] if "1}" in begun else []
    whole = json.loads(output.read_text())
    assert whole[: len(before)] == before
    assert {row["conference_id"] for row in whole[len(before) :]} == set(ids)
    assert main(words) == 0
    assert json.loads(output.read_text()) == whole


def test_an_array_is_not_put_behind_something_else(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What the file has stays, and nothing is sent."""
    output = tmp_path / "out.txt"
    output.write_text("conference_id\nconf-1")
    words = ["end", "conf-1", "--journal", str(tmp_path / "a.journal"), "--continue", "--output", str(output)]
    assert main([*words, "--format", "json"]) == 6
    assert "out.txt: it has something else than JSON records" in capsys.readouterr().err
    assert output.read_text() == "conference_id\nconf-1"
    assert requests(sandbox) == {}


@pytest.mark.parametrize("form", ["csv", "table"])
def test_an_output_that_is_gone_on_with_has_one_header(sandbox: Sandbox, tmp_path: Path, form: str) -> None:
    """A spreadsheet would take the second one for a conference."""
    output = tmp_path / "out"
    for number in range(2):
        words = ["end", sandbox.conference_ids[number], "--journal", str(tmp_path / f"{number}.journal")]
        assert main([*words, "--continue", "--output", str(output), "--format", form]) == 0
    assert [line.startswith("conference_id") for line in output.read_text().splitlines()] == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(("ids", "code"), [(["conf-x"], 3), ([], 0)])
def test_the_exit_code_is_the_same_each_time(
    sandbox: Sandbox, tmp_path: Path, ids: list[str], code: int
) -> None:
    """A shard without ids has a journal all the same: otherwise it would seem to be missing."""
    file_of(tmp_path, ids)
    assert [main(command(tmp_path, "0/1")) for _ in range(3)] == [code] * 3
    assert describe(tmp_path / "shard-0.journal").total == len(ids)


def test_a_journal_of_other_ids_is_refused(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Another K or N, or a file with other ids: 'nothing to do' would be untrue."""
    ids = file_of(tmp_path, sandbox.conference_ids[:50])
    assert main(command(tmp_path, "1/2")) == 0
    sent = requests(sandbox)
    for given, sentence in (
        (command(tmp_path, "1/4"), "is of shard 1/2, not of shard 1/4"),
        (
            ["end", "--from", ids, "--journal", f"{tmp_path}/shard-1.journal", "--continue"],
            "not of the whole",
        ),
        (command(tmp_path, "1/2", "conf-1"), "is of another input: the ids have changed"),
    ):
        capsys.readouterr()
        assert main(given) == 6
        assert sentence in capsys.readouterr().err
    file_of(tmp_path, sandbox.conference_ids[:51])
    assert main(command(tmp_path, "1/2")) == 6
    # A file that is gone says nothing of other ids.
    Path(ids).unlink()
    assert main(command(tmp_path, "1/2")) == 0
    assert main(["resume", f"{tmp_path}/shard-1.journal"]) == 0
    assert requests(sandbox) == sent


def test_a_plain_journal_can_be_gone_on_with(sandbox: Sandbox, tmp_path: Path) -> None:
    """A run that was begun without --continue is the same run."""
    ids, journal = file_of(tmp_path, sandbox.conference_ids), str(tmp_path / "run.journal")
    words = ["end", "--from", ids, "--yes", "--journal", journal]
    assert main([*words, "--rate", "50", "--deadline", "1s"]) == 5
    assert main([*words, *FAST]) == 6
    assert main([*words, *FAST, "--continue"]) == 0
    assert ended(sandbox) == set(sandbox.conference_ids)


def test_all_active_is_listed_once(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The next start takes what the first one listed, unless it is to choose otherwise."""
    words = ["end", "--all-active", "--yes", "--journal", str(tmp_path / "run.journal"), "--continue", *FAST]
    assert main([*words, "--rate", "50", "--deadline", "3s"]) == 5
    listed = requests(sandbox)["list"]
    assert main(words) == 0
    assert requests(sandbox)["list"] == listed
    assert main([*words, "--name", "x"]) == 6
    assert "is of another input" in capsys.readouterr().err


def test_a_listing_that_failed_leaves_no_journal(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing was sent, so there is nothing to go on with."""
    monkeypatch.setenv("BW_VOICE_URL", "http://127.0.0.1:1")
    journal = str(tmp_path / "run.journal")
    assert main(["end", "--all-active", "--yes", "--journal", journal, "--continue", "--deadline", "1s"]) != 0
    assert files_in(tmp_path) == []


def test_a_second_start_of_the_same_shard_says_so(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Two pods of one index: the second exits 4, which a scheduler may try again, and sends nothing."""
    file_of(tmp_path, sandbox.conference_ids)
    words = command(tmp_path, "0/2", "--rate", "20", "--format", "jsonl")
    process = start(sandbox, *words)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        assert main(words) == 4
        assert "is in use: another process is at work on it" in capsys.readouterr().err
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert main(command(tmp_path, "0/2")) == 0
    assert requests(sandbox)["end"] == {"204": len(held(sandbox.conference_ids, 0, 2))}


def test_many_starts_at_once_end_each_conference_once(sandbox: Sandbox, tmp_path: Path) -> None:
    """They race for a journal that is not there yet: one makes it, and the others say so or find it done."""
    file_of(tmp_path, sandbox.conference_ids)
    processes = [start(sandbox, *command(tmp_path, "0/1", "--rate", "50")) for _ in range(4)]
    said = [process.communicate(timeout=120)[1] for process in processes]
    codes = [process.returncode for process in processes]
    assert (set(codes) <= {0, 4}, 0 in codes) == (True, True), said
    assert all("is in use" in text for text, code in zip(said, codes, strict=True) if code == 4)
    assert requests(sandbox)["end"] == {"204": 150}
    assert files_in(tmp_path) == ["ids.txt", "shard-0.journal"]


# While the input is read


def cut_off(sandbox: Sandbox, journal: Path, how: signal.Signals) -> tuple[int, str]:
    """Start a run that reads standard input, and send it a signal while it waits for more."""
    words = ["end", "--from", "-", "--yes", "--journal", str(journal), "--continue"]
    process = start(sandbox, *words, stdin=PIPE)
    assert process.stdin is not None
    process.stdin.write("".join(f"conf-{number}\n" for number in range(30_000)))
    process.stdin.flush()
    while not journal.exists():
        time.sleep(0.02)
    # A part of the input is on disk, but not complete.
    time.sleep(0.3)
    began = time.monotonic()
    process.send_signal(how)
    process.wait(timeout=30)
    assert time.monotonic() - began < 2.5
    assert process.stderr is not None
    said = process.stderr.read()
    with suppress(OSError):
        process.stdin.close()
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()
    return process.returncode, said


def test_a_run_that_was_killed_while_it_read_its_input_starts_over(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The journal has no input that counts, nothing was sent, and the next start takes its own."""
    journal = tmp_path / "run.journal"
    assert cut_off(sandbox, journal, signal.SIGKILL) == (-9, "")
    assert not describe(journal).complete
    assert requests(sandbox) == {}
    feed(monkeypatch, "\n".join(sandbox.conference_ids))
    assert main(["end", "--from", "-", "--yes", "--journal", str(journal), "--continue", *FAST]) == 0
    assert "was cut off before anything was sent: the run starts over" in capsys.readouterr().err
    assert describe(journal).counts == {"ended": 150}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_while_the_input_is_read_leaves_nothing_behind(
    sandbox: Sandbox, tmp_path: Path, how: signal.Signals
) -> None:
    """Nothing was sent, so there is nothing to go on with."""
    code, said = cut_off(sandbox, tmp_path / "run.journal", how)
    assert (code, said) == (128 + how, "bandwidth-async: interrupted\n")
    assert (files_in(tmp_path), requests(sandbox)) == ([], {})


def test_a_bad_line_behind_a_million_good_ones_sends_nothing(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The good ones are on disk by then, but no input that counts."""
    file_of(tmp_path, [*(f"conf-{number}" for number in range(25_000)), "a b"])
    assert main(command(tmp_path, "0/2")) == 6
    assert "ids.txt:25001: 'a b' is no conference id" in capsys.readouterr().err
    assert (files_in(tmp_path), requests(sandbox)) == (["ids.txt"], {})


@pytest.mark.parametrize("goes_on", [True, False])
def test_without_a_yes_nothing_begins(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, goes_on: bool
) -> None:
    """While it asks, the input is not complete: a process that is killed now has no journal to go on with."""
    journal = tmp_path / "run.journal"
    seen: list[bool] = []

    def refuse(*_: object, **__: object) -> bool:
        seen.append(describe(journal).complete)
        return False

    feed(monkeypatch, "", terminal=True)
    monkeypatch.setattr("click.confirm", refuse)
    words = ["end", "--from", file_of(tmp_path, sandbox.conference_ids), "--journal", str(journal)]
    assert main([*words, *["--continue"] * goes_on]) == 1
    assert (seen, files_in(tmp_path), requests(sandbox)) == ([False], ["ids.txt"], {})


def test_a_long_input_is_told_while_it_is_read(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Ten million ids take minutes."""
    monkeypatch.setattr("bandwidth_async.cli.journals._SAY_EVERY", 0.0)
    file_of(tmp_path, [f"conf-{number}" for number in range(11_000)])
    assert main(["end", "--from", f"{tmp_path}/ids.txt", "--max", "5", "--yes"]) == 6
    err = capsys.readouterr().err
    assert "reading the input: 10,000 ids so far\n" in err
    assert "reading the input: 11,000 ids so far\n" in err
    assert "11,000 conferences are more than --max 5; nothing was ended" in err


# Several journals


def done(folder: Path, ids: Sequence[str], count: int) -> list[str]:
    """End the shards of an input, and return their journals."""
    file_of(folder, ids)
    for number in range(count):
        main(command(folder, f"{number}/{count}"))
    return [str(folder / f"shard-{number}.journal") for number in range(count)]


def test_outcomes_of_all_shards_are_those_of_the_input(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Merged rows, one header, totals on standard error, and exit 0 if all is over."""
    paths = done(tmp_path, [*sandbox.conference_ids, "conf-none"], 3)
    capsys.readouterr()
    assert main(["outcomes", *paths]) == 0
    out, err = capsys.readouterr()
    assert Counter(printed_outcomes(out).values()) == {"ended": 150, "not_found": 1}
    assert len(rows(out)) == 151
    assert err == "3 journals, 151 conferences: 150 ended, 1 not_found\n"
    assert main(["outcomes", *paths, paths[0], "--format", "csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 152


def test_a_missing_shard_is_told(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Its ids are not among the rows, so the exit code is not 0, of one journal alone neither."""
    first, _, third = done(tmp_path, sandbox.conference_ids, 3)
    copy = tmp_path / "copy.journal"
    copy.write_bytes(Path(third).read_bytes())
    for name in ("outcomes", "runs"):
        capsys.readouterr()
        assert main([name, first, third]) == 1
        assert "shard 1/3 is not among these journals\n" in capsys.readouterr().err
        assert main([name, first, third, str(copy)]) == 1
        assert "shard 2/3 is more than once among these journals\n" in capsys.readouterr().err
    assert main(["outcomes", first]) == 1
    assert main(["runs", first]) == 1


def test_shards_of_two_inputs_are_told(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Two machines with two lists: an id that only the wrong machine has is ended by nobody."""
    first, second = done(tmp_path, sandbox.conference_ids[:20], 2)
    file_of(tmp_path, sandbox.conference_ids[:19])
    Path(second).unlink()
    # The first start has ended them all.
    assert main(command(tmp_path, "1/2")) == 3
    capsys.readouterr()
    assert main(["outcomes", first, second]) == 1
    assert "these shards are not of the same input: an id may be in none of them" in capsys.readouterr().err


def test_the_exit_code_is_that_of_the_worst(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """1 before 3 before 0, for outcomes and for runs whose journals are named."""
    journals = {
        "fine": sandbox.conference_ids[:2],
        "missing": ["conf-x"],
        "left": sandbox.conference_ids[2:40],
    }
    for name, ids in journals.items():
        words = ["--rate", "20", "--deadline", "1s"] if name == "left" else FAST
        main(["end", *ids, "--yes", "--journal", str(tmp_path / name), *words])
    begun = incomplete(tmp_path / "begun")
    for name in ("outcomes", "runs"):
        for worst, code in (("fine", 0), ("missing", 3), ("left", 1)):
            copy = tmp_path / "copy"
            copy.write_bytes((tmp_path / "fine").read_bytes())
            assert main([name, str(copy), str(tmp_path / worst)]) == code
        capsys.readouterr()
        assert main([name, str(tmp_path / "fine"), str(begun)]) == 1
        (tmp_path / "text").write_text("conf-1\n")
        assert main([name, str(tmp_path / "missing"), str(tmp_path / "text")]) == (
            6 if name == "outcomes" else 1
        )
        assert "is not a journal" in capsys.readouterr().err


def test_runs_shows_the_journals_that_are_named(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With the shard of each, as JSON."""
    paths = done(tmp_path, sandbox.conference_ids[:20], 2)
    capsys.readouterr()
    assert main(["runs", *paths, "--format", "jsonl"]) == 0
    shown = [(row["run"], row["shard"], row["state"]) for row in rows(capsys.readouterr().out)]
    assert shown == [("shard-0", "0/2", "finished"), ("shard-1", "1/2", "finished")]
    assert main(["runs", str(tmp_path / "none")]) == 6
    assert "there is no file" in capsys.readouterr().err


async def test_a_shard_in_code(tmp_path: Path) -> None:
    """The library has the same shards as the command line."""
    async with Journal.create(tmp_path / "a", account_id="1", shard=Shard(0, 2)) as journal:
        await journal.record(f"conf-{number}" for number in range(10))
        kept = {target.conference_id for target in journal.unsettled()}
    assert kept == held([f"conf-{number}" for number in range(10)], 0, 2)
