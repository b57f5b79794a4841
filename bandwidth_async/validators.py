"""Validators for numeric settings. Each raises an error that names the setting and says what it can be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from attrs import frozen

from bandwidth_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from attrs import Attribute


@frozen
class Validator:
    """An attrs validator for a number that ``holds``. The error says what is ``wanted``.

    The table of settings in the documentation shows the ``unit``.
    """

    unit: str
    wanted: str
    holds: Callable[[float], bool]

    def __call__(self, _: object, attribute: Attribute[Any], value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.holds(value):
            raise ConfigurationError(f"{attribute.name} is {self.wanted}, not {value!r}")


def above_zero(unit: str, *, endless: bool = False) -> Validator:
    """Return an attrs validator for a number of ``unit`` above 0. ``endless`` allows ``math.inf``."""
    wanted = f"a number of {unit} above 0" + (", or math.inf for none" if endless else "")
    return Validator(unit, wanted, lambda value: value > 0 and (endless or value < math.inf))


def at_least(least: float, unit: str) -> Validator:
    """Return an attrs validator for a number of ``unit`` that is at least ``least``."""
    return Validator(unit, f"a number of {unit}, at least {least:g}", lambda value: value >= least)
