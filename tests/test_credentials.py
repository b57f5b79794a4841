"""The credentials, and the header that all requests share, in virtual time."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from bandwidth_async.credentials import (
    Authorizer,
    BasicCredentials,
    ClientCredentials,
    Token,
    TokenExpired,
)
from bandwidth_async.errors import AuthenticationError, BandwidthError, ConfigurationError, TransportError

pytestmark = pytest.mark.looptime

TAKES = 1.0  # seconds for a token
SECRET = "s3cr3t-and-more"


def now() -> float:
    """Return the virtual time, which starts at 0."""
    return asyncio.get_running_loop().time()


class TokenEndpoint:
    """Returns the tokens t1, t2, … or raises the next error of its script, after a second each time."""

    def __init__(self, *script: float | Exception) -> None:
        self.script = list(script)
        self.asked_at: list[float] = []
        self.answered = 0

    async def fetch(self) -> Token:
        """Follow the script: a number is a lifetime, an error is raised. After it, tokens live an hour."""
        self.asked_at.append(now())
        turn = len(self.asked_at)
        await asyncio.sleep(TAKES)
        self.answered += 1
        answer = self.script[turn - 1] if turn <= len(self.script) else 3600.0
        if isinstance(answer, Exception):
            raise answer
        return Token(value=f"t{turn}", lifetime=answer)


def authorizer(endpoint: TokenEndpoint) -> Authorizer:
    """Return an authorizer with client credentials."""
    return Authorizer(ClientCredentials("client", "secret"), endpoint.fetch)


async def until(moment: float) -> None:
    """Let the virtual time pass."""
    await asyncio.sleep(moment - now())


async def header_at(moment: float, auth: Authorizer) -> tuple[str, float]:
    """Return the header of a request made at that moment, and when it was available."""
    await until(moment)
    await auth.wait_until_ready()
    return auth.header(), now()


def refusal() -> AuthenticationError:
    """Return the error for wrong credentials."""
    return AuthenticationError("no access token", status=401, type="invalid_client")


class TestCredentials:
    """Credentials that cannot be right are refused before they are sent."""

    def test_as_the_server_wants_to_see_them(self) -> None:
        """Both kinds go as HTTP Basic, in UTF-8 (RFC 7617)."""
        assert ClientCredentials("client", "secret").basic() == "Basic Y2xpZW50OnNlY3JldA=="
        assert BasicCredentials("user", "p:ä").basic() == "Basic dXNlcjpwOsOk"

    @pytest.mark.parametrize(
        ("kind", "first", "second"),
        [(ClientCredentials, "client_id", "client_secret"), (BasicCredentials, "username", "password")],
    )
    @pytest.mark.parametrize(
        ("value", "sentence"),
        [
            ("", "{} is empty; it comes from your Bandwidth account"),
            (None, "{} is empty; it comes from your Bandwidth account"),
            (b"x", "{} is empty; it comes from your Bandwidth account"),
            ("s3cret ", "{} starts or ends with a blank, or contains a control character"),
            (" s3cret", "{} starts or ends with a blank, or contains a control character"),
            ("s3cret\n", "{} starts or ends with a blank, or contains a control character"),
            ("s3\x00cret", "{} starts or ends with a blank, or contains a control character"),
        ],
    )
    def test_a_slip_is_named_without_showing_it(
        self, kind: Any, first: str, second: str, value: object, sentence: str
    ) -> None:
        """For a newline from a file or an empty variable, the error names the field but not its value."""
        with pytest.raises(ConfigurationError) as caught:
            kind(value, "good")
        assert str(caught.value) == sentence.format(first)
        with pytest.raises(ConfigurationError) as caught:
            kind("good", value)
        assert str(caught.value) == sentence.format(second)

    @pytest.mark.parametrize(
        ("kind", "name"), [(ClientCredentials, "client_id"), (BasicCredentials, "username")]
    )
    def test_a_colon_would_split_the_pair_elsewhere(self, kind: Any, name: str) -> None:
        """RFC 7617 allows no colon in the first of the two. The second may have one."""
        with pytest.raises(ConfigurationError) as caught:
            kind("a:b", "good")
        assert str(caught.value) == f"{name} cannot contain a colon (RFC 7617)"
        assert kind("good", "a:b").basic() == "Basic Z29vZDphOmI="

    @pytest.mark.parametrize(
        "holder",
        [
            ClientCredentials("client", SECRET),
            BasicCredentials("user", SECRET),
            Token(value=SECRET, lifetime=60.0),
        ],
        ids=lambda holder: type(holder).__name__,
    )
    def test_a_secret_is_not_shown(self, holder: object) -> None:
        """A log line, a traceback or a debugger that shows the value does not show the secret."""
        for shown in (repr(holder), str(holder), f"{holder}", f"{[holder]}"):
            assert SECRET not in shown


class TestBasic:
    """A user name and password need no token."""

    async def test_it_is_ready_at_once_and_fetches_nothing(self) -> None:
        """There is nothing to wait for and nothing to renew."""
        endpoint = TokenEndpoint()
        auth = Authorizer(BasicCredentials("user", "secret"), endpoint.fetch)
        assert await header_at(0, auth) == ("Basic dXNlcjpzZWNyZXQ=", 0)
        assert await header_at(1e5, auth) == ("Basic dXNlcjpzZWNyZXQ=", 1e5)
        assert endpoint.asked_at == []

    async def test_never_accepted_they_are_refused_by_their_first_401(self) -> None:
        """After it there is no newer header to show."""
        auth = Authorizer(BasicCredentials("user", "secret"), TokenEndpoint().fetch)
        assert not auth.rejected(auth.round, refusal())
        assert auth.is_blocked

    async def test_once_accepted_they_are_tried_again(self) -> None:
        """Eight 401s in a row refuse them, one at a time, and any other response ends the doubt."""
        auth = Authorizer(BasicCredentials("user", "secret"), TokenEndpoint().fetch)
        auth.accepted(auth.round)
        for _ in range(7):
            await auth.wait_until_ready()
            assert auth.rejected(auth.round, refusal())
        await auth.wait_until_ready()
        auth.accepted(auth.round)
        assert auth.is_ready()
        for _ in range(7):
            await auth.wait_until_ready()
            assert auth.rejected(auth.round, refusal())
        assert not auth.rejected(auth.round, refusal())

    async def test_a_rejected_password_is_blocked_too(self) -> None:
        """A thousand requests do not each send a rejected password. After 30 seconds, one may try again."""
        auth = Authorizer(BasicCredentials("user", "secret"), TokenEndpoint().fetch)
        auth.block(refusal())
        with pytest.raises(AuthenticationError):
            auth.header()
        with pytest.raises(AuthenticationError):
            await auth.wait_until_ready()
        assert await header_at(30, auth) == ("Basic dXNlcjpzZWNyZXQ=", 30)


class TestOneFetchForAll:
    """One token is fetched, however many requests wait."""

    async def test_a_hundred_waiters_cost_one_request(self) -> None:
        """All are ready when the token is there."""
        endpoint = TokenEndpoint()
        auth = authorizer(endpoint)
        headers = await asyncio.gather(*(header_at(0, auth) for _ in range(100)))
        assert headers == [("Bearer t1", TAKES)] * 100
        assert endpoint.asked_at == [0]

    async def test_who_comes_late_joins(self) -> None:
        """A request that comes during a fetch waits for the same one."""
        endpoint = TokenEndpoint()
        auth = authorizer(endpoint)
        headers = await asyncio.gather(header_at(0, auth), header_at(0.5, auth))
        assert list(headers) == [("Bearer t1", TAKES)] * 2
        assert endpoint.asked_at == [0]

    @pytest.mark.parametrize("cancelled", [{0}, {1}, {9}, {0, 1, 2, 3, 4}, set(range(9))])
    @pytest.mark.parametrize("moment", [0.0, 0.5, TAKES])
    async def test_a_cancelled_waiter_does_not_fail_the_others(
        self, cancelled: set[int], moment: float
    ) -> None:
        """Not even if it is the first, which started the fetch."""
        endpoint = TokenEndpoint()
        auth = authorizer(endpoint)
        waiters = [asyncio.ensure_future(header_at(0, auth)) for _ in range(10)]
        await asyncio.sleep(moment)
        for number in cancelled:
            waiters[number].cancel()
        ended = await asyncio.gather(*waiters, return_exceptions=True)
        assert [one for number, one in enumerate(ended) if number not in cancelled] == (
            [("Bearer t1", TAKES)] * (10 - len(cancelled))
        )
        assert all(isinstance(ended[number], asyncio.CancelledError | tuple) for number in cancelled)
        assert endpoint.asked_at == [0]

    async def test_when_all_are_cancelled_the_token_still_comes(self) -> None:
        """The next request uses it."""
        endpoint = TokenEndpoint()
        auth = authorizer(endpoint)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await auth.wait_until_ready()
        assert await header_at(2, auth) == ("Bearer t1", 2)
        assert endpoint.asked_at == [0]


class TestRenewal:
    """A token is renewed while it is still valid."""

    @pytest.mark.parametrize(
        ("lifetime", "renewed_at"), [(3600.0, 3540.0), (300.0, 240.0), (100.0, 80.0), (10.0, 8.0)]
    )
    async def test_ahead_of_its_end_in_the_background(self, lifetime: float, renewed_at: float) -> None:
        """A minute ahead, or a fifth of a short lifetime. Until then the old token is sent at once."""
        endpoint = TokenEndpoint(lifetime)
        auth = authorizer(endpoint)
        await auth.wait_until_ready()
        assert await header_at(renewed_at - 0.1, auth) == ("Bearer t1", renewed_at - 0.1)
        assert endpoint.asked_at == [0]
        assert await header_at(renewed_at, auth) == ("Bearer t1", renewed_at)
        assert await header_at(renewed_at + 0.5, auth) == ("Bearer t1", renewed_at + 0.5)
        assert await header_at(renewed_at + 1.5, auth) == ("Bearer t2", renewed_at + 1.5)
        assert endpoint.asked_at == [0, renewed_at]

    async def test_nothing_is_fetched_while_nobody_asks(self) -> None:
        """An idle client sends nothing."""
        endpoint = TokenEndpoint()
        await authorizer(endpoint).wait_until_ready()
        await until(1e5)
        assert endpoint.asked_at == [0]

    async def test_an_expired_token_is_not_sent(self) -> None:
        """The next request waits for a new one. A token's lifetime counts from when it was requested."""
        endpoint = TokenEndpoint()
        auth = authorizer(endpoint)
        await auth.wait_until_ready()
        assert await header_at(3600, auth) == ("Bearer t2", 3601)
        assert endpoint.asked_at == [0, 3600]

    async def test_a_failing_renewal_keeps_the_old_token(self, caplog: pytest.LogCaptureFixture) -> None:
        """It is only logged, and the token endpoint gets no request for five seconds."""
        endpoint = TokenEndpoint(3600.0, TransportError("no answer"))
        auth = authorizer(endpoint)
        await auth.wait_until_ready()
        with caplog.at_level(logging.WARNING, "bandwidth_async.credentials"):
            for moment in (3540, 3542, 3545.9):
                assert await header_at(moment, auth) == ("Bearer t1", moment)
        assert caplog.messages == ["could not get a new access token: no answer"]
        assert endpoint.asked_at == [0, 3540]
        assert await header_at(3546, auth) == ("Bearer t1", 3546)
        assert await header_at(3548, auth) == ("Bearer t3", 3548)
        assert endpoint.asked_at == [0, 3540, 3546]

    async def test_a_first_token_that_does_not_come_is_told_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The error tells it. A log that says it too is for those who go on and ask again."""
        auth = authorizer(TokenEndpoint(TransportError("no answer"), TransportError("no answer")))
        with caplog.at_level(logging.WARNING, "bandwidth_async.credentials"):
            with pytest.raises(TransportError):
                await auth.wait_until_ready()
            assert caplog.messages == []
            await until(5)
            with pytest.raises(TransportError):
                await auth.wait_until_ready()
        assert caplog.messages == ["could not get a new access token: no answer"]

    async def test_a_token_that_expires_in_the_pause_is_not_sent_after(self) -> None:
        """The five seconds apply while the old token is valid. Past its end a new one comes sooner."""
        endpoint = TokenEndpoint(10.0, TransportError("no answer"))
        auth = authorizer(endpoint)
        await auth.wait_until_ready()
        assert await header_at(9, auth) == ("Bearer t1", 9)
        with pytest.raises(TransportError, match=r"try again in 0.5 s"):
            await header_at(10.5, auth)
        assert await header_at(11.5, auth) == ("Bearer t3", 12.5)

    async def test_without_any_token_the_next_request_asks_again(self) -> None:
        """After a failed first fetch no request is sent with an empty header."""
        endpoint = TokenEndpoint(TransportError("no answer"))
        auth = authorizer(endpoint)
        with pytest.raises(TransportError):
            await auth.wait_until_ready()
        assert await header_at(2, auth) == ("Bearer t2", 3)
        assert endpoint.asked_at == [0, 2]


class TestFailure:
    """Every request that waits gets the error of the token endpoint."""

    async def test_each_waiter_gets_an_error_of_its_own(self) -> None:
        """An operation adds its own attempts to its error. They must not appear in another operation's."""
        endpoint = TokenEndpoint(TransportError("no answer", ambiguous=True, dropped=True))
        auth = authorizer(endpoint)
        errors = await asyncio.gather(*(auth.wait_until_ready() for _ in range(3)), return_exceptions=True)
        assert len({id(error) for error in errors}) == 3
        for number, error in enumerate(errors):
            assert isinstance(error, TransportError)
            assert vars(error) == {
                "attempts": 0,
                "retry_after": 1.0,
                "ambiguous": True,
                "dropped": True,
            }
            assert error.__cause__ is endpoint.script[0]
            error.attempts = number + 1
        assert endpoint.asked_at == [0]

    async def test_an_endpoint_that_fails_is_left_alone_longer_each_time(self) -> None:
        """Pauses are 1, 2, 4 … s until a token arrives. Errors in between say how long to wait."""
        failures = [TransportError("no answer") for _ in range(3)]
        endpoint = TokenEndpoint(*failures)
        auth = authorizer(endpoint)
        for moment in (0.0, 0.5, 2.0, 3.5, 4.5, 8.0):
            await asyncio.sleep(moment - asyncio.get_running_loop().time())
            with pytest.raises(TransportError):
                await auth.wait_until_ready()
        assert endpoint.asked_at == [0, 2, 8]
        assert await header_at(13.5, auth) == ("Bearer t4", 14.5)

    async def test_a_bug_reaches_who_waits(self) -> None:
        """An exception that is not a BandwidthError is not hidden."""
        auth = authorizer(TokenEndpoint(ZeroDivisionError("a bug")))
        with pytest.raises(ZeroDivisionError, match="a bug"):
            await auth.wait_until_ready()


