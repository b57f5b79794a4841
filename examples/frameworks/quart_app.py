"""End conferences from a Quart application, and receive Bandwidth's webhooks.

Set the BW_… variables, and WEBHOOK_USERNAME and WEBHOOK_PASSWORD to the ``username`` and ``password`` of your
``<Conference>``. Let its ``conferenceEventUrl`` lead to ``/webhooks``. Start the server::

    hypercorn --bind 127.0.0.1:8080 --graceful-timeout 15 examples/frameworks/quart_app:app

Then end a conference with ``curl -X DELETE http://127.0.0.1:8080/conferences/CONFERENCE_ID``.

The client
    ``while_serving`` opens one client, which all requests share with its rate, token and connections. Quart
    closes it after the last response, so no request finds the client closed.
The deadline
    An end has 10 seconds. That is less than the 15 that ``--graceful-timeout`` leaves to requests when
    Hypercorn stops. Its default of 3 seconds would cut off an end that is being retried.
The webhooks
    Quart cannot mount an application. So ``serve`` comes first and gives ``/webhooks`` to the one that
    receives webhooks, with a slash at the end and without it.
"""

import math
import os
from collections.abc import AsyncGenerator
from typing import Any

from quart import Quart, Response, current_app, jsonify

from bandwidth_async import (
    BandwidthError,
    ConfigurationError,
    DeadlineExceededError,
    NotFoundError,
    RateLimitError,
    UnavailableError,
    VoiceClient,
)
from bandwidth_async.webhooks import BasicAuth, Event, asgi_app

# The status of each error. For any other it is 502: Bandwidth failed, or it refused this server.
STATUSES = {
    ConfigurationError: 400,
    NotFoundError: 404,
    RateLimitError: 503,
    UnavailableError: 503,
    DeadlineExceededError: 504,
}


def answer_to(error: BandwidthError) -> tuple[dict[str, str], int, dict[str, str]]:
    """Return the body, the status and the headers that answer an error."""
    status = next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 502)
    wait = {} if error.retry_after is None else {"Retry-After": str(math.ceil(error.retry_after))}
    return {"error": str(error)}, status, wait


def receive(event: Event) -> None:
    """Do what your application does at an event. Return BXML instead of None to answer with it."""
    print(event.event_type, event.conference_id, flush=True)


app = Quart(__name__)


@app.while_serving
async def bandwidth() -> AsyncGenerator[None, None]:
    """Open the client when the application starts, and close it when it stops."""
    async with VoiceClient.from_env(deadline=10) as client:
        app.extensions["bandwidth"] = client
        yield


@app.delete("/conferences/<conference_id>")
async def end(conference_id: str) -> dict[str, str]:
    """End a conference."""
    outcome = await current_app.extensions["bandwidth"].end_conference(conference_id)
    return {"conference_id": outcome.conference_id, "outcome": outcome.kind}


@app.errorhandler(BandwidthError)
async def on_error(error: BandwidthError) -> tuple[Response, int, dict[str, str]]:
    """Answer an error of the client."""
    body, status, headers = answer_to(error)
    return jsonify(body), status, headers


webhooks = asgi_app(receive, auth=BasicAuth(os.environ["WEBHOOK_USERNAME"], os.environ["WEBHOOK_PASSWORD"]))
pages = app.asgi_app


async def serve(scope: Any, receive: Any, send: Any) -> None:
    """Give each request to the application that its path belongs to."""
    is_webhook = scope.get("path", "").rstrip("/") == "/webhooks"
    await (webhooks if is_webhook else pages)(scope, receive, send)


app.asgi_app = serve  # type: ignore[method-assign]  # the way that Quart documents
