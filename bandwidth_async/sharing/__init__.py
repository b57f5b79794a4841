"""Shares one rate limit among processes: on one machine over a socket, on many over Redis."""

from bandwidth_async.sharing.carrier import Carrier, CarrierError, LeaderGone, Lease, Seen
from bandwidth_async.sharing.limiter import SharedLimiter
from bandwidth_async.sharing.messages import State, decode
from bandwidth_async.sharing.stores import LOCAL, carrier_for

__all__ = [
    "LOCAL",
    "Carrier",
    "CarrierError",
    "LeaderGone",
    "Lease",
    "Seen",
    "SharedLimiter",
    "State",
    "carrier_for",
    "decode",
]
