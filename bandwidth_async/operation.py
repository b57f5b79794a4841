"""One thing that a user asked for, from its first attempt to its value; and what all operations share.

An operation has four steps, each with one job::

    Operation          the deadline, the stop, and what an error says about the whole operation
     └► send              another try after a 401, with a fresh token where that may help
         └► persist          what is tried again, and when (`retry`)
             └► _attempt        admission by the limiter, one request over HTTP, and its value
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from attrs import evolve, field, frozen

from bandwidth_async import wire
from bandwidth_async.credentials import Authorizer, Credentials, Token, TokenExpired
from bandwidth_async.errors import (
    APIError,
    AuthenticationError,
    BandwidthError,
    ClientStateError,
    DeadlineExceededError,
    RateLimitError,
    ServerError,
    TransportError,
    UnavailableError,
)
from bandwidth_async.events import subject_of
from bandwidth_async.http import (
    Delivery,
    ResponseInfo,
    Server,
    Timeouts,
    TimeoutTimer,
    exchange,
    lacking,
    open_session,
    proxy_of,
)
from bandwidth_async.retry import Attempts, RetryPolicy, pause_after, persist
from bandwidth_async.validators import above_zero

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random
    from types import TracebackType

    import aiohttp
    from yarl import URL

    from bandwidth_async.journal.timeline import Timeline
    from bandwidth_async.limiter import Admission, Limiter
    from bandwidth_async.retry_after import Headers
    from bandwidth_async.run import Stop

T = TypeVar("T")

_log = logging.getLogger("bandwidth_async.operation")

# Tokens that may expire while their request is under way, before a 401 counts as a refusal all the same.
_EXPIRED_UNDER_WAY = 5

# Refusals in a row after which a run lets the next id knock, in case that it is the id that is refused.
_KNOCKS = 8

# Seconds behind a moment, so that a timer which fires early does not come before it.
_LATE = 0.001

# What an operation waits for once it has a token, in the words of its error.
_ANSWER = "an answer"

# Seconds that a fetch of a token waits at most when the token endpoint asks for it.
_TOKEN_HINT = 2.0

# Seconds, shortest and longest, until a run asks again for a retry, or for a token.
_ASK_AGAIN = (0.5, 1.0)


@frozen(kw_only=True)
class Options:
    """How one operation is carried out.

    ``deadline`` is seconds from its start, ``math.inf`` for none. ``bulk`` operations, those of runs, let
    single ones go first. ``on_response`` is called for each success, before its body is read. ``timeline``
    counts the attempts.
    """

    deadline: float = field(default=60.0, validator=above_zero("seconds", endless=True))
    retry: RetryPolicy = field(factory=RetryPolicy)
    timeouts: Timeouts = field(factory=Timeouts)
    bulk: bool = False
    on_response: Callable[[ResponseInfo], object] | None = None
    timeline: Timeline | None = None


class Channel:
    """What the operations of one account share. Belongs to the event loop of its first use."""

    def __init__(
        self,
        *,
        credentials: Credentials,
        voice_url: URL,
        api_url: URL,
        limiter: Limiter,
        token_options: Options,
        session: aiohttp.ClientSession | None,
        proxy: str | URL | None,
        trust_env: bool,
        random: Random,
    ) -> None:
        self.limiter = limiter
        self.random = random
        self.authorizer: Authorizer = Authorizer(credentials, self._fetch_token, str(api_url))
        self.timer: TimeoutTimer = TimeoutTimer()
        self.voice: Server
        self.api: Server
        self.voice, self.api = (
            Server(
                url=url, setting=setting, timer=self.timer, proxy=proxy_of(url, proxy, trust_env=trust_env)
            )
            for url, setting in ((voice_url, "voice_url"), (api_url, "api_url"))
        )
        self.operation_type: type[Operation] = Operation
        self.operations: set[Operation] = set()
        self.closed: bool = False
        self._left = False
        self._credentials = credentials
        self._token_options = token_options
        # What the fetch of a token has met so far.
        self._fetch: Attempts = Attempts(paced=False)
        self._fetch_delivery: Delivery = Delivery()
        self._given_session = session
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def user(self) -> str:
        """The client id, or the name of an API user."""
        return self._credentials.user

    @property
    def api_url(self) -> URL:
        """Scheme and host of the token endpoint."""
        return self.api.url

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open" if self._session else "not used yet"
        slower = f", by the session since aiohttp lacks {', '.join(lacking())}" if lacking() else ""
        return f"<Channel to {self.voice.url}, {state}{slower}, {self.limiter!r}>"

    async def aclose(self) -> None:
        """Close the channel and its own session; a session that was passed in stays open."""
        self.closed = True
        for operation in tuple(self.operations):
            operation.stop(0.0)
        await self.authorizer.aclose()
        self.timer.close()
        if self._session is not None and self._given_session is None:
            await self._session.close()
        # A close that was cancelled may be followed by another.
        if not self._left:
            self._left = True
            await self.limiter.leave()

    def bind(self) -> aiohttp.ClientSession:
        """Return the session, bound to the running event loop at the first use.

        Raises `ClientStateError` when the channel is closed or another loop runs.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise ClientStateError(
                    "this VoiceClient belongs to another event loop; make one client for each loop "
                    "(asyncio.run starts a new one every time)"
                )
            self.limiter.bind()
            self._loop = loop
        return self.session()

    def session(self) -> aiohttp.ClientSession:
        """Return the session, in the loop that the channel is bound to. Raises `ClientStateError`."""
        if self.closed:
            raise ClientStateError("this VoiceClient is closed; make a new one")
        if self._session is None:
            self._session = self._given_session or open_session()
        # Nobody but `aclose` closes a session of our own.
        if self._given_session is not None and self._given_session.closed:
            raise ClientStateError("the aiohttp session of this VoiceClient has been closed")
        return self._session

    def now(self) -> float:
        """Return the time of the event loop that it is bound to."""
        return self.timer.loop.time()

    def operation(self, options: Options, stop: Stop | None = None) -> Operation:
        """Return a context for one operation, whose deadline counts from now."""
        self.bind()
        # Runs have no deadline.
        deadline = options.deadline
        deadline = deadline + self.now() if deadline < math.inf else deadline
        return self.operation_type(self, options, stop, deadline)

    @property
    def token_error(self) -> BandwidthError | None:
        """What the newest fetch of a token met last, or what keeps it from leaving this machine."""
        return self._fetch_delivery.obstacle or self._fetch.last_error

    async def fetch_token_once(self, request: wire.Request[Token]) -> Token:
        """Ask the token endpoint for a token, and return it."""
        self._fetch_delivery = delivery = Delivery()
        try:
            response = await exchange(
                self.bind(),
                self.api,
                request,
                self._credentials.basic(),
                self._token_options.timeouts,
                delivery=delivery,
            )
        except BandwidthError as error:
            _log_attempt(request, error)
            if isinstance(error, APIError) and not error.transient:
                raise _no_token(error) from error
            raise
        _log_attempt(request, response.status)
        return request.read(response)

    async def _fetch_token(self) -> Token:
        options, request = self._token_options, wire.token()
        # All who need the token wait for this, some of them only for a moment. So they are told of a longer
        # wait, and not kept waiting.
        policy = evolve(options.retry, longest_hint=min(options.retry.longest_hint, _TOKEN_HINT))
        self._fetch = Attempts(paced=False)
        attempt = partial(self.fetch_token_once, request)
        return await persist(attempt, self._fetch, policy, self.random, idempotent=request.idempotent)


