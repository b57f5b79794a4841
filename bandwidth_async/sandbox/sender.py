"""Delivers events to webhooks as Bandwidth describes it, while the sandbox runs.

Each conference has one line of delivery, so that its events go out one after the other unless they are
held back on purpose. Every event gets exactly one outcome in the counts: the last status, or

- ``withheld``: it would have left this machine
- ``connection-error``, after a second try, ``timeout`` or ``failed`` (no such URL, no HTTP, an answer of more
  than 1 MiB)
- ``invalid-bxml``: 2xx, but with an answer that is no BXML for a conference
- ``stopped``: the sandbox stopped first
"""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import Callable
from random import Random

import aiohttp
from attrs import frozen

from bandwidth_async.sandbox.events import ANSWERED_WITH_BXML, KINDS, Event
from bandwidth_async.sandbox.targets import Target, is_on_this_machine

_LIMIT = 15.0
"""Seconds that a webhook has for its answer, as Bandwidth documents it."""
_TRIES = 2
"""Times that an event is sent to who cannot be reached, as Bandwidth documents it."""
_LONGEST_ANSWER = 1024**2
"""Bytes of an answer that are read; BXML that is sent to the sandbox has the same limit."""
_LINES = 10
_LONGEST_HOLD = 0.5
"""Seconds within which an event that is held back goes out after all."""


@frozen(kw_only=True)
class Manners:
    """How events go out: shares that go out twice and that are held back, and how far they may go."""

    duplicates: float = 0.0
    disorder: float = 0.0
    anywhere: bool = False


class Sender:
    """Tells events. ``play`` takes the BXML that answered one, and raises `ValueError` if it is none."""

    def __init__(self, *, manners: Manners, random: Random, play: Callable[[Event, bytes], None]) -> None:
        self._manners = manners
        self._random = random
        self._play = play
        self._counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}  # changed in _settle()
        self._lines: list[asyncio.Queue[Event]] = []  # with _workers, changed in start() and stop()
        self._workers: list[asyncio.Task[None]] = []
        # By a ticket for each; changed in _hold(), _release() and stop().
        self._held: dict[object, tuple[asyncio.TimerHandle, Event]] = {}
        self._pending = 0  # with _idle, changed in tell() and _settle(); none is pending at start()
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        """Deliver from now on."""
        self._idle = asyncio.Event()  # a new one, as one that was waited for belongs to its event loop
        self._idle.set()
        self._lines = [asyncio.Queue() for _ in range(_LINES)]
        self._workers = [asyncio.create_task(self._work(line)) for line in self._lines]

    async def stop(self) -> None:
        """Stop at once; what was not delivered counts as stopped. Stopping twice is harmless."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        waiting = []
        for handle, event in self._held.values():
            handle.cancel()
            waiting.append(event)
        for line in self._lines:
            waiting += [line.get_nowait() for _ in range(line.qsize())]
        self._held, self._lines = {}, []
        for event in waiting:
            self._settle(event, "stopped")

    async def settled(self) -> None:
        """Wait until all events told so far are delivered, or given up."""
        await self._idle.wait()

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many events of each kind ended how."""
        return {kind: dict(outcomes) for kind, outcomes in self._counts.items()}

    def tell(self, event: Event) -> None:
        """Deliver the event soon; while the sandbox is not running nothing is told."""
        if not self._workers:
            return
        copies = 2 if self._random.random() < self._manners.duplicates else 1
        self._pending += copies
        self._idle.clear()
        for _ in range(copies):
            if self._random.random() < self._manners.disorder:
                self._hold(event)
            else:
                self._queue(event)

    def _queue(self, event: Event) -> None:
        self._lines[event.conference.position % _LINES].put_nowait(event)

    def _hold(self, event: Event) -> None:
        pause = self._random.uniform(0, _LONGEST_HOLD)
        ticket = object()
        handle = asyncio.get_running_loop().call_later(pause, self._release, ticket)
        self._held[ticket] = (handle, event)

    def _release(self, ticket: object) -> None:
        _, event = self._held.pop(ticket)
        self._queue(event)

    def _settle(self, event: Event, outcome: str) -> None:
        self._counts[event.kind][outcome] += 1
        self._pending -= 1
        if self._pending == 0:
            self._idle.set()

    async def _work(self, line: asyncio.Queue[Event]) -> None:
        timeout = aiohttp.ClientTimeout(total=_LIMIT)
        async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
            while True:
                event = await line.get()
                outcome = "stopped"
                try:
                    outcome = await self._deliver(session, event)
                finally:
                    self._settle(event, outcome)

    async def _deliver(self, session: aiohttp.ClientSession, event: Event) -> str:
        target: Target | None = event.target
        outcome = "failed"
        while target is not None and not outcome.startswith("2"):
            outcome = await self._tell_one(session, event, target)
            target = target.fallback
        return outcome

    async def _tell_one(self, session: aiohttp.ClientSession, event: Event, target: Target) -> str:
        if not (self._manners.anywhere or is_on_this_machine(target.url)):
            return "withheld"
        outcome = ""
        for _ in range(_TRIES):
            try:
                return self._heard(event, *await _ask(session, event, target))
            except TimeoutError:
                return "timeout"
            except aiohttp.ClientConnectionError:
                outcome = "connection-error"
            except (aiohttp.ClientError, ValueError):
                return "failed"
        return outcome

    def _heard(self, event: Event, status: int, body: bytes) -> str:
        if 200 <= status < 300 and body.strip() and event.kind in ANSWERED_WITH_BXML:
            try:
                self._play(event, body)
            except ValueError:
                return "invalid-bxml"
        return str(status)


async def _ask(session: aiohttp.ClientSession, event: Event, target: Target) -> tuple[int, bytes]:
    """Send the event without credentials; again with them to who asks for Basic authentication."""
    status, challenge, body = await _send(session, event, target, {})
    if status == 401 and target.username is not None and challenge.lower().startswith("basic"):
        user = f"{target.username}:{target.password or ''}".encode()
        credentials = {"Authorization": f"Basic {base64.b64encode(user).decode()}"}
        status, _, body = await _send(session, event, target, credentials)
    return status, body


async def _send(
    session: aiohttp.ClientSession, event: Event, target: Target, headers: dict[str, str]
) -> tuple[int, str, bytes]:
    fields = event.fields
    if target.method == "GET":
        asking = session.get(
            target.url,
            params={name: str(value) for name, value in fields.items()},
            headers=headers,
            allow_redirects=False,
        )
    else:
        asking = session.post(target.url, json=fields, headers=headers, allow_redirects=False)
    async with asking as response:
        return response.status, response.headers.get("WWW-Authenticate", ""), await _read(response)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Return the body; raises `ValueError` as soon as it is longer than is read."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _LONGEST_ANSWER:
            raise ValueError(f"an answer of more than {_LONGEST_ANSWER} bytes")
    return bytes(body)
