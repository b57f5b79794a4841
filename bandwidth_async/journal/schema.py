"""The tables of a journal, and every statement that changes them.

A row is made when the input is recorded. ``claimed`` says that requests for the row may be out: it is set
before the first request and taken back together with the outcome. So a dead process leaves its rows
claimed, and a reader sees them as ``unknown``. ``kind`` is what was known before the claim. It is NULL until
something is known, and never ``not_attempted``.

What always holds
    A settled row never changes again. A row that may have been ended without an answer stays ``unknown``
    until it is settled: a later attempt that certainly did not end it says nothing about the earlier one.

Each statement takes all its rows at once, and is one step for SQLite, with the commit in it. That matters
because Python releases its interpreter lock around each step, and a busy event loop returns it after 5 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import repeat
from typing import Any

from attrs import frozen

from bandwidth_async.outcome import OutcomeKind

# The values of one row, of types that SQLite can keep. The first value identifies the row.
Row = Sequence[Any]

# "BWJ1", in the header of the file.
APPLICATION_ID = 0x42574A31

# A journal of version 2 has one table more, `ORIGIN`. One of version 3, as they are made now, also has
# those of `TIMELINE`.
VERSION, WITH_ORIGIN, WITH_TIMELINE = 1, 2, 3

# What is added to the version in the header of a journal while a run is at work on it. The log says `OPEN`,
# and the journal itself `APART`: the log has more. So a journal that says `APART` and has no log was parted
# from it. One that says `OPEN` and has no log is whole, because somebody carried the log over. A program that
# knows neither takes both for another version, and leaves the journal alone.
OPEN = 0x200
APART = 0x100

# The bits of a random number that both have. It changes each time that the log is carried over. So a journal
# and a log that were copied at different moments do not pass for one.
BEGUN = 0x7FFF0000

FLAGS = OPEN | APART | BEGUN

# The outcome kinds that a journal of this version can hold. These are words and not `OutcomeKind`'s members
# on purpose: they are part of the tables' text, which is compared when a journal is opened. With a member
# more in the enum, every journal on disk would be refused as damaged. To add a kind, raise `VERSION`:
# a journal of another version is refused with a sentence that names both versions.
KINDS = ("ended", "already_ended", "not_found", "refused", "failed", "unknown")

# The text of version 1, which must stay as it is. The constraints are there to detect damage: SQLite checks
# them when a journal is opened. No change of a single byte turns one kind into another.
TABLES = {
    "run": """CREATE TABLE run (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    account_id TEXT NOT NULL,
    created REAL NOT NULL,
    verify INTEGER NOT NULL CHECK (verify IN (0, 1)),
    hang_up INTEGER NOT NULL CHECK (hang_up IN (0, 1)),
    given INTEGER,
    total INTEGER
)""",
    "conferences": f"""CREATE TABLE conferences (
    number INTEGER PRIMARY KEY,
    conference_id TEXT NOT NULL UNIQUE,
    existed INTEGER NOT NULL CHECK (existed IN (0, 1)),
    claimed INTEGER NOT NULL DEFAULT 0 CHECK (claimed IN (0, 1)),
    kind TEXT CHECK (kind IN ({", ".join(f"'{kind}'" for kind in KINDS)})),
    attempts INTEGER NOT NULL DEFAULT 0 CHECK (typeof(attempts) = 'integer' AND attempts >= 0),
    error TEXT CHECK (typeof(error) IN ('text', 'null')),
    elapsed REAL NOT NULL DEFAULT 0 CHECK (typeof(elapsed) = 'real'),
    calls TEXT CHECK (calls IS NULL OR json_valid(calls)),
    calls_ended TEXT CHECK (calls_ended IS NULL OR json_valid(calls_ended))
)""",
}

# Which part of which input a journal holds. ``digest`` is a hash of the input, or NULL if it is not known.
ORIGIN = {
    "origin": """CREATE TABLE origin (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    shard INTEGER CHECK (shard IS NULL OR typeof(shard) = 'integer' AND shard >= 0),
    shards INTEGER CHECK (shards IS NULL OR typeof(shards) = 'integer' AND shards > shard),
    digest TEXT CHECK (typeof(digest) IN ('text', 'null'))
)"""
}

# What happened when (see `bandwidth_async.journal.timeline`). ``began`` and ``at`` are seconds since the
# epoch. The facts are JSON, so that a later program can have more of them in a journal of this version.
TIMELINE = {
    "parts": """CREATE TABLE parts (
    part INTEGER PRIMARY KEY,
    began REAL NOT NULL CHECK (typeof(began) = 'real'),
    facts TEXT NOT NULL CHECK (json_valid(facts))
)""",
    "timeline": """CREATE TABLE timeline (
    number INTEGER PRIMARY KEY,
    at REAL NOT NULL CHECK (typeof(at) = 'real'),
    seconds REAL NOT NULL CHECK (typeof(seconds) = 'real'),
    facts TEXT NOT NULL CHECK (json_valid(facts))
)""",
}

# SQLite takes at most 32,766 values in one statement.
MOST_ROWS = 2048

# The word of `CHANGE` that claims a row, beside the outcome kinds.
CLAIMED = "claimed"

INTERRUPTED = "interrupted before its answer was recorded"

# How many ids are recorded. Rows are numbered from 1 without gaps.
KEPT = "SELECT coalesce(max(number), 0) FROM conferences"

_UNSETTLED_KINDS = ", ".join(f"'{kind}'" for kind in KINDS if not OutcomeKind(kind).settled)
_UNSETTLED = f"(conferences.kind IS NULL OR conferences.kind IN ({_UNSETTLED_KINDS}))"

BEGIN_RUN = "INSERT INTO run (id, account_id, created, verify, hang_up) VALUES (1, ?, ?, ?, ?)"
READ_RUN = "SELECT account_id, created, given, total, verify, hang_up FROM run"
SET_ORIGIN = "INSERT INTO origin (id, shard, shards, digest) VALUES (1, ?, ?, ?)"
READ_ORIGIN = "SELECT shard, shards, digest FROM origin"


def tables(version: int) -> dict[str, str]:
    """Return the names and texts of the tables of a version."""
    origin = ORIGIN if version >= WITH_ORIGIN else {}
    return TABLES | origin | (TIMELINE if version >= WITH_TIMELINE else {})


@frozen(eq=False)
class Statement:
    """A change for any number of rows, which it reads from a table ``new`` with these columns.

    A None in a row is written as 0, and the table ends with rows of zeros. The reason is speed: Python takes
    five times as long to bind a None, because it looks for an adapter first. That is a tenth of what
    recording an outcome costs.
    """

    columns: tuple[str, ...]
    change: str

    def of(self, rows: Sequence[Row]) -> tuple[str, list[Any]]:
        """Return the SQL for at most `MOST_ROWS` rows, and its parameters."""
        # Only powers of two: then there are a dozen texts, and SQLite parses each once.
        size = 1 << (len(rows) - 1).bit_length()
        values = [0 if value is None else value for row in rows for value in row]
        return _text(self, size), values + [0] * (size * len(self.columns) - len(values))


@cache
def _text(statement: Statement, size: int) -> str:
    row = f"({', '.join('?' * len(statement.columns))})"
    values = ", ".join(repeat(row, size))
    return f"WITH new({', '.join(statement.columns)}) AS (VALUES {values}) {statement.change}"


# Records ids of the input. An id that is given twice is kept once, with all that is known of it.
RECORD = Statement(
    ("conference_id", "existed", "kind", "error"),
    """INSERT INTO conferences (conference_id, existed, kind, error)
