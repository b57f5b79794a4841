"""The kind of outcome of each error, and the counts of a report."""

from __future__ import annotations

from collections import Counter

import pytest

from bandwidth_async.errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    BandwidthError,
    CertificateError,
    ClientStateError,
    ConfigurationError,
    ConflictError,
    DeadlineExceededError,
    JournalError,
    MissingCredentialsError,
    NotConfirmedError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    TransportError,
    UnavailableError,
)
from bandwidth_async.outcome import Outcome, OutcomeKind, Report, kind_of

ENDED, ALREADY_ENDED, NOT_FOUND = OutcomeKind.ENDED, OutcomeKind.ALREADY_ENDED, OutcomeKind.NOT_FOUND
REFUSED, FAILED, UNKNOWN = OutcomeKind.REFUSED, OutcomeKind.FAILED, OutcomeKind.UNKNOWN
NOT_ATTEMPTED = OutcomeKind.NOT_ATTEMPTED

# An error, its kind if requests were sent for the id, and its kind if none were.
KINDS: dict[str, tuple[BandwidthError, OutcomeKind, OutcomeKind]] = {
    "404": (NotFoundError(status=404), NOT_FOUND, NOT_FOUND),
    "400": (BadRequestError(status=400), REFUSED, REFUSED),
    "403": (PermissionDeniedError(status=403), REFUSED, REFUSED),
    "409": (ConflictError(status=409), REFUSED, REFUSED),
    "415": (APIError(status=415), REFUSED, REFUSED),
    "302": (APIError(status=302), REFUSED, REFUSED),
    "501": (ServerError(status=501), REFUSED, REFUSED),
    "505": (ServerError(status=505), REFUSED, REFUSED),
    "408": (APIError(status=408), FAILED, FAILED),
    "500": (ServerError(status=500), FAILED, FAILED),
    "503": (ServerError(status=503), FAILED, FAILED),
    "401": (AuthenticationError(status=401), FAILED, NOT_ATTEMPTED),
    "429": (RateLimitError(status=429), FAILED, NOT_ATTEMPTED),
    "deadline": (DeadlineExceededError(), FAILED, NOT_ATTEMPTED),
    "closed client": (ClientStateError(), FAILED, NOT_ATTEMPTED),
    "unsafe id": (ConfigurationError(), REFUSED, REFUSED),
    "no credentials": (MissingCredentialsError(), REFUSED, REFUSED),
    "no connection": (TransportError(), FAILED, FAILED),
    "certificate": (CertificateError(), FAILED, FAILED),
    "down": (UnavailableError(), FAILED, NOT_ATTEMPTED),
    "not on record": (JournalError(), FAILED, NOT_ATTEMPTED),
    "still active": (NotConfirmedError(), FAILED, FAILED),
    "any other": (BandwidthError(), FAILED, FAILED),
}


@pytest.mark.parametrize(("error", "sent", "not_sent"), KINDS.values(), ids=KINDS)
def test_the_kind_of_an_error(error: BandwidthError, sent: OutcomeKind, not_sent: OutcomeKind) -> None:
    """Permanent errors are ``refused``, others ``failed``. Some are ``not_attempted`` if nothing was sent."""
    error.attempts = 3
    assert kind_of(error) is sent
    error.attempts = 0
    assert kind_of(error) is not_sent


@pytest.mark.parametrize("error", [row[0] for row in KINDS.values()], ids=KINDS)
def test_what_may_have_been_ended_is_unknown(error: BandwidthError) -> None:
    """An id with an ambiguous attempt is ``unknown``, whatever the error is."""
    try:
        error.attempts, error.ambiguous = 2, True
        assert kind_of(error) is UNKNOWN
    finally:
        error.ambiguous = False


def test_what_is_settled() -> None:
    """A kind is settled if trying again would change nothing. A resume skips those ids only."""
    assert {kind for kind in OutcomeKind if kind.settled} == {ENDED, ALREADY_ENDED, NOT_FOUND, REFUSED}


def test_what_is_fine_and_what_is_trouble() -> None:
    """Each kind of an id that was tried is either fine or trouble. ``not_attempted`` is neither."""
    assert {kind for kind in OutcomeKind if kind.fine} == {ENDED, ALREADY_ENDED, NOT_FOUND}
    assert {kind for kind in OutcomeKind if kind.trouble} == {REFUSED, FAILED, UNKNOWN}


def test_a_kind_is_known_by_its_word() -> None:
    """Journals and scripts contain the values of the kinds, so a value can be converted to its kind."""
    assert [OutcomeKind(kind.value) for kind in OutcomeKind] == list(OutcomeKind)
    assert [f"{kind}" for kind in OutcomeKind] == [kind.value for kind in OutcomeKind]


def test_kinds_are_their_words() -> None:
    """A kind equals its word in the command line and the documentation."""
    words = ["ended", "already_ended", "not_found", "refused", "failed", "unknown", "not_attempted"]
    assert list(OutcomeKind) == words


def test_an_empty_report() -> None:
    """A report without ids is ok, with all counts 0."""
    report = Report()
    assert (report.total, report.attempts, report.ok, report.nothing_found, report.rate) == (
        0,
        0,
        True,
        False,
        0.0,
    )


def test_a_report_adds_up() -> None:
    """A report counts each outcome once, with its attempts. Other kinds are 0."""
    report = Report(elapsed=2.0)
    for outcome in (Outcome("a", ENDED, 1), Outcome("b", ENDED, 4), Outcome("c", FAILED, 5, "no")):
        report.add(outcome)
    assert report == Report(counts=Counter({ENDED: 2, FAILED: 1}), attempts=10, elapsed=2.0)
    assert (report.total, report.rate, report.counts["ended"], report.counts["unknown"]) == (3, 1.5, 2, 0)


@pytest.mark.parametrize("kind", OutcomeKind)
def test_ok_means_that_nothing_is_left_active(kind: OutcomeKind) -> None:
    """A report with one id that may still be active is not ok."""
    report = Report()
    report.add(Outcome("a", ENDED))
    report.add(Outcome("b", kind))
    assert report.ok is (kind in {ENDED, ALREADY_ENDED, NOT_FOUND})


def test_a_stopped_run_is_not_ok() -> None:
    """A report of a stopped run is not ok, because other ids may be active."""
    assert not Report(stopped=DeadlineExceededError()).ok


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([NOT_FOUND], True),
        ([NOT_FOUND] * 9, True),
        ([NOT_FOUND, ENDED], False),
        ([ENDED], False),
        ([], False),
    ],
)
def test_nothing_found_hints_at_a_wrong_account(kinds: list[OutcomeKind], expected: bool) -> None:
    """``nothing_found`` is true if there were ids and all of them are ``not_found``."""
    report = Report()
    for number, kind in enumerate(kinds):
        report.add(Outcome(str(number), kind))
    assert report.nothing_found is expected
