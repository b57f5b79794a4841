"""The endpoints of the Voice API: conferences, members, recordings and calls."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import NAMESPACE_URL, uuid5

from attrs import frozen

from bandwidth_async.sandbox.calls import PhoneCall
from bandwidth_async.sandbox.conferences import Conference, format_time
from bandwidth_async.sandbox.listing import Listing, next_link
from bandwidth_async.sandbox.messages import (
    Fields,
    RefusedError,
    Request,
    Response,
    Stream,
    json_response,
    parse_json_object,
    without_nulls,
)
from bandwidth_async.sandbox.recordings import Recording
from bandwidth_async.sandbox.routes import Operation, Route, RoutedRequest
from bandwidth_async.sandbox.simulation import Simulation
from bandwidth_async.sandbox.validation import (
    CALL,
    CONFERENCE,
    UpdateRules,
    is_completed,
    kind_of_update,
    member_update_error,
    parse_bxml,
    redirect_webhook,
    update_error,
    updated_settings,
)

_CONFERENCES = "/api/v2/accounts/{accountId}/conferences"
_CONFERENCE = f"{_CONFERENCES}/{{conferenceId}}"
_MEMBER = f"{_CONFERENCE}/members/{{memberId}}"
_RECORDINGS = f"{_CONFERENCE}/recordings"
_RECORDING = f"{_RECORDINGS}/{{recordingId}}"
_CALL = "/api/v2/accounts/{accountId}/calls/{callId}"
_JSON, _XML = "application/json", "application/xml"
_MEDIA_TYPES = {"mp3": "audio/mpeg", "wav": "audio/vnd.wave"}
_OK = Response(status=200)
_NO_CONTENT = Response(status=204)
_APPLICATION_ID = str(uuid5(NAMESPACE_URL, "bandwidth_async sandbox"))


@frozen(kw_only=True)
class Endpoints:
    """The handlers of all endpoints.

    ``already_ended`` and ``call_already_ended`` are the statuses for updating what has ended.
    ``forget_ended`` hides ended conferences from get and list.
    """

    simulation: Simulation
    already_ended: int
    call_already_ended: int
    forget_ended: bool

    def routes(self) -> tuple[Route, ...]:
        """Return the table of all endpoints."""
        return (
            _route(
                _CONFERENCE,
                GET=_operation("get", self._get_conference),
                POST=_operation(_kind_of_conference_update, self._update_conference, _JSON),
            ),
            _route(_CONFERENCES, GET=_operation("list", self._list_conferences)),
            _route(f"{_CONFERENCE}/bxml", PUT=_operation("bxml", self._play_bxml, _XML)),
            _route(
                _MEMBER,
                GET=_operation("get-member", self._get_member),
                PUT=_operation("update-member", self._update_member, _JSON),
            ),
            _route(_RECORDINGS, GET=_operation("list-recordings", self._list_recordings)),
            _route(_RECORDING, GET=_operation("get-recording", self._get_recording)),
            _route(f"{_RECORDING}/media", GET=_operation("download", self._download_recording)),
            _route(
                _CALL,
                GET=_operation("get-call", self._get_call),
                POST=_operation(_kind_of_call_update, self._update_call, _JSON),
            ),
        )

    def _list_conferences(self, routed: RoutedRequest) -> Response:
        try:
            listing = Listing.read(routed.request.query)
        except ValueError as exc:
            raise RefusedError(400, str(exc)) from exc
        conferences = self.simulation.conferences
        page, start = conferences.page(
            wanted=self._is_remembered,
            among=conferences.positions(name=listing.name, earliest=listing.earliest, latest=listing.latest),
            start=listing.start,
            size=listing.size,
        )
        url = _url(routed, _CONFERENCES)
        link = {} if start is None else {"Link": next_link(url, routed.request.query, start)}
        return json_response(200, [self._conference_fields(conference) for conference in page], link)

    def _get_conference(self, routed: RoutedRequest) -> Response:
        conference = self._find_conference(routed)
        if not self._is_remembered(conference):
            raise _conference_not_found(routed)
        url = _url(routed, _CONFERENCE)
        members = [self._member_fields(it, url) for it in self.simulation.calls.members(conference)]
        return json_response(200, {**self._conference_fields(conference), "activeMembers": members})

    def _update_conference(self, routed: RoutedRequest) -> Response:
        fields = _valid_update(routed, CONFERENCE)
        conference = self._find_conference(routed)
        if is_completed(CONFERENCE, fields):
            if self.simulation.end(conference, routed.at.wall) or self.already_ended == 204:
                return _NO_CONTENT
        elif self.simulation.conferences.ended_at(conference) is None:
            self.simulation.redirect(conference, redirect_webhook(fields), routed.at.wall)
            return _NO_CONTENT
        raise _has_ended(self.already_ended, f"Conference [{conference.id}]")

    def _play_bxml(self, routed: RoutedRequest) -> Response:
        try:
            verbs = parse_bxml(routed.request.body or b"")
        except ValueError as exc:
            raise RefusedError(400, str(exc)) from exc
        conference = self._find_conference(routed)
        if self.simulation.conferences.ended_at(conference) is not None:
            raise _has_ended(self.already_ended, f"Conference [{conference.id}]")
        self.simulation.play(conference, verbs, routed.at.wall)
        return _NO_CONTENT

    def _get_member(self, routed: RoutedRequest) -> Response:
        return json_response(200, self._member_fields(self._find_member(routed), _url(routed, _CONFERENCE)))

    def _update_member(self, routed: RoutedRequest) -> Response:
        fields = _json_fields(routed)
        error = member_update_error(fields)
        if error is not None:
            raise RefusedError(400, error)
        member, calls = self._find_member(routed), self.simulation.calls
        calls.change_settings(member, updated_settings(calls.settings(member), fields))
        return _NO_CONTENT

    def _list_recordings(self, routed: RoutedRequest) -> Response:
        recordings = self.simulation.recordings.of(self._find_conference(routed), routed.at.wall)
        return json_response(200, [self._recording_fields(it, routed) for it in recordings])

    def _get_recording(self, routed: RoutedRequest) -> Response:
        return json_response(200, self._recording_fields(self._find_recording(routed), routed))

    def _download_recording(self, routed: RoutedRequest) -> Response:
        recording = self._find_recording(routed)
        if recording.ended_at is None:
            raise _recording_not_found(routed)
        stream = Stream(size=recording.size, blocks=lambda: self.simulation.recordings.file(recording))
        media_type = _MEDIA_TYPES[recording.file_format]
        return Response(status=200, headers={"Content-Type": media_type}, stream=stream)

    def _get_call(self, routed: RoutedRequest) -> Response:
        return json_response(200, self._call_fields(self._find_call(routed)))

    def _update_call(self, routed: RoutedRequest) -> Response:
        fields = _valid_update(routed, CALL)
        call = self._find_call(routed)
        if is_completed(CALL, fields):
            if self.simulation.hang_up(call, routed.at.wall) or self.call_already_ended == 200:
                return _OK
        elif self.simulation.calls.ended_at(call) is None:
            self.simulation.leave(call, routed.at.wall)
            return _OK
        raise _has_ended(self.call_already_ended, f"Call [{call.id}]")

    def _find_conference(self, routed: RoutedRequest) -> Conference:
        conference = self.simulation.conferences.get(routed.params["conferenceId"])
        if conference is None:
            raise _conference_not_found(routed)
        return conference

    def _find_member(self, routed: RoutedRequest) -> PhoneCall:
        conference_id, member_id = routed.params["conferenceId"], routed.params["memberId"]
        calls = self.simulation.calls
        member = calls.find(member_id, routed.at.wall)
        if member is None or member.conference.id != conference_id or not calls.is_member(member):
            raise RefusedError(404, f"Member [{member_id}] not found in conference [{conference_id}]")
        return member

    def _find_recording(self, routed: RoutedRequest) -> Recording:
        conference = self.simulation.conferences.get(routed.params["conferenceId"])
        if conference is None:
            raise _recording_not_found(routed)
        recording = self.simulation.recordings.find(conference, routed.params["recordingId"], routed.at.wall)
        if recording is None:
            raise _recording_not_found(routed)
        return recording

    def _find_call(self, routed: RoutedRequest) -> PhoneCall:
        call = self.simulation.calls.find(routed.params["callId"], routed.at.wall)
        if call is None:
            raise RefusedError(404, f"Call [{routed.params['callId']}] not found")
        return call

    def _is_remembered(self, conference: Conference) -> bool:
        return not (self.forget_ended and self.simulation.conferences.ended_at(conference))

    def _conference_fields(self, conference: Conference) -> dict[str, object]:
        ended_at, webhook = self.simulation.conferences.ended_at(conference), self.simulation.webhook
        return without_nulls(
            {
                "id": conference.id,
                "name": conference.name,
                "createdTime": format_time(conference.created_at),
                "completedTime": ended_at and format_time(ended_at),
                "conferenceEventUrl": webhook and webhook.url,
                "conferenceEventMethod": webhook and webhook.method,
                "tag": conference.tag,
            }
        )

    def _member_fields(self, member: PhoneCall, conference_url: str) -> dict[str, object]:
        settings = self.simulation.calls.settings(member)
        return {
            "callId": member.id,
            "conferenceId": member.conference.id,
            "memberUrl": f"{conference_url}/members/{member.id}",
            "mute": settings.mute,
            "hold": settings.hold,
            "callIdsToCoach": list(settings.call_ids_to_coach),
        }

    def _recording_fields(self, recording: Recording, routed: RoutedRequest) -> dict[str, object]:
        return recording.fields(self.simulation.account_id, routed.request.base_url)

    def _call_fields(self, call: PhoneCall) -> dict[str, object]:
        calls = self.simulation.calls
        began_at, ended_at = call.conference.created_at, calls.ended_at(call)
        last_update: datetime = ended_at or calls.left_at(call) or began_at
        return without_nulls(
            {
                "applicationId": _APPLICATION_ID,
                "accountId": self.simulation.account_id,
                "callId": call.id,
                "to": call.destination,
                "from": call.origin,
                "direction": "inbound",
                "state": "disconnected" if ended_at else "answered",
                "startTime": format_time(began_at),
                "answerTime": format_time(began_at),
                "endTime": ended_at and format_time(ended_at),
                "disconnectCause": "hangup" if ended_at else None,
                "lastUpdate": format_time(last_update),
            }
        )


def _route(path: str, **operations: Operation) -> Route:
    return Route(path=path, operations=operations)


def _operation(
    kind: str | Callable[[Request], str],
    handler: Callable[[RoutedRequest], Response],
    media_type: str | None = None,
) -> Operation:
    kind_of = kind if callable(kind) else lambda _: kind
    return Operation(kind=kind_of, handler=handler, media_type=media_type)


def _kind_of_conference_update(request: Request) -> str:
    return kind_of_update(CONFERENCE, request.body, "end", "redirect")


def _kind_of_call_update(request: Request) -> str:
    return kind_of_update(CALL, request.body, "hang-up", "redirect-call")


def _url(routed: RoutedRequest, path: str) -> str:
    return routed.request.base_url + path.format_map(routed.params)


def _json_fields(routed: RoutedRequest) -> Fields:
    fields = parse_json_object(routed.request.body)
    if fields is None:
        raise RefusedError(400, "The body must be a JSON object")
    return fields


def _valid_update(routed: RoutedRequest, rules: UpdateRules) -> Fields:
    fields = _json_fields(routed)
    error = update_error(rules, fields)
    if error is not None:
        raise RefusedError(400, error)
    return fields


def _has_ended(status: int, what: str) -> RefusedError:
    """Return the error for updating what has ended; ``status`` is the setting.

    If the setting is a success, only ending again succeeds. Other updates get 404, as nothing was done.
    """
    if status == 409:
        return RefusedError(409, f"{what} cannot be modified in its current state")
    return RefusedError(404, f"{what} not found")


def _conference_not_found(routed: RoutedRequest) -> RefusedError:
    return RefusedError(404, f"Conference [{routed.params['conferenceId']}] not found")


def _recording_not_found(routed: RoutedRequest) -> RefusedError:
    return RefusedError(404, f"Recording [{routed.params['recordingId']}] not found, or not finished")
