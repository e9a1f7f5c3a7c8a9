#!/usr/bin/env python3
"""Generate the tables of the Lambda API from botocore's service model (decision D3).

Reads ``service-2.json`` of the botocore that ``requirements/dev.lock`` pins and writes Python
modules that hold nothing but literals, so the platform itself needs no botocore at run time.
The output depends on the model alone: running twice changes nothing.

Usage:
    python scripts/generate_lambda_api.py            write the modules
    python scripts/generate_lambda_api.py --check    exit 1 if they are stale, write nothing
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import botocore
import botocore.loaders

TARGET = Path(__file__).resolve().parent.parent / "src/pilotlight/wire/lambda_model"
API_VERSION = "2015-03-31"

Model = Mapping[str, Any]


def load_model() -> Model:
    """Read the service model that ships with the installed botocore."""
    model: Model = botocore.loaders.Loader().load_service_model("lambda", "service-2", API_VERSION)
    return model


def literal(value: object) -> str:
    """Write a value as Python source with double quotes, as the formatter does."""
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        if not escaped.isprintable():
            raise ValueError(f"the model holds a string this script cannot write: {value!r}")
        return f'"{escaped}"'
    if isinstance(value, tuple):
        items = ", ".join(literal(item) for item in value)
        return f"({items},)" if len(value) == 1 else f"({items})"
    return repr(value)


def table(name: str, annotation: str, comment: str, rows: Iterator[tuple[str, object]]) -> str:
    """Write one dictionary, a row a line, with its docstring."""
    lines = [f"    {literal(key)}: {literal(row)}," for key, row in sorted(rows)]
    return "\n".join([f"{name}: {annotation} = {{", *lines, "}", f'"""{comment}"""', ""])


def operations(model: Model) -> Iterator[tuple[str, object]]:
    """Rows of (method, URI template, status, input shape, output shape or None)."""
    for name, operation in model["operations"].items():
        http = operation["http"]
        output = operation.get("output", {}).get("shape")
        status = http.get("responseCode", 200)
        shape = operation["input"]["shape"]
        yield name, (http["method"], http["requestUri"], status, shape, output)


def of_type(model: Model, *types: str) -> Iterator[tuple[str, Model]]:
    """Shapes of the given types that are no errors."""
    for name, shape in model["shapes"].items():
        if shape["type"] in types and not shape.get("exception"):
            yield name, shape


def members(shape: Model) -> tuple[object, ...]:
    """Rows of (member, shape, location, name on the wire, required)."""
    required = shape.get("required", ())
    return tuple(
        (
            name,
            member["shape"],
            member.get("location", ""),
            member.get("locationName", name),
            name in required,
        )
        for name, member in shape["members"].items()
    )


def structures(model: Model) -> Iterator[tuple[str, object]]:
    """Rows of (payload member or None, members)."""
    for name, shape in of_type(model, "structure"):
        yield name, (shape.get("payload"), members(shape))


def lists(model: Model) -> Iterator[tuple[str, object]]:
    """Rows of (shape of a member, min, max)."""
    for name, shape in of_type(model, "list"):
        yield name, (shape["member"]["shape"], shape.get("min"), shape.get("max"))


def maps(model: Model) -> Iterator[tuple[str, object]]:
    """Rows of (shape of keys, shape of values, min, max, sensitive)."""
    for name, shape in of_type(model, "map"):
        ends = shape["key"]["shape"], shape["value"]["shape"]
        yield name, (*ends, shape.get("min"), shape.get("max"), shape.get("sensitive", False))


SCALARS = ("string", "integer", "long", "double", "float", "boolean", "timestamp", "blob")


def scalars(model: Model) -> Iterator[tuple[str, object]]:
    """Rows of (type, min, max, pattern, enum, sensitive)."""
    for name, shape in of_type(model, *SCALARS):
        yield (
            name,
            (
                shape["type"],
                shape.get("min"),
                shape.get("max"),
                shape.get("pattern"),
                tuple(shape.get("enum", ())),
                shape.get("sensitive", False),
            ),
        )


def errors(model: Model) -> Iterator[tuple[str, object]]:
    """Rows of (status, sender's fault, name of the message member, other members)."""
    for name, shape in model["shapes"].items():
        if not shape.get("exception"):
            continue
        message = next(member for member in shape["members"] if member.lower() == "message")
        others = tuple(
            row
            for row in members(shape)
            if isinstance(row, tuple) and row[0] not in {message, "Type"}
        )
        error = shape["error"]
        sender = error.get("senderFault", not shape.get("fault", False))
        yield name, (error["httpStatusCode"], sender, message, others)


HEADER = '''"""{title}

Generated by scripts/generate_lambda_api.py from the service model of botocore {version};
do not edit. Decision D3.
"""

# fmt: off
from __future__ import annotations

'''

MEMBERS = "tuple[tuple[str, str, str, str, bool], ...]"
LIMITS = "float | None, float | None"


def render(model: Model) -> dict[str, str]:
    """All generated modules, by file name."""
    header = {"version": botocore.__version__}
    return {
        "operations.py": HEADER.format(title="Operations of the Lambda API.", **header)
        + table(
            "OPERATIONS",
            "dict[str, tuple[str, str, int, str, str | None]]",
            "Operation: method, URI template, status, input shape, output shape.",
            operations(model),
        ),
        "errors.py": HEADER.format(title="Errors of the Lambda API.", **header)
        + table(
            "ERRORS",
            f"dict[str, tuple[int, bool, str, {MEMBERS}]]",
            "Error: status, whether the sender is at fault, message member, other members.",
            errors(model),
        ),
        "shapes.py": HEADER.format(title="Shapes of the Lambda API.", **header)
        + "\n".join(
            [
                table(
                    "STRUCTURES",
                    f"dict[str, tuple[str | None, {MEMBERS}]]",
                    "Structure: payload member, (member, shape, location, wire name, required).",
                    structures(model),
                ),
                table(
                    "LISTS",
                    f"dict[str, tuple[str, {LIMITS}]]",
                    "List: member shape, min, max.",
                    lists(model),
                ),
                table(
                    "MAPS",
                    f"dict[str, tuple[str, str, {LIMITS}, bool]]",
                    "Map: key shape, value shape, min, max, sensitive.",
                    maps(model),
                ),
                table(
                    "SCALARS",
                    f"dict[str, tuple[str, {LIMITS}, str | None, tuple[str, ...], bool]]",
                    "Scalar: type, min, max, pattern, enum, sensitive.",
                    scalars(model),
                ),
            ]
        ),
    }


def stale(modules: Mapping[str, str], target: Path) -> list[str]:
    """Names of the modules that differ from what is on disk."""
    return [
        name
        for name, text in modules.items()
        if not (target / name).exists() or (target / name).read_text("utf-8") != text
    ]


def main() -> int:
    """Write or check the modules; 0 when they are current."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="exit 1 if stale, write nothing")
    parser.add_argument("--target", type=Path, default=TARGET, help="folder of the modules")
    options = parser.parse_args()
    modules = render(load_model())
    changed = stale(modules, options.target)
    if options.check and changed:
        sys.stderr.write(
            f"stale: {', '.join(changed)}; run scripts/generate_lambda_api.py and commit\n"
        )
        return 1
    for name in changed:
        (options.target / name).write_text(modules[name], "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
