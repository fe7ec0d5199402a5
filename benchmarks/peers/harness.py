"""What the peers share: where the input is, where the output goes, and the clock."""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

TIME_ZONE = "Europe/Helsinki"
#: Words of the status codes 0, 1, 2 …, from weak to strong.
STATUS_WORDS = ("MISSING", "PARTIAL", "UNCERTAIN", "ESTIMATED", "CALCULATED", "OK", "REVISED")
_BLOCK_BYTES = 64


@dataclass(frozen=True)
class Job:
    """One run of a peer.

    Attributes:
        source: folder of a workload (``benchmarks.workload``).
        out: empty folder for ``identified/*.parquet`` and ``pseudonymised/*.parquet``.
    """

    source: Path
    out: Path

    @cached_property
    def readings(self) -> list[str]:
        """The files of readings, Parquet, one reading a row."""
        return sorted(map(str, (self.source / "readings").iterdir()))

    @property
    def sites(self) -> str:
        """The metering points: ``metering_point_id``, ``site_id``, ``direction`` …"""
        return str(self.source / "reference" / "sites.parquet")

    @property
    def contracts(self) -> str:
        """The contracts; of two that cover a day the later signed one counts."""
        return str(self.source / "reference" / "contracts.parquet")

    @cached_property
    def subkeys(self) -> dict[str, bytes]:
        """Key of the HMAC by entity: ``metering_point``, ``usage_site``, ``customer``."""
        told = json.loads((self.source / "subkeys.json").read_text())
        return {entity: bytes.fromhex(subkey) for entity, subkey in told.items()}

    @property
    def identified(self) -> Path:
        """Folder of the identified dataset."""
        return self.out / "identified"

    @property
    def pseudonymised(self) -> Path:
        """Folder of the pseudonymised dataset."""
        return self.out / "pseudonymised"

    @property
    def spill(self) -> Path:
        """Folder for what does not fit into memory."""
        return self.out / "spill"


def run_peer(work: Callable[[Job], dict[str, float] | None]) -> None:
    """Do the work that the command line asks for, ``SOURCE OUT``, and print its time as one line of JSON.

    The clock starts after the interpreter and the imports. What ``work`` returns is told beside ``seconds``, and may
    replace it: a peer that has to start an engine first tells the time without it.
    """
    job = Job(Path(sys.argv[1]), Path(sys.argv[2]))
    for folder in (job.identified, job.pseudonymised):
        folder.mkdir(parents=True)
    started = time.perf_counter()
    told = work(job) or {}
    print(json.dumps({"seconds": time.perf_counter() - started} | told))


def pad_key(subkey: bytes) -> tuple[bytes, bytes]:
    """Make the blocks that HMAC hashes before the message and before the inner digest (RFC 2104)."""
    block = subkey.ljust(_BLOCK_BYTES, b"\0")
    return bytes(octet ^ 0x36 for octet in block), bytes(octet ^ 0x5C for octet in block)


def make_pseudonyms(subkey: bytes, ids: Iterable[str]) -> list[bytes]:
    """Make the pseudonyms of ids in Python: HMAC-SHA-256 with the key hashed once, half the time of ``hmac.digest``."""
    inner, outer = (hashlib.sha256(pad) for pad in pad_key(subkey))
    return [_make_pseudonym(inner.copy(), outer.copy(), text.encode()) for text in ids]


def _make_pseudonym(inner: "hashlib._Hash", outer: "hashlib._Hash", message: bytes) -> bytes:
    inner.update(message)
    outer.update(inner.digest())
    octets = bytearray(outer.digest()[:16])
    octets[6] = octets[6] & 0x0F | 0x80
    octets[8] = octets[8] & 0x3F | 0x80
    return bytes(octets)
