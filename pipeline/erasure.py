"""Tombstones: whose readings of which days were erased, so that no delivery brings them back.

A tombstone knows its point as a keyed hash alone, HMAC-SHA-256 of the canonical id under a subkey of its own: who has
the lake can't tell whose it is without the keyset. It is compared where cells are folded. What it covers is dropped and
counted, of what arrives and of what the cell held: a cell that is folded again is therefore erased. Rows that are in no
cell are compared too (``pipeline.erased_rows``). Tombstones are added, never taken away.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import MeterveilError
from pipeline.files import replace_file
from pipeline.keys import SECRET_ACCESS, Key, Keyset
from pipeline.lake import Lake
from transforms.erased import FindErased
from transforms.pseudonym import compute_hmac_sha256, derive_subkey

_FILE = "tombstones.json"
#: No domain of a policy can have this name: a tombstone must meet no pseudonym.
_DOMAIN = "meterveil:erasure"


@dataclass(frozen=True, slots=True, order=True)
class Tombstone:
    """A point that is erased on some days.

    Attributes:
        key: id of the key that the hash was made with.
        point: the hash of the point's canonical id, hex.
        first: the first local date, ISO 8601.
        last: the last one, which is erased too.
    """

    key: str
    point: str
    first: str
    last: str


class Erasures:
    """The tombstones of a lake, to be asked cell by cell.

    Args:
        tombstones: all of the lake's.
        keyset: with the keys that they were made with.

    Raises:
        MeterveilError: a key is missing: what was erased could come back.
    """

    def __init__(self, tombstones: Sequence[Tombstone], keyset: Keyset) -> None:
        self._keys = {key.info.id: key for key in keyset.keys}
        self._tombstones = tombstones
        if missing := {tombstone.key for tombstone in tombstones} - self._keys.keys():
            raise MeterveilError(
                f"the key {min(missing)} is missing, with which it is known what was erased",
                where="keyset",
                remedy="work with the keyset that has it, enabled",
            )

    def covers(self, local_date: date) -> bool:
        """Tell whether anything of a local date was erased."""
        return any(tombstone.first <= local_date.isoformat() <= tombstone.last for tombstone in self._tombstones)

    def finder(self, local_date: date) -> FindErased | None:
        """Make what finds the erased points of a local date; None where nothing of it was erased."""
        if not self.covers(local_date):
            return None
        tags: defaultdict[str, list[bytes]] = defaultdict(list)
        for tombstone in self._tombstones:
            if tombstone.first <= local_date.isoformat() <= tombstone.last:
                tags[tombstone.key].append(bytes.fromhex(tombstone.point))

        def find_erased(ids: pa.Array) -> pa.Array:
            erased = pa.repeat(False, len(ids))
            for key, hashes in tags.items():
                found = pc.is_in(_hash(self._keys[key], ids), pa.array(hashes, pa.binary()))
                erased = pc.or_(erased, found)
            return erased

        return find_erased

    def find_rows(
        self, ids: pa.DictionaryArray, days: NDArray[np.int64], dated: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Tell which rows are of an erased point and day.

        Args:
            ids: canonical ids of metering points.
            days: local dates, days since 1970-01-01.
            dated: which of them are known; a row of an unknown day counts as erased if any day of its point is.
        """
        erased = np.zeros(len(ids), bool)
        codes = ids.indices.to_numpy()
        of_points: defaultdict[tuple[str, bytes], list[Tombstone]] = defaultdict(list)
        for tombstone in self._tombstones:
            of_points[tombstone.key, bytes.fromhex(tombstone.point)].append(tombstone)
        for key in {key for key, _ in of_points}:
            hashes = _hash(self._keys[key], ids.dictionary)
            wanted = pa.array([point for of, point in of_points if of == key], pa.binary())
            for code in np.flatnonzero(pc.is_in(hashes, wanted).to_numpy(zero_copy_only=False)):
                mine = np.flatnonzero(codes == code)
                for tombstone in of_points[key, hashes[code].as_py()]:
                    first, last = (
                        np.datetime64(day, "D").astype(np.int64) for day in (tombstone.first, tombstone.last)
                    )
                    erased[mine] |= ~dated[mine] | ((first <= days[mine]) & (days[mine] <= last))
        return erased


def add_tombstones(lake: Lake, keyset: Keyset, ids: pa.Array, first: date, last: date) -> None:
    """Have points erased from one local date to another, both included; to be called by the sole committer.

    Their readings leave a cell when it is folded next, and those that arrive stay out from now on.

    Args:
        lake: the lake.
        keyset: the lake's.
        ids: canonical ids of metering points, string array.
        first: the first local date.
        last: the last one.
    """
    key = keyset.primary
    hashes = _hash(key, ids.unique()).to_pylist()
    new = {Tombstone(key.info.id, tag.hex(), first.isoformat(), last.isoformat()) for tag in hashes}
    tombstones = sorted(new.union(read_tombstones(lake)))
    text = json.dumps([asdict(tombstone) for tombstone in tombstones], indent=1)
    replace_file(lake.records("operational") / _FILE, text.encode(), private=True)


def read_tombstones(lake: Lake) -> tuple[Tombstone, ...]:
    """Read all tombstones of a lake.

    Raises:
        MeterveilError: the file is damaged, or gone.
    """
    path = lake.records("operational") / _FILE
    try:
        return tuple(Tombstone(**fields) for fields in json.loads(lake.read_memory(_FILE)))
    except (ValueError, TypeError):
        raise MeterveilError("the tombstones can't be read", where=str(path), remedy="restore the file") from None


def digest_tombstones(lake: Lake) -> str:
    """Name the state of a lake's tombstones; empty where there are none."""
    tombstones = read_tombstones(lake)
    return hashlib.sha256(lake.read_memory(_FILE)).hexdigest() if tombstones else ""


def _hash(key: Key, ids: pa.Array) -> pa.Array:
    subkey = derive_subkey(key.secret.reveal(SECRET_ACCESS), _DOMAIN, "metering_point", "")
    return compute_hmac_sha256(subkey, ids.cast(pa.binary()))