class TestBlocking:
    """Rejected credentials are not sent again for 30 seconds."""

    async def test_the_block_lasts_and_then_ends(self) -> None:
        """No fetch for 30 seconds after the rejection. Then there is one, and its token is used."""
        endpoint = TokenEndpoint(refusal())
        auth = authorizer(endpoint)
        for moment in (0, 1.5, 10, 30.9):
            await until(moment)
            with pytest.raises(AuthenticationError) as caught:
                await auth.wait_until_ready()
            assert (caught.value.status, caught.value.type) == (401, "invalid_client")
            with pytest.raises(AuthenticationError):
                auth.header()
        assert endpoint.asked_at == [0]
        assert await header_at(31, auth) == ("Bearer t2", 32)
        assert endpoint.asked_at == [0, 31]

    async def test_a_second_rejection_blocks_again(self) -> None:
        """Credentials that stay wrong cost one request in 30 seconds."""
        endpoint = TokenEndpoint(*(refusal() for _ in range(4)))
        auth = authorizer(endpoint)
        for moment in range(100):
            await until(moment)
            with pytest.raises(AuthenticationError):
                await auth.wait_until_ready()
        assert endpoint.asked_at == [0, 31, 62, 93]

    async def test_a_rejection_during_the_block_does_not_prolong_it(self) -> None:
        """Requests that were already in flight are rejected too, which is nothing new."""
        auth = authorizer(TokenEndpoint())
        await auth.wait_until_ready()
        auth.block(refusal())
        await until(20)
        auth.block(refusal())
        assert await header_at(31, auth) == ("Bearer t1", 31)

    async def test_everyone_gets_an_error_of_its_own(self) -> None:
        """Each operation gets a copy of the error that is raised during the block."""
        auth = authorizer(TokenEndpoint())
        auth.block(refusal())
        errors = await asyncio.gather(*(auth.wait_until_ready() for _ in range(3)), return_exceptions=True)
        assert len({id(error) for error in errors}) == 3
        assert all(isinstance(error, AuthenticationError) for error in errors)

    async def test_a_renewal_that_is_refused_does_not_take_the_token_away(self) -> None:
        """It holds to its end, and meanwhile the endpoint is asked again, with pauses."""
        endpoint = TokenEndpoint(3600.0, *(refusal() for _ in range(4)))
        auth = authorizer(endpoint)
        await auth.wait_until_ready()
        for moment in range(3540, 3580):
            assert (await header_at(moment, auth))[0] in {"Bearer t1", "Bearer t6"}
        assert endpoint.asked_at == [0, 3540, 3546, 3552, 3558, 3564]
        assert auth.header() == "Bearer t6"

    async def test_a_refusal_that_stays_past_the_token_s_end_latches(self) -> None:
        """Four in a row, some seconds apart: a rotation took the secret, and that is told."""
        endpoint = TokenEndpoint(10.0, *(refusal() for _ in range(40)))
        auth = authorizer(endpoint)
        await auth.wait_until_ready()
        await until(20)
        while not auth.is_blocked:
            with pytest.raises(AuthenticationError):
                await auth.wait_until_ready()
            await asyncio.sleep(0.5)
        assert len(endpoint.asked_at) == 5
        assert 25 < now() < 40


