"""Load features: what the months of a contract say of how electricity is used under it, for rules of target groups.

The indicators are those of the newest month, as ``transforms.indicators`` told them; the signs of heating and sun come
of the same module's formulas. A feature is of a customer, a contract and a point together: who moved in later has
nothing of whoever lived there before. It is unknown where that month is missing, or lacks values for more than half of
its time.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.features import LOAD_FEATURES
from schemas.series import ACTIVE_ENERGY
from transforms.calendar import to_date
from transforms.decimals import as_int64_units
from transforms.indicators import compare_seasons, tell_solar
from transforms.plan import Dataset, Keep, TargetGroup

#: Whose the load of a month is.
KEYS = ("customer_id", "contract_id", "metering_point_id")
_OF_ROWS = (*KEYS, "product", "direction", "month", "present_minutes")
_SIGNS: dict[str, tuple[str, ...]] = {"winter_ratio": ("energy",), "solar_sign": ("energy", "site_id", "midday_ratio")}
#: Winters are compared with summers over a year: its months begin less than so many days before the newest.
_YEAR_DAYS = 365
_DAY_MINUTES = 24 * 60
_PLAIN = tuple(name for name in LOAD_FEATURES if name not in _SIGNS)


def list_used(groups: Mapping[str, TargetGroup]) -> frozenset[str]:
    """List the load features that the rules of target groups go by."""
    conditions = (one for group in groups.values() for one in group.conditions)
    return frozenset(one.feature for one in conditions if one.feature in LOAD_FEATURES)


def choose_months(months: set[int], used: frozenset[str]) -> list[int]:
    """Choose, of months by their first days, those that load features need, in order: the newest, or a year of them."""
    newest = max(months, default=0)
    return sorted(one for one in months if newest - one < (_YEAR_DAYS if "winter_ratio" in used else 1))


def list_sources(used: frozenset[str]) -> tuple[str, ...]:
    """List the fields of the view ``months`` that load features are made from."""
    return tuple(dict.fromkeys((*_OF_ROWS, *(name for one in sorted(used) for name in _SIGNS.get(one, (one,))))))


def find_months(datasets: Mapping[str, Dataset], used: frozenset[str]) -> Dataset | None:
    """Find the operational dataset of months that keeps the sources of load features, of all contracts."""
    for dataset in datasets.values():
        kept = {column.source for column in dataset.columns if isinstance(column.rule, Keep)}
        every = all(item == ("contracted", True) for item in dataset.where.items())
        if dataset.view == "months" and dataset.zone == "operational" and every and kept >= set(list_sources(used)):
            return dataset
    return None


def tell_load(months: pa.Table, newest: int, used: frozenset[str]) -> pa.Table:
    """Tell the load features of the contracts of some points.

    Args:
        months: every row of these points, of the newest month and those before it: ``list_sources``, as the view
            ``months`` has them.
        newest: first day of the newest month, days since 1970-01-01.
        used: features that are asked for.

    Returns:
        A row for each combination of ``KEYS`` that used active energy in the newest month, or produced it: ``KEYS``;
        the numbers among ``used``, float64, null where unknown; and for ``solar_sign``, which needs every point of the
        site, ``site_id``, ``midday_ratio`` and ``produces`` (``sign_solar``).
    """
    energy = pc.equal(months["product"], ACTIVE_ENERGY)
    months = months.filter(pc.and_(energy, pc.and_(months["customer_id"].is_valid(), months["contract_id"].is_valid())))
    latest = months.filter(pc.equal(months["month"], pa.scalar(to_date(newest))))
    # Of a contract whose tariff changed within the month, the longer part counts.
    latest = latest.sort_by([*((name, "ascending") for name in KEYS), ("present_minutes", "descending")])
    key = _join(latest, KEYS)
    latest = latest.take(pc.index_in(key.unique(), key))
    consumes = pc.equal(latest["direction"], "consumption")
    enough = pc.greater_equal(latest["present_minutes"], _count_days(newest) * _DAY_MINUTES // 2)
    known = pc.and_(consumes, enough)
    columns = {name: latest[name] for name in KEYS}
    for name in sorted(used & set(_PLAIN)):
        columns[name] = pc.if_else(known, latest[name].cast(pa.float64()), None)
    if "winter_ratio" in used:
        columns["winter_ratio"] = pc.if_else(known, _compare(months, latest), None)
    if "solar_sign" in used:
        columns["site_id"] = latest["site_id"]
        columns["midday_ratio"] = pc.if_else(known, latest["midday_ratio"], None)
        columns["produces"] = pc.and_(pc.invert(consumes), pc.fill_null(pc.greater(latest["energy"], 0), False))
    return pa.table(columns)


def sign_solar(load: pa.Table, newest: int) -> pa.Table:
    """Add the solar sign: all rows of a customer are to be there, since panels may have a meter of their own."""
    at = _join(load, ("customer_id", "site_id"))
    produced = pc.is_in(at, at.filter(load["produces"]))
    month = pa.array(np.full(len(load), to_date(newest).month, np.int64))
    return load.append_column("solar_sign", tell_solar(produced, load["midday_ratio"].combine_chunks(), month))


def take_load(load: pa.Table, rows: pa.Table, used: frozenset[str]) -> dict[str, pa.Array]:
    """Give rows of customers with their contracts the load features of each.

    Args:
        load: of ``tell_load`` and ``sign_solar``.
        rows: with ``KEYS``.
        used: features that are asked for.

    Returns:
        Feature to its values, aligned with ``rows``; null where nothing is known.
    """
    if not used:
        return {}
    place = pc.index_in(_join(rows, KEYS), _join(load, KEYS))
    return {name: load[name].combine_chunks().take(place) for name in sorted(used)}


def empty_load(used: frozenset[str]) -> pa.Table:
    """Make the load features of nobody."""
    return pa.table(
        {name: pa.nulls(0, pa.string()) for name in KEYS}
        | {name: pa.nulls(0, pa.string() if LOAD_FEATURES[name] is str else pa.float64()) for name in used}
    )


def _compare(months: pa.Table, latest: pa.Table) -> pa.Array:
    """Compare winter and summer of the contracts of ``latest``, over all months that are there."""
    seasons = pa.table(
        {name: months[name] for name in KEYS}
        | {
            "month": pc.month(months["month"]),
            "energy": pa.array(as_int64_units(months["energy"].combine_chunks())),
            "minutes": months["present_minutes"].cast(pa.int64()),
        }
    ).filter(pc.equal(months["direction"], "consumption"))
    ratios = compare_seasons(seasons, KEYS)
    return ratios["winter_ratio"].combine_chunks().take(pc.index_in(_join(latest, KEYS), _join(ratios, KEYS)))


def _count_days(month: int) -> int:
    first = to_date(month)
    following = to_date(month + 31).replace(day=1)
    return (following - first).days


def _join(rows: pa.Table, names: tuple[str, ...]) -> pa.Array:
    """Join columns to one that can be compared; null where one of them is."""
    joined = pc.binary_join_element_wise(*(rows[name] for name in names), "\n")
    return joined.combine_chunks()
