"""The command ``end``: it finds the conferences to end, asks for a yes, and starts the run."""

from __future__ import annotations

import math
import time
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from bandwidth_async.cli import (
    event_loop,
    exit_codes,
    formats,
    inputs,
    journals,
    plan,
    report_file,
    run,
    terminal,
)
from bandwidth_async.cli.choices import complete_files
from bandwidth_async.cli.options import new_client, run_options, sending
from bandwidth_async.cli.selection import chosen, selection
from bandwidth_async.errors import BandwidthError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bandwidth_async.cli.inputs import Input, Item
    from bandwidth_async.cli.run import RunOptions
    from bandwidth_async.client import VoiceClient
    from bandwidth_async.journal import Journal, Shard

# The command ends more ids than this only after a yes, and keeps a journal for them.
ASK_ABOVE = 100


def _shard(context: click.Context, parameter: click.Parameter, value: str | None) -> Shard | None:
    return None if value is None else inputs.shard(context, parameter, value)


# What stands for the number of the shard in the name of a file.
_NUMBER = "{shard}"


@click.command(epilog=exit_codes.HELP)
@click.argument("ids", nargs=-1, metavar="[ID|-]...")
@click.option(
    "--from",
    "sources",
    multiple=True,
    metavar="FILE|-",
    shell_complete=complete_files,
    help="Read ids from a file, or from standard input as the argument - does: one id a line, columns "
    "separated by , ; or tab under a header, JSON lines, or a JSON array. The column or key is conference_id "
    "or id, also written Conference ID or conferenceId. Blank lines and # comments are allowed. You may give "
    "it more than once.",
)
@click.option(
    "--column",
    metavar="NAME",
    help="Take the ids from the column or key of this name, or column number, from 1.",
)
@click.option("--all-active", is_flag=True, help="End every conference that the server lists as active.")
@selection
@run_options
@click.option(
    "--dry-run", is_flag=True, help="Show the plan and which conferences would be ended, and end none."
)
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
    help="Keep the journal in FILE, which must be new without --continue. [default: a new file in the state "
    f"directory, for more than {ASK_ABOVE} ids]",
)
@click.option("--no-journal", is_flag=True, help="Keep no journal. You cannot resume the run then.")
@click.option(
    "--continue",
    "goes_on",
    is_flag=True,
    help="Go on with the run of --journal FILE, or begin it if there is no such file or its input was cut "
    "off. The same command may be started again any number of times.",
)
@click.option(
    "--shard",
    metavar="K/N",
    callback=_shard,
    help="End only part K of N of the ids, with K from 0 to N - 1. auto/N takes K from "
    "JOB_COMPLETION_INDEX, SLURM_ARRAY_TASK_ID or AWS_BATCH_JOB_ARRAY_INDEX. {shard} in the name of the "
    "journal or output is K.",
)
@sending
def end(  # noqa: PLR0917 - click passes an option a parameter
    ids: tuple[str, ...],
    sources: tuple[str, ...],
    column: str | None,
    all_active: bool,
    how: RunOptions,
    dry_run: bool,
    yes: bool,
    maximum: int | None,
    journal_file: Path | None,
    no_journal: bool,
    goes_on: bool,
    shard: Shard | None,
    **choice: Any,
) -> int:
    """End conferences. Their calls go on unless you give --hang-up.

    Before it ends many, it shows the plan and asks: account and host, how many, the oldest and the newest,
    what becomes of their calls, and whether an earlier run had the same input.

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
    killed: see bandwidth-async resume. With --continue the same command goes on with it.

    \b
    bandwidth-async end conf-1 conf-2
    bandwidth-async end --from ids.txt --rate 50 --output outcomes.jsonl --format jsonl
    bandwidth-async end --from export.csv --column 'Conference ID' --hang-up
    bandwidth-async end --all-active --older-than 4h
    bandwidth-async list --active --format jsonl | bandwidth-async end --from - --yes
    bandwidth-async end --from ids.txt --yes --shard 0/4 --journal 'shard-{shard}.journal' --continue
    """
    how.limit()
    if how.report is not None and (no_journal or dry_run):
        other = "--dry-run" if dry_run else "--no-journal"
        raise click.UsageError(f"--report and {other}: give one of them; a report is made from a journal")
    if any(choice.values()) and not all_active:
        raise click.UsageError(
            "--name, --older-than, --created-before and --created-after go with --all-active"
        )
    given = inputs.Input.given(ids, sources, chosen(**choice) if all_active else None, shard, column)
    _check_journal(journal_file, no_journal=no_journal, dry_run=dry_run, goes_on=goes_on)
    wish = _Wish(
        given=given,
        plan=plan.Plan(given=given, hang_up=how.hang_up),
        how=how.into(_named(how.output, shard), _named(how.report, shard)),
        journal_file=_named(journal_file, shard),
        goes_on=goes_on,
        yes=yes,
        maximum=maximum,
    )
    report_file.check_options(wish.how, keep=[*wish.given.files, wish.journal_file])
    if shard is not None and inputs.tasks() not in {None, shard.count}:
        terminal.say(f"the job array has {inputs.tasks()} tasks, and {shard} is one of {shard.count} shards")
    if goes_on:
        return _begin_or_go_on(wish)
    return _begin(wish, dry_run=dry_run, no_journal=no_journal)


