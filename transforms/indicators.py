"""Load indicators: what a month's load curve says of a site, in a few numbers with standard names.

A cell gives sums of a day, sums of days are merged in any order, and the indicators are ratios of merged sums. So
nothing but sums ever travels. Values that cover a whole day count as energy, and for nothing that goes by the time of
day or by power: a day's mean is no peak.

Sources: load factor and utilisation time are those of IEC 60050 (International Electrotechnical Vocabulary, part 691,
tariffs for electricity), so load factor = utilisation time / hours. Shares and ratios by time of day and of week are
the features of C. Beckel, L. Sadamori, T. Staake, S. Santini: Revealing household characteristics from smart meter
data, Energy 78 (2014), with the hours of our own tariffs. Seasons are the meteorological ones. Public holidays count
as the day of the week that they are.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.series import DAY_S
from schemas.status import Status
from transforms.calendar import LocalCalendar
from transforms.grid import CellGrids

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: Sums of days, int64: energy in milliwatt-hours, power in milliwatts, time in minutes. ``timed`` is what has a time of
#: day; ``base`` is the sum of the days' smallest powers, over ``base_days``. All are added up, but ``peak``.
SUMS = (
    "energy",
    "minutes",
    "expected_minutes",
    "timed",
    "timed_minutes",
    "night",
    "weekend",
    "weekend_minutes",
    "midday",
    "midday_minutes",
    "shoulder",
    "shoulder_minutes",
    "base",
    "base_days",
    "peak",
)
_GREATEST = "peak"
_LEAST, _MOST = np.iinfo(np.int64).min, np.iinfo(np.int64).max

#: Local hours in which the sun yields most, and those before and after in which people are as likely at home.
_MIDDAY = range(10, 15)
_SHOULDERS = (*range(6, 9), *range(17, 21))
_SATURDAY = 5
#: The meteorological seasons.
_WINTER, _SUMMER = (12, 1, 2), (6, 7, 8)
#: Half a season at least is to be there, before one is compared with the other.
_HALF_A_SEASON_MINUTES = 45 * 24 * 60
_SUNNY_MONTHS = (4, 5, 6, 7, 8, 9)
#: At midday less than half of the power before and after: few loads do that, panels behind the meter do.
_DIP = 0.5
_MINUTES = 60


def sum_cell(cell: CellGrids, calendar: LocalCalendar) -> pa.Table:
    """Sum the day of a cell.

    Args:
        cell: merged grids.
        calendar: local days of the lake.

    Returns:
        A row for each point and product with a value: ``point`` (int64, row of ``cell.ids``), ``product`` (string) and
        ``SUMS``, sorted by point and product.
    """
    day_minutes = int(calendar.seconds_of(np.array([cell.local_date]))[0]) // 60
    weekend = (cell.local_date + 3) % 7 >= _SATURDAY  # 1970-01-01 was a Thursday, the day with number 3
    products = sorted({product for product, _ in cell.grids})
    count = len(cell.ids)
    parts = []
    for product in products:
        sums = {name: np.zeros(count, np.int64) for name in SUMS}
        sums["peak"][:], sums["base"][:] = _LEAST, _MOST
        for (_, resolution), grid in (item for item in cell.grids.items() if item[0][0] == product):
            seconds = day_minutes * 60 if resolution == DAY_S else resolution
            hours = None if resolution == DAY_S else calendar.hours_of(cell.local_date, resolution)
            for rows in grid.blocks():
                _add(sums, grid.points[rows], grid.energy[rows], grid.status[rows] > Status.MISSING, seconds, hours)
        some = sums["timed_minutes"] > 0
        sums["peak"][~some], sums["base"][~some] = 0, 0
        sums["base_days"][some] = 1
        sums["expected_minutes"][:] = day_minutes
        if weekend:
            sums["weekend"], sums["weekend_minutes"] = sums["energy"].copy(), sums["minutes"].copy()
        at = np.flatnonzero(sums["minutes"])
        names = pa.array(np.full(len(at), product), pa.string())
        parts.append(pa.table({"point": at, "product": names} | {name: sums[name][at] for name in SUMS}))
    if not parts:
        return pa.schema(
            [("point", pa.int64()), ("product", pa.string()), *((n, pa.int64()) for n in SUMS)]
        ).empty_table()
    return pa.concat_tables(parts).sort_by([("point", "ascending"), ("product", "ascending")])


def _add(sums: dict[str, Ints], at: Ints, energy: Ints, valued: Mask, seconds: int, hours: Ints | None) -> None:
    """Add rows of a grid whose slots have ``seconds`` and begin in local ``hours``; None for daily values."""
    minutes = seconds // _MINUTES
    total, present = energy.sum(axis=1), valued.sum(axis=1) * minutes
    sums["energy"][at] += total
    sums["minutes"][at] += present
    if hours is None:
        return
    sums["timed"][at] += total
    sums["timed_minutes"][at] += present
    sums["night"][at] += energy[:, (hours >= 22) | (hours < 7)].sum(axis=1)
    for name, chosen in (("midday", np.isin(hours, _MIDDAY)), ("shoulder", np.isin(hours, _SHOULDERS))):
        sums[name][at] += energy[:, chosen].sum(axis=1)
        sums[f"{name}_minutes"][at] += valued[:, chosen].sum(axis=1) * minutes
    some = valued.any(axis=1)
    top = np.where(valued, energy, _LEAST).max(axis=1)[some] * 3600 // seconds
    low = np.where(valued, energy, _MOST).min(axis=1)[some] * 3600 // seconds
    sums["peak"][at[some]] = np.maximum(sums["peak"][at[some]], top)
    sums["base"][at[some]] = np.minimum(sums["base"][at[some]], low)


def merge_sums(days: pa.Table, keys: Sequence[str]) -> pa.Table:
    """Merge sums of days, or of what was merged before, in any order.

    Args:
        days: ``keys`` and ``SUMS``.
        keys: what is to be told apart, such as point, product and month.

    Returns:
        A row for each combination of keys, sorted by them: ``keys`` and ``SUMS``.
    """
    how = [(name, "max" if name == _GREATEST else "sum") for name in SUMS]
    merged = days.group_by(list(keys)).aggregate(how)
    merged = merged.rename_columns([name.removesuffix("_sum").removesuffix("_max") for name in merged.column_names])
    return merged.select([*keys, *SUMS]).sort_by([(key, "ascending") for key in keys])


def tell_indicators(sums: pa.Table) -> dict[str, pa.Array]:
    """Tell the load indicators of merged sums.

    Returns:
        Columns, a value for each row; null where there is nothing to tell it from, or a negative sum to divide by:

        * ``energy``, int64 milliwatt-hours.
        * ``peak_kw``, int64 millionths of a kW: peak demand, the greatest mean power of an interval.
        * ``base_kw``, the same unit: base load, each day's smallest mean power of an interval, on average.
        * ``load_factor``: mean power over peak demand.
        * ``utilisation_hours``: energy over peak demand, the hours in which the peak would have used as much.
        * ``night_share``: share of the energy between 22 and 07 local time.
        * ``weekend_ratio``: mean power on Saturdays and Sundays over that on other days.
        * ``midday_ratio``: mean power between 10 and 15 over that between 6 and 9 and between 17 and 21.
    """
    of = {name: sums[name].to_numpy() for name in SUMS}
    peak, timed, minutes = of["peak"], of["timed"], of["timed_minutes"]
    days = of["base_days"]
    nothing = minutes == 0
    others, other_minutes = of["energy"] - of["weekend"], of["minutes"] - of["weekend_minutes"]
    return {
        "energy": pa.array(of["energy"], mask=of["minutes"] == 0),
        "peak_kw": pa.array(peak, mask=nothing),
        "base_kw": pa.array(of["base"] // np.maximum(days, 1), mask=days == 0),
        "load_factor": _divide(timed * (_MINUTES / np.maximum(minutes, 1)), peak, nothing, 4),
        "utilisation_hours": _divide(timed.astype(np.float64), peak, nothing, 2),
        "night_share": _divide(of["night"].astype(np.float64), timed, nothing, 4),
        "weekend_ratio": _compare(of["weekend"], of["weekend_minutes"], others, other_minutes),
        "midday_ratio": _compare(of["midday"], of["midday_minutes"], of["shoulder"], of["shoulder_minutes"]),
    }


def _compare(energy: Ints, minutes: Ints, of_energy: Ints, of_minutes: Ints) -> pa.Array:
    """Compare two mean powers."""
    unknown = (minutes == 0) | (of_minutes == 0)
    return _divide(energy * (of_minutes / np.maximum(minutes, 1)), of_energy, unknown, 4)


def _divide(numbers: Floats, by: Ints, unknown: Mask, digits: int) -> pa.Array:
    positive = by > 0
    return pa.array(np.round(numbers / np.where(positive, by, 1), digits), mask=unknown | ~positive)


def compare_seasons(months: pa.Table, keys: Sequence[str]) -> pa.Table:
    """Compare the mean power of winters with that of summers: the heating sign.

    Args:
        months: ``keys``, ``month`` (1 to 12), ``energy`` and ``minutes``, of any years.
        keys: what is to be told apart.

    Returns:
        A row for each combination of keys, sorted by them, with ``winter_ratio``: mean power from December to February
        over that from June to August. Null while less than half a season is there.
    """
    columns = {key: months[key] for key in keys}
    sums = []
    for season, numbers in (("winter", _WINTER), ("summer", _SUMMER)):
        chosen = pc.is_in(months["month"], pa.array(numbers, months["month"].type))
        for name in ("energy", "minutes"):
            sums.append(f"{season}_{name}")
            columns[sums[-1]] = pc.if_else(chosen, months[name], 0)
    found = pa.table(columns).group_by(list(keys)).aggregate([(name, "sum") for name in sums])
    found = found.sort_by([(key, "ascending") for key in keys])
    winter, winter_minutes, summer, summer_minutes = (found[f"{name}_sum"].to_numpy() for name in sums)
    unknown = np.minimum(winter_minutes, summer_minutes) < _HALF_A_SEASON_MINUTES
    ratio = _divide(winter * (summer_minutes / np.maximum(winter_minutes, 1)), summer, unknown, 4)
    return found.select(list(keys)).append_column("winter_ratio", ratio)


def tell_solar(produced: pa.Array, midday_ratio: pa.Array, month: pa.Array) -> pa.Array:
    """Tell the solar sign of sites in a month: ``production``, ``midday_dip``, or null for none.

    Args:
        produced: whether a meter of the site has measured production in the month, bool.
        midday_ratio: of the site's consumption (``tell_indicators``).
        month: 1 to 12. A dip is told from April to September alone.
    """
    sunny = pc.is_in(month, pa.array(_SUNNY_MONTHS, month.type))
    dips = pc.and_(sunny, pc.fill_null(pc.less(midday_ratio, _DIP), False))
    sign = pc.if_else(dips, pa.scalar("midday_dip"), pa.scalar(None, pa.string()))
    return pc.if_else(pc.fill_null(produced, False), pa.scalar("production"), sign)
