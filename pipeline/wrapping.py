"""Key-encryption keys (KEK): where they come from, and wrapping secrets under them.

A KEK is a file of mode 0600, an object of a store, or a variable, and wraps with AES-256-GCM in this process; or it
never leaves a KMS, which is asked to wrap and unwrap (``pipeline.kms``).
"""

import base64
import binascii
import os
import secrets
import stat
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pipeline.errors import MeterveilError
from pipeline.kms import SCHEMES, open_kms_key
from pipeline.stores import Place, locate

SECRET_BYTES = 32
_NONCE_BYTES = 12
_PRINTABLE = frozenset(string.printable.encode())
_ENVIRONMENT = "env:"


class WrongKeyError(Exception):
    """What was wrapped is of another key, was bound to something else, or was changed."""


class WrappingKey(Protocol):
    """A KEK that is at hand."""

    def wrap(self, secret: bytes, bound: bytes) -> bytes:
        """Wrap a secret; it opens again only with what it is bound to."""
        ...

    def unwrap(self, wrapped: bytes, bound: bytes) -> bytes:
        """Give the secret.

        Raises:
            WrongKeyError: it does not open.
        """
        ...


@dataclass(frozen=True, slots=True, repr=False)
class LocalKey:
    """A KEK whose 32 bytes this process holds; AES-256-GCM under a random nonce."""

    octets: bytes

    def wrap(self, secret: bytes, bound: bytes) -> bytes:
        """Give nonce, encrypted secret and tag."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + AESGCM(self.octets).encrypt(nonce, secret, bound)

    def unwrap(self, wrapped: bytes, bound: bytes) -> bytes:
        """Give the secret; raises ``WrongKeyError``."""
        try:
            return AESGCM(self.octets).decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], bound)
        except (InvalidTag, ValueError):
            raise WrongKeyError from None


def open_wrapping_key(kek: str) -> WrappingKey:
    """Open a KEK.

    Args:
        kek: a path or an object; ``env:NAME`` for a variable that holds base64url of 32 bytes; ``aws-kms://ARN`` or
            ``gcp-kms://projects/…/cryptoKeys/NAME`` for a key of a KMS.

    Raises:
        MeterveilError: it is not there, others can read it, it is too weak, or the package of its KMS is missing.
    """
    if kek.startswith(SCHEMES):
        return open_kms_key(kek)
    octets = (
        _read_variable(kek.removeprefix(_ENVIRONMENT)) if kek.startswith(_ENVIRONMENT) else read_private(_locate(kek))
    )
    refuse_weak(octets, kek)
    if len(octets) != SECRET_BYTES:
        raise MeterveilError("a key-encryption key has 32 bytes, this one more", where=kek)
    return LocalKey(octets)


def make_wrapping_key(kek: str) -> WrappingKey:
    """Open a KEK for a new keyset; a file of this machine that is not there is made, with mode 0600.

    Raises:
        MeterveilError: as ``open_wrapping_key``, or it would have to be made in a store.
    """
    if _is_place(kek):
        place = require_disk(_locate(kek))
        if not place.exists():
            write_new(place, secrets.token_bytes(SECRET_BYTES))
    return open_wrapping_key(kek)


def absolute_kek(kek: str) -> str:
    """Name a KEK so that it is the same one from any folder."""
    return str(_locate(kek).resolve()) if _is_place(kek) else kek


def _is_place(kek: str) -> bool:
    """Tell whether a KEK is a file or an object."""
    return not kek.startswith((*SCHEMES, _ENVIRONMENT))


def _locate(kek: str) -> Place:
    try:
        return locate(kek)
    except MeterveilError:
        raise MeterveilError(
            f"no such kind of key-encryption key is known: {kek.partition('://')[0]}://",
            where="--kek",
            remedy="use a file, an object of a store, env:NAME, aws-kms://ARN or gcp-kms://NAME",
        ) from None


def require_disk(place: Place) -> Path:
    """Refuse to make keys in a store: a draft of them would lie there."""
    if not isinstance(place, Path):
        raise MeterveilError(
            "keys are made on a disk", where=str(place), remedy="make them there, then put them into the store"
        )
    return place


def _read_variable(name: str) -> bytes:
    text = os.environ.get(name)
    if not text:
        raise MeterveilError("the environment variable is not set", where=f"{_ENVIRONMENT}{name}")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise MeterveilError("this is not base64url of 32 bytes", where=f"{_ENVIRONMENT}{name}") from None


def read_private(path: Place) -> bytes:
    """Read a file that nobody but its owner can read; who can read an object is said by its bucket.

    Raises:
        MeterveilError: it can't be read, or others can.
    """
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


def refuse_weak(octets: bytes, where: str) -> None:
    """Refuse what can't be random bytes of a key.

    Raises:
        MeterveilError: it is too short, text, or one byte repeated.
    """
    if len(octets) < SECRET_BYTES:
        problem = "the key is shorter than 32 bytes"
    elif _PRINTABLE.issuperset(octets):
        problem = "the key is text, not random bytes"
    elif len(set(octets)) == 1:
        problem = "the key is one byte repeated"
    else:
        return
    raise MeterveilError(problem, where=where, remedy="let 'keys create' make it")


def write_new(path: Path, octets: bytes) -> None:
    """Write a file that must not exist, readable by its owner only, whole or not at all.

    Raises:
        MeterveilError: it exists, or can't be written.
    """
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
