"""The sandbox's smaller settings: each as its value or as text, checked at the door."""

from __future__ import annotations

import math
import re

from bandwidth_async.durations import parse_duration, parse_span
from bandwidth_async.errors import ConfigurationError
from bandwidth_async.sandbox.world import MOST_MEMBERS

_COUNTS = re.compile(r"(\d+)(?:\s*-\s*(\d+))?")
ALREADY_ENDED = (404, 409, 204)


def latency_from(given: str | float | tuple[float, float] | None) -> tuple[float, float]:
    """Return (shortest, longest) in seconds; ``20-200ms``, ``50ms``, a pair, or None for no latency."""
    if isinstance(given, int | float | None):
        given = (given or 0.0, given or 0.0)
    shortest, longest = parse_span(given) if isinstance(given, str) else given
    if not 0 <= shortest <= longest < math.inf:
        raise ConfigurationError(f"{given!r} is no latency: write 20-200ms, 50ms, or (0.02, 0.2) in seconds")
    return (shortest, longest)


def lifetime_from(given: str | float) -> float:
    """Return a token's lifetime in seconds, above 0; ``1h`` or a number of seconds."""
    lifetime = parse_duration(given) if isinstance(given, str) else float(given)
    if not 0 < lifetime < math.inf:
        raise ConfigurationError(f"{given!r} is no token lifetime: write 1h, 90s or seconds above 0")
    return lifetime


def members_from(given: str | int | tuple[int, int]) -> tuple[int, int]:
    """Return (fewest, most) members of a conference; ``0-4``, ``2``, a number or a pair."""
    fewest, most = _counts(given) if isinstance(given, str | int) else given
    if not 0 <= fewest <= most <= MOST_MEMBERS:
        raise ConfigurationError(f"{given!r} members do not fit: write 0-4 or 2, at most {MOST_MEMBERS}")
    return (fewest, most)


def _counts(given: str | int) -> tuple[int, int]:
    match = _COUNTS.fullmatch(str(given).strip())
    if match is None:
        raise ConfigurationError(f"{given!r} is no number of members: write 0-4 or 2, at most {MOST_MEMBERS}")
    return (int(match[1]), int(match[2] or match[1]))


def already_ended_from(given: str | int) -> int:
    """Return the status with which an ended conference refuses, or takes, another update."""
    for status in ALREADY_ENDED:
        if str(given) == str(status):
            return status
    raise ConfigurationError(f"{given!r} is no answer for an ended conference: choose 404, 409 or 204")


def number_from(given: str | int) -> int:
    """Return how many conferences there are at first: 0 or more."""
    if not re.fullmatch(r"\d+", str(given)):
        raise ConfigurationError(f"{given!r} is no number of conferences: write 0 or more")
    return int(given)


def port_from(given: str | int) -> int:
    """Return a port; 0 is any free one."""
    if not re.fullmatch(r"\d{1,5}", str(given)) or int(given) > 65535:
        raise ConfigurationError(f"{given!r} is no port: write 1 to 65535, or 0 for a free one")
    return int(given)
