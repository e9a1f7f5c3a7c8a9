"""Intrinsic functions of templates: from a template's value to a plain one. Pure.

Source: https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/intrinsic-function-reference.html
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pilotlight.cli.errors import CommandFailed

NOTHING: Final = object()
"""``AWS::NoValue``: the member that has it is left out."""
_PLACE = re.compile(r"\$\{(!?)([^}]+)\}")


@dataclass(frozen=True, slots=True)
class Values:
    """What names of a template mean.

    Attributes:
        parameters: values of parameters and pseudo parameters.
        conditions: the template's conditions, not evaluated yet.
        mappings: the template's mappings.
        references: what ``Ref`` of a resource gives, for those that exist.
        attributes: what ``Fn::GetAtt`` gives, by resource.
    """

    parameters: Mapping[str, Any]
    conditions: Mapping[str, Any] = field(default_factory=dict)
    mappings: Mapping[str, Any] = field(default_factory=dict)
    references: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def resolve(self, value: object) -> Any:  # noqa: ANN401  whatever the template means
        """The plain value.

        Raises:
            CommandFailed: a name is unknown, or a function is malformed or not supported.
        """
        if isinstance(value, list):
            items = [self.resolve(item) for item in value]
            return [item for item in items if item is not NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, argument),) = value.items()
            if name == "Ref":
                return self._ref(str(argument))
            if name == "Condition" and isinstance(argument, str):
                return self.holds(argument)
            if name.startswith("Fn::"):
                return self._apply(name, argument)
        members = {name: self.resolve(item) for name, item in value.items()}
        return {name: item for name, item in members.items() if item is not NOTHING}

    def holds(self, condition: str) -> bool:
        """Whether a condition of the template holds.

        Raises:
            CommandFailed: there is no such condition.
        """
        if condition not in self.conditions:
            raise CommandFailed(f"The template has no condition {condition!r}.")
        return bool(self.resolve(self.conditions[condition]))

    def _ref(self, name: str) -> Any:  # noqa: ANN401
        if name == "AWS::NoValue":
            return NOTHING
        if name in self.parameters:
            return self.parameters[name]
        if name in self.references:
            return self.references[name]
        raise CommandFailed(f"Ref names {name!r}, which is no parameter and no deployed resource.")

    def _attribute(self, name: str, attribute: str) -> str:
        known = self.attributes.get(name, {})
        if attribute not in known:
            raise CommandFailed(f"Fn::GetAtt asks for {name}.{attribute}, which is not there.")
        return known[attribute]

    def _apply(self, name: str, argument: Any) -> Any:  # noqa: ANN401
        functions: dict[str, Callable[[Any], Any]] = {
            "Fn::GetAtt": self._get_att,
            "Fn::Sub": self._sub,
            "Fn::Join": lambda a: str(a[0]).join(str(part) for part in self.resolve(a[1])),
            "Fn::Split": lambda a: str(self.resolve(a[1])).split(str(a[0])),
            "Fn::Select": lambda a: self.resolve(a[1])[int(self.resolve(a[0]))],
            "Fn::If": lambda a: self.resolve(a[1] if self.holds(str(a[0])) else a[2]),
            "Fn::Equals": lambda a: self.resolve(a[0]) == self.resolve(a[1]),
            "Fn::And": lambda a: all(self.resolve(item) for item in a),
            "Fn::Or": lambda a: any(self.resolve(item) for item in a),
            "Fn::Not": lambda a: not self.resolve(a[0]),
            "Fn::FindInMap": self._find,
            "Fn::Base64": lambda a: base64.b64encode(str(self.resolve(a)).encode()).decode(),
        }
        function = functions.get(name)
        if function is None:
            raise CommandFailed(f"{name} is not supported here.")
        try:
            return function(argument)
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise CommandFailed(f"{name} cannot be read: {argument!r} ({error})") from error

    def _get_att(self, argument: Any) -> str:  # noqa: ANN401
        parts = argument.split(".", 1) if isinstance(argument, str) else argument
        return self._attribute(str(parts[0]), str(parts[1]))

    def _find(self, argument: Any) -> Any:  # noqa: ANN401
        first, second, third = (self.resolve(part) for part in argument)
        return self.mappings[first][second][third]

    def _sub(self, argument: Any) -> str:  # noqa: ANN401
        text, own = (argument, {}) if isinstance(argument, str) else argument
        values = {name: self.resolve(value) for name, value in own.items()}

        def place(match: re.Match[str]) -> str:
            if match[1]:
                return "${" + match[2] + "}"
            name = match[2].strip()
            if name in values:
                return str(values[name])
            if "." in name:
                return self._attribute(*name.split(".", 1))
            return str(self._ref(name))

        return _PLACE.sub(place, text)


def names_in(value: object) -> Iterator[str]:
    """Names that a value refers to, those of parameters among them."""
    if isinstance(value, list):
        for item in value:
            yield from names_in(item)
    if not isinstance(value, dict):
        return
    for name, item in value.items():
        if name == "Ref":
            yield str(item)
        elif name == "Fn::GetAtt":
            yield str(item).split(".", 1)[0] if isinstance(item, str) else str(item[0])
        elif name == "Fn::Sub":
            text = item if isinstance(item, str) else item[0]
            yield from (
                m[2].strip().split(".", 1)[0] for m in _PLACE.finditer(str(text)) if not m[1]
            )
            if not isinstance(item, str):
                yield from names_in(item[1])
        else:
            yield from names_in(item)


def in_order(resources: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of resources, each after those it needs.

    Raises:
        CommandFailed: some need one another.
    """
    needs: dict[str, set[str]] = {}
    for name, resource in resources.items():
        named = set(names_in(resource.get("Properties", {})))
        depends = resource.get("DependsOn", [])
        named |= {depends} if isinstance(depends, str) else set(depends)
        needs[name] = named & resources.keys() - {name}
    ordered: list[str] = []
    while needs:
        ready = sorted(name for name, wanted in needs.items() if wanted <= set(ordered))
        if not ready:
            raise CommandFailed("These resources need one another: " + ", ".join(sorted(needs)))
        ordered += ready
        for name in ready:
            del needs[name]
    return ordered
