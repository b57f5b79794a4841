"""What may be an answer in BXML."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.webhooks import check_bxml

BOMB = '<!DOCTYPE Bxml [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><Bxml>&b;</Bxml>'


@pytest.mark.parametrize(
    "text",
    [
        "<Bxml/>",
        "<Response></Response>",
        '<?xml version="1.0" encoding="UTF-8"?>\n<Bxml><PlayAudio>https://example.com/bye.wav</PlayAudio></Bxml>',
        "<Response><SpeakSentence>Grüße &amp; bis bald &#8230;</SpeakSentence></Response>",
        '<Bxml xmlns="https://example.com/bxml"><!-- nothing --></Bxml>',
    ],
)
def test_a_document_is_returned_as_it_is(text: str) -> None:
    """Well-formed, with one of the two roots that the documentation shows."""
    assert check_bxml(text) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not well-formed"),
        ("hello", "not well-formed"),
        ("<Bxml>", "not well-formed"),
        ("<Bxml/><Bxml/>", "not well-formed"),
        ("<Bxml>&nbsp;</Bxml>", "not well-formed"),
        ("<Bxml>\ud800</Bxml>", "not well-formed"),
        ("<Bxml>\0</Bxml>", "not well-formed"),
        ("<bxml/>", "the root of BXML is <Bxml> or <Response>, not <bxml>"),
        ("<html><Bxml/></html>", "not <html>"),
        (BOMB, "no document type"),
        ('<!DOCTYPE Bxml SYSTEM "file:///etc/passwd"><Bxml/>', "no document type"),
        ("<!DOCTYPE Bxml><Bxml/>", "no document type"),
    ],
)
def test_anything_else_is_the_developers_mistake(text: str, why: str) -> None:
    """It is told before Bandwidth stumbles over it; a document type is never read."""
    with pytest.raises(ConfigurationError, match=why):
        check_bxml(text)


@given(st.text() | st.text("<>/Bxml&;!-[] "))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    """It passes or is refused with our error."""
    try:
        assert check_bxml(text) == text
    except ConfigurationError as error:
        assert "BXML" in str(error)  # noqa: PT017  # both ways out are right
