"""The formats of the output: records in columns, as JSON, as JSON lines or as CSV."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import re
import shutil
import stat
import sys
import time
from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, Self

import click
from attrs import asdict, fields, frozen

from bandwidth_async.cli import terminal
from bandwidth_async.cli.choices import FORMATS
from bandwidth_async.models import ConferenceMember, ConferenceRecording
from bandwidth_async.server_text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from bandwidth_async.models import Conference
    from bandwidth_async.outcome import Outcome


# What spreadsheets take for the beginning of a formula, in full width too; and the same behind apostrophes,
# so that one apostrophe more can always be told from the text's own.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
# The columns of ids.
_IDS = frozenset(
    {"conference_id", "call_id", "recording_id", "calls_ended", "call_ids_to_coach", "account_id", "run"}
)
# Of a cell that has less room, nothing is shown.
_LEAST_CELL = 4
# Seconds for which rows into a file may wait for each other.
_FLUSH_EVERY = 1.0


class Format(ABC):
    """Turns each record into one line."""

    def header(self) -> str | None:
        """Return the line before the first record, if there is one."""
        return None

    @abstractmethod
    def row(self, record: Mapping[str, Any]) -> str:
        """Return the line of one record."""

    def end(self) -> str | None:
        """Return the line after the last record, if there is one."""
        return None


class JsonLines(Format):
    """One JSON object a line."""

    def row(self, record: Mapping[str, Any]) -> str:
        """Return the line of one record."""
        return json.dumps(record)


class JsonArray(Format):
    """One JSON array, with one object a line."""

    def __init__(self) -> None:
        self._comma = ","

    def header(self) -> str:
        """Begin the array."""
        self._comma = " "
        return "["

    def row(self, record: Mapping[str, Any]) -> str:
        """Return the line of one record."""
        comma, self._comma = self._comma, ","
        return comma + json.dumps(record)

    def end(self) -> str:
        """End the array."""
        return "]"


class Csv(Format):
    """Comma-separated values under a header (RFC 4180, with plain line ends).

    A spreadsheet runs a cell that begins like a formula, whoever wrote it: a text that does has an apostrophe
    in front. `plain_cell` takes it away. An id is never changed: it is copied, compared and sent.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = keys

    def header(self) -> str:
        """Return the names of the columns."""
        return self._line(self._keys)

    def row(self, record: Mapping[str, Any]) -> str:
        """Return the line of one record. None is an empty cell, and a list is separated by blanks."""
        return self._line([_cell(record[key], is_id=key in _IDS) for key in self._keys])

    def _line(self, cells: Sequence[Any]) -> str:
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(cells)
        return line.getvalue()


def _cell(value: Any, *, is_id: bool) -> Any:
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        value = " ".join(value)
    if isinstance(value, list | tuple | dict):
        value = json.dumps(value)
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if _FORMULA.match(text) and not is_id else text


