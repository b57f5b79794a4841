"""Converters of the sandbox's settings: each takes the value or its text, and checks it."""

from __future__ import annotations

import math
import re
from typing import TypeGuard, TypeVar

from bandwidth_async.durations import parse_duration, parse_span
from bandwidth_async.errors import ConfigurationError
from bandwidth_async.sandbox.conferences import MAX_MEMBERS
from bandwidth_async.sandbox.events import url_error
from bandwidth_async.sandbox.recordings import HEADER_SIZE
from bandwidth_async.webhooks.reception import CALLBACK_TIMEOUTS

_Number = TypeVar("_Number", int, float)

_PERCENT_OR_FRACTION = re.compile(r"(\d+(?:\.\d+)?)\s*(%?)", re.ASCII)
_SIZE = re.compile(r"(\d+)\s*([kKMG]?)(i?)B?")
_POWERS = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3}
_MAX_SIZE = 4 * 1000**3
_MAX_RECORDINGS = 20
_COUNTS = re.compile(r"(\d+)(?:\s*-\s*(\d+))?")
_ALREADY_ENDED = (404, 409, 204)
_CALL_ALREADY_ENDED = (409, 404, 200)


def latency_from(given: str | float | tuple[float, float] | None) -> tuple[float, float]:
    """Return (shortest, longest) in seconds from ``20-200ms``, ``50ms``, a pair, or None for no latency."""
    span: object = parse_span(given) if isinstance(given, str) else given
    if given is None or _is_number(given):
        span = (given or 0.0, given or 0.0)
    if _is_pair(span, float) and 0 <= span[0] <= span[1] < math.inf:
        return (span[0], span[1])
    raise ConfigurationError(f"{given!r} is not a latency: write 20-200ms, 50ms, or (0.02, 0.2) in seconds")


def lifetime_from(given: str | float) -> float:
    """Return a token's lifetime in seconds, above 0, from ``1h`` or a number of seconds."""
    lifetime = parse_duration(given) if isinstance(given, str) else given
    if not _is_number(lifetime) or not 0 < lifetime < math.inf:
        raise ConfigurationError(f"{given!r} is not a token lifetime: write 1h, 90s or seconds above 0")
    return float(lifetime)


def members_from(given: str | int | tuple[int, int]) -> tuple[int, int]:
    """Return (fewest, most) members of a conference from ``0-4``, ``2``, a number or a pair."""
    return _counts_from(given, "members", MAX_MEMBERS)


def recordings_from(given: str | int | tuple[int, int]) -> tuple[int, int]:
    """Return (fewest, most) recordings of a conference at its start, written as for members."""
    return _counts_from(given, "recordings", _MAX_RECORDINGS)


def _counts_from(given: str | int | tuple[int, int], what: str, limit: int) -> tuple[int, int]:
    counts: object = given
    if isinstance(given, str | int):
        match = _COUNTS.fullmatch(str(given).strip())
        counts = match and (int(match[1]), int(match[2] or match[1]))
    if not _is_pair(counts, int):
        raise ConfigurationError(f"{given!r} is not a number of {what}: write 0-4 or 2, at most {limit}")
    fewest, most = counts
    if not 0 <= fewest <= most <= limit:
        raise ConfigurationError(f"{given!r} {what} do not fit: write 0-4 or 2, at most {limit}")
    return (fewest, most)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_pair(value: object, kind: type[_Number]) -> TypeGuard[tuple[_Number, _Number]]:
    """Return whether the value is two numbers, whole ones if ``kind`` is int."""
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and all(_is_number(it) and (kind is float or isinstance(it, int)) for it in value)
    )


def size_from(given: str | int) -> int:
    """Return the bytes of a recording's file from ``200MB``, ``64KiB`` or a number: even, at most 4 GB."""
    match = _SIZE.fullmatch(str(given).strip())
    size = int(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2]] if match else 0
    if not HEADER_SIZE <= size <= _MAX_SIZE or size % 2:
        raise ConfigurationError(
            f"{given!r} is not a size of a recording: write 200MB, 64KiB or an even number of bytes, "
            f"{HEADER_SIZE} to 4GB"
        )
    return size


def parse_share(text: str) -> float | None:
    """Return the share that ``5%`` or ``0.05`` means, 1 for 100 %; None if the text is not a share."""
    match = _PERCENT_OR_FRACTION.fullmatch(text.strip())
    return float(match[1]) / (100 if match[2] else 1) if match else None


def share_from(given: str | float) -> float:
    """Return a share from 0 to 1 from ``5%`` or 0.05."""
    share = parse_share(str(given))
    if share is None or share > 1:
        raise ConfigurationError(f"{given!r} is not a share: write 5% or 0.05, at most 100%")
    return share


def callback_timeout_from(given: str | float) -> float:
    """Return how long a webhook may take in seconds, 1 to 25, from ``5s`` or a number of seconds."""
    seconds = parse_duration(given) if isinstance(given, str) else given
    shortest, longest = CALLBACK_TIMEOUTS
    if not _is_number(seconds) or not shortest <= seconds <= longest:
        raise ConfigurationError(f"{given!r} is not a timeout for events: write 15s, from 1s to 25s")
    return float(seconds)


def method_from(given: str) -> str:
    """Return the HTTP method of a webhook."""
    if given not in {"GET", "POST"}:
        raise ConfigurationError(f"{given!r} is not a method for events: choose POST or GET")
    return given


def event_url_from(given: str | None) -> str | None:
    """Return the URL for events, None for an empty text."""
    if given and url_error(given) is not None:
        raise ConfigurationError(f"{given!r} is not a URL for events: write http://127.0.0.1:8000/events")
    return given or None


def already_ended_from(given: str | int) -> int:
    """Return the status for updating a conference that has ended."""
    return _status_from(_ALREADY_ENDED, given, "conference")


def call_already_ended_from(given: str | int) -> int:
    """Return the status for updating a call that has ended."""
    return _status_from(_CALL_ALREADY_ENDED, given, "call")


def _status_from(choices: tuple[int, int, int], given: str | int, what: str) -> int:
    for status in choices:
        if str(given) == str(status):
            return status
    first, second, third = choices
    raise ConfigurationError(
        f"{given!r} is not a status for an ended {what}: choose {first}, {second} or {third}"
    )


def number_from(given: str | int) -> int:
    """Return the number of conferences at the start, 0 or more."""
    if not re.fullmatch(r"\d+", str(given)):
        raise ConfigurationError(f"{given!r} is not a number of conferences: write 0 or more")
    return int(given)


def port_from(given: str | int) -> int:
    """Return a port; 0 means any free one."""
    if not re.fullmatch(r"\d{1,5}", str(given)) or int(given) > 65535:
        raise ConfigurationError(f"{given!r} is not a port: write 1 to 65535, or 0 for a free one")
    return int(given)
