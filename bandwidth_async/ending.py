"""Ending one conference for certain: what each response means, given what came before it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from attrs import frozen

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
        self, options: Options, how: EndSettings, target: Target, stop: Stop | None = None
    ) -> Outcome:
        """Return ``ended`` or ``already_ended``, or raise what prevented it.

        ``ended`` needs a 204. ``already_ended`` says that the conference is over and that no response proves
        that this end did it. A 404 means that the conference has ended if it did exist, or if an earlier
        attempt may have ended it. Raises `NotFoundError` for any other 404. What every further id would meet
        too requests the stop.
        """
        # The parts are operations of their own: each of 20 calls is to have all its attempts, and after the
        # deadline `HangUpError` still names the calls that go on.
        started, attempts = self._channel.now(), 0
        try:
            operation = self._channel.operation(options, stop)
            if how.hang_up:
                with operation:
                    await self._find_calls(target, operation, how)
                attempts = operation.attempts.sent
                operation = operation.sibling()
            with operation:
                operation.attempts.ambiguous = target.ambiguous
                end = wire.update_conference(self._account_id, target.conference_id, _END)
                ended = await self._complete(operation, end, wire.get_conference, existed=target.existed)
                if how.verify and ended:
                    await self._confirm(operation, target.conference_id)
            attempts += operation.attempts.sent
            if target.calls:
                attempts += await self._hang_up(target.calls, operation)
        except BandwidthError as error:
            # It knows the attempts of its own part.
            error.attempts += attempts
            if stop is not None and self._concerns_every_id(error, options.retry):
                stop.request(error)
            raise
        kind = OutcomeKind.ENDED if ended else OutcomeKind.ALREADY_ENDED
        elapsed = self._channel.now() - started
        return Outcome(target.conference_id, kind, attempts, None, elapsed, target.calls)

    def _concerns_every_id(self, error: BandwidthError, policy: RetryPolicy) -> bool:
        """Return whether every further id of a run would meet this error too."""
        match error:
            case TransportError() if error.lasting or self._channel.limiter.breaker.unreachable:
                return True
            case AuthenticationError() if self._channel.authorizer.is_blocked:
                return True
            case APIError() if error.transient:
                return (error.retry_after or 0.0) > policy.longest_hint
        return isinstance(error, ClientStateError | UnavailableError)

    async def _find_calls(self, target: Target, operation: Operation, how: EndSettings) -> None:
        """Note the calls in the target. The server forgets them once the conference has ended."""
        operation.attempts.ambiguous = target.ambiguous
        request = wire.get_conference(self._account_id, target.conference_id)
        try:
            found = await _read(operation, request)
        except NotFoundError:
            target.existed = target.existed or bool(target.calls)
            return
        if found.active and found.active_members is None:
            raise TransportError(f"{request.name}: the answer does not say who is in it, so nobody was ended")
        members = (member.call_id for member in found.active_members or ())
        calls = tuple(dict.fromkeys((*target.calls, *members)))
        if calls != target.calls and how.note_calls is not None:
            await how.note_calls(target, calls)
        target.existed, target.calls = True, calls

    async def _hang_up(self, calls: tuple[str, ...], end: Operation) -> int:
        """End each call by the deadline of ``end``, and return the attempts. Raises `HangUpError`."""
        attempts, left = 0, dict[str, BandwidthError]()
        for call_id in calls:
            try:
                hang_up = wire.update_call(self._account_id, call_id, _HANG_UP)
                with end.sibling() as operation:
                    # A call that is not found is over. But Bandwidth documents that a call which goes on may
                    # not be readable for some minutes.
                    await self._complete(operation, hang_up, wire.get_call, existed=True, lags=True)
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

    async def _complete(
        self,
        operation: Operation,
        change: wire.Request[None],
        look: Callable[[str, str], wire.Request[T]],
        *,
        existed: bool,
        lags: bool = False,
    ) -> bool:
        """Return True when ``change`` ended it, False when it is over and no response proves that.

        Only the documented success proves it. A 404 says that it is over if it ``existed``, or if an earlier
        attempt may have ended it. Where a response leaves open whether it is over, we look. If it is still
        active, no attempt has ended it. Then we change it again if that may help. With ``lags`` a reading may
        not find yet what is active.
        """
        conflicts = iter(_CONFLICT_PAUSES)
        while True:
            try:
                await operation.send(change)
            except NotFoundError:
                if not (existed or operation.attempts.ambiguous):
                    raise
                return False
            except (APIError, UnexpectedResponseError) as error:
                reading = look(self._account_id, change.subject)
                if not await self._is_active_after(error, operation, reading, lags=lags):
                    return False
                existed = True
                pause = self._pause_after(error, operation, conflicts)
            else:
                return True
            await asyncio.sleep(pause)

    async def _is_active_after(
        self,
        error: APIError | UnexpectedResponseError,
        operation: Operation,
        look: wire.Request[T],
        *,
        lags: bool,
    ) -> bool:
        """Return whether it is active after a response that leaves that open. Raises ``error`` for any other.

        A 409 and a success that is not documented leave it open. A lasting refusal does so only after an
        attempt that may have ended it. If the reading fails then, the refusal is what we know.
        """
        conflict = isinstance(error, ConflictError)
        refused = isinstance(error, APIError) and not conflict
        if refused and not _leaves_open(error, operation):
            raise error
        try:
            # A 409 is documented for what has just ended.
            over = await _is_over(operation, look, missing=conflict or not lags)
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
        conflicts: Iterator[tuple[float, float]],
    ) -> float:
        """Return the seconds until the next try. Raises ``error`` if there is to be none."""
        policy = operation.options.retry
        if isinstance(error, ConflictError):
            pause = next(conflicts, None)
            if pause is not None:
                return self._channel.random.uniform(*pause)
        elif isinstance(error, UnexpectedResponseError) and not operation.attempts.are_spent(policy):
            return pause_after(error, operation.attempts, policy, self._channel.random)
        raise error

    async def _confirm(self, operation: Operation, conference_id: str) -> None:
        """Return once a conference whose end was accepted reads as over. Raises `NotConfirmedError`."""
        look = wire.get_conference(self._account_id, conference_id)
        # The server accepted the end, whatever the reading meets.
        operation.attempts.ambiguous = True
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


async def _is_over(operation: Operation, look: wire.Request[T], *, missing: bool = True) -> bool:
    """Return whether it is over. ``missing`` says whether a 404 proves that."""
    try:
        return not (await _read(operation, look)).active
    except NotFoundError as unread:
        if not missing:
            raise UnexpectedResponseError(f"{look.name}: it cannot be read, perhaps not yet") from unread
        return True


def _leaves_open(error: BandwidthError, operation: Operation) -> bool:
    """Return whether a refusal leaves open if it is over: it would come again, and earlier attempts count.

    Credentials that are refused do not read either.
    """
    if not isinstance(error, APIError) or isinstance(error, AuthenticationError):
        return False
    return operation.attempts.ambiguous and not error.transient
