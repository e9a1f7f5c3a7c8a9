"""The data directory: one holder, a stable name, clear refusals."""

from __future__ import annotations

import stat
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


def test_other_users_may_only_pass_through(tmp_path: Path) -> None:
    (tmp_path / "data" / "logs").mkdir(parents=True, mode=0o755)  # as an earlier version made it
    (tmp_path / "data" / "lock").touch()
    data = open_data_dir(tmp_path / "data")
    modes = [stat.S_IMODE(f.stat().st_mode) for f in (data.root, data.blobs, data.cache, data.logs)]
    assert modes == [0o711, 0o700, 0o700, 0o700]
    data.close()


def test_a_directory_of_something_else_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "photos").touch()
    before = tmp_path.stat().st_mode
    with pytest.raises(ConfigurationError, match="no data directory of Pilotlight"):
        open_data_dir(tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["photos"]
    assert tmp_path.stat().st_mode == before


def test_what_a_user_prepared_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "credentials").touch()
    (tmp_path / "runtimes.json").touch()
    open_data_dir(tmp_path).close()


@pytest.mark.parametrize("name", ["lock", "blobs", "logs"])
def test_a_link_put_there_meanwhile_is_not_followed(tmp_path: Path, name: str) -> None:
    """The directory belongs to the service user, and root opens it."""
    open_data_dir(tmp_path / "data").close()
    victim = tmp_path / "victim"
    victim.write_text("precious") if name == "lock" else victim.mkdir(mode=0o755)
    place = tmp_path / "data" / name
    place.unlink() if name == "lock" else place.rmdir()
    place.symlink_to(victim)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        open_data_dir(tmp_path / "data")
    if name == "lock":
        assert victim.read_text() == "precious"
    else:
        assert stat.S_IMODE(victim.stat().st_mode) == 0o755
