"""Keyset files: the secrets that pseudonyms are made with, each wrapped under a key-encryption key (KEK).

A keyset is JSON, in the manner of Tink: keys with id, status, creation time and ``active_from``, one of them primary.
Every secret is wrapped with AES-256-GCM under a random nonce; what the file says about the key is authenticated with
it, except the status. The KEK comes from a file or an environment variable and is never stored.

Secrets come out by ``Secret.reveal(SECRET_ACCESS)`` alone: search for that name to find every place that sees one.
"""

import base64
import binascii
import json
import os
import secrets
import stat
import string
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pipeline.errors import MeterveilError
from pipeline.stores import Place, locate

_FORMAT = "meterveil-keyset"
_VERSION = 1
_SECRET_BYTES = 32
_NONCE_BYTES = 12
_PRINTABLE = frozenset(string.printable.encode())
_ENVIRONMENT = "env:"


class Status(StrEnum):
    """Whether a key may be used."""

    ENABLED = "ENABLED"
    DISABLED = "DISABLED"
    #: The secret is gone, and the pseudonyms made with it can't be made again.
    DESTROYED = "DESTROYED"


class SecretAccess:
    """The token that reveals secrets; there is one, ``SECRET_ACCESS``."""


SECRET_ACCESS = SecretAccess()


class Secret:
    """Secret bytes that show in no text, copy, pickle or traceback of locals."""

    __slots__ = ("__octets",)

    def __init__(self, octets: bytes) -> None:
        self.__octets = octets

    def reveal(self, access: SecretAccess) -> bytes:
        """Give the bytes to a holder of ``SECRET_ACCESS``."""
        if access is not SECRET_ACCESS:
            raise TypeError("a secret is revealed to SECRET_ACCESS only")
        return self.__octets

    def __repr__(self) -> str:
        return "Secret(hidden)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is neither pickled nor copied: open the keyset where it is needed")


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What may be known about a key.

    Attributes:
        id: eight hex digits.
        status: whether it may be used.
        created_at: when it was made, UTC.
        active_from: first local date of the rows that it is for, the start of an epoch.
        primary: whether datasets without epochs use it.
    """

    id: str
    status: Status
    created_at: datetime
    active_from: date
    primary: bool


@dataclass(frozen=True, slots=True)
class Key:
    """An enabled key and its secret."""

    info: KeyInfo
    secret: Secret


@dataclass(frozen=True, slots=True)
class Keyset:
    """The enabled keys of a keyset, unwrapped.

    Attributes:
        keys: by ``active_from``, ascending.
        primary: the key of datasets without epochs.
    """

    keys: tuple[Key, ...]
    primary: Key

    def key_for(self, local_date: date) -> Key:
        """Choose the key by a row's local date: the one with the latest ``active_from`` that is not after it.

        A value of last year that is corrected this year so keeps its pseudonym.

        Raises:
            MeterveilError: no enabled key is active on that date.
        """
        active = [key for key in self.keys if key.info.active_from <= local_date]
        if not active:
            raise MeterveilError("no enabled key is active at the date of some rows", where="keyset")
        return active[-1]


def create_keyset(path: str | Path, kek: str) -> KeyInfo:
    """Create a keyset with one new key, and the KEK file if there is none; both with mode 0600.

    Args:
        path: the keyset file; must not exist.
        kek: path of the KEK file, or ``env:NAME``.

    Raises:
        MeterveilError: the keyset exists, or the KEK is refused.
    """
    for place in (locate(path), _find(kek)):
        if not isinstance(place, Path):
            raise MeterveilError(
                "keys are made on a disk", where=str(place), remedy="make them there, then put them into the store"
            )
    path = Path(path)
    if path.exists():
        raise MeterveilError("a keyset exists and is not overwritten", where=str(path), remedy="name another file")
    if _names_file(kek) and not Path(kek).exists():
        _write_new(Path(kek), secrets.token_bytes(_SECRET_BYTES))
    wrapping_key = _read_kek(kek)
    info = KeyInfo(secrets.token_hex(4), Status.ENABLED, datetime.now(UTC).replace(microsecond=0), date.min, True)
    _write_new(path, _write_keyset([(info, _wrap(wrapping_key, info, secrets.token_bytes(_SECRET_BYTES)))]))
    return info


def open_keyset(path: str | Place, kek: str) -> Keyset:
    """Open a keyset and unwrap its enabled keys.

    Args:
        path: the keyset, a file or an object.
        kek: path or object of the KEK, or ``env:NAME`` for a variable that holds base64url of 32 bytes.

    Raises:
        MeterveilError: a file that others can read, a KEK that does not fit, a key that is too weak, a primary key
            that is disabled or destroyed.
    """
    path = locate(path)
    entries = _read_keyset(path)
    wrapping_key = _read_kek(kek)
    keys = tuple(
        Key(info, Secret(_unwrap(wrapping_key, info, wrapped, path)))
        for info, wrapped in sorted(entries, key=lambda entry: entry[0].active_from)
        if info.status is Status.ENABLED
    )
    if len({key.info.active_from for key in keys}) < len(keys):
        raise MeterveilError("two enabled keys are active from one date", where=str(path), remedy="disable one")
    for key in keys:
        if key.info.primary:
            return Keyset(keys, key)
    raise MeterveilError(
        "the primary key is disabled or destroyed", where=str(path), remedy="enable it or make another key primary"
    )


def describe_keyset(path: str | Place) -> list[KeyInfo]:
    """List the keys of a keyset file, in its order, without opening any."""
    return [info for info, _ in _read_keyset(locate(path))]


def _write_keyset(entries: list[tuple[KeyInfo, bytes]]) -> bytes:
    keys = [
        {**_describe(info), "status": info.status, "secret": base64.b64encode(wrapped).decode()}
        for info, wrapped in entries
    ]
    primary = next(info.id for info, _ in entries if info.primary)
    document = {"format": _FORMAT, "version": _VERSION, "primary": primary, "keys": keys}
    return (json.dumps(document, indent=2) + "\n").encode()


def _read_keyset(path: Place) -> list[tuple[KeyInfo, bytes]]:
    """Read ids, status, dates and wrapped secrets; a destroyed key's secret is empty."""
    try:
        document = json.loads(_read_private(path))
        known = (document["format"], document["version"]) == (_FORMAT, _VERSION)
        entries = [_read_entry(entry, document["primary"]) for entry in document["keys"]] if known else []
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise MeterveilError(
            f"this is no keyset of format version {_VERSION}",
            where=str(path),
            remedy="name a file that 'keys create' of this release made",
        )
    ids = [info.id for info, _ in entries]
    if len(set(ids)) < len(ids) or document["primary"] not in ids:
        raise MeterveilError("key ids are repeated, or the primary is missing", where=str(path))
    return entries


