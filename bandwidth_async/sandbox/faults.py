"""What goes wrong on purpose: which request meets which fault, decided by a seeded draw.

A fault before the work leaves the conference as it was; a fault after the work has changed it although
no answer says so. Both happen in practice and a client cannot tell them apart.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from enum import Enum
from random import Random

from attrs import field, frozen

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.sandbox.shares import read_share

_FORMS = (
    "an HTTP status from 200 to 599, reset or hang, each also with -before or -after, slow, garbage, "
    "cut or cut@0.3, with shares like 2% or 0.02: 503=2%,reset=1%,hang-after=0.1%"
)
_NAME = re.compile(r"([2-5]\d\d|reset|hang)(-before|-after)?|slow|garbage")
_CUT = re.compile(r"cut(?:@(0(?:\.\d+)?))?")


class Effect(Enum):
    """What the client meets."""

    STATUS = "status"
    RESET = "reset"
    HANG = "hang"
    SLOW = "slow"
    GARBAGE = "garbage"
    CUT = "cut"


@frozen(kw_only=True)
class Fault:
    """One thing that goes wrong; ``after`` means once the work is done.

    ``status`` belongs to STATUS; ``share``, how much of the body still goes out, to CUT.
    """

    effect: Effect
    after: bool
    status: int = 0
    share: float = 0.0


def faults_named(name: str) -> tuple[Fault, ...]:
    """Return the faults that ``name`` stands for.

    ``reset`` and ``hang`` alone mean before and after evenly; ``cut`` alone is at half of the body.
    Raises `ConfigurationError` naming the accepted forms.
    """
    cut = _CUT.fullmatch(name)
    if cut is not None:
        return (Fault(effect=Effect.CUT, after=True, share=float(cut[1] or 0.5)),)
    match = _NAME.fullmatch(name)
    if match is None:
        raise ConfigurationError(f"{name!r} is not a fault: write {_FORMS}")
    thing, when = match.groups()
    if thing is None:
        return (Fault(effect=Effect(name), after=True),)
    if thing.isdigit():
        return (Fault(effect=Effect.STATUS, after=when == "-after", status=int(thing)),)
    moments = (False, True) if when is None else (when == "-after",)
    return tuple(Fault(effect=Effect(thing), after=after) for after in moments)


def _at_most_all(_instance: object, _setting: object, shares: tuple[tuple[Fault, float], ...]) -> None:
    total = sum(share for _, share in shares)
    if total > 1 + 1e-9:
        raise ConfigurationError(
            f"the faults add up to {100 * total:.4g} % of all requests; 100 % is the most"
        )


@frozen(kw_only=True)
class FaultMix:
    """Faults with the share of requests that each meets; the rest, and all by default, meet none."""

    shares: tuple[tuple[Fault, float], ...] = field(default=(), validator=_at_most_all)

    @classmethod
    def parse(cls, text: str) -> FaultMix:
        """Return the mix that ``text`` describes; raises `ConfigurationError` naming the accepted forms."""
        shares: list[tuple[Fault, float]] = []
        for part in filter(None, map(str.strip, text.split(","))):
            name, _, written = part.partition("=")
            faults = faults_named(name.strip())
            share = _share(written, part)
            shares += [(fault, share / len(faults)) for fault in faults]
        return cls(shares=tuple(shares))

    def at(self, point: float) -> Fault | None:
        """Return the fault that covers ``point`` when all shares are laid end to end from 0."""
        for fault, share in self.shares:
            if point < share:
                return fault
            point -= share
        return None


def _share(written: str, part: str) -> float:
    share = read_share(written)
    if share is None:
        raise ConfigurationError(f"{part!r} gives no share of the requests: write {_FORMS}")
    return share


def mix_from(given: str | FaultMix | None) -> FaultMix:
    """Return a mix as it is, a description parsed, and no faults for None."""
    if isinstance(given, FaultMix):
        return given
    if isinstance(given, str | None):
        return FaultMix() if given is None else FaultMix.parse(given)
    raise ConfigurationError(f"{given!r} is not a mix of faults: write {_FORMS}")


class FaultSource:
    """Deals the faults: one draw a request, planned faults before random ones.

    A planned request draws as well, so that planning does not change what later requests meet.
    """

    def __init__(self, *, mix: FaultMix, random: Random) -> None:
        self._mix = mix
        self._random = random
        # By kind of request, None for any; changed in plan() and, one at a time, in draw().
        self._planned: defaultdict[str | None, deque[tuple[Fault, ...]]] = defaultdict(deque)

    def plan(self, name: str, times: int, kind: str | None = None) -> None:
        """Give the next ``times`` requests of that kind the fault of that name; plans are served in order."""
        if times < 1:
            raise ConfigurationError(f"a fault planned {times} times never happens: plan at least 1")
        self._planned[kind].extend([faults_named(name)] * times)

    def draw(self, kind: str) -> Fault | None:
        """Return what the next request meets, None for nothing; plans for its kind before those for any."""
        point = self._random.random()
        planned = self._planned.get(kind) or self._planned.get(None)
        if not planned:
            return self._mix.at(point)
        choices = planned.popleft()
        return choices[int(point * len(choices))]
