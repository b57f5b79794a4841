"""Settings from the ``BW_…`` environment variables, whose names Bandwidth's own tools use too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from bandwidth_async.credentials import BasicCredentials, ClientCredentials, Credentials
from bandwidth_async.errors import ConfigurationError, MissingCredentialsError

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def read_environment(variables: Mapping[str, str]) -> Environment:
    """Return the settings in ``variables``. An empty variable counts as not set.

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
            f"BW_ENVIRONMENT is {environment!r}; it can be 'prod' or 'test' (or 'uat', which means 'test')"
        )
    voice_url, api_url = hosts
    return Environment(
        account_id=account_id,
        credentials=_credentials(variables),
        voice_url=variables.get("BW_VOICE_URL") or voice_url,
        api_url=variables.get("BW_API_URL") or api_url,
    )


def _credentials(variables: Mapping[str, str]) -> Credentials:
    client_id, client_secret, username, password = (
        variables.get(name, "") for name in ("BW_CLIENT_ID", "BW_CLIENT_SECRET", "BW_USERNAME", "BW_PASSWORD")
    )
    if client_id and client_secret:
        return ClientCredentials(client_id, client_secret)
    if username and password:
        return BasicCredentials(username, password)
    if client_id or client_secret:
        missing = "BW_CLIENT_SECRET" if client_id else "BW_CLIENT_ID"
        raise MissingCredentialsError(f"{missing} is not set; OAuth2 needs BW_CLIENT_ID and BW_CLIENT_SECRET")
    raise MissingCredentialsError("no credentials are set; set BW_CLIENT_ID and BW_CLIENT_SECRET")
