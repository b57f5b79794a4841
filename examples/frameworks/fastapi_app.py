"""End conferences from a FastAPI application, and receive Bandwidth's webhooks.

Set the BW_… variables, and WEBHOOK_USERNAME and WEBHOOK_PASSWORD to the ``username`` and ``password`` of your
``<Conference>``. Let its ``conferenceEventUrl`` lead to ``/webhooks``. Start the server::

    uvicorn --app-dir examples/frameworks --port 8080 --timeout-graceful-shutdown 15 fastapi_app:app

Then end a conference with ``curl -X DELETE http://127.0.0.1:8080/conferences/CONFERENCE_ID``.

The client
    The lifespan opens one client, which all requests share with its rate, token and connections. FastAPI
    leaves the lifespan after the last response, so no request finds the client closed.
The deadline
    An end has 10 seconds. That is less than the 15 that uvicorn leaves to requests when it stops, and less
    than most proxies wait. So the caller gets an answer that says what happened.
The webhooks
    The application has a route and is not mounted. A mount would redirect the URL without a slash at the end.
    Two routes take both, with the slash and without it.
"""

import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.routing import Route

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


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, VoiceClient]]:
    """Open the client when the application starts, and close it when it stops."""
    async with VoiceClient.from_env(deadline=10) as client:
        yield {"client": client}


async def client_of(request: Request) -> VoiceClient:
    """Return the client of the application. Override this dependency in your tests."""
    client: VoiceClient = request.state.client
    return client


app = FastAPI(lifespan=lifespan)
webhooks = asgi_app(receive, auth=BasicAuth(os.environ["WEBHOOK_USERNAME"], os.environ["WEBHOOK_PASSWORD"]))
app.router.routes += [Route(path, webhooks, include_in_schema=False) for path in ("/webhooks", "/webhooks/")]


@app.delete("/conferences/{conference_id}")
async def end(conference_id: str, client: Annotated[VoiceClient, Depends(client_of)]) -> dict[str, str]:
    """End a conference."""
    outcome = await client.end_conference(conference_id)
    return {"conference_id": outcome.conference_id, "outcome": outcome.kind}


@app.exception_handler(BandwidthError)
async def on_error(_: Request, error: BandwidthError) -> JSONResponse:
    """Answer an error of the client."""
    return JSONResponse(*answer_to(error))
