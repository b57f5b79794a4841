"""Waiting for the end of a conference: polling it, and listening for its webhook meanwhile."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from attrs import evolve

from bandwidth_async.errors import (
    APIError,
    BandwidthError,
    DeadlineExceededError,
    NotFoundError,
    TransportError,
)
from bandwidth_async.models import Conference

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator
    from random import Random

    Look = Callable[[float], Awaitable[tuple[Conference, int]]]

T = TypeVar("T")

_log = logging.getLogger("bandwidth_async.polling")

# Seconds: the longest pause after the first read, and after any read.
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 10.0

# Seconds. A read is given some time even when the deadline is here.
_SHORTEST_READ = 0.001


class Completion(Protocol):
    """The event that a conference has completed."""

    @property
    def event_time(self) -> datetime:
        """When it completed."""


class CompletionHub(Protocol):
    """Receives webhooks about completed conferences, such as ``bandwidth_async.webhooks.EventHub``."""

    def completed(self, conference_id: str, /) -> Coroutine[Any, Any, Completion]:
        """Return once the conference has completed."""


class Watch:
    """Waits for the end of one conference, for ``seconds`` at most.

    ``look`` reads the conference within the seconds it is given, and returns it with the attempts that it
    made. A read that fails for a passing reason is followed by another: a conference outlasts many an outage,
    and with a hub the event may still come.
    """

    def __init__(self, conference_id: str, look: Look, *, seconds: float, random: Random) -> None:
        self._conference_id = conference_id
        self._look = look
        self._seconds = seconds
        self._random = random
        self._attempts = 0
        self._last_seen: Conference | None = None
        self._last_error: BandwidthError | None = None

    async def completed(self, hub: CompletionHub | None) -> Conference:
        """Return the conference as soon as a read or an event says that it has ended."""
        return await (self._poll() if hub is None else _first(self._hear(hub), self._poll()))

    async def _poll(self) -> Conference:
        now = asyncio.get_running_loop().time
        deadline = now() + self._seconds
        for pause in pauses(self._random):
            conference = await self._see(max(deadline - now(), _SHORTEST_READ))
            if conference is not None and not conference.active:
                return conference
            hint = self._last_error.retry_after if self._last_error else None
            await asyncio.sleep(min(max(pause, hint or 0.0), deadline - now()))
            if now() >= deadline:
                raise self._late()
        raise AssertionError("there is always another pause")  # pragma: no cover

    async def _see(self, seconds: float) -> Conference | None:
        """Return the conference as it is now, or None where that cannot be read.

        A conference that was there and is gone has ended.
        """
        try:
            self._last_seen, attempts = await self._look(seconds)
        except BandwidthError as error:
            self._attempts += error.attempts
            if isinstance(error, NotFoundError) and self._last_seen is not None:
                return _ended(self._last_seen, datetime.now(UTC))
            if not _may_pass(error):
                error.attempts = self._attempts
                raise
            self._note(error)
            return None
        self._attempts += attempts
        self._last_error = None
        return self._last_seen

    def _note(self, error: BandwidthError) -> None:
        met = error.last_error if isinstance(error, DeadlineExceededError) else error
        if met is not None and self._last_error is None:
            _log.warning(
                "conference %s cannot be read now, and is read again later: %s",
                self._conference_id,
                met.message,
            )
        self._last_error = met or self._last_error

    async def _hear(self, hub: CompletionHub) -> Conference:
        event = await hub.completed(self._conference_id)
        return _ended(self._last_seen or Conference(id=self._conference_id), event.event_time)

    def _late(self) -> DeadlineExceededError:
        seen = "was still active" if self._last_seen else "could not be looked at"
        met = f"; the last look met: {self._last_error.message}" if self._last_error else ""
        return DeadlineExceededError(
            f"conference {self._conference_id} {seen} when its {self._seconds:g} s were over{met}",
            last_error=self._last_error,
            retry_after=self._last_error.retry_after if self._last_error else None,
            attempts=self._attempts,
        )


def pauses(random: Random) -> Iterator[float]:
    """Yield the seconds between reads: random, up to a limit that doubles until it is 10 s (full jitter)."""
    limit = _FIRST_PAUSE
    while True:
        yield random.uniform(0, limit)
        limit = min(2 * limit, _LONGEST_PAUSE)


def _may_pass(error: BandwidthError) -> bool:
    """Return whether a later read may succeed."""
    if isinstance(error, APIError):
        return error.transient
    if isinstance(error, TransportError):
        return not error.lasting
    return isinstance(error, DeadlineExceededError)


def _ended(conference: Conference, moment: datetime) -> Conference:
    return evolve(conference, completed_time=moment, active_members=())


async def _first(*ways: Coroutine[Any, Any, T]) -> T:
    """Return or raise what the first of ``ways`` to finish does, after the others are cancelled and gone."""
    # A TaskGroup would wrap the one error in a group.
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
