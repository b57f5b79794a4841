"""The client against a server of another project: Stoplight's Prism, which serves Bandwidth's description.

Prism checks each request against the description. It answers with examples of the description, with values
generated from its schemas, or with any of the errors that it lists. Prism ignores the path of a description's
server, so the tests move ``/api/v2`` from there into the paths. They change nothing else. Prism has no token
endpoint: requests carry Basic credentials, or a token from the sandbox.

The tests look for Prism in the folder that ``BANDWIDTH_PRISM`` names, in ``.prism`` beside ``tests``, and on
the path. With ``--full`` they request more generated responses.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import attrs
import pytest
import yaml
from attrs import frozen

from bandwidth_async import (
    APIError,
    AuthenticationError,
    BadRequestError,
    BasicCredentials,
    Call,
    ClientCredentials,
    Conference,
    ConferenceMember,
    ConferenceRecording,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RetryPolicy,
    ServerError,
    UpdateCall,
    UpdateConference,
    UpdateConferenceMember,
    VoiceClient,
)
from bandwidth_async.models import camel_case
from bandwidth_async.sandbox import Sandbox
from tests import description
from tests.description import BASE, Description

if TYPE_CHECKING:
    from bandwidth_async.credentials import Credentials

ROOT = Path(__file__).parents[1]
ACCOUNT = "9900000"
BXML = "<Bxml><SpeakSentence>Goodbye</SpeakSentence><StopRecording/></Bxml>"
URL = "https://example.com/bxml"
THE_END = "/the-end"


EXAMPLE_ID = "conf-fe23a767-a75a5b77-20c5-4cca-b581-cbbf0776eca9"


@frozen(kw_only=True)
class Place:
    """Ids of one conference, call and recording, and a folder for files."""

    conference: str
    call: str
    recording: str
    folder: Path


Operation = Callable[[VoiceClient, Place], Awaitable[object]]


async def listed(client: VoiceClient, _: Place) -> list[Conference]:
    """List conferences with every filter."""
    since, until = datetime(2022, 6, 1, tzinfo=UTC), datetime(2100, 1, 1, 12, 30, tzinfo=UTC)
    pages = client.list_conferences(
        name="a & b/ü", min_created_time=since, max_created_time=until, page_size=1000
    )
    return [it async for it in pages]


async def redirected(client: VoiceClient, place: Place) -> None:
    """Update a conference with every field."""
    update = UpdateConference(
        status="active",
        redirect_url=URL,
        redirect_method="GET",
        username="name",
        password="ü" * 1024,
        redirect_fallback_url=f"{URL}?a=%20b",
        redirect_fallback_method="POST",
        fallback_username="name",
        fallback_password="secret",
    )
    await client.update_conference(place.conference, update)


async def member_updated(client: VoiceClient, place: Place) -> None:
    """Update a member with every field."""
    update = UpdateConferenceMember(mute=True, hold=False, call_ids_to_coach=("c-2",))
    await client.update_conference_member(place.conference, place.call, update)


async def downloaded(client: VoiceClient, place: Place) -> list[bytes]:
    """Download a recording to a file, and in chunks."""
    ids, file = (place.conference, place.recording), place.folder / "recording"
    await client.download_conference_recording(*ids, to=file, overwrite=True)
    async with client.download_conference_recording(*ids) as media:
        chunks = [chunk async for chunk in media]
    return [file.read_bytes(), b"".join(chunks)]


async def call_redirected(client: VoiceClient, place: Place) -> None:
    """Update a call with every field."""
    update = UpdateCall(
        state="active",
        redirect_url=URL,
        redirect_method="POST",
        username="name",
        password="secret",
        redirect_fallback_url=URL,
        redirect_fallback_method="GET",
        fallback_username="name",
        fallback_password="secret",
        tag="t" * 4096,
    )
    await client.update_call(place.call, update)


# For each operation of the description, the method of the client that uses it.
CALLS: dict[str, Operation] = {
    "listConferences": listed,
    "getConference": lambda client, place: client.get_conference(place.conference),
    "updateConference": redirected,
    "updateConferenceBxml": lambda client, place: client.update_conference_bxml(place.conference, BXML),
    "getConferenceMember": lambda client, place: client.get_conference_member(place.conference, place.call),
    "updateConferenceMember": member_updated,
    "listConferenceRecordings": lambda client, place: client.list_conference_recordings(place.conference),
    "getConferenceRecording": lambda client, place: client.get_conference_recording(
        place.conference, place.recording
    ),
    "downloadConferenceRecording": downloaded,
    "getCallState": lambda client, place: client.get_call(place.call),
    "updateCall": call_redirected,
}


async def run_ended(client: VoiceClient, place: Place) -> list[str]:
    """End conferences with both methods for a run."""
    report = await client.end_conferences([place.conference, "conf-2"])
    async with client.ending_conferences(["conf-3"]) as outcomes:
        streamed = [outcome.kind.value async for outcome in outcomes]
    return [*(str(kind) for kind in report.counts.elements()), *streamed]


async def outcome_of(client: VoiceClient, _: Place) -> str:
    """End a conference, hang up its calls and verify the end."""
    # Prism answers with its example for any id. A reading counts only if it is about the same conference.
    return (await client.end_conference(EXAMPLE_ID, verify=True, hang_up=True)).kind.value


# Methods that use several operations, and updates that end something.
COMPOSED: dict[str, Operation] = {
    "end_conference": outcome_of,
    "end_conferences": run_ended,
    "wait_until_completed": lambda client, place: client.wait_until_completed(place.conference),
    "hang up": lambda client, place: client.update_call(place.call, UpdateCall(state="completed")),
    "end": lambda client, place: client.update_conference(
        place.conference, UpdateConference(status="completed")
    ),
}
# The number of requests that all of these send, by operation.
REQUESTS = Counter(dict.fromkeys(CALLS, 1))
REQUESTS.update({"downloadConferenceRecording": 1})
REQUESTS.update({"getConference": 2, "updateConference": 1, "updateCall": 1})  # end_conference
REQUESTS.update({"updateConference": 3})  # end_conferences and ending_conferences
REQUESTS.update({"getConference": 1, "updateCall": 1, "updateConference": 1})  # the other three

# The type that the client makes of each response body.
READ: dict[str, type] = {
    "listConferences": Conference,
    "getConference": Conference,
    "getConferenceMember": ConferenceMember,
    "listConferenceRecordings": ConferenceRecording,
    "getConferenceRecording": ConferenceRecording,
    "getCallState": Call,
    "downloadConferenceRecording": bytes,
}

ERRORS: dict[int, type[APIError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    405: APIError,
    409: ConflictError,
    415: APIError,
    429: RateLimitError,
    500: ServerError,
}


def find_prism() -> str | None:
    """Return the path of Prism, or None if it is not installed."""
    folders = (
        os.environ.get("BANDWIDTH_PRISM"),
        str(ROOT / ".prism" / "node_modules" / ".bin"),
        os.environ.get("PATH"),
    )
    return shutil.which("prism", path=os.pathsep.join(filter(None, folders)))


def _needed() -> str | None:
    if find_prism() is None:
        return "Prism is not installed: npm install --prefix .prism --no-save @stoplight/prism-cli"
    return description.missing()


needs_prism = pytest.mark.skipif(_needed() is not None, reason=_needed() or "")


class Prism:
    """A running Prism: its address, and what it logs about the requests."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.received: Counter[str] = Counter()  # by operation
        self.accepted = 0
        self.objections: list[str] = []
        self._over = asyncio.Event()

    def read_log_line(self, line: str) -> None:
        """Read a line of its log. A request for ``THE_END`` marks the end."""
        if self._over.is_set() or f" get {THE_END} " in line:
            self._over.set()
            return
        if request := re.search(r"\] (\w+) (/\S+) .*Request received", line):
            self.received[Description.load().operation(request[1], request[2])] += 1
        self.accepted += "The request passed the validation rules" in line
        if "Violation:" in line or "Request terminated with error" in line:
            self.objections.append(line)

    async def wait_for_log(self) -> None:
        """Wait until the whole log has been read. Prism answers first and writes its log later."""
        async with aiohttp.ClientSession(self.url) as session, session.get(THE_END):
            await self._over.wait()

    def client(self, credentials: Credentials | None = None, **settings: Any) -> VoiceClient:
        """Return a client that sends its requests to this Prism."""
        there = {"account_id": ACCOUNT, "voice_url": self.url, "api_url": self.url}
        return VoiceClient(
            credentials=credentials or BasicCredentials("name", "secret"), **{**there, **settings}
        )


