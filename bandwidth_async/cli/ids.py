"""Read conference ids from the input: plain lines, CSV, or JSON lines."""

from __future__ import annotations

import csv
import json
from contextlib import closing
from io import TextIOWrapper
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO

from attrs import define, field

from bandwidth_async.cli.formats import plain_cell
from bandwidth_async.errors import ConfigurationError
from bandwidth_async.wire import path_segment, printable

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

COLUMN = "conference_id"
# A complaint lists this many bad lines and counts the rest.
_LISTED = 100
_OTHER_HEADERS = frozenset({"id", "conferenceid", "conference"})
# A plain line with one of these characters comes from another format.
_STRUCTURE = frozenset(',;"[]{}<>')
# The mark at the begin of UTF-16 and UTF-32 text, in both byte orders, as surrogates.
_UTF_16 = ("\udcff\udcfe", "\udcfe\udcff")


@define
class Ids:
    """The ids of an input, read one by one, and what is wrong with the rest of it.

    ``faults`` are the first bad lines, and ``bad_lines`` is the number of all.
    """

    faults: list[str] = field(factory=list)
    bad_lines: int = 0

    def check(self, place: str, value: object) -> Iterator[str]:
        """Yield one id, or note what is wrong with it."""
        try:
            path_segment(value)
        except ConfigurationError as error:
            self._note(f"{place}: {error}")
        else:
            yield str(value)

    def read(self, stream: BinaryIO, name: str) -> Iterator[str]:
        """Yield the ids of a file. Its first line decides which of the three formats it has."""
        # Closed before the stream, also when a signal ends the reading.
        with closing(self._text(stream, name)) as lines:
            first = next(((number, line) for number, line in lines if not _says_nothing(line)), None)
            if first is None:
                return
            rest = chain([first], lines)
            if first[1].lstrip().startswith("{"):
                yield from self._read_json(rest, name)
            elif any(map(_is_column, _cells(first[1]))):
                yield from self._read_csv(rest, name)
            else:
                yield from self._read_plain(rest, name)

    def complaint(self) -> str | None:
        """Return a text with a line for each fault, or None without faults."""
        if not self.bad_lines:
            return None
        lines = self.faults[:]
        if self.bad_lines > len(lines):
            lines.append(f"and {self.bad_lines - len(lines):,} more")
        count = "1 line" if self.bad_lines == 1 else f"{self.bad_lines:,} lines"
        return "\n".join([*lines, f"{count} of the input cannot be used; nothing was sent"])

    def _note(self, fault: str) -> None:
        self.bad_lines += 1
        if self.bad_lines <= _LISTED:
            self.faults.append(fault)

    def _text(self, stream: BinaryIO, name: str) -> Generator[tuple[int, str], None, None]:
        """Yield each line with its number and its end. A byte that is not UTF-8 becomes a surrogate."""
        text = TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="")
        try:
            for number, line in enumerate(text, 1):
                if number == 1 and line.lstrip("\0").startswith(_UTF_16):
                    self._note(f"{name}: UTF-16 text; save it as UTF-8")
                    return
                yield number, line
        finally:
            # The stream is the caller's to close.
            text.detach()

    def _read_plain(self, lines: Iterable[tuple[int, str]], name: str) -> Iterator[str]:
        first = True
        for number, raw in lines:
            line = raw.strip()
            if _says_nothing(line):
                continue
            place = f"{name}:{number}"
            if first and line.lower() in _OTHER_HEADERS:
                self._note(f"{place}: {line!r} looks like a header; the column's name is {COLUMN}")
            elif self._is_text(place, line):
                if _STRUCTURE.isdisjoint(line):
                    yield from self.check(place, line)
                else:
                    self._note(
                        f"{place}: {printable(line)[:60]!r} is neither one id, nor JSON lines, "
                        f"nor CSV with a {COLUMN} column in its first line"
                    )
            first = False

    def _read_json(self, lines: Iterable[tuple[int, str]], name: str) -> Iterator[str]:
        for number, line in lines:
            place = f"{name}:{number}"
            if _says_nothing(line) or not self._is_text(place, line):
                continue
            try:
                record = json.loads(line, object_pairs_hook=_object)
            except _TwiceError:
                self._note(f"{place}: the key {COLUMN!r} is there twice")
            except (ValueError, RecursionError):
                self._note(f"{place}: not a JSON object on one line")
            else:
                if isinstance(record, dict) and COLUMN in record:
                    yield from self.check(place, record[COLUMN])
                else:
                    self._note(f"{place}: a JSON object needs the key {COLUMN!r}")

    def _read_csv(self, lines: Iterator[tuple[int, str]], name: str) -> Iterator[str]:
        header: list[str] = []
        rows = self._rows(lines, name, header)
        place, names = next(rows, ("", []))
        header += names
        columns = [number for number, cell in enumerate(header) if _is_column(cell)]
        if len(columns) != 1:
            if header:
                count = f"{len(columns)} times" if columns else "inside a quote that is opened before"
                self._note(f"{place}: the column {COLUMN} is there {count}")
            return
        for place, row in rows:
            if any(cell.strip() for cell in row[len(header) :]):
                self._note(
                    f"{place}: {len(row)} cells under {len(header)} column names; "
                    "a cell with a comma in it needs quotes"
                )
            elif self._is_text(place, "".join(row)):
                yield from self.check(
                    place, plain_cell(row[columns[0]].strip()) if len(row) > columns[0] else ""
                )

    def _rows(
        self, lines: Iterator[tuple[int, str]], name: str, header: list[str]
    ) -> Iterator[tuple[str, list[str]]]:
        """Yield each row with its place. A quoted cell may go over several lines, with any text in them.

        A line that may be a comment or a row under ``header`` is a fault.
        """
        began = 0

        def row_lines() -> Iterator[str]:
            nonlocal began
            for number, line in lines:
                if began or not _says_nothing(line):
                    began = began or number
                    # Blanks behind a closing quote are no text.
                    yield f"{line.rstrip()}\n"
                elif _may_be_a_row(line, header):
                    self._note(
                        f"{name}:{number}: a comment or a row? put the cell that begins with # into quotes, "
                        "or a blank behind the #"
                    )

        # After an error the reader goes on with a new row.
        reader = csv.reader(row_lines(), skipinitialspace=True, strict=True)
        while True:
            began = 0
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                what = "a quote is opened and never closed" if _is_open(error) else f"not CSV: {error}"
                self._note(f"{name}:{began}: {what}")
            else:
                yield f"{name}:{began}", row

    def _is_text(self, place: str, line: str) -> bool:
        """Return whether the line can be read, or note that it cannot."""
        if "\0" in line:
            self._note(f"{place}: NUL characters, as in UTF-16 text; save it as UTF-8")
        else:
            try:
                line.encode()
            except UnicodeEncodeError:
                self._note(f"{place}: not UTF-8 text")
            else:
                return True
        return False


class _TwiceError(ValueError):
    """An object has the key of the id twice."""


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if sum(key == COLUMN for key, _ in pairs) > 1:
        raise _TwiceError
    return dict(pairs)


def _says_nothing(line: str) -> bool:
    """Return whether a line is blank or a comment."""
    line = line.lstrip()
    return not line or line.startswith("#")


def _may_be_a_row(comment: str, header: list[str]) -> bool:
    """Return whether a comment looks like a row whose first cell, not the id, begins with #."""
    first, *rest = _cells(comment) or [""]
    if len(header) < 2 or _is_column(header[0]) or first[:2].strip() in {"", "#"}:
        return False
    return any(_is_column(name) and cell.strip() for name, cell in zip(header[1:], rest, strict=False))


def _is_open(error: csv.Error) -> bool:
    return str(error) == "unexpected end of data"


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line.strip()], skipinitialspace=True), [])
    except csv.Error:
        return []


def _is_column(field: str) -> bool:
    return field.strip().lower() == COLUMN
