"""Lays the tree of one package over that of another."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def lay_over(source: Path, target: Path) -> None:
    """Make everything of ``source`` appear in ``target``, over what is there. Blocking.

    Both are trees of our own making on one file system: folders, plain files and links, nobody
    else writes there. Files are linked, not copied, and never changed afterwards. Where one tree
    has a folder and the other has not, the later one wins whole.

    Raises:
        OSError: the disk is full, or the trees are on different file systems.
    """
    for folder, names, files in os.walk(source):
        relative = os.path.relpath(folder, source)
        here = target if relative == "." else target / relative
        for name in (*names, *files):
            _place(Path(folder, name), here / name)


def _place(source: Path, target: Path) -> None:
    if source.is_dir() and not source.is_symlink():
        if target.is_symlink() or not target.is_dir():
            target.unlink(missing_ok=True)
            target.mkdir(mode=0o755)
        return
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
    os.link(source, target, follow_symlinks=False)
