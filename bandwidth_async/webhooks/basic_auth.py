"""The receiver's side of Basic authentication, as Bandwidth does it for webhooks.

Bandwidth sends the first request without ``Authorization``. Only a 401 that carries
``WWW-Authenticate: Basic realm="…"`` makes it send the event again with the credentials; after any other
answer they never come.
"""

from __future__ import annotations

import base64
import hmac
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.updates import CREDENTIAL_LIMIT

if TYPE_CHECKING:
    from attrs import Attribute


def _credential(_: object, attribute: Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= CREDENTIAL_LIMIT:
        raise ConfigurationError(f"{attribute.name} is a text of 1 to {CREDENTIAL_LIMIT} characters")
    if not value.isprintable():
        raise ConfigurationError(f"{attribute.name} has control characters in it")


def _username(instance: object, attribute: Attribute[Any], value: object) -> None:
    _credential(instance, attribute, value)
    if ":" in str(value):
        raise ConfigurationError(f"{attribute.name} cannot contain a colon (RFC 7617)")


def _realm(_: object, attribute: Attribute[Any], value: object) -> None:
    plain = isinstance(value, str) and value.isascii() and value.isprintable()
    if not plain or not value or set('"\\') & set(str(value)):
        raise ConfigurationError(f"{attribute.name} is ASCII text without quotes and backslashes: {value!r}")


@frozen(kw_only=True)
class Challenge:
    """The answer to a request that did not show the credentials: this status with these headers."""

    status: int = 401
    headers: dict[str, str]


@frozen
class BasicAuth:
    """The credentials that a webhook has to show: those that its conference or update was given.

    ``realm`` is a name for what they open; Bandwidth shows it to nobody. Raises `ConfigurationError` for
    what cannot be sent as credentials.
    """

    username: str = field(validator=_username)
    password: str = field(validator=_credential, repr=False)
    realm: str = field(default="webhooks", validator=_realm, kw_only=True)

    def check(self, authorization: str | None) -> Challenge | None:
        """Return None when the request may pass, or the challenge to answer it with.

        ``authorization`` is the value of that header, None when there is none. Names and passwords are
        compared in constant time, and always both.
        """
        username, password = _shown(authorization or "")
        right_name = hmac.compare_digest(username, self.username.encode())
        right_password = hmac.compare_digest(password, self.password.encode())
        if right_name & right_password:
            return None
        return Challenge(headers={"WWW-Authenticate": f'Basic realm="{self.realm}"'})


def _shown(authorization: str) -> tuple[bytes, bytes]:
    """Return the name and password in the header; both are empty, and so wrong, in one that has none."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "basic":
        return b"", b""
    try:
        username, _, password = base64.b64decode(token.strip(" "), validate=True).partition(b":")
    except ValueError:
        return b"", b""
    return username, password