class TestDoubt:
    """One 401 proves nothing: one request at a time finds out, and the others wait."""

    async def test_a_token_that_was_accepted_is_replaced(self) -> None:
        """It may have been revoked: the next request waits for a new one."""
        endpoint = TokenEndpoint()
        auth = authorizer(endpoint)
        await auth.wait_until_ready()
        auth.accepted(auth.round)
        assert auth.rejected(auth.round, refusal())
        assert not auth.is_ready()
        assert await header_at(5, auth) == ("Bearer t2", 6)
        assert endpoint.asked_at == [0, 5]

    async def test_a_stale_header_was_rejected(self) -> None:
        """There is a newer one already: it is shown at once and nothing is fetched."""
        endpoint = TokenEndpoint()
        auth = authorizer(endpoint)
        await auth.wait_until_ready()
        assert auth.rejected(auth.round - 1, refusal())
        assert auth.is_ready()
        assert await header_at(5, auth) == ("Bearer t1", 5)
        assert endpoint.asked_at == [0]

    async def test_a_hundred_401s_of_one_token_are_one_doubt(self) -> None:
        """All requests in flight are rejected together; one token is fetched, one request tries it."""
        endpoint = TokenEndpoint()
        auth = authorizer(endpoint)
        await auth.wait_until_ready()
        auth.accepted(auth.round)
        round_, tried, tried_at = auth.round, 0, []

        async def rejected(user: object) -> None:
            nonlocal tried
            assert auth.rejected(round_, refusal())
            while True:
                await auth.wait_until_ready()
                try:
                    assert auth.header(user) == "Bearer t2"
                except TokenExpired:
                    continue
                break
            tried += 1
            tried_at.append(now())
            assert tried == 1 or auth.is_ready()
            await asyncio.sleep(0.5)
            auth.accepted(auth.round)
            auth.finished(user)

        await asyncio.gather(*(rejected(object()) for _ in range(100)))
        assert endpoint.asked_at == [0, 1]
        assert sorted(tried_at) == [2.0] + [2.5] * 99

    async def test_who_tries_and_is_cancelled_leaves_the_trial_to_the_next(self) -> None:
        """Nobody waits for ever."""
        auth = authorizer(TokenEndpoint())
        await auth.wait_until_ready()
        assert auth.rejected(auth.round, refusal())
        await auth.wait_until_ready()
        first, second = object(), object()
        auth.header(first)
        with pytest.raises(TokenExpired):
            auth.header(second)
        waiter = asyncio.ensure_future(auth.wait_until_ready())
        await asyncio.sleep(1)
        assert not waiter.done()
        auth.finished(second)
        await asyncio.sleep(1)
        assert not waiter.done()
        auth.finished(first)
        await waiter
        assert auth.header(second) == "Bearer t1"

    async def test_no_newer_token_leaves_the_one_in_hand(self) -> None:
        """The old secret died in a rotation while its token lives: a stray 401 does not take it away."""
        endpoint = TokenEndpoint(3600.0, *(refusal() for _ in range(40)))
        auth = authorizer(endpoint)
        await auth.wait_until_ready()
        auth.accepted(auth.round)
        await until(100)
        assert auth.rejected(auth.round, refusal())
        assert await header_at(100, auth) == ("Bearer t1", 101)
        auth.accepted(auth.round)
        assert not auth.is_blocked
        assert await header_at(103, auth) == ("Bearer t1", 103)


