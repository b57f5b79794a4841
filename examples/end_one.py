"""End one conference.

Set the BW_… variables and run ``python examples/end_one.py CONFERENCE_ID``.
"""

import asyncio
import sys

from bandwidth_async import BandwidthError, VoiceClient


async def main(conference_id: str) -> None:
    """End it, and print the outcome."""
    async with VoiceClient.from_env() as client:
        outcome = await client.end_conference(conference_id)
        print(outcome.conference_id, outcome.kind)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        asyncio.run(main(sys.argv[1]))
    except BandwidthError as error:
        sys.exit(f"not ended: {error}")
