"""How a command fails: what happened and what to do, in the words of its user."""

from __future__ import annotations

from pilotlight.model.errors import PlatformError


class CommandFailed(PlatformError):
    """A command could not do what was asked.

    Args:
        message: what happened, and where.
        remedy: what to do about it; may be several lines.
    """

    code = "CommandFailed"

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message if not remedy else f"{message}\n{remedy}")
        self.message = message
        self.remedy = remedy


class ServerAnswer(CommandFailed):
    """The server refused; ``error`` is the API's error code."""

    def __init__(self, *, error: str, status: int, message: str, request_id: str) -> None:
        where = f" (request {request_id})" if request_id else ""
        super().__init__(f"{error}: {message}{where}")
        self.error = error
        self.status = status


class NoServer(CommandFailed):
    """Nothing answers at the endpoint."""


class WrongKeys(ServerAnswer):
    """The server does not know the keys, or they do not fit."""
