"""Matching: known forms of phones and codes, and who is found by which key, as an oracle of loops says."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum.fi import hetu

from schemas.reference import CUSTOMERS_SCHEMA
from schemas.registers import REGISTERS
from transforms.matching import (
    assign_rows,
    canonical_phones,
    canonical_text,
    check_identity_codes,
    find_holder_keys,
    make_entries,
    match_keys,
    sort_holders,
)
from transforms.pseudonym import derive_matching_key, derive_subkey

Row = Mapping[str, Any]
KEY = derive_matching_key(bytes(range(32)))
AT = datetime(2026, 1, 1, tzinfo=UTC)
CODES = ("010190-900P", "010190-901R", "010190-902S")


def customer(number: int, **other: object) -> Row:
    return {"customer_id": f"C{number}", "kind": "person", "information_restriction": False, **other}


def row(**other: object) -> Row:
    return {"source": "S", "received_at": AT, **other}


def match(feed: str, customers: Sequence[Row], rows: Sequence[Row]) -> tuple[list[Row], dict[str, int]]:
    """Match rows of a feed in the two passes that there are."""
    register = REGISTERS[feed]
    holders = find_holder_keys(pa.RecordBatch.from_pylist(list(customers), schema=CUSTOMERS_SCHEMA), KEY)
    schema = pa.schema([field.with_nullable(True) for field in register.schema])
    batch = pa.RecordBatch.from_arrays(
        pa.RecordBatch.from_pylist(list(rows), schema=schema).columns, schema=register.schema
    )
    holders = sort_holders(pa.Table.from_batches([holders]))
    entries = pa.Table.from_batches([make_entries(batch, register, KEY)])
    found, counts = [], {"matched": 0, "ambiguous": 0, "nobody": 0}
    for _ in range(2):
        assigned = assign_rows(entries, holders, register)
        found += assigned.rows.to_pylist()
        counts = {name: count + assigned.counts[name] for name, count in counts.items()}
        entries = assigned.again
    assert not entries.num_rows
    return found, counts


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("+358 40 123 4567", "+358401234567"),
        ("040-1234567", "+358401234567"),
        ("00358 (40) 1234567", "+358401234567"),
        ("0046 8 123 45", "+46812345"),
        ("n/a", None),
        ("", None),
        (None, None),
    ],
)
def test_phones_are_written_in_one_way(written: str | None, canonical: str | None) -> None:
    assert canonical_phones(pa.array([written], pa.string())).to_pylist() == [canonical]


def test_text_is_trimmed_decomposed_and_upper_case() -> None:
    texts = pa.array([" aino  Å\tlund ", "A\u030alund", "", "  ", None, "ÅLUND"])
    assert canonical_text(texts).to_pylist() == ["AINO A\u030a LUND", "A\u030aLUND", None, None, None, "A\u030aLUND"]


@given(
    st.integers(1, 28), st.integers(1, 12), st.integers(0, 99), st.sampled_from("+-YXWVUABCDEF"), st.integers(900, 999)
)
def test_check_characters_are_those_of_stdnum(day: int, month: int, year: int, sign: str, individual: int) -> None:
    digits = f"{day:02d}{month:02d}{year:02d}{individual}"
    codes = [f"{digits[:6]}{sign}{individual}{last}" for last in "0123456789ABCDEFHJKLMNPRSTUVWXYGIOQZ"]
    assert check_identity_codes(pa.array(codes)).to_pylist().count(True) == 1
    right = codes["0123456789ABCDEFHJKLMNPRSTUVWXY".index(hetu._calc_checksum(digits))]
    assert check_identity_codes(pa.array([right, right[:-1], None, "", f"{right}0"])).to_pylist() == [
        True,
        False,
        None,
        False,
        False,
    ]


def test_the_key_is_of_its_own() -> None:
    secret = bytes(range(32))
    assert KEY.hex() == "07d68f0e71df6a1d2b624ae4fd35bb50881794132c61715ddc72799af168c8b4"
    assert derive_subkey(secret, "matching", "customer", "") != KEY
    with pytest.raises(ValueError, match="shorter"):
        derive_matching_key(b"short")


@given(st.lists(st.sampled_from([None, "a", "b", "c", "d"])), st.lists(st.sampled_from(["a", "b", "b", "e"])))
def test_keys_meet_as_loops_say(keys: list[str | None], holders: list[str]) -> None:
    def coded(texts: Sequence[str | None]) -> pa.Array:
        return pa.array([text and text.encode() * 16 for text in texts], pa.binary(16))

    holders = sorted(holders)
    matches = match_keys(coded(keys), coded(holders))
    expected = [
        (r, h, holders.count(holder)) for r, key in enumerate(keys) for h, holder in enumerate(holders) if key == holder
    ]
    assert list(zip(matches.row.tolist(), matches.holder.tolist(), matches.sharing.tolist(), strict=True)) == expected


def test_keys_that_agree_by_half_are_two() -> None:
    keys = [b"12345678abcdefgh", b"12345678ABCDEFGH"]
    for sought in (keys[:1], keys[1:]):
        matches = match_keys(pa.array(sought, pa.binary(16)), pa.array(keys, pa.binary(16)))
        assert (matches.holder.tolist(), matches.sharing.tolist()) == ([keys.index(sought[0])], [1])


def test_an_identity_code_decides_alone() -> None:
    one = customer(1, identity_code=CODES[0], name="Aino", phone="040 1234567")
    other = row(identity_code=CODES[1], name="Aino", phone="040 1234567", email="x")
    assert match("authority", [one], [other]) == ([], {"matched": 0, "ambiguous": 0, "nobody": 1})
    found, _ = match("authority", [one], [{**other, "identity_code": CODES[0].lower() + " "}])
    assert [(r["customer_id"], r["email"]) for r in found] == [("C1", "x")]


def test_a_sign_of_the_century_tells_people_apart() -> None:
    codes = ("010100+900F", "010100-900F", "010100A900F")
    customers = [customer(number, identity_code=code) for number, code in enumerate(codes)]
    found, counts = match("population_register", customers, [row(identity_code=code, language=code) for code in codes])
    assert [(r["customer_id"], r["language"]) for r in found] == [(f"C{n}", code) for n, code in enumerate(codes)]
    assert counts["matched"] == 3


def test_one_person_with_two_customer_numbers_is_found_twice() -> None:
    customers = [customer(number, identity_code=CODES[0]) for number in (1, 2)]
    found, counts = match("population_register", customers, [row(identity_code=CODES[0], language="sv")])
    assert {r["customer_id"] for r in found} == {"C1", "C2"}
    assert counts == {"matched": 1, "ambiguous": 0, "nobody": 0}


HOME = {"street_address": "Katu 1", "postal_code": "00100"}
TOLD = {"kind": "raffle", "campaign": "c", "agreed_purpose": "p"}


def test_a_phone_that_is_anothers_leaves_it_to_name_and_address() -> None:
    aino, otso = customer(1, name="Aino", phone="040 1", **HOME), customer(2, name="Otso", phone="040 22222", **HOME)
    found, counts = match("campaign", [aino, otso], [row(name=" AINO ", phone="04022222", **HOME, **TOLD)])
    assert [r["customer_id"] for r in found] == ["C1"]
    assert counts == {"matched": 1, "ambiguous": 0, "nobody": 0}
    assert match("campaign", [aino, otso], [row(name="Aino", phone="04022222", **TOLD)])[1]["nobody"] == 1


def test_homonyms_are_left_out_but_for_what_protects() -> None:
    customers = [customer(number, name="Aino", **HOME) for number in (1, 2)]
    plain = row(name="Aino", **HOME, email="x")
    assert match("authority", customers, [plain]) == ([], {"matched": 0, "ambiguous": 1, "nobody": 0})
    found, counts = match("authority", customers, [{**plain, "information_restriction": True}])
    assert [(r["customer_id"], r["information_restriction"], r["email"], r["name"]) for r in found] == [
        ("C1", True, None, None),
        ("C2", True, None, None),
    ]
    assert counts["ambiguous"] == 1


def test_a_ban_holds_for_everybody_with_the_number_or_the_name_and_address() -> None:
    customers = [
        customer(1, name="Aino", phone="0401234567"),
        customer(2, name="Otso", phone="+358401234567"),
        customer(3, name="Kielo", phone="0407654321", **HOME),
    ]
    ban = row(phone="040 123 4567", name="Kielo", **HOME, channel="telephone", list_version=AT.date())
    found, counts = match("marketing_ban", customers, [ban])
    assert {r["customer_id"] for r in found} == {"C1", "C2", "C3"}
    assert counts == {"matched": 1, "ambiguous": 0, "nobody": 0}


def test_plain_values_of_keys_do_not_travel() -> None:
    register = REGISTERS["credit_register"]
    batch = pa.RecordBatch.from_pylist(
        [row(identity_code=CODES[0], business_id=None, defaults=1)], schema=register.schema
    )
    entries = make_entries(batch, register, KEY)
    assert CODES[0] not in str(entries.to_pylist())
    assert make_entries(batch, register, bytes(32))["key"] != entries["key"]
