"""The native API's description, served at ``/api/v1/openapi.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final


def _parameter(name: str, kind: str, text: str, *, required: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "required": required,
        "description": text,
        "schema": {"type": kind},
    }


def _get(summary: str, parameters: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    answer = {"description": "JSON", "content": {"application/json": {}}}
    return {
        "get": {
            "summary": summary,
            "parameters": parameters or [],
            "responses": {"200": answer, "400": answer, "403": answer},
            "security": [{"sigv4": []}, {"oidc": []}],
        }
    }


def _change(method: str, summary: str, **members: dict[str, Any]) -> dict[str, Any]:
    """A call that changes something; ``members`` are those of its body."""
    answer = {"description": "JSON", "content": {"application/json": {}}}
    described: dict[str, Any] = {
        "summary": summary,
        "responses": dict.fromkeys(("200", "201", "400", "403", "404", "409"), answer),
        "security": [{"sigv4": []}, {"oidc": []}],
    }
    if members:
        schema = {"type": "object", "properties": members, "additionalProperties": False}
        described["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    else:
        described["parameters"] = [
            {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
        ]
    return {method: described}


_PATH_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
_LOG_PARAMETERS = [
    _parameter("function", "string", "Name of the function.", required=True),
    _parameter("request_id", "string", "Only lines of this invocation."),
    _parameter("start", "number", "Seconds since 1970, inclusive."),
    _parameter("end", "number", "Seconds since 1970, exclusive."),
    _parameter("text", "string", "Words that must all occur."),
    _parameter("after_id", "integer", "Only lines stored after this one."),
    _parameter("limit", "integer", "At most this many lines, up to 10000."),
    _parameter("order", "string", "'oldest' (first) or 'newest'."),
]

_AUDIT_PARAMETERS = [
    _parameter("account", "string", "Only calls of this account."),
    _parameter("access_key", "string", "Only calls with this key, claimed ones included."),
    _parameter("operation", "string", "Only calls of this operation."),
    _parameter("request_id", "string", "Only this call."),
    _parameter("start", "number", "Seconds since 1970, inclusive."),
    _parameter("end", "number", "Seconds since 1970, exclusive."),
    _parameter("after_id", "integer", "Only entries stored after this one."),
    _parameter("limit", "integer", "At most this many entries, up to 10000."),
]

DOCUMENT: Final[Mapping[str, Any]] = {
    "openapi": "3.1.0",
    "info": {"title": "Pilotlight native API", "version": "1"},
    "components": {
        "securitySchemes": {
            "sigv4": {
                "type": "apiKey",
                "in": "header",
                "name": "Authorization",
                "description": "AWS Signature Version 4, service name lambda.",
            },
            "oidc": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": "A token of one of the issuers in [oidc].",
            },
        }
    },
    "paths": {
        "/api/v1/accounts": _get("Accounts beside the installation's own; root credentials only.")
        | _change(
            "post",
            "Make an account.",
            name={"type": "string"},
            id={"type": "string", "description": "Twelve digits; drawn by chance otherwise."},
        ),
        "/api/v1/accounts/{id}": _change("delete", "Delete an account that has nothing any more."),
        "/api/v1/keys": _get(
            "Access keys without their secrets; root credentials only.",
            [_parameter("account", "string", "Only keys of this account.")],
        )
        | _change("post", "Make a key; its secret is shown once.", account={"type": "string"}),
        "/api/v1/keys/{id}": _change("delete", "Delete a key; it is refused from then on."),
        "/api/v1/audit": _get(
            "Calls of the control plane, oldest first; for the root credentials.", _AUDIT_PARAMETERS
        ),
        "/api/v1/logs": _get("Lines that functions wrote.", _LOG_PARAMETERS),
        "/api/v1/status": _get("Version, isolation, runtimes and what is missing."),
        "/api/v1/functions/{name}/environments": _get(
            "Execution environments of a function.", [_PATH_NAME]
        ),
    },
}
