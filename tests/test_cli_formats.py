"""The formats of the output: the same four for every command, and a table as wide as the terminal."""

from __future__ import annotations

import csv
import io
import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bandwidth_async import Outcome, OutcomeKind
from bandwidth_async.cli import choices, formats, main
from tests.test_cli import sandbox
from tests.test_cli_progress import Terminal

if TYPE_CHECKING:
    from bandwidth_async.sandbox import Sandbox

__all__ = ["sandbox"]

ID = "conf-f2623bb7-7c79de7f-f7c2-4f4f-82df-4bec980c79f5"
FAILED = Outcome(
    ID, OutcomeKind.REFUSED, 1, f"end conference {ID}: answered 400 (validation: {'no ' * 30})", 0.1
)


def parsed(text: str, form: str) -> list[Any]:
    """Return the records of an output, whatever the format."""
    match form:
        case "json":
            return list(json.loads(text))
        case "jsonl":
            return [json.loads(line) for line in text.splitlines()]
        case "csv":
            return list(csv.DictReader(io.StringIO(text)))
        case _:
            header, *lines = text.splitlines()
            return [dict(zip(header.split(), line.split(), strict=False)) for line in lines]


@pytest.mark.parametrize("form", choices.FORMATS)
def test_every_list_has_every_format(
    sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    """The records are the same, and each can be read by what reads that format."""
    journal = tmp_path / "a.journal"
    ids = sandbox.conference_ids
    for command in (
        ["list"],
        ["end", *ids, "--dry-run"],
        ["end", *ids, "--journal", str(journal)],
        ["outcomes", str(journal)],
    ):
        assert main([*command, "--format", form]) == 0
        out = capsys.readouterr().out
        assert {one["conference_id"] for one in parsed(out, form)} == set(ids), command


@pytest.mark.parametrize("form", choices.FORMATS)
def test_what_can_be_empty_is_still_of_its_format(
    sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    """An array without records is an array; the others have no line at all."""
    nothing, journal = tmp_path / "ids.txt", str(tmp_path / "a.journal")
    nothing.touch()
    for command in (
        ["list", "--name", "nobody"],
        ["end", "--from", str(nothing)],
        ["end", "--from", str(nothing), "--dry-run"],
        ["end", "--from", str(nothing), "--shard", "0/1", "--journal", journal],
        ["resume", journal],
        ["outcomes", journal],
    ):
        assert main([*command, "--format", form]) == 0
        assert capsys.readouterr().out.split() == (["[", "]"] if form == "json" else []), command


@pytest.mark.parametrize("form", choices.FORMATS)
def test_one_conference_has_every_format(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    """As JSON it is an object."""
    assert main(["get", sandbox.conference_ids[0], "--format", form]) == 0
    out = capsys.readouterr().out
    assert sandbox.conference_ids[0] in out
    if form == "json":
        assert json.loads(out)["conference_id"] == sandbox.conference_ids[0]


@pytest.mark.parametrize(
    ("given", "name", "form"),
    [
        (None, "o.csv", "csv"),
        (None, "o.JSONL", "jsonl"),
        (None, "o.json", "json"),
        (None, "o.txt", "table"),
        (None, "o", "table"),
        (None, None, "table"),
        ("table", "o.csv", "table"),
    ],
)
def test_the_suffix_of_a_file_is_its_format(given: str | None, name: str | None, form: str) -> None:
    """Unless the user has named another."""
    assert formats.form_for(given, None if name is None else Path(name)) == form


def test_an_end_writes_the_format_of_its_output(sandbox: Sandbox, tmp_path: Path) -> None:
    """``--output o.csv`` is a file for a spreadsheet."""
    output = tmp_path / "o.csv"
    assert main(["end", *sandbox.conference_ids, "--output", str(output)]) == 0
    assert [row["outcome"] for row in parsed(output.read_text(), "csv")] == ["ended"] * 10


@pytest.mark.parametrize("columns", [20, 60, 80, 300])
def test_a_row_on_a_terminal_takes_one_line(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """What has no room is cut, but never the id. The reason does not tell the id again."""
    monkeypatch.setenv("COLUMNS", str(columns))
    screen = Terminal()
    with formats.Writer(screen, "table", formats.OUTCOMES) as writer:
        writer.write({**formats.outcome_record(FAILED), "error": formats.reason(FAILED)})
    header, row = screen.getvalue().splitlines()
    assert row.startswith(ID)
    assert row.count(ID) == 1
    assert len(row) <= max(columns, len(ID) + 1)
    assert len(header) <= max(columns, len(ID) + 1)
    assert row.endswith("…") is (50 < columns < 300)


@pytest.mark.parametrize("columns", range(10, 200))
def test_no_id_of_a_row_is_cut(columns: int) -> None:
    """An id is whole or left out, and no mark stands at it as if it went on."""
    widths = {"run": 8, "state": 8, "account_id": 12, "journal": 0}
    record = {"run": "run-0001", "state": "finished", "account_id": "9900000", "journal": "j" * 100}
    words = formats.Columns(widths, columns).row(record).split()
    assert words[0] == "run-0001"
    assert [word for word in words if word.startswith("9")] in ([], ["9900000"])
    assert len(" ".join(words)) <= max(columns, 8)
    assert words[-1].endswith("…") is (10 <= columns < 134)


def test_a_row_in_a_file_is_whole() -> None:
    """Nothing is cut where nobody looks at it."""
    stream = io.StringIO()
    with formats.Writer(stream, "table", formats.OUTCOMES) as writer:
        writer.write(formats.outcome_record(FAILED))
    assert stream.getvalue().splitlines()[1].endswith(str(FAILED.error))


def test_an_output_that_failed_has_no_end() -> None:
    """Who reads the array sees that it is not complete."""
    stream = io.StringIO()
    with suppress(RuntimeError), formats.Writer(stream, "json", formats.IDS) as writer:
        writer.write({"conference_id": "a"})
        raise RuntimeError
    with pytest.raises(json.JSONDecodeError):
        json.loads(stream.getvalue())


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (None, "-"),
        (True, "yes"),
        (False, "no"),
        ((), "-"),
        (["a", "b"], "a, b"),
        ("a\x1b", r"a\x1b"),
        (3, "3"),
    ],
)
def test_a_value_in_a_table_is_a_word(value: object, word: str) -> None:
    """A person reads it, and a terminal obeys nothing in it."""
    assert formats.Columns({"key": 0}).row({"key": value}) == word