def _check_journal(file: Path | None, *, no_journal: bool, dry_run: bool, goes_on: bool) -> None:
    """Raise `click.UsageError` for options that contradict --journal, or need it."""
    if file is not None and (no_journal or dry_run):
        raise click.UsageError(
            f"--journal and {'--dry-run' if dry_run else '--no-journal'}: give one of them"
        )
    if goes_on and file is None:
        raise click.UsageError(
            "--continue goes with --journal FILE, where the next start finds the run again"
        )


class _Wish(NamedTuple):
    """What a command line asks for."""

    given: Input
    plan: plan.Plan
    how: RunOptions
    journal_file: Path | None
    goes_on: bool
    yes: bool
    maximum: int | None

    def items(self) -> Iterator[Item]:
        """Yield what is to be ended."""
        return self.plan.watched(self.given.items(self.how.limit(), self.how.deadline))

    def check_count(self, count: int) -> None:
        """Raise `click.UsageError` if there are more conferences than --max."""
        if self.maximum is not None and count > self.maximum:
            raise click.UsageError(
                f"{run.plural(count, 'conference')} are more than --max {self.maximum:,}; nothing was ended"
            )

    def ask(self, count: int, client: VoiceClient, journal: Path | None = None) -> list[str]:
        """Ask for a yes if that many need one. Raises `click.ClickException` without it.

        Return what is still to be said of other runs. ``journal`` is the one of this run.
        """
        many = self.given.chosen is not None or count > ASK_ABOVE
        if not count or not (many or self.given.sources):
            return []
        known = plan.hints(self.given, client.account_id, journal, alone=not many)
        if self.yes or not many:
            return known
        self.plan.confirm(count, client, known)
        return []


def _begin(wish: _Wish, *, dry_run: bool, no_journal: bool) -> int:
    """Begin a run, with a journal if it is named or if the ids are many."""
    began, items = time.monotonic(), wish.items()
    few: list[Item] = []
    duplicates = 0
    # A shard has the journal that was named even if it has no ids: otherwise it would seem to be missing.
    # A report is made from a journal, and a terminal that is lost keeps no rows.
    unseen = wish.how.on_hangup == "continue" and not (dry_run or no_journal)
    if not (wish.how.report or unseen) and (wish.journal_file is None or wish.given.shard is None):
        most = 0 if wish.journal_file else math.inf if dry_run or no_journal else ASK_ABOVE
        few, duplicates, are_all = inputs.gathered(items, most)
        if are_all:
            return _end_few(wish, few, duplicates, began, dry_run=dry_run)
    client = new_client(rate_limit=wish.how.limit())
    path = journals.new_file(wish.journal_file)
    journal = journals.made(path, client.account_id, wish.how, wish.given)
    end_all = partial(
        _end_recorded, wish, client, journal, chain(few, items), began=began, duplicates=duplicates
    )
    return report_file.reported(wish.how, path, end_all)


