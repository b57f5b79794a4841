"""BXML for a conference: read safely, and only the verbs that Bandwidth allows there.

A document type is refused before anything in it is expanded, so neither entities nor files are ever read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NoReturn
from xml.parsers import expat

from attrs import define, field, frozen

from bandwidth_async.sandbox.targets import Target, is_web_url

_ROOTS = ("Bxml", "Response")
VERBS = (
    "PlayAudio",
    "SpeakSentence",
    "StartRecording",
    "StopRecording",
    "PauseRecording",
    "ResumeRecording",
)
_SPEAKING = "SpeakSentence"
_PLAYING = "PlayAudio"
_LONGEST_TAG = 256


@frozen(kw_only=True)
class Verb:
    """One verb with its attributes and the text directly in it."""

    name: str
    attributes: Mapping[str, str]
    text: str = ""
    has_children: bool = False


@define(kw_only=True)
class _Reader:
    """What has been read so far; changed by the parser's callbacks alone."""

    depth: int = 0
    root: str = ""
    stray: str = ""
    verbs: list[Verb] = field(factory=list)
    text: list[str] = field(factory=list)
    nested: bool = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth == 1:
            self.root = name
        elif self.depth == 2:
            self.verbs.append(Verb(name=name, attributes=attributes))
            self.text, self.nested = [], False
        else:
            self.nested = True

    def end(self, _name: str) -> None:
        if self.depth == 2:
            verb = self.verbs.pop()
            text = "".join(self.text).strip()
            whole = Verb(name=verb.name, attributes=verb.attributes, text=text, has_children=self.nested)
            self.verbs.append(whole)
        self.depth -= 1

    def data(self, text: str) -> None:
        if self.depth > 1:
            self.text.append(text)
        else:
            self.stray += text.strip()

    def refuse_doctype(self, *_declaration: object) -> NoReturn:
        raise ValueError("a document type is not allowed")


def read_bxml(body: bytes) -> tuple[Verb, ...]:
    """Return the verbs of a document; raises `ValueError`, whose message is the description for a 400."""
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.data
    parser.StartDoctypeDeclHandler = reader.refuse_doctype
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, LookupError, ValueError) as exc:
        raise ValueError(f"Invalid BXML: {exc}") from exc
    problem = next(_objections(reader), None)
    if problem is not None:
        raise ValueError(f"Invalid BXML: {problem}")
    return tuple(reader.verbs)


def _objections(reader: _Reader) -> Iterator[str]:
    if reader.root not in _ROOTS:
        yield f"the root is {reader.root}, only {' and '.join(_ROOTS)} are allowed"
    if reader.stray:
        yield "text outside of a verb"
    for verb in reader.verbs:
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
