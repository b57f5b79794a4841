"""Settings from the ``BW_…`` environment variables, whose names Bandwidth's own tools use too."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from attrs import frozen

from bandwidth_async.credentials import BasicCredentials, ClientCredentials, Credentials, check_credential
from bandwidth_async.errors import ConfigurationError, MissingCredentialsError
from bandwidth_async.http import origin
from bandwidth_async.wire import path_segment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from yarl import URL

    from bandwidth_async.settings import ClientSettings

_log = logging.getLogger("bandwidth_async.environment")

# For each environment, the URLs of the voice API and of the token endpoint. Bandwidth's command line has
# uat as another name of test.
HOSTS = {
    "prod": ("https://voice.bandwidth.com", "https://api.bandwidth.com"),
    "test": ("https://test.voice.bandwidth.com", "https://test.api.bandwidth.com"),
    "uat": ("https://test.voice.bandwidth.com", "https://test.api.bandwidth.com"),
}


@frozen(kw_only=True)
class Environment:
    """The account, the credentials and the URLs that the environment variables set."""

    account_id: str
    credentials: Credentials
    voice_url: str
    api_url: str

    def complete(self, settings: ClientSettings, named: Callable[[str], str] = str) -> ClientSettings:
        """Return a client's settings with what they leave out. They win over these.

        Logs a warning if only one host is Bandwidth's, as when one of ``BW_VOICE_URL`` and ``BW_API_URL`` was
        forgotten. Raises `ConfigurationError`, which names what was set as ``named`` does.
        """
        http = settings.get("allow_http", False)
        if "account_id" not in settings:
            path_segment(self.account_id, f"account id ({named('BW_ACCOUNT_ID')})")
            settings["account_id"] = self.account_id
        settings.setdefault("credentials", self.credentials)
        if "voice_url" in settings or "api_url" in settings:
            settings.setdefault("voice_url", self.voice_url)
            settings.setdefault("api_url", self.api_url)
            return settings
        voice = origin(self.voice_url, named("BW_VOICE_URL"), allow_http=http)
        api = origin(self.api_url, named("BW_API_URL"), allow_http=http)
        if _place(voice, 0) != _place(api, 1):
            _log.warning(
                "the conferences are at %s (%s), but the token comes from %s (%s): is that meant?",
                *(voice, named("BW_VOICE_URL"), api, named("BW_API_URL")),
            )
        return {**settings, "voice_url": self.voice_url, "api_url": self.api_url}


def _place(url: URL, number: int) -> str | None:
    """Return the environment of Bandwidth that a host belongs to, or None for any other host."""
    return next((name for name, hosts in HOSTS.items() if hosts[number] == str(url)), None)


def read_environment(variables: Mapping[str, str], named: Callable[[str], str] = str) -> Environment:
    """Return the settings in ``variables``. An empty variable counts as not set.

    An error names a variable as ``named`` does, which the user may have set elsewhere.

    ``BW_ENVIRONMENT`` is read as Bandwidth's command line reads it: in any case, and without blanks around.

    Bitwarden's tools use ``BW_CLIENT_ID``, ``BW_CLIENT_SECRET`` and ``BW_PASSWORD`` too. So nothing is
    read unless ``BW_ACCOUNT_ID`` is set. OAuth2 credentials win over a user name and password.

    Raises `MissingCredentialsError` if a variable has to be set, and `ConfigurationError` for a wrong value.
    """
    account_id = variables.get("BW_ACCOUNT_ID", "")
    if not account_id:
        raise MissingCredentialsError(
            "BW_ACCOUNT_ID is not set; set it, with BW_CLIENT_ID and BW_CLIENT_SECRET"
        )
    environment = variables.get("BW_ENVIRONMENT", "")
    hosts = HOSTS.get(environment.strip().lower() or "prod")
    if hosts is None:
        raise ConfigurationError(
            f"{named('BW_ENVIRONMENT')} is {environment!r}; "
            "it can be 'prod' or 'test' (or 'uat', which means 'test')"
        )
    voice_url, api_url = hosts
    return Environment(
        account_id=account_id,
        credentials=_credentials(variables, named),
        voice_url=variables.get("BW_VOICE_URL") or voice_url,
        api_url=variables.get("BW_API_URL") or api_url,
    )


def _credentials(variables: Mapping[str, str], named: Callable[[str], str]) -> Credentials:
    client_id, client_secret, username, password = (
        variables.get(name, "") for name in ("BW_CLIENT_ID", "BW_CLIENT_SECRET", "BW_USERNAME", "BW_PASSWORD")
    )
    if client_id and client_secret:
        check_credential(client_id, named("BW_CLIENT_ID"), colon=False)
        check_credential(client_secret, named("BW_CLIENT_SECRET"))
        return ClientCredentials(client_id, client_secret)
    if username and password:
        check_credential(username, named("BW_USERNAME"), colon=False)
        check_credential(password, named("BW_PASSWORD"))
        return BasicCredentials(username, password)
    if client_id or client_secret:
        missing = "BW_CLIENT_SECRET" if client_id else "BW_CLIENT_ID"
        raise MissingCredentialsError(f"{missing} is not set; OAuth2 needs BW_CLIENT_ID and BW_CLIENT_SECRET")
    raise MissingCredentialsError("no credentials are set; set BW_CLIENT_ID and BW_CLIENT_SECRET")
