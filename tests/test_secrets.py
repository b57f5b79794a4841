"""The command line writes no secret. The tests run it at debug level and search all that it writes."""

from __future__ import annotations

import base64
import logging
import re
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from aioresponses import CallbackResult, aioresponses

from bandwidth_async.cli import main
from bandwidth_async.sandbox.authentication import Authentication
from tests.test_cli import served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from yarl import URL

    from bandwidth_async.sandbox import Sandbox

SECRET, PASSWORD = "s3cr3t-of-the-client", "p4ssw0rd-of-the-user"
FAULTS = "503=10%,reset=10%,500=3%,garbage=3%"


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the access tokens that the sandbox issues."""
    given: list[str] = []
    issue = Authentication._issue

    def noted(self: Authentication, now: float) -> str:
        given.append(issue(self, now))
        return given[-1]

    monkeypatch.setattr(Authentication, "_issue", noted)
    return given


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Serve conferences with faults, to a client with secrets that are easy to find."""
    with served(
        conferences=30,
        members="1-2",
        faults=FAULTS,
        token_lifetime="1s",
        client_secret=SECRET,
        username="somebody",
        password=PASSWORD,
        seed=4,
    ) as serving:
        for name in ("BW_USERNAME", "BW_PASSWORD", "BW_ENVIRONMENT"):
            monkeypatch.delenv(name, raising=False)
        for name, value in serving.environ.items():
            monkeypatch.setenv(name, value)
        yield serving


def commands(stand_in: Sandbox, folder: Path) -> Iterator[tuple[str, ...]]:
    """Yield a command of each kind, including commands that fail."""
    ids, rest = stand_in.conference_ids[:3], stand_in.conference_ids[3:]
    (folder / "ids.txt").write_text("\n".join(rest))
    (folder / "announce.xml").write_text("<Bxml><SpeakSentence>bye</SpeakSentence></Bxml>")
    journal = str(folder / "run.journal")
    yield ("list", "--active")
    yield ("get", ids[0], "--format", "json")
    yield ("members", ids[0])
    yield ("mute", ids[0], "--all")
    yield ("announce", ids[0], "--bxml", str(folder / "announce.xml"))
    yield ("redirect", ids[0], "https://example.com/bxml")
    yield ("recordings", ids[0])
    yield ("download", ids[0], "r-none", "--output", str(folder / "none.wav"))
    yield ("end", *ids, "--hang-up", "--verify", "--format", "jsonl", "--output", str(folder / "few.jsonl"))
    yield ("end", "--from", str(folder / "ids.txt"), "--journal", journal, "--deadline", "0.4")
    yield ("resume", journal, "--hang-up")
    yield ("outcomes", journal, "--format", "csv", "--output", str(folder / "all.csv"))
    yield ("runs",)
    yield ("end", "conf-none", "bad/id")


def everything_in(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def run_all(stand_in: Sandbox, folder: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """Run each command with ``-v``, and return its output and the content of all files."""
    written = ""
    for command in commands(stand_in, folder):
        main(["-v", *command])
        out, err = capfd.readouterr()
        assert "Traceback" not in err, command
        written += out + err
    return written + everything_in(folder).decode(errors="replace")


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    """Capture all loggers at debug level, with the arguments and tracebacks of each record."""
    with ExitStack() as levels:
        for name in (None, "asyncio", "aiohttp", "aiohttp.client", "bandwidth_async"):
            levels.enter_context(caplog.at_level(logging.DEBUG, logger=name))
        yield caplog


@pytest.mark.parametrize("legacy", [False, True], ids=["oauth2", "basic"])
def test_no_secret_is_written_anywhere(
    legacy: bool,
    stand_in: Sandbox,
    tokens: list[str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    records: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Output, logs, journals and files contain no secret, no token and no header made from them."""
    if legacy:
        monkeypatch.delenv("BW_CLIENT_ID")
        monkeypatch.delenv("BW_CLIENT_SECRET")
        monkeypatch.setenv("BW_USERNAME", "somebody")
        monkeypatch.setenv("BW_PASSWORD", PASSWORD)
    written = run_all(stand_in, tmp_path, capfd) + records.text
    written += "".join(repr(vars(record)) for record in records.records)
    pairs = (f"{stand_in.client_id}:{SECRET}", f"somebody:{PASSWORD}")
    headers = [base64.b64encode(pair.encode()).decode() for pair in pairs]
    assert bool(tokens) is not legacy
    assert len(written) > 5000
    assert "end conference" in written  # the log is there
    for secret in (SECRET, PASSWORD, *headers, *tokens):
        assert secret not in written


@pytest.mark.parametrize("door", ["token", "api"])
def test_a_secret_that_the_server_quotes_is_not_written(
    door: str,
    mocked: aioresponses,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    records: pytest.LogCaptureFixture,
) -> None:
    """Errors of Bandwidth or a proxy may quote the request's header. All output has stars in its place."""

    def quoting(_: URL, *, headers: Any, **__: Any) -> CallbackResult:
        sent = headers["Authorization"].partition(" ")[2]
        plain = base64.b64decode(sent).decode() if door == "token" else sent
        return CallbackResult(status=400, payload={"type": "quoted", "description": f"{sent} {plain}"})

    token, api = (
        re.compile(r"https://api\.bandwidth\.com/.*"),
        re.compile(r"https://voice\.bandwidth\.com/.*"),
    )
    if door == "token":
        mocked.post(token, callback=quoting, repeat=True)
    else:
        mocked.post(token, payload={"access_token": SECRET, "expires_in": 3600}, repeat=True)
    mocked.post(api, callback=quoting, repeat=True)
    for name in ("USERNAME", "PASSWORD", "ENVIRONMENT", "VOICE_URL", "API_URL"):
        monkeypatch.delenv(f"BW_{name}", raising=False)
    for name, value in {"ACCOUNT_ID": "9900000", "CLIENT_ID": "me", "CLIENT_SECRET": SECRET}.items():
        monkeypatch.setenv(f"BW_{name}", value)
    journal = str(tmp_path / "run.journal")
    assert main(["-v", "end", "conf-1", "conf-2", "--journal", journal]) == (2 if door == "token" else 1)
    main(["-v", "outcomes", journal])
    main(["-v", "runs"])
    out, err = capfd.readouterr()
    written = f"{out}{err}{records.text}{everything_in(tmp_path).decode(errors='replace')}"
    assert out.count("(quoted: *** me:***)" if door == "token" else "(quoted: *** ***)") >= 2
    for secret in (SECRET, base64.b64encode(f"me:{SECRET}".encode()).decode()):
        assert secret not in written