def plain_cell(text: str) -> str:
    """Return the text that `Csv` wrote as this cell."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text[1:]) else text


@frozen
class Columns(Format):
    """A table: the width of each key's column. A longer value pushes the rest aside.

    On a terminal each line has ``room`` columns, and what is longer is cut at its end, but an id is whole
    or left out, and that of the first column is there. Elsewhere nothing is cut.
    """

    widths: Mapping[str, int]
    room: float = math.inf

    def header(self) -> str:
        """Return the first line of the table."""
        return self._line(self.widths)

    def row(self, record: Mapping[str, Any]) -> str:
        """Return the line of one record."""
        return self._line([_word(record[key]) for key in self.widths])

    def _line(self, cells: Iterable[str]) -> str:
        (_, first), *rest = (
            (key, f"{cell}{' ' * (width - _columns(cell))}")
            for cell, (key, width) in zip(cells, self.widths.items(), strict=True)
        )
        line = "  ".join((first, *(cell for _, cell in rest))).rstrip()
        if _columns(line) <= self.room:
            return line
        line = first
        for key, cell in rest:
            # Two columns are between cells, and one is for the mark; behind a whole cell it has a blank too.
            left = int(self.room) - _columns(line) - 3
            if _columns(cell.rstrip()) >= left:
                begun = "" if key in _IDS or left < _LEAST_CELL else f"  {_cut(cell, left)}…"
                return line + begun if begun else _marked(line.rstrip(), self.room)
            line += f"  {cell}"
        return line.rstrip()


def _marked(line: str, room: float) -> str:
    """Return a line that cells were left out of, with a mark apart from its id if there is room for it."""
    return f"{line} …" if _columns(line) + 2 <= room else line


def _cut(cell: str, columns: int) -> str:
    if cell.isascii():
        return cell[:columns].rstrip()
    while _columns(cell) > columns:
        cell = cell[:-1]
    return cell.rstrip()


def _columns(text: str) -> int:
    """Return how many columns of a terminal a text takes: characters of East Asia and emoji take two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - most texts need none

    return cell_len(text)


def _word(value: Any) -> str:
    """Return a value as a person reads it in a table."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        value = ", ".join(value) or None
    return "-" if value is None else terminal.one_line(str(value))


@frozen
class Table:
    """The records of a command: the columns of its table, and the keys of its CSV."""

    widths: Mapping[str, int]
    keys: tuple[str, ...]

    def format(self, name: str, stream: IO[str]) -> Format:
        """Return one of `FORMATS` for a stream."""
        match name:
            case "jsonl":
                return JsonLines()
            case "json":
                return JsonArray()
            case "csv":
                return Csv(self.keys)
            case _:
                room = shutil.get_terminal_size().columns if stream.isatty() else math.inf
                return Columns(self.widths, room or math.inf)


OUTCOMES = Table(
    {"conference_id": 50, "outcome": 13, "attempts": 8, "error": 0},
    ("conference_id", "outcome", "attempts", "error", "elapsed", "calls_ended"),
)
CONFERENCES = Table(
    {"conference_id": 50, "created_time": 24, "completed_time": 24, "name": 24, "tag": 0},
    ("conference_id", "name", "created_time", "completed_time", "tag"),
)
MEMBERS = Table(
    {"call_id": 47, "mute": 4, "hold": 4, "call_ids_to_coach": 0},
    tuple(field.name for field in fields(ConferenceMember)),
)
CHANGES = Table({"call_id": 47, "done": 7, "error": 0}, ("call_id", "done", "error"))
RECORDINGS = Table(
    {"recording_id": 47, "status": 10, "start_time": 24, "duration": 10, "file_format": 0},
    tuple(field.name for field in fields(ConferenceRecording)),
)
IDS = Table({"conference_id": 0}, ("conference_id",))
RUNS = Table(
    {
        "run": 24,
        "state": 16,
        "size": 8,
        "settled": 9,
        "total": 9,
        "account_id": 12,
        "created": 24,
        "journal": 0,
    },
    (
        "run",
        "created",
        "account_id",
        "total",
        "settled",
        "state",
        "process",
        "size",
        "shard",
        "journal",
        "counts",
    ),
)

_OF_A_PROFILE = {
    "profile": 16,
    "in_force": 8,
    "account_id": 12,
    "client_id": 20,
    "environment": 11,
    "secret": 24,
}
PROFILES = Table({**_OF_A_PROFILE, "file": 0}, (*_OF_A_PROFILE, "voice_url", "api_url", "file"))
SETTINGS = Table({"setting": 16, "value": 34, "from": 0}, ("setting", "value", "from"))


def outcome_record(outcome: Outcome) -> dict[str, Any]:
    """Return the record of an outcome."""
    return {
        "conference_id": outcome.conference_id,
        "outcome": outcome.kind.value,
        "attempts": outcome.attempts,
        "error": outcome.error,
        "elapsed": round(outcome.elapsed, 6),
        "calls_ended": list(outcome.calls_ended),
    }


def reason(outcome: Outcome) -> str | None:
    """Return the error of an outcome for a line that names its id already."""
    return outcome.error and outcome.error.replace(f"end conference {outcome.conference_id}: ", "")


def conference_record(conference: Conference) -> dict[str, Any]:
    """Return the record of a listed conference."""
    return {
        "conference_id": conference.id,
        "name": conference.name,
        "created_time": iso(conference.created_time),
        "completed_time": iso(conference.completed_time),
        "tag": conference.tag,
    }


def member_record(member: ConferenceMember) -> dict[str, Any]:
    """Return the record of a member."""
    return asdict(member)


def recording_record(recording: ConferenceRecording) -> dict[str, Any]:
    """Return the record of a recording."""
    times = {"start_time": iso(recording.start_time), "end_time": iso(recording.end_time)}
    return {**asdict(recording), **times}


def iso(moment: datetime | None) -> str | None:
    """Return a time as Bandwidth writes it."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else None


