"""The events that ``VoiceClient(on_event=…)`` hears: operations, their attempts, and the limiter.

An operation is one thing that was asked for: a call of a method, a page of a listing, a reading while the
client waits for an end, or an id of a run. An attempt is one HTTP request. All fields are plain values, so
that ``attrs.asdict`` makes a dictionary which can be written as JSON.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Any, Self

from attrs import define, frozen

from bandwidth_async.errors import BandwidthError
from bandwidth_async.limiter import Paused, RateChanged, Unavailable
from bandwidth_async.outcome import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from bandwidth_async.wire import Request

# The outcome of an operation that did what was asked, and of one that no error of this package ended.
_OK, _INTERRUPTED = "ok", "interrupted"

_serials = count(1)


@frozen(kw_only=True)
class OperationStarted:
    """An operation begins.

    ``serial``
        Its number in this process. The events of its attempts and of its end have the same.
    ``operation``
        What is done, without ids, such as ``end conference``: few values, for metrics.
    ``id``, ``conference_id``
        What it is done to, such as a call or a recording, and the conference; empty and None without one.
    ``bulk``
        Whether it is part of a run.
    """

    serial: int
    operation: str
    id: str
    conference_id: str | None
    bulk: bool


@frozen(kw_only=True)
class AttemptEnded:
    """A request has its response, or will get none. Requests for access tokens are told too.

    ``serial``, ``operation``, ``id``, ``conference_id``, ``bulk``
        As in `OperationStarted`, but ``operation`` names the request. ``serial`` is 0 for an access token,
        which belongs to no operation.
    ``method``, ``template``, ``server``, ``path``
        The request: its method, its path without ids, scheme and host, and the path without its query.
    ``number``, ``resend_count``
        The attempts of the operation so far, with this one; how often it has sent this request before.
    ``status``, ``error``
        The HTTP status, None without a response, and the name of the error class, None for a success.
    ``waited``, ``elapsed``
        Seconds in the limiter's queue, and seconds from sending to the end of the response.
    ``ended_at``
        Unix time.
    """

    serial: int
    operation: str
    id: str
    conference_id: str | None
    bulk: bool
    method: str
    template: str
    server: str
    path: str
    number: int
    resend_count: int
    status: int | None
    error: str | None
    waited: float
    elapsed: float
    ended_at: float


@frozen(kw_only=True)
class OperationEnded:
    """An operation is over. Each id with an outcome in a run's report has one such event, with that outcome.

    ``serial``, ``operation``, ``id``, ``conference_id``, ``bulk``
        As in `OperationStarted`. An id for which a run has done nothing has its end only.
    ``outcome``
        An `OutcomeKind` where it ended a conference or failed. Otherwise ``ok``, or ``interrupted`` if it was
        cancelled or something else than an error of this package ended it.
    ``attempts``
        The requests that were sent for it.
    ``error``, ``message``
        The name of the error class and a sentence, both None for a success. An id that a run did not try has
        a sentence alone.
    ``elapsed``, ``ended_at``
        Seconds in all, and Unix time.
    """

    serial: int
    operation: str
    id: str
    conference_id: str | None
    bulk: bool
    outcome: str
    attempts: int
    error: str | None
    message: str | None
    elapsed: float
    ended_at: float


Event = OperationStarted | AttemptEnded | OperationEnded | RateChanged | Paused | Unavailable


def subject_of(request: Request[Any]) -> tuple[str, str | None]:
    """Return the id of what a request is about, and that of its conference if it has one."""
    of_conference = "{conferenceId}" in request.template
    return request.subject.partition(" ")[0], request.subject.rpartition(" ")[2] if of_conference else None


class Watch:
    """One operation, for a hook that hears its events. ``serial`` is 0 for what is no operation."""

    __slots__ = ("_about", "_clock", "_error", "_hook", "_message", "_outcome", "_sent", "_started")

    def __init__(
        self,
        hook: Callable[[Event], object],
        clock: Callable[[], float],
        operation: str,
        subject: tuple[str, str | None],
        *,
        bulk: bool = False,
        serial: int | None = None,
    ) -> None:
        self._hook = hook
        self._clock = clock
        self._about: dict[str, Any] = {
            "serial": next(_serials) if serial is None else serial,
            "operation": operation,
            "id": subject[0],
            "conference_id": subject[1],
            "bulk": bulk,
        }
        # The requests of its attempts.
        self._sent: list[str] = []
        self._started = clock()
        self._outcome = _OK
        self._error: str | None = None
        self._message: str | None = None

    def begin(self) -> Self:
        """Tell of its begin."""
        self._hook(OperationStarted(**self._about))
        return self

    def attempt_ended(self, request: Request[Any], server: str, attempt: AttemptTimes) -> None:
        """Tell of an attempt."""
        id_, conference_id = subject_of(request)
        path = request.path.partition("?")[0]
        sent = f"{request.method} {path}"
        self._sent.append(sent)
        self._hook(
            AttemptEnded(
                serial=self._about["serial"],
                operation=request.kind,
                id=id_,
                conference_id=conference_id,
                bulk=self._about["bulk"],
                method=request.method,
                template=request.template,
                server=server,
                path=path,
                number=len(self._sent),
                resend_count=self._sent.count(sent) - 1,
                status=attempt.status,
                error=attempt.error,
                waited=attempt.sent_at - attempt.began,
                elapsed=self._clock() - attempt.sent_at,
                ended_at=time.time(),
            )
        )

    def met(self, error: BaseException) -> None:
        """Note what ended it, or a try of it."""
        self._error = type(error).__name__
        if isinstance(error, BandwidthError):
            self._outcome, self._message = kind_of(error), error.message
        else:
            self._outcome, self._message = _INTERRUPTED, str(error)

    def end(self) -> None:
        """Tell that it is over, as the last that it met says."""
        self._tell(self._outcome, self._error, self._message)

    def end_as(self, outcome: str, message: str | None = None) -> None:
        """Tell what became of its conference, with the sentence of the error if there is one."""
        self._tell(outcome, self._error if message is not None else None, message)

    def _tell(self, outcome: str, error: str | None, message: str | None) -> None:
        self._hook(
            OperationEnded(
                **self._about,
                outcome=str(outcome),
                attempts=len(self._sent),
                error=error,
                message=message,
                elapsed=self._clock() - self._started,
                ended_at=time.time(),
            )
        )


@define
class AttemptTimes:
    """An attempt that is under way: when it began to wait and was sent, in loop time, and what it met."""

    began: float
    sent_at: float
    status: int | None = None
    error: str | None = None


# The operation that is under way, if its parts are to be told as one.
current: ContextVar[Watch | None] = ContextVar("current", default=None)
