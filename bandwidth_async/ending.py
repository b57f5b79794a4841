"""Ending one conference for certain: what a 204, a 404 and a 409 mean after what came before them."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from bandwidth_async import wire
from bandwidth_async.errors import (
    AuthenticationError,
    BandwidthError,
    CertificateError,
    ClientStateError,
    ConflictError,
    HangUpError,
    NotConfirmedError,
    NotFoundError,
    RateLimitError,
    TransportError,
    UnavailableError,
)
from bandwidth_async.outcome import Outcome, OutcomeKind, kind_of
from bandwidth_async.updates import CallState, ConferenceStatus, UpdateCall, UpdateConference

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from bandwidth_async.operation import CallOptions, Channel
    from bandwidth_async.retry import RetryPolicy, Trial
    from bandwidth_async.run import Stop, Target

_END = UpdateConference(status=ConferenceStatus.COMPLETED)
_HANG_UP = UpdateCall(state=CallState.COMPLETED)
_READ_PAUSES = ((0.5, 1.0), (1.0, 2.0), (2.0, 4.0))  # between readings that still show it as active
_CONFLICT_PAUSES = ((0.5, 1.0), (0.5, 1.0))  # seconds, shortest and longest, after a first and a second 409


async def _forget(_: Target, __: tuple[str, ...]) -> None:
    """Note nothing: without a journal the calls are known as long as the process lives."""


@frozen(kw_only=True)
class Way:
    """What ending means: ``verify`` reads the conference back, ``hang_up`` ends its calls too.

    ``note_calls`` is awaited with the calls before the conference is ended.
    """

    verify: bool = False
    hang_up: bool = False
    note_calls: Callable[[Target, tuple[str, ...]], Awaitable[None]] = _forget


PLAIN = Way()


class Ender:
    """Ends conferences over a channel, and explains the answers."""

    def __init__(self, channel: Channel, account_id: str, random: Random) -> None:
        self._channel = channel
        self._account_id = account_id
        self._random = random

    async def end(
        self, target: Target, options: CallOptions, way: Way = PLAIN, stop: Stop | None = None
    ) -> Outcome:
        """Return ``ended`` or ``already_ended``, or raise what stood in the way.

        A 404 means that it has ended when it did exist, or when an earlier attempt may have ended it.
        Raises `NotFoundError` for any other.
        """
        started = self._channel.now()
        attempts = 0
        if way.hang_up:
            target, attempts = await self._with_calls(target, options, way, stop)
        async with self._channel.trial(self._rest(options, started), stop) as trial:
            trial.ambiguous = target.ambiguous
            kind = await self._end(target, trial, options)
            if way.verify and kind is OutcomeKind.ENDED:
                trial.ambiguous = True  # accepted, whatever the reading meets
                await self._confirm(target.conference_id, trial, options)
        attempts += trial.attempts
        calls = target.calls  # also those that an earlier part of the run noted
        if calls:
            attempts = await self._hang_up(calls, self._rest(options, started), stop, attempts)
        return Outcome(target.conference_id, kind, attempts, None, self._channel.now() - started, calls)

    async def end_in_run(self, options: CallOptions, way: Way, target: Target, stop: Stop) -> Outcome:
        """Do as `end`, and stop the whole run at what every further id would meet too."""
        try:
            return await self.end(target, options, way, stop)
        except BandwidthError as error:
            unreachable = isinstance(error, TransportError) and self._channel.limiter.breaker.unreachable
            if unreachable or _concerns_every_id(error, options.retry):
                stop.request(error)
            raise

    async def _end(self, target: Target, trial: Trial, options: CallOptions) -> OutcomeKind:
        request = wire.update_conference(self._account_id, target.conference_id, _END)
        try:
            ended = await self._end_or_explain(request, target.conference_id, trial, options)
        except NotFoundError:
            if not (target.existed or trial.ambiguous):
                raise
            ended = False
        return OutcomeKind.ENDED if ended else OutcomeKind.ALREADY_ENDED

    async def _with_calls(
        self, target: Target, options: CallOptions, way: Way, stop: Stop | None
    ) -> tuple[Target, int]:
        """Return the target with its calls, which the conference soon forgets, and the requests sent."""
        request = wire.get_conference(self._account_id, target.conference_id)
        try:
            async with self._channel.trial(options, stop) as trial:
                found = await self._channel.send(request, trial, options, wire.conference_in)
        except NotFoundError as error:
            return evolve(target, existed=target.existed or bool(target.calls)), error.attempts
        if found.active and found.active_members is None:
            raise TransportError(f"{request.name}: the answer does not say who is in it, so nobody was ended")
        members = (member.call_id for member in found.active_members or ())
        calls = tuple(dict.fromkeys((*target.calls, *members)))
        if calls != target.calls:
            await way.note_calls(target, calls)
        return evolve(target, existed=True, calls=calls), trial.attempts

    async def _hang_up(
        self, calls: tuple[str, ...], options: CallOptions, stop: Stop | None, attempts: int
    ) -> int:
        """End each call; return ``attempts`` plus what it took. Raises `HangUpError` for those that go on."""
        started = self._channel.now()
        left: dict[str, BandwidthError] = {}
        for call_id in calls:
            try:
                async with self._channel.trial(self._rest(options, started), stop) as trial:
                    await self._end_call(call_id, trial, options)
                attempts += trial.attempts
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

    async def _end_call(self, call_id: str, trial: Trial, options: CallOptions) -> None:
        """End one call. One that is not found is over; one that cannot be changed now is looked at first."""
        request = wire.update_call(self._account_id, call_id, _HANG_UP)
        for pause in (*_CONFLICT_PAUSES, None):
            try:
                await self._channel.send(request, trial, options, wire.nothing_in)
            except NotFoundError:
                return
            except ConflictError:
                if not await self._goes_on(call_id, trial, options):
                    return
                if pause is None:
                    raise
                await asyncio.sleep(self._random.uniform(*pause))
            else:
                return

    async def _goes_on(self, call_id: str, trial: Trial, options: CallOptions) -> bool:
        request = wire.get_call(self._account_id, call_id)
        try:
            return (await self._channel.send(request, trial, options, wire.call_in)).active
        except NotFoundError:
            return False

    async def _end_or_explain(
        self, request: wire.Request, conference_id: str, trial: Trial, options: CallOptions
    ) -> bool:
        """Return True when the server ended it for us, False when a 409 means that it has ended."""
        for pause in (*_CONFLICT_PAUSES, None):
            try:
                await self._channel.send(request, trial, options, wire.nothing_in)
            except ConflictError:
                if await self._has_ended(conference_id, trial, options):
                    return False
                if pause is None:
                    raise
                await asyncio.sleep(self._random.uniform(*pause))
            else:
                return True
        raise AssertionError("the last pause is None")  # pragma: no cover

    async def _confirm(self, conference_id: str, trial: Trial, options: CallOptions) -> None:
        for pause in (*_READ_PAUSES, None):
            if await self._has_ended(conference_id, trial, options):
                return
            if pause is not None:
                await asyncio.sleep(self._random.uniform(*pause))
        raise NotConfirmedError(
            f"the end of conference {conference_id} was accepted, but it still reads as active"
        )

    async def _has_ended(self, conference_id: str, trial: Trial, options: CallOptions) -> bool:
        request = wire.get_conference(self._account_id, conference_id)
        try:
            return not (await self._channel.send(request, trial, options, wire.conference_in)).active
        except NotFoundError:
            return True

    def _rest(self, options: CallOptions, started: float) -> CallOptions:
        """Return the options with what is left of their deadline."""
        if options.deadline == math.inf:
            return options
        left = options.deadline - (self._channel.now() - started)
        return evolve(options, deadline=max(left, 0.001))


def _concerns_every_id(error: BandwidthError, policy: RetryPolicy) -> bool:
    if isinstance(error, RateLimitError):
        return (error.retry_after or 0.0) > policy.longest_hint
    return isinstance(error, AuthenticationError | ClientStateError | CertificateError | UnavailableError)
