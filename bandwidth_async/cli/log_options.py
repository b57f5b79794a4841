"""The options ``-v`` and ``--log-file``, before a command or behind it. What they do is in `logs`."""

from __future__ import annotations

from typing import Any

import click

# The key of the context under which the options are kept.
ASKED = "bandwidth_async.logs"


def log_options() -> list[click.Option]:
    """Return ``-v`` and ``--log-file``, which may stand before a command and behind it."""
    return [
        click.Option(
            ["-v", "--verbose"],
            count=True,
            expose_value=False,
            callback=_ask,
            help="Log retries and pauses to standard error; with -vv every request too.",
        ),
        click.Option(
            ["--log-file"],
            type=click.Path(dir_okay=False),
            metavar="FILE",
            expose_value=False,
            callback=_ask,
            help="Append the log, with every request, to FILE.",
        ),
    ]


def _ask(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Keep what was asked for, and log accordingly from now on. A Tab makes no file."""
    if not value or context.resilient_parsing:
        return
    if value == "-":
        raise click.BadParameter("name a file; -v logs to standard error")
    asked = context.meta.setdefault(ASKED, {})
    if parameter.name == "verbose":
        value += asked.get("verbose", 0)
    asked[parameter.name] = value
    from bandwidth_async.cli import logs  # noqa: PLC0415 - neither a Tab nor --help logs

    logs.apply(context, asked)
