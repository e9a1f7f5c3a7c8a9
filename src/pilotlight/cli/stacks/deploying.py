"""``pilotlight deploy TEMPLATE``: the steps from a file to a stack."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pilotlight.cli.client import Client
from pilotlight.cli.errors import CommandFailed
from pilotlight.cli.output import progress
from pilotlight.cli.packing import pack
from pilotlight.cli.requirements import installed
from pilotlight.cli.stacks.intrinsics import Values
from pilotlight.cli.stacks.reading import packed, read_template, translated
from pilotlight.cli.stacks.resources import Deployment
from pilotlight.cli.stacks.stack import Deployer, load, parameters_of, stack_file
from pilotlight.cli.substitution import Substitution

_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]{0,39}")
_ARCHIVES = frozenset({".zip", ".jar"})


def deploy_template(
    client: Client,
    data_dir: Path | None,
    path: Path,
    *,
    stack: str | None,
    given: Sequence[str],
    delete: bool,
) -> dict[str, str]:
    """Deploy a template, or remove its stack; return its outputs.

    Raises:
        CommandFailed: with what is wrong and what to do.
    """
    name = stack or path.resolve().parent.name
    if _NAME.fullmatch(name) is None:
        raise CommandFailed(
            f"{name!r} cannot be the name of a stack: it has letters, digits and hyphens, "
            "begins with a letter and has at most 40 characters.",
            "Choose one with: --stack NAME",
        )
    where = stack_file(path, name)
    known = load(where, name, client.target.endpoint)
    status = client.get("/api/v1/status")
    account = str(status.get("account", "000000000000"))
    with progress(f"deploying the stack {name}") as step:
        if delete:
            deployment = Deployment(client, name, {}, account)
            Deployer(deployment, where, known, step).delete()
            return {}
        template = read_template(path)
        parameters = parameters_of(template, _pairs(given))
        substitution = Substitution(client, data_dir)
        step("packing")
        packages = packed(
            template, path.resolve().parent, lambda source, r: _package(source, r, substitution)
        )
        texts = {key: _text(value) for key, value in parameters.items()}
        template = translated(template, texts, client.target.region)
        values = Values(
            parameters={**parameters, **_pseudo(client.target.region, account, name)},
            conditions=template.get("Conditions") or {},
            mappings=template.get("Mappings") or {},
        )
        deployment = Deployment(client, name, packages, account)
        return Deployer(deployment, where, known, step).deploy(template, values)


def _pairs(given: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator:
            raise CommandFailed(f"--parameter {text} has no value.", "Write it as NAME=VALUE.")
        pairs[name] = value
    return pairs


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _pseudo(region: str, account: str, stack: str) -> dict[str, str]:
    return {
        "AWS::Region": region,
        "AWS::AccountId": account,
        "AWS::StackName": stack,
        "AWS::StackId": f"arn:aws:cloudformation:{region}:{account}:stack/{stack}/local",
        "AWS::Partition": "aws",
        "AWS::URLSuffix": "amazonaws.com",
    }


def _alone(source: Path) -> bytes:
    """One file as a package."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(source.name), source.read_bytes())
    return buffer.getvalue()


def _package(source: Path, resource: Mapping[str, Any], substitution: Substitution) -> bytes:
    """A file as it is where it is an archive; a folder with its requirements installed."""
    if source.is_file():
        if source.suffix in _ARCHIVES:
            return source.read_bytes()
        return _alone(source)
    runtime = str((resource.get("Properties") or {}).get("Runtime") or "")
    roots = [source]
    requirements = source / "requirements.txt"
    if runtime.startswith("python") and requirements.exists():
        folder = installed(
            source,
            requirements,
            wanted=runtime,
            runtime=substitution.interpreter(runtime),
        )
        if folder is not None:
            roots.append(folder)
    return pack(roots, ())
