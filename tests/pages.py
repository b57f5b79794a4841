"""The pages of the documentation, the README among them: their prose, blocks of code, commands and links."""

from __future__ import annotations

import re
import shlex
import textwrap
from functools import cached_property
from pathlib import Path

from attrs import define, frozen

ROOT = Path(__file__).parents[1]

# What the reader supplies to a block of Python, and its type.
NAMES = {
    "client": "VoiceClient",
    "conference_id": "str",
    "recording_id": "str",
    "ids": "list[str]",
    "app": "web.Application",
}

HEADER = """\
from __future__ import annotations

from aiohttp import web

from bandwidth_async import VoiceClient

"""


@frozen
class Prose:
    """Counts over running text."""

    sentences: int
    words: int
    clause_marks: int
    you: int

    @classmethod
    def of(cls, markdown: str) -> Prose:
        """Count, with code blocks, tables, headings, list numbers and URLs left out.

        A clause mark is a comma, semicolon, colon, dash or pair of parentheses. Code inside a sentence is one
        word.
        """
        text = re.sub(r"^```.*?^```", "", markdown, flags=re.DOTALL | re.MULTILINE)
        text = re.sub(r"^(?:#|\|).*$", "", text, flags=re.MULTILINE)
        text = re.sub(r"^\s*(?:\d+\.|[-*])\s", "", text, flags=re.MULTILINE)
        text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
        text = re.sub(r"https?://\S+", "", re.sub(r"`[^`]*`", "code", text))
        return cls(
            sentences=len(re.findall(r"[.!?](?=[\s\"')*]|$)", text)),
            words=len(re.findall(r"[A-Za-z][\w'-]*", text)),
            clause_marks=len(re.findall(r"[,;:(\u2013\u2014]|\s-\s", text)),
            you=len(re.findall(r"\byou\b", text, re.IGNORECASE)),
        )

    @property
    def marks_a_sentence(self) -> float:
        """How many clause marks a sentence has."""
        return self.clause_marks / self.sentences

    @property
    def you_in_1000(self) -> float:
        """How often 1,000 words say "you"."""
        return 1000 * self.you / self.words


@frozen
class Block:
    """A fenced block: its page, language and code, and the line of the page at which the code begins.

    ``heading`` is the last one above it.
    """

    page: str
    language: str
    code: str
    line: int
    heading: str = ""

    def __str__(self) -> str:
        return f"{self.page}, line {self.line}"

    @property
    def is_a_test(self) -> bool:
        """Whether it defines a test, which pytest has to run."""
        return re.search(r"^(?:async )?def test_", self.code, flags=re.MULTILINE) is not None

    @property
    def is_a_program(self) -> bool:
        """Whether it is a whole program."""
        return "__main__" in self.code

    @property
    def source(self) -> str:
        """The block as it is run and checked: a module, or the body of a function of `NAMES`."""
        if self.is_a_test or self.is_a_program:
            return self.code
        parameters = ", ".join(f"{name}: {kind}" for name, kind in NAMES.items())
        body = textwrap.indent(self.code, "    ")
        return f"{HEADER}\nasync def block({parameters}) -> None:\n{body}"


@define
class Page:
    """A page by its path from the root, and what stands on it."""

    name: str

    @cached_property
    def text(self) -> str:
        """The page as it is written."""
        return (ROOT / self.name).read_text(encoding="utf-8")

    @property
    def blocks(self) -> list[Block]:
        """Its fenced blocks of a language, in their order; directives and blocks without one are left out."""
        found = re.finditer(r"^```(.*?)\n(.*?)^```$", self.text, flags=re.DOTALL | re.MULTILINE)
        return [
            Block(
                self.name,
                one[1],
                one[2],
                self.text.count("\n", 0, one.start(2)) + 1,
                re.findall(r"^#+ .*$", self.text[: one.start()], re.MULTILINE)[-1],
            )
            for one in found
            if not one[1].startswith("{")
        ]

    @property
    def shell(self) -> list[Block]:
        """Its blocks of a shell."""
        return [block for block in self.blocks if block.language == "sh"]

    @property
    def links(self) -> set[str]:
        """Where it leads within the repository."""
        return {link for link in re.findall(r"\]\(([^)\s]*)\)", self.text) if "://" not in link}

    @property
    def anchors(self) -> set[str]:
        """Its headings, as a link names them."""
        return {
            re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-")
            for title in re.findall(r"^#+ (.*)$", self.text, flags=re.MULTILINE)
        }

    def section(self, title: str) -> str:
        """Return what stands under a heading of the second level."""
        (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", self.text, flags=re.DOTALL | re.MULTILINE)
        return str(found)


README = Page("README.md")
DOCS = [Page(path.relative_to(ROOT).as_posix()) for path in sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [README, *DOCS]


def blocks(language: str) -> list[Block]:
    """Return the blocks of a language on all pages."""
    return [block for page in PAGES for block in page.blocks if block.language == language]


@frozen
class Pipeline:
    """A line of a shell: the words of each command, and the file that the last one writes."""

    stages: list[list[str]]
    into: str | None
    exit_code: int

    @classmethod
    def of(cls, line: str) -> Pipeline:
        """Read a line. Its comment may name the exit code that it has."""
        words = shlex.shlex(line, posix=True, punctuation_chars="|>")
        words.whitespace_split = True
        stages: list[list[str]] = [[]]
        for word in words:
            if word == "|":
                stages.append([])
            else:
                stages[-1].append(word)
        into = None
        if ">" in stages[-1]:
            *stages[-1], _, into = stages[-1]
        named = re.search(r"# exit code (\d+)$", line)
        return cls(stages, into, int(named[1]) if named else 0)

    @property
    def ours(self) -> list[list[str]]:
        """The arguments of each ``bandwidth-async`` in it."""
        return [words[1:] for words in self.stages if words and words[0].endswith("bandwidth-async")]


def pipelines(block: Block) -> list[Pipeline]:
    """Return the lines of a block of a shell."""
    return [Pipeline.of(line) for line in block.code.replace("\\\n", " ").splitlines() if line.strip()]
