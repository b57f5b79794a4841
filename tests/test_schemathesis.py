"""The sandbox against a test tool of another project: schemathesis, with Bandwidth's published description.

All its checks and phases run, with made-up ids and with real ones. `schemathesis_hooks` lists the failures
that are allowed. ``pytest tests/test_schemathesis.py --full -s`` takes long: it uses five seeds, each with
made-up ids alone and with real ids alone.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from attrs import frozen

from bandwidth_async.sandbox import Sandbox
from tests import description

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent

# The checks of schemathesis 4. With fewer checks the test would prove less than it claims.
CHECKS = {
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_headers_conformance", "response_schema_conformance", "negative_data_rejection"),
    *("positive_data_acceptance", "missing_required_header", "unsupported_method"),
    *("allow_header_conformance", "use_after_free", "ensure_resource_availability", "ignored_auth"),
    "object_level_authorization",
}
# The kinds of requests in the sandbox's records: one for each operation. An update of a conference or a call
# has two, because it can also end the conference or hang up the call.
OPERATIONS = {
    *("list", "get", "end", "redirect", "bxml", "get-member", "update-member", "list-recordings"),
    *("get-recording", "download", "get-call", "hang-up", "redirect-call"),
}
ACCEPTED = {"200", "204"}


@frozen(kw_only=True)
class Verdict:
    """The result of a schemathesis run."""

    report: dict[str, Any]
    checks: Counter[str]
    allowed: Counter[str]
    output: str


def _needed() -> str | None:
    if importlib.util.find_spec("schemathesis") is None:
        return "schemathesis is not installed: pip install schemathesis"
    return description.missing()


pytestmark = pytest.mark.skipif(_needed() is not None, reason=_needed() or "")


def places(sandbox: Sandbox) -> list[dict[str, str]]:
    """For each conference, return the ids that belong to it."""
    return [
        {
            "accountId": sandbox.account_id,
            "conferenceId": conference_id,
            "memberId": members[0],
            "callId": members[1],
            "recordingId": sandbox.recording_ids(conference_id)[0],
        }
        for conference_id in sandbox.conference_ids
        for members in [sandbox.call_ids(conference_id)]
    ]


def interleaved(sandbox: Sandbox) -> list[dict[str, str]]:
    """Return real ids, with an empty place after every two. An empty place keeps the made-up ids."""
    return [*itertools.chain.from_iterable((place, place, {}) for place in places(sandbox))]


PLACES: dict[str, Callable[[Sandbox], list[dict[str, str]]]] = {
    "made-up": lambda _: [{}],
    "real": places,
    "mixed": interleaved,
}


async def judge(sandbox: Sandbox, folder: Path, ids: list[dict[str, str]], *options: str) -> Verdict:
    """Run schemathesis against a sandbox."""
    (folder / "places.json").write_text(json.dumps(ids))
    (folder / "allowed").touch()
    authorization = aiohttp.encode_basic_auth(sandbox.username, sandbox.password)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", str(description.find())),
        *("--url", f"{sandbox.url}/api/v2", "-H", f"Authorization: {authorization}"),
        *("--checks", "all", "--no-color", "--continue-on-failure", *options),
        *("--report-json-path", str(folder / "report.json")),
        *("--report-ndjson-path", str(folder / "events.ndjson")),
        env={
            **os.environ,
            "PYTHONPATH": str(HERE.parent),
            "SCHEMATHESIS_HOOKS": "tests.schemathesis_hooks",
            "SANDBOX_PLACES": str(folder / "places.json"),
            "SANDBOX_ALLOWED": str(folder / "allowed"),
        },
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert (folder / "report.json").exists(), output.decode()
    return Verdict(
        report=json.loads((folder / "report.json").read_text()),
        checks=Counter(checks_run(folder / "events.ndjson")),
        allowed=Counter((folder / "allowed").read_text().splitlines()),
        output=output.decode(),
    )


def checks_run(events: Path) -> Iterator[str]:
    """Yield the name of every check that ran on a response."""
    for line in events.read_text().splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        for checks in recorder.get("checks", {}).values():
            yield from (check["name"] for check in checks)


# This limit is for the long form. The short form has its own limit in the test.
@pytest.mark.timeout(3600)
async def test_schemathesis_finds_nothing(full: bool, show: Callable[[str], None], tmp_path: Path) -> None:
    """No check fails, no check is left out, and with real ids every operation succeeds at least once."""
    for seed, ids in itertools.product(range(1, 6), ("made-up", "real")) if full else [(1, "mixed")]:
        folder = tmp_path / f"{seed}-{ids}"
        folder.mkdir()
        options = ("--seed", str(seed), "--max-examples", "100" if full else "2")
        async with Sandbox(
            conferences=2000 if full else 400, members=3, recordings=1, recording_size="2KB", seed=seed
        ) as sandbox:
            async with asyncio.timeout(900 if full else 110):
                verdict = await judge(sandbox, folder, PLACES[ids](sandbox), *options)
            requests = sandbox.truth()["requests"]
        cases = verdict.report["test_cases"]
        show(
            f"seed {seed}, {ids} ids: {cases['generated']} cases, {sum(verdict.checks.values())} checks, "
            f"{cases['unique_failures']} failures, allowed: {dict(verdict.allowed)}; {requests}"
        )
        assert (verdict.report["failures"], verdict.report["errors"]) == ([], []), verdict.output
        assert verdict.report["operations"]["tested"] == len(description.Description.load().operations)
        assert verdict.checks.keys() >= CHECKS
        accepted = {kind for kind, answers in requests.items() if answers.keys() & ACCEPTED}
        assert accepted == OPERATIONS or ids == "made-up"


@pytest.fixture
def hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the hooks module that schemathesis uses, without a sandbox."""
    (tmp_path / "places.json").write_text("[{}]")
    monkeypatch.setenv("SANDBOX_PLACES", str(tmp_path / "places.json"))
    return importlib.import_module("tests.schemathesis_hooks")


