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
    """The seven things that can become of an id. Each id gets exactly one."""

    ENDED = "ended"
    ALREADY_ENDED = "already_ended"
    NOT_FOUND = "not_found"
    REFUSED = "refused"
    FAILED = "failed"
    UNKNOWN = "unknown"
    NOT_ATTEMPTED = "not_attempted"

    @property
    def settled(self) -> bool:
        """Whether trying again would change nothing."""
        return self in _SETTLED


_SETTLED = frozenset(
    {OutcomeKind.ENDED, OutcomeKind.ALREADY_ENDED, OutcomeKind.NOT_FOUND, OutcomeKind.REFUSED}
)


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


def kind_of(error: BandwidthError) -> OutcomeKind:
    """Return what an error means for the conference.

    If an attempt without a clear response may have ended the conference, the outcome is ``unknown``, never
    ``failed``.
    """
    if error.ambiguous:
        return OutcomeKind.UNKNOWN
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


@define(kw_only=True)
class Report:
    """The sum of a run. Filled while it goes on, final when it has ended.

    ``counts`` maps outcome kinds (``report.counts["ended"]``) to numbers, 0 for those that did not occur.
    ``stopped`` is the reason when the run ended before its input did: an `AuthenticationError`, a
    `RateLimitError` whose wait is longer than allowed, an `UnavailableError` or another `TransportError`
    of a server that cannot be used, a `JournalError`, or a `DeadlineExceededError`.
    """

    counts: Counter[OutcomeKind] = field(factory=Counter)
    attempts: int = 0
    elapsed: float = 0.0
    stopped: BandwidthError | None = None

    @property
    def total(self) -> int:
        """How many ids have an outcome."""
        return self.counts.total()

    @property
    def ok(self) -> bool:
        """Whether no conference of the input is still active, as far as the server says."""
        fine = (OutcomeKind.ENDED, OutcomeKind.ALREADY_ENDED, OutcomeKind.NOT_FOUND)
        return self.stopped is None and self.total == sum(self.counts[kind] for kind in fine)

    @property
    def unsettled(self) -> int:
        """How many ids a resume would try again."""
        return sum(count for kind, count in self.counts.items() if not kind.settled)

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
