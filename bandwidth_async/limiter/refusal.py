"""What a pace is told of a request that the server refused."""

from __future__ import annotations

from attrs import frozen


@frozen
class Refusal:
    """What a refusal says, beside that it was one.

    ``hint``, ``coarse``
        The seconds that the server asks for, None if it names no time; and whether a second of them may be
        rounding.
    ``jitter``
        Seconds of pause beside the hint.
    ``own``
        The serial of an earlier refusal of the same request, if others passed since. Then it concerns this
        request only.
    """

    hint: float | None
    jitter: float = 0.0
    own: int | None = None
    coarse: bool = False
