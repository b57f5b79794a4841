"""Runs on Celery: two lines in the module that your workers import, one where the run is started.

::

    app = Celery("teardown", broker="redis://queue", backend="redis://queue")
    end_conferences = conference_task(app)

    report = await run_on(end_conferences, journal)

Start each worker with the ``BW_…`` variables and with ``--prefetch-multiplier 1``, so that no worker holds
chunks that another could begin. It takes the pools prefork, threads and solo: each worker process has one
event loop, in a thread, with one client. With ``task_always_eager`` this process is the worker, and no server
is needed; so it is with the broker ``memory://`` and the backend ``cache+memory://``.

Celery delivers a message again when it was not acknowledged for ``visibility_timeout``, counted from when a
worker fetched it: an hour unless your app sets it, for all its tasks, also for a worker that is alive. So the
task acknowledges a chunk as it begins it, whatever ``task_acks_late`` says, and the lease alone decides what
is sent again. A chunk that comes again although it was begun is dropped.
"""

from __future__ import annotations

import asyncio
import atexit
import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from bandwidth_async.chunks import ChunkWorker, Engine, run_on
from bandwidth_async.client import VoiceClient
from bandwidth_async.errors import ConfigurationError

try:
    from celery import signals
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        "a run on Celery needs it: pip install 'bandwidth_async[celery]'", name=_error.name
    ) from _error

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from celery import Celery

    from bandwidth_async.chunks import Record

__all__ = ["ConferenceTask", "conference_task", "run_on"]

T = TypeVar("T")

# The state of our records in the result backend. Celery's own states have a meaning to it.
_STATE = "BANDWIDTH"


def conference_task(
    app: Celery,
    *,
    name: str = "bandwidth_async.end_conferences",
    client: Callable[[], VoiceClient] = VoiceClient.from_env,
    concurrency: int = 100,
) -> ConferenceTask:
    """Add a task to ``app`` that ends conferences, and return the queue that `run_on` needs.

    ``client`` makes the client of a worker process, for instance ``lambda: VoiceClient.from_env(limiter=…)``.
    ``concurrency`` is how many conferences a process ends at once.
    """
    return ConferenceTask(app, name, client, concurrency)


class ConferenceTask(Engine):
    """The queue and the result backend of a Celery app, as a run needs them. Made by `conference_task`."""

    def __init__(self, app: Celery, name: str, client: Callable[[], VoiceClient], concurrency: int) -> None:
        self._app = app
        self._worker: Callable[[], ChunkWorker] = lambda: ChunkWorker(self, client, concurrency=concurrency)
        self._process: _Process | None = None
        self._lock = threading.Lock()
        # The records in eager mode, in which Celery has no result backend.
        self._eager: dict[str, Record] = {}

        # A late acknowledgement would make Celery deliver what the coordinator hands out again by itself.
        @app.task(  # type: ignore[untyped-decorator]  # Celery has no types
            name=name,
            shared=False,
            bind=True,
            ignore_result=True,
            acks_late=False,
            reject_on_worker_lost=False,
            serializer="json",
        )
        def end_chunk(task: Any, chunk: Record) -> None:
            redelivered = (task.request.delivery_info or {}).get("redelivered", False)
            process = self._this_process()
            process.wait_for(process.worker.end(chunk, redelivered=bool(redelivered)))

        self._task = end_chunk
        signals.worker_process_shutdown.connect(self.close, weak=False)
        atexit.register(self.close)

    def check(self, lease: float) -> None:
        """Raise `ConfigurationError` for an app whose settings do not let a run work."""
        if self._app.conf.task_always_eager:
            return
        if self._app.conf.result_backend in {None, "disabled", "disabled://"}:
            raise ConfigurationError(
                "the Celery app has no result backend, which keeps the leases: pass backend= or set"
                " result_backend"
            )
        timeout = (self._app.conf.broker_transport_options or {}).get("visibility_timeout", math.inf)
        if timeout < lease:
            raise ConfigurationError(
                f"visibility_timeout is {timeout:g} s: Celery would deliver chunks again and again while they"
                f" wait in a worker; set {lease:g} s or more in broker_transport_options, or a shorter lease"
            )

    async def send(self, chunk: Record) -> None:
        """Send a chunk to the workers. In eager mode, end it."""
        await asyncio.to_thread(self._task.apply_async, (chunk,))

    async def read(self, key: str) -> Record | None:
        """Read a record from the result backend."""
        if self._app.conf.task_always_eager:
            return self._eager.get(key)
        found = await self._this_process().at_store(self._app.backend.get_task_meta, key, False)
        return found["result"] if found["status"] == _STATE else None

    async def write(self, key: str, record: Record) -> None:
        """Write a record into the result backend, which forgets it after ``result_expires``."""
        if self._app.conf.task_always_eager:
            self._eager[key] = record
        else:
            await self._this_process().at_store(self._app.backend.store_result, key, record, _STATE)

    def close(self, **_: object) -> None:
        """Close the client of this process. Celery's workers do this when they end."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None and process.pid == os.getpid():
            process.close()

    def _this_process(self) -> _Process:
        """Return what this process has. A worker process that was forked makes its own."""
        with self._lock:
            if self._process is None or self._process.pid != os.getpid():
                self._process = _Process(self._worker())
            return self._process


class _Process:
    """The two threads of one process: one with the event loop of its worker, one for the store."""

    def __init__(self, worker: ChunkWorker) -> None:
        self.pid = os.getpid()
        self.worker = worker
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bandwidth_async", daemon=True)
        self._thread.start()
        # One thread keeps the writes in order, also those that nobody waits for any more.
        self._store = ThreadPoolExecutor(1, "bandwidth_async-store")

    async def at_store(self, do: Callable[..., T], *arguments: object) -> T:
        """Do something that blocks, in its turn."""
        return await asyncio.get_running_loop().run_in_executor(self._store, do, *arguments)

    def wait_for(self, end: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine on the worker's loop. An error in this thread, as of a time limit, cancels it."""
        done = asyncio.run_coroutine_threadsafe(end, self._loop)
        try:
            done.result()
        except BaseException:
            done.cancel()
            raise

    def close(self) -> None:
        """Close the client, and end the threads."""
        self.wait_for(self.worker.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._store.shutdown(wait=False)
