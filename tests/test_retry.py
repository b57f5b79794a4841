"""Retries: which errors are retried, when and how often, tested in virtual time."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from random import Random

import pytest
from attrs import field, frozen, mutable
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    BandwidthError,
    CertificateError,
    ClientStateError,
    ConfigurationError,
    ConflictError,
    DeadlineExceededError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    TransportError,
)
from bandwidth_async.retry import Attempts, RetryPolicy, may_repeat, pause_after, persist

POLICY = RetryPolicy()
TICK = 1e-5

virtual_time = pytest.mark.looptime(noop_cycles=2)


def refused(hint: float | None = None) -> RateLimitError:
    """Return a 429."""
    return RateLimitError("429", status=429, retry_after=hint)


def failed(status: int = 500, hint: float | None = None, *, ambiguous: bool = False) -> ServerError:
    """Return a 5xx."""
    return ServerError(str(status), status=status, retry_after=hint, ambiguous=ambiguous)


def dropped(*, ambiguous: bool = True) -> TransportError:
    """Return the error for a kept connection that the server has closed."""
    return TransportError("closed", dropped=True, ambiguous=ambiguous)


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


@mutable
class Server:
    """An attempt that raises the given errors one by one and then succeeds. It records its times."""

    errors: list[BaseException]
    latency: float = 0.0
    moments: list[float] = field(factory=list)

    async def __call__(self) -> str:
        """Make the next attempt."""
        self.moments.append(now())
        await asyncio.sleep(self.latency)
        if self.errors:
            raise self.errors.pop(0)
        return "done"


class NoPause(Random):
    """Jitter that is always the shortest, so that only hints take time."""

    def uniform(self, a: float, b: float) -> float:
        """Return the lower end."""
        return a


class FullPause(Random):
    """Jitter that is always the longest."""

    def uniform(self, a: float, b: float) -> float:
        """Return the upper end."""
        return b


async def with_retries(
    server: Callable[[], Awaitable[str]],
    *,
    attempts: Attempts | None = None,
    policy: RetryPolicy = POLICY,
    random: Random | None = None,
    idempotent: bool = True,
) -> str:
    """Call ``persist`` with defaults."""
    return await persist(server, attempts or Attempts(), policy, random or NoPause(), idempotent=idempotent)


# Which errors are retried


@frozen
class Row:
    """An error, and whether it is retried: if idempotent, if not, and if not but with the opt-in."""

    error: BaseException
    idempotent: bool
    otherwise: bool
    opted_in: bool


ROWS = {
    "429": Row(refused(), True, True, True),
    "429 with a hint": Row(refused(30.0), True, True, True),
    "429 with the longest hint": Row(refused(900.0), True, True, True),
    "429 with too long a hint": Row(refused(900.1), False, False, False),
    "408": Row(APIError(status=408), True, True, True),
    "500": Row(failed(500, ambiguous=True), True, False, True),
    "500 with a hint": Row(failed(500, 1.0, ambiguous=True), True, False, True),
    "502": Row(failed(502, ambiguous=True), True, False, True),
    "504": Row(failed(504, ambiguous=True), True, False, True),
    "503": Row(failed(503), True, False, True),
    "503 with a hint": Row(failed(503, 1.0), True, True, True),
    "503 with too long a hint": Row(failed(503, 3600.0), False, False, False),
    "501": Row(failed(501), False, False, False),
    "505": Row(failed(505), False, False, False),
    "302": Row(APIError(status=302), False, False, False),
    "400": Row(BadRequestError(status=400), False, False, False),
    "401": Row(AuthenticationError(status=401), False, False, False),
    "403": Row(PermissionDeniedError(status=403), False, False, False),
    "404": Row(NotFoundError(status=404), False, False, False),
    "405": Row(APIError(status=405), False, False, False),
    "409": Row(ConflictError(status=409), False, False, False),
    "415": Row(APIError(status=415), False, False, False),
    "never sent": Row(TransportError("refused"), True, True, True),
    "cut": Row(TransportError("cut", ambiguous=True), True, False, True),
    "dropped": Row(dropped(), True, False, True),
    "certificate": Row(CertificateError("expired"), False, False, False),
    "deadline": Row(DeadlineExceededError("late"), False, False, False),
    "configuration": Row(ConfigurationError("wrong"), False, False, False),
    "client state": Row(ClientStateError("closed"), False, False, False),
    "cancelled": Row(asyncio.CancelledError(), False, False, False),
    "a bug": Row(KeyError("x"), False, False, False),
    "foreign timeout": Row(TimeoutError(), False, False, False),
    "keyboard": Row(KeyboardInterrupt(), False, False, False),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_may_it_be_repeated(row: Row) -> None:
    """Each error is retried as the table says. An ambiguous redirect is retried only by choice."""
    answer = Row(
        row.error,
        may_repeat(row.error, POLICY, idempotent=True),
        may_repeat(row.error, POLICY, idempotent=False),
        may_repeat(row.error, RetryPolicy(repeat_ambiguous=True), idempotent=False),
    )
    assert answer == row


# When retries are made


@given(
    failures=st.integers(1, 60),
    base=st.floats(0, 10),
    cap=st.floats(0, 100),
    hint=st.none() | st.floats(0, 900),
    seed=st.integers(),
)
def test_the_pause_is_full_jitter_on_top_of_the_hint(
    failures: int, base: float, cap: float, hint: float | None, seed: int
) -> None:
    """The pause is the server's hint plus a random time from 0 to base * 2**(n - 1), at most the cap."""
    policy = RetryPolicy(backoff_base=base, backoff_cap=cap)
    error = failed(503, hint)
    attempts = Attempts(failures=failures, last_error=error)
    pause = pause_after(error, attempts, policy, Random(seed))
    low, high = hint or 0.0, (hint or 0.0) + min(cap, base * 2 ** (failures - 1))
    assert low <= pause <= high
    assert pause == pause_after(error, attempts, policy, Random(seed))
    assert pause_after(error, attempts, policy, FullPause()) == high
    assert pause_after(error, attempts, policy, NoPause()) == low


