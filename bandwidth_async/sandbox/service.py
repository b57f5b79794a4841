"""The sandbox without its sockets: a request goes in, what the client gets comes out.

A visit has three steps, because time passes between them. `Service.arrive` decides at once who is turned
away: unknown path 404, credentials 401, account 403, quota 429. `Service.finish`, after the latency, does
the rest: faults, method 405, media type 415, size 413, content 400, conference 404, state 409.
`Service.leave` gives back the visit's place in the quota. Every counted visit gets exactly one answer in
the truth: a status, the name of a lost answer, or ``abandoned`` for a client gone before its turn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypedDict

from attrs import evolve, frozen

from bandwidth_async.sandbox.access import Access
from bandwidth_async.sandbox.course import Course
from bandwidth_async.sandbox.delivery import Delivery, deliver, whole
from bandwidth_async.sandbox.faults import Fault, FaultSource
from bandwidth_async.sandbox.hints import Hint
from bandwidth_async.sandbox.messages import Answer, Moment, Request, problem
from bandwidth_async.sandbox.quota import Quota
from bandwidth_async.sandbox.routes import Call, Door, Operation, Route, find
from bandwidth_async.sandbox.telling import array, mapping, told
from bandwidth_async.sandbox.world import Fate

KINDS = (
    *("token", "list", "get", "end", "redirect", "bxml", "get-member", "update-member"),
    *("list-recordings", "get-recording", "download", "get-call", "hang-up", "redirect-call", "other"),
)


class Truth(TypedDict):
    """What really happened: to each conference, to requests by kind and answer, to events by kind."""

    conferences: dict[str, Fate]
    requests: dict[str, dict[str, int]]
    events: dict[str, dict[str, int]]


@frozen(kw_only=True)
class Visit:
    """A request on its way through: to an unknown path, turned away with ``refusal``, or let in."""

    call: Call
    kind: str
    door: Door
    route: Route | None = None
    refusal: Answer | None = None
    fault: Fault | None = None
    admitted: bool = False


class Service:
    """The decisions, and all state that they rest on: world, access, quota, faults and the counts."""

    def __init__(
        self,
        *,
        course: Course,
        access: Access,
        quota: Quota,
        hint: Hint,
        faults: FaultSource,
        routes: Iterable[Route],
        events: Callable[[], dict[str, dict[str, int]]],
    ) -> None:
        self._course = course
        self._access = access
        self._quota = quota
        self._hint = hint
        self._faults = faults
        self._events = events
        self._routes = (*routes, self._token_route(), *self._backstage_routes())
        self._counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}  # changed in _count()

    def _token_route(self) -> Route:
        grant = Operation(kind=lambda _: "token", work=self._access.grant)
        return Route(path="/api/v1/oauth2/token", operations={"POST": grant}, door=Door.TOKEN)

    def _backstage_routes(self) -> Iterator[Route]:
        world = self._course.world
        for name, blocks in (
            ("truth", self._truth_in_blocks),
            ("active-calls", lambda: array(world.active_calls())),
        ):
            telling = Operation(kind=lambda _: "truth", work=partial(_told, blocks))
            yield Route(path=f"/_sandbox/{name}", operations={"GET": telling}, door=Door.BACKSTAGE)

    def arrive(self, request: Request, at: Moment) -> Visit:
        """Let a request in, or turn it away; an admitted one must `leave`."""
        found = find(self._routes, request.segments)
        if found is None:
            return Visit(call=Call(request=request, params={}, at=at), kind="other", door=Door.TOKEN)
        route, params = found
        call = Call(request=request, params=params, at=at)
        visit = Visit(call=call, kind=route.kind(request), door=route.door, route=route)
        return self._admit(visit) if route.door is Door.VOICE else visit

    def _admit(self, visit: Visit) -> Visit:
        request, at = visit.call.request, visit.call.at
        stranger = self._access.refusal(request.authorization, visit.call.params["accountId"], at.now)
        if stranger is not None:
            return evolve(visit, refusal=stranger)
        excess = self._quota.admit(at.now)
        if excess is not None:
            return evolve(visit, refusal=self._too_many(excess.seconds, at))
        return evolve(visit, fault=self._faults.draw(visit.kind), admitted=True)

    def finish(self, visit: Visit, at: Moment) -> Delivery:
        """Do the visit's work and return what the client gets."""
        delivery = self._deliver(visit, at)
        if visit.door is not Door.BACKSTAGE:
            self._count(visit.kind, delivery.name)
        return delivery

    def _deliver(self, visit: Visit, at: Moment) -> Delivery:
        route, call = visit.route, evolve(visit.call, at=at)
        if route is None:
            return whole(problem(404, "The path is not found"))
        if visit.refusal is not None:
            return whole(visit.refusal)
        return deliver(visit.fault, lambda: route.perform(call), lambda status: self._failure(status, at))

    def abandon(self, visit: Visit) -> None:
        """Note that the client left before its request was worked on; nothing was done."""
        self._count(visit.kind, "abandoned")

    def leave(self, visit: Visit) -> None:
        """Give back the place that the visit took."""
        if visit.admitted:
            self._quota.release()

    def truth(self) -> Truth:
        """Return what really happened: to every conference, and to every kind of request and event."""
        return {"conferences": dict(self._fates()), "requests": self._requests(), "events": self._events()}

    def _truth_in_blocks(self) -> Iterator[bytes]:
        """Yield the truth as JSON. Each conference is told as it is in its turn; the counts come last."""
        yield b'{"conferences":'
        yield from mapping(self._fates())
        yield b","
        counts = b"".join(mapping([("requests", self._requests()), ("events", self._events())]))
        yield counts.removeprefix(b"{")

    def _fates(self) -> Iterator[tuple[str, Fate]]:
        return self._course.world.truth(self._course.recordings.number)

    def _requests(self) -> dict[str, dict[str, int]]:
        return {kind: dict(answers) for kind, answers in self._counts.items()}

    def _count(self, kind: str, answer: str) -> None:
        self._counts[kind][answer] += 1

    def _too_many(self, seconds: float | None, at: Moment) -> Answer:
        return problem(429, "Too many requests", self._hint.headers(seconds, at.wall.timestamp()))

    def _failure(self, status: int, at: Moment) -> Answer:
        if status == 429:
            return self._too_many(None, at)
        if status < 400:
            return Answer(status=status, headers={"Location": "/"} if status >= 300 else {})
        return problem(status, "A fault of the sandbox")


def _told(blocks: Callable[[], Iterator[bytes]], _call: Call) -> Answer:
    return told(blocks)
