"""``redirect``, ``announce`` and ``wait``: what a conference does next, and when it is over."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bandwidth_async.cli import exits, loop, records
from bandwidth_async.cli.options import duration
from bandwidth_async.client import VoiceClient
from bandwidth_async.errors import BandwidthError
from bandwidth_async.updates import UpdateConference

if TYPE_CHECKING:
    from collections.abc import Coroutine


@click.command(epilog=exits.HELP)
@click.argument("conference_id", metavar="ID")
@click.argument("url")
@click.option("--method", type=click.Choice(["GET", "POST"]), help="How the URL is asked. [default: POST]")
@click.option("--username", metavar="NAME", help="Sign in to the URL; its password is asked for.")
@click.option("--password-env", metavar="VARIABLE", help="Take that password from this variable.")
@click.option("--fallback-url", metavar="URL", help="Ask this one when the first fails.")
@click.option("--fallback-method", type=click.Choice(["GET", "POST"]), help="How that one is asked.")
@click.option("--fallback-username", metavar="NAME", help="Sign in to the fallback URL.")
@click.option("--fallback-password-env", metavar="VARIABLE", help="Take that password from this variable.")
def redirect(conference_id: str, url: str, **given: str | None) -> int:
    """Send a conference to the BXML that Bandwidth is answered at URL.

    A redirect that may have arrived is not repeated, since it would be heard twice.
    """
    for option in ("method", "username", "password-env"):
        name = f"fallback_{option.replace('-', '_')}"
        if given[name] is not None and given["fallback_url"] is None:
            raise click.UsageError(f"--fallback-{option} goes with --fallback-url")
    update = UpdateConference(
        redirect_url=url,
        redirect_method=given["method"],
        username=given["username"],
        password=_password(given["username"], given["password_env"], "--password-env"),
        redirect_fallback_url=given["fallback_url"],
        redirect_fallback_method=given["fallback_method"],
        fallback_username=given["fallback_username"],
        fallback_password=_password(
            given["fallback_username"], given["fallback_password_env"], "--fallback-password-env"
        ),
    )

    async def send() -> None:
        async with VoiceClient.from_env() as client:
            await client.update_conference(conference_id, update)

    loop.run(_once(send()))
    print(f"{conference_id}: redirect accepted")
    return exits.Exit.OK


def _password(username: str | None, variable: str | None, option: str) -> str | None:
    """Return the password of a URL, from the environment or its user: it is never an argument."""
    if username is None:
        if variable is not None:
            raise click.UsageError(f"{option} goes with {option.replace('password-env', 'username')}")
        return None
    if variable is not None:
        password = os.environ.get(variable)
        if not password:  # the name is not shown: it may be the password, given by mistake
            raise click.UsageError(f"the variable that {option} names is not set")
        return password
    if not sys.stdin.isatty():
        raise click.UsageError(f"nobody can be asked for the password: name its variable with {option}")
    answer: str = click.prompt(f"Password of {username}", hide_input=True, err=True)
    return answer


@click.command(epilog=exits.HELP)
@click.argument("conference_id", metavar="ID")
@click.option("--bxml", required=True, metavar="FILE|-", help="The BXML, from a file or standard input.")
def announce(conference_id: str, bxml: str) -> int:
    """Give a conference new BXML: play, speak, or start, pause and stop a recording.

    It is checked before anything is sent. What may have arrived is not repeated, since it would be heard
    twice.
    """
    text = _read(bxml)

    async def send() -> None:
        async with VoiceClient.from_env() as client:
            await client.update_conference_bxml(conference_id, text)

    loop.run(_once(send()))
    print(f"{conference_id}: BXML accepted")
    return exits.Exit.OK


def _read(source: str) -> str:
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise click.UsageError(f"cannot read {source}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise click.UsageError(f"{source} is not UTF-8 text") from None


async def _once(sending: Coroutine[Any, Any, None]) -> None:
    """Send what is not to be heard twice; where it may have arrived, the error says so."""
    try:
        await sending
    except BandwidthError as error:
        if error.ambiguous:
            error.args = (f"{error.message}; it may have been done all the same, so look before repeating",)
        raise


@click.command(epilog=exits.HELP)
@click.argument("conference_id", metavar="ID")
@click.option(
    "--deadline", metavar="DURATION", callback=duration, help="Give up after 30s, 10m, 2h or seconds."
)
def wait(conference_id: str, deadline: float | None) -> int:
    """Wait until a conference has completed, however it did; exit 5 when the deadline comes first."""

    async def completed() -> str | None:
        async with VoiceClient.from_env() as client:
            seen = await client.wait_until_completed(conference_id, deadline=deadline or math.inf)
        return records.iso(seen.completed_time)

    print(f"{conference_id} completed {loop.run(completed())}")
    return exits.Exit.OK
