"""``end``: which conferences are to end, and whether that is really meant."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bandwidth_async.cli import exits, journals, loop, records
from bandwidth_async.cli.ids import Ids
from bandwidth_async.cli.job import Job, carry_out
from bandwidth_async.cli.options import RunOptions, run_options, selection
from bandwidth_async.client import VoiceClient
from bandwidth_async.errors import BandwidthError, DeadlineExceededError
from bandwidth_async.models import Conference
from bandwidth_async.wire import printable

if TYPE_CHECKING:
    from bandwidth_async.limiter import RateLimit

ASK_ABOVE = 100  # ids; more than that are not ended without a yes, nor without a journal


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
@run_options
@click.option("--dry-run", is_flag=True, help="Show what would be ended, and send no end.")
@click.option("--yes", is_flag=True, help=f"Do not ask, as --all-active and over {ASK_ABOVE} ids do.")
@click.option("--max", "maximum", type=click.IntRange(min=0), metavar="N", help="Refuse to end more than N.")
@click.option(
    "--journal",
    "journal_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Keep the journal in FILE, which must be new. [default: a new file in the state directory, for more "
    f"than {ASK_ABOVE} ids]",
)
@click.option("--no-journal", is_flag=True, help="Keep no journal: the run cannot be resumed.")
def end(  # noqa: PLR0917 - click passes an option a parameter
    ids: tuple[str, ...],
    sources: tuple[str, ...],
    all_active: bool,
    how: RunOptions,
    dry_run: bool,
    yes: bool,
    maximum: int | None,
    journal_file: Path | None,
    no_journal: bool,
    **chosen: Any,
) -> int:
    """End conferences: the members are ejected, their calls go on.

    Each conference of the input gets one outcome: ended, already_ended, not_found, refused (the server
    said no and would say so again), failed (given up, surely not ended; or, with --hang-up, some of its
    calls go on), unknown (given up, may have ended) or not_attempted. Exits 0 when no conference is left
    active as far as the server says, and 3 when not one was found.

    The journal records the input first and then each outcome, so that a run that was stopped or killed can
    be gone on with: see bandwidth-async resume.

    \b
    bandwidth-async end conf-1 conf-2
    bandwidth-async end --from ids.txt --rate 50 --output outcomes.jsonl --format jsonl
    bandwidth-async list --active --format jsonl | bandwidth-async end --from - --yes
    """
    limit = how.limit()
    if journal_file is not None and (no_journal or dry_run):
        raise click.UsageError(
            f"--journal and {'--dry-run' if dry_run else '--no-journal'}: give one of them"
        )
    began = time.monotonic()
    items: list[str | Conference]
    if all_active:
        if ids or sources:
            raise click.UsageError("--all-active finds the conferences itself: leave out ids and --from")
        items = list(loop.run(_listed_as_active(chosen, limit, how.deadline)))
    elif any(chosen.values()):
        raise click.UsageError("--name, --created-before and --created-after go with --all-active")
    else:
        items = list(_given(ids, sources))
    how = how.after(began)
    if maximum is not None and len(items) > maximum:
        raise click.UsageError(f"{_count(items)} are more than --max {maximum:,}; nothing was ended")
    files = [Path(source) for source in sources if source != "-"]
    if dry_run:
        return _show(items, how, files)
    client = VoiceClient.from_env(rate_limit=limit)
    if not items:
        print("there are no conferences to end", file=sys.stderr)
        return exits.Exit.OK
    if not yes and (all_active or len(items) > ASK_ABOVE):
        _ask(items, from_terminal="-" not in sources and sys.stdin is not None and sys.stdin.isatty())
    if no_journal or (journal_file is None and len(items) <= ASK_ABOVE):
        return loop.run(_end(client, items, how, files))
    return loop.run(_end_on_record(client, items, how, files, journals.new_file(journal_file)))


async def _end(client: VoiceClient, items: list[str | Conference], how: RunOptions, files: list[Path]) -> int:
    with records.open_output(how.output, force=how.force, keep=files) as stream:
        return await carry_out(client, Job(source=items, total=len(items), how=how, stream=stream))


async def _end_on_record(
    client: VoiceClient, items: list[str | Conference], how: RunOptions, files: list[Path], path: Path
) -> int:
    began = time.monotonic()
    async with journals.recorded(path, client.account_id, items, how) as journal:
        with records.open_output(how.output, force=how.force, keep=[*files, path]) as stream:
            print(f"journal: {printable(str(path))}", file=sys.stderr)
            job = Job(source=journal, total=len(items), how=how.after(began), stream=stream)
            return await carry_out(client, job)


def _given(ids: tuple[str, ...], sources: tuple[str, ...]) -> dict[str, None]:
    if not ids and not sources:
        raise click.UsageError("what is to end? Give ids, --from FILE or --all-active")
    found = Ids()
    for number, value in enumerate(ids, 1):
        found.add(f"argument {number}", value)
    for source in sources:
        if source == "-":
            if sys.stdin is None:
                raise click.UsageError("standard input is closed; there are no ids to read from it")
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


def _show(items: list[str | Conference], how: RunOptions, files: list[Path]) -> int:
    with records.open_output(how.output, force=how.force, keep=files) as stream:
        form = records.JsonLines() if how.form == "jsonl" else records.Columns({"conference_id": 0})
        writer = records.Writer(stream, form)
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
