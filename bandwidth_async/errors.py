"""Every error that this package raises, in one tree.

::

    BandwidthError
    ├── ConfigurationError           an argument cannot be right: an unsafe id, a bad rate
    │   └── MissingCredentialsError  the environment holds no account or no credentials
    ├── ClientStateError             the client is closed, of another event loop, or without file descriptors
    ├── APIError                     the server responded with an error
    │   ├── BadRequestError          400
    │   ├── AuthenticationError      401, also from the token endpoint
    │   ├── PermissionDeniedError    403
    │   ├── NotFoundError            404
    │   ├── ConflictError            409
    │   ├── RateLimitError           429, or a refusal that says when to come again
    │   └── ServerError              5xx
    ├── TransportError               no usable response: connect, TLS, timeout, cut connection
    │   ├── CertificateError         the server's certificate is not valid
    │   ├── UnavailableError         not sent, because the server is down
    │   └── UnexpectedResponseError  a success that is not the documented one: a sign-in page, a proxy's page
    ├── NotConfirmedError            Bandwidth accepted the end, but the conference still reads as active
    ├── HangUpError                  the conference has ended, but some of its calls go on
    ├── WebhookError                 a webhook's body is not an event
    ├── DeadlineExceededError        the deadline passed, or the run was stopped
    └── JournalError                 the journal is damaged, in use, not a journal, or cannot be written

Two errors are different classes where you would handle them differently. Attributes hold the details.
"""

from __future__ import annotations

# Server errors that do not pass: "not implemented" and "HTTP version not supported".
_LASTING = frozenset({501, 505})


class BandwidthError(Exception):
    """The root of all errors: catch it to catch everything that this package raises.

    ``attempts``
        The HTTP requests that were sent for the operation. 0 if it failed before the first one.
    ``retry_after``
        The seconds to wait before you try again, if known.
    ``ambiguous``
        True if one of the attempts may have taken effect although no response confirmed it.
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
        """The message without the attempts and the time to wait."""
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
    """Raised before anything is sent if an argument or setting is wrong. The message says what to change."""


class MissingCredentialsError(ConfigurationError):
    """Raised if environment variables for account or credentials are missing. The message names them."""


class ClientStateError(BandwidthError, RuntimeError):
    """Raised if the client cannot send anything: it is closed, or belongs to another event loop.

    Make a new one in each event loop. Also raised if this process can open no connection for over a minute,
    because it has no file descriptor to spare.
    """


class APIError(BandwidthError):
    """Raised if the server responds with an error. Try again later only if it is `transient`.

    ``status`` is the HTTP status, and ``request`` the name of the request. ``type``, ``description`` and
    ``error_id`` are Bandwidth's own, if the body has them.
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
        """Whether the same request may succeed later: for 408, 425, 429 and 5xx, but not for 501 and 505."""
        return self.status in {408, 425, 429} or (self.status >= 500 and self.status not in _LASTING)


class BadRequestError(APIError):
    """Raised for a 400: the request is wrong. Change it, as it would fail again."""


class AuthenticationError(APIError):
    """Raised for a 401 that a new access token did not cure, or if there is no access token.

    Check your credentials and the account id: a user without access to the account gets a 401 too. API users,
    with a name and password, get one from 2 December 2026 on.
    """


class PermissionDeniedError(APIError):
    """Raised for a 403: the user has no access to the Voice API. Check the roles of the credentials."""


class NotFoundError(APIError):
    """Raised for a 404: what the id names does not exist, or no longer. Check the id."""


class ConflictError(APIError):
    """Raised for a 409: the conference or call cannot be changed in its present state. Look at it first.

    It may have ended a moment ago, and a call may not be answered yet.
    """


class RateLimitError(APIError):
    """Raised for a 429: the quota is spent. Wait ``retry_after`` seconds, if the server gave a time.

    It is also raised for a 403 or another 4xx that says when to come again: ``status`` is the server's.
    """

    @property
    def transient(self) -> bool:
        """True: the same request may succeed later."""
        return True


class ServerError(APIError):
    """Raised for a 5xx: the server failed. Try again later if it is `transient`."""


class TransportError(BandwidthError):
    """Raised if no usable response arrived. If it is ``ambiguous``, the request may have taken effect.

    ``dropped`` is True if the connection closed before the first byte of a response. A kept-alive connection
    that the server had already closed looks the same. ``lasting`` is True if every request fails like this
    until somebody changes something, such as the credentials for the proxy.
    """

    lasting: bool = False

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
    """Raised if the server's certificate is not valid. It is never retried: check the URL and your CA."""

    lasting = True


class UnavailableError(TransportError):
    """Raised instead of sending anything while the server is down. Wait ``retry_after`` seconds."""


class UnexpectedResponseError(TransportError):
    """Raised for a 2xx that is not the success which Bandwidth documents for the request.

    It may be a sign-in page, a proxy's page, or an error in JSON. The message tells its content type and
    first words. Find out what stands between you and Bandwidth.
    """


class NotConfirmedError(BandwidthError):
    """Raised with ``verify`` if Bandwidth accepted the end of a conference that still reads as active.

    End it again: ending a conference twice does no harm.
    """


class WebhookError(BandwidthError, ValueError):
    """Raised if the body of a webhook is not an event. Respond with 400; the message says what is wrong."""


class HangUpError(BandwidthError):
    """Raised with ``hang_up`` if the conference has ended but some of its calls go on.

    Hang up each of ``calls_left`` with `VoiceClient.update_call`. If ``lasting`` is True, this fails again.
    ``calls_left`` and ``calls_ended`` are call ids.
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
    """Raised if the deadline passed, if no response could come before it, or if the run was stopped.

    Try again with a longer deadline. ``last_error`` is the error of the last attempt, if one failed.
    """

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
    """Raised if a file is no usable journal: damaged, in use, or not writable. Its content stays as it is.

    ``in_use`` says that another process, or another run of this one, is at work on it.
    """

    in_use = False
