"""Count the requests of a run by what became of them, and how long they waited for the limiter.

Set the BW_… variables and run ``python examples/count_retries.py CONFERENCE_ID …``.
"""

import asyncio
import sys
from collections import Counter

from bandwidth_async import AttemptEnded, BandwidthError, Event, OperationEnded, VoiceClient


class Counts:
    """What the events of a client add up to."""

    def __init__(self) -> None:
        self.attempts = Counter[str]()
        self.outcomes = Counter[str]()
        self.waited = 0.0

    def on_event(self, event: Event) -> None:
        """Count an event. The client calls this, and requests wait for it."""
        match event:
            case AttemptEnded():
                self.attempts[f"{event.operation}: {event.status or event.error}"] += 1
                self.waited += event.waited
            case OperationEnded():
                self.outcomes[event.outcome] += 1


async def main(ids: list[str]) -> None:
    """End them, and print the counts."""
    counts = Counts()
    async with VoiceClient.from_env(on_event=counts.on_event) as client:
        await client.end_conferences(ids)
    print(dict(counts.attempts), dict(counts.outcomes), f"{counts.waited:.1f} s in the queue")


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1:]))
    except BandwidthError as error:
        sys.exit(str(error))
