"""What is known of one request on its way, and which of a server's connections are still believed in."""

from __future__ import annotations

import asyncio
import math
from itertools import count
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from bandwidth_async.errors import BandwidthError
    from bandwidth_async.http.timeouts import Timeout

# Numbers requests and responses as they come. Two may come at the same time of the clock.
_numbers = count(1)

# The attribute of a connection, which is aiohttp's object, that holds the number of its last response.
LAST_RESPONSE = "_bandwidth_async_last_response"

# Seconds without a response, after which a request that is cancelled says something about its connection.
_SILENCE = 1.0


class UnfitConnectionError(aiohttp.ClientConnectionError):
    """A connection must not be used, so nothing was sent over it. It is closed."""


class Trust:
    """Which connections to a server are still believed to work.

    When a server fails over to another machine, all kept connections die at once. So a request without a
    response raises doubt about each connection that has had no response since that request was written. The
    next request then needs a new connection, or one that has proved itself meanwhile.
    """

    def __init__(self) -> None:
        self._doubted_until = 0
        self._forgotten_at = -math.inf
        # The number of the last response, 0 before the first.
        self.heard: int = 0

    def doubts(self, connection: Any) -> bool:
        """Return True if a connection was used before and must not be used again."""
        heard: float = getattr(connection, LAST_RESPONSE, math.inf)
        return heard <= self._doubted_until

    def on_response(self, delivery: Delivery) -> None:
        """Note that a response came over the delivery's connection."""
        if delivery.connection is not None:
            self.heard = next(_numbers)
            # Nobody promises that the object takes attributes. One that takes none is never doubted.
            try:
                setattr(delivery.connection, LAST_RESPONSE, self.heard)
            except AttributeError:
                return

    def on_no_response(self, delivery: Delivery, error: BaseException, now: float) -> None:
        """Note that a request has failed without a response."""
        written_at = delivery.written_at
        if written_at is None or (delivery.was_stopped_by(error) and now - written_at < _SILENCE):
            return
        self._doubted_until = max(self._doubted_until, delivery.number)

    def may_forget_addresses(self, now: float) -> bool:
        """Return True once a second: aiohttp's cache must not be cleared while others wait for it."""
        if now - self._forgotten_at < 1.0:
            return False
        self._forgotten_at = now
        return True


class Delivery:
    """What is known of one request on its way.

    One fact decides whether a request may have taken effect: its first byte was given to the transport. It is
    known only if the writing was watched. Tools that send requests in place of aiohttp prevent that.
    """

    __slots__ = ("connection", "is_watched", "limit", "number", "obstacle", "trust", "written_at")

    # That of the server; set by `exchange`.
    trust: Trust

    def __init__(self, limit: Timeout | None = None) -> None:
        # The limit of the whole operation. What it cancels was not cancelled by the user.
        self.limit: Timeout | None = limit
        self.is_watched: bool = False
        # Loop time of the first byte, its number, and aiohttp's protocol of the connection it was written to.
        self.written_at: float | None = None
        self.number: int = 0
        self.connection: Any = None
        # Why the request cannot leave this machine at present.
        self.obstacle: BandwidthError | None = None

    @property
    def unsent(self) -> bool:
        """Whether it is certain that no byte has left."""
        return self.is_watched and self.written_at is None

    @property
    def status(self) -> int | None:
        """The status of the response, if its first line was read, whatever became of the rest."""
        if self.written_at is None:
            return None
        status: int | None = getattr(self.connection, "status", None)
        return status

    def on_write(self, connection: Any, now: float) -> None:
        """Note that the first byte is written now."""
        self.written_at, self.connection, self.number = now, connection, next(_numbers)

    def was_stopped_by(self, error: BaseException) -> bool:
        """Return True if ``error`` cancels the task, and the operation's limit is not what cancelled it."""
        if not isinstance(error, asyncio.CancelledError):
            return False
        return self.limit is None or not self.limit.is_the_only_cause()
