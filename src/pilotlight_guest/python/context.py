"""The context object that a handler gets.

Source: https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
"""

from __future__ import annotations

import json
import time
from typing import Any, Callable

from pilotlight_guest.python import faults
from pilotlight_guest.python.faults import Fault

_W3C_FIELDS = ("traceparent", "tracestate", "baggage")


class _Record:
    """Named values out of a JSON object; missing ones are None."""

    __slots__: tuple[str, ...] = ()

    def __init__(self, values: dict[str, Any]) -> None:
        for name in self.__slots__:
            setattr(self, name, values.get(name))

    def __repr__(self) -> str:
        fields = ",".join(f"{name}={getattr(self, name)}" for name in self.__slots__)
        return f"{type(self).__name__}([{fields}])"


class CognitoIdentity(_Record):
    """The Cognito identity that authorised the request."""

    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")

    cognito_identity_id: Any
    cognito_identity_pool_id: Any


class Client(_Record):
    """What a mobile client says about itself."""

    __slots__ = (  # noqa: RUF023  # in the order that `repr` shows
        "installation_id",
        "app_title",
        "app_version_name",
        "app_version_code",
        "app_package_name",
    )


class ClientContext(_Record):
    """The client context of the request."""

    __slots__ = ("custom", "env", "client")  # noqa: RUF023  # in the order that `repr` shows

    custom: Any
    env: Any
    client: Any


class Facts:
    """What is equal in all invocations of an environment."""

    def __init__(self, init: dict[str, Any], log: Callable[[str], None]) -> None:
        self.function_name = init["function_name"]
        self.function_version = init["function_version"]
        self.memory_limit_in_mb = str(init["memory_mib"])
        self.log_group_name = init["log_group"]
        self.log_stream_name = init["log_stream"]
        self.log = log


class LambdaContext:
    """The second argument of a handler."""

    def __init__(
        self,
        facts: Facts,
        request_id: str,
        arn: str,
        deadline_ms: int,
        client_context: str | None,
        cognito_identity: str | None,
        tenant_id: str | None,
    ) -> None:
        self.aws_request_id = request_id
        self.log_group_name = facts.log_group_name
        self.log_stream_name = facts.log_stream_name
        self.function_name = facts.function_name
        self.memory_limit_in_mb = facts.memory_limit_in_mb
        self.function_version = facts.function_version
        self.invoked_function_arn = arn
        self.tenant_id = tenant_id
        self._log = facts.log
        self._epoch_deadline_time_in_ms = deadline_ms
        self._w3c_fields: dict[str, str] = {}
        self.client_context: ClientContext | None = None
        if client_context:
            self._set_client_context(_parsed(client_context, "Client Context"))
        self.identity = CognitoIdentity({})
        if cognito_identity:
            self._set_identity(_parsed(cognito_identity, "Cognito Identity"))

    def _set_client_context(self, values: Any) -> None:  # noqa: ANN401  # any JSON value
        if values is None:
            return
        if isinstance(values, dict):
            w3c = values.pop("w3c", None)
            if isinstance(w3c, dict):
                self._w3c_fields = {k: w3c[k] for k in _W3C_FIELDS if isinstance(w3c.get(k), str)}
        self.client_context = ClientContext(values)
        if self.client_context.client is not None:
            self.client_context.client = Client(self.client_context.client)

    def _set_identity(self, values: Any) -> None:  # noqa: ANN401  # any JSON value
        if values is not None:
            self.identity.cognito_identity_id = values.get("cognitoIdentityId")
            self.identity.cognito_identity_pool_id = values.get("cognitoIdentityPoolId")

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function is stopped, never negative."""
        return max(self._epoch_deadline_time_in_ms - int(time.time() * 1000), 0)

    def w3c(self) -> dict[str, str]:
        """W3C trace context that came with the request."""
        return dict(self._w3c_fields)

    def log(self, msg: object) -> None:
        """Write to the log of the function, as it is: no line end is added."""
        self._log(str(msg))

    def __repr__(self) -> str:
        names = (
            "aws_request_id",
            "log_group_name",
            "log_stream_name",
            "function_name",
            "memory_limit_in_mb",
            "function_version",
            "invoked_function_arn",
            "client_context",
            "identity",
            "tenant_id",
        )
        fields = ",".join(f"{name}={getattr(self, name)}" for name in names)
        return f"{type(self).__name__}([{fields}])"


def _parsed(text: str, name: str) -> Any:  # noqa: ANN401  # any JSON value
    try:
        return json.loads(text)
    except Exception as exc:
        message = f"Unable to parse {name} JSON: {exc}"
        raise Fault(faults.CONTEXT_UNMARSHAL, message) from exc
