"""The README is short and plain, its links lead somewhere, and its make targets exist.

`test_docs.py` runs its blocks and commands with those of all pages.
"""

from __future__ import annotations

import re

from tests.pages import NAMES, README, ROOT, Prose

MOST_CLAUSE_MARKS = 1.4  # for each sentence
LEAST_YOU = 15.0  # in 1,000 words
MOST_LINES = 300


def test_the_readme_is_short() -> None:
    """What goes deeper has its page in ``docs``."""
    assert README.text.count("\n") <= MOST_LINES


def test_it_is_plain() -> None:
    """One idea a sentence, and the reader is spoken to."""
    prose = Prose.of(README.text)
    assert prose.marks_a_sentence <= MOST_CLAUSE_MARKS
    assert prose.you_in_1000 >= LEAST_YOU


def test_the_readme_lists_the_names_that_its_blocks_need() -> None:
    """The reader knows what the snippets take for granted."""
    sentence = README.text.partition("The names that they do not define are yours")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", sentence))
    used = {name for block in README.blocks for name in re.findall(r"\w+", block.code)}
    assert named == used & set(NAMES)


def test_every_make_target_is_one() -> None:
    """In blocks and in prose."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    named = set(re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)`", README.text, flags=re.MULTILINE))
    assert {target for pair in named for target in pair if target} <= targets
