"""What a queue has to offer, and the values that travel over it: plain JSON, without credentials."""

from __future__ import annotations

from abc import ABC, abstractmethod
from hashlib import sha256
from typing import Any, Self

from attrs import asdict, field, fields, frozen

from bandwidth_async import errors
from bandwidth_async.errors import APIError, BandwidthError
from bandwidth_async.outcome import Outcome, OutcomeKind

# A value of JSON's types.
Record = dict[str, Any]

# The version of chunks and records. A worker of another version refuses the chunk.
VERSION = 1


class Engine(ABC):
    """A queue with a place for small records, which every worker and the coordinator reach.

    A record may be lost: then ids are sent again, and none is forgotten. Its methods may raise anything while
    the queue cannot be reached.
    """

    def check(self, lease: float) -> None:  # noqa: B027  # most queues have nothing to check
        """Raise `ConfigurationError` if a run on this queue cannot work. ``lease`` is seconds."""

    @abstractmethod
    async def send(self, chunk: Record) -> None:
        """Have some worker pass ``chunk`` to its `ChunkWorker.end`. It may come late, twice, or never."""

    @abstractmethod
    async def read(self, key: str) -> Record | None:
        """Return the record that was last written under ``key``, or None."""

    @abstractmethod
    async def write(self, key: str, record: Record) -> None:
        """Keep a record, in place of the last one under ``key``, for an hour or longer."""


@frozen(kw_only=True)
class Chunk:
    """Ids that one worker ends. ``targets`` are triples: the id, and what `Target` says of it.

    ``lease`` is seconds. ``epoch`` is another for each coordinator of the run.
    """

    run_id: str
    epoch: str
    account: str
    lease: float
    verify: bool
    number: int = 0
    targets: list[tuple[str, bool, bool]] = field(factory=list)
    version: int = VERSION

    @classmethod
    def of(cls, record: Record) -> Self:
        """Return the chunk of a message. What a later version has added is left out."""
        return cls(**{one.name: record[one.name] for one in fields(cls)})

    @property
    def chunk_id(self) -> str:
        """The key of its worker's record. That of the coordinator's record is ``run_id``."""
        return f"{self.run_id}.{self.epoch}.{self.number}"


def account_mark(account_id: str, run_id: str) -> str:
    """Return what stands for an account in a chunk."""
    return sha256(f"{run_id} {account_id}".encode()).hexdigest()[:16]


def packed_outcome(outcome: Outcome) -> Record:
    """Return an outcome as a record."""
    return {**asdict(outcome), "kind": outcome.kind.value}


def outcome_in(record: Record) -> Outcome:
    """Return the outcome in a record."""
    kind, calls = OutcomeKind(record["kind"]), tuple(record["calls_ended"])
    return Outcome(**{**record, "kind": kind, "calls_ended": calls})


def packed_error(error: BandwidthError, place: str) -> Record:
    """Return an error that stopped a worker as a record. ``place`` names the worker's machine."""
    return {
        "class": type(error).__name__,
        "message": f"{error.message} (on the worker {place})",
        "attempts": error.attempts,
        "retry_after": error.retry_after,
        "status": getattr(error, "status", 0),
    }


def error_in(record: Record) -> BandwidthError:
    """Return the error in a record. What is no error of this package becomes a `BandwidthError`."""
    kind = getattr(errors, record["class"], None)
    facts: Record = {"attempts": record["attempts"], "retry_after": record["retry_after"]}
    if isinstance(kind, type) and issubclass(kind, APIError):
        return kind(record["message"], status=record["status"], **facts)
    if isinstance(kind, type) and issubclass(kind, BandwidthError):
        return kind(record["message"], **facts)
    return BandwidthError(record["message"], **facts)
