"""A run on the command line: what its report says when the command leaves it early."""

from __future__ import annotations

import signal
from collections import Counter
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from bandwidth_async import Outcome, OutcomeKind, Report, Stop
from bandwidth_async.cli import run as cli_run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

IDS = 400


class LeftEarly:
    """A client whose run has settled every id, and is left before it can say why it stopped."""

    async def __aenter__(self) -> LeftEarly:
        """Open nothing."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close nothing."""

    @asynccontextmanager
    async def ending_conferences(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        """Yield the outcomes of ids that were not attempted, with the report so far."""
        counts: Counter[str] = Counter({OutcomeKind.NOT_ATTEMPTED: IDS})

        class Outcomes:
            report = Report(counts=counts, complete=False)

            async def __aiter__(self) -> AsyncIterator[Outcome]:
                for number in range(IDS):
                    yield Outcome(str(number), OutcomeKind.NOT_ATTEMPTED)

        yield Outcomes()


@pytest.mark.parametrize("total", [IDS, 5000])
async def test_a_run_that_was_left_says_why(total: int) -> None:
    """After two signals in quick succession the report has the reason, and one outcome for each id."""
    stop, received = Stop(), [signal.SIGINT, signal.SIGINT]
    stop.request()
    one = SimpleNamespace(
        source=[],
        total=total,
        how=SimpleNamespace(concurrency=10, deadline=None, verify=False, hang_up=False),
    )
    report = await cli_run._end_all(
        cast("Any", LeftEarly()), cast("Any", one), stop, cast("Any", None), received
    )
    assert (report.stopped, report.total, report.ok) == (stop.reason, total, False)
