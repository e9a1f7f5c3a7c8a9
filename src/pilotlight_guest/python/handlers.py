"""Finds the user's handler from its name, with Lambda's errors when it cannot.

Source: https://docs.aws.amazon.com/lambda/latest/dg/python-handler.html
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, Callable

from pilotlight_guest.python import faults
from pilotlight_guest.python.faults import Fault

Handler = Callable[[Any, Any], Any]


def resolve(name: str) -> Handler:
    """Import ``package.module.function`` or ``folder/module.function`` and return the function.

    Raises:
        Fault: the name, the module or the function is not there, or the code does not parse.
        BaseException: whatever else the module's own code raises.
    """
    module_name, dot, function = name.rpartition(".")
    if not dot:
        reason = "not enough values to unpack (expected 2, got 1)"
        raise Fault(faults.MALFORMED_HANDLER, f"Bad handler '{name}': {reason}")
    if module_name.split(".")[0] in sys.builtin_module_names:
        raise Fault(
            faults.BUILT_IN_MODULE,
            f"Cannot use built-in module {module_name} as a handler module",
        )
    module = _import(module_name)
    try:
        handler: Handler = getattr(module, function)
    except AttributeError:
        message = f"Handler '{function}' missing on module '{module_name}'"
        raise Fault(faults.HANDLER_NOT_FOUND, message) from None
    return handler


def _import(name: str) -> object:
    try:
        return importlib.import_module(name.replace("/", "."))
    except ImportError as exc:
        raise Fault(faults.IMPORT_MODULE, f"Unable to import module '{name}': {exc}") from exc
    except SyntaxError as exc:
        trace = [f'  File "{exc.filename}" Line {exc.lineno}\n    {exc.text}']
        raise Fault(faults.SYNTAX, f"Syntax error in module '{name}': {exc}", trace) from exc