SELECT conference_id, existed, nullif(kind, 0), nullif(error, 0) FROM new WHERE conference_id <> 0
ON CONFLICT (conference_id) DO UPDATE SET existed = max(existed, excluded.existed),
    kind = coalesce(kind, excluded.kind), error = coalesce(error, excluded.error)""",
)

# Completes the input. Its one row says how many ids were given.
COMPLETE = Statement(
    ("given",), "UPDATE run SET given = new.given, total = (SELECT count(*) FROM conferences) FROM new"
)

# Records the calls that are to be hung up with a conference, as JSON.
NOTE_CALLS = Statement(
    ("number", "calls"),
    "UPDATE conferences SET calls = new.calls FROM new WHERE conferences.number = new.number",
)

# Claims a row (the word is `CLAIMED`) or records its outcome (the word is the outcome's kind). A process
# that died or a task that ended has left a claim behind on a row that is claimed once more. The conference
# may have been ended then, so the row becomes unknown.
CHANGE = Statement(
    ("number", "word", "attempts", "error", "elapsed", "calls_ended"),
    f"""UPDATE conferences SET claimed = new.word = '{CLAIMED}',
    kind = CASE
        WHEN new.word = '{CLAIMED}' AND claimed THEN 'unknown'
        WHEN new.word IN ('{CLAIMED}', 'not_attempted') THEN kind
        WHEN new.word = 'failed' AND kind = 'unknown' THEN kind
        ELSE new.word END,
    error = CASE
        WHEN new.word = '{CLAIMED}' AND claimed THEN '{INTERRUPTED}'
        WHEN new.word IN ('{CLAIMED}', 'not_attempted') THEN conferences.error
        ELSE nullif(new.error, 0) END,
    attempts = conferences.attempts + new.attempts,
    elapsed = CASE
        WHEN new.word IN ('{CLAIMED}', 'not_attempted') THEN conferences.elapsed
        ELSE new.elapsed END,
    calls_ended = coalesce(nullif(new.calls_ended, 0), conferences.calls_ended)
