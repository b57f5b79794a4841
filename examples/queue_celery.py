"""End conferences by Celery workers on any number of machines, with a journal on this one.

Set ``REDIS_URL`` and the BW_… variables on each machine. Start the workers, then the run::

    celery --app examples.queue_celery worker --prefetch-multiplier 1
    python -m examples.queue_celery teardown.journal < ids.txt

The last line again resumes a run that was cut off. It needs BW_ACCOUNT_ID only, and no credentials. Without
``REDIS_URL`` all happens in one process, as in the tests of your application.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from celery import Celery

from bandwidth_async import BandwidthError, Journal, Stop
from bandwidth_async.celery import conference_task, run_on

REDIS = os.environ.get("REDIS_URL")

app = Celery("teardown", broker=REDIS, backend=REDIS, task_always_eager=REDIS is None)
end_conferences = conference_task(app)


async def main(path: Path, *, resume: bool) -> int:
    """Begin or resume the run, print the counts, and return the exit code."""
    if resume:
        journal = Journal.open(path)
    else:
        journal = Journal.create(path, account_id=os.environ["BW_ACCOUNT_ID"])
        await journal.record(line.strip() for line in sys.stdin if line.strip())
    stop = Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.request)
    async with journal:
        report = await run_on(end_conferences, journal, stop=stop)
    print({str(kind): count for kind, count in report.counts.items()}, report.stopped or "")
    return 0 if report.ok else 1


if __name__ == "__main__":
    given = Path(sys.argv[1])
    try:
        sys.exit(asyncio.run(main(given, resume=given.exists())))
    except BandwidthError as error:
        sys.exit(str(error))
