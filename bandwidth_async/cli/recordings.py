"""The commands on the recordings of a conference: ``recordings`` and ``download``."""

from __future__ import annotations

import re
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bandwidth_async.cli import event_loop, exit_codes, formats, screen, terminal
from bandwidth_async.cli.options import in_a_format, new_client, sending
from bandwidth_async.errors import BandwidthError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bandwidth_async.client import VoiceClient
    from bandwidth_async.models import ConferenceRecording

    Show = Callable[[int, int | None], None]

_FORMAT = re.compile(r"[a-z0-9]{1,8}")
# Seconds between two lines of progress.
_LINE_EVERY = 5.0


@click.command(epilog=exit_codes.HELP)
@click.argument("conference_id", metavar="ID")
@click.argument("recording_ids", nargs=-1, metavar="[RECORDING_ID]...")
@in_a_format()
@sending
def recordings(conference_id: str, recording_ids: tuple[str, ...], form: str | None) -> int:
    """List the recordings of a conference, or those named by their ids. Bandwidth keeps them for 30 days."""
    found = event_loop.run(_recordings(conference_id, recording_ids))
    if not found:
        terminal.say("there are no recordings")
    with formats.Writer(sys.stdout, formats.form_for(form, None), formats.RECORDINGS) as writer:
        for recording in found:
            writer.write(formats.recording_record(recording))
    return exit_codes.Exit.OK


async def _recordings(conference_id: str, recording_ids: tuple[str, ...]) -> Sequence[ConferenceRecording]:
    async with new_client() as client:
        if not recording_ids:
            return await client.list_conference_recordings(conference_id)
        return [await client.get_conference_recording(conference_id, id_) for id_ in recording_ids]


@click.command(epilog=exit_codes.HELP)
@click.argument("conference_id", metavar="ID")
@click.argument("recording_id", metavar="RECORDING_ID")
@click.option(
    "--output",
    type=click.Path(allow_dash=True),
    metavar="FILE|-",
    help="Write the audio to FILE, or to standard output with -. [default: the recording's id and format, as "
    "in r-1.wav]",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@sending
def download(conference_id: str, recording_id: str, output: str | None, force: bool) -> int:
    """Download the audio of a recording into a new file, and print the file's name.

    The file appears only when it is complete. After a lost connection the download starts again. If the
    command ends early, it leaves no file. With --output - you have the whole audio only if the exit code
    is 0. Bandwidth keeps recordings for 30 days.
    """
    if output == "-":
        if force:
            raise click.UsageError("--force goes with a file")
        # Python has no stream of one that was closed at its start; `main` then writes nowhere.
        if sys.__stdout__ is None:
            raise click.UsageError("standard output is closed: name a file with --output")
        if sys.stdout.isatty():
            raise click.UsageError("standard output is a terminal: name a file with --output")
    event_loop.run(_download(conference_id, recording_id, output, force))
    return exit_codes.Exit.OK


async def _download(conference_id: str, recording_id: str, output: str | None, force: bool) -> None:
    async with new_client() as client:
        if output == "-":
            await _stream(client, conference_id, recording_id)
            return
        if output is None:
            known = await client.get_conference_recording(conference_id, recording_id)
            output = _file_name(recording_id, known.file_format)
        await _save(client, conference_id, recording_id, output, force)
    print(terminal.one_line(output))


async def _stream(client: VoiceClient, conference_id: str, recording_id: str) -> None:
    async with client.download_conference_recording(conference_id, recording_id) as media:
        async for chunk in media:
            sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


async def _save(client: VoiceClient, conference_id: str, recording_id: str, path: str, force: bool) -> None:
    _check_free(path, force)
    name = terminal.one_line(Path(path).name)
    try:
        with _bar(name) if screen.can_redraw() else _lines(name) as show:
            await client.download_conference_recording(
                conference_id, recording_id, to=path, overwrite=force, on_progress=show
            )
    except BandwidthError:
        raise
    except OSError as error:
        raise click.ClickException(f"cannot write to {path}: {error.strerror}") from error


def _check_free(path: str, force: bool) -> None:
    if Path(path).is_file() and not force:
        raise click.UsageError(f"{path} exists; choose another --output, or --force to replace it")


def _file_name(recording_id: str, file_format: str | None) -> str:
    """Return the id with the format as its suffix, if the server's format is safe in a file name."""
    suffix = (file_format or "").lower()
    return f"{recording_id}.{suffix}" if _FORMAT.fullmatch(suffix) else recording_id


@contextmanager
def _bar(name: str) -> Iterator[Show]:
    """Show bytes, speed and time left in a bar on standard error."""
    from rich import progress  # noqa: PLC0415 - not for --help

    bar = progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(compact=True),
        console=screen.console(),
    )
    task = bar.add_task(name, total=None)
    with bar:
        yield lambda received, whole: bar.update(task, completed=received, total=whole)


@contextmanager
def _lines(name: str) -> Iterator[Show]:
    """Print a line on standard error every few seconds."""
    printed_at = time.monotonic()

    def show(received: int, whole: int | None) -> None:
        nonlocal printed_at
        now = time.monotonic()
        if now - printed_at >= _LINE_EVERY:
            printed_at = now
            share = f" of {whole:,} ({received / whole:.0%})" if whole else ""
            terminal.say(f"{name}: {received:,}{share} bytes")

    yield show
