"""The documentation is true and plain: its code runs, its commands work, and the tests that it names exist.

Every ``python`` block runs inside an ``async def`` against a sandbox of its own. `NAMES` are the names that a
block may use without defining them. A block that defines a test is run by pytest, and a whole program as
``__main__``. The commands of a page run one after the other against one sandbox. All blocks are checked by
mypy, and by pyright where it is installed.
"""

from __future__ import annotations

import ast
import asyncio
import io
import re
import subprocess
import sys
import tomllib
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from aiohttp import web
from attrs import field, frozen

from bandwidth_async import Journal, VoiceClient
from bandwidth_async.cli.app import cli, main
from bandwidth_async.pytest_plugin import serving
from bandwidth_async.sandbox import Sandbox
from tests.pages import DOCS, NAMES, PAGES, ROOT, Block, Page, Pipeline, Prose, blocks, pipelines
from tests.test_readme import LEAST_YOU, MOST_CLAUSE_MARKS

if TYPE_CHECKING:
    from collections.abc import Iterator

PYTHON = blocks("python")
BY_NAME = {page.name: page for page in PAGES}


# --- the text -------------------------------------------------------------------------------------------


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
    """One idea a sentence, and the reader is spoken to; pages that the code writes are left out."""
    prose = Prose.of("\n".join(page.text for page in DOCS if "eval-rst" not in page.text))
    with capsys.disabled():
        print(
            f"\ndocs: {prose.marks_a_sentence:.2f} marks a sentence, {prose.you_in_1000:.1f} 'you' in 1,000"
        )
    assert prose.marks_a_sentence <= MOST_CLAUSE_MARKS
    assert prose.you_in_1000 >= LEAST_YOU


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Page) -> None:
    """To files that exist, and to headings that they have."""
    wrong = set()
    for link in page.links:
        file, _, anchor = link.partition("#")
        target = (ROOT / page.name).parent / file if file else ROOT / page.name
        known = BY_NAME.get(target.resolve().relative_to(ROOT).as_posix())
        if not target.exists() or (anchor and (known is None or anchor not in known.anchors)):
            wrong.add(link)
    assert wrong == set()


def test_each_guarantee_names_a_test_that_exists() -> None:
    """The tests are named by file and function."""
    text = BY_NAME["docs/explanation/guarantees.md"].text
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", text)
    rows = [row for row in text.splitlines() if row.startswith("| ") and "::" in row]
    assert len(named) >= len(rows) >= 15
    assert [f"{file}::{name}" for file, name in named if name not in functions(file)] == []


def test_the_figures_of_the_comparison_are_measured() -> None:
    """Every figure with a decimal point stands in the page of benchmarks."""
    figures = set(re.findall(r"\d+\.\d+", BY_NAME["docs/explanation/comparison.md"].text))
    assert figures
    measured = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert {figure for figure in figures if not re.search(rf"(?<![\d.]){figure}(?![\d.])", measured)} == set()


@cache
def functions(file: str) -> set[str]:
    """Return the names of the functions in a file of tests; none where there is no such file."""
    path = ROOT / file
    tree = ast.parse(path.read_text(encoding="utf-8")) if path.exists() else ast.Module([], [])
    return {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}


# --- the blocks of code ---------------------------------------------------------------------------------


def test_every_block_says_what_it_is() -> None:
    """A language that a test here runs or reads. Blocks without one are shown as they are, and few."""
    languages = [block.language for page in PAGES for block in page.blocks]
    assert set(languages) == {"python", "sh", "toml", "yaml", ""}
    assert languages.count("") <= 3


def test_the_first_page_lists_the_names_that_the_blocks_need() -> None:
    """The reader knows what the snippets take for granted; one that none uses is a leftover."""
    sentence = BY_NAME["docs/index.md"].text.partition("The names that they do not define are")[2]
    assert set(re.findall(r"`(\w+)`", sentence.partition("\n\n")[0])) == set(NAMES)
    used = {
        node.id
        for block in PYTHON
        for node in ast.walk(ast.parse(block.source))
        if isinstance(node, ast.Name)
    }
    assert set(NAMES) <= used


def of_python(*, tests: bool, programs: bool) -> list[Block]:
    """Return the blocks of one kind."""
    return [one for one in PYTHON if (one.is_a_test, one.is_a_program) == (tests, programs)]


