"""The tables of a journal: the text of a version never changes, also when the program learns more kinds."""

from __future__ import annotations

import subprocess
import sys
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from bandwidth_async.journal import Journal, schema
from bandwidth_async.outcome import Outcome, OutcomeKind

if TYPE_CHECKING:
    from pathlib import Path

FROZEN = {
    1: "3474da0bcf7688c4de327b6ec53cf512ce8b13c4ae9432bd328cd0b520ffe09d",
    2: "90bd3b70615834588fa3393f9f46dbd3b0ebd81e3f3296000ac9a6b49aaa5842",
    3: "e64c6a90d96087ac6a204794a4c902cd1f2664673c0fed9dd3304030e44f2240",
}

# A program whose OutcomeKind has one member more opens a journal, describes it and reads it.
_WITH_ANOTHER_KIND = """
import asyncio, sys
from bandwidth_async.outcome import OutcomeKind

postponed = str.__new__(OutcomeKind, "postponed")
postponed._name_, postponed._value_ = "POSTPONED", "postponed"
OutcomeKind._member_map_["POSTPONED"] = OutcomeKind._value2member_map_["postponed"] = postponed
OutcomeKind._member_names_.append("POSTPONED")
assert list(OutcomeKind)[-1] is OutcomeKind("postponed") is OutcomeKind.POSTPONED

from bandwidth_async.journal import Journal, describe, read_outcomes

async def main(path):
    async with Journal.open(path) as journal:
        print(*(target.conference_id for target in journal.unsettled()))
    print(*(f"{kind}={count}" for kind, count in describe(path).counts.items()))
    print(*(f"{outcome.conference_id}={outcome.kind}" for outcome in read_outcomes(path)))

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize("version", FROZEN)
def test_the_text_of_a_version_is_frozen(version: int) -> None:
    """It is compared when a journal is opened: another text makes every journal on disk damaged."""
    text = "\n".join(schema.tables(version).values())
    assert sha256(text.encode()).hexdigest() == FROZEN[version], (
        "The text of the tables has changed. If it has to, add a version, so that journals on disk are"
        " refused as ones of another version and not as damaged, and put the new sum here."
    )


def test_a_journal_can_hold_every_kind() -> None:
    """Each kind but not_attempted is in the tables' text, which is apart from the enum on purpose."""
    assert max(FROZEN) == schema.WITH_TIMELINE
    kinds = set(OutcomeKind) - {OutcomeKind.NOT_ATTEMPTED}
    assert kinds == set(schema.KINDS), (
        "OutcomeKind and schema.KINDS differ. A journal of this version cannot hold a new kind: raise"
        " schema.VERSION and add the kind to schema.KINDS. Journals on disk are then refused as ones of"
        " another version; their runs can be resumed with the earlier program."
    )
    assert "not_attempted" not in schema.KINDS


async def test_a_new_kind_does_not_damage_journals_on_disk(tmp_path: Path) -> None:
    """A program that knows one kind more opens a journal of today as it is."""
    path = tmp_path / "run.journal"
    async with Journal.create(path, account_id="9900000") as journal:
        await journal.record(f"conf-{number}" for number in range(1, 5))
        first, second, third, _ = journal.unsettled()
        await journal.settle(first, Outcome("conf-1", OutcomeKind.ENDED, 1))
        await journal.settle(second, Outcome("conf-2", OutcomeKind.FAILED, 5, "answered 503"))
        await journal.claim(third)
    done = subprocess.run(  # noqa: ASYNC221  # a test waits for nobody
        [sys.executable, "-c", _WITH_ANOTHER_KIND, path], capture_output=True, text=True, check=False
    )
    assert (done.stderr, done.stdout.splitlines()) == (
        "",
        [
            "conf-2 conf-3 conf-4",
            "ended=1 failed=1 not_attempted=1 unknown=1",
            "conf-1=ended conf-2=failed conf-3=unknown conf-4=not_attempted",
        ],
    )
