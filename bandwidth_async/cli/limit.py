"""The commands ``limit show`` and ``limit set``: the rate that processes share, seen and set for all."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from bandwidth_async import sharing as shared
from bandwidth_async.cli import event_loop, exit_codes, formats, terminal
from bandwidth_async.cli.account_options import account_options
from bandwidth_async.cli.choices import Suggesting
from bandwidth_async.cli.options import client_in_force, in_a_format
from bandwidth_async.cli.sharing import VARIABLE, asked_for, sharing

if TYPE_CHECKING:
    from bandwidth_async.sharing import Carrier, CarrierError


@click.group(cls=Suggesting, epilog=exit_codes.HELP)
def limit() -> None:
    """Look at the rate that all processes of the account share, or set it while they run.

    They share it over the Redis of --share, or else on this machine.
    """


@limit.command(epilog=exit_codes.HELP)
@account_options
@sharing
@in_a_format()
def show(form: str | None) -> int:
    """Show the rate, the limit that the server seems to have, and how many processes share it.

    paused_for is in how many seconds requests are sent again, if the server or a failure made them wait.

    \b
    bandwidth-async limit show
    bandwidth-async limit show --share redis://redis.internal --format jsonl
    """
    carrier = _carrier()
    record = event_loop.run(_seen(carrier))
    formats.write_one(record, form)
    return exit_codes.Exit.OK


@limit.command(name="set", epilog=exit_codes.HELP)
@click.argument("rate", metavar="RATE|auto")
@account_options
@sharing
def set_(rate: str) -> int:
    """Have all processes together send RATE requests a second, or with auto find the rate out again.

    The rate holds within two seconds. It holds until you set another, or until no process has shared it for
    an hour.

    \b
    bandwidth-async limit set 50
    bandwidth-async limit set auto
    """
    wanted = _rate(rate)
    carrier = _carrier()
    event_loop.run(_asked(carrier, wanted))
    if wanted is None:
        terminal.say(f"all processes that share {carrier} find the rate out again")
    else:
        terminal.say(f"all processes that share {carrier} send {wanted:g} requests a second together")
    return exit_codes.Exit.OK


def _rate(given: str) -> float | None:
    if given == "auto":
        return None
    try:
        rate = float(given)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise click.UsageError(f"{given!r} is no rate: give requests per second, or auto")
    return rate


def _carrier() -> Carrier:
    """Return a way to the processes that share the limit of the account in force."""
    limiter = shared.SharedLimiter(asked_for() or shared.LOCAL)
    client_in_force({"limiter": limiter})
    return limiter.new_carrier()


async def _seen(carrier: Carrier) -> dict[str, Any]:
    try:
        seen = await carrier.look()
    except shared.CarrierError as error:
        raise _unreachable(carrier, error) from error
    finally:
        await carrier.aclose()
    state = shared.decode(seen.state, shared.State) if seen.led else None
    return {
        "store": str(carrier),
        "processes": state.processes if state else 0,
        "rate": state and round(state.rate, 3),
        "quota": state and state.quota and round(state.quota, 3),
        "set": seen.setting,
        "paused_for": state and round(state.paused_for, 3),
        "waiting": state and state.waiting,
        "in_flight": state and state.in_flight,
        "leader": state and state.leader,
    }


async def _asked(carrier: Carrier, rate: float | None) -> None:
    try:
        await carrier.set_rate(rate)
    except shared.CarrierError as error:
        raise _unreachable(carrier, error) from error
    finally:
        await carrier.aclose()


def _unreachable(carrier: Carrier, error: CarrierError) -> click.ClickException:
    return click.ClickException(f"{carrier} is out of reach: {error} (see --share and {VARIABLE})")
