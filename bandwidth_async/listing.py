"""Walking a listing: which page comes next, and when there is none. None ends early without an error."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from attrs import define, field, frozen

from bandwidth_async import wire
from bandwidth_async.errors import TransportError
from bandwidth_async.server_text import SENTENCE_LIMIT, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Pages in a row with nothing new in them, before a listing is taken for endless.
_FRUITLESS_PAGES = 100

_TARGET = re.compile(r"[\s,]*<([^<>]*)>\s*")
_PARAMETER = re.compile(r';\s*(?:([^\s=;,"<>]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))\s*)?)?')
_QUOTED_PAIR = re.compile(r"\\(.)")
# Everything that may stand in a path and in a query as it is (RFC 3986).
_PATH_CHARACTERS = "%/:@!$&'()*+,;=-._~"
_QUERY_CHARACTERS = _PATH_CHARACTERS + "?[]"


@frozen
class Link:
    """One link of a ``Link`` header (RFC 8288): where it leads, and its first parameter of each name."""

    target: str
    parameters: dict[str, str]

    @property
    def relations(self) -> set[str]:
        """What the target is to the context, in small letters."""
        return set(self.parameters.get("rel", "").lower().split())


def parse_links(values: Iterable[str]) -> Iterator[Link]:
    """Yield the links of all ``Link`` headers. Raises `ValueError` for a header that cannot be read."""
    for value in values:
        at = 0
        while value[at:].strip(" \t,"):
            target = _TARGET.match(value, at)
            if target is None:
                raise ValueError("its Link header cannot be read")
            at = target.end()
            parameters: dict[str, str] = {}
            while parameter := _PARAMETER.match(value, at):
                at = parameter.end()
                name, quoted, plain = parameter.groups()
                if name:
                    text = plain or "" if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted)
                    parameters.setdefault(name.lower(), text)
            if at < len(value) and value[at] != ",":
                raise ValueError("its Link header cannot be read")
            yield Link(target[1].strip(), parameters)


def path_of_next(values: Iterable[str], url: str) -> str | None:
    """Return the path and query of the page after the one at ``url``, or None if no link names one.

    Behind a gateway a link may name a host, scheme or port that only the gateway knows. Then its path has to
    be the listing's own. Raises `ValueError` for any other link to a next page.
    """
    nexts = [link for link in parse_links(values) if "next" in link.relations and _is_about(url, link)]
    found = dict.fromkeys(_path_of(url, link.target) for link in nexts)
    if len(found) > 1:
        raise ValueError("its Link header names more than one next page")
    return next(iter(found), None)


def _is_about(url: str, link: Link) -> bool:
    """Return whether the context of a link is this page. An ``anchor`` may name another resource."""
    anchor = link.parameters.get("anchor")
    if anchor is None:
        return True
    named, page = urlsplit(urljoin(url, anchor)), urlsplit(url)
    return not named.fragment and (unquote(named.path), named.query) == (unquote(page.path), page.query)


def _path_of(url: str, target: str) -> str:
    """Return the path and query of a link's target, on the host of ``url``."""
    page, named = urlsplit(url), urlsplit(urljoin(url, target))
    path = quote(named.path, safe=_PATH_CHARACTERS)
    if unquote(path).rstrip("/") == unquote(page.path).rstrip("/"):
        path = page.path
    elif _origin(named) != _origin(page) or path.startswith("//"):
        raise ValueError(
            f"the next page is said to be at {target}, where the credentials are not sent, "
            "and which is not a page of this listing"
        )
    query = quote(named.query, safe=_QUERY_CHARACTERS)
    return f"{path or '/'}?{query}" if query else path or "/"


def _origin(url: SplitResult) -> tuple[str, str | None, int | None]:
    return url.scheme, url.hostname, url.port or {"http": 80, "https": 443}.get(url.scheme)


@define
class Walk:
    """Says which page of a listing to ask ``origin`` for next. `after` is called with each page."""

    origin: str
    _paths: set[str] = field(factory=set)
    _last_ids: frozenset[str] = frozenset()
    _fruitless: int = 0

    def after(self, request: wire.Request[wire.Page], page: wire.Page) -> wire.Request[wire.Page] | None:
        """Return the request for the page after ``page``, or None after the last.

        Raises `TransportError` where the server does not say clearly how the listing goes on.
        """
        self._paths.add(request.path)
        response = page.response
        try:
            path = path_of_next(response.headers.getall("Link", ()), self.origin + request.path)
        except ValueError as error:
            flaw = shown(str(error), response.authorization, SENTENCE_LIMIT)
            raise TransportError(f"{request.name}: the listing cannot go on: {flaw}") from None
        if path is None:
            return None
        ids = frozenset(conference.id for conference in page.conferences)
        self._fruitless = self._fruitless + 1 if ids <= self._last_ids else 0
        self._last_ids = ids
        if path in self._paths or self._fruitless >= _FRUITLESS_PAGES:
            raise TransportError(f"{request.name}: the links to the next page go in a circle")
        return wire.next_page(path)
