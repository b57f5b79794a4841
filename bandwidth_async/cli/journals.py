"""``resume``, ``runs`` and ``outcomes``: journals of runs, gone on with and looked at."""

from __future__ import annotations

import os
import sys
import time
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import click

from bandwidth_async.cli import exits, loop, records
from bandwidth_async.cli.job import Job, carry_out, how_to_go_on
from bandwidth_async.cli.options import RunOptions, run_options, table_or_jsonl
from bandwidth_async.client import VoiceClient
from bandwidth_async.errors import JournalError
from bandwidth_async.journal import (
    Journal,
    JournalInfo,
    describe,
    find,
    journals,
    new_journal_path,
    read_outcomes,
    state_directory,
)
from bandwidth_async.outcome import OutcomeKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from bandwidth_async.models import Conference

_RUNS = records.Columns(
    {"run": 24, "created": 24, "account_id": 12, "total": 9, "settled": 9, "state": 16, "journal": 0}
)


@click.command(epilog=exits.HELP)
@click.argument("journal", metavar="FILE|RUN")
@run_options
@click.option(
    "--yes", is_flag=True, help="Taken as end takes it; what was agreed to once is not asked again."
)
def resume(journal: str, how: RunOptions, yes: bool) -> int:
    """Go on with a run: end what its journal does not hold as settled.

    Settled is what ended, had already_ended, was not_found or was refused; the rest is tried again. What
    may have been ended when the run was cut off counts as already_ended when it is found no more.
    --verify and --hang-up hold on from the run's first part. The exit
    code speaks of the whole run, the outcomes written are of this part: outcomes prints all of them.

    \b
    bandwidth-async resume 20261122T081500Z-3fa9c1
    bandwidth-async resume teardown.journal --rate 50
    """
    del yes  # nothing is asked here, so there is nothing to agree to
    client = VoiceClient.from_env(rate_limit=how.limit())
    return loop.run(_resume(client, _path_of(journal), how))


async def _resume(client: VoiceClient, path: Path, how: RunOptions) -> int:
    began = time.monotonic()
    try:
        journal = Journal.open(path, account_id=client.account_id)
    except JournalError as error:
        raise click.UsageError(error.message) from error
    async with journal:
        whole = journal.report()
        if not whole.unsettled:
            print(f"nothing to do: all {whole.total:,} conferences are settled", file=sys.stderr)
            return exits.exit_for_run(whole, strict=how.strict, stopped_by=None)
        with records.open_output(how.output, force=how.force, keep=[path]) as stream:
            job = Job(source=journal, total=whole.unsettled, how=how.after(began), stream=stream)
            return await carry_out(client, job)


@click.command(epilog=exits.HELP)
@table_or_jsonl
def runs(form: str) -> int:
    """List the runs whose journals are in the state directory, oldest first."""
    directory = state_directory(os.environ)
    writer = records.Writer(sys.stdout, records.JsonLines() if form == "jsonl" else _RUNS)
    paths = journals(directory)
    for path in paths:
        try:
            writer.write(_run_record(describe(path)))
        except JournalError as error:
            print(f"bandwidth-async: {error}", file=sys.stderr)
    if not paths:
        print(f"there are no journals in {directory}", file=sys.stderr)
    return exits.Exit.OK


@click.command(epilog=exits.HELP)
@click.argument("journal", metavar="FILE|RUN")
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv"]),
    default="jsonl",
    show_default=True,
    help="JSON lines, or comma-separated values with a header.",
)
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the outcomes there.")
@click.option("--force", is_flag=True, help="Replace an existing --output file.")
def outcomes(journal: str, form: str, output: Path | None, force: bool) -> int:
    """Print what became of each id of a run, in the order of its input.

    What was not tried yet is not_attempted; what may have been sent, but has no answer on record, is
    unknown. The run may be under way meanwhile.
    """
    path = _path_of(journal)
    try:
        info, rows = describe(path), read_outcomes(path)
    except JournalError as error:
        raise click.UsageError(error.message) from error
    with records.open_output(output, force=force, keep=[path]) as stream:
        writer = records.Writer(
            stream, records.JsonLines() if form == "jsonl" else records.Csv(records.OUTCOME_KEYS)
        )
        for outcome in rows:
            writer.write(records.outcome_record(outcome))
    if not info.complete:
        print("the input of this run was not recorded to its end; nothing of it was sent", file=sys.stderr)
    return exits.Exit.OK


def new_file(given: Path | None) -> Path:
    """Return where a new journal is to be: ``given``, or a name of its own in the state directory."""
    if given is not None:
        if given.is_dir():
            raise click.UsageError(f"{given} is a directory; name a file for the journal")
        if given.exists():
            raise click.UsageError(_taken(given))
        return given
    try:
        return new_journal_path(state_directory(os.environ), datetime.now(UTC), Random())
    except JournalError as error:
        raise click.UsageError(
            f"{error}; say where to keep the journal with --journal FILE, or do without by --no-journal"
        ) from error


def _taken(given: Path) -> str:
    with suppress(JournalError):
        if not describe(given).complete:
            return f"{given} is of a run that was cut off before it sent anything; remove it"
    return f"{given} exists; go on with it ({how_to_go_on(given)}), or choose another file"


@asynccontextmanager
async def recorded(
    path: Path, account_id: str, items: Sequence[str | Conference], how: RunOptions
) -> AsyncIterator[Journal]:
    """Yield a new journal that holds the input; leave none behind when nothing is sent after all."""
    try:
        journal = Journal.create(
            path, account_id=account_id, created=time.time(), verify=how.verify, hang_up=how.hang_up
        )
    except JournalError as error:
        raise click.UsageError(error.message) from error
    begun = False
    try:
        async with journal:
            await journal.record(items)
            begun = True
            yield journal
    except BaseException as error:
        if not begun or isinstance(error, click.UsageError):
            path.unlink()  # noqa: ASYNC240 - one small file, and nothing else is under way
        if isinstance(error, JournalError) and not begun:
            reason = error.message.partition(";")[0]
            raise click.ClickException(f"{reason}; nothing was ended") from error
        raise


def _path_of(name: str) -> Path:
    """Return the journal that a file's name or a run's name means."""
    path = Path(name)
    if path.exists():
        return path
    try:
        return find(state_directory(os.environ), name)
    except JournalError as error:
        raise click.UsageError(f"there is no file {name}; {error}") from error


def _run_record(info: JournalInfo) -> dict[str, object]:
    settled = sum(info.counts[kind] for kind in OutcomeKind if kind.settled)
    if info.in_use:
        state = "in use"
    elif not info.complete:
        state = "input incomplete"
    else:
        state = "finished" if settled == info.total else "unfinished"
    return {
        "run": info.path.stem,
        "created": records.iso(info.created),
        "account_id": info.account_id,
        "total": info.total,
        "settled": settled,
        "state": state,
        "journal": str(info.path),
        "counts": {kind.value: info.counts[kind] for kind in OutcomeKind if info.counts[kind]},
    }
