"""A stack: what was deployed from a template, and how another deployment changes it.

What exists is written to a file beside the template after every step, so an interrupted
deployment goes on where it stopped. New resources are made before old ones go.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from pilotlight.cli.errors import CommandFailed, ServerAnswer
from pilotlight.cli.stacks.intrinsics import Values, in_order
from pilotlight.cli.stacks.resources import KINDS, Deployment, Made

FOLDER = ".pilotlight-stacks"
_GONE = frozenset({"ResourceNotFoundException", "ProvisionedConcurrencyConfigNotFoundException"})
_KEPT = frozenset({"Retain", "RetainExceptOnCreate"})


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A resource that exists.

    Attributes:
        digest: of the properties it has, code included.
        properties: those whose change means another resource, and no others: there are secrets.
        is_kept: it stays when the template has it no more.
    """

    kind: str
    id: str
    digest: str
    properties: Mapping[str, Any]
    attributes: Mapping[str, str] = {}
    is_kept: bool = False


class Stack(msgspec.Struct, kw_only=True):
    """Resources by logical name, in the order in which they were made."""

    name: str
    endpoint: str
    resources: dict[str, Entry] = {}


def stack_file(template: Path, name: str) -> Path:
    """Where a stack of a template is written down."""
    return template.resolve().parent / FOLDER / f"{name}.json"


def load(path: Path, name: str, endpoint: str) -> Stack:
    """Read what is deployed; nothing where there is no file.

    Raises:
        CommandFailed: the file is damaged, or of another server.
    """
    if not path.exists():
        return Stack(name=name, endpoint=endpoint)
    try:
        stack = msgspec.json.decode(path.read_bytes(), type=Stack)
    except (OSError, msgspec.MsgspecError) as error:
        raise CommandFailed(f"{path} cannot be read: {error}") from error
    if stack.endpoint != endpoint:
        raise CommandFailed(
            f"The stack {name} was deployed to {stack.endpoint}, not to {endpoint}.",
            f"Choose another --stack, or remove {path} if that server is gone.",
        )
    return stack


