"""Ending one conference for certain: what a 204, a 404 and a 409 mean after what came before them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bandwidth_async import wire
from bandwidth_async.errors import (
    AuthenticationError,
    BandwidthError,
    ClientStateError,
    ConflictError,
    NotFoundError,
    RateLimitError,
)
from bandwidth_async.models import Conference, ConferenceStatus, UpdateConference
from bandwidth_async.teardown import Outcome, OutcomeKind

if TYPE_CHECKING:
    from random import Random

    from bandwidth_async.channel import CallOptions, Channel
    from bandwidth_async.retry import RetryPolicy, Trial
    from bandwidth_async.teardown import Stop
    from bandwidth_async.transport import Answer

_END = UpdateConference(status=ConferenceStatus.COMPLETED)
_CONFLICT_PAUSES = ((0.5, 1.0), (0.5, 1.0))  # seconds, shortest and longest, after a first and a second 409


class Ender:
    """Ends conferences over a channel, and explains the answers."""

    def __init__(self, channel: Channel, account_id: str, random: Random) -> None:
        self._channel = channel
        self._account_id = account_id
        self._random = random

    async def end(self, item: str | Conference, options: CallOptions, stop: Stop | None = None) -> Outcome:
        """Return ``ended`` or ``already_ended``, or raise what stood in the way.

        A 404 means that it has ended when it did exist (a `Conference`), or when an earlier attempt may
        have ended it. Raises `NotFoundError` for any other.
        """
        conference_id = item.id if isinstance(item, Conference) else item
        request = wire.update_conference(self._account_id, conference_id, _END)
        now = asyncio.get_running_loop().time
        started = now()
        async with self._channel.trial(options, stop) as trial:
            try:
                ended = await self._end_or_explain(request, conference_id, trial, options)
            except NotFoundError:
                if not (isinstance(item, Conference) or trial.ambiguous):
                    raise
                ended = False
            kind = OutcomeKind.ENDED if ended else OutcomeKind.ALREADY_ENDED
            return Outcome(conference_id, kind, trial.attempts, None, now() - started)

    async def end_in_run(self, options: CallOptions, item: str | Conference, stop: Stop) -> Outcome:
        """Do as `end`, and stop the whole run at what every further id would meet too."""
        try:
            return await self.end(item, options, stop)
        except BandwidthError as error:
            if _concerns_every_id(error, options.retry):
                stop.request(error)
            raise

    async def _end_or_explain(
        self, request: wire.Request, conference_id: str, trial: Trial, options: CallOptions
    ) -> bool:
        """Return True when the server ended it for us, False when a 409 means that it has ended."""
        for pause in (*_CONFLICT_PAUSES, None):
            try:
                await self._channel.send(request, trial, options, nothing_in)
            except ConflictError:
                if await self._has_ended(conference_id, trial, options):
                    return False
                if pause is None:
                    raise
                await asyncio.sleep(self._random.uniform(*pause))
            else:
                return True
        raise AssertionError("the last pause is None")  # pragma: no cover

    async def _has_ended(self, conference_id: str, trial: Trial, options: CallOptions) -> bool:
        request = wire.get_conference(self._account_id, conference_id)
        try:
            return not (await self._channel.send(request, trial, options, conference_in)).active
        except NotFoundError:
            return True


def nothing_in(_: Answer) -> None:
    """Read nothing: the status has said it."""


def conference_in(answer: Answer) -> Conference:
    """Read the conference of an answer."""
    return wire.parse_conference(answer.body)


def _concerns_every_id(error: BandwidthError, policy: RetryPolicy) -> bool:
    if isinstance(error, RateLimitError):
        return (error.retry_after or 0.0) > policy.longest_hint
    return isinstance(error, AuthenticationError | ClientStateError)
