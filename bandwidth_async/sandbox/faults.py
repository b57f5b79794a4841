"""Faults: which request gets which fault, chosen by the seed, and what the fault does to its response.

A fault before the work leaves the conference as it was. A fault after the work has changed it although no
response says so. Both happen in practice, and a client cannot tell them apart.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Callable
from enum import Enum
from random import Random

from attrs import evolve, field, frozen

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.sandbox.messages import Response
from bandwidth_async.sandbox.settings import parse_share

_FORMS = (
    "an HTTP status from 200 to 599, reset or hang, each also with -before or -after, slow, garbage, "
    "cut or cut@0.3, with shares like 2% or 0.02: 503=2%,reset=1%,hang-after=0.1%"
)
_NAME = re.compile(r"([2-5]\d\d|reset|hang)(-before|-after)?|slow|garbage")
_CUT = re.compile(r"cut(?:@(0(?:\.\d+)?))?")

# A slow response is padded to this many bytes, so that it takes longer than any timeout.
_SLOW_BYTES = 90
_GARBAGE = b'{"garbage": \xff'


class Effect(Enum):
    """What a fault does to a response."""

    STATUS = "status"
    RESET = "reset"
    HANG = "hang"
    SLOW = "slow"
    GARBAGE = "garbage"
    CUT = "cut"


@frozen(kw_only=True)
class Fault:
    """One fault. ``after`` means after the work is done.

    ``status`` is that of a STATUS fault. ``share`` is how much of the body a CUT fault lets through.
    """

    effect: Effect
    after: bool
    status: int = 0
    share: float = 0.0


def parse_fault(name: str) -> tuple[Fault, ...]:
    """Return the faults that ``name`` stands for, all equally likely.

    ``reset`` and ``hang`` mean both before and after the work. ``cut`` means at half of the body. Raises
    `ConfigurationError` with the accepted forms.
    """
    cut = _CUT.fullmatch(name)
    if cut is not None:
        return (Fault(effect=Effect.CUT, after=True, share=float(cut[1] or 0.5)),)
    match = _NAME.fullmatch(name)
    if match is None:
        raise ConfigurationError(f"{name!r} is not a fault: write {_FORMS}")
    what, when = match.groups()
    if what is None:
        return (Fault(effect=Effect(name), after=True),)
    if what.isdigit():
        return (Fault(effect=Effect.STATUS, after=when == "-after", status=int(what)),)
    moments = (False, True) if when is None else (when == "-after",)
    return tuple(Fault(effect=Effect(what), after=after) for after in moments)


def _at_most_all(_instance: object, _setting: object, shares: tuple[tuple[Fault, float], ...]) -> None:
    total = sum(share for _, share in shares)
    if total > 1 + 1e-9:
        raise ConfigurationError(
            f"the faults add up to {100 * total:.4g} % of all requests; 100 % is the most"
        )


@frozen(kw_only=True)
class FaultMix:
    """Faults, each with its share of all requests. The rest of the requests gets no fault."""

    shares: tuple[tuple[Fault, float], ...] = field(default=(), validator=_at_most_all)

    @classmethod
    def parse(cls, text: str) -> FaultMix:
        """Return the mix that ``text`` describes. Raises `ConfigurationError` with the accepted forms."""
        shares: list[tuple[Fault, float]] = []
        for part in filter(None, map(str.strip, text.split(","))):
            name, _, written = part.partition("=")
            faults = parse_fault(name.strip())
            share = parse_share(written)
            if share is None:
                raise ConfigurationError(f"{part!r} gives no share of the requests: write {_FORMS}")
            shares += [(fault, share / len(faults)) for fault in faults]
        return cls(shares=tuple(shares))

    def at(self, point: float) -> Fault | None:
        """Return the fault whose share covers ``point``, if all shares are laid end to end from 0."""
        for fault, share in self.shares:
            if point < share:
                return fault
            point -= share
        return None


def mix_from(given: str | FaultMix | None) -> FaultMix:
    """Return a mix as it is, a parsed text, or no faults for None."""
    if isinstance(given, FaultMix):
        return given
    if isinstance(given, str | None):
        return FaultMix() if given is None else FaultMix.parse(given)
    raise ConfigurationError(f"{given!r} is not a mix of faults: write {_FORMS}")


class FaultSelector:
    """Chooses the fault of each request: planned faults first, then random ones.

    Each request uses one random number, also if its fault is planned. So a plan does not change which faults
    later requests get.
    """

    def __init__(self, *, mix: FaultMix, random: Random) -> None:
        self._mix = mix
        self._random = random
        # By kind of request, None for any; changed in plan() and, one at a time, in choose().
        self._planned: defaultdict[str | None, deque[tuple[Fault, ...]]] = defaultdict(deque)

    def plan(self, name: str, times: int, kind: str | None = None) -> None:
        """Give the next ``times`` requests of that kind this fault. Plans are used in order."""
        if times < 1:
            raise ConfigurationError(f"a fault planned {times} times never happens: plan at least 1")
        self._planned[kind].extend([parse_fault(name)] * times)

    def choose(self, kind: str) -> Fault | None:
        """Return the fault of the next request, if any. A plan for its kind precedes one for any kind."""
        point = self._random.random()
        planned = self._planned.get(kind) or self._planned.get(None)
        if not planned:
            return self._mix.at(point)
        choices = planned.popleft()
        return choices[int(point * len(choices))]


class SendMode(Enum):
    """How a response is sent; RESET and HANG send none."""

    WHOLE = "whole"
    SLOW = "slow"
    RESET = "reset"
    HANG = "hang"
    CUT = "cut"


@frozen(kw_only=True)
class Delivery:
    """A response, if there is one, and how it is sent.

    ``counted_as`` is its name in the truth. A CUT response sends ``length`` bytes of its body.
    """

    mode: SendMode
    counted_as: str
    response: Response | None = None
    length: int = 0


def apply_fault(
    fault: Fault | None, work: Callable[[], Response], failure: Callable[[int], Response]
) -> Delivery:
    """Do the work unless the fault comes before it, and return what the client gets.

    ``failure`` returns the response for the status of a STATUS fault.
    """
    if fault is None:
        return undisturbed(work())
    if fault.effect is Effect.GARBAGE:
        return undisturbed(_with_body(work(), lambda _: _GARBAGE))
    if fault.effect is Effect.SLOW:
        slow = work()
        if slow.stream is None:
            slow = _with_body(slow, lambda body: (body or b"{}").ljust(_SLOW_BYTES))
        return Delivery(mode=SendMode.SLOW, counted_as=str(slow.status), response=slow)
    if fault.effect is Effect.CUT:
        return _cut(work(), fault.share)
    if fault.after:
        work()
    if fault.effect is Effect.STATUS:
        return undisturbed(failure(fault.status))
    moment = "after" if fault.after else "before"
    return Delivery(mode=SendMode(fault.effect.value), counted_as=f"{fault.effect.value}-{moment}")


def undisturbed(response: Response) -> Delivery:
    """Return the delivery of a whole response."""
    return Delivery(mode=SendMode.WHOLE, counted_as=str(response.status), response=response)


def _cut(response: Response, share: float) -> Delivery:
    """Return a delivery that closes the connection within the body, or before a response without a body."""
    size = response.content.size
    if not size:
        return Delivery(mode=SendMode.RESET, counted_as="cut")
    return Delivery(mode=SendMode.CUT, counted_as="cut", response=response, length=int(size * share))


def _with_body(response: Response, change: Callable[[bytes], bytes]) -> Response:
    """Return the response with another body. A 204 becomes a 200, which may have one."""
    return evolve(
        response,
        status=200 if response.status == 204 else response.status,
        headers={**response.headers, "Content-Type": "application/json"},
        body=change(response.body),
        stream=None,
    )
