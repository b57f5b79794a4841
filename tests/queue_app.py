"""The Celery app of the tests, and a coordinator of a run on it: ``python -m tests.queue_app JOURNAL IDS``.

The environment has the Redis (``QUEUE_URL``), the lease in seconds (``QUEUE_LEASE``), and the rate that all
workers share over that Redis (``QUEUE_RATE``).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from pathlib import Path

from celery import Celery

from bandwidth_async import Journal, RateLimit, Report, SharedLimiter, VoiceClient
from bandwidth_async.celery import conference_task, run_on

URL = os.environ.get("QUEUE_URL", "memory://")

app = Celery("queue_app", broker=URL, backend=URL if URL.startswith("redis") else "cache+memory://")
app.conf.broker_connection_retry_on_startup = True
app.conf.broker_connection_max_retries = None


def client() -> VoiceClient:
    """Return a worker's client. In the test of a cut network the sandbox is not on the loopback address."""
    limit = RateLimit.fixed(float(os.environ["QUEUE_RATE"]))
    return VoiceClient.from_env(allow_http=True, limiter=SharedLimiter(URL, limit))


end_conferences = conference_task(app, client=client)


async def coordinate(path: Path, ids: list[str], *, resume: bool) -> Report:
    """Run or resume the journal."""
    if resume:
        journal = Journal.open(path)
    else:
        journal = Journal.create(path, account_id=os.environ["BW_ACCOUNT_ID"])
        await journal.record(ids)
    async with journal:
        return await run_on(
            end_conferences, journal, chunk_size=100, chunks=12, lease=float(os.environ["QUEUE_LEASE"])
        )


if __name__ == "__main__":
    logging.basicConfig()
    place = Path(sys.argv[1])
    report = asyncio.run(coordinate(place, Path(sys.argv[2]).read_text().split(), resume=place.exists()))
    print(json.dumps({"ok": report.ok, "counts": report.counts, "attempts": report.attempts}))
