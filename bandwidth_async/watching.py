"""Operations whose events a hook hears. Without a hook nothing of this is used, so that it costs nothing."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from bandwidth_async.errors import BandwidthError
from bandwidth_async.events import AttemptTimes, Watch, current, subject_of
from bandwidth_async.operation import Channel, Operation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from types import TracebackType

    import aiohttp
    from yarl import URL

    from bandwidth_async import wire
    from bandwidth_async.credentials import Token
    from bandwidth_async.limiter import Admission, Hook
    from bandwidth_async.outcome import Outcome
    from bandwidth_async.retry_after import Headers
    from bandwidth_async.run import End, Stop, Target

T = TypeVar("T")

_END = "end conference"


class WatchedChannel(Channel):
    """A channel that tells ``hook`` of its operations, their attempts, and the requests for tokens."""

    def __init__(self, hook: Hook, **settings: Any) -> None:
        super().__init__(**settings)
        self.hook: Hook = hook
        self.operation_type: type[Operation] = WatchedOperation
        self.voice_name: str = _name_of(self.voice.url)
        self._api_name = _name_of(self.api.url)
        self._fetch_watch: Watch | None = None

    async def end(self, end: Awaitable[Outcome], conference_id: str) -> Outcome:
        """Return what ``end`` does: one operation, whatever requests that takes."""
        watch = self.watch(conference_id, bulk=False)
        try:
            with _under_way(watch):
                outcome = await end
        except BaseException as error:
            watch.met(error)
            watch.end()
            raise
        watch.end_as(outcome.kind)
        return outcome

    def watch(self, conference_id: str, *, bulk: bool) -> Watch:
        """Begin the end of a conference."""
        return Watch(self.hook, self.now, _END, (conference_id, conference_id), bulk=bulk).begin()

    async def _fetch_token(self) -> Token:
        self._fetch_watch = None
        return await super()._fetch_token()

    async def fetch_token_once(self, request: wire.Request[Token]) -> Token:
        """Ask the token endpoint for a token, and tell of it."""
        watch = self._fetch_watch or Watch(self.hook, self.now, request.kind, ("", None), serial=0)
        self._fetch_watch = watch
        attempt = AttemptTimes(self.now(), self.now(), status=200)
        try:
            return await super().fetch_token_once(request)
        except BaseException as error:
            attempt.status, attempt.error = getattr(error, "status", None), type(error).__name__
            raise
        finally:
            watch.attempt_ended(request, self._api_name, attempt)


class WatchedOperation(Operation):
    """An operation that a `WatchedChannel` tells of, or a part of one."""

    _channel: WatchedChannel
    _watch: Watch | None = None
    _attempt_times: AttemptTimes

    async def send(
        self, request: wire.Request[T], receive: Callable[[T], Awaitable[None]] | None = None
    ) -> T:
        """Do as `Operation.send`. The first request names an operation that is no part of another."""
        if self._watch is None and current.get() is None:
            channel, bulk = self._channel, self.options.bulk
            watch = Watch(channel.hook, channel.now, request.kind, subject_of(request), bulk=bulk)
            self._watch = watch.begin()
        return await super().send(request, receive)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        met = error
        try:
            super().__exit__(kind, error, trace)
        except BaseException as raised:
            met = raised
            raise
        finally:
            if self._watch is not None:
                if met is not None:
                    self._watch.met(met)
                self._watch.end()

    async def _attempt(self, request: wire.Request[T], receive: Callable[[T], Awaitable[None]] | None) -> T:
        watch = self._watch or current.get()
        now, sent = self._channel.now(), self.attempts.sent
        self._attempt_times = attempt = AttemptTimes(now, now)
        try:
            return await super()._attempt(request, receive)
        except BaseException as error:
            attempt.error = "DeadlineExceededError" if self._limit.expired() else type(error).__name__
            raise
        finally:
            # Nothing was sent where the limiter raised, or where this machine kept it from leaving.
            if watch is not None and self.attempts.sent > sent:
                watch.attempt_ended(request, self._channel.voice_name, attempt)

    def _start(self, admission: Admission) -> aiohttp.ClientSession:
        session = super()._start(admission)
        self._attempt_times.sent_at = self._channel.now()
        return session

    def _tell_limiter(self, status: int, headers: Headers) -> wire.Later | None:
        self._attempt_times.status = status
        return super()._tell_limiter(status, headers)


class WatchedRun:
    """The operations of a run: one for each id, however often the run tries it."""

    def __init__(self, channel: WatchedChannel, end: End) -> None:
        self._channel = channel
        self._end = end
        self._open: dict[str, Watch] = {}

    async def end(self, target: Target, stop: Stop) -> Outcome:
        """End the conference of an id."""
        id_ = target.conference_id
        watch = self._open.get(id_)
        if watch is None:
            watch = self._open[id_] = self._channel.watch(id_, bulk=True)
        try:
            with _under_way(watch):
                return await self._end(target, stop)
        except BaseException as error:
            watch.met(error)
            if not isinstance(error, BandwidthError):
                # It ends the run, which has no outcome for this id.
                del self._open[id_]
                watch.end()
            raise

    def tell(self, outcome: Outcome) -> None:
        """Tell of an outcome, also of an id for which nothing was done."""
        id_ = outcome.conference_id
        watch = self._open.pop(id_, None) or Watch(
            self._channel.hook, self._channel.now, _END, (id_, id_), bulk=True
        )
        watch.end_as(outcome.kind, outcome.error)


@contextmanager
def _under_way(watch: Watch) -> Iterator[None]:
    """Let the requests that this task sends be those of ``watch``."""
    token = current.set(watch)
    try:
        yield
    finally:
        current.reset(token)


def _name_of(url: URL) -> str:
    return str(url).rstrip("/")
