"""Schema migrations of the registry, shipped with the package and run when a store is opened.

`HEAD` repeats the newest revision of ``versions`` so that opening a current database does not
have to import the migration library, which takes longer than everything else at start.
"""

from __future__ import annotations

HEAD = "r0001"
VERSION_TABLE = "alembic_version"

__all__ = ["HEAD", "VERSION_TABLE"]
