"""The command ``whoami``: it proves that account, credentials and host belong together."""

from __future__ import annotations

from typing import Any

import click

from bandwidth_async import wire
from bandwidth_async.cli import event_loop, exit_codes, formats, plan
from bandwidth_async.cli.options import in_a_format, new_client, sending
from bandwidth_async.errors import AuthenticationError, NotFoundError, PermissionDeniedError


@click.command(epilog=exit_codes.HELP)
@in_a_format()
@sending
def whoami(form: str | None) -> int:
    """Show the account, the user and the host in force, and prove that they belong together.

    It reads one conference of the account at most, and changes nothing. Exits 0 if that is allowed, and 2 if
    the credentials are refused or do not fit to the account. The secret is never shown.
    """
    formats.write_one(event_loop.run(_proven()), form)
    return exit_codes.Exit.OK


async def _proven() -> dict[str, Any]:
    """Return what is in force, once the server has taken it. Raises `AuthenticationError` if it does not."""
    async with new_client() as client:
        try:
            async for _ in client.list_conferences(page_size=1):
                break
        except (AuthenticationError, PermissionDeniedError, NotFoundError) as error:
            is_token = error.request == wire.token().name
            what = f"{client.api_url} refuses" if is_token else f"account {client.account_id} is closed to"
            raise AuthenticationError(
                f"{what} the user {client.user}: {error.message}", status=error.status
            ) from error
        return {
            "account_id": client.account_id,
            "user": client.user,
            "host": plan.host(client),
            "token_host": client.api_url.partition("//")[2].rstrip("/"),
        }
