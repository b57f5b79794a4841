"""``list`` and ``get``: looking at conferences."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from bandwidth_async.cli import exits, loop, records
from bandwidth_async.cli.options import selection, table_or_jsonl
from bandwidth_async.client import VoiceClient
from bandwidth_async.models import Conference
from bandwidth_async.wire import printable


@click.command("list", epilog=exits.HELP)
@click.option("--active", is_flag=True, help="Only those that have not ended.")
@selection
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Stop after N conferences.")
@table_or_jsonl
def list_(active: bool, limit: int | None, form: str, **chosen: Any) -> int:
    """List conferences, oldest first."""
    loop.run(_list(active, limit, form, chosen))
    return exits.Exit.OK


async def _list(active: bool, limit: int | None, form: str, chosen: dict[str, Any]) -> None:
    writer = records.Writer(sys.stdout, records.JsonLines() if form == "jsonl" else records.CONFERENCES)
    count = 0
    async with VoiceClient.from_env() as client:
        async for conference in client.list_conferences(
            name=chosen["name"],
            min_created_time=chosen["created_after"],
            max_created_time=chosen["created_before"],
            page_size=1000 if limit is None or active else min(limit, 1000),
        ):
            if active and not conference.active:
                continue
            writer.write(records.conference_record(conference))
            count += 1
            if count == limit:
                break


@click.command(epilog=exits.HELP)
@click.argument("conference_id", metavar="ID")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Lines for people, or JSON for programs.",
)
def get(conference_id: str, form: str) -> int:
    """Show one conference with its members."""
    conference = loop.run(_get(conference_id))
    record = _record(conference)
    if form == "json":
        print(json.dumps(record, indent=2))
        return exits.Exit.OK
    members = record.pop("active_members")
    for key, value in record.items():
        print(f"{key:<23} {'-' if value is None else printable(str(value))}")
    print(f"{'active_members':<23} {'-' if members is None else len(members)}")
    for member in members or ():
        state = [word for word in ("mute", "hold") if member[word]]
        print(f"  {printable(member['call_id'])}  {' '.join(state)}".rstrip())
    return exits.Exit.OK


async def _get(conference_id: str) -> Conference:
    async with VoiceClient.from_env() as client:
        return await client.get_conference(conference_id)


def _record(conference: Conference) -> dict[str, Any]:
    members = conference.active_members
    return {
        **records.conference_record(conference),
        "conference_event_url": conference.conference_event_url,
        "conference_event_method": conference.conference_event_method,
        "active_members": None if members is None else [records.member_record(member) for member in members],
    }
