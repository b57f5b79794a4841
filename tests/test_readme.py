"""The README is true and plain: its code runs, its commands parse, and the tests that it names exist.

Every ``python`` block runs inside an ``async def`` against a sandbox of its own, one after the other in the
order of the page. `NAMES` are the names that a block may use without defining them. The README lists the
same. A block that defines a test is run by pytest instead. All blocks are checked by mypy, and by pyright
where it is installed.
"""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import textwrap
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from attrs import frozen

import bandwidth_async
from bandwidth_async import VoiceClient
from bandwidth_async.cli.app import cli
from bandwidth_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

# What the reader supplies, and its type.
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

MOST_CLAUSE_MARKS = 1.4  # for each sentence
LEAST_YOU = 15.0  # in 1,000 words


# --- the text -------------------------------------------------------------------------------------------


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


def test_the_measure_counts_what_it_says() -> None:
    """Code, tables, headings, list numbers and addresses do not count; a word in backticks is one word."""
    text = """
# A heading, with a comma
| a table, too |

1. You see `a, b` and [a link](https://example.com/a,b). It ends here (really), does it?
- One - two: three; four.

```sh
echo a, b, c.
```
"""
    assert Prose.of(text) == Prose(sentences=3, words=16, clause_marks=5, you=1)


def test_the_prose_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    """One idea a sentence, and the reader is spoken to."""
    prose = Prose.of(README)
    with capsys.disabled():
        print(
            f"\nREADME: {prose.marks_a_sentence:.2f} marks a sentence, {prose.you_in_1000:.1f} 'you' in 1,000"
        )
    assert prose.marks_a_sentence <= MOST_CLAUSE_MARKS
    assert prose.you_in_1000 >= LEAST_YOU


def test_links_lead_somewhere() -> None:
    """Files that the page links to exist, and so do its own headings."""
    anchors = {
        "#" + re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", README, flags=re.MULTILINE)
    }
    links = {link for link in re.findall(r"\]\(([^)]*)\)", README) if not link.startswith("https://")}
    assert links
    assert {link for link in links if link not in anchors and not (ROOT / link).exists()} == set()


def test_each_guarantee_names_a_test_that_exists() -> None:
    """The tests are named by file and function."""
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", section("Guarantees"))
    rows = [row for row in section("Guarantees").splitlines() if row.startswith("| ") and "::" in row]
    assert len(named) >= len(rows) >= 15
    assert [f"{file}::{name}" for file, name in named if name not in functions(file)] == []


def test_the_figures_of_the_comparison_are_measured() -> None:
    """Every figure with a decimal point stands in the page of benchmarks."""
    figures = set(re.findall(r"\d+\.\d+", section("Comparison")))
    assert figures
    measured = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert {figure for figure in figures if not re.search(rf"(?<![\d.]){figure}(?![\d.])", measured)} == set()


def test_the_defaults_in_the_table_are_those_of_the_code() -> None:
    """Each setting of `Timeouts` and `RetryPolicy` is there, with its default."""
    shown: dict[str, dict[str, str]] = {}
    for kind, names, defaults in re.findall(
        r"^\| `\w+=(\w+)\(([^()]*=…)\)` \| ([^|]*) \|", README, re.MULTILINE
    ):
        known = shown.setdefault(kind, {})
        values = re.sub(r"`| s\b", "", defaults).split(", ")
        known |= dict(zip((name.removesuffix("=…") for name in names.split(", ")), values, strict=True))
    for kind, known in shown.items():
        actual = {name.name: getattr(bandwidth_async, kind)() for name in fields_of(kind)}
        assert known == {
            name: f"{getattr(value, name)!s:.6}".removesuffix(".0") for name, value in actual.items()
        }
    assert set(shown) == {"Timeouts", "RetryPolicy"}


def fields_of(kind: str) -> Any:
    """Return the attrs fields of a public class."""
    return getattr(bandwidth_async, kind).__attrs_attrs__


def section(title: str) -> str:
    """Return what stands under a heading of the second level."""
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", README, flags=re.DOTALL | re.MULTILINE)
    return str(found)


@cache
def functions(file: str) -> set[str]:
    """Return the names of the functions in a file of tests; none where there is no such file."""
    path = ROOT / file
    tree = ast.parse(path.read_text(encoding="utf-8")) if path.exists() else ast.Module([], [])
    return {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}


# --- the blocks of code ---------------------------------------------------------------------------------


@frozen
class Block:
    """A fenced block: its language, its code, and the line of the page at which the code begins."""

    language: str
    code: str
    line: int

    @property
    def is_a_test(self) -> bool:
        """Whether it defines a test, which pytest has to run."""
        return re.search(r"^(?:async )?def test_", self.code, flags=re.MULTILINE) is not None

    @property
    def source(self) -> str:
        """The block as it is run and checked: a module of tests, or the body of a function of `NAMES`."""
        if self.is_a_test:
            return self.code
        parameters = ", ".join(f"{name}: {kind}" for name, kind in NAMES.items())
        body = textwrap.indent(self.code, "    ")
        return f"{HEADER}\nasync def block({parameters}) -> None:\n{body}"


