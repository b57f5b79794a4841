"""`VoiceClient`: the conferences of one Bandwidth account, ended and looked at."""

from __future__ import annotations

import inspect
import math
import os
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

from attrs import evolve

from bandwidth_async import wire
from bandwidth_async.channel import CallOptions, Channel
from bandwidth_async.ending import Ender, conference_in, nothing_in
from bandwidth_async.environment import HOSTS, read_environment
from bandwidth_async.errors import (
    ConfigurationError,
    TransportError,
)
from bandwidth_async.limiter import Limiter
from bandwidth_async.models import Conference, UpdateConference
from bandwidth_async.retry import RetryPolicy
from bandwidth_async.teardown import Outcome, Outcomes, Report, Source, Stop, iterate, run
from bandwidth_async.transport import Answer, Timeouts, connections_of, origin, same_origin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    import aiohttp
    from yarl import URL

    from bandwidth_async.credentials import Credentials
    from bandwidth_async.gauge import PaceEvent
    from bandwidth_async.pacing import RateLimit


class RunSettings(TypedDict, total=False):
    """Settings of each call of a run, where they differ from the client's."""

    retry: RetryPolicy
    timeouts: Timeouts


class CallSettings(RunSettings, total=False):
    """Settings of one call, where they differ from the client's."""

    deadline: float


DEFAULT_CONCURRENCY = 100


