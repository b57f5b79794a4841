"""Calls as Bandwidth describes them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from attrs import frozen


@frozen(kw_only=True)
class Call:
    """A call as `get_call` returns it, also for 7 days after it has ended.

    All times are aware. ``state`` is one of Bandwidth's words (``queued``, ``initiated``, ``answered``,
    ``disconnected``; others may come), ``disconnect_cause`` says why a call ended. ``stir_shaken`` has
    free keys; values that are not text are kept as JSON. ``from_`` is the API's ``from``.
    """

    call_id: str
    application_id: str | None = None
    account_id: str | None = None
    parent_call_id: str | None = None
    to: str | None = None
    from_: str | None = None
    direction: str | None = None
    state: str | None = None
    stir_shaken: Mapping[str, str] | None = None
    identity: str | None = None
    enqueued_time: datetime | None = None
    start_time: datetime | None = None
    answer_time: datetime | None = None
    end_time: datetime | None = None
    disconnect_cause: str | None = None
    error_message: str | None = None
    error_id: str | None = None
    last_update: datetime | None = None

    @property
    def active(self) -> bool:
        """Whether it has not ended; a call that waits or rings is active too."""
        return self.end_time is None and self.state != "disconnected"
