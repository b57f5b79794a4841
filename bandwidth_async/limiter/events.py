"""What is seen of the limiter from outside: a snapshot of it, and events when rate or door change."""

from __future__ import annotations

import inspect
import logging
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from attrs import frozen

from bandwidth_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bandwidth_async.limiter.breaker import Breaker
    from bandwidth_async.limiter.pace import Pace

_WORTH_TELLING = 0.01  # of rate or quota
_LONGER = 0.1  # of a pause: less than that is the same pause, told by another of its refusals

PauseReason = Literal["hint", "refused", "unavailable"]

_log = logging.getLogger("bandwidth_async.limiter")


@frozen(kw_only=True)
class LimiterSnapshot:
    """A limiter at one moment.

    ``rate``, ``quota``
        Requests per second that it lets through, and that the server is believed to allow; None while
        nothing is known of that.
    ``paused_for``, ``pause_reason``
        Seconds until anybody is let in again, and ``"hint"`` where the server said for how long,
        ``"refused"`` where it only refused, ``"unavailable"`` while it fails; 0 and None while the door
        is open.
    ``waiting_interactive``, ``waiting_bulk``
        Requests of single calls and of runs that wait.
    ``in_flight``, ``refusals``
        Requests that are out now, and answers 429 since the beginning.
    """

    rate: float
    quota: float | None
    paused_for: float
    pause_reason: PauseReason | None
    waiting_interactive: int
    waiting_bulk: int
    in_flight: int
    refusals: int


@frozen
class RateChanged:
    """The rate, or what the server is believed to allow, has changed by more than 1 %."""

    rate: float
    quota: float | None


@frozen
class Paused:
    """No request leaves for ``seconds``; ``hinted`` says that the server named that time."""

    seconds: float
    hinted: bool


@frozen
class Unavailable:
    """The server fails so steadily that nothing leaves for ``seconds``, and then one request to probe it."""

    seconds: float


PaceEvent = RateChanged | Paused | Unavailable


class Gauge:
    """Tells listeners of what has become of a pace since they were told last."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._rate = pace.rate
        self._quota = pace.quota
        self._paused_until = pace.paused_until
        self._listeners: list[Callable[[PaceEvent], object]] = []

    @contextmanager
    def listening(self, tell: Callable[[PaceEvent], object]) -> Iterator[None]:
        """Have ``tell`` called with every event."""
        self.listen(tell)
        try:
            yield
        finally:
            self._listeners.remove(tell)

    def listen(self, tell: Callable[[PaceEvent], object]) -> None:
        """Have ``tell`` called with every event, for good."""
        if inspect.iscoroutinefunction(tell):
            raise ConfigurationError(f"what is told of the pace is a plain function, not {tell!r}")
        self._listeners.append(tell)

    def look(self, now: float) -> None:
        """Tell what has changed."""
        pace = self._pace
        until, told = pace.paused_until, self._paused_until
        if until > told and until - max(told, now) > _LONGER * (until - now):
            self._paused_until = until
            self.tell(Paused(until - now, pace.pause_hinted))
        elif until < told:
            self._paused_until = until
        if pace.rate == self._rate and pace.quota == self._quota:
            return
        if _differ(pace.rate, self._rate) or _differ(pace.quota, self._quota):
            self._rate, self._quota = pace.rate, pace.quota
            self.tell(RateChanged(pace.rate, pace.quota))

    def tell(self, event: PaceEvent) -> None:
        """Tell everybody, whatever they make of it."""
        for tell in tuple(self._listeners):
            try:
                tell(event)
            except Exception:
                _log.exception("what listens to the limiter failed at %r", event)


def pause_of(pace: Pace, breaker: Breaker, now: float) -> tuple[float, PauseReason | None]:
    """Return for how long the door is shut, and why."""
    if breaker.is_open:
        return breaker.shut_for(now), "unavailable"
    seconds = max(0.0, pace.paused_until - now) if now > -math.inf else 0.0
    if not seconds:
        return 0.0, None
    return seconds, "hint" if pace.pause_hinted else "refused"


def _differ(one: float | None, other: float | None) -> bool:
    if one == other or one is None or other is None:
        return one is not other and one != other
    return not math.isclose(one, other, rel_tol=_WORTH_TELLING)
