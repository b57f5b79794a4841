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
    from collections.abc import Callable, Iterator

# Examples do file access and imports at first use, so a deadline for each would fail at random. In CI the
# same examples run every time: a red build there is the fault of the commit.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


# looptime asks the policy for a loop around every synchronous test; Python 3.11 would make one and nobody
# would close it.
asyncio.set_event_loop(None)


class _NothingSent:
    """Stands for a request's writer, which a response asks how many bytes were sent."""

    output_size = 0


class _ClientResponse(aiohttp.ClientResponse):
    """A response that can be created without the writer of its request."""

    def __init__(self, *args: Any, stream_writer: Any = _NothingSent, **kwargs: Any) -> None:
        super().__init__(*args, stream_writer=stream_writer, **kwargs)


# aiohttp 3.14 made `stream_writer` a required argument of ClientResponse, aioresponses 0.7.9 does not pass
# it and so fails at every request. 3.14.0 is a security release: help aioresponses, do not hold aiohttp back.
if "stream_writer" in inspect.signature(aiohttp.ClientResponse.__init__).parameters:
    aioresponses_core.ClientResponse = _ClientResponse  # type: ignore[attr-defined]  # imported there


@pytest.fixture(autouse=True)
def _state_directory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the journals of tests out of the user's home."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))


@pytest.fixture(params=["directly", "by the session"])
def sender(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test twice: with requests that are sent directly over a connection, and by the session."""
    if request.param == "by the session":
        monkeypatch.setitem(connections._missing, "switched off by a test", True)
    elif connections.lacking():
        pytest.skip(f"aiohttp {aiohttp.__version__} lacks {connections.lacking()}: nothing is sent directly")
    return str(request.param)


@pytest.fixture
def mocked() -> Iterator[aioresponses]:
    """Fake the response to every aiohttp request in this process; without one, a request is refused."""
    with aioresponses() as answers:
        yield answers


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--full``, for proofs that run in short form otherwise."""
    parser.addoption("--full", action="store_true", help="run the proofs at full length")


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether proofs run at full length."""
    return bool(request.config.getoption("--full"))


@pytest.fixture
def show(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Print a figure that a proof saw; ``pytest -s`` shows it."""
    name = request.node.name
    return lambda figure: print(f"\n{name}: {figure}")


@pytest.fixture
def pyright() -> str:
    """Return the path of pyright, or skip the test where it is not installed.

    It is looked for in the folder that ``BANDWIDTH_PYRIGHT`` names, in ``.pyright``, and on the path.
    """
    places = [os.environ.get("BANDWIDTH_PYRIGHT", ""), str(Path(__file__).parents[1] / ".pyright")]
    local = [str(Path(place) / "node_modules" / ".bin") for place in places if place]
    found = shutil.which("pyright", path=os.pathsep.join([*local, os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip("pyright is not installed: `make pyright` does that, and needs npm")
    return found