@pytest.mark.parametrize("block", of_python(tests=False, programs=False), ids=str)
async def test_a_block_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, against a sandbox; its files go to a folder of its own."""
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    exec(compile(block.source, str(block), "exec"), scope)  # noqa: S102  # the page's own
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


@pytest.mark.parametrize("block", of_python(tests=True, programs=False), ids=str)
def test_a_block_that_is_a_test_passes(block: Block, tmp_path: Path) -> None:
    """Pytest collects it from a file and runs it."""
    (tmp_path / "test_block.py").write_text(block.source, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto"]
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout


@pytest.mark.parametrize("block", of_python(tests=False, programs=True), ids=str)
def test_a_program_prints_what_the_page_says(block: Block, tmp_path: Path) -> None:
    """It runs from an empty folder, without settings."""
    (tmp_path / "program.py").write_text(block.source, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[:2] == ["ended", "9 11"], done.stderr
    assert "answered 404" in done.stdout.splitlines()[2]


@pytest.fixture
def written(tmp_path: Path) -> list[str]:
    """Write each block into a file named after its place, and return the files."""
    files = {
        tmp_path / f"{re.sub(r'[^a-z0-9]', '_', str(block).lower())}.py": block.source for block in PYTHON
    }
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
    """The blocks in its strict mode, and the examples that the pages link to.

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


SHELL = blocks("sh")
OURS = [arguments for block in SHELL for line in pipelines(block) for arguments in line.ours]

# Commands of others, and two of ours that run until they are stopped or have a test of their own.
NOT_RUN = {"pip", "python3", ".venv/bin/pip", ".venv/bin/python", "make", "man", "sandbox", "demo", "unset"}


@pytest.mark.parametrize("arguments", [pytest.param(arguments, id=" ".join(arguments)) for arguments in OURS])
def test_a_command_line_parses(arguments: list[str]) -> None:
    """The command, its options and their values are known; nothing is carried out."""
    with cli.make_context("bandwidth-async", list(arguments)) as context:
        name, command, rest = cli.resolve_command(context, list(arguments))
        assert command is not None
        command.make_context(name, rest, parent=context).close()


def test_every_command_but_those_that_are_named_is_shown() -> None:
    """A new command is put on a page, with an example or by its name."""
    shown = {arguments[0] for arguments in OURS}
    text = BY_NAME["docs/howto/command-line.md"].text
    named = set(re.findall(r"# ([\w, ]+); or --all", text)[0].split(", "))
    assert shown | named == set(cli.list_commands(cli.make_context("bandwidth-async", ["demo"])))


def test_every_flag_in_the_prose_is_one() -> None:
    """A flag that is renamed is renamed here too."""
    text = "\n".join(page.text for page in PAGES)
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    context = cli.make_context("bandwidth-async", ["demo"])
    commands_ = [cli.get_command(context, name) for name in cli.list_commands(context)]
    known = {flag for one in commands_ if one is not None for option in one.params for flag in option.opts}
    others = {"--help", "--collect-data", "--prefetch-multiplier"}
    assert set(re.findall(r"`(--[a-z][\w-]*)", text)) - known <= others


# Journals that a section takes for granted.
TAKEN_FOR_GRANTED = {
    "## When a run is cut off": [
        "end --from export.csv --column 2 --yes --journal teardown.journal",
        *(f"end --from ids.txt --yes --shard {k}/4 --journal shard-{k}.journal" for k in (1, 2, 3)),
    ]
}


@frozen
class Shell:
    """Runs the command lines of a page in this process, against one sandbox.

    ``conf-1``, ``c-1`` and ``r-1`` stand for ids of the sandbox, and each section of a page has its own.
    """

    sandbox: Sandbox
    folder: Path
    monkeypatch: pytest.MonkeyPatch
    sections: dict[str, dict[str, str]] = field(factory=dict)

    def names(self, heading: str) -> dict[str, str]:
        """Return what the names of a section stand for. Its files of ids name conferences that are active."""
        if heading not in self.sections:
            first, second, *ids = (self.sandbox.add_conference(members=2) for _ in range(18))
            one, other = self.sandbox.call_ids(first)
            self.sections[heading] = {"conf-1": first, "conf-2": second, "c-1": one, "c-2": other}
            Path("ids.txt").write_text("\n".join(ids[:12]), encoding="utf-8")
            Path("export.csv").write_text("Name;Meeting Room\n" + "\n".join(f"a;{one}" for one in ids[12:]))
            for line in TAKEN_FOR_GRANTED.get(heading, []):
                assert main(line.split()) == 0
        return self.sections[heading]

    def run(self, line: Pipeline, heading: str) -> tuple[int, str]:
        """Run a line, and return the exit code of its last command and the errors of all."""
        given, errors, code = "", io.StringIO(), 0
        for words in line.stages:
            if words[0] == "export":
                self._export(words[1:])
            elif {words[0], *words[1:2], " ".join(words[2:])} & (NOT_RUN | ELSEWHERE):
                continue
            else:
                code, given = self._carry_out(words[1:], heading, given, errors)
        if line.into is not None:
            target = Path(line.into.replace("~", str(self.folder)))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(given, encoding="utf-8")
        return code, errors.getvalue()

    def _export(self, settings: list[str]) -> None:
        for setting in settings:
            name, _, value = setting.partition("=")
            if name not in {*self.sandbox.environ, "PATH"}:
                self.monkeypatch.setenv(name, value.replace("redis://redis.internal:6379/0", "local:"))

    def _carry_out(self, words: list[str], heading: str, given: str, errors: io.StringIO) -> tuple[int, str]:
        names = self.names(heading)
        if words[0] == "download":
            # Only conferences that the sandbox began with have recordings.
            recorded = self.sandbox.conference_ids[0]
            names = {"conf-1": recorded, "r-1": self.sandbox.recording_ids(recorded)[0]}
        arguments = [names.get(word, word) for word in words]
        arguments = [one for word in arguments for one in (sorted(glob(word)) if "*" in word else [word])]
        if words[0] == "wait":
            main(["end", names["conf-1"]])
        stdin = io.TextIOWrapper(io.BytesIO(given.encode()))
        stdout = io.TextIOWrapper(io.BytesIO(), write_through=True)
        self.monkeypatch.setattr(sys, "stdin", stdin)
        with redirect_stdout(stdout), redirect_stderr(errors):
            code = main(arguments)
        return code, stdout.buffer.getvalue().decode()


