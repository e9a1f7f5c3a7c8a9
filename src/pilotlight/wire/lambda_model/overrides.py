"""Where the service answers differently from its published model.

Each entry is a difference that was seen in answers of the service, or that AWS documents; the
generated tables stay a faithful copy of the model.
"""

from __future__ import annotations

STATUS: dict[str, int] = {
    # The model declares 200 and binds a member to the status; the service answers 204.
    "DeleteFunction": 204,
}
"""Operation: HTTP status of a success."""

ENUM_ORDER: dict[str, tuple[str, ...]] = {
    # The text of a violation lists the values in this order.
    "EventSourcePosition": ("LATEST", "AT_TIMESTAMP", "TRIM_HORIZON"),
    "InvokeMode": ("RESPONSE_STREAM", "BUFFERED"),
    "RecursiveLoop": ("Terminate", "Allow"),
}
"""Shape: its values in the order in which the service prints them."""

PATTERN: dict[str, str] = {
    "TaggableResource": (
        r"arn:(aws[a-zA-Z-]*):lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:"
        r"(function:[a-zA-Z0-9-_]+(:(\$LATEST|[a-zA-Z0-9-_]+))?|layer:([a-zA-Z0-9-_]+)"
        r"|code-signing-config:csc-[a-z0-9]{17}"
        r"|event-source-mapping:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}"
        r"-[0-9a-fA-F]{12}|capacity-provider:[a-zA-Z0-9-_]+)"
    ),
}
"""Shape: the pattern that the service checks and prints."""

MAXIMUM: dict[str, int] = {
    # The model's maxima are those of Lambda Managed Instances. For other functions AWS documents:
    # https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
    "EphemeralStorageSize": 10240,
    "MemorySize": 10240,
    "Timeout": 900,
}
"""Shape: largest value."""

UNCHECKED: frozenset[tuple[str, str]] = frozenset(
    {
        # An unknown runtime is refused later, with InvalidParameterValueException and another
        # text, because the value may also be the ARN of a runtime version.
        ("CreateFunctionRequest", "Runtime"),
        ("UpdateFunctionConfigurationRequest", "Runtime"),
    }
)
"""(Structure, member): constraints the service does not check in its protocol layer."""
