"""Hooks for schemathesis when it tests the sandbox: real ids, real BXML, and the failures that are allowed.

schemathesis loads this module in a process of its own. ``SANDBOX_PLACES`` is a file of ids that exist. The
hooks use them in turn, and an empty place keeps the made-up ids. They write a line to ``SANDBOX_ALLOWED`` for
every allowed failure.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import schemathesis

from tests.description import Description, Violation

_PLACES: list[dict[str, str]] = json.loads(Path(os.environ["SANDBOX_PLACES"]).read_text())
_REAL = {id_ for place in _PLACES for id_ in place.values()}
_TURN = count()

Fields = Mapping[str, object]
# The page tokens of all links so far. `after_call` adds to them.
_TOLD: set[str] = set()
_VERBS = {
    *("PlayAudio", "SpeakSentence", "StartRecording", "StopRecording", "PauseRecording", "ResumeRecording"),
}


def is_bxml_of_a_conference(body: object) -> bool:
    """Return True for "a valid BXML document" with no verb that a conference does not allow."""
    try:
        root = ElementTree.fromstring(_encoded(body))  # noqa: S314  # made up by schemathesis
    except (ElementTree.ParseError, ValueError, LookupError):
        return False
    return root.tag in {"Bxml", "Response"} and {verb.tag for verb in root} <= _VERBS


def has_another_scheme(fields: Fields, name: str) -> bool:
    """Return True if the field is a URL that is neither http nor https."""
    url = fields.get(name)
    return isinstance(url, str) and re.match("https?:", url, re.IGNORECASE) is None


def is_no_time(fields: Fields, name: str) -> bool:
    """Return True if the field is a time that is not "in ISO8601 format"."""
    try:
        datetime.fromisoformat(str(fields.get(name)))
    except ValueError:
        return name in fields
    return False


def is_made_up(fields: Fields) -> bool:
    """Return True if the page token comes from no link."""
    return "pageToken" in fields and fields["pageToken"] not in _TOLD


def lacks_its_url(fields: Fields, state: str) -> bool:
    """Return True if an update to active has no redirect URL. An update without a state counts as active."""
    return fields.get(state, "active") == "active" and "redirectUrl" not in fields


def has_with_completed(fields: Fields, state: str, name: str) -> bool:
    """Return True if an update to completed has a field that is not allowed then."""
    return fields.get(state) == "completed" and name in fields


def _of_an_update(state: str, not_with_completed: Iterable[str]) -> dict[str, Callable[[Fields], bool]]:
    return {
        # "Not allowed if `state` is `completed`, but required if `state` is `active`."
        f"redirectUrl is required when {state} is active": partial(lacks_its_url, state=state),
        **{
            f"{name} is not allowed when {state} is completed": partial(
                has_with_completed, state=state, name=name
            )
            for name in not_with_completed
        },
        # The example of every error: "Invalid answerUrl: only http and https are allowed."
        **{
            f"Invalid {name}: only http and https are allowed": partial(has_another_scheme, name=name)
            for name in ("redirectUrl", "redirectFallbackUrl")
        },
    }


# Rules that the description states only in prose, by the beginning of the sandbox's error for a 400. Each has
# a function that finds the mistake in the request itself. The error of the sandbox alone allows nothing.
ONLY_IN_WORDS: dict[str, dict[str, Callable[[Fields], bool]]] = {
    "updateConference": _of_an_update("status", ("redirectUrl", "redirectFallbackUrl")),
    "updateCall": _of_an_update("state", ("redirectUrl", "tag")),
    "updateConferenceBxml": {"Invalid BXML: ": lambda fields: not is_bxml_of_a_conference(fields["body"])},
    "listConferences": {
        # "Not intended for explicit use."
        "Invalid pageToken: ": is_made_up,
        # "in ISO8601 format"
        "Invalid minCreatedTime: ": partial(is_no_time, name="minCreatedTime"),
        "Invalid maxCreatedTime: ": partial(is_no_time, name="maxCreatedTime"),
    },
}

_BXML = (
    "<?xml version='1.0' encoding='UTF-8'?><Bxml><StopRecording/></Bxml>",
    "<Response><StartRecording/><SpeakSentence>Hello <emphasis>all</emphasis></SpeakSentence></Response>",
    "<Bxml><PlayAudio>https://example.com/a.wav</PlayAudio><PauseRecording/><ResumeRecording/></Bxml>",
    "<Bxml/>",
)


@schemathesis.serializer("application/xml")
def as_it_is(_context: Any, value: object) -> bytes:
    """Send the text unchanged. schemathesis would wrap it in an element, because its schema is a string."""
    return _encoded(value)


def _encoded(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: schemathesis.Case[Any], _kwargs: Any) -> None:
    """Replace made-up ids and BXML with real ones, unless the request is meant to be invalid."""
    turn = next(_TURN)
    place = _PLACES[turn % len(_PLACES)]
    if place and _is_right(case, "path"):
        for name, value in place.items():
            if name in case.path_parameters and case.path_parameters[name] not in _REAL:
                case.path_parameters[name] = value
    if place and _name(case) == "updateConferenceBxml" and _is_right(case, "body"):
        case.body = _BXML[turn % len(_BXML)]


@schemathesis.hook
def after_call(_context: schemathesis.HookContext, _case: schemathesis.Case[Any], response: Any) -> None:
    """Record the page token of a link."""
    for link in response.headers.get("link", ()):
        _TOLD.update(parse_qs(urlsplit(link[1 : link.index(">")]).query).get("pageToken", ()))


@schemathesis.hook
def filter_failure(
    _context: schemathesis.HookContext, failure: Any, case: schemathesis.Case[Any], response: Any
) -> bool:
    """Drop a failure that is allowed, and record it."""
    why = _allowed(type(failure).__name__, case, response)
    if why is None:
        return True
    with Path(os.environ["SANDBOX_ALLOWED"]).open("a") as allowed:
        allowed.write(f"{_name(case)}: {why}\n")
    return False


def _is_right(case: schemathesis.Case[Any], part: str) -> bool:
    components = case.meta.components.items() if case.meta else ()
    return all(component.mode.is_positive for location, component in components if location.value == part)


def _allowed(failure: str, case: schemathesis.Case[Any], response: Any) -> str | None:
    if failure == "RejectedPositiveData" and response.status_code == 400:
        return allowance(_name(case), str(response.json()["description"]), _fields(case))
    if failure == "AcceptedNegativeData" and isinstance(case.body, dict) and None in case.body.values():
        return "a null field counts as absent" if _valid_without_nulls(case) else None
    return None


def allowance(operation: str, said: str, fields: Fields) -> str | None:
    """Return the rule by which the sandbox may reject a request with this error, or None."""
    words = ONLY_IN_WORDS.get(operation, {}).items()
    return next((begin for begin, judge in words if said.startswith(begin) and judge(fields)), None)


def _fields(case: schemathesis.Case[Any]) -> Fields:
    """Return the fields of a request. A null field counts as absent."""
    if _name(case) == "listConferences":
        return dict(case.query)
    fields = case.body if isinstance(case.body, dict) else {}
    return {"body": case.body, **{name: it for name, it in fields.items() if it is not None}}


def _valid_without_nulls(case: schemathesis.Case[Any]) -> bool:
    headers = {"Authorization": "x", "Content-Type": case.media_type or ""}
    path = f"/api/v2{case.formatted_path}"
    try:
        Description.load().check_request(
            case.method, path, headers, json.dumps(case.body).encode(), allow_null=True
        )
    except Violation:
        return False
    return True


def _name(case: schemathesis.Case[Any]) -> str:
    return str(case.operation.definition.raw["operationId"])
