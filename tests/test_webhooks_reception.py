"""One webhook request: its credentials, its event, its response, and BXML, each event only once."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.webhooks import (
    BasicAuth,
    Challenge,
    Event,
    Memory,
    Reception,
    Reply,
    check_bxml,
    parse_event,
)

pytestmark = pytest.mark.looptime

AUTH = BasicAuth("bandwidth", "s3cret")
BASIC = aiohttp.encode_basic_auth("bandwidth", "s3cret")
TIME = "2026-11-22T10:00:00Z"
TAKEN = Reply(status=204)
FAILED = Reply(status=500)
BXML = "<Bxml><SpeakSentence>Grüße</SpeakSentence></Bxml>"
SPOKEN = Reply(
    status=200, headers={"Content-Type": "application/xml; charset=utf-8"}, body=BXML.encode("utf-8")
)
COLONS = BasicAuth("bandwidth", "s3cret:with:colons")
CHALLENGE = Challenge(status=401, headers={"WWW-Authenticate": 'Basic realm="webhooks"'})
BOMB = '<!DOCTYPE Bxml [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><Bxml>&b;</Bxml>'


def body(kind: str = "conferenceMemberJoin", **changes: str) -> dict[str, str]:
    """Return the properties of an event."""
    ids = {"conferenceId": "conf-1", "callId": "c-1", "recordingId": "r-1"}
    return {"eventType": kind, "eventTime": TIME, **ids, **changes}


class Sender:
    """Sends requests to a reception, and records what was read and received."""

    def __init__(self, *answers: Any, auth: BasicAuth | None = None, **settings: Any) -> None:
        self.received: list[Event] = []
        self.read = 0
        self.reception = Reception(self._receive, auth=auth, **settings)
        self._answers = list(answers)

    async def _receive(self, event: Event) -> Any:
        """Answer by the script: sleep for a number, raise an error, return anything else."""
        self.received.append(event)
        while self._answers:
            answer = self._answers.pop(0)
            if isinstance(answer, BaseException):
                raise answer
            if not isinstance(answer, int):
                return answer
            await asyncio.sleep(answer)
        return None

    async def post(self, content: object = None, **options: Any) -> Reply:
        """Send a body, as JSON unless it is bytes."""
        whole = content if isinstance(content, bytes) else json.dumps(content or body()).encode()

        async def read(_: int) -> bytes:
            self.read += 1
            return whole

        return await self.reception.answer(
            **{"method": "POST", "authorization": None, "query": "", "read": read, **options}
        )

    async def get(self, content: dict[str, str], **options: Any) -> Reply:
        """Send properties as a query."""
        return await self.post(b"", **{"method": "GET", "query": urlencode(content), **options})


def complaint(status: int, why: str) -> Reply:
    """Return the response that says what was wrong."""
    return Reply(status=status, headers={"Content-Type": "text/plain; charset=utf-8"}, body=why.encode())


async def test_an_event_is_received_and_answered_with_nothing() -> None:
    """Bandwidth's pages show 204 for a response without BXML."""
    sender = Sender()
    assert await sender.post() == TAKEN
    assert sender.received == [parse_event(body())]


async def test_a_get_is_read_from_its_query() -> None:
    """A body is not read, even if there is one."""
    sender = Sender()
    assert await sender.get(body(tag="a & b = 100 %", name="")) == TAKEN
    assert sender.received == [parse_event(body(tag="a & b = 100 %", name=""))]
    assert sender.read == 0


async def test_a_post_is_not_read_from_its_query() -> None:
    """A URL may have a query of its own."""
    sender = Sender()
    assert await sender.post(query="conferenceId=conf-2&room=7") == TAKEN
    assert sender.received == [parse_event(body())]


@pytest.mark.parametrize("method", ["PUT", "HEAD", "DELETE", "get", "OPTIONS"])
async def test_other_methods_are_refused(method: str) -> None:
    """This comes before every other check."""
    sender = Sender(auth=AUTH)
    assert await sender.post(method=method) == Reply(status=405, headers={"Allow": "GET, POST"})
    assert (sender.read, sender.received) == (0, [])


async def test_nothing_is_read_without_the_credentials() -> None:
    """Bandwidth's first request gets the challenge; then the credentials and the event come."""
    sender = Sender(auth=AUTH)
    challenge = Reply(status=401, headers={"WWW-Authenticate": 'Basic realm="webhooks"'})
    assert await sender.post() == challenge
    assert await sender.get(body()) == challenge
    assert await sender.post(authorization="Basic d3Jvbmc6d3Jvbmc=") == challenge
    assert (sender.read, sender.received) == (0, [])
    assert await sender.post(authorization=BASIC) == TAKEN
    assert await sender.get(body("conferenceCreated"), authorization=BASIC) == TAKEN
    assert len(sender.received) == 2


