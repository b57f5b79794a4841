"""``runs --prune``: which journals are removed, the question before, and what that frees."""

from __future__ import annotations

import time
from functools import reduce, wraps
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from bandwidth_async import journal as stored
from bandwidth_async.cli import exit_codes, question, run, terminal
from bandwidth_async.cli.options import duration
from bandwidth_async.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bandwidth_async.journal import JournalInfo


class Choice(NamedTuple):
    """Which journals to remove, and whether that needs an answer.

    ``older_than`` is in seconds since the run was begun, and ``keep`` is how many of the newest stay.
    """

    older_than: float | None
    keep: int
    force: bool
    dry_run: bool
    yes: bool

    def of(self, found: Sequence[JournalInfo]) -> list[JournalInfo]:
        """Return the journals to remove, the oldest first. None of them is in use."""
        over = sorted((info for info in found if self._may_go(info)), key=lambda info: info.created)
        over = over[: max(0, len(over) - self.keep)]
        if self.older_than is None:
            return over
        return [info for info in over if info.created.timestamp() <= time.time() - self.older_than]

    def _may_go(self, info: JournalInfo) -> bool:
        return info.finished or (self.force and not info.in_use)

    def carry_out(self, chosen: Sequence[JournalInfo]) -> int:
        """Remove journals once it is confirmed, and say what that frees. Return the exit code."""
        what = f"{run.plural(len(chosen), 'journal')} ({in_bytes(sum(info.size for info in chosen))})"
        if self.dry_run or not chosen:
            terminal.say(f"dry run: {what} would be removed; none was" if chosen else "nothing to remove")
            return exit_codes.Exit.OK
        open_ = sum(not info.finished for info in chosen)
        unfinished = f" Of these, {run.plural(open_, 'run')} cannot be resumed then." if open_ else ""
        if not self.yes:
            with question.answers() as may_ask:
                if not may_ask:
                    raise click.UsageError(f"nothing was removed: confirm with --yes to remove {what}")
                if not question.ask(f"Remove {what}?{unfinished}"):
                    raise click.ClickException("nothing was removed")
        return _remove(chosen)


def _remove(chosen: Sequence[JournalInfo]) -> int:
    """Remove journals, and say what that frees. Return the exit code."""
    freed, stay = [], False
    for info in chosen:
        try:
            freed.append(stored.remove_unused(info.path))
        except (JournalError, OSError) as error:
            # Another process may have removed it since.
            if info.path.exists():
                stay = True
                terminal.complain(f"it stays: {error}")
    terminal.say(f"{run.plural(len(freed), 'journal')} removed, {in_bytes(sum(freed))} freed")
    terminal.ending.because = f"{run.plural(len(chosen) - len(freed), 'journal')} could not be removed"
    return exit_codes.Exit.GENERAL if stay else exit_codes.Exit.OK


def without_links(paths: Sequence[Path]) -> list[Path]:
    """Return the paths that are no symbolic links. The others lead to a journal elsewhere, and stay."""
    for path in paths:
        if path.is_symlink():
            terminal.complain(f"{path} stays: it is a symbolic link")
    return [path for path in paths if not path.is_symlink()]


def in_bytes(count: int) -> str:
    """Return a number of bytes as people read it: 0 B, 36 kB, 30.1 MB."""
    if count < 1000:
        return f"{count} B"
    if count < 1_000_000:
        return f"{count / 1000:.0f} kB"
    return f"{count / 1_000_000:,.1f} MB"


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of pruning. The command gets them as one `Choice`, or None, as ``chosen``."""

    @wraps(command)
    def told(*arguments: Any, prune: bool, **given: Any) -> Any:
        choice = Choice(**{name: given.pop(name) for name in Choice._fields})
        if not prune and choice != _NOTHING:
            raise click.UsageError("--older-than, --keep, --force, --dry-run and --yes go with --prune")
        return command(*arguments, chosen=choice if prune else None, **given)

    return reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), told)


_NOTHING = Choice(older_than=None, keep=0, force=False, dry_run=False, yes=False)
_OPTIONS = (
    click.option("--prune", is_flag=True, help="Remove the journals of finished runs, after a question."),
    click.option(
        "--older-than",
        metavar="DURATION",
        callback=duration,
        help="Remove only those of runs begun longer ago than 30d or 12h.",
    ),
    click.option(
        "--keep",
        type=click.IntRange(min=0),
        default=0,
        metavar="N",
        help="Keep the N newest of those that could be removed.",
    ),
    click.option(
        "--force",
        is_flag=True,
        help="Remove unfinished runs too, which cannot be resumed then. One that is in use stays.",
    ),
    click.option("--dry-run", is_flag=True, help="Show what would be removed, and remove nothing."),
    click.option("--yes", is_flag=True, help="Do not ask, which --prune needs without a terminal."),
)
