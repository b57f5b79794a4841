"""Who we are to Bandwidth, and the ``Authorization`` header that says so.

Many requests share one token. It is fetched once for all who wait, renewed while the old one still
holds, and never fetched under a lock that a request holds. Credentials that were refused stay refused for
a while, so that a thousand waiting requests do not each ask again; an endpoint that fails is left alone
for a while too, longer each time.

One 401 proves nothing: a token may have been revoked, it may not be known to every server yet, and one server
of many may be wrong. So after a 401 there is doubt: one request at a time is sent, with a new token where
that may help, and the others wait. The first response that is no 401 ends the doubt. Only when nothing but
401s has come for some seconds are the credentials refused. A renewal that is refused proves as little while
the token in hand holds.
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
_REFUSALS_KNOWN = 4  # refusals of the token endpoint in a row, of credentials that it gave a token for before
_NEW = 1.0  # seconds in which a token may not be known to every server yet: another would be no better

# Requests in a row that meet a 401 until credentials count as refused: a user's name and password at once, if
# they were never accepted; a new token for as long as it may need to be known; others later.
_TRIALS_BASIC, _TRIALS_TOKEN, _TRIALS_KNOWN = 1, 4, 8

# Seconds between these requests.
_TRIAL_PAUSES = (0.5, 1.0, 2.0)


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
        self._endpoint_refusals = 0  # in a row
        # When the token was given, and when a 401 last was a reason to ask for another.
        self._got_at = self._replaced_at = -math.inf
        # Whether a response that is no 401 came with this header, and with any.
        self._accepted = self._ever_accepted = False
        # Requests that met a 401 since the last response that was none; whose request is the only one in that
        # time, and when the next one is due.
        self._doubts = 0
        self._trier: object = None
        self._next_trial_at = -math.inf
        self._trial_over = asyncio.Event()
        # Rises with each new header and each doubt. A 401 of an earlier round says nothing new.
        self.round = 0

    @cached_property
    def _now(self) -> Callable[[], float]:
        return asyncio.get_running_loop().time  # asked for once: each time is a system call in Python 3.11

    def is_ready(self) -> bool:
        """Say whether there is a header to show that needs no renewal."""
        healthy = self._refusal is None and not self._doubts
        return healthy and self._now() < min(self._renew_at, self._expires_at)

    @property
    def is_refused(self) -> bool:
        """Whether the credentials count as refused at present."""
        return self._refusal is not None and self._now() < self._refused_until

    @property
    def ever_had_token(self) -> bool:
        """Whether the token endpoint ever gave a token."""
        return self._got_at > -math.inf

    async def ready(self) -> None:
        """Return once there is a header to show. In doubt, that is when it is the caller's turn to try it.

        Raises `AuthenticationError` when the credentials are refused, and what the token endpoint's
        failure was when it gave no token; ``retry_after`` then says when it is asked again.
        """
        self._raise_refusal()
        await self._fresh()
        if self._doubts and self._renewal is not None:
            await asyncio.wait([self._renewal])
        while self._doubts and (self._trier is not None or self._now() < self._next_trial_at):
            if self._trier is None:
                await asyncio.sleep(self._next_trial_at - self._now())
            else:
                await self._trial_over.wait()
            self._raise_refusal()

    async def _fresh(self) -> None:
        """Return once there is a token that holds. Renew it, without waiting, if it ends soon."""
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

    def header(self, user: object = None) -> str:
        """Return the newest header, for a request of ``user``, who calls `used` after it.

        Raises `AuthenticationError` while the credentials are refused, and `TokenExpiredError` when `ready`
        has to be awaited again.
        """
        self._raise_refusal()
        if self._now() >= self._expires_at:
            raise TokenExpiredError
        if self._doubts:
            if self._trier is not None or self._now() < self._next_trial_at:
                raise TokenExpiredError
            self._trier = user
        return self._header

    def used(self, user: object) -> None:
        """Note that the request of ``user`` is over. In doubt, the next may try."""
        if self._trier is user:
            self._end_trial()

    def accepted(self, round_: int) -> None:
        """Note that a request that was sent in this round was let in."""
        self._accepted |= round_ == self.round
        self._ever_accepted = True
        if self._doubts:
            self._doubts = 0
            self._end_trial()

    def rejected(self, round_: int, error: AuthenticationError) -> bool:
        """Note a 401 to a request of this round. Return False if the credentials count as refused now."""
        if round_ != self.round:
            return True
        self.round += 1
        self._doubts += 1
        known = _TRIALS_TOKEN if self._uses_tokens else _TRIALS_BASIC
        if self._doubts >= (_TRIALS_KNOWN if self._ever_accepted else known):
            if self._failure is None or isinstance(self._failure, AuthenticationError):
                self.refuse(error)
                return False
            # The token is worth nothing, and there is no other since its endpoint fails.
            self._doubts -= 1
            self._renew_at = self._expires_at = -math.inf
        now = self._now()
        settled = now - self._got_at > _NEW or (self._accepted and now - self._replaced_at > _NEW)
        renews = self._uses_tokens and settled
        if renews:
            self._replaced_at = now
            # The token in hand is kept, in case that there is no other.
            self._renew_at = min(self._renew_at, max(now, self._failed_until))
        if not (renews and self._accepted):
            self._next_trial_at = now + _TRIAL_PAUSES[min(self._doubts, len(_TRIAL_PAUSES)) - 1]
        return True

    def _end_trial(self) -> None:
        self._trier = None
        self._trial_over.set()
        self._trial_over = asyncio.Event()

    def has_expired(self, header: str) -> bool:
        """Say whether ``header`` ran out while its request was under way, so that a 401 says nothing else."""
        return self._uses_tokens and header == self._header and -math.inf < self._expires_at <= self._now()

    def refuse(self, error: AuthenticationError) -> None:
        """Remember that the credentials themselves are refused; knowing it already prolongs nothing."""
        if self._refusal is None:
            self._refusal = error
            self._refused_until = self._now() + _REFUSED_FOR
            self._end_trial()

    async def aclose(self) -> None:
        """Leave no renewal behind."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait([self._renewal])

    async def _renew(self) -> None:
        asked_at = self._now()
        token = await self._fetch_token()
        self._header = f"Bearer {token.value}"
        self._accepted = False
        self.round += 1
        self._got_at = self._now()
        # At least a second from now: a token that is older than its fetch would be fetched for ever.
        self._expires_at = max(asked_at + token.lifetime, self._now() + 1.0)
        self._renew_at = self._expires_at - min(_RENEW_AHEAD, token.lifetime / 5)

    def _renewed(self, task: asyncio.Task[None]) -> None:
        self._renewal = None
        error = None if task.cancelled() else task.exception()
        if isinstance(error, AuthenticationError) and self._now() >= self._expires_at:
            self._endpoint_refusals += 1
            # One that met no token is of credentials that may never have been right.
            if not self.ever_had_token or self._endpoint_refusals >= _REFUSALS_KNOWN:
                self.refuse(error)
                return
        if error is not None:
            _log.warning("no new access token: %s", error)
            self._renew_at = self._now() + _RENEW_PAUSE
            if isinstance(error, BandwidthError):
                pause = min(_LONGEST_PAUSE, max(2.0 ** min(self._failures, 16), error.retry_after or 0.0))
                self._failures += 1
                self._failure, self._failed_until = error, self._now() + pause
        elif not task.cancelled():
            self._failures, self._failure, self._endpoint_refusals = 0, None, 0

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
