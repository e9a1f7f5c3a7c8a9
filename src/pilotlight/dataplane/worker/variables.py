"""What a runtime is told: the INIT document, and the head of each invocation.

Pure. Variables and who may set them:
https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pilotlight.model.function import FunctionVersion, LogFormat
from pilotlight.model.invocation import Invocation

_HEAD_FIELDS = 6
_HEAD_BYTES_MAX = 65_535
_LONGEST_FIELD = _HEAD_BYTES_MAX // _HEAD_FIELDS // 4
"""Characters a field may keep when a head is too long: four bytes each at most."""

_PLACEHOLDER_KEY = "AKIAPILOTLIGHTNOROLE"
"""Stands where the credentials of the function's role will: SDK clients can be made at import, and
a call with them is refused by whoever is called."""


def log_stream_name(version: str, environment: str, wall_s: float) -> str:
    """Name of an environment's log stream, ``2026/11/24/[$LATEST]<environment>``."""
    return f"{datetime.fromtimestamp(wall_s, UTC):%Y/%m/%d}/[{version}]{environment}"


@dataclass(frozen=True, slots=True)
class Roots:
    """Where a sandbox has the function's package and its merged layers."""

    task: str = "/var/task"
    opt: str = "/opt"


def process_environment(
    function: FunctionVersion,
    *,
    own: Mapping[str, str],
    roots: Roots,
    log_stream: str,
    extra: Mapping[str, str],
) -> dict[str, str]:
    """The whole environment of a function's process.

    The user's variables win over the defaults that may be changed and never over the reserved
    ones, whatever the API let through.
    """
    return (
        _changeable(function, roots.opt)
        | dict(extra)
        | dict(own)
        | _reserved(function, roots.task, log_stream)
    )


def _changeable(function: FunctionVersion, opt: str) -> dict[str, str]:
    names = {
        "LANG": "en_US.UTF-8",
        "LC_CTYPE": "C.UTF-8",
        "TZ": ":UTC",
        "PATH": f"/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:{opt}/bin",
        "LD_LIBRARY_PATH": "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib"
        f":/var/task:/var/task/lib:{opt}/lib",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000",
        "SHLVL": "0",
    }
    if (function.runtime or "").startswith("python"):
        names["PYTHONPATH"] = _python_path(function, opt)
    return names


def _python_path(function: FunctionVersion, opt: str) -> str:
    """The runtime's folder; before it the layers, where they are not at the place it knows."""
    if opt == Roots().opt:
        return "/var/runtime"
    return f"{opt}/python/lib/{function.runtime}/site-packages:{opt}/python:/var/runtime"


def _reserved(function: FunctionVersion, task_root: str, log_stream: str) -> dict[str, str]:
    names = {
        "_HANDLER": function.handler or "",
        "AWS_DEFAULT_REGION": function.region,
        "AWS_REGION": function.region,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{function.runtime}",
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mib),
        "AWS_LAMBDA_FUNCTION_VERSION": function.version,
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": function.logging.log_group,
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
        "AWS_ACCESS_KEY_ID": _PLACEHOLDER_KEY,
        "AWS_SECRET_ACCESS_KEY": "not-a-secret",
        "AWS_SESSION_TOKEN": "not-a-session",
        "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001",
        "LAMBDA_TASK_ROOT": task_root,
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "PWD": task_root,
        "_AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1",
        "_AWS_XRAY_DAEMON_PORT": "2000",
    }
    if function.logging.log_format is LogFormat.JSON:
        names["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
        names["AWS_LAMBDA_LOG_LEVEL"] = function.logging.application_level or "INFO"
    return names


def init_document(
    function: FunctionVersion,
    *,
    own: Mapping[str, str],
    roots: Roots,
    log_stream: str,
    extra: Mapping[str, str],
) -> bytes:
    """Body of the INIT frame; its members are ``frames.INIT_KEYS``."""
    environment = process_environment(
        function, own=own, roots=roots, log_stream=log_stream, extra=extra
    )
    document = {
        "handler": function.handler or "",
        "environment": environment,
        "task_root": roots.task,
        "function_name": function.name,
        "function_version": function.version,
        "memory_mib": function.memory_mib,
        "log_group": function.logging.log_group,
        "log_stream": log_stream,
        "log_format": function.logging.log_format.value,
        "log_level": function.logging.application_level,
    }
    return json.dumps(document, separators=(",", ":")).encode()


def invoke_head(invocation: Invocation) -> bytes:
    """Head of an INVOKE frame. Fields can't break out of their place, whatever a caller sent."""
    fields = (
        invocation.request_id,
        invocation.invoked_arn,
        invocation.trace_id,
        invocation.client_context,
        "",
        "",
    )
    head = "\0".join(fields).encode("utf-8", "replace")
    if head.count(b"\0") == _HEAD_FIELDS - 1 and len(head) <= _HEAD_BYTES_MAX:
        return head
    safe = [field.replace("\0", "") for field in fields]
    if len(head) > _HEAD_BYTES_MAX:
        safe = [field[:_LONGEST_FIELD] for field in safe]
    return "\0".join(safe).encode("utf-8", "replace")
