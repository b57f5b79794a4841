"""Which path and method lead to which work, and the checks that come before any work.

A new endpoint is one more `Route` in the table, or one more `Operation` in a route.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum

from attrs import field, frozen

from bandwidth_async.sandbox.messages import Answer, Moment, Request, problem


class Door(Enum):
    """What a path stands behind."""

    VOICE = "credentials, account, quota and faults"
    TOKEN = "latency alone"  # noqa: S105 - a door, not a secret
    BACKSTAGE = "nothing, and nobody counts"


@frozen(kw_only=True)
class Call:
    """A request that found its route; ``params`` are the parts of the path that the route names."""

    request: Request
    params: Mapping[str, str]
    at: Moment


@frozen(kw_only=True)
class Operation:
    """One method of a route. ``kind`` is its name in the truth; ``media_type`` what its body must be."""

    kind: Callable[[Request], str]
    work: Callable[[Call], Answer]
    media_type: str | None = None


@frozen(kw_only=True)
class Route:
    """A path such as ``/accounts/{accountId}/conferences`` with its operations by method."""

    path: str
    operations: Mapping[str, Operation]
    door: Door = Door.VOICE
    _parts: tuple[str, ...] = field(init=False, repr=False)

    @_parts.default
    def _split(self) -> tuple[str, ...]:
        return tuple(self.path.removeprefix("/").split("/"))

    def match(self, segments: tuple[str, ...]) -> dict[str, str] | None:
        """Return the named parts of a path that is this route's, else None."""
        if len(segments) != len(self._parts):
            return None
        params = {}
        for part, segment in zip(self._parts, segments, strict=True):
            if part.startswith("{") and segment:
                params[part[1:-1]] = segment
            elif part != segment:
                return None
        return params

    def kind(self, request: Request) -> str:
        """Return the name under which the truth counts ``request``."""
        operation = self.operations.get(request.method)
        return "other" if operation is None else operation.kind(request)

    def perform(self, call: Call) -> Answer:
        """Check method, media type and size, in this order, then do the work."""
        operation = self.operations.get(call.request.method)
        if operation is None:
            return problem(405, "Method Not Allowed", {"Allow": ", ".join(sorted(self.operations))})
        if operation.media_type not in {None, call.request.media_type}:
            return problem(415, f"Content-Type must be {operation.media_type}")
        if call.request.body is None:
            return problem(413, "The request body is too large")
        return operation.work(call)


def find(routes: Iterable[Route], segments: tuple[str, ...]) -> tuple[Route, dict[str, str]] | None:
    """Return the route of a path with the path's named parts, None for an unknown path."""
    for route in routes:
        params = route.match(segments)
        if params is not None:
            return (route, params)
    return None
