"""A run that is written down: claimed before it is sent, settled before its worker goes on.

Claims are written ahead, one write for as many ids as are begun in some 20 ms: written one by one they would
cost nearly as much as the outcomes do. So a process that is killed leaves behind as unknown what was in
flight and these; a run that ends in any other way gives back those that no worker had taken up.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from bandwidth_async.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bandwidth_async.journal import Journal
    from bandwidth_async.outcome import Outcome
    from bandwidth_async.run import Deliver, End, Stop, Target

_AHEAD = 0.02  # seconds that one write of claims is to be enough for
_MOST_AHEAD = 128  # ids


class Durable:
    """The source and the two ends of a run, with a journal between them and the run.

    A journal that cannot be written any more stops the run: what is in flight is still answered and told,
    but the journal goes on saying ``unknown`` of it.
    """

    def __init__(self, journal: Journal, end: End, deliver: Deliver, stop: Stop) -> None:
        self._journal = journal
        self._end = end
        self._deliver = deliver
        self._stop = stop
        self._rest = journal.unsettled()
        self._ahead: deque[Target] = deque()  # the next ones, which the next claim is for too
        self._claims: dict[int, asyncio.Future[None]] = {}  # by row; claiming one twice would call it unknown
        self._at_once = 1  # how many are claimed by one write
        self._claimed_at = -math.inf

    def targets(self) -> Iterator[Target]:
        """Give what the journal holds unsettled, in order."""
        while True:
            if not self._ahead:
                self._ahead.extend(islice(self._rest, self._at_once))
            if not self._ahead:
                return
            yield self._ahead.popleft()

    async def end(self, target: Target, stop: Stop) -> Outcome:
        """End one conference, once it is on record that this may have been tried."""
        try:
            claim = self._claims.get(target.number) or self._claim(target)
            await asyncio.shield(claim)  # it is that of others too
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
        self._claims.pop(target.number, None)
        await self._deliver(target, outcome)

    async def close(self) -> None:
        """Give back what was claimed and never taken up."""
        await self._journal.release(target for target in self._ahead if target.number in self._claims)
        self._ahead.clear()

    def _claim(self, target: Target) -> asyncio.Future[None]:
        """Claim this one and, with it, the next, which will soon be begun."""
        now = asyncio.get_running_loop().time()
        soon = now - self._claimed_at < _AHEAD
        self._at_once = min(2 * self._at_once, _MOST_AHEAD) if soon else max(self._at_once // 2, 1)
        self._claimed_at = now
        batch = [target, *(one for one in self._ahead if one.number not in self._claims)]
        claim = self._journal.claim(*batch)
        self._claims.update(dict.fromkeys((one.number for one in batch), claim))
        return claim
