"""Matching rows of registers with customers by keyed hashes: neither side's plain values leave their batch.

A row has its strongest key, and perhaps a second one. An identity code or business id decides alone: if it is
nobody's, nothing weaker is tried, since a name and address would contradict it. A phone that is nobody's leaves it to
name and address.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.registers import ATTRIBUTES, KEYS, PROTECTIONS, Register
from transforms.pseudonym import compute_hmac_sha256

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

#: Bytes of a hash that are kept: 10^9 of them meet by chance once in 10^20.
KEY_BYTES = 16
KEY = pa.binary(KEY_BYTES)
#: No value holds it, so that parts of a key can't be taken for other parts.
_SEPARATOR = "\x1f"
_CODE = r"^(0[1-9]|[12]\d|3[01])(0[1-9]|1[0-2])\d{2}[-+YXWVUABCDEF]\d{3}[0-9A-FHJ-NPR-Y]$"
_CONTROL = np.frombuffer(b"0123456789ABCDEFHJKLMNPRSTUVWXY", np.uint8)
#: Columns of a key that say who a person or company is, beyond doubt.
_EXACT = ("identity_code", "business_id")


@dataclass(frozen=True, slots=True)
class RowKeys:
    """The keys of rows; arrays aligned with them.

    Attributes:
        first: ``KEY``, null for a row without any key.
        second: ``KEY``, what to try where nobody has the first; mostly null.
        exact: bool, whether all who have the first key are one person or company.
    """

    first: pa.Array
    second: pa.Array
    exact: pa.Array


@dataclass(frozen=True, slots=True)
class Matches:
    """Which rows are whose; a row of several customers stands once for each.

    Attributes:
        row: int64, rows that somebody has the key of.
        holder: int64, places among the holders.
        sharing: int64, how many have the key.
    """

    row: Ints
    holder: Ints
    sharing: Ints


def check_identity_codes(codes: pa.Array) -> pa.Array:
    """Tell which personal identity codes are well-formed, check character too; null stays null.

    The check character is that of the date and individual number, as one number, modulo 31. The day is not held against
    the length of its month.
    """
    shaped = pc.match_substring_regex(codes, _CODE)
    rows = np.flatnonzero(pc.fill_null(shaped, False).to_numpy(zero_copy_only=False))
    fit = codes.take(pa.array(rows))
    number = pc.binary_join_element_wise(pc.utf8_slice_codeunits(fit, 0, 6), pc.utf8_slice_codeunits(fit, 7, 10), "")
    wanted = _CONTROL[number.cast(pa.int64()).to_numpy() % len(_CONTROL)]
    letters = pc.utf8_slice_codeunits(fit, 10, 11).cast(pa.binary()).cast(pa.binary(1))
    found = np.frombuffer(letters.buffers()[1], np.uint8)[: len(rows)] if len(rows) else wanted
    right = np.zeros(len(codes), np.bool_)
    right[rows] = found == wanted
    return pa.array(right, mask=codes.is_null().to_numpy(zero_copy_only=False))


def canonical_text(values: pa.Array) -> pa.Array:
    """Trim, decompose (NFD), upper-case, one space between words; empty is null."""
    if not pc.all(pc.string_is_ascii(values)).as_py():
        # Arrow's NFC decomposes too: for comparing, either form does.
        values = pc.utf8_normalize(values, "NFD")
    upper = pc.utf8_upper(pc.utf8_trim_whitespace(values))
    # Few values have two spaces in a row, and the expression is slow.
    if pc.any(pc.match_substring_regex(upper, r"\s\s|[\t\n]")).as_py():
        upper = pc.replace_substring_regex(upper, r"\s+", " ")
    return pc.if_else(pc.equal(upper, ""), pa.scalar(None, pa.string()), upper)


def canonical_phones(phones: pa.Array) -> pa.Array:
    """Write telephone numbers as ``+358…``: no spaces or signs, 00 and a Finnish 0 spelt out; without digits null."""
    bare = pc.replace_substring_regex(phones, "[^0-9+]", "")
    bare = pc.replace_substring_regex(bare, "^00", "+")
    bare = pc.replace_substring_regex(bare, "^0", "+358")
    return pc.if_else(pc.less(pc.binary_length(bare), 5), pa.scalar(None, pa.string()), bare)


def find_row_keys(rows: pa.RecordBatch, keys: tuple[str, ...], subkey: bytes) -> RowKeys:
    """Make the keys by which rows of a register find their customers.

    Args:
        rows: with the columns of the keys.
        keys: names of ``schemas.registers.KEYS``, the strongest first.
        subkey: 32 secret bytes (``derive_matching_key``).
    """
    texts = {key: _spell(rows, key) for key in keys}
    if "phone" in texts:
        texts["phone"] = pc.coalesce(texts["phone"], _spell(rows, "number"))
    none = pa.nulls(rows.num_rows, pa.string())
    exact = pc.coalesce(*(texts.get(key, none) for key in _EXACT))
    number = pc.coalesce(texts.get("phone", none), texts.get("number", none))
    place = texts.get("name_address", none)
    second = pc.if_else(pc.and_(exact.is_null(), number.is_valid()), place, none)
    return RowKeys(_hash(subkey, pc.coalesce(exact, number, place)), _hash(subkey, second), exact.is_valid())


def find_holder_keys(customers: pa.RecordBatch, subkey: bytes) -> pa.RecordBatch:
    """List every key that customers can be found by: ``key`` (``KEY``) and ``customer_id``.

    Args:
        customers: rows of ``schemas.reference.CUSTOMERS_SCHEMA``.
        subkey: 32 secret bytes.
    """
    ids, hashes = [], []
    for key in KEYS:
        texts = _spell(customers, key)
        held = texts.is_valid()
        ids.append(customers["customer_id"].filter(held))
        hashes.append(_hash(subkey, texts.filter(held)))
    return pa.record_batch({"key": pa.concat_arrays(hashes), "customer_id": pa.concat_arrays(ids)})


def sort_holders(holders: pa.Table) -> pa.Table:
    """Sort the keys of holders for ``match_keys``: once, however many registers look in them."""
    return holders.take(pa.array(np.argsort(_words(holders["key"].combine_chunks())[:, 0], kind="stable")))


def match_keys(keys: pa.Array, holders: pa.Array) -> Matches:
    """Find who holds the keys of rows.

    Args:
        keys: ``KEY``, of the rows; null is nobody's.
        holders: ``KEY``, of the holders, as ``sort_holders`` leaves them; no nulls.
    """
    sought, held = _words(keys), _words(holders)
    # The first words decide nearly always; where two keys agree in them alone, the second words tell them apart.
    ordered = np.ascontiguousarray(held[:, 0])
    first = np.searchsorted(ordered, sought[:, 0], "left")
    count = np.searchsorted(ordered, sought[:, 0], "right") - first
    count[keys.is_null().to_numpy(zero_copy_only=False)] = 0
    row = np.repeat(np.arange(len(keys)), count)
    holder = np.arange(len(row)) - np.repeat(np.cumsum(count) - count - first, count)
    same = sought[row, 1] == held[holder, 1]
    row, holder = row[same], holder[same]
    return Matches(row, holder, np.bincount(row, minlength=len(keys))[row])


def _words(keys: pa.Array) -> npt.NDArray[np.uint64]:
    """See keys as two words of 64 bits each, ``[key, 2]``."""
    if not len(keys):
        return np.empty((0, 2), np.uint64)
    words = np.frombuffer(keys.buffers()[1], np.uint64).reshape(-1, 2)
    return words[keys.offset : keys.offset + len(keys)]


@dataclass(frozen=True, slots=True)
class Assigned:
    """What became of rows that looked for their customers.

    Attributes:
        rows: of the register's ``kept`` schema, once for each customer.
        again: rows that try their second key next, like those that were given.
        counts: of rows that are done with: ``matched``, ``ambiguous``, ``nobody``.
    """

    rows: pa.Table
    again: pa.Table
    counts: dict[str, int]


def entry_schema(register: Register) -> pa.Schema:
    """Give the schema of a register's rows on the way to their customers: keys as hashes, and what is kept."""
    keys = [pa.field("key", KEY), pa.field("second", KEY), pa.field("exact", pa.bool_()), pa.field("found", pa.bool_())]
    return pa.schema([*keys, *list(register.kept)[1:]])


