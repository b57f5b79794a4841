"""End conferences from async views of Django, and receive Bandwidth's webhooks.

Set the BW_… variables, and WEBHOOK_USERNAME and WEBHOOK_PASSWORD to the ``username`` and ``password`` of your
``<Conference>``. Let its ``conferenceEventUrl`` lead to ``/webhooks``. Start the server::

    uvicorn --app-dir examples/frameworks --port 8080 --timeout-graceful-shutdown 15 django_app:application

Then end a conference with ``curl -X DELETE http://127.0.0.1:8080/conferences/CONFERENCE_ID``.

The client
    Django does not know the lifespan of an ASGI server, so ``lifespan`` answers in its place. It opens one
    client, which all requests share with its rate, token and connections, and closes it after the last
    response. The server needs to have a lifespan: uvicorn and Hypercorn have one, Daphne has none. Under WSGI
    use `SyncVoiceClient`.
The deadline
    An end has 10 seconds. That is less than the 15 that uvicorn leaves to requests when it stops, and less
    than most proxies wait. So the caller gets an answer that says what happened.
The webhooks
    Django cannot mount an application. So ``application`` comes first and gives ``/webhooks`` to the one that
    receives webhooks, with a slash at the end and without it. No middleware of Django sees these requests, so
    none asks them for a CSRF token.

In a project of yours the settings, the views and ``application`` are in ``settings.py``, ``views.py`` and
``asgi.py``.
"""

import math
import os
from collections.abc import MutableMapping
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.urls import path

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


OPEN: dict[str, VoiceClient] = {}


async def end(request: HttpRequest, conference_id: str) -> HttpResponse:
    """End a conference. If your project has Django's CSRF middleware, it asks this request for a token."""
    if request.method != "DELETE":
        return HttpResponseNotAllowed(["DELETE"])
    try:
        outcome = await OPEN["client"].end_conference(conference_id)
    except BandwidthError as error:
        body, status, headers = answer_to(error)
        return JsonResponse(body, status=status, headers=headers)
    return JsonResponse({"conference_id": outcome.conference_id, "outcome": outcome.kind})


async def lifespan(receive: Any, send: Any) -> None:
    """Open the client when the server starts, and close it when it stops."""
    await receive()
    try:
        client = VoiceClient.from_env(deadline=10)
    except BandwidthError as error:
        await send({"type": "lifespan.startup.failed", "message": str(error)})
        return
    async with client as OPEN["client"]:
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})


settings.configure(ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=__name__)
urlpatterns = [path("conferences/<str:conference_id>", end)]
webhooks = asgi_app(receive, auth=BasicAuth(os.environ["WEBHOOK_USERNAME"], os.environ["WEBHOOK_PASSWORD"]))
pages = get_asgi_application()


async def application(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    """Give each request to the application that its path belongs to."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["path"].rstrip("/") == "/webhooks":
        await webhooks(scope, receive, send)
    else:
        await pages(scope, receive, send)
