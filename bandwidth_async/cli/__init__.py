"""The command line: it reads the environment, prints, and turns results and errors into exit codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    from bandwidth_async.cli.app import main as run  # noqa: PLC0415 - signals are handled before it is loaded

    return run(arguments)
