"""The outcome of one conference id, and the report of a run, which counts them."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from attrs import define, field, frozen

from bandwidth_async.errors import (
    APIError,
    AuthenticationError,
    BandwidthError,
    ClientStateError,
    ConfigurationError,
    DeadlineExceededError,
    HangUpError,
    JournalError,
    NotFoundError,
    RateLimitError,
    UnavailableError,
)


class OutcomeKind(StrEnum):
    """The seven outcomes that an id can have. Each id gets exactly one.

    ``settled``: trying again would change nothing, so a resume leaves the id alone.
    ``fine``: as far as the server says, the conference is not active.
    ``trouble``: the id was tried, and the conference may still be active.
    """

    settled: bool
    fine: bool
    trouble: bool

    #                                settled, fine, trouble
    ENDED = "ended", True, True, False
    ALREADY_ENDED = "already_ended", True, True, False
    NOT_FOUND = "not_found", True, True, False
    REFUSED = "refused", True, False, True
    FAILED = "failed", False, False, True
    UNKNOWN = "unknown", False, False, True
    NOT_ATTEMPTED = "not_attempted", False, False, False

    # Type checkers take OutcomeKind("ended") for a call of this, so all but the value has a default.
    def __new__(
        cls, value: str, settled: bool = False, fine: bool = False, trouble: bool = False
    ) -> OutcomeKind:
        """Make a kind from its row in the table above."""
        kind = str.__new__(cls, value)
        kind._value_ = value
        kind.settled, kind.fine, kind.trouble = settled, fine, trouble
        return kind


@frozen
class Outcome:
    """What became of one id.

    ``attempts`` is the number of requests that were sent for it. ``error`` is one sentence, or None.
    ``elapsed`` is the time it took in seconds. ``calls_ended`` are the calls that were hung up with it.
    """

    conference_id: str
    kind: OutcomeKind
    attempts: int = 0
    error: str | None = None
    elapsed: float = 0.0
    calls_ended: tuple[str, ...] = ()


def kind_of(error: BandwidthError, *, stopped: bool = False) -> OutcomeKind:
    """Return what an error means for the conference. ``stopped`` says that its run is being stopped.

    If an attempt without a clear response may have ended the conference, the outcome is ``unknown``, never
    ``failed``. An id that the server only told to come later has not been tried when the run stops.
    """
    if error.ambiguous:
        return OutcomeKind.UNKNOWN
    if stopped and _is_turned_away(error):
        return OutcomeKind.NOT_ATTEMPTED
    match error:
        case NotFoundError():
            return OutcomeKind.NOT_FOUND
        case (
            DeadlineExceededError()
            | AuthenticationError()
            | RateLimitError()
            | ClientStateError()
            | UnavailableError()
            | JournalError()
        ):
            return OutcomeKind.FAILED if error.attempts else OutcomeKind.NOT_ATTEMPTED
        case APIError(transient=False) | ConfigurationError() | HangUpError(lasting=True):
            return OutcomeKind.REFUSED
        case _:
            return OutcomeKind.FAILED


def _is_turned_away(error: BandwidthError | None) -> bool:
    """Return whether the server's last word was to come later, and not what it thinks of the request."""
    if isinstance(error, DeadlineExceededError):
        error = error.last_error
    if error is None or isinstance(error, RateLimitError):
        return error is not None
    may_pass = isinstance(error, UnavailableError) or (isinstance(error, APIError) and error.transient)
    return may_pass and error.retry_after is not None


@define(kw_only=True)
class Report:
    """The sum of a run. It grows during the run and is final afterwards.

    ``counts`` maps each outcome kind to a number, 0 for a kind that did not occur. The key is a kind or its
    text: ``counts[OutcomeKind.ENDED]`` or ``counts["ended"]``.
    ``stopped`` is the reason when the run ended before its input did, could not record an outcome, or got a
    402 or 403 for every id: an `AuthenticationError`, a `RateLimitError` of a server that refused everything
    for too long, that or a `ServerError` whose ``retry_after`` is longer than allowed, an `UnavailableError`
    or another `TransportError` of a server that cannot be used, a `PermissionDeniedError`, another `APIError`
    with status 402, a `JournalError`, a `ClientStateError` of a process without file descriptors, or a
    `DeadlineExceededError`.
    ``complete`` says that the run has seen the end of its input, and each id of it has its outcome.
    """

    counts: Counter[str] = field(factory=Counter)
    attempts: int = 0
    elapsed: float = 0.0
    stopped: BandwidthError | None = None
    complete: bool = True

    @property
    def total(self) -> int:
        """How many ids have an outcome."""
        return self.counts.total()

    @property
    def ok(self) -> bool:
        """Whether no conference of the input is still active, as far as the server says.

        False while the run goes on, and for a run that did not see the end of its input.
        """
        fine = sum(count for kind, count in self.counts.items() if OutcomeKind(kind).fine)
        return self.complete and self.stopped is None and self.total == fine

    @property
    def unsettled(self) -> int:
        """How many ids a resume would try again."""
        return sum(count for kind, count in self.counts.items() if not OutcomeKind(kind).settled)

    @property
    def nothing_found(self) -> bool:
        """Whether there were ids and none was found. Then the account id may be wrong.

        An id that is not found after an attempt without a response counts as ``already_ended``. So a few of
        those among many ``not_found`` do not prove that the account is right.
        """
        missing, perhaps = self.counts[OutcomeKind.NOT_FOUND], self.counts[OutcomeKind.ALREADY_ENDED]
        return missing > perhaps and self.total == missing + perhaps

    @property
    def rate(self) -> float:
        """Ids per second, without those that were not attempted."""
        tried = self.total - self.counts[OutcomeKind.NOT_ATTEMPTED]
        return tried / self.elapsed if self.elapsed else 0.0

    def add(self, outcome: Outcome) -> None:
        """Count one outcome."""
        self.counts[outcome.kind] += 1
        self.attempts += outcome.attempts
