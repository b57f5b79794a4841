"""The validators of numeric settings: what they accept, and what their errors say."""

from __future__ import annotations

import math

import pytest
from attrs import field, frozen

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.validators import above_zero, at_least


@frozen
class Numbers:
    """One setting of each kind."""

    pause: float = field(default=1.0, validator=above_zero("seconds"))
    deadline: float = field(default=1.0, validator=above_zero("seconds", endless=True))
    attempts: int = field(default=1, validator=at_least(1, "requests"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("pause", 1e-9), ("pause", 3), ("deadline", math.inf), ("attempts", 1), ("attempts", 10**9)],
)
def test_a_number_in_the_range_is_kept(name: str, value: float) -> None:
    """It is neither converted nor rounded."""
    assert getattr(Numbers(**{name: value}), name) == value  # type: ignore[arg-type]  # any number


@pytest.mark.parametrize("value", [0, -1, -math.inf, math.nan, True, False, "3", None, [1]])
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("pause", "a number of seconds above 0"),
        ("deadline", "a number of seconds above 0, or math.inf for none"),
        ("attempts", "a number of requests, at least 1"),
    ],
)
def test_anything_else_is_refused(name: str, wanted: str, value: object) -> None:
    """The error names the setting, what it can be, and the value. A flag is no number."""
    with pytest.raises(ConfigurationError) as caught:
        Numbers(**{name: value})  # type: ignore[arg-type]  # that is the test
    assert str(caught.value) == f"{name} is {wanted}, not {value!r}"


def test_only_what_may_be_endless_is() -> None:
    """Infinity is above 0, but not a number of seconds that one can wait."""
    with pytest.raises(ConfigurationError, match="pause is a number of seconds above 0, not inf"):
        Numbers(pause=math.inf)
