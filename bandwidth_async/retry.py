"""What is tried again, when, and how often: the rules as plain functions, carried out by tenacity.

Three questions are kept apart.

*May it be sent again?* depends on the error and on the request: ending a conference twice is harmless, but
its members would hear a redirect twice.

*When?* A request that was rate limited (429) has no pause of its own: it waits at the limiter like all
others. A request whose connection was found dead is sent again at once, one time. Everything else backs off
with full jitter.

*How often?* Refusals (429) and failures are counted apart, since a quota that is used up says nothing about
the server's health.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, NoReturn, TypeVar

from attrs import define, field, frozen
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from bandwidth_async.errors import (
    APIError,
    BandwidthError,
    DeadlineExceededError,
    RateLimitError,
    ServerError,
    TransportError,
    UnavailableError,
    UnexpectedResponseError,
)
from bandwidth_async.validators import at_least

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

T = TypeVar("T")

_log = logging.getLogger("bandwidth_async.retry")

# More doublings would only overflow.
_MOST_DOUBLINGS = 64


@frozen(kw_only=True)
class RetryPolicy:
    """How often an operation is tried, and how long it waits.

    ``attempts``
        Requests sent for an operation that meets transient failures (5xx, 408, no response), the first
        included.
    ``refusals``
        Refusals, such as a 429, that an operation accepts. They do not count as attempts. In a run, those
        that come while nothing at all is let in do not count.
    ``backoff_base``, ``backoff_cap``
        Seconds. The n-th pause is a random time up to ``base * 2**(n - 1)``, and never above the cap.
    ``longest_hint``
        Seconds. If the server asks for a longer wait, whatever the status, the operation fails at once, with
        the time on the error. A run stops as a whole then.
    ``outage``
        Seconds that a run waits for a server that always fails or always refuses, and for a token endpoint
        that gives no token, with a probe now and then; then the run stops. It waits for at most a minute if
        the server never gave a good response, a 429 included. Single operations do not wait.
    ``repeat_ambiguous``
        Also send again what must not happen twice (a redirect) when it may have happened already.

    Raises `ConfigurationError` for a number that cannot be right.
    """

    attempts: int = field(default=5, validator=at_least(1, "requests"))
    refusals: int = field(default=50, validator=at_least(1, "refusals"))
    backoff_base: float = field(default=0.1, validator=at_least(0, "seconds"))
    backoff_cap: float = field(default=5.0, validator=at_least(0, "seconds"))
    longest_hint: float = field(default=900.0, validator=at_least(0, "seconds"))
    outage: float = field(default=900.0, validator=at_least(0, "seconds"))
    repeat_ambiguous: bool = False


@define(eq=False)
class Attempts:
    """What the attempts of one operation have met so far, and until when there may be more.

    ``deadline`` is loop time. ``paced`` says that a refused request waits at the limiter, so that it needs no
    pause of its own. ``refused`` says that the next error to be noted is a refusal, whatever its class.
    ``excused`` says that the next failure or refusal to be noted is the server's, not this operation's.
    ``free`` says that the next attempt follows at once, and outside of the retry budget.
    ``sent_at`` is the loop time at which the latest attempt left, if that is known.
    """

    deadline: float = math.inf
    paced: bool = True
    sent: int = 0
    failures: int = 0
    refusals: int = 0
    ambiguous: bool = False
    refused: bool = False
    excused: bool = False
    free: bool = False
    stopped: bool = False
    last_error: BandwidthError | None = None
    sent_at: float | None = None
    _resent: bool = False

    def note(self, error: BandwidthError) -> None:
        """Count a failed attempt; a deadline that came is none."""
        if isinstance(error, DeadlineExceededError):
            return
        self.last_error = error
        self.ambiguous |= error.ambiguous
        self.free = False
        if self.paced and (self.refused or isinstance(error, RateLimitError)):
            self.refusals += not self.excused
            self.free = True
        elif isinstance(error, TransportError) and error.dropped and not self._resent:
            self._resent = self.free = True
        elif isinstance(error, TransportError) or (isinstance(error, APIError) and error.transient):
            self.failures += not self.excused

    def are_spent(self, policy: RetryPolicy) -> bool:
        """Return whether the policy, or a stop, allows no further attempt."""
        return self.stopped or self.failures >= policy.attempts or self.refusals >= policy.refusals


def may_repeat(error: BaseException, policy: RetryPolicy, *, idempotent: bool) -> bool:
    """Return whether the same request may be sent again after ``error``."""
    repeats = idempotent or policy.repeat_ambiguous
    match error:
        case BandwidthError(retry_after=float(hint)) if hint > policy.longest_hint:
            return False
        # After an unexpected success a reading tells whether it took effect.
        case TransportError(lasting=True) | UnavailableError() | UnexpectedResponseError(ambiguous=True):
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


def pause_after(error: BaseException, attempts: Attempts, policy: RetryPolicy, random: Random) -> float:
    """Return the seconds between ``error``, the last that the attempts met, and the next attempt."""
    if attempts.free:
        return 0.0
    doublings = min(max(attempts.failures, 1) - 1, _MOST_DOUBLINGS)
    backoff = random.uniform(0, min(policy.backoff_cap, policy.backoff_base * 2**doublings))
    hint = error.retry_after if isinstance(error, BandwidthError) else None
    return backoff + (hint or 0.0)


async def persist(
    attempt: Callable[[], Awaitable[T]],
    attempts: Attempts,
    policy: RetryPolicy,
    random: Random,
    *,
    idempotent: bool,
) -> T:
    """Call ``attempt`` until it succeeds or the rules say to give up. Its errors are noted in ``attempts``.

    Raises the last error then, or `DeadlineExceededError` where another attempt was allowed but the deadline
    comes before it.
    """
    try:
        return await attempt()
    except BandwidthError as error:
        attempts.note(error)
        if not may_repeat(error, policy, idempotent=idempotent):
            raise
        first = [error]

    # tenacity costs some 30 µs, half as much as all the rest of an end. So only an operation whose first
    # attempt failed enters it, and there that attempt fails once more.
    async def again() -> T:
        if first:
            raise first.pop()
        try:
            return await attempt()
        except BandwidthError as error:
            attempts.note(error)
            raise

    def is_over(state: RetryCallState) -> bool:
        # tenacity's own rule for deadlines reads another clock, and ignores the coming pause.
        next_attempt = asyncio.get_running_loop().time() + state.upcoming_sleep
        return next_attempt >= attempts.deadline or attempts.are_spent(policy)

    # A retrying object belongs to one operation: shared between tasks it mixes up their results.
    retrying = AsyncRetrying(
        retry=retry_if_exception(lambda error: may_repeat(error, policy, idempotent=idempotent)),
        stop=is_over,
        wait=lambda state: pause_after(_error_of(state), attempts, policy, random),
        sleep=asyncio.sleep,
        before_sleep=lambda state: _log_retry(state, attempts, policy),
        retry_error_callback=lambda state: _give_up(_error_of(state), attempts, policy),
    )
    result: T = await retrying(again)
    return result


def _give_up(error: BaseException, attempts: Attempts, policy: RetryPolicy) -> NoReturn:
    if attempts.are_spent(policy) or not isinstance(error, BandwidthError):
        raise error
    raise DeadlineExceededError(
        f"the deadline comes before the next attempt; the last attempt met: {error.message}",
        last_error=error,
        retry_after=error.retry_after,
    ) from error


def _error_of(state: RetryCallState) -> BaseException:
    error = state.outcome.exception() if state.outcome else None
    return error or RuntimeError("tenacity asked about an attempt that did not fail")


def _log_retry(state: RetryCallState, attempts: Attempts, policy: RetryPolicy) -> None:
    """Log an attempt that is followed by another, with the one time that it waits.

    A refused request waits at the limiter, which knows better than the server's hint when it is let in.
    """
    if not _log.isEnabledFor(logging.DEBUG):
        return
    error, pause = _error_of(state), state.upcoming_sleep
    met = error.message if isinstance(error, BandwidthError) else str(error)
    hint = error.retry_after if isinstance(error, BandwidthError) and attempts.free else None
    now = asyncio.get_running_loop().time()
    took = None if attempts.sent_at is None else now - attempts.sent_at
    latency = "" if took is None else f", {took:.3f} s"
    if hint is not None:
        then = f"the next in {hint:g} s or more, as the server asked"
    elif attempts.free and isinstance(error, RateLimitError):
        then = "the next when the limiter lets it"
    else:
        then = f"the next in {pause:.3f} s"
    number = attempts.sent or max(attempts.failures, 1)
    told = {"met": met, "took": took, "pause": hint or pause, "failures": attempts.failures}
    _log.debug("%s (attempt %d%s); %s", met, number, latency, then, extra={**told, "most": policy.attempts})
