"""Whether a text can be an answer in BXML, before Bandwidth finds out during a call."""

from __future__ import annotations

from xml.parsers import expat

from bandwidth_async.errors import ConfigurationError

_ROOTS = frozenset({"Bxml", "Response"})  # the documentation uses both


def check_bxml(text: str) -> str:
    """Return ``text`` when it is well-formed XML whose root is ``<Bxml>`` or ``<Response>``.

    Verbs are not checked. Raises `ConfigurationError` otherwise, and for a document type, which BXML has
    no use for and which could make a small text a very large one.
    """
    elements: list[str] = []
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = lambda name, _: elements.append(name)
    try:
        parser.Parse(text, True)
    except (expat.ExpatError, UnicodeError) as error:
        raise ConfigurationError(f"the BXML is not well-formed XML: {error}") from error
    if elements[0].rpartition(" ")[2] not in _ROOTS:
        raise ConfigurationError(f"the root of BXML is <Bxml> or <Response>, not <{elements[0]}>")
    return text


def _refuse_doctype(*_: object) -> None:
    raise ConfigurationError("BXML has no document type (<!DOCTYPE …>): leave it out")
