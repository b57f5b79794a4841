"""The conference endpoints: list, get, update."""

from __future__ import annotations

from attrs import frozen

from bandwidth_async.sandbox.listing import Listing, next_link
from bandwidth_async.sandbox.messages import Answer, json_answer, problem
from bandwidth_async.sandbox.routes import Call, Operation, Route
from bandwidth_async.sandbox.update import is_end, kind_of_update, objection_to, read_update
from bandwidth_async.sandbox.world import Conference, World, wire_time

_ALL = "/api/v2/accounts/{accountId}/conferences"
_ONE = f"{_ALL}/{{conferenceId}}"
_NO_CONTENT = Answer(status=204)


@frozen(kw_only=True)
class Conferences:
    """The endpoints over one world. ``already_ended`` is the status for updating an ended conference."""

    world: World
    already_ended: int
    forget_ended: bool

    def routes(self) -> tuple[Route, ...]:
        """Return the table of the conference endpoints."""
        listing = Operation(kind=lambda _: "list", work=self._list)
        getting = Operation(kind=lambda _: "get", work=self._get)
        update = Operation(
            kind=lambda request: kind_of_update(request.body),
            work=self._update,
            media_type="application/json",
        )
        return (
            Route(path=_ONE, operations={"GET": getting, "POST": update}),
            Route(path=_ALL, operations={"GET": listing}),
        )

    def _list(self, call: Call) -> Answer:
        try:
            listing = Listing.read(call.request.query)
        except ValueError as exc:
            return problem(400, str(exc))
        page, start = self.world.page(
            wanted=lambda conference: self._remembered(conference) and listing.wants(conference),
            start=listing.start,
            size=listing.size,
        )
        url = call.request.base_url + _ALL.format_map(call.params)
        link = {} if start is None else {"Link": next_link(url, call.request.query, start)}
        return json_answer(200, [self._facts(conference) for conference in page], link)

    def _get(self, call: Call) -> Answer:
        conference = self.world.get(call.params["conferenceId"])
        if conference is None or not self._remembered(conference):
            return _not_found(call)
        url = call.request.base_url + _ONE.format_map(call.params)
        members = [
            {
                "callId": call_id,
                "conferenceId": conference.id,
                "memberUrl": f"{url}/members/{call_id}",
                "mute": False,
                "hold": False,
                "callIdsToCoach": [],
            }
            for call_id in self.world.active_calls(conference)
        ]
        return json_answer(200, {**self._facts(conference), "activeMembers": members})

    def _update(self, call: Call) -> Answer:
        fields = read_update(call.request.body)
        if fields is None:
            return problem(400, "The body must be a JSON object")
        objection = objection_to(fields)
        if objection is not None:
            return problem(400, objection)
        conference = self.world.get(call.params["conferenceId"])
        if conference is None:
            return _not_found(call)
        if is_end(fields):
            return _NO_CONTENT if self.world.end(conference.id, call.at.wall) else self._ended_before(call)
        return _NO_CONTENT if self.world.ended_at(conference) is None else self._redirect_too_late(call)

    def _ended_before(self, call: Call) -> Answer:
        match self.already_ended:
            case 204:
                return _NO_CONTENT
            case 409:
                return problem(409, f"Conference [{call.params['conferenceId']}] has ended")
            case _:
                return _not_found(call)

    def _redirect_too_late(self, call: Call) -> Answer:
        answer = self._ended_before(call)
        return _not_found(call) if answer is _NO_CONTENT else answer

    def _remembered(self, conference: Conference) -> bool:
        return not (self.forget_ended and self.world.ended_at(conference))

    def _facts(self, conference: Conference) -> dict[str, object]:
        """Return the conference without its members; what it lacks is absent rather than null (a guess)."""
        ended_at = self.world.ended_at(conference)
        facts = {
            "id": conference.id,
            "name": conference.name,
            "createdTime": wire_time(conference.created_at),
            "completedTime": ended_at and wire_time(ended_at),
            "conferenceEventUrl": conference.event_url,
            "conferenceEventMethod": "POST" if conference.event_url else None,
            "tag": conference.tag,
        }
        return {name: value for name, value in facts.items() if value is not None}


def _not_found(call: Call) -> Answer:
    return problem(404, f"Conference [{call.params['conferenceId']}] not found")
