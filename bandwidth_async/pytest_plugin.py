"""The pytest plugin: the fixture ``bandwidth_sandbox``, a running sandbox and clients for it.

The sandbox serves from a thread with an event loop of its own. So synchronous tests, asynchronous ones of
any plugin, and programs that a test starts can all use it, and it answers while a test blocks its own loop.
A sandbox belongs to its loop: what a test calls on it is done in that thread, between two requests.
"""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest
from attrs import fields, frozen

from bandwidth_async.errors import ClientStateError, ConfigurationError

# Everything that needs aiohttp is imported when the fixture is used: pytest loads this module at every start.
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Iterator

    from bandwidth_async.client import VoiceClient
    from bandwidth_async.sandbox import Sandbox

T = TypeVar("T")

_MARKER = "bandwidth_sandbox"


@frozen(kw_only=True)
class BandwidthSandbox:
    """What the fixture ``bandwidth_sandbox`` gives.

    ``sandbox``
        A running `Sandbox` with all that it has: ``plan("503", times=2)`` makes the next two requests
        answer 503, ``truth()`` tells what became of every conference and request. It may be used from any
        thread, and stopped and started again.
    """

    sandbox: Sandbox

    @property
    def environ(self) -> dict[str, str]:
        """The ``BW_…`` variables that lead a program here, or `VoiceClient.from_env`."""
        return self.sandbox.environ

    def client(self, **settings: Any) -> VoiceClient:
        """Return a new client that is signed in here, for ``async with``; ``settings`` are those of it."""
        from bandwidth_async.client import VoiceClient  # noqa: PLC0415 - see the imports
        from bandwidth_async.credentials import ClientCredentials  # noqa: PLC0415 - see the imports

        here = {
            "account_id": self.sandbox.account_id,
            "credentials": ClientCredentials(self.sandbox.client_id, self.sandbox.client_secret),
            "voice_url": self.sandbox.url,
            "api_url": self.sandbox.url,
        }
        return VoiceClient(**{**here, **settings})


@contextmanager
def serving(**settings: Any) -> Iterator[BandwidthSandbox]:
    """Serve a `Sandbox` with these settings until the context is left, for fixtures of another scope.

    ::

        @pytest.fixture(scope="session")
        def bandwidth():
            with serving(conferences=100) as bandwidth:
                yield bandwidth

    Raises `ConfigurationError` for settings that cannot work.
    """
    from bandwidth_async.sandbox import Sandbox  # noqa: PLC0415 - see the imports

    known = [str(setting.alias) for setting in fields(Sandbox) if setting.init]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ConfigurationError(f"a sandbox has no setting {unknown[0]!r}; it has {', '.join(known)}")
    served = _Served(Sandbox(**settings))
    try:
        yield BandwidthSandbox(sandbox=cast("Sandbox", served))
    finally:
        served._end()


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(**settings): settings of the sandbox that the fixture {_MARKER} gives this test, "
        'such as conferences=5, faults="503=10%".',
    )


@pytest.fixture
def bandwidth_sandbox(request: pytest.FixtureRequest) -> Iterator[BandwidthSandbox]:
    """A running stand-in for Bandwidth's Voice API: .sandbox, .client() and .environ; see its marker."""
    settings = _settings(request.node)
    with ExitStack() as stack:
        try:
            served = stack.enter_context(serving(**settings))
        except (ConfigurationError, TypeError, ValueError) as error:
            raise pytest.fail.Exception(f"@pytest.mark.{_MARKER}: {error}", pytrace=False) from None
        yield served


def _settings(test: pytest.Item) -> dict[str, Any]:
    """Return what the markers of the test, its class and its module set; the nearest counts."""
    settings: dict[str, Any] = {}
    for marker in test.iter_markers(_MARKER):
        if marker.args:
            pytest.fail(f"@pytest.mark.{_MARKER} takes settings by name: conferences=5", pytrace=False)
        settings = {**marker.kwargs, **settings}
    return settings


class _Served:
    """Stands for a sandbox in another thread; whatever is called or read is called or read there."""

    __slots__ = ("_done", "_ended", "_loop", "_sandbox", "_thread", "_turn")

    def __init__(self, sandbox: Sandbox) -> None:
        started: Future[tuple[AbstractEventLoop, asyncio.Event]] = Future()
        self._sandbox = sandbox
        self._turn = Lock()  # held by a call until it is done, so that none is under way at the end
        self._ended = False  # changed in _end()
        self._thread = Thread(target=lambda: asyncio.run(_serve(sandbox, started)), daemon=True)
        self._thread.start()
        try:
            self._loop, self._done = started.result()
        except Exception:
            self._thread.join()
            raise

    def __repr__(self) -> str:
        return f"<{self._sandbox!r} {'was' if self._ended else 'is'} at {self._sandbox.url}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{name} of a sandbox in another thread is out of reach")
        value = self._there(partial(getattr, self._sandbox, name))
        if inspect.iscoroutinefunction(value):
            return partial(self._await_there, value)
        if callable(value):
            return lambda *arguments, **named: self._there(partial(value, *arguments, **named))
        return value

    def _there(self, call: Callable[[], T]) -> T:
        """Return or raise what the call does. It blocks for a moment: nothing that is called there waits."""
        done: Future[T] = Future()

        def turn() -> None:
            try:
                done.set_result(call())
            except Exception as error:  # raised to who waits
                done.set_exception(error)

        with self._turn:
            self._loop_of_now().call_soon_threadsafe(turn)
            return done.result()

    async def _await_there(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Wait for a coroutine of the sandbox without blocking this loop, which may serve its webhooks."""
        with self._turn:
            loop = self._loop_of_now()
            there = asyncio.run_coroutine_threadsafe(function(*arguments, **named), loop)
        return await asyncio.wrap_future(there)

    def _loop_of_now(self) -> AbstractEventLoop:
        """Return the loop to call in. Raises `ClientStateError` when the sandbox is no more."""
        if self._ended:
            raise ClientStateError(
                "this sandbox ended with its test or fixture: ask it before, or serve one for longer with "
                "bandwidth_async.pytest_plugin.serving()"
            )
        return self._loop

    def _end(self) -> None:
        """Stop serving, and leave nothing behind."""
        with self._turn:
            self._ended = True
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join()


async def _serve(sandbox: Sandbox, started: Future[tuple[AbstractEventLoop, asyncio.Event]]) -> None:
    """Serve until the event that ``started`` is given is set."""
    done = asyncio.Event()
    try:
        await sandbox.start()
    except BaseException as error:  # for who waits for it; this thread has no more to do
        started.set_exception(error)
        return
    started.set_result((asyncio.get_running_loop(), done))
    try:
        await done.wait()
    finally:
        await sandbox.stop()