def blocks(language: str) -> list[Block]:
    """Return the blocks of a language, in the order of the page."""
    found = re.finditer(rf"^```{language}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
    return [Block(language, one[1], README.count("\n", 0, one.start(1)) + 1) for one in found]


def at_line(block: Block) -> str:
    """Return the name of a block's test."""
    return f"line {block.line}"


PYTHON = blocks("python")


def test_the_readme_lists_the_names_that_the_blocks_need() -> None:
    """The reader knows what the snippets take for granted; one that none uses is a leftover."""
    sentence = README[README.index("The names that they do not define are yours") :].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", sentence)) == set(NAMES)
    used = {
        node.id
        for block in PYTHON
        for node in ast.walk(ast.parse(block.source))
        if isinstance(node, ast.Name)
    }
    assert set(NAMES) <= used


@pytest.mark.parametrize("block", [one for one in PYTHON if not one.is_a_test], ids=at_line)
async def test_a_block_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, against a sandbox; its files go to a folder of its own."""
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    exec(compile(block.source, f"README.md, line {block.line}", "exec"), scope)  # noqa: S102  # the page's own
    async with Sandbox(conferences=6, recordings=1) as sandbox:
        for name, value in sandbox.environ.items():
            monkeypatch.setenv(name, value)
        first, *ids = sandbox.conference_ids
        async with VoiceClient.from_env() as client:
            supplied = {
                "client": client,
                "conference_id": first,
                "recording_id": sandbox.recording_ids(first)[0],
                "ids": ids,
                "app": web.Application(),
            }
            assert set(supplied) == set(NAMES)
            await scope["block"](**supplied)


@pytest.mark.parametrize("block", [one for one in PYTHON if one.is_a_test], ids=at_line)
def test_a_block_that_is_a_test_passes(block: Block, tmp_path: Path) -> None:
    """Pytest collects it from a file and runs it."""
    (tmp_path / "test_block.py").write_text(block.source, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto"]
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout


@pytest.fixture
def written(tmp_path: Path) -> list[str]:
    """Write each block into a file named after its line, and return the files."""
    files = {tmp_path / f"line_{block.line}.py": block.source for block in PYTHON}
    for path, source in files.items():
        path.write_text(source, encoding="utf-8")
    return [str(path) for path in files]


@pytest.mark.timeout(600)
def test_mypy_finds_nothing(written: list[str]) -> None:
    """Strictly, as the package itself is checked."""
    pytest.importorskip("mypy", reason="mypy is not installed; the group `test` brings it")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary", *written]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.timeout(600)
def test_pyright_finds_nothing(written: list[str], pyright: str) -> None:
    """The blocks in its strict mode, and the examples that the page links to.

    Others call the functions of a block, such as a handler.
    """
    for path in map(Path, written):
        path.write_text(
            f"# pyright: strict, reportUnusedFunction=false\n{path.read_text(encoding='utf-8')}",
            encoding="utf-8",
        )
    examples = [str(path) for path in (ROOT / "examples").glob("*.py")]
    command = [pyright, "--pythonpath", sys.executable, *written, *examples]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# --- the command lines ----------------------------------------------------------------------------------


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Yield each ``bandwidth-async`` command of the page, with its arguments."""
    for block in blocks("sh"):
        for line in block.code.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars="|>")
            lexer.whitespace_split = True
            for is_operator, part in groupby(lexer, lambda word: word in {"|", ">"}):
                words = list(part)
                if not is_operator and words[0] in {"bandwidth-async", ".venv/bin/bandwidth-async"}:
                    yield " ".join(words), words[1:]


@pytest.mark.parametrize(
    "arguments", [pytest.param(arguments, id=name) for name, arguments in command_lines()]
)
def test_a_command_line_parses(arguments: list[str]) -> None:
    """The command, its options and their values are known; nothing is carried out."""
    with cli.make_context("bandwidth-async", list(arguments)) as context:
        name, command, rest = cli.resolve_command(context, arguments)
        assert command is not None
        command.make_context(name, rest, parent=context).close()


def test_every_command_but_those_that_are_named_is_shown() -> None:
    """A new command is put on the page, with an example or by its name."""
    shown = {arguments[0] for _, arguments in command_lines()}
    named = set(re.findall(r"# ([\w, ]+); or --all", README)[0].split(", "))
    assert shown | named == set(cli.list_commands(cli.make_context("bandwidth-async", ["demo"])))


def test_every_flag_in_the_prose_is_one() -> None:
    """A flag that is renamed is renamed here too."""
    text = re.sub(r"^```.*?^```", "", README, flags=re.DOTALL | re.MULTILINE)
    context = cli.make_context("bandwidth-async", ["demo"])
    commands = [cli.get_command(context, name) for name in cli.list_commands(context)]
    known = {flag for one in commands if one is not None for option in one.params for flag in option.opts}
    assert set(re.findall(r"`(--[a-z][\w-]*)", text)) - known == {"--help"}


def test_every_make_target_is_one() -> None:
    """In blocks and in prose."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    named = set(re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)`", README, flags=re.MULTILINE))
    assert {target for pair in named for target in pair if target} <= targets