def test_the_jitter_fills_its_range() -> None:
    """With full jitter, pauses are spread over the whole range, not around its middle."""
    random, attempts = Random(1), Attempts(failures=4)
    pauses = sorted(pause_after(failed(), attempts, POLICY, random) for _ in range(1000))
    assert (round(pauses[0], 1), round(pauses[500], 1), round(pauses[-1], 1)) == (0.0, 0.4, 0.8)


@pytest.mark.parametrize("error", [refused(), refused(5.0), dropped()])
def test_what_is_free_has_no_pause(error: BandwidthError) -> None:
    """There is no pause after a 429, for which the limiter waits, or after a dead connection."""
    attempts = Attempts()
    attempts.note(error)
    assert (attempts.free, attempts.failures) == (True, 0)
    assert pause_after(error, attempts, POLICY, FullPause()) == 0.0


def test_after_a_thousand_failures_the_pause_is_the_cap() -> None:
    """The pause is the cap even after thousands of failures."""
    assert pause_after(failed(), Attempts(failures=5000), POLICY, FullPause()) == POLICY.backoff_cap


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("attempts", 0),
        ("refusals", 0),
        ("backoff_base", -0.1),
        ("backoff_cap", -1.0),
        ("longest_hint", -1.0),
        ("backoff_cap", math.nan),
    ],
)
def test_a_policy_that_cannot_work_is_refused(setting: str, value: float) -> None:
    """The message names the setting and the value."""
    with pytest.raises(ConfigurationError, match=f"{setting} is a number of .*, at least .*, not {value}"):
        RetryPolicy(**{setting: value})  # type: ignore[arg-type]  # wrong on purpose


# How often


@virtual_time
async def test_attempts_counts_the_first_one() -> None:
    """Five attempts are five requests. The last error is raised unchanged."""
    last = failed(502, ambiguous=True)
    server = Server([*(failed() for _ in range(4)), last])
    with pytest.raises(ServerError) as caught:
        await with_retries(server, random=FullPause())
    assert caught.value is last
    assert server.moments == pytest.approx([0, 0.1, 0.3, 0.7, 1.5], abs=TICK)


@virtual_time
async def test_the_last_attempt_may_succeed() -> None:
    """After four failures the fifth attempt can succeed."""
    server = Server([failed() for _ in range(4)])
    assert await with_retries(server) == "done"
    assert len(server.moments) == 5


@virtual_time
async def test_one_attempt_means_no_retry() -> None:
    """``attempts=1`` turns retrying off."""
    server = Server([failed()])
    with pytest.raises(ServerError):
        await with_retries(server, policy=RetryPolicy(attempts=1))
    assert len(server.moments) == 1


