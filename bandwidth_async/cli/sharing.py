"""Which limit a command shares with other processes, and what it says about them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from bandwidth_async import sharing as shared
from bandwidth_async.cli import account
from bandwidth_async.cli.account_options import repeat
from bandwidth_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bandwidth_async.limiter import Limiter, RateLimit
    from bandwidth_async.sharing import SharedLimiter

VARIABLE = "BW_REDIS_URL"

# The key of the context under which the options are kept for `limiter_for`.
_STORE = "bandwidth_async.store"

# Seconds within which processes that start together have found each other.
_SETTLED = 1.0


def _keep_store(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value:
        given = context.meta.setdefault(_STORE, {})
        given[parameter.name] = value
        repeat(context, parameter, value, is_url=True)
        if len(given) > 1:
            raise click.UsageError("--share and --no-share: give one of them")


def sharing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--share`` and ``--no-share``, which `limiter_for` reads, to a command."""
    share = click.option(
        "--share",
        metavar="URL",
        expose_value=False,
        callback=_keep_store,
        help="Share the rate limit with all processes of the account that give the same Redis: redis://host, "
        f"rediss://host, redis+sentinel://… or redis+cluster://…. [default: {VARIABLE}; without it, share it "
        "with those on this machine]",
    )
    alone = click.option(
        "--no-share",
        is_flag=True,
        expose_value=False,
        callback=_keep_store,
        help="Find a rate of its own, whatever other processes send.",
    )
    return share(alone(command))


def asked_for() -> str | None:
    """Return the store that was asked for, by ``--share`` or the setting in force. None stands for none."""
    given = click.get_current_context().meta.get(_STORE, {})
    if "no_share" in given:
        return None
    store: str = given.get("share", "") or account.in_force().get(VARIABLE)
    return store.strip() or None


def limiter_for(limit: RateLimit | None) -> SharedLimiter | None:
    """Return a limiter that shares its rate, or None if the command has a limit of its own.

    Nobody asks for the processes of this machine. So a command with ``--rate`` keeps to that alone, and what
    keeps the processes from meeting is no warning.
    """
    if (store := asked_for()) is not None:
        return shared.SharedLimiter(store, limit)
    if "no_share" in click.get_current_context().meta.get(_STORE, {}) or (limit and limit.rate is not None):
        return None
    try:
        shared.carrier_for(shared.LOCAL)
    except ConfigurationError:
        return None
    return shared.SharedLimiter(shared.LOCAL, limit, warn=False)


@contextmanager
def announced(limiter: Limiter, say: Callable[[str], object]) -> Iterator[None]:
    """Say how many others share the limit, while the context lasts, and again when they are more."""
    if not isinstance(limiter, shared.SharedLimiter):
        yield
        return
    import asyncio  # noqa: PLC0415 - not for --help

    said = 1

    def on_processes(_: int) -> None:
        asyncio.get_running_loop().call_later(_SETTLED, tell)

    def tell() -> None:
        nonlocal said
        if limiter.processes > said:
            said = limiter.processes
            say(_sentence(said - 1, limiter))

    limiter.on_processes = on_processes
    try:
        yield
    finally:
        limiter.on_processes, said = None, limiter.processes


def _sentence(others: int, limiter: SharedLimiter) -> str:
    one = others == 1
    runs = f"{others:,} other run{'' if one else 's'} of this account"
    where = " on this machine" if limiter.is_local else ""
    return f"{runs}{where} share{'s' if one else ''} the rate"
