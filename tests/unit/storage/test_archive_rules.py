"""Names and links of archives, against naive models."""

from __future__ import annotations

import re
import zipfile
from pathlib import PurePosixPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pilotlight.storage.packages.archive import (
    LONGEST_PART,
    LONGEST_PATH,
    Rejected,
    Tree,
    check_links,
    kind_of,
    parts_of,
)

alphabet = st.sampled_from(["a", "b", ".", "..", "/", "//", "\\", "\x00", "é", "C:", " ", "\ud800"])
names = st.lists(alphabet, max_size=8).map("".join)


def naive(name: str) -> list[str] | str:
    """The parts by pathlib, or the reason for refusing."""
    if name == "" or chr(0) in name:
        return "name"
    if name[0] in "/\\" or re.match(r"[a-zA-Z]:[/\\]", name):
        return "absolute-path"
    if ".." in re.split(r"[/\\]", name):
        return "parent-path"
    if any("\ud800" <= character <= "\udfff" for character in name):
        return "name"
    parts = list(PurePosixPath(name).parts)
    sizes = [len(part.encode()) for part in parts]
    too_long = max(sizes, default=0) > LONGEST_PART or sum(sizes) + len(sizes) > LONGEST_PATH
    return "name" if too_long else parts


@given(names | st.text(max_size=30) | st.text("a/", min_size=200, max_size=1200))
@example("a/../b")
@example("a\\..\\b")
@example("...")
@example("./a//b/.")
@example("/")
@example("C:\\x")
def test_names_are_judged_as_the_naive_model_does(name: str) -> None:
    expected = naive(name)
    if isinstance(expected, str):
        with pytest.raises(Rejected) as caught:
            parts_of(name)
        assert caught.value.reason == expected
        assert str(caught.value).isprintable()
    else:
        assert parts_of(name) == expected


@given(names)
def test_an_accepted_name_stays_below_the_root(name: str) -> None:
    try:
        parts = parts_of(name)
    except Rejected:
        return
    assert all(part not in ("", ".", "..") and "/" not in part for part in parts)


paths = st.lists(st.sampled_from("abc"), min_size=1, max_size=3)
kinds = st.sampled_from(["file", "folder", "link"])


def compatible(accepted: list[tuple[list[str], str]], parts: list[str], kind: str) -> bool:
    """Naive: compares an entry with all accepted before."""
    for other, other_kind in accepted:
        shorter, longer = sorted((other, parts), key=len)
        above = other_kind if shorter == other else kind
        if other == parts and not other_kind == kind == "folder":
            return False
        if other != parts and longer[: len(shorter)] == shorter and above != "folder":
            return False
    return True


@given(st.lists(st.tuples(paths, kinds), max_size=8))
def test_a_path_is_one_thing(entries: list[tuple[list[str], str]]) -> None:
    tree = Tree(most=1000)
    accepted: list[tuple[list[str], str]] = []
    for parts, kind in entries:
        if compatible(accepted, parts, kind):
            assert tree.add(parts, kind, "x") == "/".join(parts)
            accepted.append((parts, kind))
        else:
            with pytest.raises(Rejected) as caught:
                tree.add(parts, kind, "x")
            assert caught.value.reason == "duplicate"
            return


def test_folders_that_are_only_implied_are_counted() -> None:
    tree = Tree(most=10)
    with pytest.raises(Rejected) as caught:
        tree.add(["d"] * 12, "file", "x")
    assert caught.value.reason == "count"


def test_case_makes_another_name() -> None:
    tree = Tree(most=10)
    tree.add(["a"], "file", "a")
    tree.add(["A"], "file", "A")


steps = st.lists(st.sampled_from(["a", "b", "c", "..", "."]), min_size=1, max_size=5)


@given(st.dictionaries(paths.map("/".join), steps.map("/".join), max_size=4))
@example({"a": "b/..", "b": "c/c/c"})
@example({"a": "a"})
@example({"a/b": "../../a"})
@example({"a": "b", "b": ".."})
def test_links_that_pass_never_leave_the_tree(links: dict[str, str]) -> None:
    try:
        check_links(links)
    except Rejected:
        return
    for path in links:
        assert not leaves(path.split("/"), links, hops=0)


def leaves(path: list[str], links: dict[str, str], hops: int) -> bool:
    """Naive and recursive: whether following ``path`` ever climbs above the root."""
    if hops > 60:
        return True
    place: list[str] = []
    for index, part in enumerate(path):
        if part == "..":
            if not place:
                return True
            place.pop()
        elif part not in ("", "."):
            place.append(part)
        target = links.get("/".join(place)) if part not in ("", ".", "..") else None
        if target is not None:
            onward = [*place[:-1], *target.split("/"), *path[index + 1 :]]
            return leaves(onward, links, hops + 1)
    return False


@pytest.mark.parametrize("target", ["../x", "a/../../x", "..", "b/../../.."])
def test_links_out_of_the_tree_are_refused(target: str) -> None:
    with pytest.raises(Rejected, match="leads out"):
        check_links({"link": target})


@pytest.mark.parametrize("target", ["b", "sub/../b", "./sub", "missing"])
def test_links_inside_are_accepted(target: str) -> None:
    check_links({"link": target, "sub/deep/up": "../../b"})


@given(st.integers(0, 0xFFFF), st.sampled_from([0, 3, 10, 19]))
def test_only_files_folders_and_links_are_kinds(mode: int, system: int) -> None:
    info = zipfile.ZipInfo("x")
    info.create_system, info.external_attr = system, mode << 16
    harmless = mode & 0o170000 in (0, 0o100000, 0o040000, 0o120000)
    if system in (3, 19) and not harmless:
        with pytest.raises(Rejected) as caught:
            kind_of(info, "x")
        assert caught.value.reason == "device"
    else:
        assert kind_of(info, "x") in ("file", "folder", "link")
