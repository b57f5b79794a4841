"""How a 429 says when to come back."""

from __future__ import annotations

import pytest

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.sandbox.hints import Hint, hint_from

WALL = 1_700_000_000.25


@pytest.mark.parametrize(
    ("hint", "seconds", "headers"),
    [
        (Hint.RETRY_AFTER, 0.01, {"Retry-After": "1"}),
        (Hint.RETRY_AFTER, 2.0, {"Retry-After": "2"}),
        (Hint.RETRY_AFTER, 2.1, {"Retry-After": "3"}),
        (Hint.RETRY_AFTER, None, {"Retry-After": "1"}),
        (Hint.RESET_MS, 0.5, {"X-RateLimit-Reset": "1700000000750"}),
        (Hint.RESET_S, 0.5, {"X-RateLimit-Reset": "1700000001"}),
        (Hint.RESET_S, 1.0, {"X-RateLimit-Reset": "1700000002"}),
        (Hint.DATE, 0.5, {"Retry-After": "Tue, 14 Nov 2023 22:13:21 GMT"}),
        (Hint.NONE, 5.0, {}),
    ],
)
def test_a_hint_rounds_up(hint: Hint, seconds: float | None, headers: dict[str, str]) -> None:
    """Who obeys a hint never comes too early; an unknown wait is a second."""
    assert hint.headers(seconds, WALL) == headers


def test_a_hint_is_read_by_name() -> None:
    """A hint may be given as value or name; another name lists the right ones."""
    assert [hint_from("reset-ms"), hint_from(Hint.DATE)] == [Hint.RESET_MS, Hint.DATE]
    with pytest.raises(ConfigurationError, match="choose one of retry-after, reset-ms, reset-s, date, none"):
        hint_from("soon")
