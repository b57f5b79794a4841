"""End conferences and wait for the event that proves it.

Set the BW_… variables. Let the ``conferenceEventUrl`` of your ``<Conference>`` lead to ``/webhooks`` of this
server. Set WEBHOOK_USERNAME and WEBHOOK_PASSWORD to its ``username`` and ``password``.
Run ``python examples/webhook_events.py [PORT]``. Then run
``curl -X DELETE http://127.0.0.1:8080/conferences/CONFERENCE_ID``.
"""

import os
import sys
from collections.abc import AsyncIterator

from aiohttp import web

from bandwidth_async import BandwidthError, DeadlineExceededError, VoiceClient
from bandwidth_async.webhooks import BasicAuth, ConferenceCompleted, ConferenceMemberJoin, Event, EventHub
from bandwidth_async.webhooks.aiohttp_handler import aiohttp_handler

CLIENT = web.AppKey("client", VoiceClient)
HUB = web.AppKey("hub", EventHub)


async def bandwidth(app: web.Application) -> AsyncIterator[None]:
    """Open the client when the application starts, and close it when it stops."""
    async with VoiceClient.from_env(deadline=10) as client:
        app[CLIENT] = client
        yield


async def end(request: web.Request) -> web.Response:
    """End the conference, and answer when its event has come: 202 if it has not come after 10 seconds."""
    conference_id = request.match_info["id"]
    # Expect the event before the request that causes it, so that it cannot come too early.
    async with request.app[HUB].expecting(conference_id, ConferenceCompleted) as proof:
        try:
            await request.app[CLIENT].end_conference(conference_id)
        except BandwidthError as error:
            raise web.HTTPBadGateway(text=str(error)) from error
        try:
            event = await proof.event(deadline=10)
        except DeadlineExceededError as error:
            raise web.HTTPAccepted(text=str(error)) from error
    return web.json_response({"conference_id": conference_id, "completed": event.event_time.isoformat()})


def make_app() -> web.Application:
    """Return the application."""
    hub = EventHub()

    def receive(event: Event) -> str | None:
        """Publish the event, and greet a new member with BXML."""
        hub.publish(event)
        if isinstance(event, ConferenceMemberJoin):
            return "<Response><SpeakSentence>Somebody joined.</SpeakSentence></Response>"
        return None

    auth = BasicAuth(os.environ["WEBHOOK_USERNAME"], os.environ["WEBHOOK_PASSWORD"])
    app = web.Application()
    app[HUB] = hub
    app.cleanup_ctx.append(bandwidth)
    app.router.add_route("*", "/webhooks", aiohttp_handler(receive, auth=auth))
    app.router.add_delete("/conferences/{id}", end)
    return app


if __name__ == "__main__":
    try:
        web.run_app(make_app(), host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else 8080)
    except BandwidthError as error:
        sys.exit(str(error))
