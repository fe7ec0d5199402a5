"""Sites by period: who has a row in which, and what it tells, worked out contract by contract."""

from datetime import date, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.reference import STAYS_SCHEMA
from schemas.views import PLACES, SITES
from transforms.plan import Band, Column, Keep
from transforms.sites import cut_periods, list_stays, view_sites

EPOCH = date(1970, 1, 1)
YEARS = tuple((date(year, 1, 1) - EPOCH).days for year in (2023, 2024, 2025, 2026, 2027))
HEATING = Column("heating", "heating", Keep(), pa.string(), False, "")
FUSE = Column("fuse", "fuse_a", Band((25, 35)), pa.string(), False, "")
AREA = Column("area", "postal_code", Keep(), pa.string(), False, "")

days = st.dates(date(2021, 6, 1), date(2028, 6, 1))
stays_of_sites = st.lists(
    st.tuples(
        st.integers(0, 5), st.integers(0, 2), days, st.none() | st.integers(1, 900),
        st.sampled_from(["electric", "district", None]), st.sampled_from([25, 63, None]), st.sampled_from(["00100", None]),
    ),
    max_size=12,
)  # fmt: skip


def make(stays, withheld=frozenset()):
    """Rows of stays, in the order of a snapshot; what a site is like is the same in all stays of a point."""
    rows = [
        {
            "site_id": f"s{site}", "metering_point_id": f"p{site}{point}", "valid_from": begin,
            "valid_to": None if days is None else begin + timedelta(days), "heating": heating, "fuse_a": fuse,
            "postal_code": area, "municipality": "049", "building_type": None, "grid_area": None,
            "withheld": site in withheld,
        }
        for site, point, begin, days, heating, fuse, area in stays
    ]  # fmt: skip
    rows.sort(key=lambda row: (row["site_id"], row["metering_point_id"], row["valid_from"]))
    return pa.Table.from_pylist(rows, schema=STAYS_SCHEMA), rows


@given(stays_of_sites, st.frozensets(st.integers(0, 5), max_size=3))
def test_a_site_has_a_row_in_every_period_that_a_contract_reaches_into(stays, withheld):
    table, rows = make(stays, withheld)
    for number, columns in enumerate(view_sites(table, YEARS)):
        begin, end = (EPOCH + timedelta(day) for day in YEARS[number : number + 2])
        expected = {}
        for row in rows:
            if row["valid_from"] < end and (row["valid_to"] is None or row["valid_to"] > begin):
                expected.setdefault(row["site_id"], next(one for one in rows if one["site_id"] == row["site_id"]))
        found = pa.table(dict(columns)).to_pylist()
        assert list(columns) == list(SITES)
        assert [row["site_id"] for row in found] == sorted(expected)
        for row in found:
            told = expected[row["site_id"]]
            assert (row["valid_from"], row["valid_to"]) == (begin, end)
            for name in set(SITES) - {"site_id", "valid_from", "valid_to"}:
                assert row[name] == (None if told["withheld"] and name in PLACES else told[name])


@given(stays_of_sites, st.frozensets(st.integers(0, 5), max_size=3))
def test_what_is_counted_is_what_is_told(stays, withheld):
    """In each period, the listed stays are of the sites that have a row, and the first of them says the same."""
    table, _ = make(stays, withheld)

    def number_sites(ids):
        return pa.compute.utf8_slice_codeunits(ids, 1).cast(pa.int64()).to_numpy()

    listed = list_stays(table, [HEATING, FUSE, AREA], number_sites, YEARS)
    for period, columns in enumerate(view_sites(table, YEARS)):
        there = (listed.begins <= period) & (period < listed.ends)
        assert sorted({f"s{site}" for site in listed.site[there]}) == columns["site_id"].to_pylist()
        first = {}
        for site, *values in zip(listed.site, *(part.to_pylist() for part in listed.values), strict=True):
            first.setdefault(f"s{site}", values)
        for site, heating, area in zip(
            *(columns[name].to_pylist() for name in ("site_id", "heating", "postal_code")), strict=True
        ):
            if len({row for row in stays if f"s{row[0]}" == site}) == 1:
                assert [first[site][0], first[site][2]] == [heating, area]


@pytest.mark.parametrize(
    ("today", "retention", "keys", "expected"),
    [
        (date(2026, 11, 26), 1096, [date.min], ["2023-01-01", "2024-01-01", "2025-01-01", "2026-01-01", "2027-01-01"]),
        (date(2026, 1, 1), 0, [date.min], ["2026-01-01", "2027-01-01"]),
        (date(2026, 5, 1), 400, [date(2025, 7, 1), date(2026, 3, 1), date(2027, 1, 1)],
         ["2025-07-01", "2026-01-01", "2026-03-01", "2027-01-01"]),
    ],
)  # fmt: skip
def test_periods_are_years_cut_where_keys_begin(today, retention, keys, expected):
    assert [str(EPOCH + timedelta(day)) for day in cut_periods(today, retention, keys)] == expected
