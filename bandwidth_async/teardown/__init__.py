"""One run: many ids in, exactly one outcome for each out. Knows nothing of HTTP."""

from bandwidth_async.teardown.outcome import Outcome, OutcomeKind, Report
from bandwidth_async.teardown.run import Outcomes, Source, iterate, run
from bandwidth_async.teardown.stop import GRACE, Stop

__all__ = ["GRACE", "Outcome", "OutcomeKind", "Outcomes", "Report", "Source", "Stop", "iterate", "run"]
