"""The commands on the journals of runs: ``resume``, ``runs`` and ``outcomes``."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from bandwidth_async import journal as stored
from bandwidth_async import outcome
from bandwidth_async.cli import (
    exit_codes,
    formats,
    journals,
    prune,
    report_file,
    run,
    run_names,
    run_state,
    terminal,
)
from bandwidth_async.cli.account_options import account_options
from bandwidth_async.cli.choices import complete_runs
from bandwidth_async.cli.options import in_a_format, new_client, of_kinds, run_options, sending
from bandwidth_async.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bandwidth_async.cli.run import RunOptions
    from bandwidth_async.journal import JournalInfo
    from bandwidth_async.outcome import Outcome


@click.command(epilog=exit_codes.HELP)
@click.argument("journal", required=False, metavar="[FILE|RUN]", shell_complete=complete_runs)
@run_options
@click.option("--yes", is_flag=True, help="Accepted as in end, but not needed: resume never asks.")
@sending
def resume(journal: str | None, how: RunOptions, yes: bool) -> int:
    """Resume a run: end the conferences that its journal does not have as settled.

    RUN is the name of a run, or its beginning if no other run begins so. Without it, the last
    unfinished run of this account is resumed.

    Conferences that are ended, already_ended, not_found or refused are settled. The rest is tried again. If
    the run was stopped before it knew whether a conference ended, and the server no longer finds it, its
    outcome is already_ended.

    --verify and --hang-up stay on if the run was begun with them, and the --rate and --concurrency of the
    last part are kept; give --rate or --start-rate for another rate. The exit code is that of the whole run.
    The output has only the outcomes of this part: use outcomes to print all.

    \b
    bandwidth-async resume
    bandwidth-async resume 20261122T08
    bandwidth-async resume teardown.journal --rate 50
    """
    del yes
    path = run_names.last_run(unfinished=True) if journal is None else run_names.path_of(journal)
    began = time.monotonic()
    report_file.check_options(how, keep=[path])
    try:
        kept = _kept(how, path)
        client = new_client(rate_limit=kept.limit())
        opened = journals.in_a_thread(lambda: stored.Journal.open(path, account_id=client.account_id))
    except JournalError as error:
        raise click.UsageError(error.message) from error
    go_on = partial(journals.go_on, client, opened, kept.after(began), append=False, note=_note(how, kept))
    return report_file.reported(how, path, go_on)


def _kept(how: RunOptions, path: Path) -> RunOptions:
    """Return how a resume goes: as its run was begun or resumed last, but for what its options say."""
    source = click.get_current_context().get_parameter_source
    given = [
        one for one in ("rate", "start_rate", "concurrency") if source(one) is ParameterSource.COMMANDLINE
    ]
    return how.kept(stored.last_settings(path), given)


def _note(how: RunOptions, kept: RunOptions) -> str:
    if kept.rate is None or kept.rate == how.rate or how.quiet:
        return ""
    return f"at most {run_state.figure(kept.rate)} requests a second, as before (--rate changes it)"


@click.command(epilog=exit_codes.HELP)
@click.argument("names", nargs=-1, metavar="[FILE|RUN]...", shell_complete=complete_runs)
@prune.options
@in_a_format()
def runs(names: tuple[str, ...], form: str | None, chosen: prune.Choice | None) -> int:
    """List runs by their journals: those you name, or those in the state directory, oldest first.

    For those you name, the exit code is that of the worst run, and 1 if a shard of them is missing.

    To see from elsewhere why a run waits that is in use, give bandwidth-async report, or limit show if the
    run shares its limit.

    With --prune, the journals of finished runs are removed, and listed. Runs that are not finished stay.

    \b
    bandwidth-async runs
    bandwidth-async runs --prune --older-than 30d --keep 10 --dry-run
    """
    paths = run_names.paths_of(names) if names else stored.journals(stored.state_directory(os.environ))
    found = list(_described(paths if chosen is None else prune.without_links(paths)))
    shown = found if chosen is None else chosen.of(found)
    form = formats.form_for(form, None)
    with formats.Writer(sys.stdout, form, formats.RUNS) as writer:
        for info in shown:
            writer.write(_run_record(info, for_people=form == "table"))
    if not paths:
        terminal.say(f"there are no journals in {stored.state_directory(os.environ)}")
    if chosen is not None:
        return chosen.carry_out(shown)
    if not names:
        return exit_codes.Exit.OK
    return sum_up(found, unreadable=len(paths) - len(found))


def _described(paths: Sequence[Path]) -> Iterator[JournalInfo]:
    """Yield what journals are about. One that cannot be read is told."""
    for path in paths:
        try:
            yield stored.describe(path)
        except JournalError as error:
            # Another process may have removed it since it was listed. A dead link is none.
            if os.path.lexists(path):
                terminal.complain(str(error))


@click.command(epilog=exit_codes.HELP)
@click.argument("names", nargs=-1, metavar="[FILE|RUN]...", shell_complete=complete_runs)
@account_options
@in_a_format("by the suffix of --output, or jsonl")
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

    RUN is the name of a run, or its beginning if no other run begins so. Without an argument, the outcomes
    are those of the last run of this account.

    Of several journals, such as those of shards, it also prints the totals. The exit code then is that of the
    worst run, and 1 if a shard of them is missing.
    """
    paths = run_names.paths_of(names) or [run_names.last_run()]
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
        if why := _why_open(info):
            terminal.say(f"{why} ({info.path})" if len(found) > 1 else why)
    return sum_up(found) if len(found) > 1 or found[0].shard else exit_codes.Exit.OK


