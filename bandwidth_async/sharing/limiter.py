"""`SharedLimiter`: a limiter whose rate holds for all processes of an account together."""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.limiter import Limiter, RateLimit
from bandwidth_async.sharing.carrier import share_name
from bandwidth_async.sharing.coordinator import Coordinator
from bandwidth_async.sharing.stores import LOCAL, carrier_for

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from bandwidth_async.limiter import Knowledge, PaceEvent
    from bandwidth_async.sharing.carrier import Carrier


class SharedLimiter(Limiter):
    """Limits the rate of all processes that share it, as one `Limiter` would.

    ::

        async with VoiceClient(limiter=SharedLimiter("redis://redis.internal"), …) as client:
            ...

    ``store``
        Where the processes of an account meet. ``redis://…``, ``rediss://…`` (TLS), ``unix://…``, and with
        several hosts ``redis+sentinel://host,host/service`` and ``redis+cluster://host,host``, each with the
        options of redis-py. That needs the extra ``redis``. ``local:`` stands for the processes of one user
        on this machine, which meet in the state directory (``local:/directory`` in another). Or a function
        that makes a `Carrier` of your own, given the name that the processes share.
    ``limit``
        As for a `Limiter`. A rate holds for all processes together if all of them were given one; if not,
        it is the most that this process sends.
    ``processes``
        How many processes there are, for a process that never reached the store and keeps to its share.
    ``warn``
        Whether it is worth a warning that the store fails.
    ``on_processes``
        Is called with the number of processes that share the limit, whenever it changes.

    One process leads and decides for all. If it ends, another takes over. If the store fails, each process
    goes on alone with its share of the last rate, says so once in the log, and comes back by itself. The last
    `VoiceClient` that closes leaves the others.

    Raises `ConfigurationError` for a store that it cannot use.
    """

    is_shared = True

    def __init__(
        self,
        store: str | Callable[[str], Carrier],
        limit: RateLimit | None = None,
        random: Random | None = None,
        *,
        connections: float = math.inf,
        processes: int = 1,
        warn: bool = True,
        on_event: Callable[[PaceEvent], object] | None = None,
        on_processes: Callable[[int], object] | None = None,
    ) -> None:
        self._make_carrier = carrier_for(store) if isinstance(store, str) else store
        # What it was given, for comparing: it may hold a password.
        self.is_local: bool = store == LOCAL
        self.on_processes: Callable[[int], object] | None = on_processes
        self._limit, random = limit or RateLimit(), random or Random()
        self._coordinator = Coordinator(
            self._limit,
            random,
            look_again=self.look_again,
            wanted=self.wanted,
            expected=processes,
            warn=warn,
            on_processes=lambda count: self.on_processes and self.on_processes(count),
        )
        self._name: str | None = None
        self._users = 0
        super().__init__(
            self._limit, random, connections=connections, on_event=on_event, pace=self._coordinator.pace
        )

    @property
    def knowledge(self) -> Knowledge | None:
        """What was learned by all, for `RateLimit.adaptive` of the next run; None at a fixed rate."""
        return self._coordinator.knowledge

    @property
    def processes(self) -> int:
        """How many processes share the limit, as far as this one knows."""
        return self._coordinator.processes

    @property
    def setting(self) -> float | None:
        """The rate in requests per second that an operator has set for all, None without one."""
        return self._coordinator.setting

    @property
    def alone_because(self) -> str | None:
        """Why this process does not share the limit at present, None while it does."""
        return self._coordinator.alone_because

    def new_carrier(self) -> Carrier:
        """Return another way to the processes that share this limit."""
        if self._name is None:
            raise ConfigurationError("give a SharedLimiter to a VoiceClient: it shares by its account")
        return self._make_carrier(self._name)

    def serve(self, account_id: str, host: str, connections: float) -> None:
        """Note that a client of this account and host uses it.

        Raises `ConfigurationError` if it limits those of another account or host.
        """
        name = share_name(account_id, host)
        if self._name not in {None, name}:
            raise ConfigurationError(
                "this SharedLimiter belongs to another account or host: make one for each"
            )
        self._name = name
        self._users += 1
        self._connections = min(self._connections, connections)

    def bind(self) -> asyncio.AbstractEventLoop:
        """Bind it to the running event loop on first use, and begin to share."""
        loop = super().bind()
        if not self._coordinator.is_running:
            self._coordinator.start(loop, self.new_carrier())
        return loop

    async def leave(self) -> None:
        """Note that a client was closed. The last one leaves the other processes."""
        self._users -= 1
        if not self._users:
            await self._coordinator.aclose()
