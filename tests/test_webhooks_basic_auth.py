"""Who may send webhooks: the challenge that Bandwidth needs, and what passes."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.webhooks import BasicAuth, Challenge

AUTH = BasicAuth("bandwidth", "s3cret:with:colons")
CHALLENGE = Challenge(status=401, headers={"WWW-Authenticate": 'Basic realm="webhooks"'})


def header(username: str, password: str, *, scheme: str = "Basic ") -> str:
    """Return the header of RFC 7617."""
    return scheme + base64.b64encode(f"{username}:{password}".encode()).decode()


def test_the_first_request_is_challenged() -> None:
    """Bandwidth sends it without credentials, and only this answer makes it send them."""
    assert AUTH.check(None) == CHALLENGE


@pytest.mark.parametrize("scheme", ["Basic ", "basic ", "BASIC   "])
def test_the_credentials_pass(scheme: str) -> None:
    """The scheme has no case; a password may contain colons."""
    assert AUTH.check(header("bandwidth", "s3cret:with:colons", scheme=scheme)) is None


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic ",
        "Basic =",
        "Basic !!!!",
        "Basic é",
        header("bandwidth", "wrong"),
        header("wrong", "s3cret:with:colons"),
        header("wrong", "wrong"),
        header("bandwidth", ""),
        header("", ""),
        header("Bandwidth", "s3cret:with:colons"),
        header("bandwidth", "s3cret:with:colons "),
        header("bandwidth", "s3cret:with:colons", scheme="Bearer "),
        header("bandwidth", "s3cret:with:colons", scheme="Basic\t"),
        header("bandwidth", "s3cret:with:colons", scheme=""),
        header("bandwidth", "s3cret:with:colons") + "\n",
        "Basic " + base64.b64encode(b"bandwidth").decode(),
    ],
)
def test_anything_else_is_challenged_again(authorization: str) -> None:
    """Wrong, malformed, or of another scheme."""
    assert AUTH.check(authorization) == CHALLENGE


@given(st.text())
def test_no_header_fails(authorization: str) -> None:
    """Whatever it holds is challenged."""
    assert AUTH.check(authorization) == CHALLENGE
    assert AUTH.check(f"Basic {authorization}") == CHALLENGE


printable = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.isprintable)


@given(printable.filter(lambda text: ":" not in text), printable, printable)
def test_exactly_the_own_credentials_pass(username: str, password: str, other: str) -> None:
    """In any script, as UTF-8."""
    auth = BasicAuth(username, password)
    assert auth.check(header(username, password)) is None
    assert (auth.check(header(username, other)) is None) == (other == password)
    assert (auth.check(header(other, password)) is None) == (other == username)


def test_the_realm_can_be_chosen() -> None:
    """It stands in the challenge."""
    challenge = BasicAuth("a", "b", realm="my events").check(None)
    assert challenge == Challenge(headers={"WWW-Authenticate": 'Basic realm="my events"'})


def test_the_password_is_never_shown() -> None:
    """Not by repr, and so not in a log."""
    assert "s3cret" not in f"{AUTH!r} {AUTH}"
    assert "bandwidth" in repr(AUTH)


@pytest.mark.parametrize(
    ("username", "password", "realm", "why"),
    [
        ("", "secret", "x", "username is a text of 1 to 1024 characters"),
        (None, "secret", "x", "username is a text of 1 to 1024 characters"),
        ("a" * 1025, "secret", "x", "username is a text of 1 to 1024 characters"),
        ("a:b", "secret", "x", "username cannot contain a colon"),
        ("a\n", "secret", "x", "username has control characters in it"),
        ("a", "", "x", "password is a text of 1 to 1024 characters"),
        ("a", "secret\0", "x", "password has control characters in it"),
        ("a", "secret", "", "realm is ASCII text"),
        ("a", "secret", 'say "x"', "realm is ASCII text"),
        ("a", "secret", "back\\slash", "realm is ASCII text"),
        ("a", "secret", "x\r\nSet-Cookie: a", "realm is ASCII text"),
        ("a", "secret", "é", "realm is ASCII text"),
    ],
)
def test_what_cannot_be_sent_is_refused(username: str, password: str, realm: str, why: str) -> None:
    """Before the first request, by a sentence that does not show the password."""
    with pytest.raises(ConfigurationError, match=why) as caught:
        BasicAuth(username, password, realm=realm)
    assert "secret" not in str(caught.value)
