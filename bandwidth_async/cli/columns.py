"""Tables as spreadsheets write them: their separator, their rows, and which column has the ids."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING

from attrs import define, frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bandwidth_async.cli.faults import Faults

COLUMN = "conference_id"
# Names of the column with the ids, as `plain` makes them. The first counts.
_NAMES = ("conferenceid", "id")
SEPARATORS = ",;\t"
_IN_WORDS = {",": "a comma", ";": "a semicolon", "\t": "a tab"}
# Excel begins a file with this line where the separator is not the country's.
SEPARATOR_LINE = re.compile(r'"?sep=([^"\s\w]|\t)"?[ \r\n]*', re.IGNORECASE)


@frozen
class Column:
    """The column with the ids: its header or its number, from 1; None for one that is named as ids are."""

    wanted: str | None = None

    def __str__(self) -> str:
        return self.wanted or COLUMN

    def of(self, names: Sequence[str]) -> list[int]:
        """Return which columns it is, by their names or by the number, counted from 0."""
        return self.named(names) or self._numbered(names)

    def named(self, names: Sequence[str]) -> list[int]:
        """Return which of the names are its own, counted from 0."""
        if self.wanted is None:
            found = [[at for at, name in enumerate(names) if plain(name) == own] for own in _NAMES]
        else:
            found = [
                [at for at, name in enumerate(names) if read(name) == read(self.wanted)]
                for read in (str.strip, plain)
            ]
        return next(filter(None, found), [])

    def _numbered(self, names: Sequence[str]) -> list[int]:
        wanted = self.wanted or ""
        number = int(wanted) if re.fullmatch("[0-9]{1,6}", wanted) else 0
        return [number - 1] if 0 < number <= len(names) else []

    def is_named_in(self, first: Sequence[str], second: Sequence[str]) -> bool:
        """Return whether the first row has the names of the columns. It need not for a column with a number.

        Then it does if its cell has a name of such a column, has a blank in it, or does not begin as
        Bandwidth's ids do while the next does.
        """
        at = self.of(first)[0]
        if self.named(first):
            return True
        cell, below = first[at].strip(), second[at].strip() if len(second) > at else ""
        unlike = below.startswith("conf-") and not cell.startswith("conf-")
        return plain(cell) in _NAMES or unlike or " " in cell


@define
class Rows:
    """The rows of a table, each with its line. What cannot be read goes to ``faults``.

    ``column`` has the ids, counted from 0, and ``width`` is the number of columns, once they are known.
    """

    faults: Faults
    name: str
    separator: str
    column: int = 0
    width: int = 0
    _began: int = 0

    def read(self, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
        """Yield each row. A quoted cell may go over several lines, with any text in them."""
        # After an error the reader goes on with a new row.
        reader = csv.reader(self._lines(lines), delimiter=self.separator, skipinitialspace=True, strict=True)
        while True:
            self._began = 0
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                is_open = str(error) == "unexpected end of data"
                what = "a quote is opened and never closed" if is_open else f"not CSV: {error}"
                self.faults.add(self.name, self._began, what)
            else:
                yield self._began, row

    def _lines(self, lines: Iterator[tuple[int, str]]) -> Iterator[str]:
        """Yield the lines of rows. One that may be a comment or a row is a fault."""
        for number, line in lines:
            if self._began or not says_nothing(line):
                self._began = self._began or number
                # Blanks behind a closing quote are no text.
                yield f"{line.rstrip()}\n"
            elif self._may_be_a_row(cells(line, self.separator)):
                self.faults.add(
                    self.name,
                    number,
                    "a comment or a row? put the cell that begins with # into quotes, "
                    "or a blank behind the #",
                )

    def _may_be_a_row(self, comment: Sequence[str]) -> bool:
        """Return whether a comment looks like a row whose first cell, not the id, begins with #."""
        if self.column == 0 or len(comment) <= self.column or comment[0][:2].strip() in {"", "#"}:
            return False
        return bool(comment[self.column].strip())

    def fits(self, number: int, row: Sequence[str]) -> bool:
        """Return whether a row has no more cells than there are columns, or note that it has."""
        if not any(cell.strip() for cell in row[self.width :]):
            return True
        needs = _IN_WORDS.get(self.separator, self.separator)
        self.faults.add(
            self.name,
            number,
            f"{len(row)} cells under {self.width} column names; a cell with {needs} in it needs quotes",
            "more cells than column names",
        )
        return False


def says_nothing(line: str) -> bool:
    """Return whether a line is blank or a comment."""
    line = line.lstrip()
    return not line or line.startswith("#")


def cells(line: str, separator: str, *, strict: bool = False) -> list[str]:
    """Return the cells of a line; none if it is no row."""
    # A tab at the begin is an empty cell.
    line = line.strip(" \r\n")
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=strict), [])
    except csv.Error:
        return []


def plain(name: str) -> str:
    """Return the name of a column without case, blanks, underscores and hyphens."""
    return re.sub(r"[\s_-]+", "", name).casefold()
