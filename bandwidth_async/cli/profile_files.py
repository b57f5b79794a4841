"""Profiles: named accounts in our own configuration file, and those of Bandwidth's command line, ``band``.

Both files are only read. What is known of those of ``band`` is its source code: https://github.com/Bandwidth/cli,
``internal/config/config.go`` and ``internal/auth/auth.go``.
"""

from __future__ import annotations

import base64
import json
import os
import stat
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from attrs import frozen

from bandwidth_async.errors import MissingCredentialsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

# The keys of a profile, and the variable that each stands for.
VARIABLES = {
    "account_id": "BW_ACCOUNT_ID",
    "client_id": "BW_CLIENT_ID",
    "client_secret": "BW_CLIENT_SECRET",
    "environment": "BW_ENVIRONMENT",
    "voice_url": "BW_VOICE_URL",
    "api_url": "BW_API_URL",
    "redis_url": "BW_REDIS_URL",
}
# Where the secret may be instead of in the file: a file of its own, a variable, an entry of the keychain.
_SECRETS = ("client_secret", "client_secret_file", "client_secret_env", "client_secret_keyring")

# The profiles of band, and what its keychain entries are named after.
BAND = "band"
_BAND_SERVICE = "band-cli"


@frozen(kw_only=True)
class Profile:
    """A profile: its ``values`` by variable, without the secret, and ``secret``, which reads that.

    ``whence`` says where the secret is. It is None, as ``secret`` is, if the profile names none.
    """

    name: str
    file: Path
    values: Mapping[str, str]
    secret: Callable[[], str] | None
    whence: str | None
    accounts: tuple[str, ...] = ()

    def key(self, variable: str) -> str:
        """Return what the user calls the profile's value of a variable."""
        return f"{_KEYS[variable]} of profile {self.name}"


_KEYS = {variable: key for key, variable in VARIABLES.items()}


def configuration_file(environ: Mapping[str, str]) -> Path:
    """Return our own file, below ``$XDG_CONFIG_HOME`` or ``~/.config``. A relative one is ignored.

    Source: https://specifications.freedesktop.org/basedir-spec/latest/
    """
    stated = Path(environ.get("XDG_CONFIG_HOME", ""))
    return (
        (stated if stated.is_absolute() else _home(environ) / ".config") / "bandwidth-async" / "config.toml"
    )


def band_file(environ: Mapping[str, str]) -> Path:
    """Return the file of band, which does not look at ``$XDG_CONFIG_HOME``."""
    new, old = (_home(environ) / place / "config.json" for place in (".config/band", ".band"))
    return old if old.exists() and not new.exists() else new


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("HOME") or os.path.expanduser("~"))


def default_profile(environ: Mapping[str, str]) -> str | None:
    """Return the profile that our file has as its ``default``. Raises `click.UsageError`."""
    return _own(configuration_file(environ))[0]


def profile(name: str, environ: Mapping[str, str]) -> Profile:
    """Return a profile by its name: ours, or else band's.

    ``band`` is the active one of band, and ``band:NAME`` is one of band although one of ours has that name.
    Raises `click.UsageError`.
    """
    own = configuration_file(environ)
    table = _own(own)[1].get(name)
    if table is not None:
        return _of_table(name, table, own)
    file = band_file(environ)
    active, bands = _bands(file)
    prefix, _, rest = name.partition(":")
    wanted = (rest or active) if prefix == BAND else name
    if wanted in bands:
        return _of_band(name, bands[wanted], file)
    if name == BAND and not bands:
        raise click.UsageError(f"band has no profile in {file}: sign in with band auth login")
    known = ", ".join(names(environ)) or "none"
    raise click.UsageError(f"there is no profile {name!r} in {own} or {file}; there is {known}")


def names(environ: Mapping[str, str]) -> list[str]:
    """Return the names of all profiles, ours first. Raises `click.UsageError`."""
    own = _own(configuration_file(environ))[1]
    return [*own, *(f"{BAND}:{name}" for name in _bands(band_file(environ))[1])]


# --- our own file ---------------------------------------------------------------------------------------


def _own(file: Path) -> tuple[str | None, dict[str, dict[str, Any]]]:
    """Return the default and the tables of our file. Raises `click.UsageError` if it cannot be used."""
    text = _text(file)
    if text is None:
        return None, {}
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise click.UsageError(f"{file} is not TOML: {error}") from error
    default, tables = found.pop("default", None), found.pop("profiles", {})
    if found:
        raise click.UsageError(f"{file} has {_listed(found)} beside default and [profiles.NAME]")
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise click.UsageError(f"{file}: write each profile as a table, [profiles.NAME]")
    if default is not None and not isinstance(default, str):
        raise click.UsageError(f"{file}: default is the name of a profile")
    if any("client_secret" in table for table in tables.values()):
        check_private(file)
    return default, tables


def _of_table(name: str, table: Mapping[str, Any], file: Path) -> Profile:
    where = f"profile {name} in {file}"
    if unknown := sorted(set(table) - {*VARIABLES, *_SECRETS}):
        known = ", ".join(dict.fromkeys((*VARIABLES, *_SECRETS)))
        raise click.UsageError(f"{where} has {_listed(unknown)}; a profile may have {known}")
    texts = {key: _value(value, key, where) for key, value in table.items()}
    secrets = [key for key in _SECRETS if key in texts]
    if len(secrets) > 1:
        raise click.UsageError(f"{where} has {_listed(secrets)}: give one of them")
    secret, whence = _secret(secrets[0], texts, where) if secrets else (None, None)
    values = {VARIABLES[key]: text for key, text in texts.items() if key not in _SECRETS and text}
    return Profile(name=name, file=file, values=values, secret=secret, whence=whence)


