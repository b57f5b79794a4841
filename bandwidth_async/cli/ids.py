"""Read conference ids from the input: plain lines, columns, JSON lines, or a JSON array."""

from __future__ import annotations

import io
import re
from contextlib import contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING, BinaryIO

from attrs import define, field

from bandwidth_async.cli.columns import (
    COLUMN,
    SEPARATOR_LINE,
    SEPARATORS,
    Column,
    Rows,
    cells,
    plain,
    says_nothing,
)
from bandwidth_async.cli.faults import Faults
from bandwidth_async.cli.formats import plain_cell
from bandwidth_async.cli.json_values import DECODER, Pairs, Values
from bandwidth_async.errors import ConfigurationError
from bandwidth_async.wire import path_segment, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Lines = Iterator[tuple[int, str]]

# Names that look like it, but may be of other things.
_HEADERS = frozenset({"conference", "conferences", "conferenceids", "ids"})
# A plain line with one of these characters has more than an id in it.
_STRUCTURE = frozenset(',;\t"[]{}<>')
# Characters in which a file shows what it is.
_HEAD = 1 << 16
# JSON that is not line by line: an array, or an object over several lines.
_VALUES = re.compile(r"(?:\s+|#[^\r\n]*(?![^\r\n]))*(\[|\{\s*[\r\n])")
_UNDECODABLE = re.compile(r"[^\r\n]*[\udc80-\udcff]")