def save(path: Path, stack: Stack) -> None:
    """Write it whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(stack)))
    draft.replace(path)


class Deployer:
    """Makes a server look like a template.

    Args:
        deployment: the server and the packages.
        path: of the stack's file.
        stack: what exists.
        step: told what is being done.
    """

    def __init__(
        self, deployment: Deployment, path: Path, stack: Stack, step: Callable[[str], None]
    ) -> None:
        self._deployment = deployment
        self._path = path
        self._stack = stack
        self._step = step

    def deploy(self, template: Mapping[str, Any], values: Values) -> dict[str, str]:
        """Make, change and remove what is needed; return the template's outputs.

        Raises:
            CommandFailed: the template asks for what there is not, or the server refused.
        """
        wanted = {
            name: resource
            for name, resource in template["Resources"].items()
            if "Condition" not in resource or values.holds(str(resource["Condition"]))
        }
        _check_kinds(wanted)
        left: list[tuple[str, Entry]] = []
        for name in in_order(wanted):
            entry, former = self._one(name, wanted[name], self._known(values))
            if former is not None:
                left.append((name, former))
            self._stack.resources.pop(name, None)
            self._stack.resources[name] = entry
            save(self._path, self._stack)
        left += [
            (name, entry) for name, entry in self._stack.resources.items() if name not in wanted
        ]
        for name, entry in reversed(left):
            self._remove(name, entry)
            if name not in wanted:
                del self._stack.resources[name]
            save(self._path, self._stack)
        return self._outputs(template, self._known(values))

    def delete(self) -> None:
        """Remove everything, the last first.

        Raises:
            CommandFailed: the server refused.
        """
        for name, entry in reversed(list(self._stack.resources.items())):
            self._remove(name, entry)
            del self._stack.resources[name]
            save(self._path, self._stack)
        self._path.unlink(missing_ok=True)

    def _known(self, values: Values) -> Values:
        made = self._stack.resources
        return replace(
            values,
            references={name: entry.id for name, entry in made.items()},
            attributes={name: entry.attributes for name, entry in made.items()},
        )

    def _one(
        self, name: str, resource: Mapping[str, Any], values: Values
    ) -> tuple[Entry, Entry | None]:
        """The resource as it is now, and the former one where it was replaced."""
        kind = KINDS[resource["Type"]]
        properties: dict[str, Any] = values.resolve(resource.get("Properties", {}))
        digest = hashlib.sha256(json.dumps(properties, sort_keys=True).encode()).hexdigest()
        former = self._stack.resources.get(name)
        is_kept = resource.get("DeletionPolicy") in _KEPT
        if former is not None and (former.digest, former.kind) == (digest, resource["Type"]):
            return msgspec.structs.replace(former, is_kept=is_kept), None
        changed = former is not None and any(
            former.properties.get(member) != properties.get(member) for member in kind.replaces
        )
        replaced = None
        if former is None or former.kind != resource["Type"] or kind.update is None or changed:
            self._step(f"making {name}")
            made, replaced = kind.create(self._deployment, name, properties), former
        else:
            self._step(f"changing {name}")
            known = Made(former.id, former.attributes)
            made = kind.update(self._deployment, name, properties, known)
        entry = Entry(
            kind=resource["Type"], id=made.id, digest=digest,
            properties={member: properties.get(member) for member in sorted(kind.replaces)},
            attributes=made.attributes, is_kept=is_kept,
        )  # fmt: skip
        if replaced is not None and replaced.id == entry.id:
            replaced = None
        return entry, replaced

    def _remove(self, name: str, entry: Entry) -> None:
        if entry.is_kept:
            return
        self._step(f"removing {name}")
        try:
            KINDS[entry.kind].delete(self._deployment, Made(entry.id, entry.attributes))
        except ServerAnswer as answer:
            if answer.error not in _GONE:
                raise

    def _outputs(self, template: Mapping[str, Any], values: Values) -> dict[str, str]:
        return {
            name: str(values.resolve(output["Value"]))
            for name, output in (template.get("Outputs") or {}).items()
            if "Condition" not in output or values.holds(str(output["Condition"]))
        }


def _check_kinds(resources: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse what cannot be deployed before anything is made.

    Raises:
        CommandFailed: with every resource that cannot be.
    """
    strange = [
        f"  {name}: {resource.get('Type')}"
        for name, resource in resources.items()
        if resource.get("Type") not in KINDS
    ]
    if strange:
        raise CommandFailed(
            "The template has resources that cannot be made here:\n" + "\n".join(strange),
            "Make them elsewhere and give their ARNs as parameters. Kinds that can be made: "
            + ", ".join(KINDS),
        )


def parameters_of(template: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """Values of the template's parameters: as given, else their defaults.

    Raises:
        CommandFailed: one is missing, unknown, or not allowed.
    """
    declared: Mapping[str, Any] = template.get("Parameters") or {}
    unknown = given.keys() - declared.keys()
    if unknown:
        raise CommandFailed(f"The template has no parameter {', '.join(sorted(unknown))}.")
    values: dict[str, Any] = {}
    for name, parameter in declared.items():
        if name not in given and "Default" not in parameter:
            raise CommandFailed(
                f"The parameter {name} has no value.", f"Give it with: --parameter {name}=VALUE"
            )
        value = str(given.get(name, parameter.get("Default")))
        allowed = parameter.get("AllowedValues")
        if allowed and value not in map(str, allowed):
            raise CommandFailed(
                f"The parameter {name} must be one of: {', '.join(map(str, allowed))}."
            )
        is_list = str(parameter.get("Type", "")).startswith(("List<", "CommaDelimitedList"))
        values[name] = [item.strip() for item in value.split(",")] if is_list else value
    return values
