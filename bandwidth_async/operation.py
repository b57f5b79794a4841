"""The way of one request to the API: session, credentials, limiter and retry around one exchange.

A call goes down four floors, each with one job::

    trial              the deadline, the stop, and what an error says about the whole call
     └► send              a fresh token, once, after a 401
         └► persist          what is tried again, and when (tenacity)
             └► _attempt        admission by the limiter, then one exchange over aiohttp
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from attrs import field, frozen

from bandwidth_async import wire
from bandwidth_async.credentials import Authorizer, Credentials, Token, TokenExpiredError
from bandwidth_async.errors import (
    APIError,
    AuthenticationError,
    BandwidthError,
    ClientStateError,
    DeadlineExceededError,
    ServerError,
    TransportError,
    UnavailableError,
)
from bandwidth_async.http import (
    ResponseInfo,
    Server,
    Timeouts,
    TimeoutTimer,
    exchange,
    open_session,
    proxy_from_environment,
)
from bandwidth_async.retry import RetryPolicy, Trial, persist
from bandwidth_async.retry_after import parse_hint
from bandwidth_async.validators import above_zero

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random
    from types import TracebackType

    import aiohttp
    from yarl import URL

    from bandwidth_async.limiter.limiter import Admission, Limiter
    from bandwidth_async.retry_after import Headers
    from bandwidth_async.run import Stop

T = TypeVar("T")

_NEVER_UP = 60.0  # seconds that a run waits at most for a server that was never seen well
_OVERTAKEN = 5  # tokens that may run out on the way, before a 401 counts as a refusal all the same
_AFFORD_PAUSE = (0.5, 1.0)  # seconds, shortest and longest, until a run asks again for a retry


@frozen(kw_only=True)
class CallOptions:
    """How one call is made.

    ``deadline`` is in seconds from its start, ``math.inf`` for none; ``bulk`` calls, those of runs, let
    single ones go first. ``on_response`` hears of each success, before its body is made a value.
    """

    deadline: float = field(default=60.0, validator=above_zero("seconds", endless=True))
    retry: RetryPolicy = field(factory=RetryPolicy)
    timeouts: Timeouts = field(factory=Timeouts)
    bulk: bool = False
    on_response: Callable[[ResponseInfo], object] | None = None


class Channel:
    """Everything that the requests of one account share. Belongs to the event loop of its first use."""

    def __init__(
        self,
        *,
        credentials: Credentials,
        voice_url: URL,
        api_url: URL,
        limiter: Limiter,
        token_options: CallOptions,
        session: aiohttp.ClientSession | None,
        proxy: str | URL | None,
        trust_env: bool,
        random: Random,
    ) -> None:
        self.limiter = limiter
        self.voice_url = voice_url
        self._credentials = credentials
        self._authorizer = Authorizer(credentials, self._fetch_token)
        self._token_options = token_options
        self._given_session = session
        self._timer = TimeoutTimer()
        proxy = proxy or (proxy_from_environment(voice_url) if trust_env else None)
        self._voice = Server(url=voice_url, timer=self._timer, proxy=proxy)
        self._api = Server(url=api_url, timer=self._timer, proxy=proxy)
        self._random = random
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._trials: set[Trial] = set()  # the calls under way
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._session else "not used yet"
        return f"<Channel to {self.voice_url}, {state}, {self.limiter!r}>"

    async def aclose(self) -> None:
        """Close the channel and its own session; a session that was passed in stays open."""
        self._closed = True
        for trial in tuple(self._trials):
            trial.stop(0.0)
        await self._authorizer.aclose()
        self._timer.close()
        if self._session is not None and self._given_session is None:
            await self._session.close()

    def bind(self) -> aiohttp.ClientSession:
        """Return the session, bound to the running loop at the first use.

        Raises `ClientStateError` when it is closed or another loop runs.
        """
        loop = asyncio.get_running_loop()  # a system call in Python 3.11: once for each call
        if self._loop is not loop:
            if self._loop is not None:
                raise ClientStateError(
                    "this VoiceClient belongs to another event loop; make one client for each loop "
                    "(asyncio.run starts a new one every time)"
                )
            self.limiter.bind()
            self._loop = loop
        return self._open_session()

    def now(self) -> float:
        """Return the time of the event loop that it is bound to."""
        return self._timer.loop.time()

    def trial(self, options: CallOptions, stop: Stop | None = None) -> _Call:
        """Bound one call by its deadline and its run's stop, and complete the error it ends with."""
        self.bind()
        return _Call(self, options, stop)

    async def send(
        self, request: wire.Request, trial: Trial, options: CallOptions, read: Callable[[wire.Response], T]
    ) -> T:
        """Send ``request`` until it is answered, and return what ``read`` makes of the answer."""
        attempt = partial(self._attempt, request, trial, options, read)
        fresh = trial.repeats = False
        overtaken = 0
        while True:
            trial.check()
            if not self._authorizer.is_ready():
                await self._ready(options)
            try:
                return await persist(
                    attempt, trial, options.retry, self._random, idempotent=request.idempotent
                )
            except TokenExpiredError:
                continue
            except AuthenticationError as error:
                if overtaken < _OVERTAKEN and self._authorizer.has_expired(trial.authorization):
                    overtaken += 1
                    continue
                if fresh or not self._authorizer.is_worth_another(trial.authorization):
                    self._authorizer.refuse(error)
                    raise
            fresh = True

    def _open_session(self) -> aiohttp.ClientSession:
        if self._closed:
            raise ClientStateError("this VoiceClient is closed; make a new one")
        if self._session is None:
            self._session = self._given_session or open_session()
        if self._session.closed:
            raise ClientStateError("the aiohttp session of this VoiceClient has been closed")
        return self._session

    async def _attempt(
        self, request: wire.Request, trial: Trial, options: CallOptions, read: Callable[[wire.Response], T]
    ) -> T:
        if trial.repeats:
            await self._afford(trial, options)
        admitted = await self.limiter.admit(
            bulk=options.bulk,
            place=trial.place,
            deadline=trial.deadline,
            patience=options.retry.longest_hint,
        )
        with admitted as admission:
            session = self._open_session()
            trial.check()
            trial.authorization = self._authorizer.header()
            if not trial.repeats:
                self.limiter.budget.on_try(self.now())
            trial.excused = False
            admission.sending()
            try:
                with trial.sending(safe=request.safe):
                    answer = await exchange(
                        session,
                        self._voice,
                        request,
                        trial.authorization,
                        options.timeouts,
                        on_status=partial(_heard, trial, admission),
                    )
            except (TransportError, ServerError) as error:
                admission.failed(answered=False)
                self._excuse(error, trial, options)
                raise
        return _handed_on(answer, trial, options, read)

    async def _ready(self, options: CallOptions) -> None:
        """Return once there is a token; a run waits for an endpoint that gives none, single calls do not."""
        started = self.now()
        while True:
            try:
                return await self._authorizer.ready()
            except (TransportError, ServerError) as error:
                if not options.bulk:
                    raise
                unreachable = isinstance(error, TransportError) and not self.limiter.ever_up
                if unreachable or self.now() - started > self._patience(options):
                    raise UnavailableError(f"there is no access token: {error.message}") from error
                pause = error.retry_after or 0.0
            await asyncio.sleep(pause + self._random.uniform(*_AFFORD_PAUSE))

    def _out_of_time(self, trial: Trial, options: CallOptions) -> BandwidthError:
        if not self._closed:
            return _out_of_time(trial, options)
        return ClientStateError(
            "this VoiceClient was closed while the call was under way",
            attempts=trial.attempts,
            ambiguous=trial.ambiguous,
        )

    def _patience(self, options: CallOptions) -> float:
        if self.limiter.ever_up:
            return options.retry.outage
        return 0.0 if self.limiter.unreachable else min(options.retry.outage, _NEVER_UP)

    async def _afford(self, trial: Trial, options: CallOptions) -> None:
        """Return once a repetition is within the retry budget; single calls do not wait for it."""
        if trial.free or trial.last_error is None:
            return
        while not self.limiter.budget.withdraw(self.now(), bulk=options.bulk):
            if not options.bulk:
                raise UnavailableError(
                    f"so many requests fail that this one is not repeated: {trial.last_error.message}"
                ) from trial.last_error
            await asyncio.sleep(self._random.uniform(*_AFFORD_PAUSE))

    def _excuse(self, error: BandwidthError, trial: Trial, options: CallOptions) -> None:
        """Hold nothing against an id of a run while the server is down, unless that lasts too long."""
        trial.excused = options.bulk and self.limiter.is_doubtful
        if trial.excused and self.limiter.down_for > self._patience(options):
            never = self.limiter.unreachable
            what = "never answered" if never else f"has failed for {self.limiter.down_for:.0f} s"
            raise UnavailableError(f"Bandwidth {what}: {error.message}", ambiguous=error.ambiguous) from error

    async def _fetch_token(self) -> Token:
        options = self._token_options

        async def attempt() -> Token:
            try:
                answer = await exchange(
                    self.bind(), self._api, wire.token(), self._credentials.basic(), options.timeouts
                )
            except APIError as error:
                if error.transient:
                    raise
                raise _no_token(error) from error
            return wire.parse_token(answer.body)

        return await persist(attempt, Trial(paced=False), options.retry, self._random, idempotent=True)


