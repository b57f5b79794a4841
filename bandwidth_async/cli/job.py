"""A teardown run on the command line: shown, written down, stopped by signals, and summed up."""

from __future__ import annotations

import asyncio
import shlex
import signal
import sys
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

import click
from attrs import evolve, frozen

from bandwidth_async.cli import exits, records
from bandwidth_async.cli.options import EVERY_ROW_UP_TO
from bandwidth_async.cli.progress import display, figure
from bandwidth_async.errors import (
    BandwidthError,
    DeadlineExceededError,
    JournalError,
    PermissionDeniedError,
)
from bandwidth_async.journal import Journal
from bandwidth_async.outcome import OutcomeKind
from bandwidth_async.run import GRACE, Stop
from bandwidth_async.wire import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bandwidth_async.cli.options import RunOptions
    from bandwidth_async.cli.progress import Display
    from bandwidth_async.client import VoiceClient
    from bandwidth_async.models import Conference
    from bandwidth_async.outcome import Outcome, Report

_BEGIN_AT = 0.98  # of the limit that a run found: a start above it would begin with a refusal
_UNREMARKABLE = (OutcomeKind.ENDED, OutcomeKind.ALREADY_ENDED, OutcomeKind.NOT_ATTEMPTED)


@frozen(kw_only=True)
class Job:
    """What to end, how, and where the outcomes go; ``total`` is how many there are."""

    source: list[str | Conference] | Journal
    total: int
    how: RunOptions
    stream: IO[str]


async def carry_out(client: VoiceClient, job: Job) -> int:
    """End the conferences of a job and return the exit code: of the whole run, where a journal knows it."""
    stop = Stop()
    with (
        display(job.total) as shown,
        _signals(stop, shown) as came,
        client.limiter.listening(shown.hear),
    ):
        sink = _Sink(job, shown, stop)
        report = await _end_all(client, job, stop, sink, came)
    whole = report
    if isinstance(job.source, Journal):
        with suppress(JournalError):  # it failed in the run: then the outcomes that were seen have to do
            whole = evolve(job.source.report(), stopped=report.stopped)
    _sum_up(client, job, report, whole)
    if sink.fault:
        raise click.ClickException(f"the outcomes could not all be written: {sink.fault}")
    return exits.exit_for_run(whole, strict=job.how.strict, stopped_by=came[0] if came else None)


async def _end_all(
    client: VoiceClient, job: Job, stop: Stop, sink: _Sink, came: list[signal.Signals]
) -> Report:
    """Run, and hand each outcome to the sink; after a second signal only those of what was sent."""
    left_out = 0
    async with (
        client,
        client.ending_conferences(
            job.source,
            concurrency=job.how.concurrency,
            deadline=job.how.deadline,
            stop=stop,
            verify=job.how.verify,
            hang_up=job.how.hang_up,
        ) as outcomes,
    ):
        async for outcome in outcomes:
            if len(came) > 1 and outcome.kind is OutcomeKind.NOT_ATTEMPTED:
                left_out += 1
                if left_out > 2 * job.how.concurrency:
                    break  # more than the workers and the queue hold, so nothing that was sent follows
            else:
                sink.put(outcome, outcomes.report)
    report = outcomes.report
    if report.total < job.total:
        report.counts[OutcomeKind.NOT_ATTEMPTED] += job.total - report.total
        report.stopped = stop.reason
    return report


def _sum_up(client: VoiceClient, job: Job, report: Report, whole: Report) -> None:
    """Print what became of this part and of the whole run, and how to go on."""
    seen = client.limiter.snapshot()
    quota = seen.quota if seen.refusals else None  # nobody has met a limit before the first refusal
    lines = _summary(report, whole, client.account_id, quota)
    if isinstance(job.source, Journal):
        lines += _on_record(whole, report, job.source.path)
    with suppress(OSError):  # whoever listened has gone; the exit code still tells
        print("\n".join(lines), file=sys.stderr if job.stream is sys.stdout else sys.stdout, flush=True)


class _Sink:
    """Where outcomes go. When the stream takes no more, the run is stopped and its rest goes unwritten."""

    def __init__(self, job: Job, shown: Display, stop: Stop) -> None:
        self.fault: str | None = None
        self._writer = records.Writer(
            job.stream, records.JsonLines() if job.how.form == "jsonl" else records.OUTCOMES
        )
        self._shown = shown
        self._stop = stop
        few = job.how.form == "jsonl" or job.total <= EVERY_ROW_UP_TO
        self._every = few or not self._writer.on_terminal

    def put(self, outcome: Outcome, report: Report) -> None:
        self._write(outcome)
        self._shown.update(report)

    def _write(self, outcome: Outcome) -> None:
        if self.fault or (outcome.kind in _UNREMARKABLE and not self._every):
            return
        record = records.outcome_record(outcome)
        try:
            if self._writer.on_terminal and self._shown.moves:
                for line in self._writer.lines(record):
                    self._shown.say(line)
            else:
                self._writer.write(record, at_once=outcome.kind is not OutcomeKind.NOT_ATTEMPTED)
        except OSError as error:
            self.fault = error.strerror or str(error)
            self._writer.abandon()
            self._stop.request(BandwidthError("the outcomes could not be written"))


@contextmanager
def _signals(stop: Stop, shown: Display) -> Iterator[list[signal.Signals]]:
    """Stop the run at the first SIGINT or SIGTERM, at once at the second. Yields those that came."""
    came: list[signal.Signals] = []
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        came.append(number)
        stop.request(
            DeadlineExceededError(f"stopped by {number.name}"), grace=GRACE if len(came) == 1 else 0.0
        )
        if len(came) == 1:
            shown.say(f"{number.name}: waiting up to {GRACE:g} s for what is in flight; again stops at once")

    handled = (signal.SIGINT, signal.SIGTERM)
    for number in handled:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield came
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


def _summary(report: Report, whole: Report, account_id: str, quota: float | None) -> list[str]:
    lines = [
        f"{_number(report.total, 'conference')} in {report.elapsed:.1f} s: {_counts(report)}",
        f"{_number(report.attempts, 'request')}, {report.rate:,.0f} conferences a second",
    ]
    if quota is not None:
        lines.append(_found(quota))
    if report.stopped:
        lines.append(f"stopped early: {report.stopped}")
    if whole.nothing_found or isinstance(report.stopped, PermissionDeniedError):
        lines.append(f"is {account_id} the right account id (BW_ACCOUNT_ID)?")
    return lines


def _on_record(whole: Report, report: Report, path: Path) -> list[str]:
    """Say how the whole run stands, and how to go on with it."""
    lines = []
    if whole.total != report.total:
        lines.append(f"in the whole run: {_counts(whole)} of {whole.total:,}")
    if whole.unsettled:
        are = "is" if whole.unsettled == 1 else "are"
        lines.append(f"{whole.unsettled:,} {are} not settled; go on with: {how_to_go_on(path)}")
    return lines


def how_to_go_on(path: Path) -> str:
    """Return the command that goes on with a journal, to be pasted into a shell."""
    return f"bandwidth-async resume {shlex.quote(printable(str(path)))}"


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _counts(report: Report) -> str:
    return ", ".join(f"{report.counts[kind]:,} {kind.value}" for kind in OutcomeKind if report.counts[kind])


def _found(quota: float) -> str:
    """Say what the server seems to allow, and how the next run can begin there."""
    start = _BEGIN_AT * quota
    return (
        f"the server's limit seems to be about {figure(quota)} requests a second; "
        f"--start-rate {figure(start).replace(',', '')} begins there"
    )
