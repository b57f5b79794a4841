"""The sandbox as its users see it: its settings, its address, and what they can change while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random
from types import TracebackType
from typing import Self

from attrs import define, field, setters

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.sandbox.authentication import Authentication, Credentials
from bandwidth_async.sandbox.calls import CallStore
from bandwidth_async.sandbox.conferences import Conference, ConferenceStore
from bandwidth_async.sandbox.endpoints import Endpoints
from bandwidth_async.sandbox.events import Event, Webhook, is_loopback, is_on_this_machine
from bandwidth_async.sandbox.faults import FaultMix, FaultSelector, mix_from
from bandwidth_async.sandbox.generated import SeededGenerator
from bandwidth_async.sandbox.quota import Hint, Quota, hint_from, quota_from
from bandwidth_async.sandbox.recordings import RecordingStore
from bandwidth_async.sandbox.sender import EventSender
from bandwidth_async.sandbox.server import Server
from bandwidth_async.sandbox.service import KINDS, Service, Truth
from bandwidth_async.sandbox.settings import (
    already_ended_from,
    call_already_ended_from,
    callback_timeout_from,
    event_url_from,
    latency_from,
    lifetime_from,
    members_from,
    method_from,
    number_from,
    port_from,
    recordings_from,
    share_from,
    size_from,
)
from bandwidth_async.sandbox.simulation import Simulation
from bandwidth_async.sandbox.validation import parse_bxml

_REACHED_AT = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - only named here, not bound


@define(kw_only=True, eq=False, on_setattr=setters.frozen)
class Sandbox:
    """A stand-in for Bandwidth's Voice API and its token endpoint, on one address of this machine.

    ``async with Sandbox(conferences=5000, quota="token-bucket:rate=200,burst=20") as sandbox: ...``

    Settings are values, or text as on the command line. A wrong one raises `ConfigurationError`:

    ``conferences``
        How many active conferences there are at the start.
    ``quota``, ``hint``
        The quota of the account, None for none, and the header of a 429 that says when to try again.
    ``latency``
        The time before every response, also before a refusal: ``20-200ms`` or (0.02, 0.2) in seconds.
    ``faults``
        Shares of the requests that get a fault: ``503=2%,reset=1%,hang=0.1%``.
    ``seed``
        The same seed gives the same ids, and the same faults in the same order.
    ``token_lifetime``
        How long an access token is valid: ``1h`` or seconds.
    ``members``
        How many calls a conference has at its start: ``0-4``, ``2`` or (0, 4).
    ``already_ended``
        The status for updating an ended conference: 404, 409 or 204. Bandwidth's is not known.
    ``forget_ended``
        True hides ended conferences from get and list at once. How long Bandwidth keeps them is not known.
    ``call_already_ended``
        The status for updating an ended call: 409, as Bandwidth's soon after its end, 404, as later, or 200.
    ``recordings``, ``recording_size``
        How many finished recordings each conference has at the start: ``0-2``; their size: ``200MB``.
    ``event_url``, ``event_method``, ``event_username``, ``event_password``
        The webhook of all conferences, None for none. Credentials are sent if it asks for them.
    ``event_fallback_url``, ``event_fallback_method`` and so on
        The webhook that gets an event if the other one fails, None for none.
    ``event_timeout``
        How long each attempt may take, as ``callbackTimeout`` on Bandwidth: ``15s``, from 1 to 25 seconds.
    ``event_duplicates``, ``event_disorder``
        Shares of the events that are sent twice, and that are delayed so that others overtake them: ``5%``.
    ``events_anywhere``
        True allows webhooks on other machines, also those of redirects and BXML.
    ``host``, ``port``
        Where to serve. On an address that other machines reach, events go to ``event_url`` and its fallback
        only, unless ``events_anywhere`` is set. On a loopback address, no web page of another host is served.
        Port 0 takes any free one, and the sandbox keeps it if you start it again.
    """

    conferences: int = field(default=0, converter=number_from)
    quota: Quota = field(default=None, converter=quota_from)
    hint: Hint = field(default=Hint.RETRY_AFTER, converter=hint_from)
    latency: tuple[float, float] = field(default=None, converter=latency_from)
    faults: FaultMix = field(default=None, converter=mix_from)
    seed: int = 0
    token_lifetime: float = field(default=3600.0, converter=lifetime_from)
    members: tuple[int, int] = field(default=(0, 4), converter=members_from)
    already_ended: int = field(default=404, converter=already_ended_from)
    forget_ended: bool = False
    call_already_ended: int = field(default=409, converter=call_already_ended_from)
    recordings: tuple[int, int] = field(default=(0, 0), converter=recordings_from)
    recording_size: int = field(default=96_044, converter=size_from)
    event_url: str | None = field(default=None, converter=event_url_from)
    event_method: str = field(default="POST", converter=method_from)
    event_username: str | None = None
    event_password: str | None = field(default=None, repr=False)
    event_fallback_url: str | None = field(default=None, converter=event_url_from)
    event_fallback_method: str = field(default="POST", converter=method_from)
    event_fallback_username: str | None = None
    event_fallback_password: str | None = field(default=None, repr=False)
    event_timeout: float = field(default=15.0, converter=callback_timeout_from)
    event_duplicates: float = field(default=0.0, converter=share_from)
    event_disorder: float = field(default=0.0, converter=share_from)
    events_anywhere: bool = False
    host: str = "127.0.0.1"
    port: int = field(default=0, converter=port_from, on_setattr=setters.NO_OP)
    account_id: str = "9900000"
    client_id: str = "sandbox-client"
    client_secret: str = field(default="sandbox-secret", repr=False)
    username: str = "sandbox-user"
    password: str = field(default="sandbox-password", repr=False)
    # Made in this order: later parts need the earlier ones.
    _sender: EventSender = field(init=False, repr=False)
    _simulation: Simulation = field(init=False, repr=False)
    _authentication: Authentication = field(init=False, repr=False)
    _faults: FaultSelector = field(init=False, repr=False)
    _service: Service = field(init=False, repr=False)
    _server: Server = field(init=False, repr=False)

    @event_url.validator
    @event_fallback_url.validator
    def _stays_here(self, _setting: object, url: str | None) -> None:
        if url is not None and not (self.events_anywhere or is_on_this_machine(url)):
            raise ConfigurationError(
                f"{url!r} is not on this machine: write http://127.0.0.1:8000/events, "
                "or set events_anywhere to send events to other machines"
            )

    @_sender.default
    def _new_sender(self) -> EventSender:
        return EventSender(
            duplicates=self.event_duplicates,
            disorder=self.event_disorder,
            timeout=self.event_timeout,
            allowed=self._may_send_to,
            random=Random(f"{self.seed}/events"),
            play=self._play,
        )

    def _may_send_to(self, url: str) -> bool:
        """Return whether an event may be sent to a URL.

        Whoever reaches a sandbox names URLs to it, and its credentials are public. So from an address that
        others reach it asks no service of this machine for them.
        """
        own = {self.event_url, self.event_fallback_url}
        return self.events_anywhere or (url in own if self.exposed else is_on_this_machine(url))

    def _play(self, event: Event, url: str, body: bytes) -> None:
        """Execute the BXML that a webhook responded with, unless the conference has ended meanwhile."""
        verbs = parse_bxml(body)
        if self._simulation.conferences.ended_at(event.conference) is None:
            self._simulation.play(event.conference, verbs, datetime.now(UTC), url)

    @_simulation.default
    def _new_simulation(self) -> Simulation:
        generator = SeededGenerator(self.seed)
        recordings = RecordingStore(span=self.recordings, size=self.recording_size, generator=generator)
        conferences = ConferenceStore(seed=self.seed)
        # Earlier by the length of the recordings, so that none of them ends in the future.
        conferences.populate(self.conferences, datetime.now(UTC) - recordings.max_duration_at_start)
        return Simulation(
            conferences=conferences,
            calls=CallStore(conferences=conferences, members=self.members, generator=generator),
            recordings=recordings,
            account_id=self.account_id,
            url=lambda: self.url,
            webhook=self._webhook(),
            send=self._sender.send,
        )

    def _webhook(self) -> Webhook | None:
        if self.event_url is None:
            return None
        fallback = None
        if self.event_fallback_url is not None:
            fallback = Webhook(
                url=self.event_fallback_url,
                method=self.event_fallback_method,
                username=self.event_fallback_username,
                password=self.event_fallback_password,
            )
        return Webhook(
            url=self.event_url,
            method=self.event_method,
            username=self.event_username,
            password=self.event_password,
            fallback=fallback,
        )

    @_authentication.default
    def _new_authentication(self) -> Authentication:
        credentials = Credentials(
            account_id=self.account_id,
            client_id=self.client_id,
            client_secret=self.client_secret,
            username=self.username,
            password=self.password,
        )
        random = Random(f"{self.seed}/tokens")
        return Authentication(credentials=credentials, lifetime=self.token_lifetime, random=random)

    @_faults.default
    def _new_faults(self) -> FaultSelector:
        return FaultSelector(mix=self.faults, random=Random(f"{self.seed}/faults"))

    @_service.default
    def _new_service(self) -> Service:
        endpoints = Endpoints(
            simulation=self._simulation,
            already_ended=self.already_ended,
            call_already_ended=self.call_already_ended,
            forget_ended=self.forget_ended,
        )
        return Service(
            simulation=self._simulation,
            authentication=self._authentication,
            quota=self.quota,
            hint=self.hint,
            faults=self._faults,
            routes=endpoints.routes(),
            events=self._sender.counts,
        )

    @_server.default
    def _new_server(self) -> Server:
        random = Random(f"{self.seed}/latency")
        return Server(service=self._service, latency=self.latency, random=random, exposed=self.exposed)

    async def start(self) -> None:
        """Serve, until `stop`."""
        self.port = await self._server.start(self.host, self.port)
        await self._sender.start()

    async def stop(self) -> None:
        """Stop at once, also requests in progress. Conferences and counts stay as they are."""
        await self._server.stop()
        await self._sender.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """The address of the Voice API and of the token endpoint. With port 0 it is known after the start."""
        host = _REACHED_AT.get(self.host, self.host)
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}"

    @property
    def exposed(self) -> bool:
        """Whether the address is not a loopback address, so that other machines may reach it."""
        return not is_loopback(self.host)

    @property
    def environ(self) -> dict[str, str]:
        """The environment variables that make a client use this sandbox."""
        return {
            "BW_ACCOUNT_ID": self.account_id,
            "BW_CLIENT_ID": self.client_id,
            "BW_CLIENT_SECRET": self.client_secret,
            "BW_VOICE_URL": self.url,
            "BW_API_URL": self.url,
        }

    @property
    def conference_ids(self) -> list[str]:
        """The ids of all conferences, oldest first, ended or not."""
        return self._simulation.conferences.ids

    def truth(self) -> Truth:
        """Return what ``GET /_sandbox/truth`` serves: what really happened."""
        return self._service.truth()

    def add_conference(self, *, name: str | None = None, members: int | None = None) -> str:
        """Add an active conference, created now, and return its id.

        If a running sandbox has an ``event_url``, this sends events. Call it in the sandbox's event loop.
        """
        now = datetime.now(UTC)
        conference_id = self._simulation.conferences.add(at=now, name=name, members=members)
        self._simulation.announce(self._conference(conference_id), now)
        return conference_id

    def active_calls(self) -> list[str]:
        """Return the ids of all calls that have not ended, in a conference or not."""
        return list(self._simulation.calls.active_ids())

    def call_ids(self, conference_id: str) -> list[str]:
        """Return the ids of the calls that were in the conference at its start, ended or not."""
        return [call.id for call in self._simulation.calls.of(self._conference(conference_id))]

    def recording_ids(self, conference_id: str) -> list[str]:
        """Return the ids of the recordings of a conference, oldest first."""
        conference = self._conference(conference_id)
        return [it.id for it in self._simulation.recordings.of(conference, datetime.now(UTC))]

    def sound(self, conference_id: str, recording_id: str) -> Iterator[bytes]:
        """Yield the file of a recording, block by block, to compare a download with."""
        conference = self._conference(conference_id)
        recording = self._simulation.recordings.find(conference, recording_id, datetime.now(UTC))
        if recording is None:
            raise KeyError(recording_id)
        return self._simulation.recordings.file(recording)

    async def events_told(self) -> None:
        """Wait until every event so far is delivered or given up."""
        await self._sender.settled()

    def _conference(self, conference_id: str) -> Conference:
        conference = self._simulation.conferences.get(conference_id)
        if conference is None:
            raise KeyError(conference_id)
        return conference

    def plan(self, fault: str, *, times: int = 1, kind: str | None = None) -> None:
        """Give the next ``times`` admitted API requests this fault, instead of a random one.

        With a ``kind``, such as ``download``, only requests that the truth counts as that kind get it.
        """
        if kind not in {None, *KINDS}:
            raise ConfigurationError(f"{kind!r} is not a kind of request: choose one of {', '.join(KINDS)}")
        self._faults.plan(fault, times, kind)

    def revoke_tokens(self) -> None:
        """Make every token issued so far invalid. New ones are valid."""
        self._authentication.revoke_tokens()

    def refuse_all(self, refuse: bool = True) -> None:
        """Respond with 401 to all API requests, whatever their credentials, until called with False."""
        self._authentication.refuse_all = refuse
