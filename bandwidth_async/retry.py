"""What is tried again, when, and for how long: the rules as plain functions, tenacity as their engine.

Three questions are kept apart. *May it be repeated?* depends on the error and on the operation: ending a
conference twice is harmless, redirecting it twice is heard twice. *When?* A refused request (429) has no
pause of its own, it waits at the limiter like everybody else; a connection that was found dead is used
again at once, once; everything else backs off with full jitter. *How often?* Refusals and failures have
counts of their own, since a quota that is used up says nothing about the server's health.

A retrying object of tenacity belongs to one call: shared between tasks it mixes up their results.
"""

from __future__ import annotations

import asyncio
import logging
import math
from functools import partial
from typing import TYPE_CHECKING, NoReturn, Protocol, TypeVar

from attrs import define, field, frozen
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from bandwidth_async.errors import (
    APIError,
    BandwidthError,
    CertificateError,
    DeadlineExceededError,
    RateLimitError,
    ServerError,
    TransportError,
    UnavailableError,
)
from bandwidth_async.validators import at_least

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

T = TypeVar("T")

_log = logging.getLogger("bandwidth_async.retry")


@frozen(kw_only=True)
class RetryPolicy:
    """How stubborn a call is.

    ``attempts``
        Requests sent for a call that meets transient failures (5xx, 408, no answer), the first included.
    ``refusals``
        Answers 429 that a call puts up with. They are not counted as attempts.
    ``backoff_base``, ``backoff_cap``
        The n-th pause is a random time up to ``base * 2**(n - 1)`` seconds, and never above the cap.
    ``longest_hint``
        Seconds; a server that asks for a longer wait makes the call fail at once, with the time on the error.
    ``outage``
        Seconds that a run waits for a server that has begun to fail always, trying it now and then; then the
        run stops. One that never gave a good answer is waited for by a minute at most. Single calls do not
        wait for it at all.
    ``repeat_ambiguous``
        Also repeat what must not happen twice (a redirect) when it may have happened already.
    """

    attempts: int = field(default=5, validator=at_least(1, "requests"))
    refusals: int = field(default=50, validator=at_least(1, "refusals"))
    backoff_base: float = field(default=0.1, validator=at_least(0, "seconds"))
    backoff_cap: float = field(default=5.0, validator=at_least(0, "seconds"))
    longest_hint: float = field(default=900.0, validator=at_least(0, "seconds"))
    outage: float = field(default=900.0, validator=at_least(0, "seconds"))
    repeat_ambiguous: bool = False


class Limit(Protocol):
    """What bounds a call, and can be moved while it lasts: an `http.Timeout` or an `asyncio.Timeout`."""

    def when(self) -> float | None:
        """Return the moment, in loop time."""

    def expired(self) -> bool:
        """Say whether it has come."""

    def reschedule(self, when: float | None) -> None:
        """Move it, or take it away."""


@define(eq=False)
class Trial:
    """What one call has been through so far. Changed only by the call's own task and by `stop`."""

    deadline: float = math.inf  # loop time
    limit: Limit | None = None  # runs out at the deadline, or when the run stops
    attempts: int = 0
    failures: int = 0
    refusals: int = 0
    paced: bool = True  # a refusal is waited for at the limiter
    place: int | None = None  # in the order of arrival there, once it was refused
    resent: bool = False  # after a connection that was found dead
    free: bool = False  # the last failure calls for no pause of its own
    excused: bool = False  # the last failure is the server's, not this call's
    repeats: bool = False  # the next attempt repeats the same request
    ambiguous: bool = False
    in_flight: bool = False
    stopping: bool = False
    last_error: BandwidthError | None = None
    authorization: str = field(default="", repr=False)  # as the last attempt showed it

    def sending(self, *, safe: bool) -> _Sending:
        """Be in flight; a cancellation then leaves open whether the request took effect."""
        return _Sending(self, safe)

    def note(self, error: BandwidthError) -> None:
        """Count a failed attempt."""
        self.last_error = error
        self.repeats = True
        self.ambiguous |= error.ambiguous
        self.free = False
        if self.paced and isinstance(error, RateLimitError):
            self.refusals += 1
            self.free = True
        elif isinstance(error, TransportError) and error.dropped and not self.resent:
            self.resent = self.free = True
        elif isinstance(error, TransportError) or (isinstance(error, APIError) and error.transient):
            self.failures += not self.excused

    def check(self) -> None:
        """Raise `DeadlineExceededError` when nothing more is to be sent."""
        if self.stopping:
            raise DeadlineExceededError("the run was stopped", last_error=self.last_error)

    def stop(self, grace: float) -> None:
        """Send nothing more; what is in flight has ``grace`` seconds, what waits has none."""
        self.stopping = True
        if self.limit is not None and not self.limit.expired():
            now = asyncio.get_running_loop().time()
            at = now + (grace if self.in_flight else 0.0)
            self.limit.reschedule(min(at, self.limit.when() or math.inf))


