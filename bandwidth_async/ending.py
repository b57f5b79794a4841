"""Ending one conference for certain: what each response means, given what came before it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from attrs import evolve, frozen

from bandwidth_async import wire
from bandwidth_async.errors import (
    APIError,
    AuthenticationError,
    BandwidthError,
    ClientStateError,
    ConflictError,
    HangUpError,
    NotConfirmedError,
    NotFoundError,
    TransportError,
    UnavailableError,
    UnexpectedResponseError,
)
from bandwidth_async.models import Call, Conference
from bandwidth_async.outcome import Outcome, OutcomeKind, kind_of
from bandwidth_async.retry import pause_after
from bandwidth_async.updates import CallState, ConferenceStatus, UpdateCall, UpdateConference

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from bandwidth_async.operation import Channel, Operation, Options
    from bandwidth_async.retry import RetryPolicy
    from bandwidth_async.run import Stop, Target

T = TypeVar("T", Conference, Call)

_END = UpdateConference(status=ConferenceStatus.COMPLETED)
_HANG_UP = UpdateCall(state=CallState.COMPLETED)

# Seconds, shortest and longest: between readings that still show an active conference, and after a first and
# a second 409 about something that is still active.
_READ_PAUSES = ((0.5, 1.0), (1.0, 2.0), (2.0, 4.0))
_CONFLICT_PAUSES = ((0.5, 1.0), (0.5, 1.0))


@frozen(kw_only=True)
class EndSettings:
    """What ending a conference includes: ``verify`` reads it back, ``hang_up`` ends its calls too.

    ``note_calls`` is awaited with the calls before the conference is ended, if a journal is to know them.
    """

    verify: bool = False
    hang_up: bool = False
    note_calls: Callable[[Target, tuple[str, ...]], Awaitable[None]] | None = None


class Ender:
    """Ends conferences over a channel, and explains the responses."""

    def __init__(self, channel: Channel, account_id: str) -> None:
        self._channel = channel
        self._account_id = account_id

    async def end(
        self, target: Target, options: Options, how: EndSettings, stop: Stop | None = None
    ) -> Outcome:
        """Return ``ended`` or ``already_ended``, or raise what prevented it.

        ``ended`` needs a 204. ``already_ended`` says that the conference is over and that no response proves
        that this end did it. A 404 means that the conference has ended if it did exist, or if an earlier
        attempt may have ended it. Raises `NotFoundError` for any other 404.
        """
        # The parts are operations of their own: each of 20 calls is to have all its attempts, and after the
        # deadline `HangUpError` still names the calls that go on.
        started = self._channel.now()
        deadline = started + options.deadline
        attempts = 0
        if how.hang_up:
            async with self._channel.operation(options, stop, until=deadline) as operation:
                operation.attempts.ambiguous = target.ambiguous
                target = await self._with_calls(target, operation, how)
            attempts = operation.attempts.sent
        async with self._channel.operation(options, stop, until=deadline) as operation:
            operation.attempts.ambiguous = target.ambiguous
            kind = await self._end(target, operation, options.retry)
            if how.verify and kind is OutcomeKind.ENDED:
                # The server accepted the end, whatever the reading meets.
                operation.attempts.ambiguous = True
                await self._confirm(target.conference_id, operation)
        attempts += operation.attempts.sent
        if target.calls:
            attempts = await self._hang_up(target.calls, options, stop, deadline, attempts)
        elapsed = self._channel.now() - started
        return Outcome(target.conference_id, kind, attempts, None, elapsed, target.calls)

    async def end_in_run(self, options: Options, how: EndSettings, target: Target, stop: Stop) -> Outcome:
        """Do as `end`, and stop the whole run at what every further id would meet too."""
        try:
            return await self.end(target, options, how, stop)
        except BandwidthError as error:
            channel = self._channel
            unreachable = isinstance(error, TransportError) and channel.limiter.breaker.unreachable
            refused = isinstance(error, AuthenticationError) and channel.authorizer.is_blocked
            if unreachable or refused or _concerns_every_id(error, options.retry):
                stop.request(error)
            raise

    async def _end(self, target: Target, operation: Operation, policy: RetryPolicy) -> OutcomeKind:
        end = wire.update_conference(self._account_id, target.conference_id, _END)
        look = wire.get_conference(self._account_id, target.conference_id)
        try:
            ended = await self._complete(operation, policy, end, look)
        except NotFoundError:
            if not (target.existed or operation.attempts.ambiguous):
                raise
            ended = False
        return OutcomeKind.ENDED if ended else OutcomeKind.ALREADY_ENDED

    async def _with_calls(self, target: Target, operation: Operation, how: EndSettings) -> Target:
        """Return the target with its calls, which the server forgets once the conference has ended."""
        request = wire.get_conference(self._account_id, target.conference_id)
        try:
            found = await _read(operation, request)
        except NotFoundError:
            return evolve(target, existed=target.existed or bool(target.calls))
        if found.active and found.active_members is None:
            raise TransportError(f"{request.name}: the answer does not say who is in it, so nobody was ended")
        members = (member.call_id for member in found.active_members or ())
        calls = tuple(dict.fromkeys((*target.calls, *members)))
        if calls != target.calls and how.note_calls is not None:
            await how.note_calls(target, calls)
        return evolve(target, existed=True, calls=calls)

    async def _hang_up(
        self, calls: tuple[str, ...], options: Options, stop: Stop | None, deadline: float, attempts: int
    ) -> int:
        """End each call, and return ``attempts`` plus what that took. Raises `HangUpError`."""
        left: dict[str, BandwidthError] = {}
        for call_id in calls:
            try:
                async with self._channel.operation(options, stop, until=deadline) as operation:
                    await self._end_call(call_id, operation, options.retry)
                attempts += operation.attempts.sent
            except BandwidthError as error:
                attempts += error.attempts
                left[call_id] = error
        if left:
            why = next(iter(left.values()))
            names = ", ".join(wire.printable(call_id) for call_id in left)
            raise HangUpError(
                f"the conference has ended, but {len(left)} of its {len(calls)} calls go on "
                f"({names}): {why.message}",
                calls_ended=tuple(call_id for call_id in calls if call_id not in left),
                calls_left=tuple(left),
                lasting=all(kind_of(error) is OutcomeKind.REFUSED for error in left.values()),
                attempts=attempts,
            ) from why
        return attempts

    async def _end_call(self, call_id: str, operation: Operation, policy: RetryPolicy) -> None:
        """End one call. A call that is not found is over."""
        hang_up = wire.update_call(self._account_id, call_id, _HANG_UP)
        try:
            await self._complete(operation, policy, hang_up, wire.get_call(self._account_id, call_id))
        except NotFoundError:
            return

    async def _complete(
        self, operation: Operation, policy: RetryPolicy, change: wire.Request[None], look: wire.Request[T]
    ) -> bool:
        """Return True when ``change`` ended it, False when it is over and no response proves that.

        Only the documented success proves it. Where a response leaves open whether it is over, we look. If it
        is still active, no attempt has ended it. Then we change it again if that may help.
        """
        existed, conflicts = False, iter(_CONFLICT_PAUSES)
        while True:
            try:
                await operation.send(change)
            except NotFoundError:
                if not existed:
                    raise
                return False
            except (APIError, UnexpectedResponseError) as error:
                if not await self._is_active_after(error, operation, look):
                    return False
                existed = True
                pause = self._pause_after(error, operation, policy, conflicts)
            else:
                return True
            await asyncio.sleep(pause)

    async def _is_active_after(
        self, error: APIError | UnexpectedResponseError, operation: Operation, look: wire.Request[T]
    ) -> bool:
        """Return whether it is active after a response that leaves that open. Raises ``error`` for any other.

        A 409 and a success that is not documented leave it open. A lasting refusal does so only after an
        attempt that may have ended it. If the reading fails then, the refusal is what we know.
        """
        refused = isinstance(error, APIError) and not isinstance(error, ConflictError)
        if refused and not _leaves_open(error, operation):
            raise error
        try:
            over = await _is_over(operation, look)
        except BandwidthError as unread:
            if refused:
                raise error from unread
            raise
        if not over:
            operation.attempts.ambiguous = False
        return not over

    def _pause_after(
        self,
        error: APIError | UnexpectedResponseError,
        operation: Operation,
        policy: RetryPolicy,
        conflicts: Iterator[tuple[float, float]],
    ) -> float:
        """Return the seconds until the next try. Raises ``error`` if there is to be none."""
        if isinstance(error, ConflictError):
            pause = next(conflicts, None)
            if pause is not None:
                return self._channel.random.uniform(*pause)
        elif isinstance(error, UnexpectedResponseError) and not operation.attempts.are_spent(policy):
            return pause_after(error, operation.attempts, policy, self._channel.random)
        raise error

    async def _confirm(self, conference_id: str, operation: Operation) -> None:
        look = wire.get_conference(self._account_id, conference_id)
        for pause in (*_READ_PAUSES, None):
            if await _is_over(operation, look):
                return
            if pause is not None:
                await asyncio.sleep(self._channel.random.uniform(*pause))
        raise NotConfirmedError(
            f"the end of conference {conference_id} was accepted, but it still reads as active"
        )


async def _read(operation: Operation, look: wire.Request[T]) -> T:
    """Return what ``look`` asks about. Raises `UnexpectedResponseError` for an answer about anything else."""
    found = await operation.send(look)
    subject = _id_of(found)
    if subject != look.subject:
        raise UnexpectedResponseError(f"{look.name}: the answer is about {wire.printable(subject)[:80]}")
    return found


def _id_of(found: Conference | Call) -> str:
    return found.call_id if isinstance(found, Call) else found.id


async def _is_over(operation: Operation, look: wire.Request[T]) -> bool:
    try:
        return not (await _read(operation, look)).active
    except NotFoundError:
        return True


def _leaves_open(error: BandwidthError, operation: Operation) -> bool:
    """Return whether a refusal leaves open if it is over: it would come again, and earlier attempts count.

    Credentials that are refused do not read either.
    """
    if not isinstance(error, APIError) or isinstance(error, AuthenticationError):
        return False
    return operation.attempts.ambiguous and not error.transient


def _concerns_every_id(error: BandwidthError, policy: RetryPolicy) -> bool:
    if isinstance(error, APIError) and error.transient:
        return (error.retry_after or 0.0) > policy.longest_hint
    lasting = isinstance(error, TransportError) and error.lasting
    return lasting or isinstance(error, ClientStateError | UnavailableError)