def with_base_path(document: dict[str, Any]) -> dict[str, Any]:
    """Move the server's path into the paths of the description, because Prism ignores it elsewhere."""
    (server,) = document["servers"]
    assert server["url"].endswith(f".com{BASE}")
    return {**document, "paths": {BASE + path: methods for path, methods in document["paths"].items()}}


@asynccontextmanager
async def serving(folder: Path, *options: str) -> AsyncIterator[Prism]:
    """Run Prism on a free local port. At the end its whole log has been read."""
    served = folder / "description.json"
    served.write_text(json.dumps(with_base_path(yaml.safe_load(description.find().read_text()))))
    process = await asyncio.create_subprocess_exec(
        *(find_prism() or "prism", "mock", "--host", "127.0.0.1", "--port", "0", "--errors"),
        *(*options, str(served)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    said: list[str] = []
    try:
        url = None
        while url is None:
            line = (await process.stdout.readline()).decode()
            said.append(line)
            assert line, "".join(said)
            url = re.search(r"listening on (http://127\.0\.0\.1:\d+)", line)
        prism = Prism(url[1])
        listening = asyncio.ensure_future(_read_log(process.stdout, prism))
        try:
            yield prism
            await prism.wait_for_log()
        finally:
            process.terminate()
            await listening
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _read_log(said: asyncio.StreamReader, prism: Prism) -> None:
    async for line in said:
        prism.read_log_line(line.decode().strip())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return ids that need escaping in a path. Prism accepts any id."""
    return Place(conference="conf-1+2", call="c-ü", recording="r-1~", folder=tmp_path)


def as_sent(value: object) -> object:
    """Return a parsed value in its JSON form, without fields that are None."""
    if isinstance(value, list | tuple):
        return [as_sent(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if attrs.has(type(value)):
        return {
            camel_case(name.removesuffix("_")): as_sent(item)
            for name, item in attrs.asdict(value, recurse=False).items()  # type: ignore[arg-type]  # it has
            if item is not None
        }
    return value


def example_of(name: str) -> Any:
    """Return the answer of Prism for a schema: its example, or ``string`` for a text without one.

    For an enum, Prism uses the default or the first value, whatever the example is.
    """
    schemas = yaml.safe_load(description.find().read_text())["components"]["schemas"]

    def example(schema: dict[str, Any]) -> Any:
        if "$ref" in schema:
            schema = schemas[schema["$ref"].rpartition("/")[2]]
        if "enum" in schema:
            return schema.get("default", schema["enum"][0])
        if "example" in schema:
            return schema["example"]
        if "items" in schema:
            return [example(schema["items"])]
        if "properties" in schema:
            found = {key: example(it) for key, it in schema["properties"].items()}
            return {key: value for key, value in found.items() if value is not None}
        return schema["type"]

    return example(schemas[name])


@needs_prism
async def test_every_request_is_accepted_and_every_example_is_read(
    place: Place, show: Callable[[str], None]
) -> None:
    """Prism accepts every request. Each parsed value has exactly the fields of the description's example."""
    read = {}
    async with serving(place.folder) as prism, prism.client() as client:
        for name, call in CALLS.items():
            read[name] = await call(client, place)
        composed = {name: await call(client, place) for name, call in COMPOSED.items()}
    show(
        f"{prism.accepted} requests of {len(REQUESTS)} operations accepted of {prism.received.total()}; "
        f"read: {sorted({kind.__name__ for kind in READ.values()})}"
    )
    assert prism.objections == []
    assert (prism.received, prism.accepted) == (REQUESTS, REQUESTS.total())
    conference, recording = example_of("conference"), example_of("conferenceRecordingMetadata")
    bare = {name: value for name, value in conference.items() if name != "activeMembers"}
    assert {name: as_sent(value) for name, value in read.items()} == {
        **dict.fromkeys(CALLS),
        "listConferences": [bare],
        "getConference": conference,
        "getConferenceMember": example_of("conferenceMember"),
        "listConferenceRecordings": [recording],
        "getConferenceRecording": recording,
        "getCallState": example_of("callState"),
        "downloadConferenceRecording": [b"string", b"string"],
    }
    assert {name: as_sent(value) for name, value in composed.items()} == {
        "end_conference": "ended",
        "end_conferences": ["ended"] * 3,
        "wait_until_completed": conference,
        "hang up": None,
        "end": None,
    }


@needs_prism
async def test_whatever_the_schemas_allow_is_read(
    place: Place, full: bool, show: Callable[[str], None]
) -> None:
    """Values generated from the schemas, with null where allowed, are parsed into the client's types."""
    times = 200 if full else 5
    read: Counter[str] = Counter()
    async with serving(place.folder, "--dynamic") as prism, prism.client() as client:
        for _ in range(times):
            for name, kind in READ.items():
                answer = await CALLS[name](client, place)
                values = answer if isinstance(answer, list) else [answer]
                assert {type(value) for value in values} <= {kind}
                read[kind.__name__] += len(values)
    show(f"{prism.accepted} requests accepted of {prism.received.total()}; values read: {dict(read)}")
    assert prism.objections == []
    asked = Counter({**dict.fromkeys(READ, times), "downloadConferenceRecording": 2 * times})
    assert (prism.received, prism.accepted) == (asked, asked.total())
    assert all(read[kind.__name__] for kind in READ.values())


@needs_prism
async def test_every_error_is_raised_as_what_it_is(place: Place, show: Callable[[str], None]) -> None:
    """Each error status of each operation raises its own error, with the texts of the example."""
    document = yaml.safe_load(description.find().read_text())
    listed_for = {
        operation["operationId"]: [int(status) for status in operation["responses"] if status >= "400"]
        for methods in document["paths"].values()
        for operation in methods.values()
        if isinstance(operation, dict)
    }
    said = document["components"]["examples"]["voiceNotFoundErrorExample"]["value"]
    raised: Counter[str] = Counter()
    async with serving(place.folder) as prism:
        for name, statuses in listed_for.items():
            for status in statuses:
                error = await error_of(prism, CALLS[name], place, status)
                assert (type(error), error.status) == (ERRORS[status], status)
                assert (error.type, error.description) == (said["type"], said["description"])
                raised[type(error).__name__] += 1
    show(f"{raised.total()} errors of {len(listed_for)} operations: {dict(raised)}")
    assert prism.objections == []
    assert listed_for.keys() == CALLS.keys()
    assert {status for statuses in listed_for.values() for status in statuses} == ERRORS.keys()


async def error_of(prism: Prism, call: Operation, place: Place, status: int) -> APIError:
    """Make Prism answer with a status, and return the client's error after one attempt."""
    once = RetryPolicy(attempts=1, refusals=1)
    async with (
        aiohttp.ClientSession(headers={"Prefer": f"code={status}"}) as session,
        prism.client(session=session, retry=once) as client,
    ):
        with pytest.raises(APIError) as caught:
            await call(client, place)
        return caught.value


@needs_prism
async def test_a_token_opens_the_door_as_well(place: Place) -> None:
    """Prism also accepts a token from the sandbox, because the description allows both credentials."""
    async with serving(place.folder) as prism, Sandbox() as sandbox:
        credentials = ClientCredentials(sandbox.client_id, sandbox.client_secret)
        async with prism.client(credentials, api_url=sandbox.url) as client:
            await CALLS["getConference"](client, place)
    assert (prism.accepted, prism.objections) == (1, [])


@needs_prism
async def test_prism_refuses_what_is_not_described(place: Place) -> None:
    """Prism rejects invalid requests. If it accepted everything, the other tests would prove nothing."""
    basic = {"Authorization": aiohttp.encode_basic_auth("name", "secret")}
    async with serving(place.folder) as prism, aiohttp.ClientSession(prism.url) as session:
        statuses = []
        path = f"{BASE}/accounts/{ACCOUNT}/conferences"
        for method, asked, headers, body in (
            ("POST", f"{path}/conf-1", basic, {"status": "ended"}),
            ("GET", f"{path}?pageSize=1001", basic, None),
            ("GET", path, {}, None),
            ("DELETE", path, basic, None),
            ("GET", path.removeprefix(BASE), basic, None),
        ):
            async with session.request(method, asked, headers=headers, json=body) as response:
                statuses.append(response.status)
    assert statuses == [400, 400, 401, 405, 404]
    assert (prism.received.total(), prism.accepted, len(prism.objections)) == (5, 0, 5)


def test_prism_is_looked_for_where_it_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder in ``BANDWIDTH_PRISM`` comes before the path. Without either, Prism is not found."""
    named, on_path = tmp_path / "named", tmp_path / "on-path"
    for folder in (named, on_path):
        folder.mkdir()
        (folder / "prism").touch(mode=0o755)
    monkeypatch.setattr("tests.test_prism.ROOT", tmp_path)
    monkeypatch.delenv("BANDWIDTH_PRISM", raising=False)
    monkeypatch.setenv("PATH", str(on_path))
    assert find_prism() == str(on_path / "prism")
    monkeypatch.setenv("BANDWIDTH_PRISM", str(named))
    assert find_prism() == str(named / "prism")
    monkeypatch.setenv("BANDWIDTH_PRISM", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_prism() is None
    assert _needed() == "Prism is not installed: npm install --prefix .prism --no-save @stoplight/prism-cli"
