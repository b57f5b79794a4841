"""How long a server asks us to wait, in every form servers are known to use.

Bandwidth's description gives ``Retry-After`` as a string without a unit, and its other products answer
with whole seconds or with ``X-RateLimit-Reset`` as epoch seconds or epoch milliseconds, so all of them
are read. The parser is total: whatever the headers hold, it returns seconds or None and never raises.
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
_LONGEST_DELAY = 999_999_999  # seconds; above it a Retry-After is not a delay but something else
_LONGEST_DELTA = 86_400  # seconds; an X-RateLimit-Reset up to here counts from now
_EPOCH_SECONDS = 1e9
_EPOCH_MILLISECONDS = 1e11
_CLOCK_TOLERANCE = 2.0  # seconds; ``Date`` is cut to whole seconds, so ours is the finer clock up to here


def parse_hint(headers: Headers, wall_clock: float, status: int = 429) -> float | None:
    """Return the seconds to wait that the headers of a response with ``status`` ask for.

    ``Retry-After`` is the server's word for this very response. ``X-RateLimit-Reset`` counts without it only,
    and only where the quota is what refused: many APIs send it with every response. The longest valid hint
    of one header wins. 0.0 means "open now" (also a moment that has passed), None that there is no usable
    hint. Moments are measured against the response's own ``Date``, so a wrong local clock (``wall_clock``,
    epoch seconds) does no harm.
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
    """Return the server's epoch seconds: its ``Date`` plus the ``Age`` a cache adds, else our own clock."""
    sent = _date(headers.get("Date", ""))
    if sent is None:
        return wall_clock
    sent += _number(headers.get("Age", "")) or 0.0
    return wall_clock if abs(wall_clock - sent) <= _CLOCK_TOLERANCE else sent


def _retry_after(value: str, now: float) -> float | None:
    moment = _date(value)
    if moment is not None:
        return max(0.0, moment - now)
    # Two headers may have been folded into one line, as RFC 9110 lets proxies do.
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
    """Return a plain decimal number; signs, exponents, ``inf`` and ``nan`` are not one."""
    text = value.strip()
    return float(text) if _NUMBER.fullmatch(text) and text.isascii() else None


def _date(value: str) -> float | None:
    """Return an HTTP date (RFC 9110, all three forms) as epoch seconds."""
    try:
        moment = parsedate_to_datetime(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
