"""The BXML that a conference can be given, checked before Bandwidth finds a mistake during the conference."""

from __future__ import annotations

from xml.parsers import expat

from bandwidth_async.errors import ConfigurationError

# Both roots are in Bandwidth's documentation. The verbs are those that its webhooks' description allows.
_ROOTS = ("Bxml", "Response")
_VERBS = (
    "PlayAudio",
    "SpeakSentence",
    "StartRecording",
    "StopRecording",
    "PauseRecording",
    "ResumeRecording",
)


def conference_bxml(bxml: str) -> bytes:
    """Return ``bxml`` as it is sent, in UTF-8.

    Raises `ConfigurationError` for what is not well-formed, has another root than ``<Bxml>`` (or
    ``<Response>``), or holds a verb that no conference takes. A document type is refused too: BXML has no
    use for one, and its entities could make a small text a very large one.
    """
    if not isinstance(bxml, str):
        raise ConfigurationError(f"the BXML is text, not {type(bxml).__name__}")
    try:
        body = bxml.encode()
        _parser().Parse(body, True)
    except (expat.ExpatError, UnicodeEncodeError) as error:
        raise ConfigurationError(f"the BXML is not well-formed: {error}") from error
    return body


def _parser() -> expat.XMLParserType:
    parser = expat.ParserCreate("UTF-8")
    open_elements: list[str] = []

    def opened(name: str, _: object) -> None:
        if not open_elements and name not in _ROOTS:
            raise ConfigurationError(f"the BXML's root is <{name}>; it has to be <Bxml>")
        if len(open_elements) == 1 and name not in _VERBS:
            raise ConfigurationError(
                f"<{name}> is not for a conference; its BXML holds only {', '.join(_VERBS)}"
            )
        open_elements.append(name)

    parser.StartElementHandler = opened
    parser.EndElementHandler = lambda _: open_elements.pop()
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.XmlDeclHandler = _check_declaration
    return parser


def _refuse_doctype(*_: object) -> None:
    raise ConfigurationError("the BXML has a document type (<!DOCTYPE …>): leave it out")


def _check_declaration(_: str, encoding: str | None, __: int) -> None:
    if encoding is not None and encoding.upper() != "UTF-8":
        raise ConfigurationError(
            f"the BXML is sent as UTF-8 but declares {encoding!r}: leave the encoding out"
        )
