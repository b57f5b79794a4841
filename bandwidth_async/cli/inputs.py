"""The input of ``end``: ids of arguments and files, or what the server lists as active; all or a shard."""

from __future__ import annotations

import asyncio
import math
import os
import re
import shlex
import sys
from contextlib import suppress
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

import click
from attrs import field, frozen

from bandwidth_async.cli import event_loop
from bandwidth_async.cli.ids import Ids
from bandwidth_async.cli.options import new_client
from bandwidth_async.cli.run import refusal_until
from bandwidth_async.errors import ConfigurationError, DeadlineExceededError
from bandwidth_async.journal import Shard
from bandwidth_async.models import Conference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bandwidth_async.cli.selection import Selection
    from bandwidth_async.limiter import RateLimit

    Item = str | Conference

# The form of Bandwidth's ids. A file with such a name is none of the user's lists.
_BANDWIDTHS_ID = re.compile("conf(-[0-9a-f]+)+")

# Where Kubernetes, Slurm and AWS Batch say which task of an array this is. Each counts from 0, or can.
_TASKS = ("JOB_COMPLETION_INDEX", "SLURM_ARRAY_TASK_ID", "AWS_BATCH_JOB_ARRAY_INDEX")

# Where Slurm and AWS Batch say how many tasks the array has.
_SIZES = ("SLURM_ARRAY_TASK_COUNT", "AWS_BATCH_JOB_ARRAY_SIZE")


@frozen(kw_only=True)
class Input:
    """What a command line says of the conferences to end.

    ``chosen`` is the selection among the active ones, None without --all-active. ``column`` names the column
    with the ids in its files.
    """

    ids: tuple[str, ...]
    sources: tuple[str, ...]
    chosen: Selection | None
    shard: Shard | None
    column: str | None = None
    # What was read: the sources with ids, and the column of each in words; and those without any.
    _read: dict[str, str] = field(factory=dict, init=False, eq=False)
    _empty: list[str] = field(factory=list, init=False, eq=False)

    @classmethod
    def given(
        cls,
        arguments: tuple[str, ...],
        sources: tuple[str, ...],
        chosen: Selection | None,
        shard: Shard | None,
        column: str | None,
    ) -> Self:
        """Return the input of a command line, where an argument ``-`` is standard input.

        Raises `click.UsageError` if something is said twice or not at all, or if an argument names a file.
        """
        for argument in arguments:
            if argument != "-" and not _BANDWIDTHS_ID.fullmatch(argument) and _is_file(argument):
                raise click.UsageError(
                    f"{argument} is a file and no conference id; did you mean --from {shlex.quote(argument)}?"
                )
        ids = tuple(argument for argument in arguments if argument != "-")
        sources += ("-",) * (len(arguments) - len(ids))
        if sources.count("-") > 1:
            raise click.UsageError("standard input can be read once: give - as an argument or with --from -")
        if chosen is not None and (ids or sources):
            raise click.UsageError("--all-active finds the conferences itself: leave out ids and --from")
        if chosen is None and not (ids or sources):
            raise click.UsageError("name the conferences to end: give ids, --from FILE or --all-active")
        if column is not None and not (sources and column.strip()):
            raise click.UsageError("--column names a column of the file that --from reads: give both")
        return cls(ids=ids, sources=sources, chosen=chosen, shard=shard, column=column)

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
        facts = (self.ids, self.chosen, *filter(None, [self.column]))
        told = blake2b(repr(facts).encode(errors="replace"), digest_size=16)
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

    @property
    def can_be_known(self) -> bool:
        """Whether `digest` tells this input from all others: a pipe is read once, a listing changes."""
        return self.chosen is None and "-" not in self.sources and all(path.is_file() for path in self.files)

    def _given(self) -> Iterator[str]:
        """Yield the ids of the arguments and files."""
        read = Ids(self.column)
        for number, value in enumerate(self.ids, 1):
            yield from read.check("", number, value, noun="argument")
        for source in self.sources:
            if source == "-":
                if sys.stdin is None:
                    raise click.UsageError("cannot read ids from standard input: it is closed")
                yield from self._noted(read, sys.stdin.buffer, "standard input")
                continue
            try:
                with Path(source).open("rb") as stream:
                    yield from self._noted(read, stream, source)
            except OSError as error:
                raise click.UsageError(f"cannot read {source}: {error.strerror}") from error
        complaint = read.faults.complaint()
        if complaint:
            raise click.UsageError(complaint)

    def _noted(self, read: Ids, stream: BinaryIO, name: str) -> Iterator[str]:
        """Yield the ids of a source, and note where in it they are."""
        ids = read.read(stream, name)
        for first in ids:
            self._read[name] = read.found.get(name, "")
            yield first
            yield from ids
            return
        self._empty.append(name)

    def origin(self) -> str:
        """Return where ids came from, if not from the arguments alone: files, and their columns."""
        count = len(self.ids) if self._read else 0
        arguments = [f"{count:,} argument{'' if count == 1 else 's'}"] if count else []
        named = [f"{name} ({column})" if column else name for name, column in self._read.items()]
        return ", ".join([*arguments, *named])

    def why_none(self) -> str:
        """Return the end of a sentence about an input without ids."""
        if self.chosen is not None and (words := self.chosen.in_words()):
            return f": none that is active is {words}"
        if self._empty and not (self.ids or self._read):
            return f": {', '.join(self._empty)} has no ids"
        return f": none is of shard {self.shard}" if self.shard else ""


def _is_file(argument: str) -> bool:
    # A text that cannot be a path raises ValueError or OSError.
    with suppress(ValueError, OSError):
        return Path(argument).is_file()
    return False


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


async def _listed_as_active(chosen: Selection, limit: RateLimit, deadline: float | None) -> list[Conference]:
    """Return the active conferences, each once: one that moves to the next page is listed on both."""
    client = new_client(rate_limit=limit, deadline=deadline or math.inf)
    try:
        async with asyncio.timeout(deadline), client:
            listing = client.list_conferences(**chosen.query())
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
