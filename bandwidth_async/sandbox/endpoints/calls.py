"""The call endpoints: get the state of a call, hang it up, redirect it."""

from __future__ import annotations

from datetime import datetime
from uuid import NAMESPACE_URL, uuid5

from attrs import frozen

from bandwidth_async.sandbox.bodies import read_object
from bandwidth_async.sandbox.course import Course
from bandwidth_async.sandbox.facts import PhoneCall, wire_time, without_nulls
from bandwidth_async.sandbox.messages import Answer, json_answer, problem
from bandwidth_async.sandbox.routes import Call, Operation, Route
from bandwidth_async.sandbox.update import CALL, is_completed, kind_of_update, objection_to

_OK = Answer(status=200)
_APPLICATION = str(uuid5(NAMESPACE_URL, "bandwidth_async sandbox"))


@frozen(kw_only=True)
class PhoneCallsOfMembers:
    """The endpoints over one course. ``already_ended`` is the status for updating an ended call."""

    course: Course
    already_ended: int

    def routes(self) -> tuple[Route, ...]:
        """Return the table of the call endpoints."""
        getting = Operation(kind=lambda _: "get-call", work=self._get)
        update = Operation(
            kind=lambda request: kind_of_update(CALL, request.body, "hang-up", "redirect-call"),
            work=self._update,
            media_type="application/json",
        )
        path = "/api/v2/accounts/{accountId}/calls/{callId}"
        return (Route(path=path, operations={"GET": getting, "POST": update}),)

    def _get(self, call: Call) -> Answer:
        phone_call = self.course.world.call(call.params["callId"], call.at.wall)
        return _not_found(call) if phone_call is None else json_answer(200, self._facts(phone_call))

    def _update(self, call: Call) -> Answer:
        fields = read_object(call.request.body)
        if fields is None:
            return problem(400, "The body must be a JSON object")
        objection = objection_to(CALL, fields)
        if objection is not None:
            return problem(400, objection)
        phone_call = self.course.world.call(call.params["callId"], call.at.wall)
        if phone_call is None:
            return _not_found(call)
        if is_completed(CALL, fields):
            return _OK if self.course.hang_up(phone_call, call.at.wall) else self._ended_before(call)
        if self.course.world.calls.ended_at(phone_call) is not None:
            return self._too_late(call)
        self.course.leave(phone_call, call.at.wall)
        return _OK

    def _ended_before(self, call: Call) -> Answer:
        match self.already_ended:
            case 200:
                return _OK
            case 404:
                return _not_found(call)
            case _:
                return problem(409, f"Call [{call.params['callId']}] has ended")

    def _too_late(self, call: Call) -> Answer:
        """Answer what an ended call can no longer do: never 200, since nothing was done."""
        answer = self._ended_before(call)
        return _not_found(call) if answer is _OK else answer

    def _facts(self, phone_call: PhoneCall) -> dict[str, object]:
        calls = self.course.world.calls
        began_at, ended_at = phone_call.conference.created_at, calls.ended_at(phone_call)
        last_update: datetime = ended_at or calls.left_at(phone_call) or began_at
        return without_nulls(
            {
                "applicationId": _APPLICATION,
                "accountId": self.course.account_id,
                "callId": phone_call.id,
                "to": phone_call.destination,
                "from": phone_call.origin,
                "direction": "inbound",
                "state": "disconnected" if ended_at else "answered",
                "startTime": wire_time(began_at),
                "answerTime": wire_time(began_at),
                "endTime": ended_at and wire_time(ended_at),
                "disconnectCause": "hangup" if ended_at else None,
                "lastUpdate": wire_time(last_update),
            }
        )


def _not_found(call: Call) -> Answer:
    return problem(404, f"Call [{call.params['callId']}] not found")
