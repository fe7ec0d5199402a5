"""Keyset files: the secrets that pseudonyms are made with, each wrapped under a key-encryption key (KEK).

A keyset is JSON, in the manner of Tink: keys with id, status, creation time and ``active_from``, one of them primary.
Every secret is wrapped (``pipeline.wrapping``); what the file says about the key is authenticated with it, except the
status. The KEK is never stored.

Secrets come out by ``Secret.reveal(SECRET_ACCESS)`` alone: search for that name to find every place that sees one.
"""

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn

from pipeline.errors import MeterveilError
from pipeline.stores import Place, locate
from pipeline.wrapping import (
    SECRET_BYTES,
    WrappingKey,
    WrongKeyError,
    make_wrapping_key,
    open_wrapping_key,
    read_private,
    refuse_weak,
    require_disk,
    write_new,
)

_FORMAT = "meterveil-keyset"
_VERSION = 1


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
        kek: a KEK, as ``pipeline.wrapping`` has it.

    Raises:
        MeterveilError: the keyset exists, or the KEK is refused.
    """
    path = _require_new(path)
    wrapping_key = make_wrapping_key(kek)
    info = KeyInfo(secrets.token_hex(4), Status.ENABLED, datetime.now(UTC).replace(microsecond=0), date.min, True)
    wrapped = wrapping_key.wrap(secrets.token_bytes(SECRET_BYTES), _authenticate(info))
    write_new(path, _write_keyset([(info, wrapped)]))
    return info


def open_keyset(path: str | Place, kek: str) -> Keyset:
    """Open a keyset and unwrap its enabled keys.

    Args:
        path: the keyset, a file or an object.
        kek: its KEK, as ``pipeline.wrapping`` has it.

    Raises:
        MeterveilError: a file that others can read, a KEK that does not fit, a key that is too weak, a primary key
            that is disabled or destroyed.
    """
    path = locate(path)
    entries = _read_keyset(path)
    wrapping_key = open_wrapping_key(kek)
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


def rewrap_keyset(path: str | Place, kek: str, out: str | Path, new_kek: str) -> None:
    """Write a keyset again under another KEK; its keys, and so all pseudonyms, stay what they are.

    Args:
        path: the keyset.
        kek: its KEK.
        out: the new keyset file; must not exist.
        new_kek: its KEK; a file that is not there is made.

    Raises:
        MeterveilError: as ``open_keyset`` and ``create_keyset``.
    """
    path, out = locate(path), _require_new(out)
    old = open_wrapping_key(kek)
    secrets_of = [(info, _unwrap(old, info, wrapped, path) if wrapped else b"") for info, wrapped in _read_keyset(path)]
    new = make_wrapping_key(new_kek)
    write_new(
        out, _write_keyset([(info, new.wrap(one, _authenticate(info)) if one else b"") for info, one in secrets_of])
    )


def describe_keyset(path: str | Place) -> list[KeyInfo]:
    """List the keys of a keyset file, in its order, without opening any."""
    return [info for info, _ in _read_keyset(locate(path))]


def _require_new(path: str | Path) -> Path:
    place = require_disk(locate(path))
    if place.exists():
        raise MeterveilError("a keyset exists and is not overwritten", where=str(place), remedy="name another file")
    return place


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
        document = json.loads(read_private(path))
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


def _unwrap(kek: WrappingKey, info: KeyInfo, wrapped: bytes, path: Place) -> bytes:
    try:
        secret = kek.unwrap(wrapped, _authenticate(info))
    except WrongKeyError:
        raise MeterveilError(
            f"the key-encryption key does not open key {info.id}",
            where=str(path),
            remedy="use the one it was made with; a keyset that was changed by hand does not open either",
        ) from None
    refuse_weak(secret, str(path))
    return secret
