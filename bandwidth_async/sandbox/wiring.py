"""Puts the sandbox's parts together as its settings say."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING

from attrs import frozen

from bandwidth_async.sandbox.access import Access, Credentials
from bandwidth_async.sandbox.bxml import read_bxml
from bandwidth_async.sandbox.course import Course
from bandwidth_async.sandbox.draws import Draws
from bandwidth_async.sandbox.endpoints.calls import PhoneCallsOfMembers
from bandwidth_async.sandbox.endpoints.conferences import Conferences
from bandwidth_async.sandbox.endpoints.members import Members
from bandwidth_async.sandbox.endpoints.recordings import RecordingsOfConferences
from bandwidth_async.sandbox.events import Event
from bandwidth_async.sandbox.faults import FaultSource
from bandwidth_async.sandbox.recordings import Recordings
from bandwidth_async.sandbox.routes import Route
from bandwidth_async.sandbox.sender import Manners, Sender
from bandwidth_async.sandbox.server import Server
from bandwidth_async.sandbox.service import Service
from bandwidth_async.sandbox.targets import Target
from bandwidth_async.sandbox.world import World

if TYPE_CHECKING:
    from bandwidth_async.sandbox.stand_in import Sandbox


@frozen(kw_only=True)
class Works:
    """The parts of one sandbox that its switches and questions reach into."""

    world: World
    recordings: Recordings
    access: Access
    faults: FaultSource
    sender: Sender
    course: Course
    service: Service
    server: Server


def assemble(settings: Sandbox) -> Works:
    """Build the parts, with all their state, from the settings."""
    seed = settings.seed
    recordings = Recordings(span=settings.recordings, size=settings.recording_size, draws=Draws(seed))
    world = World(members=settings.members, seed=seed)
    world.populate(settings.conferences, datetime.now(UTC) - recordings.longest)
    access = _access(settings)
    faults = FaultSource(mix=settings.faults, random=Random(f"{seed}/faults"))
    sender = Sender(
        manners=Manners(
            duplicates=settings.event_duplicates,
            disorder=settings.event_disorder,
            anywhere=settings.events_anywhere,
        ),
        random=Random(f"{seed}/events"),
        play=lambda event, body: _play(course, event, body),
    )
    course = Course(
        world=world,
        recordings=recordings,
        account_id=settings.account_id,
        url=lambda: settings.url,
        target=_target(settings),
        tell=sender.tell,
    )
    service = Service(
        course=course,
        access=access,
        quota=settings.quota,
        hint=settings.hint,
        faults=faults,
        routes=_routes(settings, course),
        events=sender.counts,
    )
    server = Server(service=service, latency=settings.latency, random=Random(f"{seed}/latency"))
    return Works(
        world=world,
        recordings=recordings,
        access=access,
        faults=faults,
        sender=sender,
        course=course,
        service=service,
        server=server,
    )


def _access(settings: Sandbox) -> Access:
    credentials = Credentials(
        account_id=settings.account_id,
        client_id=settings.client_id,
        client_secret=settings.client_secret,
        username=settings.username,
        password=settings.password,
    )
    random = Random(f"{settings.seed}/tokens")
    return Access(credentials=credentials, lifetime=settings.token_lifetime, random=random)


def _target(settings: Sandbox) -> Target | None:
    if settings.event_url is None:
        return None
    return Target(
        url=settings.event_url,
        method=settings.event_method,
        username=settings.event_username,
        password=settings.event_password,
    )


def _routes(settings: Sandbox, course: Course) -> list[Route]:
    conferences = Conferences(
        course=course, already_ended=settings.already_ended, forget_ended=settings.forget_ended
    )
    calls = PhoneCallsOfMembers(course=course, already_ended=settings.call_already_ended)
    members = Members(world=course.world)
    recordings = RecordingsOfConferences(course=course)
    endpoints = (conferences, calls, members, recordings)
    return [route for endpoint in endpoints for route in endpoint.routes()]


def _play(course: Course, event: Event, body: bytes) -> None:
    """Play the BXML that answered an event; a conference that has ended hears it no more."""
    verbs = read_bxml(body)
    if course.world.ended_at(event.conference) is None:
        course.play(event.conference, verbs, datetime.now(UTC))
