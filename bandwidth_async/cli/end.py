"""``end``: which conferences are to end, and whether that is really meant."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from pathlib import Path
from typing import Any

import click

from bandwidth_async.cli import exits, records
from bandwidth_async.cli.ids import Ids
from bandwidth_async.cli.job import Job, carry_out
from bandwidth_async.cli.options import duration, selection
from bandwidth_async.client import DEFAULT_CONCURRENCY, VoiceClient
from bandwidth_async.errors import BandwidthError, DeadlineExceededError
from bandwidth_async.models import Conference
from bandwidth_async.pacing import RateLimit

ASK_ABOVE = 100  # ids; more than that are not ended without a yes


@click.command(epilog=exits.HELP)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option(
    "--from",
    "sources",
    multiple=True,
    metavar="FILE|-",
    help="Read ids from a file or standard input: one a line, CSV with a conference_id column, or JSON "
    "lines with that key. Blank lines and # comments are allowed. May be given more than once.",
)
@click.option("--all-active", is_flag=True, help="End every conference that a listing shows as active.")
@selection
@click.option("--rate", type=float, metavar="R", help="Requests per second at most. [default: found out]")
@click.option(
    "--start-rate",
    type=float,
    metavar="R",
    help="Find the rate out, but begin with R requests per second: the summary of an earlier run tells it.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=DEFAULT_CONCURRENCY,
    show_default=True,
    metavar="N",
    help="Conferences in work at once.",
)
@click.option(
    "--deadline",
    metavar="DURATION",
    callback=duration,
    help="Send nothing more after 30s, 10m, 2h or seconds; what is in flight then has 2 s to be answered.",
)
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
    help="Outcomes in columns for people, or as JSON lines for programs. On a terminal, a table of over "
    f"{ASK_ABOVE} shows only those that need a look.",
)
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the outcomes there.")
@click.option("--force", is_flag=True, help="Replace an existing --output file.")
def end(  # noqa: PLR0917 - click passes an option a parameter
    ids: tuple[str, ...],
    sources: tuple[str, ...],
    all_active: bool,
    rate: float | None,
    start_rate: float | None,
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
    limit = _limit(rate, start_rate)
    items: list[str | Conference]
    if all_active:
        if ids or sources:
            raise click.UsageError("--all-active finds the conferences itself: leave out ids and --from")
        items = list(asyncio.run(_listed_as_active(chosen, limit, deadline)))
    elif any(chosen.values()):
        raise click.UsageError("--name, --created-before and --created-after go with --all-active")
    else:
        items = list(_given(ids, sources))
    if maximum is not None and len(items) > maximum:
        raise click.UsageError(f"{_count(items)} are more than --max {maximum:,}; nothing was ended")
    if output is not None and any(_same_file(output, source) for source in sources):
        raise click.UsageError(f"{output} is the input; choose another --output")
    if dry_run:
        return _show(items, form, output, force=force)
    client = VoiceClient.from_env(rate_limit=limit)
    if not items:
        print("there are no conferences to end", file=sys.stderr)
        return exits.Exit.OK
    if not yes and (all_active or len(items) > ASK_ABOVE):
        _ask(items, from_terminal="-" not in sources and sys.stdin.isatty())
    with records.open_output(output, force=force) as stream:
        job = Job(
            items=items,
            concurrency=concurrency,
            deadline=None if deadline is None else max(deadline - (time.monotonic() - started), 0.001),
            strict=strict,
            writer=records.Writer(stream, records.OUTCOMES, as_json=form == "jsonl"),
            every_row=form == "jsonl" or len(items) <= ASK_ABOVE,
            summary_to=sys.stderr if stream is sys.stdout else sys.stdout,
        )
        return asyncio.run(carry_out(client, job))


def _given(ids: tuple[str, ...], sources: tuple[str, ...]) -> dict[str, None]:
    if not ids and not sources:
        raise click.UsageError("what is to end? Give ids, --from FILE or --all-active")
    found = Ids()
    for number, value in enumerate(ids, 1):
        found.add(f"argument {number}", value)
    for source in sources:
        if source == "-":
            found.read(sys.stdin.buffer, "standard input")
            continue
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


async def _listed_as_active(
    chosen: dict[str, Any], limit: RateLimit, deadline: float | None
) -> list[Conference]:
    try:
        async with (
            asyncio.timeout(deadline),
            VoiceClient.from_env(rate_limit=limit, deadline=math.inf) as client,
        ):
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


def _limit(rate: float | None, start: float | None) -> RateLimit:
    if rate is None:
        return RateLimit.adaptive(start=start)
    if start is not None:
        raise click.UsageError(
            "--rate is kept to, --start-rate is where finding out begins: give one of them"
        )
    return RateLimit.fixed(rate)


def _same_file(output: Path, source: str) -> bool:
    return source != "-" and output.exists() and output.samefile(source)


def _show(items: list[str | Conference], form: str, output: Path | None, *, force: bool) -> int:
    with records.open_output(output, force=force) as stream:
        writer = records.Writer(stream, records.Columns({"conference_id": 0}), as_json=form == "jsonl")
        for item in items:
            writer.write({"conference_id": item.id if isinstance(item, Conference) else item})
    print(f"dry run: {_count(items)} would be ended; none was", file=sys.stderr)
    return exits.Exit.OK


def _ask(items: list[str | Conference], *, from_terminal: bool) -> None:
    if not from_terminal:
        raise click.UsageError(f"{_count(items)} would be ended; confirm with --yes (nothing was ended)")
    if not click.confirm(f"End {_count(items)}?", err=True):
        raise click.ClickException("nothing was ended")


def _count(items: list[str | Conference]) -> str:
    return f"{len(items):,} conference{'' if len(items) == 1 else 's'}"