class Writer:
    """Writes the records of a ``table`` to a stream, in one of `FORMATS`.

    A row is flushed if it is written ``at_once``. Rows ``in_bulk`` are flushed together once a second where
    the stream is a file: to flush each costs more than to make it. The stream is one of `open_output` where
    rows wait for each other, because that flushes the last.
    """

    def __init__(self, stream: IO[str], form: str, table: Table, *, in_bulk: bool = False) -> None:
        self._stream = stream
        self._every = _FLUSH_EVERY if in_bulk and _is_file(stream) else 0.0
        self._flushed_at = time.monotonic()
        self._format = table.format(form, stream)
        # The file of `open_output` may have records already.
        self._begun = stream is not sys.stdout and _is_file(stream) and stream.tell() > 0

    @property
    def on_terminal(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream.isatty()

    def lines(self, record: Mapping[str, Any]) -> Iterator[str]:
        """Yield the line of a record, and the header before the first."""
        yield from self._beginning()
        yield self._format.row(record)

    def _beginning(self) -> Iterator[str]:
        if not self._begun:
            self._begun = True
            header = self._format.header()
            if header is not None:
                yield header

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.end()

    def end(self) -> None:
        """End the output. Raises `OSError` when the stream cannot be written."""
        end = self._format.end()
        if end is not None:
            self.write_lines([*self._beginning(), end], at_once=False)

    def write(self, record: Mapping[str, Any], *, at_once: bool = True) -> None:
        """Write one record. Raises `OSError` when the stream cannot be written."""
        self.write_lines(self.lines(record), at_once=at_once)

    def write_lines(self, lines: Iterable[str], *, at_once: bool = True) -> None:
        """Write lines, and flush them ``at_once``. Raises `OSError` when the stream cannot be written."""
        write_text(self._stream, "".join(f"{line}\n" for line in lines))
        if at_once and (not self._every or time.monotonic() - self._flushed_at >= self._every):
            self.flush()

    def flush(self) -> None:
        """Flush what was written. Raises `OSError` when the stream cannot be written."""
        self._stream.flush()
        self._flushed_at = time.monotonic()

    def abandon(self) -> None:
        """Give up on the stream: see `terminal.abandon`."""
        terminal.abandon(self._stream)


def write_one(
    record: dict[str, Any],
    form: str | None,
    lines: Callable[[dict[str, Any]], Iterable[str]] = lambda record: map(_pair, record.items()),
) -> None:
    """Write one record to standard output: as a JSON object, JSON line or CSV, or else as ``lines``."""
    match form:
        case "json":
            write_text(sys.stdout, f"{json.dumps(record, indent=2)}\n")
        case "jsonl" | "csv":
            with Writer(sys.stdout, form, Table({}, tuple(record))) as writer:
                writer.write(record)
        case _:
            write_text(sys.stdout, "".join(f"{line}\n" for line in lines(record)))


def _pair(pair: tuple[str, Any]) -> str:
    return f"{pair[0]:<12} {_word(pair[1])}"


def write_none(form: str, table: Table) -> None:
    """Write to standard output what a ``table`` without records is: of the formats, only JSON has a text."""
    Writer(sys.stdout, form, table).end()


def form_for(given: str | None, output: Path | None, default: str = "table") -> str:
    """Return the format that was asked for, or else that of the output's suffix, or else the default."""
    suffix = "" if output is None else output.suffix.lower().removeprefix(".")
    return given or (suffix if suffix in FORMATS else default)


def write_text(stream: IO[str], text: str) -> None:
    """Write what a command was asked for. Where the stream is closed, the command will say so."""
    if isinstance(stream, terminal.Closed):
        stream.lost_rows = True
    stream.write(text)


@contextmanager
def open_output(
    path: Path | None, *, force: bool, behind: str | None = None, keep: Sequence[Path] = ()
) -> Iterator[IO[str]]:
    """Yield the stream for records: a new file, or standard output. It is never one of the files ``keep``.

    With ``behind``, the records go behind those that a file has already, in this one of `FORMATS`.

    Do this before the event loop: to open a pipe waits for its reader, and there no signal ends that.

    Whatever ends the command, kill -9 and a power cut excepted, the rows that were written are in the file.
    A new file that nothing was written to is removed if the command fails.
    """
    if path is None or str(path) == "-":
        yield sys.stdout
        return
    if any(_is_same(path, kept) for kept in keep):
        raise click.UsageError(f"{path} is the input or the journal; choose another --output")
    is_new = not path.exists()
    try:
        # Nothing is lost in a pipe or a device.
        keeps_nothing = path.exists() and not path.is_file()
        mode = "w" if force or keeps_nothing else "a+" if behind else "x"
        stream = path.open(mode, encoding="utf-8")
        if mode == "a+":
            try:
                _end_line(stream, form=behind)
            except BaseException:
                stream.close()
                raise
    except FileExistsError:
        raise click.UsageError(f"{path} exists; choose another --output, or --force to replace it") from None
    except OSError as error:
        raise click.UsageError(f"cannot write to {path}: {error.strerror}") from error
    try:
        with stream:
            yield stream
    except BaseException:
        with suppress(OSError):
            if is_new and not path.stat().st_size:
                path.unlink()
        raise


def _end_line(stream: IO[str], form: str | None) -> None:
    """End the last line of a file, which a process that was killed may have written half.

    From a JSON array that line is taken away, and the bracket that ends it. Raises `OSError`.
    """
    raw = stream.fileno()
    size = os.fstat(raw).st_size
    if form == "json" and size:
        _open_array(raw, size)
        stream.seek(0, os.SEEK_END)
    elif size and os.pread(raw, 1, size - 1) != b"\n":
        stream.write("\n")


def _open_array(raw: int, size: int) -> None:
    """Leave only the whole rows of a JSON array in a file, and nothing if there are none."""
    begin, end = b"[\n", b"]\n"
    if os.pread(raw, len(begin), 0) != begin[:size]:
        raise OSError(errno.EINVAL, "it has something else than JSON records")
    if os.pread(raw, len(end), max(0, size - len(end))) == end:
        size -= len(end)
    while size and os.pread(raw, 1, size - 1) != b"\n":
        size -= 1
    os.ftruncate(raw, size if size > len(begin) else 0)


def _is_same(path: Path, kept: Path) -> bool:
    """Return whether both paths are one file, also through symbolic or hard links, or would be one."""
    if path.exists() and kept.exists():
        return path.samefile(kept)
    return path.resolve() == kept.resolve()


def _is_file(stream: IO[str]) -> bool:
    """Return whether nobody waits for a row of the stream: it is a file, not a terminal, pipe or device."""
    with suppress(OSError, ValueError):
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    return False
