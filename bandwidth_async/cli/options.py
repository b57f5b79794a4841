"""Options that several commands share: those of a run, of listings, and of the format."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import reduce, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from attrs import evolve, frozen

from bandwidth_async.client import DEFAULT_CONCURRENCY
from bandwidth_async.durations import parse_duration
from bandwidth_async.errors import ConfigurationError
from bandwidth_async.limiter import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable

# A table on a terminal has every row up to this many. Of more, it has only the rows worth a look.
EVERY_ROW_UP_TO = 100

table_or_jsonl = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "jsonl"]),
    default="table",
    show_default=True,
    help="Print columns for people, or JSON lines for programs.",
)


@frozen(kw_only=True)
class RunOptions:
    """The options of a run. ``deadline`` is in seconds."""

    rate: float | None
    start_rate: float | None
    concurrency: int
    deadline: float | None
    verify: bool
    hang_up: bool
    strict: bool
    form: str
    output: Path | None
    force: bool

    def after(self, began: float) -> RunOptions:
        """Return the options with the deadline shortened by the time since ``began`` (`time.monotonic`)."""
        if self.deadline is None:
            return self
        return evolve(self, deadline=max(self.deadline - (time.monotonic() - began), 0.001))

    def limit(self) -> RateLimit:
        """Return the rate limit of --rate or --start-rate. Raises `click.UsageError` when both are given."""
        if self.rate is None:
            return RateLimit.adaptive(start=self.start_rate)
        if self.start_rate is not None:
            raise click.UsageError(
                "--rate fixes the rate, --start-rate is where the search for it begins: give one of them"
            )
        return RateLimit.fixed(self.rate)


def duration(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Return seconds for 30s, 10m, 2h or plain seconds. A callback for options."""
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
    """Return the time of an ISO 8601 date or time. Without a zone it is UTC. A callback for options."""
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value.strip())
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a time; write 2026-11-22 or 2026-11-22T08:30Z") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def selection(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that filter a listing of conferences."""
    for option in (
        click.option(
            "--created-after",
            metavar="T",
            callback=moment,
            help="Take only conferences created at T (ISO 8601) or later.",
        ),
        click.option(
            "--created-before",
            metavar="T",
            callback=moment,
            help="Take only conferences created at T or earlier.",
        ),
        click.option("--name", metavar="N", help="Take only conferences named exactly N."),
    ):
        command = option(command)
    return command


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a run. The command gets them as one `RunOptions`, in ``how``."""

    @wraps(command)
    def with_options(*arguments: Any, **given: Any) -> Any:
        names = RunOptions.__attrs_attrs__
        how = RunOptions(**{name.name: given.pop(name.name) for name in names})
        return command(*arguments, how=how, **given)

    return reduce(lambda decorated, option: option(decorated), reversed(_RUN), with_options)


_RUN = (
    click.option(
        "--rate",
        type=float,
        metavar="R",
        help="Send at most R requests per second. [default: find out what the server allows]",
    ),
    click.option(
        "--start-rate",
        type=float,
        metavar="R",
        help="Begin with R requests per second and find out the rate from there. The summary of an earlier "
        "run gives you R.",
    ),
    click.option(
        "--concurrency",
        type=click.IntRange(min=1),
        default=DEFAULT_CONCURRENCY,
        show_default=True,
        metavar="N",
        help="Work on N conferences at once.",
    ),
    click.option(
        "--deadline",
        metavar="DURATION",
        callback=duration,
        help="Stop sending after this time: 30s, 10m, 2h or a number of seconds. Requests in flight then "
        "have 10 s to be answered.",
    ),
    click.option("--verify", is_flag=True, help="Read each conference after ending it, to make sure."),
    click.option(
        "--hang-up",
        is_flag=True,
        help="Hang up the members' calls too. They go on otherwise. The outcomes name them (calls_ended).",
    ),
    click.option("--strict", is_flag=True, help="Exit 1 when a conference is not found."),
    click.option(
        "--format",
        "form",
        type=click.Choice(["table", "jsonl"]),
        default="table",
        show_default=True,
        help="Write outcomes in columns for people, or as JSON lines for programs. On a terminal, a table of "
        f"more than {EVERY_ROW_UP_TO} conferences has only those worth a look.",
    ),
    click.option(
        "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the outcomes to FILE."
    ),
    click.option("--force", is_flag=True, help="Replace an existing --output file."),
)
