"""`VoiceClient`: the conferences of one Bandwidth account, ended and looked at."""

from __future__ import annotations

import inspect
import math
import os
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Self, Unpack, get_args

from attrs import evolve

from bandwidth_async import wire
from bandwidth_async.credentials import Credentials
from bandwidth_async.ending import Ender, Way
from bandwidth_async.environment import HOSTS, read_environment
from bandwidth_async.errors import ConfigurationError
from bandwidth_async.http import Timeouts, connections_of, origin
from bandwidth_async.journal import Journal
from bandwidth_async.journal.claims import Durable
from bandwidth_async.limiter.limiter import Limiter
from bandwidth_async.limiter.pace import RateLimit
from bandwidth_async.models import Conference
from bandwidth_async.operation import CallOptions, Channel
from bandwidth_async.operations import CallSettings, Operations, RunSettings
from bandwidth_async.outcome import Outcome, Report
from bandwidth_async.retry import RetryPolicy
from bandwidth_async.run import Outcomes, Source, Stop, Target, iterate, run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from types import UnionType

    import aiohttp
    from yarl import URL

    from bandwidth_async.limiter.events import PaceEvent
    from bandwidth_async.run import Deliver, End


DEFAULT_CONCURRENCY = 100


class VoiceClient(Operations):
    """A client for the conferences of one Bandwidth account.

    Open it once (``async with VoiceClient(…) as client``, or `aclose` at the end), use it from any number
    of tasks of the same event loop, for as long as the application lives.

    ``account_id``, ``credentials``
        Whose conferences, and `ClientCredentials` (or the legacy `BasicCredentials`).
    ``voice_url``, ``api_url``
        Scheme and host of the Voice API and of the token endpoint. Plain http is refused, except to this
        machine or with ``allow_http``: the credentials would be readable on the way.
    ``rate_limit``
        `RateLimit.fixed` or `RateLimit.adaptive`. Without it the rate is found by what the server refuses.
    ``limiter``
        The `Limiter` of another client of the same account and host, to share its rate.
    ``on_pace``
        A plain function that is told each `RateChanged` and `Paused`; what it raises is logged.
    ``retry``, ``timeouts``, ``deadline``
        How often a call is tried, seconds for one attempt, and seconds for a whole single call
        (``math.inf`` for none). Every method takes them too, for its own call.
    ``session``
        An `aiohttp.ClientSession` to use instead of an own one, with what it does to each request; an end
        takes nearly three times the processor time then. It stays yours to close.
    ``proxy``, ``trust_env``
        A proxy's URL as aiohttp knows it, or whether ``HTTPS_PROXY`` and ``NO_PROXY`` decide.

    Raises `ConfigurationError` for settings that cannot work. Methods raise `APIError` subclasses for what
    the server refuses, `TransportError` where no answer came, `DeadlineExceededError` where time ran out,
    and `ClientStateError` on a closed client or in another event loop than the one it was first used in.
    """

    def __init__(
        self,
        *,
        account_id: str,
        credentials: Credentials,
        voice_url: str = HOSTS["prod"][0],
        api_url: str = HOSTS["prod"][1],
        rate_limit: RateLimit | None = None,
        limiter: Limiter | None = None,
        on_pace: Callable[[PaceEvent], object] | None = None,
        retry: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        deadline: float = 60.0,
        session: aiohttp.ClientSession | None = None,
        proxy: str | URL | None = None,
        trust_env: bool = False,
        allow_http: bool = False,
        random: Random | None = None,
    ) -> None:
        _check_kinds(
            credentials=(credentials, Credentials),
            rate_limit=(rate_limit, RateLimit),
            retry=(retry, RetryPolicy),
            timeouts=(timeouts, Timeouts),
        )
        if session is not None and trust_env:
            raise ConfigurationError("trust_env belongs to the session: set it on the one you pass")
        if session is not None and session.auth is not None:
            raise ConfigurationError("the session has an auth of its own; pass one that has none")
        if limiter is not None and (rate_limit is not None or on_pace is not None):
            raise ConfigurationError(
                "a limiter that is passed in has its rate limit already: leave out rate_limit and on_pace "
                "(and hear it with limiter.listening)"
            )
        account_id = wire.path_segment(account_id, "account id")
        random = random or Random()
        options = CallOptions(
            deadline=deadline, retry=retry or RetryPolicy(), timeouts=timeouts or Timeouts()
        )
        channel = Channel(
            credentials=credentials,
            voice_url=origin(voice_url, "voice_url", allow_http=allow_http),
            api_url=origin(api_url, "api_url", allow_http=allow_http),
            limiter=limiter
            or Limiter(rate_limit, random, connections=connections_of(session), on_pace=on_pace),
            token_options=options,
            session=session,
            proxy=proxy,
            trust_env=trust_env,
            random=random,
        )
        super().__init__(channel, account_id, options, random)
        self._ender = Ender(channel, account_id, random)

    @classmethod
    def from_env(cls, **settings: Any) -> Self:
        """Return a client for the account in the ``BW_…`` environment variables.

        ``BW_ACCOUNT_ID``, ``BW_CLIENT_ID`` and ``BW_CLIENT_SECRET`` (or the legacy ``BW_USERNAME`` and
        ``BW_PASSWORD``), and optionally ``BW_ENVIRONMENT`` (prod or test), ``BW_VOICE_URL`` and
        ``BW_API_URL``. ``settings`` are those of the class and win over the environment.

        Raises `MissingCredentialsError` naming what is not set, `ConfigurationError` for a wrong value.
        """
        found = read_environment(os.environ)
        return cls(
            **{
                "account_id": found.account_id,
                "credentials": found.credentials,
                "voice_url": found.voice_url,
                "api_url": found.api_url,
                **settings,
            }
        )

    def __repr__(self) -> str:
        return f"<VoiceClient account {self._account_id}, {self._channel!r}>"

    async def __aenter__(self) -> Self:
        self._channel.bind()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the client and its own session; a session that was passed in stays open."""
        await self._channel.aclose()

    @property
    def account_id(self) -> str:
        """The account whose conferences these are."""
        return self._account_id

    @property
    def limiter(self) -> Limiter:
        """What paces the requests: its `Limiter.snapshot` tells the rate, and another client can share it."""
        return self._channel.limiter

    @property
    def rate(self) -> float:
        """Requests per second that are let through at present."""
        return self._channel.limiter.rate

    async def end_conference(
        self,
        conference: str | Conference,
        *,
        verify: bool = False,
        hang_up: bool = False,
        **settings: Unpack[CallSettings],
    ) -> Outcome:
        """End a conference; its members are ejected, their calls go on unless ``hang_up`` is set.

        Returns an `Outcome` of kind ``ended`` or ``already_ended``. The latter is what a 404 means after
        an attempt without an answer, or for a `Conference` object, which did exist; a 409 is settled by
        reading the conference. Raises `NotFoundError` for any other 404.

        ``verify`` reads the conference back, up to four times within some seconds, since the server's yes
        only means that it was accepted; raises `NotConfirmedError` when it is still active then.

        ``hang_up`` reads the members first and ends each of their calls afterwards, which
        ``outcome.calls_ended`` names; raises `HangUpError` when some could not be. A call that joins between
        the reading and the end is ejected, but not hung up.
        """
        return await self._ender.end(
            Target.of(conference), evolve(self._options, **settings), Way(verify=verify, hang_up=hang_up)
        )

    async def end_conferences(
        self,
        conferences: Source | Journal,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        on_outcome: Callable[[Outcome], Awaitable[None] | None] | None = None,
        deadline: float | None = None,
        stop: Stop | None = None,
        verify: bool = False,
        hang_up: bool = False,
        **settings: Unpack[RunSettings],
    ) -> Report:
        """End many conferences, each with exactly one outcome, and return the sum.

        ``conferences`` is any iterable or async iterable of ids or `Conference` objects. It is pulled
        lazily: memory does not grow with its length. A `Journal` instead makes the run durable: what it
        holds unsettled is ended, and each outcome is on disk before its worker takes the next id.
        ``on_outcome`` hears of each outcome before that too, and may be async. ``deadline`` (seconds) and
        ``stop`` end the run early: what is in flight may finish, the ids that remain become
        ``not_attempted``. ``verify`` and ``hang_up`` are those of `end_conference`; a conference whose calls
        could not all be hung up is ``failed``, so that a resume goes on with them, or ``refused`` where the
        server's no would be the same again.

        Nothing is raised for a conference; see `Report`. What every id would meet (refused credentials, a
        server that stays down, a full disk under the journal) ends the run, with the error as
        ``report.stopped``. Whatever ``conferences`` or ``on_outcome`` raise is raised here.
        """

        async def tell(_: Target, outcome: Outcome) -> None:
            if on_outcome is not None:
                result = on_outcome(outcome)
                if inspect.isawaitable(result):
                    await result

        stop = stop or Stop()
        way = Way(verify=verify, hang_up=hang_up)
        parts = self._parts_of_run(conferences, tell, stop, settings, way)
        return await run(*parts, concurrency=concurrency, stop=stop, deadline=deadline)

    def ending_conferences(
        self,
        conferences: Source | Journal,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        deadline: float | None = None,
        stop: Stop | None = None,
        verify: bool = False,
        hang_up: bool = False,
        **settings: Unpack[RunSettings],
    ) -> AbstractAsyncContextManager[Outcomes]:
        """`end_conferences` as a stream of outcomes.

        ::

            async with client.ending_conferences(ids) as outcomes:
                async for outcome in outcomes:
                    ...

        Leaving the context, also by ``break`` or an error, ends the run at once and leaves no task behind.
        """
        stop = stop or Stop()
        way = Way(verify=verify, hang_up=hang_up)
        parts = self._parts_of_run(conferences, _nowhere, stop, settings, way)
        return iterate(*parts, concurrency=concurrency, stop=stop, deadline=deadline)

    def _parts_of_run(
        self,
        conferences: Source | Journal,
        deliver: Deliver,
        stop: Stop,
        settings: RunSettings,
        way: Way,
    ) -> tuple[Source, End, Deliver, Callable[[], Awaitable[None]] | None]:
        """Return where the ids come from, what ends one, where the outcomes go, and what may come last."""
        self._channel.bind()
        options = evolve(self._options, deadline=math.inf, bulk=True, **settings)
        if not isinstance(conferences, Journal):
            return conferences, partial(self._ender.end_in_run, options, way), deliver, None
        if conferences.account_id != self._account_id:
            raise ConfigurationError(
                f"the journal {conferences.path} is of account {conferences.account_id}, "
                f"this client of {self._account_id}"
            )
        way = Way(
            verify=way.verify or conferences.verify,
            hang_up=way.hang_up or conferences.hang_up,
            note_calls=conferences.note_calls,
        )
        durable = Durable(conferences, partial(self._ender.end_in_run, options, way), deliver, stop)
        return durable.targets(), durable.end, durable.deliver, durable.close


def _check_kinds(**settings: tuple[object, type | UnionType]) -> None:
    for name, (given, kind) in settings.items():
        if given is not None and not isinstance(given, kind):
            wanted = " or ".join(one.__name__ for one in get_args(kind) or (kind,))
            raise ConfigurationError(f"{name} is a {wanted}, not of type {type(given).__name__}")


async def _nowhere(_: Target, __: Outcome) -> None:
    """Deliver to nobody."""
