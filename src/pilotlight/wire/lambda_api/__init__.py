"""The Lambda API on the wire: routes, parameters, constraints, answers and errors.

All of it is pure: bytes and strings in, values out, no I/O. The facts come from
`pilotlight.wire.lambda_model`, which is generated (decision D3).
"""

from pilotlight.wire.lambda_api.answers import HttpAnswer
from pilotlight.wire.lambda_api.failures import not_implemented, render_error, unknown_operation
from pilotlight.wire.lambda_api.parsing import parse
from pilotlight.wire.lambda_api.rendering import render
from pilotlight.wire.lambda_api.routing import Route, allowed_methods, route
from pilotlight.wire.lambda_api.validation import validate, violation

__all__ = [
    "HttpAnswer",
    "Route",
    "allowed_methods",
    "not_implemented",
    "parse",
    "render",
    "render_error",
    "route",
    "unknown_operation",
    "validate",
    "violation",
]
