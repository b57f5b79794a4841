"""`Operations`: a method for each endpoint of conferences, their members and recordings, and of calls.

Which of them may be sent twice is decided where the requests are built, in `wire`: reads, ends, hang-ups and
settings of a member are; BXML and redirects, which would be heard twice, are not.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import AsyncExitStack, asynccontextmanager, closing
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack, overload

from attrs import evolve

from bandwidth_async import wire
from bandwidth_async.errors import ConfigurationError, TransportError
from bandwidth_async.http import Timeouts, same_origin
from bandwidth_async.media import Draft, Media, file_path
from bandwidth_async.models import Conference
from bandwidth_async.polling import Watch
from bandwidth_async.retry import RetryPolicy, Trial, is_spent, may_repeat, pause_before_next
from bandwidth_async.updates import UpdateCall, UpdateConference, UpdateConferenceMember

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime
    from pathlib import Path
    from random import Random

    from yarl import URL

    from bandwidth_async.http import ResponseInfo
    from bandwidth_async.models import Call, ConferenceMember, ConferenceRecording
    from bandwidth_async.operation import CallOptions, Channel
    from bandwidth_async.polling import CompletionHub

    Progress = Callable[[int, int | None], object]

T = TypeVar("T")


class RunSettings(TypedDict, total=False):
    """Settings of each call of a run, where they differ from the client's."""

    retry: RetryPolicy
    timeouts: Timeouts


class CallSettings(RunSettings, total=False):
    """Settings of one call, where they differ from the client's.

    ``on_response`` is called with the `ResponseInfo` of each success that the call is answered with: once
    for a plain call, once a page for a listing. What a refusal answered is on its error.
    """

    deadline: float
    on_response: Callable[[ResponseInfo], object]


