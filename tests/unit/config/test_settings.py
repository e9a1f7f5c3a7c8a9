"""Settings: sources and their order, every fault at once, secrets hidden."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.config import Address, load_settings
from pilotlight.config.parsers import address
from pilotlight.config.settings import Settings, document, settings_table
from pilotlight.model.errors import ConfigurationError
from pilotlight.model.function import Isolation


def load(tmp_path: Path, flags: Mapping[str, object] | None = None, **variables: str) -> Settings:
    return load_settings(flags, environment=variables, directory=tmp_path)


def test_defaults_are_those_of_the_design(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings.listen == Address("127.0.0.1", 9700)
    assert settings.url_address == Address("127.0.0.1", 9701)
    assert settings.account_id == "000000000000"
    assert settings.region == "us-east-1"
    assert settings.isolation is Isolation.CONTAINER
    assert settings.async_.retry_base_delay_s == 60
    assert settings.data_dir == tmp_path / ".pilotlight"


def test_flags_beat_variables_beat_the_file(tmp_path: Path) -> None:
    (tmp_path / "pilotlight.toml").write_text(
        'region = "eu-west-1"\nkeep_alive_s = 5\naccount_id = "111111111111"\n'
        "[async]\nretry_base_delay_s = 2\n"
    )
    settings = load(
        tmp_path,
        {"region": "ap-south-1", "listen": None},
        PILOTLIGHT_REGION="eu-north-1",
        PILOTLIGHT_KEEP_ALIVE_S="7",
        PILOTLIGHT_AWS__ENDPOINT_URL="http://127.0.0.1:4566",
    )
    assert settings.region == "ap-south-1"
    assert settings.keep_alive_s == 7
    assert settings.account_id == "111111111111"
    assert settings.async_.retry_base_delay_s == 2
    assert settings.aws.endpoint_url == "http://127.0.0.1:4566"


def test_all_faults_of_all_sources_are_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "pilotlight.toml").write_text('isolaton = "container"\n[logs]\nlevel = "loud"\n')
    with pytest.raises(ConfigurationError) as caught:
        load(
            tmp_path,
            {"listen": "nowhere"},
            PILOTLIGHT_CONCURRENCY_LIMIT="0",
            PILOTLIGHT_ASYNC__RETRIES="1",
        )
    text = str(caught.value)
    assert "pilotlight.toml: isolaton: there is no such setting; did you mean isolation?" in text
    assert "pilotlight.toml: [logs] level = 'loud'; allowed: one of debug, info" in text
    assert "--listen = 'nowhere'; allowed: HOST:PORT" in text
    assert "PILOTLIGHT_CONCURRENCY_LIMIT = '0'; allowed: a whole number from 1 to" in text
    assert "PILOTLIGHT_ASYNC__RETRIES: there is no such setting" in text


def test_a_fault_in_a_source_that_is_overridden_is_still_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="PILOTLIGHT_REGION"):
        load(tmp_path, {"region": "eu-west-1"}, PILOTLIGHT_REGION="Mars!")


def test_secrets_are_neither_in_faults_nor_in_repr(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, PILOTLIGHT_ROOT_SECRET_ACCESS_KEY="tiny secret")  # noqa: S106  (invented)
    assert "tiny secret" not in str(caught.value)
    secret = "s" * 40
    settings = load(
        tmp_path,
        PILOTLIGHT_ROOT_ACCESS_KEY_ID="A" * 20,
        PILOTLIGHT_ROOT_SECRET_ACCESS_KEY=secret,
        PILOTLIGHT_AWS__ACCESS_KEY_ID="B" * 20,
        PILOTLIGHT_AWS__SECRET_ACCESS_KEY=secret,
    )
    assert secret not in repr(settings)


@pytest.mark.parametrize(
    ("variables", "part"),
    [
        ({"PILOTLIGHT_ROOT_ACCESS_KEY_ID": "A" * 20}, "both or neither"),
        ({"PILOTLIGHT_LISTEN": "0.0.0.0:9700"}, "allowed_hosts"),
        ({"PILOTLIGHT_URL_LISTEN": "127.0.0.1:9700"}, "another port"),
        ({"PILOTLIGHT_LISTEN": "127.0.0.1:65535"}, "url_listen"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, variables: dict[str, str], part: str) -> None:
    with pytest.raises(ConfigurationError, match=part):
        load(tmp_path, None, **variables)


def test_port_0_gives_function_urls_port_0_too(tmp_path: Path) -> None:
    assert load(tmp_path, {"listen": "127.0.0.1:0"}).url_address.port == 0


def test_relative_paths_of_a_file_start_at_the_file(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    file = tmp_path / "etc" / "other.toml"
    file.write_text('data_dir = "state"\n[runtimes]\nextra = ["py/bin/python3"]\n')
    settings = load_settings({}, config_file=file, environment={}, directory=tmp_path)
    assert settings.data_dir == tmp_path / "etc" / "state"
    assert settings.runtimes.extra == (tmp_path / "etc" / "py/bin/python3",)


def test_a_named_file_must_exist_and_be_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no configuration file"):
        load(tmp_path, PILOTLIGHT_CONFIG="absent.toml")
    (tmp_path / "pilotlight.toml").write_text("region = \n")
    with pytest.raises(ConfigurationError, match="not valid TOML"):
        load(tmp_path)


def test_substitution_is_on_by_default_only_on_loopback(tmp_path: Path) -> None:
    assert load(tmp_path).substitutes
    open_host = {"listen": "0.0.0.0:9700", "allowed_hosts": "lambda.example"}
    assert not load(tmp_path, open_host).substitutes
    assert load(tmp_path, open_host, PILOTLIGHT_RUNTIMES__SUBSTITUTE="yes").substitutes
    assert not load(tmp_path, PILOTLIGHT_RUNTIMES__SUBSTITUTE="false").substitutes


def test_host_names_are_the_listener_s_own_and_those_allowed(tmp_path: Path) -> None:
    names = load(tmp_path, {"listen": "[::1]:0", "allowed_hosts": "A.example, b"}).host_names
    assert {"localhost", "127.0.0.1", "[::1]", "a.example", "b"} == names


def test_only_limits_may_be_missing(tmp_path: Path) -> None:
    settings = load(tmp_path, {"allow_missing": "memory,cpu"})
    assert settings.allow_missing == {"memory", "cpu"}
    with pytest.raises(ConfigurationError, match="cpu, disk, memory, pids"):
        load(tmp_path, {"allow_missing": "seccomp"})


def test_the_table_names_every_key_and_no_secret_default() -> None:
    table = settings_table()
    assert "`async.retry_base_delay_s`" in table
    assert "`root_secret_access_key` | none" in table


def test_the_page_of_settings_is_fresh() -> None:
    page = Path(__file__).parents[3] / "docs" / "configuration.md"
    assert page.read_text() == document(), (
        "renew it: python -c 'from pilotlight.config.settings import document; "
        'print(document(), end="")\' > docs/configuration.md'
    )


@given(st.text(max_size=40))
def test_an_address_is_understood_or_refused(text: str) -> None:
    try:
        parsed = address().convert(text)
    except ValueError:
        return
    assert 0 <= parsed.port <= 65535
    assert address().convert(str(parsed)) == parsed
