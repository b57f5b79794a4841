"""Receive Bandwidth's conference webhooks.

`asgi_app`, and ``aiohttp_handler`` in the module of that name, are handlers for a web server. To write one
for another server, build it on `Reception`. The parts can be used alone: `parse_event` reads an event,
`BasicAuth` checks who sent it, `Deduplicator` tells whether it came before, and `EventHub` gives it to the
code that waits for it.
"""

from bandwidth_async.webhooks.asgi import asgi_app
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
    parse_event,
)
from bandwidth_async.webhooks.hub import Deduplicator, EventHub, Expectation, Listener, Memory
from bandwidth_async.webhooks.reception import BasicAuth, Challenge, Receiver, Reception, Reply, check_bxml

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