class TestClosing:
    """No task is left."""

    async def test_a_renewal_on_its_way_is_ended(self) -> None:
        """The response of the token endpoint is not waited for."""
        endpoint = TokenEndpoint()
        auth = authorizer(endpoint)
        await auth.wait_until_ready()
        await header_at(3540, auth)
        assert len(asyncio.all_tasks()) == 2
        await auth.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert (endpoint.answered, now()) == (1, 3540)

    @pytest.mark.parametrize("ready", [False, True])
    async def test_closing_twice_or_unused_is_fine(self, *, ready: bool) -> None:
        """There may be nothing to cancel."""
        auth = authorizer(TokenEndpoint())
        if ready:
            await auth.wait_until_ready()
        await auth.aclose()
        await auth.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_who_waits_gets_an_error_and_no_cancellation(self) -> None:
        """A waiter that nobody cancelled must not end as cancelled: its task would vanish silently."""
        auth = authorizer(TokenEndpoint())
        waiter = asyncio.ensure_future(auth.wait_until_ready())
        await asyncio.sleep(0.5)
        await auth.aclose()
        (ended,) = await asyncio.gather(waiter, return_exceptions=True)
        assert isinstance(ended, BandwidthError)


class TestExpiredInFlight:
    """A token may expire between sending it and the server's check."""

    async def test_a_token_that_ran_out_on_the_way(self) -> None:
        """It has expired only at its end, and not because it was rejected before."""
        auth = authorizer(TokenEndpoint(2.0))
        shown, _ = await header_at(0, auth)
        assert not auth.expired_in_flight(shown)
        await until(1.5)
        assert not auth.expired_in_flight(shown)
        await until(2.5)
        assert auth.expired_in_flight(shown)
        await auth.wait_until_ready()
        assert not auth.expired_in_flight(shown)  # there is another
