"""End every active conference of your account, and print those that need a look.

Set the BW_… variables and run ``python examples/end_many.py``. The run pulls the listing page by page, so
memory does not grow with the number of conferences.
"""

import asyncio
import sys
from collections.abc import AsyncIterator

from bandwidth_async import Conference, Outcome, VoiceClient


async def active(client: VoiceClient) -> AsyncIterator[Conference]:
    """Yield the conferences that have not ended."""
    async for conference in client.list_conferences():
        if conference.active:
            yield conference


def show_trouble(outcome: Outcome) -> None:
    """Print an outcome that has an error."""
    if outcome.error:
        print(outcome.conference_id, outcome.kind, outcome.error)


async def main() -> int:
    """End them all, print the counts, and return the exit code."""
    async with VoiceClient.from_env() as client:
        report = await client.end_conferences(active(client), on_outcome=show_trouble)
    print({str(kind): count for kind, count in report.counts.items()}, f"{report.rate:.0f}/s")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
