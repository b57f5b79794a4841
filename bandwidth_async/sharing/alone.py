"""How a process goes on alone: at which pace, and what it says about it."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from attrs import evolve

from bandwidth_async.limiter.pace import RateLimit, pace_for

if TYPE_CHECKING:
    from bandwidth_async.limiter.pace import Pace
    from bandwidth_async.sharing.messages import State

# Seconds without trouble, after which the next trouble is said again.
_FORGIVEN = 60.0

_log = logging.getLogger("bandwidth_async.sharing")


def pace_alone(limit: RateLimit, state: State | None, expected: int) -> Pace:
    """Return the pace of a process that goes on alone: from its share of the last rate on.

    If nothing is known of the others, a rate that was given is for as many processes as are ``expected``.
    """
    if state is None:
        return pace_for(evolve(limit, rate=limit.rate and limit.rate / expected))
    if state.fixed:
        return pace_for(RateLimit.fixed(state.share()))
    start = min(max(state.share(), limit.floor), limit.ceiling)
    return pace_for(evolve(limit, rate=None, knowledge=None, start=start))


class Notices:
    """Says once that a process goes on alone, and that it is back. Not again while that comes and goes."""

    def __init__(self, *, warn: bool) -> None:
        self._level = logging.WARNING if warn else logging.INFO
        self._at = -math.inf

    def alone(self, now: float, store: str, reason: str, rate: float) -> None:
        """Say that the process is alone now."""
        level = self._level if now - self._at > _FORGIVEN else logging.DEBUG
        self._at = now
        sentence = (
            "the limit shared over %s is out of reach (%s): this process goes on alone, from %.3g requests a "
            "second"
        )
        _log.log(level, sentence, store, reason, rate)

    def back(self, now: float, store: str) -> None:
        """Say that the process shares the limit again."""
        self._at = now
        _log.info("this process shares the limit over %s again", store)