# How files begin that are no text, or no list.
_FOREIGN = (
    (b"PK\x03\x04", "this is a workbook or another zip file; save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "this is a workbook of an old Excel; save the sheet as CSV"),
    (b"SQLite format 3\0", "this is a journal or another database; to go on with a run, use resume"),
    (b"\x1f\x8b", "this is packed by gzip; unpack it first"),
    (b"%PDF-", "this is a PDF; the ids are needed as text or CSV"),
    (b"{\\rtf", "this is rich text; save it as plain text"),
    (b"\xff\xfe", "UTF-16 text; save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text; save it as UTF-8"),
    (b"\0\0\xfe\xff", "UTF-16 text; save it as UTF-8"),
    (b"<", "this is HTML or XML and no list of ids; was it a sign-in page or an error?"),
)


@define
class Ids:
    """The ids of an input, read one by one, and what is wrong with the rest of it.

    ``column`` is what a `Column` has as ``wanted``. ``found`` says in words which column or key of a source
    has the ids.
    """

    column: str | None = None
    faults: Faults = field(factory=Faults)
    found: dict[str, str] = field(factory=dict)
    _column: Column = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._column = Column(self.column)

    def check(self, place: str, number: int, value: object, noun: str = "line") -> Iterator[str]:
        """Yield one id, or note what is wrong with it."""
        try:
            path_segment(value)
        except ConfigurationError as error:
            cause = _cause(value)
            # Python's word for a value of JSON is not the reader's.
            told = str(error) if isinstance(value, str) and value else f"the id is {cause}"
            self.faults.add(place, number, told, cause, noun)
        else:
            yield str(value)

    def read(self, stream: BinaryIO, name: str) -> Iterator[str]:
        """Yield the ids of a file. Its beginning decides which format it has."""
        with _text_of(stream) as text:
            head = text.read(_HEAD)
            # A terminal would be read again behind its end.
            more = text if len(head) == _HEAD else io.StringIO()
            raw = head.lstrip(" \t\r\n")[:20].encode(errors="surrogateescape")
            foreign = next((what for start, what in _FOREIGN if raw.startswith(start)), None)
            if foreign is None and "\0" in head and _UNDECODABLE.match(head):
                foreign = "this is no text, but some binary file"
            if foreign:
                self.faults.add_whole(name, foreign)
            elif values := _VALUES.match(head):
                begun = head[values.start(1) :]
                yield from self._read_values(Values(begun, more.read), name, begun[0])
            else:
                lines = chain(io.StringIO(head + more.readline(), newline=""), more)
                yield from self._read_lines(enumerate(lines, 1), name)

    def _read_lines(self, lines: Lines, name: str) -> Iterator[str]:
        separators, first = SEPARATORS, _next(lines)
        if named := SEPARATOR_LINE.fullmatch(first[1]):
            separators, first = named[1], _next(lines)
        rest = chain([first], lines)
        if first[1].lstrip().startswith("{"):
            yield from self._read_json(rest, name)
            return
        found = {separator: cells(first[1], separator) for separator in separators}
        fitting = [one for one, names in found.items() if self._column.of(names)]
        separator = max(fitting or found, key=lambda one: len(found[one]))
        if fitting:
            yield from self._read_csv(rest, name, separator)
        elif self._is_readable_as_lines(first, name, found[separator]):
            yield from self._read_plain(rest, name)

    def _is_readable_as_lines(self, first: tuple[int, str], name: str, names: Sequence[str]) -> bool:
        """Return whether an input without a column of ids has one id a line, or note what it is."""
        number, line = first
        table = re.split(r"\s{2,}", line.strip())
        filled = [printable(cell)[:30] for cell in names if cell.strip()]
        if len(table) > 1 and self._column.named(table):
            self.faults.add_whole(
                name, "this is a table for people, as list prints it; print it with --format jsonl or csv"
            )
        elif self.column is not None:
            there = ", ".join(filled[:20])
            self.faults.add_whole(name, f"there is no column {self.column!r}; line {number} has: {there}")
        elif plain(line) in _HEADERS:
            self.faults.add_whole(
                name, f"line {number}, {line.strip()!r}, looks like a header; the column's name is {COLUMN}"
            )
        elif len(filled) > 1 and _STRUCTURE.isdisjoint("".join(filled)):
            # The likeliest one, as an example.
            at = next((at for at, cell in enumerate(names, 1) if plain(cell).startswith("conf")), 1)
            self.faults.add_whole(
                name,
                f"line {number} has {len(names)} columns, and none is named {COLUMN} or id; name the one "
                f"with the ids by its header or number, as in --column {at}",
            )
        else:
            return True
        return False

    def _read_plain(self, lines: Lines, name: str) -> Iterator[str]:
        for number, raw in lines:
            line = raw.strip()
            # Spreadsheets end a list with rows that have nothing but separators.
            if says_nothing(line) or not line.strip(SEPARATORS + " "):
                continue
            if not self._is_text(name, number, line):
                continue
            if _STRUCTURE.isdisjoint(line) and not line.startswith("'"):
                yield from self.check(name, number, line)
                continue
            found = [cell for cell in _plain_cells(line) if cell]
            if len(found) == 1 and _STRUCTURE.isdisjoint(found[0]):
                yield from self.check(name, number, found[0])
            else:
                what = (
                    "is neither one id, nor JSON lines, nor CSV with a conference_id column in its first line"
                )
                self.faults.add(name, number, f"{printable(line)[:60]!r} {what}", what)

    def _read_json(self, lines: Lines, name: str) -> Iterator[str]:
        for number, line in lines:
            if says_nothing(line) or not self._is_text(name, number, line):
                continue
            try:
                record = DECODER.decode(line.strip().removesuffix(","))
            except (ValueError, RecursionError):
                record = None
            if isinstance(record, Pairs):
                yield from self._id_of(record, name, name, number)
            else:
                self.faults.add(name, number, "not a JSON object on one line")

    def _read_values(self, values: Values, name: str, begin: str) -> Iterator[str]:
        """Yield the ids of the items of an array, or of objects that go over several lines."""
        try:
            for value in values.of_arrays() if begin == "[" else values.of_objects():
                if isinstance(value, Pairs):
                    yield from self._id_of(value, name, f"{name}, ", values.count, "item")
                else:
                    yield from self.check(f"{name}, ", values.count, value, "item")
        except ValueError as error:
            where = f"item {values.count}" if values.count else "the beginning"
            self.faults.add_whole(name, f"{where} is the last that can be read: {error}")

    def _id_of(self, record: Pairs, source: str, name: str, number: int, noun: str = "line") -> Iterator[str]:
        """Yield the id of a JSON object, or note what is wrong with it."""
        found = self._column.named([key for key, _ in record])
        if len(found) == 1:
            self.found.setdefault(source, f"key {printable(record[found[0]][0])!r}")
            yield from self.check(name, number, record[found[0]][1], noun)
        elif found:
            self.faults.add(name, number, f"the key {record[found[0]][0]!r} is there twice", "", noun)
        else:
            self.faults.add(name, number, f"a JSON object needs the key {self.column or COLUMN!r}", "", noun)

    def _read_csv(self, lines: Lines, name: str, separator: str) -> Iterator[str]:
        rows = Rows(self.faults, name, separator)
        read = rows.read(lines)
        number, first = next(read, (0, []))
        found = self._column.of(first)
        if len(found) != 1:
            if first:
                count = f"{len(found)} times" if found else "inside a quote that is opened before"
                self.faults.add(name, number, f"the column {self._column} is there {count}")
            return
        (rows.column,), rows.width = found, len(first)
        second = list(islice(read, 1))
        if self._column.is_named_in(first, second[0][1] if second else ()):
            self.found[name] = f"column {printable(first[rows.column].strip())!r}"
            read = chain(second, read)
        else:
            self.found[name] = f"column {rows.column + 1}"
            read = chain([(number, first)], second, read)
        for number, row in read:
            if (
                rows.fits(number, row)
                and self._is_text(name, number, "".join(row))
                and any(map(str.strip, row))
            ):
                cell = row[rows.column] if len(row) > rows.column else ""
                yield from self.check(name, number, plain_cell(cell.strip()))

    def _is_text(self, name: str, number: int, line: str) -> bool:
        """Return whether the line can be read, or note that it cannot."""
        if "\0" in line:
            self.faults.add(name, number, "NUL characters, as in UTF-16 text; save it as UTF-8")
        else:
            try:
                line.encode()
            except UnicodeEncodeError:
                self.faults.add(name, number, "not UTF-8 text; save it as UTF-8")
            else:
                return True
        return False


@contextmanager
def _text_of(stream: BinaryIO) -> Iterator[io.TextIOWrapper]:
    """Yield the text of a stream. A byte that is not UTF-8 becomes a surrogate. The stream stays open."""
    text = io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="")
    try:
        yield text
    finally:
        text.detach()


def _cause(value: object) -> str:
    """Return why a value is no id, as a cause that all alike have in common; nothing if it is one."""
    if value is None:
        return "null"
    if not isinstance(value, str):
        return "no text"
    if not value.strip(". "):
        return "only dots" if "." in value else "empty"
    if not value.isprintable():
        return "not printable"
    return next((f"with {one!r}" for one in " /\\%?#;" if one in value), "")


def _next(lines: Lines) -> tuple[int, str]:
    """Return the next line that says something, or one without a text at the end."""
    return next(((number, line) for number, line in lines if not says_nothing(line)), (0, ""))


def _plain_cells(line: str) -> list[str]:
    """Return the cells of a line that has no header above it, without quotes of either kind."""
    found = max((cells(line, separator, strict=True) for separator in SEPARATORS), key=len)
    return [re.sub(r"^'(.+)'$", r"\1", cell.strip()) for cell in found]
