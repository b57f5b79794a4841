"""The text of a server in our errors: no secret in any escaping, one printable line, and the reason."""

from __future__ import annotations

import base64
import html
import json
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.server_text import decoded, reason_in, shown

SECRET = 'p&s"w/d+\xe9=='
BASIC = base64.b64encode(f"me:{SECRET}".encode()).decode()
TOKEN = "tok+en/123=="


def as_gson(text: str) -> str:
    """Escape as Gson and .NET do, and slashes as PHP does."""
    return "".join(f"\\u{ord(c):04x}" if c in "+=&\"'<>\xe9" else "\\/" if c == "/" else c for c in text)


ESCAPES: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "json": lambda text: json.dumps(text)[1:-1],
    "gson": as_gson,
    "all of it in json": lambda text: "".join(f"\\u{ord(c):04X}" for c in text),
    "json in json": lambda text: json.dumps(json.dumps(as_gson(text))),
    "hexadecimal": lambda text: "".join(f"\\x{ord(c):02x}" for c in text),
    "html": html.escape,
    "numbers in html": lambda text: "".join(f"&#{ord(c)};" for c in text),
    "url": lambda text: quote(text, safe=""),
    "url twice": lambda text: quote(quote(text, safe=""), safe=""),
    "html in json in a url": lambda text: quote(as_gson(html.escape(text))),
    "capitals": str.upper,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for urls": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
}


@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES)
@pytest.mark.parametrize(
    ("authorization", "secret"),
    [(f"Basic {BASIC}", BASIC), (f"Basic {BASIC}", SECRET), (f"Bearer {TOKEN}", TOKEN)],
    ids=["header", "secret", "token"],
)
def test_a_secret_is_blanked_out_in_every_escaping(
    escape: Callable[[str], str], authorization: str, secret: str
) -> None:
    """A gateway that quotes the request escapes it in its own way."""
    text = shown(f"you sent {escape(secret)} to us", authorization)
    assert text.replace('"', "").replace("\\", "").strip() == "you sent *** to us"


def test_a_secret_of_a_letter_spoils_no_sentence() -> None:
    """Tests have such tokens. Blanked out, they would make riddles of every error."""
    assert shown("validation: not now", "Bearer t") == "validation: not now"


@given(st.text())
def test_text_without_a_secret_stays_as_it_is(text: str) -> None:
    """Only text that held a secret is shown decoded."""
    assert shown(text, "Bearer a-token-of-40-letters") == shown(text, "")


@pytest.mark.parametrize("authorization", ["", "Bearer ", f"Basic {BASIC}"])
@given(text=st.text())
def test_any_text_is_one_printable_line(authorization: str, text: str) -> None:
    """Also what becomes a control character by decoding."""
    assert shown(f"{text}{BASIC}\\u001b%1b&#27;", authorization).isprintable()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_a_body_in_any_encoding_hides_no_secret(encoding: str) -> None:
    """A letter that is lost in decoding would keep the rest of a secret from being found."""
    body = json.dumps({"description": SECRET}, ensure_ascii=False).encode(encoding)
    assert "***" in shown(decoded(body), f"Basic {BASIC}")


@pytest.mark.parametrize("charset", ["windows-1252", '"WINDOWS-1252"', "utf-8", "rot13", "none", "", "zip"])
def test_a_charset_that_is_wrong_or_unknown_loses_no_letter(charset: str) -> None:
    """The body decides first, then its content type."""
    assert decoded(b"caf\xe9", f"text/plain; charset={charset}") == "café"
    assert decoded("café".encode(), f"text/plain; charset={charset}") == "café"


