"""The BXML of a conference: valid BXML is sent unchanged, any other raises an error."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.bxml import outgoing
from bandwidth_async.errors import ConfigurationError

VERBS = [
    "PlayAudio",
    "SpeakSentence",
    "StartRecording",
    "StopRecording",
    "PauseRecording",
    "ResumeRecording",
]
ALLOWED = ", ".join(VERBS)


@pytest.mark.parametrize(
    "bxml",
    [
        '<?xml version="1.0" encoding="UTF-8"?>\n<Bxml>\n    <StopRecording/>\n</Bxml>',
        '<?xml version="1.0" encoding="utf-8"?><Bxml/>',
        '<?xml version="1.0"?><Response><PlayAudio>https://example.com/é.wav</PlayAudio></Response>',
        "<Bxml></Bxml>",
        "<!-- before the end --><Bxml><!-- here --><StartRecording/></Bxml>",
        "<Bxml><SpeakSentence>In <lang xml:lang='fr'>trois<break/></lang> minutes</SpeakSentence></Bxml>",
        *(f"<Bxml><{verb}/></Bxml>" for verb in VERBS),
    ],
)
def test_what_a_conference_takes_is_sent_as_it_is(bxml: str) -> None:
    """Valid BXML is sent unchanged, in UTF-8. The content of a verb is not checked."""
    assert outgoing(bxml) == bxml.encode()


@pytest.mark.parametrize(
    ("bxml", "sentence"),
    [
        ("", "the BXML is not well-formed: no element found: line 1, column 0"),
        ("Good bye", "the BXML is not well-formed: syntax error: line 1, column 0"),
        ("<Bxml>", "the BXML is not well-formed: no element found: line 1, column 6"),
        ("<Bxml><PlayAudio></Bxml>", "the BXML is not well-formed: mismatched tag: line 1, column 19"),
        ("<Bxml/><Bxml/>", "the BXML is not well-formed: junk after document element: line 1, column 7"),
        ("<Bxml>&nbsp;</Bxml>", "the BXML is not well-formed: undefined entity: line 1, column 6"),
        ("<bxml/>", "the BXML's root is <bxml>; it has to be <Bxml>"),
        ("<PlayAudio/>", "the BXML's root is <PlayAudio>; it has to be <Bxml>"),
        ("<Bxml><Hangup/></Bxml>", f"<Hangup> is not for a conference; its BXML holds only {ALLOWED}"),
        ("<Bxml><Bxml/></Bxml>", f"<Bxml> is not for a conference; its BXML holds only {ALLOWED}"),
        (
            "<Bxml><StopRecording/><Redirect/></Bxml>",
            f"<Redirect> is not for a conference; its BXML holds only {ALLOWED}",
        ),
        (
            '<!DOCTYPE Bxml [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><Bxml>&b;</Bxml>',
            "the BXML has a document type (<!DOCTYPE …>): leave it out",
        ),
        (
            '<!DOCTYPE Bxml SYSTEM "file:///etc/passwd"><Bxml/>',
            "the BXML has a document type (<!DOCTYPE …>): leave it out",
        ),
        (
            '<?xml version="1.0" encoding="UTF-16"?><Bxml/>',
            "the BXML is sent as UTF-8 but declares 'UTF-16': leave the encoding out",
        ),
        (b"<Bxml/>", "the BXML is text, not bytes"),
        (None, "the BXML is text, not NoneType"),
    ],
)
def test_what_a_conference_does_not_take_is_a_sentence(bxml: Any, sentence: str) -> None:
    """Invalid BXML, BXML for another use, a document type and another encoding raise a clear error."""
    with pytest.raises(ConfigurationError) as caught:
        outgoing(bxml)
    assert str(caught.value) == sentence


def test_text_that_is_not_unicode() -> None:
    """A lone surrogate is an error, because it cannot be encoded."""
    with pytest.raises(ConfigurationError, match="surrogates not allowed"):
        outgoing("<Bxml><SpeakSentence>\ud800</SpeakSentence></Bxml>")


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")))
def test_any_sentence_can_be_spoken(sentence: str) -> None:
    """Escaped text of any script is accepted."""
    bxml = f"<Bxml><SpeakSentence>{escape(sentence)}</SpeakSentence></Bxml>"
    assert outgoing(bxml).decode() == bxml


@given(st.text(alphabet="<>/!?&;BxmlPlayAudio \"'[]-"))
def test_no_text_is_worse_than_refused(bxml: str) -> None:
    """Any text is sent unchanged or raises a ConfigurationError."""
    with suppress(ConfigurationError):
        assert outgoing(bxml) == bxml.encode()
