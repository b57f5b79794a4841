"""How a 429 tells when to come back: the header is a choice, since Bandwidth's own is not documented.

The published API has ``Retry-After`` as a string without a unit; other Bandwidth products answer with
whole seconds or with ``X-RateLimit-Reset`` in epoch seconds or epoch milliseconds.
"""

from __future__ import annotations

import math
from email.utils import formatdate
from enum import Enum

from bandwidth_async.errors import ConfigurationError


class Hint(Enum):
    """The form of the hint. All of them round up: who obeys never comes too early."""

    RETRY_AFTER = "retry-after"
    RESET_MS = "reset-ms"
    RESET_S = "reset-s"
    DATE = "date"
    NONE = "none"

    def headers(self, seconds: float | None, wall: float) -> dict[str, str]:
        """Return the headers for a wait of ``seconds`` from ``wall`` (epoch seconds); unknown means 1 s."""
        wait = 1.0 if seconds is None else seconds
        match self:
            case Hint.RETRY_AFTER:
                return {"Retry-After": str(max(1, math.ceil(wait)))}
            case Hint.RESET_MS:
                return {"X-RateLimit-Reset": str(math.ceil((wall + wait) * 1000))}
            case Hint.RESET_S:
                return {"X-RateLimit-Reset": str(math.ceil(wall + wait))}
            case Hint.DATE:
                return {"Retry-After": formatdate(math.ceil(wall + wait), usegmt=True)}
            case _:
                return {}


def hint_from(given: str | Hint) -> Hint:
    """Return the hint of that name; raises `ConfigurationError` naming all of them."""
    try:
        return Hint(given)
    except ValueError as exc:
        names = ", ".join(hint.value for hint in Hint)
        raise ConfigurationError(f"{given!r} is not a hint: choose one of {names}") from exc
