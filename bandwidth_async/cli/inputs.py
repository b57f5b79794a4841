"""The input of ``end``: ids of arguments and files, or what the server lists as active; all or a shard."""

from __future__ import annotations

import asyncio
import math
import os
import re
import sys
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from attrs import frozen

from bandwidth_async.cli import event_loop
from bandwidth_async.cli.ids import Ids
from bandwidth_async.cli.options import new_client
from bandwidth_async.cli.run import refusal_until
from bandwidth_async.errors import ConfigurationError, DeadlineExceededError
from bandwidth_async.journal import Shard
from bandwidth_async.models import Conference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bandwidth_async.limiter import RateLimit

    Item = str | Conference

# Where Kubernetes, Slurm and AWS Batch say which task of an array this is. Each counts from 0, or can.
_TASKS = ("JOB_COMPLETION_INDEX", "SLURM_ARRAY_TASK_ID", "AWS_BATCH_JOB_ARRAY_INDEX")

# Where Slurm and AWS Batch say how many tasks the array has.
_SIZES = ("SLURM_ARRAY_TASK_COUNT", "AWS_BATCH_JOB_ARRAY_SIZE")


@frozen(kw_only=True)
class Input:
    """What a command line says of the conferences to end.

    ``chosen`` is the selection among the active ones, None without --all-active.
    """

    ids: tuple[str, ...]
    sources: tuple[str, ...]
    chosen: dict[str, Any] | None
    shard: Shard | None

    @property
    def files(self) -> list[Path]:
        """The files that ids are read from."""
        return [Path(source) for source in self.sources if source != "-"]

    def items(self, limit: RateLimit, deadline: float | None) -> Iterator[Item]:
        """Yield what is to be ended, one by one. A bad line anywhere is a usage error behind the last."""
        # A listing, which may fail, begins with the first `next` as well.
        items: Iterable[Item] = (
            self._given()
            if self.chosen is None
            else event_loop.run(_listed_as_active(self.chosen, limit, deadline))
        )
        for item in items:
            if self.shard is None or self.shard.holds(id_of(item)):
                yield item

    def digest(self) -> str | None:
        """Return a hash of the input as far as it can be read twice, or None if a file is gone."""
        told = blake2b(repr((self.ids, self.chosen)).encode(errors="replace"), digest_size=16)
        for path in self.files:
            # A pipe gives its text only once.
            if path.is_file():
                try:
                    with path.open("rb") as stream:
                        told.update(file_digest(stream, lambda: blake2b(digest_size=16)).digest())
                except OSError as error:
                    raise click.UsageError(f"cannot read {path}: {error.strerror}") from error
            elif not path.exists():
                return None
        return told.hexdigest()

    def _given(self) -> Iterator[str]:
        """Yield the ids of the arguments and files."""
        read = Ids()
        for number, value in enumerate(self.ids, 1):
            yield from read.check(f"argument {number}", value)
        for source in self.sources:
            if source == "-":
                if sys.stdin is None:
                    raise click.UsageError("cannot read ids from standard input: it is closed")
                yield from read.read(sys.stdin.buffer, "standard input")
                continue
            try:
                with Path(source).open("rb") as stream:
                    yield from read.read(stream, source)
            except OSError as error:
                raise click.UsageError(f"cannot read {source}: {error.strerror}") from error
        complaint = read.complaint()
        if complaint:
            raise click.UsageError(complaint)


def id_of(item: Item) -> str:
    """Return the id of an item."""
    return item.id if isinstance(item, Conference) else item


def gathered(items: Iterator[Item], most: float) -> tuple[list[Item], int, bool]:
    """Take items until there are more than ``most``.

    Return them, each once, how many duplicates were among them, and whether these are all.
    """
    found: dict[str, Item] = {}
    given = 0
    for item in items:
        given += 1
        found[id_of(item)] = item
        if len(found) > most:
            return list(found.values()), given - len(found), False
    return list(found.values()), given - len(found), True


async def _listed_as_active(
    chosen: dict[str, Any], limit: RateLimit, deadline: float | None
) -> list[Conference]:
    """Return the active conferences, each once: one that moves to the next page is listed on both."""
    client = new_client(rate_limit=limit, deadline=deadline or math.inf)
    try:
        async with asyncio.timeout(deadline), client:
            listing = client.list_conferences(
                name=chosen["name"],
                min_created_time=chosen["created_after"],
                max_created_time=chosen["created_before"],
            )
            active = {conference.id: conference async for conference in listing if conference.active}
            return list(active.values())
    except TimeoutError as error:
        early = error.last_error if isinstance(error, DeadlineExceededError) else None
        last = early or refusal_until(client, deadline)
        met = f"; the last attempt met: {last.message}" if last else ""
        raise DeadlineExceededError(
            f"the deadline came during the listing; nothing was ended{met}", last_error=last
        ) from None


def shard(_: click.Context, __: click.Parameter, value: str | None) -> Shard | None:
    """Return the shard that --shard names; an option callback."""
    if value is None:
        return None
    number, slash, count = value.partition("/")
    if number in {"", "auto"} and slash:
        number = _task()
    # Python reads underscores and other digits too.
    if not all(re.fullmatch("[0-9]{1,18}", text) for text in (number, count)):
        raise click.BadParameter(f"{value!r} is no shard: write 0/4, or auto/4 on a job array")
    try:
        return Shard(int(number), int(count))
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from error


def _task() -> str:
    """Return the number of this task in its job array."""
    told = {name: os.environ[name] for name in _TASKS if os.environ.get(name)}
    if not told:
        raise click.BadParameter(
            f"auto takes the shard from {', '.join(_TASKS[:2])} or {_TASKS[2]}, and none of them is set"
        )
    if len(set(told.values())) > 1:
        said = " and ".join(f"{name}={value}" for name, value in told.items())
        raise click.BadParameter(f"auto cannot choose between {said}: name the shard, as in 0/4")
    (value,) = set(told.values())
    return value


def tasks() -> int | None:
    """Return how many tasks the job array has, if its engine says so."""
    told = next((os.environ[name] for name in _SIZES if os.environ.get(name)), "")
    return int(told) if told.isascii() and told.isdigit() else None
