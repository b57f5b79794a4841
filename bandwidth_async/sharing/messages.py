"""The messages between leader and followers: reports, letters, and the state that the leader publishes.

All of them are JSON. Who reads one ignores keys that it does not know, and takes a message that it cannot
read for one that was lost. No clock goes along: times are seconds from the moment of sending.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

from attrs import field, frozen
from cattrs.preconf.json import make_converter

from bandwidth_async.limiter import Knowledge

M = TypeVar("M")

# What became of a permit. A refusal has the fields of `Refusal` behind it. The last is of no permit: it has
# the rate to return to, as the refusals since then had another cause.
ACCEPTED, REFUSED, LOST, UNSENT, RESUMED = "a", "r", "l", "u", "back"

# The number of no permit: for a request that was sent without one.
UNKNOWN = 0

# What became of a permit, and its number.
Result = tuple[Any, ...]

# The processes that go on alone do not use all of the last rate, since nobody counts for all any more.
ALONE_SHARE = 0.9

_converter = make_converter(omit_if_default=True, detailed_validation=False)


@frozen(kw_only=True)
class State:
    """The limit at one moment, as its leader sees it.

    ``term``, ``epoch``
        A number that no other leader has. The epoch rises with each pause, which voids all earlier permits.
    ``rate``, ``quota``
        Requests per second of all processes, and what the server is believed to allow.
    ``paused_for``, ``hinted``
        Seconds for which nothing is sent, and whether the server named them.
    ``shut``
        Whether nothing was accepted since the pause, so that every result is urgent.
    ``fixed``, ``earliest``
        Whether the rate never changes by itself. Then no further request is sent for so many seconds.
    ``setting``
        The rate that an operator has set, or None.
    ``processes``, ``waiting``, ``in_flight``
        Of all processes together.
    ``leader``
        Machine and process of the leader.
    ``knowledge``, ``names``
        What the leader has learned, and whom it leads, for the next one. Letters are without the names.
    """

    term: int
    epoch: int = 0
    rate: float
    quota: float | None = None
    paused_for: float = 0.0
    hinted: bool = False
    shut: bool = False
    fixed: bool = False
    earliest: float = -math.inf
    setting: float | None = None
    processes: int = 1
    waiting: int = 0
    in_flight: int = 0
    leader: str = ""
    knowledge: Knowledge | None = None
    names: list[str] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        if not 0 < self.rate < math.inf:
            raise ValueError(f"{self.rate} is no rate")

    def share(self) -> float:
        """Return the requests per second with which one process goes on alone."""
        return ALONE_SHARE * self.rate / max(1, self.processes)


@frozen(kw_only=True)
class Letter:
    """From the leader to one process: the state, and permits with the seconds until each may be used.

    ``serial`` rises by 1 with each letter to this process. ``resigned`` says that the leader has left.
    """

    serial: int
    state: State
    permits: list[tuple[int, float]] = field(factory=list)
    resigned: bool = False


@frozen(kw_only=True)
class Report:
    """From one process to the leader: what it waits for, and what became of its permits.

    ``process``, ``about``
        Its name, and the machine and process for people.
    ``term``, ``seen``
        The leader that it follows, and the serial of the last letter from it.
    ``interactive``, ``bulk``, ``holding``
        Requests that wait for permits, and permits that wait for their time.
    ``rate``
        The rate that this process was given, None if it was left to the pace.
    ``results``
        What became of permits, in order.
    ``leaving``
        Whether this is its last report.
    """

    process: str
    about: str = ""
    term: int = 0
    seen: int = 0
    interactive: int = 0
    bulk: int = 0
    holding: int = 0
    rate: float | None = None
    results: list[Result] = field(factory=list)
    leaving: bool = False


def encode(message: State | Letter | Report) -> str:
    """Return a message as text."""
    return _converter.dumps(message)


def decode(text: str | None, kind: type[M]) -> M | None:
    """Return the message that ``text`` holds, or None if there is none of that kind."""
    try:
        return None if text is None else _converter.loads(text, kind)
    # Whatever may lie in a store that others write to, too: no JSON, another shape, a number that is none.
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None
