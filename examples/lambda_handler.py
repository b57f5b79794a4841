"""End a conference from a function that has an event loop for each invocation, as on AWS Lambda.

The credentials are made once, outside of the handler. They keep the access token, and what was learned of the
rate, from one invocation to the next. Set the BW_… variables and run
``python examples/lambda_handler.py CONFERENCE_ID …``, which invokes it once for each id.
"""

import asyncio
import os
import sys
from typing import Any

from bandwidth_async import BandwidthError, ClientCredentials, NotFoundError, VoiceClient

CREDENTIALS = ClientCredentials(os.environ["BW_CLIENT_ID"], os.environ["BW_CLIENT_SECRET"])


async def end(conference_id: str) -> str:
    """End it, with a client of this event loop."""
    async with VoiceClient.from_env(credentials=CREDENTIALS, deadline=10) as client:
        try:
            return str((await client.end_conference(conference_id)).kind)
        except NotFoundError:
            return "not_found"


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Do one invocation."""
    return {"conference_id": event["conference_id"], "outcome": asyncio.run(end(event["conference_id"]))}


if __name__ == "__main__":
    try:
        for given in sys.argv[1:]:
            print(handler({"conference_id": given}, None))
    except BandwidthError as error:
        sys.exit(str(error))
