"""What processes that share a limit need of a store: a lease for their leader, reports, and letters.

One process leads. It runs the pace for all and hands out permits: see `leader`. The others follow: they
report what they wait for and what became of their permits. A carrier brings these messages from one to the
other. It does not look into them.

    claim      take or renew the lead for some seconds, and learn whether somebody else has it
    report     from any process to the leader
    letters    from the leader to one process: permits, and the state of the limit

A carrier need not be reliable. A message that is lost costs some permits, and nothing else. Whatever keeps a
carrier from its work is a `CarrierError`: then each process goes on alone.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping


class CarrierError(Exception):
    """The carrier cannot do what it was asked for. The message is the reason, without any password."""


class LeaderGone(CarrierError):  # noqa: N818 - it is news and no fault
    """The leader has left. Another process can take the lead at once."""


@frozen
class Lease:
    """The answer to a claim.

    ``leading``
        Whether the one who asked leads now.
    ``term``
        The number of the lease. It rises with each leader, as long as the store is not emptied.
    ``state``
        What the last leader published, or None.
    ``setting``
        The rate that an operator has set for all, or None.
    """

    leading: bool
    term: int
    state: str | None = None
    setting: float | None = None


@frozen
class Seen:
    """What an operator sees.

    ``led``
        Whether a process leads at present.
    ``state``, ``setting``
        As of a `Lease`.
    """

    led: bool
    state: str | None
    setting: float | None


class Carrier(Protocol):
    """Carries messages between the processes that share one limit. All methods raise `CarrierError`.

    ``me`` and the keys of ``letters`` are the names of processes. Messages are text, in the order of sending
    from one process to another.
    """

    def __str__(self) -> str:
        """Return what an operator calls the store, without any password."""

    async def claim(self, me: str, seconds: float) -> Lease:
        """Take the lead for ``seconds`` if nobody has it, or keep it, by the clock of the store."""

    async def resign(self, me: str) -> None:
        """Give the lead back, so that another process can take it at once."""

    async def report(self, me: str, message: str) -> None:
        """Send a message to the leader, whoever it is."""

    async def reports(self, seconds: float) -> list[str]:
        """Wait for messages to the leader, ``seconds`` at most, and return those that have come."""

    async def send(self, letters: Mapping[str, list[str]], state: str | None) -> bool:
        """Send letters as the leader, and publish a new ``state`` if there is one.

        Returns False, and sends nothing, if another process has the lead.
        """

    async def letters(self, me: str, seconds: float) -> list[str]:
        """Wait for letters to a process, ``seconds`` at most, and return those that have come.

        Raises `LeaderGone` as soon as it is known that the leader has left.
        """

    async def look(self) -> Seen:
        """Return what an operator sees."""

    async def set_rate(self, rate: float | None) -> None:
        """Set the rate for all, or with None leave it to the pace. The leader learns it by its claims."""

    async def aclose(self) -> None:
        """Close the connections."""


def share_name(account_id: str, host: str) -> str:
    """Return the name under which the processes of one account and host find each other.

    It is a hash, so it shows neither to those who may look into the store.
    """
    told = f"{account_id}\n{host}".encode(errors="backslashreplace")
    return hashlib.blake2b(told, digest_size=16).hexdigest()
