"""End conferences from code without an event loop.

Set the BW_… variables and run ``python examples/end_sync.py CONFERENCE_ID …``.
"""

import sys

from bandwidth_async import BandwidthError, SyncVoiceClient


def main(ids: list[str]) -> int:
    """End them, print each outcome as it comes, and return the exit code."""
    with SyncVoiceClient.from_env() as client, client.ending_conferences(ids) as outcomes:
        for outcome in outcomes:
            print(outcome.conference_id, outcome.kind)
    return 0 if outcomes.report.ok else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BandwidthError as error:
        sys.exit(f"not ended: {error}")
