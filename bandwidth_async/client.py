"""`VoiceClient`: the conferences of one Bandwidth account, and all that you can ask about them."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import platform
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, get_args, overload
from urllib.parse import urlsplit

from attrs import evolve

from bandwidth_async import wire
from bandwidth_async._version import __version__
from bandwidth_async.credentials import Credentials
from bandwidth_async.ending import Ender, EndSettings
from bandwidth_async.environment import HOSTS, read_environment
from bandwidth_async.errors import ConfigurationError
from bandwidth_async.http import Timeouts, connections_of, is_loopback, origin
from bandwidth_async.journal import Journal
from bandwidth_async.journal.claims import Claims
from bandwidth_async.limiter import Hook, Knowledge, Limiter, RateLimit
from bandwidth_async.listing import Walk
from bandwidth_async.media import Draft, Media, file_path
from bandwidth_async.models import Conference
from bandwidth_async.operation import Channel, Options
from bandwidth_async.outcome import Outcome, Report
from bandwidth_async.polling import Watch
from bandwidth_async.retry import RetryPolicy
from bandwidth_async.run import Ledger, Outcomes, Source, Stop, Target, iterate, run
from bandwidth_async.settings import (
    DEFAULT_CONCURRENCY,
    CallSettings,
    ClientSettings,
    RunSettings,
    names_settings,
)
from bandwidth_async.updates import UpdateCall, UpdateConference, UpdateConferenceMember
from bandwidth_async.watching import WatchedChannel, WatchedRun

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime
    from pathlib import Path
    from types import UnionType

    import aiohttp
    from yarl import URL

    from bandwidth_async.events import Event
    from bandwidth_async.media import Progress
    from bandwidth_async.models import Call, ConferenceMember, ConferenceRecording
    from bandwidth_async.polling import CompletionHub
    from bandwidth_async.run import End, Tell

_log = logging.getLogger("bandwidth_async.client")

T = TypeVar("T")


class VoiceClient:
    """A client for the conferences of one Bandwidth account.

    Open it once (``async with VoiceClient(…) as client``, or call `aclose` at the end). Use it from any
    number of tasks of the same event loop, for as long as your application lives.

    ``account_id``
        Whose conferences.
    ``credentials``
        `ClientCredentials`, or the legacy `BasicCredentials`.
    ``voice_url``, ``api_url``
        Scheme and host of the Voice API and of the token endpoint. Plain http is refused, except to this
        machine or with ``allow_http``, because it would show the credentials to the network.
    ``rate_limit``
        `RateLimit.fixed` or `RateLimit.adaptive`. Without it the client finds the rate from what the server
        refuses.
    ``limiter``
        The `Limiter` of another client of the same account and host, to share its rate; or a `SharedLimiter`
        to share it with other processes.
    ``on_event``
        A plain function that is called with each `Event`: `OperationStarted`, `AttemptEnded` and
        `OperationEnded`, and the limiter's `RateChanged`, `Paused` and `Unavailable`. Requests wait for it,
        so it returns soon. What it raises is logged, once.
    ``retry``
        How often an operation is tried: a `RetryPolicy`, and its defaults if you give none. Every method
        takes one too, for its own operation.
    ``timeouts``
        The limits of one attempt: a `Timeouts`, and its defaults if you give none. Every method takes one
        too.
    ``deadline``
        Seconds for a whole operation, ``math.inf`` for none. Every method takes one too. That of a run is a
        setting of the run, with no limit unless you give one.
    ``session``
        Your own `aiohttp.ClientSession`, with all that it does to a request. An end then takes nearly three
        times the processor time. You close it yourself.
    ``proxy``
        A proxy's URL, http or https, also without a scheme.
    ``trust_env``
        Whether the environment decides, for each of the two hosts, as for curl: ``HTTPS_PROXY`` or
        ``ALL_PROXY`` name a proxy if you give none, and ``NO_PROXY`` has the hosts that need none. Plain http
        has ``http_proxy``, in lower case only.
    ``allow_http``
        Whether credentials may go over plain http to another machine.
    ``random``
        The source of pauses of random length, for tests that repeat.

    Raises `ConfigurationError` for settings that cannot work. Every method that asks Bandwidth for something
    raises, beside what it names itself:

    - `ConfigurationError`, before anything is sent, for an argument that cannot be right, such as an id that
      is not safe in a URL,
    - an `APIError` if the server refuses: `BadRequestError` (400), `AuthenticationError` (401),
      `PermissionDeniedError` (403), `NotFoundError` (404), `ConflictError` (409), `RateLimitError` (429) or
      `ServerError` (5xx),
    - `TransportError` if no usable response came: also `CertificateError`, `UnavailableError` while the
      server is down, and `UnexpectedResponseError` for a page instead of the documented response,
    - `DeadlineExceededError` if time ran out,
    - `ClientStateError` on a closed client, or in another event loop than that of the first use.

    Sources: Bandwidth's OpenAPI description of the Voice API, whose operations the methods name, and
    https://dev.bandwidth.com/docs/voice/errors for what a status means.
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
        on_event: Callable[[Event], object] | None = None,
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
        if limiter is not None and rate_limit is not None:
            raise ConfigurationError(
                "a limiter that is passed in has its rate limit already: leave out rate_limit"
            )
        hook = Hook(on_event) if on_event is not None else None
        random = random or Random()
        voice = origin(voice_url, "voice_url", allow_http=allow_http)
        api = origin(api_url, "api_url", allow_http=allow_http)
        self._account_id = wire.path_segment(account_id, "account id")
        self._options = Options(
            deadline=deadline, retry=retry or RetryPolicy(), timeouts=timeouts or Timeouts()
        )
        connections = connections_of(session, one_host=(voice.host, voice.port) == (api.host, api.port))
        self._kept, self._kept_key = credentials.kept.knowledge, (self._account_id, str(voice))
        limiter = limiter or Limiter(self._begun_with_known(rate_limit), random, connections=connections)
        limiter.serve(self._account_id, str(voice), connections)
        channel_type = Channel if hook is None else partial(WatchedChannel, hook)
        self._channel = channel_type(
            credentials=credentials,
            voice_url=voice,
            api_url=api,
            limiter=limiter,
            token_options=self._options,
            session=session,
            proxy=proxy,
            trust_env=trust_env,
            random=random,
        )
        self._ender = Ender(self._channel, self._account_id)
        self._listening = ExitStack()
        if hook is not None:
            self._listening.enter_context(limiter.listening(hook))

    @classmethod
    @names_settings(ClientSettings)
    def from_env(cls, **settings: Unpack[ClientSettings]) -> Self:
        """Return a client for the account in the ``BW_…`` environment variables.

        ``BW_ACCOUNT_ID``, ``BW_CLIENT_ID`` and ``BW_CLIENT_SECRET`` (or the legacy ``BW_USERNAME`` and
        ``BW_PASSWORD``), and optionally ``BW_ENVIRONMENT`` (prod, or test, which is also uat),
        ``BW_VOICE_URL`` and ``BW_API_URL``. Your ``settings`` win over the environment, which is not read if
        they say all of this.

        Raises `MissingCredentialsError` naming what is not set, `ConfigurationError` for a wrong value.
        """
        return cls(**with_environment(settings))

    def __repr__(self) -> str:
        return f"<VoiceClient account {self._account_id}, {self._channel!r}>"

    async def __aenter__(self) -> Self:
        self._channel.bind()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the client and its own session. A session that was passed in stays open.

        What it learned of the rate is where the next client over the same credentials object begins. Never
        raises, and may be called again.
        """
        if (learned := self.limiter.knowledge) is not None:
            self._kept[self._kept_key] = learned.to_dict()
        with self._listening:
            await self._channel.aclose()

    @property
    def account_id(self) -> str:
        """The account whose conferences these are."""
        return self._account_id

    @property
    def voice_url(self) -> str:
        """Scheme and host of the Voice API that it talks to."""
        return str(self._channel.voice.url)

    @property
    def api_url(self) -> str:
        """Scheme and host of the endpoint that gives it its access tokens."""
        return str(self._channel.api_url)

    @property
    def user(self) -> str:
        """The client id, or the name of an API user, that it signs in with."""
        return self._channel.user

    @property
    def limiter(self) -> Limiter:
        """The limiter of all requests. Read its `Limiter.snapshot`, or give it to another client."""
        return self._channel.limiter

    @property
    def rate(self) -> float:
        """Requests per second that the limiter lets through at present."""
        return self._channel.limiter.rate

    @names_settings(CallSettings)
    async def end_conference(
        self,
        conference: str | Conference,
        *,
        verify: bool = False,
        hang_up: bool = False,
        **settings: Unpack[CallSettings],
    ) -> Outcome:
        """End a conference. Its members are ejected, but their calls go on unless you set ``hang_up``.

        Returns an `Outcome` of kind ``ended`` or ``already_ended``. Only a 204 proves an end. The client
        reads the conference after a 409, after any other 2xx (a sign-in page, say), and after a refusal that
        follows an attempt without a clear response. ``already_ended`` means that it is over, and that no
        response proves that this end did it. A 404 means the same after an attempt without a clear response,
        and for a `Conference` object, since that did exist. Raises `NotFoundError` for any other 404, and
        `UnexpectedResponseError` for a page instead of a 204 while the conference is still active.

        With ``verify`` the client reads the conference back, up to four times within some seconds: a 204 only
        means that the server accepted the end. Raises `NotConfirmedError` if it is still active then.

        With ``hang_up`` the client reads the members first and ends each of their calls afterwards;
        ``outcome.calls_ended`` names them. Raises `HangUpError` if it could not end some of them. A call that
        joins between the reading and the end is ejected, but not hung up.

        Also raises `RateLimitError`, `UnavailableError`, `DeadlineExceededError` and what else every method
        raises (see `VoiceClient`). If the error is ``ambiguous``, the conference may have ended.

        Source: ``updateConference``, whose ``status`` is ``completed``, and ``getConference``.
        """
        how = EndSettings(verify=verify, hang_up=hang_up)
        target = Target.of(conference)
        end = self._ender.end(evolve(self._options, **settings), how, target)
        if isinstance(self._channel, WatchedChannel):
            return await self._channel.end(end, target.conference_id)
        return await end

    @names_settings(RunSettings)
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

        ``conferences``
            Any iterable or async iterable of ids or `Conference` objects. It is read as the run goes on, so
            memory does not grow with its length. A generator is closed at the end of the run, however the
            run ends. Give a `Journal` to make the run durable: the run ends what the journal holds unsettled,
            and each outcome is on disk before its worker takes the next id.

            An id that comes again has the outcome of its first, and nothing is sent for it. To know it
            again, the run keeps some 50 bytes for each id of a list. Of a source without a length, such as a
            generator, it knows the last 10,000 ids again, so that memory stays flat: an id that comes again
            behind more than those is sent again.
        ``concurrency``
            Conferences at once, which are ended or wait for the limiter.
        ``on_outcome``
            Is called with each outcome before its worker takes the next id. It may be async.
        ``deadline``
            Seconds after which the run ends early. Requests in flight may finish within 10 s more, and the
            ids that remain in a list or a journal become ``not_attempted``. A generator may be endless, so
            only the next 10,000 ids of it do, or as many as it yields within a second, and none of an async
            source: the rest has no outcome, and ``report.ok`` is False.
        ``stop``
            Ends the run early on request, as a deadline does.
        ``verify``
            Read each conference back, as in `end_conference`.
        ``hang_up``
            End the members' calls too, as in `end_conference`. A conference whose calls could not all be hung
            up is ``failed``, so that a resume tries again, or ``refused`` where the server would only repeat
            its refusal.

        No conference makes this raise; see `Report`. What every id would meet (refused credentials, a server
        that stays down, a full disk under the journal) ends the run, with the error as ``report.stopped``.
        Whatever ``conferences`` or ``on_outcome`` raise is raised here, `asyncio.CancelledError` included.
        Raises `ClientStateError` if another run is going on over the same journal, and `ConfigurationError`
        for settings that cannot work and for a journal of another account or host.

        Source: ``updateConference``, as for `end_conference`.
        """
        how = EndSettings(verify=verify, hang_up=hang_up)
        source, end, tell = self._run(conferences, settings, how, concurrency=concurrency, deadline=deadline)
        return await run(
            source,
            end,
            on_outcome,
            concurrency=concurrency,
            stop=stop or Stop(),
            deadline=deadline,
            tell=tell,
        )

    @names_settings(RunSettings)
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
        """End many conferences as `end_conferences` does, and iterate over the outcomes as they come.

        ::

            async with client.ending_conferences(ids) as outcomes:
                async for outcome in outcomes:
                    ...

        If you leave the context, also by ``break`` or an error, the run ends at once and leaves no task
        behind. Several tasks may iterate over the outcomes: each outcome goes to one of them.

        Raises what `end_conferences` raises, `ClientStateError` and `ConfigurationError` among it.
        """
        how = EndSettings(verify=verify, hang_up=hang_up)
        source, end, tell = self._run(conferences, settings, how, concurrency=concurrency, deadline=deadline)
        return iterate(
            source, end, concurrency=concurrency, stop=stop or Stop(), deadline=deadline, tell=tell
        )

    @names_settings(CallSettings)
    async def update_conference(
        self, conference_id: str, update: UpdateConference, **settings: Unpack[CallSettings]
    ) -> None:
        """Change a conference: ``UpdateConference(status="active", redirect_url=…)`` redirects it.

        A redirect that may have arrived is not sent again (see `RetryPolicy.repeat_ambiguous`); its error
        is then ``ambiguous``. To end a conference use `end_conference`, which also explains a 404.

        Raises `NotFoundError` for a conference that does not exist or has ended, `ConflictError` for one that
        cannot be changed in its state, and what else every method raises (see `VoiceClient`).

        Source: ``updateConference``.
        """
        _check_kind(update, UpdateConference)
        await self._ask(wire.update_conference(self._account_id, conference_id, update), settings)

    @names_settings(CallSettings)
    async def get_conference(self, conference_id: str, **settings: Unpack[CallSettings]) -> Conference:
        """Return a conference with its active members.

        Raises `NotFoundError` if Bandwidth does not know the id, and what else every method raises (see
        `VoiceClient`). For how long it knows an ended conference is not documented.

        Source: ``getConference``.
        """
        return await self._ask(wire.get_conference(self._account_id, conference_id), settings)

    @names_settings(CallSettings)
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

        Ended conferences are among them: the API has no filter for that, so ask `Conference.active`. Times
        are aware and inclusive. ``page_size`` is 1 to 1000. ``deadline`` is for each page.

        The client asks for all pages on the host that you set, because the request carries your credentials.
        A link that names another host, as behind a gateway, is followed there if its path is the listing's.
        A listing never ends early without an error: `TransportError` is raised for any other link to another
        host, for a circle, and for a page that is not an array of conferences. Raises `ConfigurationError`
        for another ``page_size`` or a time without a zone, and what else every method raises (see
        `VoiceClient`).

        Source: ``listConferences``.
        """
        if type(page_size) is not int or not 1 <= page_size <= 1000:
            raise ConfigurationError(f"page_size is 1 to 1000, not {page_size!r}")
        request: wire.Request[wire.Page] | None = wire.list_conferences(
            self._account_id,
            name=name,
            min_created_time=min_created_time,
            max_created_time=max_created_time,
            page_size=page_size,
        )
        walk = Walk(str(self._channel.voice.url).rstrip("/"))
        while request is not None:
            page = await self._ask(request, settings)
            for conference in page.conferences:
                yield conference
            request = walk.after(request, page)

    @names_settings(CallSettings)
    async def update_conference_bxml(
        self, conference_id: str, bxml: str, **settings: Unpack[CallSettings]
    ) -> None:
        """Replace the BXML of a conference: play, speak, start or stop a recording.

        BXML that may have arrived is not sent again, since members would hear it twice; its error is then
        ``ambiguous``. Raises `ConfigurationError`, before anything is sent, for BXML that is not well-formed,
        holds a verb that is not for conferences, or is larger than 64 KB. Raises `NotFoundError` for a
        conference that does not exist or has ended, and what else every method raises (see `VoiceClient`).

        Source: ``updateConferenceBxml``, and https://dev.bandwidth.com/docs/voice/bxml for the verbs.
        """
        await self._ask(wire.update_conference_bxml(self._account_id, conference_id, bxml), settings)

    @names_settings(CallSettings)
    async def get_conference_member(
        self, conference_id: str, call_id: str, **settings: Unpack[CallSettings]
    ) -> ConferenceMember:
        """Return a call as a member of a conference: muted or not, on hold or not.

        Raises `NotFoundError` if the call is no member, and what else every method raises (see
        `VoiceClient`).

        Source: ``getConferenceMember``.
        """
        return await self._ask(wire.get_conference_member(self._account_id, conference_id, call_id), settings)

    @names_settings(CallSettings)
    async def update_conference_member(
        self,
        conference_id: str,
        call_id: str,
        update: UpdateConferenceMember,
        **settings: Unpack[CallSettings],
    ) -> None:
        """Change a member: ``UpdateConferenceMember(mute=True)``. What you do not set stays as it is.

        Raises `NotFoundError` if the call is no member, and what else every method raises (see
        `VoiceClient`).

        Source: ``updateConferenceMember``.
        """
        _check_kind(update, UpdateConferenceMember)
        request = wire.update_conference_member(self._account_id, conference_id, call_id, update)
        await self._ask(request, settings)

    @names_settings(CallSettings)
    async def list_conference_recordings(
        self, conference_id: str, **settings: Unpack[CallSettings]
    ) -> list[ConferenceRecording]:
        """Return the metadata of each recording of a conference. Bandwidth keeps recordings for 30 days.

        Raises `NotFoundError` if there is no such conference, and what else every method raises (see
        `VoiceClient`).

        Source: ``listConferenceRecordings``.
        """
        return await self._ask(wire.list_conference_recordings(self._account_id, conference_id), settings)

    @names_settings(CallSettings)
    async def get_conference_recording(
        self, conference_id: str, recording_id: str, **settings: Unpack[CallSettings]
    ) -> ConferenceRecording:
        """Return the metadata of a recording. `download_conference_recording` fetches its audio.

        Raises `NotFoundError` if there is no such recording, and what else every method raises (see
        `VoiceClient`).

        Source: ``getConferenceRecording``.
        """
        request = wire.get_conference_recording(self._account_id, conference_id, recording_id)
        return await self._ask(request, settings)

    @overload
    def download_conference_recording(
        self, conference_id: str, recording_id: str, *, to: None = None, **settings: Unpack[CallSettings]
    ) -> AbstractAsyncContextManager[Media]: ...

    @overload
    def download_conference_recording(
        self,
        conference_id: str,
        recording_id: str,
        *,
        to: str | os.PathLike[str],
        overwrite: bool = False,
        on_progress: Progress | None = None,
        **settings: Unpack[CallSettings],
    ) -> Coroutine[Any, Any, Path]: ...

    @names_settings(CallSettings)
    def download_conference_recording(
        self,
        conference_id: str,
        recording_id: str,
        *,
        to: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        on_progress: Progress | None = None,
        **settings: Unpack[CallSettings],
    ) -> AbstractAsyncContextManager[Media] | Coroutine[Any, Any, Path]:
        """Fetch the audio of a recording, in memory that does not grow. Bandwidth keeps it for 30 days.

        ::

            path = await client.download_conference_recording("conf-1", "r-1", to="r-1.wav")

            async with client.download_conference_recording("conf-1", "r-1") as media:
                async for chunk in media:
                    ...

        The file appears only when it is complete: the client writes it under another name beside ``to`` and
        renames it at the end. If the connection is cut, the download starts again, as `RetryPolicy` says. A
        file that exists is refused (`ConfigurationError`) unless you set ``overwrite``, and anything but a
        regular file always is. A link is followed, and the new file gets the permissions of the old one.
        ``on_progress`` is called with the bytes so far and in all. Chunks cannot be taken back, so if the
        connection is cut while you iterate, `TransportError` is raised.

        Raises `APIError` for a response that cannot be seen to be a whole recording (a 204, a body without a
        length, a compressed body, a page or JSON with status 200, an empty body), and the `OSError` of a
        place that cannot be written to. A new file is for its owner alone (mode 0600). Raises `NotFoundError`
        if there is no such recording, and what else every method raises (see `VoiceClient`).

        ``deadline`` is for the time up to the first byte, of each start. After that a recording may take as
        long as it needs; only a silence of ``timeouts.attempt`` ends it.

        Source: ``downloadConferenceRecording``.
        """
        request = wire.download_conference_recording(self._account_id, conference_id, recording_id)
        options = evolve(self._options, **settings)
        if to is not None:
            return self._save(request, options, file_path(to), overwrite, on_progress)
        if overwrite or on_progress:
            raise ConfigurationError(
                "overwrite and on_progress are for a download to a file: give it with to="
            )
        return self._stream(request, options)

    @names_settings(CallSettings)
    async def get_call(self, call_id: str, **settings: Unpack[CallSettings]) -> Call:
        """Return the state of a call, from some minutes after its start until 7 days after its end.

        Raises `NotFoundError` outside of that time, and what else every method raises (see `VoiceClient`).

        Source: ``getCallState``.
        """
        return await self._ask(wire.get_call(self._account_id, call_id), settings)

    @names_settings(CallSettings)
    async def update_call(self, call_id: str, update: UpdateCall, **settings: Unpack[CallSettings]) -> None:
        """Change a call: ``UpdateCall(state="completed")`` hangs it up.

        A hang-up may be sent twice, as an end may. A redirect that may have arrived is not sent again; its
        error is then ``ambiguous``. A call that ended recently, or was not answered yet, raises
        `ConflictError`. A call that ended before raises `NotFoundError`. Also raises what every method raises
        (see `VoiceClient`).

        Source: ``updateCall``, and https://dev.bandwidth.com/docs/voice/errors for the two statuses.
        """
        _check_kind(update, UpdateCall)
        await self._ask(wire.update_call(self._account_id, call_id, update), settings)

    @names_settings(CallSettings)
    async def wait_until_completed(
        self, conference_id: str, *, hub: CompletionHub | None = None, **settings: Unpack[CallSettings]
    ) -> Conference:
        """Return a conference once it has ended, however it did.

        The client polls it, after pauses of random length that grow to 10 s at most, inside the rate limit.
        With a ``hub`` that receives its webhooks (`webhooks.EventHub`), the event counts as well, whichever
        comes first. A conference that was seen and is gone (404) has ended too. In these two cases you get
        it as it was last seen, without members, and its ``completed_time`` is that of the event or the moment
        when it was found gone.

        ``deadline`` is for the whole wait, ``math.inf`` for none (a conference lasts 24 hours at most). A
        read that fails for a passing reason (5xx, 408, 429, no response) is followed by another. The first
        such failure is logged as a warning.

        Raises `DeadlineExceededError` if it is not known to have ended by then, with the error of the last
        read as ``last_error``; `NotFoundError` if the first read that got a response did not find it; at once
        any other `APIError` (refused credentials among them) and `CertificateError`; `ClientStateError` if
        the client is closed meanwhile; and whatever ``hub`` raises.

        Source: ``getConference``, whose ``completedTime`` says that it has ended.
        """
        options = evolve(self._options, **settings)
        request = wire.get_conference(self._account_id, conference_id)

        async def look(seconds: float) -> tuple[Conference, int]:
            with self._channel.operation(evolve(options, deadline=seconds)) as operation:
                return await operation.send(request), operation.attempts.sent

        watch = Watch(conference_id, look, seconds=options.deadline, random=self._channel.random)
        return await watch.completed(hub)

    def _begun_with_known(self, limit: RateLimit | None) -> RateLimit:
        """Return a limit that begins with what is known, unless it says itself where to begin."""
        limit, known = limit or RateLimit(), self._kept.get(self._kept_key)
        if known is None or limit.rate is not None or limit.start is not None or limit.knowledge is not None:
            return limit
        return evolve(limit, knowledge=Knowledge.from_dict(known))

    async def _ask(self, request: wire.Request[T], settings: CallSettings) -> T:
        with self._channel.operation(evolve(self._options, **settings)) as operation:
            return await operation.send(request)

    def _run(
        self,
        conferences: Source | Journal,
        settings: RunSettings,
        how: EndSettings,
        **told: float | None,
    ) -> tuple[Source | Ledger, End, Tell | None]:
        """Return where the ids of a run come from, what ends one of them, and who hears of the outcomes."""
        self._channel.bind()
        options = evolve(self._options, deadline=math.inf, bulk=True, **settings)
        source: Source | Ledger
        if isinstance(conferences, Journal):
            how = self._how_of(conferences, how)
            timeline = conferences.timeline(self._facts(options, how, told), self._channel.limiter)
            options = evolve(options, timeline=timeline)
            source = Claims(conferences, timeline)
        else:
            source = conferences
        end = partial(self._ender.end, options, how)
        if not isinstance(self._channel, WatchedChannel):
            return source, end, None
        watched = WatchedRun(self._channel, end)
        return source, watched.end, watched.tell

    def _how_of(self, journal: Journal, how: EndSettings) -> EndSettings:
        """Return how a run ends conferences, with what its journal asks for."""
        if journal.account_id != self._account_id:
            raise ConfigurationError(
                f"the journal {journal.path} is of account {journal.account_id}, "
                f"this client of {self._account_id}"
            )
        self._check_host(journal)
        return EndSettings(
            verify=how.verify or journal.verify,
            hang_up=how.hang_up or journal.hang_up,
            note_calls=journal.note_calls,
        )

    def _check_host(self, journal: Journal) -> None:
        """Raise `ConfigurationError` if a run was begun at another host, where its ids mean nothing.

        A sandbox that is started again may have another port.
        """
        begun, now = journal.host, self._host()
        if begun is None or begun == now:
            return
        if not all(is_loopback(urlsplit(f"//{host}").hostname or "") for host in (begun, now)):
            raise ConfigurationError(
                f"the journal {journal.path} is of a run at {begun}, this client talks to {now}"
            )
        _log.warning("the run of %s was begun at %s, and goes on at %s", journal.path, begun, now)

    def _host(self) -> str:
        """Return the host of the Voice API, with its port where that is not the usual."""
        url = self._channel.voice.url
        return f"{url.host}" if url.is_default_port() else f"{url.host}:{url.port}"

    def _facts(self, options: Options, how: EndSettings, told: dict[str, float | None]) -> dict[str, object]:
        """Return what the time line of a run tells of its settings. No secret is among them."""
        settings: dict[str, float | None] = {
            **told,
            "rate": self._channel.limiter.limit.rate,
            "verify": how.verify,
            "hang_up": how.hang_up,
            "attempts": options.retry.attempts,
            "attempt_timeout": options.timeouts.attempt,
            "outage": options.retry.outage,
        }
        return {
            "program": __version__,
            "python": platform.python_version(),
            "host": self._host(),
            "shared": self._channel.limiter.is_shared,
            # JSON has no infinity.
            "settings": {
                name: value if value is not None and math.isfinite(value) else None
                for name, value in settings.items()
            },
        }

    @asynccontextmanager
    async def _stream(self, request: wire.Request[Media], options: Options) -> AsyncIterator[Media]:
        async with AsyncExitStack() as stack:
            with self._channel.operation(options) as operation:
                media = await operation.send(request)
                stack.callback(media.close)
                media.attempts = operation.attempts.sent
            yield media

    async def _save(
        self,
        request: wire.Request[Media],
        options: Options,
        path: Path,
        overwrite: bool,
        on_progress: Progress | None,
    ) -> Path:
        self._channel.bind()
        with closing(Draft(path, overwrite=overwrite)) as draft:
            with self._channel.operation(options) as operation:

                async def receive(media: Media) -> None:
                    operation.lift_deadline()
                    await draft.receive(media, on_progress)

                await operation.send(request, receive)
            await asyncio.to_thread(draft.keep)
        return path


def with_environment(settings: ClientSettings) -> ClientSettings:
    """Return settings with the ``BW_…`` environment variables for those that are not given."""
    if settings.keys() >= {"account_id", "credentials", "voice_url", "api_url"}:
        return settings
    return read_environment(os.environ).complete(settings)


def _check_kinds(**settings: tuple[object, type | UnionType]) -> None:
    for name, (given, kind) in settings.items():
        if given is not None and not isinstance(given, kind):
            wanted = " or ".join(one.__name__ for one in get_args(kind) or (kind,))
            raise ConfigurationError(f"{name} is a {wanted}, not of type {type(given).__name__}")


def _check_kind(update: object, kind: type) -> None:
    if not isinstance(update, kind):
        raise ConfigurationError(f"the change is an {kind.__name__}, not {type(update).__name__}")
