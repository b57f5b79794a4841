"""Validation of updates, of redirects and of BXML for a conference."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.bxml import VERBS, Verb
from bandwidth_async.sandbox.events import Webhook
from bandwidth_async.sandbox.validation import (
    CALL,
    CONFERENCE,
    kind_of_update,
    parse_bxml,
    recording_webhook,
    redirect_webhook,
    update_error,
)

URL = "https://example.com/bxml"

BOMB = b"""<?xml version="1.0"?>
<!DOCTYPE Bxml [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<Bxml><PlayAudio>&b;</PlayAudio></Bxml>"""
FILE = b'<!DOCTYPE Bxml [<!ENTITY f SYSTEM "file:///etc/passwd">]><Bxml><PlayAudio>&f;</PlayAudio></Bxml>'


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "completed"},
        {"status": "completed", "redirectMethod": "POST", "redirectFallbackMethod": "GET"},
        {"status": "completed", "username": "u", "password": "p"},
        {"status": "active", "redirectUrl": URL},
        {"redirectUrl": "http://example.com"},
        {
            "redirectUrl": URL,
            "redirectMethod": "GET",
            "redirectFallbackUrl": URL,
            "fallbackPassword": "p" * 1024,
        },
        {"status": "completed", "state": "active", "unknown": [1]},
    ],
)
def test_a_right_update_has_no_error(fields: dict[str, object]) -> None:
    """What is documented is allowed; methods, credentials and unknown fields are tolerated."""
    assert update_error(CONFERENCE, fields) is None


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, "redirectUrl is required when status is active"),
        ({"status": "active"}, "redirectUrl is required when status is active"),
        ({"state": "completed"}, "redirectUrl is required when status is active"),
        ({"status": "ended"}, "Invalid status: only active and completed are allowed"),
        ({"status": ["completed"]}, "Invalid status: only active and completed are allowed"),
        ({"status": "completed", "redirectUrl": URL}, "redirectUrl is not allowed when status is completed"),
        (
            {"status": "completed", "redirectFallbackUrl": URL},
            "redirectFallbackUrl is not allowed when status is completed",
        ),
        ({"redirectUrl": "ftp://example.com"}, "Invalid redirectUrl: only http and https are allowed"),
        ({"redirectUrl": "/bxml"}, "Invalid redirectUrl: only http and https are allowed"),
        ({"redirectUrl": " http://127.0.0.1/"}, "Invalid redirectUrl: only http and https are allowed"),
        ({"redirectUrl": "\x00http://127.0.0.1/"}, "Invalid redirectUrl: only http and https are allowed"),
        ({"redirectUrl": "https://[bad"}, "Invalid redirectUrl: it cannot be read: Invalid IPv6 URL"),
        ({"redirectUrl": 5}, "Invalid redirectUrl: a string is required"),
        ({"redirectUrl": "https://"}, "Invalid redirectUrl: a host is required"),
        *(
            (
                {"redirectUrl": f"http://127.0.0.1:{port}/"},
                "Invalid redirectUrl: the port must be within the range [1, 65535]",
            )
            for port in ("0", "65536", "70000", "http")
        ),
        *(
            (
                {"redirectUrl": url},
                "Invalid redirectUrl: spaces, control characters and surrogates are not allowed",
            )
            for url in (
                *(
                    "https://exa\nmple.com/",
                    "http://\x00127.0.0.1/",
                    "http://127.0.0.1/ ",
                    "http://127.0.0.1/\t",
                ),
                *("http://a b/", "http://127.0.0.1/\x7f", "http://127.0.0.1/\ud800", "https://x/\u2028"),
            )
        ),
        (
            {"redirectUrl": URL, "redirectFallbackUrl": "mailto:a@example.com"},
            "Invalid redirectFallbackUrl: only http and https are allowed",
        ),
        (
            {"redirectUrl": URL, "redirectMethod": "PUT"},
            "Invalid redirectMethod: only GET and POST are allowed",
        ),
        (
            {"status": "completed", "redirectFallbackMethod": "get"},
            "Invalid redirectFallbackMethod: only GET and POST are allowed",
        ),
        (
            {"redirectUrl": URL, "username": "u" * 1025},
            "Invalid username: a string of at most 1024 characters is allowed",
        ),
        (
            {"status": "completed", "fallbackPassword": 1},
            "Invalid fallbackPassword: a string of at most 1024 characters is allowed",
        ),
    ],
)
def test_a_wrong_update_gets_the_first_error(fields: dict[str, object], error: str) -> None:
    """The sentence names the field and what is allowed in it."""
    assert update_error(CONFERENCE, fields) == error


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"status": "completed"}, "end"),
        ({"status": "completed", "redirectUrl": URL}, "end"),
        ({"status": "active", "redirectUrl": URL}, "redirect"),
        ({}, "redirect"),
        ({"status": None}, "redirect"),
        ({"status": "ended"}, "other"),
        ([], "other"),
    ],
)
def test_the_truth_counts_an_update_by_its_status(fields: object, kind: str) -> None:
    """An end request is one whose body says completed, also when it is invalid otherwise."""
    assert kind_of_update(CONFERENCE, json.dumps(fields).encode(), "end", "redirect") == kind


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"state": "completed"}, None),
        ({"state": "completed", "redirectFallbackUrl": URL, "redirectMethod": "GET"}, None),
        ({"redirectUrl": URL, "tag": "t" * 4096}, None),
        ({"redirectUrl": URL, "tag": ""}, None),
        ({}, "redirectUrl is required when state is active"),
        ({"status": "completed"}, "redirectUrl is required when state is active"),
        ({"state": "ended"}, "Invalid state: only active and completed are allowed"),
        ({"state": "completed", "redirectUrl": URL}, "redirectUrl is not allowed when state is completed"),
        ({"state": "completed", "tag": "t"}, "tag is not allowed when state is completed"),
        (
            {"redirectUrl": URL, "tag": "t" * 4097},
            "Invalid tag: a string of at most 4096 characters is allowed",
        ),
        ({"redirectUrl": URL, "tag": 1}, "Invalid tag: a string of at most 4096 characters is allowed"),
        ({"redirectUrl": "ftp://x"}, "Invalid redirectUrl: only http and https are allowed"),
        (
            {"redirectUrl": "http://x:0"},
            "Invalid redirectUrl: the port must be within the range [1, 65535]",
        ),
    ],
)
def test_a_call_has_a_state_and_a_tag(fields: dict[str, object], error: str | None) -> None:
    """Otherwise it is updated like a conference, by the name of its own field."""
    assert update_error(CALL, fields) == error


def test_a_redirect_has_a_url_and_a_fallback() -> None:
    """Each with its own method and credentials. The method is POST unless given."""
    fields = {
        "redirectUrl": URL,
        "redirectMethod": "GET",
        "username": "u",
        "password": "p",
        "redirectFallbackUrl": f"{URL}/2",
        "fallbackUsername": "fu",
    }
    assert redirect_webhook(fields) == Webhook(
        url=URL,
        method="GET",
        username="u",
        password="p",
        fallback=Webhook(url=f"{URL}/2", method="POST", username="fu", password=None),
    )
    assert redirect_webhook({"redirectUrl": URL}) == Webhook(url=URL)


def test_all_verbs_of_a_conference_are_read_in_order() -> None:
    """With their attributes and their text; speech may have elements of its own."""
    document = b"""<?xml version="1.0" encoding="UTF-8"?>
    <Response>
        <!-- first -->
        <PlayAudio username="u"> https://example.com/a.wav </PlayAudio>
        <SpeakSentence locale="en_US">Hello <emphasis>all</emphasis> &amp; bye</SpeakSentence>
        <StartRecording tag="t"/><PauseRecording/><ResumeRecording/><StopRecording></StopRecording>
    </Response>"""
    assert parse_bxml(document) == (
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
    assert parse_bxml(document) == ()


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
        (b"<Bxml>" + b" " * 2**16 + b"</Bxml>", "it has 65,549 bytes; Bandwidth takes 64 KB"),
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
        (b"<Bxml><StartRecording fileFormat='ogg'/></Bxml>", "fileFormat is mp3 or wav"),
        (b"<Bxml><StartRecording recordingAvailableUrl='ftp://x/'/></Bxml>", "only http and https are allow"),
        (b"<Bxml><StartRecording recordingAvailableUrl='http://[/'/></Bxml>", "it cannot be read"),
        (b"<Bxml><StartRecording recordingAvailableMethod='PUT'/></Bxml>", "is GET or POST"),
    ],
)
def test_what_is_no_bxml_for_a_conference_is_refused(document: bytes, why: str) -> None:
    """The message says what it is; nothing is ever expanded or fetched."""
    with pytest.raises(ValueError, match=f"Invalid BXML: .*{why}"):
        parse_bxml(document)


@given(
    document=st.binary(max_size=60) | st.text(alphabet="<>/!&;BxmlPause \n\0", max_size=60).map(str.encode)
)
def test_any_bytes_are_read_or_refused(document: bytes) -> None:
    """Nothing but ValueError comes out, and nothing but the six verbs."""
    with suppress(ValueError):
        assert {verb.name for verb in parse_bxml(document)} <= set(VERBS)


def test_a_recording_may_have_a_webhook_of_its_own() -> None:
    """With method and credentials. Without a URL it has none."""
    (verb,) = parse_bxml(
        b"<Bxml><StartRecording recordingAvailableUrl='http://127.0.0.1/r' recordingAvailableMethod='GET' "
        b"username='u' password='p'/></Bxml>"
    )
    assert recording_webhook(verb, "http://127.0.0.1/bxml") == Webhook(
        url="http://127.0.0.1/r", method="GET", username="u", password="p"
    )
    assert recording_webhook(Verb(name="StartRecording", attributes={}), "http://127.0.0.1/bxml") is None


@pytest.mark.parametrize(
    ("relative", "url"),
    [
        ("/r", "https://example.com/r"),
        ("r?a=b", "https://example.com/hooks/r?a=b"),
        ("//other.example/r", "https://other.example/r"),
    ],
)
def test_a_relative_url_is_one_of_the_server_that_sent_the_bxml(relative: str, url: str) -> None:
    """As Bandwidth's page of webhooks has it. Without such a server it leads nowhere."""
    (verb,) = parse_bxml(f"<Bxml><StartRecording recordingAvailableUrl='{relative}'/></Bxml>".encode())
    assert recording_webhook(verb, "https://example.com/hooks/created?x=y") == Webhook(url=url)
    assert recording_webhook(verb, None) is None


def test_what_a_conference_ignores_in_a_recording_is_allowed() -> None:
    """Bandwidth documents that it ignores the tag, transcriptions and channels there."""
    attributes = {
        "tag": "x" * 999,
        "transcribe": "true",
        "transcriptionAvailableUrl": "/t",
        "multiChannel": "1",
    }
    written = " ".join(f"{name}='{value}'" for name, value in attributes.items())
    assert parse_bxml(f"<Bxml><StartRecording {written}/></Bxml>".encode()) == (
        Verb(name="StartRecording", attributes=attributes),
    )
