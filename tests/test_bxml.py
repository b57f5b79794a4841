"""The BXML parser: the content of a document, and the documents that all its users reject."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.bxml import MAX_SIZE, ROOTS, VERBS, Document, Verb, outgoing, read
from bandwidth_async.errors import ConfigurationError
from bandwidth_async.sandbox.validation import parse_bxml
from bandwidth_async.webhooks import check_bxml

if TYPE_CHECKING:
    from collections.abc import Callable

DOCUMENTS = [
    *(
        f"<{root}><{verb}{rest}</{root}>"
        for root in (*ROOTS, "bxml")
        for verb in ("StopRecording", "Hangup")
        for rest in ("/>", f">x</{verb}>")
    ),
    "<Bxml>stray</Bxml>",
    "<Bxml><PlayAudio><Redirect/></PlayAudio></Bxml>",
    "<b:Bxml xmlns:b='b'/>",
    "<Bxml xmlns:b='b'><b:PlayAudio>u</b:PlayAudio></Bxml>",
    "<?xml version='1.0' encoding='UTF-16'?><Bxml/>",
    "<?xml version='1.0' encoding='latin-1'?><Bxml/>",
    "<!DOCTYPE Bxml><Bxml/>",
    "<Bxml>&x;</Bxml>",
    "\ufeff<Bxml/>",
    "<Bxml/><Bxml/>",
    "<Bxml>\0</Bxml>",
    "",
]


def test_a_document_is_its_root_and_its_verbs() -> None:
    """Verbs come in order with attributes and texts, and comments do not count."""
    body = """<?xml version='1.0' encoding='utf-8'?>
    <Response> one <!-- not this -->
        <SpeakSentence locale='fr_FR'> Bonjour <emphasis>tous</emphasis> </SpeakSentence> two
        <Hangup/><PlayAudio>&amp;<![CDATA[<]]></PlayAudio>
    </Response>"""
    verbs = (
        Verb(name="SpeakSentence", attributes={"locale": "fr_FR"}, text="Bonjour tous", has_children=True),
        Verb(name="Hangup", attributes={}),
        Verb(name="PlayAudio", attributes={}, text="&<"),
    )
    for given_as in (body, body.encode()):
        document = read(given_as)
        assert " ".join(document.stray.split()) == "one two"
        assert document == Document(root="Response", verbs=verbs, stray=document.stray, encoding="utf-8")


def test_bytes_are_in_the_encoding_that_they_declare_and_text_is_text() -> None:
    """A text ignores its declared encoding. The code that sends the text has to check it."""
    text = "<?xml version='1.0' encoding='iso-8859-1'?><Bxml><SpeakSentence>é</SpeakSentence></Bxml>"
    spoken = (Verb(name="SpeakSentence", attributes={}, text="é"),)
    expected = Document(root="Bxml", verbs=spoken, encoding="iso-8859-1")
    assert read(text) == read(text.encode("latin-1")) == expected
    assert read("<Bxml/>".encode("utf-16")) == Document(root="Bxml", verbs=())


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("", "is not well-formed: no element found: line 1, column 0"),
        ("<Bxml>\ud800</Bxml>", "is not well-formed: 'utf-8' codec can't encode .* surrogates not allowed"),
        (b"<Bxml>\xff</Bxml>", r"is not well-formed: not well-formed \(invalid token\): line 1, column 6"),
        (b"<?xml version='1.0' encoding='x-none'?><Bxml/>", "is not well-formed: unknown encoding"),
        (b"<?xml version='1.0' encoding='shift-jis'?><Bxml/>", "is not well-formed: multi-byte encodings"),
        ("<Bxml>" + "<a>" * 20_000, "is not well-formed: no element found"),
        ("<!DOCTYPE Bxml [<!ENTITY a 'a'>]><Bxml>&a;</Bxml>", "has a document type .*: leave it out"),
    ],
)
def test_what_cannot_be_read_is_one_error(body: bytes | str, sentence: str) -> None:
    """Every error of the parser becomes a ValueError with one sentence."""
    with pytest.raises(ValueError, match=f"^{sentence}"):
        read(body)


@pytest.mark.parametrize("text", DOCUMENTS)
def test_what_is_sent_as_an_update_can_be_sent_as_an_answer_and_nothing_else(text: str) -> None:
    """Both have the same check. The sandbox rejects the same documents, except for declared encodings."""
    as_update, as_answer = verdict(outgoing, text), verdict(check_bxml, text)
    assert as_update == as_answer
    if as_update is not None and "declares" not in as_update:
        assert verdict(parse_bxml, text.encode()) is not None


def spoken(size: int, words: str) -> str:
    """Return a document of that many bytes that says these words."""
    document = f"<Bxml><SpeakSentence>{words}</SpeakSentence></Bxml>"
    return document + " " * (size - len(document.encode()))


@pytest.mark.parametrize("words", ["Good bye", "é" * 32_000])
@pytest.mark.parametrize("check", [outgoing, check_bxml, lambda text: parse_bxml(text.encode())])
def test_a_document_of_more_than_64_kb_is_refused_before_it_is_sent(
    check: Callable[[str], object], words: str
) -> None:
    """Bandwidth would refuse it in the middle of the conference. Bytes count, and not characters."""
    assert verdict(check, spoken(MAX_SIZE, words)) is None
    error = verdict(check, spoken(MAX_SIZE + 1, words))
    assert error is not None
    assert error.endswith("has 65,537 bytes; Bandwidth takes 64 KB (65,536) at most")


def verdict(check: Callable[[Any], object], text: str | bytes) -> str | None:
    """Return the message of the error, or None."""
    try:
        check(text)
    except (ConfigurationError, ValueError) as error:
        return str(error)
    return None


@given(st.text(alphabet="<>/!?&;BxmlPauseRecording \"'[]-\n\0é") | st.text())
def test_text_is_read_as_another_reader_reads_it(text: str) -> None:
    """ElementTree finds the same root and verbs in every text that this parser accepts, except prefixes."""
    with suppress(ValueError):
        document = read(text)
        root = ElementTree.fromstring(text.encode())  # noqa: S314  # it was found to have no document type
        assert (document.root, [it.name for it in document.verbs]) == (root.tag, [it.tag for it in root])


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_of_a_conference_can_be_sent(verb: str) -> None:
    """It can be sent to a conference and to a call."""
    text = f"<Bxml><{verb}/></Bxml>"
    assert outgoing(text) == outgoing(text, for_conference=False) == text.encode()
