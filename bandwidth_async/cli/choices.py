"""What the values of options and arguments can be, and what a Tab offers for them."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from bandwidth_async import journal, outcome
from bandwidth_async.errors import BandwidthError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bandwidth_async.outcome import OutcomeKind

# The formats of every command that prints records.
FORMATS = ("table", "json", "jsonl", "csv")


def suggestion(wrong: str, right: Iterable[str]) -> str:
    """Return a question that names what is most like a mistyped word, behind a comma, or nothing."""
    found = get_close_matches(wrong, right, n=1)
    return f", did you mean {found[0]}?" if found else ""
