"""Package intake: hostile archives are checked and unpacked in a confined process (D19)."""

from __future__ import annotations

from pilotlight.storage.packages.intake import PackageIntake, PackageLimits, blob_name

__all__ = ["PackageIntake", "PackageLimits", "blob_name"]