@virtual_time
async def test_refusals_are_not_charged_to_the_attempts() -> None:
    """A 429 does not count as a failed attempt, so forty 429s and four failures still end in success."""
    errors: list[BaseException] = []
    for _ in range(4):
        errors += [refused(), refused(5.0), *(refused() for _ in range(8)), failed()]
    server = Server(errors)
    attempts = Attempts()
    assert await with_retries(server, attempts=attempts) == "done"
    assert (attempts.refusals, attempts.failures, len(server.moments)) == (40, 4, 45)
    assert now() < TICK


@virtual_time
async def test_fifty_refusals_are_enough() -> None:
    """An operation raises its fiftieth 429."""
    server = Server([refused() for _ in range(60)])
    with pytest.raises(RateLimitError):
        await with_retries(server)
    assert len(server.moments) == 50


@virtual_time
async def test_refusals_by_a_server_that_is_not_paced_are_failures() -> None:
    """Without a limiter, as at the token endpoint, a 429 counts as a failure and its hint is waited for."""
    server = Server([refused(2.0), refused(3.0)])
    attempts = Attempts(paced=False)
    assert await with_retries(server, attempts=attempts, random=FullPause()) == "done"
    assert server.moments == pytest.approx([0, 2.1, 5.3], abs=TICK)
    assert (attempts.refusals, attempts.failures) == (0, 2)


@virtual_time
async def test_a_dead_connection_is_replaced_at_once_and_once() -> None:
    """The first dropped connection costs no time and no attempt. The next ones count as failures."""
    server = Server([dropped(), dropped(), dropped()])
    attempts = Attempts()
    assert await with_retries(server, attempts=attempts, random=FullPause()) == "done"
    assert server.moments == pytest.approx([0, 0, 0.1, 0.3], abs=TICK)
    assert (attempts.failures, attempts._resent, attempts.ambiguous) == (2, True, True)


@virtual_time
async def test_a_503_with_a_hint_is_waited_for() -> None:
    """The operation waits for the hint of a 503 before its retry."""
    server = Server([failed(503, 7.0)])
    assert await with_retries(server) == "done"
    assert server.moments == pytest.approx([0, 7.0], abs=TICK)


@pytest.mark.parametrize("error", [refused(3600.0), failed(503, 3600.0)])
@virtual_time
async def test_an_hour_is_not_slept(error: BandwidthError) -> None:
    """A hint longer than ``longest_hint`` raises the error at once, with the hint on it."""
    server = Server([error])
    with pytest.raises(APIError) as caught:
        await with_retries(server)
    assert (caught.value.retry_after, now(), len(server.moments)) == (3600.0, 0.0, 1)


@virtual_time
async def test_what_may_have_happened_is_not_repeated_unless_chosen() -> None:
    """A redirect that may have arrived is retried only with ``repeat_ambiguous``."""
    with pytest.raises(TransportError):
        await with_retries(Server([dropped()]), idempotent=False)
    server = Server([dropped()])
    chosen = RetryPolicy(repeat_ambiguous=True)
    assert await with_retries(server, idempotent=False, policy=chosen) == "done"


@virtual_time
async def test_an_ambiguous_redirect_after_a_refusal_stands() -> None:
    """Each failure is judged by itself, so an ambiguous one after retries still ends the operation."""
    server = Server([refused(), dropped(ambiguous=False), TransportError("cut", ambiguous=True)])
    with pytest.raises(TransportError, match="cut"):
        await with_retries(server, idempotent=False)
    assert len(server.moments) == 3


@virtual_time
async def test_for_ever_is_possible() -> None:
    """A thousand retries and more do not break the engine."""
    server = Server([failed() for _ in range(1500)])
    policy = RetryPolicy(attempts=1_000_000, backoff_cap=0.001)
    assert await with_retries(server, policy=policy, random=Random(1)) == "done"


# The deadline


@virtual_time
async def test_no_sleep_beyond_the_deadline() -> None:
    """If the next attempt would be past the deadline, the operation ends at once."""
    last = failed(503, 20.0)
    server = Server([failed(503, 5.0), last])
    with pytest.raises(
        DeadlineExceededError, match="before the next attempt; the last attempt met: 503"
    ) as e:
        await with_retries(server, attempts=Attempts(deadline=12.0))
    assert (e.value.last_error, e.value.retry_after, e.value.__cause__) == (last, 20.0, last)
    assert now() == pytest.approx(5.0, abs=TICK)


