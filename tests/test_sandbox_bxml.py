"""BXML for a conference: what is read, and what is refused."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.bxml import VERBS, Verb
from bandwidth_async.sandbox.bxml import read_bxml, recording_target
from bandwidth_async.sandbox.targets import Target

BOMB = b"""<?xml version="1.0"?>
<!DOCTYPE Bxml [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<Bxml><PlayAudio>&b;</PlayAudio></Bxml>"""
FILE = b'<!DOCTYPE Bxml [<!ENTITY f SYSTEM "file:///etc/passwd">]><Bxml><PlayAudio>&f;</PlayAudio></Bxml>'


def test_all_verbs_of_a_conference_are_read_in_order() -> None:
    """With their attributes and their text; speech may have elements of its own."""
    document = b"""<?xml version="1.0" encoding="UTF-8"?>
    <Response>
        <!-- first -->
        <PlayAudio username="u"> https://example.com/a.wav </PlayAudio>
        <SpeakSentence locale="en_US">Hello <emphasis>all</emphasis> &amp; bye</SpeakSentence>
        <StartRecording tag="t"/><PauseRecording/><ResumeRecording/><StopRecording></StopRecording>
    </Response>"""
    assert read_bxml(document) == (
        Verb(name="PlayAudio", attributes={"username": "u"}, text="https://example.com/a.wav"),
        Verb(
            name="SpeakSentence",
            attributes={"locale": "en_US"},
            text="Hello all & bye",
            has_children=True,
        ),
        Verb(name="StartRecording", attributes={"tag": "t"}),
        Verb(name="PauseRecording", attributes={}),
        Verb(name="ResumeRecording", attributes={}),
        Verb(name="StopRecording", attributes={}),
    )


@pytest.mark.parametrize("document", [b"<Bxml/>", b"<Response></Response>", "<Bxml/>".encode("utf-16")])
def test_a_document_may_be_empty(document: bytes) -> None:
    """In either root, in any encoding that it declares."""
    assert read_bxml(document) == ()


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b"", "no element found"),
        (b"<Bxml>", "no element found"),
        (b"<Bxml/><Bxml/>", "junk after document element"),
        (b"<Bxml><StopRecording></Bxml>", "mismatched tag"),
        (b"not xml", "syntax error"),
        (b"<Bxml>\xff</Bxml>", "not well-formed"),
        (b"<?xml version='1.0' encoding='x-none'?><Bxml/>", "unknown encoding"),
        (BOMB, "it has a document type"),
        (FILE, "it has a document type"),
        (b"<!DOCTYPE Bxml><Bxml/>", "it has a document type"),
        (b"<Bxml>&undefined;</Bxml>", "undefined entity"),
        (b"<bxml/>", "the root is bxml, only Bxml and Response are allowed"),
        (b"<StopRecording/>", "the root is StopRecording"),
        (b"<Bxml>hello</Bxml>", "text outside of a verb"),
        (b"<Bxml><Hangup/></Bxml>", "Hangup is not allowed in a conference, only PlayAudio, "),
        (b"<Bxml><stopRecording/></Bxml>", "stopRecording is not allowed"),
        (b"<Bxml xmlns:b='b'><b:StopRecording/></Bxml>", "b:StopRecording is not allowed"),
        (b"<Bxml><PlayAudio> </PlayAudio></Bxml>", "PlayAudio needs the URL of what to play"),
        (b"<Bxml><PlayAudio>a<b/></PlayAudio></Bxml>", "PlayAudio has no elements in it"),
        (b"<Bxml><StopRecording>x</StopRecording></Bxml>", "StopRecording has no text in it"),
        (b"<Bxml><StartRecording><Tag/></StartRecording></Bxml>", "StartRecording has no elements in it"),
        (b"<Bxml><StartRecording fileFormat='mp3'/></Bxml>", "the sandbox records wav only"),
        (b"<Bxml><StartRecording recordingAvailableUrl='/x'/></Bxml>", "is an absolute http or https URL"),
        (b"<Bxml><StartRecording recordingAvailableMethod='PUT'/></Bxml>", "is GET or POST"),
        (b"<Bxml><StartRecording tag='" + b"x" * 257 + b"'/></Bxml>", "at most 256 characters"),
    ],
)
def test_what_is_no_bxml_for_a_conference_is_refused(document: bytes, why: str) -> None:
    """The message says what it is; nothing is ever expanded or fetched."""
    with pytest.raises(ValueError, match=f"Invalid BXML: .*{why}"):
        read_bxml(document)


@given(
    document=st.binary(max_size=60) | st.text(alphabet="<>/!&;BxmlPause \n\0", max_size=60).map(str.encode)
)
def test_any_bytes_are_read_or_refused(document: bytes) -> None:
    """Nothing but ValueError comes out, and nothing but the six verbs."""
    with suppress(ValueError):
        assert {verb.name for verb in read_bxml(document)} <= set(VERBS)


def test_a_recording_says_where_it_is_reported() -> None:
    """With method and credentials; without a URL nowhere in particular."""
    (verb,) = read_bxml(
        b"<Bxml><StartRecording recordingAvailableUrl='http://127.0.0.1/r' recordingAvailableMethod='GET' "
        b"username='u' password='p'/></Bxml>"
    )
    assert recording_target(verb) == Target(
        url="http://127.0.0.1/r", method="GET", username="u", password="p"
    )
    assert recording_target(Verb(name="StartRecording", attributes={})) is None
