"""How long a response asks us to wait before the next request, in every form that servers use.

Bandwidth's description gives ``Retry-After`` as a string without a unit. Its other products send whole
seconds, or ``X-RateLimit-Reset`` as epoch seconds or epoch milliseconds. So all of them are read. Whatever
the headers hold, the parser returns seconds or None and never raises.
"""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy, MultiMapping

    Headers = CIMultiDictProxy[str] | MultiMapping[str]

_NUMBER = re.compile(r"\d{1,13}(?:\.\d+)?")

# A larger Retry-After is not a number of seconds but something else, such as an epoch time.
_LONGEST_DELAY = 999_999_999

# An X-RateLimit-Reset of up to a day is a number of seconds from now.
_LONGEST_DELTA = 86_400

# A larger X-RateLimit-Reset is an epoch time in seconds, and an even larger one is in milliseconds.
_EPOCH_SECONDS = 1e9
_EPOCH_MILLISECONDS = 1e11

# ``Date`` holds whole seconds only. If our clock differs by no more than this, it is the more precise one.
_CLOCK_TOLERANCE = 2.0


def parse_hint(headers: Headers, wall_clock: float, status: int = 429) -> float | None:
    """Return the seconds to wait that the headers of a response with ``status`` ask for.

    ``Retry-After`` is the server's word for this very response. Without it, ``X-RateLimit-Reset`` counts if
    the quota is what refused: many APIs send it with every response. Of several values of one header the
    longest valid one counts. The result is 0.0 if the wait is over already, and None if there is no usable
    hint. Moments are compared with the response's own ``Date``, so a wrong local clock does no harm.
    ``wall_clock`` is the local time in epoch seconds.
    """
    if "Retry-After" not in headers and "X-RateLimit-Reset" not in headers:
        return None
    now = _server_time(headers, wall_clock)
    for name, read in (("Retry-After", _retry_after), ("X-RateLimit-Reset", _rate_limit_reset)):
        if name == "X-RateLimit-Reset" and not _quota_is_spent(headers, status):
            continue
        delays = [read(value, now) for value in headers.getall(name, ())]
        hint = max((delay for delay in delays if delay is not None), default=None)
        if hint is not None:
            return hint
    return None


def _quota_is_spent(headers: Headers, status: int) -> bool:
    """Return whether it is the quota that refused: a 429 means that, a 403 only if nothing remains."""
    remaining = _number(headers.get("X-RateLimit-Remaining", ""))
    return not remaining if status == 429 else status == 403 and remaining == 0


def _server_time(headers: Headers, wall_clock: float) -> float:
    """Return the server's time in epoch seconds: ``Date`` plus the ``Age`` that a cache adds.

    Our own clock is used if there is no ``Date``, or if it nearly agrees.
    """
    sent = _date(headers.get("Date", ""))
    if sent is None:
        return wall_clock
    sent += _number(headers.get("Age", "")) or 0.0
    return wall_clock if abs(wall_clock - sent) <= _CLOCK_TOLERANCE else sent


def _retry_after(value: str, now: float) -> float | None:
    moment = _date(value)
    if moment is not None:
        return max(0.0, moment - now)
    # RFC 9110 lets proxies join two headers into one line.
    delays = [_number(part) for part in value.split(",")]
    return max((delay for delay in delays if delay is not None and delay <= _LONGEST_DELAY), default=None)


def _rate_limit_reset(value: str, now: float) -> float | None:
    delays = [_reset(_number(part), now) for part in value.split(",")]
    return max((delay for delay in delays if delay is not None), default=None)


def _reset(number: float | None, now: float) -> float | None:
    if number is None:
        return None
    if number > _EPOCH_MILLISECONDS:
        return max(0.0, number / 1000 - now)
    if number > _EPOCH_SECONDS:
        return max(0.0, number - now)
    return number if number <= _LONGEST_DELTA else None


def _number(value: str) -> float | None:
    """Return a plain decimal number, or None for anything else: a sign, an exponent, ``inf`` or ``nan``."""
    text = value.strip()
    return float(text) if _NUMBER.fullmatch(text) and text.isascii() else None


def _date(value: str) -> float | None:
    """Return an HTTP date, in any of the three forms of RFC 9110, as epoch seconds."""
    try:
        moment = parsedate_to_datetime(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
