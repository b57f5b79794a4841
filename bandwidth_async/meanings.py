"""What Bandwidth documents about a refusal, and what to check then."""

from __future__ import annotations

from datetime import UTC, datetime

# Seconds since the epoch: https://dev.bandwidth.com/docs/credentials/management
_API_USERS_END = datetime(2026, 12, 2, tzinfo=UTC).timestamp()
_INSTEAD = "use OAuth2 client credentials (BW_CLIENT_ID and BW_CLIENT_SECRET)"
API_USERS_END_SOON = (
    f"Bandwidth removes API users (BW_USERNAME and BW_PASSWORD) on 2 December 2026; {_INSTEAD} instead"
)
_API_USERS_ARE_GONE = (
    f"Bandwidth removed API users, with their names and passwords, on 2 December 2026; {_INSTEAD}"
)

# https://dev.bandwidth.com/docs/voice/errors. The page has no 402, but Bandwidth's command line does.
_MEANINGS = {
    401: "check the credentials and the account id: the user may have no access to the account",
    402: "the account cannot pay for this: check its balance and its plan",
    403: "the user has no access to the Voice API: check the roles of these credentials",
    409: "a conference that has just ended cannot be changed: look at its state",
}
_CALL_CONFLICT = "a call that has just ended, or is not answered yet, cannot be changed: look at its state"
_SIGNING_IN = {
    **dict.fromkeys((400, 401, 403), "check the client id and secret, and whether the secret has expired"),
    404: "check the URL of the token endpoint (api_url or BW_API_URL)",
}


def have_api_users_ended(wall_clock: float) -> bool:
    """Return whether Bandwidth has removed API users by then, in seconds since the epoch."""
    return wall_clock >= _API_USERS_END


def meaning_of(status: int, *, of_call: bool, of_token: bool, by_api_user: bool, wall_clock: float) -> str:
    """Return what a status means and what to check, or an empty text.

    ``of_call`` and ``of_token`` say what was asked for, and ``by_api_user`` that a name and password signed
    it. ``wall_clock`` is our time, in seconds since the epoch.
    """
    if of_token:
        return _SIGNING_IN.get(status, "")
    if status == 401 and by_api_user and have_api_users_ended(wall_clock):
        return _API_USERS_ARE_GONE
    if status == 409 and of_call:
        return _CALL_CONFLICT
    return _MEANINGS.get(status, "")
