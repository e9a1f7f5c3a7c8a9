"""Staging: buckets that deployment tools upload code to before a function names it."""

from pilotlight.control.staging.objects import Missing, Staging
from pilotlight.control.staging.protocol import StagingProtocol

__all__ = ["Missing", "Staging", "StagingProtocol"]
