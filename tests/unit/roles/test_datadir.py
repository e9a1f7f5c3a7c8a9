"""The data directory: one holder, a stable name, clear refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotlight.model.errors import ConfigurationError
from pilotlight.roles.datadir import open_data_dir


def test_it_is_made_with_its_folders_and_keeps_its_name(tmp_path: Path) -> None:
    first = open_data_dir(tmp_path / "data")
    assert first.blobs.is_dir()
    assert first.logs.is_dir()
    first.close()
    again = open_data_dir(tmp_path / "data")
    assert again.instance == first.instance
    again.close()


def test_two_holders_are_impossible_and_the_second_is_told_who_has_it(tmp_path: Path) -> None:
    first = open_data_dir(tmp_path / "data")
    with pytest.raises(ConfigurationError, match=r"in use by the running Pilotlight process \d+"):
        open_data_dir(tmp_path / "data")
    first.close()
    open_data_dir(tmp_path / "data").close()


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(ConfigurationError, match="--data-dir"):
        open_data_dir(tmp_path / "data")
