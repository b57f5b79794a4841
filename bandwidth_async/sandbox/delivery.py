"""What becomes of the work under a fault: the answer that goes out, if any, and how."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from attrs import evolve, frozen

from bandwidth_async.sandbox.faults import Effect, Fault
from bandwidth_async.sandbox.messages import Answer

_SLOW_BYTES = 90
_GARBAGE = b'{"garbage": \xff'


class Manner(Enum):
    """How an answer goes out, or that none does."""

    WHOLE = "whole"
    SLOW = "slow"
    RESET = "reset"
    HANG = "hang"


@frozen(kw_only=True)
class Delivery:
    """An answer with its manner; RESET and HANG have none. ``name`` is how the truth counts it."""

    manner: Manner
    name: str
    answer: Answer | None = None


def deliver(fault: Fault | None, work: Callable[[], Answer], refuse: Callable[[int], Answer]) -> Delivery:
    """Do the work unless the fault comes before it, and return what the client gets.

    ``refuse`` makes the answer for the status of a status fault.
    """
    if fault is None:
        return whole(work())
    if fault.effect is Effect.GARBAGE:
        return whole(_with_body(work(), lambda _: _GARBAGE))
    if fault.effect is Effect.SLOW:
        slow = _with_body(work(), lambda body: (body or b"{}").ljust(_SLOW_BYTES))
        return Delivery(manner=Manner.SLOW, name=str(slow.status), answer=slow)
    if fault.after:
        work()
    if fault.effect is Effect.STATUS:
        return whole(refuse(fault.status))
    moment = "after" if fault.after else "before"
    return Delivery(manner=Manner(fault.effect.value), name=f"{fault.effect.value}-{moment}")


def whole(answer: Answer) -> Delivery:
    """Return the answer as it goes out when nothing is wrong with the way."""
    return Delivery(manner=Manner.WHOLE, name=str(answer.status), answer=answer)


def _with_body(answer: Answer, change: Callable[[bytes], bytes]) -> Answer:
    """Return the answer with another body; a 204 becomes a 200, which may have one."""
    return evolve(
        answer,
        status=200 if answer.status == 204 else answer.status,
        headers={**answer.headers, "Content-Type": "application/json"},
        body=change(answer.body),
    )
