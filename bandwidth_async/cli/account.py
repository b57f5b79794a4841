"""Which settings are in force for a command, and where each of them comes from.

A setting comes from the first of these that has it: an option, the environment, the file of ``--env-file``,
the profile. The client id and what proves it stay together: a source that says who signs in hides the
credentials of all sources behind it.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click
from attrs import define, field, frozen

from bandwidth_async.cli import profile_files, terminal
from bandwidth_async.cli.account_options import GIVEN, IN_FORCE
from bandwidth_async.errors import MissingCredentialsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from bandwidth_async.cli.profile_files import Profile

_WHO = ("BW_CLIENT_ID", "BW_USERNAME")
_SECRET = ("BW_CLIENT_SECRET", "BW_PASSWORD")
_CREDENTIALS = (*_WHO, *_SECRET)
_SETTINGS = ("BW_ACCOUNT_ID", *_CREDENTIALS, "BW_ENVIRONMENT", "BW_VOICE_URL", "BW_API_URL", "BW_REDIS_URL")


@frozen
class _Source:
    """What one source sets, by variable. ``asked_for`` says that the user named it in this command."""

    where: str
    # Some are secret.
    values: Mapping[str, str] = field(repr=False)
    called: Callable[[str], str]
    asked_for: bool = False


@define(slots=False)
class InForce:
    """The settings in force. ``origins`` has the source of each setting but for the profile's secret."""

    origins: Mapping[str, _Source]
    profile: Profile | None

    def get(self, variable: str) -> str:
        """Return a setting, or an empty text. The secret of a profile is in `variables` only."""
        return self.origins[variable].values[variable] if variable in self.origins else ""

    def named(self, variable: str) -> str:
        """Return what the user calls the setting: a variable, an option, or the key of a profile."""
        if variable in self.origins:
            return self.origins[variable].called(variable)
        if self.profile is not None and variable == "BW_CLIENT_SECRET" and self._secret_is_due:
            return self.profile.key(variable)
        return variable

    @cached_property
    def variables(self) -> dict[str, str]:
        """All settings, with the secret.

        Raises `MissingCredentialsError` if the profile names a secret that is not there.
        """
        found = {name: self.get(name) for name in self.origins}
        if self.profile is not None and self.profile.secret is not None and self._secret_is_due:
            found["BW_CLIENT_SECRET"] = self.profile.secret()
        return found

    @property
    def _secret_is_due(self) -> bool:
        """Whether the profile names who signs in, and nothing before it has the secret."""
        who = self.origins.get("BW_CLIENT_ID")
        own = self.profile is not None and who is not None and who.values is self.profile.values
        return own and "BW_CLIENT_SECRET" not in self.origins

    def account_id(self) -> str:
        """Return the account. Raises `MissingCredentialsError` if none is set."""
        if account_id := self.get("BW_ACCOUNT_ID"):
            return account_id
        if self.profile is not None and self.profile.accounts:
            which = ", ".join(self.profile.accounts)
            raise MissingCredentialsError(
                f"profile {self.profile.name} has no active account: give --account with one of {which}"
            )
        raise MissingCredentialsError(
            "BW_ACCOUNT_ID is not set; set it, with BW_CLIENT_ID and BW_CLIENT_SECRET, or give --account, "
            f"--env-file or --profile{_band_hint(self.profile)}"
        )

    def of_profile(self) -> str:
        """Return the words behind an account that name its profile, if the account comes from one."""
        source = self.origins.get("BW_ACCOUNT_ID")
        is_its = source is not None and self.profile is not None and source.values is self.profile.values
        return f" of profile {self.profile.name}" if self.profile is not None and is_its else ""

    def sources(self) -> Iterator[dict[str, str | None]]:
        """Yield each setting in force, its value, and where it comes from. A secret has no value."""
        if self.profile is not None:
            yield {"setting": "profile", "value": self.profile.name, "from": str(self.profile.file)}
        for name in _SETTINGS:
            if name in self.origins:
                yield {
                    "setting": name,
                    "value": _shown(name, self.get(name)),
                    "from": self.origins[name].where,
                }
            elif name == "BW_CLIENT_SECRET" and self.profile and self.profile.whence and self._secret_is_due:
                yield {
                    "setting": name,
                    "value": None,
                    "from": f"profile {self.profile.name}: {self.profile.whence}",
                }


def _band_hint(profile: Profile | None) -> str:
    if profile is None and profile_files.band_file(os.environ).exists():
        return f" (--profile {profile_files.BAND} takes the one of band)"
    return ""


