"""A run on a queue: a coordinator hands out chunks of ids, and workers on other machines end them.

`run_on` is a run as `VoiceClient.end_conferences` does it, with its journal, stop and report. Only what ends
a conference is elsewhere: a `ChunkWorker`, in a process that has the credentials. An `Engine` is what lies
between: it carries a chunk to some worker, and keeps small records by key for both sides.
``bandwidth_async.celery`` is one, and ``examples/queue_taskiq.py`` shows how little another needs.

What always holds
    A record says which ids of a chunk have their outcome, and that its worker is alive: the lease, renewed
    many times in its length. Time in the queue counts for nothing. Another record says that the coordinator
    is alive, and whether the run is stopped. Who cannot read the other's record for half a lease stops.
    A chunk is begun once. The engine may deliver it again, and the coordinator may offer it again, as often
    as they like: a worker drops what has a record. Only the coordinator lets ids be sent again, when their
    lease has lapsed: it alone knows which ids have no outcome. They are ambiguous then, so a 404 means that
    the conference has ended.
    No credential is in a chunk or a record, and the account only as a hash, so that a worker of another
    account refuses the chunk.
"""

from bandwidth_async.chunks.coordinator import run_on
from bandwidth_async.chunks.engine import Engine, Record
from bandwidth_async.chunks.worker import ChunkWorker

__all__ = ["ChunkWorker", "Engine", "Record", "run_on"]