class _Sending:
    """One attempt in flight, as a context. A class: a generator takes 2 µs more."""

    __slots__ = ("_safe", "_trial")

    def __init__(self, trial: Trial, safe: bool) -> None:
        self._trial = trial
        self._safe = safe

    def __enter__(self) -> None:
        self._trial.attempts += 1
        self._trial.in_flight = True

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._trial.in_flight = False
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            self._trial.ambiguous |= not self._safe


def may_repeat(error: BaseException, policy: RetryPolicy, *, idempotent: bool) -> bool:
    """Say whether the same request may be sent again after ``error``."""
    repeats = idempotent or policy.repeat_ambiguous
    match error:
        case BandwidthError(retry_after=float(hint)) if hint > policy.longest_hint:
            return False
        case CertificateError() | UnavailableError():
            return False
        case TransportError():
            return repeats or not error.ambiguous
        case ServerError():
            told_when = error.status == 503 and error.retry_after is not None
            return error.transient and (repeats or told_when)
        case APIError():
            return error.transient
        case _:
            return False


def pause_before_next(error: BaseException, trial: Trial, policy: RetryPolicy, random: Random) -> float:
    """Return the seconds to wait after ``error``, the trial's last, before the next attempt."""
    if trial.free:
        return 0.0
    doublings = min(max(trial.failures, 1) - 1, 64)  # more would only overflow
    backoff = random.uniform(0, min(policy.backoff_cap, policy.backoff_base * 2**doublings))
    hint = error.retry_after if isinstance(error, BandwidthError) else None
    return backoff + (hint or 0.0)


def is_spent(trial: Trial, policy: RetryPolicy) -> bool:
    """Say whether the call has had all its tries."""
    return trial.stopping or trial.failures >= policy.attempts or trial.refusals >= policy.refusals


class _Pause(wait_base):
    def __init__(self, trial: Trial, policy: RetryPolicy, random: Random) -> None:
        self._known = trial, policy, random

    def __call__(self, retry_state: RetryCallState) -> float:
        return pause_before_next(_error_of(retry_state), *self._known)


class _Spent(stop_base):
    def __init__(self, trial: Trial, policy: RetryPolicy) -> None:
        self._known = trial, policy

    def __call__(self, retry_state: RetryCallState) -> bool:
        return is_spent(*self._known)


class _PastDeadline(stop_base):
    """Stops before a pause that would end after the deadline; tenacity's own rule reads another clock."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial

    def __call__(self, retry_state: RetryCallState) -> bool:
        now = asyncio.get_running_loop().time()
        return now + retry_state.upcoming_sleep >= self._trial.deadline


async def persist(
    attempt: Callable[[], Awaitable[T]],
    trial: Trial,
    policy: RetryPolicy,
    random: Random,
    *,
    idempotent: bool,
) -> T:
    """Call ``attempt`` until it succeeds or the rules say to give up; then its last error is raised.

    Raises `DeadlineExceededError` where another attempt was due but the deadline is nearer.
    """
    try:
        return await _noted(attempt, trial)
    except BandwidthError as error:
        if not may_repeat(error, policy, idempotent=idempotent):
            raise
        failed = [error]
    # tenacity costs some 30 µs, half as much as all the rest of a call, so only calls that fail enter it.
    retrying = AsyncRetrying(
        retry=retry_if_exception(partial(may_repeat, policy=policy, idempotent=idempotent)),
        stop=_Spent(trial, policy) | _PastDeadline(trial),
        wait=_Pause(trial, policy, random),
        sleep=asyncio.sleep,
        before_sleep=_log_retry,
        retry_error_callback=partial(_give_up, trial, policy),
    )
    result: T = await retrying(_again, failed, attempt, trial)
    return result


async def _again(failed: list[BandwidthError], attempt: Callable[[], Awaitable[T]], trial: Trial) -> T:
    """Fail as the call has failed already, which tenacity is to see; after that, attempt."""
    if failed:
        raise failed.pop()
    return await _noted(attempt, trial)


async def _noted(attempt: Callable[[], Awaitable[T]], trial: Trial) -> T:
    try:
        return await attempt()
    except DeadlineExceededError:
        raise
    except BandwidthError as error:
        trial.note(error)
        raise


def _give_up(trial: Trial, policy: RetryPolicy, retry_state: RetryCallState) -> NoReturn:
    error = _error_of(retry_state)
    if is_spent(trial, policy) or not isinstance(error, BandwidthError):
        raise error
    raise DeadlineExceededError(
        f"the deadline is nearer than the next attempt; the last one met: {error.message}",
        last_error=error,
        retry_after=error.retry_after,
    ) from error


def _error_of(retry_state: RetryCallState) -> BaseException:
    error = retry_state.outcome.exception() if retry_state.outcome else None
    return error or RuntimeError("tenacity asked about an attempt that did not fail")


def _log_retry(retry_state: RetryCallState) -> None:
    _log.debug("again in %.3f s after: %s", retry_state.upcoming_sleep, _error_of(retry_state))
