"""The command ``profiles``: the accounts that ``--profile`` may name, and the settings in force."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from bandwidth_async.cli import account, exit_codes, formats, profile_files, terminal
from bandwidth_async.cli.account_options import account_options
from bandwidth_async.cli.options import in_a_format

if TYPE_CHECKING:
    from bandwidth_async.cli.account import InForce
    from bandwidth_async.cli.profile_files import Profile


@click.command(name="profiles", epilog=exit_codes.HELP)
@account_options
@click.option(
    "--settings", is_flag=True, help="List the settings in force instead, and where each of them comes from."
)
@in_a_format()
def list_profiles(settings: bool, form: str | None) -> int:
    """List the profiles, and where each setting in force comes from.

    A setting comes from the first of these that has it: an option, the environment, the file of --env-file,
    the profile. A source that says who signs in hides the credentials of those behind it. --profile or
    BW_PROFILE choose the profile. If neither does, and account or client id are not set, it is the default of
    the file.

    Profiles are in bandwidth-async/config.toml in $XDG_CONFIG_HOME or ~/.config:

    \b
      default = "prod"
      [profiles.prod]
      account_id = "9900000"
      client_id = "…"
      client_secret_keyring = "bandwidth"

    The secret is in one of four places: client_secret (the file then has to be yours alone, mode 0600),
    client_secret_file (a path, the same), client_secret_env (a variable), or client_secret_keyring (a service
    in the keychain, whose user is the client id). Further keys are environment, voice_url, api_url and
    redis_url.

    The profiles of Bandwidth's own command line, band, can be used too: band is its active one, and band:NAME
    any of them. They are only read. Their secrets are in the keychain, for which you need the extra keyring.

    \b
    bandwidth-async profiles --settings
    bandwidth-async list --profile band
    """
    form = formats.form_for(form, None)
    found = account.in_force()
    if settings:
        with formats.Writer(sys.stdout, form, formats.SETTINGS) as writer:
            for record in found.sources():
                writer.write(record)
        return exit_codes.Exit.OK
    names = profile_files.names(os.environ)
    with formats.Writer(sys.stdout, form, formats.PROFILES) as writer:
        for name in names:
            writer.write(_record(profile_files.profile(name, os.environ), found))
    if not names:
        file = profile_files.configuration_file(os.environ)
        terminal.say(f"there are no profiles in {file} or {profile_files.band_file(os.environ)}")
    return exit_codes.Exit.OK


def _record(profile: Profile, found: InForce) -> dict[str, Any]:
    used = found.profile
    is_used = used is not None and used.file == profile.file and used.values == profile.values
    return {
        "profile": profile.name,
        "in_force": is_used,
        **{
            key: profile.values.get(name)
            for key, name in profile_files.VARIABLES.items()
            if key not in _UNSHOWN
        },
        "secret": profile.whence,
        "file": str(profile.file),
    }


# A Redis URL may have a password.
_UNSHOWN = {"client_secret", "redis_url"}