class Operations:
    """The single calls of a `VoiceClient`, whose settings they all take for themselves too."""

    def __init__(self, channel: Channel, account_id: str, options: CallOptions, random: Random) -> None:
        self._channel = channel
        self._account_id = account_id
        self._options = options
        self._random = random

    async def update_conference(
        self, conference_id: str, update: UpdateConference, **settings: Unpack[CallSettings]
    ) -> None:
        """Change a conference: ``UpdateConference(status="active", redirect_url=…)`` redirects it.

        A redirect that may have arrived is not sent again (see `RetryPolicy.repeat_ambiguous`); its error
        is then ``ambiguous``. To end a conference use `end_conference`, which also explains a 404.
        """
        _check_kind(update, UpdateConference)
        await self._ask(
            wire.update_conference(self._account_id, conference_id, update), settings, wire.nothing_in
        )

    async def get_conference(self, conference_id: str, **settings: Unpack[CallSettings]) -> Conference:
        """Return a conference with its active members."""
        return await self._ask(
            wire.get_conference(self._account_id, conference_id), settings, wire.conference_in
        )

    async def list_conferences(
        self,
        *,
        name: str | None = None,
        min_created_time: datetime | None = None,
        max_created_time: datetime | None = None,
        page_size: int = 1000,
        **settings: Unpack[CallSettings],
    ) -> AsyncIterator[Conference]:
        """Iterate over all conferences, oldest first, page by page, without their members.

        Ended ones are among them: the API has no filter for that, `Conference.active` tells. Times are
        aware and inclusive; ``page_size`` is 1 to 1000; ``deadline`` is for each page. Further pages are
        only asked for on the same host, as the request carries the credentials.
        """
        if type(page_size) is not int or not 1 <= page_size <= 1000:
            raise ConfigurationError(f"page_size is 1 to 1000, not {page_size!r}")
        request: wire.Request | None = wire.list_conferences(
            self._account_id,
            name=name,
            min_created_time=min_created_time,
            max_created_time=max_created_time,
            page_size=page_size,
        )
        seen = set()
        while request is not None:
            seen.add(request.path)
            page, link = await self._ask(request, settings, _page)
            for conference in page:
                yield conference
            request = self._next_page(link, seen)

    async def update_conference_bxml(
        self, conference_id: str, bxml: str, **settings: Unpack[CallSettings]
    ) -> None:
        """Replace the BXML of a conference: play, speak, start or stop a recording.

        Not sent again when it may have arrived, since playing twice is heard; its error is then
        ``ambiguous``. Raises `ConfigurationError`, before anything is sent, for BXML that is not
        well-formed or holds a verb that is not for conferences.
        """
        await self._ask(
            wire.update_conference_bxml(self._account_id, conference_id, bxml), settings, wire.nothing_in
        )

    async def get_conference_member(
        self, conference_id: str, call_id: str, **settings: Unpack[CallSettings]
    ) -> ConferenceMember:
        """Return a call as a member of a conference: muted or not, on hold or not."""
        request = wire.get_conference_member(self._account_id, conference_id, call_id)
        return await self._ask(request, settings, lambda answer: wire.parse_member(answer.body))

    async def update_conference_member(
        self,
        conference_id: str,
        call_id: str,
        update: UpdateConferenceMember,
        **settings: Unpack[CallSettings],
    ) -> None:
        """Change a member: ``UpdateConferenceMember(mute=True)``. What is not set stays as it is."""
        _check_kind(update, UpdateConferenceMember)
        request = wire.update_conference_member(self._account_id, conference_id, call_id, update)
        await self._ask(request, settings, wire.nothing_in)

    async def list_conference_recordings(
        self, conference_id: str, **settings: Unpack[CallSettings]
    ) -> list[ConferenceRecording]:
        """Return what is known about each recording of a conference; there may be none."""
        request = wire.list_conference_recordings(self._account_id, conference_id)
        return await self._ask(request, settings, lambda answer: wire.parse_recordings(answer.body))

    async def get_conference_recording(
        self, conference_id: str, recording_id: str, **settings: Unpack[CallSettings]
    ) -> ConferenceRecording:
        """Return what is known about a recording; its audio is at `download_conference_recording`."""
        request = wire.get_conference_recording(self._account_id, conference_id, recording_id)
        return await self._ask(request, settings, lambda answer: wire.parse_recording(answer.body))

    @overload
    def download_conference_recording(
        self, conference_id: str, recording_id: str, *, to: None = None, **settings: Unpack[CallSettings]
    ) -> AbstractAsyncContextManager[Media]: ...

    @overload
    def download_conference_recording(
        self,
        conference_id: str,
        recording_id: str,
        *,
        to: str | os.PathLike[str],
        overwrite: bool = False,
        on_progress: Progress | None = None,
        **settings: Unpack[CallSettings],
    ) -> Coroutine[Any, Any, Path]: ...

    def download_conference_recording(
        self,
        conference_id: str,
        recording_id: str,
        *,
        to: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        on_progress: Progress | None = None,
        **settings: Unpack[CallSettings],
    ) -> AbstractAsyncContextManager[Media] | Coroutine[Any, Any, Path]:
        """Fetch the audio of a recording, in memory that does not grow with it.

        ::

            path = await client.download_conference_recording("conf-1", "r-1", to="r-1.wav")

            async with client.download_conference_recording("conf-1", "r-1") as media:
                async for chunk in media:
                    ...

        A file is there whole or not at all: it is written under another name beside ``to`` and takes its
        own when complete. A cut starts it again, as `RetryPolicy` says. A file that exists is refused
        (`ConfigurationError`) unless ``overwrite``, and so is always what is no regular file; a link is
        followed, and the new file gets the rights of the old one. ``on_progress`` hears the bytes so far
        and in all. Chunks cannot be taken back, so there a cut in the middle raises `TransportError`.

        Raises `APIError` for an answer that cannot be told to be a whole recording (a 204, a body without
        a length, one that is compressed), and the `OSError` of a place that cannot be written to.

        ``deadline`` is for the time up to the first byte (of each start). After that a recording may take
        as long as it needs, and only a silence of ``timeouts.attempt`` ends it.
        """
        request = wire.download_conference_recording(self._account_id, conference_id, recording_id)
        options = evolve(self._options, **settings)
        if to is not None:
            return self._save(request, options, file_path(to), overwrite, on_progress)
        if overwrite or on_progress:
            raise ConfigurationError(
                "overwrite and on_progress are for a download to a file: give it with to="
            )
        return self._stream(request, options)

    async def get_call(self, call_id: str, **settings: Unpack[CallSettings]) -> Call:
        """Return the state of a call. Bandwidth knows it some time after its start, and for 7 days."""
        request = wire.get_call(self._account_id, call_id)
        return await self._ask(request, settings, wire.call_in)

    async def update_call(self, call_id: str, update: UpdateCall, **settings: Unpack[CallSettings]) -> None:
        """Change a call: ``UpdateCall(state="completed")`` hangs it up.

        A hang-up is repeated like any end; a redirect that may have arrived is not sent again, and its
        error is then ``ambiguous``. A call that has ended answers with `NotFoundError` or `ConflictError`.
        """
        _check_kind(update, UpdateCall)
        await self._ask(wire.update_call(self._account_id, call_id, update), settings, wire.nothing_in)

    async def wait_until_completed(
        self, conference_id: str, *, hub: CompletionHub | None = None, **settings: Unpack[CallSettings]
    ) -> Conference:
        """Return a conference once it has ended, however it did.

        It is looked at again and again, after pauses of random length that grow to 10 s at most, inside
        the rate limit. With a ``hub`` that hears its webhooks (`webhooks.EventHub`), the event counts as
        well, whichever comes first. A conference that was seen and is gone (404) has ended too. In these
        two cases it is returned as it was last seen, without members, and its ``completed_time`` is that
        of the event or the moment when it was found gone.

        ``deadline`` is for the whole wait, ``math.inf`` for none (a conference lasts 24 hours at most).
        Until then a look that fails for now (5xx, 408, 429, no answer) is followed by another, and logged
        as a warning when it is the first.

        Raises `DeadlineExceededError` when it is not known to have ended then, with what the last look
        met as ``last_error``; `NotFoundError` when it was not there at the first look that was answered; at
        once any other `APIError` (refused credentials among them) and `CertificateError`; `ClientStateError`
        when the client is closed meanwhile; and whatever ``hub`` raises.
        """
        options = evolve(self._options, **settings)
        request = wire.get_conference(self._account_id, conference_id)

        async def look(seconds: float) -> tuple[Conference, int]:
            within = evolve(options, deadline=seconds)
            async with self._channel.trial(within) as trial:
                return await self._channel.send(request, trial, within, wire.conference_in), trial.attempts

        watch = Watch(conference_id, look, seconds=options.deadline, random=self._random)
        return await watch.completed(hub)

    async def _ask(
        self, request: wire.Request, settings: CallSettings, read: Callable[[wire.Response], T]
    ) -> T:
        options = evolve(self._options, **settings)
        async with self._channel.trial(options) as trial:
            return await self._channel.send(request, trial, options, read)

    def _next_page(self, link: URL | None, seen: set[str]) -> wire.Request | None:
        if link is None:
            return None
        if not same_origin(link, self._channel.voice_url):
            raise TransportError(
                f"the next page is said to be at {link.scheme}://{link.authority}, "
                "where the credentials are not sent"
            )
        if link.raw_path_qs in seen:
            raise TransportError("the links to the next page go in a circle")
        return wire.next_page(link.raw_path_qs)

    @asynccontextmanager
    async def _stream(self, request: wire.Request, options: CallOptions) -> AsyncIterator[Media]:
        async with AsyncExitStack() as stack:
            async with self._channel.trial(options) as trial:
                media = await self._channel.send(request, trial, options, _media)
                stack.callback(media.close)
                media.attempts = trial.attempts
            yield media

    async def _save(
        self,
        request: wire.Request,
        options: CallOptions,
        path: Path,
        overwrite: bool,
        on_progress: Progress | None,
    ) -> Path:
        self._channel.bind()
        policy = options.retry
        with closing(Draft(path, overwrite=overwrite)) as draft:
            async with self._channel.trial(options) as trial:
                while True:
                    _bound(trial, options.deadline)
                    media = await self._channel.send(request, trial, options, _media)
                    _bound(trial, math.inf)
                    try:
                        await _receive(media, draft, on_progress)
                        break
                    except TransportError as error:
                        trial.note(error)
                        if not may_repeat(error, policy, idempotent=True) or is_spent(trial, policy):
                            raise
                        pause = pause_before_next(error, trial, policy, self._random)
                    await asyncio.sleep(pause)
            await asyncio.to_thread(draft.keep)
        return path


async def _receive(media: Media, draft: Draft, on_progress: Progress | None) -> None:
    """Write all of ``media``, from the start of the file."""
    with closing(media):
        await asyncio.to_thread(draft.restart)
        async for chunk in media:
            await asyncio.to_thread(draft.write, chunk)
            if on_progress is not None:
                on_progress(media.received, media.length)


def _bound(trial: Trial, seconds: float) -> None:
    """Move the deadline of a download. One that is being stopped keeps the limit that it was given."""
    if trial.limit is not None and not trial.stopping:
        trial.deadline = asyncio.get_running_loop().time() + seconds
        trial.limit.reschedule(None if seconds == math.inf else trial.deadline)


def _check_kind(update: object, kind: type) -> None:
    if not isinstance(update, kind):
        raise ConfigurationError(f"the change is an {kind.__name__}, not {type(update).__name__}")


def _page(answer: wire.Response) -> tuple[list[Conference], URL | None]:
    return wire.parse_conferences(answer.body), answer.next_page


def _media(answer: wire.Response) -> Media:
    if answer.media is None:
        raise AssertionError("the request streams")  # pragma: no cover
    return answer.media
