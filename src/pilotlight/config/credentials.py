"""The root credentials: as set, else from the data directory, else made on first start.

The file has the form of AWS's shared credentials file, so ``AWS_SHARED_CREDENTIALS_FILE`` can name
it. The secret is never logged and never shown by ``repr``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import string
from dataclasses import dataclass, field
from pathlib import Path

from pilotlight.config.settings import Settings
from pilotlight.model.errors import ConfigurationError

FILE_NAME = "credentials"
_KEY_CHARACTERS = string.ascii_uppercase + "234567"
_SECRET_CHARACTERS = string.ascii_letters + string.digits + "+/"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key pair for signing requests."""

    access_key_id: str
    secret_access_key: str = field(repr=False)


def root_credentials(settings: Settings) -> Credentials:
    """Return the root credentials, made and kept on first use. Safe against a second process.

    Raises:
        ConfigurationError: the file is unusable, or readable by other users.
    """
    key, secret = settings.root_access_key_id, settings.root_secret_access_key
    if key is not None and secret is not None:
        return Credentials(key, secret)
    where = settings.data_dir / FILE_NAME
    if not where.exists():
        _create(where, _fresh())
    return read_credentials(where)


def read_credentials(where: Path) -> Credentials:
    """Read a credentials file.

    Raises:
        ConfigurationError: it cannot be read, others may read it, or its keys are missing.
    """
    try:
        mode = stat.S_IMODE(where.stat().st_mode)
        text = where.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(
            f"{where} cannot be read: {exc}. Use the account that started the server, or export "
            "AWS_ENDPOINT_URL with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from exc
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationError(f"{where} is open to other users; close it: chmod 600 {where}")
    found = _ini(text)
    try:
        return Credentials(found["aws_access_key_id"], found["aws_secret_access_key"])
    except KeyError as exc:
        raise ConfigurationError(
            f"{where} has no {exc.args[0]}; restore the file, or remove it to get new credentials"
        ) from exc


def _ini(text: str) -> dict[str, str]:
    """Keys of the ``[default]`` section; the reader of the standard library costs 10 ms more."""
    section = ""
    found: dict[str, str] = {}
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line.strip("[] ")
        elif section == "default" and "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            found[name.strip()] = value.strip()
    return found


def _fresh() -> Credentials:
    key = "AKIA" + "".join(secrets.choice(_KEY_CHARACTERS) for _ in range(16))
    return Credentials(key, "".join(secrets.choice(_SECRET_CHARACTERS) for _ in range(40)))


def _create(where: Path, fresh: Credentials) -> None:
    """Write the file whole or not at all; where another process was first, its file stays."""
    text = (
        "[default]\n"
        f"aws_access_key_id = {fresh.access_key_id}\n"
        f"aws_secret_access_key = {fresh.secret_access_key}\n"
    )
    draft = where.with_name(f".{FILE_NAME}.{secrets.token_hex(8)}")
    try:
        where.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(draft, where)
        finally:
            draft.unlink()
        _sync_directory(where.parent)
    except OSError as exc:
        raise ConfigurationError(f"{where} cannot be created: {exc.strerror}") from exc


def _sync_directory(where: Path) -> None:
    fd = os.open(where, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
