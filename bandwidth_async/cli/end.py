"""``end``: the teardown job."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from attrs import frozen

from bandwidth_async.cli import exits, records
from bandwidth_async.cli.ids import Ids
from bandwidth_async.cli.options import duration, selection
from bandwidth_async.cli.progress import display
from bandwidth_async.client import DEFAULT_CONCURRENCY, VoiceClient
from bandwidth_async.errors import BandwidthError, DeadlineExceededError
from bandwidth_async.models import Conference
from bandwidth_async.pacing import RateLimit
from bandwidth_async.teardown import OutcomeKind, Stop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bandwidth_async.cli.progress import Display
    from bandwidth_async.teardown import Outcome, Report

ASK_ABOVE = 100  # ids; more than that are not ended without a yes
_GRACE = 10.0  # seconds for what is in flight when a signal comes
_FINE = (OutcomeKind.ENDED, OutcomeKind.ALREADY_ENDED)


@click.command(epilog=exits.HELP)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option(
    "--from",
    "source",
    metavar="FILE|-",
    help="Read ids from a file or standard input: one a line, CSV with a conference_id column, or JSON "
    "lines with that key. Blank lines and # comments are allowed.",
)
@click.option("--all-active", is_flag=True, help="End every conference that a listing shows as active.")
@selection
@click.option("--rate", type=float, metavar="R", help="Requests per second at most. [default: found out]")
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=DEFAULT_CONCURRENCY,
    show_default=True,
    metavar="N",
    help="Conferences in work at once.",
)
@click.option("--deadline", metavar="DURATION", callback=duration, help="Stop after 30s, 10m, 2h or seconds.")
@click.option("--dry-run", is_flag=True, help="Show what would be ended, and send no end.")
@click.option("--yes", is_flag=True, help=f"Do not ask, as --all-active and over {ASK_ABOVE} ids do.")
@click.option("--max", "maximum", type=click.IntRange(min=0), metavar="N", help="Refuse to end more than N.")
@click.option("--strict", is_flag=True, help="Count conferences that are not found as failures.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "jsonl"]),
    default="table",
    show_default=True,
    help="Outcomes in columns for people, or as JSON lines for programs.",
)
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the outcomes there.")
@click.option("--force", is_flag=True, help="Replace an existing --output file.")
def end(  # noqa: PLR0917 - click passes an option a parameter
    ids: tuple[str, ...],
    source: str | None,
    all_active: bool,
    rate: float | None,
    concurrency: int,
    deadline: float | None,
    dry_run: bool,
    yes: bool,
    maximum: int | None,
    strict: bool,
    form: str,
    output: Path | None,
    force: bool,
    **chosen: Any,
) -> int:
    """End conferences: the members are ejected, their calls go on.

    Each conference of the input gets one outcome: ended, already_ended, not_found, refused (the server
    said no and would say so again), failed (given up, surely not ended), unknown (given up, may have
    ended) or not_attempted. Exits 0 when no conference is left active as far as the server says, and 3
    when not one was found.

    \b
    bandwidth-async end conf-1 conf-2
    bandwidth-async end --from ids.txt --rate 50 --output outcomes.jsonl --format jsonl
    bandwidth-async list --active --format jsonl | bandwidth-async end --from - --yes
    """
    started = time.monotonic()
    items: list[str | Conference]
    if all_active:
        if ids or source:
            raise click.UsageError("--all-active finds the conferences itself: leave out ids and --from")
        items = list(asyncio.run(_listed_as_active(chosen, deadline)))
    else:
        if any(chosen.values()):
            raise click.UsageError("--name, --created-before and --created-after go with --all-active")
        items = list(_given(ids, source))
    if maximum is not None and len(items) > maximum:
        raise click.UsageError(
            f"these are {len(items):,} conferences, more than --max {maximum:,}; nothing was ended"
        )
    job = _Job(
        items=items,
        concurrency=concurrency,
        deadline=None if deadline is None else max(deadline - (time.monotonic() - started), 0.001),
        strict=strict,
        summary_on_stdout=output is not None,
    )
    if dry_run:
        return _show(items, form, output, force=force)
    client = VoiceClient.from_env(rate_limit=None if rate is None else RateLimit(rate))
    if not items:
        print("there are no conferences to end", file=sys.stderr)
        return exits.Exit.OK
    if not yes and (all_active or len(items) > ASK_ABOVE):
        _ask(len(items), source)
    with records.open_output(output, force=force) as stream:
        writer = records.Writer(stream, records.OUTCOMES, as_json=form == "jsonl")
        return asyncio.run(_run(client, job, writer))


@frozen(kw_only=True)
class _Job:
    items: list[str | Conference]
    concurrency: int
    deadline: float | None
    strict: bool
    summary_on_stdout: bool


def _given(ids: tuple[str, ...], source: str | None) -> dict[str, None]:
    if not ids and source is None:
        raise click.UsageError("what is to end? Give ids, --from FILE or --all-active")
    found = Ids()
    for number, value in enumerate(ids, 1):
        found.add(f"argument {number}", value)
    if source == "-":
        found.read(sys.stdin.buffer, "standard input")
    elif source is not None:
        try:
            with Path(source).open("rb") as stream:
                found.read(stream, source)
        except OSError as error:
            raise click.UsageError(f"cannot read {source}: {error.strerror}") from error
    complaint = found.complaint()
    if complaint:
        raise click.UsageError(complaint)
    if found.duplicates:
        print(f"{found.duplicates:,} duplicate ids dropped", file=sys.stderr)
    return found.unique


async def _listed_as_active(chosen: dict[str, Any], deadline: float | None) -> list[Conference]:
    try:
        async with asyncio.timeout(deadline), VoiceClient.from_env() as client:
            listing = client.list_conferences(
                name=chosen["name"],
                min_created_time=chosen["created_after"],
                max_created_time=chosen["created_before"],
            )
            return [conference async for conference in listing if conference.active]
    except BandwidthError:
        raise
    except TimeoutError:
        raise DeadlineExceededError("the deadline came during the listing; nothing was ended") from None


def _show(items: list[str | Conference], form: str, output: Path | None, *, force: bool) -> int:
    with records.open_output(output, force=force) as stream:
        writer = records.Writer(stream, records.Columns({"conference_id": 0}), as_json=form == "jsonl")
        for item in items:
            writer.write({"conference_id": item.id if isinstance(item, Conference) else item})
    print(f"dry run: {len(items):,} conferences would be ended; none was", file=sys.stderr)
    return exits.Exit.OK


def _ask(count: int, source: str | None) -> None:
    if source == "-" or not sys.stdin.isatty():
        raise click.UsageError(
            f"{count:,} conferences would be ended; confirm with --yes (nothing was ended)"
        )
    if not click.confirm(f"End {count:,} conferences?", err=True):
        raise click.Abort


async def _run(client: VoiceClient, job: _Job, writer: records.Writer) -> int:
    stop = Stop()
    with display(len(job.items)) as shown, _signals(stop, shown) as came:
        sink = _Sink(writer, shown, stop, every=len(job.items) <= ASK_ABOVE or not writer.on_terminal)
        async with (
            client,
            client.ending_conferences(
                job.items, concurrency=job.concurrency, deadline=job.deadline, stop=stop
            ) as outcomes,
        ):
            async for outcome in outcomes:
                sink.put(outcome)
                shown.update(outcomes.report, client.rate)
    report = outcomes.report
    _summarise(report, client, sys.stdout if job.summary_on_stdout else sys.stderr)
    if sink.fault:
        raise click.ClickException(f"the outcomes could not all be written: {sink.fault}")
    return exits.exit_for_run(report, strict=job.strict, stopped_by=came[0] if came else None)


class _Sink:
    """Where outcomes go. When the stream takes no more, the run is stopped and its rest goes unwritten."""

    def __init__(self, writer: records.Writer, shown: Display, stop: Stop, *, every: bool) -> None:
        self.fault: str | None = None
        self._writer = writer
        self._shown = shown
        self._stop = stop
        self._every = every

    def put(self, outcome: Outcome) -> None:
        if self.fault or not (self._every or outcome.kind not in _FINE):
            return
        record = records.outcome_record(outcome)
        try:
            if self._writer.on_terminal:
                self._shown.say(self._writer.text(record))
            else:
                self._writer.write(record)
        except OSError as error:
            self.fault = error.strerror or str(error)
            if isinstance(error, BrokenPipeError):
                records.abandon_stdout()
            self._stop.request(BandwidthError("the outcomes could not be written"), grace=_GRACE)


@contextmanager
def _signals(stop: Stop, shown: Display) -> Iterator[list[signal.Signals]]:
    """Stop the run at the first SIGINT or SIGTERM, at once at the second. Yields those that came."""
    came: list[signal.Signals] = []
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        came.append(number)
        grace = 0.0 if len(came) > 1 else _GRACE
        stop.request(DeadlineExceededError(f"stopped by {number.name}"), grace=grace)
        if len(came) == 1:
            shown.say(f"{number.name}: waiting up to {_GRACE:g} s for what is in flight; again stops at once")

    handled = (signal.SIGINT, signal.SIGTERM)
    for number in handled:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield came
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


def _summarise(report: Report, client: VoiceClient, stream: Any) -> None:
    count, total = report.counts[OutcomeKind.ENDED], report.total
    lines = [f"ended {count:,} of {total:,} conferences in {report.elapsed:.1f} s ({report.rate:,.0f}/s)"]
    lines += [f"  {kind.value:<13} {report.counts[kind]:>9,}" for kind in OutcomeKind if report.counts[kind]]
    lines.append(f"  requests      {report.attempts:>9,}")
    if report.stopped:
        lines.append(f"stopped early: {report.stopped}")
    if report.nothing_found:
        lines.append(f"not one was found: is {client.account_id} the right account id (BW_ACCOUNT_ID)?")
    print("\n".join(lines), file=stream, flush=True)
