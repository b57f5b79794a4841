"""Shares one rate limit among processes: on one machine over a socket, on many over Redis.

One process leads. It runs the pace for all and hands out permits to send. The modules, from the top::

    limiter                   SharedLimiter, which a VoiceClient is given
    coordinator  alone        whether this process leads, follows, or goes on alone
    pace  permits             the pace that the limiter sees, and that of a follower
    leader  members  outbox   the pace of all, whose turn it is, and what the others are told
    duties  link              the tasks that talk with the store, each call bounded in time
    messages                  reports to the leader, letters from it
    carrier                   what is needed of a store, and two of them:
    stores  over_redis  over_socket
"""

from bandwidth_async.sharing.carrier import Carrier, CarrierError, LeaderGone, Lease, Seen, share_name
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
    "share_name",
]
