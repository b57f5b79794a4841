"""What is wrong with an input: one complaint for each cause, however many lines have it."""

from __future__ import annotations

from attrs import define, field

# A complaint names this many lines and counts the rest.
_NAMED = 6


@define
class _Cause:
    """A cause: the sentence about the first place that has it, and the other places."""

    sentence: str
    noun: str = ""
    more: int = 0
    others: list[int] = field(factory=list)


@define
class Faults:
    """The faults of an input by their causes, in the order in which they were met.

    ``lines`` is the number of all bad lines. ``whole`` says that a file as a whole is not what it should be.
    """

    lines: int = 0
    whole: bool = False
    _causes: dict[tuple[str, str], _Cause] = field(factory=dict)

    def add(self, source: str, number: int, sentence: str, cause: str = "", noun: str = "line") -> None:
        """Note a fault of the line ``number``. ``sentence`` is about this line, ``cause`` about all alike."""
        self.lines += 1
        found = self._causes.get((source, cause or sentence))
        if found is None:
            place = f"{source}:{number}" if noun == "line" else f"{source}{noun} {number}"
            self._causes[source, cause or sentence] = _Cause(f"{place}: {sentence}", noun)
        elif len(found.others) < _NAMED - 1:
            found.others.append(number)
        else:
            found.more += 1

    def add_whole(self, source: str, sentence: str) -> None:
        """Note that a file, as a whole, is not an input."""
        self.whole = True
        self._causes[source, sentence] = _Cause(f"{source}: {sentence}")

    def sentences(self) -> list[str]:
        """Return a sentence for each cause."""
        return [cause.sentence + _others(cause) for cause in self._causes.values()]

    def complaint(self) -> str | None:
        """Return a text with a line for each cause, or None without faults."""
        if not self._causes:
            return None
        count = f"{self.lines:,} line{'' if self.lines == 1 else 's'} of the input"
        return "\n".join(
            [*self.sentences(), f"{'the input' if self.whole else count} cannot be used; nothing was sent"]
        )


def _others(cause: _Cause) -> str:
    if not cause.others:
        return ""
    nouns = f"{cause.noun}{'s' if len(cause.others) > 1 else ''}"
    more = f" and {cause.more:,} more" if cause.more else ""
    return f" (the same in {nouns} {', '.join(map(str, cause.others))}{more})"
