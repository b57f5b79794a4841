"""The command ``report``: one file that shows a run to somebody who was not there."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bandwidth_async import journal as stored
from bandwidth_async.cli import exit_codes, journals, report_file, run_names, runs, terminal
from bandwidth_async.cli.account_options import account_options
from bandwidth_async.cli.choices import complete_runs
from bandwidth_async.errors import JournalError

FORMATS = ("html", "json")


@click.command(epilog=exit_codes.HELP)
@account_options
@click.argument("names", nargs=-1, metavar="[FILE|RUN]...", shell_complete=complete_runs)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="A page for people, or its figures. [default: by the suffix of --output, or html]",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the report to FILE. An earlier report there is replaced. [default: standard output]",
)
@click.option("--force", is_flag=True, help="Replace an existing --output file that is not a report.")
def report(names: tuple[str, ...], form: str | None, output: Path | None, force: bool) -> int:
    """Show a run to somebody who was not there: one file, from the journals of the run or of its shards.

    Without an argument, it is the last run of this account.

    The page has the outcomes, the rate over time beside the limit that was found, pauses and 429s, response
    times, errors by cause with a few ids each, the slowest ids, and the settings. It loads nothing, so you
    can mail it. It holds no credentials, but it names ids and the account. You may report a run that is still
    going on.

    Of several journals it also prints the totals. The exit code then is that of the worst run, and 1 if a
    shard of them is missing.

    \b
    bandwidth-async report 20261122T081500Z-3fa9c1 --output run.html
    bandwidth-async report shard-*.journal --format json
    """
    paths = run_names.paths_of(names) or [run_names.last_run()]
    form = form or report_file.form_of(output)
    to_stdout = output is None or str(output) == "-"
    if output is not None and not to_stdout:
        report_file.check(output, form, force=force, option="--output", keep=paths)
    elif form == "html" and sys.stdout.isatty():
        raise click.UsageError("a page is for a file: add --output FILE.html, or --format json for figures")
    try:
        text = journals.in_a_thread(lambda: report_file.text_of(paths, form))
        found = [stored.describe(path) for path in paths]
    except JournalError as error:
        raise click.UsageError(error.message) from error
    if output is None or to_stdout:
        sys.stdout.write(text)
    else:
        report_file.write(output, text)
        terminal.say(f"report: {output}")
    return runs.sum_up(found) if len(found) > 1 or found[0].shard else exit_codes.Exit.OK
