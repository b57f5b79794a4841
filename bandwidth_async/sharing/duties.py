"""The tasks of a process that shares a limit: it claims the lead, reads letters and reports, and sends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from bandwidth_async.sharing.messages import Letter, Report, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from bandwidth_async.sharing.carrier import Lease
    from bandwidth_async.sharing.link import Link
    from bandwidth_async.sharing.outbox import Outbox

# Seconds: a lease, the time between two claims, and that a reader waits for messages.
LEASE, _CLAIM_EVERY, _READ = 3.0, 1.0, 1.0

# Seconds that a claim may take longer than other calls, since the first one connects.
_CONNECTS = 1.5

# Seconds after which a task that does not end is cancelled once more.
_AGAIN = 0.1


class Desk(Protocol):
    """Decides about what comes in, and knows what has to go out."""

    @property
    def outbox(self) -> Outbox | None:
        """What this process has to send as the leader, None while it does not lead."""

    @property
    def reads_letters(self) -> bool:
        """Whether letters may come: a leader writes none to itself."""

    def lead(self, lease: Lease, began: float) -> None:
        """Lead, or go on leading, by a lease that was claimed at a moment."""

    def stop_leading(self) -> None:
        """Follow, since another process leads."""

    def take_letter(self, letter: Letter) -> None:
        """Follow the leader whose letter this is."""

    def take_reports(self, reports: list[Report]) -> None:
        """Learn from the reports of other processes."""

    def report(self, *, leaving: bool = False) -> Report | None:
        """Return what the leader has to know, None if there is nothing new."""

    def report_again(self, report: Report) -> None:
        """Report once more what could not be sent."""

    def on_fault(self, error: Exception) -> None:
        """Learn of a fault of this library. It must not leave requests without any limit or end."""


class Duties:
    """Runs the tasks of one process, ``name``, for its desk."""

    def __init__(self, link: Link, name: str, desk: Desk) -> None:
        self._link, self._name, self._desk = link, name, desk
        self._loop = asyncio.get_running_loop()
        self._has_mail, self._leads = asyncio.Event(), asyncio.Event()
        duties = (self._claim, self._read_letters, self._read_reports, self._send)
        self._tasks = {self._loop.create_task(self._guard(duty)) for duty in duties}

    def __repr__(self) -> str:
        return f"<Duties over {self._link!r}>"

    def send(self) -> None:
        """Send what there is, as soon as the carrier is ready for it."""
        self._has_mail.set()

    async def aclose(self) -> None:
        """End the tasks, and say farewell to the others."""
        running = set(self._tasks)
        # A client library may swallow a cancellation that comes together with an answer.
        while running:
            for task in running:
                task.cancel()
            _, running = await asyncio.wait(running, timeout=_AGAIN)
        if self._link.trouble is None:
            await self._link.call("a farewell", self._say_farewell())
        await self._link.call("the end", self._link.carrier.aclose())

    async def _say_farewell(self) -> None:
        carrier, outbox = self._link.carrier, self._desk.outbox
        if outbox is not None:
            outbox.farewell(self._loop.time())
            await carrier.send(*outbox.taken(self._loop.time()))
            await carrier.resign(self._name)
        elif (report := self._desk.report(leaving=True)) is not None:
            await carrier.report(self._name, encode(report))

    async def _guard(self, duty: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await duty()
        except Exception as error:
            self._desk.on_fault(error)

    async def _claim(self) -> None:
        while True:
            began = self._loop.time()
            claim = self._link.carrier.claim(self._name, LEASE)
            lease = await self._link.call("a lease", claim, _CONNECTS)
            if lease is None:
                await self._link.rest()
                continue
            if lease.leading:
                self._desk.lead(lease, began)
                self._leads.set()
            else:
                self._stop_leading()
            await self._link.sleep(_CLAIM_EVERY)

    async def _read_letters(self) -> None:
        while True:
            if not self._desk.reads_letters:
                self._link.forget("reading letters")
                await asyncio.sleep(_READ)
                continue
            letters = self._link.carrier.letters(self._name, _READ)
            texts = await self._link.call("reading letters", letters, _READ)
            for text in texts or ():
                if (letter := decode(text, Letter)) is not None:
                    self._desk.take_letter(letter)
            if texts is None:
                await self._link.rest()

    async def _read_reports(self) -> None:
        while True:
            await self._leads.wait()
            texts = await self._link.call("reading reports", self._link.carrier.reports(_READ), _READ)
            if texts:
                reports = [report for text in texts if (report := decode(text, Report)) is not None]
                self._desk.take_reports(reports)
            if self._desk.outbox is None:
                # It may have failed after another process took the lead.
                self._link.forget("reading reports")
                self._leads.clear()
            elif texts is None:
                await self._link.rest()

    async def _send(self) -> None:
        while True:
            await self._has_mail.wait()
            self._has_mail.clear()
            if (outbox := self._desk.outbox) is not None:
                if outbox:
                    sent = self._link.carrier.send(*outbox.taken(self._loop.time()))
                    if await self._link.call("sending", sent) is False:
                        self._stop_leading()
                        self._link.hurry.set()
            elif (report := self._desk.report()) is not None:
                await self._report(report)

    async def _report(self, report: Report) -> None:
        async def sent() -> bool:
            await self._link.carrier.report(self._name, encode(report))
            return True

        if not await self._link.call("sending", sent()):
            self._desk.report_again(report)

    def _stop_leading(self) -> None:
        self._leads.clear()
        self._desk.stop_leading()
