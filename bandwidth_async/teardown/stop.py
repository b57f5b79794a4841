"""Bringing a run to its end before its input ends."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from bandwidth_async.errors import BandwidthError, DeadlineExceededError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GRACE = 10.0  # seconds that what is in flight has after a stop


class Stop:
    """A request to stop a run: nothing more is sent, what is in flight may finish.

    Give one to `VoiceClient.end_conferences` and call `request` from a signal handler or another task of
    the same event loop.
    """

    def __init__(self) -> None:
        self.reason: BandwidthError | None = None
        self._listeners: set[Callable[[float], None]] = set()

    def __repr__(self) -> str:
        return f"<Stop {self.reason or 'not requested'}, {len(self._listeners)} listening>"

    @property
    def requested(self) -> bool:
        """Whether the run is to end."""
        return self.reason is not None

    @property
    def why(self) -> str | None:
        """The reason as a sentence, fit for an id that it kept from being tried."""
        if self.reason is None:
            return None
        if isinstance(self.reason, DeadlineExceededError):
            return self.reason.message
        return f"the run was stopped: {self.reason.message}"

    def request(self, reason: BandwidthError | None = None, *, grace: float = GRACE) -> None:
        """Ask for the end; what is in flight has ``grace`` seconds. The first reason stays."""
        if self.reason is None:
            self.reason = reason or DeadlineExceededError("the run was stopped")
        for tell in tuple(self._listeners):
            tell(grace)

    def listen(self, tell: Callable[[float], None]) -> None:
        """Have ``tell(grace)`` called when the end is requested; at once when it has been already."""
        if self.reason is not None:
            tell(0.0)
        self._listeners.add(tell)

    def forget(self, tell: Callable[[float], None]) -> None:
        """Call ``tell`` no more."""
        self._listeners.discard(tell)

    @contextmanager
    def listening(self, tell: Callable[[float], None]) -> Iterator[None]:
        """Have ``tell(grace)`` called while the context lasts."""
        self.listen(tell)
        try:
            yield
        finally:
            self.forget(tell)