def _begin_or_go_on(wish: _Wish) -> int:
    """Do what --continue says."""
    began, client = time.monotonic(), new_client(rate_limit=wish.how.limit())
    path = wish.journal_file or Path()
    journal = journals.opened_or_made(path, client.account_id, wish.how, wish.given)
    if journal.recorded:
        terminal.say(f"journal: {path}, with the ids of {formats.iso(journal.created)}")
        go_on = partial(journals.go_on, client, journal, wish.how.after(began), append=True)
        return report_file.reported(wish.how, path, go_on)
    return report_file.reported(
        wish.how, path, partial(_end_recorded, wish, client, journal, wish.items(), began=began)
    )


def _end_few(wish: _Wish, items: list[Item], duplicates: int, began: float, *, dry_run: bool) -> int:
    """End some ids without a journal, or only show them."""
    how = wish.how.after(began)
    _say_duplicates(duplicates)
    wish.check_count(len(items))
    if dry_run:
        return _print_plan(wish, items, how)
    client = new_client(rate_limit=how.limit())
    if not items:
        terminal.say(f"there are no conferences to end{wish.given.why_none()}")
        if how.output is None:
            formats.write_none(how.form, formats.OUTCOMES)
        return exit_codes.Exit.OK
    for sentence in wish.ask(len(items), client):
        terminal.say(sentence)
    began = time.monotonic()
    with formats.open_output(how.output, force=how.force, keep=wish.given.files) as stream:
        job = run.Run(source=items, total=len(items), how=how.after(began), stream=stream)
        return event_loop.run(run.carry_out(client, job))


def _end_recorded(
    wish: _Wish,
    client: VoiceClient,
    journal: Journal,
    items: Iterator[Item],
    *,
    began: float,
    duplicates: int = 0,
) -> int:
    """Record the input, and end it once it is confirmed."""
    with event_loop.Loop() as loop, journals.kept_if_begun(loop, journal):
        recorded = journals.record(loop, journal, items)
        how = wish.how.after(began)
        _say_duplicates(duplicates + recorded.duplicates)
        wish.check_count(recorded.kept)
        known = wish.ask(recorded.kept, client, journal.path)
        began = time.monotonic()
        # Opening a pipe waits for its reader. Until then there is nothing to be resumed.
        keep = [*wish.given.files, journal.path]
        behind = how.form if wish.goes_on else None
        with formats.open_output(how.output, force=how.force, behind=behind, keep=keep) as stream:
            loop.run(journal.complete())
            if not how.quiet:
                terminal.say(f"journal: {journal.path}")
            for sentence in known:
                terminal.say(sentence)
            if not recorded.kept:
                terminal.say(f"there are no conferences to end{wish.given.why_none()}")
                formats.Writer(stream, how.form, formats.OUTCOMES).end()
                return exit_codes.Exit.OK
            anew = wish.given.chosen is not None or wish.given.can_be_known
            job = run.Run(
                source=journal,
                total=recorded.kept,
                how=how.after(began),
                stream=stream,
                can_begin_anew=anew,
            )
            return loop.run(run.carry_out(client, job))


def _named(path: Path | None, shard: Shard | None) -> Path | None:
    """Return the path with the number of the shard in it."""
    if path is None or _NUMBER not in str(path):
        return path
    if shard is None:
        raise click.UsageError(f"{_NUMBER} in {path} is the number of a shard: add --shard")
    return Path(str(path).replace(_NUMBER, str(shard.number)))


def _say_duplicates(count: int) -> None:
    if count:
        terminal.say(f"{count:,} duplicate ids dropped")


def _print_plan(wish: _Wish, items: list[Item], how: RunOptions) -> int:
    """Print the ids of a dry run, and its plan. Without credentials the plan has no account."""
    with (
        formats.open_output(how.output, force=how.force, keep=wish.given.files) as stream,
        formats.Writer(stream, how.form, formats.IDS) as writer,
    ):
        for item in items:
            writer.write({"conference_id": inputs.id_of(item)}, at_once=False)
    try:
        client = new_client(rate_limit=how.limit())
    except BandwidthError:
        client = None
    known = plan.hints(wish.given, client.account_id) if client else []
    plan.show([*wish.plan.lines(len(items), client), *known])
    if not items:
        terminal.say(f"there are no conferences to end{wish.given.why_none()}")
    looked = "" if wish.given.chosen is not None else " (whether they are active was not looked up)"
    terminal.say(f"dry run: {run.plural(len(items), 'conference')} would be ended; none was{looked}")
    return exit_codes.Exit.OK
