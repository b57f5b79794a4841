"""Events with exactly the fields of their published schemas, and the webhooks that they are sent to."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import SplitResult, urlsplit

from attrs import field, frozen

from bandwidth_async.sandbox.calls import PhoneCall
from bandwidth_async.sandbox.conferences import Conference, format_time
from bandwidth_async.sandbox.messages import without_nulls

KINDS = (
    "conferenceCreated",
    "conferenceMemberJoin",
    "conferenceMemberExit",
    "conferenceRedirect",
    "conferenceCompleted",
    "conferenceRecordingAvailable",
)
SYNCHRONOUS_KINDS = frozenset(KINDS[:4])
"""A webhook may answer these events with BXML for the conference. The others are asynchronous."""


@frozen(kw_only=True)
class Webhook:
    """Where events are sent. ``fallback`` is asked if it does not respond, or not with 2xx (a guess)."""

    url: str
    method: str = "POST"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    fallback: Webhook | None = None


@frozen(kw_only=True)
class Event:
    """One event of a conference, with the webhook that it is sent to."""

    conference: Conference
    kind: str
    fields: Mapping[str, object]
    webhook: Webhook


def conference_event(
    kind: str, conference: Conference, at: datetime, webhook: Webhook, **more: object
) -> Event:
    """Return an event of a conference. ``more`` are fields besides those that all events have."""
    fields = {
        "eventType": kind,
        "eventTime": format_time(at),
        "conferenceId": conference.id,
        "name": conference.name,
        "tag": conference.tag,
        **more,
    }
    return Event(conference=conference, kind=kind, fields=without_nulls(fields), webhook=webhook)


def member_event(kind: str, call: PhoneCall, at: datetime, webhook: Webhook) -> Event:
    """Return an event of a member: join or exit."""
    numbers = {"from": call.origin, "to": call.destination, "callId": call.id}
    return conference_event(kind, call.conference, at, webhook, **numbers)


def url_error(value: object) -> str | None:
    """Return what is wrong with an absolute http or https URL, None if nothing is."""
    if not isinstance(value, str):
        return "a string is required"
    if value.partition(":")[0].lower() not in {"http", "https"}:
        return "only http and https are allowed"
    # Checked here because urlsplit silently removes some of these characters.
    if not value.isprintable() or " " in value:
        return "spaces, control characters and surrogates are not allowed"
    try:
        url = urlsplit(value)
    except ValueError as exc:
        return f"it cannot be read: {exc}"
    if not url.hostname:
        return "a host is required"
    return None if _has_valid_port(url) else "the port must be within the range [1, 65535]"


def _has_valid_port(url: SplitResult) -> bool:
    try:
        return url.port != 0
    except ValueError:
        return False


def is_on_this_machine(url: str) -> bool:
    """Return whether the host of a URL is a loopback address."""
    return is_loopback(urlsplit(url).hostname or "")


def is_loopback(host: str) -> bool:
    """Return whether a host, by name or address, is this machine's loopback."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