class _Call:
    """One call, as a context; see `Channel.trial`."""

    # A class: a generator with two other contexts inside takes 7 µs more, where an end takes 60.
    __slots__ = ("_channel", "_limit", "_options", "_stop", "_trial")

    def __init__(self, channel: Channel, options: CallOptions, stop: Stop | None) -> None:
        self._channel = channel
        self._options = options
        self._stop = stop
        deadline = channel.now() + options.deadline
        self._limit = channel._timer.timeout_at(deadline)
        self._trial = Trial(deadline=deadline, limit=self._limit)

    async def __aenter__(self) -> Trial:
        trial = self._trial
        self._limit.__enter__()
        self._channel._trials.add(trial)
        if self._stop is not None:
            self._stop.listen(trial.stop)
        return trial

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        trial = self._trial
        self._channel._trials.discard(trial)
        if self._stop is not None:
            self._stop.forget(trial.stop)
        try:
            self._limit.__exit__(kind, error, trace)
        except TimeoutError:
            error = self._channel._out_of_time(trial, self._options)
            raise error from trial.last_error
        if isinstance(error, BandwidthError):
            error.attempts, error.ambiguous = trial.attempts, trial.ambiguous
            if isinstance(error, DeadlineExceededError):
                error.last_error = error.last_error or trial.last_error


