"""The change of a conference member: muted, on hold, coaching whom."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from attrs import Attribute, field, fields, frozen

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.models.conference import camel_case
from bandwidth_async.models.ids import checked_id


def _call_ids(value: Iterable[str] | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    given: object = value  # untyped callers may pass anything, and a text is an iterable of texts too
    ids = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (None,)
    if not all(isinstance(call_id, str) and call_id for call_id in ids):
        raise ConfigurationError(f"call_ids_to_coach is a list of call ids, not {value!r}")
    return tuple(checked_id(call_id, "call id to coach") for call_id in ids)


def _flag(_: UpdateConferenceMember, attribute: Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, bool):
        raise ConfigurationError(f"{attribute.name} is True or False, not {value!r}")


@frozen(kw_only=True)
class UpdateConferenceMember:
    """The body of the member update. Only what is set is sent; what is left out stays as it is.

    A member on ``mute`` hears the others, one on ``hold`` neither hears nor is heard.
    ``call_ids_to_coach`` replaces the list of calls that hear this member alone; an empty one clears it.

    Raises `ConfigurationError`, before anything is sent, when nothing is set or a value is of another kind.
    """

    mute: bool | None = field(default=None, validator=_flag)
    hold: bool | None = field(default=None, validator=_flag)
    call_ids_to_coach: tuple[str, ...] | None = field(default=None, converter=_call_ids)

    def __attrs_post_init__(self) -> None:
        if not self.to_dict():
            raise ConfigurationError("the change of a member sets mute, hold or call_ids_to_coach")

    def to_dict(self) -> dict[str, bool | list[str]]:
        """Return the fields that were set, under the names of the API."""
        values = ((a.name, getattr(self, a.name)) for a in fields(UpdateConferenceMember))
        return {
            camel_case(name): list(value) if isinstance(value, tuple) else value
            for name, value in values
            if value is not None
        }

    def to_json(self) -> str:
        """Return the body as it is sent."""
        return json.dumps(self.to_dict(), separators=(",", ":"))
