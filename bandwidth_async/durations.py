"""Durations as people write them: ``250ms``, ``30s``, ``10m``, ``2h``, or plain seconds."""

from __future__ import annotations

import re

from bandwidth_async.errors import ConfigurationError

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)\s*(ms|s|m|h|d|)", re.ASCII)


def parse_duration(text: str) -> float:
    """Return ``text`` in seconds.

    Raises `ConfigurationError` unless it is a number with one of the units ms, s, m, h, d, or without one.
    """
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise ConfigurationError(f"{text!r} is not a duration: write 250ms, 30s, 10m, 2h or plain seconds")
    number, unit = match.groups()
    return float(number) * _SECONDS[unit]


def parse_span(text: str) -> tuple[float, float]:
    """Return ``20-200ms``, ``1s-2s`` or a single duration as (shortest, longest) in seconds.

    Raises `ConfigurationError` for anything else, and if the longer duration comes first.
    """
    shortest, dash, longest = text.partition("-")
    if not dash:
        return (parse_duration(text), parse_duration(text))
    high = parse_duration(longest)
    unit = re.sub(r"[\d.\s]", "", longest)
    low = parse_duration(shortest if re.search(r"[a-z]", shortest, re.IGNORECASE) else shortest + unit)
    if low > high:
        raise ConfigurationError(f"{text!r} has the longer time first: write the shorter time first")
    return (low, high)
