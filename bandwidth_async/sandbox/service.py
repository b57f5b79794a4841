"""The sandbox without sockets: takes requests, and returns what the client gets.

Time passes while a request is handled, so it takes three steps:

- `Service.receive` decides at once who is refused: unknown path 404, credentials or account 401, quota 429.
- `Service.respond`, after the latency, does the rest: faults, method 405, media type 415, size 413, content
  400, conference 404, state 409.
- `Service.release` frees the place of the request in the quota.

The truth counts exactly one response for every request: a status, the name of the fault if no whole response
was sent, or ``abandoned`` if the client left before the work began.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TypedDict

from attrs import evolve, frozen

from bandwidth_async.sandbox.authentication import Authentication
from bandwidth_async.sandbox.faults import Delivery, Fault, FaultSelector, apply_fault, undisturbed
from bandwidth_async.sandbox.messages import (
    Moment,
    Request,
    Response,
    error_response,
    json_array,
    json_object,
    streamed_json,
)
from bandwidth_async.sandbox.quota import Hint, Quota
from bandwidth_async.sandbox.routes import Api, Operation, Route, RoutedRequest, find_route
from bandwidth_async.sandbox.simulation import ConferenceTruth, Simulation

KINDS = (
    *("token", "list", "get", "end", "redirect", "bxml", "get-member", "update-member"),
    *("list-recordings", "get-recording", "download", "get-call", "hang-up", "redirect-call", "other"),
)
"""The kinds of requests that the truth counts."""


class Truth(TypedDict):
    """What really happened: to each conference, to requests by kind and response, to events by kind."""

    conferences: dict[str, ConferenceTruth]
    requests: dict[str, dict[str, int]]
    events: dict[str, dict[str, int]]


@frozen(kw_only=True)
class Exchange:
    """One request while it is handled.

    ``route`` is None for an unknown path. ``refusal`` is the response if the request was refused.
    ``admitted`` says whether it holds a place in the quota.
    """

    routed: RoutedRequest
    kind: str
    api: Api
    route: Route | None = None
    refusal: Response | None = None
    fault: Fault | None = None
    admitted: bool = False


class Service:
    """Decides what each request gets, and counts it."""

    def __init__(
        self,
        *,
        simulation: Simulation,
        authentication: Authentication,
        quota: Quota,
        hint: Hint,
        faults: FaultSelector,
        routes: Iterable[Route],
        events: Callable[[], dict[str, dict[str, int]]],
    ) -> None:
        self._simulation = simulation
        self._authentication = authentication
        self._quota = quota
        self._hint = hint
        self._faults = faults
        self._events = events
        self._routes = (*routes, *self._own_routes())
        # Changed in _count().
        self._counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}

    def _own_routes(self) -> Iterator[Route]:
        token = Operation(kind=lambda _: "token", handler=self._authentication.grant)
        yield Route(path="/api/v1/oauth2/token", operations={"POST": token}, api=Api.TOKEN)
        for name, handler in (
            ("truth", lambda _: streamed_json(self._truth_blocks)),
            (
                "active-calls",
                lambda _: streamed_json(lambda: json_array(self._simulation.calls.active_ids())),
            ),
        ):
            control = Operation(kind=lambda _: "truth", handler=handler)
            yield Route(path=f"/_sandbox/{name}", operations={"GET": control}, api=Api.CONTROL)

    def receive(self, request: Request, at: Moment) -> Exchange:
        """Admit or refuse a request. In both cases call `release` at its end."""
        found = find_route(self._routes, request.segments)
        if found is None:
            routed = RoutedRequest(request=request, params={}, at=at)
            return Exchange(routed=routed, kind="other", api=Api.TOKEN)
        route, params = found
        routed = RoutedRequest(request=request, params=params, at=at)
        exchange = Exchange(routed=routed, kind=route.kind(request), api=route.api, route=route)
        return self._admit(exchange) if route.api is Api.VOICE else exchange

    def _admit(self, exchange: Exchange) -> Exchange:
        request, at = exchange.routed.request, exchange.routed.at
        account_id = exchange.routed.params["accountId"]
        refusal = self._authentication.check(request.authorization, account_id, at.now)
        if refusal is not None:
            return evolve(exchange, refusal=refusal)
        over_quota = self._quota.admit(at.now)
        if over_quota is not None:
            return evolve(exchange, refusal=self._too_many_requests(over_quota.seconds, at))
        return evolve(exchange, fault=self._faults.choose(exchange.kind), admitted=True)

    def respond(self, exchange: Exchange, at: Moment) -> Delivery:
        """Do the work of the request and return what the client gets."""
        delivery = self._handle(exchange, at)
        if exchange.api is not Api.CONTROL:
            self._count(exchange.kind, delivery.counted_as)
        return delivery

    def _handle(self, exchange: Exchange, at: Moment) -> Delivery:
        route, routed = exchange.route, evolve(exchange.routed, at=at)
        if route is None:
            return undisturbed(error_response(404, "The path is not found"))
        if exchange.refusal is not None:
            return undisturbed(exchange.refusal)
        return apply_fault(
            exchange.fault, lambda: route.handle(routed), lambda status: self._failure(status, at)
        )

    def abandon(self, exchange: Exchange) -> None:
        """Count a request whose client left before the work began."""
        self._count(exchange.kind, "abandoned")

    def release(self, exchange: Exchange) -> None:
        """Free the place of the request in the quota, if it has one."""
        if exchange.admitted:
            self._quota.release()

    def truth(self) -> Truth:
        """Return what really happened to every conference, and to requests and events by kind."""
        conferences = dict(self._simulation.truth())
        return {"conferences": conferences, "requests": self._requests(), "events": self._events()}

    def _truth_blocks(self) -> Iterator[bytes]:
        """Yield the truth as JSON. Each conference is as it is when its turn comes; the counts come last."""
        yield b'{"conferences":'
        yield from json_object(self._simulation.truth())
        yield b","
        counts = b"".join(json_object([("requests", self._requests()), ("events", self._events())]))
        yield counts.removeprefix(b"{")

    def _requests(self) -> dict[str, dict[str, int]]:
        return {kind: dict(responses) for kind, responses in self._counts.items()}

    def _count(self, kind: str, response: str) -> None:
        self._counts[kind][response] += 1

    def _too_many_requests(self, seconds: float | None, at: Moment) -> Response:
        return error_response(429, "Too many requests", self._hint.headers(seconds, at.wall.timestamp()))

    def _failure(self, status: int, at: Moment) -> Response:
        """Return the response of a fault with that status."""
        if status == 429:
            return self._too_many_requests(None, at)
        if status < 400:
            return Response(status=status, headers={"Location": "/"} if status >= 300 else {})
        return error_response(status, "A fault of the sandbox")