async def test_what_is_too_long_is_refused() -> None:
    """One byte above the limit is enough, in a body or in a query."""
    content = json.dumps(body()).encode()
    query = urlencode(body())
    sender = Sender(body_limit=len(content))
    assert await sender.post(content) == TAKEN
    assert await sender.post(content + b" ") == complaint(413, f"more than {len(content)} bytes")
    sender = Sender(body_limit=len(query))
    assert await sender.get(body()) == TAKEN
    assert await sender.get(body(tag="")) == complaint(414, f"more than {len(query)} bytes")


@pytest.mark.looptime
async def test_a_body_that_does_not_come_is_given_up() -> None:
    """After 15 seconds, as Bandwidth does; what the reading itself raises is raised."""
    sender = Sender()
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def never(_: int) -> bytes:
        await asyncio.sleep(3600)
        return b""

    async def fails(_: int) -> bytes:
        raise TimeoutError

    late = complaint(408, "the request was not complete after 15 s")
    assert await sender.post(read=never) == late
    assert (loop.time() - began, late.closes) == (15, True)
    with pytest.raises(TimeoutError):
        await sender.post(read=fails)
    assert sender.received == []


async def test_what_is_not_an_event_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """The sender and our log get a sentence."""
    sender = Sender()
    assert await sender.post(b"hello") == complaint(400, "not an event: the body is not JSON")
    assert await sender.get({}) == complaint(400, "not an event: its eventType is missing")
    assert sender.received == []
    assert caplog.messages == [
        "a webhook request was answered with 400: not an event: the body is not JSON",
        "a webhook request was answered with 400: not an event: its eventType is missing",
    ]


@pytest.mark.parametrize(
    "kind",
    ["conferenceCreated", "conferenceMemberJoin", "conferenceMemberExit", "conferenceRedirect", "initiate"],
)
async def test_bxml_is_the_answer_where_it_is_allowed(kind: str) -> None:
    """It is sent as XML in UTF-8. Only the receiver knows what an unknown kind takes."""
    assert await Sender(BXML).post(body(kind)) == SPOKEN


