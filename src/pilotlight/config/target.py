"""Which server a client talks to, and with which keys.

The server of a data directory says where it listens in ``<data_dir>/endpoint.json``, written when
it is ready, so that clients find it also behind port 0.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pilotlight.config.credentials import FILE_NAME, read_credentials
from pilotlight.config.settings import PREFIX, Settings, load_settings
from pilotlight.model.errors import ConfigurationError

_ENDPOINT_FILE = "endpoint.json"


@dataclass(frozen=True, slots=True)
class Target:
    """A server and the keys for it.

    Attributes:
        endpoint: base URL of the API, without a slash at its end.
        origin: where the keys came from, for messages.
    """

    endpoint: str
    region: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    origin: str


def write_endpoint(data_dir: Path, *, api_url: str, url_base: str) -> None:
    """Note where the server of this data directory listens; whole or not at all.

    Args:
        data_dir: of the server.
        api_url: base URL of the API.
        url_base: base URL of the function URLs.

    Raises:
        OSError: the file cannot be written.
    """
    where = data_dir / _ENDPOINT_FILE
    draft = where.with_suffix(".new")
    draft.write_text(json.dumps({"api_url": api_url, "url_base": url_base}) + "\n")
    draft.replace(where)


def remove_endpoint(data_dir: Path) -> None:
    """Forget the note; to be called at shutdown. Idempotent."""
    (data_dir / _ENDPOINT_FILE).unlink(missing_ok=True)


def read_endpoint(data_dir: Path) -> Mapping[str, str]:
    """The note of `write_endpoint`; empty where no server left one."""
    try:
        noted = json.loads((data_dir / _ENDPOINT_FILE).read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(noted, dict):
        return {}
    return {str(name): value for name, value in noted.items() if isinstance(value, str)}


def find_target(
    *,
    endpoint: str | None = None,
    data_dir: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Target:
    """Decide where to and with which keys. The first that is there wins.

    The endpoint: flag, ``PILOTLIGHT_ENDPOINT_URL``, the data directory's server where the directory
    was named, ``AWS_ENDPOINT_URL_LAMBDA``, ``AWS_ENDPOINT_URL``, the data directory's server.

    The keys: ``PILOTLIGHT_ROOT_…``; ``AWS_…`` where the endpoint came from ``AWS_ENDPOINT_URL``;
    the data directory's file; ``AWS_…``.

    Raises:
        ConfigurationError: settings are unusable, or there are no keys.
    """
    variables = os.environ if environment is None else environment
    settings = load_settings({"data_dir": data_dir}, environment=variables)
    is_named = data_dir is not None or bool(variables.get(PREFIX + "DATA_DIR"))
    url = endpoint or variables.get(PREFIX + "ENDPOINT_URL")
    is_aws = False
    if not url and not is_named:
        url = variables.get("AWS_ENDPOINT_URL_LAMBDA") or variables.get("AWS_ENDPOINT_URL")
        is_aws = bool(url)
    if not url:
        url = read_endpoint(settings.data_dir).get("api_url") or f"http://{settings.listen}"
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"The endpoint {url!r} is not a URL; try http://127.0.0.1:9700")
    region = variables.get("AWS_REGION") or variables.get("AWS_DEFAULT_REGION") if is_aws else None
    key, secret, origin = _keys(settings, variables, prefer_aws=is_aws)
    return Target(url.rstrip("/"), region or settings.region, key, secret, origin)


def _keys(
    settings: Settings, variables: Mapping[str, str], *, prefer_aws: bool
) -> tuple[str, str, str]:
    if settings.root_access_key_id and settings.root_secret_access_key:
        origin = "PILOTLIGHT_ROOT_ACCESS_KEY_ID"
        return settings.root_access_key_id, settings.root_secret_access_key, origin
    aws = (variables.get("AWS_ACCESS_KEY_ID"), variables.get("AWS_SECRET_ACCESS_KEY"))
    where = settings.data_dir / FILE_NAME
    if aws[0] and aws[1] and (prefer_aws or not where.exists()):
        return aws[0], aws[1], "AWS_ACCESS_KEY_ID"
    if not where.exists():
        raise ConfigurationError(
            f"There are no credentials: {settings.data_dir} has none (they are made when the "
            "server first starts: pilotlight up), and AWS_ACCESS_KEY_ID is not set. "
            "Name the server's data directory with --data-dir."
        )
    found = read_credentials(where)
    return found.access_key_id, found.secret_access_key, str(where)
