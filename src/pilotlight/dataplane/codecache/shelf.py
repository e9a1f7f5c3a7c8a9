"""The cache's folder on disk: what is where, and what is left after an interruption. Blocking.

::

    <root>/<digest>/         a tree, complete from the moment it has this name
    <root>/_facts/<digest>   size and bytecode of a tree, as JSON
    <root>/_boot             the boot of the host in which the trees were written
    <root>/_incoming/        trees being unpacked
    <root>/_outgoing/        trees being removed

Trees are not synced to disk, which would cost more than unpacking them again. So they are trusted
only within the boot that wrote them: after a power cut a renamed folder may hold empty files.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pilotlight.model.ids import Digest

log = logging.getLogger(__name__)

_DIGEST = re.compile(r"[0-9a-f]{64}")
_BLOCK = 512  # unit of st_blocks
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one tree: bytes on disk, and the bytecode tags compiled into it."""

    size_bytes: int
    tags: frozenset[str]


def is_digest(text: str) -> bool:
    """Whether a name is that of a tree, so that it can be used in a path."""
    return _DIGEST.fullmatch(text) is not None


class Shelf:
    """The folders of the cache."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._facts = root / "_facts"
        self._incoming = root / "_incoming"
        self._outgoing = root / "_outgoing"
        self._serial = itertools.count()

    def open(self) -> dict[Digest, Facts]:
        """Make the folders, remove what is interrupted or not to be trusted, list the rest."""
        self.root.mkdir(parents=True, exist_ok=True)
        # A sandbox's user is not ours: it must be able to pass through to its tree.
        self.root.chmod(0o755)
        for folder in (self._incoming, self._outgoing):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in (self._facts, self._incoming, self._outgoing):
            folder.mkdir(exist_ok=True, mode=0o700)
        if not self._same_boot():
            for entry in self._trees():
                self.remove(entry)
            self._write(self.root / "_boot", _boot_id())
        return self._load()

    def incoming(self) -> Path:
        """A path for a new tree that nobody else uses; nothing is made."""
        return self._incoming / f"tree-{next(self._serial)}"

    def measure(self, code: Digest, tree: Path, tags: frozenset[str]) -> Facts:
        """Measure a complete tree and write down what is known of it."""
        facts = Facts(_size(tree), tags)
        known = {"size_bytes": facts.size_bytes, "tags": sorted(facts.tags)}
        self._write(self._facts / code, json.dumps(known))
        return facts

    def publish(self, code: Digest, tree: Path) -> None:
        """Give a complete, measured tree its name."""
        tree.rename(self.root / code)

    def set_aside(self, code: Digest) -> Path:
        """Take a tree's name away at once; what remains is removed with `discard`."""
        aside = self._outgoing / f"tree-{next(self._serial)}"
        (self.root / code).rename(aside)
        return aside

    def discard(self, folder: Path) -> None:
        """Remove a folder that is no tree of the cache (any more)."""
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            log.warning("code_cache_folder_left", extra={"folder": str(folder)})

    def remove(self, code: Digest) -> None:
        """Remove a tree and its facts."""
        self.discard(self.set_aside(code))
        self.forget(code)

    def forget(self, code: Digest) -> None:
        """Remove the facts of a tree."""
        (self._facts / code).unlink(missing_ok=True)

    def _load(self) -> dict[Digest, Facts]:
        found: dict[Digest, Facts] = {}
        for code in self._trees():
            facts = self._read(code)
            if facts is None:
                self.remove(code)
            else:
                found[code] = facts
        for path in list(self._facts.iterdir()):
            if path.name not in found:
                path.unlink()
        return found

    def _trees(self) -> list[Digest]:
        return [Digest(entry.name) for entry in self.root.iterdir() if is_digest(entry.name)]

    def _read(self, code: Digest) -> Facts | None:
        try:
            known = json.loads((self._facts / code).read_bytes())
            return Facts(int(known["size_bytes"]), frozenset(map(str, known["tags"])))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _same_boot(self) -> bool:
        try:
            return (self.root / "_boot").read_text() == _boot_id() != ""
        except OSError:
            return False

    def _write(self, path: Path, text: str) -> None:
        descriptor, temporary = tempfile.mkstemp(dir=self._incoming)
        with os.fdopen(descriptor, "w") as out:
            out.write(text)
        Path(temporary).rename(path)


def _boot_id() -> str:
    """Identity of this boot; "" where the host does not tell, which trusts no earlier tree."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _size(tree: Path) -> int:
    """Bytes a tree takes on disk. Links are not followed."""
    total = 0
    for folder, _, files in os.walk(tree):
        for name in (".", *files):
            total += os.lstat(f"{folder}/{name}").st_blocks * _BLOCK
    return total
