"""The commands on the journals of runs (``resume``, ``runs``, ``outcomes``), and the journal of a new run."""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from random import Random
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

import click

from bandwidth_async.cli import event_loop, exit_codes, formats, terminal
from bandwidth_async.cli.options import RunOptions, new_client, run_options, sending, table_or_jsonl
from bandwidth_async.cli.run import Run, carry_out, resume_command
from bandwidth_async.errors import JournalError
from bandwidth_async.journal import (
    Journal,
    JournalInfo,
    describe,
    find,
    journals,
    new_journal_path,
    read_outcomes,
    remove,
    state_directory,
)
from bandwidth_async.outcome import OutcomeKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from bandwidth_async.models import Conference

T = TypeVar("T")

_RUNS = formats.Columns(
    {"run": 24, "created": 24, "account_id": 12, "total": 9, "settled": 9, "state": 16, "journal": 0}
)

_INSTEAD = "choose a file with --journal FILE, or keep no journal with --no-journal"


@click.command(epilog=exit_codes.HELP)
@click.argument("journal", metavar="FILE|RUN")
@run_options
@click.option("--yes", is_flag=True, help="Accepted as in end, but not needed: resume never asks.")
@sending
def resume(journal: str, how: RunOptions, yes: bool) -> int:
    """Resume a run: end the conferences that its journal does not have as settled.

    Conferences that are ended, already_ended, not_found or refused are settled. The rest is tried again. If
    the run was stopped before it knew whether a conference ended, and the server no longer finds it, its
    outcome is already_ended. --verify and --hang-up stay on if the first part of the run had them. The exit
    code is that of the whole run. The output has only the outcomes of this part: use outcomes to print all.

    \b
    bandwidth-async resume 20261122T081500Z-3fa9c1
    bandwidth-async resume teardown.journal --rate 50
    """
    del yes
    client = new_client(rate_limit=how.limit())
    path, began = _path_of(journal), time.monotonic()
    try:
        opened = _in_a_thread(lambda: Journal.open(path, account_id=client.account_id))
    except JournalError as error:
        raise click.UsageError(error.message) from error
    try:
        whole = opened.report()
        if not whole.unsettled:
            terminal.say(f"nothing to do: all {whole.total:,} conferences are settled")
            return exit_codes.exit_for_run(whole, strict=how.strict, stopped_by=None)
        with formats.open_output(how.output, force=how.force, keep=[path]) as stream:
            run = Run(source=opened, total=whole.unsettled, how=how.after(began), stream=stream)
            return event_loop.run(carry_out(client, run))
    finally:
        event_loop.run(opened.aclose())


def _in_a_thread(check: Callable[[], T]) -> T:
    """Return the result of a check of a whole journal. SQLite hears no signals, but who waits for it does.

    A signal leaves the thread behind, which ends with the process.
    """
    future: Future[T] = Future()

    def resolve() -> None:
        try:
            future.set_result(check())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=resolve, daemon=True).start()
    return future.result()


@click.command(epilog=exit_codes.HELP)
@table_or_jsonl
def runs(form: str) -> int:
    """List the runs whose journals are in the state directory, oldest first."""
    directory = state_directory(os.environ)
    writer = formats.Writer(sys.stdout, form, _RUNS)
    paths = journals(directory)
    for path in paths:
        try:
            writer.write(_run_record(describe(path)))
        except JournalError as error:
            terminal.complain(str(error))
    if not paths:
        terminal.say(f"there are no journals in {directory}")
    return exit_codes.Exit.OK


@click.command(epilog=exit_codes.HELP)
@click.argument("journal", metavar="FILE|RUN")
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv"]),
    default="jsonl",
    show_default=True,
    help="Print JSON lines, or comma-separated values with a header. In CSV a text that a spreadsheet would "
    "run, such as =1+1, has an apostrophe in front.",
)
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the outcomes to FILE.")
@click.option("--force", is_flag=True, help="Replace an existing --output file.")
def outcomes(journal: str, form: str, output: Path | None, force: bool) -> int:
    """Print the outcome of each id of a run, in the order of its input.

    Ids that were not tried yet are not_attempted. Ids that may have been sent, but have no recorded
    response, are unknown. You may print the outcomes of a run that is still going on.
    """
    path = _path_of(journal)
    try:
        info, rows = describe(path), read_outcomes(path)
    except JournalError as error:
        raise click.UsageError(error.message) from error
    with formats.open_output(output, force=force, keep=[path]) as stream:
        writer = formats.Writer(stream, form, formats.Csv(formats.OUTCOME_KEYS))
        # The check of the whole file comes before the first.
        first = _in_a_thread(lambda: list(islice(rows, 1)))
        for outcome in chain(first, rows):
            writer.write(formats.outcome_record(outcome), at_once=False)
    if not info.complete:
        terminal.say("the input of this run was not recorded to its end; nothing was sent")
    return exit_codes.Exit.OK


def new_file(given: Path | None) -> Path:
    """Return the path of a new journal: ``given``, or a new name in the state directory."""
    if given is not None:
        if given.is_dir():
            raise click.UsageError(f"{given} is a directory; name a file for the journal")
        if given.exists():
            raise click.UsageError(_why_taken(given))
        return given
    try:
        return new_journal_path(state_directory(os.environ), datetime.now(UTC), Random())
    except JournalError as error:
        raise click.UsageError(f"{error}; {_INSTEAD}") from error


def _why_taken(given: Path) -> str:
    if given.is_file() and not given.stat().st_size:
        return f"{given} is an empty file and not a journal; remove it, or choose another file"
    with suppress(JournalError):
        info = describe(given)
        if info.in_use:
            return f"{given} is the journal of a run that is going on; choose another file"
        if not info.complete:
            return f"{given} is the journal of a run that was stopped before it sent anything; remove it"
    return f"{given} exists; resume its run ({resume_command(given)}), or choose another file"


@asynccontextmanager
async def recorded(
    path: Path, account_id: str, items: Sequence[str | Conference], how: RunOptions
) -> AsyncIterator[tuple[Journal, int]]:
    """Yield a new journal that holds the input, and how many ids it kept.

    Remove it if nothing is sent after all.
    """
    try:
        journal = Journal.create(
            path, account_id=account_id, created=time.time(), verify=how.verify, hang_up=how.hang_up
        )
    except JournalError as error:
        raise click.UsageError(f"{error.message}; {_INSTEAD}") from error
    begun = False
    try:
        async with journal:
            recorded = await journal.record(items)
            begun = True
            yield journal, recorded.kept
    except BaseException as error:
        if not begun or isinstance(error, click.UsageError):
            remove(path)
        if isinstance(error, JournalError) and not begun:
            reason = error.message.partition(";")[0]
            raise click.ClickException(f"{reason}; nothing was ended") from error
        raise


def _path_of(name: str) -> Path:
    """Return the path of the journal with this file name or run name."""
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
        "created": formats.iso(info.created),
        "account_id": info.account_id,
        "total": info.total,
        "settled": settled,
        "state": state,
        "journal": str(info.path),
        "counts": {kind.value: info.counts[kind] for kind in OutcomeKind if info.counts[kind]},
    }