@pytest.mark.parametrize("kind", ["conferenceCompleted", "conferenceRecordingAvailable"])
async def test_bxml_is_a_mistake_where_it_is_not_allowed(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """The log says so, and Bandwidth does not get it."""
    assert await Sender(BXML).post(body(kind)) == FAILED
    assert f"{kind} cannot be answered with BXML: return None" in caplog.text


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("<Bxml>", "not well-formed"),
        ("<html/>", "the BXML's root is <html>; it has to be <Bxml>"),
        ("<Response><Redirect/></Response>", "<Redirect> is not for a conference"),
        ("<b:Bxml xmlns:b='b'/>", "the BXML's root is <b:Bxml>"),
        ("<?xml version='1.0' encoding='latin-1'?><Bxml/>", "is sent as UTF-8 but declares 'latin-1'"),
        ("", "not well-formed"),
        (b"<Bxml/>", "a receiver returns BXML as a str, or None, not bytes"),
        ({}, "a receiver returns BXML as a str, or None, not dict"),
    ],
)
async def test_what_is_not_bxml_is_not_sent(
    answer: object, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It would fail during the conference, where nobody sees why."""
    assert await Sender(answer).post() == FAILED
    assert why in caplog.text


async def test_an_event_of_a_call_may_be_answered_with_any_verb() -> None:
    """Its kind is unknown here, and a call takes more verbs than a conference."""
    bxml = "<Response><Redirect redirectUrl='/next'/></Response>"
    assert (await Sender(bxml).post(body("answer"))).body == bxml.encode()


async def test_an_event_that_fails_late_does_not_have_its_successor_forgotten() -> None:
    """Its entry left the memory, and the response given meanwhile is still known."""
    sender = Sender(memory=Memory(size=1))
    late = Sender(2, RuntimeError("late"))
    script = [late, sender, sender]
    sender.reception._receive = lambda event: script.pop(0)._receive(event)
    first = asyncio.create_task(sender.post())
    await asyncio.sleep(1)
    assert await sender.post(body(conferenceId="conf-2")) == TAKEN
    assert await sender.post() == TAKEN
    assert await first == FAILED
    assert await sender.post() == TAKEN
    assert script == []


@pytest.mark.parametrize("answer", [None, BXML])
async def test_a_receiver_may_be_a_plain_function(answer: str | None) -> None:
    """The hub's publish is one."""
    reception = Reception(lambda _: answer, auth=None)

    async def read(_: int) -> bytes:
        return json.dumps(body()).encode()

    reply = await reception.answer(method="POST", authorization=None, query="", read=read)
    assert reply == (SPOKEN if answer else TAKEN)


async def test_a_failing_receiver_is_logged_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    """The log has the traceback and the event's kind, but no credentials and no details."""
    caplog.set_level(logging.DEBUG)
    sender = Sender(RuntimeError("out of tea"), auth=AUTH)
    assert await sender.post(body(**{"from": "+15555555555"}), authorization=BASIC) == FAILED
    assert caplog.messages == ["the receiver failed at conferenceMemberJoin of conf-1"]
    assert "RuntimeError: out of tea" in caplog.text
    assert not any(secret in caplog.text for secret in ("s3cret", BASIC, "+15555555555"))


async def test_a_slow_receiver_is_pointed_out(caplog: pytest.LogCaptureFixture) -> None:
    """By then Bandwidth no longer waits. How long it waits is a setting of the conference."""
    assert await Sender(15).post() == TAKEN
    assert await Sender(20, callback_timeout=25).post() == TAKEN
    assert caplog.messages == []
    assert await Sender(16).post() == TAKEN
    assert await Sender(2, callback_timeout=1.5).post() == TAKEN
    assert caplog.messages == [
        f"the answer to conferenceMemberJoin took {took} s, but Bandwidth waits {waits} s (callback_timeout)"
        for took, waits in (("16.0", "15"), ("2.0", "1.5"))
    ]


@pytest.mark.parametrize("seconds", [0, 0.9, 25.1, float("nan")])
def test_a_callback_timeout_is_one_that_a_conference_can_have(seconds: float) -> None:
    """Bandwidth documents 1 to 25 seconds."""
    with pytest.raises(ConfigurationError, match="callback_timeout is 1 to 25 seconds, not"):
        Sender(callback_timeout=seconds)


async def test_an_event_that_comes_again_gets_the_same_answer() -> None:
    """The first response and its BXML may have been lost. The receiver sees the event once."""
    sender = Sender(BXML)
    assert [await sender.post() for _ in range(3)] == [SPOKEN] * 3
    assert await sender.get(body()) == SPOKEN
    assert len(sender.received) == 1


def test_an_event_may_come_again_in_another_event_loop() -> None:
    """Tests of an application have one for each test, and its reception lives with a module."""
    sender = Sender(None)
    for _ in range(2):
        assert asyncio.run(sender.post(body())) == TAKEN
    assert len(sender.received) == 1


async def test_an_event_that_comes_again_meanwhile_waits_for_the_answer() -> None:
    """The receiver is still working on it."""
    sender = Sender(5, BXML)
    first = asyncio.ensure_future(sender.post())
    await asyncio.sleep(1)
    again = [asyncio.ensure_future(sender.post()) for _ in range(3)]
    assert await asyncio.gather(first, *again) == [SPOKEN] * 4
    assert len(sender.received) == 1
    assert asyncio.get_running_loop().time() == 5


async def test_after_a_failure_the_event_may_come_again(caplog: pytest.LogCaptureFixture) -> None:
    """An event that failed is not remembered."""
    sender = Sender(RuntimeError("not now"), BXML)
    assert [await sender.post() for _ in range(3)] == [FAILED, SPOKEN, SPOKEN]
    assert len(sender.received) == 2
    assert len(caplog.records) == 1


async def test_who_waited_for_a_failure_tries_itself(caplog: pytest.LogCaptureFixture) -> None:
    """One waiting request calls the receiver again, and the others get its response."""
    sender = Sender(1, RuntimeError("not now"), 1, BXML)
    assert await asyncio.gather(*(sender.post() for _ in range(4))) == [FAILED, SPOKEN, SPOKEN, SPOKEN]
    assert len(sender.received) == 2
    assert len(caplog.records) == 1


async def test_a_cancelled_request_does_not_answer_for_others() -> None:
    """Some servers cancel the handler when the client disconnects; the next request begins anew."""
    sender = Sender(5, 5, BXML)
    first = asyncio.ensure_future(sender.post())
    await asyncio.sleep(1)
    again = asyncio.ensure_future(sender.post())
    waiter = asyncio.ensure_future(sender.post())
    await asyncio.sleep(1)
    waiter.cancel()
    first.cancel()
    assert await again == SPOKEN
    assert first.cancelled()
    assert waiter.cancelled()
    assert len(sender.received) == 2


async def test_answers_are_remembered_for_a_while_and_not_all() -> None:
    """Memory is limited in number and in age."""
    sender = Sender(memory=Memory(size=2, age=10))
    for call in ("c-1", "c-2", "c-3", "c-3", "c-1"):
        assert await sender.post(body(callId=call)) == TAKEN
    assert len(sender.received) == 4
    assert repr(sender.reception) == "<Reception: no credentials, 2 answers remembered>"
    await asyncio.sleep(10)
    assert await sender.post(body(callId="c-1")) == TAKEN
    assert len(sender.received) == 5


def test_the_secret_is_not_in_its_repr() -> None:
    """Printing the reception shows the name only."""
    assert repr(Sender(auth=AUTH).reception) == (
        "<Reception: BasicAuth(username='bandwidth', realm='webhooks'), 0 answers remembered>"
    )


def test_a_limit_that_lets_nothing_in_is_refused() -> None:
    """The limit is at least one byte."""
    with pytest.raises(ConfigurationError, match="body_limit"):
        Sender(body_limit=0)


def header(username: str, password: str, *, scheme: str = "Basic ") -> str:
    """Return the header of RFC 7617."""
    return scheme + base64.b64encode(f"{username}:{password}".encode()).decode()


def test_the_first_request_is_challenged() -> None:
    """Bandwidth sends it without credentials, and only this response makes it send them."""
    assert COLONS.check(None) == CHALLENGE


@pytest.mark.parametrize("scheme", ["Basic ", "basic ", "BASIC   "])
def test_the_credentials_pass(scheme: str) -> None:
    """The scheme ignores case, and a password may contain colons."""
    assert COLONS.check(header("bandwidth", "s3cret:with:colons", scheme=scheme)) is None


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
    """Wrong credentials, a malformed header, another scheme."""
    assert COLONS.check(authorization) == CHALLENGE


@given(st.text())
def test_no_header_fails(authorization: str) -> None:
    """Any header gets the challenge."""
    assert COLONS.check(authorization) == CHALLENGE
    assert COLONS.check(f"Basic {authorization}") == CHALLENGE


printable = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.isprintable)


