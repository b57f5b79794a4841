"""End conferences from an aiohttp.web application, and receive Bandwidth's webhooks.

Set the BW_… variables, and WEBHOOK_USERNAME and WEBHOOK_PASSWORD to the ``username`` and ``password`` of your
``<Conference>``. Let its ``conferenceEventUrl`` lead to ``/webhooks``. Start the server::

    python examples/frameworks/aiohttp_app.py 8080

Then end a conference with ``curl -X DELETE http://127.0.0.1:8080/conferences/CONFERENCE_ID``.

The client
    The cleanup context opens one client, which all requests share with its rate, token and connections.
    aiohttp closes it after the last response, so no request finds the client closed.
The deadline
    An end has 10 seconds. That is less than the 15 that ``shutdown_timeout`` leaves to requests when the
    server stops, and less than most proxies wait. So the caller gets an answer that says what happened.
The webhooks
    ``aiohttp_handler`` makes a handler for the route of all methods. This route takes a slash at the end too.
    ``examples/webhook_events.py`` waits for the event that proves an end.
"""

import math
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from bandwidth_async import (
    BandwidthError,
    ConfigurationError,
    DeadlineExceededError,
    NotFoundError,
    RateLimitError,
    UnavailableError,
    VoiceClient,
)
from bandwidth_async.webhooks import BasicAuth, Event
from bandwidth_async.webhooks.aiohttp_handler import aiohttp_handler

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


CLIENT = web.AppKey("client", VoiceClient)


async def bandwidth(app: web.Application) -> AsyncIterator[None]:
    """Open the client when the application starts, and close it when it stops."""
    async with VoiceClient.from_env(deadline=10) as app[CLIENT]:
        yield


async def end(request: web.Request) -> web.Response:
    """End a conference."""
    outcome = await request.app[CLIENT].end_conference(request.match_info["conference_id"])
    return web.json_response({"conference_id": outcome.conference_id, "outcome": outcome.kind})


@web.middleware
async def on_error(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer an error of the client."""
    try:
        return await handler(request)
    except BandwidthError as error:
        body, status, headers = answer_to(error)
        return web.json_response(body, status=status, headers=headers)


def make_app() -> web.Application:
    """Return the application."""
    app = web.Application(middlewares=[on_error])
    app.cleanup_ctx.append(bandwidth)
    app.router.add_delete("/conferences/{conference_id}", end)
    auth = BasicAuth(os.environ["WEBHOOK_USERNAME"], os.environ["WEBHOOK_PASSWORD"])
    app.router.add_route("*", "/webhooks{slash:/?}", aiohttp_handler(receive, auth=auth))
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1", port=int(sys.argv[1]), shutdown_timeout=15)
