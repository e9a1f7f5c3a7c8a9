"""The registry as the data plane sees it: in memory, fed by changes, saved on local disk (D6)."""

from pilotlight.dataplane.view.view import InProcessBarrier, RegistryView

__all__ = ["InProcessBarrier", "RegistryView"]