def _why_open(info: JournalInfo) -> str:
    """Return why the outcomes of a run are not those of its end, if they are not."""
    if info.in_use and info.complete:
        return "this run goes on: ids in work are shown as unknown, and those that wait as not_attempted"
    if info.in_use:
        return "this run has not begun: it reads its input, or waits for a yes"
    return "" if info.complete else "the input of this run was not recorded to its end; nothing was sent"


def _print_outcomes(rows: Iterator[Outcome], writer: formats.Writer, only: frozenset[str] | None) -> None:
    # The check of the whole file comes before the first.
    first = journals.in_a_thread(lambda: list(islice(rows, 1)))
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
    gaps = stored.gaps([info.shard for info in found if info.shard is not None])
    if len({info.digest for info in found if info.shard and info.digest}) > 1:
        gaps.append("these shards are not of the same input: an id may be in none of them")
    for gap in gaps:
        terminal.say(gap)
    unread = [f"{run.plural(unreadable, 'journal')} could not be read"] if unreadable else []
    terminal.ending.because = "; ".join(
        [*gaps, *unread, *([run.reason(outcome.Report(counts=counts))] if any(codes) else [])]
    )
    # Of the codes that there can be here, 1 is worse than 3.
    worst = bool(gaps or unreadable) or exit_codes.Exit.GENERAL in codes
    return exit_codes.Exit.GENERAL if worst else max(codes, default=0)


def _run_record(info: JournalInfo, *, for_people: bool) -> dict[str, object]:
    settled = sum(info.counts[kind] for kind in outcome.OutcomeKind if kind.settled)
    if info.in_use:
        # It reads its input, or waits for a yes.
        state = "in use" if info.complete else "not begun"
        if for_people and info.process:
            state += f" by process {info.process}" if info.complete else f" (process {info.process})"
    elif not info.complete:
        state = "input incomplete"
    else:
        state = "finished" if info.finished else "unfinished"
    # Until its input is complete, only its own process knows how many there are.
    known = info.complete or not (info.in_use and for_people)
    return {
        "run": info.path.stem,
        "created": formats.iso(info.created),
        "account_id": info.account_id,
        "total": info.total if known else None,
        "settled": settled if known else None,
        "state": state,
        "process": info.process,
        "size": prune.in_bytes(info.size) if for_people else info.size,
        "journal": str(info.path),
        "shard": str(info.shard) if info.shard else None,
        "counts": {kind.value: info.counts[kind] for kind in outcome.OutcomeKind if info.counts[kind]},
    }
