"""What can be asked: requests as plain values, ready to be sent any number of times."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from attrs import frozen

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.models import ConferenceStatus, UpdateConference

_PLAIN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._~-]*")
_UNSAFE = frozenset("/\\%?#")
_END_BODY = UpdateConference(status=ConferenceStatus.COMPLETED).to_json().encode()


@frozen(kw_only=True)
class Request:
    """One request, ready to be sent any number of times.

    ``idempotent`` says that sending it twice does no more than sending it once, ``safe`` that it changes
    nothing at all, ``reads`` that the body of a success matters.
    """

    name: str
    method: str
    path: str
    idempotent: bool
    safe: bool = False
    reads: bool = False
    content_type: str | None = None
    body: bytes | None = None


def path_segment(value: object, what: str = "conference id") -> str:
    """Return ``value`` as one segment of a path.

    Raises `ConfigurationError` for whatever could leave its segment or hide there: empty text, dots
    only, slashes, percent signs, ``?``, ``#``, white space and everything that does not print.
    """
    if isinstance(value, str):
        if _PLAIN_ID.fullmatch(value):
            return value
        if (
            value.strip(".")
            and value.isprintable()
            and not any(c.isspace() for c in value)
            and _UNSAFE.isdisjoint(value)
        ):
            return quote(value, safe="!$&'()*+,;=:@~")
    shown = repr(value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    raise ConfigurationError(f"{shown} is no {what}: it has to be one word without blanks and / \\ % ? #")


def update_conference(account: str, conference_id: str, update: UpdateConference) -> Request:
    """Build the conference update. Ending may be repeated; a redirect would be heard twice."""
    ends = update.status is ConferenceStatus.COMPLETED
    return Request(
        name=f"{'end' if ends else 'redirect'} conference {conference_id}",
        method="POST",
        path=f"{_conferences(account)}/{path_segment(conference_id)}",
        idempotent=ends,
        content_type="application/json",
        body=_END_BODY if ends else update.to_json().encode(),
    )


def get_conference(account: str, conference_id: str) -> Request:
    """Build the request for one conference with its members."""
    return _read(f"get conference {conference_id}", f"{_conferences(account)}/{path_segment(conference_id)}")


def list_conferences(
    account: str,
    *,
    name: str | None,
    min_created_time: datetime | None,
    max_created_time: datetime | None,
    page_size: int,
) -> Request:
    """Build the request for the first page of conferences; the others are named by the answers."""
    query = {
        "name": name,
        "minCreatedTime": _iso_time(min_created_time),
        "maxCreatedTime": _iso_time(max_created_time),
        "pageSize": page_size,
    }
    try:
        given = urlencode({key: value for key, value in query.items() if value is not None})
    except UnicodeEncodeError:
        raise ConfigurationError(f"the name {name!r} cannot be sent: it is not Unicode text") from None
    return _read("list conferences", f"{_conferences(account)}?{given}")


def next_page(path: str) -> Request:
    """Build the request for a further page of conferences."""
    return _read("list conferences", path)


def token() -> Request:
    """Build the request for an access token (OAuth2, client credentials)."""
    return Request(
        name="get an access token",
        method="POST",
        path="/api/v1/oauth2/token",
        idempotent=True,
        safe=True,
        reads=True,
        content_type="application/x-www-form-urlencoded",
        body=b"grant_type=client_credentials",
    )


def _conferences(account: str) -> str:
    return f"/api/v2/accounts/{account}/conferences"


def _read(name: str, path: str) -> Request:
    return Request(name=name, method="GET", path=path, idempotent=True, safe=True, reads=True)


def _iso_time(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ConfigurationError(f"{moment} has no time zone: give an aware datetime")
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
