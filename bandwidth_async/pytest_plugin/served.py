"""A running sandbox for tests, with clients for it.

The sandbox serves from a thread with its own event loop. So it answers while a test blocks, and you can use
it in synchronous tests, in asynchronous tests of any plugin, and from programs that a test starts. What you
call on the sandbox runs in that thread, between two requests.
"""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import fields, frozen

from bandwidth_async.errors import ClientStateError, ConfigurationError

# What needs aiohttp is imported when it is used.
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Iterator

    from bandwidth_async.client import VoiceClient
    from bandwidth_async.sandbox import Sandbox

T = TypeVar("T")


@frozen(kw_only=True)
class BandwidthSandbox:
    """The value of the fixture ``bandwidth_sandbox``.

    ``sandbox``
        A running `Sandbox`. Its ``plan("503", times=2)`` makes the next two requests fail with 503, its
        ``truth()`` returns the state of every conference and request. You may use it from any thread, and
        stop and start it.
    """

    sandbox: Sandbox

    @property
    def environ(self) -> dict[str, str]:
        """The ``BW_…`` variables that connect a program, or `VoiceClient.from_env`, to this sandbox."""
        return self.sandbox.environ

    def client(self, **settings: Any) -> VoiceClient:
        """Return a new client for this sandbox, for ``async with``, with settings of `VoiceClient`."""
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
    """Serve a `Sandbox` with these settings inside a ``with``: see the package's `serving`."""
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


class _Served:
    """A proxy for a sandbox in another thread. Every call and attribute access happens in that thread."""

    __slots__ = ("_done", "_ended", "_lock", "_loop", "_sandbox", "_thread")

    def __init__(self, sandbox: Sandbox) -> None:
        started: Future[tuple[AbstractEventLoop, asyncio.Event]] = Future()
        self._sandbox = sandbox
        # Every call holds it until it is done, so that _end() finds none in progress.
        self._lock = Lock()
        # Changed in _end().
        self._ended = False
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
        value = self._call_in_thread(partial(getattr, self._sandbox, name))
        if inspect.iscoroutinefunction(value):
            return partial(self._await_in_thread, value)
        if callable(value):
            return lambda *arguments, **named: self._call_in_thread(partial(value, *arguments, **named))
        return value

    def _call_in_thread(self, call: Callable[[], T]) -> T:
        """Return or raise what ``call`` does. This blocks only for a moment, as no such call waits."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(call())
            # It is raised again in the thread that waits for the result.
            except Exception as error:
                done.set_exception(error)

        with self._lock:
            self._running_loop().call_soon_threadsafe(run)
            return done.result()

    async def _await_in_thread(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Wait for a coroutine of the sandbox without blocking this loop, which may serve its webhooks."""
        with self._lock:
            loop = self._running_loop()
            future = asyncio.run_coroutine_threadsafe(function(*arguments, **named), loop)
        return await asyncio.wrap_future(future)

    def _running_loop(self) -> AbstractEventLoop:
        """Return the sandbox's event loop. Raises `ClientStateError` when the sandbox has ended."""
        if self._ended:
            raise ClientStateError(
                "this sandbox ended with its test or fixture: use it earlier, or serve one for longer with "
                "bandwidth_async.pytest_plugin.serving()"
            )
        return self._loop

    def _end(self) -> None:
        """Stop the sandbox and its thread."""
        with self._lock:
            self._ended = True
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join()


async def _serve(sandbox: Sandbox, started: Future[tuple[AbstractEventLoop, asyncio.Event]]) -> None:
    """Start the sandbox, put the loop and an event into ``started``, and serve until the event is set."""
    done = asyncio.Event()
    try:
        await sandbox.start()
    # It is raised in the thread that waits for the start. This thread ends here.
    except BaseException as error:
        started.set_exception(error)
        return
    started.set_result((asyncio.get_running_loop(), done))
    try:
        await done.wait()
    finally:
        await sandbox.stop()
