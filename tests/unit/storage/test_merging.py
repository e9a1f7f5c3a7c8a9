"""One tree over another."""

from __future__ import annotations

from pathlib import Path

from pilotlight.dataplane.codecache.merging import lay_over


def tree(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    root.mkdir(exist_ok=True)
    return root


def content(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_later_files_win_and_folders_are_joined(tmp_path: Path) -> None:
    first = tree(tmp_path / "1", a__x="1", a__y="1", b="1")
    second = tree(tmp_path / "2", a__y="2", a__z="2")
    target = tree(tmp_path / "merged")
    lay_over(first, target)
    lay_over(second, target)
    assert content(target) == {"a/x": "1", "a/y": "2", "a/z": "2", "b": "1"}
    assert content(first) == {"a/x": "1", "a/y": "1", "b": "1"}
    assert (target / "a/y").samefile(second / "a/y")


def test_a_file_and_a_folder_of_one_name_are_not_mixed(tmp_path: Path) -> None:
    first = tree(tmp_path / "1", a__x="1", b="1")
    second = tree(tmp_path / "2", a="2", b__y="2")
    target = tree(tmp_path / "merged")
    lay_over(first, target)
    lay_over(second, target)
    assert content(target) == {"a": "2", "b/y": "2"}


def test_links_are_taken_over_and_never_followed(tmp_path: Path) -> None:
    outside = tree(tmp_path / "outside", private="s")
    first = tree(tmp_path / "1", x="1")
    (first / "link").symlink_to(outside)
    second = tree(tmp_path / "2", link__y="2")
    target = tree(tmp_path / "merged")
    lay_over(first, target)
    assert (target / "link").is_symlink()
    lay_over(second, target)
    assert not (target / "link").is_symlink()
    assert content(outside) == {"private": "s"}
    assert content(target) == {"x": "1", "link/y": "2"}
