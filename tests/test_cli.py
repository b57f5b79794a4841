"""The command line against the sandbox: requests, output and exit codes."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from bandwidth_async.cli import main
from bandwidth_async.cli.app import cli
from bandwidth_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path


@contextmanager
def in_thread(server: AbstractAsyncContextManager[object]) -> Iterator[None]:
    """Run a server in a thread, because the commands start their own event loops."""
    ready, done = threading.Event(), threading.Event()

    async def serve() -> None:
        async with server:
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def served(**settings: Any) -> Iterator[Sandbox]:
    """Run a sandbox."""
    stand_in = Sandbox(**settings)
    with in_thread(stand_in):
        yield stand_in


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Serve ten conferences, and set the environment for them."""
    with served(conferences=10) as stand_in:
        use(stand_in, monkeypatch)
        yield stand_in


def use(stand_in: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BW_USERNAME", "BW_PASSWORD", "BW_ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in stand_in.environ.items():
        monkeypatch.setenv(name, value)


def feed(monkeypatch: pytest.MonkeyPatch, text: str, *, terminal: bool = False) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(text.encode()))
    monkeypatch.setattr(stdin, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stdin", stdin)


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def requests(stand_in: Sandbox) -> dict[str, dict[str, int]]:
    return {kind: counts for kind, counts in stand_in.truth()["requests"].items() if counts}


def ended(stand_in: Sandbox) -> set[str]:
    return {id_ for id_, facts in stand_in.truth()["conferences"].items() if facts["ended_at"]}


def test_ends_the_ids_of_its_arguments(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output has a row for each, standard error the summary, and it exits 0."""
    ids = sandbox.conference_ids[:2]
    assert main(["end", *ids, "--format", "jsonl"]) == 0
    out, err = capsys.readouterr()
    assert [(row["conference_id"], row["outcome"], row["attempts"], row["error"]) for row in rows(out)] == [
        (id_, "ended", 1, None) for id_ in ids
    ]
    assert err.startswith("2 conferences in ")
    assert ": 2 ended\n2 requests, " in err
    assert ended(sandbox) == set(ids)


def test_a_table_has_a_header_and_cuts_nothing(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """The table shows whole ids and whole errors."""
    long = "conf-" + "x" * 80
    assert main(["end", long]) == 3
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["conference_id", "outcome", "attempts", "error"]
    assert row.split(maxsplit=3)[:3] == [long, "not_found", "1"]
    assert row.endswith("not found)")


def test_what_list_prints_is_what_end_reads(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``list --active --format jsonl | end --from - --yes`` ends the account's conferences."""
    assert main(["list", "--active", "--format", "jsonl"]) == 0
    listing = capsys.readouterr().out
    assert [set(row) for row in rows(listing)] == [
        {"conference_id", "name", "created_time", "completed_time", "tag"}
    ] * 10
    feed(monkeypatch, listing)
    assert main(["end", "--from", "-", "--yes"]) == 0
    assert ended(sandbox) == set(sandbox.conference_ids)
    assert main(["list", "--active", "--format", "jsonl"]) == 0
    assert capsys.readouterr().out.count('conference_id":') == 0


def test_duplicates_are_dropped_and_told(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """An id that occurs twice is sent once, and standard error has the number of dropped ids."""
    first = sandbox.conference_ids[0]
    (tmp_path / "ids.txt").write_text(f"{first}\n# again\n{first}\n")
    assert main(["end", first, "--from", str(tmp_path / "ids.txt")]) == 0
    assert "2 duplicate ids dropped" in capsys.readouterr().err
    assert requests(sandbox)["end"] == {"204": 1}


def test_bad_lines_are_all_told_and_nothing_is_sent(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names all bad lines by number, exits 6 and sends no request."""
    feed(monkeypatch, f"{sandbox.conference_ids[0]}\na/b\n\n..\n")
    assert main(["end", "--from", "-", "--yes"]) == 6
    err = capsys.readouterr().err
    assert "standard input:2:" in err
    assert "standard input:4:" in err
    assert "2 lines of the input cannot be used; nothing was sent" in err
    assert requests(sandbox) == {}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["end"], "name the conferences to end: give ids, --from FILE or --all-active"),
        (["end", "a/b"], "argument 1: 'a/b' is no conference id"),
        (["end", "conf-1", "--all-active"], "leave out ids and --from"),
        (["end", "conf-1", "--name", "x"], "go with --all-active"),
        (["end", "--from", "/nowhere/ids"], "cannot read /nowhere/ids: No such file"),
        (["end", "conf-1", "--output", "/nowhere/out"], "cannot write to /nowhere/out: No such file"),
        (["end", "conf-1", "--max", "0"], "more than --max 0"),
        (["end", "conf-1", "--rate", "0"], "requests per second above 0"),
        (["end", "conf-1", "--start-rate", "0"], "requests per second above 0"),
        (["end", "conf-1", "--rate", "5", "--start-rate", "5"], "give one of them"),
        (["end", "conf-1", "--deadline", "soon"], "'soon' is not a duration"),
        (["end", "conf-1", "--deadline", "0s"], "is no time at all"),
        (["end", "--all-active", "--created-before", "yesterday"], "'yesterday' is not a time"),
        (["end", "conf-1", "--concurrency", "0"], "0 is not in the range"),
        (["end", "--bogus"], "No such option"),
        (["list", "--limit", "0"], "0 is not in the range"),
        (["get", "../x"], "is no conference id"),
        (["sandbox", "--quota", "lots"], "lots"),
        (["sandbox", "--faults", "503=200%"], "the faults add up to 200 %"),
        (["nonsense"], "No such command 'nonsense' (see bandwidth-async --help)"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_6(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    """The sentence says what to change, and nothing was sent."""
    assert main(arguments) == 6
    out, err = capsys.readouterr()
    assert (out, sentence in err, "Traceback" in err) == ("", True, False)
    assert requests(sandbox) == {}


@pytest.mark.parametrize(
    ("changes", "code", "sentence"),
    [
        ({"BW_ACCOUNT_ID": ""}, 2, "BW_ACCOUNT_ID is not set"),
        ({"BW_CLIENT_SECRET": ""}, 2, "BW_CLIENT_SECRET is not set"),
        ({"BW_CLIENT_ID": "", "BW_CLIENT_SECRET": ""}, 2, "no credentials are set"),
        ({"BW_CLIENT_SECRET": "wrong"}, 2, "check the client id and secret"),
        ({"BW_ACCOUNT_ID": "1"}, 2, "answered 401"),
        ({"BW_ENVIRONMENT": "moon"}, 6, "it can be 'prod' or 'test'"),
        ({"BW_VOICE_URL": "http://192.0.2.1"}, 6, "use https"),
        ({"BW_VOICE_URL": "https://host/api/v2"}, 6, "scheme and host only"),
    ],
)
def test_a_wrong_environment_is_one_sentence(
    sandbox: Sandbox,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    code: int,
    sentence: str,
) -> None:
    """Missing or refused credentials exit 2, wrong settings 6."""
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    assert main(["list"]) == code
    assert sentence in capsys.readouterr().err


def test_oauth2_goes_before_basic(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """With both kinds of credentials set, the legacy ones are not used."""
    monkeypatch.setenv("BW_USERNAME", "nobody")
    monkeypatch.setenv("BW_PASSWORD", "wrong")
    assert main(["list"]) == 0
    assert requests(sandbox)["token"] == {"200": 1}


def test_basic_credentials_work(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The legacy credentials work, without a token."""
    monkeypatch.delenv("BW_CLIENT_ID")
    monkeypatch.setenv("BW_USERNAME", sandbox.username)
    monkeypatch.setenv("BW_PASSWORD", sandbox.password)
    assert main(["end", sandbox.conference_ids[0]]) == 0
    assert requests(sandbox) == {"end": {"204": 1}}


@pytest.mark.parametrize("legacy", [False, True])
def test_refused_credentials_cost_one_request_and_give_every_id_a_row(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, legacy: bool
) -> None:
    """However many ids there are, it exits 2 with one sentence."""
    monkeypatch.setenv("BW_CLIENT_SECRET", "" if legacy else "wrong")
    if legacy:
        monkeypatch.setenv("BW_USERNAME", "nobody")
        monkeypatch.setenv("BW_PASSWORD", "wrong")
    feed(monkeypatch, "".join(f"conf-{number}\n" for number in range(500)))
    assert main(["end", "--from", "-", "--yes", "--rate", "5000", "--format", "jsonl"]) == 2
    out, err = capsys.readouterr()
    assert len(rows(out)) == 500
    assert [line.startswith("{") for line in err.splitlines() if "stopped early:" in line] == [False, True]
    assert sum(sum(counts.values()) for counts in requests(sandbox).values()) == 1


@pytest.mark.parametrize("arguments", [["--all-active"], ["--from", "{file}"]])
def test_many_are_not_ended_without_a_yes(
    sandbox: Sandbox,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
) -> None:
    """Without a terminal, --all-active and more than 100 ids are refused, and the sentence names --yes."""
    file = tmp_path / "ids"
    file.write_text("".join(f"conf-{number}\n" for number in range(101)))
    feed(monkeypatch, "y\n")
    assert main(["end", *(word.format(file=file) for word in arguments)]) == 6
    assert "nothing was ended: confirm with --yes to end " in capsys.readouterr().err
    assert "end" not in requests(sandbox)


@pytest.mark.parametrize(("answer", "code", "count"), [("y\n", 0, 10), ("n\n", 1, 0)])
def test_on_a_terminal_it_asks(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, count: int
) -> None:
    """It ends conferences only after a yes."""
    feed(monkeypatch, answer, terminal=True)
    assert main(["end", "--all-active"]) == code
    assert len(ended(sandbox)) == count


def test_all_active_takes_the_selection(sandbox: Sandbox) -> None:
    """--name and the times filter the listing, and ended conferences are left alone."""
    assert main(["end", "--all-active", "--name", "conference-000003", "--yes"]) == 0
    assert ended(sandbox) == {sandbox.conference_ids[2]}
    assert main(["end", "--all-active", "--created-after", "2100-01-01", "--yes"]) == 0
    assert main(["end", "--all-active", "--created-before", "2000-01-01T00:00Z", "--yes"]) == 0
    assert requests(sandbox)["end"] == {"204": 1}


def test_a_listed_conference_that_is_gone_has_already_ended(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 404 on a conference that a listing showed is no failure, not even with --strict."""

    def somebody_else_ends_them(*_: object, **__: object) -> bool:
        return main(["end", *sandbox.conference_ids]) == 0

    feed(monkeypatch, "", terminal=True)
    monkeypatch.setattr("click.confirm", somebody_else_ends_them)
    assert main(["end", "--all-active", "--strict", "--format", "jsonl"]) == 0
    out = capsys.readouterr().out
    assert Counter(row["outcome"] for row in rows(out[out.index("{") :])) == {"already_ended": 10}


def test_a_dry_run_sends_no_end(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints what would be ended, in a format that end reads, and asks nothing."""
    assert main(["end", "--all-active", "--dry-run", "--format", "jsonl"]) == 0
    out, err = capsys.readouterr()
    assert rows(out) == [{"conference_id": id_} for id_ in sandbox.conference_ids]
    title, *rest, last = err.splitlines()
    assert title == f"End 10 conferences of account 9900000 at {sandbox.url.removeprefix('http://')}"
    assert [line.split(":")[0] for line in rest] == ["  which", "  created", "  members"]
    assert last == "dry run: 10 conferences would be ended; none was"
    assert "end" not in requests(sandbox)


def test_a_dry_run_of_ids_needs_no_credentials(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sends no request."""
    monkeypatch.delenv("BW_ACCOUNT_ID", raising=False)
    assert main(["end", "conf-1", "--dry-run"]) == 0
    assert capsys.readouterr().out == "conference_id\nconf-1\n"


def test_outcomes_go_to_a_new_file_only(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """An existing --output is refused before anything is sent; --force replaces it."""
    output = tmp_path / "out.jsonl"
    first, second = sandbox.conference_ids[:2]
    assert main(["end", first, "--output", str(output), "--format", "jsonl"]) == 0
    assert [row["conference_id"] for row in rows(output.read_text())] == [first]
    assert capsys.readouterr().out.startswith("1 conference in ")
    assert main(["end", second, "--output", str(output), "--format", "jsonl"]) == 6
    assert f"{output} exists" in capsys.readouterr().err
    assert ended(sandbox) == {first}
    assert main(["end", second, "--output", str(output), "--format", "jsonl", "--force"]) == 0
    assert [row["conference_id"] for row in rows(output.read_text())] == [second]


def test_several_inputs_add_up(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments, files and standard input are read together."""
    one, two, three = sandbox.conference_ids[:3]
    (tmp_path / "ids").write_text(two)
    feed(monkeypatch, three)
    assert main(["end", one, "--from", str(tmp_path / "ids"), "--from", "-"]) == 0
    assert ended(sandbox) == {one, two, three}


def test_the_output_is_not_the_input(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Not even with --force: the list of ids would be lost."""
    ids = tmp_path / "ids"
    ids.write_text(sandbox.conference_ids[0])
    assert main(["end", "--from", str(ids), "--output", str(ids), "--force"]) == 6
    assert "is the input" in capsys.readouterr().err
    assert ids.read_text() == sandbox.conference_ids[0]


def test_a_device_needs_no_force(sandbox: Sandbox) -> None:
    """Nothing is lost in it: --output /dev/null throws the rows away."""
    assert main(["end", sandbox.conference_ids[0], "--output", os.devnull]) == 0
    assert ended(sandbox) == {sandbox.conference_ids[0]}


def test_a_dash_is_standard_output(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """--output - is standard output, as --from - is standard input."""
    assert main(["end", sandbox.conference_ids[0], "--output", "-"]) == 0
    assert sandbox.conference_ids[0] in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["end", "{id}", "--output", "/dev/full", "--force"], ["list"]])
def test_a_full_disk_is_a_sentence(sandbox: Sandbox, arguments: list[str]) -> None:
    """The run stops and exits 1, and no message asks for a bug report."""
    words = [word.format(id=sandbox.conference_ids[0]) for word in arguments]
    with open("/dev/full", "w") as full:  # a device
        process = subprocess.run(
            [sys.executable, "-m", "bandwidth_async", *words],
            env={**os.environ, **sandbox.environ},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert process.returncode == 1
    assert "No space left on device" in process.stderr
    assert "report" not in process.stderr
    assert "Traceback" not in process.stderr


def test_the_limit_that_was_found_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The summary names it, unless the run met no limit. It gives no advice: the next run knows it."""
    with served(conferences=90, quota="token-bucket:rate=100,burst=5") as stand_in:
        use(stand_in, monkeypatch)
        assert main(["end", *stand_in.conference_ids[:80], "--start-rate", "1000"]) == 0
        err = capsys.readouterr().err
        assert re.search(r"^the server's limit seems to be about \d+ requests a second$", err, re.MULTILINE)
        assert "--start-rate" not in err
        assert main(["end", *stand_in.conference_ids[:10], "--rate", "1000"]) == 3  # they have ended
        assert "seems to be" not in capsys.readouterr().err


def test_a_403_for_every_id_stops_the_run(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a few 403s it exits 2 with a question, instead of sending a request for each id."""
    sandbox.plan("403", times=500)
    feed(monkeypatch, "".join(f"conf-{number}\n" for number in range(500)))
    assert main(["end", "--from", "-", "--yes", "--format", "jsonl"]) == 2
    out, err = capsys.readouterr()
    assert len(rows(out)) == 500
    assert "is 9900000 the right account id" in err
    assert requests(sandbox)["end"]["403"] < 20


@pytest.mark.parametrize("how", ["the environment", "an option"])
def test_a_wrong_account_is_no_dead_end(
    sandbox: Sandbox,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    how: str,
) -> None:
    """Its journal cannot be resumed for another account, so the last lines say what to do in both cases."""
    sandbox.plan("403", times=50)
    given = ["--account", "1234567"] if how == "an option" else []
    monkeypatch.setenv("BW_ACCOUNT_ID", "1234567")
    (tmp_path / "ids").write_text("".join(f"conf-{number}\n" for number in range(200)))
    assert main(["end", "--from", str(tmp_path / "ids"), "--yes", *given]) == 2
    asked, resume, anew = capsys.readouterr().err.splitlines()[-3:]
    assert asked == f"is 1234567 the right account id ({given[0] if given else 'BW_ACCOUNT_ID'})?"
    assert "; if it is, resume with: bandwidth-async resume " in resume
    assert anew.startswith(
        "if it is not, set the right one (--account ID) and begin again with another journal"
    )


def test_without_a_command_it_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    """New users type only the name of the program first."""
    assert main([]) == 6
    assert capsys.readouterr().err.startswith("Usage: bandwidth-async [OPTIONS] COMMAND")


def test_an_empty_input_is_done_at_once(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to end is no error, so pipelines go on."""
    assert main(["end", "--from", "/dev/null"]) == 0
    assert capsys.readouterr().err == "there are no conferences to end: /dev/null has no ids\n"
    assert requests(sandbox) == {}


def test_not_one_found_points_to_the_account(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """It exits 3 with a question. If one is found, it exits 0, or 1 with --strict."""
    assert main(["end", "conf-x", "conf-y"]) == 3
    assert "is 9900000 the right account id" in capsys.readouterr().err
    assert main(["end", "conf-x", sandbox.conference_ids[0]]) == 0
    assert main(["end", "conf-x", sandbox.conference_ids[1], "--strict"]) == 1


@pytest.mark.parametrize("status", ["404", "409", "204"])
def test_ending_twice_leaves_nothing_active(monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    """Whatever the server answers to a second end, the conference is not active."""
    with served(conferences=2, already_ended=status) as stand_in:
        use(stand_in, monkeypatch)
        assert main(["end", *stand_in.conference_ids]) == 0
        assert main(["end", *stand_in.conference_ids]) == (3 if status == "404" else 0)


def test_a_deadline_stops_the_run_with_a_row_for_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It exits 5. Untried ids are not_attempted, and every id has a row."""
    with served(conferences=200) as stand_in:
        use(stand_in, monkeypatch)
        arguments = ["--all-active", "--yes", "--rate", "20", "--deadline", "500ms", "--format", "jsonl"]
        assert main(["end", *arguments]) == 5
        out, err = capsys.readouterr()
        said = {row["conference_id"]: row["outcome"] for row in rows(out)}
        assert said.keys() == set(stand_in.conference_ids)
        # On a busy machine the deadline may come before the first is ended, or while one is on its way.
        assert {"not_attempted"} <= set(said.values()) <= {"ended", "unknown", "not_attempted"}
        certain = {id_ for id_, outcome in said.items() if outcome == "ended"}
        assert certain <= ended(stand_in)
        assert not {id_ for id_, outcome in said.items() if outcome == "not_attempted"} & ended(stand_in)
        assert "stopped early: the run's deadline came" in err


def test_a_wait_beyond_the_allowed_stops_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It does not wait so long. It exits 7, prints the time and sends few requests."""
    with served(conferences=200, quota="fixed-window:limit=5,window=1000d") as stand_in:
        use(stand_in, monkeypatch)
        feed(monkeypatch, "".join(f"{id_}\n" for id_ in stand_in.conference_ids))
        assert main(["end", "--from", "-", "--yes", "--format", "jsonl"]) == 7
        out, err = capsys.readouterr()
        assert Counter(row["outcome"] for row in rows(out))["ended"] == 5
        assert len(rows(out)) == 200
        assert "try again in" in err
        assert requests(stand_in)["end"]["429"] < 20


def test_get_shows_a_conference_with_its_members(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints JSON for programs or lines for people. A 404 exits 3."""
    first = sandbox.conference_ids[0]
    assert main(["get", first, "--format", "json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["conference_id"], record["completed_time"]) == (first, None)
    assert [set(member) for member in record["active_members"]] == [
        {"call_id", "conference_id", "member_url", "mute", "hold", "call_ids_to_coach"}
    ] * len(record["active_members"])
    assert main(["get", first]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["conference_id", first]
    assert main(["get", "conf-none"]) == 3
    assert "answered 404" in capsys.readouterr().err


def test_list_stops_at_its_limit(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """--limit counts the printed conferences, after --active."""
    assert main(["end", sandbox.conference_ids[0]]) == 0
    capsys.readouterr()
    assert main(["list", "--active", "--limit", "2", "--format", "jsonl"]) == 0
    assert [row["conference_id"] for row in rows(capsys.readouterr().out)] == sandbox.conference_ids[1:3]


@pytest.mark.parametrize("hint", ["retry-after", "none"])
@pytest.mark.parametrize(
    "command", [["end", "conf-1", "conf-2"], ["end", "--all-active", "--yes"], ["wait", "conf-1"]]
)
def test_a_429_that_outlasts_the_deadline_is_the_rate_limit_s(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str], hint: str
) -> None:
    """It exits 7 as Bandwidth's own command line does, whatever it waited for."""
    with served(conferences=2, quota="fixed-window:limit=1,window=60s", hint=hint) as stand_in:
        use(stand_in, monkeypatch)
        assert main(["list"]) == 0  # the quota
        capsys.readouterr()
        assert main([*command, "--deadline", "1"]) == 7
        assert "429" in capsys.readouterr().err


def test_a_deadline_in_a_run_that_is_only_slow_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 429 now and then is how the rate is found, and no reason why the deadline came."""
    with served(conferences=200, quota="fixed-window:limit=20,window=500ms") as stand_in:
        use(stand_in, monkeypatch)
        assert main(["end", "--all-active", "--yes", "--deadline", "3"]) == 5
        assert requests(stand_in)["end"]["429"] > 0


def test_an_api_user_is_warned_once(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Although ``--all-active`` makes two clients: one that lists, and one that ends."""
    monkeypatch.delenv("BW_CLIENT_ID")
    monkeypatch.delenv("BW_CLIENT_SECRET")
    monkeypatch.setenv("BW_USERNAME", sandbox.username)
    monkeypatch.setenv("BW_PASSWORD", sandbox.password)
    monkeypatch.setattr(time, "time", lambda: datetime(2026, 11, 27, tzinfo=UTC).timestamp())
    assert main(["end", "--all-active", "--yes"]) == 0
    err = capsys.readouterr().err
    assert err.startswith("bandwidth-async: Bandwidth removes API users (BW_USERNAME and BW_PASSWORD) on 2 D")
    assert err.count("API users") == 1


def test_a_dead_host_is_a_sentence(
    capsys: pytest.CaptureFixture[str], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no traceback, and it exits 1."""
    monkeypatch.setenv("BW_VOICE_URL", "http://127.0.0.1:1")
    assert main(["list"]) == 1
    *again, why = capsys.readouterr().err.splitlines()
    assert "no connection" in why
    assert "after 5 attempts" in why
    assert [line.rpartition("; ")[2] for line in again] == [
        f"trying again ({number} of 5)" for number in range(2, 6)
    ]


@pytest.mark.parametrize("command", [[], *([name] for name in cli.commands)])
def test_every_command_has_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """--help explains every option and names the exit codes."""
    assert main([*command, "--help"]) == 0
    assert "Exit codes: 0 ok" in capsys.readouterr().out


def test_every_option_is_explained() -> None:
    """Every option has a help text."""
    unexplained = [
        f"{name} {option.opts[0]}"
        for name, command in cli.commands.items()
        for option in command.params
        if option.param_type_name == "option" and not getattr(option, "help", None)
    ]
    assert unexplained == []


def test_an_unforeseen_error_is_a_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in the program prints no traceback."""

    def broken(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("bandwidth_async.cli.conferences.event_loop.run", broken)
    monkeypatch.setattr("bandwidth_async.cli.conferences._get", lambda _: None)
    assert main(["get", "conf-1"]) == 1
    assert "unexpected RuntimeError: boom" in capsys.readouterr().err


def unmeasured() -> dict[str, str]:
    """Return the environment without coverage. A limit on file sizes would cut the file of coverage too."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}


def start(stand_in: Sandbox, *arguments: str, **streams: Any) -> subprocess.Popen[str]:
    limited = "preexec_fn" in streams
    return subprocess.Popen(
        [sys.executable, "-m", "bandwidth_async", *arguments],
        env={**(unmeasured() if limited else os.environ), **stand_in.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **streams,
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_lets_what_is_in_flight_finish(number: signal.Signals, code: int) -> None:
    """It sends nothing more, prints the summary, and a row for each id that agrees with the sandbox."""
    with served(conferences=300, latency="50ms") as stand_in:
        process = start(stand_in, "end", "--all-active", "--yes", "--rate", "50", "--format", "jsonl")
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        said = {row["conference_id"]: row["outcome"] for row in rows(first + out)}
        assert process.returncode == code
        assert said.keys() == set(stand_in.conference_ids)
        assert {id_ for id_, outcome in said.items() if outcome == "ended"} == ended(stand_in)
        assert f"stopped early, by {number.name}" in err


@pytest.mark.parametrize(
    ("first", "how", "second"),
    [
        (signal.SIGINT, "repeat it", signal.SIGINT),
        (signal.SIGHUP, "send SIGTERM", signal.SIGTERM),
    ],
)
def test_a_second_signal_stops_at_once(first: signal.Signals, how: str, second: signal.Signals) -> None:
    """Requests without a response become unknown, and it waits for none of them."""
    with served(conferences=20) as stand_in:
        stand_in.plan("hang-before", times=20)
        ids = stand_in.conference_ids
        process = start(stand_in, "end", *ids, "--rate", "1000", "--format", "jsonl")
        while requests(stand_in).get("end", {}).get("hang-before", 0) < len(ids):
            time.sleep(0.01)
        process.send_signal(first)
        assert process.stderr is not None
        assert f"{how} to stop at once" in process.stderr.readline()
        process.send_signal(second)
        out, _ = process.communicate(timeout=5)
        assert process.returncode == 128 + first
        assert Counter(row["outcome"] for row in rows(out)) == {"unknown": 20}


@pytest.mark.parametrize("recorded", [True, False])
def test_a_reader_that_goes_away(*, recorded: bool) -> None:
    """``end … | head -1``: the run goes on, since its journal has a row for each id. Without one it stops."""
    with served(conferences=300) as stand_in:
        words = ["end", "--all-active", "--yes", "--rate", "100", "--format", "jsonl"]
        process = start(stand_in, *words, *([] if recorded else ["--no-journal"]))
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
        code = process.wait(timeout=30)
        process.stderr.close()
        if recorded:
            assert "nobody reads the outcomes any more; the journal has them all\n" in err
            assert (code, len(ended(stand_in))) == (0, 300)
        else:
            assert json.loads(err.splitlines()[-1]) == {
                "error": "the outcomes could not all be written: Broken pipe",
                "exit_code": 1,
            }
            assert code == 1
            assert len(ended(stand_in)) < 300


def test_the_sandbox_command_prints_what_to_export() -> None:
    """It prints its URL and the BW_… lines, and exits 0 after a signal."""
    with subprocess.Popen(
        [sys.executable, "-m", "bandwidth_async", "sandbox", "--port", "0", "--conferences", "5"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(6)]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    assert lines[0].startswith("# sandbox with 5 active conferences at http://127.0.0.1:")
    assert [line.split("=")[0] for line in lines[1:]] == [
        "export BW_ACCOUNT_ID",
        "export BW_CLIENT_ID",
        "export BW_CLIENT_SECRET",
        "export BW_VOICE_URL",
        "export BW_API_URL",
    ]


def test_the_sandbox_command_warns_of_an_address_that_others_reach() -> None:
    """A line says so, and where events go; it is a comment to a shell."""
    with subprocess.Popen(
        [sys.executable, "-m", "bandwidth_async", "sandbox", "--port", "0", "--host", "0.0.0.0"],  # noqa: S104
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(7)]
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=10) == 0
    assert lines[1].startswith("# warning: others may reach 0.0.0.0, ")
    assert "--event-url only" in lines[1]
    assert lines[6].startswith("export BW_API_URL=")


def test_the_demo_agrees_with_the_truth(capsys: pytest.CaptureFixture[str]) -> None:
    """It prints the counts of the client and of the sandbox, and that they agree."""
    assert main(["demo", "--conferences", "60"]) == 0
    out = capsys.readouterr().out
    assert "the client says:  60 of 60 ended" in out
    assert "they agree, id by id" in out