def make_entries(rows: pa.RecordBatch, register: Register, subkey: bytes) -> pa.RecordBatch:
    """Give rows of a register their keys, and drop what only the keys needed; rows without any key are left out."""
    keys = find_row_keys(rows, register.keys, subkey)
    kept = [rows[name] for name in register.kept.names[1:]]
    found = pa.repeat(pa.scalar(False), rows.num_rows)
    entries = pa.RecordBatch.from_arrays(
        [keys.first, keys.second, keys.exact, found, *kept], schema=entry_schema(register)
    )
    return entries.filter(entries["key"].is_valid()) if entries["key"].null_count else entries


def assign_rows(entries: pa.Table, holders: pa.Table, register: Register) -> Assigned:
    """Find the customers of a register's rows.

    A phone, or a name and address, that several customers have is ambiguous: such a row is left out, except for what
    protects, which holds for all of them.

    Args:
        entries: rows of ``entry_schema``, all those whose keys are in one bucket.
        holders: ``key`` and ``customer_id``, all those of the bucket, as ``sort_holders`` leaves them.
        register: the register.
    """
    matches = match_keys(entries["key"].combine_chunks(), holders["key"].combine_chunks())
    exact, before = (entries[name].to_numpy() for name in ("exact", "found"))
    found = before.copy()
    found[matches.row] = True
    shared = (matches.sharing > 1) & ~exact[matches.row] & (not register.protects)
    kept = entries.select(register.kept.names[1:])
    parts = [_own(kept, holders, matches, ~shared, register)]
    if PROTECTIONS & set(register.attributes):
        parts.append(_protect(kept, holders, matches, shared, register))
    goes_on = entries["second"].is_valid().to_numpy() & (~found | register.protects)
    again = entries.filter(pa.array(goes_on))
    for name, column in (
        ("key", again["second"]),
        ("second", pa.nulls(again.num_rows, KEY)),
        ("found", pa.array(found[goes_on])),
    ):
        again = again.set_column(again.column_names.index(name), again.schema.field(name), column)
    ambiguous = np.zeros(len(found), np.bool_)
    ambiguous[matches.row[shared]] = True
    done = ~goes_on
    counts = {"matched": found & ~ambiguous & done, "ambiguous": ambiguous & done, "nobody": ~found & done}
    return Assigned(pa.concat_tables(parts), again, {name: int(mask.sum()) for name, mask in counts.items()})


