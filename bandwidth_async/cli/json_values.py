"""JSON values read one after the other, from one array or from objects over several lines."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Characters that are read at a time, and the most that one value may have. So memory stays flat.
_PART, _MOST = 1 << 16, 1 << 20
_BLANKS = re.compile(r"[ \t\r\n]*")


class Pairs(list[tuple[str, object]]):
    """A JSON object as the list of its keys and values: a key may be there twice."""


DECODER = json.JSONDecoder(object_pairs_hook=Pairs)


class Values:
    """The values of a text. ``read`` returns the next characters, at most as many as it is asked for.

    ``count`` is the number of values so far.
    """

    def __init__(self, begun: str, read: Callable[[int], str]) -> None:
        self.count: int = 0
        self._text, self._at = begun, 0
        self._read = read

    def of_arrays(self) -> Iterator[object]:
        """Yield the items of one array, or of several one behind the other. Raises `ValueError`.

        A comma behind the last item is no fault. An array that is cut off is one.
        """
        while self._sees("["):
            while not self._sees("]"):
                yield self._value()
                if not self._sees(","):
                    if self._sees("]"):
                        break
                    raise ValueError(
                        "there is no comma behind it" if self._next() else "the array is cut off there"
                    )
        if self._next():
            raise ValueError("there is other text behind the array")

    def of_objects(self) -> Iterator[object]:
        """Yield values that stand one behind the other. Raises `ValueError`."""
        while self._next():
            yield self._value()

    def _next(self) -> str:
        """Return the next character that is not white space, or nothing at the end."""
        while (at := _BLANKS.match(self._text, self._at).end()) == len(self._text):  # type: ignore[union-attr]  # it matches nothing too
            self._at = at
            if not self._more():
                return ""
        self._at = at
        return self._text[at]

    def _sees(self, character: str) -> bool:
        """Step over a character if it is the next."""
        if self._next() != character:
            return False
        self._at += 1
        return True

    def _value(self) -> object:
        self._next()
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
            except (ValueError, RecursionError):
                # It may only be cut between two parts.
                if len(self._text) - self._at > _MOST or not self._more():
                    raise ValueError("what follows it is no JSON, or is cut off") from None
                continue
            # A number may go on in the next part.
            if end == len(self._text) and self._more():
                continue
            self._at = min(end, len(self._text))
            self.count += 1
            return value

    def _more(self) -> bool:
        part = self._read(max(_PART, len(self._text) - self._at))
        self._text, self._at = self._text[self._at :] + part, 0
        return bool(part)
