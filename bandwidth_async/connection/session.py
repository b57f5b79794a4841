"""The session as this client wants it, and whether a request may go past it."""

from __future__ import annotations

from types import FunctionType

import aiohttp

from bandwidth_async.connection.pool import Connections

_SHORT_BODY = 4096  # bytes; less than a connection takes at once

# What a request by a session goes through. Tools for tests and tracing put their own in its place.
_KINDS = _SESSION, _REQUEST, _RESPONSE = aiohttp.ClientSession, aiohttp.ClientRequest, aiohttp.ClientResponse
_STATIONS = [
    (owner, name, getattr(owner, name, None))
    for owner, name in (
        (_SESSION, "request"),
        (_SESSION, "_request"),
        (_REQUEST, "send"),
        (_RESPONSE, "start"),
    )
]


def _is_genuine(method: object) -> bool:
    return type(method) is FunctionType and method.__globals__.get("__name__", "").startswith("aiohttp.")


# What the direct way takes of aiohttp is known for this version only.
_FITS = aiohttp.__version__.startswith("3.14.") and all(_is_genuine(method) for *_, method in _STATIONS)


def open_session() -> aiohttp.ClientSession:
    """Return a session as this client wants it: no cookies, no bound of its own. Needs a running loop."""
    connections = Connections()
    session = aiohttp.ClientSession(connector=connections, cookie_jar=aiohttp.DummyCookieJar())
    connections.plain = _is_plain(session)
    return session


def direct_way(session: aiohttp.ClientSession, body: bytes) -> Connections | None:
    """Return the connections of a session of ours, when a request may go over them without the session.

    It may not where somebody looks on or stands in, by tracing, by methods put in the place of aiohttp's or
    by settings that no session of ours is opened with; nor with a body that is not written all at once.
    """
    connections = session.connector
    if not _FITS or not isinstance(connections, Connections) or not connections.plain:
        return None
    for owner, name, method in _STATIONS:
        if getattr(owner, name) is not method:
            return None
    return connections if len(body) <= _SHORT_BODY else None


def _is_plain(session: aiohttp.ClientSession) -> bool:
    """Say whether a session does nothing to a request. Whoever patches how sessions are made changes that."""
    kinds = type(session), session._request_class, session._response_class
    changes = (
        session.headers,
        session.skip_auto_headers,
        session.auth,
        session.trust_env,
        session.trace_configs,
        session._default_proxy,
        session._middlewares,
    )
    return kinds == _KINDS and not any(changes)
