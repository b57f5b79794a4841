"""The commands for one conference and its recordings, against the sandbox."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from bandwidth_async.cli import main
from bandwidth_async.models import ConferenceMember, ConferenceRecording
from bandwidth_async.pytest_plugin import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bandwidth_async.sandbox import Sandbox

URL = "https://example.com/bxml"
PLAY = "<Bxml><SpeakSentence>Bye</SpeakSentence></Bxml>"
SIZE = 300_044


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Serve two conferences of three members and two recordings, with the environment that leads there."""
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
    """Return (mute, hold) of each member, as the sandbox tells it."""
    capsys.readouterr()
    assert main(["members", conference, "--format", "jsonl"]) == 0
    return [(member["mute"], member["hold"]) for member in rows(capsys.readouterr().out)]


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes, *, terminal: bool = False) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(data))
    monkeypatch.setattr(stdin, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stdin", stdin)


def test_members_are_listed(sandbox: Sandbox, conference: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As columns for people, as JSON lines for programs."""
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
    """Named members only, each asked for by itself; a stranger is exit 3."""
    one = sandbox.call_ids(conference)[1]
    assert main(["members", conference, one, "--format", "jsonl"]) == 0
    assert [row["call_id"] for row in rows(capsys.readouterr().out)] == [one]
    assert main(["members", conference, "c-none"]) == 3
    assert requests(sandbox)["get-member"] == {"200": 1, "404": 1}
    assert "get" not in requests(sandbox)


def test_nobody_there_is_said(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty conference is no error, and nothing is printed that a program would read."""
    empty = sandbox.add_conference(members=0)
    assert main(["members", empty]) == 0
    assert main(["mute", empty, "--all"]) == 0
    assert capsys.readouterr() == ("", 2 * "there are no active members\n")


def test_an_answer_without_members_is_not_taken_for_nobody(
    conference: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else --all would change nothing and exit 0."""

    class Listed:
        active_members = None

    async def get_conference(*_: object) -> Listed:
        return Listed()

    monkeypatch.setattr("bandwidth_async.client.VoiceClient.get_conference", get_conference)
    assert main(["mute", conference, "--all"]) == 1
    assert "leaves out who is in the conference" in capsys.readouterr().err


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
    """The named ones, once each however often named; what is not named stays as it is."""
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


def test_all_members_are_set(
    sandbox: Sandbox, conference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """--all takes those who are in the conference now."""
    assert main(["hold", conference, "--all"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["call_id", "done", "error"]
    assert [line.split() for line in lines] == [[id_, "held", "-"] for id_ in sandbox.call_ids(conference)]
    assert settings(capsys, conference) == [(False, True)] * 3


def test_a_stranger_among_them_is_exit_3(
    sandbox: Sandbox, conference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are set all the same; one sentence says how many were not."""
    one = sandbox.call_ids(conference)[0]
    assert main(["mute", conference, "c-none", one, "--format", "jsonl"]) == 3
    out, err = capsys.readouterr()
    failed, muted = rows(out)
    assert (failed["call_id"], failed["done"]) == ("c-none", None)
    assert "answered 404" in failed["error"]
    assert muted == {"call_id": one, "done": "muted", "error": None}
    assert err == "bandwidth-async: 1 of 2 members were not muted\n"


@pytest.mark.parametrize(("fault", "code"), [("501", 1), ("409", 4)])
def test_the_worst_decides_the_exit_code(
    sandbox: Sandbox, conference: str, capsys: pytest.CaptureFixture[str], fault: str, code: int
) -> None:
    """Something else than 404 weighs more than a 404."""
    one, two, _ = sandbox.call_ids(conference)
    sandbox.plan(fault, times=1)
    assert main(["mute", conference, "c-none", one, two, "c-nobody"]) == code
    assert "members were not muted" in capsys.readouterr().err


def test_who_leaves_meanwhile_is_no_failure_of_all(
    sandbox: Sandbox, conference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of all members one has gone between the listing and its turn: gone, exit 0."""
    sandbox.plan("200-after", times=1)  # the listing is answered with an empty 200
    assert main(["mute", conference, "--all"]) == 1
    capsys.readouterr()
    sandbox.plan("slow", times=1)
