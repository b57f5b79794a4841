"""The commands on the journals of runs (``resume``, ``runs``, ``outcomes``), and the journal of a new run."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from random import Random
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bandwidth_async.cli import event_loop, exit_codes, formats, terminal
from bandwidth_async.cli.options import RunOptions, in_a_format, new_client, run_options, sending
from bandwidth_async.cli.report_file import check_options, reported
from bandwidth_async.cli.run import Run, carry_out, plural, resume_command
from bandwidth_async.cli.run_state import in_words
from bandwidth_async.errors import JournalError
from bandwidth_async.journal import (
    Journal,
    JournalInfo,
    Recorded,
    describe,
    find,
    gaps,
    journals,
    new_journal_path,
    read_outcomes,
    remove,
    state_directory,
)
from bandwidth_async.outcome import OutcomeKind, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bandwidth_async.cli.inputs import Input
    from bandwidth_async.client import VoiceClient
    from bandwidth_async.models import Conference
    from bandwidth_async.outcome import Outcome

T = TypeVar("T")

_RUNS = formats.Table(
    {"run": 24, "state": 16, "settled": 9, "total": 9, "account_id": 12, "created": 24, "journal": 0},
    ("run", "created", "account_id", "total", "settled", "state", "shard", "journal", "counts"),
)

# Ids of an input that are recorded at a time, and seconds between two lines of progress.
_PART, _SAY_EVERY = 10_000, 5.0

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
    path, began = _path_of(journal), time.monotonic()
    check_options(how, keep=[path])
    client = new_client(rate_limit=how.limit())
    try:
        opened = in_a_thread(lambda: Journal.open(path, account_id=client.account_id))
    except JournalError as error:
        raise click.UsageError(error.message) from error
    return reported(how, path, lambda: go_on(client, opened, how.after(began), append=False))


def go_on(client: VoiceClient, journal: Journal, how: RunOptions, *, append: bool) -> int:
    """End what a journal has unsettled, and close it. Return the exit code of the whole run."""
    began = time.monotonic()
    try:
        whole = journal.report()
        if not whole.unsettled:
            terminal.say(f"nothing to do: all {whole.total:,} conferences are settled")
            if how.output is None:
                formats.write_none(how.form, formats.OUTCOMES)
            return exit_codes.exit_for_run(whole, strict=how.strict, stopped_by=None)
        behind = how.form if append else None
        with formats.open_output(how.output, force=how.force, behind=behind, keep=[journal.path]) as stream:
            run = Run(source=journal, total=whole.unsettled, how=how.after(began), stream=stream)
            return event_loop.run(carry_out(client, run))
    finally:
        event_loop.run(journal.aclose())


def in_a_thread(check: Callable[[], T]) -> T:
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
@click.argument("names", nargs=-1, metavar="[FILE|RUN]...")
@in_a_format
def runs(names: tuple[str, ...], form: str | None) -> int:
    """List runs by their journals: those you name, or those in the state directory, oldest first.

    For those you name, the exit code is that of the worst run, and 1 if a shard of them is missing.
    """
    paths = paths_of(names) if names else journals(state_directory(os.environ))
    found: list[JournalInfo] = []
    with formats.Writer(sys.stdout, formats.form_for(form, None), _RUNS) as writer:
        for path in paths:
            try:
                found.append(describe(path))
                writer.write(_run_record(found[-1]))
            except JournalError as error:
                terminal.complain(str(error))
    if not paths:
        terminal.say(f"there are no journals in {state_directory(os.environ)}")
    if not names:
        return exit_codes.Exit.OK
    return sum_up(found, unreadable=len(paths) - len(found))


@click.command(epilog=exit_codes.HELP)
@click.argument("names", nargs=-1, required=True, metavar="FILE|RUN...")
@in_a_format
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the outcomes to FILE.")
@click.option("--force", is_flag=True, help="Replace an existing --output file.")
def outcomes(names: tuple[str, ...], form: str | None, output: Path | None, force: bool) -> int:
    """Print the outcome of each id of a run, in the order of its input; or of several runs.

    Ids that were not tried yet are not_attempted. Ids that may have been sent, but have no recorded
    response, are unknown. You may print the outcomes of a run that is still going on.

    Of several journals, such as those of shards, it also prints the totals. The exit code then is that of the
    worst run, and 1 if a shard of them is missing.
    """
    paths = paths_of(names)
    try:
        found = [describe(path) for path in paths]
        form = formats.form_for(form, output, "jsonl")
        with (
            formats.open_output(output, force=force, keep=paths) as stream,
            formats.Writer(stream, form, formats.OUTCOMES) as writer,
        ):
            for path in paths:
                _print_outcomes(read_outcomes(path), writer)
    except JournalError as error:
        raise click.UsageError(error.message) from error
    for info in found:
        if not info.complete:
            name = f" ({info.path})" if len(found) > 1 else ""
            terminal.say(f"the input of this run was not recorded to its end; nothing was sent{name}")
    return sum_up(found) if len(found) > 1 else exit_codes.Exit.OK


def _print_outcomes(rows: Iterator[Outcome], writer: formats.Writer) -> None:
    # The check of the whole file comes before the first.
    first = in_a_thread(lambda: list(islice(rows, 1)))
    for outcome in chain(first, rows):
        writer.write(formats.outcome_record(outcome), at_once=False)


def sum_up(found: Sequence[JournalInfo], unreadable: int = 0) -> int:
    """Print the totals of several journals, and which shards are missing. Return the worst exit code."""
    counts = sum((info.counts for info in found), Counter[str]())
    journals_found, conferences = plural(len(found), "journal"), plural(counts.total(), "conference")
    terminal.say(f"{journals_found}, {conferences}: {in_words(counts) or 'none'}")
    codes = [
        exit_codes.exit_for_run(
            Report(counts=info.counts, complete=info.complete), strict=False, stopped_by=None
        )
        for info in found
    ]
    missing = gaps([info.shard for info in found if info.shard is not None])
    if len({info.digest for info in found if info.shard and info.digest}) > 1:
        missing.append("these shards are not of the same input: an id may be in none of them")
    for gap in missing:
        terminal.say(gap)
    # Of the codes that there can be here, 1 is worse than 3.
    worst = bool(missing or unreadable) or exit_codes.Exit.GENERAL in codes
    return exit_codes.Exit.GENERAL if worst else max(codes, default=0)


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


def made(path: Path, account_id: str, how: RunOptions, given: Input) -> Journal:
    """Make the journal of a new run."""
    try:
        return Journal.create(path, **_facts(account_id, how, given))
    except JournalError as error:
        raise click.UsageError(f"{error.message}; {_INSTEAD}") from error


def opened_or_made(path: Path, account_id: str, how: RunOptions, given: Input) -> Journal:
    """Open the journal of an earlier start of this command, or make it."""
    if path.is_dir():
        raise click.UsageError(f"{path} is a directory; name a file for the journal")
    was_there, facts = path.exists(), _facts(account_id, how, given)
    try:
        journal = in_a_thread(lambda: Journal.open_or_create(path, **facts))
    except JournalError as error:
        if error.in_use:
            raise
        raise click.UsageError(error.message) from error
    if was_there and not journal.recorded:
        terminal.say(f"the input of {path} was cut off before anything was sent: the run starts over")
    return journal


def _facts(account_id: str, how: RunOptions, given: Input) -> dict[str, Any]:
    return {
        "account_id": account_id,
        "created": time.time(),
        "verify": how.verify,
        "hang_up": how.hang_up,
        "shard": given.shard,
        "digest": given.digest(),
    }


def record(loop: event_loop.Loop, journal: Journal, items: Iterator[str | Conference]) -> Recorded:
    """Record an input, but do not complete it. Return its totals.

    To read a part of it may block, so that happens outside of the event loop.
    """
    recorded, said_at = Recorded(0, 0), time.monotonic()
    while part := list(islice(items, _PART)):
        recorded = loop.run(journal.record(part, whole=False))
        if time.monotonic() - said_at >= _SAY_EVERY:
            said_at = time.monotonic()
            terminal.say(f"{time.strftime('%H:%M:%S')} reading the input: {recorded.kept:,} ids so far")
    return recorded


@contextmanager
def kept_if_begun(loop: event_loop.Loop, journal: Journal) -> Iterator[None]:
    """Close a journal at the end. Remove it first if its run was never to begin."""
    try:
        yield
    except BaseException as error:
        if not journal.recorded:
            # While it is locked: the same command may have been started a second time.
            remove(journal.path)
            if isinstance(error, JournalError):
                reason = error.message.partition(";")[0]
                raise click.ClickException(f"{reason}; nothing was ended") from error
        raise
    finally:
        loop.run(journal.aclose())


def paths_of(names: Sequence[str]) -> list[Path]:
    """Return the paths of journals, each once."""
    return list({path.resolve(): path for path in map(_path_of, names)}.values())


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
        "shard": str(info.shard) if info.shard else None,
        "counts": {kind.value: info.counts[kind] for kind in OutcomeKind if info.counts[kind]},
    }
