"""What schemathesis is told when it tests the sandbox: real ids, real BXML, and what it has to allow.

schemathesis loads this in a process of its own. ``SANDBOX_PLACES`` is a file of ids that exist, taken in
turn; an empty place leaves made-up ids as they are. Every allowance that is used is written to
``SANDBOX_ALLOWED``, a line each.
"""

from __future__ import annotations

import json
import os
from itertools import count
from pathlib import Path
from typing import Any

import schemathesis

from tests.description import Description, Violation

_PLACES: list[dict[str, str]] = json.loads(Path(os.environ["SANDBOX_PLACES"]).read_text())
_REAL = {id_ for place in _PLACES for id_ in place.values()}
_TURN = count()

# 400 for what the description says only in words, by the beginning of the error's own description.
_ONLY_IN_WORDS = {
    "updateConference": (
        # "Not allowed if `state` is `completed`, but required if `state` is `active`."
        "redirectUrl is required when status is active",
        "redirectUrl is not allowed when status is completed",
        "redirectFallbackUrl is not allowed when status is completed",
        # The example of every error: "Invalid answerUrl: only http and https are allowed."
        "Invalid redirectUrl: only http and https are allowed",
        "Invalid redirectFallbackUrl: only http and https are allowed",
    ),
    "updateCall": (
        # "Required if `state` is `active`. Not allowed if `state` is `completed`."
        "redirectUrl is required when state is active",
        "redirectUrl is not allowed when state is completed",
        "Invalid redirectUrl: only http and https are allowed",
        "Invalid redirectFallbackUrl: only http and https are allowed",
        # "Not allowed if `state` is `completed`", of the tag.
        "tag is not allowed when state is completed",
    ),
    # "A valid BXML document", and which verbs it may have in a conference.
    "updateConferenceBxml": ("Invalid BXML: ",),
    "listConferences": (
        # "Not intended for explicit use."
        "Invalid pageToken: ",
        # "in ISO8601 format"
        "Invalid minCreatedTime: ",
        "Invalid maxCreatedTime: ",
    ),
}

_BXML = (
    "<?xml version='1.0' encoding='UTF-8'?><Bxml><StopRecording/></Bxml>",
    "<Response><StartRecording/><SpeakSentence>Hello <emphasis>all</emphasis></SpeakSentence></Response>",
    "<Bxml><PlayAudio>https://example.com/a.wav</PlayAudio><PauseRecording/><ResumeRecording/></Bxml>",
    "<Bxml/>",
)


@schemathesis.serializer("application/xml")
def as_it_is(_context: Any, value: object) -> bytes:
    """Send the text: the description calls the body a string, which schemathesis would wrap in an element."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: schemathesis.Case[Any], _kwargs: Any) -> None:
    """Put real ids in the place of those that are made up, unless something wrong is the point."""
    turn = next(_TURN)
    place = _PLACES[turn % len(_PLACES)]
    if place and _is_right(case, "path"):
        for name, value in place.items():
            if name in case.path_parameters and case.path_parameters[name] not in _REAL:
                case.path_parameters[name] = value
    if place and _name(case) == "updateConferenceBxml" and _is_right(case, "body"):
        case.body = _BXML[turn % len(_BXML)]


@schemathesis.hook
def filter_failure(
    _context: schemathesis.HookContext, failure: Any, case: schemathesis.Case[Any], response: Any
) -> bool:
    """Drop a failure that is allowed, and note it."""
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
        said = str(response.json()["description"])
        return next((it for it in _ONLY_IN_WORDS.get(_name(case), ()) if said.startswith(it)), None)
    if failure == "AcceptedNegativeData" and isinstance(case.body, dict) and None in case.body.values():
        return "a null field counts as absent" if _valid_without_nulls(case) else None
    return None


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
