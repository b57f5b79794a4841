"""What the values of options and arguments can be, and what a Tab offers for them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from bandwidth_async.directories import JOURNAL_SUFFIX, state_directory
from bandwidth_async.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterable

# The formats of every command that prints records.
FORMATS = ("table", "json", "jsonl", "csv")

# The values of `OutcomeKind`, which takes longer to load than a Tab may take.
KINDS = ("ended", "already_ended", "not_found", "refused", "failed", "unknown", "not_attempted")


class Suggesting(click.Group):
    """A group of commands that names the one which a mistyped word is like."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command of the first argument."""
        name = args[0]
        if name[:1].isalnum() and self.get_command(ctx, name) is None:
            raise click.UsageError(
                f"No such command {name!r}{_suggestion(name, self.list_commands(ctx))}", ctx
            )
        return super().resolve_command(ctx, args)


def rate(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Return requests per second, for 10 or 10/s; an option callback."""
    try:
        return None if value is None else float(value.strip().removesuffix("/s"))
    except ValueError:
        raise click.BadParameter(f"{value!r} is no rate: give requests per second, as in 10") from None


def kinds(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> frozenset[str] | None:
    """Return the outcomes that some values name, separated by commas; an option callback."""
    named = [kind.strip() for value in values for kind in value.split(",")]
    for kind in named:
        if kind not in KINDS:
            like = _suggestion(kind, KINDS)
            raise click.BadParameter(f"{kind!r} is no outcome{like} There are {', '.join(KINDS)}.")
    return frozenset(named) if values else None


def complete_kinds(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the outcomes that are not named yet."""
    named, comma, begun = incomplete.rpartition(",")
    left = [kind for kind in KINDS if kind.startswith(begun) and kind not in named.split(",")]
    return [CompletionItem(f"{named}{comma}{kind}") for kind in left]


def _suggestion(wrong: str, right: Iterable[str]) -> str:
    """Return the end of a sentence, and ask for the right word if one is like it."""
    from difflib import get_close_matches  # noqa: PLC0415 - not for a Tab

    found = get_close_matches(wrong.lower(), right, n=1)
    return f". Did you mean {found[0]!r}?" if found else "."


def complete_files(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer files."""
    return [CompletionItem(incomplete, type="file")]


def complete_runs(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the names of the runs in the state directory, the newest first, or else files."""
    try:
        names = [one.stem for one in state_directory(os.environ).iterdir() if one.suffix == JOURNAL_SUFFIX]
    except (OSError, JournalError):
        names = []
    found = [CompletionItem(name) for name in sorted(names, reverse=True) if name.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]
