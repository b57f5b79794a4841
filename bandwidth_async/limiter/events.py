"""Snapshots of the limiter, the events it emits, and the hook that hears them."""

from __future__ import annotations

import inspect
import logging
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from attrs import frozen

from bandwidth_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bandwidth_async.limiter.breaker import Breaker
    from bandwidth_async.limiter.pace import Pace

    Listener = Callable[["PaceEvent"], object]

# The least change of rate or quota that is an event.
_LEAST_CHANGE = 0.01

# The share of a pause that must be new. Several refusals of one burst name nearly the same end of a pause.
_LEAST_EXTENSION = 0.1

PauseReason = Literal["hint", "refused", "unavailable"]

_log = logging.getLogger("bandwidth_async.events")


@frozen(kw_only=True)
class LimiterSnapshot:
    """A limiter at one moment.

    ``rate``, ``quota``
        Requests per second that the limiter sends at most, and that the server is believed to allow. The
        quota is None until something is known about it.
    ``paused_for``, ``pause_reason``
        Seconds until the next request may be sent, and why: ``"hint"`` when the server named the time,
        ``"refused"`` when it only refused, ``"unavailable"`` while it fails. 0 and None without a pause.
    ``waiting_interactive``, ``waiting_bulk``
        Requests of single calls and of runs that wait.
    ``in_flight``, ``refusals``
        Requests without a response yet, and 429 responses since the beginning.
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
    """The rate, or the quota that the server is believed to allow, has changed by more than 1 %."""

    rate: float
    quota: float | None


@frozen
class Paused:
    """The limiter sends nothing for ``seconds``. ``hinted`` is True when the server named that time."""

    seconds: float
    hinted: bool


@frozen
class Unavailable:
    """The server keeps failing: the limiter sends nothing for ``seconds``, then one request as a probe."""

    seconds: float


PaceEvent = RateChanged | Paused | Unavailable


class Hook:
    """Calls a user's function with events. What it raises is logged the first time, and never raised.

    Raises `ConfigurationError` for a coroutine function, which nobody would await.
    """

    def __init__(self, function: object) -> None:
        # An object may have a coroutine method as its call.
        ways = (function, getattr(function, "__call__", None))  # noqa: B004  # not asked whether it is callable
        if not callable(function) or any(map(inspect.iscoroutinefunction, ways)):
            raise ConfigurationError(f"on_event is a plain function, not {function!r}")
        self._function: Callable[[Any], object] = function
        self._failed = False

    def __call__(self, event: object) -> None:
        try:
            self._function(event)
        except Exception:
            if not self._failed:
                self._failed = True
                _log.exception("on_event failed at %r; its next failures are not logged", event)


class EventEmitter:
    """Calls listeners with each event, and derives the events of a pace from its changes."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._rate = pace.rate
        self._quota = pace.quota
        self._paused_until = pace.paused_until
        self._hooks: list[Hook] = []

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """Call ``listener`` with every event while the context lasts."""
        hook = self.add(listener)
        try:
            yield
        finally:
            self._hooks.remove(hook)

    def add(self, listener: Listener) -> Hook:
        """Call ``listener`` with every event from now on."""
        hook = listener if isinstance(listener, Hook) else Hook(listener)
        self._hooks.append(hook)
        return hook

    def emit_changes(self, now: float) -> None:
        """Emit what has changed in the pace since the last call."""
        pace = self._pace
        until, emitted = pace.paused_until, self._paused_until
        if until == emitted and pace.rate == self._rate and pace.quota == self._quota:
            return
        if until > emitted and until - max(emitted, now) > _LEAST_EXTENSION * (until - now):
            self._paused_until = until
            self.emit(Paused(until - now, pace.pause_hinted))
        elif until < emitted:
            self._paused_until = until
        if _differ(pace.rate, self._rate) or _differ(pace.quota, self._quota):
            self._rate, self._quota = pace.rate, pace.quota
            self.emit(RateChanged(pace.rate, pace.quota))

    def emit(self, event: PaceEvent) -> None:
        """Call every listener."""
        _log.debug("%s", event)
        for hook in tuple(self._hooks):
            hook(event)


def pause_of(pace: Pace, breaker: Breaker, now: float) -> tuple[float, PauseReason | None]:
    """Return the seconds for which nothing is sent, and why."""
    if breaker.is_open:
        return breaker.paused_for(now), "unavailable"
    seconds = max(0.0, pace.paused_until - now) if now > -math.inf else 0.0
    if not seconds:
        return 0.0, None
    return seconds, "hint" if pace.pause_hinted else "refused"


def _differ(one: float | None, other: float | None) -> bool:
    if one == other or one is None or other is None:
        return one is not other and one != other
    return not math.isclose(one, other, rel_tol=_LEAST_CHANGE)
