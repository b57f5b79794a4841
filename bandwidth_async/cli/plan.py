"""The plan of an irreversible act, which a dry run shows too, and the question before it."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from itertools import islice
from textwrap import TextWrapper
from typing import TYPE_CHECKING

import click
from attrs import define

from bandwidth_async.cli import account, question, terminal
from bandwidth_async.cli.run import plural, resume_command
from bandwidth_async.cli.selection import in_utc
from bandwidth_async.errors import JournalError
from bandwidth_async.journal import describe, journals, state_directory
from bandwidth_async.models import Conference
from bandwidth_async.outcome import OutcomeKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from bandwidth_async.cli.inputs import Input, Item
    from bandwidth_async.client import VoiceClient
    from bandwidth_async.journal import JournalInfo

# The latest journals that are looked at for an earlier run of the same input.
_LOOKED_AT = 50


@define(kw_only=True)
class Plan:
    """What is to be ended, and how. ``oldest`` and ``newest`` are known of listed conferences."""

    given: Input
    hang_up: bool
    oldest: datetime | None = None
    newest: datetime | None = None

    def watched(self, items: Iterator[Item]) -> Iterator[Item]:
        """Yield the items, and note when they were created."""
        for item in items:
            if isinstance(item, Conference):
                self._note(item.created_time)
            yield item

    def _note(self, at: datetime | None) -> None:
        if at is not None:
            self.oldest = min(self.oldest or at, at)
            self.newest = max(self.newest or at, at)

    def lines(self, count: int, client: VoiceClient | None) -> list[str]:
        """Return the plan for that many conferences. Without a client, the account is not known."""
        profile = account.in_force().of_profile()
        known = f" of account {client.account_id}{profile} at {host(client)}" if client else ""
        lines = [f"End {plural(count, 'conference')}{known or '; account and host are not known'}"]
        if self.given.chosen is not None:
            words = self.given.chosen.in_words()
            lines.append(f"which: active{f', {words}' if words else ''}")
        if origin := self.given.origin():
            lines.append(f"from: {origin}")
        if self.oldest and self.newest:
            lines.append(f"created: {in_utc(self.oldest)} (oldest) to {in_utc(self.newest)} (newest)")
        calls = "are hung up too" if self.hang_up else "go on (--hang-up would end them)"
        return [*lines, f"members: ejected; their calls {calls}"]

    def confirm(self, count: int, client: VoiceClient, hints: list[str]) -> None:
        """Show the plan and ask for a yes. Raises `click.ClickException` without it."""
        with question.answers(is_taken="-" in self.given.sources) as may_ask:
            if not may_ask:
                raise click.UsageError(
                    f"nothing was ended: confirm with --yes to end {plural(count, 'conference')}"
                )
            show([*self.lines(count, client), *hints])
            too = " and hang up their calls" if self.hang_up else ""
            sure = question.ask(f"End {plural(count, 'conference')}{too}?")
        if sure is None:
            raise click.ClickException(
                "nothing was ended: the input ended without an answer; confirm with --yes"
            )
        if not sure:
            raise click.ClickException("nothing was ended")


def show(plan: list[str]) -> None:
    """Say a plan, in lines that a terminal does not break within a word."""
    width = shutil.get_terminal_size().columns if sys.stderr.isatty() else sys.maxsize
    wrap = TextWrapper(width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False).wrap
    title, *rest = plan
    terminal.say("\n".join([*wrap(title), *(line for one in rest for line in wrap(f"  {one}"))]))


def host(client: VoiceClient) -> str:
    """Return the host of Bandwidth's API, with its port where that is not the usual."""
    return client.voice_url.partition("//")[2].rstrip("/")


def hints(given: Input, account_id: str, own: Path | None = None, *, alone: bool = False) -> list[str]:
    """Return a sentence if an earlier run had the same input, and one if other runs are under way.

    Only the latest runs with a journal in the state directory are known. ``own`` is that of this run. A
    run of a few ids, which is done soon, is ``alone``: others do not matter to it.
    """
    digest = given.digest() if given.can_be_known else None
    told: list[str] = []
    under_way: list[str] = []
    for info in _latest(account_id, own):
        if digest is None or info.digest != digest:
            under_way += [info.path.stem] if info.in_use else []
        # Other shards of this input have other ids.
        elif not told and info.complete and info.shard == given.shard:
            told = _begun_before(info)
    if under_way and not alone:
        are = f"run {under_way[0]} is" if len(under_way) == 1 else f"{len(under_way)} runs are"
        told.append(f"{are} under way in this account")
    return told


def _latest(account_id: str, own: Path | None) -> Iterator[JournalInfo]:
    """Yield what the latest journals are about, without the one of this run and those that cannot be read."""
    with suppress(JournalError):
        for path in islice(reversed(journals(state_directory(os.environ))), _LOOKED_AT):
            if own is not None and path.resolve() == own.resolve():
                continue
            with suppress(JournalError):
                info = describe(path, count=False)
                if info.account_id == account_id:
                    yield info


def _begun_before(info: JournalInfo) -> list[str]:
    """Return the sentence about an earlier run of the same input."""
    run = info.path.stem
    if info.in_use:
        return [f"run {run} has this input and is under way"]
    try:
        counts = describe(info.path).counts
    except JournalError:
        return []
    left = counts.total() - sum(counts[kind] for kind in OutcomeKind if kind.settled)
    if not left:
        return [f"run {run} had this input and settled all of it: see bandwidth-async outcomes {run}"]
    are = "is" if left == 1 else "are"
    return [f"run {run} has this input, {left:,} {are} left: go on with {resume_command(run)}"]