@pytest.fixture
def shell(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """Serve a sandbox, with the files that the pages name in the folder of the commands."""
    monkeypatch.chdir(tmp_path)
    for name in ("config", "state"):
        monkeypatch.setenv(f"XDG_{name.upper()}_HOME", str(tmp_path / name))
    monkeypatch.setenv("PW", "password")
    # The tutorial has more than a run ends within a second, the others fewer than `end` asks about.
    conferences = 300 if "tutorial" in page.name else 5
    with serving(conferences=conferences, members=2, recordings=1) as bandwidth:
        ids = bandwidth.sandbox.conference_ids
        for name, value in bandwidth.environ.items():
            monkeypatch.setenv(name, value)
        Path("bye.xml").write_text("<Bxml><SpeakSentence>Bye.</SpeakSentence></Bxml>", encoding="utf-8")
        Path(".env").write_text("\n".join(f"{name}={value}" for name, value in bandwidth.environ.items()))
        Path(".env").chmod(0o600)
        _write_profiles(bandwidth.sandbox, tmp_path / "config" / "bandwidth-async" / "config.toml")
        (tmp_path / "state" / "bandwidth-async").mkdir(parents=True)
        asyncio.run(_leave_unfinished(tmp_path / "state" / "bandwidth-async", ids))
        yield Shell(bandwidth.sandbox, tmp_path, monkeypatch)


def _write_profiles(sandbox: Sandbox, file: Path) -> None:
    """Write the file of profiles as the page shows it, with what the sandbox signs in."""
    (block,) = blocks("toml")
    text = block.code.replace("http://127.0.0.1:4010", sandbox.url).replace("…", sandbox.client_id)
    assert set(tomllib.loads(text)["profiles"]) == {"prod", "sandbox"}
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)


async def _leave_unfinished(folder: Path, ids: list[str]) -> None:
    """Leave the journal of a run that was cut off in the state directory."""
    async with Journal.create(folder / "20261122T081500Z-3fa9c1.journal", account_id="9900000") as journal:
        await journal.record(ids)


# What a sandbox of one account cannot show.
ELSEWHERE = {"--account 9900001", "--profile band"}


@pytest.mark.parametrize("page", [page for page in PAGES if page.shell], ids=lambda page: page.name)
def test_the_commands_of_a_page_work(page: Page, shell: Shell) -> None:
    """One after the other, each with the exit code that its comment names, or else with 0."""
    wrong = []
    for block in page.shell:
        shell.names(block.heading)
        for line in pipelines(block):
            code, errors = shell.run(line, block.heading)
            if code != line.exit_code:
                wrong.append((line.stages, code, errors[-300:]))
    assert wrong == []


def test_yaml_is_yaml() -> None:
    """Its commands parse as those of a shell do."""
    for block in blocks("yaml"):
        job = yaml.safe_load(block.code)
        (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
        test_a_command_line_parses(container["args"])


def test_the_line_of_cron_parses() -> None:
    """Behind its five fields of time stands a command."""
    (block,) = [one for one in BY_NAME["docs/howto/teardown-job.md"].blocks if not one.language]
    (arguments,) = Pipeline.of(block.code.split(" ", 5)[5]).ours
    test_a_command_line_parses(arguments)
