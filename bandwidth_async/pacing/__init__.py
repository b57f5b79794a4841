"""When the next request may leave: the deciding part of the limiter, without clock, tasks or sockets."""

from bandwidth_async.pacing.adaptive import AdaptivePace
from bandwidth_async.pacing.limit import FixedPace, Pace, RateLimit, pace_for

__all__ = ["AdaptivePace", "FixedPace", "Pace", "RateLimit", "pace_for"]