def _heard(trial: Trial, admission: Admission, status: int, headers: Headers) -> None:
    """Tell the limiter what the server answered; who was refused keeps its place in line."""
    if status == 429:
        trial.place = admission.place
        admission.refused(parse_hint(headers, time.time()))
    elif status >= 500:
        admission.failed(answered=True)
    else:
        admission.accepted()


def _handed_on(
    answer: wire.Response, trial: Trial, options: CallOptions, read: Callable[[wire.Response], T]
) -> T:
    """Return what ``read`` makes of the answer; what still comes is closed when it cannot be handed on."""
    try:
        if options.on_response is not None:
            options.on_response(
                ResponseInfo(status=answer.status, headers=answer.headers, attempts=trial.attempts)
            )
        return read(answer)
    except BaseException:
        answer.close()
        raise


def _out_of_time(trial: Trial, options: CallOptions) -> DeadlineExceededError:
    what = "the run was stopped" if trial.stopping else f"the deadline of {options.deadline:g} s came"
    last = f"; the last attempt met: {trial.last_error.message}" if trial.last_error else ""
    return DeadlineExceededError(
        f"{what} before an answer{last}",
        last_error=trial.last_error,
        retry_after=trial.last_error.retry_after if trial.last_error else None,
        attempts=trial.attempts,
        ambiguous=trial.ambiguous,
    )


def _no_token(error: APIError) -> AuthenticationError:
    return AuthenticationError(
        f"Bandwidth gave no access token: {error.message}; check the client id and secret",
        status=error.status,
        type=error.type,
        description=error.description,
        request=error.request,
    )
