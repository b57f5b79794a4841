"""The recording endpoints: list, get one, and download its sound."""

from __future__ import annotations

from attrs import frozen

from bandwidth_async.sandbox.course import Course
from bandwidth_async.sandbox.messages import Answer, Stream, json_answer, problem
from bandwidth_async.sandbox.recordings import Recording
from bandwidth_async.sandbox.routes import Call, Operation, Route

_ALL = "/api/v2/accounts/{accountId}/conferences/{conferenceId}/recordings"
_ONE = f"{_ALL}/{{recordingId}}"


@frozen(kw_only=True)
class RecordingsOfConferences:
    """The endpoints over one course. Recordings outlive their conference."""

    course: Course

    def routes(self) -> tuple[Route, ...]:
        """Return the table of the recording endpoints."""
        listing = Operation(kind=lambda _: "list-recordings", work=self._list)
        getting = Operation(kind=lambda _: "get-recording", work=self._get)
        download = Operation(kind=lambda _: "download", work=self._download)
        return (
            Route(path=_ALL, operations={"GET": listing}),
            Route(path=_ONE, operations={"GET": getting}),
            Route(path=f"{_ONE}/media", operations={"GET": download}),
        )

    def _list(self, call: Call) -> Answer:
        conference = self.course.world.get(call.params["conferenceId"])
        if conference is None:
            return problem(404, f"Conference [{call.params['conferenceId']}] not found")
        url = call.request.base_url
        return json_answer(
            200, [self.course.metadata(it, url) for it in self.course.recordings.of(conference)]
        )

    def _get(self, call: Call) -> Answer:
        recording = self._recording(call)
        if recording is None:
            return _not_found(call)
        return json_answer(200, self.course.metadata(recording, call.request.base_url))

    def _download(self, call: Call) -> Answer:
        recording = self._recording(call)
        if recording is None or recording.ended_at is None:
            return _not_found(call)
        stream = Stream(size=recording.size, blocks=lambda: self.course.recordings.sound(recording))
        return Answer(status=200, headers={"Content-Type": "audio/vnd.wave"}, stream=stream)

    def _recording(self, call: Call) -> Recording | None:
        conference = self.course.world.get(call.params["conferenceId"])
        if conference is None:
            return None
        return self.course.recordings.find(conference, call.params["recordingId"])


def _not_found(call: Call) -> Answer:
    return problem(404, f"Recording [{call.params['recordingId']}] not found, or not finished")
