"""How long a response asks us to wait before the next request, in every form that servers use.

Bandwidth's description gives ``Retry-After`` as a string without a unit. Its other products send whole
seconds, or ``X-RateLimit-Reset`` as epoch seconds or epoch milliseconds. A gateway in between has forms of
its own. Whatever the headers hold, the parser returns seconds or None and never raises.

======================================  ===================================================================
``Retry-After``, `_FOR_THIS_REQUEST`    when this very request may come again
``X-RateLimit-Reset``, also without X,  when a window of the quota ends; how many requests remain in it is in
with ``-After``, ``-Requests``, …       the header with ``Remaining`` in place of ``Reset``
``RateLimit: remaining=0, reset=30``    such a window, in version 7 of the IETF's draft
``RateLimit: "day";r=0;t=30, "hour";…``  such windows, in later versions of the draft
======================================  ===================================================================

A value is a number of seconds, a number with units (``30s``, ``1500ms``, ``6m0s``, ``2 seconds``,
``PT30S``), or a date of HTTP or of ISO 8601. A window may also end at an epoch time. Most of these forms
hold whole seconds only, so the server rounded what it meant: such a hint is `Hint.coarse`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import repeat
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from multidict import CIMultiDictProxy, MultiMapping

    Headers = CIMultiDictProxy[str] | MultiMapping[str]

    # A text for what remains in a window, one for its end, and how many of that one's units are a second.
    Window = tuple[str, str, int]

# The headers for this request, and how many of their units are a second.
_FOR_THIS_REQUEST = {
    "Retry-After": 1,
    "Retry-After-Ms": 1000,
    "X-Ms-Retry-After-Ms": 1000,
    "X-Retry-After": 1,
    "X-Retry-In": 1,
    "X-RateLimit-Retry-After": 1,
    "X-Rate-Limit-Retry-After-Seconds": 1,
}

# What is behind ``Reset`` in a header's name and does not name the quota.
_FORM_OF_RESET = re.compile(r"(?:-after|-?time|-ms)(?=-|$)")

# A policy's name, the comma in front of the next policy, and what we need of a policy. A name that does not
# end takes the rest, so that a search takes no time that grows with the square of the length.
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|$)?')
_NEXT_POLICY = re.compile(r",(?!\s*\w+\s*=)")
_PARAMETER = re.compile(r"(?:^|[\s;,])(r|t|remaining|reset)\s*=\s*([^\s;,]+)")

_NUMBER = re.compile(r"[0-9]{1,13}(?:\.[0-9]+)?")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_WITH_UNIT = re.compile(
    rf"({_NUMBER.pattern})\s*(ms|milliseconds?|s|sec(?:ond)?s?|m|min(?:ute)?s?|h|hours?|d|days?)[\sT]*",
    re.ASCII | re.IGNORECASE,
)
# ``P1M`` would be a month.
_DURATION = re.compile(rf"(?:P(?!\d+M)T?)?(?:{_WITH_UNIT.pattern})+", re.ASCII | re.IGNORECASE)

# What only a text has that can tell parts of a second.
_FINE = re.compile(r"\.[0-9]|[0-9]\s*m(?:s|illi)", re.ASCII | re.IGNORECASE)

# A larger Retry-After is not a number of seconds but something else, such as an epoch time.
_LONGEST_DELAY = 999_999_999

# The end of a window of up to a day is a number of seconds from now.
_LONGEST_WINDOW = 86_400

# A larger end of a window is an epoch time in seconds, and an even larger one is in milliseconds.
_EPOCH_SECONDS = 1e9
_EPOCH_MILLISECONDS = 1e11

# 2015-10-21: to try a text as a date takes a while, and a header may be a list of thousands of texts.
_SHORTEST_DATE = 10

# ``Date`` holds whole seconds only. If our clock differs by no more than this, it is the more precise one.
_CLOCK_TOLERANCE = 2.0


@frozen
class Hint:
    """The seconds to wait that a server asks for. If it is ``coarse``, a second of them may be rounding."""

    seconds: float
    coarse: bool


def parse_hint(headers: Headers, wall_clock: float, status: int = 429) -> float | None:
    """Return the seconds of `read_hint`, None if there is no usable hint."""
    hint = read_hint(headers, wall_clock, status)
    return hint.seconds if hint else None


def read_hint(headers: Headers, wall_clock: float, status: int = 429) -> Hint | None:
    """Return the time to wait that the headers of a response with ``status`` ask for.

    What is said of this very request has priority. Without it, the end of a window counts if the quota is
    what refused: many APIs send it with every response. Of several values the longest valid one counts. The
    result is of 0 s if the wait is over already, and None if there is no usable hint. Moments are compared
    with the response's own ``Date``, so a wrong local clock does no harm. ``wall_clock`` is the local time in
    epoch seconds.
    """
    names = [name for name in _FOR_THIS_REQUEST if name in headers]
    told = [(value, _FOR_THIS_REQUEST[name]) for name in names for value in headers.getall(name)]
    ends = _spent(list(_windows(headers)), status) if status in {403, 429} else []
    if not told and not ends:
        return None
    now = _server_time(headers, wall_clock)
    # RFC 9110 lets proxies join two headers into one line.
    hint = _longest(_wait(part, now, unit) for value, unit in told for part in value.split(","))
    return hint if hint is not None else _longest(_wait(end, now, unit, window=True) for end, unit in ends)


def _windows(headers: Headers) -> Iterator[Window]:
    """Yield the windows of the quota that the headers tell of."""
    for value in headers.getall("RateLimit", ()):
        for policy in _NEXT_POLICY.split(_QUOTED.sub("", value)):
            said: dict[str, str] = dict(_PARAMETER.findall(policy.lower()))
            yield said.get("r", said.get("remaining", "")), said.get("t", said.get("reset", "")), 1
    for name in dict.fromkeys(headers):
        before, reset, behind = name.lower().partition("-reset")
        if reset and "ratelimit" in before.replace("-", ""):
            unit = 1000 if behind.endswith("-ms") else 1
            quota = _FORM_OF_RESET.sub("", behind)
            ends = _parts(headers, name)
            remaining = _parts(headers, f"{before}-remaining{quota}")
            # A pair of headers may list several windows.
            if len(remaining) != len(ends):
                remaining = remaining[:1] * len(ends)
            yield from zip(remaining, ends, repeat(unit))


def _parts(headers: Headers, name: str) -> list[str]:
    return ",".join(headers.getall(name, ())).split(",")


def _spent(windows: list[Window], status: int) -> list[tuple[str, int]]:
    """Return the ends of the windows whose quota is what refused: nothing remains in them.

    A 429 without such a window refused for one of those that do not say what remains. A 403 may have other
    reasons.
    """
    remaining = [_number(left) for left, _, _ in windows]
    refused = 0.0 if status == 403 or 0.0 in remaining else None
    return [(end, unit) for (_, end, unit), left in zip(windows, remaining, strict=True) if left == refused]


def _longest(waits: Iterable[Hint | None]) -> Hint | None:
    # The same in a finer form tells more.
    return max(
        (wait for wait in waits if wait), key=lambda wait: (wait.seconds, not wait.coarse), default=None
    )


def _server_time(headers: Headers, wall_clock: float) -> float:
    """Return the server's time in epoch seconds: ``Date`` plus the ``Age`` that a cache adds.

    Our own clock is used if there is no ``Date``, or if it nearly agrees.
    """
    sent = _date(headers.get("Date", ""))
    if sent is None:
        return wall_clock
    sent += _number(headers.get("Age", "")) or 0.0
    return wall_clock if abs(wall_clock - sent) <= _CLOCK_TOLERANCE else sent


def _wait(text: str, now: float, unit: int, *, window: bool = False) -> Hint | None:
    """Return the time from ``now`` that a text means, ``unit`` of its numbers to a second."""
    number = _number(text)
    coarse = unit == 1 and not _FINE.search(text)
    delay = _duration(text) if number is None else number / unit
    if delay is not None and delay <= (_LONGEST_WINDOW if window else _LONGEST_DELAY):
        return Hint(delay, coarse)
    moment = _date(text) if number is None else _epoch(number / unit) if window else None
    coarse &= number is None or number <= _EPOCH_MILLISECONDS
    return None if moment is None else Hint(max(0.0, moment - now), coarse)


def _number(value: str) -> float | None:
    """Return a plain decimal number, or None for anything else: a sign, an exponent, ``inf`` or ``nan``."""
    text = value.strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def _duration(value: str) -> float | None:
    """Return numbers with units in seconds, or None for anything else."""
    text = value.strip()
    if not _DURATION.fullmatch(text):
        return None
    return sum(
        float(number) * (0.001 if unit.lower().startswith(("ms", "mil")) else _SECONDS[unit[0].lower()])
        for number, unit in _WITH_UNIT.findall(text)
    )


def _epoch(number: float) -> float | None:
    """Return an epoch time in seconds, or None for a number that is too small for one."""
    if number > _EPOCH_MILLISECONDS:
        return number / 1000
    return number if number > _EPOCH_SECONDS else None


def _date(value: str) -> float | None:
    """Return a date as epoch seconds, in ISO 8601 or in any of the three forms of RFC 9110."""
    text = value.strip()
    if len(text) < _SHORTEST_DATE:
        return None
    for read in (_iso_date, parsedate_to_datetime):
        try:
            moment = read(text)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, TypeError, OverflowError, IndexError):
            continue
    return None


def _iso_date(text: str) -> datetime:
    """Return a date of ISO 8601. Raises `ValueError` for anything else, such as a long number."""
    if "-" not in text and "T" not in text:
        raise ValueError(text)
    return datetime.fromisoformat(text)
