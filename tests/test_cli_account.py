"""Which account a command is about: profiles, band's configuration, .env files, and what wins."""

from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from bandwidth_async import VoiceClient
from bandwidth_async.cli import main
from bandwidth_async.cli.account import in_force
from tests.test_cli import ended, rows, sandbox

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bandwidth_async.sandbox import Sandbox

__all__ = ["sandbox"]

SETTINGS = (
    "ACCOUNT_ID",
    "CLIENT_ID",
    "CLIENT_SECRET",
    "USERNAME",
    "PASSWORD",
    "ENVIRONMENT",
    "VOICE_URL",
    "API_URL",
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty home directory of a user who has set no variable."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME")
    for name in SETTINGS:
        monkeypatch.delenv(f"BW_{name}", raising=False)
    return tmp_path


def configure(home: Path, text: str, mode: int = 0o600) -> Path:
    """Write our own configuration file."""
    file = home / ".config" / "bandwidth-async" / "config.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)
    return file


def use_band(home: Path, content: object, place: str = ".config/band") -> Path:
    """Write the configuration file of band."""
    file = home / place / "config.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


def a_profile(name: str, stand_in: Sandbox, **more: str) -> str:
    """Return the table of a profile for a sandbox."""
    values = {
        "account_id": stand_in.account_id,
        "client_id": stand_in.client_id,
        "voice_url": stand_in.url,
        "api_url": stand_in.url,
        **more,
    }
    return f"[profiles.{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


def settings(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, tuple[str | None, str]]:
    """Return the settings in force for a command line, each with where it comes from."""
    assert main([*arguments, "profiles", "--settings", "--format", "jsonl"]) == 0
    return {row["setting"]: (row["value"], row["from"]) for row in rows(capsys.readouterr().out)}


@pytest.fixture
def keychain(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], str]:
    """Replace the keychain of the system."""
    entries: dict[tuple[str, str], str] = {}
    module, errors = ModuleType("keyring"), ModuleType("keyring.errors")
    vars(errors)["KeyringError"] = type("KeyringError", (Exception,), {})
    vars(module).update(get_password=lambda *key: entries.get(key), errors=errors)
    monkeypatch.setitem(sys.modules, "keyring", module)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)
    return entries


