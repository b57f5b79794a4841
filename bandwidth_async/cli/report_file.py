"""The file of a report: whether it may be written, and the report that a run writes at its end."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bandwidth_async.cli import exit_codes, terminal
from bandwidth_async.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bandwidth_async.cli.run import RunOptions

# Characters in which a report shows that it is one.
_HEAD = 2000


def check(path: Path, form: str, *, force: bool, option: str, keep: Sequence[Path | None] = ()) -> None:
    """Raise `click.UsageError` for a file that a report must not replace, or cannot be written to.

    Raises `ConfigurationError` if the page needs a package that is not installed.
    """
    if form == "html":
        from bandwidth_async.report.page import load  # noqa: PLC0415 - as in `text_of`

        load()
    if any(kept is not None and kept.resolve() == path.resolve() for kept in keep):
        raise click.UsageError(f"{path} is the input, the journal or the output; choose another {option}")
    if path.is_dir():
        raise click.UsageError(f"{path} is a directory; name a file for the report")
    if not path.resolve().parent.is_dir():
        raise click.UsageError(f"there is no directory {path.parent} to put a report in")
    if not os.access(path if path.exists() else path.resolve().parent, os.W_OK):
        raise click.UsageError(f"cannot write to {path}: permission denied")
    if path.is_file() and not force and not _is_report(path):
        raise click.UsageError(
            f"{path} exists and is not a report; choose another {option}, or --force to replace it"
        )


def reported(how: RunOptions, journal: Path, run: Callable[[], int]) -> int:
    """Do a run, and write the report that was asked for, however it ends. Return the exit code.

    A report that cannot be written makes 1 of an exit code of 0.
    """
    code: int = exit_codes.Exit.GENERAL
    fault = False
    try:
        code = run()
    finally:
        # An input that nobody said yes to has no journal any more.
        if how.report is not None and journal.exists():
            fault = not _try_write(how.report, journal)
    return code or (exit_codes.Exit.GENERAL if fault else exit_codes.Exit.OK)


def check_options(how: RunOptions, keep: Sequence[Path | None] = ()) -> None:
    """Do what `check` does, before a run that is to write a report."""
    if how.report is not None:
        if str(how.report) == "-":
            raise click.UsageError(
                "--report needs a file, as the outcomes go to standard output; to print a report, give "
                "bandwidth-async report --output - after the run"
            )
        kept = [*keep, how.output]
        check(how.report, form_of(how.report), force=how.force, option="--report", keep=kept)


def _try_write(path: Path, journal: Path) -> bool:
    try:
        write(path, text_of([journal], form_of(path)))
    except (JournalError, click.ClickException) as error:
        # What the run itself has to say comes first.
        say = terminal.complain if terminal.ending.because else terminal.ending.explain
        say(f"there is no report: {error}")
        return False
    terminal.say(f"report: {path}")
    return True


def text_of(paths: Sequence[Path], form: str) -> str:
    """Return the report of the runs of some journals. Raises `JournalError`."""
    # It is not loaded where there is no report.
    from bandwidth_async.report import figures_of, to_html, to_json  # noqa: PLC0415 - as the line above says

    figures = figures_of(paths)
    return to_html(figures) if form == "html" else to_json(figures)


def form_of(path: Path | None) -> str:
    """Return the form of a report by the suffix of its file."""
    return "json" if path is not None and path.suffix.lower() == ".json" else "html"


def write(path: Path, text: str) -> None:
    """Write a file, whole or not at all. Raises `click.ClickException`."""
    # A link stays one.
    path = path.resolve()
    draft = path.with_name(f".{secrets.token_hex(8)}.new")
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
            return
        draft.write_text(text, encoding="utf-8", errors="backslashreplace")
        draft.replace(path)
    except OSError as error:
        raise click.ClickException(f"cannot write to {path}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _is_report(path: Path) -> bool:
    from bandwidth_async.report.page import is_report  # noqa: PLC0415 - as in `text_of`

    try:
        with path.open(encoding="utf-8") as opened:
            head = opened.read(_HEAD)
    except (OSError, ValueError):
        return False
    # An empty file is nobody's, for example one that mktemp made.
    return not head or is_report(head)