PAGES = {
    "page": "<!DOCTYPE html><head><title>Sorry</title></head><body><h1>Sorry</h1>\n<p>a &amp; b</p></body>",
    "styled": f"<style>{'body{margin:0}' * 99}</style><script>if (a < b) x('<p>no</p>')</script>Sorry a & b",
    "xml": "<?xml version='1.0'?><Error><Code>Sorry</Code><Message>a &amp; b</Message></Error>",
    "cdata": "<soap:Fault><faultcode>Sorry</faultcode><x:string><![CDATA[a & b]]></x:string></soap:Fault>",
    "cut": "<p>Sorry</p> a &amp; b<script>if (a",
    "comment": "<!--[if lt IE 7]> <![endif]--><p class='x'>Sorry</p><p>a &amp; b</p>",
}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_the_words_of_a_page_are_shown_and_not_its_markup(page: str) -> None:
    """The markup alone would fill the sentence."""
    assert shown(page, "", 300) == "Sorry a & b"


@pytest.mark.parametrize("text", ["<no healthy upstream>", "<err code='1' msg='x'/>", "a < b", "<", ""])
def test_what_is_only_markup_stays(text: str) -> None:
    """Some have their words in it."""
    assert shown(text, "") == text


def test_a_secret_that_looks_like_markup_is_blanked_out() -> None:
    """Without its middle it would not be found."""
    secret = base64.b64encode(b"me:hunter<b>two").decode()
    assert shown("<p>hunter<b>two</p>", f"Basic {secret}") == "***"


@pytest.mark.parametrize("piece", ["<", "<script", "<script>", "<a ", "&", "<![CDATA["])
def test_a_page_of_any_content_is_read_quickly(piece: str) -> None:
    """Each part of it is looked at once."""
    text = "<" + piece * (64_000 // len(piece))
    began = time.process_time()
    shown(text, "Basic bWU6aHVudGVyMg==")
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize(
    "value",
    [
        {"type": "validation", "description": "the reason", "id": ""},
        {"message": "the reason"},
        {"Message": "the reason"},
        {"error": "Bad Request", "message": "the reason", "path": "/"},
        {"errors": [{"code": 1, "description": "the reason"}]},
        {"errors": ["the reason"]},
        {"errors": {"status": ["the reason"]}},
        {"type": "about:blank", "title": "Bad", "detail": "the reason", "status": 400},
        {"title": "the reason"},
        {"error": {"code": 400, "message": "the reason"}},
        {"error": {"errors": [{"reason": "the reason"}]}},
        {"fault": {"faultstring": "the reason", "detail": {"errorcode": "x"}}},
        {"error": "invalid_request", "error_description": "the reason"},
        [{"description": "the reason"}],
        {"description": "", "message": "the reason"},
        {"errors": [{"description": "the reason"}] * 3},
    ],
    ids=str,
)
def test_the_reason_is_found_in_every_shape(value: object) -> None:
    """Once, however often it is repeated."""
    assert reason_in(value) == "the reason"


@pytest.mark.parametrize(
    ("value", "reasons"),
    [
        (
            {"type": "validation", "description": "bad", "errors": [{"message": "the reason"}]},
            "bad; the reason",
        ),
        ({"title": "bad", "detail": "", "errors": {"status": ["the reason"]}}, "bad; the reason"),
        (
            {"error": {"message": "bad", "errors": [{"message": "bad"}], "details": [{"reason": "x"}]}},
            "bad; x",
        ),
    ],
    ids=str,
)
def test_the_reasons_behind_a_reason_are_shown_too(value: object, reasons: str) -> None:
    """The first one often says only that something is wrong."""
    assert reason_in(value) == reasons


@pytest.mark.parametrize(
    "value", [None, 1, "text", [], {}, ["text"], {"id": "conf-1", "name": "a"}, {"description": 5}]
)
def test_what_gives_no_reason(value: object) -> None:
    """A conference is none, and neither is a bare text."""
    assert reason_in(value) is None


def test_many_reasons_and_deep_ones_are_bounded() -> None:
    """A body of any size costs a few looks."""
    deep: object = "x"
    for _ in range(500):
        deep = {"error": [deep]}
    assert reason_in(deep) is None
    assert reason_in({"errors": [{"message": str(n)} for n in range(100)]}) == "0; 1; 2; 3; 4"
