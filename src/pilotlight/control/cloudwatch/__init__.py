"""CloudWatch Logs: the JSON protocol that log clients of AWS speak, over our own log store."""

from pilotlight.control.cloudwatch.groups import LogGroups
from pilotlight.control.cloudwatch.protocol import LogsProtocol

__all__ = ["LogGroups", "LogsProtocol"]
