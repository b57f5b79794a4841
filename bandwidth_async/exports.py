"""Every public name of the package, once. `bandwidth_async` loads this module when a name is first used."""

from bandwidth_async._version import __version__
from bandwidth_async.client import VoiceClient
from bandwidth_async.credentials import BasicCredentials, ClientCredentials, Credentials
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
    UnexpectedResponseError,
    WebhookError,
)
from bandwidth_async.events import AttemptEnded, Event, OperationEnded, OperationStarted
from bandwidth_async.http import ResponseInfo, Timeouts
from bandwidth_async.journal import Journal, JournalInfo, Recorded, Shard
from bandwidth_async.limiter import (
    Knowledge,
    Limiter,
    LimiterSnapshot,
    PaceEvent,
    Paused,
    RateChanged,
    RateLimit,
    Unavailable,
)
from bandwidth_async.media import Media
from bandwidth_async.models import (
    Call,
    CallbackMethod,
    Conference,
    ConferenceMember,
    ConferenceRecording,
)
from bandwidth_async.outcome import Outcome, OutcomeKind, Report
from bandwidth_async.polling import CompletionHub
from bandwidth_async.retry import RetryPolicy
from bandwidth_async.run import Outcomes, Source, Stop
from bandwidth_async.settings import CallSettings, ClientSettings, RunSettings
from bandwidth_async.sharing import SharedLimiter
from bandwidth_async.sync import SyncVoiceClient
from bandwidth_async.updates import (
    CallState,
    ConferenceStatus,
    UpdateCall,
    UpdateConference,
    UpdateConferenceMember,
)

__all__ = [
    "APIError",
    "AttemptEnded",
    "AuthenticationError",
    "BadRequestError",
    "BandwidthError",
    "BasicCredentials",
    "Call",
    "CallSettings",
    "CallState",
    "CallbackMethod",
    "CertificateError",
    "ClientCredentials",
    "ClientSettings",
    "ClientStateError",
    "CompletionHub",
    "Conference",
    "ConferenceMember",
    "ConferenceRecording",
    "ConferenceStatus",
    "ConfigurationError",
    "ConflictError",
    "Credentials",
    "DeadlineExceededError",
    "Event",
    "HangUpError",
    "Journal",
    "JournalError",
    "JournalInfo",
    "Knowledge",
    "Limiter",
    "LimiterSnapshot",
    "Media",
    "MissingCredentialsError",
    "NotConfirmedError",
    "NotFoundError",
    "OperationEnded",
    "OperationStarted",
    "Outcome",
    "OutcomeKind",
    "Outcomes",
    "PaceEvent",
    "Paused",
    "PermissionDeniedError",
    "RateChanged",
    "RateLimit",
    "RateLimitError",
    "Recorded",
    "Report",
    "ResponseInfo",
    "RetryPolicy",
    "RunSettings",
    "ServerError",
    "Shard",
    "SharedLimiter",
    "Source",
    "Stop",
    "SyncVoiceClient",
    "Timeouts",
    "TransportError",
    "Unavailable",
    "UnavailableError",
    "UnexpectedResponseError",
    "UpdateCall",
    "UpdateConference",
    "UpdateConferenceMember",
    "VoiceClient",
    "WebhookError",
    "__version__",
]
