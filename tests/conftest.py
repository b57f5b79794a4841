"""Fixtures for all tests: faked responses of aiohttp, and the settings of Hypothesis."""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aioresponses import aioresponses
from aioresponses import core as aioresponses_core
from hypothesis import settings

from bandwidth_async.http import connections

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

# Some examples access files or import modules at first use. A deadline for each would fail at random. In CI
# the same examples run every time, so that only the commit can make a build fail.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


# Otherwise each command that tests start compiles the package, in a fifth of its processor time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


# looptime asks the policy for a loop around every synchronous test. Without this line Python 3.11 would make
# a loop that nobody closes.
asyncio.set_event_loop(None)


class _NothingSent:
    """A replacement for a request's writer. A response reads the number of bytes sent from it."""

    output_size = 0


class _ClientResponse(aiohttp.ClientResponse):
    """A response that can be created without the writer of its request."""

    def __init__(self, *args: Any, stream_writer: Any = _NothingSent, **kwargs: Any) -> None:
        super().__init__(*args, stream_writer=stream_writer, **kwargs)


# aiohttp 3.14 made `stream_writer` a required argument of ClientResponse. aioresponses 0.7.9 does not pass
# it, so it fails at every request. aiohttp 3.14.0 is a security release, so the tests adapt aioresponses.
if "stream_writer" in inspect.signature(aiohttp.ClientResponse.__init__).parameters:
    aioresponses_core.ClientResponse = _ClientResponse  # type: ignore[attr-defined]  # imported there


@pytest.fixture(autouse=True)
def _state_directory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the journals of tests out of the user's home, and the profiles there out of tests."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "config"))
    monkeypatch.delenv("BW_PROFILE", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no proxy, whatever the environment of the tests has."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(params=["directly", "by the session"])
def sender(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test twice: the client sends requests directly over a connection, then by the session."""
    if request.param == "by the session":
        monkeypatch.setitem(connections._missing, "switched off by a test", True)
    elif connections.lacking():
        pytest.skip(f"aiohttp {aiohttp.__version__} lacks {connections.lacking()}: nothing is sent directly")
    return str(request.param)


@pytest.fixture
def mocked() -> Iterator[aioresponses]:
    """Fake the responses to all aiohttp requests in this process. A request without one fails."""
    with aioresponses() as answers:
        yield answers


def pytest_itemcollected(item: pytest.Item) -> None:
    """Have virtual time move on after 2 idle turns of the loop.

    looptime waits for 42. Tests of outages took more than twice the processor time with that.
    """
    if item.get_closest_marker("looptime"):
        item.add_marker(pytest.mark.looptime(noop_cycles=1))


def pytest_xdist_auto_num_workers() -> int:
    """Return twice the cores: many tests wait for a process or a socket."""
    return 2 * (os.cpu_count() or 1)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out what only the long form runs."""
    if item.get_closest_marker("long") and not item.config.getoption("--full"):
        pytest.skip("in the long form only: make proofs")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--full``. Without it, proofs run in short form."""
    parser.addoption("--full", action="store_true", help="run the proofs at full length")


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Return whether proofs run at full length."""
    return bool(request.config.getoption("--full"))


@pytest.fixture
def show(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return a function that prints a figure of a proof. Use ``pytest -s`` to see it."""
    name = request.node.name
    return lambda figure: print(f"\n{name}: {figure}")


@pytest.fixture
def pyright() -> str:
    """Return the path of pyright, or skip the test if it is not installed.

    The fixture searches the folder in ``BANDWIDTH_PYRIGHT``, then ``.pyright``, then the path.
    """
    places = [os.environ.get("BANDWIDTH_PYRIGHT", ""), str(Path(__file__).parents[1] / ".pyright")]
    local = [str(Path(place) / "node_modules" / ".bin") for place in places if place]
    found = shutil.which("pyright", path=os.pathsep.join([*local, os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip("pyright is not installed: `make pyright` does that, and needs npm")
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Return a report that a worker can send.

    A lone surrogate would end the whole suite: in the captured log of any test, or in the text of a failure.
    """
    report = yield
    report.sections = [(name, _sendable(text)) for name, text in report.sections]
    # Only a failure that needs it becomes a text, as a text has no place in the summary.
    if report.failed and (text := str(report.longrepr)) != _sendable(text):
        report.longrepr = _sendable(text)
    return report


def _sendable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
