"""Helpers that parse a response body with the readers of `wire`."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from multidict import CIMultiDict

from bandwidth_async import wire

if TYPE_CHECKING:
    from bandwidth_async.credentials import Token
    from bandwidth_async.models import Call, Conference, ConferenceMember, ConferenceRecording

T = TypeVar("T")


def read(request: wire.Request[T], body: bytes) -> T:
    """Return the value that a request reads from a successful response with this body."""
    return request.read(wire.Response(status=200, headers=CIMultiDict(), body=body))


def parse_conference(body: bytes) -> Conference:
    """Parse one conference."""
    return read(wire.get_conference("1", "conf-1"), body)


def parse_conferences(body: bytes) -> list[Conference]:
    """Parse a page of conferences."""
    return read(wire.next_page("/"), body).conferences


def parse_member(body: bytes) -> ConferenceMember:
    """Parse one member of a conference."""
    return read(wire.get_conference_member("1", "conf-1", "c-1"), body)


def parse_recording(body: bytes) -> ConferenceRecording:
    """Parse the metadata of one recording."""
    return read(wire.get_conference_recording("1", "conf-1", "r-1"), body)


def parse_recordings(body: bytes) -> list[ConferenceRecording]:
    """Parse the metadata of all recordings."""
    return read(wire.list_conference_recordings("1", "conf-1"), body)


def parse_call(body: bytes) -> Call:
    """Parse one call."""
    return read(wire.get_call("1", "c-1"), body)


def parse_token(body: bytes) -> Token:
    """Parse an access token."""
    return read(wire.token(), body)
