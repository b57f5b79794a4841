"""What we talk about: conferences, their members and recordings, calls, and the changes to them."""

from bandwidth_async.models.call import Call
from bandwidth_async.models.conference import CallbackMethod, Conference, ConferenceMember, camel_case
from bandwidth_async.models.ids import checked_id
from bandwidth_async.models.member import UpdateConferenceMember
from bandwidth_async.models.recording import ConferenceRecording
from bandwidth_async.models.update import (
    CREDENTIAL_LIMIT,
    TAG_LIMIT,
    CallState,
    ConferenceStatus,
    UpdateCall,
    UpdateConference,
)

__all__ = [
    "CREDENTIAL_LIMIT",
    "TAG_LIMIT",
    "Call",
    "CallState",
    "CallbackMethod",
    "Conference",
    "ConferenceMember",
    "ConferenceRecording",
    "ConferenceStatus",
    "UpdateCall",
    "UpdateConference",
    "UpdateConferenceMember",
    "camel_case",
    "checked_id",
]
