"""The phone calls: members of a conference, calls that left it, and calls that ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

from attrs import frozen

from bandwidth_async.sandbox.conferences import Conference, ConferenceStore, to_milliseconds
from bandwidth_async.sandbox.generated import SeededGenerator

# Bandwidth documents how long it knows a call that has ended.
_KNOWN_AFTER_END = timedelta(days=7)


@frozen(kw_only=True)
class PhoneCall:
    """What never changes about a call. It was answered when its conference was created."""

    conference: Conference
    slot: int
    id: str

    @property
    def origin(self) -> str:
        """The number of the caller, from the range that is reserved for fiction."""
        return f"+1919555{100 + (20 * self.conference.position + self.slot) % 100:04}"

    @property
    def destination(self) -> str:
        """The number that was called."""
        return "+18285550100"


@frozen(kw_only=True)
class MemberSettings:
    """The settings of a member that a PUT can change."""

    mute: bool = False
    hold: bool = False
    call_ids_to_coach: tuple[str, ...] = ()


class CallStore:
    """All calls. They are generated when asked for; only their changes are stored."""

    def __init__(
        self, *, conferences: ConferenceStore, members: tuple[int, int], generator: SeededGenerator
    ) -> None:
        self._conferences = conferences
        self._members = members
        self._generator = generator
        # By call id; changed in change_settings().
        self._settings: dict[str, MemberSettings] = {}
        # When calls left on their own, by call id, and how many, by position; changed in leave().
        self._left_at: dict[str, datetime] = {}
        self._left: Counter[int] = Counter()
        # When calls ended, by call id, and how many, by position; changed in hang_up().
        self._ended_at: dict[str, datetime] = {}
        self._ended: Counter[int] = Counter()

    def number_at_start(self, conference: Conference) -> int:
        """Return how many calls were in the conference at its start."""
        if conference.members is not None:
            return conference.members
        return self._generator.count("members", conference.position, self._members)

    def of(self, conference: Conference) -> list[PhoneCall]:
        """Return the calls that ever were in the conference."""
        return [self._call(conference, slot) for slot in range(self.number_at_start(conference))]

    def members(self, conference: Conference) -> list[PhoneCall]:
        """Return the calls in the conference: none once it has ended, although the calls go on."""
        if self._conferences.ended_at(conference) is not None:
            return []
        return [call for call in self.of(conference) if call.id not in self._left_at]

    def is_member(self, call: PhoneCall) -> bool:
        """Return whether the call is in its conference now."""
        return self._conferences.ended_at(call.conference) is None and call.id not in self._left_at

    def counts(self, conference: Conference) -> tuple[int, int]:
        """Return how many of its calls are members of the conference, and how many have not ended."""
        number, position = self.number_at_start(conference), conference.position
        is_active = self._conferences.ended_at(conference) is None
        return (
            number - self._left.get(position, 0) if is_active else 0,
            number - self._ended.get(position, 0),
        )

    def find(self, call_id: str, now: datetime) -> PhoneCall | None:
        """Return the call with that id, in a conference or not, until a week after its end."""
        located = self._generator.locate(call_id) if call_id.startswith("c-") else None
        conference = located and self._conferences.at(located[0])
        if not located or not conference or located[1] >= self.number_at_start(conference):
            return None
        call = self._call(conference, located[1])
        ended_at = self.ended_at(call)
        return None if ended_at and now - ended_at > _KNOWN_AFTER_END else call

    def active_ids(self) -> Iterator[str]:
        """Yield the ids of all calls that have not ended, in a conference or not."""
        for conference in self._conferences:
            for slot in range(self.number_at_start(conference)):
                call_id = self._generator.make_id("c", conference.position, slot)
                if call_id not in self._ended_at:
                    yield call_id

    def settings(self, call: PhoneCall) -> MemberSettings:
        """Return the settings of a member."""
        return self._settings.get(call.id, MemberSettings())

    def change_settings(self, call: PhoneCall, settings: MemberSettings) -> None:
        """Replace the settings of a member."""
        self._settings[call.id] = settings

    def leave(self, call: PhoneCall, at: datetime) -> None:
        """Record that the call left its conference; only the first time counts."""
        if call.id not in self._left_at:
            self._left_at[call.id] = to_milliseconds(at)
            self._left[call.conference.position] += 1

    def hang_up(self, call: PhoneCall, at: datetime) -> bool:
        """End the call. Return False if it had ended before."""
        if call.id in self._ended_at:
            return False
        self.leave(call, at)
        self._ended_at[call.id] = to_milliseconds(at)
        self._ended[call.conference.position] += 1
        return True

    def left_at(self, call: PhoneCall) -> datetime | None:
        """Return when the call left its conference on its own."""
        return self._left_at.get(call.id)

    def ended_at(self, call: PhoneCall) -> datetime | None:
        """Return when the call ended, None while it has not."""
        return self._ended_at.get(call.id)

    def _call(self, conference: Conference, slot: int) -> PhoneCall:
        call_id = self._generator.make_id("c", conference.position, slot)
        return PhoneCall(conference=conference, slot=slot, id=call_id)
