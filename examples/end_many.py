"""End every active conference of the account, and print those that need a look.

``python examples/end_many.py``, with the BW_… variables set. The listing is pulled as the run goes on, so
memory does not grow with the number of conferences.
"""

import asyncio
import sys
from collections.abc import AsyncIterator

from bandwidth_async import Conference, Outcome, VoiceClient


async def active(client: VoiceClient) -> AsyncIterator[Conference]:
    async for conference in client.list_conferences():
        if conference.active:
            yield conference


def show_trouble(outcome: Outcome) -> None:
    if outcome.error:
        print(outcome.conference_id, outcome.kind, outcome.error)


async def main() -> int:
    async with VoiceClient.from_env() as client:
        report = await client.end_conferences(active(client), on_outcome=show_trouble)
    print({kind.value: count for kind, count in report.counts.items()}, f"{report.rate:.0f}/s")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
