"""What the account may send: four models of a server's quota, each deciding with the time it is given.

Bandwidth publishes no quota for conferences, so the model is a choice of whoever starts the sandbox.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from typing import TypeVar

from attrs import Attribute, define, field, frozen

from bandwidth_async.durations import parse_duration
from bandwidth_async.errors import ConfigurationError

_FORMS = (
    "none, token-bucket:rate=200,burst=20, fixed-window:limit=100,window=1s, "
    "sliding-window:limit=100,window=1s or concurrency:limit=25"
)
_Number = TypeVar("_Number", int, float)
_ROUNDING = 1e-9
"""Seconds forgiven to floating-point time, so that waiting exactly as long as told is enough."""


@frozen(kw_only=True)
class Refusal:
    """One request too many; ``seconds`` until one would be admitted, None where nobody can know."""

    seconds: float | None


def _positive(_instance: object, setting: Attribute[_Number], value: _Number) -> None:
    if not 0 < value < math.inf:
        raise ConfigurationError(f"the quota's {setting.name} is {value!r}: give a number above 0")


def _one_or_more(_instance: object, setting: Attribute[_Number], value: _Number) -> None:
    if not 1 <= value < math.inf:
        raise ConfigurationError(f"the quota's {setting.name} is {value!r}: give a number of at least 1")


class Quota(ABC):
    """Admits or refuses requests; a refusal costs the sender nothing."""

    __slots__ = ()

    @abstractmethod
    def admit(self, now: float) -> Refusal | None:
        """Take one request at ``now`` (seconds on any steady clock) and return None, or say why not."""

    def release(self) -> None:  # noqa: B027 - most quotas count arrivals and have nothing to give back
        """Note that an admitted request has left."""


@define(kw_only=True)
class Unlimited(Quota):
    """No quota at all."""

    def admit(self, now: float) -> Refusal | None:
        return None


@define(kw_only=True)
class TokenBucket(Quota):
    """``burst`` requests at once after a rest, then ``rate`` a second: rate + burst in the first second."""

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
    """``limit`` requests between two strokes of a clock that strikes every ``window`` seconds.

    Twice the limit can pass within a moment around a stroke, as with every server that counts this way.
    """

    limit: int = field(validator=_one_or_more)
    window: float = field(validator=_positive)
    _stroke: int = field(init=False, default=0, repr=False)
    _used: int = field(init=False, default=0, repr=False)

    def admit(self, now: float) -> Refusal | None:
        stroke = math.floor((now + _ROUNDING) / self.window)
        used = self._used if stroke == self._stroke else 0
        if used >= self.limit:
            return Refusal(seconds=(stroke + 1) * self.window - now)
        self._stroke, self._used = stroke, used + 1
        return None


@define(kw_only=True)
class SlidingWindow(Quota):
    """``limit`` requests within any ``window`` seconds."""

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
    """``limit`` requests under way at the same time."""

    limit: int = field(validator=_one_or_more)
    _under_way: int = field(init=False, default=0)

    def admit(self, now: float) -> Refusal | None:
        if self._under_way >= self.limit:
            return Refusal(seconds=None)
        self._under_way += 1
        return None

    def release(self) -> None:
        self._under_way -= 1


def parse_quota(text: str) -> Quota:
    """Return the quota that ``text`` describes, e.g. ``token-bucket:rate=200,burst=20``.

    Raises `ConfigurationError` naming the accepted forms.
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
    """Return a quota as it is, a description parsed, and no limit for None."""
    if isinstance(given, Quota):
        return given
    if isinstance(given, str | None):
        return Unlimited() if given is None else parse_quota(given)
    raise ConfigurationError(f"{given!r} is not a quota: write {_FORMS}")
