"""k-anonymity: what is known of a site is told only as exactly as at least k sites share it on that day.

Values of quasi-identifiers are made coarser along hierarchies, the columns that matter least first: a postal prefix
digit by digit, other values at once. A combination that k sites share is told as it is; of the others, those that k
share one step up, and so on; what no step brings to k is null in all columns (L. Sweeney, Achieving k-anonymity privacy
protection using generalization and suppression, 2002). The same combination is told in the same way in every cell of a
day, since sites are counted over the whole reference.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.views import PLACES
from transforms.columns import apply_rule
from transforms.plan import Column, PostalPrefix

Ints = npt.NDArray[np.int64]

#: The day after all others, of a contract that has no end.
OPEN = np.iinfo(np.int32).max
_DAY_BITS = 31
#: Sites are numbered by so many bits, and so many of their rows can be told apart.
SITE_BITS, _ROW_BITS = 30, 33
_OF_STRETCH = ("site", "begins", "ends")


@dataclass(frozen=True, slots=True, eq=False)
class Contracted:
    """Contracts of usage sites, with what is known of the sites; aligned.

    Attributes:
        site: int64, a number for each site; two sites may share one, and count as one then.
        values: of every column, by its rule; dictionaries of text.
        begins: int64, first local day of the contract.
        ends: int64, first day after; ``OPEN`` for none.
    """

    site: Ints
    values: tuple[pa.Array, ...]
    begins: Ints
    ends: Ints


def list_contracted(
    points: pa.Table, occupancies: pa.Table, columns: Sequence[Column], number_sites: Any
) -> Contracted:
    """List the contracts of a bucket, with what its points are by a dataset's columns.

    Args:
        points: rows of ``schemas.reference.POINTS_SCHEMA``, one per metering point.
        occupancies: rows of ``schemas.reference.CONTRACTS_SCHEMA``; those at points that are unknown are left out.
        columns: of a dataset, from attributes of the site, without pseudonyms.
        number_sites: makes site ids into numbers.
    """
    at = pc.index_in(occupancies["metering_point_id"].combine_chunks(), points["metering_point_id"].combine_chunks())
    rows = np.flatnonzero(at.is_valid().to_numpy(zero_copy_only=False))
    at = at.take(pa.array(rows)).to_numpy()
    begins, ends = (occupancies[name].combine_chunks().take(pa.array(rows)) for name in ("valid_from", "valid_to"))
    return Contracted(
        number_sites(points["site_id"].combine_chunks())[at].astype(np.int64),
        tuple(values.take(pa.array(at)) for values in tell_values(points, columns)),
        begins.view(pa.int32()).to_numpy().astype(np.int64),
        ends.view(pa.int32()).fill_null(OPEN).to_numpy().astype(np.int64),
    )


def withhold_place(name: str, values: pa.Array, withheld: pa.Array) -> pa.Array:
    """Leave a field of sites null where nothing may tell the place, if it is one that does."""
    return pc.if_else(withheld, None, values) if name in PLACES else values


def tell_values(rows: pa.Table, columns: Sequence[Column]) -> list[pa.DictionaryArray]:
    """Tell what rows of sites are by a dataset's columns, where ``withheld`` keeps no place; dictionaries of text."""
    told = []
    for column in columns:
        # What is told of nobody is shared by nobody.
        withheld = rows["withheld"].combine_chunks()
        known = withhold_place(column.source, rows[column.source].combine_chunks(), withheld)
        encoded = known.dictionary_encode()
        made = apply_rule(column, encoded.dictionary).dictionary_encode()  # what was different may be one now
        told.append(pa.DictionaryArray.from_arrays(made.indices.take(encoded.indices), made.dictionary))
    return told


@dataclass(frozen=True, slots=True, eq=False)
class Combinations:
    """Which combinations of values there are, and when how many sites have them.

    Attributes:
        distinct: of every column, its distinct values.
        codes: int64, ascending: each combination as one number.
        which: int32, for each stretch of days of a site, its combination's place in ``codes``.
        begins: int32, first day of each stretch.
        ends: int32, first day after.
    """

    distinct: tuple[pa.Array, ...]
    codes: Ints
    which: npt.NDArray[np.int32]
    begins: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int32]

    @classmethod
    def of(cls, parts: Sequence[Contracted]) -> "Combinations":
        """Gather contracts of all buckets; a site counts once on a day, with one combination."""
        distinct = tuple(
            pa.concat_arrays([_distinct(part.values[n]) for part in parts]).unique()
            for n in range(len(parts[0].values))
        )
        site, begins, ends = (np.concatenate([getattr(part, name) for part in parts]) for name in _OF_STRETCH)
        code = np.concatenate([_encode(part.values, distinct) for part in parts])
        order = np.sort(site << _ROW_BITS | np.arange(len(site))) & (1 << _ROW_BITS) - 1  # a third of argsort's time
        site, begins, ends, code = (values[order] for values in (site, begins, ends, code))
        first = np.diff(site, prepend=-1) != 0
        rank = np.cumsum(first)
        # Points of a site that differ count as the first one does; stretches that overlap become one, by the latest
        # end so far. Both count fewer sites than there may be, never more.
        same = code == code[first][rank - 1]
        begins, ends, code, rank = (values[same] for values in (begins, ends, code, rank))
        reach = np.maximum.accumulate((rank << _DAY_BITS) + ends)
        opens = np.append(True, (rank[1:] << _DAY_BITS) + begins[1:] > reach[:-1])[: len(rank)]
        last = np.append(opens[1:], True)[: len(rank)]
        codes, which = np.unique(code[opens], return_inverse=True)
        ends = reach[last] & (1 << _DAY_BITS) - 1
        return cls(distinct, codes, which.astype(np.int32), begins[opens].astype(np.int32), ends.astype(np.int32))

    def count(self, local_date: int) -> Ints:
        """Count the sites of each combination on a local day (days since 1970-01-01)."""
        there = (self.begins <= local_date) & (self.ends > local_date)
        return np.bincount(self.which[there], minlength=len(self.codes))

    def values(self) -> list[pa.Array]:
        """Give the values of every combination, column by column."""
        taken, rest = [], self.codes
        for distinct in reversed(self.distinct):
            rest, place = np.divmod(rest, len(distinct) + 1)
            taken.append(distinct.take(pa.array(place, mask=place == len(distinct))))
        return taken[::-1]


