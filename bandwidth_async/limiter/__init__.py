"""Decides when each request may be sent: the queue, the pace, the breaker, and the events they emit."""

from bandwidth_async.limiter.breaker import Breaker, RetryBudget
from bandwidth_async.limiter.events import Hook, LimiterSnapshot, PaceEvent, Paused, RateChanged, Unavailable
from bandwidth_async.limiter.knowledge import Knowledge
from bandwidth_async.limiter.limiter import Admission, Limiter
from bandwidth_async.limiter.pace import RateLimit

__all__ = [
    "Admission",
    "Breaker",
    "Hook",
    "Knowledge",
    "Limiter",
    "LimiterSnapshot",
    "PaceEvent",
    "Paused",
    "RateChanged",
    "RateLimit",
    "RetryBudget",
    "Unavailable",
]
