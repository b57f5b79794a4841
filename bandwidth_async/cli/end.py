"""The command ``end``: it finds the conferences to end, asks for a yes, and starts the run."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from bandwidth_async.cli import event_loop, exit_codes, formats, journals, terminal
from bandwidth_async.cli.ids import Ids
from bandwidth_async.cli.options import RunOptions, new_client, run_options, selection, sending
from bandwidth_async.cli.run import Run, carry_out, refusal_until
from bandwidth_async.client import VoiceClient
from bandwidth_async.errors import DeadlineExceededError
from bandwidth_async.models import Conference

if TYPE_CHECKING:
    from bandwidth_async.limiter import RateLimit

# The command ends more ids than this only after a yes, and keeps a journal for them.
ASK_ABOVE = 100


@click.command(epilog=exit_codes.HELP)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option(
    "--from",
    "sources",
    multiple=True,
    metavar="FILE|-",
    help="Read ids from a file or standard input: one id a line, CSV with a conference_id column, or JSON "
    "lines with that key. Blank lines and # comments are allowed. You may give it more than once.",
)
@click.option("--all-active", is_flag=True, help="End every conference that the server lists as active.")
@selection
@run_options
@click.option("--dry-run", is_flag=True, help="Show which conferences would be ended, and end none.")
@click.option(
    "--yes",
    is_flag=True,
    help=f"Do not ask for confirmation, which --all-active and more than {ASK_ABOVE} ids otherwise need.",
)
@click.option("--max", "maximum", type=click.IntRange(min=0), metavar="N", help="Refuse to end more than N.")
@click.option(
    "--journal",
    "journal_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Keep the journal in FILE, which must be new. [default: a new file in the state directory, for more "
    f"than {ASK_ABOVE} ids]",
)
@click.option("--no-journal", is_flag=True, help="Keep no journal. You cannot resume the run then.")
@sending
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
    """End conferences. Their calls go on unless you give --hang-up.

    Ending a conference ejects its members. Each conference gets one outcome:

    \b
      ended          this run ended it
      already_ended  it is over, but perhaps not through this run
      not_found      the server does not know it
      refused        the server said no, and would say no again
      failed         gave up; it was certainly not ended, or with --hang-up
                     some of its calls go on
      unknown        gave up; it may have ended
      not_attempted  the run stopped before its turn

    Exits 0 when, as far as the server says, none of the conferences is active. Exits 3 when not one was
    found.

    The journal records the input first and then each outcome, so you can resume a run that was stopped or
    killed: see bandwidth-async resume.

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
    if all_active and (ids or sources):
        raise click.UsageError("--all-active finds the conferences itself: leave out ids and --from")
    if any(chosen.values()) and not all_active:
        raise click.UsageError("--name, --created-before and --created-after go with --all-active")
    began = time.monotonic()
    if all_active:
        items = event_loop.run(_listed_as_active(chosen, limit, how.deadline))
    else:
        items = _given(ids, sources)
    how = how.after(began)
    if maximum is not None and len(items) > maximum:
        raise click.UsageError(f"{_count(items)} are more than --max {maximum:,}; nothing was ended")
    files = [Path(source) for source in sources if source != "-"]
    if dry_run:
        return _print_ids(items, how, files)
    client = new_client(rate_limit=limit)
    if not items:
        terminal.say("there are no conferences to end")
        return exit_codes.Exit.OK
    if not yes and (all_active or len(items) > ASK_ABOVE):
        there_is_one = sys.stdin is not None and not isinstance(sys.stderr, terminal.Closed)
        _ask(items, from_terminal=there_is_one and "-" not in sources and sys.stdin.isatty())
    path = None
    if not no_journal and (journal_file is not None or len(items) > ASK_ABOVE):
        path = journals.new_file(journal_file)
    began = time.monotonic()
    # The output comes first: opening a pipe waits for its reader, and until then nothing is left behind.
    keep = files if path is None else [*files, path]
    with formats.open_output(how.output, force=how.force, keep=keep) as stream:
        how = how.after(began)
        if path is None:
            run = Run(source=items, total=len(items), how=how, stream=stream)
            return event_loop.run(carry_out(client, run))
        return event_loop.run(_end_on_record(client, items, how, path, stream))


async def _end_on_record(
    client: VoiceClient, items: list[str | Conference], how: RunOptions, path: Path, stream: IO[str]
) -> int:
    began = time.monotonic()
    async with journals.recorded(path, client.account_id, items, how) as (journal, kept):
        terminal.say(f"journal: {path}")
        run = Run(source=journal, total=kept, how=how.after(began), stream=stream)
        return await carry_out(client, run)


def _given(ids: tuple[str, ...], sources: tuple[str, ...]) -> list[str | Conference]:
    """Return the ids of the arguments and files, each once. A bad line anywhere is a usage error."""
    if not ids and not sources:
        raise click.UsageError("name the conferences to end: give ids, --from FILE or --all-active")
    found = Ids()
    for number, value in enumerate(ids, 1):
        found.add(f"argument {number}", value)
    for source in sources:
        if source == "-":
            if sys.stdin is None:
                raise click.UsageError("cannot read ids from standard input: it is closed")
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
        terminal.say(f"{found.duplicates:,} duplicate ids dropped")
    return list(found.unique)


async def _listed_as_active(
    chosen: dict[str, Any], limit: RateLimit, deadline: float | None
) -> list[str | Conference]:
    """Return the active conferences, each once: one that moves to the next page is listed on both."""
    client = new_client(rate_limit=limit, deadline=deadline or math.inf)
    try:
        async with asyncio.timeout(deadline), client:
            listing = client.list_conferences(
                name=chosen["name"],
                min_created_time=chosen["created_after"],
                max_created_time=chosen["created_before"],
            )
            active = {conference.id: conference async for conference in listing if conference.active}
            return list(active.values())
    except TimeoutError as error:
        early = error.last_error if isinstance(error, DeadlineExceededError) else None
        last = early or refusal_until(client, deadline)
        met = f"; the last attempt met: {last.message}" if last else ""
        raise DeadlineExceededError(
            f"the deadline came during the listing; nothing was ended{met}", last_error=last
        ) from None


def _print_ids(items: list[str | Conference], how: RunOptions, files: list[Path]) -> int:
    with formats.open_output(how.output, force=how.force, keep=files) as stream:
        writer = formats.Writer(stream, how.form, formats.Columns({"conference_id": 0}))
        for item in items:
            writer.write({"conference_id": item.id if isinstance(item, Conference) else item}, at_once=False)
    terminal.say(f"dry run: {_count(items)} would be ended; none was")
    return exit_codes.Exit.OK


def _ask(items: list[str | Conference], *, from_terminal: bool) -> None:
    if not from_terminal:
        raise click.UsageError(f"nothing was ended: confirm with --yes to end {_count(items)}")
    try:
        sure = click.confirm(f"End {_count(items)}?", err=True)
    except click.Abort:
        terminal.say("")
        raise click.ClickException(
            "nothing was ended: the input ended without an answer; confirm with --yes"
        ) from None
    if not sure:
        raise click.ClickException("nothing was ended")


def _count(items: list[str | Conference]) -> str:
    return f"{len(items):,} conference{'' if len(items) == 1 else 's'}"
