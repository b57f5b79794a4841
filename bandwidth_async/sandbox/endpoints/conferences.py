"""The conference endpoints: list, get, update, and BXML."""

from __future__ import annotations

from attrs import frozen

from bandwidth_async.sandbox.bodies import read_object
from bandwidth_async.sandbox.bxml import read_bxml
from bandwidth_async.sandbox.course import Course
from bandwidth_async.sandbox.endpoints.members import member_facts
from bandwidth_async.sandbox.facts import Conference, wire_time, without_nulls
from bandwidth_async.sandbox.listing import Listing, next_link
from bandwidth_async.sandbox.messages import NO_CONTENT, Answer, json_answer, problem
from bandwidth_async.sandbox.routes import Call, Operation, Route
from bandwidth_async.sandbox.update import (
    CONFERENCE,
    is_completed,
    kind_of_update,
    objection_to,
    redirect_target,
)
from bandwidth_async.sandbox.world import World

ALL = "/api/v2/accounts/{accountId}/conferences"
ONE = f"{ALL}/{{conferenceId}}"


@frozen(kw_only=True)
class Conferences:
    """The endpoints over one course. ``already_ended`` is the status for updating an ended conference."""

    course: Course
    already_ended: int
    forget_ended: bool

    @property
    def _world(self) -> World:
        return self.course.world

    def routes(self) -> tuple[Route, ...]:
        """Return the table of the conference endpoints."""
        listing = Operation(kind=lambda _: "list", work=self._list)
        getting = Operation(kind=lambda _: "get", work=self._get)
        update = Operation(
            kind=lambda request: kind_of_update(CONFERENCE, request.body, "end", "redirect"),
            work=self._update,
            media_type="application/json",
        )
        bxml = Operation(kind=lambda _: "bxml", work=self._play, media_type="application/xml")
        return (
            Route(path=ONE, operations={"GET": getting, "POST": update}),
            Route(path=ALL, operations={"GET": listing}),
            Route(path=f"{ONE}/bxml", operations={"PUT": bxml}),
        )

    def _list(self, call: Call) -> Answer:
        try:
            listing = Listing.read(call.request.query)
        except ValueError as exc:
            return problem(400, str(exc))
        page, start = self._world.page(
            wanted=self._remembered,
            among=self._world.positions(name=listing.name, earliest=listing.earliest, latest=listing.latest),
            start=listing.start,
            size=listing.size,
        )
        url = call.request.base_url + ALL.format_map(call.params)
        link = {} if start is None else {"Link": next_link(url, call.request.query, start)}
        return json_answer(200, [self._facts(conference) for conference in page], link)

    def _get(self, call: Call) -> Answer:
        conference = self._world.get(call.params["conferenceId"])
        if conference is None or not self._remembered(conference):
            return not_found(call)
        url = call.request.base_url + ONE.format_map(call.params)
        calls = self._world.calls
        members = [member_facts(it, calls.settings(it), url) for it in self._world.members(conference)]
        return json_answer(200, {**self._facts(conference), "activeMembers": members})

    def _update(self, call: Call) -> Answer:
        fields = read_object(call.request.body)
        if fields is None:
            return problem(400, "The body must be a JSON object")
        objection = objection_to(CONFERENCE, fields)
        if objection is not None:
            return problem(400, objection)
        conference = self._world.get(call.params["conferenceId"])
        if conference is None:
            return not_found(call)
        if is_completed(CONFERENCE, fields):
            return NO_CONTENT if self.course.end(conference, call.at.wall) else self._ended_before(call)
        if self._world.ended_at(conference) is not None:
            return self._too_late(call)
        self.course.redirect(conference, redirect_target(fields), call.at.wall)
        return NO_CONTENT

    def _play(self, call: Call) -> Answer:
        try:
            verbs = read_bxml(call.request.body or b"")
        except ValueError as exc:
            return problem(400, str(exc))
        conference = self._world.get(call.params["conferenceId"])
        if conference is None:
            return not_found(call)
        if self._world.ended_at(conference) is not None:
            return self._too_late(call)
        self.course.play(conference, verbs, call.at.wall)
        return NO_CONTENT

    def _ended_before(self, call: Call) -> Answer:
        match self.already_ended:
            case 204:
                return NO_CONTENT
            case 409:
                return problem(409, f"Conference [{call.params['conferenceId']}] has ended")
            case _:
                return not_found(call)

    def _too_late(self, call: Call) -> Answer:
        """Answer what an ended conference can no longer do: never 204, since nothing was done."""
        answer = self._ended_before(call)
        return not_found(call) if answer is NO_CONTENT else answer

    def _remembered(self, conference: Conference) -> bool:
        return not (self.forget_ended and self._world.ended_at(conference))

    def _facts(self, conference: Conference) -> dict[str, object]:
        """Return the conference without its members."""
        ended_at, target = self._world.ended_at(conference), self.course.target
        event_url = conference.event_url if target is None else target.url
        return without_nulls(
            {
                "id": conference.id,
                "name": conference.name,
                "createdTime": wire_time(conference.created_at),
                "completedTime": ended_at and wire_time(ended_at),
                "conferenceEventUrl": event_url,
                "conferenceEventMethod": (target.method if target else "POST") if event_url else None,
                "tag": conference.tag,
            }
        )


def not_found(call: Call) -> Answer:
    """Return the 404 for a conference that is not there."""
    return problem(404, f"Conference [{call.params['conferenceId']}] not found")
