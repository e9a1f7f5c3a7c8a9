"""One real platform for the end-to-end tests of a session, and clients of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pilotlight.testing.client import create, isolation_arguments, lambda_client, zipped
from pilotlight.testing.platform import Platform, running_platform

Deploy = Callable[..., str]


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("platform")
    with running_platform(folder / "data", *isolation_arguments()) as one:
        yield one


@pytest.fixture(scope="session")
def api(platform: Platform) -> Any:
    return lambda_client(platform)


@pytest.fixture
def deploy(api: Any, request: pytest.FixtureRequest) -> Iterator[Deploy]:
    """Deploy source as a function of this test; it is deleted afterwards."""
    names: list[str] = []
    safe = "".join(c if c.isalnum() else "-" for c in request.node.name)[:50]

    def one(source: str | dict[str, str | bytes] | bytes, **settings: Any) -> str:
        name = f"f{len(names)}-{safe}"
        if isinstance(source, str):
            source = {"app.py": source}
        names.append(name)
        create(api, name, source if isinstance(source, bytes) else zipped(source), **settings)
        return name

    yield one
    for name in names:
        api.delete_function(FunctionName=name)
