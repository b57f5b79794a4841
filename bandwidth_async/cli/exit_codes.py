"""The exit codes, which are those of Bandwidth's own command line, and the code of each run and error."""

from __future__ import annotations

import re
from enum import IntEnum
from typing import TYPE_CHECKING

from bandwidth_async.errors import (
    APIError,
    AuthenticationError,
    BandwidthError,
    ConfigurationError,
    ConflictError,
    DeadlineExceededError,
    JournalError,
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


# What a shell says of a command that SIGPIPE ended, as git and most others are: nobody reads it any more.
BROKEN_PIPE = 128 + 13

HELP = """
Exit codes: 0 ok, 1 general error, 2 credentials, 3 not found, 4 conflict (also a 402, a 403 for a plan or
role, and with --continue a journal in use), 5 deadline, 6 usage, 7 rate limit (the server asked for a
longer wait than allowed, or answered 429 past the deadline), 129, 130 and 143 stopped by a signal, 141
nobody reads the output any more, as in list | head, which nothing is said about. With --format json or
jsonl any other error is one JSON object on standard error: {"error": "…", "exit_code": 3}.
"""

# In the words of a 403: no other credentials would help.
_PLAN_OR_ROLE = r"(?i)\b(?:plans?|roles?|features?|upgrade)\b"

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
    """Return the exit code of a command that ended with ``error``.

    As in Bandwidth's own command line, a 402 and a 403 for a plan or role are conflicts, as new credentials
    do not help. A deadline that a 429 outlasts counts as the 429. A journal that another process uses is a
    conflict too.
    """
    if isinstance(error, DeadlineExceededError) and isinstance(error.last_error, RateLimitError):
        return Exit.RATE_LIMIT
    if isinstance(error, APIError) and error.status == 402:
        return Exit.CONFLICT
    if isinstance(error, JournalError) and error.in_use:
        return Exit.CONFLICT
    if isinstance(error, PermissionDeniedError) and re.search(
        _PLAN_OR_ROLE, f"{error.type} {error.description}"
    ):
        return Exit.CONFLICT
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), Exit.GENERAL)


def exit_for_run(
    report: Report, *, strict: bool, stopped_by: Signals | None, ignore_not_found: bool = False
) -> int:
    """Return the exit code of a run: the first that applies of 2, 129/130/143, 5, 7, 1, 3, 0.

    With ``ignore_not_found`` there is no 3: what is not found is done.
    """
    from bandwidth_async.outcome import OutcomeKind  # noqa: PLC0415 - it imports asyncio, --help needs none

    if isinstance(report.stopped, AuthenticationError | PermissionDeniedError):
        return exit_for_error(report.stopped)
    if report.stopped is not None:
        return exit_for_error(report.stopped) if stopped_by is None else 128 + stopped_by
    if not report.ok or (strict and report.counts[OutcomeKind.NOT_FOUND]):
        return Exit.GENERAL
    return Exit.NOT_FOUND if report.nothing_found and not ignore_not_found else Exit.OK
