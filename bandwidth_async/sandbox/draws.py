"""What is made up about a conference, drawn again whenever it is asked for and stored nowhere.

A million conferences have some two million calls. Their ids are computed from the conference's position,
and an id leads back to that position, so that only a call something happened to takes memory.
"""

from __future__ import annotations

from hashlib import blake2b
from uuid import UUID

_SLOTS = 32
"""Places for calls in a conference, more than can be in it; a power of two, so that ids stay unique."""
_ALL = 2**32
_STRIDE = 0x9E3779B1
_BACK = pow(_STRIDE, -1, _ALL)


class Draws:
    """Numbers and ids out of one seed."""

    def __init__(self, seed: int) -> None:
        self._key = blake2b(str(seed).encode(), digest_size=32).digest()
        self._offset = int.from_bytes(self._digest("offset")[:4])

    def number(self, what: str, position: int, span: tuple[int, int]) -> int:
        """Return a number within ``span``, ends included, the same each time."""
        low, high = span
        if low == high:
            return low
        return low + int.from_bytes(self._digest(f"{what}/{position}")[:8]) % (high - low + 1)

    def id(self, prefix: str, position: int, slot: int) -> str:
        """Return an id as Bandwidth makes them: a prefix, eight hex digits and a UUID."""
        code = ((position * _SLOTS + slot) * _STRIDE + self._offset) % _ALL
        uuid = UUID(bytes=self._digest(f"{prefix}/{position}/{slot}"), version=4)
        return f"{prefix}-{code:08x}-{uuid}"

    def place(self, id_: str) -> tuple[int, int] | None:
        """Return (position, slot) that an id was made for, None when it was made nowhere here."""
        prefix, _, rest = id_.partition("-")
        try:
            code = int(rest[:8], 16)
        except ValueError:
            return None
        position, slot = divmod((code - self._offset) * _BACK % _ALL, _SLOTS)
        return (position, slot) if self.id(prefix, position, slot) == id_ else None

    def noise(self, what: str, length: int) -> bytes:
        """Return that many bytes that look like noise."""
        blocks = (self._digest(f"{what}/{index}") for index in range(-(-length // 16)))
        return b"".join(blocks)[:length]

    def _digest(self, what: str) -> bytes:
        return blake2b(what.encode(errors="replace"), digest_size=16, key=self._key).digest()
