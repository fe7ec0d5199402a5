"""Pseudonyms: known answers, an independent computation, and the published vectors of HMAC and HKDF."""

import hashlib
import hmac
import json
import uuid
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.pseudonym import compute_hmac_sha256, derive_subkey, pseudonymise

SECRET = bytes(range(32))
VECTORS = Path(__file__).parents[3] / "shared" / "data" / "wycheproof"
needs_vectors = pytest.mark.skipif(not VECTORS.is_dir(), reason="the Wycheproof vectors are not on this machine")

IDS = st.lists(st.none() | st.text(max_size=200), max_size=40)


def recompute_hkdf(secret: bytes, salt: bytes, info: bytes, size: int) -> bytes:
    """RFC 5869 by hand."""
    prk = hmac.digest(salt or bytes(32), secret, "sha256")
    okm = block = b""
    while len(okm) < size:
        block = hmac.digest(prk, block + info + bytes([len(okm) // 32 + 1]), "sha256")
        okm += block
    return okm[:size]


def recompute_pseudonym(subkey: bytes, canonical_id: str) -> uuid.UUID:
    number = int.from_bytes(hmac.digest(subkey, canonical_id.encode(), "sha256")[:16], "big")
    number = number & ~(0xF << 76) | 8 << 76
    return uuid.UUID(int=number & ~(0b11 << 62) | 0b10 << 62)


def read_vectors(name: str) -> list[dict]:
    return json.loads((VECTORS / name).read_text())["testGroups"]


@given(ids=IDS, secret=st.binary(min_size=32, max_size=64))
def test_equals_the_computation_by_the_standard_library(ids, secret):
    subkey = derive_subkey(secret, "load-research", "customer", "2026-Q1")
    assert subkey == recompute_hkdf(secret, b"meterveil/v1", b"load-research|customer|2026-Q1", 32)
    made = pseudonymise(subkey, pa.array(ids, pa.string()))
    assert made.type == pa.binary(16)
    assert made.to_pylist() == [None if i is None else recompute_pseudonym(subkey, i).bytes for i in ids]


@given(ids=st.lists(st.none() | st.text(max_size=20), min_size=1, max_size=30), data=st.data())
def test_a_slice_has_the_pseudonyms_of_the_whole(ids, data):
    start = data.draw(st.integers(0, len(ids)))
    whole = pa.array(ids, pa.string())
    assert pseudonymise(SECRET, whole[start:]).equals(pseudonymise(SECRET, whole)[start:])


def test_a_hundred_thousand_ids_keep_their_order_and_do_not_collide():
    ids = [f"6430069660{i:08d}" for i in range(100_000)]
    made = pseudonymise(SECRET, pa.array(ids)).to_pylist()
    assert len(set(made)) == len(ids)
    for place in range(0, len(ids), 9_973):
        assert made[place] == recompute_pseudonym(SECRET, ids[place]).bytes


@pytest.mark.parametrize(
    ("domain", "entity", "epoch", "canonical_id", "pseudonym"),
    [
        ("load-research", "metering_point", "2026", "643006966022791278", "e4790e2f-9701-8f8f-96fc-7ae319b2e17c"),
        ("load-research", "metering_point", "2027", "643006966022791278", "e9581853-4249-831d-bfa1-180d81116a44"),
        ("product-development", "metering_point", "", "643006966022791278", "f965ec5b-a9c6-86f9-a3e9-05896ffc9d7a"),
        ("load-research", "customer", "2026", "C-1001", "6c2badec-7386-8f9f-8d2e-9dc276f1a31e"),
        ("load-research", "usage_site", "2026-Q1", "SITE-7", "414cdf2d-c4e1-8ad0-b3d9-dfc7b5b0a3bf"),
    ],
)
def test_known_answers(domain, entity, epoch, canonical_id, pseudonym):
    (made,) = pseudonymise(derive_subkey(SECRET, domain, entity, epoch), pa.array([canonical_id])).to_pylist()
    assert uuid.UUID(bytes=made) == uuid.UUID(pseudonym)
    assert (uuid.UUID(bytes=made).version, uuid.UUID(bytes=made).variant) == (8, uuid.RFC_4122)


@needs_vectors
def test_hmac_vectors():
    tried = 0
    for group in read_vectors("hmac_sha256_test.json"):
        for case in group["tests"]:
            key = bytes.fromhex(case["key"])
            if len(key) > 64:
                continue
            message = pa.array([bytes.fromhex(case["msg"])], pa.binary())
            tag = compute_hmac_sha256(key, message)[0].as_py()[: group["tagSize"] // 8]
            assert (tag == bytes.fromhex(case["tag"])) == (case["result"] == "valid"), case["tcId"]
            tried += 1
    assert tried > 100


@needs_vectors
def test_hkdf_vectors_hold_for_the_computation_that_subkeys_are_compared_with():
    for group in read_vectors("hkdf_sha256_test.json"):
        for case in group["tests"]:
            if case["result"] == "valid":
                secret, salt, info = (bytes.fromhex(case[part]) for part in ("ikm", "salt", "info"))
                assert recompute_hkdf(secret, salt, info, case["size"]).hex() == case["okm"], case["tcId"]


def test_hmac_of_a_key_as_long_as_a_block():
    key = hashlib.sha512(b"any").digest()
    assert compute_hmac_sha256(key, pa.array([b"x"]))[0].as_py() == hmac.digest(key, b"x", "sha256")
    with pytest.raises(ValueError, match="longer than a block"):
        compute_hmac_sha256(key + b"y", pa.array([b"x"]))


def test_domains_entities_epochs_and_secrets_give_different_subkeys():
    subkeys = {
        derive_subkey(secret, domain, entity, epoch)
        for secret in (SECRET, SECRET[::-1])
        for domain in ("a", "b")
        for entity in ("metering_point", "usage_site", "customer")
        for epoch in ("", "2026", "2026-Q1", "2026-01")
    }
    assert len(subkeys) == 48


@pytest.mark.parametrize(
    ("secret", "domain", "entity", "epoch"),
    [
        (SECRET[:31], "a", "customer", ""),
        (SECRET, "", "customer", ""),
        (SECRET, "a", "meter", ""),
        (SECRET, "a|b", "customer", ""),
        (SECRET, "a", "customer", "2026|1"),
    ],
)
def test_refuses_what_could_be_guessed_or_confused(secret, domain, entity, epoch):
    with pytest.raises(ValueError, match=r"shorter than|are needed"):
        derive_subkey(secret, domain, entity, epoch)
