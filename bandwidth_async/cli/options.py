"""Option values that several commands share: durations, times, and the choice among listed conferences."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from bandwidth_async.durations import parse_duration
from bandwidth_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable


def duration(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Return seconds for 30s, 10m, 2h or plain seconds; an option callback."""
    if value is None:
        return None
    try:
        seconds = parse_duration(value)
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from error
    if seconds <= 0:
        raise click.BadParameter(f"{value!r} is no time at all; write for example 30s")
    return seconds


def moment(_: click.Context, __: click.Parameter, value: str | None) -> datetime | None:
    """Return an aware time for an ISO 8601 date or time, UTC where it names no zone; an option callback."""
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value.strip())
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a time; write 2026-11-22 or 2026-11-22T08:30Z") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def selection(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose among listed conferences."""
    for option in (
        click.option(
            "--created-after",
            metavar="T",
            callback=moment,
            help="Only those created at T (ISO 8601) or later.",
        ),
        click.option(
            "--created-before", metavar="T", callback=moment, help="Only those created at T or earlier."
        ),
        click.option("--name", metavar="N", help="Only those named exactly N."),
    ):
        command = option(command)
    return command
