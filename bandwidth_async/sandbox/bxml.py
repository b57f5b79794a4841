"""BXML for a conference, as the sandbox takes it: the verbs that Bandwidth allows there, each in its form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bandwidth_async.bxml import ROOTS, VERBS, Document, Verb, read
from bandwidth_async.sandbox.targets import Target, is_web_url

_SPEAKING = "SpeakSentence"
_PLAYING = "PlayAudio"
_LONGEST_TAG = 256


def read_bxml(body: bytes) -> tuple[Verb, ...]:
    """Return the verbs of a document; raises `ValueError`, whose message is the description for a 400."""
    try:
        document = read(body)
    except ValueError as exc:
        raise ValueError(f"Invalid BXML: it {exc}") from exc
    problem = next(_objections(document), None)
    if problem is not None:
        raise ValueError(f"Invalid BXML: {problem}")
    return document.verbs


def _objections(document: Document) -> Iterator[str]:
    if document.root not in ROOTS:
        yield f"the root is {document.root}, only {' and '.join(ROOTS)} are allowed"
    if document.stray:
        yield "text outside of a verb"
    for verb in document.verbs:
        if verb.name not in VERBS:
            yield f"{verb.name} is not allowed in a conference, only {', '.join(VERBS)}"
        if verb.has_children and verb.name != _SPEAKING:
            yield f"{verb.name} has no elements in it"
        if verb.name == _PLAYING and not verb.text:
            yield f"{verb.name} needs the URL of what to play"
        if verb.text and verb.name not in {_PLAYING, _SPEAKING}:
            yield f"{verb.name} has no text in it"
        if verb.name == "StartRecording":
            yield from _recording_objections(verb.attributes)


def _recording_objections(attributes: Mapping[str, str]) -> Iterator[str]:
    if attributes.get("fileFormat", "wav") != "wav":
        yield "the sandbox records wav only"
    if attributes.get("recordingAvailableMethod", "POST") not in {"GET", "POST"}:
        yield "recordingAvailableMethod is GET or POST"
    if "recordingAvailableUrl" in attributes and not is_web_url(attributes["recordingAvailableUrl"]):
        yield "recordingAvailableUrl is an absolute http or https URL in the sandbox"
    if len(attributes.get("tag", "")) > _LONGEST_TAG:
        yield f"a tag has at most {_LONGEST_TAG} characters"


def recording_target(verb: Verb) -> Target | None:
    """Return where StartRecording wants its recording reported, if it says so."""
    url = verb.attributes.get("recordingAvailableUrl")
    if url is None:
        return None
    return Target(
        url=url,
        method=verb.attributes.get("recordingAvailableMethod", "POST"),
        username=verb.attributes.get("username"),
        password=verb.attributes.get("password"),
    )
