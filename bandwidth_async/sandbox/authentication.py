"""Authentication: the OAuth2 token endpoint, its tokens, and the check of every request's credentials."""

from __future__ import annotations

import base64
import binascii
from random import Random
from urllib.parse import parse_qs

from attrs import field, frozen

from bandwidth_async.sandbox.messages import Response, error_response, json_response
from bandwidth_async.sandbox.routes import RoutedRequest

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="sandbox", Basic realm="sandbox"'}


@frozen(kw_only=True)
class Credentials:
    """The only valid credentials: an account, an OAuth2 client, and an API user for Basic authentication."""

    account_id: str
    client_id: str
    client_secret: str = field(repr=False)
    username: str
    password: str = field(repr=False)


class Authentication:
    """Issues tokens and checks credentials.

    A token expires ``lifetime`` seconds after it was issued, on the server's clock. ``expires_in`` says so in
    whole seconds, rounded down and at least 1. So a shorter lifetime ends before the announced time.
    """

    def __init__(self, *, credentials: Credentials, lifetime: float, random: Random) -> None:
        self.refuse_all = False
        self._credentials = credentials
        self._lifetime = lifetime
        self._random = random
        # When each token expires; changed in _issue() and revoke_tokens().
        self._tokens: dict[str, float] = {}

    def revoke_tokens(self) -> None:
        """Make every token issued so far invalid."""
        self._tokens.clear()

    def check(self, authorization: str, account_id: str, now: float) -> Response | None:
        """Return the 401 for credentials that are wrong or have no access to the account, else None."""
        has_access = account_id == self._credentials.account_id and self._is_valid(authorization, now)
        if has_access and not self.refuse_all:
            return None
        return error_response(401, "The credentials provided were invalid", _CHALLENGE)

    def _is_valid(self, authorization: str, now: float) -> bool:
        scheme, _, rest = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return now < self._tokens.get(rest.strip(), now)
        return _parse_basic(authorization) == (self._credentials.username, self._credentials.password)

    def grant(self, routed: RoutedRequest) -> Response:
        """Handle a token request: RFC 6749, client credentials by Basic, errors in OAuth2's own form."""
        if routed.request.media_type != "application/x-www-form-urlencoded":
            return _oauth_error(
                400, "invalid_request", "Content-Type must be application/x-www-form-urlencoded"
            )
        client = (self._credentials.client_id, self._credentials.client_secret)
        if _parse_basic(routed.request.authorization) != client:
            return _oauth_error(401, "invalid_client", "The client id or secret is wrong")
        form = parse_qs((routed.request.body or b"").decode(errors="replace"))
        if form.get("grant_type") != ["client_credentials"]:
            return _oauth_error(400, "unsupported_grant_type", "grant_type must be client_credentials")
        token = {
            "access_token": self._issue(routed.at.now),
            "expires_in": max(1, int(self._lifetime)),
            "token_type": "Bearer",
        }
        return json_response(200, token, {"Cache-Control": "no-store"})

    def _issue(self, now: float) -> str:
        token = f"{self._random.getrandbits(160):040x}"
        self._tokens = {known: expiry for known, expiry in self._tokens.items() if now < expiry}
        self._tokens[token] = now + self._lifetime
        return token


def _parse_basic(authorization: str) -> tuple[str, str] | None:
    """Return user and password of a Basic header, None if it is no such header."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    return (user, password) if colon and scheme.lower() == "basic" else None


def _oauth_error(status: int, error: str, description: str) -> Response:
    headers = {"WWW-Authenticate": 'Basic realm="sandbox"'} if status == 401 else {}
    return json_response(status, {"error": error, "error_description": description}, headers)
