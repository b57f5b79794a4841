"""The commands on conferences: ``list``, ``get``, ``redirect``, ``announce`` and ``wait``."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bandwidth_async import server_text, updates
from bandwidth_async.cli import event_loop, exit_codes, formats, terminal
from bandwidth_async.cli.choices import complete_files
from bandwidth_async.cli.options import duration, in_a_format, new_client, sending
from bandwidth_async.cli.selection import Selection, chosen, selection
from bandwidth_async.errors import BandwidthError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from bandwidth_async.models import Conference


@click.command("list", epilog=exit_codes.HELP)
@click.option("--active", is_flag=True, help="List only conferences that have not ended.")
@selection
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Stop after N conferences.")
@in_a_format()
@sending
def list_(active: bool, limit: int | None, form: str | None, **given: Any) -> int:
    """List conferences, oldest first."""
    which, form = chosen(**given), formats.form_for(form, None)
    with (
        formats.open_output(None, force=False) as stream,
        formats.Writer(stream, form, formats.CONFERENCES, in_bulk=True) as writer,
    ):
        count = event_loop.run(_list(active, limit, writer, which))
    if not count:
        terminal.say("no conferences were found")
    return exit_codes.Exit.OK


async def _list(active: bool, limit: int | None, writer: formats.Writer, which: Selection) -> int:
    """Write the listed conferences, and return how many they are."""
    count = 0
    async with new_client() as client:
        async for conference in client.list_conferences(
            **which.query(),
            page_size=1000 if limit is None or active else min(limit, 1000),
        ):
            if active and not conference.active:
                continue
            writer.write(formats.conference_record(conference))
            count += 1
            if count == limit:
                break
    return count


@click.command(epilog=exit_codes.HELP)
@click.argument("conference_id", metavar="ID")
@in_a_format()
@sending
def get(conference_id: str, form: str | None) -> int:
    """Show one conference with its members. As JSON it is one object, and no array."""
    record = _record(event_loop.run(_get(conference_id)))
    formats.write_one(record, form, _lines)
    return exit_codes.Exit.OK


def _lines(record: dict[str, Any]) -> Iterator[str]:
    members = record.pop("active_members")
    for key, value in record.items():
        yield f"{key:<23} {'-' if value is None else server_text.printable(str(value))}"
    yield f"{'active_members':<23} {'-' if members is None else len(members)}"
    for member in members or ():
        state = [word for word in ("mute", "hold") if member[word]]
        yield f"  {server_text.printable(member['call_id'])}  {' '.join(state)}".rstrip()


async def _get(conference_id: str) -> Conference:
    async with new_client() as client:
        return await client.get_conference(conference_id)


def _record(conference: Conference) -> dict[str, Any]:
    members = conference.active_members
    return {
        **formats.conference_record(conference),
        "conference_event_url": conference.conference_event_url,
        "conference_event_method": conference.conference_event_method,
        "active_members": None if members is None else [formats.member_record(member) for member in members],
    }


@click.command(epilog=exit_codes.HELP)
@click.argument("conference_id", metavar="ID")
@click.argument("url")
@click.option(
    "--method",
    type=click.Choice(["GET", "POST"]),
    help="Have Bandwidth request the URL with this method. [default: POST]",
)
@click.option(
    "--username", metavar="NAME", help="Have Bandwidth sign in to the URL. You are asked for the password."
)
@click.option("--password-env", metavar="VARIABLE", help="Read that password from this variable instead.")
@click.option("--fallback-url", metavar="URL", help="Have Bandwidth request this URL when the first fails.")
@click.option(
    "--fallback-method", type=click.Choice(["GET", "POST"]), help="Request the fallback URL with this method."
)
@click.option("--fallback-username", metavar="NAME", help="Have Bandwidth sign in to the fallback URL.")
@click.option("--fallback-password-env", metavar="VARIABLE", help="Read its password from this variable.")
@sending
def redirect(conference_id: str, url: str, **given: str | None) -> int:
    """Send a conference to the BXML at a URL. Bandwidth requests the URL.

    A redirect that may have arrived is not sent again, because the members could hear the BXML twice.
    """
    for option in ("method", "username", "password-env"):
        name = f"fallback_{option.replace('-', '_')}"
        if given[name] is not None and given["fallback_url"] is None:
            raise click.UsageError(f"--fallback-{option} goes with --fallback-url")
    update = updates.UpdateConference(
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
        async with new_client() as client:
            await client.update_conference(conference_id, update)

    event_loop.run(_explain_ambiguity(send()))
    print(f"{conference_id}: redirect accepted")
    return exit_codes.Exit.OK


def _password(username: str | None, variable: str | None, option: str) -> str | None:
    """Return the password of a URL, from the environment or a prompt. It is never an argument."""
    if username is None:
        if variable is not None:
            raise click.UsageError(f"{option} goes with {option.replace('password-env', 'username')}")
        return None
    if variable is not None:
        password = os.environ.get(variable)
        # The message does not show the name: it may be the password, given by mistake.
        if not password:
            raise click.UsageError(f"the variable that {option} names is not set")
        return password
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError(
            f"there is no terminal to ask for the password: name its variable with {option}"
        )
    whose = f"Password of {terminal.one_line(username)}"
    try:
        answer: str = click.prompt(whose, hide_input=True, err=True)
    except click.Abort:
        raise click.UsageError(
            f"the input ended without a password: name its variable with {option}"
        ) from None
    return answer


@click.command(epilog=exit_codes.HELP)
@click.argument("conference_id", metavar="ID")
@click.option(
    "--bxml",
    required=True,
    metavar="FILE|-",
    shell_complete=complete_files,
    help="Read the BXML from FILE, or from standard input with -.",
)
@sending
def announce(conference_id: str, bxml: str) -> int:
    """Send BXML to a conference: play, speak, or start, pause, resume and stop a recording.

    The BXML is checked before anything is sent; 64 KB are the most. A request that may have arrived is not
    sent again, because the members could hear the BXML twice.
    """
    text = _read(bxml)

    async def send() -> None:
        async with new_client() as client:
            await client.update_conference_bxml(conference_id, text)

    event_loop.run(_explain_ambiguity(send()))
    print(f"{conference_id}: BXML accepted")
    return exit_codes.Exit.OK


def _read(source: str) -> str:
    if source == "-" and sys.stdin is None:
        raise click.UsageError("cannot read BXML from standard input: it is closed")
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise click.UsageError(f"cannot read {source}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise click.UsageError(f"{source} is not UTF-8 text") from None


async def _explain_ambiguity(sending: Coroutine[Any, Any, None]) -> None:
    """Send an update. If it fails but may have arrived, add that to the error's message."""
    try:
        await sending
    except BandwidthError as error:
        if error.ambiguous:
            error.args = (f"{error.message}; the update may have arrived, so check before you repeat it",)
        raise


@click.command(epilog=exit_codes.HELP)
@click.argument("conference_id", metavar="ID")
@click.option(
    "--deadline",
    metavar="DURATION",
    callback=duration,
    help="Give up after this time: 30s, 10m, 2h or a number of seconds.",
)
@sending
def wait(conference_id: str, deadline: float | None) -> int:
    """Wait until a conference has ended, for whatever reason.

    Exits 5 when the deadline comes first, or 7 if 429s kept it from an answer until then.
    """

    async def completed() -> str | None:
        async with new_client() as client:
            seen = await client.wait_until_completed(conference_id, deadline=deadline or math.inf)
        return formats.iso(seen.completed_time)

    print(f"{conference_id} completed {event_loop.run(completed())}")
    return exit_codes.Exit.OK