@pytest.mark.parametrize(("deadline", "attempts"), [(5.0, 1), (5.1, 2)])
@virtual_time
async def test_an_attempt_at_the_deadline_is_too_late(deadline: float, attempts: int) -> None:
    """No attempt begins at the very moment of the deadline."""
    server = Server([failed(503, 5.0), NotFoundError("404", status=404)])
    with pytest.raises(BandwidthError):
        await with_retries(server, attempts=Attempts(deadline=deadline))
    assert len(server.moments) == attempts


@virtual_time
async def test_the_last_attempt_s_error_is_raised_as_it_is_even_near_the_deadline() -> None:
    """An operation with no attempts left raises its last error, not a deadline error."""
    server = Server([failed(503, 50.0)])
    with pytest.raises(ServerError):
        await with_retries(server, attempts=Attempts(deadline=10.0), policy=RetryPolicy(attempts=1))


@virtual_time
async def test_a_permanent_error_is_raised_as_it_is() -> None:
    """A permanent error is raised unchanged, at the first attempt or later."""
    for errors in ([NotFoundError("404")], [failed(), NotFoundError("404")]):
        with pytest.raises(NotFoundError):
            await with_retries(Server(list(errors)))


@virtual_time
async def test_a_bug_in_an_attempt_is_not_hidden() -> None:
    """An exception that is not a BandwidthError is neither counted nor retried."""
    for errors in ([KeyError("x")], [failed(), KeyError("x")]):
        attempts = Attempts()
        with pytest.raises(KeyError):
            await with_retries(Server(list(errors)), attempts=attempts)
        assert attempts.failures == len(errors) - 1


# Cancellation and stops


@pytest.mark.parametrize("moment", [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.9])
@virtual_time
async def test_a_cancellation_passes_untouched(moment: float) -> None:
    """After a cancellation, in an attempt or a pause, nothing is sent and nothing is counted."""
    server = Server([failed(503, 1.0), refused(), failed(503, 0.5)], latency=0.6)
    attempts = Attempts()
    task = asyncio.create_task(with_retries(server, attempts=attempts))
    await asyncio.sleep(moment)
    sent, noted = len(server.moments), attempts.failures + attempts.refusals
    task.cancel("mine")
    with pytest.raises(asyncio.CancelledError, match="mine"):
        await task
    await asyncio.sleep(10)
    assert (len(server.moments), attempts.failures + attempts.refusals) == (sent, noted)


@virtual_time
async def test_an_attempt_that_is_cancelled_inside_is_not_repeated() -> None:
    """tenacity catches BaseException. A CancelledError must pass through it."""
    server = Server([failed(), asyncio.CancelledError("inner")])
    with pytest.raises(asyncio.CancelledError, match="inner"):
        await with_retries(server)
    assert len(server.moments) == 2


@virtual_time
async def test_after_a_stop_nothing_is_repeated() -> None:
    """After a stop there is no retry. The error of the attempt in flight is raised."""
    attempts = Attempts()
    server = Server([failed()], latency=1.0)
    task = asyncio.create_task(with_retries(server, attempts=attempts))
    await asyncio.sleep(0.5)
    attempts.stopped = True
    with pytest.raises(ServerError):
        await task
    assert (len(server.moments), attempts.are_spent(POLICY)) == (1, True)


# Concurrency


@virtual_time
async def test_three_hundred_calls_at_once_each_get_their_own_result() -> None:
    """Tasks share no retrying object. Otherwise their results could be mixed up."""
    random = Random(3)

    async def one(number: int) -> int:
        left = [
            random.choice([failed(503, 0.1), failed(), refused(), dropped(), TransportError("refused")])
            for _ in range(random.randrange(5))
        ]
        if number % 7 == 0:
            left.append(NotFoundError(str(number)))

        async def attempt() -> int:
            await asyncio.sleep(random.random())
            if left:
                raise left.pop(0)
            return number

        return await persist(attempt, Attempts(), POLICY, random, idempotent=True)

    results = await asyncio.gather(*(one(number) for number in range(300)), return_exceptions=True)
    for number, result in enumerate(results):
        if number % 7 == 0:
            assert isinstance(result, NotFoundError)
            assert result.message == str(number)
        else:
            assert result == number


@virtual_time
async def test_retries_are_logged_for_debugging(caplog: pytest.LogCaptureFixture) -> None:
    """A debug record has the attempt, its reason, and the one time until the next."""
    caplog.set_level(logging.DEBUG, logger="bandwidth_async")
    await with_retries(Server([failed(503, 2.0)]))
    assert caplog.messages == ["503 (attempt 1); the next in 2.000 s"]