def in_force() -> InForce:
    """Return the settings in force for this command. They are found out once.

    Raises `click.UsageError` for a file or profile that cannot be used.
    """
    context = click.get_current_context(silent=True)
    meta = context.meta if context else {}
    if IN_FORCE not in meta:
        meta[IN_FORCE] = _found_out(meta.get(GIVEN, {}))
    found: InForce = meta[IN_FORCE]
    return found


def _found_out(given: Mapping[str, Any]) -> InForce:
    sources = [
        _Source("--account", _set({"BW_ACCOUNT_ID": given.get("account", "")}), lambda _: "--account"),
        _Source("the environment", _set(os.environ), str),
    ]
    if "env_file" in given:
        file = given["env_file"]
        sources.append(
            _Source(str(file), _set(_read(file)), lambda name: f"{name} in {file}", asked_for=True)
        )
    name = given.get("profile") or next(filter(None, (one.values.get("BW_PROFILE") for one in sources)), "")
    asked_for = bool(name)
    set_already = {name for source in sources for name in source.values}
    if not name and not ("BW_ACCOUNT_ID" in set_already and set_already.intersection(_WHO)):
        name = profile_files.default_profile(os.environ) or ""
    profile = profile_files.profile(name, os.environ) if name else None
    if profile is not None:
        sources.append(_Source(f"profile {profile.name}", profile.values, profile.key, asked_for))
    origins = _origins(sources)
    _say_overruled(sources, origins)
    return InForce(origins, profile)


def _set(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of ours that are not empty."""
    return {name: variables[name] for name in (*_SETTINGS, "BW_PROFILE") if variables.get(name)}


def _origins(sources: list[_Source]) -> dict[str, _Source]:
    """Return the source of each setting."""
    origins: dict[str, _Source] = {}
    hidden: tuple[str, ...] = ("BW_PROFILE",)
    for source in sources:
        for name in source.values:
            if name not in hidden:
                origins.setdefault(name, source)
        if any(name in source.values for name in _WHO):
            hidden = ("BW_PROFILE", *_CREDENTIALS)
    return origins


def _say_overruled(sources: list[_Source], origins: Mapping[str, _Source]) -> None:
    """Say which settings of a file or profile that was asked for are not in force."""
    for source in (one for one in sources if one.asked_for):
        lost = [
            name
            for name, value in source.values.items()
            if name in origins and origins[name].values[name] != value and origins[name].where != "--account"
        ]
        hidden = [name for name in source.values if name in _CREDENTIALS and name not in origins]
        if hidden:
            who = next(one for one in origins.values() if any(name in one.values for name in _WHO))
            terminal.complain(
                f"{' and '.join(hidden)} of {source.where} is not used: {who.where} says who signs in"
            )
        told = [f"{name}{_instead(name, origins[name].values[name], source.values[name])}" for name in lost]
        if told:
            where = " and ".join(dict.fromkeys(origins[name].where for name in lost))
            terminal.complain(f"{source.where} is overruled by {where}: {', '.join(told)}")


def _shown(name: str, value: str) -> str | None:
    """Return a value, or None if it is or may contain a secret. A URL may have a name and password."""
    return None if name in _SECRET or "@" in value else value


def _instead(name: str, value: str, lost: str) -> str:
    shown = _shown(name, value), _shown(name, lost)
    return f" is {shown[0]}, not {shown[1]}" if None not in shown else ""


def _read(file: Path) -> dict[str, str]:
    """Return what a .env file sets. Nothing is expanded, and no shell reads it. Raises `click.UsageError`."""
    try:
        from dotenv.parser import parse_stream  # noqa: PLC0415 - only this option needs it
    except ImportError:
        raise click.UsageError("--env-file needs python-dotenv: pip install 'bandwidth-async[cli]'") from None
    try:
        with file.open(encoding="utf-8-sig") as stream:
            bindings = list(parse_stream(stream))
    except OSError as error:
        raise click.UsageError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{file} is not UTF-8") from error
    for binding in bindings:
        if binding.error:
            raise click.UsageError(f"{file}:{binding.original.line} is not NAME=value")
    found = {binding.key: binding.value for binding in bindings if binding.key and binding.value is not None}
    if any(found.get(name) for name in _SECRET) and not profile_files.is_private(file):
        terminal.complain(f"{file} has a secret, and other users may read or write it: chmod 600 it")
    return found
