"""The journal of a run on the command line: made, filled with the input, and gone on with."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bandwidth_async import journal as stored
from bandwidth_async.cli import event_loop, formats, run, terminal
from bandwidth_async.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bandwidth_async.cli.inputs import Input
    from bandwidth_async.cli.run import RunOptions
    from bandwidth_async.client import VoiceClient
    from bandwidth_async.journal import Journal, Recorded
    from bandwidth_async.models import Conference

T = TypeVar("T")

# Ids of an input that are recorded at a time, and seconds between two lines of progress.
_PART, _SAY_EVERY = 10_000, 5.0

_INSTEAD = "choose a file with --journal FILE, or keep no journal with --no-journal"


def go_on(client: VoiceClient, journal: Journal, how: RunOptions, *, append: bool, note: str = "") -> int:
    """End what a journal has unsettled, and close it. Return the exit code of the whole run.

    ``note`` is said if there is something to end.
    """
    began = time.monotonic()
    try:
        whole = journal.report()
        if not whole.unsettled:
            terminal.say(f"nothing to do: all {whole.total:,} conferences are settled")
            if how.output is None:
                formats.write_none(how.form, formats.OUTCOMES)
            terminal.ending.because = run.reason(whole)
            return how.exit_code(whole)
        if note:
            terminal.say(note)
        behind = how.form if append else None
        with formats.open_output(how.output, force=how.force, behind=behind, keep=[journal.path]) as stream:
            job = run.Run(source=journal, total=whole.unsettled, how=how.after(began), stream=stream)
            return event_loop.run(run.carry_out(client, job))
    finally:
        event_loop.run(journal.aclose())


def in_a_thread(check: Callable[[], T]) -> T:
    """Return the result of a check of a whole journal. SQLite hears no signals, but who waits for it does.

    A signal leaves the thread behind, which ends with the process.
    """
    from concurrent.futures import Future  # noqa: PLC0415 - not for --help

    future: Future[T] = Future()

    def resolve() -> None:
        try:
            future.set_result(check())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=resolve, daemon=True).start()
    return future.result()


def new_file(given: Path | None) -> Path:
    """Return the path of a new journal: ``given``, or a new name in the state directory."""
    if given is not None:
        _check_file(given)
        if given.exists():
            raise click.UsageError(_why_taken(given))
        return given
    from random import Random  # noqa: PLC0415 - not for --help

    try:
        return stored.new_journal_path(stored.state_directory(os.environ), datetime.now(UTC), Random())
    except JournalError as error:
        raise click.UsageError(f"{error}; {_INSTEAD}") from error


def _check_file(path: Path) -> None:
    if path.is_dir() or str(path) == "-":
        what = "a stream" if str(path) == "-" else "a directory"
        raise click.UsageError(f"{path} is {what}; name a file for the journal")


def _why_taken(given: Path) -> str:
    if given.is_file() and not given.stat().st_size:
        return f"{given} is an empty file and not a journal; remove it, or choose another file"
    with suppress(JournalError):
        info = stored.describe(given)
        if info.in_use:
            return f"{given} is the journal of a run that is going on; choose another file"
        if not info.complete:
            return f"{given} is the journal of a run that was stopped before it sent anything; remove it"
    return f"{given} exists; resume its run ({run.resume_command(given)}), or choose another file"


def made(path: Path, account_id: str, how: RunOptions, given: Input) -> Journal:
    """Make the journal of a new run."""
    try:
        return stored.Journal.create(path, **_facts(account_id, how, given))
    except JournalError as error:
        raise click.UsageError(f"{error.message}; {_INSTEAD}") from error


def opened_or_made(path: Path, account_id: str, how: RunOptions, given: Input) -> Journal:
    """Open the journal of an earlier start of this command, or make it."""
    _check_file(path)
    was_there, facts = path.exists(), _facts(account_id, how, given)
    try:
        journal = in_a_thread(lambda: stored.Journal.open_or_create(path, **facts))
    except JournalError as error:
        if error.in_use:
            raise
        raise click.UsageError(error.message) from error
    if was_there and not journal.recorded:
        terminal.say(f"the input of {path} was cut off before anything was sent: the run starts over")
    return journal


def _facts(account_id: str, how: RunOptions, given: Input) -> dict[str, Any]:
    return {
        "account_id": account_id,
        "created": time.time(),
        "verify": how.verify,
        "hang_up": how.hang_up,
        "shard": given.shard,
        "digest": given.digest(),
    }


def record(loop: event_loop.Loop, journal: Journal, items: Iterator[str | Conference]) -> Recorded:
    """Record an input, but do not complete it. Return its totals.

    To read a part of it may block, so that happens outside of the event loop.
    """
    recorded, said_at = stored.Recorded(0, 0), time.monotonic()
    while part := list(islice(items, _PART)):
        recorded = loop.run(journal.record(part, whole=False))
        if time.monotonic() - said_at >= _SAY_EVERY:
            said_at = time.monotonic()
            terminal.say(f"{time.strftime('%H:%M:%S')} reading the input: {recorded.kept:,} ids so far")
    return recorded


@contextmanager
def kept_if_begun(loop: event_loop.Loop, journal: Journal) -> Iterator[None]:
    """Close a journal at the end. Remove it first if its run was never to begin."""
    try:
        yield
    except BaseException as error:
        if not journal.recorded:
            # While it is locked: the same command may have been started a second time.
            stored.remove(journal.path)
            if isinstance(error, JournalError):
                reason = error.message.partition(";")[0]
                raise click.ClickException(f"{reason}; nothing was ended") from error
        raise
    finally:
        loop.run(journal.aclose())
