"""The commands on the journals of runs (``resume``, ``runs``, ``outcomes``), and the journal of a new run."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bandwidth_async import journal as stored
from bandwidth_async import outcome
from bandwidth_async.cli import event_loop, exit_codes, formats, report_file, run, run_state, terminal
from bandwidth_async.cli.choices import complete_runs
from bandwidth_async.cli.options import in_a_format, new_client, of_kinds, run_options, sending
from bandwidth_async.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bandwidth_async.cli.inputs import Input
    from bandwidth_async.cli.run import RunOptions
    from bandwidth_async.client import VoiceClient
    from bandwidth_async.journal import Journal, JournalInfo, Recorded
    from bandwidth_async.models import Conference
    from bandwidth_async.outcome import Outcome

T = TypeVar("T")

# Ids of an input that are recorded at a time, and seconds between two lines of progress.
_PART, _SAY_EVERY = 10_000, 5.0

_INSTEAD = "choose a file with --journal FILE, or keep no journal with --no-journal"


@click.command(epilog=exit_codes.HELP)
@click.argument("journal", metavar="FILE|RUN", shell_complete=complete_runs)
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
    report_file.check_options(how, keep=[path])
    client = new_client(rate_limit=how.limit())
    try:
        opened = in_a_thread(lambda: stored.Journal.open(path, account_id=client.account_id))
    except JournalError as error:
        raise click.UsageError(error.message) from error
    return report_file.reported(how, path, lambda: go_on(client, opened, how.after(began), append=False))


def go_on(client: VoiceClient, journal: Journal, how: RunOptions, *, append: bool) -> int:
    """End what a journal has unsettled, and close it. Return the exit code of the whole run."""
    began = time.monotonic()
    try:
        whole = journal.report()
        if not whole.unsettled:
            terminal.say(f"nothing to do: all {whole.total:,} conferences are settled")
            if how.output is None:
                formats.write_none(how.form, formats.OUTCOMES)
            return how.exit_code(whole)
        behind = how.form if append else None
        with formats.open_output(how.output, force=how.force, behind=behind, keep=[journal.path]) as stream:
            job = run.Run(source=journal, total=whole.unsettled, how=how.after(began), stream=stream)
            return event_loop.run(run.carry_out(client, job))
    finally:
        event_loop.run(journal.aclose())


def in_a_thread(check: Callable[[], T]) -> T:
    """Return the result of a check of a whole journal. SQLite hears no signals, but who waits for it does.

    A signal leaves the thread behind, which ends with the process.
    """
    from concurrent.futures import Future  # noqa: PLC0415 - not for --help

    future: Future[T] = Future()

    def resolve() -> None:
        try:
            future.set_result(check())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=resolve, daemon=True).start()
    return future.result()


@click.command(epilog=exit_codes.HELP)
@click.argument("names", nargs=-1, metavar="[FILE|RUN]...", shell_complete=complete_runs)
@in_a_format
def runs(names: tuple[str, ...], form: str | None) -> int:
    """List runs by their journals: those you name, or those in the state directory, oldest first.

    For those you name, the exit code is that of the worst run, and 1 if a shard of them is missing.
    """
    paths = paths_of(names) if names else stored.journals(stored.state_directory(os.environ))
    found: list[JournalInfo] = []
    with formats.Writer(sys.stdout, formats.form_for(form, None), formats.RUNS) as writer:
        for path in paths:
            try:
                found.append(stored.describe(path))
                writer.write(_run_record(found[-1]))
            except JournalError as error:
                terminal.complain(str(error))
    if not paths:
        terminal.say(f"there are no journals in {stored.state_directory(os.environ)}")
    if not names:
        return exit_codes.Exit.OK
    return sum_up(found, unreadable=len(paths) - len(found))


@click.command(epilog=exit_codes.HELP)
@click.argument("names", nargs=-1, required=True, metavar="FILE|RUN...", shell_complete=complete_runs)
@in_a_format
@of_kinds
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the outcomes to FILE.")
@click.option("--force", is_flag=True, help="Replace an existing --output file.")
def outcomes(
    names: tuple[str, ...],
    form: str | None,
    only: frozenset[str] | None,
    output: Path | None,
    force: bool,
) -> int:
    """Print the outcome of each id of a run, in the order of its input; or of several runs.

    Ids that were not tried yet are not_attempted. Ids that may have been sent, but have no recorded
    response, are unknown. You may print the outcomes of a run that is still going on.

    Of several journals, such as those of shards, it also prints the totals. The exit code then is that of the
    worst run, and 1 if a shard of them is missing.
    """
    paths = paths_of(names)
    try:
        found = [stored.describe(path) for path in paths]
        form = formats.form_for(form, output, "jsonl")
        with (
            formats.open_output(output, force=force, keep=paths) as stream,
            formats.Writer(stream, form, formats.OUTCOMES) as writer,
        ):
            for path in paths:
                _print_outcomes(stored.read_outcomes(path), writer, only)
    except JournalError as error:
        raise click.UsageError(error.message) from error
    for info in found:
        if not info.complete:
            name = f" ({info.path})" if len(found) > 1 else ""
            terminal.say(f"the input of this run was not recorded to its end; nothing was sent{name}")
    return sum_up(found) if len(found) > 1 else exit_codes.Exit.OK


def _print_outcomes(rows: Iterator[Outcome], writer: formats.Writer, only: frozenset[str] | None) -> None:
    # The check of the whole file comes before the first.
    first = in_a_thread(lambda: list(islice(rows, 1)))
    for row in chain(first, rows):
        if only is None or row.kind in only:
            writer.write(formats.outcome_record(row), at_once=False)


def sum_up(found: Sequence[JournalInfo], unreadable: int = 0) -> int:
    """Print the totals of several journals, and which shards are missing. Return the worst exit code."""
    counts = sum((info.counts for info in found), Counter[str]())
    journals_found, conferences = run.plural(len(found), "journal"), run.plural(counts.total(), "conference")
    terminal.say(f"{journals_found}, {conferences}: {run_state.in_words(counts) or 'none'}")
    codes = [
        exit_codes.exit_for_run(
            outcome.Report(counts=info.counts, complete=info.complete), strict=False, stopped_by=None
        )
        for info in found
    ]
    missing = stored.gaps([info.shard for info in found if info.shard is not None])
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
    from random import Random  # noqa: PLC0415 - not for --help

    try:
        return stored.new_journal_path(stored.state_directory(os.environ), datetime.now(UTC), Random())
    except JournalError as error:
        raise click.UsageError(f"{error}; {_INSTEAD}") from error


def _why_taken(given: Path) -> str:
    if given.is_file() and not given.stat().st_size:
        return f"{given} is an empty file and not a journal; remove it, or choose another file"
    with suppress(JournalError):
        info = stored.describe(given)
        if info.in_use:
            return f"{given} is the journal of a run that is going on; choose another file"
        if not info.complete:
            return f"{given} is the journal of a run that was stopped before it sent anything; remove it"
    return f"{given} exists; resume its run ({run.resume_command(given)}), or choose another file"


def made(path: Path, account_id: str, how: RunOptions, given: Input) -> Journal:
    """Make the journal of a new run."""
    try:
        return stored.Journal.create(path, **_facts(account_id, how, given))
    except JournalError as error:
        raise click.UsageError(f"{error.message}; {_INSTEAD}") from error


def opened_or_made(path: Path, account_id: str, how: RunOptions, given: Input) -> Journal:
    """Open the journal of an earlier start of this command, or make it."""
    if path.is_dir():
        raise click.UsageError(f"{path} is a directory; name a file for the journal")
    was_there, facts = path.exists(), _facts(account_id, how, given)
    try:
        journal = in_a_thread(lambda: stored.Journal.open_or_create(path, **facts))
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
    recorded, said_at = stored.Recorded(0, 0), time.monotonic()
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
            stored.remove(journal.path)
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
        return stored.find(stored.state_directory(os.environ), name)
    except JournalError as error:
        raise click.UsageError(f"there is no file {name}; {error}") from error


def _run_record(info: JournalInfo) -> dict[str, object]:
    settled = sum(info.counts[kind] for kind in outcome.OutcomeKind if kind.settled)
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
        "counts": {kind.value: info.counts[kind] for kind in outcome.OutcomeKind if info.counts[kind]},
    }
