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
        ("<bxml/>", "the BXML's root is <bxml>; it has to be <Bxml>"),
        ("<html><Bxml/></html>", "root is <html>"),
        ("<b:Bxml xmlns:b='b'/>", "root is <b:Bxml>"),
        ("<?xml version='1.0' encoding='latin-1'?><Bxml>é</Bxml>", "is sent as UTF-8 but declares 'latin-1'"),
        (BOMB, "has a document type"),
        ('<!DOCTYPE Bxml SYSTEM "file:///etc/passwd"><Bxml/>', "has a document type"),
        ("<!DOCTYPE Bxml><Bxml/>", "has a document type"),
    ],
)
def test_anything_else_is_the_developers_mistake(text: str, why: str) -> None:
    """It is told before Bandwidth stumbles over it; a document type is never read."""
    for for_conference in (True, False):
        with pytest.raises(ConfigurationError, match=why):
            check_bxml(text, for_conference=for_conference)


@pytest.mark.parametrize(
    "text", ["<Response><Redirect/></Response>", "<Bxml xmlns:b='b'><b:PlayAudio/></Bxml>"]
)
def test_an_answer_for_a_conference_has_its_verbs_alone(text: str) -> None:
    """It is as strict as an update with BXML; what answers an event of a call may have any verb."""
    with pytest.raises(ConfigurationError, match="is not for a conference; its BXML holds only PlayAudio, "):
        check_bxml(text)
    assert check_bxml(text, for_conference=False) == text


@given(st.text() | st.text("<>/Bxml&;!-[] "))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    """It passes or is refused with our error."""
    try:
        assert check_bxml(text) == text
    except ConfigurationError as error:
        assert "BXML" in str(error)  # noqa: PT017  # both ways out are right
