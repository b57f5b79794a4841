"""The quota: four models of how many requests an account may send, and the header of a 429.

Bandwidth publishes neither its quota for conferences nor the unit of the ``Retry-After`` in its description.
So both are settings. Other Bandwidth products respond with whole seconds, or with ``X-RateLimit-Reset`` in
epoch seconds or epoch milliseconds.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from email.utils import formatdate
from enum import Enum
from typing import TypeVar

from attrs import Attribute, define, field, frozen

from bandwidth_async.durations import parse_duration
from bandwidth_async.errors import ConfigurationError

_FORMS = (
    "none, token-bucket:rate=200,burst=20, fixed-window:limit=100,window=1s, "
    "sliding-window:limit=100,window=1s or concurrency:limit=25"
)
_Number = TypeVar("_Number", int, float)

# Floating-point time may be off by this many seconds. Without it, a client that waits exactly as long as the
# hint says would be refused again.
_ROUNDING = 1e-9


@frozen(kw_only=True)
class Refusal:
    """A request is over the quota. ``seconds`` is the wait until one would be admitted, None if not known."""

    seconds: float | None


def _positive(_instance: object, setting: Attribute[_Number], value: _Number) -> None:
    if not 0 < value < math.inf:
        raise ConfigurationError(f"the quota's {setting.name} is {value!r}: give a number above 0")


def _one_or_more(_instance: object, setting: Attribute[_Number], value: _Number) -> None:
    if not 1 <= value < math.inf:
        raise ConfigurationError(f"the quota's {setting.name} is {value!r}: give a number of at least 1")


class Quota(ABC):
    """Admits or refuses requests. A refused request does not count."""

    __slots__ = ()

    @abstractmethod
    def admit(self, now: float) -> Refusal | None:
        """Admit a request at ``now``, in seconds of any monotonic clock, and return None; or refuse it."""

    def release(self) -> None:  # noqa: B027 - most quotas count arrivals and need nothing here
        """Record that an admitted request is over."""


@define(kw_only=True)
class Unlimited(Quota):
    """No quota."""

    def admit(self, now: float) -> Refusal | None:
        return None


@define(kw_only=True)
class TokenBucket(Quota):
    """``burst`` requests at once after a pause, then ``rate`` a second: rate + burst in the first second."""

    rate: float = field(validator=_positive)
    burst: float = field(validator=_one_or_more)
    _tokens: float = field(init=False, default=math.inf, repr=False)
    _since: float = field(init=False, default=0.0, repr=False)

    def admit(self, now: float) -> Refusal | None:
        tokens = min(self.burst, self._tokens + max(0.0, now - self._since) * self.rate)
        if tokens < 1 - self.rate * _ROUNDING - _ROUNDING:
            return Refusal(seconds=(1 - tokens) / self.rate)
        self._tokens, self._since = tokens - 1, now
        return None


@define(kw_only=True)
class FixedWindow(Quota):
    """``limit`` requests in each window of ``window`` seconds, the windows following each other.

    Twice the limit can pass within a moment around the start of a window, as with every such server.
    """

    limit: int = field(validator=_one_or_more)
    window: float = field(validator=_positive)
    _window_number: int = field(init=False, default=0, repr=False)
    _used: int = field(init=False, default=0, repr=False)

    def admit(self, now: float) -> Refusal | None:
        number = math.floor((now + _ROUNDING) / self.window)
        used = self._used if number == self._window_number else 0
        if used >= self.limit:
            return Refusal(seconds=(number + 1) * self.window - now)
        self._window_number, self._used = number, used + 1
        return None


@define(kw_only=True)
class SlidingWindow(Quota):
    """``limit`` requests within any period of ``window`` seconds."""

    limit: int = field(validator=_one_or_more)
    window: float = field(validator=_positive)
    _admitted: deque[float] = field(init=False, factory=deque, repr=False)

    def admit(self, now: float) -> Refusal | None:
        while self._admitted and self._admitted[0] <= now - self.window + _ROUNDING:
            self._admitted.popleft()
        if len(self._admitted) >= self.limit:
            return Refusal(seconds=self._admitted[0] + self.window - now)
        self._admitted.append(now)
        return None


@define(kw_only=True)
class Concurrency(Quota):
    """``limit`` requests in progress at the same time."""

    limit: int = field(validator=_one_or_more)
    _in_progress: int = field(init=False, default=0)

    def admit(self, now: float) -> Refusal | None:
        if self._in_progress >= self.limit:
            return Refusal(seconds=None)
        self._in_progress += 1
        return None

    def release(self) -> None:
        self._in_progress -= 1


def parse_quota(text: str) -> Quota:
    """Return the quota that ``text`` describes, e.g. ``token-bucket:rate=200,burst=20``.

    Raises `ConfigurationError` with the accepted forms.
    """
    model, _, rest = text.strip().partition(":")
    settings = dict(_pair(part) for part in rest.split(",")) if rest else {}
    try:
        quota = _build(model.strip(), settings)
    except ConfigurationError:
        raise
    except (KeyError, ValueError) as exc:
        raise ConfigurationError(f"{text!r} is not a quota: write {_FORMS}") from exc
    if settings:
        raise ConfigurationError(f"{text!r} has settings that its model lacks: write {_FORMS}")
    return quota


def _pair(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    return (name.strip(), value.strip())


def _build(model: str, settings: dict[str, str]) -> Quota:
    match model:
        case "none":
            return Unlimited()
        case "token-bucket":
            return TokenBucket(rate=float(settings.pop("rate")), burst=float(settings.pop("burst")))
        case "fixed-window":
            return FixedWindow(
                limit=int(settings.pop("limit")), window=parse_duration(settings.pop("window"))
            )
        case "sliding-window":
            return SlidingWindow(
                limit=int(settings.pop("limit")), window=parse_duration(settings.pop("window"))
            )
        case "concurrency":
            return Concurrency(limit=int(settings.pop("limit")))
    raise ValueError(model)


def quota_from(given: str | Quota | None) -> Quota:
    """Return a quota as it is, a parsed text, or no limit for None."""
    if isinstance(given, Quota):
        return given
    if isinstance(given, str | None):
        return Unlimited() if given is None else parse_quota(given)
    raise ConfigurationError(f"{given!r} is not a quota: write {_FORMS}")


class Hint(Enum):
    """The header of a 429 that says when to try again. All forms round up, so that nobody comes too early."""

    RETRY_AFTER = "retry-after"
    RESET_MS = "reset-ms"
    RESET_S = "reset-s"
    DATE = "date"
    NONE = "none"

    def headers(self, seconds: float | None, wall: float) -> dict[str, str]:
        """Return the headers for a wait of ``seconds`` from ``wall`` (epoch seconds). None means 1 second."""
        wait = 1.0 if seconds is None else seconds
        match self:
            case Hint.RETRY_AFTER:
                return {"Retry-After": str(max(1, math.ceil(wait)))}
            case Hint.RESET_MS:
                return {"X-RateLimit-Reset": str(math.ceil((wall + wait) * 1000))}
            case Hint.RESET_S:
                return {"X-RateLimit-Reset": str(math.ceil(wall + wait))}
            case Hint.DATE:
                return {"Retry-After": formatdate(math.ceil(wall + wait), usegmt=True)}
            case _:
                return {}


def hint_from(given: str | Hint) -> Hint:
    """Return a hint as it is, or by its name. Raises `ConfigurationError` with all names."""
    try:
        return Hint(given)
    except ValueError as exc:
        names = ", ".join(hint.value for hint in Hint)
        raise ConfigurationError(f"{given!r} is not a hint: choose one of {names}") from exc
