"""The sandbox as its users see it: settings, address, and the switches to turn while it runs."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random
from types import TracebackType
from typing import Self

from attrs import define, field, setters

from bandwidth_async.sandbox.access import Access, Credentials
from bandwidth_async.sandbox.conferences import Conferences
from bandwidth_async.sandbox.faults import FaultMix, FaultSource, mix_from
from bandwidth_async.sandbox.hints import Hint, hint_from
from bandwidth_async.sandbox.options import (
    already_ended_from,
    latency_from,
    lifetime_from,
    members_from,
    number_from,
    port_from,
)
from bandwidth_async.sandbox.quota import Quota, quota_from
from bandwidth_async.sandbox.server import Server
from bandwidth_async.sandbox.service import Service, Truth
from bandwidth_async.sandbox.world import World

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
    host: str = "127.0.0.1"
    port: int = field(default=0, converter=port_from, on_setattr=setters.NO_OP)
    account_id: str = "9900000"
    client_id: str = "sandbox-client"
    client_secret: str = field(default="sandbox-secret", repr=False)
    username: str = "sandbox-user"
    password: str = field(default="sandbox-password", repr=False)
    _world: World = field(init=False, repr=False)
    _access: Access = field(init=False, repr=False)
    _fault_source: FaultSource = field(init=False, repr=False)
    _service: Service = field(init=False, repr=False)
    _server: Server = field(init=False, repr=False)

    @_world.default
    def _make_world(self) -> World:
        world = World(members=self.members, seed=self.seed)
        world.populate(self.conferences, datetime.now(UTC))
        return world

    @_access.default
    def _make_access(self) -> Access:
        credentials = Credentials(
            account_id=self.account_id,
            client_id=self.client_id,
            client_secret=self.client_secret,
            username=self.username,
            password=self.password,
        )
        return Access(
            credentials=credentials, lifetime=self.token_lifetime, random=Random(f"{self.seed}/tokens")
        )

    @_fault_source.default
    def _make_fault_source(self) -> FaultSource:
        return FaultSource(mix=self.faults, random=Random(f"{self.seed}/faults"))

    @_service.default
    def _make_service(self) -> Service:
        endpoints = Conferences(
            world=self._world, already_ended=self.already_ended, forget_ended=self.forget_ended
        )
        return Service(
            world=self._world,
            access=self._access,
            quota=self.quota,
            hint=self.hint,
            faults=self._fault_source,
            routes=endpoints.routes(),
        )

    @_server.default
    def _make_server(self) -> Server:
        return Server(service=self._service, latency=self.latency, random=Random(f"{self.seed}/latency"))

    async def start(self) -> None:
        """Serve, until `stop`."""
        self.port = await self._server.start(self.host, self.port)

    async def stop(self) -> None:
        """Stop at once, whatever is under way; conferences and counts stay as they are."""
        await self._server.stop()

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
        return self._world.ids

    def truth(self) -> Truth:
        """Return what ``GET /_sandbox/truth`` serves: what became of each conference and request."""
        return self._service.truth()

    def add_conference(self, *, name: str | None = None, members: int | None = None) -> str:
        """Add an active conference, created now, and return its id."""
        return self._world.add(at=datetime.now(UTC), name=name, members=members)

    def plan(self, fault: str, *, times: int = 1) -> None:
        """Give the next ``times`` admitted API requests this fault, before any random one."""
        self._fault_source.plan(fault, times)

    def revoke_tokens(self) -> None:
        """Make every token given out so far invalid; new ones are good."""
        self._access.revoke_tokens()

    def refuse_all(self, refuse: bool = True) -> None:
        """Answer 401 to all API requests, good credentials or not, until called with False."""
        self._access.refuse_all = refuse