def _own(kept: pa.Table, holders: pa.Table, matches: Matches, chosen: Mask, register: Register) -> pa.Table:
    ids = holders["customer_id"].take(pa.array(matches.holder[chosen]))
    rows = kept.take(pa.array(matches.row[chosen]))
    return pa.table([ids, *rows.columns], schema=register.kept)


def _protect(kept: pa.Table, holders: pa.Table, matches: Matches, shared: Mask, register: Register) -> pa.Table:
    """Give what protects, and nothing else, of ambiguous rows to everybody they may mean."""
    rows = _own(kept, holders, matches, shared, register)
    said = [name for attribute in register.attributes for name in ATTRIBUTES[attribute]]
    for name in said:
        if name not in PROTECTIONS:
            field = rows.schema.field(name)
            rows = rows.set_column(rows.column_names.index(name), field, pa.nulls(rows.num_rows, field.type))
    protecting = [pc.fill_null(rows[name], False) for name in PROTECTIONS & set(said)]
    return rows.filter(protecting[0])


def _spell(rows: pa.RecordBatch, key: str) -> pa.Array:
    """Spell a key out, its name first; null where a part is missing."""
    parts = [canonical_phones(rows[name]) if name == "phone" else canonical_text(rows[name]) for name in KEYS[key]]
    if key == "identity_code":
        parts = [pc.if_else(check_identity_codes(parts[0]), parts[0], pa.scalar(None, pa.string()))]
    return pc.binary_join_element_wise(pa.scalar(key), *parts, _SEPARATOR)


def _hash(subkey: bytes, texts: pa.Array) -> pa.Array:
    if texts.null_count == len(texts):
        return pa.nulls(len(texts), KEY)
    return pc.binary_slice(compute_hmac_sha256(subkey, texts.cast(pa.binary())), 0, KEY_BYTES).cast(KEY)
