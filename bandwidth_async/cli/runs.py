"""The commands on the journals of runs: ``resume``, ``runs`` and ``outcomes``."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bandwidth_async.cli import exit_codes, formats, prune, terminal
from bandwidth_async.cli.account_options import account_options
from bandwidth_async.cli.journals import go_on, in_a_thread
from bandwidth_async.cli.options import RunOptions, in_a_format, new_client, run_options, sending
from bandwidth_async.cli.run import plural
from bandwidth_async.cli.run_names import last_run, path_of, paths_of
from bandwidth_async.cli.run_state import in_words
from bandwidth_async.errors import JournalError
from bandwidth_async.journal import (
    Journal,
    JournalInfo,
    Shard,
    describe,
    journals,
    read_outcomes,
    state_directory,
)
from bandwidth_async.outcome import OutcomeKind, Report

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bandwidth_async.outcome import Outcome

_RUNS = formats.Table(
    {
        "run": 24,
        "state": 16,
        "size": 8,
        "settled": 9,
        "total": 9,
        "account_id": 12,
        "created": 24,
        "journal": 0,
    },
    (
        "run",
        "created",
        "account_id",
        "total",
        "settled",
        "state",
        "process",
        "size",
        "shard",
        "journal",
        "counts",
    ),
)


@click.command(epilog=exit_codes.HELP)
@click.argument("journal", required=False, metavar="[FILE|RUN]")
@run_options
@click.option("--yes", is_flag=True, help="Accepted as in end, but not needed: resume never asks.")
@sending
def resume(journal: str | None, how: RunOptions, yes: bool) -> int:
    """Resume a run: end the conferences that its journal does not have as settled.

    RUN is the name of a run, or its beginning if no other run begins so. Without it, the last run of this
    account is resumed.

    Conferences that are ended, already_ended, not_found or refused are settled. The rest is tried again. If
    the run was stopped before it knew whether a conference ended, and the server no longer finds it, its
    outcome is already_ended. --verify and --hang-up stay on if the first part of the run had them. The exit
    code is that of the whole run. The output has only the outcomes of this part: use outcomes to print all.

    \b
    bandwidth-async resume
    bandwidth-async resume 20261122T08
    bandwidth-async resume teardown.journal --rate 50
    """
    del yes
    client = new_client(rate_limit=how.limit())
    path, began = last_run() if journal is None else path_of(journal), time.monotonic()
    try:
        opened = in_a_thread(lambda: Journal.open(path, account_id=client.account_id))
    except JournalError as error:
        raise click.UsageError(error.message) from error
    return go_on(client, opened, how.after(began), append=False)


@click.command(epilog=exit_codes.HELP)
@click.argument("names", nargs=-1, metavar="[FILE|RUN]...")
@prune.options
@in_a_format
def runs(names: tuple[str, ...], form: str | None, chosen: prune.Choice | None) -> int:
    """List runs by their journals: those you name, or those in the state directory, oldest first.

    For those you name, the exit code is that of the worst run, and 1 if a shard of them is missing.

    With --prune, the journals of finished runs are removed, and listed. Runs that are not finished stay.

    \b
    bandwidth-async runs
    bandwidth-async runs --prune --older-than 30d --keep 10 --dry-run
    """
    paths = paths_of(names) if names else journals(state_directory(os.environ))
    found = list(_described(paths if chosen is None else prune.without_links(paths)))
    shown = found if chosen is None else chosen.of(found)
    form = formats.form_for(form, None)
    with formats.Writer(sys.stdout, form, _RUNS) as writer:
        for info in shown:
            writer.write(_run_record(info, for_people=form == "table"))
    if not paths:
        terminal.say(f"there are no journals in {state_directory(os.environ)}")
    if chosen is not None:
        return chosen.carry_out(shown)
    if not names:
        return exit_codes.Exit.OK
    return _sum_up(found, unreadable=len(paths) - len(found))


def _described(paths: Sequence[Path]) -> Iterator[JournalInfo]:
    """Yield what journals are about. One that cannot be read is told."""
    for path in paths:
        try:
            yield describe(path)
        except JournalError as error:
            # Another process may have removed it since it was listed. A dead link is none.
            if os.path.lexists(path):
                terminal.complain(str(error))


@click.command(epilog=exit_codes.HELP)
@click.argument("names", nargs=-1, metavar="[FILE|RUN]...")
@account_options
@in_a_format
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the outcomes to FILE.")
@click.option("--force", is_flag=True, help="Replace an existing --output file.")
def outcomes(names: tuple[str, ...], form: str | None, output: Path | None, force: bool) -> int:
    """Print the outcome of each id of a run, in the order of its input; or of several runs.

    Ids that were not tried yet are not_attempted. Ids that may have been sent, but have no recorded
    response, are unknown. You may print the outcomes of a run that is still going on.

    RUN is the name of a run, or its beginning if no other run begins so. Without an argument, the outcomes
    are those of the last run of this account.

    Of several journals, such as those of shards, it also prints the totals. The exit code then is that of the
    worst run, and 1 if a shard of them is missing.
    """
    paths = paths_of(names) or [last_run()]
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
    return _sum_up(found) if len(found) > 1 else exit_codes.Exit.OK


def _print_outcomes(rows: Iterator[Outcome], writer: formats.Writer) -> None:
    # The check of the whole file comes before the first.
    first = in_a_thread(lambda: list(islice(rows, 1)))
    for outcome in chain(first, rows):
        writer.write(formats.outcome_record(outcome), at_once=False)


def _sum_up(found: Sequence[JournalInfo], unreadable: int = 0) -> int:
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
    gaps = _gaps([info.shard for info in found if info.shard is not None])
    if len({info.digest for info in found if info.shard and info.digest}) > 1:
        gaps.append("these shards are not of the same input: an id may be in none of them")
    for gap in gaps:
        terminal.say(gap)
    # Of the codes that there can be here, 1 is worse than 3.
    worst = bool(gaps or unreadable) or exit_codes.Exit.GENERAL in codes
    return exit_codes.Exit.GENERAL if worst else max(codes, default=0)


def _gaps(shards: Sequence[Shard]) -> list[str]:
    """Return a sentence for each shard that is missing or there twice."""
    counted = Counter(shards)
    wanted = [
        Shard(number, count) for count in sorted({one.count for one in shards}) for number in range(count)
    ]
    missing = [str(one) for one in wanted if one not in counted]
    twice = [str(one) for one in wanted if counted[one] > 1]
    said = {"not among these journals": missing, "more than once among these journals": twice}
    return [
        f"{'shard' if len(which) == 1 else 'shards'} {', '.join(which[:20])}{' …' if len(which) > 20 else ''}"
        f" {'is' if len(which) == 1 else 'are'} {what}"
        for what, which in said.items()
        if which
    ]


def _run_record(info: JournalInfo, *, for_people: bool) -> dict[str, object]:
    settled = sum(info.counts[kind] for kind in OutcomeKind if kind.settled)
    if info.in_use:
        state = f"in use by process {info.process}" if for_people and info.process else "in use"
    elif not info.complete:
        state = "input incomplete"
    else:
        state = "finished" if info.finished else "unfinished"
    return {
        "run": info.path.stem,
        "created": formats.iso(info.created),
        "account_id": info.account_id,
        "total": info.total,
        "settled": settled,
        "state": state,
        "process": info.process,
        "size": prune.in_bytes(info.size) if for_people else info.size,
        "journal": str(info.path),
        "shard": str(info.shard) if info.shard else None,
        "counts": {kind.value: info.counts[kind] for kind in OutcomeKind if info.counts[kind]},
    }
