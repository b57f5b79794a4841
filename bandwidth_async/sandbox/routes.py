"""Routes: which path and method lead to which handler, and the checks before it.

A new endpoint is one more `Route`, or one more `Operation` in a route.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum

from attrs import field, frozen

from bandwidth_async.sandbox.messages import Moment, RefusedError, Request, Response, error_response


class Api(Enum):
    """Which API a path belongs to, and so what applies to its requests."""

    VOICE = "latency, credentials, account, quota and faults"
    TOKEN = "latency alone"  # noqa: S105 - an API, not a secret
    CONTROL = "nothing, and its requests are not counted"


@frozen(kw_only=True)
class RoutedRequest:
    """A request with the parts of its path that the route names, and the time at which it is handled."""

    request: Request
    params: Mapping[str, str]
    at: Moment


@frozen(kw_only=True)
class Operation:
    """One method of a route. ``kind`` returns its name in the truth; ``media_type`` is that of its body."""

    kind: Callable[[Request], str]
    handler: Callable[[RoutedRequest], Response]
    media_type: str | None = None


@frozen(kw_only=True)
class Route:
    """A path such as ``/accounts/{accountId}/conferences``, with its operations by method."""

    path: str
    operations: Mapping[str, Operation]
    api: Api = Api.VOICE
    _parts: tuple[str, ...] = field(init=False, repr=False)

    @_parts.default
    def _split(self) -> tuple[str, ...]:
        return tuple(self.path.removeprefix("/").split("/"))

    def match(self, segments: tuple[str, ...]) -> dict[str, str] | None:
        """Return the named parts of a path if it is this route's, else None."""
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
        """Return the name under which the truth counts the request."""
        operation = self.operations.get(request.method)
        return "other" if operation is None else operation.kind(request)

    def handle(self, routed: RoutedRequest) -> Response:
        """Check method, media type and size, in this order, then call the handler."""
        operation = self.operations.get(routed.request.method)
        if operation is None:
            return error_response(405, "Method Not Allowed", {"Allow": ", ".join(sorted(self.operations))})
        if operation.media_type not in {None, routed.request.media_type}:
            return error_response(415, f"Content type '{routed.request.media_type}' not supported")
        if routed.request.body is None:
            return error_response(413, "The request body is too large")
        try:
            return operation.handler(routed)
        except RefusedError as exc:
            return exc.response


def find_route(routes: Iterable[Route], segments: tuple[str, ...]) -> tuple[Route, dict[str, str]] | None:
    """Return the route of a path with the named parts of the path, None for an unknown path."""
    for route in routes:
        params = route.match(segments)
        if params is not None:
            return (route, params)
    return None
