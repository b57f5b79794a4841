"""End conferences from a web backend, with one client for the life of the application.

Set the BW_… variables and run ``python examples/web_backend.py [PORT]``. Then run
``curl -X DELETE http://127.0.0.1:8080/conferences/CONFERENCE_ID``.
"""

import sys
from collections.abc import AsyncIterator

from aiohttp import web

from bandwidth_async import (
    BandwidthError,
    ConfigurationError,
    DeadlineExceededError,
    NotFoundError,
    RateLimitError,
    VoiceClient,
)

CLIENT = web.AppKey("client", VoiceClient)


async def bandwidth(app: web.Application) -> AsyncIterator[None]:
    """Open the client when the application starts, and close it when it stops."""
    async with VoiceClient.from_env(deadline=10) as client:
        app[CLIENT] = client
        yield


async def end(request: web.Request) -> web.Response:
    """End the conference, and turn an error into the status that a web client expects."""
    try:
        outcome = await request.app[CLIENT].end_conference(request.match_info["id"])
    except ConfigurationError as error:
        raise web.HTTPBadRequest(text=str(error)) from error
    except NotFoundError as error:
        raise web.HTTPNotFound(text=str(error)) from error
    except (RateLimitError, DeadlineExceededError) as error:
        retry_after = str(round(error.retry_after or 1))
        raise web.HTTPServiceUnavailable(text=str(error), headers={"Retry-After": retry_after}) from error
    except BandwidthError as error:
        raise web.HTTPBadGateway(text=str(error)) from error
    return web.json_response({"conference_id": outcome.conference_id, "outcome": outcome.kind})


def make_app() -> web.Application:
    """Return the application."""
    app = web.Application()
    app.cleanup_ctx.append(bandwidth)
    app.router.add_delete("/conferences/{id}", end)
    return app


if __name__ == "__main__":
    try:
        web.run_app(make_app(), host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else 8080)
    except BandwidthError as error:
        sys.exit(str(error))
