"""`SyncVoiceClient`: every method of `VoiceClient`, for code without an event loop."""

from __future__ import annotations

import inspect
import itertools
import os
import subprocess
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from bandwidth_async import (
    ClientStateError,
    ConfigurationError,
    NotFoundError,
    Outcome,
    RateLimit,
    SyncVoiceClient,
    UpdateConference,
    VoiceClient,
)
from bandwidth_async.pytest_plugin import BandwidthSandbox, serving
from bandwidth_async.sync import SyncOutcomes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# It is `close` where nothing is asynchronous.
NAMES = {"aclose": "close"}


@pytest.fixture
def bandwidth(monkeypatch: pytest.MonkeyPatch) -> Iterator[BandwidthSandbox]:
    """Serve a sandbox from a thread, with its variables in the environment."""
    with serving(conferences=12, recordings=1) as found:
        for name, value in found.environ.items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.fixture
def client(bandwidth: BandwidthSandbox) -> Iterator[SyncVoiceClient]:
    """Return a client of the sandbox."""
    with SyncVoiceClient.from_env() as found:
        yield found
    assert "bandwidth_async" not in {one.name for one in threading.enumerate()}


@pytest.mark.parametrize("name", [name for name in dir(VoiceClient) if not name.startswith("_")])
def test_no_public_method_is_missing(name: str) -> None:
    """Each has the same parameters, is no coroutine function, and has a sentence of its own."""
    asynchronous, blocking = getattr(VoiceClient, name), getattr(SyncVoiceClient, NAMES.get(name, name))
    assert blocking.__doc__
    if not isinstance(asynchronous, property):
        own, ours = inspect.signature(asynchronous).parameters, inspect.signature(blocking).parameters
        assert list(ours.values()) == list(own.values())
        assert not inspect.iscoroutinefunction(blocking)
        assert not inspect.isasyncgenfunction(blocking)


def test_it_takes_the_settings_of_the_class() -> None:
    """A wrong one is refused as there."""
    with pytest.raises(TypeError, match="account_id"):
        SyncVoiceClient()
    with pytest.raises(ConfigurationError, match="credentials"):
        SyncVoiceClient(account_id="1", credentials=5)  # type: ignore[arg-type]  # wrong on purpose


def test_methods_return_when_the_work_is_done(
    bandwidth: BandwidthSandbox, client: SyncVoiceClient, tmp_path: Path
) -> None:
    """Values, pages, files, changes and errors come as in asynchronous code."""
    first, second, *rest = bandwidth.sandbox.conference_ids
    recording = bandwidth.sandbox.recording_ids(first)[0]
    assert client.get_conference(first).active
    client.update_conference(second, UpdateConference(status="active", redirect_url="https://example.com/a"))
    with pytest.raises(ConfigurationError, match="give it with to="):
        client.download_conference_recording(first, recording, overwrite=True)  # type: ignore[call-overload]  # wrong
    path = client.download_conference_recording(first, recording, to=tmp_path / "r.wav")
    with client.download_conference_recording(first, recording) as media:
        chunks = b"".join(media)
    assert path.read_bytes() == chunks
    assert (media.length, media.attempts) == (len(chunks), 1)
    assert client.end_conference(first).kind == "ended"
    with pytest.raises(NotFoundError):
        client.end_conference(first)
    assert [one.id for one in client.list_conferences(page_size=5)] == bandwidth.sandbox.conference_ids
    assert client.end_conferences([second, *rest]).ok
    assert client.wait_until_completed(second).completed_time is not None


def test_outcomes_come_as_a_stream(bandwidth: BandwidthSandbox, client: SyncVoiceClient) -> None:
    """The report is their sum. Leaving the context ends the run. Errors are raised as they are."""
    first, *rest = bandwidth.sandbox.conference_ids
    with client.ending_conferences([first]) as outcomes:
        assert [one.kind for one in outcomes] == ["ended"]
    assert outcomes.report.ok
    with pytest.raises(KeyError, match="mine"), client.ending_conferences(rest) as outcomes:
        _raise_at_first(outcomes)
    with pytest.raises(ConfigurationError, match="takes a list"), client.ending_conferences("conf-1") as none:
        _raise_at_first(none)


def _raise_at_first(outcomes: SyncOutcomes) -> None:
    for _ in outcomes:
        raise KeyError("mine")


