"""The commands on conferences, members and recordings, against the sandbox."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bandwidth_async.cli import main
from bandwidth_async.cli import members as cli_members
from bandwidth_async.cli import recordings as cli_recordings
from bandwidth_async.errors import DeadlineExceededError
from bandwidth_async.models import ConferenceMember, ConferenceRecording
from bandwidth_async.pytest_plugin import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bandwidth_async.sandbox import Sandbox

URL = "https://example.com/bxml"
PLAY = "<Bxml><SpeakSentence>Bye</SpeakSentence></Bxml>"
SIZE = 300_044


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Serve two conferences of three members and two recordings, and set the environment for it."""
    for name in ("BW_USERNAME", "BW_PASSWORD", "BW_ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)
    with serving(conferences=2, members=3, recordings=2, recording_size=SIZE) as bandwidth:
        for name, value in bandwidth.environ.items():
            monkeypatch.setenv(name, value)
        yield bandwidth.sandbox


@pytest.fixture
def conference(sandbox: Sandbox) -> str:
    """Return the id of the first conference."""
    return sandbox.conference_ids[0]


@pytest.fixture
def recording(sandbox: Sandbox, conference: str) -> str:
    """Return the id of its first recording."""
    return sandbox.recording_ids(conference)[0]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def requests(sandbox: Sandbox) -> dict[str, dict[str, int]]:
    return {kind: counts for kind, counts in sandbox.truth()["requests"].items() if counts}


def settings(capsys: pytest.CaptureFixture[str], conference: str) -> list[tuple[bool, bool]]:
    """Return (mute, hold) of each member, as the sandbox has them."""
    capsys.readouterr()
    assert main(["members", conference, "--format", "jsonl"]) == 0
    return [(member["mute"], member["hold"]) for member in rows(capsys.readouterr().out)]


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes, *, terminal: bool = False) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(data))
    monkeypatch.setattr(stdin, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stdin", stdin)


def test_members_are_listed(sandbox: Sandbox, conference: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Members come in columns for people, and as JSON lines for programs."""
    ids = sandbox.call_ids(conference)
    assert main(["mute", conference, ids[0]]) == 0
    capsys.readouterr()
    assert main(["members", conference]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["call_id", "mute", "hold", "call_ids_to_coach"],
        [ids[0], "yes", "no", "-"],
        [ids[1], "no", "no", "-"],
        [ids[2], "no", "no", "-"],
    ]
    assert main(["members", conference, "--format", "jsonl"]) == 0
    assert rows(capsys.readouterr().out)[0] == {
        "call_id": ids[0],
        "conference_id": conference,
        "member_url": f"{sandbox.url}/api/v2/accounts/9900000/conferences/{conference}/members/{ids[0]}",
        "mute": True,
        "hold": False,
        "call_ids_to_coach": [],
    }


def test_one_member_is_shown(sandbox: Sandbox, conference: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Named members are requested one by one; an unknown one exits 3."""
    one = sandbox.call_ids(conference)[1]
    assert main(["members", conference, one, "--format", "jsonl"]) == 0
    assert [row["call_id"] for row in rows(capsys.readouterr().out)] == [one]
    assert main(["members", conference, "c-none"]) == 3
    assert requests(sandbox)["get-member"] == {"200": 1, "404": 1}
    assert "get" not in requests(sandbox)


def test_nobody_there_is_said(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty conference is no error, and standard output stays empty."""
    empty = sandbox.add_conference(members=0)
    assert main(["members", empty]) == 0
    assert main(["mute", empty, "--all"]) == 0
    assert capsys.readouterr() == ("", 2 * "there are no active members\n")


def test_an_answer_without_members_is_not_taken_for_nobody(
    conference: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise --all would change nothing and exit 0."""

    class Listed:
        active_members = None

    async def get_conference(*_: object) -> Listed:
        return Listed()

    monkeypatch.setattr("bandwidth_async.client.VoiceClient.get_conference", get_conference)
    assert main(["mute", conference, "--all"]) == 1
    assert "does not say who is in the conference" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("commands", "done", "after"),
    [
        (["mute"], "muted", (True, False)),
        (["mute", "unmute"], "unmuted", (False, False)),
        (["hold"], "held", (False, True)),
        (["hold", "unhold"], "unheld", (False, False)),
        (["mute", "hold"], "held", (True, True)),
    ],
)
def test_members_are_set(
    sandbox: Sandbox,
    conference: str,
    capsys: pytest.CaptureFixture[str],
    commands: list[str],
    done: str,
    after: tuple[bool, bool],
) -> None:
    """The named members are changed once each, however often named; the others stay as they are."""
    first, second, _ = sandbox.call_ids(conference)
    for command in commands:
        capsys.readouterr()
        assert main([command, conference, second, first, second, "--format", "jsonl"]) == 0
    out, err = capsys.readouterr()
    assert (rows(out), err) == (
        [{"call_id": call_id, "done": done, "error": None} for call_id in (second, first)],
        "",
    )
    assert requests(sandbox)["update-member"] == {"204": 2 * len(commands)}
    assert settings(capsys, conference) == [after, after, (False, False)]


def test_all_members_are_set(sandbox: Sandbox, conference: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--all changes the members that are in the conference now."""
    assert main(["hold", conference, "--all"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["call_id", "done", "error"]
    assert [line.split() for line in lines] == [[id_, "held", "-"] for id_ in sandbox.call_ids(conference)]
    assert settings(capsys, conference) == [(False, True)] * 3


def test_a_stranger_among_them_is_exit_3(
    sandbox: Sandbox, conference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other members are still changed, and one sentence counts the failures."""
    one = sandbox.call_ids(conference)[0]
    assert main(["mute", conference, "c-none", one, "--format", "jsonl"]) == 3
    out, err = capsys.readouterr()
    failed, muted = rows(out)
    assert (failed["call_id"], failed["done"]) == ("c-none", None)
    assert "answered 404" in failed["error"]
    assert muted == {"call_id": one, "done": "muted", "error": None}
    assert json.loads(err)["error"] == "1 of 2 members were not muted"


@pytest.mark.parametrize(("fault", "code"), [("501", 1), ("409", 4)])
def test_the_worst_decides_the_exit_code(
    sandbox: Sandbox, conference: str, capsys: pytest.CaptureFixture[str], fault: str, code: int
) -> None:
    """Any other failure weighs more than a 404."""
    one, two, _ = sandbox.call_ids(conference)
    sandbox.plan(fault, times=1)
    assert main(["mute", conference, "c-none", one, two, "c-nobody"]) == code
    assert "members were not muted" in capsys.readouterr().err


def test_who_leaves_meanwhile_is_no_failure_of_all(
    sandbox: Sandbox, conference: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --all, a member that has left meanwhile needs no change."""
    listed = cli_members._active_members

    async def then_one_leaves(*arguments: Any) -> Any:
        members = await listed(*arguments)
        sandbox.plan("404")
        return members

    monkeypatch.setattr(cli_members, "_active_members", then_one_leaves)
    assert main(["mute", conference, "--all", "--format", "jsonl"]) == 0
    out, err = capsys.readouterr()
    assert (sorted(row["done"] for row in rows(out)), err) == (["gone", "muted", "muted"], "")
    assert {row["error"] for row in rows(out)} == {None}


@pytest.mark.parametrize("odd", ["..;", "../x", "a\r\nX", "\ud800", "a b"])
def test_an_odd_id_of_the_server_is_not_wrong_use(
    sandbox: Sandbox,
    conference: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    odd: str,
) -> None:
    """The user gave no id, so it exits 1 instead of 6, and the other members are changed."""

    async def with_an_odd_one(*_: object) -> list[ConferenceMember]:
        return [ConferenceMember(call_id=odd), ConferenceMember(call_id=sandbox.call_ids(conference)[0])]

    monkeypatch.setattr(cli_members, "_active_members", with_an_odd_one)
    assert main(["mute", conference, "--all", "--format", "jsonl"]) == 1
    out, err = capsys.readouterr()
    failed, muted = rows(out)
    assert (failed["call_id"], failed["done"], muted["done"]) == (odd, None, "muted")
    assert failed["error"].startswith("the server lists a member with an unusable id: ")
    assert json.loads(err)["error"] == "1 of 2 members were not muted"


def test_more_members_than_fit_are_asked_in_turns(
    sandbox: Sandbox, conference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every member gets a line, in the order given."""
    ids = [f"c-{number}" for number in range(45)]
    assert main(["mute", conference, *ids, "--format", "jsonl"]) == 3
    out, err = capsys.readouterr()
    assert [row["call_id"] for row in rows(out)] == ids
    assert json.loads(err)["error"] == "45 of 45 members were not muted"
    assert requests(sandbox)["update-member"] == {"404": 45}


@pytest.mark.parametrize(
    "arguments",
    [
        ["members", "{id}"],
        ["mute", "{id}", "c-1", "c-2"],
        ["unhold", "{id}", "--all"],
        ["redirect", "{id}", URL],
        ["announce", "{id}", "--bxml", "bye.xml"],
        ["wait", "{id}"],
        ["recordings", "{id}"],
        ["download", "{id}", "r-1"],
    ],
)
@pytest.mark.parametrize(
    ("changes", "code", "sentence"),
    [
        ({"BW_CLIENT_SECRET": "wrong"}, 2, "check the client id and secret"),
        ({"BW_CLIENT_SECRET": ""}, 2, "BW_CLIENT_SECRET is not set"),
        ({"BW_ACCOUNT_ID": "1"}, 2, "answered 401"),
    ],
)
def test_refused_or_missing_credentials_are_one_sentence(
    conference: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    changes: dict[str, str],
    code: int,
    sentence: str,
) -> None:
    """It exits 2, prints nothing on standard output and leaves no file."""
    (folder / "bye.xml").write_text(PLAY)
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    assert main([word.format(id=conference) for word in arguments]) == code
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines()), sentence in err) == ("", 1, True)
    assert [path.name for path in folder.iterdir()] == ["bye.xml"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["members", "conf-none"],
        ["mute", "conf-none", "--all"],
        ["redirect", "conf-none", URL],
        ["announce", "conf-none", "--bxml", "bye.xml"],
        ["wait", "conf-none"],
        ["recordings", "conf-none"],
        ["download", "conf-none", "r-1"],
        ["download", "conf-none", "r-1", "--output", "-"],
    ],
)
def test_what_is_not_there_is_exit_3(
    sandbox: Sandbox, folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """One sentence names what was not found."""
    (folder / "bye.xml").write_text(PLAY)
    assert main(arguments) == 3
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines()), "answered 404" in err) == ("", 1, True)
    assert [path.name for path in folder.iterdir()] == ["bye.xml"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["mute", "conf-1"], "name the members: give call ids or --all"),
        (["mute", "conf-1", "c-1", "--all"], "name the members: give call ids or --all"),
        (["mute", "conf-1", "c-1", "a/b"], "'a/b' is no call id"),
        (["mute", "../x", "c-1"], "'../x' is no conference id"),
        (["redirect", "conf-1"], "Missing argument 'URL'"),
        (["redirect", "conf-1", "ftp://x"], "must be a URL that starts with http"),
        (["redirect", "conf-1", "http://me:secret@host/"], "give them as username and password"),
        (["redirect", "conf-1", URL, "--method", "PUT"], "'PUT' is not one of"),
        (["redirect", "conf-1", URL, "--password-env", "X"], "--password-env goes with --username"),
        (["redirect", "conf-1", URL, "--username", "me"], "name its variable with --password-env"),
        (
            ["redirect", "conf-1", URL, "--username", "me", "--password-env", "hunter2"],
            "the variable that --password-env names is not set",
        ),
        (["redirect", "conf-1", URL, "--fallback-username", "me"], "goes with --fallback-url"),
        (["redirect", "conf-1", URL, "--fallback-method", "GET"], "goes with --fallback-url"),
        (
            ["redirect", "conf-1", URL, "--fallback-url", URL, "--fallback-password-env", "X"],
            "--fallback-password-env goes with --fallback-username",
        ),
        (["announce", "conf-1"], "Missing option '--bxml'"),
        (["announce", "conf-1", "--bxml", "none.xml"], "cannot read none.xml: No such file"),
        (["announce", "conf-1", "--bxml", "latin.xml"], "latin.xml is not UTF-8 text"),
        (["announce", "conf-1", "--bxml", "broken.xml"], "the BXML is not well-formed"),
        (["announce", "conf-1", "--bxml", "hangup.xml"], "<Hangup> is not for a conference"),
        (["wait", "conf-1", "--deadline", "soon"], "'soon' is not a duration"),
        (["download", "conf-1", "../../x"], "is no recording id"),
        (["download", "conf-1", "r-1", "--output", "-", "--force"], "--force goes with a file"),
        (["download", "conf-1", "r-1", "--output", "latin.xml"], "--force to replace it"),
        (["download", "conf-1", "r-1", "--output", "."], "is a folder"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_6(
    sandbox: Sandbox,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    sentence: str,
) -> None:
    """The sentence says what to change and shows no password, and nothing was sent."""
    files = {"latin.xml": b"\xe9", "broken.xml": b"<Bxml>", "hangup.xml": b"<Bxml><Hangup/></Bxml>"}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    feed(monkeypatch, b"")
    assert main(arguments) == 6
    out, err = capsys.readouterr()
    assert (out, sentence in err, "Traceback" in err, "hunter2" in err) == ("", True, False, False)
    assert requests(sandbox) == {}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


@pytest.fixture
def redirected(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Record the redirects that the client is asked for instead of sending them."""
    sent: list[dict[str, str]] = []

    async def update_conference(_: object, conference_id: str, update: Any) -> None:
        sent.append({"id": conference_id, **update.to_dict()})

    monkeypatch.setattr("bandwidth_async.client.VoiceClient.update_conference", update_conference)
    return sent


def test_redirect_sends_what_it_was_told(
    sandbox: Sandbox, redirected: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sends both URLs with their methods and credentials, and passwords from the environment."""
    monkeypatch.setenv("FIRST", "one")
    monkeypatch.setenv("SECOND", "two")
    first = ["--method", "GET", "--username", "me", "--password-env", "FIRST"]
    second = ["--fallback-url", f"{URL}2", "--fallback-method", "POST"]
    third = ["--fallback-username", "you", "--fallback-password-env", "SECOND"]
    assert main(["redirect", "conf-1", URL, *first, *second, *third]) == 0
    assert main(["redirect", "conf-1", URL]) == 0
    assert redirected == [
        {
            "id": "conf-1",
            "redirectUrl": URL,
            "redirectMethod": "GET",
            "username": "me",
            "password": "one",
            "redirectFallbackUrl": f"{URL}2",
            "redirectFallbackMethod": "POST",
            "fallbackUsername": "you",
            "fallbackPassword": "two",
        },
        {"id": "conf-1", "redirectUrl": URL},
    ]


def test_redirect_asks_for_the_password(
    sandbox: Sandbox,
    redirected: list[dict[str, str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It asks on a terminal, without showing what is typed."""
    feed(monkeypatch, b"", terminal=True)
    monkeypatch.setattr("click.termui.hidden_prompt_func", lambda _: "typed")
    assert main(["redirect", "conf-1", URL, "--username", "me"]) == 0
    assert redirected == [{"id": "conf-1", "redirectUrl": URL, "username": "me", "password": "typed"}]
    assert "typed" not in "".join(capsys.readouterr())


def test_redirect_is_accepted(sandbox: Sandbox, conference: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The output says that the server has accepted the redirect."""
    assert main(["redirect", conference, URL]) == 0
    assert capsys.readouterr() == (f"{conference}: redirect accepted\n", "")
    assert requests(sandbox)["redirect"] == {"204": 1}


@pytest.mark.parametrize("source", ["bye.xml", "-"])
def test_announce_sends_bxml(
    sandbox: Sandbox,
    conference: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    source: str,
) -> None:
    """It reads a file or standard input, with a byte order mark or without."""
    bxml = "\ufeff<Bxml><StartRecording/></Bxml>".encode()
    (folder / "bye.xml").write_bytes(bxml)
    feed(monkeypatch, bxml)
    assert main(["announce", conference, "--bxml", source]) == 0
    assert capsys.readouterr() == (f"{conference}: BXML accepted\n", "")
    assert len(sandbox.recording_ids(conference)) == 3


def test_a_byte_order_mark_is_not_sent(
    sandbox: Sandbox, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Editors write it, but it is no part of the BXML."""
    sent = []

    async def note(_: object, __: str, bxml: str) -> None:
        sent.append(bxml)

    monkeypatch.setattr("bandwidth_async.client.VoiceClient.update_conference_bxml", note)
    (folder / "bye.xml").write_text(PLAY, encoding="utf-8-sig")
    assert main(["announce", "conf-1", "--bxml", "bye.xml"]) == 0
    assert sent == [PLAY]


@pytest.mark.parametrize(
    "arguments", [["redirect", "{id}", URL], ["announce", "{id}", "--bxml", "bye.xml"]], ids=lambda it: it[0]
)
def test_what_may_have_been_heard_is_not_repeated(
    sandbox: Sandbox, conference: str, folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """If the response is lost, one request is sent, and the error says that it may have arrived."""
    (folder / "bye.xml").write_text(PLAY)
    sandbox.plan("reset-after")
    assert main([word.format(id=conference) for word in arguments]) == 1
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert err.endswith("; the update may have arrived, so check before you repeat it\n")
    assert sum(sum(counts.values()) for kind, counts in requests(sandbox).items() if kind != "token") == 1


def test_a_plain_no_is_not_called_uncertain(
    sandbox: Sandbox, conference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A refused redirect certainly did not happen."""
    sandbox.plan("409")
    assert main(["redirect", conference, URL]) == 4
    assert "may have arrived" not in capsys.readouterr().err


def test_wait_returns_when_the_conference_has_completed(
    sandbox: Sandbox, conference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It returns at once for one that has ended, and prints the time of the end."""
    assert main(["end", conference]) == 0
    capsys.readouterr()
    assert main(["wait", conference]) == 0
    ended_at = sandbox.truth()["conferences"][conference]["ended_at"]
    assert capsys.readouterr() == (f"{conference} completed {ended_at}\n", "")


def test_wait_gives_up_at_its_deadline(conference: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It exits 5."""
    assert main(["wait", conference, "--deadline", "50ms"]) == 5
    assert "was still active when its 0.05 s were over" in capsys.readouterr().err


def test_wait_outlasts_an_outage(
    sandbox: Sandbox, conference: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A look-up that fails with all its attempts is logged, and another one follows."""
    assert main(["end", conference]) == 0
    sandbox.plan("503", times=6)
    capsys.readouterr()
    assert main(["wait", conference]) == 0
    assert capsys.readouterr().out.startswith(f"{conference} completed ")
    assert [message for message in caplog.messages if "is read again later" in message] != []


def test_recordings_are_listed(
    sandbox: Sandbox, conference: str, recording: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Recordings come in columns or as JSON lines, all or only the named ones."""
    both = sandbox.recording_ids(conference)
    assert main(["recordings", conference]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["recording_id", "status", "start_time", "duration", "file_format"]
    assert [line.split()[0] for line in lines] == both
    assert main(["recordings", conference, "--format", "jsonl"]) == 0
    first, second = rows(capsys.readouterr().out)
    assert (first["recording_id"], second["recording_id"]) == tuple(both)
    assert first["start_time"].endswith("Z")
    assert main(["recordings", conference, recording, "--format", "jsonl"]) == 0
    assert rows(capsys.readouterr().out) == [first]
    assert requests(sandbox)["get-recording"] == {"200": 1}


def test_no_recordings_are_said(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """No recordings are no error, and standard output stays empty."""
    assert main(["recordings", sandbox.add_conference()]) == 0
    assert capsys.readouterr() == ("", "there are no recordings\n")


def test_control_characters_stay_away_from_the_terminal(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are escaped in columns and in JSON, whatever the server sends."""
    bad = "\x1b[31mred\x07\nline"

    async def members(*_: object) -> list[ConferenceMember]:
        return [ConferenceMember(call_id=bad, call_ids_to_coach=(bad,))]

    async def recordings(*_: object) -> list[ConferenceRecording]:
        return [ConferenceRecording(recording_id=bad, status=bad, duration=bad, file_format=bad)]

    monkeypatch.setattr(cli_members, "_members", members)
    monkeypatch.setattr(cli_recordings, "_recordings", recordings)
    for command in ("members", "recordings"):
        for form in ("table", "jsonl"):
            assert main([command, "conf-1", "--format", form]) == 0
    out, err = capsys.readouterr()
    assert (out.replace("\n", "").isprintable(), out.count("red"), err) == (True, 2 + 2 + 4 + 4, "")
    assert len(out.splitlines()) == 2 + 1 + 2 + 1


def test_download_names_the_file_by_id_and_format(
    sandbox: Sandbox, conference: str, recording: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard output has only the file's name, and the file has every byte."""
    assert main(["download", conference, recording]) == 0
    assert capsys.readouterr() == (f"{recording}.wav\n", "")
    (file,) = folder.iterdir()
    assert (file.name, file.stat().st_size) == (f"{recording}.wav", SIZE)
    assert file.read_bytes() == b"".join(sandbox.sound(conference, recording))


@pytest.mark.parametrize(
    ("file_format", "name"),
    [("WAV", "r-1.wav"), ("mp3", "r-1.mp3"), (None, "r-1"), ("../x", "r-1"), ("a b", "r-1"), ("", "r-1")],
)
def test_a_format_is_a_word_or_no_part_of_the_name(file_format: str | None, name: str) -> None:
    """The server cannot choose where a file goes."""
    assert cli_recordings._file_name("r-1", file_format) == name


def test_download_replaces_a_file_only_with_force(
    sandbox: Sandbox, conference: str, recording: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --force the old file stays, and the sentence names the option."""
    file = folder / "r.wav"
    file.write_bytes(b"old")
    assert main(["download", conference, recording, "--output", "r.wav"]) == 6
    assert "r.wav exists; choose another --output, or --force" in capsys.readouterr().err
    assert file.read_bytes() == b"old"
    assert main(["download", conference, recording, "--output", "r.wav", "--force"]) == 0
    assert file.stat().st_size == SIZE
    assert list(folder.iterdir()) == [file]


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize(
    ("output", "sentence"),
    [("/dev/null", "is no regular file"), ("new/", "is a folder"), ("", "path of a file")],
)
def test_download_refuses_what_is_no_file(
    sandbox: Sandbox,
    recording: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    output: str,
    sentence: str,
    force: list[str],
) -> None:
    """It exits 6, also with --force, and sends nothing."""
    assert main(["download", sandbox.conference_ids[0], recording, "--output", output, *force]) == 6
    assert sentence in capsys.readouterr().err
    assert "download" not in requests(sandbox)
    assert list(folder.iterdir()) == []


def test_a_file_that_appears_meanwhile_is_not_replaced(
    conference: str, recording: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it appears after the check, the command exits 6 and leaves it alone."""
    monkeypatch.setattr(cli_recordings, "_check_free", lambda path, _: Path(path).write_bytes(b"theirs"))
    assert main(["download", conference, recording, "--output", "r.wav"]) == 6
    assert [path.read_bytes() for path in folder.iterdir()] == [b"theirs"]


def test_a_deadline_is_no_fault_of_the_disk(
    sandbox: Sandbox, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python counts a timeout as a file error, but the command exits 5 and not 1."""

    async def too_late(*_: object, **__: object) -> None:
        raise DeadlineExceededError("too late")

    monkeypatch.setattr("bandwidth_async.client.VoiceClient.download_conference_recording", too_late)
    assert main(["download", "conf-1", "r-1", "--output", "r.wav"]) == 5
    assert capsys.readouterr().err == "bandwidth-async: too late\n"


def test_download_to_standard_output(
    sandbox: Sandbox, conference: str, recording: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """It writes the bytes and nothing else."""
    assert main(["download", conference, recording, "--output", "-"]) == 0
    assert capsysbinary.readouterr() == (b"".join(sandbox.sound(conference, recording)), b"")


def test_audio_is_not_shown_on_a_terminal(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal could read the bytes as commands."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["download", "conf-1", "r-1", "--output", "-"]) == 6
    assert "standard output is a terminal" in capsys.readouterr().err
    assert requests(sandbox) == {}


def test_a_cut_is_made_good(
    sandbox: Sandbox, conference: str, recording: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The download starts again, and the file is complete."""
    sandbox.plan("cut@0.7", times=2)
    assert main(["download", conference, recording, "--output", "r.wav"]) == 0
    assert (folder / "r.wav").read_bytes() == b"".join(sandbox.sound(conference, recording))
    assert requests(sandbox)["download"] == {"cut": 2, "200": 1}


def test_a_download_that_stays_cut_leaves_no_file(
    sandbox: Sandbox, conference: str, recording: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It exits 1 with a sentence, and leaves neither a short file nor a partial one."""
    sandbox.plan("cut@0.7", times=20)
    assert main(["download", conference, recording, "--output", "r.wav"]) == 1
    out, err = capsys.readouterr()
    *again, why = err.splitlines()
    assert (out, len(again), "cut after" in why) == ("", 4, True)
    assert all("trying again" in line for line in again)
    assert list(folder.iterdir()) == []


def test_a_cut_on_standard_output_is_exit_1(
    sandbox: Sandbox, conference: str, recording: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Written bytes cannot be taken back, so the exit code says that some are missing."""
    sandbox.plan("cut@0.7")
    assert main(["download", conference, recording, "--output", "-"]) == 1
    out, err = capsysbinary.readouterr()
    assert len(out) == int(0.7 * SIZE)
    assert b"cut after" in err


def test_a_place_that_takes_no_file_is_a_sentence(
    conference: str, recording: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the folder does not exist, the command exits 1 without a traceback."""
    assert main(["download", conference, recording, "--output", "nowhere/r.wav"]) == 1
    assert capsys.readouterr() == (
        "",
        "bandwidth-async: cannot write to nowhere/r.wav: No such file or directory\n",
    )


def test_without_a_terminal_there_are_plain_lines(
    sandbox: Sandbox,
    conference: str,
    recording: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The lines on standard error show the bytes so far and the total."""
    monkeypatch.setattr(cli_recordings, "_LINE_EVERY", 0.0)
    assert main(["download", conference, recording, "--output", "r.wav"]) == 0
    out, err = capsys.readouterr()
    assert out == "r.wav\n"
    assert err.splitlines()[-1] == f"r.wav: {SIZE:,} of {SIZE:,} (100%) bytes"
    assert "\x1b" not in err


def environ(sandbox: Sandbox) -> dict[str, str]:
    return {**os.environ, **sandbox.environ, "TERM": "xterm", "COLUMNS": "120"}


def start(sandbox: Sandbox, *arguments: str, **streams: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "bandwidth_async", *arguments]
    return subprocess.Popen(command, env=environ(sandbox), **streams)


def test_on_a_terminal_there_is_a_bar(
    sandbox: Sandbox, conference: str, recording: str, folder: Path
) -> None:
    """The bar is on standard error, and standard output has only the file's name."""
    master, terminal = pty.openpty()
    process = start(sandbox, "download", conference, recording, stdout=subprocess.PIPE, stderr=terminal)
    os.close(terminal)
    out, _ = process.communicate(timeout=30)
    shown = os.read(master, 100_000)
    os.close(master)
    assert (process.returncode, out) == (0, f"{recording}.wav\n".encode())
    assert f"{recording}.wav".encode() in shown
    assert b"300.0/300.0 kB" in shown


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_no_draft(
    sandbox: Sandbox, conference: str, recording: str, folder: Path, number: signal.Signals, code: int
) -> None:
    """After Ctrl-C in the middle of the bytes there is one sentence, and no partial file."""
    sandbox.plan("slow")
    arguments = ("download", conference, recording, "--output", "r.wav")
    process = start(sandbox, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not any(file.stat().st_size for file in folder.glob(".*.part")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (out, err.strip(), process.returncode) == (b"", b"bandwidth-async: interrupted", code)
    assert list(folder.iterdir()) == []


def test_a_reader_that_goes_away_ends_the_download(sandbox: Sandbox, conference: str, recording: str) -> None:
    """``download … --output - | head -c 10``: exit 1 and no traceback."""
    arguments = ("download", conference, recording, "--output", "-")
    process = start(sandbox, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(timeout=30) == 141