FROM new WHERE conferences.number = new.number AND {_UNSETTLED}""",  # noqa: S608  # constants
)

# Begins a part of the time line, or replaces what is known of it.
PART = Statement(
    ("part", "began", "facts"),
    """INSERT INTO parts SELECT part, began, facts FROM new WHERE facts <> 0
ON CONFLICT (part) DO UPDATE SET facts = excluded.facts""",
)

# Writes rows of the time line, also over earlier ones.
MOMENT = Statement(
    ("number", "at", "seconds", "facts"),
    """INSERT INTO timeline SELECT number, at, seconds, facts FROM new WHERE facts <> 0
ON CONFLICT (number) DO UPDATE SET at = excluded.at, seconds = excluded.seconds, facts = excluded.facts""",
)

FIRST_HOST = "SELECT json_extract(facts, '$.host') FROM parts ORDER BY part LIMIT 1"
LAST_SETTINGS = "SELECT json_extract(facts, '$.settings') FROM parts ORDER BY part DESC LIMIT 1"
LAST_PART = "SELECT coalesce(max(part), 0) FROM parts"
READ_PARTS = "SELECT part, began, facts FROM parts ORDER BY part"
READ_TIMELINE = "SELECT number, at, seconds, facts FROM timeline WHERE seconds > 0 ORDER BY number"

UNSETTLED_PAGE = f"""SELECT number, conference_id, existed, claimed OR kind IS 'unknown', calls
FROM conferences WHERE number > ? AND {_UNSETTLED} ORDER BY number LIMIT ?"""  # noqa: S608  # constants

# What a reader is shown as the kind of a row.
_SHOWN_KIND = "CASE WHEN claimed THEN 'unknown' ELSE coalesce(kind, 'not_attempted') END"

OUTCOMES_PAGE = f"""SELECT number, conference_id, {_SHOWN_KIND}, attempts,
    CASE WHEN claimed THEN '{INTERRUPTED}' ELSE error END, elapsed, calls_ended
FROM conferences WHERE number > ? ORDER BY number LIMIT ?"""  # noqa: S608  # constants

# For a report: how many ids took how many attempts, the ids that took longest, and those in trouble.
ATTEMPTS = "SELECT attempts, count(*) FROM conferences WHERE attempts > 0 GROUP BY 1"

SLOWEST = f"""SELECT number, conference_id, {_SHOWN_KIND}, attempts,
    CASE WHEN claimed THEN '{INTERRUPTED}' ELSE error END, elapsed, calls_ended
FROM conferences WHERE elapsed > 0 ORDER BY elapsed DESC, number LIMIT ?"""  # noqa: S608  # constants

_TROUBLE_KINDS = ", ".join(f"'{kind}'" for kind in KINDS if OutcomeKind(kind).trouble)
TROUBLE = f"""SELECT conference_id, {_SHOWN_KIND}, CASE WHEN claimed THEN '{INTERRUPTED}' ELSE error END
FROM conferences WHERE claimed AND ? OR kind IN ({_TROUBLE_KINDS}) AND NOT claimed ORDER BY number"""  # noqa: S608  # constants

# While a run is at work on them.
IN_WORK = "SELECT count(*) FROM conferences WHERE claimed"

COUNTS = f"SELECT {_SHOWN_KIND}, count(*), sum(attempts) FROM conferences GROUP BY 1"  # noqa: S608  # constants
