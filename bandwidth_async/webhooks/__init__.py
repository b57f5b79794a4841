"""The other way round: what Bandwidth tells us of conferences, as webhooks.

`parse_event` reads one event; `BasicAuth` says who may send it; `Deduplicator` knows it again; `EventHub`
hands it to those who wait for it. `asgi_app`, and ``aiohttp_handler`` of the module of that name, do all of
that for a web server; `Reception` is what to build another handler on.
"""

from bandwidth_async.webhooks.asgi import asgi_app
from bandwidth_async.webhooks.basic_auth import BasicAuth, Challenge
from bandwidth_async.webhooks.bxml import check_bxml
from bandwidth_async.webhooks.deduplication import Deduplicator, Memory
from bandwidth_async.webhooks.events import (
    ConferenceCompleted,
    ConferenceCreated,
    ConferenceEvent,
    ConferenceMemberExit,
    ConferenceMemberJoin,
    ConferenceRecordingAvailable,
    ConferenceRedirect,
    Event,
    MemberEvent,
    UnknownEvent,
)
from bandwidth_async.webhooks.hub import EventHub, Expectation, Listener
from bandwidth_async.webhooks.parsing import parse_event
from bandwidth_async.webhooks.reception import Receiver, Reception, Reply

__all__ = [
    "BasicAuth",
    "Challenge",
    "ConferenceCompleted",
    "ConferenceCreated",
    "ConferenceEvent",
    "ConferenceMemberExit",
    "ConferenceMemberJoin",
    "ConferenceRecordingAvailable",
    "ConferenceRedirect",
    "Deduplicator",
    "Event",
    "EventHub",
    "Expectation",
    "Listener",
    "MemberEvent",
    "Memory",
    "Receiver",
    "Reception",
    "Reply",
    "UnknownEvent",
    "asgi_app",
    "check_bxml",
    "parse_event",
]
