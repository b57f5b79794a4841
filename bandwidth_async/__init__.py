"""End conferences on Bandwidth's Voice API: one or a million, each with a certain outcome."""

from bandwidth_async._version import __version__
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
    MissingCredentialsError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    TransportError,
)
from bandwidth_async.gauge import LimiterSnapshot, Paused, RateChanged
from bandwidth_async.limiter import Limiter
from bandwidth_async.models import (
    CallbackMethod,
    Conference,
    ConferenceMember,
    ConferenceStatus,
    UpdateConference,
)
from bandwidth_async.pacing import RateLimit
from bandwidth_async.retry import RetryPolicy
from bandwidth_async.teardown import Outcome, OutcomeKind, Outcomes, Report, Stop
from bandwidth_async.transport import Timeouts

__all__ = [
    "APIError",
    "AuthenticationError",
    "BadRequestError",
    "BandwidthError",
    "BasicCredentials",
    "CallbackMethod",
    "CertificateError",
    "ClientCredentials",
    "ClientStateError",
    "Conference",
    "ConferenceMember",
    "ConferenceStatus",
    "ConfigurationError",
    "ConflictError",
    "DeadlineExceededError",
    "Limiter",
    "LimiterSnapshot",
    "MissingCredentialsError",
    "NotFoundError",
    "Outcome",
    "OutcomeKind",
    "Outcomes",
    "Paused",
    "PermissionDeniedError",
    "RateChanged",
    "RateLimit",
    "RateLimitError",
    "Report",
    "RetryPolicy",
    "ServerError",
    "Stop",
    "Timeouts",
    "TransportError",
    "UpdateConference",
    "VoiceClient",
    "__version__",
]
