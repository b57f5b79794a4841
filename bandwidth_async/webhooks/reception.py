"""Answer a webhook request, whatever the web framework: who may send it, what is read, what is answered.

Bandwidth sends the first request without ``Authorization``. Only a 401 with
``WWW-Authenticate: Basic realm="…"`` makes it send the event again with the credentials. After any other
status they never come.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from bandwidth_async import bxml
from bandwidth_async.errors import ConfigurationError, WebhookError
from bandwidth_async.updates import CREDENTIAL_LIMIT
from bandwidth_async.webhooks.events import BODY_LIMIT, Event, UnknownEvent, parse_event, parse_query
from bandwidth_async.webhooks.hub import Memory, Recent

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from attrs import Attribute

Receiver = Callable[[Event], Awaitable[str | None] | str | None]
Read = Callable[[int], Awaitable[bytes]]

CALLBACK_TIMEOUTS = (1.0, 25.0)
"""The shortest and longest ``callbackTimeout`` that a conference or call can have, in seconds."""
DEFAULT_CALLBACK_TIMEOUT = 15.0
"""How long Bandwidth waits for a response if no ``callbackTimeout`` was set, in seconds."""
_METHODS = ("GET", "POST")
# The responses to requests that were not read to their end.
_UNREAD = frozenset({401, 405, 408, 413, 414})

_log = logging.getLogger("bandwidth_async.webhooks")


def _credential(_: object, attribute: Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= CREDENTIAL_LIMIT:
        raise ConfigurationError(f"{attribute.name} is a text of 1 to {CREDENTIAL_LIMIT} characters")
    if not value.isprintable():
        raise ConfigurationError(f"{attribute.name} has control characters in it")


def _username(instance: object, attribute: Attribute[Any], value: object) -> None:
    _credential(instance, attribute, value)
    if ":" in str(value):
        raise ConfigurationError(f"{attribute.name} cannot contain a colon (RFC 7617)")


def _realm(_: object, attribute: Attribute[Any], value: object) -> None:
    plain = isinstance(value, str) and value.isascii() and value.isprintable()
    if not plain or not value or set('"\\') & set(str(value)):
        raise ConfigurationError(f"{attribute.name} is ASCII text without quotes and backslashes: {value!r}")


@frozen(kw_only=True)
class Challenge:
    """The response to a request without the right credentials: this status with these headers."""

    status: int = 401
    headers: dict[str, str]


@frozen
class BasicAuth:
    """The credentials that a webhook must carry: those that you gave to the conference or update.

    ``realm`` names what they protect. Bandwidth shows it to nobody. Raises `ConfigurationError` for
    credentials that cannot be sent.
    """

    username: str = field(validator=_username)
    password: str = field(validator=_credential, repr=False)
    realm: str = field(default="webhooks", validator=_realm, kw_only=True)

    def check(self, authorization: str | None) -> Challenge | None:
        """Return None when the credentials are right, or the challenge to answer with.

        ``authorization`` is the value of that header, or None without one. Name and password are both
        compared, in constant time.
        """
        username, password = _decoded(authorization or "")
        right_name = hmac.compare_digest(username, self.username.encode())
        right_password = hmac.compare_digest(password, self.password.encode())
        if right_name & right_password:
            return None
        return Challenge(headers={"WWW-Authenticate": f'Basic realm="{self.realm}"'})


def _decoded(authorization: str) -> tuple[bytes, bytes]:
    """Return the name and password in the header. Without them both are empty, and so wrong."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "basic":
        return b"", b""
    try:
        username, _, password = base64.b64decode(token.strip(" "), validate=True).partition(b":")
    except ValueError:
        return b"", b""
    return username, password


def check_bxml(text: str, *, for_conference: bool = True) -> str:
    """Return ``text`` when it can answer an event: well-formed, 64 KB at most, its root Bxml or Response.

    With ``for_conference`` it may have only the verbs of a conference, like an update with BXML. Without it,
    for the events of calls, it may have any verb. Raises `ConfigurationError` otherwise, also for another
    encoding than UTF-8 and for a document type: BXML needs none, and one could make a small text very large.
    """
    bxml.outgoing(text, for_conference=for_conference)
    return text


@frozen(kw_only=True)
class Reply:
    """The response to a webhook request."""

    status: int
    headers: dict[str, str] = field(factory=dict)
    body: bytes = b""

    @property
    def closes(self) -> bool:
        """Whether the connection is closed after it, as the request was not read to its end."""
        return self.status in _UNREAD


_NO_CONTENT = Reply(status=204)
_FAILED = Reply(status=500)


