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
    CUT = "cut"


@frozen(kw_only=True)
class Delivery:
    """An answer with its manner; RESET and HANG have none. ``name`` is how the truth counts it.

    Of a CUT answer ``length`` bytes of the body go out.
    """

    manner: Manner
    name: str
    answer: Answer | None = None
    length: int = 0


def deliver(fault: Fault | None, work: Callable[[], Answer], refuse: Callable[[int], Answer]) -> Delivery:
    """Do the work unless the fault comes before it, and return what the client gets.

    ``refuse`` makes the answer for the status of a status fault.
    """
    if fault is None:
        return whole(work())
    if fault.effect is Effect.GARBAGE:
        return whole(_with_body(work(), lambda _: _GARBAGE))
    if fault.effect is Effect.SLOW:
        slow = work()
        if slow.stream is None:
            slow = _with_body(slow, lambda body: (body or b"{}").ljust(_SLOW_BYTES))
        return Delivery(manner=Manner.SLOW, name=str(slow.status), answer=slow)
    if fault.effect is Effect.CUT:
        return _cut(work(), fault.share)
    if fault.after:
        work()
    if fault.effect is Effect.STATUS:
        return whole(refuse(fault.status))
    moment = "after" if fault.after else "before"
    return Delivery(manner=Manner(fault.effect.value), name=f"{fault.effect.value}-{moment}")


def _cut(answer: Answer, share: float) -> Delivery:
    """Return the answer with the connection closed within its body; without one, no answer at all."""
    size = answer.content.size
    if not size:
        return Delivery(manner=Manner.RESET, name="cut")
    return Delivery(manner=Manner.CUT, name="cut", answer=answer, length=int(size * share))


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
        stream=None,
    )
