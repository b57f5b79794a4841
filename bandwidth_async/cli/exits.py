"""Exit codes: those of Bandwidth's own command line, and which one a run or an error gets."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from bandwidth_async.errors import (
    APIError,
    AuthenticationError,
    BandwidthError,
    ConfigurationError,
    ConflictError,
    DeadlineExceededError,
    MissingCredentialsError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
)

if TYPE_CHECKING:
    from signal import Signals

    from bandwidth_async.outcome import Report


class Exit(IntEnum):
    """What the shell is told."""

    OK = 0
    GENERAL = 1
    CREDENTIALS = 2
    NOT_FOUND = 3
    CONFLICT = 4
    DEADLINE = 5
    USAGE = 6
    RATE_LIMIT = 7


HELP = """
Exit codes: 0 ok, 1 general, 2 credentials, 3 not found, 4 conflict, 5 deadline, 6 usage,
7 rate limit (asked to wait longer than allowed), 130 and 143 stopped by a signal.
"""

_BY_ERROR: tuple[tuple[type[BandwidthError], Exit], ...] = (
    (MissingCredentialsError, Exit.CREDENTIALS),
    (ConfigurationError, Exit.USAGE),
    (AuthenticationError, Exit.CREDENTIALS),
    (PermissionDeniedError, Exit.CREDENTIALS),
    (NotFoundError, Exit.NOT_FOUND),
    (ConflictError, Exit.CONFLICT),
    (RateLimitError, Exit.RATE_LIMIT),
    (DeadlineExceededError, Exit.DEADLINE),
    (APIError, Exit.GENERAL),
)


def exit_for_error(error: BandwidthError) -> Exit:
    """Return the code for a command that ended with ``error``."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), Exit.GENERAL)


def exit_for_run(report: Report, *, strict: bool, stopped_by: Signals | None) -> int:
    """Return the code for a run: the first that applies of 2, 130/143, 5, 7, 1, 3, 0."""
    from bandwidth_async.outcome import OutcomeKind  # noqa: PLC0415 - it brings asyncio, --help needs none

    if isinstance(report.stopped, AuthenticationError | PermissionDeniedError):
        return Exit.CREDENTIALS
    if report.stopped is not None:
        return exit_for_error(report.stopped) if stopped_by is None else 128 + stopped_by
    counts = report.counts
    if report.unsettled or counts[OutcomeKind.REFUSED] or (strict and counts[OutcomeKind.NOT_FOUND]):
        return Exit.GENERAL
    return Exit.NOT_FOUND if report.nothing_found else Exit.OK
