"""Writing records: one a line, as JSON or in columns, to standard output or a file."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import click
from attrs import frozen

from bandwidth_async.wire import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from bandwidth_async.models import Conference
    from bandwidth_async.teardown import Outcome


@frozen
class Columns:
    """How wide each key of a record is in the table; longer values push the rest aside, none is cut."""

    widths: Mapping[str, int]

    def header(self) -> str:
        """Return the first line of the table."""
        return self._line(self.widths)

    def row(self, record: Mapping[str, Any]) -> str:
        """Return the line of one record."""
        values = (record[key] for key in self.widths)
        return self._line(["-" if value is None else printable(str(value)) for value in values])

    def _line(self, cells: Any) -> str:
        pairs = zip(cells, self.widths.values(), strict=True)
        return "  ".join(f"{cell:<{width}}" for cell, width in pairs).rstrip()


OUTCOMES = Columns({"conference_id": 50, "outcome": 13, "attempts": 8, "error": 0})
CONFERENCES = Columns({"conference_id": 50, "name": 24, "created_time": 24, "completed_time": 24, "tag": 0})


def outcome_record(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as it is written."""
    return {
        "conference_id": outcome.conference_id,
        "outcome": outcome.kind.value,
        "attempts": outcome.attempts,
        "error": outcome.error,
        "elapsed": round(outcome.elapsed, 6),
    }


def conference_record(conference: Conference) -> dict[str, Any]:
    """Return a listed conference as it is written."""
    return {
        "conference_id": conference.id,
        "name": conference.name,
        "created_time": iso(conference.created_time),
        "completed_time": iso(conference.completed_time),
        "tag": conference.tag,
    }


def iso(moment: datetime | None) -> str | None:
    """Return a time as Bandwidth writes it."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else None


class Writer:
    """Writes records to one stream, each at once."""

    def __init__(self, stream: IO[str], columns: Columns, *, as_json: bool) -> None:
        self._stream = stream
        self._columns = columns
        self._as_json = as_json
        self._begun = as_json

    @property
    def on_terminal(self) -> bool:
        """Whether a person is looking at what it writes."""
        return self._stream.isatty()

    def lines(self, record: Mapping[str, Any]) -> Iterator[str]:
        """Return the line of a record, after the header when it is the first."""
        if not self._begun:
            self._begun = True
            yield self._columns.header()
        yield json.dumps(record) if self._as_json else self._columns.row(record)

    def write(self, record: Mapping[str, Any]) -> None:
        """Write one record. Raises `OSError` when the stream takes no more."""
        self._stream.write("".join(f"{line}\n" for line in self.lines(record)))
        self._stream.flush()

    def abandon(self) -> None:
        """Write no more, and have nothing left that closing the stream would try to write."""
        abandon(self._stream)


@contextmanager
def open_output(path: Path | None, *, force: bool) -> Iterator[IO[str]]:
    """Yield the stream that records go to: a new file, or standard output."""
    if path is None or str(path) == "-":
        yield sys.stdout
        return
    try:
        stream = path.open("w" if force else "x", encoding="utf-8")
    except FileExistsError:
        raise click.UsageError(f"{path} exists; choose another --output, or --force to replace it") from None
    except OSError as error:
        raise click.UsageError(f"cannot write to {path}: {error.strerror}") from error
    with stream:
        yield stream


def abandon(stream: IO[str]) -> None:
    """Leave nothing to be flushed into a pipe whose reader has gone, or onto a full disk."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