PLACES = ["in the file", "in a file of its own", "in a variable", "in the keychain"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("before", [True, False], ids=["before", "behind"])
def test_a_profile_signs_in(
    home: Path,
    sandbox: Sandbox,
    keychain: dict[tuple[str, str], str],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    *,
    before: bool,
) -> None:
    """The secret may be in four places, and --profile before the command or behind it."""
    for name in sandbox.environ:
        monkeypatch.delenv(name)
    secret = sandbox.client_secret
    monkeypatch.setenv("MINE", secret)
    (home / "secret").write_text(f"{secret}\n")
    (home / "secret").chmod(0o600)
    keychain["mine", sandbox.client_id] = secret
    kinds = ("client_secret", "client_secret_file", "client_secret_env", "client_secret_keyring")
    texts = (secret, "~/secret", "MINE", "mine")
    which = PLACES.index(place)
    configure(home, a_profile("mine", sandbox, **{kinds[which]: texts[which]}))
    command = ["end", sandbox.conference_ids[0]]
    named = ["--profile", "mine"]
    assert main([*named, *command] if before else [*command, *named]) == 0
    assert ended(sandbox) == {sandbox.conference_ids[0]}


def test_an_option_wins_over_the_environment_over_the_file_over_the_profile(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings say where each comes from, and what of a file or profile does not hold is told."""
    configure(
        home, '[profiles.p]\naccount_id = 4\nclient_id = "p"\nenvironment = "test"\nvoice_url = "https://p"\n'
    )
    file = home / ".env"
    file.write_text("BW_ACCOUNT_ID=3\nBW_VOICE_URL=https://file\nBW_PROFILE=p\nOTHER=1\n")
    told = f"profile {'p'}", str(home / ".config/bandwidth-async/config.toml")
    assert settings(capsys, "--profile", "p")["BW_ACCOUNT_ID"] == ("4", told[0])
    assert settings(capsys, "--env-file", str(file)) == {
        "profile": ("p", told[1]),
        "BW_ACCOUNT_ID": ("3", str(file)),
        "BW_CLIENT_ID": ("p", told[0]),
        "BW_ENVIRONMENT": ("test", told[0]),
        "BW_VOICE_URL": ("https://file", str(file)),
    }
    monkeypatch.setenv("BW_ACCOUNT_ID", "2")
    assert main(["--env-file", str(file), "profiles", "--settings", "--format", "jsonl"]) == 0
    out, err = capsys.readouterr()
    assert {"setting": "BW_ACCOUNT_ID", "value": "2", "from": "the environment"} in rows(out)
    assert err.splitlines() == [
        f"bandwidth-async: {file} is overruled by the environment: BW_ACCOUNT_ID is 2, not 3",
        f"bandwidth-async: profile p is overruled by the environment and {file}: "
        "BW_ACCOUNT_ID is 2, not 4, BW_VOICE_URL is https://file, not https://p",
    ]
    assert settings(capsys, "--env-file", str(file), "--account", "1")["BW_ACCOUNT_ID"] == ("1", "--account")


def test_a_client_id_never_meets_the_secret_of_another_source(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client id in the environment hides the secret of the profile. A secret alone completes it."""
    configure(home, '[profiles.p]\naccount_id = 4\nclient_id = "p"\nclient_secret = "s"\n')
    monkeypatch.setenv("BW_CLIENT_SECRET", "other")
    assert settings(capsys, "--profile", "p")["BW_CLIENT_SECRET"] == (None, "the environment")
    monkeypatch.delenv("BW_CLIENT_SECRET")
    for who in ("BW_CLIENT_ID", "BW_USERNAME"):
        monkeypatch.setenv(who, "me")
        found = settings(capsys, "--profile", "p")
        assert found[who] == ("me", "the environment")
        assert "BW_CLIENT_SECRET" not in found
        assert main(["list", "--profile", "p"]) == 2
        monkeypatch.delenv(who)
        capsys.readouterr()


def test_the_default_profile_is_for_who_has_set_nothing(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With account and client id in the environment, our file is not even read."""
    configure(home, 'default = "p"\n[profiles.p]\naccount_id = "4"\nclient_id = "p"\n')
    assert settings(capsys)["BW_ACCOUNT_ID"] == ("4", "profile p")
    assert settings(capsys, "--account", "5")["BW_CLIENT_ID"] == ("p", "profile p")
    configure(home, "half = ")
    assert main(["list"]) == 6
    monkeypatch.setenv("BW_ACCOUNT_ID", "2")
    monkeypatch.setenv("BW_CLIENT_ID", "me")
    assert set(settings(capsys)) == {"BW_ACCOUNT_ID", "BW_CLIENT_ID"}


def test_the_title_of_a_run_names_the_account_and_its_profile(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A profile that has not said the account is not named beside it."""
    configure(home, 'default = "p"\n[profiles.p]\naccount_id = "4"\nclient_id = "p"\n')
    assert in_force().of_profile() == " of profile p"
    monkeypatch.setenv("BW_ACCOUNT_ID", "5")
    assert in_force().of_profile() == ""


# --- files that are not right ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[profiles.p]\nclient_secret = "s3cr', "is not TOML: "),
        ('[profiles.p]\nacount_id = "1"\n', "has 'acount_id'; a profile may have account_id, client_id, "),
        ('[profiles.p]\nclient_id = 7\nclient_secret="s3cr"', "client_id has to be a text in quotes"),
        ('[profiles.p]\nclient_secret = "s3cr"\nclient_secret_env = "X"\n', "give one of them"),
        ('profiles = "p"', "write each profile as a table, [profiles.NAME]"),
        ('profile = "p"', "has 'profile' beside default and [profiles.NAME]"),
        ("default = 3", "default is the name of a profile"),
        ('[profiles.q]\naccount_id = "1"\n', "there is no profile 'p' in "),
    ],
)
def test_a_configuration_that_is_not_right_is_told_and_nothing_is_sent(
    home: Path, capsys: pytest.CaptureFixture[str], text: str, sentence: str
) -> None:
    """One sentence with the file, exit 6, and no secret in it."""
    file = configure(home, text)
    assert main(["list", "--profile", "p"]) == 6
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line
    assert str(file) in line
    assert "s3cr" not in line


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_secret_that_others_can_read_or_write_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str], mode: int
) -> None:
    """Both in our file and in a file of its own. A file without a secret may be anybody's to read."""
    table = '[profiles.p]\naccount_id = 4\nclient_id = "p"\n'
    refused = "has a secret, and other users may read or write it: chmod 600 it"
    configure(home, table + 'client_secret = "s"\n', mode)
    assert main(["list", "--profile", "p"]) == 6
    assert refused in capsys.readouterr().err
    configure(home, table, mode)
    assert settings(capsys, "--profile", "p")["BW_ACCOUNT_ID"][0] == "4"
    configure(home, table + 'client_secret_file = "~/secret"\n', mode)
    (home / "secret").write_text("s")
    (home / "secret").chmod(mode)
    assert main(["list", "--profile", "p"]) == 6
    assert refused in capsys.readouterr().err


