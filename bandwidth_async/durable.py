"""A run that is written down: claimed before it is sent, settled before its worker goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bandwidth_async.errors import JournalError

if TYPE_CHECKING:
    from bandwidth_async.journal import Journal
    from bandwidth_async.teardown import Deliver, End, Outcome, Stop, Target


class Durable:
    """The two ends of a run, with a journal between them and the run.

    A journal that cannot be written any more stops the run: what is in flight is still answered and told,
    but the journal goes on saying ``unknown`` of it.
    """

    def __init__(self, journal: Journal, end: End, deliver: Deliver, stop: Stop) -> None:
        self._journal = journal
        self._end = end
        self._deliver = deliver
        self._stop = stop
        self._claimed: set[int] = set()  # rows in work; claiming one twice would call it unknown

    async def end(self, target: Target, stop: Stop) -> Outcome:
        """End one conference, once it is on record that this may have been tried."""
        try:
            if target.number not in self._claimed:
                await self._journal.claim(target)
                self._claimed.add(target.number)
        except JournalError as error:
            stop.request(error)
            raise
        return await self._end(target, stop)

    async def deliver(self, target: Target, outcome: Outcome) -> None:
        """Hand on an outcome, once it is on record."""
        try:
            await self._journal.settle(target, outcome)
        except JournalError as error:
            self._stop.request(error)
        self._claimed.discard(target.number)
        await self._deliver(target, outcome)
