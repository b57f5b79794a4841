"""What a journal tells of its run as a whole: its parts, its time line, and what its errors come from."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from attrs import define, frozen

from bandwidth_async.journal import file, schema
from bandwidth_async.journal.place import located
from bandwidth_async.journal.reading import JournalInfo, described, outcome_of
from bandwidth_async.journal.refusals import refusal, translated
from bandwidth_async.journal.timeline import MOST, WRONG_FACTS, Moment, amount
from bandwidth_async.outcome import Outcome, OutcomeKind

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from os import PathLike
    from pathlib import Path

# Causes that are kept apart, examples of each, and slowest ids.
MOST_CAUSES, EXAMPLES, SLOWEST = 1000, 3, 10

# What the error of an id repeats of it, or has of its own: tries, times, and numbers that a server makes up.
_OWN = (
    (re.compile(r" \(after \d+ attempts\)"), ""),
    (re.compile(r"\b\d+(?:\.\d+)? s\b"), "… s"),
    (re.compile(r"\b(?=[\w-]*\d)[0-9a-fA-F-]{8,}\b|\d{5,}"), "…"),
)


@define
class Cause:
    """Why ids have an outcome. ``text`` leaves out what differs from id to id. ``examples`` are a few ids."""

    kind: OutcomeKind
    text: str
    ids: int
    examples: list[str]


@frozen
class Part:
    """A start or a resume of a run: when it began (seconds since the epoch), its facts and its time line.

    ``ended`` is None while it goes on, and if its process was killed. ``moments`` are rows of the time line:
    when they begin, how many seconds they last, and what happened in them.
    """

    began: float
    ended: float | None
    facts: dict[str, Any]
    moments: list[tuple[float, float, Moment]]


@frozen(kw_only=True)
class RunFacts:
    """The facts of the run of one journal.

    ``parts`` is None for a journal of an earlier version, which has no time line. ``attempts`` counts the ids
    that were tried by their attempts, and ``sent`` is the sum of these. ``other_causes`` are ids whose cause
    is not among ``causes``. ``in_work`` are ids that a run which goes on has taken up
    and that have no outcome yet; ``info.counts`` has them as unknown, and after a resume those that a killed
    process left are among them.
    """

    info: JournalInfo
    verify: bool
    hang_up: bool
    attempts: Counter[int]
    sent: int
    causes: list[Cause]
    other_causes: int
    slowest: list[Outcome]
    parts: list[Part] | None
    in_work: int = 0


def read_facts(path: str | PathLike[str]) -> RunFacts:
    """Return the facts of a run, also while it goes on. The whole file is checked (a million ids: 3 s).

    Raises `JournalError`.
    """
    path = located(path)
    with file.look(path) as connection:
        with translated(path):
            # All of them are of one commit.
            connection.execute("BEGIN")
        info = described(connection, path)
        file.check_content(connection, path)
        run = file.read_run(connection, path)
        with translated(path):
            attempts = Counter(dict(connection.execute(schema.ATTEMPTS).fetchall()))
            slowest = connection.execute(schema.SLOWEST, (SLOWEST,)).fetchall()
            causes, others = _causes(connection.execute(schema.TROUBLE, (not info.in_use,)))
            (claimed,) = connection.execute(schema.IN_WORK).fetchone()
        parts = None if run.version < schema.WITH_TIMELINE else _parts(connection, path)
    return RunFacts(
        info=info,
        in_work=claimed if info.in_use else 0,
        verify=run.verify,
        hang_up=run.hang_up,
        attempts=attempts,
        sent=sum(count * ids for count, ids in attempts.items()),
        causes=causes,
        other_causes=others,
        slowest=[outcome_of(path, row) for row in slowest],
        parts=parts,
    )


def cause_of(error: str, conference_id: str) -> str:
    """Return the error of an id without what differs from id to id."""
    text = error.replace(f"end conference {conference_id}: ", "").replace(conference_id, "…")
    for pattern, instead in _OWN:
        text = pattern.sub(instead, text)
    return text


def _causes(rows: Iterator[tuple[str, str, str | None]]) -> tuple[list[Cause], int]:
    """Return the causes, the most frequent first, and how many ids have others."""
    found: dict[tuple[str, str], Cause] = {}
    others = 0
    for conference_id, kind, error in rows:
        key = (kind, cause_of(error or "", conference_id))
        if key not in found:
            if len(found) == MOST_CAUSES:
                others += 1
                continue
            found[key] = Cause(OutcomeKind(kind), key[1], 0, [])
        cause = found[key]
        cause.ids += 1
        if len(cause.examples) < EXAMPLES:
            cause.examples.append(conference_id)
    return sorted(found.values(), key=lambda one: -one.ids), others


def _parts(connection: sqlite3.Connection, path: Path) -> list[Part]:
    with translated(path):
        parts = connection.execute(schema.READ_PARTS).fetchall()
        rows = connection.execute(schema.READ_TIMELINE).fetchall()
    moments: dict[int, list[tuple[float, float, Moment]]] = {}
    try:
        for number, at, seconds, facts in rows:
            _check_time(at + amount(seconds))
            moments.setdefault(number // MOST, []).append((amount(at), seconds, Moment.from_json(facts)))
        return [_part(began, json.loads(facts), moments.get(part, [])) for part, began, facts in parts]
    except WRONG_FACTS as error:
        raise refusal(f"{path} is damaged: its time line cannot be read ({error})") from error


def _part(began: float, facts: dict[str, Any], moments: list[tuple[float, float, Moment]]) -> Part:
    ended = facts.get("ended")
    settings = facts.get("settings")
    for value in settings.values() if isinstance(settings, dict) else ():
        if isinstance(value, int | float):
            amount(value)
    _check_time(began)
    if ended is not None:
        _check_time(ended)
    return Part(began, ended, facts, moments)


def _check_time(seconds: float) -> None:
    datetime.fromtimestamp(amount(seconds), UTC)
