"""One run: many ids in, exactly one outcome for each out. Knows nothing of HTTP."""

from bandwidth_async.teardown.outcome import Outcome, OutcomeKind, Report, kind_of
from bandwidth_async.teardown.run import Deliver, End, Outcomes, Source, iterate, run
from bandwidth_async.teardown.stop import GRACE, Stop
from bandwidth_async.teardown.target import Target

__all__ = [
    "GRACE",
    "Deliver",
    "End",
    "Outcome",
    "OutcomeKind",
    "Outcomes",
    "Report",
    "Source",
    "Stop",
    "Target",
    "iterate",
    "kind_of",
    "run",
]
