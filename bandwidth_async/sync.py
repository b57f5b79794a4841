"""`SyncVoiceClient`: the same client for code without an event loop.

A thread of its own runs the event loop of one `VoiceClient`, and each method waits there for the method of
the same name. A thread and the standard library suffice for that, so it depends on no further package.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, Unpack, overload

from bandwidth_async.client import VoiceClient, with_environment
from bandwidth_async.errors import ClientStateError
from bandwidth_async.outcome import Outcome
from bandwidth_async.settings import CallSettings, ClientSettings, names_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path
    from types import TracebackType

    from bandwidth_async.limiter import Limiter
    from bandwidth_async.media import Media, Progress
    from bandwidth_async.outcome import Report
    from bandwidth_async.run import Outcomes

    _Shown = Callable[["SyncVoiceClient"], None]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
V = TypeVar("V")


class _LoopThread:
    """An event loop in a thread of its own, which starts with the first coroutine."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._process = 0
        self.closed: bool = False

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine there, and return or raise what it does. An interruption cancels it.

        Raises `ClientStateError` in a process that was forked later, and in the thread itself, which would
        wait for itself.
        """
        try:
            loop = self._running()
            # What is submitted before `close` is waited for there.
            with self._lock:
                self._check_open()
                future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        except ClientStateError:
            coroutine.close()
            raise
        try:
            return future.result()
        except CancelledError:
            self._check_open()
            raise
        except BaseException:
            future.cancel()
            raise

    def _check_open(self) -> None:
        if self.closed:
            raise ClientStateError("this SyncVoiceClient is closed; make a new one")

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            self._check_open()
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_run_forever, args=(self._loop,), name="bandwidth_async", daemon=True
                )
                self._process = os.getpid()
                self._thread.start()
        if self._process != os.getpid():
            raise ClientStateError("this SyncVoiceClient was used before the fork; make one in each process")
        self.check_thread()
        return self._loop

    def check_thread(self) -> None:
        """Raise `ClientStateError` in the thread itself, which would wait for itself."""
        if self._thread is threading.current_thread():
            raise ClientStateError(
                "a SyncVoiceClient cannot be used in its own callbacks, which it waits for"
            )

    def close(self) -> None:
        """End the thread, and wait for it."""
        with self._lock:
            self.closed = True
        if self._loop is not None and self._thread is not None and self._process == os.getpid():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()


def _run_forever(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        while True:
            # A task that ends with one of these ends `run_forever` too. Who waits for the task gets it.
            with suppress(KeyboardInterrupt, SystemExit):
                loop.run_forever()
                break
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def _waiting(
    method: Callable[Concatenate[VoiceClient, P], Coroutine[Any, Any, R]],
) -> Callable[[_Shown], Callable[Concatenate[SyncVoiceClient, P], R]]:
    """Make a method wait for a coroutine method, whose signature it gets."""

    def call(self: SyncVoiceClient, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._thread.run(method(self._client, *args, **kwargs))

    return lambda shown: _as_shown(call, method, shown)


def _iterating(
    method: Callable[Concatenate[VoiceClient, P], AsyncIterator[V]],
) -> Callable[[_Shown], Callable[Concatenate[SyncVoiceClient, P], Iterator[V]]]:
    """Make a method yield what an asynchronous generator yields."""

    def call(self: SyncVoiceClient, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[V]:
        source = method(self._client, *args, **kwargs)
        try:
            yield from _Items(self._thread, source)
        finally:
            if not self._thread.closed:
                self._thread.run(_close(source))

    return lambda shown: _as_shown(call, method, shown)


def _entering(
    method: Callable[Concatenate[VoiceClient, P], AbstractAsyncContextManager[T]],
    wrap: Callable[[_LoopThread, T], V],
) -> Callable[[_Shown], Callable[Concatenate[SyncVoiceClient, P], AbstractContextManager[V]]]:
    """Make a method's context hold an asynchronous one, and give what that gives as ``wrap`` does."""

    def call(self: SyncVoiceClient, /, *args: P.args, **kwargs: P.kwargs) -> AbstractContextManager[V]:
        async def make() -> AbstractAsyncContextManager[T]:
            return method(self._client, *args, **kwargs)

        return _Entered(self._thread, self._thread.run(make()), wrap)

    return lambda shown: _as_shown(call, method, shown)


def _as_shown(call: Callable[P, R], method: Callable[..., object], shown: _Shown) -> Callable[P, R]:
    """Return ``call`` with the signature of ``method`` and the docstring of ``shown``."""
    named = wraps(method)(call)
    for name in ("__doc__", "__qualname__", "__module__"):
        setattr(named, name, getattr(shown, name))
    return named


