"""BXML as every part of this package reads it: a root with its verbs, and what may be sent.

`read` is the one parser. A document type is refused before anything in it is expanded, so neither entities
nor files are ever read. What is inside a verb, and text between verbs, is not judged here: Bandwidth
publishes no rule for it. The sandbox has its own objections, which are guesses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn
from xml.parsers import expat

from attrs import define, evolve, field, frozen

from bandwidth_async.errors import ConfigurationError

ROOTS = ("Bxml", "Response")
"""Both are in Bandwidth's documentation. Its parser is not known, so a prefix (``<b:Bxml>``) is refused."""
VERBS = (
    "PlayAudio",
    "SpeakSentence",
    "StartRecording",
    "StopRecording",
    "PauseRecording",
    "ResumeRecording",
)
"""The verbs of a conference: those that the description of Bandwidth's webhooks allows."""


@frozen(kw_only=True)
class Verb:
    """One verb with its attributes and the text in it."""

    name: str
    attributes: Mapping[str, str]
    text: str = ""
    has_children: bool = False


@frozen(kw_only=True)
class Document:
    """What a document says. ``stray`` is the text outside of verbs, ``encoding`` the one it declares."""

    root: str
    verbs: tuple[Verb, ...]
    stray: str = ""
    encoding: str | None = None


class _DoctypeError(Exception):
    """There is a document type; raised to leave the parser."""


@define(kw_only=True)
class _Reader:
    """What has been read so far; changed by the parser's callbacks alone."""

    depth: int = 0
    root: str = ""
    encoding: str | None = None
    verbs: list[Verb] = field(factory=list)
    text: list[str] = field(factory=list)
    stray: list[str] = field(factory=list)
    nested: bool = False

    def declare(self, _version: str, encoding: str | None, _standalone: int) -> None:
        self.encoding = encoding

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
            text = "".join(self.text).strip()
            self.verbs[-1] = evolve(self.verbs[-1], text=text, has_children=self.nested)
        self.depth -= 1

    def data(self, text: str) -> None:
        (self.text if self.depth > 1 else self.stray).append(text)

    def refuse_doctype(self, *_declaration: object) -> NoReturn:
        raise _DoctypeError

    def parser(self, encoding: str | None) -> expat.XMLParserType:
        parser = expat.ParserCreate(encoding)
        parser.XmlDeclHandler = self.declare
        parser.StartElementHandler = self.start
        parser.EndElementHandler = self.end
        parser.CharacterDataHandler = self.data
        parser.StartDoctypeDeclHandler = self.refuse_doctype
        return parser


def read(body: bytes | str) -> Document:
    """Return what ``body`` says: bytes in the encoding that they declare, text as text.

    Raises `ValueError` for what is not well-formed XML and for a document type, which BXML has no use for
    and whose entities could make a small text a very large one. Its message goes on after "the BXML".
    """
    reader = _Reader()
    try:
        if isinstance(body, str):
            reader.parser("UTF-8").Parse(body.encode(), True)
        else:
            reader.parser(None).Parse(body, True)
    except _DoctypeError:
        raise ValueError("has a document type (<!DOCTYPE …>): leave it out") from None
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise ValueError(f"is not well-formed: {error}") from error
    return Document(
        root=reader.root,
        verbs=tuple(reader.verbs),
        stray="".join(reader.stray).strip(),
        encoding=reader.encoding,
    )


def outgoing(text: str, *, for_conference: bool = True) -> bytes:
    """Return ``text`` as it is sent, in UTF-8 and otherwise unchanged.

    Raises `ConfigurationError` for what `read` refuses, another root than ``<Bxml>`` (or ``<Response>``),
    another encoding, and a verb that no conference takes, unless it is for something else.
    """
    if not isinstance(text, str):
        raise ConfigurationError(f"the BXML is text, not {type(text).__name__}")
    try:
        document = read(text)
    except ValueError as error:
        raise ConfigurationError(f"the BXML {error}") from error
    if document.root not in ROOTS:
        raise ConfigurationError(f"the BXML's root is <{document.root}>; it has to be <Bxml>")
    if (document.encoding or "UTF-8").upper() != "UTF-8":
        raise ConfigurationError(
            f"the BXML is sent as UTF-8 but declares {document.encoding!r}: leave the encoding out"
        )
    for verb in document.verbs:
        if for_conference and verb.name not in VERBS:
            raise ConfigurationError(
                f"<{verb.name}> is not for a conference; its BXML holds only {', '.join(VERBS)}"
            )
    return text.encode()