class Reception:
    """Calls ``receive`` with the event of each webhook request, and answers. For one event loop at a time.

    ``receive``
        Takes an event and returns None, or BXML to answer with. It may be async. If it raises, the exception
        is logged and the response is 500. Bandwidth does not send the event to this URL again. The same
        happens to BXML for an event that takes none, and to BXML that `check_bxml` refuses: an event of a
        conference takes only the verbs of a conference, an `UnknownEvent` takes any.
    ``auth``
        The credentials that a request must carry. With None, anybody who knows the URL can send events.
    ``body_limit``
        The bytes that a body, or a query, may have.
    ``memory``
        How many responses are remembered. An event that comes again gets the same response, and ``receive``
        does not see it. The default is 10,000 for 15 minutes.
    ``callback_timeout``
        How long Bandwidth waits for a response: the ``callbackTimeout`` of your conferences, 1 to 25 seconds.
        A response that takes longer is logged, as Bandwidth has given it up.

    Raises `ConfigurationError` for a setting that cannot work.
    """

    def __init__(
        self,
        receive: Receiver,
        *,
        auth: BasicAuth | None,
        body_limit: int = BODY_LIMIT,
        memory: Memory | None = None,
        callback_timeout: float = DEFAULT_CALLBACK_TIMEOUT,
    ) -> None:
        if body_limit < 1:
            raise ConfigurationError(f"body_limit is a number of bytes, at least 1, not {body_limit}")
        if not CALLBACK_TIMEOUTS[0] <= callback_timeout <= CALLBACK_TIMEOUTS[1]:
            raise ConfigurationError(f"callback_timeout is 1 to 25 seconds, not {callback_timeout}")
        self._receive = receive
        self._auth = auth
        self._limit = body_limit
        self._timeout = callback_timeout
        self._replies: Recent[Hashable, asyncio.Future[Reply]] = Recent(memory or Memory())

    def __repr__(self) -> str:
        return f"<Reception: {self._auth or 'no credentials'}, {len(self._replies)} answers remembered>"

    async def answer(self, *, method: str, authorization: str | None, query: str, read: Read) -> Reply:
        """Return the response to one request.

        ``authorization`` is the value of its header of that name, None if it has none or several. ``query``
        is the query of its URL, without the question mark. ``read(limit)`` returns its body, or the beginning
        of one that is longer than ``limit`` bytes. Whatever ``read`` raises is raised here. A request without
        the right credentials is not read, and one that takes longer than Bandwidth waits is given up.
        """
        if method not in _METHODS:
            return Reply(status=405, headers={"Allow": ", ".join(_METHODS)})
        challenge = self._auth.check(authorization) if self._auth else None
        if challenge:
            return Reply(status=challenge.status, headers=challenge.headers)
        try:
            async with asyncio.timeout(self._timeout) as patience:
                came = query.encode(errors="replace") if method == "GET" else await read(self._limit)
        except TimeoutError:
            if not patience.expired():
                raise
            return _refusal(408, f"the request was not complete after {self._timeout:g} s")
        return await self._answer_to(method, query, came)

    async def _answer_to(self, method: str, query: str, came: bytes) -> Reply:
        if len(came) > self._limit:
            return _refusal(414 if method == "GET" else 413, f"more than {self._limit} bytes")
        try:
            event = parse_query(query) if method == "GET" else parse_event(came, limit=self._limit)
        except WebhookError as error:
            return _refusal(400, str(error))
        return await self._answer_once(event)

    async def _answer_once(self, event: Event) -> Reply:
        """Give an event that came again its first response. If the first time failed, handle it anew."""
        loop = asyncio.get_running_loop()
        while (earlier := self._replies.get(event.key, loop.time())) is not None:
            # One that is done may be of an event loop that is closed.
            if not earlier.done():
                await asyncio.wait([earlier])
            if not earlier.cancelled():
                return earlier.result()
        reply: asyncio.Future[Reply] = loop.create_future()
        self._replies.put(event.key, reply, loop.time())
        try:
            reply.set_result(await self._call_receiver(event))
        except Exception:
            _log.exception("the receiver failed at %s of %s", event.event_type, event.conference_id)
            return _FAILED
        finally:
            if not reply.done():
                self._replies.forget(event.key, reply)
                reply.cancel()
        return reply.result()

    async def _call_receiver(self, event: Event) -> Reply:
        loop = asyncio.get_running_loop()
        started = loop.time()
        returned = self._receive(event)
        if inspect.isawaitable(returned):
            returned = await returned
        took = loop.time() - started
        if took > self._timeout:
            took_too_long = "the answer to %s took %.1f s, but Bandwidth waits %g s (callback_timeout)"
            _log.warning(took_too_long, event.event_type, took, self._timeout)
        return _reply(event, returned)


def the_only(values: Sequence[str]) -> str | None:
    """Return the value of a header, None without one. Of several none is to be preferred."""
    return values[0] if len(values) == 1 else None


def _reply(event: Event, returned: object) -> Reply:
    if returned is None:
        return _NO_CONTENT
    if not isinstance(returned, str):
        raise ConfigurationError(f"a receiver returns BXML as a str, or None, not {type(returned).__name__}")
    if not event.takes_bxml:
        raise ConfigurationError(f"{event.event_type} cannot be answered with BXML: return None")
    body = bxml.outgoing(returned, for_conference=not isinstance(event, UnknownEvent))
    return Reply(status=200, headers={"Content-Type": "application/xml; charset=utf-8"}, body=body)


def _refusal(status: int, why: str) -> Reply:
    _log.warning("a webhook request was answered with %d: %s", status, why)
    return Reply(status=status, headers={"Content-Type": "text/plain; charset=utf-8"}, body=why.encode())
