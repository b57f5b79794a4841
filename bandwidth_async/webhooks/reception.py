"""What becomes of one webhook request, whatever the web framework: the handlers are shells around it."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from attrs import field, frozen

from bandwidth_async.errors import ConfigurationError, WebhookError
from bandwidth_async.webhooks.bxml import check_bxml
from bandwidth_async.webhooks.deduplication import Memory, Recent
from bandwidth_async.webhooks.events import Event, UnknownEvent
from bandwidth_async.webhooks.parsing import BODY_LIMIT, parse_event, parse_query

if TYPE_CHECKING:
    from collections.abc import Hashable

    from bandwidth_async.webhooks.basic_auth import BasicAuth

Receiver = Callable[[Event], Awaitable[str | None] | str | None]
Read = Callable[[int], Awaitable[bytes]]

_PATIENCE = 15.0  # seconds that Bandwidth waits for an answer
_METHODS = ("GET", "POST")

_log = logging.getLogger("bandwidth_async.webhooks")


@frozen(kw_only=True)
class Reply:
    """What to answer a webhook request."""

    status: int
    headers: dict[str, str] = field(factory=dict)
    body: bytes = b""


_TAKEN = Reply(status=204)
_FAILED = Reply(status=500)


class Reception:
    """Answers webhook requests with what ``receive`` makes of their events. Belongs to one event loop.

    ``receive``
        Takes an event and returns nothing, or BXML to answer it with; may be async. Bandwidth waits
        15 seconds. An exception is logged and answered with 500; Bandwidth does not send the event again.
        So is BXML for an event that takes none, and BXML that `check_bxml` refuses: what answers an event
        of a conference has the verbs of a conference, what answers an `UnknownEvent` may have any.
    ``auth``
        The credentials that a request has to show. With None anybody who knows the URL can send events.
    ``body_limit``
        The bytes that a body, or a query, may have.
    ``memory``
        How many answers are remembered, for an event that comes again: it gets the same answer, and
        ``receive`` does not see it. 10,000 for 15 minutes unless told otherwise.
    """

    def __init__(
        self,
        receive: Receiver,
        *,
        auth: BasicAuth | None,
        body_limit: int = BODY_LIMIT,
        memory: Memory | None = None,
    ) -> None:
        if body_limit < 1:
            raise ConfigurationError(f"body_limit is a number of bytes, at least 1, not {body_limit}")
        self._receive = receive
        self._auth = auth
        self._limit = body_limit
        self._replies: Recent[Hashable, asyncio.Future[Reply]] = Recent(memory or Memory())

    def __repr__(self) -> str:
        return f"<Reception: {self._auth or 'no credentials'}, {len(self._replies)} answers remembered>"

    async def answer(self, *, method: str, authorization: str | None, query: str, read: Read) -> Reply:
        """Return the answer to one request.

        ``query`` is its query as it came, without the question mark; ``read(limit)`` returns its body, or
        as soon as it is longer than ``limit`` bytes its beginning. Whatever that raises is raised here.
        Without the credentials nothing is read.
        """
        if method not in _METHODS:
            return Reply(status=405, headers={"Allow": ", ".join(_METHODS)})
        challenge = self._auth.check(authorization) if self._auth else None
        if challenge:
            return Reply(status=challenge.status, headers=challenge.headers)
        came = query.encode(errors="replace") if method == "GET" else await read(self._limit)
        if len(came) > self._limit:
            return _refusal(414 if method == "GET" else 413, f"more than {self._limit} bytes")
        try:
            event = parse_query(query) if method == "GET" else parse_event(came, limit=self._limit)
        except WebhookError as error:
            return _refusal(400, str(error))
        return await self._answer_once(event)

    async def _answer_once(self, event: Event) -> Reply:
        """Answer an event that came again as it was answered first; when that failed, this is the first."""
        loop = asyncio.get_running_loop()
        while (earlier := self._replies.get(event.key, loop.time())) is not None:
            await asyncio.wait([earlier])
            if not earlier.cancelled():
                return earlier.result()
        reply: asyncio.Future[Reply] = loop.create_future()
        self._replies.put(event.key, reply, loop.time())
        try:
            reply.set_result(await self._ask(event))
        except Exception:
            _log.exception("the receiver failed at %s of %s", event.event_type, event.conference_id)
            return _FAILED
        finally:
            if not reply.done():
                self._replies.forget(event.key, reply)
                reply.cancel()
        return reply.result()

    async def _ask(self, event: Event) -> Reply:
        loop = asyncio.get_running_loop()
        started = loop.time()
        said = self._receive(event)
        if inspect.isawaitable(said):
            said = await said
        took = loop.time() - started
        if took > _PATIENCE:
            _log.warning("the answer to %s took %.1f s, too long for Bandwidth", event.event_type, took)
        return _reply(event, said)


def _reply(event: Event, said: object) -> Reply:
    if said is None:
        return _TAKEN
    if not isinstance(said, str):
        raise ConfigurationError(f"a receiver returns BXML as a str, or None, not {type(said).__name__}")
    if not event.takes_bxml:
        raise ConfigurationError(f"{event.event_type} cannot be answered with BXML: return None")
    body = check_bxml(said, for_conference=not isinstance(event, UnknownEvent)).encode()
    return Reply(status=200, headers={"Content-Type": "application/xml; charset=utf-8"}, body=body)


def _refusal(status: int, why: str) -> Reply:
    _log.warning("a webhook request was answered with %d: %s", status, why)
    return Reply(status=status, headers={"Content-Type": "text/plain; charset=utf-8"}, body=why.encode())
