"""Envelope encryption with keys from one file of the data directory.

Each value has a data key of its own, used once, which encrypts it with AES-256-GCM; the master key
encrypts the data key. The owner's name is authenticated with both, so nothing that was sealed for
one function opens for another. The file is made on first start, for its owner only, and must be
backed up with the data: without it nothing sealed can be read.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pilotlight.model.errors import ConfigurationError
from pilotlight.ports.sealing import SealBroken, Sealer

_VERSION = "1"
_KEY_BYTES = 32
_NONCE_BYTES = 12
_WRAPPED_BYTES = _NONCE_BYTES + _KEY_BYTES + 16


class FileSealer(Sealer):
    """A `Sealer` with the keys of a file.

    Args:
        keys: master keys by id; all of them open.
        current: id of the one that seals.
        where: the file, for messages.
    """

    def __init__(self, keys: Mapping[str, bytes], current: str, where: Path) -> None:
        self._masters = {identity: AESGCM(key) for identity, key in keys.items()}
        self._current = current
        self._where = where

    def seal(self, plain: bytes, owner: str) -> str:
        """See the port."""
        context, data_key = owner.encode(), AESGCM.generate_key(8 * _KEY_BYTES)
        wrapped = _encrypt(self._masters[self._current], data_key, context)
        body = _encrypt(AESGCM(data_key), plain, context)
        token = base64.b64encode(wrapped + body).decode("ascii")
        return f"{_VERSION}:{self._current}:{token}"

    def open(self, sealed: str, owner: str) -> bytes:
        """See the port."""
        version, _, rest = sealed.partition(":")
        identity, _, token = rest.partition(":")
        if version != _VERSION:
            raise SealBroken(
                f"Something of {owner} was encrypted by a newer release: upgrade this."
            )
        master = self._masters.get(identity)
        if master is None:
            raise SealBroken(
                f"Something of {owner} was encrypted with the key {identity[:64]!r}, which is not "
                f"in {self._where}: restore that file from a backup, or set the values again."
            )
        try:
            data = base64.b64decode(token, validate=True)
            context = owner.encode()
            data_key = _decrypt(master, data[:_WRAPPED_BYTES], context)
            return _decrypt(AESGCM(data_key), data[_WRAPPED_BYTES:], context)
        except (InvalidTag, binascii.Error, ValueError):
            raise SealBroken(
                f"Something of {owner} cannot be decrypted: it was damaged or belongs to another "
                "function. Set the values again."
            ) from None


def _encrypt(cipher: AESGCM, plain: bytes, context: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, plain, context)


def _decrypt(cipher: AESGCM, data: bytes, context: bytes) -> bytes:
    return cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], context)


def open_sealer(where: Path) -> FileSealer:
    """Read the file of keys, made on first use. Safe against a second process.

    The file is JSON: ``{"current": id, "keys": {id: base64 of 32 bytes}}``. To change the key, add
    one and name it as the current one; the others go on opening.

    Raises:
        ConfigurationError: it is unusable, or open to other users.
    """
    if not where.exists():
        _create(where)
    try:
        mode = stat.S_IMODE(where.stat().st_mode)
        text = where.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{where} cannot be read: {error}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationError(f"{where} is open to other users; close it: chmod 600 {where}")
    try:
        document = json.loads(text)
        keys = {
            str(identity): base64.b64decode(key, validate=True)
            for identity, key in document["keys"].items()
        }
        current = str(document["current"])
        if current not in keys or any(len(key) != _KEY_BYTES for key in keys.values()):
            raise ValueError("a key is missing or has another length")  # noqa: TRY301
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"{where} is damaged ({error}); restore it from a backup: what it encrypted cannot be "
            "read without it"
        ) from error
    return FileSealer(keys, current, where)


def _create(where: Path) -> None:
    """Write the file whole or not at all; where another process was first, its file stays."""
    identity = secrets.token_hex(4)
    key = base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode("ascii")
    text = json.dumps({"current": identity, "keys": {identity: key}}) + "\n"
    draft = where.with_name(f".{where.name}.{secrets.token_hex(8)}")
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(draft, where)
        finally:
            draft.unlink()
        folder = os.open(where.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise ConfigurationError(f"{where} cannot be created: {error.strerror}") from error
