"""The table of endpoints: the client methods, commands, sandbox route and independent tests of each.

``pytest tests/test_endpoints.py -s`` prints it. The tests also run every method and every command of the
table against the sandbox, and check which endpoint received the request.
"""

from __future__ import annotations

import inspect
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from attrs import frozen

from bandwidth_async import ClientCredentials, VoiceClient
from bandwidth_async.cli import main
from bandwidth_async.cli.app import COMMANDS
from bandwidth_async.pytest_plugin import serving
from bandwidth_async.sandbox import Sandbox
from bandwidth_async.sandbox.messages import Moment, Request
from bandwidth_async.sandbox.service import KINDS
from tests import description, test_prism, test_schemathesis
from tests.description import BASE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CONFERENCE = "/accounts/{accountId}/conferences/{conferenceId}"
CALL = "/accounts/{accountId}/calls/{callId}"


@frozen(kw_only=True)
class Endpoint:
    """One operation of the description, with its methods and commands.

    ``kinds`` are its names in the sandbox's truth. An update has two, because an end is counted separately.
    """

    method: str
    path: str
    client: tuple[str, ...]
    commands: tuple[str, ...]
    kinds: tuple[str, ...]


ENDPOINTS = {
    "listConferences": Endpoint(
        method="GET",
        path="/accounts/{accountId}/conferences",
        client=("list_conferences",),
        commands=("list", "end --all-active", "whoami"),
        kinds=("list",),
    ),
    "getConference": Endpoint(
        method="GET",
        path=CONFERENCE,
        client=("get_conference", "wait_until_completed"),
        commands=("get", "members", "wait", "end --verify"),
        kinds=("get",),
    ),
    "updateConference": Endpoint(
        method="POST",
        path=CONFERENCE,
        client=("update_conference", "end_conference", "end_conferences", "ending_conferences"),
        commands=("end", "resume", "redirect"),
        kinds=("end", "redirect"),
    ),
    "updateConferenceBxml": Endpoint(
        method="PUT",
        path=f"{CONFERENCE}/bxml",
        client=("update_conference_bxml",),
        commands=("announce",),
        kinds=("bxml",),
    ),
    "getConferenceMember": Endpoint(
        method="GET",
        path=f"{CONFERENCE}/members/{{memberId}}",
        client=("get_conference_member",),
        commands=("members CALL_ID",),
        kinds=("get-member",),
    ),
    "updateConferenceMember": Endpoint(
        method="PUT",
        path=f"{CONFERENCE}/members/{{memberId}}",
        client=("update_conference_member",),
        commands=("mute", "unmute", "hold", "unhold"),
        kinds=("update-member",),
    ),
    "listConferenceRecordings": Endpoint(
        method="GET",
        path=f"{CONFERENCE}/recordings",
        client=("list_conference_recordings",),
        commands=("recordings",),
        kinds=("list-recordings",),
    ),
    "getConferenceRecording": Endpoint(
        method="GET",
        path=f"{CONFERENCE}/recordings/{{recordingId}}",
        client=("get_conference_recording",),
        commands=("recordings RECORDING_ID", "download"),
        kinds=("get-recording",),
    ),
    "downloadConferenceRecording": Endpoint(
        method="GET",
        path=f"{CONFERENCE}/recordings/{{recordingId}}/media",
        client=("download_conference_recording",),
        commands=("download",),
        kinds=("download",),
    ),
    # The command line is for conferences. It can hang up the calls of a conference, but does not read calls.
    "getCallState": Endpoint(method="GET", path=CALL, client=("get_call",), commands=(), kinds=("get-call",)),
    "updateCall": Endpoint(
        method="POST",
        path=CALL,
        client=("update_call", "end_conference"),
        commands=("end --hang-up",),
        kinds=("hang-up", "redirect-call"),
    ),
}
WITHOUT_COMMAND = {"getCallState"}
NO_ENDPOINT = {
    "commands": {
        "runs",
        "outcomes",
        "report",
        "limit",
        "profiles",
        "completion",
        "man",
        "sandbox",
        "demo",
    },  # for journals, processes, settings, the shell, the sandbox
    "methods": {"from_env", "aclose"},
    "kinds": {"token", "other"},  # not of the Voice API, and no operation
}

# The arguments for each command of the table. `resume` needs an unfinished run and has its own test.
ARGUMENTS: dict[str, list[str]] = {
    "list": ["list"],
    "whoami": ["whoami"],
    "end --all-active": ["end", "--all-active", "--yes"],
    "get": ["get", "{conference}"],
    "members": ["members", "{conference}"],
    "wait": ["wait", "{ended}", "--deadline", "10"],
    "end --verify": ["end", "--verify", "{conference}"],
    "end": ["end", "{conference}"],
    "redirect": ["redirect", "{conference}", "https://example.com/bxml"],
    "announce": ["announce", "{conference}", "--bxml", "{folder}/bye.xml"],
    "members CALL_ID": ["members", "{conference}", "{call}"],
    **{name: [name, "{conference}", "{call}"] for name in ("mute", "unmute", "hold", "unhold")},
    "recordings": ["recordings", "{conference}"],
    "recordings RECORDING_ID": ["recordings", "{conference}", "{recording}"],
    "download": ["download", "{conference}", "{recording}"],
    "end --hang-up": ["end", "--hang-up", "{conference}"],
}


def accepted(sandbox: Sandbox) -> set[str]:
    """Return the kinds of requests that got a success, without token requests."""
    requests = sandbox.truth()["requests"]
    return {kind for kind, answers in requests.items() if answers.keys() & {"200", "204"}} - {"token"}


