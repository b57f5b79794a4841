"""The member endpoints: get and update one member of a conference."""

from __future__ import annotations

from attrs import frozen

from bandwidth_async.sandbox.bodies import read_object
from bandwidth_async.sandbox.calls import MemberSettings
from bandwidth_async.sandbox.facts import PhoneCall
from bandwidth_async.sandbox.messages import NO_CONTENT, Answer, json_answer, problem
from bandwidth_async.sandbox.routes import Call, Operation, Route
from bandwidth_async.sandbox.update import member_objection, updated
from bandwidth_async.sandbox.world import World

_CONFERENCE = "/api/v2/accounts/{accountId}/conferences/{conferenceId}"


@frozen(kw_only=True)
class Members:
    """The endpoints over one world. Who has left, or was ejected, is a member no more: 404."""

    world: World

    def routes(self) -> tuple[Route, ...]:
        """Return the table of the member endpoints."""
        getting = Operation(kind=lambda _: "get-member", work=self._get)
        update = Operation(kind=lambda _: "update-member", work=self._update, media_type="application/json")
        return (
            Route(path=f"{_CONFERENCE}/members/{{memberId}}", operations={"GET": getting, "PUT": update}),
        )

    def _get(self, call: Call) -> Answer:
        member = self._member(call)
        if member is None:
            return _not_found(call)
        url = call.request.base_url + _CONFERENCE.format_map(call.params)
        return json_answer(200, member_facts(member, self.world.calls.settings(member), url))

    def _update(self, call: Call) -> Answer:
        fields = read_object(call.request.body)
        if fields is None:
            return problem(400, "The body must be a JSON object")
        objection = member_objection(fields)
        if objection is not None:
            return problem(400, objection)
        member = self._member(call)
        if member is None:
            return _not_found(call)
        calls = self.world.calls
        calls.set(member, updated(calls.settings(member), fields))
        return NO_CONTENT

    def _member(self, call: Call) -> PhoneCall | None:
        member = self.world.call(call.params["memberId"], call.at.wall)
        if member is None or member.conference.id != call.params["conferenceId"]:
            return None
        return member if self.world.is_member(member) else None


def member_facts(member: PhoneCall, settings: MemberSettings, conference_url: str) -> dict[str, object]:
    """Return a member as the API tells it."""
    return {
        "callId": member.id,
        "conferenceId": member.conference.id,
        "memberUrl": f"{conference_url}/members/{member.id}",
        "mute": settings.mute,
        "hold": settings.hold,
        "callIdsToCoach": list(settings.call_ids_to_coach),
    }


def _not_found(call: Call) -> Answer:
    conference, member = call.params["conferenceId"], call.params["memberId"]
    return problem(404, f"Member [{member}] not found in conference [{conference}]")