@given(printable.filter(lambda text: ":" not in text), printable, printable)
def test_exactly_the_own_credentials_pass(username: str, password: str, other: str) -> None:
    """They may be in any script, as UTF-8."""
    auth = BasicAuth(username, password)
    assert auth.check(header(username, password)) is None
    assert (auth.check(header(username, other)) is None) == (other == password)
    assert (auth.check(header(other, password)) is None) == (other == username)


def test_the_realm_can_be_chosen() -> None:
    """The challenge names it."""
    challenge = BasicAuth("a", "b", realm="my events").check(None)
    assert challenge == Challenge(headers={"WWW-Authenticate": 'Basic realm="my events"'})


def test_the_password_is_never_shown() -> None:
    """The repr hides it, and so does a log."""
    assert "s3cret" not in f"{COLONS!r} {COLONS}"
    assert "bandwidth" in repr(COLONS)


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
    """The error comes before the first request and does not show the password."""
    with pytest.raises(ConfigurationError, match=why) as caught:
        BasicAuth(username, password, realm=realm)
    assert "secret" not in str(caught.value)


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
    """It is well-formed and has one of the two documented roots."""
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
    """The error comes before Bandwidth finds it, and a document type is never read."""
    for for_conference in (True, False):
        with pytest.raises(ConfigurationError, match=why):
            check_bxml(text, for_conference=for_conference)


@pytest.mark.parametrize(
    "text", ["<Response><Redirect/></Response>", "<Bxml xmlns:b='b'><b:PlayAudio/></Bxml>"]
)
def test_an_answer_for_a_conference_has_its_verbs_alone(text: str) -> None:
    """The check is that of an update. The answer to a call's event may have any verb."""
    with pytest.raises(ConfigurationError, match="is not for a conference; its BXML holds only PlayAudio, "):
        check_bxml(text)
    assert check_bxml(text, for_conference=False) == text


@given(st.text() | st.text("<>/Bxml&;!-[] "))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    """Any text passes or raises our error."""
    try:
        assert check_bxml(text) == text
    except ConfigurationError as error:
        assert "BXML" in str(error)  # noqa: PT017  # both ways out are right