class Operation:
    """What was asked for, and how far it has come. Made by `Channel.operation`, entered by one task.

    It ends with `DeadlineExceededError` at its deadline. Every error that leaves it tells the attempts of the
    whole operation, and whether one of them may have taken effect.
    """

    _lifted = False
    _in_flight = False
    _awaited = _ANSWER

    # The place in the limiter's order of arrival, from the first admission on.
    _place: int | None = None

    # Seconds that it rests after a refusal, so that others knock before it.
    _rest = 0.0

    # Of the request that is being sent: attempts before its first one, and the header that its last attempt
    # was sent with, with the authorizer's round.
    _sent_before = 0
    _authorization = ""
    _round = 0

    # The limiter's permission for the attempt under way, and when it was sent, None once it has a status.
    _admission: Admission
    _sent_at: float | None = None

    def __init__(self, channel: Channel, options: Options, stop: Stop | None, deadline: float) -> None:
        self.attempts: Attempts = Attempts(deadline=deadline)
        self._channel = channel
        self.options: Options = options
        self._stop = stop
        self._limit = channel.timer.timeout_at(deadline)

    def __repr__(self) -> str:
        return f"<Operation, {self.attempts!r}>"

    def sibling(self) -> Operation:
        """Return a context for another operation, with attempts of its own, until the same deadline."""
        return type(self)(self._channel, self.options, self._stop, self.attempts.deadline)

    def __enter__(self) -> Self:
        self._limit.__enter__()
        self._channel.operations.add(self)
        if self._stop is not None:
            self._stop.listen(self.stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.operations.discard(self)
        if self._stop is not None:
            self._stop.forget(self.stop)
        try:
            self._limit.__exit__(kind, error, trace)
        except TimeoutError:
            raise self._out_of_time() from self.attempts.last_error
        if isinstance(error, BandwidthError):
            error.attempts, error.ambiguous = self.attempts.sent, self.attempts.ambiguous
            if isinstance(error, DeadlineExceededError) and self.attempts.last_error is not None:
                error.last_error = self.attempts.last_error
                if error.last_error.message not in error.message:
                    error.args = (f"{error.message}; the last attempt met: {error.last_error.message}",)

    async def send(
        self, request: wire.Request[T], receive: Callable[[T], Awaitable[None]] | None = None
    ) -> T:
        """Send ``request`` until it succeeds, and return its value.

        ``receive`` takes in a value that is still coming. It belongs to the attempt: when it fails, the
        request is sent again as the retry rules allow.
        """
        attempt = partial(self._attempt, request, receive)
        self._sent_before = self.attempts.sent
        authorizer = self._channel.authorizer
        rejected = expired = 0
        while True:
            self._check()
            if not authorizer.is_ready():
                await self._ready()
            try:
                return await persist(
                    attempt,
                    self.attempts,
                    self.options.retry,
                    self._channel.random,
                    idempotent=request.idempotent,
                )
            except TokenExpired:
                continue
            except AuthenticationError as error:
                if expired < _EXPIRED_UNDER_WAY and authorizer.expired_in_flight(self._authorization):
                    expired += 1
                    continue
                if self.attempts.last_error is not error or not authorizer.rejected(self._round, error):
                    raise
                await self._after_401(error, rejected)
            rejected += 1

    async def _after_401(self, error: AuthenticationError, rejected: int) -> None:
        """Return when the request may be sent again, for which ``rejected`` 401s came before.

        The first is followed at once, by another header or in the authorizer's turn. The others count as
        failed attempts.
        """
        attempts, policy = self.attempts, self.options.retry
        attempts.free = not rejected
        attempts.failures += bool(rejected)
        # A stop is for `_check` to tell.
        if not attempts.stopped:
            if attempts.are_spent(policy):
                raise error
            await asyncio.sleep(pause_after(error, attempts, policy, self._channel.random))

    def lift_deadline(self) -> None:
        """Let this attempt take as long as it needs from here on. The next one has the deadline anew."""
        self._lifted = True
        self._bound(math.inf)

    def stop(self, grace: float) -> None:
        """Send nothing more. What is in flight has ``grace`` seconds, what waits has none."""
        self.attempts.stopped = True
        if not self._limit.expired():
            end = self._channel.now() + (grace if self._in_flight else 0.0)
            self._limit.reschedule(min(end, self._limit.when()))

    async def _attempt(self, request: wire.Request[T], receive: Callable[[T], Awaitable[None]] | None) -> T:
        """Wait for the limiter, send the request once, and return its value."""
        options, channel = self.options, self._channel
        if self.attempts.sent:
            await self._resume()
        self._admission = admission = await channel.limiter.admit(
            bulk=options.bulk,
            place=self._place,
            deadline=self.attempts.deadline,
            patience=options.retry.longest_hint,
        )
        delivery = Delivery(self._limit)
        with admission:
            session = self._start(admission)
            try:
                response = await exchange(
                    session,
                    channel.voice,
                    request,
                    self._authorization,
                    options.timeouts,
                    on_status=self._tell_limiter,
                    delivery=delivery,
                )
            except BaseException as error:
                _log_attempt(request, error, self.attempts.sent)
                self._learn(error, request, delivery)
                raise
            finally:
                self._in_flight = False
                if self._sent_at is not None:
                    self._count_unanswered(delivery)
                channel.authorizer.finished(self)
        if _log.isEnabledFor(logging.DEBUG):
            _log_attempt(request, response.status, self.attempts.sent)
        value = self._read(request, response)
        if receive is not None:
            await receive(value)
        return value

    async def _resume(self) -> None:
        """Return when the operation may ask for another admission."""
        if self._lifted:
            self._lifted = False
            self._bound(self._channel.now() + self.options.deadline)
        if self._repeats():
            await self._afford()
        if self._rest:
            rest, self._rest = self._rest, 0.0
            await asyncio.sleep(rest)

    def _repeats(self) -> bool:
        """Return whether the request was sent before."""
        return self.attempts.sent > self._sent_before

    def _start(self, admission: Admission) -> aiohttp.ClientSession:
        """Return the session for a request that leaves now. Raises what forbids that."""
        channel, authorizer, attempts = self._channel, self._channel.authorizer, self.attempts
        # Whatever comes of this attempt, the next one does not wait behind requests that came later.
        self._place = admission.place
        session = channel.session()
        self._check()
        self._authorization, self._round = authorizer.header(self), authorizer.round
        self._sent_at = self.attempts.sent_at = now = admission.sending()
        if not self._repeats():
            channel.limiter.budget.on_try(now)
        attempts.excused = attempts.refused = False
        attempts.sent += 1
        self._in_flight = True
        return session

    def _learn(self, error: BaseException, request: wire.Request[T], delivery: Delivery) -> None:
        """Learn from an attempt that failed. Raises another error where nothing is to be repeated."""
        match error:
            case asyncio.CancelledError():
                self.attempts.ambiguous |= not (request.safe or delivery.unsent)
                self._take_back(delivery)
            case ClientStateError() if self._take_back(delivery):
                self._stop_run(error)
            case TransportError() | ServerError() | APIError(transient=True):
                self._admission.failed(answered=False)
                self._excuse(error)

    def _count_unanswered(self, delivery: Delivery) -> None:
        """Put an attempt that got no status on the time line, unless it never left this machine."""
        timeline, self._sent_at = self.options.timeline, None
        if timeline is not None and not _stayed_here(delivery):
            timeline.unanswered(self.attempts.sent - self._sent_before > 1)

    def _take_back(self, delivery: Delivery) -> bool:
        """Uncount the attempt if something of this machine kept the request from leaving. Return whether."""
        if not _stayed_here(delivery):
            return False
        self.attempts.last_error = delivery.obstacle
        self.attempts.sent -= 1
        return True

    def _tell_limiter(self, status: int, headers: Headers) -> wire.Later | None:
        """Tell the limiter, and the authorizer, how the server responded. Return what a failure says."""
        admission, channel, timeline = self._admission, self._channel, self.options.timeline
        sent_at, self._sent_at = self._sent_at, None
        again = self.attempts.sent - self._sent_before > 1
        if status < 300:
            admission.accepted()
            channel.authorizer.accepted(self._round)
            if timeline is not None:
                timeline.answered(sent_at, again)
            return None
        told = wire.later(status, headers, time.time(), channel.limiter.refusal_statuses)
        seconds = told.hint.seconds if told.hint else None
        self.attempts.refused = told.refused
        if told.refused:
            self._rest = admission.refused(seconds, coarse=told.hint is not None and told.hint.coarse)
        elif status == 503:
            rest = admission.busy()
            self.attempts.refused, self._rest = rest is not None, rest or 0.0
        elif status >= 500 or status == 408:
            admission.failed(answered=True, hint=seconds)
        else:
            admission.accepted()
            # A 403 may be of a gateway that never looked at the credentials.
            if status not in {401, 403, 407}:
                channel.authorizer.accepted(self._round)
        if timeline is not None:
            refused = self.attempts.refused
            failed = status >= 500 and not refused
            timeline.answered(sent_at, again)
            timeline.turned_down(refused=refused, failed=failed)
        return told

    def _read(self, request: wire.Request[T], response: wire.Response) -> T:
        """Return the value of a success. A body that is still coming is closed if that fails."""
        try:
            if self.options.on_response is not None:
                self.options.on_response(
                    ResponseInfo(
                        status=response.status, headers=response.headers, attempts=self.attempts.sent
                    )
                )
            return request.read(response)
        except BaseException:
            response.close()
            raise

    async def _ready(self) -> None:
        """Return once there is a token. Only a run waits for a token endpoint that fails.

        A missing token concerns every id, so what a run gives up on stops it. A single operation waits only
        for an endpoint that limits its rate, and that is open again before the deadline.
        """
        channel, authorizer, policy = self._channel, self._channel.authorizer, self.options.retry
        started = channel.now()
        while True:
            self._awaited = "there was an access token"
            try:
                await authorizer.wait_until_ready()
            except ClientStateError as error:
                self._stop_run(error)
                raise
            except (TransportError, APIError) as error:
                pause = error.retry_after or 0.0
                if not self.options.bulk:
                    left = min(self.attempts.deadline - channel.now(), policy.longest_hint)
                    if not isinstance(error, RateLimitError) or not 0 < pause < left:
                        raise
                    await asyncio.sleep(pause + _LATE)
                    continue
                ever_up = channel.limiter.breaker.ever_answered or authorizer.ever_had_token
                unreachable = isinstance(error, TransportError) and (error.lasting or not ever_up)
                # A server that asks to come later is up.
                patience = policy.outage if ever_up or isinstance(error, RateLimitError) else self._patience()
                lasting = authorizer.is_blocked or pause > policy.longest_hint
                if lasting or unreachable or channel.now() - started > patience:
                    raise self._stop_run(_for_every_id("there is no access token", error)) from error
            else:
                self._awaited = _ANSWER
                return
            await asyncio.sleep(pause + channel.random.uniform(*_ASK_AGAIN))

    def _stop_run(self, error: BandwidthError) -> BandwidthError:
        """Stop the run, as every other id would meet the same error, and return the error."""
        if self._stop is not None:
            self._stop.request(error)
        return error

    async def _afford(self) -> None:
        """Return once a retry is within the retry budget. Single operations do not wait for it."""
        last, budget = self.attempts.last_error, self._channel.limiter.budget
        if self.attempts.free or last is None:
            return
        while not budget.withdraw(self._channel.now(), bulk=self.options.bulk):
            if not self.options.bulk:
                raise UnavailableError(
                    f"so many requests fail that this one is not repeated: {last.message}"
                ) from last
            await asyncio.sleep(self._channel.random.uniform(*_ASK_AGAIN))

    def _excuse(self, error: BandwidthError) -> None:
        """While the server lets nothing in, which may still end, count nothing against the id of a run."""
        if self.attempts.refused or error.retry_after is not None:
            self._excuse_turned_away(error)
            return
        breaker = self._channel.limiter.breaker
        down_for = breaker.down_for(self._channel.now())
        doubtful = breaker.is_doubtful or self._channel.limiter.closure.is_doubtful
        self.attempts.excused = self.options.bulk and doubtful
        # Is it this id that fails, or the server? Those behind it in line will tell.
        if self.options.bulk and breaker.in_a_row > 1:
            self._place = None
        if self.attempts.excused and down_for > self._patience():
            what = "never answered" if breaker.unreachable else f"has failed for {down_for:.0f} s"
            raise UnavailableError(f"Bandwidth {what}: {error.message}", ambiguous=error.ambiguous) from error

    def _excuse_turned_away(self, error: BandwidthError) -> None:
        """Do as `_excuse` for a request that was told to come later."""
        if not self.options.bulk:
            return
        closure = self._channel.limiter.closure
        lasted = closure.lasted(self._channel.now())
        # Only the first may have been turned away for what it asked.
        self.attempts.excused = closure.in_a_row > 1
        if closure.in_a_row % _KNOCKS == 0:
            self._place = None
        if lasted > self.options.retry.outage:
            sentence = f"Bandwidth let nothing in for {lasted:.0f} s"
            raise self._stop_run(_for_every_id(sentence, error)) from error

    def _patience(self) -> float:
        """Return the seconds that a run waits for a server, or a token endpoint, that fails."""
        return self._channel.limiter.breaker.patience(self.options.retry.outage)

    def _check(self) -> None:
        """Raise `DeadlineExceededError` when nothing more is to be sent."""
        if self.attempts.stopped:
            raise DeadlineExceededError("the run was stopped", last_error=self.attempts.last_error)
        # The operations of a run have no deadline. To ask for the time would cost more than the rest here.
        if self.attempts.deadline < math.inf and self._channel.now() >= self.attempts.deadline:
            raise self._out_of_time()

    def _bound(self, deadline: float) -> None:
        """Move the deadline. An operation that is being stopped keeps the limit that it was given."""
        if not self.attempts.stopped:
            self.attempts.deadline = deadline
            self._limit.reschedule(None if deadline == math.inf else deadline)

    def _out_of_time(self) -> BandwidthError:
        attempts, last = self.attempts, self.attempts.last_error
        if last is None and self._awaited != _ANSWER:
            last = self._channel.token_error
        if self._channel.closed:
            return ClientStateError(
                "this VoiceClient was closed while the operation was under way",
                attempts=attempts.sent,
                ambiguous=attempts.ambiguous,
            )
        deadline = f"the deadline of {self.options.deadline:g} s came"
        what = "the run was stopped" if attempts.stopped else deadline
        return DeadlineExceededError(
            f"{what} before {self._awaited}" + (f"; the last attempt met: {last.message}" if last else ""),
            last_error=last,
            retry_after=last.retry_after if last else None,
            attempts=attempts.sent,
            ambiguous=attempts.ambiguous,
        )


def _log_attempt(request: wire.Request[Any], met: int | BaseException, number: int = 0) -> None:
    """Log an attempt that met a status or an error. ``number`` is 0 for an access token."""
    if not _log.isEnabledFor(logging.DEBUG):
        return
    status: int | None = met if isinstance(met, int) else getattr(met, "status", None)
    extra = {
        "operation": request.kind,
        "conference_id": subject_of(request)[1],
        "attempt": number,
        "status": status,
    }
    # Without a status, an error of ours names the request itself. Nothing that the server wrote is logged.
    sentence = met.message if isinstance(met, BandwidthError) else f"{request.name}: {met!r}"
    _log.debug("%s", sentence if status is None else f"{request.name}: {status}", extra=extra)


def _stayed_here(delivery: Delivery) -> bool:
    return delivery.unsent and delivery.obstacle is not None


def _for_every_id(sentence: str, error: BandwidthError) -> BandwidthError:
    """Return the error of a run that ends because each of its ids would meet ``error``."""
    if isinstance(error, AuthenticationError):
        return error
    sentence = f"{sentence}: {error.message}"
    if isinstance(error, RateLimitError):
        return RateLimitError(
            sentence, status=error.status, request=error.request, retry_after=error.retry_after
        )
    return UnavailableError(sentence, retry_after=error.retry_after, ambiguous=error.ambiguous)


def _no_token(error: APIError) -> AuthenticationError:
    return AuthenticationError(
        f"Bandwidth gave no access token: {error.message}",
        status=error.status,
        type=error.type,
        description=error.description,
        request=error.request,
    )
