"""Sends events to webhooks as Bandwidth describes it, while the sandbox runs.

The events of one conference are sent one after the other, unless they are delayed on purpose. The truth
counts one outcome for every event: the last status, or

- ``withheld``: no event may be sent to the webhook, as it is not on this machine, or others reach the sandbox
- ``connection-error``; ``timeout``; or ``failed`` (not a URL that can be asked, or not HTTP)
- ``invalid-bxml``: 2xx, but the body is not BXML for a conference, or larger than 64 KB
- ``stopped``: the sandbox stopped before
"""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import Callable
from random import Random

import aiohttp

from bandwidth_async import bxml
from bandwidth_async.sandbox.events import KINDS, SYNCHRONOUS_KINDS, Event, Webhook

_QUEUES = 10
_MAX_DELAY = 0.5


class EventSender:
    """Sends events to their webhooks.

    ``duplicates`` and ``disorder`` are the shares of events that are sent twice, and that are delayed so that
    others overtake them. ``timeout`` is the time for an attempt in seconds. ``allowed`` says whether an event
    may be sent to a URL. ``play`` executes the BXML that this URL responded with, and raises `ValueError` if
    it is invalid.
    """

    def __init__(
        self,
        *,
        duplicates: float,
        disorder: float,
        timeout: float,
        allowed: Callable[[str], bool],
        random: Random,
        play: Callable[[Event, str, bytes], None],
    ) -> None:
        self._duplicates = duplicates
        self._disorder = disorder
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._allowed = allowed
        self._random = random
        self._play = play
        # Both changed in send() and _settle(). Nothing is pending at start().
        self._pending = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
        # Both changed in start() and stop(). All events of a conference are in one queue.
        self._queues: list[asyncio.Queue[Event]] = []
        self._workers: list[asyncio.Task[None]] = []
        # Changed in _delay(), _release() and stop(). The key is an object of its own for each.
        self._delayed: dict[object, tuple[asyncio.TimerHandle, Event]] = {}

    async def start(self) -> None:
        """Send events from now on."""
        # A new one, because one that somebody waited for belongs to its event loop.
        self._idle = asyncio.Event()
        self._idle.set()
        self._queues = [asyncio.Queue() for _ in range(_QUEUES)]
        self._workers = [asyncio.create_task(self._work(queue)) for queue in self._queues]

    async def stop(self) -> None:
        """Stop at once. Events that were not sent count as stopped. Stopping twice is harmless."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        waiting = []
        for timer, event in self._delayed.values():
            timer.cancel()
            waiting.append(event)
        for queue in self._queues:
            waiting += [queue.get_nowait() for _ in range(queue.qsize())]
        self._delayed, self._queues = {}, []
        for event in waiting:
            self._settle(event, "stopped")

    async def settled(self) -> None:
        """Wait until all events so far are delivered or given up."""
        await self._idle.wait()

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of events by kind and outcome."""
        return {kind: dict(outcomes) for kind, outcomes in self._counts.items()}

    def send(self, event: Event) -> None:
        """Send the event soon. While the sandbox is stopped, no event is sent."""
        if not self._workers:
            return
        copies = 2 if self._random.random() < self._duplicates else 1
        self._pending += copies
        self._idle.clear()
        for _ in range(copies):
            if self._random.random() < self._disorder:
                self._delay(event)
            else:
                self._enqueue(event)

    def _enqueue(self, event: Event) -> None:
        self._queues[event.conference.position % _QUEUES].put_nowait(event)

    def _delay(self, event: Event) -> None:
        delay = self._random.uniform(0, _MAX_DELAY)
        key = object()
        timer = asyncio.get_running_loop().call_later(delay, self._release, key)
        self._delayed[key] = (timer, event)

    def _release(self, key: object) -> None:
        _, event = self._delayed.pop(key)
        self._enqueue(event)

    def _settle(self, event: Event, outcome: str) -> None:
        self._counts[event.kind][outcome] += 1
        self._pending -= 1
        if self._pending == 0:
            self._idle.set()

    async def _work(self, queue: asyncio.Queue[Event]) -> None:
        cookies = aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(timeout=self._timeout, cookie_jar=cookies) as session:
            while True:
                event = await queue.get()
                outcome = "stopped"
                try:
                    outcome = await self._deliver(session, event)
                finally:
                    self._settle(event, outcome)

    async def _deliver(self, session: aiohttp.ClientSession, event: Event) -> str:
        webhook: Webhook | None = event.webhook
        outcome = "failed"
        while webhook is not None and not outcome.startswith("2"):
            outcome = await self._deliver_to(session, event, webhook)
            webhook = webhook.fallback
        return outcome

    async def _deliver_to(self, session: aiohttp.ClientSession, event: Event, webhook: Webhook) -> str:
        if not self._allowed(webhook.url):
            return "withheld"
        outcome = await self._attempt(session, event, webhook)
        # Bandwidth documents a second attempt for the asynchronous webhooks alone.
        if outcome == "connection-error" and event.kind not in SYNCHRONOUS_KINDS:
            outcome = await self._attempt(session, event, webhook)
        return outcome

    async def _attempt(self, session: aiohttp.ClientSession, event: Event, webhook: Webhook) -> str:
        try:
            status, body = await _ask(session, event, webhook)
        except TimeoutError:
            return "timeout"
        except aiohttp.ClientConnectionError:
            return "connection-error"
        except (aiohttp.ClientError, ValueError):
            return "failed"
        if 200 <= status < 300 and body.strip():
            try:
                self._play(event, webhook.url, body)
            except ValueError:
                return "invalid-bxml"
        return str(status)


async def _ask(session: aiohttp.ClientSession, event: Event, webhook: Webhook) -> tuple[int, bytes]:
    """Send the event without credentials, and again with them if the response asks for Basic."""
    status, challenge, body = await _send(session, event, webhook, {})
    if status == 401 and webhook.username is not None and challenge.lower().startswith("basic"):
        user = f"{webhook.username}:{webhook.password or ''}".encode()
        credentials = {"Authorization": f"Basic {base64.b64encode(user).decode()}"}
        status, _, body = await _send(session, event, webhook, credentials)
    return status, body


async def _send(
    session: aiohttp.ClientSession, event: Event, webhook: Webhook, headers: dict[str, str]
) -> tuple[int, str, bytes]:
    """Return status, challenge and body."""
    if webhook.method == "GET":
        query = {name: str(value) for name, value in event.fields.items()}
        request = session.get(webhook.url, params=query, headers=headers, allow_redirects=False)
    else:
        request = session.post(webhook.url, json=event.fields, headers=headers, allow_redirects=False)
    async with request as response:
        # The body of a response to an asynchronous webhook is ignored.
        body = await _read(response) if event.kind in SYNCHRONOUS_KINDS else b""
        return response.status, response.headers.get("WWW-Authenticate", ""), body


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Return the body, or the beginning of one that is too large for BXML."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > bxml.MAX_SIZE:
            break
    return bytes(body)
