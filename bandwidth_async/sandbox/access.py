"""Who may come in: the OAuth2 token endpoint, the tokens it gave out, and the check of every request."""

from __future__ import annotations

import base64
import binascii
from random import Random
from urllib.parse import parse_qs

from attrs import field, frozen

from bandwidth_async.sandbox.messages import Answer, json_answer, problem
from bandwidth_async.sandbox.routes import Call

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="sandbox", Basic realm="sandbox"'}


@frozen(kw_only=True)
class Credentials:
    """What opens the sandbox: one account, one OAuth2 client, one API user of the older kind."""

    account_id: str
    client_id: str
    client_secret: str = field(repr=False)
    username: str
    password: str = field(repr=False)


class Access:
    """Gives out tokens and checks credentials.

    A token ends ``lifetime`` seconds after it was given out, on the server's clock. ``expires_in`` says
    so in whole seconds, rounded down and at least 1: a lifetime below that ends unannounced.
    """

    def __init__(self, *, credentials: Credentials, lifetime: float, random: Random) -> None:
        self.refuse_all = False
        self._credentials = credentials
        self._lifetime = lifetime
        self._random = random
        self._tokens: dict[
            str, float
        ] = {}  # token: the time it ends; changed in _issue() and revoke_tokens()

    def revoke_tokens(self) -> None:
        """Make every token given out so far invalid."""
        self._tokens.clear()

    def refusal(self, authorization: str, account_id: str, now: float) -> Answer | None:
        """Return the 401 or 403 for these credentials on that account, None when they are good."""
        if self.refuse_all or not self._good(authorization, now):
            return problem(401, "The credentials provided were invalid", _CHALLENGE)
        if account_id != self._credentials.account_id:
            return problem(403, "Access is denied")
        return None

    def _good(self, authorization: str, now: float) -> bool:
        scheme, _, rest = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return now < self._tokens.get(rest.strip(), now)
        return _basic(authorization) == (self._credentials.username, self._credentials.password)

    def grant(self, call: Call) -> Answer:
        """Answer a token request: RFC 6749, client credentials by Basic, errors in OAuth2's own form."""
        if call.request.media_type != "application/x-www-form-urlencoded":
            return _oauth_error(
                400, "invalid_request", "Content-Type must be application/x-www-form-urlencoded"
            )
        client = (self._credentials.client_id, self._credentials.client_secret)
        if _basic(call.request.authorization) != client:
            return _oauth_error(401, "invalid_client", "The client id or secret is wrong")
        form = parse_qs((call.request.body or b"").decode(errors="replace"))
        if form.get("grant_type") != ["client_credentials"]:
            return _oauth_error(400, "unsupported_grant_type", "grant_type must be client_credentials")
        token = {
            "access_token": self._issue(call.at.now),
            "expires_in": max(1, int(self._lifetime)),
            "token_type": "Bearer",
        }
        return json_answer(200, token, {"Cache-Control": "no-store"})

    def _issue(self, now: float) -> str:
        token = f"{self._random.getrandbits(160):040x}"
        self._tokens = {known: end for known, end in self._tokens.items() if now < end}
        self._tokens[token] = now + self._lifetime
        return token


def _basic(authorization: str) -> tuple[str, str] | None:
    """Return user and password of a Basic header, None when it is not one."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    return (user, password) if colon and scheme.lower() == "basic" else None


def _oauth_error(status: int, error: str, description: str) -> Answer:
    headers = {"WWW-Authenticate": 'Basic realm="sandbox"'} if status == 401 else {}
    return json_answer(status, {"error": error, "error_description": description}, headers)
