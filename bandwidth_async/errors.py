"""What can go wrong: every error this package raises, in one tree.

::

    BandwidthError
    ├── ConfigurationError           refused before any I/O: an unsafe id, a bad rate, a wrong combination
    │   └── MissingCredentialsError  the environment does not say who we are
    ├── ClientStateError             the client is closed, or belongs to another event loop
    ├── APIError                     the server answered, and the answer is no
    │   ├── BadRequestError          400
    │   ├── AuthenticationError      401, also from the token endpoint
    │   ├── PermissionDeniedError    403
    │   ├── NotFoundError            404
    │   ├── ConflictError            409
    │   ├── RateLimitError           429, or a refusal that says when to come again
    │   └── ServerError              5xx
    ├── TransportError               no usable answer: connect, TLS, timeout, cut connection
    │   ├── CertificateError         the server's certificate is not to be trusted
    │   └── UnavailableError         not sent: the server fails at present
    ├── NotConfirmedError            the end was accepted, and the conference still reads as active
    ├── HangUpError                  the conference has ended, and some of its calls go on
    ├── WebhookError                 what came as a webhook is not an event
    ├── DeadlineExceededError        the call's deadline came, or its run was stopped
    └── JournalError                 the journal is not ours, damaged, in use, or cannot be written

Classes differ where a caller would act differently; the rest is in the attributes.
"""

from __future__ import annotations

_LASTING = frozenset({501, 505})  # not implemented, HTTP version not supported


class BandwidthError(Exception):
    """The root: ``except BandwidthError`` catches everything this package raises.

    ``attempts``
        HTTP requests that were sent for the call; 0 when it failed before the first.
    ``retry_after``
        Seconds to wait before trying again, where that is known.
    ``ambiguous``
        True when one of the attempts may have taken effect although no answer said so.
    """

    def __init__(
        self,
        message: str = "",
        *,
        attempts: int = 0,
        retry_after: float | None = None,
        ambiguous: bool = False,
    ) -> None:
        super().__init__(message)
        self.attempts = attempts
        self.retry_after = retry_after
        self.ambiguous = ambiguous

    @property
    def message(self) -> str:
        """The sentence without attempts and waiting time."""
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        notes = []
        if self.attempts > 1:
            notes.append(f"after {self.attempts} attempts")
        if self.retry_after is not None:
            shown = f"{self.retry_after:.2f}".rstrip("0").rstrip(".")
            notes.append(f"try again in {shown} s")
        return f"{self.message} ({', '.join(notes)})" if notes else self.message


class ConfigurationError(BandwidthError, ValueError):
    """What was asked cannot be right; nothing was sent. The message says what to change."""


class MissingCredentialsError(ConfigurationError):
    """The environment variables for the account or its credentials are not set."""


class ClientStateError(BandwidthError, RuntimeError):
    """The client cannot be used here: it is closed, or it belongs to another event loop."""


class APIError(BandwidthError):
    """The server answered with something other than success.

    ``status`` is the HTTP status, ``type`` and ``description`` are Bandwidth's own words where the
    body had them, ``error_id`` is Bandwidth's id of the error, ``request`` names what was asked.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status: int = 0,
        type: str | None = None,
        description: str | None = None,
        error_id: str | None = None,
        request: str = "",
        attempts: int = 0,
        retry_after: float | None = None,
        ambiguous: bool = False,
    ) -> None:
        super().__init__(message, attempts=attempts, retry_after=retry_after, ambiguous=ambiguous)
        self.status = status
        self.type = type
        self.description = description
        self.error_id = error_id
        self.request = request

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed later: 408, 429 and the 5xx that do not say "never"."""
        return self.status in {408, 429} or (self.status >= 500 and self.status not in _LASTING)


class BadRequestError(APIError):
    """400: the request is wrong and will stay wrong."""


class AuthenticationError(APIError):
    """401: the credentials are refused, also after one fresh token."""


class PermissionDeniedError(APIError):
    """403: these credentials may not do that on this account."""


class NotFoundError(APIError):
    """404: no such conference, or no longer."""


class ConflictError(APIError):
    """409: the conference cannot be changed in its present state."""


class RateLimitError(APIError):
    """429: the quota is spent. ``retry_after`` says for how long, where the server told.

    Also a 403 or another 4xx that says when to come again: ``status`` is the server's.
    """

    @property
    def transient(self) -> bool:
        """True: the same request may succeed later."""
        return True


class ServerError(APIError):
    """5xx: the server failed."""


class TransportError(BandwidthError):
    """No usable answer arrived. ``ambiguous`` says whether the request may have.

    ``dropped`` is True when the connection closed before the first byte of an answer, which is also
    what a kept-alive connection looks like that the server had already given up.
    """

    def __init__(
        self,
        message: str = "",
        *,
        dropped: bool = False,
        attempts: int = 0,
        retry_after: float | None = None,
        ambiguous: bool = False,
    ) -> None:
        super().__init__(message, attempts=attempts, retry_after=retry_after, ambiguous=ambiguous)
        self.dropped = dropped


class CertificateError(TransportError):
    """The server's certificate does not hold. Never retried: waiting does not mend it."""


class UnavailableError(TransportError):
    """The server fails now, so the request was not sent, or not again; ``retry_after`` says when to."""


class NotConfirmedError(BandwidthError):
    """The end of a conference was accepted, but reading it back shows it as active."""


class WebhookError(BandwidthError, ValueError):
    """What came as a webhook is not an event. The message says what is wrong with it."""


class HangUpError(BandwidthError):
    """The conference has ended, but some of its calls could not be hung up.

    ``calls_ended`` and ``calls_left`` are their ids, ``lasting`` says that trying again would change nothing.
    `VoiceClient.update_call` ends a single one.
    """

    def __init__(
        self,
        message: str = "",
        *,
        calls_ended: tuple[str, ...] = (),
        calls_left: tuple[str, ...] = (),
        lasting: bool = False,
        attempts: int = 0,
        retry_after: float | None = None,
        ambiguous: bool = False,
    ) -> None:
        super().__init__(message, attempts=attempts, retry_after=retry_after, ambiguous=ambiguous)
        self.calls_ended = calls_ended
        self.calls_left = calls_left
        self.lasting = lasting


class DeadlineExceededError(BandwidthError, TimeoutError):
    """Time ran out, or the run was stopped. ``last_error`` is what the last attempt met, if any did."""

    def __init__(
        self,
        message: str = "",
        *,
        last_error: BandwidthError | None = None,
        attempts: int = 0,
        retry_after: float | None = None,
        ambiguous: bool = False,
    ) -> None:
        super().__init__(message, attempts=attempts, retry_after=retry_after, ambiguous=ambiguous)
        self.last_error = last_error


class JournalError(BandwidthError):
    """The journal is not ours, damaged, in use, or cannot be written. What it holds stays as it is."""
