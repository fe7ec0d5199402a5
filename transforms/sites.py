"""Usage sites as a dataset of their own: a row for each site and period in which somebody has a contract there.

Attributes of a site are as the reference has them, which keeps no history of them. So a row is not of the days of a
contract, which would tell who moved when, but of a period that is the same for all sites: a year, cut where another key
begins, so that a site has one pseudonym in it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.reference import STAYS_SCHEMA
from schemas.views import SITES
from transforms.anonymity import OPEN, Contracted, tell_values, withhold_place
from transforms.calendar import to_day
from transforms.plan import Column

Ints = npt.NDArray[np.int64]


def place_stays(contracts: pa.Table, points: pa.Table) -> pa.Table:
    """Tell of each contract when it is, and at which site.

    Args:
        contracts: rows of ``schemas.reference.CONTRACTS_SCHEMA``; those at points that are unknown are left out.
        points: rows of ``schemas.reference.SITES_SCHEMA``, one per metering point.

    Returns:
        Rows of ``schemas.reference.STAYS_SCHEMA``; whom nothing may be told of is not known yet.
    """
    at = pc.index_in(contracts["metering_point_id"], points["metering_point_id"])
    contracts, at = contracts.filter(at.is_valid()), at.drop_null()
    known = points.take(at)
    columns = {name: contracts[name] for name in ("valid_from", "valid_to")}
    columns |= {name: known[name] for name in STAYS_SCHEMA.names if name in known.column_names}
    columns["withheld"] = pa.chunked_array([pa.array(np.zeros(len(at), bool))])
    return pa.table(columns).select(STAYS_SCHEMA.names).cast(STAYS_SCHEMA)


def cut_periods(today: date, retention_days: int, keys: Iterable[date]) -> tuple[int, ...]:
    """Cut time into periods: years, from the first that is still kept to the one that is now, and where keys begin.

    Args:
        today: in the lake's time zone.
        retention_days: how long rows are kept.
        keys: first local dates of the keys; before the first of them nobody has a pseudonym.

    Returns:
        First days of the periods, and the first day after the last one; days since 1970-01-01, ascending.
    """
    first = max(date.fromordinal(max(today.toordinal() - retention_days, 1)).replace(month=1, day=1), min(keys))
    end = date(today.year + 1, 1, 1)
    years = (date(year, 1, 1) for year in range(first.year + 1, today.year + 1))
    bounds = {first, end, *years, *(one for one in keys if first < one < end)}
    return tuple(map(to_day, sorted(bounds)))


def list_stays(stays: pa.Table, columns: Sequence[Column], number_sites: Any, bounds: Sequence[int]) -> Contracted:
    """List the stays of a bucket of sites, with what is told of the sites by a dataset's columns; days are periods.

    Args:
        stays: rows of ``STAYS_SCHEMA``.
        columns: of a dataset, from attributes of the site, without pseudonyms.
        number_sites: makes site ids into numbers.
        bounds: of ``cut_periods``.
    """
    begins, ends = _periods_of(stays, bounds)
    there = np.flatnonzero(begins < ends)
    take = pa.array(there)
    site = number_sites(stays["site_id"].combine_chunks())[there].astype(np.int64)
    return Contracted(
        site, tuple(values.take(take) for values in tell_values(stays, columns)), begins[there], ends[there]
    )


def view_sites(stays: pa.Table, bounds: Sequence[int]) -> Iterator[Mapping[str, pa.Array]]:
    """Make the view ``sites`` of a bucket of sites, period by period.

    Args:
        stays: rows of ``STAYS_SCHEMA``, sorted by site; of one whose points differ, the first row tells what it is.
        bounds: of ``cut_periods``.
    """
    ids = stays["site_id"].combine_chunks()
    first = np.ones(len(ids), bool)
    first[1:] = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    rows, site = np.flatnonzero(first), np.cumsum(first) - 1
    begins, ends = _periods_of(stays, bounds)
    for period, (begin, end) in enumerate(pairwise(bounds)):
        there = np.zeros(len(rows), bool)
        there[site[(begins <= period) & (period < ends)]] = True
        take = pa.array(rows[there])
        withheld = stays["withheld"].combine_chunks().take(take)
        columns = {}
        for name in SITES:
            if name in ("valid_from", "valid_to"):
                day = begin if name == "valid_from" else end
                columns[name] = pa.array(np.full(len(take), day, np.int32)).view(pa.date32())
                continue
            columns[name] = withhold_place(name, stays[name].combine_chunks().take(take), withheld)
        yield columns


def _periods_of(stays: pa.Table, bounds: Sequence[int]) -> tuple[Ints, Ints]:
    """Tell the first period of each stay, and the one after its last; none where the one is not before the other."""
    begin, end = (stays[name].combine_chunks().view(pa.int32()) for name in ("valid_from", "valid_to"))
    first = np.searchsorted(bounds, begin.to_numpy(), side="right") - 1
    after = np.searchsorted(bounds, end.fill_null(OPEN).to_numpy(), side="left")
    return first.clip(min=0).astype(np.int64), after.clip(max=len(bounds) - 1).astype(np.int64)