URL = "https://example.com/"


@pytest.mark.parametrize(
    ("operation", "said", "wrong", "right"),
    [
        (
            "updateConference",
            "redirectUrl is required when status is active",
            [{}, {"status": "active"}],
            [{"status": "completed"}, {"redirectUrl": URL}],
        ),
        (
            "updateConference",
            "redirectFallbackUrl is not allowed when status is completed",
            [{"status": "completed", "redirectFallbackUrl": URL}],
            [{"status": "completed"}, {"redirectFallbackUrl": URL}],
        ),
        (
            "updateCall",
            "tag is not allowed when state is completed",
            [{"state": "completed", "tag": ""}],
            [{"state": "completed"}, {"tag": ""}, {"status": "completed", "tag": ""}],
        ),
        (
            "updateCall",
            "Invalid redirectUrl: only http and https are allowed",
            [{"redirectUrl": "ftp://example.com"}, {"redirectUrl": "/http:"}],
            [{"redirectUrl": URL}, {"redirectUrl": "HTTP://h"}, {"redirectFallbackUrl": "ftp://h"}],
        ),
        (
            "updateConferenceBxml",
            "Invalid BXML: it is not well-formed",
            [{"body": body} for body in ("", "<Bxml>", "<bxml/>", "<Bxml><Hangup/></Bxml>", 5)],
            [{"body": "<Bxml/>"}, {"body": "<Response><StopRecording/></Response>"}],
        ),
        (
            "listConferences",
            "Invalid minCreatedTime: must be an ISO-8601 time",
            [{"minCreatedTime": "yesterday"}, {"minCreatedTime": ""}],
            [{"minCreatedTime": "2026-11-22T08:00:00Z"}, {"maxCreatedTime": "yesterday"}, {}],
        ),
        (
            "listConferences",
            "Invalid pageToken: follow the Link header",
            [{"pageToken": "x"}],
            [{"pageToken": "told"}, {}],
        ),
    ],
)
def test_the_word_of_the_sandbox_alone_allows_nothing(
    hooks: Any,
    operation: str,
    said: str,
    wrong: list[dict[str, object]],
    right: list[dict[str, object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A 400 is allowed only if the hooks find the same mistake in the request."""
    monkeypatch.setattr(hooks, "_TOLD", {"told"})
    assert [hooks.allowance(operation, said, it) is None for it in wrong] == [False] * len(wrong)
    assert [hooks.allowance(operation, said, it) for it in right] == [None] * len(right)
    assert [hooks.allowance(operation, "Something else", it) for it in wrong] == [None] * len(wrong)
