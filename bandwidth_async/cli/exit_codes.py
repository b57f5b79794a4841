"""The exit codes, which are those of Bandwidth's own command line, and the code of each run and error."""

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
    """The exit codes of this command line, but for 128 + the number of a signal."""

    OK = 0
    GENERAL = 1
    CREDENTIALS = 2
    NOT_FOUND = 3
    CONFLICT = 4
    DEADLINE = 5
    USAGE = 6
    RATE_LIMIT = 7


HELP = """
Exit codes: 0 ok, 1 general error, 2 credentials, 3 not found, 4 conflict, 5 deadline, 6 usage,
7 rate limit (the server asked for a longer wait than allowed), 129, 130 and 143 stopped by a signal.
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
    """Return the exit code of a command that ended with ``error``."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), Exit.GENERAL)


def exit_for_run(report: Report, *, strict: bool, stopped_by: Signals | None) -> int:
    """Return the exit code of a run: the first that applies of 2, 129/130/143, 5, 7, 1, 3, 0."""
    from bandwidth_async.outcome import OutcomeKind  # noqa: PLC0415 - it imports asyncio, --help needs none

    if isinstance(report.stopped, AuthenticationError | PermissionDeniedError):
        return Exit.CREDENTIALS
    if report.stopped is not None:
        return exit_for_error(report.stopped) if stopped_by is None else 128 + stopped_by
    if not report.ok or (strict and report.counts[OutcomeKind.NOT_FOUND]):
        return Exit.GENERAL
    return Exit.NOT_FOUND if report.nothing_found else Exit.OK
