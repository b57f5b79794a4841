"""Credentials, and the ``Authorization`` header that every request sends.

With client credentials, all requests share one access token. It is fetched once for all requests that wait,
and renewed in the background before it expires. No request holds a lock while a token is fetched.

One 401 proves nothing: a token may have been revoked, it may not be known to every server yet, and one server
of many may be wrong. So after a 401 the authorizer tests the credentials. One request at a time may leave,
with a new token where that may help, and the others wait. The first response that is no 401 ends the test.
The credentials are blocked only after several 401s in a row. Then all requests fail at once for a while,
instead of each sending the credentials again.

When the token endpoint fails, nothing is sent to it for a while. That pause doubles with each failure. A
renewal that fails or is rejected changes nothing while the token in hand is valid.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import math
import os
import time
from concurrent.futures import Future
from copy import copy
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING

from attrs import Attribute, field, frozen

from bandwidth_async.errors import (
    APIError,
    AuthenticationError,
    BandwidthError,
    ClientStateError,
    ConfigurationError,
    TransportError,
)
from bandwidth_async.meanings import API_USERS_END_SOON, have_api_users_ended

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


_log = logging.getLogger("bandwidth_async.credentials")

# A token is renewed this many seconds before it expires. A short one is renewed after 80 % of its lifetime.
_RENEW_AHEAD = 60.0

# Seconds that a client waits at most for the token that another one fetches.
_LONGEST_SHARED_FETCH = 10.0

# Seconds for which rejected credentials are not sent again.
_BLOCKED_FOR = 30.0

# Seconds until the next try after a failed renewal, while the old token is still valid.
_RENEWAL_PAUSE = 5.0

# Without a valid token, the pauses after failed fetches are 1, 2, 4 … and at most this many seconds.
_LONGEST_FETCH_PAUSE = 30.0

# The token endpoint has to reject credentials this many times in a row, if it gave a token for them before.
_MOST_FETCH_REJECTIONS = 4

# Seconds for which a new token may not be known to every server. Another token would be no better.
_NEW_FOR = 1.0

# 401s in a row until the credentials are blocked. A name and password that were never accepted are blocked at
# once, a token that was never accepted after the time that it may need to be known, and others later.
_MOST_REJECTIONS_BASIC, _MOST_REJECTIONS_TOKEN, _MOST_REJECTIONS_ACCEPTED = 1, 4, 8

# Seconds between these requests, and by how much a timer may fire early.
_TEST_PAUSES = (0.5, 1.0, 2.0)
_EARLY = 0.001


def check_credential(value: object, name: str, *, colon: bool = True) -> None:
    """Raise `ConfigurationError` unless ``value`` can be a credential. ``name`` is its setting."""
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{name} is empty; it comes from your Bandwidth account")
    if not value.isprintable() or value != value.strip():
        raise ConfigurationError(f"{name} starts or ends with a blank, or contains a control character")
    if not colon and ":" in value:
        raise ConfigurationError(f"{name} cannot contain a colon (RFC 7617)")


def _credential(_: object, attribute: Attribute[str], value: object) -> None:
    check_credential(value, attribute.name)


def _no_colon(_: object, attribute: Attribute[str], value: object) -> None:
    check_credential(value, attribute.name, colon=False)


@frozen(kw_only=True)
class Token:
    """An access token, and its lifetime in seconds."""

    value: str
    lifetime: float

    def __repr__(self) -> str:
        return f"Token(lifetime={self.lifetime})"


@frozen
class KeptToken:
    """A token that any client over the same credentials may use. ``asked_at`` is Unix time.

    The wall clock also goes on while the process is suspended, as a function between two invocations is.
    """

    token: Token
    asked_at: float

    @property
    def is_fresh(self) -> bool:
        """Whether it need not be renewed yet."""
        left = self.asked_at + self.token.lifetime - time.time()
        return left > _renewed_ahead(self.token.lifetime)


class Kept:
    """What clients leave to the next ones over the same credentials object, of any event loop and thread.

    It is not copied or pickled with the credentials.
    """

    def __init__(self) -> None:
        # What was learned of the rate, by account and host, as `Knowledge.to_dict` returns it.
        self.knowledge: dict[tuple[str, str], dict[str, float]] = {}
        self._tokens: dict[str, KeptToken] = {}
        self._fetches: dict[str, Future[KeptToken | None]] = {}
        self._lock, self._process = Lock(), os.getpid()

    def __repr__(self) -> str:
        return f"<Kept, {len(self._tokens)} tokens>"

    def __reduce__(self) -> tuple[type[Kept], tuple[()]]:
        return Kept, ()

    async def token(
        self, server: str, fetch: Callable[[], Awaitable[Token]], known: KeptToken | None
    ) -> KeptToken:
        """Return a fresh token of a token endpoint, other than the one that is ``known``.

        Clients that ask at the same time wait for one fetch, and raise its failure. If that is of the client
        that fetched, such as its proxy or a session that was closed, the next one fetches.
        """
        now = asyncio.get_running_loop().time
        waited, until = None, math.inf
        if self._process != os.getpid():
            # After a fork, no thread of the parent gives its lock back here or ends its fetch.
            self._lock, self._process, self._fetches = Lock(), os.getpid(), {}
        while True:
            with self._lock:
                kept, fetched = self._tokens.get(server), self._fetches.get(server)
                if kept is not None and kept is not known and kept.is_fresh:
                    return kept
                # The event loop that fetches may be gone.
                if fetched is None or (fetched is waited and now() >= until):
                    fetched = self._fetches[server] = Future()
                    # So whoever waits for it cannot cancel it.
                    fetched.set_running_or_notify_cancel()
                    break
            if fetched is not waited:
                waited, until = fetched, now() + _LONGEST_SHARED_FETCH
            await _wait_for_other(fetched, until - now())
        return await self._fetch(server, fetch, fetched)

    async def _fetch(
        self, server: str, fetch: Callable[[], Awaitable[Token]], fetched: Future[KeptToken | None]
    ) -> KeptToken:
        asked_at, kept, failure = time.time(), None, None
        try:
            kept = self._tokens[server] = KeptToken(await fetch(), asked_at)
        except (APIError, TransportError) as error:
            # A 407 is of this client's proxy.
            failure = None if isinstance(error, APIError) and error.status == 407 else error
            raise
        finally:
            with self._lock:
                if self._fetches.get(server) is fetched:
                    del self._fetches[server]
            if failure is not None:
                fetched.set_exception(failure)
            else:
                # None, if it was cancelled, wakes the others up, and one of them fetches.
                fetched.set_result(kept)
        return kept


@frozen
class ClientCredentials:
    """OAuth2 client credentials: the way to sign in.

    A secret may have an end date. Two secrets are valid at a time, so that you can replace one without a gap.

    The access token lives with this object: all clients over it share one, in any event loop and thread. So
    make it once, outside of the function that a request, a task or an invocation runs.
    """

    client_id: str = field(validator=_no_colon)
    client_secret: str = field(validator=_credential, repr=False)
    kept: Kept = field(factory=Kept, init=False, eq=False, repr=False)

    @property
    def user(self) -> str:
        """Who signs in."""
        return self.client_id

    def basic(self) -> str:
        """Return the ``Authorization`` header for the token endpoint."""
        return _basic(self.client_id, self.client_secret)


@frozen
class BasicCredentials:
    """The name and password of an API user. Bandwidth removes API users on 2 December 2026.

    Since 1 July 2026 an API user cannot be changed, except for its password.
    """

    username: str = field(validator=_no_colon)
    password: str = field(validator=_credential, repr=False)
    kept: Kept = field(factory=Kept, init=False, eq=False, repr=False)

    @property
    def user(self) -> str:
        """Who signs in."""
        return self.username

    def basic(self) -> str:
        """Return the ``Authorization`` header for every request."""
        return _basic(self.username, self.password)


Credentials = ClientCredentials | BasicCredentials


class TokenExpired(Exception):  # noqa: N818  # a signal to the operation; no user sees it
    """The token expired while its request waited for the limiter. The operation has to fetch a new one."""


class Authorizer:
    """Supplies the ``Authorization`` header. Belongs to one event loop.

    ``fetch_token`` gets a token with `ClientCredentials` and does its own retries. It raises
    `AuthenticationError` when the token endpoint, ``server``, rejects them. All times are loop times.
    """

    def __init__(
        self, credentials: Credentials, fetch_token: Callable[[], Awaitable[Token]], server: str = ""
    ) -> None:
        self._fetch_token = fetch_token
        self._server = server
        self._kept = credentials.kept
        self._token: KeptToken | None = None
        self._uses_tokens = isinstance(credentials, ClientCredentials)
        self._header = "" if self._uses_tokens else credentials.basic()
        # Afterwards a 401 tells it.
        if not (self._uses_tokens or have_api_users_ended(time.time())):
            _log.warning(API_USERS_END_SOON)
        self._renew_at = -math.inf if self._uses_tokens else math.inf
        self._expires_at = self._renew_at
        self._renewal: asyncio.Task[None] | None = None

        # Rejected credentials: the error that every request gets until then.
        self._rejection: AuthenticationError | None = None
        self._blocked_until = -math.inf

        # A failing token endpoint: failures and rejections in a row, the last failure, and when to ask again.
        self._failures = 0
        self._fetch_rejections = 0
        self._last_failure: BandwidthError | None = None
        self._next_fetch_at = -math.inf

        # When the token was received, when a 401 last made us ask for another, and whether a response other
        # than 401 came to this header, and to any.
        self._received_at = self._replaced_at = -math.inf
        self._accepted = self._ever_accepted = False

        # The test of the credentials: 401s in a row, the operation whose request is the only one that may
        # leave, and when the next one may.
        self._rejections = 0
        self._tester: object = None
        self._next_test_at = -math.inf
        self._test_over = asyncio.Event()

        # Rises with each new header and each 401 that counted. A 401 to an earlier round shows nothing new.
        self.round: int = 0

    @cached_property
    def _now(self) -> Callable[[], float]:
        # The loop is looked up once: in Python 3.11 each look-up is a system call.
        return asyncio.get_running_loop().time

    def is_ready(self) -> bool:
        """Return True if requests can be sent with the present header and no renewal is due."""
        if self._rejections or self._rejection is not None:
            return False
        now = self._now()
        return now < self._renew_at and now < self._expires_at

    @property
    def is_blocked(self) -> bool:
        """Whether every request fails at present, because the credentials are rejected."""
        return self._rejection is not None and self._now() < self._blocked_until

    @property
    def ever_had_token(self) -> bool:
        """Whether the token endpoint ever gave a token."""
        return self._received_at > -math.inf

    async def wait_until_ready(self) -> None:
        """Wait until there is a valid header. While the credentials are tested, wait for the caller's turn.

        Raises `AuthenticationError` if the credentials are rejected. Raises the token endpoint's error if it
        gives no token; ``retry_after`` then says when the next request asks it again.
        """
        self._raise_if_blocked()
        await self._wait_for_token()
        if self._rejections and self._renewal is not None:
            await asyncio.wait([self._renewal])
        while self._is_tested():
            if self._tester is None:
                await asyncio.sleep(self._next_test_at - self._now())
            else:
                await self._test_over.wait()
            self._raise_if_blocked()

    async def _wait_for_token(self) -> None:
        """Wait until there is a valid token, and start a renewal if one is due."""
        now = self._now()
        if now < min(self._renew_at, self._expires_at):
            return
        if self._last_failure is not None and self._expires_at <= now < self._next_fetch_at:
            raise self._with_pause(self._last_failure, now)
        if self._renewal is None:
            # The renewal is a task of its own, so that cancelling the first waiter does not fail the others.
            self._renewal = asyncio.get_running_loop().create_task(self._renew())
            self._renewal.add_done_callback(self._note_renewal)
        if now >= self._expires_at:
            await self._wait_for(self._renewal)

    async def _wait_for(self, renewal: asyncio.Task[None]) -> None:
        # Awaiting the task itself would cancel it with this waiter, and this waiter with it.
        await asyncio.wait([renewal])
        if renewal.cancelled():
            raise ClientStateError("this VoiceClient was closed while a request waited for its token")
        error = renewal.exception()
        if isinstance(error, BandwidthError):
            is_last = error is self._last_failure
            raise (self._with_pause(error, self._now()) if is_last else copy(error)) from error
        if error is not None:
            raise error

    def header(self, operation: object = None) -> str:
        """Return the newest header for a request of ``operation``, which calls `finished` after it.

        Raises `AuthenticationError` while the credentials are blocked, and `TokenExpired` when
        `wait_until_ready` has to be awaited again.
        """
        if self._rejections or self._rejection is not None:
            self._raise_if_blocked()
            if self._is_tested():
                raise TokenExpired
        if self._now() >= self._expires_at:
            raise TokenExpired
        if self._rejections:
            self._tester = operation
        return self._header

    def finished(self, operation: object) -> None:
        """Note that the request of ``operation`` is over. If it was a test, the next request may leave."""
        if self._tester is operation:
            self._end_test()

    def accepted(self, round_: int) -> None:
        """Note a response other than 401 to a request of this round."""
        self._accepted |= round_ == self.round
        self._ever_accepted = True
        if self._rejections:
            self._rejections = 0
            self._end_test()

    def rejected(self, round_: int, error: AuthenticationError) -> bool:
        """Note a 401 to a request of this round. Return False if it blocks the credentials."""
        if round_ != self.round:
            return True
        self.round += 1
        self._rejections += 1
        if self._rejections >= self._most_rejections():
            if self._last_failure is None or isinstance(self._last_failure, AuthenticationError):
                self.block(error)
                return False
            # The token is worth nothing, and there is no other since its endpoint fails.
            self._rejections -= 1
            self._renew_at = self._expires_at = -math.inf
        now = self._now()
        known = now - self._received_at > _NEW_FOR or (self._accepted and now - self._replaced_at > _NEW_FOR)
        renews = self._uses_tokens and known
        if renews:
            self._replaced_at = now
            # The token in hand is kept, in case that there is no other.
            self._renew_at = min(self._renew_at, max(now, self._next_fetch_at))
        if not (renews and self._accepted):
            self._next_test_at = now + _TEST_PAUSES[min(self._rejections, len(_TEST_PAUSES)) - 1]
        return True

    def _most_rejections(self) -> int:
        if self._ever_accepted:
            return _MOST_REJECTIONS_ACCEPTED
        return _MOST_REJECTIONS_TOKEN if self._uses_tokens else _MOST_REJECTIONS_BASIC

    def _is_tested(self) -> bool:
        """Return True if the credentials are tested, and this is not the moment for another request."""
        if not self._rejections:
            return False
        return self._tester is not None or self._now() < self._next_test_at - _EARLY

    def _end_test(self) -> None:
        self._tester = None
        self._test_over.set()
        self._test_over = asyncio.Event()

    def expired_in_flight(self, header: str) -> bool:
        """Return True if the token in ``header`` expired after it was sent, which explains a 401."""
        return self._uses_tokens and header == self._header and -math.inf < self._expires_at <= self._now()

    def block(self, error: AuthenticationError) -> None:
        """Raise ``error`` for every request in the next 30 seconds.

        Further errors in that time do not prolong it: requests that were already in flight fail too.
        """
        if self._rejection is None:
            self._rejection = error
            self._blocked_until = self._now() + _BLOCKED_FOR
            self._end_test()

    async def aclose(self) -> None:
        """Cancel the renewal, if one is running."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait([self._renewal])

    async def _renew(self) -> None:
        asked_at, asked_at_wall = self._now(), time.time()
        self._token = kept = await self._kept.token(self._server, self._fetch_token, self._token)
        token = kept.token
        self._header = f"Bearer {token.value}"
        self._accepted = False
        self.round += 1
        # Another client may have fetched it before.
        earlier = max(0.0, asked_at_wall - kept.asked_at)
        self._received_at = self._now() - earlier
        # A token can expire before its fetch is over. Without this second, requests would fetch for ever.
        self._expires_at = max(asked_at - earlier + token.lifetime, self._now() + 1.0)
        self._renew_at = self._expires_at - _renewed_ahead(token.lifetime)

    def _note_renewal(self, task: asyncio.Task[None]) -> None:
        self._renewal = None
        error = None if task.cancelled() else task.exception()
        if isinstance(error, AuthenticationError) and self._now() >= self._expires_at:
            self._fetch_rejections += 1
            # Credentials that never got a token may never have been right.
            if not self.ever_had_token or self._fetch_rejections >= _MOST_FETCH_REJECTIONS:
                self.block(error)
                return
        if error is not None:
            # Without a token, whoever waits is told of the first failure by the error itself.
            if self.ever_had_token or self._failures:
                _log.warning("could not get a new access token: %s", error)
            self._renew_at = self._now() + _RENEWAL_PAUSE
            if isinstance(error, BandwidthError):
                pause = min(_LONGEST_FETCH_PAUSE, 2.0 ** min(self._failures, 16))
                self._failures += 1
                self._last_failure = error
                self._next_fetch_at = self._now() + max(pause, error.retry_after or 0.0)
                self._renew_at = max(self._renew_at, self._now() + (error.retry_after or 0.0))
        elif not task.cancelled():
            self._failures, self._last_failure, self._fetch_rejections = 0, None, 0

    def _with_pause(self, error: BandwidthError, now: float) -> BandwidthError:
        """Return a copy of ``error`` for one waiter, with the time until the next fetch as ``retry_after``.

        Each waiter gets a copy of its own, because it adds its own attempts.
        """
        error = copy(error)
        # To come again later is no help against what lasts.
        if not (isinstance(error, TransportError) and error.lasting):
            error.retry_after = max(error.retry_after or 0.0, self._next_fetch_at - now)
        return error

    def _raise_if_blocked(self) -> None:
        if self._rejection is not None and self._now() < self._blocked_until:
            error = copy(self._rejection)
            # It is the error of another request, whose name must not be taken for that of this one.
            error.args = (f"the credentials are rejected: {self._rejection.message}",)
            raise error
        self._rejection = None


async def _wait_for_other(fetched: Future[KeptToken | None], seconds: float) -> None:
    """Wait for the fetch of another client, and raise what it raises."""
    # It may be of another event loop.
    ours = asyncio.wrap_future(fetched)
    try:
        await asyncio.wait([ours], timeout=seconds)
        if ours.done():
            ours.result()
    finally:
        ours.cancel()


def _renewed_ahead(lifetime: float) -> float:
    """Return how many seconds before its end a token is renewed."""
    return min(_RENEW_AHEAD, lifetime / 5)


def _basic(name: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()