async def _close(source: AsyncIterator[V]) -> None:
    if isinstance(source, AsyncGenerator):
        await source.aclose()


class _Items(Generic[V]):
    """Iterates over an asynchronous iterator in its thread."""

    def __init__(self, thread: _LoopThread, source: AsyncIterator[V]) -> None:
        self._thread = thread
        self._source = source

    def __iter__(self) -> Iterator[V]:
        return self

    def __next__(self) -> V:
        found = self._thread.run(self._next())
        if not found:
            raise StopIteration
        return found[0]

    async def _next(self) -> tuple[V, ...]:
        async for item in self._source:
            return (item,)
        return ()


class SyncOutcomes(_Items[Outcome]):
    """The outcomes of a run as they come, of `SyncVoiceClient.ending_conferences`.

    ``report`` is their sum so far.
    """

    def __init__(self, thread: _LoopThread, outcomes: Outcomes) -> None:
        super().__init__(thread, outcomes)
        self.report: Report = outcomes.report


class SyncMedia(_Items[bytes]):
    """The chunks of a recording as they come, of `SyncVoiceClient.download_conference_recording`.

    ``content_type`` and ``length`` are those that the server names, or None. ``attempts`` are the requests
    that it took.
    """

    def __init__(self, thread: _LoopThread, media: Media) -> None:
        super().__init__(thread, media)
        self.content_type: str | None = media.content_type
        self.length: int | None = media.length
        self.attempts: int = media.attempts


class _Entered(AbstractContextManager[V], Generic[T, V]):
    """An asynchronous context, entered and left by one task in the thread."""

    def __init__(
        self,
        thread: _LoopThread,
        manager: AbstractAsyncContextManager[T],
        wrap: Callable[[_LoopThread, T], V],
    ) -> None:
        self._thread = thread
        self._manager = manager
        self._wrap = wrap

    def __enter__(self) -> V:
        return self._wrap(self._thread, self._thread.run(self._enter()))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._thread.run(self._exit(error))
        except BaseException as raised:
            # A coroutine that raises `StopIteration` raises a RuntimeError because of it instead.
            is_stop = isinstance(error, StopIteration) and raised.__cause__ is error
            if raised is not error and not is_stop:
                raise

    async def _enter(self) -> T:
        self._value: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._left: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self._holder = asyncio.create_task(self._hold())
        first: set[asyncio.Future[Any]] = {self._value, self._holder}
        try:
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._holder.cancel()
            raise
        if not self._value.done():
            await self._holder
        return self._value.result()

    async def _hold(self) -> None:
        async with self._manager as value:
            self._value.set_result(value)
            if (error := await self._left) is not None:
                raise error

    async def _exit(self, error: BaseException | None) -> None:
        if not self._left.done():
            self._left.set_result(error)
        await self._holder


