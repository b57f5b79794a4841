"""Credentials, and the ``Authorization`` header that every request sends.

With client credentials, all requests share one access token. It is fetched once for all requests that wait,
and renewed in the background before it expires. No request holds a lock while a token is fetched.

When the server rejects the credentials, all requests fail at once for a while, instead of each sending the
credentials again. When the token endpoint fails, nothing is sent to it for a while. That pause doubles with
each failure.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import math
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING

from attrs import Attribute, field, frozen

from bandwidth_async.errors import AuthenticationError, BandwidthError, ClientStateError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


_log = logging.getLogger("bandwidth_async.credentials")

# A token is renewed this many seconds before it expires. A short one is renewed after 80 % of its lifetime.
_RENEW_AHEAD = 60.0

# Seconds for which rejected credentials are not sent again.
_BLOCKED_FOR = 30.0

# Seconds until the next try after a failed renewal, while the old token is still valid.
_RENEWAL_PAUSE = 5.0

# Without a valid token, the pauses after failed fetches are 1, 2, 4 … and at most this many seconds.
_LONGEST_FETCH_PAUSE = 30.0


def _credential(_: object, attribute: Attribute[str], value: object) -> None:
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{attribute.name} is empty; it comes from your Bandwidth account")
    if not value.isprintable() or value != value.strip():
        raise ConfigurationError(
            f"{attribute.name} starts or ends with a blank, or contains a control character"
        )


def _no_colon(instance: object, attribute: Attribute[str], value: str) -> None:
    _credential(instance, attribute, value)
    if ":" in value:
        raise ConfigurationError(f"{attribute.name} cannot contain a colon (RFC 7617)")


@frozen
class ClientCredentials:
    """OAuth2 client credentials: the recommended way to sign in."""

    client_id: str = field(validator=_no_colon)
    client_secret: str = field(validator=_credential, repr=False)

    def basic(self) -> str:
        """Return the ``Authorization`` header for the token endpoint."""
        return _basic(self.client_id, self.client_secret)


@frozen
class BasicCredentials:
    """The name and password of an API user. Bandwidth removes API users on 2 December 2026."""

    username: str = field(validator=_no_colon)
    password: str = field(validator=_credential, repr=False)

    def basic(self) -> str:
        """Return the ``Authorization`` header for every request."""
        return _basic(self.username, self.password)


Credentials = ClientCredentials | BasicCredentials


@frozen(kw_only=True)
class Token:
    """An access token, and its lifetime in seconds."""

    value: str
    lifetime: float

    def __repr__(self) -> str:
        return f"Token(lifetime={self.lifetime})"


class TokenExpired(Exception):  # noqa: N818  # a signal to the operation; no user sees it
    """The token expired while its request waited for the limiter. The operation has to fetch a new one."""


class Authorizer:
    """Supplies the ``Authorization`` header. Belongs to one event loop.

    ``fetch_token`` gets a token with `ClientCredentials` and does its own retries. It raises
    `AuthenticationError` when the token endpoint rejects them. All times are loop times.
    """

    def __init__(self, credentials: Credentials, fetch_token: Callable[[], Awaitable[Token]]) -> None:
        self._fetch_token = fetch_token
        self._uses_tokens = isinstance(credentials, ClientCredentials)
        self._header = "" if self._uses_tokens else credentials.basic()
        self._renew_at = -math.inf if self._uses_tokens else math.inf
        self._expires_at = self._renew_at
        self._renewal: asyncio.Task[None] | None = None

        # Rejected credentials: the error that every request gets until then.
        self._rejection: AuthenticationError | None = None
        self._blocked_until = -math.inf

        # A failing token endpoint: failures in a row, the last of them, and when it may be asked again.
        self._failures = 0
        self._last_failure: BandwidthError | None = None
        self._next_fetch_at = -math.inf

    @cached_property
    def _now(self) -> Callable[[], float]:
        # The loop is looked up once: in Python 3.11 each look-up is a system call.
        return asyncio.get_running_loop().time

    def is_ready(self) -> bool:
        """Return True if requests can be sent with the present header and no renewal is due."""
        return self._rejection is None and self._now() < min(self._renew_at, self._expires_at)

    async def wait_until_ready(self) -> None:
        """Wait until there is a valid header, and start a renewal if one is due.

        Raises `AuthenticationError` if the credentials are rejected. Raises the token endpoint's error if it
        gives no token; ``retry_after`` then says when the next request asks it again.
        """
        self._raise_if_blocked()
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

    def header(self) -> str:
        """Return the newest header.

        Raises `AuthenticationError` while the credentials are blocked, and `TokenExpired` if the caller has
        to await `wait_until_ready` again.
        """
        self._raise_if_blocked()
        if self._now() >= self._expires_at:
            raise TokenExpired
        return self._header

    def discard(self, header: str) -> bool:
        """Stop using ``header``, which got a 401, and return True if another token may be accepted."""
        if not self._uses_tokens:
            return False
        if header == self._header:
            self._renew_at = self._expires_at = -math.inf
        return True

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

    async def aclose(self) -> None:
        """Cancel the renewal, if one is running."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait([self._renewal])

    async def _renew(self) -> None:
        asked_at = self._now()
        token = await self._fetch_token()
        self._header = f"Bearer {token.value}"
        # A token can expire before its fetch is over. Without this second, requests would fetch for ever.
        self._expires_at = max(asked_at + token.lifetime, self._now() + 1.0)
        self._renew_at = self._expires_at - min(_RENEW_AHEAD, token.lifetime / 5)

    def _note_renewal(self, task: asyncio.Task[None]) -> None:
        self._renewal = None
        error = None if task.cancelled() else task.exception()
        if isinstance(error, AuthenticationError):
            self.block(error)
        elif error is not None:
            _log.warning("could not get a new access token: %s", error)
            self._renew_at = self._now() + _RENEWAL_PAUSE
            if isinstance(error, BandwidthError):
                pause = min(_LONGEST_FETCH_PAUSE, 2.0 ** min(self._failures, 16))
                self._failures += 1
                self._last_failure, self._next_fetch_at = error, self._now() + pause
        elif not task.cancelled():
            self._failures, self._last_failure = 0, None

    def _with_pause(self, error: BandwidthError, now: float) -> BandwidthError:
        """Return a copy of ``error`` for one waiter, with the time until the next fetch as ``retry_after``.

        Each waiter gets a copy of its own, because it adds its own attempts.
        """
        error = copy(error)
        error.retry_after = max(error.retry_after or 0.0, self._next_fetch_at - now)
        return error

    def _raise_if_blocked(self) -> None:
        if self._rejection is not None and self._now() < self._blocked_until:
            raise copy(self._rejection)
        self._rejection = None


def _basic(name: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()
