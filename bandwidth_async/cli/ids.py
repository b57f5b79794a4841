"""Read conference ids from the input: plain lines, CSV, or JSON lines."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, BinaryIO

from attrs import define, field

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.wire import path_segment, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

COLUMN = "conference_id"
# A complaint lists this many bad lines and counts the rest.
_LISTED = 100
_OTHER_HEADERS = frozenset({"id", "conferenceid", "conference"})
# A plain line with one of these characters comes from another format.
_STRUCTURE = frozenset(',;"[]{}<>')


@define
class Ids:
    """Ids in the order of their first appearance, and what is wrong with the rest of the input."""

    unique: dict[str, None] = field(factory=dict)
    duplicates: int = 0
    faults: list[str] = field(factory=list)

    def add(self, place: str, value: object) -> None:
        """Add one id, or note what is wrong with it."""
        try:
            path_segment(value)
        except ConfigurationError as error:
            self.faults.append(f"{place}: {error}")
            return
        known = len(self.unique)
        self.unique[str(value)] = None
        self.duplicates += len(self.unique) == known

    def read(self, stream: BinaryIO, name: str) -> None:
        """Add the ids of a file. Its first line decides which of the three formats it has."""
        lines = self._text(stream, name)
        first = next(((number, line) for number, line in lines if line and not line.startswith("#")), None)
        if first is None:
            return
        rest = _chain(first, lines)
        if first[1].startswith("{"):
            self._read_json(rest, name)
        elif _is_header(first[1]):
            self._read_csv(rest, name)
        else:
            self._read_plain(rest, name)

    def complaint(self) -> str | None:
        """Return a text with a line for each fault, or None without faults."""
        if not self.faults:
            return None
        lines = self.faults[:_LISTED]
        if len(self.faults) > _LISTED:
            lines.append(f"and {len(self.faults) - _LISTED:,} more")
        count = "1 line" if len(self.faults) == 1 else f"{len(self.faults):,} lines"
        return "\n".join([*lines, f"{count} of the input cannot be used; nothing was sent"])

    def _text(self, stream: BinaryIO, name: str) -> Iterator[tuple[int, str]]:
        for number, raw in enumerate(stream, 1):
            if number == 1 and raw[:2] in {b"\xff\xfe", b"\xfe\xff"}:
                self.faults.append(f"{name}: UTF-16 text; save it as UTF-8")
                return
            try:
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError:
                self.faults.append(f"{name}:{number}: not UTF-8 text")

    def _read_plain(self, lines: Iterable[tuple[int, str]], name: str) -> None:
        first = True
        for number, line in lines:
            if not line or line.startswith("#"):
                continue
            place = f"{name}:{number}"
            if first and line.lower() in _OTHER_HEADERS:
                self.faults.append(f"{place}: {line!r} looks like a header; the column's name is {COLUMN}")
            elif _STRUCTURE.isdisjoint(line):
                self.add(place, line)
            else:
                self.faults.append(
                    f"{place}: {printable(line)[:60]!r} is neither one id, nor JSON lines, "
                    f"nor CSV with a {COLUMN} column in its first line"
                )
            first = False

    def _read_json(self, lines: Iterable[tuple[int, str]], name: str) -> None:
        for number, line in lines:
            if not line or line.startswith("#"):
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                self.faults.append(f"{name}:{number}: not a JSON object on one line")
                continue
            if isinstance(record, dict) and COLUMN in record:
                self.add(f"{name}:{number}", record[COLUMN])
            else:
                self.faults.append(f"{name}:{number}: a JSON object needs the key {COLUMN!r}")

    def _read_csv(self, lines: Iterable[tuple[int, str]], name: str) -> None:
        numbers: list[int] = []

        def counted() -> Iterator[str]:
            for number, line in lines:
                if line and not line.startswith("#"):
                    numbers.append(number)
                    yield line

        try:
            rows = csv.DictReader(counted(), skipinitialspace=True)
            column = next(field for field in rows.fieldnames or () if _is_column(field))
            for row in rows:
                self.add(f"{name}:{numbers[-1]}", (row[column] or "").strip())
        except csv.Error as error:
            self.faults.append(f"{name}:{numbers[-1]}: not CSV ({error}); the lines after it were not read")


def _is_header(line: str) -> bool:
    try:
        return any(map(_is_column, next(csv.reader([line], skipinitialspace=True))))
    except csv.Error:
        return False


def _is_column(field: str) -> bool:
    return field.strip().lower() == COLUMN


def _chain(first: tuple[int, str], rest: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    yield first
    yield from rest
