"""End conferences on Bandwidth's Voice API: one or a million, each with a certain outcome.

A name is imported when it is first used: the command line's ``--help`` need not wait for aiohttp.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from bandwidth_async._version import __version__

if TYPE_CHECKING:
    from bandwidth_async.client import VoiceClient
    from bandwidth_async.credentials import BasicCredentials, ClientCredentials
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
        HangUpError,
        JournalError,
        MissingCredentialsError,
        NotConfirmedError,
        NotFoundError,
        PermissionDeniedError,
        RateLimitError,
        ServerError,
        TransportError,
        UnavailableError,
        WebhookError,
    )
    from bandwidth_async.http import ResponseInfo, Timeouts
    from bandwidth_async.journal import Journal, JournalInfo, Recorded
    from bandwidth_async.limiter.events import LimiterSnapshot, Paused, RateChanged, Unavailable
    from bandwidth_async.limiter.limiter import Limiter
    from bandwidth_async.limiter.pace import RateLimit
    from bandwidth_async.media import Media
    from bandwidth_async.models import Call, CallbackMethod, Conference, ConferenceMember, ConferenceRecording
    from bandwidth_async.outcome import Outcome, OutcomeKind, Report
    from bandwidth_async.retry import RetryPolicy
    from bandwidth_async.run import Outcomes, Stop
    from bandwidth_async.updates import (
        CallState,
        ConferenceStatus,
        UpdateCall,
        UpdateConference,
        UpdateConferenceMember,
    )

__all__ = [
    "APIError",
    "AuthenticationError",
    "BadRequestError",
    "BandwidthError",
    "BasicCredentials",
    "Call",
    "CallState",
    "CallbackMethod",
    "CertificateError",
    "ClientCredentials",
    "ClientStateError",
    "Conference",
    "ConferenceMember",
    "ConferenceRecording",
    "ConferenceStatus",
    "ConfigurationError",
    "ConflictError",
    "DeadlineExceededError",
    "HangUpError",
    "Journal",
    "JournalError",
    "JournalInfo",
    "Limiter",
    "LimiterSnapshot",
    "Media",
    "MissingCredentialsError",
    "NotConfirmedError",
    "NotFoundError",
    "Outcome",
    "OutcomeKind",
    "Outcomes",
    "Paused",
    "PermissionDeniedError",
    "RateChanged",
    "RateLimit",
    "RateLimitError",
    "Recorded",
    "Report",
    "ResponseInfo",
    "RetryPolicy",
    "ServerError",
    "Stop",
    "Timeouts",
    "TransportError",
    "Unavailable",
    "UnavailableError",
    "UpdateCall",
    "UpdateConference",
    "UpdateConferenceMember",
    "VoiceClient",
    "WebhookError",
    "__version__",
]

_HOMES = {
    "client": ("VoiceClient",),
    "credentials": ("BasicCredentials", "ClientCredentials"),
    "errors": (
        "APIError",
        "AuthenticationError",
        "BadRequestError",
        "BandwidthError",
        "CertificateError",
        "ClientStateError",
        "ConfigurationError",
        "ConflictError",
        "DeadlineExceededError",
        "HangUpError",
        "JournalError",
        "MissingCredentialsError",
        "NotConfirmedError",
        "NotFoundError",
        "PermissionDeniedError",
        "RateLimitError",
        "ServerError",
        "TransportError",
        "UnavailableError",
        "WebhookError",
    ),
    "http": ("ResponseInfo", "Timeouts"),
    "journal": ("Journal", "JournalInfo", "Recorded"),
    "limiter.events": ("LimiterSnapshot", "Paused", "RateChanged", "Unavailable"),
    "limiter.limiter": ("Limiter",),
    "limiter.pace": ("RateLimit",),
    "media": ("Media",),
    "models": ("Call", "CallbackMethod", "Conference", "ConferenceMember", "ConferenceRecording"),
    "outcome": ("Outcome", "OutcomeKind", "Report"),
    "retry": ("RetryPolicy",),
    "run": ("Outcomes", "Stop"),
    "updates": ("CallState", "ConferenceStatus", "UpdateCall", "UpdateConference", "UpdateConferenceMember"),
}


if not TYPE_CHECKING:  # for type checkers a name that is not imported above does not exist

    def __getattr__(name: str) -> object:
        for module, names in _HOMES.items():
            if name in names:
                value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
