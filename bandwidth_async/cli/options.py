"""Options of several commands: the proxy, and how a run goes."""

from __future__ import annotations

from functools import reduce, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import click

from bandwidth_async.cli import account, formats, logs, rates, run, signals
from bandwidth_async.cli.account_options import account_options, repeat
from bandwidth_async.cli.choices import FORMATS, complete_kinds, kinds
from bandwidth_async.cli.choices import rate as in_requests
from bandwidth_async.cli.sharing import limiter_for, sharing
from bandwidth_async.durations import parse_duration
from bandwidth_async.errors import ConfigurationError
from bandwidth_async.settings import DEFAULT_CONCURRENCY

if TYPE_CHECKING:
    from collections.abc import Callable

    from bandwidth_async.client import VoiceClient
    from bandwidth_async.settings import ClientSettings

# The key of the context under which --proxy is kept for `new_client`.
_PROXY = "bandwidth_async.proxy"


def _keep_proxy(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None and value.strip():
        from bandwidth_async.http import check_proxy  # noqa: PLC0415 - it loads aiohttp

        check_proxy(value.strip(), "--proxy")
        repeat(context, parameter, value, is_url=True)
    context.meta[_PROXY] = value


def sending(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the account, the proxy and the limit to a command that uses `new_client`."""
    proxy = click.option(
        "--proxy",
        metavar="URL",
        expose_value=False,
        callback=_keep_proxy,
        help="Connect through this http or https proxy, except to the hosts in NO_PROXY. "
        "[default: HTTPS_PROXY, ALL_PROXY]",
    )
    return account_options(proxy(sharing(command)))


def new_client(**settings: Unpack[ClientSettings]) -> VoiceClient:
    """Return a client for the account in force, with the proxy and the limit of the command.

    It begins with what earlier runs have learned about the rate.
    """
    from bandwidth_async.limiter import RateLimit  # noqa: PLC0415 - likewise

    settings["proxy"] = click.get_current_context().meta[_PROXY]
    settings["trust_env"] = True
    limit = rates.begun_with_known(settings.pop("rate_limit", None) or RateLimit())
    if (limiter := limiter_for(limit)) is not None:
        settings["limiter"] = limiter
    else:
        settings["rate_limit"] = limit
    return client_in_force(settings)


def client_in_force(settings: ClientSettings) -> VoiceClient:
    """Return a client with these settings, and those in force for what they leave out."""
    from bandwidth_async.client import VoiceClient  # noqa: PLC0415 - it loads aiohttp
    from bandwidth_async.environment import read_environment  # noqa: PLC0415 - likewise

    found = account.in_force()
    found.account_id()
    environment = read_environment(found.variables, found.named)
    return VoiceClient.from_env(**environment.complete(settings, found.named))


def in_a_format(default: str = "table") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add ``--format``, which is passed as ``form``, to a command that prints records."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(FORMATS),
        help="Columns for people, which a terminal shows as far as it is wide; one JSON array; JSON lines; "
        "or comma-separated values with a header. In CSV a text that a spreadsheet would run, such as =1+1, "
        f"has an apostrophe in front, but never an id. [default: {default}]",
    )


# The default of commands that have --output too; what stands behind "or" is for standard output.
BY_SUFFIX = "by the suffix of --output, or table"


# ``--only``, which is passed as ``only``, for each command that prints outcomes.
of_kinds: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--only",
    multiple=True,
    callback=kinds,
    shell_complete=complete_kinds,
    metavar="KINDS",
    help="Print only these outcomes, as in failed,unknown. The exit code and the summary are those of all.",
)


def _noted(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    if value:
        repeat(context, parameter, value)
    return value


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


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a run; the command gets them as one `run.RunOptions`, as ``how``."""

    @wraps(command)
    def told(*arguments: Any, **given: Any) -> Any:
        names = run.RunOptions.__attrs_attrs__
        if given["strict"] and given["ignore_not_found"]:
            raise click.UsageError("--strict and --ignore-not-found: give one of them")
        if given["quiet"]:
            logs.hush()
        given["form"] = formats.form_for(given["form"], given["output"])
        how = run.RunOptions(**{name.name: given.pop(name.name) for name in names})
        if how.on_hangup == "continue":
            click.get_current_context().with_resource(signals.hang_up_ignored())
        return command(*arguments, how=how, **given)

    return reduce(lambda decorated, option: option(decorated), reversed(_RUN), told)


_RUN = (
    click.option(
        "--rate", callback=in_requests, metavar="R", help="Requests per second at most. [default: found out]"
    ),
    click.option(
        "--start-rate",
        callback=in_requests,
        metavar="R",
        help="Find the rate out, but begin with R requests per second. [default: what earlier runs have "
        "learned, after a day only as a hint. It is in the folder rates of the state directory: remove its "
        "files to forget it.]",
    ),
    click.option(
        "--concurrency",
        type=click.IntRange(min=1),
        default=DEFAULT_CONCURRENCY,
        show_default=True,
        metavar="N",
        help="Conferences in work at once.",
    ),
    click.option(
        "--deadline",
        metavar="DURATION",
        callback=duration,
        help="Send nothing more after 30s, 10m, 2h or seconds; what is in flight then has 10 s to be "
        "answered.",
    ),
    click.option("--verify", is_flag=True, help="Read each ended conference back to make sure."),
    click.option(
        "--hang-up",
        is_flag=True,
        help="End the members' calls too, which otherwise go on; the outcomes name them (calls_ended).",
    ),
    click.option(
        "--strict", is_flag=True, callback=_noted, help="Count conferences that are not found as failures."
    ),
    click.option(
        "--ignore-not-found",
        is_flag=True,
        callback=_noted,
        help="Count conferences that are not found as done: exit 0, not 3, even if all are. Then a "
        "teardown may be repeated.",
    ),
    in_a_format(BY_SUFFIX),
    of_kinds,
    click.option(
        "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the outcomes there."
    ),
    click.option(
        "--report",
        type=click.Path(path_type=Path),
        metavar="FILE.html",
        help="At the end write a report of the whole run there: a page, or its figures for FILE.json. See "
        "bandwidth-async report. With it a run of few ids keeps a journal too.",
    ),
    click.option("--force", is_flag=True, help="Replace an existing --output file, or what is at --report."),
    click.option(
        "--on-hangup",
        type=click.Choice(["continue", "stop"]),
        default="stop",
        show_default=True,
        help="When the terminal is closed or the connection to it is lost: go on without it, or stop as with "
        "SIGTERM. With nohup it always goes on.",
    ),
    click.option(
        "-q",
        "--quiet",
        is_flag=True,
        help="Show no progress. Print the summary, and rows of a table, only for what needs a look.",
    ),
)
