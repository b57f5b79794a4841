"""A durable record of one run: its ids, and the outcome of each."""

from bandwidth_async.directories import state_directory
from bandwidth_async.journal.file import remove, remove_unused
from bandwidth_async.journal.journal import Journal, Recorded
from bandwidth_async.journal.place import find, journals, new_journal_path
from bandwidth_async.journal.reading import JournalInfo, begun, describe, last_settings, read_outcomes
from bandwidth_async.journal.shard import Shard, gaps

__all__ = [
    "Journal",
    "JournalInfo",
    "Recorded",
    "Shard",
    "begun",
    "describe",
    "find",
    "gaps",
    "journals",
    "last_settings",
    "new_journal_path",
    "read_outcomes",
    "remove",
    "remove_unused",
    "state_directory",
]
