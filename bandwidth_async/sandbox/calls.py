"""The calls: who is in a conference, who has left it, who has hung up, and how members are set."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

from attrs import frozen

from bandwidth_async.sandbox.draws import Draws
from bandwidth_async.sandbox.facts import Conference, PhoneCall, to_milliseconds

KEPT = timedelta(days=7)
"""How long a call is known after it has ended, as Bandwidth documents it."""


@frozen(kw_only=True)
class MemberSettings:
    """How a member takes part; a PUT changes what it names."""

    mute: bool = False
    hold: bool = False
    call_ids_to_coach: tuple[str, ...] = ()


class PhoneCalls:
    """All calls. They are drawn when asked for; only what happened to one is kept."""

    def __init__(self, *, members: tuple[int, int], draws: Draws) -> None:
        self._span = members
        self._draws = draws
        self._settings: dict[str, MemberSettings] = {}  # changed in set()
        self._left: dict[str, datetime] = {}  # of its own accord; with _left_of, changed in leave()
        self._left_of: Counter[int] = Counter()  # by the position of the conference
        self._ended_at: dict[str, datetime] = {}  # with _ended_of, changed in hang_up()
        self._ended_of: Counter[int] = Counter()

    def number(self, conference: Conference) -> int:
        """Return how many calls were in the conference at its start."""
        if conference.members is not None:
            return conference.members
        return self._draws.number("members", conference.position, self._span)

    def of(self, conference: Conference) -> list[PhoneCall]:
        """Return the calls that ever were in the conference."""
        return [self._at(conference, slot) for slot in range(self.number(conference))]

    def staying(self, conference: Conference) -> list[PhoneCall]:
        """Return the calls that have not left the conference of their own accord."""
        return [call for call in self.of(conference) if call.id not in self._left]

    def alive(self, conference: Conference) -> list[str]:
        """Return the ids of the conference's calls that have not ended, members or not."""
        position = conference.position
        ids = [self._draws.id("c", position, slot) for slot in range(self.number(conference))]
        return [call_id for call_id in ids if call_id not in self._ended_at]

    def numbers(self, conference: Conference) -> tuple[int, int]:
        """Return how many calls `staying` and `alive` would return, at the cost of one draw."""
        number, position = self.number(conference), conference.position
        return number - self._left_of.get(position, 0), number - self._ended_of.get(position, 0)

    def place(self, call_id: str) -> tuple[int, int] | None:
        """Return the conference's position and the slot for which a call id was made, if any."""
        return self._draws.place(call_id) if call_id.startswith("c-") else None

    def at(self, conference: Conference, slot: int) -> PhoneCall | None:
        """Return the call in a slot, None where there is none."""
        return self._at(conference, slot) if slot < self.number(conference) else None

    def settings(self, call: PhoneCall) -> MemberSettings:
        """Return how a member is set."""
        return self._settings.get(call.id, MemberSettings())

    def set(self, call: PhoneCall, settings: MemberSettings) -> None:
        """Change how a member is set."""
        self._settings[call.id] = settings

    def leave(self, call: PhoneCall, at: datetime) -> None:
        """Note that the call left its conference; the first time counts."""
        if call.id not in self._left:
            self._left[call.id] = to_milliseconds(at)
            self._left_of[call.conference.position] += 1

    def hang_up(self, call: PhoneCall, at: datetime) -> bool:
        """End the call; return False when it had ended before."""
        if call.id in self._ended_at:
            return False
        self.leave(call, at)
        self._ended_at[call.id] = to_milliseconds(at)
        self._ended_of[call.conference.position] += 1
        return True

    def left_at(self, call: PhoneCall) -> datetime | None:
        """Return when the call left its conference of its own accord."""
        return self._left.get(call.id)

    def ended_at(self, call: PhoneCall) -> datetime | None:
        """Return when the call ended, None while it is alive."""
        return self._ended_at.get(call.id)

    def _at(self, conference: Conference, slot: int) -> PhoneCall:
        return PhoneCall(conference=conference, slot=slot, id=self._draws.id("c", conference.position, slot))