class VoiceClient:
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
        An `aiohttp.ClientSession` to use instead of an own one. It stays yours to close.
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
        if session is not None and trust_env:
            raise ConfigurationError("trust_env belongs to the session: set it on the one you pass")
        if session is not None and session.auth is not None:
            raise ConfigurationError("the session has an auth of its own; pass one that has none")
        if limiter is not None and (rate_limit is not None or on_pace is not None):
            raise ConfigurationError(
                "a limiter that is passed in has its rate limit already: leave out rate_limit and on_pace "
                "(and hear it with limiter.listening)"
            )
        self._account_id = wire.path_segment(account_id, "account id")
        random = random or Random()
        self._options = CallOptions(
            deadline=deadline, retry=retry or RetryPolicy(), timeouts=timeouts or Timeouts()
        )
        self._channel = Channel(
            credentials=credentials,
            voice_url=origin(voice_url, "voice_url", allow_http=allow_http),
            api_url=origin(api_url, "api_url", allow_http=allow_http),
            limiter=limiter
            or Limiter(rate_limit, random, connections=connections_of(session), on_pace=on_pace),
            token_options=self._options,
            session=session,
            proxy=proxy,
            trust_env=trust_env,
            random=random,
        )
        self._ender = Ender(self._channel, self._account_id, random)

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

    async def update_conference(
        self,
        conference_id: str,
        update: UpdateConference,
        **settings: Unpack[CallSettings],
    ) -> None:
        """Change a conference: ``UpdateConference(status="active", redirect_url=…)`` redirects it.

        A redirect that may have arrived is not sent again (see `RetryPolicy.repeat_ambiguous`); its error
        is then ``ambiguous``. To end a conference use `end_conference`, which also explains a 404.
        """
        if not isinstance(update, UpdateConference):
            raise ConfigurationError(f"the change is an UpdateConference, not {type(update).__name__}")
        request = wire.update_conference(self._account_id, conference_id, update)
        options = evolve(self._options, **settings)
        async with self._channel.trial(options) as trial:
            await self._channel.send(request, trial, options, nothing_in)

    async def end_conference(
        self,
        conference: str | Conference,
        **settings: Unpack[CallSettings],
    ) -> Outcome:
        """End a conference; its members are ejected, their calls go on.

        Returns an `Outcome` of kind ``ended`` or ``already_ended``. The latter is what a 404 means after
        an attempt without an answer, or for a `Conference` object, which did exist; a 409 is settled by
        reading the conference. Raises `NotFoundError` for any other 404.
        """
        return await self._ender.end(conference, evolve(self._options, **settings))

    async def end_conferences(
        self,
        conferences: Source,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        on_outcome: Callable[[Outcome], Awaitable[None] | None] | None = None,
        deadline: float | None = None,
        stop: Stop | None = None,
        **settings: Unpack[RunSettings],
    ) -> Report:
        """End many conferences, each with exactly one outcome, and return the sum.

        ``conferences`` is any iterable or async iterable of ids or `Conference` objects. It is pulled
        lazily: memory does not grow with its length. ``on_outcome`` hears of each outcome before its
        worker takes the next id, and may be async. ``deadline`` (seconds) and ``stop`` end the run early:
        what is in flight may finish, the ids that remain become ``not_attempted``.

        Nothing is raised for a conference; see `Report`. Credentials that are refused end the run, with
        the error as ``report.stopped``. Whatever ``conferences`` or ``on_outcome`` raise is raised here.
        """

        async def deliver(outcome: Outcome) -> None:
            if on_outcome is not None:
                result = on_outcome(outcome)
                if inspect.isawaitable(result):
                    await result

        self._channel.bind()
        return await run(
            conferences,
            partial(self._ender.end_in_run, self._options_of_run(settings)),
            deliver,
            concurrency=concurrency,
            stop=stop or Stop(),
            deadline=deadline,
        )

    def ending_conferences(
        self,
        conferences: Source,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        deadline: float | None = None,
        stop: Stop | None = None,
        **settings: Unpack[RunSettings],
    ) -> AbstractAsyncContextManager[Outcomes]:
        """`end_conferences` as a stream of outcomes.

        ::

            async with client.ending_conferences(ids) as outcomes:
                async for outcome in outcomes:
                    ...

        Leaving the context, also by ``break`` or an error, ends the run at once and leaves no task behind.
        """
        self._channel.bind()
        return iterate(
            conferences,
            partial(self._ender.end_in_run, self._options_of_run(settings)),
            concurrency=concurrency,
            stop=stop or Stop(),
            deadline=deadline,
        )

    def _options_of_run(self, settings: RunSettings) -> CallOptions:
        return evolve(self._options, deadline=math.inf, bulk=True, **settings)

    async def get_conference(
        self,
        conference_id: str,
        **settings: Unpack[CallSettings],
    ) -> Conference:
        """Return a conference with its active members."""
        options = evolve(self._options, **settings)
        async with self._channel.trial(options) as trial:
            request = wire.get_conference(self._account_id, conference_id)
            return await self._channel.send(request, trial, options, conference_in)

    async def list_conferences(
        self,
        *,
        name: str | None = None,
        min_created_time: datetime | None = None,
        max_created_time: datetime | None = None,
        page_size: int = 1000,
        **settings: Unpack[CallSettings],
    ) -> AsyncIterator[Conference]:
        """Iterate over all conferences, oldest first, page by page, without their members.

        Ended ones are among them: the API has no filter for that, `Conference.active` tells. Times are
        aware and inclusive; ``page_size`` is 1 to 1000; ``deadline`` is for each page. Further pages are
        only asked for on the same host, as the request carries the credentials.
        """
        if not 1 <= page_size <= 1000:
            raise ConfigurationError(f"page_size is 1 to 1000, not {page_size}")
        request: wire.Request | None = wire.list_conferences(
            self._account_id,
            name=name,
            min_created_time=min_created_time,
            max_created_time=max_created_time,
            page_size=page_size,
        )
        seen = set()
        options = evolve(self._options, **settings)
        while request is not None:
            seen.add(request.path)
            async with self._channel.trial(options) as trial:
                page, link = await self._channel.send(request, trial, options, _page)
            for conference in page:
                yield conference
            request = self._next_page(link, seen)

    def _next_page(self, link: URL | None, seen: set[str]) -> wire.Request | None:
        if link is None:
            return None
        if not same_origin(link, self._channel.voice_url):
            raise TransportError(
                f"the next page is said to be at {link.scheme}://{link.authority}, "
                "where the credentials are not sent"
            )
        if link.raw_path_qs in seen:
            raise TransportError("the links to the next page go in a circle")
        return wire.next_page(link.raw_path_qs)


def _page(answer: Answer) -> tuple[list[Conference], URL | None]:
    return wire.parse_conferences(answer.body), answer.next_page
