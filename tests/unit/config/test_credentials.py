"""Root credentials and how a client finds its server."""

from __future__ import annotations

import configparser
import stat
from pathlib import Path

import pytest

from pilotlight.config import Settings, load_settings
from pilotlight.config.credentials import read_credentials, root_credentials
from pilotlight.config.target import find_target, read_endpoint, remove_endpoint, write_endpoint
from pilotlight.model.errors import ConfigurationError

KEYS = {
    "PILOTLIGHT_ROOT_ACCESS_KEY_ID": "ROOTROOTROOTROOTROOT",
    "PILOTLIGHT_ROOT_SECRET_ACCESS_KEY": "r" * 40,
}
AWS = {"AWS_ACCESS_KEY_ID": "AWSAWSAWSAWSAWSAWSAW", "AWS_SECRET_ACCESS_KEY": "a" * 40}


def settings(tmp_path: Path, **variables: str) -> Settings:
    return load_settings({"data_dir": tmp_path / "data"}, environment=variables, directory=tmp_path)


def test_first_start_makes_credentials_in_aws_form_for_the_owner_alone(tmp_path: Path) -> None:
    made = root_credentials(settings(tmp_path))
    file = tmp_path / "data" / "credentials"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert made.access_key_id.startswith("AKIA")
    assert len(made.access_key_id) == 20
    assert len(made.secret_access_key) == 40
    ini = configparser.ConfigParser()
    ini.read(file)
    assert ini["default"]["aws_access_key_id"] == made.access_key_id
    assert [path.name for path in file.parent.iterdir()] == ["credentials"]


def test_a_second_start_finds_the_same_credentials(tmp_path: Path) -> None:
    first = root_credentials(settings(tmp_path))
    assert root_credentials(settings(tmp_path)) == first


def test_given_credentials_win_and_nothing_is_written(tmp_path: Path) -> None:
    assert root_credentials(settings(tmp_path, **KEYS)).access_key_id.startswith("ROOT")
    assert not (tmp_path / "data").exists()


def test_the_secret_is_not_in_repr(tmp_path: Path) -> None:
    made = root_credentials(settings(tmp_path))
    assert made.secret_access_key not in repr(made)


def test_a_file_open_to_others_or_damaged_is_refused(tmp_path: Path) -> None:
    root_credentials(settings(tmp_path))
    file = tmp_path / "data" / "credentials"
    file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        read_credentials(file)
    file.chmod(0o600)
    file.write_text("[default]\naws_access_key_id = AKIA\n")
    with pytest.raises(ConfigurationError, match="aws_secret_access_key"):
        read_credentials(file)


def test_a_client_finds_the_running_server_of_its_data_directory(tmp_path: Path) -> None:
    root_credentials(settings(tmp_path))
    data_dir = tmp_path / "data"
    write_endpoint(data_dir, api_url="http://127.0.0.1:1234", url_base="http://127.0.0.1:1235")
    target = find_target(data_dir=data_dir, environment=AWS | {"AWS_ENDPOINT_URL": "http://x"})
    assert target.endpoint == "http://127.0.0.1:1234"
    assert target.access_key_id.startswith("AKIA")
    assert target.secret_access_key not in repr(target)
    remove_endpoint(data_dir)
    remove_endpoint(data_dir)
    assert read_endpoint(data_dir) == {}
    assert find_target(data_dir=data_dir, environment={}).endpoint == "http://127.0.0.1:9700"


def test_exported_aws_variables_go_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exported = AWS | {"AWS_ENDPOINT_URL": "http://h:1/", "AWS_REGION": "eu-west-1"}
    target = find_target(environment=exported)
    assert (target.endpoint, target.region) == ("http://h:1", "eu-west-1")
    assert target.access_key_id.startswith("AWS")
    assert find_target(environment=exported | KEYS).access_key_id.startswith("ROOT")


def test_keys_of_the_data_directory_beat_stray_aws_keys(tmp_path: Path) -> None:
    root_credentials(settings(tmp_path))
    target = find_target(data_dir=tmp_path / "data", environment=AWS)
    assert target.access_key_id.startswith("AKIA")


def test_without_keys_the_error_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="pilotlight up"):
        find_target(data_dir=tmp_path / "none", environment={})
    with pytest.raises(ConfigurationError, match="not a URL"):
        find_target(endpoint="127.0.0.1:9700", data_dir=tmp_path, environment=KEYS)
