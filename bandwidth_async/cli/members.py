"""The commands on the members of a conference: ``members``, ``mute``, ``unmute``, ``hold`` and ``unhold``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

import click

from bandwidth_async import updates, wire
from bandwidth_async.cli import event_loop, exit_codes, formats, terminal
from bandwidth_async.cli.options import in_a_format, new_client, sending
from bandwidth_async.errors import (
    AuthenticationError,
    BandwidthError,
    ConfigurationError,
    NotFoundError,
    PermissionDeniedError,
    TransportError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bandwidth_async.client import VoiceClient
    from bandwidth_async.models import ConferenceMember
    from bandwidth_async.updates import UpdateConferenceMember

# A conference can have this many members.
_AT_ONCE = 20
_WORST_FIRST = (
    exit_codes.Exit.CREDENTIALS,
    exit_codes.Exit.DEADLINE,
    exit_codes.Exit.RATE_LIMIT,
    exit_codes.Exit.GENERAL,
    exit_codes.Exit.USAGE,
    exit_codes.Exit.CONFLICT,
    exit_codes.Exit.NOT_FOUND,
)


@click.command(epilog=exit_codes.HELP)
@click.argument("conference_id", metavar="ID")
@click.argument("call_ids", nargs=-1, metavar="[CALL_ID]...")
@in_a_format()
@sending
def members(conference_id: str, call_ids: tuple[str, ...], form: str | None) -> int:
    """List the active members of a conference, or those named by their call ids."""
    found = event_loop.run(_members(conference_id, call_ids))
    if not found:
        terminal.say("there are no active members")
    with formats.Writer(sys.stdout, formats.form_for(form, None), formats.MEMBERS) as writer:
        for member in found:
            writer.write(formats.member_record(member))
    return exit_codes.Exit.OK


async def _members(conference_id: str, call_ids: tuple[str, ...]) -> Sequence[ConferenceMember]:
    async with new_client() as client:
        if not call_ids:
            return await _active_members(client, conference_id)
        return [await client.get_conference_member(conference_id, call_id) for call_id in call_ids]


async def _active_members(client: VoiceClient, conference_id: str) -> Sequence[ConferenceMember]:
    found = (await client.get_conference(conference_id)).active_members
    if found is None:
        raise click.ClickException("the server's response does not say who is in the conference")
    return found


class _Change(NamedTuple):
    """A change of members. ``done`` is the word for a member that has it, ``everyone`` says --all."""

    update: UpdateConferenceMember
    done: str
    everyone: bool

    def word(self, error: BandwidthError | None) -> str | None:
        """Return the word for a member, or None when the change failed.

        With --all, a member who has left meanwhile is ``gone``, which is no failure.
        """
        if error is None:
            return self.done
        return "gone" if self.everyone and isinstance(error, NotFoundError) else None


def _setting(name: str, sentence: str, done: str, **update: bool) -> click.Command:
    @click.command(name, help=f"{sentence} Prints a line for each member.", epilog=exit_codes.HELP)
    @click.argument("conference_id", metavar="ID")
    @click.argument("call_ids", nargs=-1, metavar="[CALL_ID]...")
    @click.option(
        "--all",
        "everyone",
        is_flag=True,
        help="Change all active members. A member who has left meanwhile is no error.",
    )
    @in_a_format()
    @sending
    def command(conference_id: str, call_ids: tuple[str, ...], everyone: bool, form: str | None) -> int:
        if everyone == bool(call_ids):
            raise click.UsageError("name the members: give call ids or --all")
        wire.path_segment(conference_id)
        for call_id in call_ids:
            wire.path_segment(call_id, "call id")
        change = _Change(
            update=updates.UpdateConferenceMember(mute=update.get("mute"), hold=update.get("hold")),
            done=done,
            everyone=everyone,
        )
        with formats.Writer(sys.stdout, formats.form_for(form, None), formats.CHANGES) as writer:
            return event_loop.run(_set(conference_id, list(dict.fromkeys(call_ids)), change, writer))

    return command


mute: click.Command = _setting(
    "mute",
    "Mute members. They hear the others but are not heard.",
    "muted",
    mute=True,
)
unmute: click.Command = _setting(
    "unmute",
    "Unmute members, so that they are heard again.",
    "unmuted",
    mute=False,
)
hold: click.Command = _setting(
    "hold",
    "Put members on hold. They neither hear nor are heard.",
    "held",
    hold=True,
)
unhold: click.Command = _setting(
    "unhold",
    "Take members off hold.",
    "unheld",
    hold=False,
)


async def _set(conference_id: str, call_ids: list[str], change: _Change, writer: formats.Writer) -> int:
    failures: list[BandwidthError] = []
    async with new_client() as client:
        if change.everyone:
            call_ids = [member.call_id for member in await _active_members(client, conference_id)]
        for start in range(0, len(call_ids), _AT_ONCE):
            batch = call_ids[start : start + _AT_ONCE]
            failures += await _set_batch(client, conference_id, batch, change, writer)
    if not call_ids:
        terminal.say("there are no active members")
    if not failures:
        return exit_codes.Exit.OK
    were = f"{len(failures)} of {len(call_ids)} members were not {change.done}"
    code = min(map(exit_codes.exit_for_error, failures), key=_WORST_FIRST.index)
    terminal.ending.explain(were)
    return code


async def _set_batch(
    client: VoiceClient, conference_id: str, call_ids: list[str], change: _Change, writer: formats.Writer
) -> list[BandwidthError]:
    """Change members at the same time, write a line for each in order, and return the failures."""

    import asyncio  # noqa: PLC0415 - not for --help

    async def set_one(call_id: str) -> BandwidthError | None:
        try:
            await client.update_conference_member(conference_id, call_id, change.update)
        # The user's ids have been checked, so this id is one that the server sent.
        except ConfigurationError as error:
            return TransportError(f"the server lists a member with an unusable id: {error.message}")
        except BandwidthError as error:
            return error
        return None

    failures = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks = {call_id: group.create_task(set_one(call_id)) for call_id in call_ids}
            for call_id, task in tasks.items():
                error = await task
                # Every other member would get the same refusal.
                lasting = isinstance(error, TransportError) and error.lasting
                if error and (lasting or isinstance(error, AuthenticationError | PermissionDeniedError)):
                    raise error
                word = change.word(error)
                failures += [error] if error and word is None else []
                writer.write({"call_id": call_id, "done": word, "error": None if word else str(error)})
    except ExceptionGroup as group_error:
        raise group_error.exceptions[0] from None
    return failures