def _read_entry(entry: Mapping[str, Any], primary: str) -> tuple[KeyInfo, bytes]:
    info = KeyInfo(
        id=entry["id"],
        status=Status(entry["status"]),
        created_at=datetime.fromisoformat(entry["created_at"]),
        active_from=date.fromisoformat(entry["active_from"]),
        primary=entry["id"] == primary,
    )
    return info, base64.b64decode(entry["secret"], validate=True)


def _describe(info: KeyInfo) -> dict[str, str]:
    return {"id": info.id, "created_at": info.created_at.isoformat(), "active_from": info.active_from.isoformat()}


def _authenticate(info: KeyInfo) -> bytes:
    # Bound to the wrapped secret: nobody can give it another id or move the dates that it is for.
    header = {"format": _FORMAT, "version": _VERSION, **_describe(info)}
    return json.dumps(header, sort_keys=True, separators=(",", ":")).encode()


def _wrap(kek: bytes, info: KeyInfo, secret: bytes) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(kek).encrypt(nonce, secret, _authenticate(info))


def _unwrap(kek: bytes, info: KeyInfo, wrapped: bytes, path: Place) -> bytes:
    try:
        secret = AESGCM(kek).decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], _authenticate(info))
    except (InvalidTag, ValueError):
        raise MeterveilError(
            f"the key-encryption key does not open key {info.id}",
            where=str(path),
            remedy="use the one it was made with; a keyset that was changed by hand does not open either",
        ) from None
    _refuse_weak(secret, str(path))
    return secret


def _names_file(kek: str) -> bool:
    return "://" not in kek and not kek.startswith(_ENVIRONMENT)


def _read_kek(kek: str) -> bytes:
    octets = (
        _read_variable(kek.removeprefix(_ENVIRONMENT)) if kek.startswith(_ENVIRONMENT) else _read_private(_find(kek))
    )
    _refuse_weak(octets, kek)
    if len(octets) != _SECRET_BYTES:
        raise MeterveilError("a key-encryption key has 32 bytes, this one more", where=kek)
    return octets


def _find(kek: str) -> Place:
    try:
        return locate(kek)
    except MeterveilError:
        raise MeterveilError(
            "key-encryption keys from a KMS are not in this build",
            where="--kek",
            remedy="use a file, an object of a store, or env:NAME",
        ) from None


def _read_variable(name: str) -> bytes:
    text = os.environ.get(name)
    if not text:
        raise MeterveilError("the environment variable is not set", where=f"{_ENVIRONMENT}{name}")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise MeterveilError("this is not base64url of 32 bytes", where=f"{_ENVIRONMENT}{name}") from None


def _read_private(path: Place) -> bytes:
    """Read a file that nobody but its owner can read; who can read an object is said by its bucket."""
    try:
        if not isinstance(path, Path):
            return path.read_bytes()
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            octets = file.read()
    except OSError as error:
        raise MeterveilError(str(error.strerror), where=str(path), remedy="name a key file that you may read") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise MeterveilError(
            f"others may reach this key file (mode {mode:04o})",
            where=str(path),
            remedy="chmod 600; if somebody may have read it, make a new key",
        )
    return octets


def _refuse_weak(octets: bytes, where: str) -> None:
    if len(octets) < _SECRET_BYTES:
        problem = "the key is shorter than 32 bytes"
    elif _PRINTABLE.issuperset(octets):
        problem = "the key is text, not random bytes"
    elif len(set(octets)) == 1:
        problem = "the key is one byte repeated"
    else:
        return
    raise MeterveilError(problem, where=where, remedy="let 'keys create' make it")


def _write_new(path: Path, octets: bytes) -> None:
    """Write a file that must not exist, readable by its owner only, whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a rename, does not replace what somebody else made meanwhile.
        path.hardlink_to(draft)
    except OSError as error:
        raise MeterveilError(str(error.strerror), where=str(path), remedy="name another file") from None
    finally:
        draft.unlink(missing_ok=True)
