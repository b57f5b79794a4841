"""The sandbox's smaller settings: each as its value or as text, checked at the door."""

from __future__ import annotations

import math
import re
from typing import TypeGuard, TypeVar

from bandwidth_async.durations import parse_duration, parse_span
from bandwidth_async.errors import ConfigurationError
from bandwidth_async.sandbox.media import HEADER
from bandwidth_async.sandbox.shares import read_share
from bandwidth_async.sandbox.targets import is_web_url
from bandwidth_async.sandbox.world import MOST_MEMBERS

N = TypeVar("N", int, float)

_SIZE = re.compile(r"(\d+)\s*([kKMG]?)(i?)B?")
_UNITS = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3}
_SMALLEST = HEADER
_LARGEST = 4 * 1000**3
MOST_RECORDINGS = 20
_COUNTS = re.compile(r"(\d+)(?:\s*-\s*(\d+))?")
ALREADY_ENDED = (404, 409, 204)
CALL_ALREADY_ENDED = (409, 404, 200)


def latency_from(given: str | float | tuple[float, float] | None) -> tuple[float, float]:
    """Return (shortest, longest) in seconds; ``20-200ms``, ``50ms``, a pair, or None for no latency."""
    span: object = parse_span(given) if isinstance(given, str) else given
    if given is None or _is_number(given):
        span = (given or 0.0, given or 0.0)
    if _is_pair(span, float) and 0 <= span[0] <= span[1] < math.inf:
        return (span[0], span[1])
    raise ConfigurationError(f"{given!r} is no latency: write 20-200ms, 50ms, or (0.02, 0.2) in seconds")


def lifetime_from(given: str | float) -> float:
    """Return a token's lifetime in seconds, above 0; ``1h`` or a number of seconds."""
    lifetime = parse_duration(given) if isinstance(given, str) else given
    if not _is_number(lifetime) or not 0 < lifetime < math.inf:
        raise ConfigurationError(f"{given!r} is no token lifetime: write 1h, 90s or seconds above 0")
    return float(lifetime)


def members_from(given: str | int | tuple[int, int]) -> tuple[int, int]:
    """Return (fewest, most) members of a conference; ``0-4``, ``2``, a number or a pair."""
    return _span(given, "members", MOST_MEMBERS)


def recordings_from(given: str | int | tuple[int, int]) -> tuple[int, int]:
    """Return (fewest, most) recordings that a conference has at the start; written as members are."""
    return _span(given, "recordings", MOST_RECORDINGS)


def _span(given: str | int | tuple[int, int], what: str, limit: int) -> tuple[int, int]:
    span: object = _counts(given, what, limit) if isinstance(given, str | int) else given
    if not _is_pair(span, int):
        raise ConfigurationError(f"{given!r} is no number of {what}: write 0-4 or 2, at most {limit}")
    fewest, most = span
    if not 0 <= fewest <= most <= limit:
        raise ConfigurationError(f"{given!r} {what} do not fit: write 0-4 or 2, at most {limit}")
    return (fewest, most)


def _counts(given: str | int, what: str, limit: int) -> tuple[int, int]:
    match = _COUNTS.fullmatch(str(given).strip())
    if match is None:
        raise ConfigurationError(f"{given!r} is no number of {what}: write 0-4 or 2, at most {limit}")
    return (int(match[1]), int(match[2] or match[1]))


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_pair(value: object, kind: type[N]) -> TypeGuard[tuple[N, N]]:
    """Return whether the value is two numbers; two whole ones where ``kind`` is int."""
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and all(_is_number(it) and (kind is float or isinstance(it, int)) for it in value)
    )


def size_from(given: str | int) -> int:
    """Return the bytes of a recording's file; ``200MB``, ``64KiB`` or a number, even, at most 4 GB."""
    match = _SIZE.fullmatch(str(given).strip())
    size = int(match[1]) * (1024 if match[3] else 1000) ** _UNITS[match[2]] if match else 0
    if not _SMALLEST <= size <= _LARGEST or size % 2:
        raise ConfigurationError(
            f"{given!r} is no size of a recording: write 200MB, 64KiB or an even number of bytes, "
            f"{_SMALLEST} to 4GB"
        )
    return size


def share_from(given: str | float) -> float:
    """Return a share from 0 to 1; ``5%`` or 0.05."""
    share = read_share(str(given))
    if share is None or share > 1:
        raise ConfigurationError(f"{given!r} is no share: write 5% or 0.05, at most 100%")
    return share


def method_from(given: str) -> str:
    """Return the method of a webhook."""
    if given not in {"GET", "POST"}:
        raise ConfigurationError(f"{given!r} is no method for events: choose POST or GET")
    return given


def event_url_from(given: str | None) -> str | None:
    """Return where events go; nothing and None for nowhere."""
    if given and not is_web_url(given):
        raise ConfigurationError(f"{given!r} is no URL for events: write http://127.0.0.1:8000/events")
    return given or None


def already_ended_from(given: str | int) -> int:
    """Return the status with which an ended conference refuses, or takes, another update."""
    return _one_of(ALREADY_ENDED, given, "conference")


def call_already_ended_from(given: str | int) -> int:
    """Return the status with which an ended call refuses, or takes, another update."""
    return _one_of(CALL_ALREADY_ENDED, given, "call")


def _one_of(choices: tuple[int, int, int], given: str | int, what: str) -> int:
    for status in choices:
        if str(given) == str(status):
            return status
    first, second, third = choices
    raise ConfigurationError(
        f"{given!r} is no answer for an ended {what}: choose {first}, {second} or {third}"
    )


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
