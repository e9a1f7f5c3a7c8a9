"""Environment variables of a function, sealed and open: both planes read and one writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from pilotlight.model.function import FunctionVersion
from pilotlight.ports.sealing import SealBroken, Sealer


def opened(version: FunctionVersion, sealer: Sealer) -> Mapping[str, str] | None:
    """The variables of a version, None where it has none at all.

    Raises:
        SealBroken: they were not sealed here for this function.
    """
    if version.sealed_environment is None:
        return version.environment
    document = json.loads(sealer.open(version.sealed_environment, version.arn))
    return {str(name): str(value) for name, value in document.items()}


def sealed(
    version: FunctionVersion, sealer: Sealer, former: FunctionVersion | None = None
) -> FunctionVersion:
    """The version with its variables sealed; equal ones keep the seal that ``former`` has.

    So a function whose variables did not change is the same as what was published of it.
    """
    if version.environment is None:
        return version
    plain = json.dumps(dict(version.environment), sort_keys=True).encode()
    token = None if former is None else former.sealed_environment
    if token is None or not _is(token, plain, version, sealer):
        token = sealer.seal(plain, version.arn)
    return replace(version, environment=None, sealed_environment=token)


def _is(token: str, plain: bytes, version: FunctionVersion, sealer: Sealer) -> bool:
    try:
        return sealer.open(token, version.arn) == plain
    except SealBroken:
        return False
