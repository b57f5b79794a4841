"""End conferences by workers of taskiq: an engine for `bandwidth_async.chunks.run_on` in three methods.

Set the BW_… variables and run ``python examples/queue_taskiq.py ID…``. As it stands all happens in one
process. For workers elsewhere, make ``BROKER`` one that they reach, with a result backend that keeps the
progress of tasks, and start ``taskiq worker examples.queue_taskiq:BROKER`` on each machine.
"""

import asyncio
import sys
from typing import Any

from taskiq import AsyncBroker, InMemoryBroker
from taskiq.depends.progress_tracker import TaskProgress

from bandwidth_async import VoiceClient
from bandwidth_async.chunks import ChunkWorker, Engine, Record, run_on

BROKER = InMemoryBroker(max_stored_results=-1)


class TaskiqEngine(Engine):
    """Sends chunks as tasks of a broker, and keeps leases as the progress of tasks in its result backend."""

    def __init__(self, broker: AsyncBroker) -> None:
        self._backend = broker.result_backend
        self.worker = ChunkWorker(self, VoiceClient.from_env)

        # No retry by taskiq: the coordinator says what is sent again.
        @broker.task("bandwidth_async.end_conferences", retry_on_error=False)
        async def end_chunk(chunk: dict[str, Any]) -> None:
            await self.worker.end(chunk)

        self._task = end_chunk

    async def send(self, chunk: Record) -> None:
        """Send a chunk to the workers."""
        await self._task.kiq(chunk)

    async def read(self, key: str) -> Record | None:
        """Read a record from the result backend."""
        progress: TaskProgress[Record] | None = await self._backend.get_progress(key)
        return progress.meta if progress is not None else None

    async def write(self, key: str, record: Record) -> None:
        """Write a record into the result backend."""
        await self._backend.set_progress(key, TaskProgress(state="BANDWIDTH", meta=record))


ENGINE = TaskiqEngine(BROKER)


async def main(ids: list[str]) -> int:
    """End the conferences, print each outcome, and return the exit code."""
    await BROKER.startup()
    report = await run_on(ENGINE, ids, on_outcome=lambda outcome: print(outcome.conference_id, outcome.kind))
    await ENGINE.worker.aclose()
    await BROKER.shutdown()
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
