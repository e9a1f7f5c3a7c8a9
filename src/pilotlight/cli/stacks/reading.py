"""From a template's file to one plain CloudFormation template, its local files packed.

Source: https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from pilotlight.cli.errors import CommandFailed

LOCAL_BUCKET: Final = "pilotlight-local"
"""Bucket that stands for files of this machine between packing and the calls."""
_SERVERLESS = "AWS::Serverless-2016-10-31"
_LOCAL_FILES = {
    "AWS::Serverless::Function": "CodeUri",
    "AWS::Serverless::LayerVersion": "ContentUri",
}
_PLAIN_FILES = {"AWS::Lambda::Function": "Code", "AWS::Lambda::LayerVersion": "Content"}
_NEEDS = "Templates need two more packages: pip install 'pilotlight[sam]'"

Pack = Callable[[Path, Mapping[str, Any]], bytes]
"""From a file or folder that a resource names, and the resource, to a package."""


def read_template(path: Path) -> dict[str, Any]:
    """Read YAML or JSON, short forms such as ``!Ref`` included.

    Raises:
        CommandFailed: it cannot be read, or is no template.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"{path} cannot be read: {error}") from error
    document = _parsed(path, text)
    if not isinstance(document, dict) or not isinstance(document.get("Resources"), dict):
        raise CommandFailed(f"{path} is no template: it has no Resources.")
    return document


def _parsed(path: Path, text: str) -> object:
    if path.suffix == ".json":
        try:
            return json.loads(text)
        except ValueError as error:
            raise CommandFailed(f"{path} is not JSON: {error}") from error
    try:
        import yaml
    except ImportError as error:
        raise CommandFailed(f"{path} cannot be read: PyYAML is missing.", _NEEDS) from error

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # the library has no types
        """Reads short forms as the long ones they stand for."""

    def short(loader: Any, suffix: str, node: Any) -> dict[str, Any]:  # noqa: ANN401
        value: Any
        if isinstance(node, yaml.ScalarNode):
            value = loader.construct_scalar(node)
        elif isinstance(node, yaml.SequenceNode):
            value = loader.construct_sequence(node, deep=True)
        else:
            value = loader.construct_mapping(node, deep=True)
        if suffix in ("Ref", "Condition"):
            return {suffix: value}
        if suffix == "GetAtt" and isinstance(value, str):
            value = value.split(".", 1)
        return {f"Fn::{suffix}": value}

    Loader.add_multi_constructor("!", short)
    # Dates in templates are versions, not dates.
    Loader.yaml_implicit_resolvers = {
        first: [(tag, rule) for tag, rule in rules if tag != "tag:yaml.org,2002:timestamp"]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        return yaml.load(text, Loader)  # noqa: S506  (a safe loader)
    except yaml.YAMLError as error:
        raise CommandFailed(f"{path} is not YAML: {error}") from error


def packed(template: dict[str, Any], base: Path, pack: Pack) -> dict[str, bytes]:
    """Replace local files in the template by keys of the local bucket; return them by key.

    Raises:
        CommandFailed: a file is missing, or cannot be packed.
    """
    packages: dict[str, bytes] = {}
    everywhere = template.get("Globals", {}).get("Function", {}).get("CodeUri")
    for name, resource in template["Resources"].items():
        kind, properties = resource.get("Type"), resource.setdefault("Properties", {})
        member = _LOCAL_FILES.get(kind) or _PLAIN_FILES.get(kind)
        if member is None:
            continue
        where = properties.get(member, everywhere if member == "CodeUri" else None)
        if not isinstance(where, str) or where.startswith("s3://"):
            continue
        source = base / where
        if not source.exists():
            raise CommandFailed(f"{name} names {where}, and there is no {source}.")
        package = pack(source, resource)
        key = hashlib.sha256(package).hexdigest()
        packages[key] = package
        if kind in _LOCAL_FILES:
            properties[member] = f"s3://{LOCAL_BUCKET}/{key}"
        else:
            properties[member] = {"S3Bucket": LOCAL_BUCKET, "S3Key": key}
    return packages


def translated(
    template: dict[str, Any], parameters: Mapping[str, str], region: str
) -> dict[str, Any]:
    """A SAM template as CloudFormation; any other one as it is.

    Raises:
        CommandFailed: the translator is missing, or refuses the template.
    """
    transforms = template.get("Transform")
    if _SERVERLESS not in (transforms if isinstance(transforms, list) else [transforms]):
        return template
    try:
        from samtranslator.model.exceptions import InvalidDocumentException
        from samtranslator.parser.parser import Parser
        from samtranslator.translator.translator import Translator
    except ImportError as error:
        raise CommandFailed("The SAM translator is missing.", _NEEDS) from error
    session = SimpleNamespace(region_name=region)
    try:
        translator = Translator({}, Parser(), boto_session=session)
        result = translator.translate(template, parameter_values=dict(parameters))
    except InvalidDocumentException as error:
        causes = [cause.message for cause in error.causes] or [str(error)]
        raise CommandFailed("The template is not valid:\n" + "\n".join(causes)) from error
    return dict(result)
