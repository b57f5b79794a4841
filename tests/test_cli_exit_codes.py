"""Exit codes: one for each error, and the first that applies for a run."""

from __future__ import annotations

from collections import Counter
from signal import Signals

import pytest

from bandwidth_async import errors
from bandwidth_async.cli.exit_codes import Exit, exit_for_error, exit_for_run
from bandwidth_async.outcome import OutcomeKind, Report


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.MissingCredentialsError("x"), 2),
        (errors.ConfigurationError("x"), 6),
        (errors.AuthenticationError("x"), 2),
        (errors.PermissionDeniedError("x"), 2),
        (errors.NotFoundError("x"), 3),
        (errors.ConflictError("x"), 4),
        (errors.DeadlineExceededError("x"), 5),
        (errors.RateLimitError("x"), 7),
        (errors.APIError("x", status=402), 4),
        (errors.PermissionDeniedError("x", status=403, description="Access is denied"), 2),
        (errors.PermissionDeniedError("x", status=403, description="The user lacks the Voice role"), 4),
        (errors.PermissionDeniedError("x", status=403, description="Upgrade your plan"), 4),
        (errors.PermissionDeniedError("x", status=403, type="role-missing"), 4),
        (errors.PermissionDeniedError("x", status=403, description="This planet is explained"), 2),
        (errors.RateLimitError("x", status=403, description="The rate of your plan is spent"), 7),
        (errors.DeadlineExceededError("x", last_error=errors.RateLimitError("x")), 7),
        (errors.DeadlineExceededError("x", last_error=errors.ServerError("x")), 5),
        (errors.BadRequestError("x"), 1),
        (errors.ServerError("x"), 1),
        (errors.TransportError("x"), 1),
        (errors.ClientStateError("x"), 1),
    ],
)
def test_an_error_has_its_code(error: errors.BandwidthError, code: int) -> None:
    """The codes are those of Bandwidth's own command line."""
    assert exit_for_error(error) == code


REFUSED_CREDENTIALS = errors.AuthenticationError("x")
NO_MONEY = errors.APIError("x", status=402)
NO_ROLE = errors.PermissionDeniedError("x", status=403, description="no such role")
SHUT = errors.DeadlineExceededError("x", last_error=errors.RateLimitError("x"))
LATE = errors.DeadlineExceededError("x")
LONG_WAIT = errors.RateLimitError("x")


@pytest.mark.parametrize(
    ("counts", "stopped", "signal", "strict", "code"),
    [
        ({"ended": 3}, None, None, False, Exit.OK),
        ({}, None, None, False, Exit.OK),
        ({"ended": 1, "already_ended": 1, "not_found": 1}, None, None, False, Exit.OK),
        ({"ended": 1, "not_found": 1}, None, None, True, Exit.GENERAL),
        ({"not_found": 2}, None, None, False, Exit.NOT_FOUND),
        ({"not_found": 2}, None, None, True, Exit.GENERAL),
        ({"ended": 1, "refused": 1}, None, None, False, Exit.GENERAL),
        ({"ended": 1, "failed": 1}, None, None, False, Exit.GENERAL),
        ({"not_found": 1, "unknown": 1}, None, None, False, Exit.GENERAL),
        ({"failed": 1, "not_attempted": 1}, LONG_WAIT, None, False, Exit.RATE_LIMIT),
        ({"failed": 1, "not_attempted": 1}, LATE, None, False, Exit.DEADLINE),
        ({"failed": 1, "not_attempted": 1}, SHUT, None, False, Exit.RATE_LIMIT),
        ({"refused": 1}, NO_MONEY, None, False, Exit.CONFLICT),
        ({"refused": 3, "not_attempted": 1}, NO_ROLE, None, False, Exit.CONFLICT),
        ({"ended": 1, "not_attempted": 1}, LATE, Signals.SIGINT, False, 130),
        ({"ended": 1, "not_attempted": 1}, LATE, Signals.SIGTERM, False, 143),
        ({"failed": 1, "not_attempted": 1}, REFUSED_CREDENTIALS, Signals.SIGINT, False, Exit.CREDENTIALS),
    ],
)
def test_a_run_has_the_first_code_that_applies(
    counts: dict[str, int],
    stopped: errors.BandwidthError | None,
    signal: Signals | None,
    strict: bool,
    code: int,
) -> None:
    """The order is 2, 130 or 143, 5, 7, 1, 3, 0."""
    report = Report(
        counts=Counter({OutcomeKind(kind): count for kind, count in counts.items()}), stopped=stopped
    )
    assert exit_for_run(report, strict=strict, stopped_by=signal) == code
