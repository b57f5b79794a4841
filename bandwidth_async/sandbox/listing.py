"""Listing conferences: the filters and the page that a query asks for, and the link to the next page."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode

from attrs import frozen

_MAX_PAGE_SIZE = 1000
_SIZE = re.compile(r"[0-9]{1,4}")


@frozen(kw_only=True)
class Listing:
    """One page of the conferences with that name, created between the two times, both included."""

    name: str | None = None
    earliest: datetime | None = None
    latest: datetime | None = None
    size: int = _MAX_PAGE_SIZE
    start: int = 0

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Listing:
        """Return what the query asks for. A time without a zone is UTC (a guess).

        Raises `ValueError` with the description for a 400.
        """
        return cls(
            name=query.get("name"),
            earliest=_parse_time(query, "minCreatedTime"),
            latest=_parse_time(query, "maxCreatedTime"),
            size=_parse_size(query.get("pageSize", str(_MAX_PAGE_SIZE))),
            start=_parse_token(query["pageToken"]) if "pageToken" in query else 0,
        )


def next_link(url: str, query: Mapping[str, str], start: int) -> str:
    """Return the ``Link`` header of the page from ``start``: the same query with another page token."""
    token = base64.urlsafe_b64encode(json.dumps({"start": start}).encode()).decode()
    return f'<{url}?{urlencode({**query, "pageToken": token})}>; rel="next"'


def _parse_token(token: str) -> int:
    try:
        start = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))["start"]
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise ValueError("Invalid pageToken: follow the Link header") from exc
    # Compared by type because JSON's true is an int, too.
    if type(start) is not int or start < 0:
        raise ValueError("Invalid pageToken: follow the Link header")
    return start


def _parse_size(text: str) -> int:
    if not _SIZE.fullmatch(text) or not 1 <= int(text) <= _MAX_PAGE_SIZE:
        raise ValueError(f"pageSize must be within the range [1, {_MAX_PAGE_SIZE}], but was {text}")
    return int(text)


def _parse_time(query: Mapping[str, str], name: str) -> datetime | None:
    if name not in query:
        return None
    try:
        moment = datetime.fromisoformat(query[name])
    except ValueError as exc:
        raise ValueError(f"Invalid {name}: must be an ISO-8601 time") from exc
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