@dataclass(frozen=True, slots=True, eq=False)
class Generalised:
    """How every combination of values is told on a local day.

    Attributes:
        distinct: as of ``Combinations``.
        codes: as of ``Combinations``.
        told: of every column, the value of each combination; one more than there are combinations, null, for those
            that nobody under contract has.
    """

    distinct: tuple[pa.Array, ...]
    codes: Ints
    told: tuple[pa.Array, ...]

    def tell(self, columns: Sequence[pa.Array]) -> list[pa.Array]:
        """Make columns coarse: text or dictionaries of text, in the order of the policy."""
        if not len(self.codes):
            return [pa.nulls(len(column), pa.string()) for column in columns]
        code = _encode(columns, self.distinct)
        place = np.searchsorted(self.codes, code).clip(max=len(self.codes) - 1)
        place = np.where(self.codes[place] == code, place, len(self.codes))
        return [told.take(pa.array(place)) for told in self.told]


def generalise(combinations: Combinations, columns: Sequence[Column], k: int, local_date: int) -> Generalised:
    """Choose how every combination is told on a day, so that k sites share what is told.

    Args:
        combinations: the sites of the whole reference.
        columns: the dataset's columns, the one that stays exact the longest first.
        k: fewest sites that share what is told of them.
        local_date: days since 1970-01-01.
    """
    counts, values = combinations.count(local_date), combinations.values()
    told = [pa.nulls(len(counts), pa.string()) for _ in columns]
    left = np.ones(len(counts), bool)
    for step in (None, *_list_steps(columns)):
        if step is not None:
            number, digits = step
            values[number] = pc.utf8_slice_codeunits(values[number], 0, digits) if digits else _nothing(values[number])
        group = _group(values)
        enough = left & (np.bincount(group, np.where(left, counts, 0))[group] >= k)
        told = [pc.if_else(pa.array(enough), new, old) for new, old in zip(values, told, strict=True)]
        left &= ~enough
    return Generalised(
        combinations.distinct,
        combinations.codes,
        tuple(pa.concat_arrays([one, pa.nulls(1, pa.string())]) for one in told),
    )


def anonymise(columns: Mapping[str, pa.Array], names: Sequence[str], generalised: Generalised) -> dict[str, pa.Array]:
    """Replace columns of rows by what may be told of them."""
    return {**columns, **dict(zip(names, generalised.tell([columns[name] for name in names]), strict=True))}


def _list_steps(columns: Sequence[Column]) -> Iterator[tuple[int, int]]:
    """List what is made coarser, step by step: the column, and how many characters are left of its values."""
    for number in reversed(range(len(columns))):
        match columns[number].rule:
            case PostalPrefix(digits):
                yield from ((number, left) for left in reversed(range(digits)))
            case _:
                yield number, 0


def _group(values: Sequence[pa.Array]) -> Ints:
    """Number rows so that rows of the same values have the same number."""
    distinct = tuple(map(_distinct, values))
    group: Ints = np.unique(_encode(values, distinct), return_inverse=True)[1]
    return group


def _encode(columns: Sequence[pa.Array], distinct: Sequence[pa.Array]) -> Ints:
    """Make a number of each row's values; null, and what is not among the distinct values, is the last digit."""
    code = np.zeros(len(columns[0]), np.int64)
    for column, values in zip(columns, distinct, strict=True):
        if pa.types.is_dictionary(column.type):
            place = pc.index_in(column.dictionary, values).take(column.indices)
        else:
            place = pc.index_in(column, values)
        code = code * (len(values) + 1) + place.fill_null(len(values)).to_numpy()
    return code


def _distinct(column: pa.Array) -> pa.Array:
    """Find the distinct values of text, without null."""
    values = column.dictionary if pa.types.is_dictionary(column.type) else column
    return values.unique().drop_null()


def _nothing(column: pa.Array) -> pa.Array:
    return pa.nulls(len(column), pa.string())
