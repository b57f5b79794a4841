"""Durations as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.durations import parse_duration, parse_span
from bandwidth_async.errors import ConfigurationError

UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("30s", 30.0),
        ("10m", 600.0),
        ("2h", 7200.0),
        ("1d", 86400.0),
        ("45", 45.0),
        ("0", 0.0),
        ("1.5h", 5400.0),
        (" 10 m ", 600.0),
        ("10M", 600.0),
        ("5MS", 0.005),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    """Units are ms, s, m, h, d in either case, with blanks around them. A bare number is seconds."""
    assert parse_duration(text) == pytest.approx(seconds, abs=0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "s",
        "-1s",
        "+1s",
        ".5s",
        "1.s",
        "1e3",
        "inf",
        "nan",
        "1s30",
        "1h30m",
        "1,5s",
        "10 weeks",
        "10_0",
    ],
)
def test_anything_else_is_no_duration(text: str) -> None:
    """The error repeats the text and shows how to write it."""
    with pytest.raises(ConfigurationError) as caught:
        parse_duration(text)
    assert str(caught.value) == (f"{text!r} is not a duration: write 250ms, 30s, 10m, 2h or plain seconds")


@given(st.integers(0, 10**9), st.sampled_from(list(UNITS)))
def test_a_unit_multiplies(number: int, unit: str) -> None:
    """Every whole number of every unit is that many seconds."""
    assert parse_duration(f"{number}{unit}") == number * UNITS[unit]


@given(st.text())
def test_any_text_is_a_duration_or_a_configuration_error(text: str) -> None:
    """No text raises another exception or gives a negative time."""
    try:
        seconds = parse_duration(text)
    except ConfigurationError:
        return
    assert seconds >= 0


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("20-200ms", (0.02, 0.2)),
        ("1s-2s", (1.0, 2.0)),
        ("20ms-1s", (0.02, 1.0)),
        ("500ms-2", (0.5, 2.0)),
        ("1-2", (1.0, 2.0)),
        ("1-2m", (60.0, 120.0)),
        ("20 - 200 MS", (0.02, 0.2)),
        ("3s-3s", (3.0, 3.0)),
        ("3s", (3.0, 3.0)),
        ("0-0", (0.0, 0.0)),
    ],
)
def test_a_span_is_two_durations_or_one(text: str, span: tuple[float, float]) -> None:
    """A shorter time without a unit has the unit of the longer one. A single time is both ends."""
    assert parse_span(text) == span


@pytest.mark.parametrize("text", ["", "-", "1-", "-1", "1-2-3", "1s-x", "x-1s", "1-2weeks"])
def test_anything_else_is_no_span(text: str) -> None:
    """Half a span is no span."""
    with pytest.raises(ConfigurationError, match="is not a duration"):
        parse_span(text)


@pytest.mark.parametrize("text", ["2s-1s", "200-20ms", "1m-1s"])
def test_a_span_does_not_run_backwards(text: str) -> None:
    """Two times in the wrong order are an error, not an empty span."""
    with pytest.raises(ConfigurationError) as caught:
        parse_span(text)
    assert str(caught.value) == f"{text!r} has the longer time first: write the shorter time first"


@given(st.text(alphabet="0123456789.-msh "))
def test_any_text_is_a_span_or_a_configuration_error(text: str) -> None:
    """The shorter time comes first."""
    try:
        shortest, longest = parse_span(text)
    except ConfigurationError:
        return
    assert 0 <= shortest <= longest
