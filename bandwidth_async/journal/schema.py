"""What a journal looks like inside, and every statement that changes it.

A row is born with the input. ``claimed`` says that requests for it may be out: it is set before the first
of them and taken back with the outcome, so a row that a dead process leaves behind is claimed, and
whoever reads it sees ``unknown``. ``kind`` is what was known before the claim, NULL until there is
something, and never ``not_attempted``.

What always holds
    A settled row never changes again. A row that may have been ended unheard stays ``unknown`` until it is
    settled: that a later try surely did not end it says nothing about the earlier one.

A statement takes all its rows at once, and is one step for SQLite with its commit in it. That matters:
Python lets go of its interpreter lock around each step, and a busy event loop gives it back after 5 ms.

The constraints are for damage: SQLite checks them when a journal is opened, and as they name the kinds, no
single byte makes one kind of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import repeat
from typing import Any

from attrs import frozen

from bandwidth_async.outcome import OutcomeKind

Row = Sequence[Any]  # what SQLite can keep: the first value names the row

APPLICATION_ID = 0x42574A31  # "BWJ1" in the file's header
VERSION = 1
MOST_ROWS = 2048  # of one statement; SQLite takes 32,766 values
INTERRUPTED = "interrupted before its answer was recorded"

_KINDS = ", ".join(f"'{kind}'" for kind in OutcomeKind if kind is not OutcomeKind.NOT_ATTEMPTED)
_UNSETTLED = "(conferences.kind IS NULL OR conferences.kind IN ('failed', 'unknown'))"

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
    kind TEXT CHECK (kind IN ({_KINDS})),
    attempts INTEGER NOT NULL DEFAULT 0 CHECK (typeof(attempts) = 'integer' AND attempts >= 0),
    error TEXT CHECK (typeof(error) IN ('text', 'null')),
    elapsed REAL NOT NULL DEFAULT 0 CHECK (typeof(elapsed) = 'real'),
    calls TEXT CHECK (calls IS NULL OR json_valid(calls)),
    calls_ended TEXT CHECK (calls_ended IS NULL OR json_valid(calls_ended))
)""",
}

BEGIN_RUN = "INSERT INTO run (id, account_id, created, verify, hang_up) VALUES (1, ?, ?, ?, ?)"
READ_RUN = "SELECT account_id, created, given, total, verify, hang_up FROM run"

CLAIMED = "claimed"


@frozen(eq=False)
class Statement:
    """A change for any number of rows, which it finds in a table ``new`` of these columns.

    Where a row has None the table has 0, and it ends with rows of zeros: Python takes five times as long to
    bind a None, as it looks for an adapter first, which is a tenth of what an outcome costs.
    """

    columns: tuple[str, ...]
    change: str

    def of(self, rows: Sequence[Row]) -> tuple[str, list[Any]]:
        """Return the SQL for at most `MOST_ROWS` rows, and its parameters."""
        size = 1 << (len(rows) - 1).bit_length()  # so there are a dozen texts, which SQLite reads once each
        values = [0 if value is None else value for row in rows for value in row]
        return _text(self, size), values + [0] * (size * len(self.columns) - len(values))


@cache
def _text(statement: Statement, size: int) -> str:
    row = f"({', '.join('?' * len(statement.columns))})"
    values = ", ".join(repeat(row, size))
    return f"WITH new({', '.join(statement.columns)}) AS (VALUES {values}) {statement.change}"


# What is given twice is kept once, with all that is known.
RECORD = Statement(
    ("conference_id", "existed", "kind", "error"),
    """INSERT INTO conferences (conference_id, existed, kind, error)
SELECT conference_id, existed, nullif(kind, 0), nullif(error, 0) FROM new WHERE conference_id <> 0
ON CONFLICT (conference_id) DO UPDATE SET existed = max(existed, excluded.existed),
    kind = coalesce(kind, excluded.kind), error = coalesce(error, excluded.error)""",
)

# One row: how many were given. From now on the input is complete.
COMPLETE = Statement(
    ("given",), "UPDATE run SET given = new.given, total = (SELECT count(*) FROM conferences) FROM new"
)

# ``calls`` are those to be hung up with it, as JSON.
NOTE_CALLS = Statement(
    ("number", "calls"),
    "UPDATE conferences SET calls = new.calls FROM new WHERE conferences.number = new.number",
)

# The word is `CLAIMED` or an outcome's kind. A row that is claimed again was left behind, by a process that
# died or a task that ended: it may have been ended unheard.
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

UNSETTLED_PAGE = f"""SELECT number, conference_id, existed, claimed OR kind IS 'unknown', calls
FROM conferences WHERE number > ? AND {_UNSETTLED} ORDER BY number LIMIT ?"""  # noqa: S608  # constants

_SHOWN_KIND = "CASE WHEN claimed THEN 'unknown' ELSE coalesce(kind, 'not_attempted') END"

OUTCOMES_PAGE = f"""SELECT number, conference_id, {_SHOWN_KIND}, attempts,
    CASE WHEN claimed THEN '{INTERRUPTED}' ELSE error END, elapsed, calls_ended
FROM conferences WHERE number > ? ORDER BY number LIMIT ?"""  # noqa: S608  # constants

COUNTS = f"SELECT {_SHOWN_KIND}, count(*), sum(attempts) FROM conferences GROUP BY 1"  # noqa: S608  # constants
