"""What a limiter has learned about a server, as a value that can be saved."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Self

from attrs import asdict, field, fields, frozen

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.validators import above_zero, at_least

if TYPE_CHECKING:
    from collections.abc import Mapping

# Requests per second at the start, if nothing is known. Two or three are sent before the first response.
START = 20.0

# The version of what `Knowledge.to_dict` returns.
_VERSION = 1

# Seconds after which a quota is likely to have changed.
_FRESH = 24 * 3600.0

# Requests per second. A slower rate that is wrong would hold the next run for minutes.
_SLOWEST = 1.0


@frozen(kw_only=True)
class Knowledge:
    """What a limiter has learned about a server, for the next one to begin with.

    ``rate``
        Requests per second to begin with.
    ``stood``
        The best rate that stood for seconds, 0 if none did. Then ``rate`` is only where the search begins.
    ``window``
        Seconds of the window that the server counts in, 0 if none is known.
    ``at``
        When it was learned, in Unix time: now, unless given.

    Raises `ConfigurationError` for a value out of its range.
    """

    rate: float = field(validator=above_zero("requests per second"))
    stood: float = field(default=0.0, validator=at_least(0, "requests per second"))
    window: float = field(default=0.0, validator=at_least(0, "seconds"))
    at: float = field(factory=time.time, validator=at_least(0, "seconds since 1970"))

    def to_dict(self) -> dict[str, float]:
        """Return it as a dictionary that can be written as JSON, with the version of this form."""
        return {"version": _VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """Return what `to_dict` was called on. If it is slow, or older than a day, it is only a start.

        Raises `ConfigurationError` for anything that `to_dict` of this version did not return.
        """
        try:
            known = {**saved}
            sound = known.pop("version") == _VERSION and all(map(math.isfinite, known.values()))
        except (KeyError, OverflowError, TypeError):
            sound = False
        if not sound or known.keys() != {one.name for one in fields(cls)}:
            raise ConfigurationError(f"this is no knowledge that this release has saved: {saved!r:.80}")
        found = cls(**known)
        holds = abs(time.time() - found.at) <= _FRESH and found.rate >= _SLOWEST
        return found if holds else cls(rate=max(found.rate, START), at=found.at)
