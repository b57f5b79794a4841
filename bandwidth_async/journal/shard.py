"""A shard: one of N parts of an input, which another process can end on another machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b

from attrs import frozen

from bandwidth_async.errors import ConfigurationError

# More would be a mistake: whoever looks for missing shards goes through all of them.
_MOST = 100_000


@frozen
class Shard:
    """Part ``number`` of ``count`` parts of an input. ``number`` counts from 0.

    Each id belongs to exactly one of the parts, whatever the order of the input, and a duplicate belongs to
    the part of its first. Raises `ConfigurationError` if there is no such part.
    """

    number: int
    count: int

    def __attrs_post_init__(self) -> None:
        if not 1 <= self.count <= _MOST:
            raise ConfigurationError(f"{self}: there are 1 to {_MOST:,} shards")
        if not 0 <= self.number < self.count:
            raise ConfigurationError(
                f"{self}: shards count from 0, so the first of {self.count} is 0/{self.count} and the last is"
                f" {self.count - 1}/{self.count}"
            )

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def holds(self, conference_id: str) -> bool:
        """Return whether an id belongs to this part.

        It does if the first 8 bytes of the BLAKE2b hash of its UTF-8, as a big-endian number, leave the
        remainder ``number`` when divided by ``count``. This never changes: journals rely on it.
        """
        digest = blake2b(conference_id.encode(errors="replace"), digest_size=8).digest()
        return int.from_bytes(digest) % self.count == self.number


def gaps(shards: Sequence[Shard]) -> list[str]:
    """Return a sentence for each shard that is missing or there twice."""
    counted = Counter(shards)
    wanted = [
        Shard(number, count) for count in sorted({one.count for one in shards}) for number in range(count)
    ]
    missing = [str(one) for one in wanted if one not in counted]
    twice = [str(one) for one in wanted if counted[one] > 1]
    said = {"not among these journals": missing, "more than once among these journals": twice}
    return [
        f"{'shard' if len(which) == 1 else 'shards'} {', '.join(which[:20])}{' …' if len(which) > 20 else ''}"
        f" {'is' if len(which) == 1 else 'are'} {what}"
        for what, which in said.items()
        if which
    ]
