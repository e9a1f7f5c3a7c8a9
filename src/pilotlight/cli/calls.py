"""Any operation of the Lambda API by its name, sent as the API's model says."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from pilotlight.cli.client import Client
from pilotlight.wire.lambda_model import model

_LABEL = re.compile(r"\{([^}]+)\}")


def call(client: Client, operation: str, **params: Any) -> dict[str, Any]:  # noqa: ANN401
    """Call an operation with parameters by the API's names; None leaves one out.

    Raises:
        NoServer: it cannot be reached.
        ServerAnswer: it answered with an error.
        ValueError: the operation has no such parameter.
    """
    described = model.operation(operation)
    members = {member.name: member for member in model.structure(described.input).members}
    given = {name: value for name, value in params.items() if value is not None}
    unknown = given.keys() - members.keys()
    if unknown:
        raise ValueError(f"{operation} has no parameter {', '.join(sorted(unknown))}")
    labels: dict[str, str] = {}
    query: dict[str, str] = {}
    body: dict[str, Any] = {}
    for name, value in given.items():
        member = members[name]
        if member.location == "uri":
            labels[member.wire_name] = quote(str(value), safe="")
        elif member.location == "querystring":
            query[member.wire_name] = str(value)
        else:
            body[member.wire_name] = value
    path, _, fixed = described.uri.partition("?")
    if fixed:
        query |= dict([fixed.split("=", 1)])
    path = _LABEL.sub(lambda match: labels[match[1]], path)
    if body or described.method in ("POST", "PUT"):
        return client.send_query(described.method, path, query, body)
    return client.call(described.method, path, query=query).json()