def _value(value: object, key: str, where: str) -> str:
    # An account id looks like a number.
    if key == "account_id" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise click.UsageError(f"{where}: {key} has to be a text in quotes")
    return value


def _secret(key: str, texts: Mapping[str, str], where: str) -> tuple[Callable[[], str], str]:
    """Return a function that reads the secret, and the words that say where it is."""
    text = texts[key]
    match key:
        case "client_secret_file":
            path = Path(text).expanduser()
            return lambda: _secret_in(path, where), str(path)
        case "client_secret_env":
            return lambda: _secret_of(os.environ.get(text, ""), f"the variable {text}", where), f"${text}"
        case "client_secret_keyring":
            user = texts.get("client_id", "")
            return lambda: from_keychain(text, user, where), f"keychain entry {text}"
        case _:
            return lambda: _secret_of(text, key, where), "in the file"


def _secret_in(path: Path, where: str) -> str:
    text = _text(path)
    if text is None:
        raise MissingCredentialsError(f"{where}: there is no file {path} with the secret")
    check_private(path)
    return _secret_of(text.strip("\r\n"), str(path), where)


def _secret_of(text: str, what: str, where: str) -> str:
    if not text:
        raise MissingCredentialsError(f"{where}: {what} has no secret")
    return text


# --- band -----------------------------------------------------------------------------------------------


def _bands(file: Path) -> tuple[str, dict[str, dict[str, Any]]]:
    """Return the active profile of band, and all its profiles. Raises `click.UsageError`."""
    text = _text(file)
    if text is None:
        return "default", {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise click.UsageError(f"{file} is not JSON: sign in again with band auth login") from None
    tables = found.get("profiles") if isinstance(found, dict) else None
    if isinstance(found, dict) and not tables and found.get("client_id"):
        # An older band has one profile only, and its keys on top.
        tables = {"default": found}
    if not isinstance(tables, dict):
        return "default", {}
    active = found.get("active_profile")
    bands = {name: table for name, table in tables.items() if isinstance(table, dict)}
    return active if active and isinstance(active, str) else "default", bands


def _of_band(name: str, table: Mapping[str, Any], file: Path) -> Profile:
    """Return a profile of band, whose secret is in the keychain."""
    given = {key: table.get(key) for key in ("account_id", "client_id", "environment")}
    values = {VARIABLES[key]: value for key, value in given.items() if isinstance(value, str) and value}
    user, where, accounts = values.get("BW_CLIENT_ID", ""), f"profile {name}", table.get("accounts")
    return Profile(
        name=name,
        file=file,
        values=values,
        secret=lambda: from_keychain(_BAND_SERVICE, user, where),
        whence=f"keychain entry {_BAND_SERVICE}",
        accounts=tuple(map(str, accounts)) if isinstance(accounts, list) else (),
    )


# --- files and the keychain -----------------------------------------------------------------------------


def _text(file: Path) -> str | None:
    """Return what a file has, or None if there is none. Raises `click.UsageError` if it cannot be read."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise click.UsageError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{file} is not UTF-8") from error


def is_private(file: Path) -> bool:
    """Return whether nobody but its owner may read or write a file, as far as its mode says."""
    return os.name == "nt" or not stat.S_IMODE(file.stat().st_mode) & 0o077


def check_private(file: Path) -> None:
    """Raise `click.UsageError` if others may use a file that has a secret."""
    if not is_private(file):
        raise click.UsageError(f"{file} has a secret, and other users may read or write it: chmod 600 it")


def from_keychain(service: str, user: str, where: str) -> str:
    """Return a secret from the keychain of the system.

    Raises `MissingCredentialsError` if it has none, or cannot be used.
    """
    try:
        import keyring  # noqa: PLC0415 - an extra
        from keyring.errors import KeyringError  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingCredentialsError(
            f"the secret of {where} is in the keychain: pip install 'bandwidth-async[keyring]', or set "
            "BW_CLIENT_SECRET"
        ) from None
    if service == _BAND_SERVICE and sys.platform == "win32":
        # Its entries have other names there, and bytes that the library takes for UTF-16.
        raise MissingCredentialsError(f"{where}: set BW_CLIENT_SECRET; on Windows its entry cannot be read")
    try:
        secret = keyring.get_password(service, user)
    except KeyringError as error:
        raise MissingCredentialsError(f"the secret of {where} is in the keychain: {error}") from error
    if not secret:
        raise MissingCredentialsError(
            f"{where}: the keychain has no entry {service} of {user or '(no client_id)'}"
        )
    return _decoded(secret)


def _decoded(secret: str) -> str:
    """Return a secret as it was before band's library stored it, which encodes it on macOS.

    Source: https://github.com/zalando/go-keyring, keyring_darwin.go
    """
    for prefix, decode in (("go-keyring-base64:", base64.b64decode), ("go-keyring-encoded:", bytes.fromhex)):
        if secret.startswith(prefix):
            try:
                return decode(secret.removeprefix(prefix)).decode()
            except ValueError:
                break
    return secret


def _listed(words: Iterable[str]) -> str:
    return ", ".join(map(repr, words))