class SyncVoiceClient:
    """A `VoiceClient` for code without an event loop: scripts, Django and Flask views, Celery tasks.

    ::

        with SyncVoiceClient.from_env() as client:
            client.end_conference("conf-1")

    It takes the settings of `VoiceClient` and has its methods, which return when the work is done. Any number
    of threads may use one at once, and share its rate, token and connections. Open it once per process, also
    at the level of a module: its thread starts with the first call. Callbacks such as ``on_event`` and
    ``on_outcome`` run in that thread. If you interrupt a method (Ctrl-C), its operation or run is cancelled.

    Methods raise what those of `VoiceClient` raise, `ConfigurationError` among it, and `ClientStateError`
    after a fork that came after the first call, and in a callback.
    """

    @names_settings(ClientSettings)
    def __init__(self, **settings: Unpack[ClientSettings]) -> None:
        self._client = VoiceClient(**settings)
        self._thread = _LoopThread()

    @classmethod
    @names_settings(ClientSettings)
    def from_env(cls, **settings: Unpack[ClientSettings]) -> Self:
        """Return a client for the account in the ``BW_…`` environment variables; see `VoiceClient.from_env`.

        Raises `MissingCredentialsError` naming what is not set, `ConfigurationError` for a wrong value.
        """
        return cls(**with_environment(settings))

    def __repr__(self) -> str:
        return f"<SyncVoiceClient over {self._client!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the client and end its thread. What other threads wait for raises `ClientStateError`.

        Raises that error itself in a callback.
        """
        self._thread.check_thread()
        if not self._thread.closed:
            try:
                self._thread.run(self._client.aclose())
            finally:
                self._thread.close()

    @property
    def account_id(self) -> str:
        """The account whose conferences these are."""
        return self._client.account_id

    @property
    def voice_url(self) -> str:
        """Scheme and host of the Voice API that it talks to."""
        return self._client.voice_url

    @property
    def api_url(self) -> str:
        """Scheme and host of the endpoint that gives it its access tokens."""
        return self._client.api_url

    @property
    def user(self) -> str:
        """The client id, or the name of an API user, that it signs in with."""
        return self._client.user

    @property
    def limiter(self) -> Limiter:
        """The limiter of all requests. Read its `Limiter.snapshot`."""
        return self._client.limiter

    @property
    def rate(self) -> float:
        """Requests per second that the limiter lets through at present."""
        return self._client.rate

    @_waiting(VoiceClient.end_conference)
    def end_conference(self) -> None:
        """End a conference; see `VoiceClient.end_conference`."""

    @_waiting(VoiceClient.end_conferences)
    def end_conferences(self) -> None:
        """End many conferences, and return the sum; see `VoiceClient.end_conferences`."""

    @_waiting(VoiceClient.update_conference)
    def update_conference(self) -> None:
        """Change a conference; see `VoiceClient.update_conference`."""

    @_waiting(VoiceClient.get_conference)
    def get_conference(self) -> None:
        """Return a conference with its active members; see `VoiceClient.get_conference`."""

    @_iterating(VoiceClient.list_conferences)
    def list_conferences(self) -> None:
        """Iterate over all conferences; see `VoiceClient.list_conferences`."""

    @_waiting(VoiceClient.update_conference_bxml)
    def update_conference_bxml(self) -> None:
        """Replace the BXML of a conference; see `VoiceClient.update_conference_bxml`."""

    @_waiting(VoiceClient.get_conference_member)
    def get_conference_member(self) -> None:
        """Return a member of a conference; see `VoiceClient.get_conference_member`."""

    @_waiting(VoiceClient.update_conference_member)
    def update_conference_member(self) -> None:
        """Change a member; see `VoiceClient.update_conference_member`."""

    @_waiting(VoiceClient.list_conference_recordings)
    def list_conference_recordings(self) -> None:
        """Return the recordings' metadata; see `VoiceClient.list_conference_recordings`."""

    @_waiting(VoiceClient.get_conference_recording)
    def get_conference_recording(self) -> None:
        """Return a recording's metadata; see `VoiceClient.get_conference_recording`."""

    @_waiting(VoiceClient.get_call)
    def get_call(self) -> None:
        """Return the state of a call; see `VoiceClient.get_call`."""

    @_waiting(VoiceClient.update_call)
    def update_call(self) -> None:
        """Change a call; see `VoiceClient.update_call`."""

    @_waiting(VoiceClient.wait_until_completed)
    def wait_until_completed(self) -> None:
        """Return a conference once it has ended; see `VoiceClient.wait_until_completed`."""

    @_entering(VoiceClient.ending_conferences, SyncOutcomes)
    def ending_conferences(self) -> None:
        """End many conferences, and iterate over the outcomes; see `VoiceClient.ending_conferences`."""

    @overload
    def download_conference_recording(
        self, conference_id: str, recording_id: str, *, to: None = None, **settings: Unpack[CallSettings]
    ) -> AbstractContextManager[SyncMedia]: ...

    @overload
    def download_conference_recording(
        self,
        conference_id: str,
        recording_id: str,
        *,
        to: str | os.PathLike[str],
        overwrite: bool = False,
        on_progress: Progress | None = None,
        **settings: Unpack[CallSettings],
    ) -> Path: ...

    @names_settings(CallSettings)
    def download_conference_recording(
        self,
        conference_id: str,
        recording_id: str,
        *,
        to: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        on_progress: Progress | None = None,
        **settings: Unpack[CallSettings],
    ) -> AbstractContextManager[SyncMedia] | Path:
        """Fetch the audio of a recording, to a file or chunk by chunk.

        ::

            path = client.download_conference_recording("conf-1", "r-1", to="r-1.wav")

            with client.download_conference_recording("conf-1", "r-1") as media:
                for chunk in media:
                    ...

        See `VoiceClient.download_conference_recording`, also for what it raises.
        """
        # Whether there is a file decides what it returns, which its overloads do not tell about a variable.
        download: Any = self._client.download_conference_recording
        found = download(
            conference_id, recording_id, to=to, overwrite=overwrite, on_progress=on_progress, **settings
        )
        if to is None:
            return _Entered(self._thread, found, SyncMedia)
        path: Path = self._thread.run(found)
        return path
