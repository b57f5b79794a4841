"""Validation of what a request asks for: updates of conferences, calls and members, and BXML.

Credentials are allowed together with ``completed``, as Bandwidth's guide to conferences sends them. Guesses
where the description is silent: unknown fields are ignored. The two redirect methods and a call's fallback
URL are allowed together with ``completed`` too, as the official SDK sends the methods along and is in use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urljoin

from attrs import frozen

from bandwidth_async.bxml import ROOTS, VERBS, Document, Verb, read
from bandwidth_async.sandbox.calls import MemberSettings
from bandwidth_async.sandbox.events import Webhook, url_error
from bandwidth_async.sandbox.messages import Fields, parse_json_object

_URLS = ("redirectUrl", "redirectFallbackUrl")
_METHODS = ("redirectMethod", "redirectFallbackMethod")
_CREDENTIALS = ("username", "password", "fallbackUsername", "fallbackPassword")
_MAX_CREDENTIAL_LENGTH = 1024


@frozen(kw_only=True)
class UpdateRules:
    """How an update of a conference differs from one of a call.

    ``state_field`` is the field that says active or completed.
    """

    state_field: str
    not_with_completed: tuple[str, ...]
    max_tag_length: int | None = None


CONFERENCE = UpdateRules(state_field="status", not_with_completed=_URLS)
CALL = UpdateRules(state_field="state", not_with_completed=("redirectUrl", "tag"), max_tag_length=4096)


def is_completed(rules: UpdateRules, fields: Fields) -> bool:
    """Return whether the update asks to end a conference or to hang up a call."""
    return fields.get(rules.state_field) == "completed"


def kind_of_update(rules: UpdateRules, body: bytes | None, end: str, redirect: str) -> str:
    """Return ``end``, ``redirect``, or ``other`` for neither. Without a state, an update is a redirect."""
    fields = parse_json_object(body)
    if fields is None or fields.get(rules.state_field, "active") not in ("active", "completed"):
        return "other"
    return end if is_completed(rules, fields) else redirect


def update_error(rules: UpdateRules, fields: Fields) -> str | None:
    """Return a sentence about the first error in the update, None if it is valid."""
    return next(_update_errors(rules, fields), None)


def _update_errors(rules: UpdateRules, fields: Fields) -> Iterator[str]:
    state = fields.get(rules.state_field, "active")
    if state == "completed":
        for name in rules.not_with_completed:
            if name in fields:
                yield f"{name} is not allowed when {rules.state_field} is completed"
    elif state != "active":
        yield f"Invalid {rules.state_field}: only active and completed are allowed"
    elif "redirectUrl" not in fields:
        yield f"redirectUrl is required when {rules.state_field} is active"
    yield from _redirect_errors(fields)
    if rules.max_tag_length is not None and not _is_text(fields.get("tag", ""), rules.max_tag_length):
        yield f"Invalid tag: a string of at most {rules.max_tag_length} characters is allowed"


def _redirect_errors(fields: Fields) -> Iterator[str]:
    for name in _URLS:
        error = url_error(fields[name]) if name in fields else None
        if error is not None:
            yield f"Invalid {name}: {error}"
    for name in _METHODS:
        if fields.get(name, "POST") not in ("GET", "POST"):
            yield f"Invalid {name}: only GET and POST are allowed"
    for name in _CREDENTIALS:
        if not _is_text(fields.get(name, ""), _MAX_CREDENTIAL_LENGTH):
            yield f"Invalid {name}: a string of at most {_MAX_CREDENTIAL_LENGTH} characters is allowed"


def _is_text(value: object, max_length: int) -> bool:
    return isinstance(value, str) and len(value) <= max_length


def redirect_webhook(fields: Fields) -> Webhook:
    """Return where a valid redirect sends its event, and its fallback if it has one."""
    fallback = None
    if "redirectFallbackUrl" in fields:
        fallback = _webhook(
            fields, "redirectFallbackUrl", "redirectFallbackMethod", ("fallbackUsername", "fallbackPassword")
        )
    return _webhook(fields, "redirectUrl", "redirectMethod", ("username", "password"), fallback)


def _webhook(
    fields: Fields, url: str, method: str, credentials: tuple[str, str], fallback: Webhook | None = None
) -> Webhook:
    username, password = (fields.get(name) for name in credentials)
    return Webhook(
        url=str(fields[url]),
        method=str(fields.get(method, "POST")),
        username=None if username is None else str(username),
        password=None if password is None else str(password),
        fallback=fallback,
    )


def member_update_error(fields: Fields) -> str | None:
    """Return a sentence about the first error in the update of a member, None if it is valid."""
    for name in ("mute", "hold"):
        if not isinstance(fields.get(name, False), bool):
            return f"Invalid {name}: only true and false are allowed"
    call_ids = fields.get("callIdsToCoach", [])
    if not isinstance(call_ids, list) or not all(isinstance(call_id, str) for call_id in call_ids):
        return "Invalid callIdsToCoach: a list of call ids is allowed"
    return None


def updated_settings(settings: MemberSettings, fields: Fields) -> MemberSettings:
    """Return the settings of a member after a valid update. Fields that are left out stay as they were."""
    call_ids = fields.get("callIdsToCoach")
    return MemberSettings(
        mute=fields.get("mute", settings.mute) is True,
        hold=fields.get("hold", settings.hold) is True,
        call_ids_to_coach=tuple(call_ids) if isinstance(call_ids, list) else settings.call_ids_to_coach,
    )


def parse_bxml(body: bytes) -> tuple[Verb, ...]:
    """Return the verbs of BXML for a conference.

    Raises `ValueError` with the description for a 400 if Bandwidth would not allow the document. That it
    answers 400 to one of more than 64 KB is a guess.
    """
    try:
        document = read(body)
    except ValueError as exc:
        raise ValueError(f"Invalid BXML: it {exc}") from exc
    error = next(_bxml_errors(document), None)
    if error is not None:
        raise ValueError(f"Invalid BXML: {error}")
    return document.verbs


def _bxml_errors(document: Document) -> Iterator[str]:
    if document.root not in ROOTS:
        yield f"the root is {document.root}, only {' and '.join(ROOTS)} are allowed"
    if document.stray:
        yield "text outside of a verb"
    for verb in document.verbs:
        if verb.name not in VERBS:
            yield f"{verb.name} is not allowed in a conference, only {', '.join(VERBS)}"
        if verb.has_children and verb.name != "SpeakSentence":
            yield f"{verb.name} has no elements in it"
        if verb.name == "PlayAudio" and not verb.text:
            yield f"{verb.name} needs the URL of what to play"
        if verb.text and verb.name not in {"PlayAudio", "SpeakSentence"}:
            yield f"{verb.name} has no text in it"
        if verb.name == "StartRecording":
            yield from _recording_errors(verb.attributes)


def _recording_errors(attributes: Mapping[str, str]) -> Iterator[str]:
    if attributes.get("fileFormat", "wav") not in {"mp3", "wav"}:
        yield "fileFormat is mp3 or wav"
    if attributes.get("recordingAvailableMethod", "POST") not in {"GET", "POST"}:
        yield "recordingAvailableMethod is GET or POST"
    try:
        error = url_error(urljoin("http://any.invalid/", attributes.get("recordingAvailableUrl", "")))
    except ValueError as exc:
        error = f"it cannot be read: {exc}"
    if error is not None:
        yield f"recordingAvailableUrl: {error}"


def recording_webhook(verb: Verb, base_url: str | None) -> Webhook | None:
    """Return where a valid StartRecording wants its event sent, None if it does not say.

    A relative URL is resolved against the URL that the BXML came from. Without one it leads nowhere.
    """
    url = verb.attributes.get("recordingAvailableUrl")
    url = url and urljoin(base_url or "", url)
    if not url or url_error(url) is not None:
        return None
    return Webhook(
        url=url,
        method=verb.attributes.get("recordingAvailableMethod", "POST"),
        username=verb.attributes.get("username"),
        password=verb.attributes.get("password"),
    )
