"""What ``pilotlight up --demo`` shows: a function deployed, invoked cold and warm, and what to try."""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from pilotlight.cli.client import Client, function_path
from pilotlight.cli.output import progress, say
from pilotlight.cli.publishing import Publisher
from pilotlight.config.project import Project
from pilotlight.config.target import Target
from pilotlight.kernel.system import SystemClock

if TYPE_CHECKING:
    from pilotlight.config import Settings
    from pilotlight.config.credentials import Credentials
    from pilotlight.roles import Addresses

NAME = "hello"
_LOG_WITHIN_S = 5.0
_SOURCE = '''"""The sample function of `make up`."""

import platform


def handler(event, context):
    name = (event.get("queryStringParameters") or event).get("name", "world")
    print(f"greeting {name}")
    return {"message": f"Hello, {name}!", "python": platform.python_version()}
'''
_EVENT = b'{"name": "flame"}'


class Demonstration:
    """Shows a fresh platform at work. Safe to repeat on a data directory that has the function."""

    def __init__(
        self, settings: Settings, addresses: Addresses, credentials: Credentials, here: Path
    ) -> None:
        self._here = here
        self._data_dir = settings.data_dir
        target = Target(
            endpoint=addresses.api,
            region=settings.region,
            access_key_id=credentials.access_key_id,
            secret_access_key=credentials.secret_access_key,
            origin="this start",
        )
        self._client = Client(target)
        self._clock = SystemClock()

    def run(self) -> None:
        """Deploy, invoke, print.

        Raises:
            CommandFailed: a step failed; the platform serves on.
        """
        project = Project(name=NAME, runtime=_own_runtime(), handler="app.handler", url=True)
        with progress(f"deploying the sample function {NAME}") as step:
            publisher = Publisher(self._client, project, step)
            publisher.publish(_package(f"{_SOURCE}\n# deployed {self._clock.wall():.0f}\n"))
            url = publisher.publish_url()
        say("")
        self._invoke("cold")
        self._invoke("warm")
        say("\nTry it:\n")
        for line in self._hints(url):
            say(f"  {line}")
        say("\nCtrl-C ends it.")

    def _invoke(self, kind: str) -> None:
        started = self._clock.monotonic()
        answer = self._client.call("POST", function_path(NAME, "invocations"), body=_EVENT)
        taken_ms = (self._clock.monotonic() - started) * 1e3
        say(f"{kind}: {answer.body.decode()}")
        request_id = answer.headers.get("x-amzn-requestid", "")
        say(f"      {taken_ms:.1f} ms at the client; {self._breakdown(request_id)}")

    def _breakdown(self, request_id: str) -> str:
        """Phases of an invocation, from the lines that the platform logged for it."""
        end = self._clock.monotonic() + _LOG_WITHIN_S
        query = {"function": NAME, "request_id": request_id}
        while True:
            answer = self._client.get("/api/v1/logs", query)
            lines = [str(line["text"]) for line in answer.get("lines", [])]
            report = next((line for line in lines if line.startswith("REPORT ")), None)
            if report is not None or self._clock.monotonic() > end:
                break
            time.sleep(0.05)
        cold = next((line for line in lines if line.startswith("COLD_START ")), "")
        facts = _fields(cold, "RequestId") | _fields(
            report or "", "REPORT", "Memory Size", "Billed"
        )
        return ", ".join(f"{name.lower()} {value}" for name, value in facts.items())

    def _hints(self, url: str) -> list[str]:
        data = self._data_dir
        shown = data.relative_to(self._here) if data.is_relative_to(self._here) else data
        pilotlight = ".venv/bin/pilotlight"
        where = f" --data-dir {shown}" if str(shown) != ".pilotlight" else ""
        return [
            f'{pilotlight} invoke {NAME}{where} --payload \'{{"name": "you"}}\' --log',
            f'eval "$({pilotlight} env{where})" && aws lambda invoke --function-name {NAME} /dev/stdout',
            f"curl '{url}?name=you'",
        ]


def _own_runtime() -> str:
    from pilotlight.roles.reports import own_runtime

    return own_runtime()


def _fields(line: str, *without: str) -> dict[str, str]:
    """``Name: value`` parts of a platform line, those left out that start with one of ``without``."""
    parts = [part.partition(": ") for part in line.split("\t")[1:]]
    if line.startswith("COLD_START"):
        parts.insert(0, ("start", ": ", line.split("\t", maxsplit=1)[0].rpartition("Start: ")[2]))
    return {n: v for n, sep, v in parts if sep and not n.startswith(without)}


def _package(source: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("app.py", source)
    return buffer.getvalue()
