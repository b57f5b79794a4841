"""What a journal looks like inside, and every statement that changes it.

A row is born with the input. ``claimed`` says that requests for it may be out: it is set before the first
of them and taken back with the outcome, so a row that a dead process leaves behind is claimed, and
whoever reads it sees ``unknown``. ``kind`` is what was known before the claim, NULL until there is
something, and never ``not_attempted``.

What always holds
    A settled row never changes again. A row that may have been ended unheard stays ``unknown`` until it is
    settled: that a later try surely did not end it says nothing about the earlier one.

A statement takes a JSON list of all its rows, and is one step for SQLite with its commit in it. That
matters: Python lets go of its interpreter lock around each step, and a busy event loop gives it back after
5 ms.

The constraints are for damage: SQLite checks them when a journal is opened, and as they name the kinds, no
single byte makes one kind of another.
"""

from __future__ import annotations

from bandwidth_async.teardown import OutcomeKind

APPLICATION_ID = 0x42574A31  # "BWJ1" in the file's header
VERSION = 1
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

# Rows: conference id, existed, kind, error. What is given twice is kept once, with all that is known.
RECORD = """INSERT INTO conferences (conference_id, existed, kind, error)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'),
    json_extract(value, '$[2]'), json_extract(value, '$[3]')
FROM json_each(?) WHERE true
ON CONFLICT (conference_id) DO UPDATE SET existed = max(existed, excluded.existed),
    kind = coalesce(kind, excluded.kind), error = coalesce(error, excluded.error)"""

# One row: how many were given. From now on the input is complete.
COMPLETE = """UPDATE run SET given = json_extract(?, '$[0][0]'),
    total = (SELECT count(*) FROM conferences)"""

CLAIMED = "claimed"

# Rows: number, the calls to be hung up with it as JSON.
NOTE_CALLS = """UPDATE conferences SET calls = json_extract(value, '$[1]')
FROM json_each(?) WHERE number = json_extract(value, '$[0]')"""

# Rows: number, word, attempts, error, elapsed, calls hung up as JSON; the word is `CLAIMED` or an outcome's
# kind. A row that is claimed again was left behind, by a process that died or a task that ended: it may have
# been ended unheard.
CHANGE = f"""UPDATE conferences SET claimed = new.word = '{CLAIMED}',
    kind = CASE
        WHEN new.word = '{CLAIMED}' AND claimed THEN 'unknown'
        WHEN new.word IN ('{CLAIMED}', 'not_attempted') THEN kind
        WHEN new.word = 'failed' AND kind = 'unknown' THEN kind
        ELSE new.word END,
    error = CASE
        WHEN new.word = '{CLAIMED}' AND claimed THEN '{INTERRUPTED}'
        WHEN new.word IN ('{CLAIMED}', 'not_attempted') THEN conferences.error
        ELSE new.error END,
    attempts = conferences.attempts + new.attempts,
    elapsed = CASE
        WHEN new.word IN ('{CLAIMED}', 'not_attempted') THEN conferences.elapsed
        ELSE new.elapsed END,
    calls_ended = coalesce(new.calls_ended, conferences.calls_ended)
FROM (SELECT json_extract(value, '$[0]') AS number, json_extract(value, '$[1]') AS word,
        json_extract(value, '$[2]') AS attempts, json_extract(value, '$[3]') AS error,
        json_extract(value, '$[4]') AS elapsed, json_extract(value, '$[5]') AS calls_ended
    FROM json_each(?)) AS new
WHERE conferences.number = new.number AND {_UNSETTLED}"""  # noqa: S608  # constants

UNSETTLED_PAGE = f"""SELECT number, conference_id, existed, claimed OR kind IS 'unknown', calls
FROM conferences WHERE number > ? AND {_UNSETTLED} ORDER BY number LIMIT ?"""  # noqa: S608  # constants

_SHOWN_KIND = "CASE WHEN claimed THEN 'unknown' ELSE coalesce(kind, 'not_attempted') END"

OUTCOMES_PAGE = f"""SELECT number, conference_id, {_SHOWN_KIND}, attempts,
    CASE WHEN claimed THEN '{INTERRUPTED}' ELSE error END, elapsed, calls_ended
FROM conferences WHERE number > ? ORDER BY number LIMIT ?"""  # noqa: S608  # constants

COUNTS = f"SELECT {_SHOWN_KIND}, count(*), sum(attempts) FROM conferences GROUP BY 1"  # noqa: S608  # constants