def test_an_env_file_is_read_and_never_run(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quotes, export, comments and a byte order mark are understood. Nothing is expanded."""
    monkeypatch.setenv("WHO", "me")
    file = home / ".env"
    file.write_bytes(
        b'\xef\xbb\xbf# x\r\nexport BW_ACCOUNT_ID = "77" # comment\r\nBW_CLIENT_ID=$(touch run)${WHO}`id`\n'
        b"BW_CLIENT_SECRET='a b#$WHO'\r\nBW_VOICE_URL=\r\nJUST_A_NAME\r\n"
    )
    found = settings(capsys, "--env-file", str(file))
    assert {name: value for name, (value, _) in found.items()} == {
        "BW_ACCOUNT_ID": "77",
        "BW_CLIENT_ID": "$(touch run)${WHO}`id`",
        "BW_CLIENT_SECRET": None,
    }
    file.chmod(0o644)
    assert main(["--env-file", str(file), "profiles"]) == 0
    assert "other users may read or write it: chmod 600 it" in capsys.readouterr().err
    file.write_text("BW_ACCOUNT_ID=1\nBW_CLIENT_SECRET='s3cr\n")
    for name, sentence in (
        (file, ".env:2 is not NAME=value"),
        (home, "Is a directory"),
        (home / "x", "No such file"),
    ):
        assert main(["list", "--env-file", str(name)]) == 6
        err = capsys.readouterr().err
        assert sentence in err
        assert "s3cr" not in err


@pytest.mark.parametrize("option", ["--profile", "--account"])
def test_an_option_without_a_value_is_no_default(
    home: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    """A variable of a script that is not set must not lead to another account."""
    configure(home, 'default = "p"\n[profiles.p]\naccount_id = "4"\nclient_id = "p"\n')
    assert main(["list", option, ""]) == 6
    assert f"Invalid value for '{option}'" in capsys.readouterr().err


# --- band -----------------------------------------------------------------------------------------------

TWO = {
    "active_profile": "admin",
    "profiles": {
        "admin": {"client_id": "CLI-1", "account_id": "55", "accounts": ["55"], "environment": "test"},
        "many": {"client_id": "CLI-2", "accounts": ["56", "57"], "roles": []},
    },
    "format": "json",
}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("band", TWO, ("55", "CLI-1", "test")),
        ("band:admin", TWO, ("55", "CLI-1", "test")),
        ("admin", TWO, ("55", "CLI-1", "test")),
        ("many", TWO, (None, "CLI-2", None)),
        ("band", {"client_id": "CLI-9", "account_id": "9", "format": "json"}, ("9", "CLI-9", None)),
    ],
)
@pytest.mark.parametrize("place", [".config/band", ".band"])
def test_the_profiles_of_band_are_ours_to_read(
    home: Path,
    capsys: pytest.CaptureFixture[str],
    place: str,
    name: str,
    content: Mapping[str, Any],
    expected: tuple[str | None, ...],
) -> None:
    """The active one is band. The older place and the older form without profiles count too."""
    file = use_band(home, content, place)
    before = file.read_bytes()
    found = settings(capsys, "--profile", name)
    assert (
        tuple(found.get(f"BW_{key}", (None,))[0] for key in ("ACCOUNT_ID", "CLIENT_ID", "ENVIRONMENT"))
        == expected
    )
    assert found["BW_CLIENT_SECRET"] == (None, f"profile {name}: keychain entry band-cli")
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, 6),
        ([1], 6),
        ({"profiles": 7}, 6),
        ({"active_profile": ["x"], "profiles": {"x": 3}}, 6),
        ({"profiles": {"default": {"client_id": 7, "account_id": {}, "accounts": 5}}}, 2),
    ],
)
def test_a_file_of_band_that_has_other_shapes_is_one_sentence(
    home: Path, capsys: pytest.CaptureFixture[str], content: object, code: int
) -> None:
    """Its format is not ours, and may change."""
    use_band(home, content)
    assert main(["list", "--profile", "band"]) == code
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "unexpected" not in err


def test_ours_wins_over_one_of_band_with_its_name(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And band: names the other one. The list has both."""
    use_band(home, TWO)
    configure(home, '[profiles.admin]\naccount_id = "1"\n')
    assert settings(capsys, "--profile", "admin")["BW_ACCOUNT_ID"][0] == "1"
    assert settings(capsys, "--profile", "band:admin")["BW_ACCOUNT_ID"][0] == "55"
    assert main(["profiles", "--profile", "band", "--format", "jsonl"]) == 0
    found = {row["profile"]: (row["account_id"], row["in_force"]) for row in rows(capsys.readouterr().out)}
    assert found == {"admin": ("1", False), "band:admin": ("55", True), "band:many": (None, False)}


@pytest.mark.parametrize("stored", ["{}", "go-keyring-base64:czNjcmV0", "go-keyring-encoded:7333637265740a"])
def test_the_secret_of_band_is_in_the_keychain(
    home: Path,
    sandbox: Sandbox,
    keychain: dict[tuple[str, str], str],
    monkeypatch: pytest.MonkeyPatch,
    stored: str,
) -> None:
    """Its entry is band-cli with the client id. On macOS band's library encodes it."""
    for name in ("BW_ACCOUNT_ID", "BW_CLIENT_ID", "BW_CLIENT_SECRET"):
        monkeypatch.delenv(name)
    use_band(
        home, {"profiles": {"default": {"client_id": sandbox.client_id, "account_id": sandbox.account_id}}}
    )
    keychain["band-cli", sandbox.client_id] = stored.format(sandbox.client_secret)
    # An encoded text with a line end is not a secret of this sandbox.
    assert main(["list", "--profile", "band"]) == (0 if stored == "{}" else 6 if "encoded" in stored else 2)


def test_what_band_and_the_keychain_lack_is_told(
    home: Path,
    keychain: dict[tuple[str, str], str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No entry, no account, no library, no band: each has a sentence that says what to do."""
    assert main(["list", "--profile", "band"]) == 6
    assert "sign in with band auth login" in capsys.readouterr().err
    use_band(home, TWO)
    assert main(["list"]) == 2
    assert "(--profile band takes the one of band)" in capsys.readouterr().err
    assert main(["list", "--profile", "band"]) == 2
    assert "the keychain has no entry band-cli of CLI-1" in capsys.readouterr().err
    assert main(["list", "--profile", "many"]) == 2
    assert "has no active account: give --account with one of 56, 57" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert main(["list", "--profile", "band"]) == 2
    assert "pip install 'bandwidth-async[keyring]', or set BW_CLIENT_SECRET" in capsys.readouterr().err
    assert not keychain


# --- what messages name ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (
            {"BW_VOICE_URL": "voice"},
            "BW_VOICE_URL must look like https://host or https://host:port, not 'voice'",
        ),
        ({"BW_API_URL": "http://example.com"}, "BW_API_URL is plain http"),
        ({"BW_CLIENT_ID": "a b:c"}, "BW_CLIENT_ID cannot contain a colon"),
        ({"BW_CLIENT_SECRET": "x "}, "BW_CLIENT_SECRET starts or ends with a blank"),
        ({"BW_ACCOUNT_ID": "9 9"}, "'9 9' is no account id (BW_ACCOUNT_ID)"),
        ({"BW_ENVIRONMENT": "lab"}, "BW_ENVIRONMENT is 'lab'"),
    ],
)
def test_a_message_names_what_was_set(
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    variables: Mapping[str, str],
    sentence: str,
) -> None:
    """The variable, or the key of the profile that has it."""
    whole = {"BW_ACCOUNT_ID": "9", "BW_CLIENT_ID": "me", "BW_CLIENT_SECRET": "s", **variables}
    keys = "".join(f"{name[3:].lower()} = {json.dumps(value)}\n" for name, value in whole.items())
    configure(home, f"[profiles.p]\n{keys}")
    assert main(["list", "--profile", "p"]) == 6
    (name,) = variables
    of_profile = sentence.replace(name, f"{name[3:].lower()} of profile p")
    assert capsys.readouterr().err.startswith(f"bandwidth-async: {of_profile}")
    for variable, value in whole.items():
        monkeypatch.setenv(variable, value)
    assert main(["list"]) == 6
    assert capsys.readouterr().err.startswith(f"bandwidth-async: {sentence}")


@pytest.mark.parametrize("forgotten", ["BW_VOICE_URL", "BW_API_URL"])
def test_one_host_that_was_forgotten_is_told(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, forgotten: str
) -> None:
    """A sandbox beside a host of Bandwidth is hardly what anybody means. It is said once."""
    monkeypatch.setenv("BW_ENVIRONMENT", "test")
    monkeypatch.delenv(forgotten)
    monkeypatch.setattr(VoiceClient, "from_env", _refuse)
    assert main(["list"]) == 1
    err = capsys.readouterr().err
    assert err.count(": is that meant?") == 1
    assert forgotten in err
    assert "test." in err
    assert sandbox.url in err


def _refuse(**_: object) -> None:
    raise OSError("nothing is sent")
