"""Parse BXML, and check it before it is sent.

`read` is the only parser of this package. It refuses a document that is too large, and a document type before
it expands anything in it, so it never reads entities or files. It does not check what is inside a verb or the
text between verbs: Bandwidth does not say what it does with wrong ones. The sandbox refuses some of them, by
guesses of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn
from xml.parsers import expat

from attrs import define, evolve, field, frozen

from bandwidth_async.errors import ConfigurationError

ROOTS = ("Bxml", "Response")
"""Both are in Bandwidth's documentation. Nobody knows its parser, so a prefix (``<b:Bxml>``) is refused."""
VERBS = (
    "PlayAudio",
    "SpeakSentence",
    "StartRecording",
    "StopRecording",
    "PauseRecording",
    "ResumeRecording",
)
"""The verbs of a conference, as the published description of Bandwidth's webhooks lists them."""
MAX_SIZE = 64 * 1024
"""The bytes of a document at most: the 64 KB of https://dev.bandwidth.com/docs/voice/bxml."""


@frozen(kw_only=True)
class Verb:
    """A verb with its attributes and its text."""

    name: str
    attributes: Mapping[str, str]
    text: str = ""
    has_children: bool = False


@frozen(kw_only=True)
class Document:
    """A parsed document. ``stray`` is the text outside of verbs, ``encoding`` the one that it declares."""

    root: str
    verbs: tuple[Verb, ...]
    stray: str = ""
    encoding: str | None = None


class _RefusedError(Exception):
    """The document is not parsed to its end."""


@define(kw_only=True)
class _Reader:
    """The part of the document that was read so far. Only the parser's callbacks change it."""

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
        raise _RefusedError("has a document type (<!DOCTYPE …>): leave it out")

    def parse(self, content: bytes, encoding: str | None) -> None:
        if len(content) > MAX_SIZE:
            raise _RefusedError(f"has {len(content):,} bytes; Bandwidth takes 64 KB ({MAX_SIZE:,}) at most")
        parser = expat.ParserCreate(encoding)
        parser.XmlDeclHandler = self.declare
        parser.StartElementHandler = self.start
        parser.EndElementHandler = self.end
        parser.CharacterDataHandler = self.data
        parser.StartDoctypeDeclHandler = self.refuse_doctype
        parser.Parse(content, True)


def read(body: bytes | str) -> Document:
    """Parse ``body``: bytes in the encoding that they declare, or text.

    Raises `ValueError` if it is larger than `MAX_SIZE` or not well-formed XML, and for a document type: BXML
    needs none, and entities could make a small text very large. Put "the BXML" before the message of the
    error.
    """
    reader = _Reader()
    try:
        if isinstance(body, str):
            reader.parse(body.encode(), "UTF-8")
        else:
            reader.parse(body, None)
    except _RefusedError as error:
        raise ValueError(str(error)) from None
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise ValueError(f"is not well-formed: {error}") from error
    return Document(
        root=reader.root,
        verbs=tuple(reader.verbs),
        stray="".join(reader.stray).strip(),
        encoding=reader.encoding,
    )


def outgoing(text: str, *, for_conference: bool = True) -> bytes:
    """Return ``text`` as it is sent: in UTF-8, otherwise unchanged.

    Raises `ConfigurationError` for what `read` refuses, for another root than ``<Bxml>`` or ``<Response>``,
    and for another encoding. With ``for_conference`` it also refuses the verbs that no conference takes.
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
