"""What is made up about a conference, drawn again whenever it is asked for and stored nowhere.

A million conferences have some two million calls. Their ids are computed from the conference's position,
and an id leads back to that position, so that only a call something happened to takes memory.
"""

from __future__ import annotations

from hashlib import blake2b

_SLOTS = 32
"""Places for calls in a conference, more than can be in it; a power of two, so that ids stay unique."""
_ALL = 2**32
_STRIDE = 0x9E3779B1
_BACK = pow(_STRIDE, -1, _ALL)
_VARIANT = dict(zip("0123456789abcdef", 4 * "89ab", strict=True))


def uuid_text(digits: str) -> str:
    """Return 32 hex digits as a UUID of version 4, in a sixth of the time that a UUID takes."""
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"


class Draws:
    """Numbers and ids out of one seed."""

    def __init__(self, seed: int) -> None:
        key = blake2b(str(seed).encode(), digest_size=32).digest()
        self._keyed = blake2b(digest_size=16, key=key)  # never changed: copied, so that the key goes in once
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
        digits = self._digest(f"{prefix}/{position}/{slot}").hex()
        return f"{prefix}-{code:08x}-{uuid_text(digits)}"

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
        drawn = self._keyed.copy()
        drawn.update(what.encode(errors="replace"))
        return drawn.digest()
