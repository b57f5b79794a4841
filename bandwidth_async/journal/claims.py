"""The ledger that a run keeps in a journal.

Ids are claimed ahead, with one write for all that are going to begin within about 20 ms: a write for each
would cost nearly as much as recording the outcomes does. A process that is killed therefore leaves behind
as unknown what was in flight and what was claimed ahead. A run that ends in any other way releases the
claims of the ids that it has not begun.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from bandwidth_async.errors import ClientStateError
from bandwidth_async.run import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bandwidth_async.journal import Journal
    from bandwidth_async.journal.timeline import Timeline
    from bandwidth_async.outcome import Outcome
    from bandwidth_async.run import Target

# Seconds that the ids of one write of claims should last.
_AHEAD = 0.02

# Ids that one write claims at most.
_MOST_AHEAD = 128


class Claims(Ledger):
    """Claims each id in the journal before it is sent, and records its outcome before it is told.

    When the journal cannot be written any more, `begin` and `settle` raise `JournalError`. The journal then
    keeps saying ``unknown`` of the ids in flight.
    """

    def __init__(self, journal: Journal, timeline: Timeline | None = None) -> None:
        self._journal = journal
        self._timeline = timeline
        self._unsettled = journal.unsettled()
        # Whether this run has the journal.
        self._borrowed = False
        # The next targets, which the next write of claims includes.
        self._ahead: deque[Target] = deque()
        # The write of each claim, by row. A row that is claimed twice would become unknown.
        self._claims: dict[int, asyncio.Future[None]] = {}
        # How many targets the next write claims, and when the last one was made.
        self._size = 1
        self._claimed_at = -math.inf

    def targets(self) -> Iterator[Target]:
        """Return what the journal holds unsettled, in order.

        Raises `ClientStateError` while another run has the journal: each would end the other's ids.
        """
        if self._journal.lent:
            raise ClientStateError(f"another run over {self._journal.path} is going on: wait for its end")
        self._journal.lent = self._borrowed = True
        if self._timeline is not None:
            self._timeline.begin()
        return self._targets()

    def _targets(self) -> Iterator[Target]:
        while True:
            if not self._ahead:
                self._ahead.extend(islice(self._unsettled, self._size))
            if not self._ahead:
                return
            yield self._ahead.popleft()

    async def begin(self, target: Target) -> None:
        """Wait until the claim of a target is on disk. Raises `JournalError`."""
        claim = self._claims.get(target.number) or self._claim(target)
        # The write belongs to other targets too. Cancelling one worker must not cancel it.
        await asyncio.shield(claim)

    async def settle(self, target: Target, outcome: Outcome) -> None:
        """Wait until an outcome is on disk. Raises `JournalError`."""
        self._claims.pop(target.number, None)
        await self._journal.settle(target, outcome)
        if self._timeline is not None:
            self._timeline.now.outcomes[outcome.kind] += 1

    async def close(self) -> None:
        """Release the claims of targets that were not begun, and give the journal back."""
        if not self._borrowed:
            return
        try:
            await self._journal.release(target for target in self._ahead if target.number in self._claims)
            if self._timeline is not None:
                await self._timeline.end()
        finally:
            self._ahead.clear()
            self._journal.lent = self._borrowed = False

    def _claim(self, target: Target) -> asyncio.Future[None]:
        """Claim a target, together with the next ones, which begin soon."""
        now = asyncio.get_running_loop().time()
        soon = now - self._claimed_at < _AHEAD
        self._size = min(2 * self._size, _MOST_AHEAD) if soon else max(self._size // 2, 1)
        self._claimed_at = now
        batch = [target, *(one for one in self._ahead if one.number not in self._claims)]
        claim = self._journal.claim(*batch)
        self._claims.update(dict.fromkeys((one.number for one in batch), claim))
        return claim
