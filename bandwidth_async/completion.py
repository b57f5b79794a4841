"""Waiting for the end of a conference: looking again and again, and hearing of it by webhook meanwhile."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from attrs import evolve

from bandwidth_async.errors import BandwidthError, DeadlineExceededError, NotFoundError
from bandwidth_async.models import Conference

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator
    from random import Random

    Look = Callable[[float], Awaitable[tuple[Conference, int]]]

T = TypeVar("T")

_FIRST_PAUSE = 0.5  # seconds at most, after the first look
_LONGEST_PAUSE = 10.0  # seconds


class Completion(Protocol):
    """The word that a conference has completed."""

    @property
    def event_time(self) -> datetime:
        """When it did."""


class CompletionHub(Protocol):
    """What hears of completed conferences by webhook, such as ``bandwidth_async.webhooks.EventHub``."""

    def completed(self, conference_id: str, /) -> Coroutine[Any, Any, Completion]:
        """Return once the conference has completed."""


class Watch:
    """Waits for the end of one conference.

    ``look`` reads it within the seconds it is given, and returns it with the attempts that were made.
    """

    def __init__(self, conference_id: str, look: Look, *, seconds: float, random: Random) -> None:
        self._conference_id = conference_id
        self._look = look
        self._seconds = seconds
        self._random = random
        self._attempts = 0
        self._last_seen: Conference | None = None  # changed in _seen_now()

    async def completed(self, hub: CompletionHub | None) -> Conference:
        """Return the conference once it has ended, by whichever way that is known first."""
        return await (self._poll() if hub is None else _first(self._hear(hub), self._poll()))

    async def _poll(self) -> Conference:
        now = asyncio.get_running_loop().time
        deadline = now() + self._seconds
        for pause in pauses(self._random):
            conference = await self._seen_now(deadline - now())
            if not conference.active:
                return conference
            await asyncio.sleep(min(pause, deadline - now()))
            if now() >= deadline:
                raise self._late()
        raise AssertionError("there is always another pause")  # pragma: no cover

    async def _seen_now(self, seconds: float) -> Conference:
        """Return the conference as it is. One that was there and is gone has ended."""
        try:
            self._last_seen, attempts = await self._look(seconds)
        except NotFoundError as error:
            error.attempts += self._attempts
            if self._last_seen is None:
                raise
            return _ended(self._last_seen, datetime.now(UTC))
        except DeadlineExceededError as error:
            error.attempts += self._attempts
            raise (self._late(error) if self._last_seen else error) from error.last_error
        except BandwidthError as error:
            error.attempts += self._attempts
            raise
        self._attempts += attempts
        return self._last_seen

    async def _hear(self, hub: CompletionHub) -> Conference:
        event = await hub.completed(self._conference_id)
        return _ended(self._last_seen or Conference(id=self._conference_id), event.event_time)

    def _late(self, error: DeadlineExceededError | None = None) -> DeadlineExceededError:
        return DeadlineExceededError(
            f"conference {self._conference_id} was still active when its {self._seconds:g} s were over",
            last_error=error.last_error if error else None,
            attempts=error.attempts if error else self._attempts,
        )


def pauses(random: Random) -> Iterator[float]:
    """Return the seconds between looks: random, with a limit that doubles up to 10 s (full jitter)."""
    limit = _FIRST_PAUSE
    while True:
        yield random.uniform(0, limit)
        limit = min(2 * limit, _LONGEST_PAUSE)


def _ended(conference: Conference, moment: datetime) -> Conference:
    return evolve(conference, completed_time=moment, active_members=())


async def _first(*ways: Coroutine[Any, Any, T]) -> T:
    """Return or raise what the first to finish does; the others are cancelled, and gone when this returns."""
    tasks = [asyncio.ensure_future(way) for way in ways]  # a TaskGroup would wrap the one error in a group
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
