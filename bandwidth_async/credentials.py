"""Who we are to Bandwidth, and the ``Authorization`` header that says so.

Many requests share one token. It is fetched once for all who wait, renewed while the old one still
holds, and never fetched under a lock that a request holds. Credentials that were refused stay refused for
a while, so that a thousand waiting requests do not each ask again; an endpoint that fails is left alone
for a while too, longer each time.
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
_RENEW_AHEAD = 60.0  # seconds before a token's end, or a fifth of its life where that is shorter
_REFUSED_FOR = 30.0  # seconds in which refused credentials are not shown again
_RENEW_PAUSE = 5.0  # seconds after a failed renewal, while the old token still holds
_LONGEST_PAUSE = 30.0  # seconds after a failed fetch, when there is no token; 1, 2, 4 … before


def _credential(_: object, attribute: Attribute[str], value: object) -> None:
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{attribute.name} is empty; it comes from your Bandwidth account")
    if not value.isprintable() or value != value.strip():
        raise ConfigurationError(f"{attribute.name} has blanks or control characters around or in it")


def _no_colon(instance: object, attribute: Attribute[str], value: str) -> None:
    _credential(instance, attribute, value)
    if ":" in value:
        raise ConfigurationError(f"{attribute.name} cannot contain a colon (RFC 7617)")


@frozen
class ClientCredentials:
    """OAuth2 client credentials, Bandwidth's way in."""

    client_id: str = field(validator=_no_colon)
    client_secret: str = field(validator=_credential, repr=False)

    def basic(self) -> str:
        """Return them as the token endpoint wants to see them."""
        return _basic(self.client_id, self.client_secret)


@frozen
class BasicCredentials:
    """Legacy: an API user's name and password. Bandwidth removes API users on 2 December 2026."""

    username: str = field(validator=_no_colon)
    password: str = field(validator=_credential, repr=False)

    def basic(self) -> str:
        """Return them as every request shows them."""
        return _basic(self.username, self.password)


Credentials = ClientCredentials | BasicCredentials


@frozen(kw_only=True)
class Token:
    """An access token and how many seconds it lives."""

    value: str
    lifetime: float

    def __repr__(self) -> str:
        return f"Token(lifetime={self.lifetime})"


class TokenExpiredError(Exception):
    """The token ran out while its request waited; a newer one is to be fetched first."""


class Authorizer:
    """Supplies the ``Authorization`` header. Belongs to one event loop.

    ``fetch_token`` gets a token with `ClientCredentials`, with retries of its own; it raises
    `AuthenticationError` when they are refused.
    """

    def __init__(self, credentials: Credentials, fetch_token: Callable[[], Awaitable[Token]]) -> None:
        self._fetch_token = fetch_token
        self._uses_tokens = isinstance(credentials, ClientCredentials)
        self._header = "" if self._uses_tokens else credentials.basic()
        self._renew_at = -math.inf if self._uses_tokens else math.inf  # loop time, as all here
        self._expires_at = self._renew_at
        self._renewal: asyncio.Task[None] | None = None
        self._refusal: AuthenticationError | None = None
        self._refused_until = -math.inf
        self._failures = 0  # fetches in a row
        self._failure: BandwidthError | None = None  # of the last fetch
        self._failed_until = -math.inf

    @cached_property
    def _now(self) -> Callable[[], float]:
        return asyncio.get_running_loop().time  # asked for once: each time is a system call in Python 3.11

    def is_ready(self) -> bool:
        """Say whether there is a header to show that needs no renewal."""
        return self._refusal is None and self._now() < min(self._renew_at, self._expires_at)

    async def ready(self) -> None:
        """Return once there is a header to show.

        Raises `AuthenticationError` when the credentials are refused, and what the token endpoint's
        failure was when it gave no token; ``retry_after`` then says when it is asked again.
        """
        self._raise_refusal()
        now = self._now()
        if now < min(self._renew_at, self._expires_at):
            return
        if self._failure is not None and self._expires_at <= now < self._failed_until:
            raise self._known_failure(now)
        if self._renewal is None:
            # A task of its own: the first who waits may be cancelled without failing the others.
            self._renewal = asyncio.get_running_loop().create_task(self._renew())
            self._renewal.add_done_callback(self._renewed)
        if now >= self._expires_at:
            await self._wait_for(self._renewal)

    async def _wait_for(self, renewal: asyncio.Task[None]) -> None:
        await asyncio.wait([renewal])  # neither cancelled with us nor cancelling us
        if renewal.cancelled():
            raise ClientStateError("this VoiceClient was closed while a request waited for its token")
        error = renewal.exception()
        if isinstance(error, BandwidthError):
            known = error is self._failure
            raise (self._known_failure(self._now()) if known else copy(error)) from error
        if error is not None:
            raise error

    def header(self) -> str:
        """Return the newest header.

        Raises `AuthenticationError` while the credentials are refused, and `TokenExpiredError` when `ready`
        has to be awaited again.
        """
        self._raise_refusal()
        if self._now() >= self._expires_at:
            raise TokenExpiredError
        return self._header

    def is_worth_another(self, header: str) -> bool:
        """Say, after ``header`` was answered with 401, whether a newer token may be accepted."""
        if not self._uses_tokens:
            return False
        if header == self._header:
            self._renew_at = self._expires_at = -math.inf
        return True

    def has_expired(self, header: str) -> bool:
        """Say whether ``header`` ran out while its request was under way, so that a 401 says nothing else."""
        return self._uses_tokens and header == self._header and -math.inf < self._expires_at <= self._now()

    def refuse(self, error: AuthenticationError) -> None:
        """Remember that the credentials themselves are refused; knowing it already prolongs nothing."""
        if self._refusal is None:
            self._refusal = error
            self._refused_until = self._now() + _REFUSED_FOR

    async def aclose(self) -> None:
        """Leave no renewal behind."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait([self._renewal])

    async def _renew(self) -> None:
        asked_at = self._now()
        token = await self._fetch_token()
        self._header = f"Bearer {token.value}"
        # At least a second from now: a token that is older than its fetch would be fetched for ever.
        self._expires_at = max(asked_at + token.lifetime, self._now() + 1.0)
        self._renew_at = self._expires_at - min(_RENEW_AHEAD, token.lifetime / 5)

    def _renewed(self, task: asyncio.Task[None]) -> None:
        self._renewal = None
        error = None if task.cancelled() else task.exception()
        if isinstance(error, AuthenticationError):
            self.refuse(error)
        elif error is not None:
            _log.warning("no new access token: %s", error)
            self._renew_at = self._now() + _RENEW_PAUSE
            if isinstance(error, BandwidthError):
                pause = min(_LONGEST_PAUSE, 2.0 ** min(self._failures, 16))
                self._failures += 1
                self._failure, self._failed_until = error, self._now() + pause
        elif not task.cancelled():
            self._failures, self._failure = 0, None

    def _known_failure(self, now: float) -> BandwidthError:
        """Return the last fetch's error, a copy for each who waits, since each marks its own."""
        error = copy(self._failure)
        assert error is not None  # noqa: S101  # only asked for after a failure
        error.retry_after = max(error.retry_after or 0.0, self._failed_until - now)
        return error

    def _raise_refusal(self) -> None:
        if self._refusal is not None and self._now() < self._refused_until:
            raise copy(self._refusal)
        self._refusal = None


def _basic(name: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()