def test_a_listing_that_is_left_early_leaves_nothing_open(client: SyncVoiceClient) -> None:
    """The asynchronous generator is closed in its thread."""
    pages = client.list_conferences(page_size=1)
    assert next(pages).active
    pages.close()  # type: ignore[attr-defined]  # it is a generator


def test_threads_share_a_token_and_a_rate(bandwidth: BandwidthSandbox, client: SyncVoiceClient) -> None:
    """As the threads of a web server do with one client of the module."""
    threads = [
        threading.Thread(target=client.end_conference, args=(one,))
        for one in bandwidth.sandbox.conference_ids
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    requests = bandwidth.sandbox.truth()["requests"]
    assert (requests["token"], requests["end"]) == ({"200": 1}, {"204": 12})


def test_a_callback_that_uses_the_client_is_told_and_does_not_hang(
    bandwidth: BandwidthSandbox, client: SyncVoiceClient
) -> None:
    """It runs in the thread that it would wait for."""
    said: list[str] = []

    def on_outcome(_: Outcome) -> None:
        with pytest.raises(ClientStateError) as caught:
            client.get_conference("conf-1")
        said.append(str(caught.value))

    client.end_conferences(bandwidth.sandbox.conference_ids[:1], on_outcome=on_outcome)
    assert said == ["a SyncVoiceClient cannot be used in its own callbacks, which it waits for"]


def test_after_its_end_a_client_says_so(client: SyncVoiceClient) -> None:
    """It may be closed twice, and also if it was never used."""
    client.close()
    client.close()
    with pytest.raises(ClientStateError, match="closed; make a new one"):
        client.get_conference("conf-1")


FORKED = """
import os, sys
from bandwidth_async import ClientStateError, SyncVoiceClient

client = SyncVoiceClient.from_env()
used = sys.argv[1] == "used"
if used:
    next(client.list_conferences())
if os.fork() == 0:
    try:
        print(next(client.list_conferences()).active, flush=True)
    except ClientStateError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
client.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("unused", "True"),
        ("used", "this SyncVoiceClient was used before the fork; make one in each process"),
    ],
)
def test_a_worker_that_was_forked(bandwidth: BandwidthSandbox, when: str, said: str) -> None:
    """A client of the module works there if its parent has not used it. Otherwise it says so."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, when],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **bandwidth.environ},
        timeout=60,
    )
    assert done.stdout == f"{said}\n"


def test_a_hook_hears_a_synchronous_client(bandwidth: BandwidthSandbox) -> None:
    """In the thread of the client."""
    heard: list[object] = []
    with SyncVoiceClient.from_env(on_event=heard.append) as client:
        client.end_conference(bandwidth.sandbox.conference_ids[0])
    assert Counter(type(one).__name__ for one in heard)["OperationEnded"] == 1


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, StopIteration, StopAsyncIteration])
def test_who_leaves_a_run_by_an_exit_is_not_held(
    client: SyncVoiceClient, bandwidth: BandwidthSandbox, kind: type[BaseException]
) -> None:
    """The exit comes through, also one that coroutines may not raise, and the client can still be used."""
    with pytest.raises(kind), client.ending_conferences(bandwidth.sandbox.conference_ids):
        raise kind
    assert client.get_conference(bandwidth.sandbox.conference_ids[-1]).id


def test_close_in_a_callback_is_refused(client: SyncVoiceClient, bandwidth: BandwidthSandbox) -> None:
    """It would wait for itself."""
    said: list[str] = []

    def close(_: object) -> None:
        with pytest.raises(ClientStateError) as caught:
            client.close()
        said.append(str(caught.value))

    client.end_conferences(bandwidth.sandbox.conference_ids[:1], on_outcome=close)
    assert said == ["a SyncVoiceClient cannot be used in its own callbacks, which it waits for"]


def test_close_ends_what_other_threads_wait_for(bandwidth: BandwidthSandbox) -> None:
    """A run of another thread raises, and does not wait for ever."""
    client = SyncVoiceClient.from_env(rate_limit=RateLimit.fixed(5))
    raised: list[BaseException] = []
    begun = threading.Event()
    endless = (f"conf-none-{number}" for number in itertools.count())

    def run() -> None:
        try:
            client.end_conferences(endless, on_outcome=lambda _: begun.set())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(10)
    client.close()
    thread.join(10)
    assert not thread.is_alive()
    assert [type(error) for error in raised] == [ClientStateError]
