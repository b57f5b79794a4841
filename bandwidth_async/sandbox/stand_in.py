"""The sandbox as its users see it: settings, address, and the switches to turn while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from attrs import define, field, setters

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.sandbox.facts import Conference
from bandwidth_async.sandbox.faults import FaultMix, mix_from
from bandwidth_async.sandbox.hints import Hint, hint_from
from bandwidth_async.sandbox.options import (
    already_ended_from,
    call_already_ended_from,
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
from bandwidth_async.sandbox.quota import Quota, quota_from
from bandwidth_async.sandbox.service import KINDS, Truth
from bandwidth_async.sandbox.targets import is_on_this_machine
from bandwidth_async.sandbox.wiring import Works, assemble

_REACHED_AT = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # not bound here, only named


@define(kw_only=True, eq=False, on_setattr=setters.frozen)
class Sandbox:
    """A stand-in for Bandwidth's Voice API and its token endpoint, on one address of this machine.

    ``async with Sandbox(conferences=5000, quota="token-bucket:rate=200,burst=20") as sandbox: ...``

    Settings are values or text as on the command line; a wrong one raises `ConfigurationError`:

    ``conferences``
        How many there are at first.
    ``quota``, ``hint``
        What the account may send, None for anything, and how a 429 tells when to come back.
    ``latency``
        Of every answer, refusals too: ``20-200ms`` or (0.02, 0.2) in seconds.
    ``faults``
        Shares of the requests that meet one: ``503=2%,reset=1%,hang=0.1%``.
    ``seed``
        Of all that is made up: the same seed gives the same ids and the same faults in order.
    ``token_lifetime``
        ``1h`` or seconds.
    ``members``
        Calls in a conference: ``0-4``, ``2`` or (0, 4).
    ``already_ended``
        The status for updating an ended conference: 404, 409 or 204. Bandwidth's is not known.
    ``forget_ended``
        True makes an ended conference vanish from get and list at once. Bandwidth's retention is not known.
    ``call_already_ended``
        The status for updating an ended call: 409, 404 or 200. Bandwidth's is not known.
    ``recordings``, ``recording_size``
        Finished recordings in each conference of the start: ``0-2``; and the size of each file: ``200MB``.
    ``event_url``, ``event_method``, ``event_username``, ``event_password``
        Where and how all conferences tell their events; None for nowhere. Credentials are sent to who asks.
    ``event_duplicates``, ``event_disorder``
        Shares of the events that are told twice, and that are held back so that others overtake: ``5%``.
    ``events_anywhere``
        True lets events leave this machine, also those that a redirect or BXML sends somewhere.
    ``host``, ``port``
        Where to serve; port 0 is any free one, and is kept when the sandbox is started again.
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
    _works: Works = field(init=False, repr=False)

    @event_url.validator
    def _stays_here(self, _setting: object, url: str | None) -> None:
        if url is not None and not (self.events_anywhere or is_on_this_machine(url)):
            raise ConfigurationError(
                f"{url!r} is not on this machine: write http://127.0.0.1:8000/events, "
                "or set events_anywhere to tell others"
            )

    @_works.default
    def _assemble(self) -> Works:
        return assemble(self)

    async def start(self) -> None:
        """Serve, until `stop`."""
        self.port = await self._works.server.start(self.host, self.port)
        await self._works.sender.start()

    async def stop(self) -> None:
        """Stop at once, whatever is under way; conferences and counts stay as they are."""
        await self._works.server.stop()
        await self._works.sender.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """Where the Voice API and the token endpoint are. With port 0 the port is known once started."""
        host = _REACHED_AT.get(self.host, self.host)
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}"

    @property
    def environ(self) -> dict[str, str]:
        """The environment that leads a client here."""
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
        return self._works.world.ids

    def truth(self) -> Truth:
        """Return what ``GET /_sandbox/truth`` serves: what became of each conference and request."""
        return self._works.service.truth()

    def add_conference(self, *, name: str | None = None, members: int | None = None) -> str:
        """Add an active conference, created now, and return its id.

        A running sandbox with an ``event_url`` tells of it: call this in its event loop then.
        """
        now = datetime.now(UTC)
        conference_id = self._works.world.add(at=now, name=name, members=members)
        self._works.course.begin(self._conference(conference_id), now)
        return conference_id

    def active_calls(self) -> list[str]:
        """Return the ids of all calls that are alive, in a conference or not."""
        return list(self._works.world.active_calls())

    def call_ids(self, conference_id: str) -> list[str]:
        """Return the ids of the calls that were in the conference at its start, alive or not."""
        return [call.id for call in self._works.world.calls.of(self._conference(conference_id))]

    def recording_ids(self, conference_id: str) -> list[str]:
        """Return the ids of the recordings of a conference, oldest first."""
        return [it.id for it in self._works.recordings.of(self._conference(conference_id))]

    def sound(self, conference_id: str, recording_id: str) -> Iterator[bytes]:
        """Yield the file of a recording, block by block: what a download has to be."""
        recording = self._works.recordings.find(self._conference(conference_id), recording_id)
        if recording is None:
            raise KeyError(recording_id)
        return self._works.recordings.sound(recording)

    async def events_told(self) -> None:
        """Wait until every event so far is delivered, or given up."""
        await self._works.sender.settled()

    def _conference(self, conference_id: str) -> Conference:
        conference = self._works.world.get(conference_id)
        if conference is None:
            raise KeyError(conference_id)
        return conference

    def plan(self, fault: str, *, times: int = 1, kind: str | None = None) -> None:
        """Give the next ``times`` admitted API requests this fault, before any random one.

        ``kind``, one of the truth's kinds of requests such as ``download``, spares all others.
        """
        if kind not in {None, *KINDS}:
            raise ConfigurationError(f"{kind!r} is no kind of request: choose one of {', '.join(KINDS)}")
        self._works.faults.plan(fault, times, kind)

    def revoke_tokens(self) -> None:
        """Make every token given out so far invalid; new ones are good."""
        self._works.access.revoke_tokens()

    def refuse_all(self, refuse: bool = True) -> None:
        """Answer 401 to all API requests, good credentials or not, until called with False."""
        self._works.access.refuse_all = refuse
