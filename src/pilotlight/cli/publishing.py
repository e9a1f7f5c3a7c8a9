"""The calls that make a deployed function look like its project, whatever was there before."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from pilotlight.cli.client import FUNCTIONS, Client, function_path
from pilotlight.cli.errors import CommandFailed, ServerAnswer
from pilotlight.cli.urls import reachable, url_path
from pilotlight.config.project import Project
from pilotlight.kernel.system import SystemClock
from pilotlight.ports.clock import Clock

ISOLATION_TAG = "pilotlight:isolation"
READY_WITHIN_S = 120.0
POLL_S = 0.1


class Publisher:
    """Publishes one project to one server. Each step is idempotent: a failed deploy is repeated.

    Args:
        client: for the server.
        project: what to publish.
        step: told what is being done.
        clock: for the patience.
    """

    def __init__(
        self,
        client: Client,
        project: Project,
        step: Callable[[str], None],
        clock: Clock | None = None,
    ) -> None:
        self._client = client
        self._project = project
        self._step = step
        self._clock = clock or SystemClock()
        self._path = function_path(project.name)

    def publish(self, package: bytes) -> dict[str, Any]:
        """Create the function, or update what differs; return its configuration when ready.

        Raises:
            CommandFailed: the server refused, or the function did not become active.
        """
        current = self._current()
        code = base64.b64encode(package).decode()
        if current is None:
            self._step(f"creating {self._project.name}")
            tags = {ISOLATION_TAG: self._project.isolation} if self._project.isolation else {}
            content = self._configuration() | {
                "FunctionName": self._project.name,
                "Code": {"ZipFile": code},
                "Tags": tags,
            }
            self._client.send("POST", FUNCTIONS, content)
            return self._wait()
        current = self._wait()
        if current.get("CodeSha256") != base64.b64encode(hashlib.sha256(package).digest()).decode():
            self._step(f"updating the code of {self._project.name}")
            self._client.send("PUT", self._path + "/code", {"ZipFile": code})
            current = self._wait()
        if self._differs(current):
            self._step(f"updating the configuration of {self._project.name}")
            self._client.send("PUT", self._path + "/configuration", self._configuration())
            current = self._wait()
        self._tag(str(current["FunctionArn"]))
        return current

    def publish_url(self) -> str:
        """Give the function its public URL, once; return an address that needs no DNS."""
        self._step(f"giving {self._project.name} its URL")
        url = self._url()
        if url is None:
            made = self._client.send("POST", url_path(self._project.name), {"AuthType": "NONE"})
            url = str(made["FunctionUrl"])
        permission = {
            "StatementId": "FunctionURLAllowPublicAccess",
            "Action": "lambda:InvokeFunctionUrl",
            "Principal": "*",
            "FunctionUrlAuthType": "NONE",
        }
        try:
            self._client.send("POST", self._path + "/policy", permission)
        except ServerAnswer as exc:
            if exc.error != "ResourceConflictException":  # it has the permission already
                raise
        return reachable(url)

    def _configuration(self) -> dict[str, object]:
        """The project in the API's words."""
        project = self._project
        return {
            "Runtime": project.runtime,
            "Handler": project.handler,
            "Role": project.role,
            "Description": project.description,
            "MemorySize": project.memory_mib,
            "Timeout": project.timeout_s,
            "EphemeralStorage": {"Size": project.ephemeral_mib},
            "Environment": {"Variables": dict(project.environment)},
        }

    def _differs(self, current: dict[str, Any]) -> bool:
        wanted = self._configuration()
        have = {name: current.get(name) for name in wanted}
        have["Environment"] = {"Variables": (have["Environment"] or {}).get("Variables") or {}}
        have["Description"] = have["Description"] or ""
        return have != wanted

    def _current(self) -> dict[str, Any] | None:
        try:
            return self._client.get(self._path + "/configuration")
        except ServerAnswer as exc:
            if exc.error != "ResourceNotFoundException":
                raise
            return None

    def _url(self) -> str | None:
        try:
            return str(self._client.get(url_path(self._project.name))["FunctionUrl"])
        except ServerAnswer as exc:
            if exc.error != "ResourceNotFoundException":
                raise
            return None

    def _tag(self, arn: str) -> None:
        """Ask for the project's isolation where it names one that the function does not have."""
        if self._project.isolation is None:
            return
        tags = self._client.get(self._path).get("Tags") or {}
        if tags.get(ISOLATION_TAG) == self._project.isolation:
            return
        path = f"/2017-03-31/tags/{quote(arn, safe='')}"
        self._client.send("POST", path, {"Tags": {ISOLATION_TAG: self._project.isolation}})

    def _wait(self) -> dict[str, Any]:
        """Return the configuration once the function is active and its update done.

        Raises:
            CommandFailed: it failed, or it takes too long.
        """
        end = self._clock.monotonic() + READY_WITHIN_S
        while True:
            current = self._client.get(self._path + "/configuration")
            state = current.get("State") or "Active"
            update = current.get("LastUpdateStatus") or "Successful"
            if state in {"Active", "Inactive"} and update == "Successful":
                return current
            if state == "Failed" or update == "Failed":
                reason = current.get("StateReason") or current.get("LastUpdateStatusReason")
                raise CommandFailed(
                    f"{self._project.name} failed: {reason or 'the server gave no reason'}",
                    f"See more with: pilotlight describe {self._project.name}",
                )
            if self._clock.monotonic() >= end:
                raise CommandFailed(
                    f"{self._project.name} is still {state}/{update} after {READY_WITHIN_S:g} s.",
                    f"Look again with: pilotlight describe {self._project.name}",
                )
            self._step(f"waiting for {self._project.name}: {state}, {update}")
            time.sleep(POLL_S)
