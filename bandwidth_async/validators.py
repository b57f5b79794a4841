"""Validators for numeric settings. Each raises an error that names the setting and says what it can be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bandwidth_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from attrs import Attribute

    Validator = Callable[[object, Attribute[Any], Any], None]


def above_zero(unit: str, *, endless: bool = False) -> Validator:
    """Return an attrs validator for a number of ``unit`` above 0. ``endless`` allows ``math.inf``."""
    wanted = f"a number of {unit} above 0" + (", or math.inf for none" if endless else "")
    return _check(wanted, lambda value: value > 0 and (endless or value < math.inf))


def at_least(least: float, unit: str) -> Validator:
    """Return an attrs validator for a number of ``unit`` that is at least ``least``."""
    return _check(f"a number of {unit}, at least {least:g}", lambda value: value >= least)


def _check(wanted: str, holds: Callable[[float], bool]) -> Validator:
    def validate(_: object, attribute: Attribute[Any], value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not holds(value):
            raise ConfigurationError(f"{attribute.name} is {wanted}, not {value!r}")

    return validate