def route_of(endpoint: Endpoint) -> str | None:
    """Return the path of the sandbox's route for an endpoint, in the form of the description."""
    request = Request(method=endpoint.method, segments=tuple(f"{BASE}{endpoint.path}"[1:].split("/")))
    exchange = Sandbox()._service.receive(request, Moment(now=0.0, wall=datetime.now(UTC)))
    found = exchange.route is not None and endpoint.method in exchange.route.operations
    return exchange.route.path if exchange.route is not None and found else None


def test_the_table_has_no_hole(show: Callable[[str], None]) -> None:
    """Each endpoint has a method, a route, both independent tests, and a command unless it is exempt."""
    rows = [("endpoint", "client", "command line", "sandbox", "schemathesis", "Prism")]
    for name, endpoint in ENDPOINTS.items():
        assert all(callable(getattr(VoiceClient, method)) for method in endpoint.client)
        assert {command.split()[0] for command in endpoint.commands} <= COMMANDS.keys()
        assert bool(endpoint.commands) != (name in WITHOUT_COMMAND)
        assert route_of(endpoint) == BASE + endpoint.path
        assert set(endpoint.kinds) <= test_schemathesis.OPERATIONS
        assert name in test_prism.CALLS
        rows.append(
            (
                name,
                ", ".join(endpoint.client),
                ", ".join(endpoint.commands) or "none",
                f"{endpoint.method} {endpoint.path.removeprefix('/accounts/{accountId}')}",
                ", ".join(endpoint.kinds),
                "called",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    show("\n" + "\n".join(lines))


def test_nothing_is_left_out_of_the_table() -> None:
    """The table has every method, command, kind of request and independent test of the API."""
    methods = {
        name for name, value in inspect.getmembers(VoiceClient, inspect.isroutine) if not name.startswith("_")
    }
    table = ENDPOINTS.values()
    assert {name for it in table for name in it.client} | NO_ENDPOINT["methods"] == methods
    commands = {command.split()[0] for it in table for command in it.commands}
    assert commands | NO_ENDPOINT["commands"] == COMMANDS.keys()
    kinds = {kind for it in table for kind in it.kinds}
    assert kinds | NO_ENDPOINT["kinds"] == set(KINDS)
    assert kinds == test_schemathesis.OPERATIONS
    assert ENDPOINTS.keys() == test_prism.CALLS.keys()


@pytest.mark.skipif(description.missing() is not None, reason=description.missing() or "")
def test_the_table_is_that_of_the_description() -> None:
    """The table has the operations of the description, with the same paths and methods."""
    document = yaml.safe_load(description.find().read_text())
    described = {
        operation["operationId"]: (method.upper(), path)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if isinstance(operation, dict)
    }
    assert {name: (it.method, it.path) for name, it in ENDPOINTS.items()} == described


@pytest.mark.parametrize("name", ENDPOINTS)
async def test_a_method_asks_its_endpoint(name: str, tmp_path: Path) -> None:
    """Each method sends requests to its own endpoint only, and the sandbox accepts them."""
    async with Sandbox(conferences=1, members=1, recordings=1, recording_size="2KB") as sandbox:
        (conference,) = sandbox.conference_ids
        place = test_prism.Place(
            conference=conference,
            call=sandbox.call_ids(conference)[0],
            recording=sandbox.recording_ids(conference)[0],
            folder=tmp_path,
        )
        async with VoiceClient(
            account_id=sandbox.account_id,
            credentials=ClientCredentials(sandbox.client_id, sandbox.client_secret),
            voice_url=sandbox.url,
            api_url=sandbox.url,
        ) as client:
            await test_prism.CALLS[name](client, place)
        assert accepted(sandbox) <= set(ENDPOINTS[name].kinds)
        assert len(accepted(sandbox)) == 1


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Sandbox]:
    """Run a sandbox and set up the environment of the command line, in an empty folder."""
    for variable in ("BW_USERNAME", "BW_PASSWORD", "BW_ENVIRONMENT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    with serving(conferences=2, members=1, recordings=1, recording_size="2KB") as bandwidth:
        for variable, value in bandwidth.environ.items():
            monkeypatch.setenv(variable, value)
        yield bandwidth.sandbox


@pytest.mark.parametrize(
    ("name", "command"),
    [(name, command) for name, it in ENDPOINTS.items() for command in it.commands if command != "resume"],
)
def test_a_command_asks_its_endpoint(name: str, command: str, sandbox: Sandbox, tmp_path: Path) -> None:
    """Each command sends a request to its endpoint. It may use other endpoints of the table too."""
    conference, ended = sandbox.conference_ids
    (tmp_path / "bye.xml").write_text("<Bxml/>")
    before: set[str] = set()
    if command == "wait":
        assert main(["end", ended]) == 0
        before = accepted(sandbox)
    ids: dict[str, Any] = {
        "conference": conference,
        "ended": ended,
        "call": sandbox.call_ids(conference)[0],
        "recording": sandbox.recording_ids(conference)[0],
        "folder": tmp_path,
    }
    assert main([argument.format(**ids) for argument in ARGUMENTS[command]]) == 0
    assert (accepted(sandbox) - before) & set(ENDPOINTS[name].kinds)


def test_a_resume_ends_what_is_left(sandbox: Sandbox, tmp_path: Path) -> None:
    """``resume`` ends an id that a run could not settle, with the same endpoint as ``end``."""
    journal = str(tmp_path / "run.journal")
    sandbox.refuse_all()
    assert main(["end", "--journal", journal, sandbox.conference_ids[0]]) == 2
    assert accepted(sandbox) == set()
    sandbox.refuse_all(False)
    assert main(["resume", journal]) == 0
    assert accepted(sandbox) == {"end"}
