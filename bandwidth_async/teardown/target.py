"""One conference that a run is to end, with what is known of it beforehand."""

from __future__ import annotations

from attrs import define

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.models import Conference


@define  # not frozen, as `wire.Request` is not
class Target:
    """One id of a run.

    ``existed`` says that a listing showed it, ``ambiguous`` that an earlier run may have ended it without
    hearing so: a 404 then means that it has ended. ``number`` is its row in the journal, 0 without one.
    ``calls`` are those that an earlier run meant to hang up with it.
    """

    conference_id: str
    existed: bool = False
    ambiguous: bool = False
    number: int = 0
    calls: tuple[str, ...] = ()

    @classmethod
    def of(cls, item: str | Conference | Target) -> Target:
        """Return what was given to a run as a target. Raises `ConfigurationError` when it cannot be one."""
        if type(item) is str:
            return cls(item)
        if isinstance(item, Target):
            return item
        if isinstance(item, Conference):
            return cls(item.id, existed=True)
        if isinstance(item, str):
            return cls(str(item))
        raise ConfigurationError(f"a conference id is text, not {item!r}")
